//! HLS from real RTP to what players get: GStreamer publishes into taps, ffprobe judges what comes out.

mod dvr;
mod encryption;
mod faults;
mod ladder;
mod low_latency;
mod muxed;
mod on_demand;
mod simulcast;
mod source;
mod supervision;
mod thumbnails;
mod trap;
mod viewer;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use source::{Codec, FRAME_RATE, Source};
use tokio::sync::mpsc;
use viewer::Viewer;
use weir::egress::{Config, Egress, EgressEvent};
use weir::ids::PeerId;
use weir::media::segmenter::VideoId;

/// How long something that needs real media may take.
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    egress: Egress,
    events: mpsc::Receiver<EgressEvent>,
    folder: tempfile::TempDir,
}

fn serve(change: impl FnOnce(&mut Config, &Path)) -> Result<Server> {
    let folder = tempfile::tempdir()?;
    let mut config = Config { retain_secs: 1, ..Config::default() };
    change(&mut config, folder.path());
    let (egress, events) = Egress::start(&config, folder.path())?;
    Ok(Server { egress, events, folder })
}

impl Server {
    fn publish(&self, peer: &str, codec: Codec, size: (u32, u32)) -> Result<Source> {
        let (source, track) = Source::start(codec, size)?;
        self.egress.add_track(&peer.parse()?, track);
        Ok(source)
    }

    async fn event(&mut self) -> Result<EgressEvent> {
        tokio::time::timeout(PATIENCE, self.events.recv()).await?.context("no more events")
    }
}

fn segments(video: usize, audio: usize) -> impl Fn(&Viewer) -> bool {
    move |viewer| viewer.video.all.len() >= video && viewer.audio.all.len() >= audio
}

#[tokio::test(flavor = "multi_thread")]
async fn h264_and_opus_play_from_the_first_segment_to_the_end_tag() -> Result<()> {
    let mut server = serve(|_, _| ())?;
    let peer: PeerId = "abc-_1".parse()?;
    let video = server.publish(peer.as_str(), Codec::H264, (640, 360))?;
    let _audio = server.publish(peer.as_str(), Codec::Opus, (0, 0))?;
    let mut viewer = Viewer::new(&server.egress, peer.as_str());

    assert_eq!(server.event().await?, EgressEvent::Playable(peer.clone()));
    assert_eq!(server.egress.playable(), std::slice::from_ref(&peer));
    viewer.read()?;
    assert!(
        viewer.master.contains("CODECS=\"avc1.42c01e,mp4a.40.2\",RESOLUTION=640x360"),
        "{}",
        viewer.master
    );
    viewer.until(PATIENCE, segments(10, 10)).await?;
    let requests = video.key_frame_requests.load(Ordering::Relaxed);
    assert!((9..=14).contains(&requests), "{requests} key frame requests for 10 segments");
    assert!(viewer.video.newest.independent && viewer.audio.newest.independent);
    let listed = viewer.video.newest.segments.len();
    assert!((8..=9).contains(&listed), "the window slides: {listed}");

    server.egress.end_peer(&peer);
    viewer.until(PATIENCE, |viewer| viewer.video.newest.ended && viewer.audio.newest.ended).await?;
    assert!(server.egress.playable().is_empty());
    assert_eq!(server.event().await?, EgressEvent::Gone(peer.clone()));
    for name in viewer.files.keys() {
        assert!(server.egress.file(name).is_none(), "{name} is still there");
    }

    let pictures = viewer.probe(&viewer.video)?;
    let [pictures] = &pictures[..] else { bail!("{pictures:?}") };
    assert_eq!((pictures.codec.as_str(), pictures.size), ("h264", (640, 360)));
    let seconds = pictures.end - pictures.start;
    let expected = seconds * f64::from(FRAME_RATE);
    assert!((pictures.frames as f64 - expected).abs() < 10.0, "{} pictures in {seconds} s", pictures.frames);
    let sound = viewer.probe(&viewer.audio)?;
    let [sound] = &sound[..] else { bail!("{sound:?}") };
    assert_eq!(sound.codec, "aac");
    assert!((sound.start - pictures.start).abs() < 0.03, "{} and {}", sound.start, pictures.start);
    assert!((sound.end - pictures.end).abs() < 0.06, "{} and {}", sound.end, pictures.end);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn vp8_is_transcoded_through_a_change_of_resolution() -> Result<()> {
    let server = serve(|_, _| ())?;
    let video = server.publish("p", Codec::Vp8, (320, 240))?;
    let _audio = server.publish("p", Codec::Opus, (0, 0))?;
    let mut viewer = Viewer::new(&server.egress, "p");
    viewer.until(PATIENCE, segments(3, 3)).await?;
    video.resize((480, 272))?;
    viewer.until(PATIENCE, |viewer| viewer.master.contains("RESOLUTION=480x272")).await?;
    let seen = viewer.video.all.len();
    viewer.until(PATIENCE, segments(seen + 2, seen + 2)).await?;
    let probed = viewer.probe(&viewer.video)?;
    let sizes: Vec<_> = probed.iter().map(|probed| (probed.codec.as_str(), probed.size)).collect();
    assert_eq!(sizes, [("h264", (320, 240)), ("h264", (480, 272))]);
    assert!((probed[1].start - probed[0].end).abs() < 0.002, "no hole between the sizes");
    assert_eq!(viewer.probe(&viewer.audio)?.len(), 1, "one init segment for the audio");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn vp9_alone_is_enough() -> Result<()> {
    let mut server = serve(|_, _| ())?;
    let _video = server.publish("p", Codec::Vp9, (320, 240))?;
    assert_eq!(server.event().await?, EgressEvent::Playable("p".parse()?));
    let mut viewer = Viewer::new(&server.egress, "p");
    viewer.until(PATIENCE, segments(4, 0)).await?;
    assert!(!viewer.master.contains("AUDIO") && !viewer.master.contains("mp4a"), "{}", viewer.master);
    assert!(viewer.audio.all.is_empty());
    assert!(viewer.video.newest.independent, "each segment begins with a key frame of the encoder");
    assert_eq!(viewer.probe(&viewer.video)?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn audio_alone_survives_gaps_and_video_joins_later() -> Result<()> {
    let mut server = serve(|_, _| ())?;
    let audio = server.publish("p", Codec::Opus, (0, 0))?;
    let mut viewer = Viewer::new(&server.egress, "p");
    assert_eq!(server.event().await?, EgressEvent::Playable("p".parse()?));
    viewer.until(PATIENCE, segments(0, 2)).await?;
    assert!(viewer.master.ends_with("CODECS=\"mp4a.40.2\"\np-audio.m3u8\n"), "{}", viewer.master);
    // Long enough a silence that whole segments hold nothing else.
    audio.set_silent(true);
    let before = viewer.audio.all.len();
    viewer.until(PATIENCE, segments(0, before + 3)).await?;
    audio.set_silent(false);
    viewer.until(PATIENCE, segments(0, before + 4)).await?;
    let _video = server.publish("p", Codec::H264, (320, 240))?;
    viewer.until(PATIENCE, segments(3, 0)).await?;
    assert!(viewer.master.contains("AUDIO=\"audio\""), "{}", viewer.master);
    let (first, joined) = viewer.video.all.first_key_value().context("no video")?;
    assert!(joined.discontinuity && viewer.audio.all[first].discontinuity);
    assert_eq!(viewer.probe(&viewer.audio)?.len(), 1);
    assert_eq!(viewer.probe(&viewer.video)?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn h264_plays_on_through_pause_loss_resize_and_removal() -> Result<()> {
    let server = serve(|_, _| ())?;
    let peer: PeerId = "p".parse()?;
    let video = server.publish("p", Codec::H264, (320, 240))?;
    let audio = server.publish("p", Codec::Opus, (0, 0))?;
    let mut viewer = Viewer::new(&server.egress, "p");
    viewer.until(PATIENCE, segments(2, 2)).await?;
    let more = |viewer: &Viewer, count: usize| {
        segments(viewer.video.all.len() + count, viewer.audio.all.len() + count)
    };

    video.set_paused(true).await?;
    let enough = more(&viewer, 3);
    viewer.until(PATIENCE, enough).await?;
    video.set_paused(false).await?;
    video.lose(97);
    let enough = more(&viewer, 2);
    viewer.until(PATIENCE, enough).await?;
    video.lose(0);
    video.resize((640, 360))?;
    viewer.until(PATIENCE, |viewer| viewer.master.contains("RESOLUTION=640x360")).await?;
    let enough = more(&viewer, 2);
    viewer.until(PATIENCE, enough).await?;
    audio.close().await?;
    server.egress.remove_track(&peer, video.producer_id);
    let enough = more(&viewer, 2);
    viewer.until(PATIENCE, enough).await?;

    let sizes: Vec<_> = viewer.probe(&viewer.video)?.iter().map(|probed| probed.size).collect();
    assert_eq!(sizes, [(320, 240), (640, 360)]);
    assert_eq!(viewer.probe(&viewer.audio)?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jumping_clock_and_much_loss_leave_no_hole() -> Result<()> {
    let server = serve(|_, _| ())?;
    let video = server.publish("p", Codec::H264, (320, 240))?;
    let audio = server.publish("p", Codec::Opus, (0, 0))?;
    let mut viewer = Viewer::new(&server.egress, "p");
    viewer.until(PATIENCE, segments(1, 1)).await?;
    // One track's clock an hour ahead, the other's as far back; both wrap on the way.
    video.shift_clock(90_000 * 3600);
    audio.shift_clock((48_000 * 3600u32).wrapping_neg());
    viewer.until(PATIENCE, segments(3, 3)).await?;
    video.lose(20);
    audio.lose(20);
    viewer.until(PATIENCE, segments(6, 6)).await?;
    video.lose(0);
    audio.lose(0);
    let moving = |viewer: &Viewer| {
        let last = viewer.video.all.values().last().and_then(|listed| viewer.files.get(&listed.uri));
        viewer.video.all.len() > 6 && last.is_some_and(|file| viewer::pictures(file) > 40)
    };
    viewer.until(PATIENCE, moving).await?;
    let (pictures, sound) = (viewer.probe(&viewer.video)?, viewer.probe(&viewer.audio)?);
    let ([pictures], [sound]) = (&pictures[..], &sound[..]) else { bail!("{pictures:?} {sound:?}") };
    assert!((sound.end - pictures.end).abs() < 0.06, "{} and {}", sound.end, pictures.end);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_comes_back_goes_on_with_its_numbers() -> Result<()> {
    let mut server = serve(|_, _| ())?;
    let peer: PeerId = "p".parse()?;
    let mut last = 0;
    for round in 0..2 {
        let _video = server.publish("p", Codec::H264, (320, 240))?;
        let mut viewer = Viewer::new(&server.egress, "p");
        while server.event().await? != EgressEvent::Playable(peer.clone()) {}
        viewer.until(PATIENCE, segments(2, 0)).await?;
        let (first, listed) = viewer.video.all.first_key_value().context("no segment")?;
        assert!(
            round == 0 || *first > last && !viewer.video.newest.ended,
            "{first} after {last}: {listed:?}"
        );
        last = *viewer.video.all.last_key_value().context("no segment")?.0;
        viewer.probe(&viewer.video)?;
        server.egress.end_peer(&peer);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_pipeline_restarts_alone_behind_a_discontinuity() -> Result<()> {
    let server = serve(|config, folder| {
        let built_in = include_str!("../../gst-pipelines/h264.txt");
        let failing = built_in.replace("! appsink", "! identity error-after=150 ! appsink");
        std::fs::write(folder.join("h264.txt"), failing).expect("a writable folder");
        config.pipelines_dir = folder.to_owned();
    })?;
    let _video = server.publish("p", Codec::H264, (320, 240))?;
    let _audio = server.publish("p", Codec::Opus, (0, 0))?;
    let mut viewer = Viewer::new(&server.egress, "p");
    let twice =
        |viewer: &Viewer| viewer.video.all.values().filter(|listed| listed.discontinuity).count() >= 2;
    viewer.until(PATIENCE, twice).await?;
    viewer.probe(&viewer.video)?;
    assert_eq!(viewer.probe(&viewer.audio)?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_on_disk_are_whole_and_follow_the_window() -> Result<()> {
    let mut server = serve(|config, _| {
        config.write_to_disk = true;
        config.window_segments = 5;
        config.grace_segments = 1;
    })?;
    let peer: PeerId = "p".parse()?;
    let _video = server.publish("p", Codec::H264Aggregated, (320, 240))?;
    let mut viewer = Viewer::new(&server.egress, "p");
    viewer.until(PATIENCE, segments(8, 0)).await?;
    let live = server.folder.path().join("live");
    let on_disk = || -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&live)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    };
    let wait = async {
        loop {
            let names = on_disk()?;
            if names.contains(&"video_p_007.m4s".to_owned()) && !names.contains(&"video_p_000.m4s".to_owned())
            {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await??;
    for name in on_disk()?.iter().filter(|name| name.ends_with(".m4s")) {
        assert_eq!(std::fs::read(live.join(name))?, viewer.files[name], "{name}");
    }
    server.egress.end_peer(&peer);
    viewer.until(PATIENCE, |viewer| viewer.video.newest.ended).await?;
    while server.event().await? != EgressEvent::Gone(peer.clone()) {}
    ensure!(on_disk()?.is_empty(), "{:?}", on_disk()?);
    assert_eq!(viewer.probe(&viewer.video)?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_every_playlist_in_time_and_leaves_whole_files() -> Result<()> {
    let server = serve(|config, _| config.write_to_disk = true)?;
    let mut sources = Vec::new();
    for peer in ["a", "b"] {
        sources.push(server.publish(peer, Codec::H264, (320, 240))?);
        sources.push(server.publish(peer, Codec::Opus, (0, 0))?);
    }
    for peer in ["a", "b"] {
        Viewer::new(&server.egress, peer).until(PATIENCE, segments(2, 2)).await?;
    }
    tokio::time::timeout(Duration::from_secs(5), server.egress.shutdown()).await?;
    for peer in ["a", "b"] {
        let mut viewer = Viewer::new(&server.egress, peer);
        viewer.read()?;
        assert!(viewer.video.newest.ended && viewer.audio.newest.ended);
        for kind in ["m3u8", "mpd"] {
            let path = server.folder.path().join(format!("live/{peer}.{kind}"));
            let found = viewer::ffprobe(&path, &["-show_streams"])?;
            assert_eq!(found["streams"].as_array().map(Vec::len), Some(2), "{kind}");
        }
    }
    // Nothing begins any more.
    let _late = server.publish("c", Codec::Opus, (0, 0))?;
    assert!(server.egress.file("c.m3u8").is_none());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_a_stream_gave_is_not_given_by_the_next_one_of_the_same_peer() -> Result<()> {
    let mut server = serve(|_, _| ())?;
    let peer: PeerId = "p".parse()?;
    let mut lives = Vec::new();
    for _ in 0..2 {
        let _audio = server.publish("p", Codec::Opus, (0, 0))?;
        let mut viewer = Viewer::new(&server.egress, "p");
        viewer.until(PATIENCE, segments(0, 2)).await?;
        server.egress.end_peer(&peer);
        viewer.until(PATIENCE, |viewer| viewer.audio.newest.ended).await?;
        while server.event().await? != EgressEvent::Gone(peer.clone()) {}
        lives.push(viewer);
    }
    let last = lives[0].audio.all.last_key_value().map(|(number, _)| *number);
    let first = lives[1].audio.all.first_key_value().map(|(number, _)| *number);
    assert!(first > last, "{first:?} after {last:?}");
    let media = |name: &&String| name.ends_with(".m4s") || name.ends_with(".mp4");
    let again = lives[0].files.keys().filter(media).find(|name| lives[1].files.contains_key(*name));
    assert_eq!(again, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_sound_is_concealed() -> Result<()> {
    let server = serve(|_, _| ())?;
    let audio = server.publish("p", Codec::Opus, (0, 0))?;
    let mut viewer = Viewer::new(&server.egress, "p");
    viewer.until(PATIENCE, segments(0, 1)).await?;
    audio.lose(10);
    viewer.until(PATIENCE, segments(0, 5)).await?;
    // What is late is silence, from a quarter of a second on: that is the machine's doing. Without concealment there is
    // a short one about every 0.7 s; the encoder's start is another.
    let (silences, loud) = viewer.short_silences(Duration::from_millis(200))?;
    assert!(
        loud > 300 && silences <= 1 + loud / 250,
        "{silences} silences between {loud} moments of 10 ms with sound"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_in_the_packets_ends_nothing() -> Result<()> {
    let server = serve(|_, _| ())?;
    let mut sources = Vec::new();
    let peers = [("a", Codec::H264), ("b", Codec::Vp8), ("c", Codec::Vp9)];
    for (peer, codec) in peers {
        sources.push(server.publish(peer, codec, (320, 240))?);
        sources.push(server.publish(peer, Codec::Opus, (0, 0))?);
    }
    let mut viewers: Vec<Viewer> = peers.iter().map(|(peer, _)| Viewer::new(&server.egress, peer)).collect();
    for viewer in &mut viewers {
        viewer.until(PATIENCE, segments(1, 1)).await?;
    }
    sources.iter().for_each(|source| source.corrupt(5));
    for viewer in &mut viewers {
        let (video, audio) = (viewer.video.all.len() + 3, viewer.audio.all.len() + 3);
        viewer.until(PATIENCE, segments(video, audio)).await?;
    }
    sources.iter().for_each(|source| source.corrupt(0));
    for viewer in &mut viewers {
        // Pictures come again, and not only repeated ones.
        let sent = viewer.files.len();
        let moving = |viewer: &Viewer| {
            let last = viewer.video.all.values().last().and_then(|listed| viewer.files.get(&listed.uri));
            viewer.files.len() > sent && last.is_some_and(|file| viewer::pictures(file) > 20)
        };
        viewer.until(PATIENCE, moving).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn several_sizes_are_variants_of_one_master_playlist() -> Result<()> {
    let mut server = serve(|_, _| ())?;
    let mut sources = vec![server.publish("p", Codec::Opus, (0, 0))?];
    for (index, size) in [(640, 360), (320, 180)].into_iter().enumerate() {
        let (source, mut track) = Source::start(Codec::H264, size)?;
        track.video = VideoId::new(index).context("too many")?;
        server.egress.add_track(&"p".parse()?, track);
        sources.push(source);
    }
    assert_eq!(server.event().await?, EgressEvent::Playable("p".parse()?));
    let mut viewer = Viewer::new(&server.egress, "p");
    viewer.until(PATIENCE, |viewer| viewer.second.all.len() >= 4).await?;
    for variant in ["RESOLUTION=640x360", "RESOLUTION=320x180"] {
        assert!(viewer.master.contains(variant), "{}", viewer.master);
    }
    assert!(viewer.master.ends_with("p-video-1.m3u8\n"), "{}", viewer.master);
    for (number, listed) in &viewer.second.all {
        let best = &viewer.video.all[number];
        assert_eq!((listed.seconds, &listed.date), (best.seconds, &best.date), "segment {number}");
    }
    let sizes = |probed: &[viewer::Probed]| probed.iter().map(|probed| probed.size).collect::<Vec<_>>();
    assert_eq!(sizes(&viewer.probe(&viewer.video)?), [(640, 360)]);
    assert_eq!(sizes(&viewer.probe(&viewer.second)?), [(320, 180)]);
    // One size that goes leaves the others playing.
    server.egress.remove_track(&"p".parse()?, sources[2].producer_id);
    let enough = viewer.video.all.len() + 2;
    viewer
        .until(PATIENCE, |viewer| viewer.video.all.len() >= enough && viewer.second.all.len() >= enough)
        .await?;
    Ok(())
}
