//! The video that waits to be cut: pictures in decode order, starting with one that can be decoded.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::{MAX_VIDEO_BYTES, REPAIR_PATIENCE, Sample, TrackState, VIDEO_STALL, VideoSegment, VideoUnit};
use crate::media::fmp4::{VIDEO_TIMESCALE, VideoConfig};
use crate::media::timeline::MediaTime;

/// How long a picture is assumed to last when none follows it.
const LAST_FRAME: Duration = Duration::from_millis(33);

#[derive(Debug)]
pub(super) struct Queued {
    pub(super) unit: VideoUnit,
    /// It comes from another source than the picture before it.
    pub(super) breaks: bool,
}

/// What keeps pictures from being taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// Nothing.
    Open,
    /// There is nothing that they could refer to: only a key frame helps.
    Key,
    /// Pictures from `from` on refer to a damaged one; a key frame helps, or patience ends.
    Damaged { from: MediaTime },
}

#[derive(Debug)]
pub(super) struct VideoQueue {
    pub(super) state: TrackState,
    units: VecDeque<Queued>,
    bytes: usize,
    gate: Gate,
    /// Pictures from the first to the second moment lack packets themselves: not even a key frame is of use.
    torn: Option<(MediaTime, MediaTime)>,
    break_next: bool,
    last_arrival: Option<MediaTime>,
    /// The newest key frame that was cut: what a gap is filled with.
    last_key: Option<VideoUnit>,
}

impl Default for VideoQueue {
    fn default() -> Self {
        Self {
            state: TrackState::Absent,
            units: VecDeque::new(),
            bytes: 0,
            gate: Gate::Key,
            torn: None,
            break_next: false,
            last_arrival: None,
            last_key: None,
        }
    }
}

impl VideoQueue {
    pub(super) fn set_state(&mut self, state: TrackState) {
        self.state = state;
        if state != TrackState::Active {
            self.gate = Gate::Key;
        }
    }

    pub(super) fn restarted(&mut self) {
        self.gate = Gate::Key;
        self.break_next = self.last_key.is_some() || !self.units.is_empty();
    }

    pub(super) fn damaged(&mut self, from: MediaTime, through: MediaTime) {
        if self.gate == Gate::Open {
            self.gate = Gate::Damaged { from };
        }
        self.torn = Some((from, through));
    }

    /// Pictures are missing between the last one and the next.
    pub(super) fn lost(&mut self) {
        self.gate = Gate::Key;
    }

    pub(super) fn needs_key(&self) -> bool {
        self.gate != Gate::Open
    }

    /// Whether something is to be expected from it.
    pub(super) fn flows(&self, now: MediaTime) -> bool {
        self.state == TrackState::Active && self.last_arrival.is_some_and(|last| now < last + VIDEO_STALL)
    }

    pub(super) fn units(&self) -> impl Iterator<Item = &Queued> {
        self.units.iter()
    }

    /// The first picture, which is a key frame as long as no segment was opened.
    pub(super) fn front_key(&self) -> Option<(MediaTime, Arc<VideoConfig>)> {
        let unit = &self.units.front()?.unit;
        unit.key.then(|| (unit.pts, unit.config.clone()))
    }

    /// When the last picture ends, as far as one can say.
    pub(super) fn end(&self) -> Option<MediaTime> {
        self.units.back().map(|queued| queued.unit.pts + LAST_FRAME)
    }

    /// Takes a picture; `start` is where the open segment begins.
    pub(super) fn push(&mut self, mut unit: VideoUnit, start: Option<MediaTime>, now: MediaTime) {
        self.last_arrival = Some(now);
        let torn = self.torn.is_some_and(|(from, through)| (from..=through).contains(&unit.pts));
        let passes = match self.gate {
            _ if unit.key => !torn,
            Gate::Open => true,
            Gate::Key => false,
            Gate::Damaged { from } => unit.pts < from || unit.pts >= from + REPAIR_PATIENCE,
        };
        if !passes {
            return;
        }
        if unit.key
            && let Some(last) = self.units.iter().map(|queued| queued.unit.pts).max()
            && unit.pts <= last
        {
            // A key frame is shown after all that came before it: a time that goes back is wrong.
            unit.pts = last + Duration::from_millis(1);
        }
        match start {
            None if unit.key => self.clear(), // nothing is open: begin as late as possible
            Some(start) if unit.pts < start => {
                if !unit.key {
                    self.gate = Gate::Key; // too late, and what follows refers to it
                    return;
                }
                unit.pts = start;
            }
            _ => {}
        }
        if self.bytes.saturating_add(unit.data.len()) > MAX_VIDEO_BYTES {
            self.gate = Gate::Key;
            return;
        }
        let still_damaged = matches!(self.gate, Gate::Damaged { from } if unit.pts < from);
        if !still_damaged {
            self.gate = Gate::Open;
        }
        self.bytes = self.bytes.saturating_add(unit.data.len());
        let breaks = unit.key && std::mem::take(&mut self.break_next);
        self.units.push_back(Queued { unit, breaks });
    }

    fn clear(&mut self) {
        self.units.clear();
        self.bytes = 0;
    }

    fn pop(&mut self) -> Option<VideoUnit> {
        let queued = self.units.pop_front()?;
        self.bytes = self.bytes.saturating_sub(queued.unit.data.len());
        Some(queued.unit)
    }

    /// Drops what is before the key frame at `at` and moves that to `start`; answers its configuration.
    pub(super) fn restart_at(&mut self, at: MediaTime, start: MediaTime) -> Option<Arc<VideoConfig>> {
        while self.units.front().is_some_and(|queued| !queued.unit.key || queued.unit.pts != at) {
            self.pop();
        }
        let first = self.units.front_mut()?;
        first.unit.pts = start;
        first.breaks = false;
        Some(first.unit.config.clone())
    }

    /// Makes the queue fit a segment that begins at `start`: pictures that nothing precedes are dropped. Answers the
    /// configuration that the segment begins with, if its first picture is there.
    pub(super) fn open_at(&mut self, start: MediaTime) -> Option<Arc<VideoConfig>> {
        if let Some(first) = self.units.front_mut().filter(|first| first.unit.pts <= start) {
            first.breaks = false;
            return Some(first.unit.config.clone());
        }
        self.last_key.as_ref()?;
        while self.units.front().is_some_and(|queued| !queued.unit.key) {
            self.pop();
        }
        if self.units.is_empty() {
            self.gate = Gate::Key;
        }
        None
    }

    /// The configuration of the key frame that a gap would be filled with.
    pub(super) fn last_config(&self) -> Option<Arc<VideoConfig>> {
        self.last_key.as_ref().map(|key| key.config.clone())
    }

    /// Takes the pictures from `start` up to `at`. If the first one is missing, the last key frame stands in for it.
    pub(super) fn take(
        &mut self,
        config: &Arc<VideoConfig>,
        start: MediaTime,
        at: MediaTime,
    ) -> VideoSegment {
        let mut units = Vec::new();
        while self.units.front().is_some_and(|queued| queued.unit.pts < at) {
            let Some(unit) = self.pop() else { break };
            if unit.key {
                self.last_key = Some(unit.clone());
            }
            units.push(unit);
        }
        let mut filler = false;
        if units.first().is_none_or(|first| first.pts > start) {
            filler = units.is_empty();
            let stand_in = self.last_key.clone().filter(|key| key.config == *config);
            let first_key = units.iter().position(|unit| unit.key).unwrap_or(units.len());
            units.drain(..first_key);
            if let Some(key) = stand_in {
                units.insert(0, VideoUnit { pts: start, ..key });
            }
        }
        let independent = units.first().is_some_and(|first| first.key);
        VideoSegment {
            config: config.clone(),
            base: start.ticks(VIDEO_TIMESCALE),
            samples: samples(&units, start, at),
            independent,
            filler,
        }
    }
}

/// Gives every picture its place between `start` and `end`, without a hole. Decoding follows the order of the
/// pictures' times, which differs from their own order only if there are B-frames.
fn samples(units: &[VideoUnit], start: MediaTime, end: MediaTime) -> Vec<Sample> {
    let start = start.ticks(VIDEO_TIMESCALE);
    let end = end.ticks(VIDEO_TIMESCALE);
    let shown: Vec<u64> = units
        .iter()
        .map(|unit| unit.pts.ticks(VIDEO_TIMESCALE).clamp(start, end.saturating_sub(1)))
        .collect();
    let mut decoded = shown.clone();
    decoded.sort_unstable();
    if let Some(first) = decoded.first_mut() {
        *first = start;
    }
    let next = decoded.iter().skip(1).copied().chain([end]);
    let timed = units.iter().zip(&shown).zip(decoded.iter().zip(next));
    timed
        .map(|((unit, shown), (decoded, next))| Sample {
            data: unit.data.clone(),
            duration: u32::try_from(next.saturating_sub(*decoded)).unwrap_or(u32::MAX),
            composition: i32::try_from(shown.cast_signed() - decoded.cast_signed()).unwrap_or(0),
            sync: unit.key,
        })
        .collect()
}
