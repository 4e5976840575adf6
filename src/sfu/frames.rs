//! What the packets of one incoming stream say about their frames, with what has to be remembered between packets:
//! the templates of dependency descriptors, and whether key frames come with parameter sets.

use mediasoup_types::rtp_parameters::{MimeType, MimeTypeVideo};

use crate::media::codec::{self, DependencyDescriptor, DependencyStructure, Frame, H264Start};

/// Reads the frames of one stream.
#[derive(Debug, Default)]
pub struct FrameReader {
    /// Whether spatial layers are predicted from each other at key frames only.
    is_k_svc: bool,
    structure: Option<Box<DependencyStructure>>,
    sends_parameter_sets: bool,
}

impl FrameReader {
    /// A reader of a stream that has K-SVC layers or not.
    #[must_use]
    pub fn new(is_k_svc: bool) -> Self {
        Self { is_k_svc, ..Self::default() }
    }

    /// What a packet with this payload, and this dependency descriptor if it has one, says.
    pub fn read(&mut self, mime_type: MimeType, payload: &[u8], dependency: Option<&[u8]>) -> Frame {
        let MimeType::Video(video) = mime_type else { return Frame::AUDIO };
        let frame = codec::frame(mime_type, payload, self.is_k_svc);
        match video {
            MimeTypeVideo::H264 => {
                let starts_key_frame = self.starts_h264_key_frame(payload);
                Frame { starts_key_frame, ..self.described(dependency).unwrap_or(frame) }
            }
            MimeTypeVideo::AV1 => self.described(dependency).unwrap_or(frame),
            _ => frame,
        }
    }

    /// A sender that puts parameter sets before its key frames has to be joined there: what follows may be coded with
    /// others than those that the viewer has from the stream before.
    fn starts_h264_key_frame(&mut self, payload: &[u8]) -> bool {
        match codec::h264_start(payload) {
            H264Start::ParameterSets => {
                self.sends_parameter_sets = true;
                true
            }
            H264Start::Idr => !self.sends_parameter_sets,
            H264Start::None => false,
        }
    }

    fn described(&mut self, dependency: Option<&[u8]>) -> Option<Frame> {
        let descriptor = DependencyDescriptor::parse(dependency?, self.structure.as_deref())?;
        if let Some(structure) = descriptor.structure {
            self.structure = Some(Box::new(structure));
        }
        Some(descriptor.frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idr_slices_start_a_key_frame_only_where_no_parameter_sets_come() {
        let h264 = MimeType::Video(MimeTypeVideo::H264);
        let mut reader = FrameReader::default();
        assert!(reader.read(h264, &[0x65, 0x88], None).starts_key_frame);
        assert!(reader.read(h264, &[0x67, 0x42], None).starts_key_frame);
        assert!(!reader.read(h264, &[0x65, 0x88], None).starts_key_frame);
    }
}
