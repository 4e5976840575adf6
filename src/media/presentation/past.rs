//! One rendition's listed segments that don't change any more, with their text.
//!
//! A window of hours lists thousands of segments, and its playlist changes with every part. So each segment is put into
//! words once, when it becomes past, and all playlists of the moment share the bytes.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::kept::{Kept, Track};
use crate::media::playlist::ListedSegment;

/// A segment, without parts.
#[derive(Debug)]
struct Entry {
    sequence: u64,
    /// Discontinuities before its own.
    discontinuities: u64,
    segment: ListedSegment,
    filler: bool,
    /// How long its text is, and how much of that is only said because the segment before it is another.
    length: usize,
    lead: usize,
}

/// The segments, oldest first.
#[derive(Debug, Default)]
pub(super) struct Past {
    entries: VecDeque<Entry>,
    /// The text of all entries.
    text: Bytes,
    /// How many of them need another one to be decoded.
    dependent: usize,
    /// How many of them hold more than fillers.
    real: usize,
}

impl Past {
    /// Adds a segment, which has to be complete.
    pub(super) fn push(&mut self, kept: &Kept, track: &Track) {
        let key = kept.key.as_ref().map(|key| key.listed(kept.sequence));
        let segment = track.listed(kept.discontinuity, key, false);
        let (lead, own) = (segment.lead(self.last(), true).to_string(), segment.own(false).to_string());
        let mut text = BytesMut::with_capacity(self.text.len() + lead.len() + own.len());
        text.extend_from_slice(&self.text);
        text.extend_from_slice(lead.as_bytes());
        text.extend_from_slice(own.as_bytes());
        self.text = text.freeze();
        self.dependent += usize::from(!segment.independent);
        self.real += usize::from(!track.filler);
        self.entries.push_back(Entry {
            sequence: kept.sequence,
            discontinuities: kept.discontinuities_before(),
            segment,
            filler: track.filler,
            length: lead.len() + own.len(),
            lead: lead.len(),
        });
    }

    /// Drops all segments up to and with this one.
    pub(super) fn drop_through(&mut self, sequence: u64) {
        while let Some(first) = self.entries.pop_front_if(|first| first.sequence <= sequence) {
            self.text = self.text.slice(first.length.min(self.text.len())..);
            self.dependent -= usize::from(!first.segment.independent);
            self.real -= usize::from(!first.filler);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The first segment's number, and how many discontinuities there were before its own.
    pub(super) fn first(&self) -> Option<(u64, u64)> {
        self.entries.front().map(|first| (first.sequence, first.discontinuities))
    }

    pub(super) fn last(&self) -> Option<&ListedSegment> {
        self.entries.back().map(|last| &last.segment)
    }

    /// Whether every segment can be decoded without another one.
    pub(super) fn is_independent(&self) -> bool {
        self.dependent == 0
    }

    /// Whether there is more than fillers.
    pub(super) fn is_real(&self) -> bool {
        self.real > 0
    }

    /// How many of the last segments begin no more than so much before their end.
    pub(super) fn within(&self, time: Duration) -> usize {
        let ends = self.entries.iter().rev().scan(Duration::ZERO, |behind, entry| {
            *behind += entry.segment.duration;
            Some(*behind)
        });
        ends.take_while(|behind| *behind <= time).count()
    }

    /// The text from a segment on: what is said of the first one because nothing is listed before it, and the rest.
    pub(super) fn text_from(&self, index: usize) -> (String, Bytes) {
        let Some(first) = self.entries.get(index) else { return (String::new(), Bytes::new()) };
        let lead = first.segment.lead(None, index == 0).to_string();
        // From the end, if it is not the whole: a delta update begins there.
        let length = match index {
            0 => self.text.len(),
            _ => self.entries.range(index..).map(|entry| entry.length).sum(),
        };
        let begins = self.text.len().saturating_sub(length) + first.lead;
        (lead, self.text.slice(begins.min(self.text.len())..))
    }
}
