//! What the first bytes of a codec's RTP payload say about the frame that they belong to.
//!
//! Only payload headers are read, never pictures, and a payload that is too short or malformed is simply no key
//! frame.

use mediasoup_types::rtp_parameters::{MimeType, MimeTypeVideo};

/// Whether an RTP payload starts a key frame: a decoder that gets this packet and all after it shows a picture.
///
/// Of a key frame's packets only the first one counts (for H.264 also the ones with parameter sets before it).
/// Codecs without key frames and codecs that weir does not forward give `false`.
#[must_use]
pub fn is_key_frame(mime_type: MimeType, payload: &[u8]) -> bool {
    match mime_type {
        MimeType::Video(MimeTypeVideo::Vp8) => vp8_key_frame(payload).unwrap_or(false),
        MimeType::Video(MimeTypeVideo::Vp9) => vp9_key_frame(payload).unwrap_or(false),
        MimeType::Video(MimeTypeVideo::H264) => h264_key_frame(payload).unwrap_or(false),
        _ => false,
    }
}

/// RFC 7741 section 4: the descriptor says whether this is the first partition's start, the bit after it whether the
/// frame is a key frame.
fn vp8_key_frame(payload: &[u8]) -> Option<bool> {
    const EXTENDED: u8 = 0x80;
    const START_OF_PARTITION: u8 = 0x10;
    const PARTITION: u8 = 0x07;
    const PICTURE_ID: u8 = 0x80;
    const TL0_PICTURE_INDEX: u8 = 0x40;
    const TEMPORAL_LAYER_OR_KEY_INDEX: u8 = 0x30;
    const LONG_PICTURE_ID: u8 = 0x80;
    const INTER_FRAME: u8 = 0x01;

    let (descriptor, mut rest) = payload.split_first()?;
    if descriptor & START_OF_PARTITION == 0 || descriptor & PARTITION != 0 {
        return Some(false);
    }
    if descriptor & EXTENDED != 0 {
        let (flags, after) = rest.split_first()?;
        rest = after;
        if flags & PICTURE_ID != 0 {
            let long = rest.first()? & LONG_PICTURE_ID != 0;
            rest = rest.get(if long { 2 } else { 1 }..)?;
        }
        if flags & TL0_PICTURE_INDEX != 0 {
            rest = rest.get(1..)?;
        }
        if flags & TEMPORAL_LAYER_OR_KEY_INDEX != 0 {
            rest = rest.get(1..)?;
        }
    }
    Some(rest.first()? & INTER_FRAME == 0)
}

/// RFC 9628 section 4.2: the start of a frame of the lowest spatial layer that is not predicted from another picture.
fn vp9_key_frame(payload: &[u8]) -> Option<bool> {
    const PICTURE_ID: u8 = 0x80;
    const INTER_PREDICTED: u8 = 0x40;
    const LAYERS: u8 = 0x20;
    const START_OF_FRAME: u8 = 0x08;
    const LONG_PICTURE_ID: u8 = 0x80;
    const SPATIAL_LAYER: u8 = 0x0e;

    let (descriptor, mut rest) = payload.split_first()?;
    if descriptor & INTER_PREDICTED != 0 || descriptor & START_OF_FRAME == 0 {
        return Some(false);
    }
    if descriptor & PICTURE_ID != 0 {
        let long = rest.first()? & LONG_PICTURE_ID != 0;
        rest = rest.get(if long { 2 } else { 1 }..)?;
    }
    let lowest = descriptor & LAYERS == 0 || rest.first()? & SPATIAL_LAYER == 0;
    // A descriptor without a frame behind it starts nothing.
    Some(lowest && !rest.is_empty())
}

/// RFC 6184 section 5: an IDR slice or a sequence parameter set, alone, aggregated (STAP-A) or as the first fragment
/// (FU-A).
fn h264_key_frame(payload: &[u8]) -> Option<bool> {
    const NAL_TYPE: u8 = 0x1f;
    const STAP_A: u8 = 24;
    const FU_A: u8 = 28;
    const FU_START: u8 = 0x80;

    let starts_key_frame = |header: u8| {
        const IDR: u8 = 5;
        const SPS: u8 = 7;
        matches!(header & NAL_TYPE, IDR | SPS)
    };
    let (header, mut rest) = payload.split_first()?;
    match header & NAL_TYPE {
        STAP_A => {
            while let Some((size, units)) = rest.split_first_chunk::<2>() {
                let unit = units.get(..usize::from(u16::from_be_bytes(*size)))?;
                if unit.first().copied().is_some_and(starts_key_frame) {
                    return Some(true);
                }
                rest = units.get(unit.len()..)?;
            }
            Some(false)
        }
        FU_A => {
            let fragment = *rest.first()?;
            Some(fragment & FU_START != 0 && starts_key_frame(fragment))
        }
        _ => Some(starts_key_frame(*header)),
    }
}

#[cfg(test)]
mod tests {
    use mediasoup_types::rtp_parameters::MimeTypeAudio;
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
                (&[0xa8, 0x80, 0x01, 0x00, 0x00], true),
                (&[0xa8, 0x80, 0x01, 0x02, 0x00], false),
                (&[0xa8, 0x80, 0x01, 0x20, 0x00], true),
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
