//! Players that go back further than memory does.

use std::ops::ControlFlow;

use bytes::{Bytes, BytesMut};
use weir::egress::Fetched;
use weir::media::playlist::Directives;

use super::*;

/// Fetches a file as a player does, wherever it is; tells whether it was on disk.
async fn fetch(egress: &Egress, name: &str) -> Result<(Bytes, bool)> {
    let found = egress.fetch(name, Directives::default()).await;
    match found.with_context(|| format!("{name} is listed but missing"))? {
        Fetched::InMemory(file) => Ok((file.body, false)),
        Fetched::OnDisk(file) => {
            let mut body = BytesMut::new();
            while body.len() < file.length {
                body.extend_from_slice(&file.read(body.len()..file.length).await?);
            }
            Ok((body.freeze(), true))
        }
        Fetched::Growing(_) => bail!("{name} is listed but not complete"),
    }
}

/// Reads the video playlist and all that it lists until `enough` of it, which gets the text and how many segments of
/// it were on disk.
async fn until(egress: &Egress, enough: impl Fn(&str, usize) -> bool) -> Result<(String, Bytes)> {
    let read = async || -> Result<ControlFlow<(String, Bytes)>> {
        let (text, _) = fetch(egress, "p-video.m3u8").await?;
        let text = String::from_utf8(text.to_vec())?;
        let (mut whole, mut on_disk) = (BytesMut::new(), 0);
        let init = text.lines().find_map(|line| line.strip_prefix("#EXT-X-MAP:URI=\""));
        whole.extend_from_slice(&fetch(egress, init.context("no map")?.trim_end_matches('"')).await?.0);
        for uri in text.lines().filter(|line| !line.starts_with('#')) {
            let (body, from_disk) = fetch(egress, uri).await?;
            whole.extend_from_slice(&body);
            on_disk += usize::from(from_disk);
        }
        let done = enough(&text, on_disk);
        Ok(if done { ControlFlow::Break((text, whole.freeze())) } else { ControlFlow::Continue(()) })
    };
    let reads = async {
        loop {
            if egress.file("p.m3u8").is_some()
                && let ControlFlow::Break(found) = read().await?
            {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reads).await?
}

fn listed(text: &str) -> usize {
    text.lines().filter(|line| !line.starts_with('#')).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_reaches_onto_the_disk_plays_from_its_beginning() -> Result<()> {
    let mut server = serve(|config, _| {
        (config.window_segments, config.grace_segments, config.dvr_secs) = (3, 2, 24);
    })?;
    let peer: PeerId = "p".parse()?;
    let _video = server.publish("p", Codec::H264, (320, 240))?;
    assert_eq!(server.event().await?, EgressEvent::Playable(peer.clone()));
    let (text, whole) = until(&server.egress, |text, on_disk| on_disk >= 3 && listed(text) >= 11).await?;
    assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:0\n"), "nothing left the window yet: {text}");
    let path = server.folder.path().join("whole.mp4");
    std::fs::write(&path, whole)?;
    let found = viewer::ffprobe(&path, &["-show_streams", "-count_frames"])?;
    let frames: usize = found["streams"][0]["nb_read_frames"].as_str().context("no pictures")?.parse()?;
    assert!(frames > 10 * 2 * 25, "{frames} pictures");
    let stats = server.egress.stats();
    assert!(stats.dvr_files >= 3 && stats.dvr_bytes > 0 && stats.dvr_lost == 0, "{stats:?}");
    let begins = |text: &str| !text.contains("#EXT-X-MEDIA-SEQUENCE:0\n");
    until(&server.egress, |text, _| begins(text)).await?;

    server.egress.end_peer(&peer);
    while server.event().await? != EgressEvent::Gone(peer.clone()) {}
    assert_eq!(server.egress.stats().dvr_files, 0);
    let folder = server.folder.path().join("dvr");
    let gone = async {
        while std::fs::read_dir(&folder)?.next().is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, gone).await.context("files stay on disk")?
}

#[tokio::test(flavor = "multi_thread")]
async fn live_playback_goes_on_without_a_disk() -> Result<()> {
    let server = serve(|config, folder| {
        (config.window_segments, config.grace_segments, config.dvr_secs) = (3, 4, 600);
        // What is in the way of the folder stops root, too.
        std::fs::write(folder.join("dvr"), "in the way").expect("a writable folder");
    })?;
    let _video = server.publish("p", Codec::H264, (320, 240))?;
    let _audio = server.publish("p", Codec::Opus, (0, 0))?;
    // The strict player finds all that is listed in memory.
    let mut viewer = Viewer::new(&server.egress, "p");
    viewer.until(PATIENCE, segments(11, 11)).await?;
    let stats = server.egress.stats();
    assert!(stats.dvr_lost > 0 && stats.dvr_files == 0, "{stats:?}");
    let listed = viewer.video.newest.segments.len();
    assert!((3..=9).contains(&listed), "the window is what memory holds: {listed}");
    viewer.probe(&viewer.video)?;
    Ok(())
}
