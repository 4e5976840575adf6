//! Small pictures: of now, and of what was shown.

use std::process::Command;

use bytes::Bytes;
use weir::egress::Fetched;
use weir::media::playlist::Directives;

use super::*;

/// A file as somebody gets it who asks for it.
async fn fetch(server: &Server, name: &str) -> Result<Bytes> {
    match server.egress.fetch(name, Directives::default()).await? {
        Fetched::InMemory(file) => Ok(file.body),
        _ => bail!("{name} is not in memory"),
    }
}

/// A file's first picture from `seconds` on, in grey, with a decoder that nothing here has to do with.
fn grey(server: &Server, file: &[u8], seconds: f64, filter: &str) -> Result<Vec<u8>> {
    let path = server.folder.path().join("picture");
    std::fs::write(&path, file)?;
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-ss", &seconds.to_string(), "-i"]).arg(&path);
    command.args(["-frames:v", "1", "-vf", filter, "-f", "rawvideo", "-pix_fmt", "gray", "-"]);
    let output = command.output().context("ffmpeg can't be run")?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && complaints.is_empty(), "ffmpeg: {complaints}");
    Ok(output.stdout)
}

/// The middle of what is bright in a picture of this width.
fn middle(grey: &[u8], width: usize) -> Result<(f64, f64)> {
    let bright: Vec<usize> = (0..grey.len()).filter(|index| grey[*index] > 128).collect();
    ensure!(!bright.is_empty(), "it is dark");
    let mean = |value: fn(usize, usize) -> usize| {
        bright.iter().map(|index| value(*index, width) as f64).sum::<f64>() / bright.len() as f64
    };
    Ok((mean(|index, width| index % width), mean(|index, width| index / width)))
}

fn is_jpeg(file: &[u8]) -> bool {
    file.starts_with(&[0xff, 0xd8]) && file.ends_with(&[0xff, 0xd9])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_of_a_peer_is_made_when_somebody_asks_changes_and_goes() -> Result<()> {
    let mut server = serve(|config, _| config.thumbnail_secs = 1)?;
    let peer: PeerId = "p".parse()?;
    fetch(&server, "p.jpg").await.unwrap_err();
    let _video = server.publish("p", Codec::H264, (640, 360))?;
    assert_eq!(server.event().await?, EgressEvent::Playable(peer.clone()));
    assert_eq!(server.egress.owner("p.jpg"), Some(peer.clone()));
    assert_eq!(server.egress.stats().thumbnails_made, 0, "nobody asked");

    let first = fetch(&server, "p.jpg").await?;
    assert_eq!(fetch(&server, "p.jpg").await?, first, "it is too early for another one");
    let counted = async {
        while server.egress.stats().thumbnails_made == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.context("it is not counted")?;
    let another = async {
        loop {
            let picture = fetch(&server, "p.jpg").await?;
            if picture != first {
                return Ok::<_, anyhow::Error>(picture);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let second = tokio::time::timeout(PATIENCE, another).await??;
    for jpeg in [&first, &second] {
        ensure!(is_jpeg(jpeg));
        assert_eq!(grey(&server, jpeg, 0.0, "null")?.len(), 320 * 180);
    }
    // The ball moved.
    let at = |jpeg: &[u8]| middle(&grey(&server, jpeg, 0.0, "null")?, 320);
    assert_ne!(at(&first)?, at(&second)?);

    server.egress.end_peer(&peer);
    while server.event().await? != EgressEvent::Gone(peer.clone()) {}
    fetch(&server, "p.jpg").await.unwrap_err();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tiles_show_what_the_playlist_plays_at_their_time() -> Result<()> {
    let server = serve(|config, _| config.sprite_secs = 1)?;
    let _video = server.publish("p", Codec::H264, (640, 360))?;
    let listed = async {
        loop {
            if let Some(file) = server.egress.file("p-thumbnails.vtt") {
                let text = String::from_utf8(file.body.to_vec())?;
                if text.matches("#xywh=").count() >= 4 {
                    return Ok::<_, anyhow::Error>(text);
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let text = tokio::time::timeout(PATIENCE, listed).await??;
    // The window does not slide yet: what comes later only adds to it.
    let playlist = fetch(&server, "p-video.m3u8").await?;
    let playlist = String::from_utf8(playlist.to_vec())?;
    ensure!(playlist.contains("#EXT-X-MEDIA-SEQUENCE:0\n"), "{playlist}");
    let init = playlist.lines().find_map(|line| line.strip_prefix("#EXT-X-MAP:URI=\"")).context("no map")?;
    let mut whole = fetch(&server, init.trim_end_matches('"')).await?.to_vec();
    for uri in playlist.lines().filter(|line| !line.starts_with('#')) {
        whole.extend_from_slice(&fetch(&server, uri).await?);
    }
    let cues = text.split("\n\n").filter_map(|block| block.split_once(" --> "));
    let mut compared = 0;
    for (from, rest) in cues {
        let seconds = from.rsplit(':').next().context("no time")?.parse::<f64>()?;
        let (name, place) =
            rest.lines().nth(1).and_then(|line| line.split_once("#xywh=")).context("no place")?;
        let [x, y, width, height] = place.split(',').collect::<Vec<_>>()[..] else { bail!("{place}") };
        assert_eq!((width, height), ("160", "90"));
        let sprite = fetch(&server, name).await?;
        ensure!(is_jpeg(&sprite), "{name}");
        let tile = grey(&server, &sprite, 0.0, &format!("crop={width}:{height}:{x}:{y}"))?;
        let shown = grey(&server, &whole, seconds, "scale=160:90")?;
        let ((left, top), (its_left, its_top)) = (middle(&tile, 160)?, middle(&shown, 160)?);
        ensure!(
            (left - its_left).abs() < 3.0 && (top - its_top).abs() < 3.0,
            "at {seconds} s {left},{top} is {its_left},{its_top}"
        );
        compared += 1;
    }
    assert!(compared >= 4, "{text}");
    Ok(())
}
