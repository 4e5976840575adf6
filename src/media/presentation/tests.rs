//! What is listed, kept and dropped.

use std::collections::BTreeMap;

use super::*;
use crate::media::fmp4::tests::{audio_config, video_config};

const WINDOW: Window = Window { listed: 5, grace: 3 };

/// A presentation, and the files that a player could fetch.
struct Shown {
    presentation: Presentation,
    files: BTreeMap<String, Bytes>,
    next: u64,
    now: MediaTime,
}

impl Shown {
    fn new() -> Self {
        let presentation = Presentation::new("p".to_owned(), WINDOW, SystemTime::UNIX_EPOCH);
        Self { presentation, files: BTreeMap::new(), next: 0, now: MediaTime::from_nanos(10_000_000_000) }
    }

    fn apply(&mut self, update: Update) {
        for file in update.files {
            let before = self.files.insert(file.name.clone(), file.body);
            assert!(before.is_none() || file.kind == FileKind::Playlist, "{} was written twice", file.name);
        }
        for name in update.gone {
            assert!(self.files.remove(&name).is_some(), "{name} was gone already");
        }
        for name in self.files.keys().filter(|name| name.ends_with(".m3u8")) {
            for listed in self.lines(name).iter().flat_map(|line| uris(line)) {
                assert!(self.files.contains_key(&listed), "{name} lists {listed}, which is missing");
            }
        }
    }

    fn push(&mut self, millis: u64, change: impl FnOnce(&mut Segment)) {
        let (start, end) = (self.now, self.now + Duration::from_millis(millis));
        let pictures = millis / 100;
        let sample = Sample { data: Bytes::from(vec![0; 5000]), duration: 9000, composition: 0, sync: true };
        let video = VideoSegment {
            config: Arc::new(video_config(640, 360)),
            base: start.ticks(VIDEO_TIMESCALE),
            samples: vec![sample; usize::try_from(pictures).unwrap()],
            independent: true,
            filler: false,
        };
        let frames = usize::try_from(millis * 48 / 1024).unwrap();
        let audio = AudioSegment {
            config: Arc::new(audio_config()),
            base: start.ticks(48_000),
            frames: vec![Bytes::from(vec![0; 300]); frames],
            filler: false,
        };
        let mut segment = Segment {
            sequence: self.next,
            discontinuity: false,
            start,
            end,
            video: Some(video),
            audio: Some(audio),
        };
        change(&mut segment);
        self.next += 1;
        self.now = end;
        let update = self.presentation.push(&segment).unwrap();
        self.apply(update);
    }

    fn lines(&self, name: &str) -> Vec<String> {
        self.files.get(name).map_or(Vec::new(), |body| {
            String::from_utf8(body.to_vec()).unwrap().lines().map(str::to_owned).collect()
        })
    }

    fn has(&self, name: &str, line: &str) -> bool {
        self.lines(name).iter().any(|found| found == line)
    }
}

fn uris(line: &str) -> Vec<String> {
    match line.split_once("URI=\"") {
        Some((_, rest)) => rest.split('"').take(1).map(str::to_owned).collect(),
        None if !line.starts_with('#') => vec![line.to_owned()],
        None => Vec::new(),
    }
}

#[test]
fn the_window_slides_and_files_stay_for_a_grace() {
    let mut shown = Shown::new();
    for _ in 0..12 {
        shown.push(2000, |_| ());
    }
    for kind in ["video", "audio"] {
        let playlist = format!("p-{kind}.m3u8");
        assert!(shown.has(&playlist, "#EXT-X-MEDIA-SEQUENCE:7"));
        assert!(
            shown.has(&playlist, &format!("{kind}_p_011.m4s"))
                && shown.has(&playlist, &format!("{kind}_p_007.m4s"))
        );
        assert!(!shown.has(&playlist, &format!("{kind}_p_006.m4s")));
        assert!(shown.files.contains_key(&format!("{kind}_p_004.m4s")), "grace");
        assert!(!shown.files.contains_key(&format!("{kind}_p_003.m4s")));
    }
    assert_eq!(shown.files.len(), 2 * 8 + 2 + 3, "nothing else: {:?}", shown.files.keys());
}

#[test]
fn short_segments_never_make_a_playlist_shorter_than_three_target_durations() {
    let mut shown = Shown::new();
    for _ in 0..40 {
        shown.push(500, |_| ());
    }
    let listed = shown.lines("p-video.m3u8").iter().filter(|line| line.ends_with(".m4s")).count();
    assert_eq!(listed, 18, "9 s of 0.5 s each");
    for _ in 0..200 {
        shown.push(100, |_| ());
    }
    let listed = shown.lines("p-video.m3u8").iter().filter(|line| line.ends_with(".m4s")).count();
    assert_eq!(listed, MAX_LISTED, "but there is an end to it");
}

#[test]
fn discontinuities_are_counted_alike_in_both_playlists() {
    let mut shown = Shown::new();
    for number in 0..14u32 {
        shown.push(2000, |segment| {
            segment.discontinuity = number == 3 || number == 11;
            if number < 3 {
                segment.video = None;
            }
            if let Some(video) = &mut segment.video
                && number >= 11
            {
                video.config = Arc::new(video_config(1280, 720));
            }
        });
        if number == 4 {
            assert!(shown.has("p-audio.m3u8", "#EXT-X-MEDIA-SEQUENCE:0"));
            assert!(shown.has("p-video.m3u8", "#EXT-X-MEDIA-SEQUENCE:3"));
            for playlist in ["p-audio.m3u8", "p-video.m3u8"] {
                assert!(shown.has(playlist, "#EXT-X-DISCONTINUITY-SEQUENCE:0"), "{playlist}");
                assert!(shown.has(playlist, "#EXT-X-DISCONTINUITY"), "{playlist}");
            }
        }
    }
    for playlist in ["p-audio.m3u8", "p-video.m3u8"] {
        assert!(shown.has(playlist, "#EXT-X-MEDIA-SEQUENCE:9"));
        assert!(shown.has(playlist, "#EXT-X-DISCONTINUITY-SEQUENCE:1"), "{playlist}");
    }
    assert_eq!(shown.lines("p-video.m3u8").iter().filter(|line| line.starts_with("#EXT-X-MAP")).count(), 2);
    assert_eq!(shown.lines("p-audio.m3u8").iter().filter(|line| line.starts_with("#EXT-X-MAP")).count(), 1);
    // The old init segment goes with the last segment that needs it.
    for _ in 0..9 {
        shown.push(2000, |segment| {
            if let Some(video) = &mut segment.video {
                video.config = Arc::new(video_config(1280, 720));
            }
        });
    }
    assert!(!shown.files.contains_key("video_p_init_3.mp4"));
    assert!(shown.files.contains_key("video_p_init_11.mp4"));
}

#[test]
fn the_master_playlist_tells_what_is_there() {
    let mut shown = Shown::new();
    shown.push(2000, |_| ());
    let master = shown.lines("p.m3u8").join("\n");
    assert!(
        master.contains("CODECS=\"avc1.42c00d,mp4a.40.2\",RESOLUTION=640x360,FRAME-RATE=10.000"),
        "{master}"
    );
    // 20 pictures of 5000 bytes and 93 frames of 300 bytes in 2 s, and the boxes around them.
    let bandwidth = master.split("BANDWIDTH=").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    let bandwidth: u64 = bandwidth.parse().unwrap();
    assert!((511_600..520_000).contains(&bandwidth), "{bandwidth}");
    assert_eq!(shown.presentation.listed_duration().as_millis(), 1984);
    let end = shown.presentation.end();
    shown.apply(end);
    assert!(shown.has("p-video.m3u8", "#EXT-X-ENDLIST") && shown.has("p-audio.m3u8", "#EXT-X-ENDLIST"));
}

#[test]
fn a_rendition_that_is_gone_and_empty_is_not_offered_to_new_players() {
    let mut shown = Shown::new();
    shown.push(2000, |_| ());
    shown.presentation.set_gone(true, false);
    let fill = |segment: &mut Segment| {
        if let Some(video) = &mut segment.video {
            video.filler = true;
        }
    };
    shown.push(2000, fill);
    assert!(shown.has("p.m3u8", "p-video.m3u8"), "something of it is still listed");
    for _ in 0..5 {
        shown.push(2000, fill);
    }
    assert!(!shown.has("p.m3u8", "p-video.m3u8") && shown.has("p.m3u8", "p-audio.m3u8"));
    assert!(shown.has("p-video.m3u8", "video_p_006.m4s"), "who plays it plays on");
    shown.presentation.set_gone(false, false);
    shown.push(2000, |_| ());
    assert!(shown.has("p.m3u8", "p-video.m3u8"));
}
