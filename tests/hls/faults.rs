//! What goes wrong around a stream: publishers that go away, and disks that take nothing.

use std::path::Path;
use std::process::Command;
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
async fn a_slate_is_shown_while_a_peer_is_away() -> Result<()> {
    let mut server = serve(|config, folder| {
        config.slate = folder.join("slate.png");
        draw(&config.slate);
        config.away_secs = 300;
    })?;
    let peer: PeerId = "p".parse()?;
    let (video, audio) =
        (server.publish("p", Codec::H264, (640, 360))?, server.publish("p", Codec::Opus, (0, 0))?);
    assert_eq!(server.event().await?, EgressEvent::Playable(peer.clone()));
    let mut viewer = Viewer::new(&server.egress, "p");
    video.close().await?;
    audio.close().await?;
    server.egress.end_peer(&peer);
    let discontinuities = |count: usize| {
        move |viewer: &Viewer| {
            let segments = viewer.video.all.values().map(|listed| (listed.discontinuity, &listed.init));
            segments.filter(|(discontinuity, _)| *discontinuity).count() == count
        }
    };
    viewer.until(PATIENCE, discontinuities(1)).await?;
    let slate_at = viewer.video.all.len() - 1;
    viewer.until(PATIENCE, segments(slate_at + 3, slate_at + 3)).await?;
    let _video = server.publish("p", Codec::H264, (640, 360))?;
    let _audio = server.publish("p", Codec::Opus, (0, 0))?;
    viewer.until(PATIENCE, discontinuities(2)).await?;

    let (mut shown, mut sizes) = (Vec::new(), Vec::new());
    for listed in viewer.video.all.values() {
        let whole = [&viewer.files[&listed.init][..], &viewer.files[&listed.uri]].concat();
        let picture = colours(server.folder.path(), &whole)?;
        // The slate is a square in the middle of black: its left side, and its middle.
        let [side, middle] = [0, 320].map(|x| picture[(180 * 640 + x) * 3..][..3].to_vec());
        shown.push(
            side.iter().all(|value| *value < 40) && middle[1] > 150 && middle[0] < 90 && middle[2] < 90,
        );
    }
    let changes: Vec<bool> = shown.iter().copied().fold(Vec::new(), |mut changes, is| {
        changes.extend(Some(is).filter(|is| changes.last() != Some(is)));
        changes
    });
    assert_eq!(changes, [false, true, false], "{shown:?}");
    sizes.extend(viewer.probe(&viewer.video)?.iter().map(|probed| probed.size));
    assert_eq!(sizes, [(640, 360); 3]);
    Ok(())
}

/// Draws a green square.
fn draw(path: &Path) {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-f", "lavfi", "-i", "color=c=0x10c010:s=100x100:d=1", "-frames:v", "1"]);
    assert!(command.arg(path).status().is_ok_and(|status| status.success()), "ffmpeg draws nothing");
}

/// The colours of a segment's first picture, in red, green and blue.
fn colours(folder: &Path, segment: &[u8]) -> Result<Vec<u8>> {
    let path = folder.join("segment.mp4");
    std::fs::write(&path, segment)?;
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-i"]).arg(&path);
    let output = command.args(["-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]).output()?;
    ensure!(output.stdout.len() == 640 * 360 * 3, "{}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
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
