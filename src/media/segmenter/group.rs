//! The pictures since the last key frame, as they were given out.
//!
//! Shown once more in no time at all they leave a decoder as it was, or as it should be: they fill a gap with what was
//! shown last, so that the next picture finds what it refers to, and they are what a segment without a key frame of its
//! own begins with, for players that come now.

use super::{MAX_PICTURES, MIN_PART, VideoUnit};
use crate::media::fmp4::VIDEO_TIMESCALE;

/// What a segment begins with in place of a key frame is at most so large, in bytes: 10 s of 1.6 Mbit/s. Players that
/// are in the middle of the stream load it too.
pub(super) const MAX_REOPENING_BYTES: usize = 2 << 20;
/// It has at most so many pictures: 12 s at 30 Hz. All of them are decoded at once.
pub(super) const MAX_REOPENING: usize = 360;
/// What a gap is filled with is at most so large, in bytes; above it is a key frame alone.
const MAX_FILLING_BYTES: usize = 256 * 1024;
/// What a gap is filled with has at most so many pictures.
const MAX_FILLING: usize = 64;
/// The most fillers in a row that repeat more than a key frame.
const MAX_FILLERS: usize = 5;

// Even the shortest slice has a moment for each of them and for all that wait.
const _: () =
    assert!((MAX_REOPENING + MAX_PICTURES) as u128 * 1000 < MIN_PART.as_millis() * VIDEO_TIMESCALE as u128);

/// One rendition's pictures since its last key frame.
#[derive(Debug, Default)]
pub(super) struct Group {
    units: Vec<VideoUnit>,
    bytes: usize,
    /// How many gaps were filled since it grew.
    fillers: usize,
    /// There were too many pictures to remember; only the key frame is there.
    incomplete: bool,
}

impl Group {
    /// Whether nothing was given out yet.
    pub(super) const fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    pub(super) fn units(&self) -> &[VideoUnit] {
        &self.units
    }

    pub(super) fn add(&mut self, unit: &VideoUnit) {
        if unit.key {
            *self = Self::default();
        }
        self.fillers = 0;
        self.bytes = self.bytes.saturating_add(unit.data.len());
        let fits = self.units.len() < MAX_REOPENING && self.bytes <= MAX_REOPENING_BYTES;
        if !unit.key && (self.incomplete || !fits) {
            self.shorten();
        } else {
            self.units.push(unit.clone());
        }
    }

    /// Keeps the key frame alone.
    pub(super) fn shorten(&mut self) {
        self.units.truncate(1);
        self.incomplete = true;
    }

    /// Whether a decoder that gets it again is as it was.
    pub(super) const fn is_whole(&self) -> bool {
        !self.incomplete
    }

    /// Whether one more gap may be filled with all of it.
    pub(super) const fn fills(&self) -> bool {
        let small = self.units.len() <= MAX_FILLING && self.bytes <= MAX_FILLING_BYTES;
        self.is_whole() && small && self.fillers < MAX_FILLERS
    }

    /// Notes that it fills a gap.
    pub(super) const fn filled(&mut self) {
        self.fillers += 1;
    }
}
