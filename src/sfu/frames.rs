//! What the packets of one incoming stream say about their frames, with what has to be remembered between packets:
//! the templates of dependency descriptors, and packets that came before theirs.

use std::sync::Arc;

use mediasoup_types::rtp_parameters::{MimeType, MimeTypeVideo};
use smallvec::SmallVec;

use crate::media::codec::{
    self, DependencyDescriptor, DependencyExtension, DependencyStructure, Frame, H264Start,
};
use crate::sfu::cache::CachedPacket;

/// Packets of one stream that wait for the templates of their descriptors; of more, the oldest are given up.
const MAX_UNREAD: usize = 256;

/// What a packet says.
#[derive(Debug, Clone)]
pub struct Reading {
    /// About its frame.
    pub frame: Frame,
    /// Its dependency descriptor, where viewers need it (AV1).
    pub dependency: Option<DependencyExtension>,
    /// Whether packets after it can be read only now.
    pub brings_templates: bool,
}

/// Templates, and the packet (extended sequence number) that they hold from.
#[derive(Debug)]
struct Era {
    first: u64,
    structure: Arc<DependencyStructure>,
    /// The decode targets that the publisher produces, and the packet that said so.
    active: (u32, u64),
}

/// Reads the frames of one stream.
#[derive(Debug, Default)]
pub struct FrameReader {
    /// Whether spatial layers are predicted from each other at key frames at most.
    is_k_svc: bool,
    /// The newest templates and those before them, which late packets follow.
    eras: [Option<Era>; 2],
    unread: Vec<(CachedPacket, SmallVec<[u8; 16]>)>,
}

impl FrameReader {
    /// A reader of a stream that has K-SVC layers or not.
    #[must_use]
    pub fn new(is_k_svc: bool) -> Self {
        Self { is_k_svc, ..Self::default() }
    }

    /// What a packet with this extended sequence number, this payload, and this dependency descriptor if it has one, says.
    /// `begins_frame` tells that the packet before it came and belongs to another frame. None if the descriptor's
    /// templates are not known (yet): without them nobody knows who needs the packet.
    pub fn read(
        &mut self,
        mime_type: MimeType,
        sequence: u64,
        payload: &[u8],
        dependency: Option<&[u8]>,
        begins_frame: bool,
    ) -> Option<Reading> {
        let plain = |frame| Some(Reading { frame, dependency: None, brings_templates: false });
        let MimeType::Video(video) = mime_type else { return plain(codec::audio_frame(mime_type, payload)) };
        let frame = codec::frame(mime_type, payload, self.is_k_svc);
        match (video, dependency) {
            (MimeTypeVideo::H264, _) => {
                // A viewer has to join at the parameter sets where there are any: what follows may be coded with
                // others than those that it has from the stream before.
                let starts_key_frame = match codec::h264_start(payload) {
                    H264Start::ParameterSets => true,
                    H264Start::Idr => begins_frame,
                    H264Start::None => false,
                };
                let described = dependency.and_then(|value| self.described(sequence, value));
                plain(Frame { starts_key_frame, ..described.map_or(frame, |reading| reading.frame) })
            }
            (MimeTypeVideo::AV1, Some(value)) => self.described(sequence, value),
            _ => plain(frame),
        }
    }

    fn described(&mut self, sequence: u64, value: &[u8]) -> Option<Reading> {
        let known = self.era(sequence).map(|era| Arc::clone(&era.structure));
        let mut read = DependencyDescriptor::parse(value, known.as_deref())?;
        let brings_templates = read.structure.is_some();
        if let Some(structure) = read.structure.take() {
            self.begin_era(sequence, structure);
        }
        let era = self.era(sequence)?;
        if let Some(active) = read.active.filter(|_| era.active.1 <= sequence) {
            era.active = (active, sequence);
        }
        let dependency = DependencyExtension::new(value, &read, Arc::clone(&era.structure), era.active.0);
        Some(Reading { frame: read.frame, dependency: Some(dependency), brings_templates })
    }

    fn era(&mut self, sequence: u64) -> Option<&mut Era> {
        self.eras.iter_mut().flatten().find(|era| era.first <= sequence)
    }

    fn begin_era(&mut self, first: u64, structure: DependencyStructure) {
        let [newest, before] = &mut self.eras;
        // Most key frames repeat the templates.
        if let Some(known) = newest
            && *known.structure == structure
            && before.as_ref().is_none_or(|before| before.first < first)
        {
            known.first = known.first.min(first);
            if known.active.1 <= first {
                known.active = (u32::MAX, first);
            }
            return;
        }
        let era = Era { first, structure: Arc::new(structure), active: (u32::MAX, first) };
        match newest {
            Some(known) if first < known.first => *before = Some(era),
            Some(known) if first == known.first => *newest = Some(era),
            _ => *before = newest.replace(era),
        }
    }

    /// Keeps a packet that could not be read.
    pub fn keep_unread(&mut self, packet: CachedPacket, dependency: &[u8]) {
        if self.unread.len() >= MAX_UNREAD {
            self.unread.remove(0);
        }
        self.unread.push((packet, SmallVec::from_slice(dependency)));
    }

    /// Whether a packet is kept because it could not be read.
    #[must_use]
    pub fn has_unread(&self, sequence: u64) -> bool {
        self.unread.iter().any(|(packet, _)| packet.sequence == sequence)
    }

    /// The packets that can be read now, in their order, with what they say.
    pub fn read_again(&mut self) -> Vec<(CachedPacket, Reading)> {
        let mut read = Vec::new();
        for (packet, dependency) in std::mem::take(&mut self.unread) {
            match self.described(packet.sequence, &dependency) {
                Some(reading) => read.push((packet, reading)),
                None => self.unread.push((packet, dependency)),
            }
        }
        read.sort_by_key(|(packet, _)| packet.sequence);
        read
    }

    /// Forgets everything, as after a restart of the stream.
    pub fn clear(&mut self) {
        *self = Self::new(self.is_k_svc);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idr_slice_starts_a_key_frame_only_where_nothing_of_its_frame_is_before_it() {
        let h264 = MimeType::Video(MimeTypeVideo::H264);
        let mut reader = FrameReader::default();
        let mut starts = |payload: &[u8], begins_frame| {
            reader.read(h264, 1, payload, None, begins_frame).is_some_and(|read| read.frame.starts_key_frame)
        };
        assert!(starts(&[0x67, 0x42], false));
        assert!(!starts(&[0x65, 0x88], false));
        assert!(starts(&[0x65, 0x88], true));
        assert!(!starts(&[0x41, 0x88], true));
    }
}
