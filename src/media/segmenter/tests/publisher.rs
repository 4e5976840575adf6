//! A publisher in simulated time, and what must hold for everything that it is cut into.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::media::fmp4::tests::{audio_config, video_config};
use crate::media::fmp4::{AAC_FRAME_SAMPLES, VIDEO_TIMESCALE};
use crate::media::segmenter::{
    AudioUnit, KeyFrameRequest, MAX_SEGMENT, Opening, Output, PART_STEP, Part, Rendition, Segmenter,
    TARGET_DURATION_SECS, TrackState, VideoId, VideoUnit,
};
use crate::media::timeline::MediaTime;

const BEGIN: u64 = 10_000;
pub(super) const FRAME_MS: u64 = 33;
const PART: Duration = Duration::from_millis(200);

pub(super) fn at(ms: u64) -> MediaTime {
    MediaTime::from_nanos((BEGIN + ms) * 1_000_000)
}

pub(super) fn ms(moment: MediaTime) -> u64 {
    moment.nanos() / 1_000_000 - BEGIN
}

/// One rendition's share of a segment.
#[derive(Debug, Default)]
pub(super) struct Track {
    pub(super) parts: Vec<Part>,
    closed: bool,
}

impl Track {
    pub(super) fn independent(&self) -> bool {
        self.parts[0].independent
    }

    pub(super) fn filler(&self) -> bool {
        self.parts.iter().all(|part| part.filler)
    }

    fn base(&self) -> u64 {
        self.parts[0].base
    }

    fn end(&self) -> u64 {
        self.base() + self.parts.iter().map(length).sum::<u64>()
    }
}

fn length(part: &Part) -> u64 {
    part.samples.iter().map(|sample| u64::from(sample.duration)).sum()
}

/// A segment as it was given out.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) opening: Opening,
    pub(super) tracks: BTreeMap<Rendition, Track>,
}

impl Segment {
    pub(super) fn video(&self) -> &Track {
        &self.tracks[&Rendition::Video(VideoId::BEST)]
    }

    pub(super) fn audio(&self) -> &Track {
        &self.tracks[&Rendition::Audio]
    }

    pub(super) fn end(&self) -> MediaTime {
        let track = self.tracks.values().next().unwrap();
        MediaTime::from_ticks(track.end(), track.parts[0].rate)
    }

    /// When each picture that is no filler is shown, in decode order.
    pub(super) fn shown(&self) -> Vec<u64> {
        let mut shown = Vec::new();
        for part in self.video().parts.iter().filter(|part| !part.filler) {
            let mut decoded = part.base;
            for sample in &part.samples {
                let pts = decoded.cast_signed() + i64::from(sample.composition) + 1;
                shown.push(ms(MediaTime::from_ticks(pts.cast_unsigned(), VIDEO_TIMESCALE)));
                decoded += u64::from(sample.duration);
            }
        }
        shown
    }
}

/// A publisher that sends what its switches say, and what comes out.
pub(super) struct Publisher {
    pub(super) segmenter: Segmenter,
    pub(super) now: u64,
    pub(super) audio: bool,
    pub(super) video: bool,
    /// How long it takes to answer a key frame request; `None` for never.
    pub(super) answers_after: Option<u64>,
    /// How much later than its time sound comes.
    pub(super) audio_delay: u64,
    pub(super) size: (u32, u32),
    /// What each picture consists of.
    pub(super) picture: Bytes,
    pub(super) key_due: Option<u64>,
    sent_size: Option<(u32, u32)>,
    audio_frames: u64,
    /// Whether there is a smaller rendition, whose pictures come 5 ms behind those of the other.
    pub(super) second: bool,
    segments: Vec<Segment>,
    /// Every part, and when it came.
    pub(super) parts: Vec<(u64, Part)>,
    pub(super) requests: Vec<(u64, KeyFrameRequest)>,
}

impl Publisher {
    pub(super) fn new(audio: bool, video: bool) -> Self {
        let mut segmenter = Segmenter::new(0, PART);
        let state = |on| if on { TrackState::Active } else { TrackState::Absent };
        segmenter.set_audio(state(audio));
        segmenter.set_video(VideoId::BEST, state(video));
        Self {
            segmenter,
            now: 0,
            audio,
            video,
            answers_after: Some(80),
            audio_delay: 0,
            size: (640, 360),
            picture: Bytes::from_static(b"picture"),
            key_due: Some(0),
            sent_size: None,
            audio_frames: 0,
            second: false,
            segments: Vec::new(),
            parts: Vec::new(),
            requests: Vec::new(),
        }
    }

    pub(super) fn part(&self) -> Duration {
        super::part_length(PART)
    }

    pub(super) fn run(&mut self, ms: u64) {
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
            if self.second {
                self.push_rendition(VideoId::new(1).unwrap(), self.now + 5, key);
            }
        }
        // One frame of 21 1/3 ms behind the other.
        while self.audio_frames * 64 / 3 + self.audio_delay <= self.now {
            if self.audio {
                let position = BEGIN * 48 + self.audio_frames * u64::from(AAC_FRAME_SAMPLES);
                self.push_audio(MediaTime::from_ticks(position, 48_000));
            }
            self.audio_frames += 1;
        }
        self.poll();
    }

    pub(super) fn push_video(&mut self, pts: u64, key: bool) {
        self.push_rendition(VideoId::BEST, pts, key);
    }

    pub(super) fn push_rendition(&mut self, video: VideoId, pts: u64, key: bool) {
        let (width, height) = self.size;
        let unit = VideoUnit {
            pts: at(pts),
            key,
            data: self.picture.clone(),
            config: Arc::new(video_config(width, height)),
        };
        self.segmenter.push_video(video, unit, at(self.now));
    }

    pub(super) fn push_audio(&mut self, pts: MediaTime) {
        let unit = AudioUnit { pts, data: Bytes::from_static(b"sound"), config: Arc::new(audio_config()) };
        self.segmenter.push_audio(&unit, at(self.now));
    }

    pub(super) fn poll(&mut self) {
        while let Some(output) = self.segmenter.poll(at(self.now)) {
            self.take(output);
        }
    }

    fn take(&mut self, output: Output) {
        match output {
            Output::KeyFrame { video, request } => {
                if video == VideoId::BEST {
                    self.requests.push((self.now, request));
                }
                if let Some(delay) = self.answers_after {
                    self.key_due.get_or_insert(self.now + delay);
                }
            }
            Output::Opened(opening) => {
                self.segments.push(Segment { opening, tracks: BTreeMap::new() });
            }
            Output::Part(part) => {
                self.parts.push((self.now, part.clone()));
                let track = self.track(part.sequence, part.rendition);
                assert!(!track.closed, "a part behind the end of its segment");
                track.parts.push(part);
            }
            Output::Closed { sequence, rendition } => {
                assert!(!std::mem::replace(&mut self.track(sequence, rendition).closed, true));
            }
        }
    }

    fn track(&mut self, sequence: u64, rendition: Rendition) -> &mut Track {
        let segment = self.segments.iter_mut().find(|segment| segment.opening.sequence == sequence).unwrap();
        segment.tracks.entry(rendition).or_default()
    }

    /// The longest time in milliseconds between two parts that a player waits for.
    pub(super) fn longest_wait(&self, of: impl Fn(&Part) -> bool) -> u64 {
        let times: Vec<u64> = self.parts.iter().filter(|(_, part)| of(part)).map(|(when, _)| *when).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
    }

    pub(super) fn finish(mut self) -> Vec<Segment> {
        while let Some(output) = self.segmenter.finish(at(self.now)) {
            self.take(output);
        }
        check(&self.segments);
        self.segments
    }
}

/// What holds for all segments of a peer, whatever happened to it.
fn check(segments: &[Segment]) {
    for (index, segment) in segments.iter().enumerate() {
        let Opening { sequence, start, video, audio, .. } = &segment.opening;
        let announced: Vec<Rendition> = video
            .iter()
            .map(|(id, _)| Rendition::Video(*id))
            .chain(audio.iter().map(|_| Rendition::Audio))
            .collect();
        let there: Vec<Rendition> = segment.tracks.keys().copied().collect();
        assert_eq!(announced, there, "segment {index}");
        for (rendition, track) in &segment.tracks {
            check_track(index, *rendition, track, *start);
        }
        let Some(previous) = index.checked_sub(1).map(|previous| &segments[previous]) else { continue };
        assert_eq!(*sequence, previous.opening.sequence + 1);
        for (rendition, before) in &previous.tracks {
            let track = segment.tracks.get(rendition).expect("no rendition ends");
            assert_eq!(before.end(), track.base(), "segment {index} of {rendition:?}");
        }
        let same = previous.opening.video == *video && previous.opening.audio == *audio;
        assert!(segment.opening.discontinuity || same, "segment {index} changes without a mark");
    }
}

fn check_track(index: usize, rendition: Rendition, track: &Track, start: MediaTime) {
    assert!(track.closed, "segment {index} of {rendition:?} has no end");
    let rate = track.parts[0].rate;
    let start = start.ticks(rate);
    let lasts = MediaTime::from_ticks(track.end() - track.base(), rate).since(MediaTime::default());
    match rendition {
        Rendition::Audio => {
            assert!(
                (start..=start + 1024).contains(&track.base()),
                "segment {index}: {} {start}",
                track.base()
            );
            assert!(lasts <= Duration::from_secs(TARGET_DURATION_SECS));
        }
        Rendition::Video(_) => {
            assert_eq!(track.base(), start, "segment {index}");
            assert!(lasts <= MAX_SEGMENT && lasts >= PART_STEP / 2, "segment {index} lasts {lasts:?}");
        }
    }
    let mut next = track.base();
    for part in &track.parts {
        assert_eq!(part.base, next, "a hole in segment {index} of {rendition:?}");
        next += length(part);
        let lasts = MediaTime::from_ticks(length(part), rate).since(MediaTime::default());
        assert!(lasts <= super::part_length(PART), "a part of {lasts:?}");
        assert!(
            part.samples.iter().all(|sample| sample.duration > 0),
            "two pictures at once in segment {index}"
        );
        assert_eq!(part.independent, part.samples[0].sync, "segment {index}");
    }
}
