//! One segment as it is remembered, in all of its renditions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};

use super::protection::SegmentKey;
use crate::media::fmp4::{AudioConfig, VideoConfig};
use crate::media::playlist::{ListedKey, ListedPart, ListedSegment};
use crate::media::segmenter::Rendition;
use crate::media::timeline::MediaTime;

/// What a decoder of a rendition needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Format {
    Video(Arc<VideoConfig>),
    Audio(Arc<AudioConfig>),
}

impl Format {
    /// The codec as RFC 6381 writes it.
    pub(super) fn codec(&self) -> String {
        match self {
            Self::Video(config) => config.codec(),
            Self::Audio(config) => config.codec().to_owned(),
        }
    }
}

/// A segment.
#[derive(Debug)]
pub(super) struct Kept {
    /// What the timeline's beginning is by the wall clock.
    pub(super) epoch: SystemTime,
    pub(super) sequence: u64,
    pub(super) discontinuity: bool,
    /// What it is encrypted with, if it is.
    pub(super) key: Option<Arc<SegmentKey>>,
    /// Discontinuities up to and with this segment's.
    pub(super) discontinuities: u64,
    /// When the first segment behind the last discontinuity began.
    pub(super) period: MediaTime,
    pub(super) tracks: BTreeMap<Rendition, Track>,
    /// Whether it left memory.
    pub(super) aged: bool,
}

impl Kept {
    /// Discontinuities before this segment's own.
    pub(super) fn discontinuities_before(&self) -> u64 {
        self.discontinuities.saturating_sub(u64::from(self.discontinuity))
    }

    /// Whether all of it is stored outside of memory.
    pub(super) fn is_stored(&self) -> bool {
        self.is_complete() && self.tracks.values().all(|track| track.count == 0 || track.stored)
    }

    pub(super) fn duration(&self) -> Duration {
        self.tracks.values().map(|track| track.duration).max().unwrap_or_default()
    }

    /// When it begins, if anything of it came.
    pub(super) fn begin(&self) -> Option<MediaTime> {
        let tracks = self.tracks.values().filter(|track| track.count > 0);
        tracks.map(|track| MediaTime::from_ticks(track.base, track.rate)).min()
    }

    /// Whether something of every rendition came.
    pub(super) fn is_begun(&self) -> bool {
        self.tracks.values().all(|track| track.count > 0)
    }

    /// Whether every rendition of which anything came is complete.
    pub(super) fn is_complete(&self) -> bool {
        let mut tracks = self.tracks.values().filter(|track| track.count > 0).peekable();
        tracks.peek().is_some() && tracks.all(|track| track.uri.is_some())
    }
}

/// One rendition's share of a segment.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) init_uri: String,
    pub(super) format: Format,
    /// When its first sample was recorded; nothing was, as long as it is empty.
    pub(super) recorded: Option<SystemTime>,
    /// Ticks per second of the two times below.
    pub(super) rate: u32,
    /// When it begins.
    pub(super) base: u64,
    /// How long it is, without the rounding of `duration`.
    pub(super) ticks: u64,
    pub(super) duration: Duration,
    pub(super) bytes: usize,
    pub(super) samples: usize,
    /// Whether decoding can start at its beginning.
    pub(super) independent: bool,
    /// Whether it holds nothing but what was shown before, or silence.
    pub(super) filler: bool,
    /// Where it is, once it is complete.
    pub(super) uri: Option<String>,
    /// Whether it is stored outside of memory.
    pub(super) stored: bool,
    /// How many parts it has, whether they are still fetchable or not.
    pub(super) count: u64,
    pub(super) parts: Vec<(ListedPart, Bytes)>,
}

impl Track {
    pub(super) fn new(init_uri: String, format: Format) -> Self {
        Self {
            init_uri,
            format,
            recorded: None,
            rate: 1,
            base: 0,
            ticks: 0,
            duration: Duration::ZERO,
            bytes: 0,
            samples: 0,
            independent: false,
            filler: true,
            uri: None,
            stored: false,
            count: 0,
            parts: Vec::new(),
        }
    }

    /// When it ends.
    pub(super) fn end(&self) -> MediaTime {
        MediaTime::from_ticks(self.base.saturating_add(self.ticks), self.rate)
    }

    /// The bytes of all parts in one piece, which the parts then are pieces of: nothing is kept twice.
    pub(super) fn join(&mut self) -> Bytes {
        let mut whole = BytesMut::with_capacity(self.bytes);
        self.parts.iter().for_each(|(_, body)| whole.extend_from_slice(body));
        let whole = whole.freeze();
        let mut begins = 0;
        for (_, body) in &mut self.parts {
            let ends = begins + body.len();
            *body = whole.slice(begins..ends);
            begins = ends;
        }
        whole
    }

    /// Lets go of the bytes that only [`Self::join`] needs.
    pub(super) fn forget_clear_parts(&mut self) {
        self.parts.iter_mut().for_each(|(_, body)| *body = Bytes::new());
    }

    pub(super) fn listed(
        &self,
        discontinuity: bool,
        key: Option<ListedKey>,
        with_parts: bool,
    ) -> ListedSegment {
        let parts = self.parts.iter().filter(|_| with_parts).map(|(listed, _)| listed.clone());
        ListedSegment {
            uri: self.uri.clone(),
            init_uri: self.init_uri.clone(),
            duration: self.duration,
            program_date_time: self.recorded.unwrap_or(SystemTime::UNIX_EPOCH),
            discontinuity,
            key,
            independent: self.independent,
            parts: parts.collect(),
        }
    }
}
