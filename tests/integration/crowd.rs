//! Many at once: ten publish, ten watch all of them, and nobody loses a packet.

use anyhow::{Context, Result};
use serde_json::json;

use crate::support::peer::{Camera, Consumer, Peer};
use crate::support::publisher::Publisher;
use crate::support::reception::Reception;
use crate::support::server::Server;

const PUBLISHERS: usize = 10;
const VIEWERS: usize = 10;
/// Video packets of a publisher that every viewer has to get: about five seconds.
const PACKETS: u64 = 450;

struct Publishing {
    peer: Peer,
    tracks: [Publisher; 2],
}

struct Viewing {
    peer: Peer,
    consumers: Vec<Consumer>,
}

async fn publish(server: &Server) -> Result<Publishing> {
    let mut peer = Peer::join(server.address).await?;
    peer.open().await?;
    let tracks = [peer.publish_audio().await?, peer.publish_video(Camera::Simple, 3).await?];
    Ok(Publishing { peer, tracks })
}

async fn view(server: &Server) -> Result<Viewing> {
    let mut peer = Peer::join(server.address).await?;
    peer.open().await?;
    let mut consumers = Vec::new();
    for (_, producer) in peer.others().await? {
        let consumer = peer.consume(&producer).await?;
        peer.resume(&consumer).await?;
        consumers.push(consumer);
    }
    Ok(Viewing { peer, consumers })
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_publish_and_ten_watch_without_a_gap() -> Result<()> {
    let server = Server::start().await?;
    let mut publishers = Vec::new();
    for _ in 0..PUBLISHERS {
        publishers.push(publish(&server).await?);
    }
    let mut viewers = Vec::new();
    for _ in 0..VIEWERS {
        viewers.push(view(&server).await?);
    }
    for viewer in &viewers {
        assert_eq!(viewer.consumers.len(), 2 * PUBLISHERS);
        for consumer in viewer.consumers.iter().filter(|consumer| consumer.kind == "video") {
            let seen = &viewer.peer.recv().seen;
            let enough = |stream: Reception| (stream.packets >= PACKETS).then_some(());
            seen.wait("five seconds of video", |seen| enough(seen.stream(consumer.ssrc))).await?;
        }
    }
    for viewer in &viewers {
        let seen = viewer.peer.recv().seen.lock();
        assert_eq!(seen.unreadable, 0);
        for consumer in &viewer.consumers {
            let stream = seen.stream(consumer.ssrc);
            assert_eq!(stream.missing(), Vec::<u16>::new(), "{} {}", viewer.peer.id(), consumer.kind);
            assert_eq!((stream.duplicates, stream.foreign, stream.seams()), (0, 0, 0));
            assert!(stream.packets > PACKETS / 4, "{} {}", consumer.kind, stream.packets);
        }
    }
    let stats = server.counters().await?;
    for counter in
        ["droppedUnknownSsrc", "droppedSrtp", "droppedMalformed", "droppedSend", "rtpRetransmitted"]
    {
        assert_eq!(stats.get(&format!("/worker/{counter}")), 0, "{counter}");
    }
    assert_eq!(stats.get("/room/consumers"), (PUBLISHERS * VIEWERS * 2) as u64);

    // Publishers end one way or another; every viewer hears of each of them, once.
    let last = viewers.last().context("a viewer")?;
    for publishing in publishers {
        let id = publishing.peer.id().to_owned();
        for track in publishing.tracks {
            track.stop().await?;
        }
        drop(publishing.peer);
        last.peer.socket.wait("peerLeft", |event| event.get("peerId") == Some(&json!(id))).await?;
    }
    assert_eq!(last.peer.socket.events("peerLeft").len(), PUBLISHERS);
    server.stats(|stats| stats.get("/worker/producers") == 0 && stats.get("/worker/consumers") == 0).await?;
    Ok(())
}
