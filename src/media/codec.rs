//! What the first bytes of a codec's RTP payload, and the header extensions around it, say about the frame that they
//! belong to: its layers, who needs it, where a viewer can begin with it, and the picture numbers that it carries.
//!
//! Only payload headers are read, never pictures, and a payload that is too short or malformed is simply no key
//! frame. Nothing is allocated.

pub mod dependency;
mod frame;
mod h264;
mod vp8;
mod vp9;

use mediasoup_types::rtp_parameters::{MimeType, MimeTypeAudio, MimeTypeVideo};

pub use dependency::{
    Descriptor as DependencyDescriptor, Extension as DependencyExtension, Structure as DependencyStructure,
};
pub use frame::{
    DecodeTargets, Frame, Layers, MAX_SPATIAL_LAYERS, MAX_TEMPORAL_LAYERS, PictureId, Renumbering,
};
pub use h264::H264Start;

/// What one video packet says about its frame. `is_k_svc` tells that the stream's spatial layers are predicted from
/// each other at key frames only (the `_KEY` scalability modes).
#[must_use]
pub fn frame(mime_type: MimeType, payload: &[u8], is_k_svc: bool) -> Frame {
    let parsed = match mime_type {
        MimeType::Video(MimeTypeVideo::Vp8) => vp8::Descriptor::parse(payload).map(Frame::from),
        MimeType::Video(MimeTypeVideo::Vp9) => {
            vp9::Descriptor::parse(payload).map(|descriptor| descriptor.frame(is_k_svc))
        }
        MimeType::Video(MimeTypeVideo::H264) => {
            Some(Frame { starts_key_frame: h264::start(payload) != H264Start::None, ..Frame::WHOLE })
        }
        MimeType::Video(MimeTypeVideo::AV1) => {
            Some(Frame { starts_key_frame: av1_key_frame(payload), ..Frame::WHOLE })
        }
        _ => None,
    };
    parsed.unwrap_or(Frame::WHOLE)
}

/// What one audio packet says. An Opus packet of at most two bytes holds no sound (RFC 6716 section 2.1.9: DTX): it is
/// a temporal layer of its own, which viewers may do without.
#[must_use]
pub fn audio_frame(mime_type: MimeType, payload: &[u8]) -> Frame {
    const MAX_DTX_LEN: usize = 2;
    if mime_type != MimeType::Audio(MimeTypeAudio::Opus) || payload.len() > MAX_DTX_LEN {
        return Frame::AUDIO;
    }
    Frame {
        layers: Layers { spatial: 0, temporal: 1 },
        needed_by: DecodeTargets::of(|layers| layers.temporal > 0),
        ..Frame::AUDIO
    }
}

/// Whether an RTP payload starts a key frame: a decoder that gets this packet and all after it shows a picture.
///
/// Of a key frame's packets only the first one counts (for H.264 also the ones with parameter sets before it).
/// Codecs without key frames and codecs that weir does not forward give `false`.
#[must_use]
pub fn is_key_frame(mime_type: MimeType, payload: &[u8]) -> bool {
    frame(mime_type, payload, false).starts_key_frame
}

/// Whether a packet is the first of a key frame's parameter sets, of its slices, or neither (H.264 only).
#[must_use]
pub fn h264_start(payload: &[u8]) -> H264Start {
    h264::start(payload)
}

/// AV1 RTP specification section 4.4: the N bit of the aggregation header marks the first packet of a coded video
/// sequence.
fn av1_key_frame(payload: &[u8]) -> bool {
    const NEW_SEQUENCE: u8 = 0x08;
    matches!(payload, [header, _, ..] if header & NEW_SEQUENCE != 0)
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    const VP8: MimeType = MimeType::Video(MimeTypeVideo::Vp8);
    const VP9: MimeType = MimeType::Video(MimeTypeVideo::Vp9);
    const H264: MimeType = MimeType::Video(MimeTypeVideo::H264);

    fn check(mime_type: MimeType, cases: &[(&[u8], bool)]) {
        for (payload, expected) in cases {
            assert_eq!(is_key_frame(mime_type, payload), *expected, "{mime_type:?} {payload:02x?}");
        }
    }

    #[test]
    fn vp8() {
        check(
            VP8,
            &[
                (&[0x10, 0x00], true),
                (&[0x10, 0x01], false),
                // Not the start of the first partition.
                (&[0x00, 0x00], false),
                (&[0x11, 0x00], false),
                // As Chromium sends it: 15-bit picture id, TL0PICIDX and temporal layer.
                (&[0x90, 0xe0, 0x80, 0x01, 0x05, 0x20, 0x10], true),
                (&[0x90, 0xe0, 0x80, 0x01, 0x05, 0x20, 0x11], false),
                // 7-bit picture id only.
                (&[0x90, 0x80, 0x01, 0x00], true),
                // KEYIDX only.
                (&[0x90, 0x10, 0xff, 0x01], false),
                // Cut off.
                (&[], false),
                (&[0x10], false),
                (&[0x90, 0xe0, 0x80], false),
            ],
        );
    }

    #[test]
    fn vp9() {
        check(
            VP9,
            &[
                // Picture id, start of frame; then the same one inter-predicted, and one that goes on.
                (&[0x88, 0x01, 0x82], true),
                (&[0xc8, 0x01, 0x82], false),
                (&[0x80, 0x01, 0x82], false),
                // With layers: spatial layer 0, spatial layer 1, temporal layer 1 of spatial layer 0.
                (&[0xa8, 0x80, 0x01, 0x00, 0x00, 0x82], true),
                (&[0xa8, 0x80, 0x01, 0x02, 0x00, 0x82], false),
                (&[0xa8, 0x80, 0x01, 0x20, 0x00, 0x82], true),
                (&[0x08, 0x82], true),
                // Cut off.
                (&[0x88], false),
                (&[0xa8, 0x80, 0x01], false),
                (&[0x08], false),
            ],
        );
    }

    #[test]
    fn h264() {
        check(
            H264,
            &[
                (&[0x65, 0x88], true),
                (&[0x67, 0x42, 0xe0, 0x1f], true),
                (&[0x41, 0x9a], false),
                (&[0x68, 0xce], false),
                // STAP-A of SPS and PPS, of PPS and IDR, of two other slices.
                (&[0x78, 0x00, 0x02, 0x67, 0x42, 0x00, 0x01, 0x68], true),
                (&[0x78, 0x00, 0x01, 0x68, 0x00, 0x02, 0x65, 0x88], true),
                (&[0x78, 0x00, 0x01, 0x41, 0x00, 0x01, 0x41], false),
                // FU-A of an IDR slice: its start, its middle; the start of another slice.
                (&[0x7c, 0x85, 0x88], true),
                (&[0x7c, 0x05, 0x88], false),
                (&[0x7c, 0x81, 0x9a], false),
                // Cut off or lying about sizes.
                (&[], false),
                (&[0x78, 0xff, 0xff, 0x67], false),
                (&[0x78, 0x00, 0x00, 0x00], false),
                (&[0x7c], false),
            ],
        );
    }

    #[test]
    fn audio_has_no_key_frames() {
        assert!(!is_key_frame(MimeType::Audio(MimeTypeAudio::Opus), &[0x65, 0x88]));
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut random = StdRng::seed_from_u64(6184);
        let mut key_frames = 0;
        for _ in 0..200_000 {
            let mut payload = vec![0; random.random_range(0..24)];
            random.fill(payload.as_mut_slice());
            for mime_type in [VP8, VP9, H264] {
                key_frames += usize::from(is_key_frame(mime_type, &payload));
            }
        }
        // Random bytes look like a key frame now and then; neither never nor always.
        assert!((1000..300_000).contains(&key_frames), "{key_frames}");
    }
}
