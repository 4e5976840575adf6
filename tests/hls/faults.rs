//! What goes wrong around a stream: publishers that go away, and disks that take nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weir::egress::EgressEvent;
use weir::ids::PeerId;

use crate::source::Codec;
use crate::viewer::{self, Viewer};
use crate::{PATIENCE, segments, serve};

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_comes_back_in_time_takes_its_stream_over() -> Result<()> {
    let mut server = serve(|config, _| config.away_secs = 300)?;
    let peer: PeerId = "p".parse()?;
    let (video, audio) =
        (server.publish("p", Codec::H264, (320, 240))?, server.publish("p", Codec::Opus, (0, 0))?);
    assert_eq!(server.event().await?, EgressEvent::Playable(peer.clone()));
    let mut viewer = Viewer::new(&server.egress, "p");
    viewer.until(PATIENCE, segments(2, 2)).await?;
    // It goes, as producers and peers do.
    video.close().await?;
    audio.close().await?;
    server.egress.end_peer(&peer);
    let left_at = viewer.video.all.len();
    viewer.until(PATIENCE, segments(left_at + 3, left_at + 3)).await?;
    assert!(!viewer.video.newest.ended && !viewer.audio.newest.ended);
    let filler = viewer.video.all.values().last().context("no segment")?;
    assert!(viewer::pictures(&viewer.files[&filler.uri]) < 20, "what was shown last, once a part");
    // Another encoder, and the same stream.
    let _video = server.publish("p", Codec::H264Aggregated, (640, 360))?;
    let _audio = server.publish("p", Codec::Opus, (0, 0))?;
    assert_eq!(server.event().await?, EgressEvent::Playable(peer.clone()));
    viewer.until(PATIENCE, |viewer| viewer.master.contains("RESOLUTION=640x360")).await?;
    let back_at = viewer.video.all.len();
    viewer.until(PATIENCE, segments(back_at + 2, back_at + 2)).await?;

    for rendition in [&viewer.video, &viewer.audio] {
        let numbers: Vec<u64> = rendition.all.keys().copied().collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    }
    let sizes: Vec<_> = viewer.probe(&viewer.video)?.iter().map(|probed| probed.size).collect();
    assert_eq!(sizes, [(320, 240), (640, 360)]);
    assert_eq!(viewer.probe(&viewer.audio)?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_stays_away_ends() -> Result<()> {
    let mut server = serve(|config, _| config.away_secs = 1)?;
    let peer: PeerId = "p".parse()?;
    let audio = server.publish("p", Codec::Opus, (0, 0))?;
    assert_eq!(server.event().await?, EgressEvent::Playable(peer.clone()));
    audio.close().await?;
    server.egress.end_peer(&peer);
    let mut viewer = Viewer::new(&server.egress, "p");
    viewer.until(PATIENCE, |viewer| viewer.audio.newest.ended).await?;
    assert_eq!(server.event().await?, EgressEvent::Gone(peer));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_nothing_is_told_and_the_stream_goes_on() -> Result<()> {
    let server = serve(|config, _| config.write_to_disk = true)?;
    let live = server.folder.path().join("live");
    // This one file finds no space left.
    std::os::unix::fs::symlink("/dev/full", live.join("video_p_001.m4s.part"))?;
    let _video = server.publish("p", Codec::H264, (320, 240))?;
    until(|| live.join("video_p_001.m4s").is_file()).await?;
    let failed = server.egress.stats().disk_failed;
    assert_eq!(failed, 1, "the next attempt succeeds");

    // And now nothing can be written at all.
    let mut viewer = Viewer::new(&server.egress, "p");
    viewer.read()?;
    let (moved, more) = (server.folder.path().join("moved"), viewer.video.all.len() + 3);
    std::fs::rename(&live, &moved)?;
    std::fs::write(&live, "no folder")?;
    viewer.until(PATIENCE, segments(more, 0)).await?;
    ensure!(server.egress.stats().disk_failed > failed, "{:?}", server.egress.stats());
    assert_eq!(viewer.probe(&viewer.video)?.len(), 1);

    std::fs::remove_file(&live)?;
    std::fs::rename(&moved, &live)?;
    until(|| {
        let listed = std::fs::read_to_string(live.join("p-video.m3u8")).unwrap_or_default();
        let names: Vec<&str> = listed.lines().filter(|line| !line.starts_with('#')).collect();
        names.contains(&format!("video_p_{more:03}.m4s").as_str())
            && names.iter().all(|name| live.join(name).is_file())
    })
    .await
}

/// Waits until `there`.
async fn until(there: impl Fn() -> bool) -> Result<()> {
    let wait = async {
        while !there() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.context("in vain")
}
