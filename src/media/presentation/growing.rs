//! The segment that is being made, for players that take it while it grows.

use bytes::Bytes;

use super::Presentation;
use super::kept::Track;
use crate::media::segmenter::Rendition;

/// A segment of which a part is there, and more will follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSegment {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub rendition: Rendition,
    /// What is there of it, in order.
    pub parts: Vec<Bytes>,
}

impl Presentation {
    /// The segment that is being made of a rendition.
    pub(super) fn open_segment(&self, rendition: Rendition) -> Option<OpenSegment> {
        let growing = |track: &&Track| track.count > 0 && track.uri.is_none();
        let open = self
            .recent()
            .find_map(|kept| Some((kept.sequence, kept.tracks.get(&rendition).filter(growing)?)));
        let (sequence, track) = open.filter(|_| !self.ended && !self.protection.is_on())?;
        let parts = track.parts.iter().map(|(_, body)| body.clone()).collect();
        Some(OpenSegment { name: self.names.segment(rendition, sequence), rendition, parts })
    }
}
