//! What the packets of one incoming stream say about their frames, with what has to be remembered between packets:
//! the templates of dependency descriptors.

use mediasoup_types::rtp_parameters::{MimeType, MimeTypeVideo};

use crate::media::codec::{self, DependencyDescriptor, DependencyStructure, Frame, H264Start};

/// Reads the frames of one stream.
#[derive(Debug, Default)]
pub struct FrameReader {
    /// Whether spatial layers are predicted from each other at key frames only.
    is_k_svc: bool,
    structure: Option<Box<DependencyStructure>>,
}

impl FrameReader {
    /// A reader of a stream that has K-SVC layers or not.
    #[must_use]
    pub fn new(is_k_svc: bool) -> Self {
        Self { is_k_svc, structure: None }
    }

    /// What a packet with this payload, and this dependency descriptor if it has one, says. `begins_frame` tells that
    /// the packet before it came and belongs to another frame.
    pub fn read(
        &mut self,
        mime_type: MimeType,
        payload: &[u8],
        dependency: Option<&[u8]>,
        begins_frame: bool,
    ) -> Frame {
        let MimeType::Video(video) = mime_type else { return codec::audio_frame(mime_type, payload) };
        let frame = codec::frame(mime_type, payload, self.is_k_svc);
        match video {
            MimeTypeVideo::H264 => {
                // A viewer has to join at the parameter sets where there are any: what follows may be coded with
                // others than those that it has from the stream before.
                let starts_key_frame = match codec::h264_start(payload) {
                    H264Start::ParameterSets => true,
                    H264Start::Idr => begins_frame,
                    H264Start::None => false,
                };
                Frame { starts_key_frame, ..self.described(dependency).unwrap_or(frame) }
            }
            MimeTypeVideo::AV1 => self.described(dependency).unwrap_or(frame),
            _ => frame,
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
    fn an_idr_slice_starts_a_key_frame_only_where_nothing_of_its_frame_is_before_it() {
        let h264 = MimeType::Video(MimeTypeVideo::H264);
        let mut reader = FrameReader::default();
        assert!(reader.read(h264, &[0x67, 0x42], None, false).starts_key_frame);
        assert!(!reader.read(h264, &[0x65, 0x88], None, false).starts_key_frame);
        assert!(reader.read(h264, &[0x65, 0x88], None, true).starts_key_frame);
        assert!(!reader.read(h264, &[0x41, 0x88], None, true).starts_key_frame);
    }
}
