//! Streams that are made only while somebody asks for them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weir::egress::{Egress, EgressEvent, FetchError, Fetched, Start};
use weir::ids::PeerId;
use weir::media::playlist::Directives;

use crate::source::{Codec, Source};
use crate::viewer::Viewer;
use crate::{PATIENCE, Server, segments, serve};

/// The shortest that can be set: longer than any request waits.
const IDLE_SECS: u64 = 10;

/// Asks for a playlist as players do.
async fn ask(egress: &Egress, name: &str) -> Result<String> {
    match egress.fetch(name, Directives::default()).await.with_context(|| name.to_owned())? {
        Fetched::InMemory(file) => Ok(String::from_utf8(file.body.to_vec())?),
        Fetched::OnDisk(_) | Fetched::Growing(_) => anyhow::bail!("{name} is not in memory"),
    }
}

/// Reads everything until `enough`, and asks for playlists meanwhile.
async fn watch(server: &Server, viewer: &mut Viewer, enough: impl Fn(&Viewer) -> bool) -> Result<()> {
    loop {
        ask(&server.egress, "p.m3u8").await?;
        viewer.read()?;
        if enough(viewer) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until the stream rests: its sources are asked for nothing, and nothing is left of it.
async fn until_asleep(server: &Server, sources: [&Source; 2]) -> Result<()> {
    let rests = || {
        let stats = server.egress.stats();
        (stats.asleep, stats.files) == (1, 0) && sources.iter().all(|source| source.is_tap_paused())
    };
    let sleeps = async {
        while !rests() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    Ok(tokio::time::timeout(PATIENCE, sleeps).await?)
}

fn serve_on_demand() -> Result<Server> {
    serve(|config, _| {
        config.start = Start::OnDemand;
        config.idle_secs = IDLE_SECS;
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_begins_when_somebody_asks_ends_when_nobody_does_and_goes_on_later() -> Result<()> {
    let mut server = serve_on_demand()?;
    let peer: PeerId = "p".parse()?;
    let video = server.publish("p", Codec::H264, (320, 240))?;
    let audio = server.publish("p", Codec::Opus, (0, 0))?;

    assert_eq!(server.event().await?, EgressEvent::Playable(peer.clone()), "it can be asked for");
    assert_eq!(server.egress.playable(), std::slice::from_ref(&peer));
    assert_eq!((server.egress.stats().asleep, server.egress.stats().files), (1, 0));
    assert!(server.egress.pipelines().is_empty(), "{:?}", server.egress.pipelines());
    assert_eq!(
        server.egress.owner("p-video.m3u8"),
        Some(peer.clone()),
        "who may ask is known before it is there"
    );
    assert!(video.is_tap_paused() && audio.is_tap_paused());
    assert_eq!(video.key_frame_requests.load(Ordering::Relaxed), 0);

    // As many as want to: the first one wakes it, and the master has everything at once.
    let names = ["p.m3u8", "p.m3u8", "p-audio.m3u8", "p-video.m3u8", "p.m3u8"];
    let asked = names.map(|name| {
        let egress = server.egress.clone();
        tokio::spawn(async move { ask(&egress, name).await })
    });
    for (name, asked) in names.into_iter().zip(asked) {
        let text = asked.await??;
        if name == "p.m3u8" {
            ensure!(text.contains("CODECS=\"avc1.42c014,mp4a.40.2\",RESOLUTION=320x240"), "{text}");
        } else {
            ensure!(text.contains("#EXTINF"), "players want a complete segment: {text}");
        }
    }
    assert_eq!(server.egress.pipelines().len(), 2);
    let mut viewer = Viewer::new(&server.egress, "p");
    watch(&server, &mut viewer, segments(3, 3)).await?;

    until_asleep(&server, [&video, &audio]).await?;
    assert_eq!(server.egress.playable(), [peer], "it can still be asked for");
    let (last, listed) = viewer.video.all.last_key_value().context("no segment")?;
    let (last, name) = (*last, listed.uri.clone());
    assert!(matches!(server.egress.fetch(&name, Directives::default()).await, Err(FetchError::NotFound)));
    assert_eq!(server.egress.stats().asleep, 1, "only a playlist wakes it");

    // Whoever stayed finds it further on, behind a discontinuity; `Viewer` sees to it that no name stands for two things.
    let mut later = Viewer::new(&server.egress, "p");
    watch(&server, &mut later, segments(3, 3)).await?;
    let (first, listed) = later.video.all.first_key_value().context("no segment")?;
    assert!(
        *first > last && listed.discontinuity && listed.discontinuity_sequence == 1,
        "{first}: {listed:?}"
    );
    assert!(later.video.all.values().skip(1).all(|listed| !listed.discontinuity));
    assert!(later.files.keys().all(|name| !viewer.files.contains_key(name)), "names are new");
    for viewer in [&viewer, &later] {
        let (pictures, sound) = (viewer.probe(&viewer.video)?, viewer.probe(&viewer.audio)?);
        ensure!((pictures.len(), sound.len()) == (1, 1), "{pictures:?} {sound:?}");
        assert!((sound[0].start - pictures[0].start).abs() < 0.03, "{sound:?} {pictures:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_chooses_for_itself_unless_its_stream_is_kept() -> Result<()> {
    for (config, wish, asleep) in [
        (Start::Always, None, 0),
        (Start::Always, Some(Start::OnDemand), 1),
        (Start::OnDemand, Some(Start::Always), 0),
        (Start::OnDemand, None, 1),
    ] {
        for kept in [false, true] {
            let server = serve(|settings, _| (settings.start, settings.write_to_disk) = (config, kept))?;
            let (_source, mut track) = Source::start(Codec::Opus, (0, 0))?;
            track.start = wish;
            server.egress.add_track(&"p".parse()?, track);
            assert_eq!(
                server.egress.stats().asleep,
                if kept { 0 } else { asleep },
                "{config:?} {wish:?} {kept}"
            );
        }
    }
    Ok(())
}
