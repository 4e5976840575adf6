//! The audio that waits to be cut: frames without a hole between them, however they came.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::delay::Delay;
use super::{AUDIO_PATIENCE, AudioUnit, MAX_AUDIO_FRAMES, Part, Rendition, STALL, TrackState};
use crate::media::fmp4::{AAC_FRAME_SAMPLES, AudioConfig, Sample};
use crate::media::timeline::MediaTime;

const FRAME: u64 = AAC_FRAME_SAMPLES as u64;
/// A frame that overlaps what is there by so many samples is dropped; less is the encoder's rounding.
const OVERLAP: i64 = 768;

#[derive(Debug, Clone)]
struct Frame {
    data: Bytes,
    silent: bool,
}

#[derive(Debug)]
pub(super) struct AudioQueue {
    pub(super) state: TrackState,
    config: Option<Arc<AudioConfig>>,
    /// Takes over at the next boundary.
    next_config: Option<Arc<AudioConfig>>,
    /// Takes over at a boundary that is decided, or did so already.
    decided: Option<Arc<AudioConfig>>,
    /// The position of the first frame, in samples.
    first: u64,
    frames: VecDeque<Frame>,
    last_arrival: Option<MediaTime>,
    delay: Delay,
}

impl Default for AudioQueue {
    fn default() -> Self {
        Self {
            state: TrackState::Absent,
            config: None,
            next_config: None,
            decided: None,
            first: 0,
            frames: VecDeque::new(),
            last_arrival: None,
            delay: Delay::default(),
        }
    }
}

impl AudioQueue {
    /// Whether it ever brought anything.
    pub(super) fn started(&self) -> bool {
        self.config.is_some()
    }

    /// Whether something is to be expected from it.
    pub(super) fn flows(&self, now: MediaTime) -> bool {
        self.state == TrackState::Active && self.last_arrival.is_some_and(|last| now < last + STALL)
    }

    fn rate(&self) -> u32 {
        self.config.as_ref().map_or(1, |config| config.sample_rate())
    }

    /// The position right behind the last frame.
    fn end(&self) -> u64 {
        self.first.saturating_add((self.frames.len() as u64).saturating_mul(FRAME))
    }

    pub(super) fn first_moment(&self) -> Option<MediaTime> {
        self.config.as_ref().map(|config| MediaTime::from_ticks(self.first, config.sample_rate()))
    }

    pub(super) fn end_moment(&self) -> Option<MediaTime> {
        self.config.as_ref().map(|config| MediaTime::from_ticks(self.end(), config.sample_rate()))
    }

    /// Whether the frames reach as far as `at`, or are not waited for any longer.
    pub(super) fn reached(&self, at: MediaTime, now: MediaTime) -> bool {
        self.end() >= at.ticks(self.rate())
            || !self.flows(now)
            || now >= at + self.delay.usual() + AUDIO_PATIENCE
    }

    pub(super) fn push(&mut self, unit: &AudioUnit, now: MediaTime) {
        self.last_arrival = Some(now);
        self.delay.note(unit.pts, now);
        let config = self.config.get_or_insert_with(|| unit.config.clone());
        if *config != unit.config {
            let decided = self.decided.as_ref() == Some(&unit.config);
            self.next_config = (!decided).then(|| unit.config.clone());
            return;
        }
        let position = unit.pts.ticks(config.sample_rate());
        if self.frames.is_empty() && self.first == 0 {
            self.first = position;
        }
        let ahead = position.cast_signed().saturating_sub(self.end().cast_signed());
        if ahead <= -OVERLAP {
            return;
        }
        let missing = u64::try_from(ahead).unwrap_or(0).saturating_add(FRAME / 2) / FRAME;
        self.append_silence(missing);
        if self.frames.len() < MAX_AUDIO_FRAMES {
            self.frames.push_back(Frame { data: unit.data.clone(), silent: false });
        }
    }

    fn append_silence(&mut self, count: u64) {
        let room = MAX_AUDIO_FRAMES.saturating_sub(self.frames.len());
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(room);
        if let Some(config) = &self.config {
            let silence = Frame { data: config.silence(), silent: true };
            self.frames.extend(std::iter::repeat_n(silence, count));
        }
    }

    /// Lets the rendition begin at `start`: what is before is dropped, and what is missing is silence.
    pub(super) fn begin(&mut self, start: MediaTime) {
        let Some(config) = &self.config else { return };
        let start = start.ticks(config.sample_rate());
        while self.first < start && self.frames.pop_front().is_some() {
            self.first = self.first.saturating_add(FRAME);
        }
        if self.frames.is_empty() {
            self.first = start;
            return;
        }
        let silence = Frame { data: config.silence(), silent: true };
        while self.first >= start.saturating_add(FRAME) && self.frames.len() < MAX_AUDIO_FRAMES {
            self.frames.push_front(silence.clone());
            self.first -= FRAME;
        }
    }

    /// Takes the frames that begin before `at`, with silence for those that never came.
    pub(super) fn take(&mut self, at: MediaTime, sequence: u64) -> Option<Part> {
        let rate = self.config.as_ref()?.sample_rate();
        let end = at.ticks(rate);
        let count = end.saturating_sub(self.first).div_ceil(FRAME);
        self.append_silence(count.saturating_sub(self.frames.len() as u64));
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.frames.len());
        let base = self.first;
        let filler = self.frames.iter().take(count).all(|frame| frame.silent);
        let sample =
            |Frame { data, .. }| Sample { data, duration: AAC_FRAME_SAMPLES, composition: 0, sync: true };
        let samples: Vec<Sample> = self.frames.drain(..count).map(sample).collect();
        self.first = self.first.saturating_add((samples.len() as u64).saturating_mul(FRAME));
        let rendition = Rendition::Audio;
        (!samples.is_empty()).then_some(Part {
            sequence,
            rendition,
            rate,
            base,
            samples,
            independent: true,
            filler,
        })
    }

    /// The configuration of what comes next.
    pub(super) fn config(&self) -> Option<Arc<AudioConfig>> {
        self.config.clone()
    }

    /// A configuration that came since the last boundary and has to take over.
    pub(super) fn take_next_config(&mut self) -> Option<Arc<AudioConfig>> {
        let next = self.next_config.take()?;
        self.decided = Some(Arc::clone(&next));
        Some(next)
    }

    /// Changes to another configuration.
    pub(super) fn switch_to(&mut self, next: Arc<AudioConfig>) {
        let Some(config) = &self.config else { return };
        let moment = MediaTime::from_ticks(self.end(), config.sample_rate());
        self.frames.clear();
        self.first = moment.ticks(next.sample_rate());
        self.config = Some(next);
    }
}
