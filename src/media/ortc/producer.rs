//! A publisher's RTP parameters: are they possible, and how do they appear inside the router?

use std::collections::HashSet;

use mediasoup_types::rtp_parameters::{
    MediaKind, MimeType, MimeTypeVideo, RtpCapabilitiesFinalized, RtpCodecCapabilityFinalized,
    RtpCodecParameters, RtpEncodingParameters, RtpParameters,
};

use super::matching::{Strictness, match_codecs, number};
use super::{
    CodecMapping, EncodingMapping, MAX_ENCODINGS, MAX_STREAM_ID_LEN, OrtcError, ProducerType, RtpMapping,
};
use crate::ids::Ssrc;

/// Checks a publisher's parameters and maps its payload types and streams to the router's.
///
/// `next_ssrc` gives the SSRC of each encoding inside the router; it is called once per encoding, and only for
/// parameters that are accepted.
///
/// # Errors
/// Parameters that contradict themselves, name codecs that the router doesn't have, or identify no stream.
pub fn producer_mapping(
    kind: MediaKind,
    parameters: &RtpParameters,
    capabilities: &RtpCapabilitiesFinalized,
    mut next_ssrc: impl FnMut() -> Ssrc,
) -> Result<RtpMapping, OrtcError> {
    check_codecs(kind, &parameters.codecs)?;
    check_header_extensions(parameters)?;
    check_encodings(kind, parameters)?;
    let codecs = map_codecs(&parameters.codecs, &capabilities.codecs)?;
    let encodings = parameters
        .encodings
        .iter()
        .map(|encoding| EncodingMapping {
            ssrc: encoding.ssrc.map(Ssrc),
            rtx_ssrc: encoding.rtx.map(|rtx| Ssrc(rtx.ssrc)),
            rid: encoding.rid.clone(),
            scalability_mode: encoding.scalability_mode.clone(),
            mapped_ssrc: next_ssrc(),
        })
        .collect();
    Ok(RtpMapping { codecs, encodings })
}

/// How the encodings of a producer relate: several are simulcast; one with layers inside is SVC where the codec has
/// spatial layers and simulcast (of one stream with temporal layers) where it has not.
#[must_use]
pub fn producer_type(parameters: &RtpParameters) -> ProducerType {
    let [encoding] = parameters.encodings.as_slice() else {
        return if parameters.encodings.is_empty() { ProducerType::Simple } else { ProducerType::Simulcast };
    };
    let mode = &encoding.scalability_mode;
    if mode.spatial_layers().get() == 1 && mode.temporal_layers().get() == 1 {
        return ProducerType::Simple;
    }
    match codec_of(encoding, &parameters.codecs).map(RtpCodecParameters::mime_type) {
        Some(MimeType::Video(MimeTypeVideo::Vp9 | MimeTypeVideo::AV1)) => ProducerType::Svc,
        Some(MimeType::Video(_)) => ProducerType::Simulcast,
        Some(MimeType::Audio(_)) | None => ProducerType::Simple,
    }
}

/// The media codec of an encoding: the one that it names, else the first.
fn codec_of<'a>(
    encoding: &RtpEncodingParameters,
    codecs: &'a [RtpCodecParameters],
) -> Option<&'a RtpCodecParameters> {
    codecs
        .iter()
        .filter(|codec| !codec.is_rtx())
        .find(|codec| encoding.codec_payload_type.is_none_or(|named| named == codec.payload_type()))
}

fn check_codecs(kind: MediaKind, codecs: &[RtpCodecParameters]) -> Result<(), OrtcError> {
    let mut seen = HashSet::new();
    for codec in codecs {
        let mime_type = codec.mime_type();
        let own_kind = match mime_type {
            MimeType::Audio(_) => MediaKind::Audio,
            MimeType::Video(_) => MediaKind::Video,
        };
        if own_kind != kind {
            return Err(OrtcError::WrongKind { mime_type: mime_type.as_str(), kind });
        }
        if codec.payload_type() > 127 {
            return Err(OrtcError::InvalidPayloadType(codec.payload_type()));
        }
        if !seen.insert(codec.payload_type()) {
            return Err(OrtcError::DuplicatePayloadType(codec.payload_type()));
        }
    }
    if codecs.first().is_none_or(RtpCodecParameters::is_rtx) {
        return Err(OrtcError::NoMediaCodec);
    }
    Ok(())
}

fn check_header_extensions(parameters: &RtpParameters) -> Result<(), OrtcError> {
    let mut seen = HashSet::new();
    for extension in &parameters.header_extensions {
        if !(1..=255).contains(&extension.id) {
            return Err(OrtcError::InvalidHeaderExtensionId(extension.id));
        }
        if !seen.insert(extension.id) {
            return Err(OrtcError::DuplicateHeaderExtensionId(extension.id));
        }
    }
    Ok(())
}

fn check_encodings(kind: MediaKind, parameters: &RtpParameters) -> Result<(), OrtcError> {
    let encodings = &parameters.encodings;
    let allowed = match kind {
        MediaKind::Audio => 1,
        MediaKind::Video => MAX_ENCODINGS,
    };
    if encodings.is_empty() || encodings.len() > allowed {
        return Err(OrtcError::EncodingCount { count: encodings.len(), allowed });
    }
    parameters.mid.as_deref().map_or(Ok(()), check_stream_id)?;
    let mut ssrcs = HashSet::new();
    let mut rids = HashSet::new();
    for (index, encoding) in encodings.iter().enumerate() {
        for ssrc in encoding.ssrc.into_iter().chain(encoding.rtx.map(|rtx| rtx.ssrc)) {
            if !ssrcs.insert(ssrc) {
                return Err(OrtcError::DuplicateSsrc(ssrc));
            }
        }
        if let Some(rid) = &encoding.rid {
            check_stream_id(rid)?;
            if !rids.insert(rid) {
                return Err(OrtcError::DuplicateRid(rid.clone()));
            }
        }
        if encoding.ssrc.is_none() && encoding.rid.is_none() {
            if encodings.len() > 1 {
                return Err(OrtcError::UnidentifiedEncoding(index));
            }
            if parameters.mid.is_none() {
                return Err(OrtcError::UnidentifiedProducer);
            }
        }
        if let (None, Some(payload_type)) =
            (codec_of(encoding, &parameters.codecs), encoding.codec_payload_type)
        {
            return Err(OrtcError::InvalidEncodingCodec { encoding: index, payload_type });
        }
    }
    Ok(())
}

fn check_stream_id(id: &str) -> Result<(), OrtcError> {
    if id.is_empty() || id.len() > MAX_STREAM_ID_LEN {
        return Err(OrtcError::InvalidStreamId(id.to_owned()));
    }
    Ok(())
}

fn map_codecs(
    codecs: &[RtpCodecParameters],
    offered: &[RtpCodecCapabilityFinalized],
) -> Result<Vec<CodecMapping>, OrtcError> {
    let mut media = Vec::with_capacity(codecs.len());
    for codec in codecs.iter().filter(|codec| !codec.is_rtx()) {
        media.push(map_media_codec(codec, offered)?);
    }
    codecs
        .iter()
        .map(|codec| {
            let own = media.iter().find(|mapping| mapping.payload_type == codec.payload_type());
            own.map_or_else(|| map_rtx_codec(codec, &media, offered), |mapping| Ok(mapping.clone()))
        })
        .collect()
}

fn map_media_codec(
    codec: &RtpCodecParameters,
    offered: &[RtpCodecCapabilityFinalized],
) -> Result<CodecMapping, OrtcError> {
    offered
        .iter()
        .find_map(|offer| {
            let found = match_codecs(codec.into(), offer.into(), Strictness::Strict)?;
            Some(CodecMapping {
                payload_type: codec.payload_type(),
                mapped_payload_type: offer.preferred_payload_type(),
                profile_level_id: found.profile_level_id,
            })
        })
        .ok_or_else(|| unsupported(codec))
}

fn map_rtx_codec(
    codec: &RtpCodecParameters,
    media: &[CodecMapping],
    offered: &[RtpCodecCapabilityFinalized],
) -> Result<CodecMapping, OrtcError> {
    let apt = number(codec.parameters(), "apt");
    let repaired = media
        .iter()
        .find(|mapping| apt == Some(u32::from(mapping.payload_type)))
        .ok_or(OrtcError::InvalidApt(codec.payload_type()))?;
    let mapped_apt = Some(u32::from(repaired.mapped_payload_type));
    offered
        .iter()
        .find(|offer| offer.is_rtx() && number(offer.parameters(), "apt") == mapped_apt)
        .map(|offer| CodecMapping {
            payload_type: codec.payload_type(),
            mapped_payload_type: offer.preferred_payload_type(),
            profile_level_id: None,
        })
        .ok_or_else(|| unsupported(codec))
}

fn unsupported(codec: &RtpCodecParameters) -> OrtcError {
    OrtcError::UnsupportedCodec {
        mime_type: codec.mime_type().as_str(),
        payload_type: codec.payload_type().to_string(),
    }
}
