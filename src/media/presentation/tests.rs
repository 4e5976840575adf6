//! What is listed, kept and dropped.

mod dvr;
mod encryption;
mod low_latency_dash;
mod muxed;
mod thumbnails;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::*;
use crate::media::encryption::{BLOCK_BYTES, ContentKey, Method};
use crate::media::fmp4::tests::{audio_config, video_config};
use crate::media::fmp4::{AAC_FRAME_SAMPLES, Sample, VIDEO_TIMESCALE};
use crate::media::segmenter::VideoId;

const WINDOW: Window = Window { listed: 5, grace: 3, dvr: Duration::ZERO };
const VIDEO: Rendition = Rendition::Video(VideoId::BEST);

/// How the next segments look.
#[derive(Clone)]
struct Look {
    discontinuity: bool,
    /// The sizes of the video renditions.
    sizes: Vec<(u32, u32)>,
    audio: bool,
    filler: bool,
}

/// A playlist as players get it.
struct Read {
    full: Bytes,
    delta: Bytes,
    plain: Bytes,
    position: Position,
    hint: Option<String>,
}

/// A presentation, and what a player could fetch.
struct Shown {
    presentation: Presentation,
    files: BTreeMap<String, Bytes>,
    /// Files that left memory.
    on_disk: BTreeSet<String>,
    /// Whether segments are stored.
    storing: bool,
    lost: usize,
    wholes: super::muxed::Wholes,
    listings: BTreeMap<String, Read>,
    look: Look,
    /// How many pictures of 32 ms a part has.
    pictures: usize,
    /// How many that were shown before precede them.
    repeated: usize,
    next: u64,
    now: MediaTime,
}

impl Shown {
    fn new() -> Self {
        Self::with_window(WINDOW)
    }

    fn with_window(window: Window) -> Self {
        let part = Duration::from_millis(200);
        Self {
            presentation: Presentation::new("p".to_owned(), window, part, SystemTime::UNIX_EPOCH),
            files: BTreeMap::new(),
            on_disk: BTreeSet::new(),
            storing: true,
            lost: 0,
            wholes: super::muxed::Wholes::default(),
            listings: BTreeMap::new(),
            look: Look { discontinuity: false, sizes: vec![(640, 360)], audio: true, filler: false },
            pictures: 6,
            repeated: 0,
            next: 0,
            now: MediaTime::from_nanos(10_000_000_000),
        }
    }

    /// Encrypted, with a new key every `segments_per_key` segments. Keys are numbered from 1 to 15.
    fn encrypted(method: Method, segments_per_key: u64) -> Self {
        Self::new().with_keys(method, segments_per_key)
    }

    fn with_keys(mut self, method: Method, segments_per_key: u64) -> Self {
        let mut number = 0;
        let keys = Box::new(move || {
            number = number % 15 + 1;
            let [id, secret, iv] = [0, 1, 2].map(|what| [number * 16 + what; BLOCK_BYTES]);
            ContentKey { id, secret, iv }
        });
        self.presentation = self.presentation.encrypted(Encryption { method, segments_per_key, keys });
        self
    }

    fn update(&mut self) {
        let update = self.presentation.take_update();
        self.lost += update.lost;
        update.wholes.into_iter().for_each(|change| self.wholes.apply(change));
        for file in update.files {
            if self.storing && matches!(file.kind, FileKind::Media(_)) {
                assert!(self.presentation.stored(&file.name));
            }
            let same = self.files.insert(file.name.clone(), file.body.clone());
            let changes = same.is_some_and(|before| before != file.body);
            let may_change =
                [FileKind::Master, FileKind::Manifest, FileKind::LowLatencyManifest, FileKind::Cues];
            assert!(!changes || may_change.contains(&file.kind), "{} was changed", file.name);
        }
        for Listing { name, full, delta, plain, position, hint, .. } in update.listings {
            let (full, delta) = (full.join(), delta.join());
            self.listings.insert(name, Read { full, delta, plain, position, hint });
        }
        for name in update.aged {
            assert!(self.files.contains_key(&name), "{name} is not there to leave memory");
            assert!(self.on_disk.insert(name.clone()), "{name} left memory twice");
        }
        for name in update.gone {
            assert!(self.files.remove(&name).is_some(), "{name} was gone already");
            self.on_disk.remove(&name);
        }
        for (name, listing) in &self.listings {
            for line in text(&listing.full).lines().filter(|line| !line.contains("PRELOAD-HINT")) {
                self.assert_there(name, line);
            }
        }
        let master = self.files.get("p.m3u8").map(|body| text(body).to_owned()).unwrap_or_default();
        master.lines().for_each(|line| self.assert_there("p.m3u8", line));
    }

    fn assert_there(&self, name: &str, line: &str) {
        let uri = match line.split_once("URI=\"") {
            Some((_, rest)) => rest.split('"').next(),
            None => (!line.is_empty() && !line.starts_with('#')).then_some(line),
        };
        let there = |uri: &str| self.files.contains_key(uri) || self.listings.contains_key(uri);
        assert!(uri.is_none_or(there), "{name} lists {line}, which is missing");
    }

    fn open(&mut self) {
        let Look { discontinuity, sizes, audio, .. } = &self.look;
        let video = sizes.iter().enumerate().map(|(index, (width, height))| {
            (VideoId::new(index).unwrap(), Arc::new(video_config(*width, *height)))
        });
        let opening = Opening {
            sequence: self.next,
            discontinuity: *discontinuity,
            start: self.now,
            video: video.collect(),
            audio: audio.then(|| Arc::new(audio_config())),
        };
        self.presentation.open(&opening).unwrap();
    }

    fn renditions(&self) -> Vec<Rendition> {
        let video = (0..self.look.sizes.len()).filter_map(VideoId::new).map(Rendition::Video);
        video.chain(self.look.audio.then_some(Rendition::Audio)).collect()
    }

    /// A part of every rendition.
    fn parts(&mut self) {
        self.renditions().into_iter().for_each(|rendition| self.part(rendition));
        self.now = self.now + Duration::from_millis(32) * u32::try_from(self.pictures).unwrap();
        self.update();
    }

    /// A part of a rendition: pictures of 5000 bytes, or half as many audio frames again of 300 bytes.
    fn part(&mut self, rendition: Rendition) {
        let (rate, count, size, duration) = match rendition {
            Rendition::Video(_) => (VIDEO_TIMESCALE, self.pictures, 5000, 32 * 90),
            Rendition::Audio => (48_000, self.pictures * 3 / 2, 300, AAC_FRAME_SAMPLES),
        };
        let sample = Sample { data: Bytes::from(vec![0; size]), duration, composition: 0, sync: true };
        let repeated = vec![Sample { duration: 1, ..sample.clone() }; self.repeated];
        let part = Part {
            sequence: self.next,
            rendition,
            rate,
            base: self.now.ticks(rate),
            samples: [repeated, vec![sample; count]].concat(),
            independent: true,
            filler: self.look.filler,
        };
        self.presentation.push(&part).unwrap();
    }

    fn close(&mut self) {
        for rendition in self.renditions() {
            self.presentation.close(self.next, rendition).unwrap();
        }
        self.next += 1;
        self.update();
    }

    fn push(&mut self, parts: u64) {
        self.open();
        (0..parts).for_each(|_| self.parts());
        self.close();
    }

    fn full(&self, name: &str) -> &str {
        text(&self.listings[name].full)
    }

    fn has(&self, name: &str, line: &str) -> bool {
        let body = self.listings.get(name).map(|listing| &listing.full).or(self.files.get(name));
        body.is_some_and(|body| text(body).lines().any(|found| found == line))
    }
}

fn text(body: &Bytes) -> &str {
    std::str::from_utf8(body).unwrap()
}

fn count(text: &str, beginning: &str) -> usize {
    text.lines().filter(|line| line.starts_with(beginning)).count()
}

#[test]
fn the_window_slides_and_files_stay_for_a_grace() {
    let mut shown = Shown::new();
    (0..12).for_each(|_| shown.push(10));
    shown.open();
    shown.parts();
    for kind in ["video", "audio"] {
        let playlist = format!("p-{kind}.m3u8");
        assert!(shown.has(&playlist, "#EXT-X-MEDIA-SEQUENCE:7"));
        assert!(shown.has(&playlist, &format!("{kind}_p_011.m4s")));
        assert!(shown.has(&playlist, &format!("{kind}_p_007.m4s")));
        assert!(!shown.has(&playlist, &format!("{kind}_p_006.m4s")));
        assert!(shown.files.contains_key(&format!("{kind}_p_004.m4s")), "grace");
        assert!(!shown.files.contains_key(&format!("{kind}_p_003.m4s")));
    }
    let segments = shown.files.keys().filter(|name| name.ends_with(".m4s") && !name.contains("_p_p")).count();
    assert_eq!(segments, 2 * 8, "nothing else: {:?}", shown.files.keys());
}

#[test]
fn a_segment_is_its_parts_one_behind_the_other() {
    let mut shown = Shown::new();
    shown.push(10);
    for kind in ["video", "audio"] {
        let parts = (0..10).map(|number| &shown.files[&format!("{kind}_p_p{number}.m4s")]);
        let joined: Vec<u8> = parts.flat_map(|body| body.to_vec()).collect();
        assert_eq!(joined, shown.files[&format!("{kind}_p_000.m4s")]);
    }
}

#[test]
fn sound_that_comes_late_was_silence_before() {
    let mut shown = Shown::new();
    shown.look.audio = false;
    (0..7).for_each(|_| shown.push(10));
    (shown.look.audio, shown.look.discontinuity) = (true, true);
    shown.open();
    shown.parts();
    let lines = |name: &str, beginning: &str| -> Vec<String> {
        shown.full(name).lines().filter(|line| line.starts_with(beginning)).map(str::to_owned).collect()
    };
    for tag in
        ["#EXT-X-MEDIA-SEQUENCE", "#EXT-X-DISCONTINUITY-SEQUENCE", "#EXTINF", "#EXT-X-PROGRAM-DATE-TIME"]
    {
        let both = [lines("p-audio.m3u8", tag), lines("p-video.m3u8", tag)];
        assert!(both[0].len() == both[1].len() && !both[0].is_empty(), "{tag}: {both:?}");
    }
    let seconds = |name| -> f64 {
        let durations = lines(name, "#EXTINF:").into_iter();
        durations.filter_map(|line| line.split([':', ',']).nth(1)?.parse::<f64>().ok()).sum()
    };
    assert!((seconds("p-audio.m3u8") - seconds("p-video.m3u8")).abs() < 0.022, "a frame at most");
    let position = shown.listings["p-audio.m3u8"].position;
    assert_eq!(position, Position { complete: Some((6, 1)), open: Some((7, 1)) });
    assert_eq!(count(shown.full("p-audio.m3u8"), "#EXT-X-MAP"), 1);
    assert_eq!(count(shown.full("p-audio.m3u8"), "#EXT-X-PART:"), 1);
}

#[test]
fn the_newest_segments_have_parts_and_old_parts_stay_for_a_grace() {
    let mut shown = Shown::with_window(Window { listed: 12, ..WINDOW });
    (0..12).for_each(|_| shown.push(10));
    shown.open();
    shown.parts();
    assert_eq!(count(shown.full("p-video.m3u8"), "#EXT-X-PART:"), 2 * 10 + 1);
    let parts = shown.files.keys().filter(|name| name.starts_with("video_p_p")).count();
    assert_eq!(parts, 5 * 10 + 1, "are there");
}

#[test]
fn the_next_part_is_announced_by_its_name_even_if_it_opens_a_segment() {
    let mut shown = Shown::new();
    let hinted = |shown: &Shown| shown.listings["p-video.m3u8"].hint.clone().unwrap();
    for _ in 0..3 {
        shown.open();
        for _ in 0..10 {
            let hint = shown.listings.get("p-video.m3u8").and_then(|listing| listing.hint.clone());
            shown.parts();
            assert!(hint.is_none_or(|hint| shown.files.contains_key(&hint)));
            let line = format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{}\"", hinted(&shown));
            assert!(shown.has("p-video.m3u8", &line));
        }
        shown.close();
    }
    shown.presentation.end();
    shown.update();
    assert!(shown.listings["p-video.m3u8"].hint.is_none());
    assert_eq!(count(shown.full("p-video.m3u8"), "#EXT-X-PRELOAD-HINT"), 0);
}

#[test]
fn positions_and_reports_tell_where_the_renditions_end() {
    let mut shown = Shown::new();
    shown.push(10);
    let video = &shown.listings["p-video.m3u8"];
    assert_eq!(video.position, Position { complete: Some((0, 10)), open: None });
    shown.open();
    (0..3).for_each(|_| shown.parts());
    let video = &shown.listings["p-video.m3u8"];
    assert_eq!(video.position, Position { complete: Some((0, 10)), open: Some((1, 3)) });
    let report = "#EXT-X-RENDITION-REPORT:URI=\"p-video.m3u8\",LAST-MSN=1,LAST-PART=2";
    assert!(shown.has("p-audio.m3u8", report), "{}", shown.full("p-audio.m3u8"));
}

#[test]
fn a_delta_update_leaves_out_what_is_far_behind() {
    let mut shown = Shown::with_window(Window { listed: 20, ..WINDOW });
    (0..9).for_each(|_| shown.push(10));
    let listing = &shown.listings["p-video.m3u8"];
    assert_eq!(listing.full, listing.delta, "17 s: nothing can be left out");
    (0..6).for_each(|_| shown.push(10));
    let listing = &shown.listings["p-video.m3u8"];
    // 18 s are nine segments of 1.92 s; the tenth reaches beyond.
    assert_eq!(count(text(&listing.full), "#EXTINF"), 15);
    assert_eq!(count(text(&listing.delta), "#EXTINF"), 9);
    assert!(text(&listing.delta).contains("#EXT-X-SKIP:SKIPPED-SEGMENTS=6\n#EXT-X-MAP:"));
    assert!(text(&listing.delta).contains("#EXT-X-MEDIA-SEQUENCE:0\n"));
}

#[test]
fn the_plain_playlist_lists_whole_segments_only() {
    let mut shown = Shown::new();
    shown.push(10);
    shown.open();
    shown.parts();
    let plain = text(&shown.listings["p-video.m3u8"].plain);
    assert!(plain.ends_with("video_p_000.m4s\n"), "{plain}");
    for tag in ["#EXT-X-PART", "#EXT-X-SERVER-CONTROL", "#EXT-X-PRELOAD-HINT", "#EXT-X-RENDITION-REPORT"] {
        assert_eq!(count(plain, tag), 0, "{tag}");
    }
}

#[test]
fn short_segments_never_make_a_playlist_shorter_than_three_target_durations() {
    let mut shown = Shown::new();
    (0..40).for_each(|_| shown.push(3));
    let listed = count(shown.full("p-video.m3u8"), "#EXTINF");
    assert_eq!(listed, 17, "9 s of 0.576 s each, and the newest");
    shown.pictures = 2;
    (0..200).for_each(|_| shown.push(1));
    let listed = count(shown.full("p-video.m3u8"), "#EXTINF");
    assert_eq!(listed, MAX_LISTED + 1, "but there is an end to it");
}

#[test]
fn discontinuities_are_counted_alike_in_both_playlists() {
    let mut shown = Shown::new();
    for number in 0..14 {
        shown.look.discontinuity = number == 3 || number == 11;
        shown.look.sizes = match number {
            0..3 => Vec::new(),
            3..11 => vec![(640, 360)],
            _ => vec![(1280, 720)],
        };
        shown.push(10);
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
        assert!(shown.has(playlist, "#EXT-X-MEDIA-SEQUENCE:8"));
        assert!(shown.has(playlist, "#EXT-X-DISCONTINUITY-SEQUENCE:1"), "{playlist}");
    }
    assert_eq!(count(shown.full("p-video.m3u8"), "#EXT-X-MAP"), 2);
    assert_eq!(count(shown.full("p-audio.m3u8"), "#EXT-X-MAP"), 1);
    // The old init segment goes with the last segment that needs it.
    shown.look.discontinuity = false;
    (0..10).for_each(|_| shown.push(10));
    assert!(!shown.files.contains_key("video_p_init_3.mp4"));
    assert!(shown.files.contains_key("video_p_init_11.mp4"));
}

#[test]
fn pictures_that_are_repeated_in_no_time_are_not_counted() {
    let mut shown = Shown::new();
    (shown.look.audio, shown.repeated) = (false, 87);
    shown.push(10);
    let master = text(&shown.files["p.m3u8"]);
    assert!(master.contains("FRAME-RATE=31."), "{master}");
}

#[test]
fn the_master_playlist_tells_what_is_there_and_never_half_of_it() {
    let mut shown = Shown::new();
    shown.look.sizes = vec![(640, 360), (320, 180)];
    shown.open();
    shown.update();
    assert!(!shown.files.contains_key("p.m3u8"), "nothing is there to be played");
    shown.parts();
    let master = text(&shown.files["p.m3u8"]);
    for size in ["RESOLUTION=640x360,FRAME-RATE=31.250", "RESOLUTION=320x180,FRAME-RATE=31.250"] {
        assert!(master.contains(&format!("CODECS=\"avc1.42c00d,mp4a.40.2\",{size}")), "{master}");
    }
    assert!(shown.has("p.m3u8", "p-video.m3u8") && shown.has("p.m3u8", "p-video-1.m3u8"));
    // 6 pictures of 5000 bytes and 9 frames of 300 bytes in 192 ms, and the boxes around them.
    let bandwidth = master.split("BANDWIDTH=").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    let bandwidth: u64 = bandwidth.parse().unwrap();
    assert!((1_362_500..1_400_000).contains(&bandwidth), "{bandwidth}");
    assert!(shown.presentation.listed_duration().is_zero(), "players want a complete segment");
    shown.close();
    assert_eq!(shown.presentation.listed_duration().as_millis(), 192);
    shown.presentation.end();
    shown.update();
    assert!(shown.has("p-video-1.m3u8", "#EXT-X-ENDLIST") && shown.has("p-audio.m3u8", "#EXT-X-ENDLIST"));
}

#[test]
fn a_rendition_that_is_gone_and_empty_is_not_offered_to_new_players() {
    let mut shown = Shown::new();
    shown.push(10);
    shown.presentation.set_gone(VIDEO, true);
    shown.look.filler = true;
    shown.push(10);
    assert!(shown.has("p.m3u8", "p-video.m3u8"), "something of it is still listed");
    (0..6).for_each(|_| shown.push(10));
    assert!(!shown.has("p.m3u8", "p-video.m3u8") && shown.has("p.m3u8", "p-audio.m3u8"));
    assert!(shown.has("p-video.m3u8", "video_p_007.m4s"), "who plays it plays on");
    shown.presentation.set_gone(VIDEO, false);
    shown.push(10);
    assert!(shown.has("p.m3u8", "p-video.m3u8"));
}

#[test]
fn times_are_told_by_the_recording_clock_without_a_jump() {
    let mut shown = Shown::new();
    // Segments begin 10 s behind the timeline's beginning and last 1.92 s.
    let told =
        |shown: &Shown, name: &str, time: &str| shown.has(name, &format!("#EXT-X-PROGRAM-DATE-TIME:{time}"));
    shown.presentation.set_recorded_epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(1));
    shown.push(10);
    shown.presentation.set_recorded_epoch(SystemTime::UNIX_EPOCH + Duration::from_millis(1025));
    (0..4).for_each(|_| shown.push(10));
    shown.presentation.set_recorded_epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(100));
    shown.push(10);
    for name in ["p-video.m3u8", "p-audio.m3u8"] {
        for time in ["11.000", "12.930", "14.860", "16.785", "18.705", "20.625"] {
            assert!(told(&shown, name, &format!("1970-01-01T00:00:{time}Z")), "{}", shown.full(name));
        }
    }
}

fn manifest(shown: &Shown) -> dash_mpd_core::MPD {
    dash_mpd_core::parse(text(&shown.files["p.mpd"])).unwrap()
}

/// The files that a manifest names, and each one's time in ticks, by representation.
fn named(representation: &dash_mpd_core::Representation) -> Vec<(String, u64)> {
    let template = representation.SegmentTemplate.as_ref().unwrap();
    let media = template.media.as_deref().unwrap();
    let mut number = template.startNumber.unwrap();
    let mut time = 0;
    let mut names = Vec::new();
    for listed in &template.SegmentTimeline.as_ref().unwrap().segments {
        time = listed.t.unwrap_or(time);
        for _ in 0..=listed.r.unwrap_or(0) {
            names.push((media.replace("$Number%03d$", &format!("{number:03}")), time));
            number += 1;
            time += listed.d;
        }
    }
    names
}

#[test]
fn the_manifest_names_the_complete_segments_of_the_window_with_their_times() {
    let mut shown = Shown::new();
    (0..12).for_each(|_| shown.push(10));
    shown.open();
    shown.parts();
    let manifest = manifest(&shown);
    assert_eq!(manifest.mpdtype.as_deref(), Some("dynamic"));
    let [period] = &manifest.periods[..] else { panic!("{} periods", manifest.periods.len()) };
    assert_eq!(period.start, Some(Duration::from_secs(10)), "where the first segment was, though it is gone");
    let rates = [(VIDEO_TIMESCALE, "video"), (48_000, "audio")];
    for (set, (rate, kind)) in period.adaptations.iter().zip(rates) {
        assert_eq!(set.contentType.as_deref(), Some(kind));
        let [representation] = &set.representations[..] else { panic!("one representation") };
        let template = representation.SegmentTemplate.as_ref().unwrap();
        assert_eq!(template.presentationTimeOffset, Some(u64::from(rate) * 10));
        assert!(shown.files.contains_key(template.initialization.as_deref().unwrap()));
        let named = named(representation);
        let first = u64::from(rate) * 10 + 6 * u64::from(rate) * 192 / 100;
        assert_eq!(named.first(), Some(&(format!("{kind}_p_006.m4s"), first)));
        assert_eq!(named.last().map(|(name, _)| name.as_str()), Some(&*format!("{kind}_p_011.m4s")));
        assert_eq!(named.len(), 6);
    }
}

#[test]
fn a_discontinuity_begins_a_period_and_the_end_is_told() {
    let mut shown = Shown::new();
    shown.push(10);
    shown.look.discontinuity = true;
    shown.look.sizes = vec![(1280, 720), (640, 360)];
    shown.push(10);
    shown.look.discontinuity = false;
    shown.push(10);
    let before = manifest(&shown);
    assert!(before.minimumUpdatePeriod.is_some() && before.mediaPresentationDuration.is_none());
    let starts: Vec<u128> = before.periods.iter().map(|period| period.start.unwrap().as_millis()).collect();
    assert_eq!(starts, [10_000, 11_920]);
    let of_second = &before.periods[1].adaptations[0].representations;
    let sizes: Vec<_> = of_second.iter().map(|one| (one.width, one.height)).collect();
    assert_eq!(sizes, [(Some(1280), Some(720)), (Some(640), Some(360))]);
    assert_eq!(named(&of_second[1]).len(), 2);
    for representation in of_second {
        named(representation).iter().for_each(|(name, _)| assert!(shown.files.contains_key(name), "{name}"));
    }
    shown.presentation.end();
    shown.update();
    let after = manifest(&shown);
    assert!(after.minimumUpdatePeriod.is_none());
    assert_eq!(after.mediaPresentationDuration.map(|end| end.as_millis()), Some(10_000 + 3 * 1920));
}
