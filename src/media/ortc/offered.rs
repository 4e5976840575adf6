//! Parameters for a client that named its payload types and header extension ids first, as an SDP offer does.

use mediasoup_types::rtp_parameters::{
    MediaKind, MimeType, MimeTypeVideo, RtcpFeedback, RtpCapabilities, RtpCapabilitiesFinalized,
    RtpCodecCapability, RtpCodecCapabilityFinalized, RtpCodecParameters,
    RtpHeaderExtensionDirection as Direction, RtpHeaderExtensionParameters, RtpParameters,
};

use super::consumer::keep_one_congestion_feedback;
use super::matching::{Strictness, match_codecs, number};
use super::{ConsumerIdentity, OrtcError, consumer_parameters};

/// With what a client that offered this should publish: the first codec of the router that it has, and its retransmission,
/// under the client's numbers. There is no encoding yet.
///
/// # Errors
/// [`OrtcError::NoCompatibleCodec`].
pub fn publishing_parameters(
    kind: MediaKind,
    offered: &RtpCapabilities,
    router: &RtpCapabilitiesFinalized,
) -> Result<RtpParameters, OrtcError> {
    let mut offers = router.codecs.iter().filter(|offer| !offer.is_rtx());
    let found = offers.find_map(|offer| {
        let matches = |codec: &&RtpCodecCapability| {
            match_codecs((*codec).into(), offer.into(), Strictness::Strict).is_some()
        };
        Some((offered.codecs.iter().find(matches)?, offer))
    });
    let (codec, offer) = found.ok_or(OrtcError::NoCompatibleCodec)?;
    let mut media = as_offered(codec).ok_or(OrtcError::NoCompatibleCodec)?;
    media.rtcp_feedback_mut().retain(|feedback| has_feedback(offer, *feedback));
    let mut codecs = vec![media];
    codecs.extend(offered_rtx(offered, codec).and_then(as_offered));
    let known = router.header_extensions.iter().filter(|extension| {
        extension.kind == kind && matches!(extension.direction, Direction::SendRecv | Direction::RecvOnly)
    });
    let header_extensions: Vec<_> = known
        .filter_map(|known| {
            let own = offered.header_extensions.iter().find(|extension| extension.uri == known.uri)?;
            Some(RtpHeaderExtensionParameters { uri: own.uri, id: own.preferred_id, encrypt: false })
        })
        .collect();
    keep_one_congestion_feedback(&mut codecs, &header_extensions);
    Ok(RtpParameters { codecs, header_extensions, ..RtpParameters::default() })
}

/// The parameters that a client has to receive a producer with, as [`consumer_parameters`], but under the numbers of the
/// client's own capabilities.
///
/// # Errors
/// [`OrtcError::NoCompatibleCodec`].
pub fn offered_consumer_parameters(
    consumable: &RtpParameters,
    offered: &RtpCapabilities,
    identity: ConsumerIdentity,
) -> Result<RtpParameters, OrtcError> {
    let mut as_router = offered.clone();
    for extension in &mut as_router.header_extensions {
        let known = consumable.header_extensions.iter().find(|known| known.uri == extension.uri);
        extension.preferred_id = known.map_or(0, |known| known.id);
    }
    let mut parameters = consumer_parameters(consumable, &as_router, identity)?;
    for extension in &mut parameters.header_extensions {
        let own = offered.header_extensions.iter().find(|own| own.uri == extension.uri);
        extension.id = own.map_or(0, |own| own.preferred_id);
    }
    let media = parameters.codecs.iter().find(|codec| !codec.is_rtx()).ok_or(OrtcError::NoCompatibleCodec)?;
    let own = offered
        .codecs
        .iter()
        .find(|own| match_codecs((*own).into(), media.into(), Strictness::Strict).is_some())
        .ok_or(OrtcError::NoCompatibleCodec)?;
    let mut renamed = as_offered(own).ok_or(OrtcError::NoCompatibleCodec)?;
    *renamed.rtcp_feedback_mut() = media.rtcp_feedback().to_vec();
    let wants_rtx = parameters.codecs.iter().any(RtpCodecParameters::is_rtx);
    let rtx = offered_rtx(offered, own).filter(|_| wants_rtx).and_then(as_offered);
    if rtx.is_none() {
        parameters.encodings.iter_mut().for_each(|encoding| encoding.rtx = None);
    }
    parameters.codecs = std::iter::once(renamed).chain(rtx).collect();
    Ok(parameters)
}

fn has_feedback(offer: &RtpCodecCapabilityFinalized, feedback: RtcpFeedback) -> bool {
    let (RtpCodecCapabilityFinalized::Audio { rtcp_feedback, .. }
    | RtpCodecCapabilityFinalized::Video { rtcp_feedback, .. }) = offer;
    rtcp_feedback.contains(&feedback)
}

fn is_rtx(codec: &RtpCodecCapability) -> bool {
    codec.mime_type() == MimeType::Video(MimeTypeVideo::Rtx)
}

/// The retransmissions that go with an offered codec.
fn offered_rtx<'a>(
    offered: &'a RtpCapabilities,
    codec: &RtpCodecCapability,
) -> Option<&'a RtpCodecCapability> {
    let payload_type = u32::from(codec.preferred_payload_type()?);
    offered.codecs.iter().find(|own| is_rtx(own) && number(own.parameters(), "apt") == Some(payload_type))
}

/// A capability as parameters, if it has a payload type.
fn as_offered(codec: &RtpCodecCapability) -> Option<RtpCodecParameters> {
    let payload_type = codec.preferred_payload_type()?;
    let rtcp_feedback: Vec<RtcpFeedback> = codec.rtcp_feedback().clone();
    Some(match codec {
        RtpCodecCapability::Audio { mime_type, clock_rate, channels, parameters, .. } => {
            RtpCodecParameters::Audio {
                mime_type: *mime_type,
                payload_type,
                clock_rate: *clock_rate,
                channels: *channels,
                parameters: parameters.clone(),
                rtcp_feedback,
            }
        }
        RtpCodecCapability::Video { mime_type, clock_rate, parameters, .. } => RtpCodecParameters::Video {
            mime_type: *mime_type,
            payload_type,
            clock_rate: *clock_rate,
            parameters: parameters.clone(),
            rtcp_feedback,
        },
    })
}
