//! What goes into the segmenter and what comes out of it.

use std::sync::Arc;

use bytes::Bytes;

use crate::media::fmp4::{AudioConfig, Sample, VideoConfig};
use crate::media::timeline::MediaTime;

/// The most video renditions of a peer.
pub const MAX_VIDEOS: usize = 8;

/// Which of a peer's video renditions: 0 is the best or the only one, and each further one is below the one before it.
/// All of them show the same pictures; what differs is size and bit rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VideoId(u8);

impl VideoId {
    /// The best rendition, or the only one.
    pub const BEST: Self = Self(0);

    /// The rendition with this number, if there may be so many ([`MAX_VIDEOS`]).
    #[must_use]
    pub fn new(index: usize) -> Option<Self> {
        u8::try_from(index).ok().filter(|_| index < MAX_VIDEOS).map(Self)
    }

    /// Its number.
    #[must_use]
    pub fn index(self) -> usize {
        self.0.into()
    }
}

/// One of a peer's renditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rendition {
    /// A video rendition.
    Video(VideoId),
    /// The audio rendition.
    Audio,
}

/// What a track is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackState {
    /// There never was one, or it is gone.
    Absent,
    /// It is there, and nothing is to be expected from it.
    Paused,
    /// It is there and should bring something.
    Active,
}

/// One picture.
#[derive(Debug, Clone)]
pub struct VideoUnit {
    /// When it is shown.
    pub pts: MediaTime,
    /// Whether decoding can start here.
    pub key: bool,
    /// NAL units, each behind its length in four bytes.
    pub data: Bytes,
    /// What its decoder needs.
    pub config: Arc<VideoConfig>,
}

/// One AAC frame.
#[derive(Debug, Clone)]
pub struct AudioUnit {
    /// When its first sample is heard.
    pub pts: MediaTime,
    /// The raw frame.
    pub data: Bytes,
    /// What its decoder needs.
    pub config: Arc<AudioConfig>,
}

/// A segment that begins, in all of its renditions.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The media sequence number, the same in all renditions.
    pub sequence: u64,
    /// Whether EXT-X-DISCONTINUITY precedes it, in all renditions.
    pub discontinuity: bool,
    /// When it begins.
    pub start: MediaTime,
    /// The video renditions that it has, with what their decoders need.
    pub video: Vec<(VideoId, Arc<VideoConfig>)>,
    /// What the audio's decoder needs, if the segment has audio.
    pub audio: Option<Arc<AudioConfig>>,
}

/// The next part of one rendition's open segment.
#[derive(Debug, Clone)]
pub struct Part {
    /// The segment.
    pub sequence: u64,
    /// The rendition.
    pub rendition: Rendition,
    /// Ticks per second of the times below.
    pub rate: u32,
    /// The first sample's decode time: where the part before ended.
    pub base: u64,
    /// Pictures in decode order, or audio frames; at least one.
    pub samples: Vec<Sample>,
    /// Whether decoding can start here.
    pub independent: bool,
    /// Whether it holds nothing but what was shown before, or silence.
    pub filler: bool,
}

/// What the segmenter wants.
#[derive(Debug, Clone)]
pub enum Output {
    /// The publisher, or the encoder, should send a key frame.
    KeyFrame {
        /// Of this rendition.
        video: VideoId,
        /// Why.
        request: KeyFrameRequest,
    },
    /// A segment begins. It comes before the segment's parts, and before the one before it is closed in all renditions.
    Opened(Opening),
    /// A part is complete.
    Part(Part),
    /// A rendition's segment is complete: no part of it will follow.
    Closed {
        /// The segment.
        sequence: u64,
        /// The rendition.
        rendition: Rendition,
    },
}

/// Why a key frame is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFrameRequest {
    /// A segment may end at this moment. All renditions are asked at the same time.
    Due(MediaTime),
    /// Without one nothing can be decoded.
    Missing,
}
