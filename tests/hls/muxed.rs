//! MPEG-TS for old players, by the names of other servers.

use bytes::BytesMut;
use weir::egress::FetchError;
use weir::media::encryption::Method;
use weir::media::presentation::muxed::{Asked, What};

use super::*;

/// Fetches what a path stands for.
async fn fetch(egress: &Egress, path: &str) -> Result<Vec<u8>> {
    let asked = path.strip_prefix("livestream/").map_or_else(|| Asked::beside_cmaf(path), Asked::event);
    let Asked { peer, scheme, what } = asked.with_context(|| format!("{path} is no name"))?;
    let file = egress.fetch_muxed(&peer.parse()?, scheme, what).await;
    Ok(file.with_context(|| path.to_owned())?.body.to_vec())
}

async fn text(egress: &Egress, path: &str) -> Result<String> {
    Ok(String::from_utf8(fetch(egress, path).await?)?)
}

/// The address of what a playlist at `path` lists as `uri`.
fn beside(path: &str, uri: &str) -> String {
    path.rsplit_once('/').map_or_else(|| uri.to_owned(), |(folder, _)| format!("{folder}/{uri}"))
}

fn uris(playlist: &str) -> impl Iterator<Item = &str> {
    playlist.lines().filter(|line| !line.starts_with('#'))
}

/// What ffprobe finds in all that a media playlist lists: sizes, pictures, and when video and sound begin and end in
/// seconds. It may complain about nothing.
async fn probe(server: &Server, path: &str) -> Result<(Vec<(u64, u64)>, u64, [[f64; 2]; 2])> {
    let mut whole = BytesMut::new();
    for uri in uris(&text(&server.egress, path).await?) {
        whole.extend_from_slice(&fetch(&server.egress, &beside(path, uri)).await?);
    }
    let file = server.folder.path().join("whole.ts");
    std::fs::write(&file, &whole)?;
    // The packets' order and times; that they can be decoded is seen below.
    let warnings = std::process::Command::new("ffmpeg")
        .args(["-v", "warning", "-xerror", "-i"])
        .arg(&file)
        .args(["-map", "0", "-c", "copy", "-f", "null", "-"])
        .output()?;
    let warnings = String::from_utf8_lossy(&warnings.stderr).into_owned();
    ensure!(warnings.is_empty(), "{path}: {warnings}");
    let found = viewer::ffprobe(&file, &["-show_streams", "-count_frames"])?;
    let number = |value: &serde_json::Value| value.as_str().and_then(|text| text.parse().ok());
    let (mut sizes, mut pictures, mut seconds) = (Vec::new(), 0, [[0.0; 2]; 2]);
    for stream in found["streams"].as_array().context("no streams")? {
        let begins = number(&stream["start_time"]).context("no beginning")?;
        let lasts = [begins, begins + number(&stream["duration"]).context("no duration")?];
        match stream["codec_name"].as_str() {
            Some("h264") => {
                let size = |name| stream[name].as_u64().context("no size");
                sizes.push((size("width")?, size("height")?));
                pictures += number(&stream["nb_read_frames"]).context("no pictures")? as u64;
                seconds[0] = lasts;
            }
            Some("aac") => seconds[1] = lasts,
            other => bail!("{other:?}"),
        }
    }
    Ok((sizes, pictures, seconds))
}

#[tokio::test(flavor = "multi_thread")]
async fn players_of_other_servers_find_what_they_know_as_mpeg_ts() -> Result<()> {
    let server = serve(|config, _| {
        (config.window_segments, config.grace_segments, config.dvr_secs) = (3, 1, 20);
    })?;
    let mut sources = vec![server.publish("p", Codec::Opus, (0, 0))?];
    for (index, size) in [(640, 360), (320, 180)].into_iter().enumerate() {
        let (source, mut track) = Source::start(Codec::H264, size)?;
        track.video = VideoId::new(index).context("too many")?;
        server.egress.add_track(&"p".parse()?, track);
        sources.push(source);
    }
    // Who asks before there is a segment waits for it.
    let master = text(&server.egress, "p/index.m3u8").await?;
    assert_eq!(uris(&master).collect::<Vec<_>>(), ["360p/index.m3u8", "180p/index.m3u8"], "{master}");
    assert!(master.contains("CODECS=\"avc1.42c01e,mp4a.40.2\",RESOLUTION=640x360"), "{master}");
    assert_eq!(text(&server.egress, "p/master.m3u8").await?, master);
    let event = "livestream/p/stream.m3u8";
    let listed = async |count: usize| {
        let wait = async {
            loop {
                let playlist = text(&server.egress, event).await?;
                if uris(&playlist).count() >= count {
                    return anyhow::Ok(playlist);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await?
    };
    // Four of them are in memory at the most.
    let playlist = listed(7).await?;
    assert!(playlist.contains("#EXT-X-VERSION:6\n") && playlist.contains("#EXT-X-PLAYLIST-TYPE:EVENT\n"));
    assert!(playlist.contains("\nsegment_0.ts\n"), "{playlist}");
    for (path, size) in
        [(event, (640, 360)), ("p/180p/index.m3u8", (320, 180)), ("p-video-1-ts.m3u8", (320, 180))]
    {
        let (sizes, pictures, [video, sound]) = probe(&server, path).await?;
        assert_eq!(sizes, [size], "{path}");
        let lasts = video[1] - video[0];
        let expected = lasts * f64::from(FRAME_RATE);
        assert!(
            lasts > 10.0 && (pictures as f64 - expected).abs() < 10.0,
            "{pictures} pictures in {lasts} s"
        );
        // ffprobe counts no frame behind the first one of the last packet, which holds up to fifteen.
        assert!((video[0] - sound[0]).abs() < 0.03, "{video:?} {sound:?}");
        assert!((-0.03..0.4).contains(&(video[1] - sound[1])), "{video:?} {sound:?}");
    }
    let (sizes, _, [_, sound]) = probe(&server, "p-audio-ts.m3u8").await?;
    assert!(sizes.is_empty() && sound[1] - sound[0] > 10.0, "{sizes:?} {sound:?}");
    // What is made of segments in memory is made once.
    let newest = uris(&text(&server.egress, event).await?).last().context("no segment")?.to_owned();
    let asked = format!("p/{newest}");
    let asked = Asked::event(&asked).context("no name")?;
    let peer = "p".parse()?;
    let one = server.egress.fetch_muxed(&peer, asked.scheme, asked.what).await?;
    let other = server.egress.fetch_muxed(&peer, asked.scheme, asked.what).await?;
    assert_eq!(one.body.as_ptr(), other.body.as_ptr());
    assert_eq!((one.content_type, one.cache_control), ("video/mp2t", "public, max-age=60"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_segment_is_decrypted_with_the_key_beside_it() -> Result<()> {
    for method in [Method::Aes128, Method::Cbcs] {
        let mut server = serve(|config, _| config.encryption = method)?;
        let _video = server.publish("p", Codec::H264, (320, 240))?;
        assert_eq!(server.event().await?, EgressEvent::Playable("p".parse()?));
        let asked = Asked::beside_cmaf("p/240p/index.m3u8").context("no name")?;
        let found = server.egress.fetch_muxed(&"p".parse()?, asked.scheme, asked.what).await;
        if method == Method::Cbcs {
            assert_eq!(found.err(), Some(FetchError::NotOffered));
            continue;
        }
        let folder = server.folder.path().join("copy");
        std::fs::create_dir(&folder)?;
        let playlist = String::from_utf8(found?.body.to_vec())?;
        let keys = playlist.lines().filter_map(|line| line.split_once("URI=\"")?.1.split('"').next());
        for uri in uris(&playlist).chain(keys) {
            let path = format!("p/240p/{uri}");
            let is_key = matches!(Asked::beside_cmaf(&path).map(|asked| asked.what), Some(What::Key(_)));
            assert_eq!(is_key, uri.ends_with(".key"));
            std::fs::write(folder.join(uri), fetch(&server.egress, &path).await?)?;
        }
        std::fs::write(folder.join("index.m3u8"), format!("{playlist}#EXT-X-ENDLIST\n"))?;
        let found =
            viewer::ffprobe(&folder.join("index.m3u8"), &["-allowed_extensions", "ALL", "-show_streams"])?;
        assert_eq!(found["streams"][0]["width"], 320);
    }
    Ok(())
}
