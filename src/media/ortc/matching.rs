//! Whether two codec descriptions mean the same codec (mediasoup's codec matching).

use std::num::{NonZeroU8, NonZeroU32};

use mediasoup_types::rtp_parameters::{
    MimeType, MimeTypeAudio, MimeTypeVideo, RtpCodecCapability, RtpCodecCapabilityFinalized,
    RtpCodecParameters, RtpCodecParametersParameters, RtpCodecParametersParametersValue as Value,
};

use super::h264_profile::ProfileLevelId;

/// How much has to be equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strictness {
    /// MIME type, clock rate and channels.
    Loose,
    /// The format parameters that make streams incompatible, too.
    Strict,
}

/// What a match found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Match {
    /// The `profile-level-id` that both sides can use, for H.264.
    pub(super) profile_level_id: Option<String>,
}

/// The part of a codec description that matching looks at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Codec<'a> {
    mime_type: MimeType,
    clock_rate: NonZeroU32,
    channels: Option<NonZeroU8>,
    parameters: &'a RtpCodecParametersParameters,
}

macro_rules! codec_from {
    ($type:ident) => {
        impl<'a> From<&'a $type> for Codec<'a> {
            fn from(codec: &'a $type) -> Self {
                match codec {
                    $type::Audio { mime_type, clock_rate, channels, parameters, .. } => Self {
                        mime_type: MimeType::Audio(*mime_type),
                        clock_rate: *clock_rate,
                        channels: Some(*channels),
                        parameters,
                    },
                    $type::Video { mime_type, clock_rate, parameters, .. } => Self {
                        mime_type: MimeType::Video(*mime_type),
                        clock_rate: *clock_rate,
                        channels: None,
                        parameters,
                    },
                }
            }
        }
    };
}

codec_from!(RtpCodecParameters);
codec_from!(RtpCodecCapability);
codec_from!(RtpCodecCapabilityFinalized);

/// A parameter as a number; a text that is a number counts, since SDP knows only texts.
pub(super) fn number(parameters: &RtpCodecParametersParameters, name: &str) -> Option<u32> {
    match parameters.get(name)? {
        Value::Number(number) => Some(*number),
        Value::String(text) => text.parse().ok(),
    }
}

/// Whether `a` and `b` are the same codec; for H.264 the agreed level is `a`'s where asymmetry is allowed.
pub(super) fn match_codecs(a: Codec<'_>, b: Codec<'_>, strictness: Strictness) -> Option<Match> {
    if a.mime_type != b.mime_type || a.clock_rate != b.clock_rate || a.channels != b.channels {
        return None;
    }
    let same = |name| number(a.parameters, name).unwrap_or(0) == number(b.parameters, name).unwrap_or(0);
    let plain = Match { profile_level_id: None };
    match (a.mime_type, strictness) {
        (MimeType::Audio(MimeTypeAudio::MultiChannelOpus), _) => {
            (same("num_streams") && same("coupled_streams")).then_some(plain)
        }
        (MimeType::Video(MimeTypeVideo::H264), Strictness::Strict) => {
            if same("packetization-mode") {
                match_h264(a.parameters, b.parameters)
            } else {
                None
            }
        }
        (MimeType::Video(MimeTypeVideo::Vp9), Strictness::Strict) => same("profile-id").then_some(plain),
        _ => Some(plain),
    }
}

fn match_h264(a: &RtpCodecParametersParameters, b: &RtpCodecParametersParameters) -> Option<Match> {
    let a_profile = profile_level_id(a)?;
    let b_profile = profile_level_id(b)?;
    if !a_profile.same_profile(b_profile) {
        return None;
    }
    let unnamed = a.get(PROFILE_LEVEL_ID).is_none() && b.get(PROFILE_LEVEL_ID).is_none();
    let asymmetry = |parameters| number(parameters, "level-asymmetry-allowed") == Some(1);
    let answer = a_profile.answer(b_profile, asymmetry(a) && asymmetry(b));
    Some(Match { profile_level_id: (!unnamed).then(|| answer.to_string()) })
}

pub(super) const PROFILE_LEVEL_ID: &str = "profile-level-id";

/// The parsed parameter, the default where it is absent, `None` where it is invalid.
fn profile_level_id(parameters: &RtpCodecParametersParameters) -> Option<ProfileLevelId> {
    match parameters.get(PROFILE_LEVEL_ID) {
        None => Some(ProfileLevelId::DEFAULT),
        Some(Value::String(text)) => ProfileLevelId::parse(text),
        // SDP parsers turn "640032" into a number: its decimal digits are the text.
        Some(Value::Number(number)) => ProfileLevelId::parse(&format!("{number:06}")),
    }
}
