//! Encrypted HLS: openssl and ffprobe read it with the keys that the playlists lead to.

use anyhow::{Context, Result, ensure};
use weir::media::encryption::Method;

use super::source::Codec;
use super::viewer::{Rendition, Viewer};
use super::{PATIENCE, Server, segments, serve};

/// How many segments share a key.
const ROTATION: u64 = 2;

/// The keys of a rendition's segments in order, each once; every one of them is for as many segments as it should.
fn keys(rendition: &Rendition) -> Result<Vec<String>> {
    let mut keys: Vec<String> = Vec::new();
    for (number, listed) in &rendition.all {
        let key = listed.key.as_ref().with_context(|| format!("segment {number} is not encrypted"))?;
        ensure!(key.uri == format!("p-key-{}.key", number / ROTATION * ROTATION), "{number}: {key:?}");
        keys.push(key.uri.clone());
    }
    keys.dedup();
    Ok(keys)
}

async fn watched(method: Method) -> Result<(Server, Viewer)> {
    let server = serve(|config, _| {
        config.encryption = method;
        config.key_rotation_segments = ROTATION;
        config.write_to_disk = true;
    })?;
    let _video = server.publish("p", Codec::H264, (320, 240))?;
    let _audio = server.publish("p", Codec::Opus, (0, 0))?;
    let mut viewer = Viewer::new(&server.egress, "p");
    viewer.until(PATIENCE, segments(5, 5)).await?;
    server.egress.shutdown().await;
    for entry in std::fs::read_dir(server.folder.path().join("live"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        ensure!(!name.ends_with(".key") && !name.ends_with(".mpd"), "{name} is on disk");
    }
    ensure!(server.egress.file("p.mpd").is_none(), "a manifest that tells nothing of the keys");
    Ok((server, viewer))
}

#[tokio::test(flavor = "multi_thread")]
async fn aes_128_is_decrypted_with_the_keys_that_the_playlists_name() -> Result<()> {
    let (_server, viewer) = watched(Method::Aes128).await?;
    for rendition in [&viewer.video, &viewer.audio] {
        ensure!(keys(rendition)?.len() >= 3);
        ensure!(viewer.probe(rendition)?.len() == 1, "a new key is no discontinuity");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn cbcs_is_decrypted_with_the_keys_that_the_playlists_name() -> Result<()> {
    let (_server, viewer) = watched(Method::Cbcs).await?;
    for (rendition, codec) in [(&viewer.video, "h264"), (&viewer.audio, "aac")] {
        let keys = keys(rendition)?;
        let probed = viewer.probe(rendition)?;
        ensure!(keys.len() >= 3 && probed.len() == keys.len(), "each key has its init segment: {keys:?}");
        ensure!(probed.iter().all(|probed| probed.codec == codec && probed.frames > 0), "{probed:?}");
        ensure!(probed.is_sorted_by(|one, next| (next.start - one.end).abs() < 0.002), "{probed:?}");
    }
    Ok(())
}
