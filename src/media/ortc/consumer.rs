//! What consumers of a producer get: the parameters inside the router, and the ones that one client is told.

use mediasoup_types::rtp_parameters::{
    MediaKind, RtcpFeedback, RtcpParameters, RtpCapabilities, RtpCapabilitiesFinalized,
    RtpCodecCapabilityFinalized as Offer, RtpCodecParameters, RtpCodecParametersParameters,
    RtpEncodingParameters, RtpEncodingParametersRtx, RtpHeaderExtensionDirection as Direction,
    RtpHeaderExtensionParameters, RtpHeaderExtensionUri as Uri, RtpParameters,
};
use mediasoup_types::scalability_modes::ScalabilityMode;

use super::matching::{PROFILE_LEVEL_ID, Strictness, match_codecs, number};
use super::{OrtcError, RtpMapping};
use crate::ids::Ssrc;

/// How a consumer's stream is told from the others of its transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerIdentity {
    /// The MID; a client makes it the MID of its own media section.
    pub mid: Option<String>,
    /// The SSRC of the media.
    pub ssrc: Ssrc,
    /// The SSRC of retransmissions, used if the client can receive them.
    pub rtx_ssrc: Ssrc,
}

/// The parameters of a producer as they are inside the router: its codecs under the router's payload types, the
/// header extensions that weir sends, and one mapped SSRC per encoding.
///
/// `mapping` has to be the one that [`super::producer_mapping`] made of the same `parameters`.
#[must_use]
pub fn consumable_parameters(
    kind: MediaKind,
    parameters: &RtpParameters,
    capabilities: &RtpCapabilitiesFinalized,
    mapping: &RtpMapping,
) -> RtpParameters {
    let mut codecs = Vec::with_capacity(parameters.codecs.len());
    for codec in parameters.codecs.iter().filter(|codec| !codec.is_rtx()) {
        let Some(mapped) = mapping.codecs.iter().find(|entry| entry.payload_type == codec.payload_type())
        else {
            continue;
        };
        let mut format = codec.parameters().clone();
        if let Some(profile_level_id) = &mapped.profile_level_id {
            format.insert(PROFILE_LEVEL_ID, profile_level_id.clone());
        }
        let payload_type = mapped.mapped_payload_type;
        let offers = &capabilities.codecs;
        let media = offers.iter().find(|offer| offer.preferred_payload_type() == payload_type);
        let apt = Some(u32::from(payload_type));
        let rtx = offers.iter().find(|offer| offer.is_rtx() && number(offer.parameters(), "apt") == apt);
        codecs.extend(media.map(|offer| from_offer(offer, format)));
        codecs.extend(rtx.map(|offer| from_offer(offer, offer.parameters().clone())));
    }
    let header_extensions = capabilities
        .header_extensions
        .iter()
        .filter(|extension| extension.kind == kind)
        .filter(|extension| matches!(extension.direction, Direction::SendRecv | Direction::SendOnly))
        .map(|extension| RtpHeaderExtensionParameters {
            uri: extension.uri,
            id: extension.preferred_id,
            encrypt: extension.preferred_encrypt,
        })
        .collect();
    let encodings = parameters
        .encodings
        .iter()
        .zip(&mapping.encodings)
        .map(|(encoding, mapped)| RtpEncodingParameters {
            ssrc: Some(mapped.mapped_ssrc.0),
            rid: None,
            codec_payload_type: None,
            rtx: None,
            ..encoding.clone()
        })
        .collect();
    RtpParameters {
        mid: None,
        codecs,
        header_extensions,
        encodings,
        rtcp: RtcpParameters { cname: parameters.rtcp.cname.clone(), reduced_size: true },
        msid: parameters.msid.clone(),
    }
}

/// The router's codec with the publisher's own format parameters.
fn from_offer(offer: &Offer, parameters: RtpCodecParametersParameters) -> RtpCodecParameters {
    match offer {
        Offer::Audio { mime_type, preferred_payload_type, clock_rate, channels, rtcp_feedback, .. } => {
            RtpCodecParameters::Audio {
                mime_type: *mime_type,
                payload_type: *preferred_payload_type,
                clock_rate: *clock_rate,
                channels: *channels,
                parameters,
                rtcp_feedback: rtcp_feedback.clone(),
            }
        }
        Offer::Video { mime_type, preferred_payload_type, clock_rate, rtcp_feedback, .. } => {
            RtpCodecParameters::Video {
                mime_type: *mime_type,
                payload_type: *preferred_payload_type,
                clock_rate: *clock_rate,
                parameters,
                rtcp_feedback: rtcp_feedback.clone(),
            }
        }
    }
}

/// Whether a client with `capabilities` can receive a producer.
#[must_use]
pub fn can_consume(consumable: &RtpParameters, capabilities: &RtpCapabilities) -> bool {
    common_codecs(consumable, capabilities).first().is_some_and(|codec| !codec.is_rtx())
}

/// The producer's codecs that the client has, with the RTCP feedback that both sides have, in the producer's order.
fn common_codecs(consumable: &RtpParameters, capabilities: &RtpCapabilities) -> Vec<RtpCodecParameters> {
    let mut common: Vec<RtpCodecParameters> = Vec::with_capacity(consumable.codecs.len());
    for codec in &consumable.codecs {
        let capability = capabilities.codecs.iter().find(|capability| {
            match_codecs((*capability).into(), codec.into(), Strictness::Strict).is_some()
        });
        if let Some(capability) = capability {
            let mut codec = codec.clone();
            codec.rtcp_feedback_mut().retain(|feedback| capability.rtcp_feedback().contains(feedback));
            common.push(codec);
        }
    }
    common
}

/// The parameters that a client with `capabilities` has to receive a producer with: one encoding, the codecs and
/// header extensions that it knows, and RTX only if it can use it.
///
/// # Errors
/// [`OrtcError::NoCompatibleCodec`].
pub fn consumer_parameters(
    consumable: &RtpParameters,
    capabilities: &RtpCapabilities,
    identity: ConsumerIdentity,
) -> Result<RtpParameters, OrtcError> {
    let common = common_codecs(consumable, capabilities);
    let media: Vec<u32> =
        common.iter().filter(|codec| !codec.is_rtx()).map(|codec| u32::from(codec.payload_type())).collect();
    let repairs_something = |codec: &RtpCodecParameters| {
        number(codec.parameters(), "apt").is_some_and(|apt| media.contains(&apt))
    };
    let mut codecs: Vec<_> =
        common.into_iter().filter(|codec| !codec.is_rtx() || repairs_something(codec)).collect();
    if codecs.first().is_none_or(RtpCodecParameters::is_rtx) {
        return Err(OrtcError::NoCompatibleCodec);
    }
    let rtx = codecs
        .iter()
        .any(RtpCodecParameters::is_rtx)
        .then_some(RtpEncodingParametersRtx { ssrc: identity.rtx_ssrc.0 });
    let header_extensions: Vec<_> = consumable
        .header_extensions
        .iter()
        .filter(|extension| {
            let mut known = capabilities.header_extensions.iter();
            known.any(|known| known.preferred_id == extension.id && known.uri == extension.uri)
        })
        .cloned()
        .collect();
    keep_one_congestion_feedback(&mut codecs, &header_extensions);
    let encoding = RtpEncodingParameters {
        ssrc: Some(identity.ssrc.0),
        rtx,
        scalability_mode: consumer_scalability_mode(&consumable.encodings),
        max_bitrate: consumable.encodings.iter().filter_map(|encoding| encoding.max_bitrate).max(),
        ..RtpEncodingParameters::default()
    };
    Ok(RtpParameters {
        mid: identity.mid,
        codecs,
        header_extensions,
        encodings: vec![encoding],
        rtcp: consumable.rtcp.clone(),
        msid: consumable.msid.clone(),
    })
}

/// A client reports on its link in one way: with transport-cc where the extension for it is there, else with REMB.
pub(super) fn keep_one_congestion_feedback(
    codecs: &mut [RtpCodecParameters],
    extensions: &[RtpHeaderExtensionParameters],
) {
    let has = |uri: Uri| extensions.iter().any(|extension| extension.uri == uri);
    let kept = if has(Uri::TransportWideCcDraft01) {
        Some(RtcpFeedback::TransportCc)
    } else {
        has(Uri::AbsSendTime).then_some(RtcpFeedback::GoogRemb)
    };
    for codec in codecs {
        codec.rtcp_feedback_mut().retain(|feedback| {
            !matches!(feedback, RtcpFeedback::TransportCc | RtcpFeedback::GoogRemb) || Some(*feedback) == kept
        });
    }
}

/// Takes RTX and NACK out of a consumer's parameters: its client won't ask for what is lost.
pub fn refuse_retransmissions(parameters: &mut RtpParameters) {
    parameters.codecs.retain(|codec| !codec.is_rtx());
    for codec in &mut parameters.codecs {
        codec.rtcp_feedback_mut().retain(|feedback| *feedback != RtcpFeedback::Nack);
    }
    parameters.encodings.iter_mut().for_each(|encoding| encoding.rtx = None);
}

/// Simulcast looks like spatial layers of one stream to the one who receives it: `L<encodings>T<temporal layers>`.
fn consumer_scalability_mode(encodings: &[RtpEncodingParameters]) -> ScalabilityMode {
    let mode = encodings
        .iter()
        .map(|encoding| &encoding.scalability_mode)
        .find(|mode| !mode.is_none())
        .unwrap_or(&ScalabilityMode::None);
    if encodings.len() <= 1 {
        return mode.clone();
    }
    format!("L{}T{}", encodings.len(), mode.temporal_layers()).parse().unwrap_or_default()
}
