//! The video that waits to be cut: pictures of one rendition in decode order, starting with one that can be decoded.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::delay::Delay;
use super::group::Group;
use super::{
    MAX_PICTURES, MAX_VIDEO_BYTES, Part, REPAIR_PATIENCE, REQUEST_RETRY, Rendition, STALL, TrackState,
    VIDEO_PATIENCE, VideoUnit,
};
use crate::media::fmp4::{Sample, VIDEO_TIMESCALE, VideoConfig};
use crate::media::timeline::MediaTime;

/// How long a picture is assumed to last when none follows it.
const LAST_FRAME: Duration = Duration::from_millis(33);
/// Key frames of one moment that are so much apart in different renditions begin the same segment.
const ALIGNMENT: Duration = Duration::from_millis(20);
/// A picture whose time is so much before what was given out keeps it: it was guessed to be late, or is a B-frame.
const KEEPS_TIME: Duration = Duration::from_millis(250);
/// A picture whose time is further back than this has a wrong one.
const MAX_LATE: Duration = Duration::from_secs(8);

#[derive(Debug)]
struct Queued {
    unit: VideoUnit,
    /// Where it is cut: at its time, or where everything before was given out when it came.
    at: MediaTime,
    /// It comes from another source than the picture before it.
    breaks: bool,
}

impl Queued {
    /// Whether it belongs behind a segment that ends at `end`.
    fn begins_next(&self, end: MediaTime) -> bool {
        self.at >= end || self.unit.key && self.at + ALIGNMENT >= end
    }
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

/// A picture with which a segment may or has to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Boundary {
    pub(super) at: MediaTime,
    pub(super) discontinuity: bool,
}

/// What is cut out of the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slice {
    pub(super) start: MediaTime,
    pub(super) end: MediaTime,
    /// The segment ends with it.
    pub(super) last: bool,
    /// The segment begins with it.
    pub(super) first: bool,
    /// A discontinuity precedes it: decoders start anew.
    pub(super) fresh: bool,
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
    delay: Delay,
    /// The newest time that came, and the last two steps to it.
    seen: Option<MediaTime>,
    steps: [Duration; 2],
    group: Group,
    /// Up to here something else was shown instead of pictures.
    filled: MediaTime,
    next_request: MediaTime,
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
            delay: Delay::default(),
            seen: None,
            steps: [Duration::ZERO; 2],
            group: Group::default(),
            filled: MediaTime::default(),
            next_request: MediaTime::default(),
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
        self.break_next = !self.group.is_empty() || !self.units.is_empty();
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

    /// Whether a key frame has to be asked for because nothing else helps; it then counts as asked for.
    pub(super) fn misses_key(&mut self, now: MediaTime) -> bool {
        let misses = self.state == TrackState::Active && self.needs_key() && now >= self.next_request;
        if misses {
            self.asked(now);
        }
        misses
    }

    /// Notes that a key frame was asked for.
    pub(super) fn asked(&mut self, now: MediaTime) {
        self.next_request = now + REQUEST_RETRY;
    }

    /// Whether something is to be expected from it.
    pub(super) fn flows(&self, now: MediaTime) -> bool {
        self.state == TrackState::Active && self.last_arrival.is_some_and(|last| now < last + STALL)
    }

    /// Whether all pictures before `at` are there, as far as one can guess, or are not waited for any longer.
    pub(super) fn reached(&self, at: MediaTime, now: MediaTime) -> bool {
        let [before, last] = self.steps;
        self.seen.is_some_and(|seen| seen + before.min(last) >= at)
            || now >= at + self.delay.usual() + VIDEO_PATIENCE
    }

    /// The first picture, which is a key frame as long as no segment was opened.
    pub(super) fn front_key(&self) -> Option<(MediaTime, Arc<VideoConfig>)> {
        let unit = &self.units.front()?.unit;
        unit.key.then(|| (unit.pts, Arc::clone(&unit.config)))
    }

    /// When the last picture ends, as far as one can say.
    pub(super) fn end(&self) -> Option<MediaTime> {
        self.units.iter().map(|queued| queued.at + LAST_FRAME).max()
    }

    /// The first picture before `end` with which the next segment has to begin: it changes `config`, comes from
    /// another source, or is a key frame from `due` on.
    pub(super) fn boundary(
        &self,
        config: Option<&Arc<VideoConfig>>,
        due: Option<MediaTime>,
        end: MediaTime,
    ) -> Option<Boundary> {
        let open = self.units.iter().take_while(|queued| queued.at < end);
        open.filter(|queued| queued.unit.key).find_map(|Queued { unit, at, breaks }| {
            let discontinuity = *breaks || config != Some(&unit.config);
            let ends = discontinuity || due.is_some_and(|due| *at >= due);
            ends.then_some(Boundary { at: *at, discontinuity })
        })
    }

    /// Whether a slice that ends at `at`, together with its segment, would hold a picture.
    pub(super) fn brings_before(&self, at: MediaTime) -> bool {
        self.units.front().is_some_and(|queued| !queued.begins_next(at))
    }

    /// Whether a key frame at or after `due` waits already.
    pub(super) fn brings_key(&self, due: MediaTime) -> bool {
        self.units.iter().any(|queued| queued.unit.key && queued.at >= due)
    }

    /// Takes a picture; everything before `given_out` is with the players.
    pub(super) fn push(&mut self, mut unit: VideoUnit, given_out: Option<MediaTime>, now: MediaTime) {
        self.last_arrival = Some(now);
        self.note_time(unit.pts, now);
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
            && let Some(last) = self.units.iter().map(|queued| queued.at).max()
            && unit.pts <= last
        {
            // A key frame is shown after all that came before it: a time that goes back is wrong.
            unit.pts = last + Duration::from_millis(1);
        }
        match given_out {
            None if unit.key => self.clear(), // nothing is open: begin as late as possible
            Some(given_out) if unit.pts < given_out && !self.catch_up(&mut unit, given_out) => return,
            _ => {}
        }
        let full =
            self.units.len() >= MAX_PICTURES || self.bytes.saturating_add(unit.data.len()) > MAX_VIDEO_BYTES;
        if full {
            self.gate = Gate::Key;
            return;
        }
        let still_damaged = matches!(self.gate, Gate::Damaged { from } if unit.pts < from);
        if !still_damaged {
            self.gate = Gate::Open;
        }
        self.bytes = self.bytes.saturating_add(unit.data.len());
        let breaks = unit.key && std::mem::take(&mut self.break_next);
        let at = given_out.map_or(unit.pts, |given_out| unit.pts.max(given_out));
        self.units.push_back(Queued { unit, at, breaks });
    }

    fn note_time(&mut self, pts: MediaTime, now: MediaTime) {
        self.delay.note(pts, now);
        match self.seen {
            Some(seen) if pts > seen => {
                self.steps = [self.steps[1], pts.since(seen)];
                self.seen = Some(pts);
            }
            Some(_) => {}
            None => self.seen = Some(pts),
        }
    }

    /// Gives a picture that comes after its time a place behind what was shown instead of it. Says whether it has one.
    fn catch_up(&mut self, unit: &mut VideoUnit, given_out: MediaTime) -> bool {
        if !unit.key && unit.pts + MAX_LATE < given_out {
            self.gate = Gate::Key; // what follows refers to it
            return false;
        }
        unit.pts = unit.pts.max(given_out.before(KEEPS_TIME));
        if unit.pts < self.filled {
            unit.pts = self.filled;
            self.filled = self.filled + Duration::from_millis(1);
        }
        true
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

    /// Drops pictures that refer to something which the decoder has lost.
    fn drop_to_key(&mut self) {
        while self.units.front().is_some_and(|queued| !queued.unit.key) {
            self.pop();
        }
    }

    /// Drops what is before the key frame at `at` and moves that to `start`; answers its configuration.
    pub(super) fn restart_at(&mut self, at: MediaTime, start: MediaTime) -> Option<Arc<VideoConfig>> {
        while self.units.front().is_some_and(|queued| !queued.unit.key || queued.at != at) {
            self.pop();
        }
        let first = self.units.front_mut()?;
        (first.unit.pts, first.at) = (start, start);
        first.breaks = false;
        Some(Arc::clone(&first.unit.config))
    }

    /// If a segment that begins at `start` begins with a key frame: its configuration, and whether it comes from
    /// another source than what was there before.
    pub(super) fn open(&mut self, start: MediaTime, part: Duration) -> Option<(Arc<VideoConfig>, bool)> {
        let first = self.units.front_mut().filter(|first| first.unit.key && first.at < start + part)?;
        Some((Arc::clone(&first.unit.config), std::mem::take(&mut first.breaks)))
    }

    /// Takes the pictures of a slice, which stay decodable whatever is missing.
    pub(super) fn take(
        &mut self,
        config: &Arc<VideoConfig>,
        slice: Slice,
        rendition: Rendition,
        sequence: u64,
    ) -> Part {
        let mut units = Vec::new();
        while let Some(queued) = self.units.front() {
            let beyond = if slice.last { queued.begins_next(slice.end) } else { queued.at >= slice.end };
            if beyond {
                break;
            }
            units.extend(self.pop());
        }
        let filler = units.is_empty();
        let mut repeated = Vec::new();
        if filler || slice.first && !units.first().is_some_and(|first| first.key) {
            let whole = self.keeps_state(filler);
            if whole || filler || slice.fresh {
                repeated = self.repeat(config, slice.start, whole);
            }
            if !whole && slice.fresh {
                let first_key = units.iter().position(|unit| unit.key).unwrap_or(units.len());
                units.drain(..first_key);
            }
        }
        if filler {
            self.filled = slice.end;
        }
        units.iter().for_each(|unit| self.group.add(unit));
        let independent = repeated.first().or(units.first()).is_some_and(|first| first.key);
        Part {
            sequence,
            rendition,
            rate: VIDEO_TIMESCALE,
            base: slice.start.ticks(VIDEO_TIMESCALE),
            samples: samples(&repeated, &units, slice),
            independent,
            filler,
        }
    }

    /// Whether what was shown since the last key frame can be shown again, so that a decoder is as it was: instead of
    /// pictures if it is a `filler`, before others if not.
    fn keeps_state(&self, filler: bool) -> bool {
        let can = if filler { self.group.fills() } else { self.group.is_whole() };
        can && self.state == TrackState::Active
    }

    /// What stands in for pictures that are missing from `from` on, or for the key frame that a segment lacks: the
    /// `whole` group, or its key frame.
    fn repeat(&mut self, config: &Arc<VideoConfig>, from: MediaTime, whole: bool) -> Vec<VideoUnit> {
        if !whole {
            self.group.shorten();
            self.drop_to_key();
            if self.gate == Gate::Open && self.units.is_empty() {
                self.gate = Gate::Damaged { from };
            }
        }
        self.group.filled();
        self.group.units().iter().filter(|unit| unit.config == *config).cloned().collect()
    }
}

/// Gives every picture its place in the slice, without a hole: first the `repeated` ones, all of which are over at once.
/// Decoding follows the order of the pictures' times, which differs from their own order only if there are B-frames; when
/// a picture is shown is told exactly, beside that. Only behind a discontinuity the first picture is shown from the
/// slice's beginning, however little later it was taken: players would stop in front of a hole there.
fn samples(repeated: &[VideoUnit], units: &[VideoUnit], slice: Slice) -> Vec<Sample> {
    let start = slice.start.ticks(VIDEO_TIMESCALE);
    let end = slice.end.ticks(VIDEO_TIMESCALE);
    let mut shown: Vec<u64> = (start..).take(repeated.len()).collect();
    let behind_repeated = start + shown.len() as u64;
    let own = units.iter().map(|unit| unit.pts.ticks(VIDEO_TIMESCALE));
    shown.extend(own.map(|pts| if repeated.is_empty() { pts } else { pts.max(behind_repeated) }));
    if let (true, Some(first)) = (slice.fresh, shown.first_mut()) {
        *first = start;
    }
    let mut decoded = shown.clone();
    if let Some(rest) = decoded.get_mut(repeated.len()..) {
        rest.sort_unstable();
    }
    let count = decoded.len() as u64;
    let mut least = start;
    for (behind, time) in (1..=count).rev().zip(&mut decoded) {
        *time = (*time).max(least).min(end.saturating_sub(behind)).max(start);
        least = time.saturating_add(1);
    }
    if let Some(first) = decoded.first_mut() {
        *first = start;
    }
    let next = decoded.iter().skip(1).copied().chain([end]);
    let timed = repeated.iter().chain(units).zip(&shown).zip(decoded.iter().zip(next));
    timed
        .map(|((unit, shown), (decoded, next))| Sample {
            data: unit.data.clone(),
            duration: u32::try_from(next.saturating_sub(*decoded)).unwrap_or(u32::MAX),
            composition: i32::try_from(shown.cast_signed().saturating_sub(decoded.cast_signed()))
                .unwrap_or(0),
            sync: unit.key,
        })
        .collect()
}
