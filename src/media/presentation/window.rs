//! What is listed, what is kept behind that, and where.
//!
//! From the newest to the oldest: the *recent* segments, which are all that is listed without DVR; the *past* ones, which
//! only DVR lists; and those that are listed no more and stay for a grace. Recent ones and as many as the grace behind
//! them are in memory. What is older has to be stored elsewhere by then: a segment that is not ends the window, because
//! playlists have no holes.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::kept::Kept;
use super::past::Past;
use super::{MAX_LISTED, MIN_TARGET_DURATIONS, Presentation};
use crate::media::segmenter::{Rendition, TARGET_DURATION_SECS};

/// How much is listed and kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// How many segments a playlist lists without DVR; more if they are so short that three target durations aren't
    /// reached.
    pub listed: usize,
    /// How many segments stay fetchable behind the window, for players that read an older playlist.
    pub grace: usize,
    /// How much is listed with DVR; nothing for no DVR.
    pub dvr: Duration,
}

impl Presentation {
    /// How much media every rendition lists: what a player could buffer that comes now. Nothing as long as one of them has
    /// no complete segment, which players don't begin without.
    #[must_use]
    pub fn listed_duration(&self) -> Duration {
        let sum = |rendition: Rendition| {
            let complete = self.tracks(rendition).any(|track| track.uri.is_some());
            self.tracks(rendition).filter(|_| complete).map(|track| track.duration).sum()
        };
        self.offered().into_iter().map(sum).min().unwrap_or_default()
    }

    /// The recent segments and the open one.
    pub(super) fn recent(&self) -> impl DoubleEndedIterator<Item = &Kept> {
        self.kept.iter().skip(self.kept.len().saturating_sub(self.listed))
    }

    /// Everything that is listed.
    pub(super) fn all_listed(&self) -> impl DoubleEndedIterator<Item = &Kept> {
        self.kept.iter().skip(self.unlisted())
    }

    /// How many segments are kept that no playlist lists.
    fn unlisted(&self) -> usize {
        self.kept.len().saturating_sub(self.listed + self.past)
    }

    /// Tells that a segment's file is stored, so that it may leave memory. False if nobody needs it any more.
    pub fn stored(&mut self, name: &str) -> bool {
        let mut tracks = self.kept.iter_mut().rev().flat_map(|kept| kept.tracks.values_mut());
        let track = tracks.find(|track| track.uri.as_deref() == Some(name));
        track.map(|track| track.stored = true).is_some()
    }

    /// Tells that a stored file is to go, or gone: what is as old as that is listed no more.
    pub fn lose(&mut self, name: &str) {
        let mut kept = self.kept.iter_mut().enumerate();
        let found = kept.find_map(|(index, kept)| {
            let mut tracks = kept.tracks.values_mut();
            let track = tracks.find(|track| track.uri.as_deref() == Some(name))?;
            track.stored = false;
            Some((index, kept.aged))
        });
        // What is in memory is lost when it leaves that.
        let Some((index, true)) = found else { return };
        while self.unlisted() <= index && self.past > 0 {
            self.unlist_oldest();
        }
        (0..=index).for_each(|_| self.let_oldest_go());
        self.changed.extend(self.pasts.keys().copied());
        self.manifest_changed = true;
        self.cues_changed = true;
    }

    /// Makes room for a segment that was just begun.
    pub(super) fn slide(&mut self) {
        self.shorten_recent();
        self.limit_past();
        self.leave_memory();
    }

    /// Lists no more than the window and the open segment, without DVR.
    fn shorten_recent(&mut self) {
        let least = Duration::from_secs(TARGET_DURATION_SECS * MIN_TARGET_DURATIONS);
        let mut total: Duration = self.recent().map(Kept::duration).sum();
        while self.listed > self.window.listed.max(1).saturating_add(1) {
            let first = self.recent().next().map_or(Duration::ZERO, Kept::duration);
            total = total.saturating_sub(first);
            if total < least && self.listed <= MAX_LISTED + 1 {
                break;
            }
            self.oldest_recent_is_past();
        }
    }

    fn oldest_recent_is_past(&mut self) {
        let index = self.kept.len().saturating_sub(self.listed);
        self.listed -= 1;
        let Some(kept) = self.kept.get(index).filter(|_| !self.window.dvr.is_zero()) else { return };
        for (rendition, track) in kept.tracks.iter().filter(|(_, track)| track.uri.is_some()) {
            self.pasts.entry(*rendition).or_default().push(kept, track);
        }
        let (duration, whole) = (kept.duration(), kept.is_complete());
        self.past += 1;
        self.past_duration += duration;
        // It is missing in some playlist, which has no holes.
        if !whole {
            self.unlist_past();
        }
    }

    /// Lists no more than what is recent: players wait at places where one of the renditions has nothing.
    pub(super) fn unlist_past(&mut self) {
        (0..self.past).for_each(|_| self.unlist_oldest());
    }

    /// Lists no more than DVR is to show, and nothing that may not be there for long.
    fn limit_past(&mut self) {
        // Segments that were not stored in this time are listed no more, and stay for the other half of the grace.
        let time = self.listed.saturating_add(self.window.grace.div_ceil(2));
        let late = self.kept.len().saturating_sub(time);
        let unlisted = self.unlisted();
        let newest_missing = self.newest_missing(unlisted..late);
        let missing = unlisted..newest_missing.map_or(unlisted, |index| index + 1);
        self.update.lost += missing.clone().filter(|index| !self.is_stored(*index)).count();
        missing.for_each(|_| self.unlist_oldest());
        let recent: Duration = self.recent().map(Kept::duration).sum();
        while self.past > 0 && self.past_duration.saturating_add(recent) > self.window.dvr {
            self.unlist_oldest();
        }
    }

    /// The newest of these segments that is not stored. What left memory is.
    fn newest_missing(&self, segments: Range<usize>) -> Option<usize> {
        let aged = |index: &usize| self.kept.get(*index).is_some_and(|kept| kept.aged);
        segments.rev().take_while(|index| !aged(index)).find(|index| !self.is_stored(*index))
    }

    fn is_stored(&self, index: usize) -> bool {
        self.kept.get(index).is_some_and(Kept::is_stored)
    }

    fn unlist_oldest(&mut self) {
        let Some(kept) = self.kept.get(self.unlisted()).filter(|_| self.past > 0) else { return };
        let (sequence, duration) = (kept.sequence, kept.duration());
        self.pasts.values_mut().for_each(|past| past.drop_through(sequence));
        self.past -= 1;
        self.past_duration = self.past_duration.saturating_sub(duration);
    }

    /// Keeps no more than the grace in memory behind what is recent, and behind what is listed.
    fn leave_memory(&mut self) {
        let out = self.kept.len().saturating_sub(self.listed.saturating_add(self.window.grace));
        let unlisted = self.unlisted();
        let newest_missing = self.newest_missing(0..out.min(unlisted));
        let too_old = unlisted.saturating_sub(self.window.grace);
        (0..newest_missing.map_or(0, |index| index + 1).max(too_old)).for_each(|_| self.let_oldest_go());
        let out = self.kept.len().saturating_sub(self.listed.saturating_add(self.window.grace));
        for kept in self.kept.range_mut(..out).rev().take_while(|kept| !kept.aged) {
            kept.aged = true;
            self.update.aged.extend(kept.tracks.values().filter_map(|track| track.uri.clone()));
        }
    }

    fn let_oldest_go(&mut self) {
        let Some(Kept { tracks, key, .. }) = self.kept.pop_front() else { return };
        let needs = |kept: &Kept| kept.key.as_ref().map(Arc::as_ptr) == key.as_ref().map(Arc::as_ptr);
        if !self.kept.iter().any(needs) {
            self.update.gone.extend(key.map(|key| key.uri.clone()));
        }
        for track in tracks.into_values() {
            let mut tracks = self.kept.iter().flat_map(|kept| kept.tracks.values());
            if !tracks.any(|other| other.init_uri == track.init_uri) {
                self.update.gone.push(track.init_uri);
            }
            self.update.gone.extend(track.uri);
            self.update.gone.extend(track.parts.into_iter().map(|(listed, _)| listed.uri));
        }
        self.drop_sprites();
    }

    /// Whether DVR lists something of a rendition that isn't filler.
    pub(super) fn has_real_past(&self, rendition: Rendition) -> bool {
        self.pasts.get(&rendition).is_some_and(Past::is_real)
    }
}
