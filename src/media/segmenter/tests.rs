//! A publisher in simulated time, and what must hold for everything that it is cut into.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::media::fmp4::tests::{audio_config, video_config};
use crate::media::fmp4::{AAC_FRAME_SAMPLES, VIDEO_TIMESCALE};

const BEGIN: u64 = 10_000;
const FRAME_MS: u64 = 33;

fn at(ms: u64) -> MediaTime {
    MediaTime::from_nanos((BEGIN + ms) * 1_000_000)
}

fn ms(moment: MediaTime) -> u64 {
    moment.nanos() / 1_000_000 - BEGIN
}

/// A publisher that sends what its switches say, and the segments that come out.
struct Publisher {
    segmenter: Segmenter,
    now: u64,
    audio: bool,
    video: bool,
    /// How long it takes to answer a key frame request; `None` for never.
    answers_after: Option<u64>,
    size: (u32, u32),
    key_due: Option<u64>,
    sent_size: Option<(u32, u32)>,
    audio_frames: u64,
    segments: Vec<Segment>,
    requests: Vec<(u64, KeyFrameRequest)>,
}

impl Publisher {
    fn new(audio: bool, video: bool) -> Self {
        let mut segmenter = Segmenter::new(0);
        let state = |on| if on { TrackState::Active } else { TrackState::Absent };
        segmenter.set_audio(state(audio));
        segmenter.set_video(state(video));
        Self {
            segmenter,
            now: 0,
            audio,
            video,
            answers_after: Some(80),
            size: (640, 360),
            key_due: Some(0),
            sent_size: None,
            audio_frames: 0,
            segments: Vec::new(),
            requests: Vec::new(),
        }
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.tick();
            self.now += 1;
        }
    }

    fn tick(&mut self) {
        if self.video && self.now.is_multiple_of(FRAME_MS) {
            let resized = self.sent_size != Some(self.size);
            let key = resized || self.key_due.take_if(|due| *due <= self.now).is_some();
            self.sent_size = Some(self.size);
            self.push_video(self.now, key);
        }
        // One frame of 21 1/3 ms behind the other.
        while self.audio_frames * 64 / 3 <= self.now {
            if self.audio {
                self.push_audio(MediaTime::from_ticks(
                    BEGIN * 48 + self.audio_frames * u64::from(AAC_FRAME_SAMPLES),
                    48_000,
                ));
            }
            self.audio_frames += 1;
        }
        self.poll();
    }

    fn push_video(&mut self, pts: u64, key: bool) {
        let (width, height) = self.size;
        let unit = VideoUnit {
            pts: at(pts),
            key,
            data: Bytes::from_static(b"picture"),
            config: Arc::new(video_config(width, height)),
        };
        self.segmenter.push_video(unit, at(self.now));
    }

    fn push_audio(&mut self, pts: MediaTime) {
        let unit = AudioUnit { pts, data: Bytes::from_static(b"sound"), config: Arc::new(audio_config()) };
        self.segmenter.push_audio(unit, at(self.now));
    }

    fn poll(&mut self) {
        while let Some(output) = self.segmenter.poll(at(self.now)) {
            match output {
                Output::Segment(segment) => self.segments.push(*segment),
                Output::KeyFrame(request) => {
                    self.requests.push((self.now, request));
                    if let Some(delay) = self.answers_after {
                        self.key_due.get_or_insert(self.now + delay);
                    }
                }
            }
        }
    }

    fn finish(mut self) -> Vec<Segment> {
        while let Some(segment) = self.segmenter.finish(at(self.now)) {
            self.segments.push(segment);
        }
        check(&self.segments);
        self.segments
    }
}

/// What holds for all segments of a peer, whatever happened to it.
fn check(segments: &[Segment]) {
    let limit = Duration::from_secs(TARGET_DURATION_SECS);
    for (index, segment) in segments.iter().enumerate() {
        let length = segment.end.since(segment.start);
        assert!(length <= MAX_SEGMENT && length >= MIN_SEGMENT, "segment {index} lasts {length:?}");
        assert!(segment.video.is_some() || segment.audio.is_some(), "segment {index} is empty");
        if let Some(video) = &segment.video {
            let ticks: u64 = video.samples.iter().map(|sample| u64::from(sample.duration)).sum();
            assert_eq!(video.base, segment.start.ticks(VIDEO_TIMESCALE), "segment {index}");
            assert_eq!(video.base + ticks, segment.end.ticks(VIDEO_TIMESCALE), "segment {index}");
            assert_eq!(video.independent, video.samples[0].sync, "segment {index}");
        }
        if let Some(audio) = &segment.audio {
            let samples = audio.frames.len() as u64 * u64::from(AAC_FRAME_SAMPLES);
            assert!(MediaTime::from_ticks(samples, 48_000).since(MediaTime::default()) <= limit);
            let start = segment.start.ticks(48_000);
            assert!((start..=start + 1024).contains(&audio.base), "segment {index}: {} {start}", audio.base);
        }
        let Some(previous) = index.checked_sub(1).map(|previous| &segments[previous]) else { continue };
        assert_eq!(segment.sequence, previous.sequence + 1);
        assert_eq!(segment.start, previous.end, "segment {index}");
        assert!(segment.video.is_some() || previous.video.is_none(), "video ends with segment {index}");
        assert!(segment.audio.is_some() || previous.audio.is_none(), "audio ends with segment {index}");
        if let (Some(before), Some(audio)) = (&previous.audio, &segment.audio) {
            assert_eq!(before.base + before.frames.len() as u64 * 1024, audio.base, "segment {index}");
        }
        let configs = (
            previous.video.as_ref().map(|video| &video.config) != segment.video.as_ref().map(|v| &v.config),
            previous.audio.as_ref().map(|audio| &audio.config) != segment.audio.as_ref().map(|a| &a.config),
        );
        assert!(segment.discontinuity || configs == (false, false), "segment {index} changes without a mark");
    }
}

fn lengths(segments: &[Segment]) -> Vec<u64> {
    segments.iter().map(|segment| ms(segment.end) - ms(segment.start)).collect()
}

fn discontinuities(segments: &[Segment]) -> Vec<usize> {
    (0..segments.len()).filter(|index| segments[*index].discontinuity).collect()
}

#[test]
fn segments_of_two_seconds_begin_on_requested_key_frames() {
    let mut publisher = Publisher::new(true, true);
    publisher.run(10_000);
    let requests = publisher.requests.clone();
    let segments = publisher.finish();
    assert_eq!(lengths(&segments)[..4], [1947, 1947, 1947, 1947]);
    assert!(segments.iter().all(|segment| segment.video.as_ref().unwrap().independent));
    assert!(segments.iter().all(|segment| !segment.audio.as_ref().unwrap().filler));
    assert!(discontinuities(&segments).is_empty());
    assert_eq!(requests[0], (1850, KeyFrameRequest::Due(at(2000))), "{requests:?}");
    assert_eq!(requests.len(), 5, "one for each segment: {requests:?}");
}

#[test]
fn a_publisher_without_key_frames_is_cut_below_the_target_duration() {
    let mut publisher = Publisher::new(true, true);
    publisher.answers_after = None;
    publisher.run(12_000);
    assert!(publisher.requests.len() > 5, "asks again: {:?}", publisher.requests);
    let segments = publisher.finish();
    assert_eq!(lengths(&segments)[..3], [2937, 2937, 2937]);
    let independent: Vec<_> =
        segments.iter().map(|segment| segment.video.as_ref().unwrap().independent).collect();
    assert_eq!(independent[..3], [true, false, false]);
}

#[test]
fn a_new_resolution_is_a_new_segment_and_a_discontinuity_of_both() {
    let mut publisher = Publisher::new(true, true);
    publisher.run(5000);
    publisher.size = (1280, 720);
    publisher.run(5000);
    let segments = publisher.finish();
    let marked = discontinuities(&segments);
    assert_eq!(marked.len(), 1);
    let changed = &segments[marked[0]];
    assert_eq!(changed.video.as_ref().unwrap().config.size(), (1280, 720));
    assert!((5000..5040).contains(&ms(changed.start)), "at once: {}", ms(changed.start));
}

#[test]
fn a_resolution_that_changes_twice_in_a_moment_leaves_no_tiny_segment() {
    let mut publisher = Publisher::new(true, true);
    publisher.run(5000);
    publisher.size = (800, 600);
    publisher.run(40);
    publisher.size = (1280, 720);
    publisher.run(5000);
    let segments = publisher.finish();
    assert_eq!(discontinuities(&segments).len(), 1);
    assert_eq!(segments.last().unwrap().video.as_ref().unwrap().config.size(), (1280, 720));
}

#[test]
fn one_kind_of_media_is_enough() {
    let mut publisher = Publisher::new(true, false);
    publisher.run(7000);
    let segments = publisher.finish();
    assert_eq!(lengths(&segments)[..3], [2000, 2000, 2000]);
    assert!(segments.iter().all(|segment| segment.video.is_none()));

    let mut publisher = Publisher::new(false, true);
    publisher.run(7000);
    let segments = publisher.finish();
    assert_eq!(lengths(&segments)[..3], [1947, 1947, 1947]);
    assert!(segments.iter().all(|segment| segment.audio.is_none()));
}

#[test]
fn video_that_comes_within_the_first_segment_is_there_from_the_first() {
    let mut publisher = Publisher::new(true, false);
    publisher.run(700);
    publisher.segmenter.set_video(TrackState::Active);
    publisher.video = true;
    publisher.run(5000);
    let segments = publisher.finish();
    assert!(discontinuities(&segments).is_empty());
    assert!(segments[0].video.is_some() && segments[0].audio.is_some());
    assert!((700..740).contains(&ms(segments[0].start)));
}

#[test]
fn late_tracks_join_in_step_behind_a_discontinuity() {
    for late_video in [true, false] {
        let mut publisher = Publisher::new(late_video, !late_video);
        publisher.run(9000);
        publisher.segmenter.set_video(TrackState::Active);
        publisher.segmenter.set_audio(TrackState::Active);
        (publisher.video, publisher.audio) = (true, true);
        publisher.run(9000);
        let segments = publisher.finish();
        let both =
            segments.iter().position(|segment| segment.video.is_some() && segment.audio.is_some()).unwrap();
        assert_eq!(discontinuities(&segments), [both]);
        assert!((9000..11_100).contains(&ms(segments[both].start)));
    }
}

#[test]
fn a_track_that_is_announced_but_brings_nothing_holds_the_start_only_so_long() {
    let mut publisher = Publisher::new(true, false);
    publisher.segmenter.set_video(TrackState::Active);
    publisher.run(4900);
    assert!(publisher.segmenter.open.is_none());
    publisher.run(5000);
    let segments = publisher.finish();
    assert!(segments.len() >= 2 && segments[0].video.is_none());
}

#[test]
fn paused_video_goes_on_with_its_last_key_frame() {
    let mut publisher = Publisher::new(true, true);
    publisher.run(6500);
    publisher.video = false;
    publisher.segmenter.set_video(TrackState::Paused);
    publisher.run(10_000);
    let asked = publisher.requests.len();
    publisher.segmenter.set_video(TrackState::Active);
    publisher.video = true;
    publisher.run(6000);
    assert_eq!(publisher.requests[asked].1, KeyFrameRequest::Missing, "asks at once");
    let segments = publisher.finish();
    let fillers = segments.iter().filter(|segment| segment.video.as_ref().unwrap().filler).count();
    assert!((4..=5).contains(&fillers), "{fillers}");
    assert!(segments.iter().all(|segment| segment.video.as_ref().unwrap().independent));
    assert!(discontinuities(&segments).is_empty());
}

#[test]
fn video_that_stalls_without_a_word_is_filled_too() {
    let mut publisher = Publisher::new(true, true);
    publisher.run(6500);
    publisher.video = false;
    publisher.run(10_000);
    publisher.video = true;
    publisher.run(6000);
    let segments = publisher.finish();
    assert!(segments.iter().any(|segment| segment.video.as_ref().unwrap().filler));
    assert!(!segments.last().unwrap().video.as_ref().unwrap().filler);
}

#[test]
fn muted_audio_is_silence() {
    let mut publisher = Publisher::new(true, true);
    publisher.run(5000);
    publisher.audio = false;
    publisher.run(400); // Opus DTX
    publisher.audio = true;
    publisher.run(3000);
    publisher.audio = false;
    publisher.run(10_000);
    publisher.audio = true;
    publisher.run(4000);
    let segments = publisher.finish();
    assert!(discontinuities(&segments).is_empty());
    let fillers = segments.iter().filter(|segment| segment.audio.as_ref().unwrap().filler).count();
    assert!((3..=5).contains(&fillers), "{fillers}");
    let silence = audio_config().silence();
    let audio = segments.iter().filter_map(|segment| segment.audio.as_ref());
    let silent = audio.flat_map(|audio| &audio.frames).filter(|frame| **frame == silence).count() as u64;
    assert!((10_400 * 3 / 64 - 4..=10_400 * 3 / 64 + 4).contains(&silent), "{silent}");
}

#[test]
fn a_peer_whose_tracks_are_all_silent_goes_on() {
    let mut publisher = Publisher::new(true, true);
    publisher.run(5000);
    (publisher.audio, publisher.video) = (false, false);
    publisher.segmenter.set_audio(TrackState::Absent);
    publisher.segmenter.set_video(TrackState::Absent);
    publisher.run(10_000);
    let segments = publisher.finish();
    assert!(segments.len() >= 6, "{}", segments.len());
}

#[test]
fn damaged_pictures_wait_for_a_key_frame() {
    let mut publisher = Publisher::new(true, true);
    publisher.run(2500);
    publisher.segmenter.video_damaged(at(2500), at(2500));
    publisher.run(3000);
    assert!(publisher.requests.iter().any(|(when, why)| *when == 2500 && *why == KeyFrameRequest::Missing));
    let segments = publisher.finish();
    let pictures = segments.iter().flat_map(|segment| &segment.video.as_ref().unwrap().samples);
    let longest = pictures.map(|sample| sample.duration).max().unwrap();
    assert!((3 * 90..150 * 90).contains(&longest), "frozen for {} ms", longest / 90);

    // A publisher that sends no key frame is shown damaged after a while.
    let mut publisher = Publisher::new(true, true);
    publisher.answers_after = None;
    publisher.run(2500);
    publisher.segmenter.video_damaged(at(2500), at(2500));
    publisher.run(4000);
    let segments = publisher.finish();
    assert!(segments.last().unwrap().video.as_ref().unwrap().samples.len() > 10);
}

#[test]
fn b_frames_are_decoded_in_their_order_and_shown_in_theirs() {
    let mut publisher = Publisher::new(false, true);
    publisher.video = false;
    for group in 0..40u64 {
        publisher.now = group * 132;
        for (index, slot) in [0u64, 3, 1, 2].iter().enumerate() {
            publisher.push_video(publisher.now + slot * 33, index == 0 && group.is_multiple_of(15));
        }
        publisher.poll();
    }
    let segments = publisher.finish();
    let first = segments[0].video.as_ref().unwrap();
    let shown: Vec<i32> = first.samples[..4].iter().map(|sample| sample.composition / 90).collect();
    assert_eq!(shown, [0, 66, -33, -33]);
}

#[test]
fn another_source_is_a_discontinuity() {
    let mut publisher = Publisher::new(true, true);
    publisher.run(5000);
    publisher.segmenter.video_restarted();
    publisher.run(5000);
    publisher.segmenter.audio_restarted();
    publisher.run(5000);
    let segments = publisher.finish();
    assert_eq!(discontinuities(&segments).len(), 2);
}

#[test]
fn the_end_closes_what_is_there() {
    let mut publisher = Publisher::new(true, true);
    publisher.run(3000);
    let segments = publisher.finish();
    assert_eq!(segments.len(), 2);
    assert!((2990..3040).contains(&ms(segments[1].end)), "{}", ms(segments[1].end));
}

#[test]
fn whatever_a_publisher_does_the_renditions_stay_in_step() {
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut publisher = Publisher::new(random.random(), random.random());
        for _ in 0..40 {
            match random.random_range(0..10) {
                0 => {
                    publisher.video = random.random();
                    let state = if publisher.video { TrackState::Active } else { TrackState::Paused };
                    publisher.segmenter.set_video(state);
                }
                1 => {
                    publisher.audio = random.random();
                    let state = if publisher.audio { TrackState::Active } else { TrackState::Absent };
                    publisher.segmenter.set_audio(state);
                }
                2 => publisher.size = (640 + 2 * random.random_range(0..4), 360),
                3 => publisher.answers_after = random.random_bool(0.7).then_some(random.random_range(0..900)),
                4 => publisher.segmenter.video_damaged(at(publisher.now), at(publisher.now + 100)),
                5 => publisher.segmenter.video_restarted(),
                6 => publisher.segmenter.audio_restarted(),
                7 => publisher.video = random.random(),
                8 => publisher.audio = random.random(),
                _ => publisher.push_audio(at(publisher.now.saturating_sub(random.random_range(0..5000)))),
            }
            publisher.run(random.random_range(0..4000));
        }
        publisher.finish();
    }
}

#[test]
fn times_that_go_back_and_sizes_that_change_leave_the_renditions_whole() {
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut publisher = Publisher::new(true, true);
        publisher.run(3000);
        // Pictures come from here only.
        publisher.video = false;
        for _ in 0..400 {
            publisher.run(FRAME_MS);
            let key = random.random_bool(0.1);
            if key {
                publisher.size = (320 + 16 * random.random_range(0..4), 240);
            }
            let pts = (publisher.now + random.random_range(0..600)).saturating_sub(500);
            publisher.push_video(pts, key);
        }
        publisher.finish();
    }
}
