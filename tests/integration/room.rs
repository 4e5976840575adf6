//! What clients of the room hear and see over Socket.IO while peers come, publish, watch and go.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::support::peer::{Camera, Consumer, Peer};
use crate::support::server::Server;
use crate::support::transport::Behaviour;

fn names(value: &Value) -> Vec<&str> {
    value.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// Waits until a consumer got so many packets more than now.
async fn flows(peer: &Peer, consumer: &Consumer, more: u64) -> Result<()> {
    let seen = &peer.recv().seen;
    let goal = seen.lock().stream(consumer.ssrc).packets + more;
    let enough = |packets: u64| (packets >= goal).then_some(());
    seen.wait("packets", |seen| enough(seen.stream(consumer.ssrc).packets)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_is_announced_consumed_and_missed() -> Result<()> {
    let server = Server::start().await?;
    let mut anna = Peer::join(server.address).await?;
    let mut ben = Peer::join(server.address).await?;
    anna.open().await?;
    ben.open().await?;

    let audio = anna.publish_audio().await?;
    let video = anna.publish_video(Camera::Simulcast, 3).await?;
    for publisher in [&audio, &video] {
        let announced = ben
            .socket
            .wait("newProducer", |event| event.get("producerId") == Some(&json!(publisher.id)))
            .await?;
        assert_eq!(announced, json!({"producerId": publisher.id, "producerSocketId": anna.id()}));
    }
    let mut listed = ben.others().await?;
    listed.sort();
    let mut expected =
        vec![(anna.id().to_owned(), audio.id.clone()), (anna.id().to_owned(), video.id.clone())];
    expected.sort();
    assert_eq!(listed, expected);
    assert_eq!(anna.others().await?, [], "a peer's own producers are not listed for it");

    let listening = ben.consume(&audio.id).await?;
    let watching = ben.consume(&video.id).await?;
    assert_eq!((listening.kind.as_str(), watching.kind.as_str()), ("audio", "video"));
    for consumer in [&listening, &watching] {
        ben.resume(consumer).await?;
        flows(&ben, consumer, 50).await?;
    }

    anna.socket.emit("pauseProducer", json!({"kind": "video"})).await?;
    for peer in [&anna, &ben] {
        let change = peer.socket.wait("producerChange", |_| true).await?;
        assert_eq!(change, json!({"kind": "video", "peerId": anna.id(), "paused": true}));
    }
    anna.socket.emit("resumeProducer", json!({"kind": "video"})).await?;
    let resumed = |event: &Value| event.get("paused") == Some(&json!(false));
    ben.socket.wait("producerChange", resumed).await?;
    flows(&ben, &watching, 50).await?;

    let anna_id = anna.id().to_owned();
    drop((audio, video, anna));
    let left = ben.socket.wait("peerLeft", |_| true).await?;
    assert_eq!(left, json!({"peerId": anna_id}));
    server.stats(|stats| stats.get("/worker/producers") == 0 && stats.get("/worker/transports") == 2).await?;
    assert_eq!(ben.others().await?, []);
    assert_eq!(anna_events_of(&ben), [] as [Value; 0]);
    Ok(())
}

/// Nobody is told about producers of its own.
fn anna_events_of(peer: &Peer) -> Vec<Value> {
    let own = |event: &Value| event.get("producerSocketId") == Some(&json!(peer.id()));
    peer.socket.events("newProducer").into_iter().filter(own).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_have_the_shapes_that_clients_read() -> Result<()> {
    let server = Server::start().await?;
    let mut anna = Peer::join(server.address).await?;
    let transport = anna.socket.request("createWebRtcTransport", json!({"isConsumer": true})).await?;
    assert_eq!(names(&transport), ["dtlsParameters", "iceCandidates", "iceParameters", "id"]);
    let candidate = transport.pointer("/iceCandidates/0").context("a candidate")?;
    assert_eq!(candidate.get("ip"), candidate.get("address"));
    assert_eq!(candidate.get("ip"), Some(&json!("127.0.0.1")));
    assert_eq!(candidate.get("protocol"), Some(&json!("udp")));
    assert_eq!(candidate.get("type"), Some(&json!("host")));
    assert_eq!(transport.pointer("/iceParameters/iceLite"), Some(&json!(true)));
    assert_eq!(transport.pointer("/dtlsParameters/role"), Some(&json!("auto")));

    let mut ben = Peer::join(server.address).await?;
    ben.open_send(Behaviour::default()).await?;
    let request = json!({
        "kind": "audio", "rtpParameters": crate::support::peer::audio_parameters(4711), "appData": {"source": "mic"},
    });
    let produced = ben.socket.request("transportProduce", request).await?;
    assert_eq!(names(&produced), ["id"]);
    anna.open_recv(Behaviour::default()).await?;
    let producer = produced.get("id").context("an id")?;
    let request = json!({"rtpCapabilities": anna.capabilities, "remoteProducerId": producer});
    let consumed = anna.socket.request("transportConsume", request).await?;
    assert_eq!(
        names(&consumed),
        ["appData", "id", "kind", "producerId", "producerPaused", "rtpParameters", "type"]
    );
    assert_eq!(consumed.get("type"), Some(&json!("simple")));
    assert_eq!(consumed.get("producerPaused"), Some(&json!(false)));
    assert_eq!(consumed.get("appData"), Some(&json!({"source": "mic"})));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_producer_tells_its_consumers() -> Result<()> {
    let server = Server::start().await?;
    let mut anna = Peer::join(server.address).await?;
    let mut ben = Peer::join(server.address).await?;
    anna.open().await?;
    ben.open().await?;
    let video = anna.publish_video(Camera::Simple, 3).await?;
    let consumer = ben.consume(&video.id).await?;
    ben.resume(&consumer).await?;
    flows(&ben, &consumer, 10).await?;

    let pause = json!({"consumerId": consumer.id});
    assert_eq!(ben.socket.request("pauseConsumer", pause.clone()).await?, json!({"paused": true}));
    let forwarded = server.counters().await?.get("/worker/rtpForwarded");
    let received = server.counters().await?.get("/worker/rtpReceived");
    server.stats(|stats| stats.get("/worker/rtpReceived") >= received + 60).await?;
    assert_eq!(server.counters().await?.get("/worker/rtpForwarded"), forwarded);
    assert_eq!(ben.socket.request("resumeConsumer", pause).await?, json!({"paused": false}));
    flows(&ben, &consumer, 10).await?;

    assert_eq!(
        anna.socket.request("closeProducer", json!({"kind": "video"})).await?,
        json!({"closed": true})
    );
    let closed = ben.socket.wait("consumerClosed", |_| true).await?;
    assert_eq!(closed, json!({"consumerId": consumer.id}));
    ben.socket.wait("producerClosed", |event| event.get("producerId") == Some(&json!(video.id))).await?;
    let stats = server.counters().await?;
    assert_eq!((stats.get("/worker/producers"), stats.get("/worker/consumers")), (0, 0));
    assert_eq!((stats.get("/room/producers"), stats.get("/room/consumers")), (0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_loses_its_network_is_noticed_by_consent() -> Result<()> {
    let server = Server::start_with(|config| config.rtc.ice_consent_timeout_secs = 2).await?;
    let often =
        || Behaviour { consent_interval: std::time::Duration::from_millis(200), ..Behaviour::default() };
    let mut anna = Peer::join(server.address).await?;
    let mut ben = Peer::join(server.address).await?;
    anna.open_send(often()).await?;
    ben.open_recv(often()).await?;
    anna.send().connected().await?;
    ben.recv().connected().await?;
    let video = anna.publish_video(Camera::Simple, 3).await?;
    let consumer = ben.consume(&video.id).await?;
    ben.resume(&consumer).await?;
    flows(&ben, &consumer, 10).await?;
    // Its WebSocket stays open: only media stops.
    anna.send().vanish();
    let left = ben.socket.wait("peerLeft", |_| true).await?;
    assert_eq!(left, json!({"peerId": anna.id()}));
    ben.socket.wait("consumerClosed", |event| event.get("consumerId") == Some(&json!(consumer.id))).await?;
    server.stats(|stats| stats.get("/room/peers") == 1 && stats.get("/worker/transports") == 1).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_browser_leaves_nothing_behind() -> Result<()> {
    let server = Server::start().await?;
    let before = server.counters().await?;
    let mut ben = Peer::join(server.address).await?;
    ben.open().await?;
    let mut anna = Peer::join(server.address).await?;
    anna.open().await?;
    let video = anna.publish_video(Camera::Simple, 3).await?;
    let consumer = ben.consume(&video.id).await?;
    ben.resume(&consumer).await?;
    flows(&ben, &consumer, 10).await?;
    anna.socket.vanish();
    anna.send().vanish();
    anna.recv().vanish();
    ben.socket.wait("peerLeft", |event| event.get("peerId") == Some(&json!(anna.id()))).await?;
    ben.socket.vanish();
    let gone = [
        "/worker/transports",
        "/worker/producers",
        "/worker/consumers",
        "/worker/taps",
        "/room/peers",
        "/room/producers",
        "/room/consumers",
        "/signaling/sockets",
    ];
    server.stats(|stats| gone.iter().all(|counter| stats.get(counter) == before.get(counter))).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_the_server_tells_everyone() -> Result<()> {
    let server = Server::start().await?;
    let mut anna = Peer::join(server.address).await?;
    anna.open().await?;
    server.shutdown().await;
    anna.socket.wait_closed().await?;
    anna.send().seen.wait("close_notify", |seen| seen.closed_by_server.then_some(())).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_ice_servers_are_told_with_credentials_of_the_clients_own() -> Result<()> {
    let server = Server::start_with(|config| {
        let servers =
            r#"[{"urls": ["turn:t.example:3478"], "secret": "north"}, {"urls": ["stun:s.example"]}]"#;
        config.ice_servers = serde_json::from_str(servers).expect("servers");
    })
    .await?;
    let anna = Peer::join(server.address).await?;
    let transport = anna.socket.request("createWebRtcTransport", json!({"isConsumer": true})).await?;
    let told = transport.get("iceServers").context("iceServers")?;
    let text = |pointer: &str| told.pointer(pointer).and_then(Value::as_str);
    assert_eq!(text("/0/urls/0"), Some("turn:t.example:3478"));
    let (expiry, user) = text("/0/username").and_then(|name| name.split_once(':')).context("a username")?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    assert!((now + 80_000..now + 90_000).contains(&expiry.parse::<u64>()?), "a day from now: {expiry}");
    assert!(!user.is_empty());
    assert_eq!(text("/0/credential").map(str::len), Some(28), "an HMAC-SHA1 in base64");
    assert_eq!(told.get(1), Some(&json!({"urls": ["stun:s.example"]})));
    Ok(())
}
