//! What weir supports, and what a router with a given codec list offers.

use std::num::{NonZeroU8, NonZeroU32};

use mediasoup_types::rtp_parameters::{
    MediaKind, MimeTypeAudio, MimeTypeVideo, RtcpFeedback, RtpCapabilities, RtpCapabilitiesFinalized,
    RtpCodecCapability, RtpCodecCapabilityFinalized as Finalized, RtpCodecParametersParameters,
    RtpHeaderExtension, RtpHeaderExtensionDirection as Direction, RtpHeaderExtensionUri as Uri,
};

use super::OrtcError;
use super::matching::{Strictness, match_codecs};

/// Dynamic payload types in the order in which they are given out.
const DYNAMIC_PAYLOAD_TYPES: [u8; 32] = [
    100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119, 120,
    121, 122, 123, 124, 125, 126, 127, 96, 97, 98, 99,
];

const OPUS_CLOCK_RATE: NonZeroU32 = NonZeroU32::new(48_000).expect("not zero");
const VIDEO_CLOCK_RATE: NonZeroU32 = NonZeroU32::new(90_000).expect("not zero");
const STEREO: NonZeroU8 = NonZeroU8::new(2).expect("not zero");

/// The rate at which Chromium starts to send, in kbit/s, instead of its own careful 300.
const START_BITRATE: u32 = 1000;

/// The codecs and header extensions that weir can forward. Codecs have no payload types yet: a router gives them.
#[must_use]
pub fn supported_capabilities() -> RtpCapabilities {
    RtpCapabilities {
        codecs: vec![
            opus(),
            video(MimeTypeVideo::H264, h264_parameters()),
            video(MimeTypeVideo::Vp8, RtpCodecParametersParameters::default()),
            video(MimeTypeVideo::Vp9, vp9_parameters()),
            video(MimeTypeVideo::AV1, RtpCodecParametersParameters::default()),
        ],
        header_extensions: header_extensions(),
    }
}

/// The codecs of a router that nobody configured: H.264 first, because it needs no transcoding for HLS, then those that
/// HLS egress can transcode, and last AV1, which reaches viewers over WebRTC only.
#[must_use]
pub fn default_router_codecs() -> Vec<RtpCodecCapability> {
    vec![
        opus(),
        routed_video(MimeTypeVideo::H264, h264_parameters()),
        routed_video(MimeTypeVideo::Vp8, RtpCodecParametersParameters::default()),
        routed_video(MimeTypeVideo::Vp9, vp9_parameters()),
        routed_video(MimeTypeVideo::AV1, RtpCodecParametersParameters::default()),
    ]
}

/// The capabilities of a router that offers `codecs`, in their order: each gets a payload type (its preferred one if
/// it has one) and each video codec an RTX codec behind it.
///
/// # Errors
/// A codec that weir does not support, a payload type used twice or out of range, or more codecs than payload types.
pub fn router_capabilities(codecs: &[RtpCodecCapability]) -> Result<RtpCapabilitiesFinalized, OrtcError> {
    let supported = supported_capabilities();
    let mut free: Vec<u8> = DYNAMIC_PAYLOAD_TYPES.iter().rev().copied().collect();
    let mut offered: Vec<Finalized> = Vec::with_capacity(codecs.len() * 2);
    for codec in codecs {
        let template = supported
            .codecs
            .iter()
            .find(|template| match_codecs(codec.into(), (*template).into(), Strictness::Loose).is_some())
            .ok_or_else(|| OrtcError::UnsupportedCodec {
                mime_type: codec.mime_type().as_str(),
                payload_type: codec.preferred_payload_type().map_or("any".into(), |pt| pt.to_string()),
            })?;
        let payload_type = match codec.preferred_payload_type() {
            Some(preferred) if preferred > 127 => return Err(OrtcError::InvalidPayloadType(preferred)),
            Some(preferred) => {
                free.retain(|payload_type| *payload_type != preferred);
                preferred
            }
            None => free.pop().ok_or(OrtcError::NoPayloadTypeLeft)?,
        };
        if offered.iter().any(|other| other.preferred_payload_type() == payload_type) {
            return Err(OrtcError::DuplicatePayloadType(payload_type));
        }
        let codec = finalize(template, codec.parameters(), payload_type);
        let rtx = match &codec {
            Finalized::Audio { .. } => None,
            Finalized::Video { clock_rate, .. } => {
                Some(rtx(free.pop().ok_or(OrtcError::NoPayloadTypeLeft)?, *clock_rate, payload_type))
            }
        };
        offered.push(codec);
        offered.extend(rtx);
    }
    Ok(RtpCapabilitiesFinalized { codecs: offered, header_extensions: supported.header_extensions })
}

/// The supported codec with the router's own format parameters laid over the default ones.
fn finalize(
    template: &RtpCodecCapability,
    own_parameters: &RtpCodecParametersParameters,
    preferred_payload_type: u8,
) -> Finalized {
    let mut parameters = template.parameters().clone();
    parameters.extend(own_parameters.clone());
    let rtcp_feedback = template.rtcp_feedback().clone();
    match template {
        RtpCodecCapability::Audio { mime_type, clock_rate, channels, .. } => Finalized::Audio {
            mime_type: *mime_type,
            preferred_payload_type,
            clock_rate: *clock_rate,
            channels: *channels,
            parameters,
            rtcp_feedback,
        },
        RtpCodecCapability::Video { mime_type, clock_rate, .. } => Finalized::Video {
            mime_type: *mime_type,
            preferred_payload_type,
            clock_rate: *clock_rate,
            parameters,
            rtcp_feedback,
        },
    }
}

fn rtx(preferred_payload_type: u8, clock_rate: NonZeroU32, apt: u8) -> Finalized {
    Finalized::Video {
        mime_type: MimeTypeVideo::Rtx,
        preferred_payload_type,
        clock_rate,
        parameters: RtpCodecParametersParameters::from([("apt", apt.into())]),
        rtcp_feedback: Vec::new(),
    }
}

fn opus() -> RtpCodecCapability {
    RtpCodecCapability::Audio {
        mime_type: MimeTypeAudio::Opus,
        preferred_payload_type: None,
        clock_rate: OPUS_CLOCK_RATE,
        channels: STEREO,
        parameters: RtpCodecParametersParameters::default(),
        rtcp_feedback: vec![RtcpFeedback::Nack, RtcpFeedback::TransportCc],
    }
}

fn video(mime_type: MimeTypeVideo, parameters: RtpCodecParametersParameters) -> RtpCodecCapability {
    RtpCodecCapability::Video {
        mime_type,
        preferred_payload_type: None,
        clock_rate: VIDEO_CLOCK_RATE,
        parameters,
        rtcp_feedback: vec![
            RtcpFeedback::Nack,
            RtcpFeedback::NackPli,
            RtcpFeedback::CcmFir,
            RtcpFeedback::GoogRemb,
            RtcpFeedback::TransportCc,
        ],
    }
}

/// Constrained Baseline level 3.1 with interleaving off: what every browser with H.264 has (RFC 7742 section 6.2).
/// A video codec as routers offer it.
///
/// Not inlined: optimized by rustc 1.95, the parameters of VP8 and AV1, which are the same, became one allocation with two
/// owners where they were made twice in one function, and were freed twice.
#[inline(never)]
fn routed_video(
    mime_type: MimeTypeVideo,
    mut parameters: RtpCodecParametersParameters,
) -> RtpCodecCapability {
    parameters.insert("x-google-start-bitrate", START_BITRATE);
    video(mime_type, parameters)
}

fn h264_parameters() -> RtpCodecParametersParameters {
    RtpCodecParametersParameters::from([
        ("packetization-mode", 1_u32.into()),
        ("profile-level-id", "42e01f".into()),
        ("level-asymmetry-allowed", 1_u32.into()),
    ])
}

fn vp9_parameters() -> RtpCodecParametersParameters {
    RtpCodecParametersParameters::from([("profile-id", 0_u32.into())])
}

/// The header extensions with the ids and directions that mediasoup prefers: what weir estimates of a viewer's link is
/// what video may use of it, so audio carries no transport-wide sequence number there.
fn header_extensions() -> Vec<RtpHeaderExtension> {
    use MediaKind::{Audio, Video};
    [
        (Audio, Uri::Mid, 1, Direction::SendRecv),
        (Video, Uri::Mid, 1, Direction::SendRecv),
        (Video, Uri::RtpStreamId, 2, Direction::RecvOnly),
        (Video, Uri::RepairRtpStreamId, 3, Direction::RecvOnly),
        (Audio, Uri::AbsSendTime, 4, Direction::SendRecv),
        (Video, Uri::AbsSendTime, 4, Direction::SendRecv),
        (Audio, Uri::TransportWideCcDraft01, 5, Direction::RecvOnly),
        (Video, Uri::TransportWideCcDraft01, 5, Direction::SendRecv),
        (Video, Uri::DependencyDescriptor, 8, Direction::SendRecv),
        (Audio, Uri::SsrcAudioLevel, 10, Direction::SendRecv),
        (Video, Uri::VideoOrientation, 11, Direction::SendRecv),
    ]
    .map(|(kind, uri, preferred_id, direction)| RtpHeaderExtension {
        kind,
        uri,
        preferred_id,
        preferred_encrypt: false,
        direction,
    })
    .to_vec()
}
