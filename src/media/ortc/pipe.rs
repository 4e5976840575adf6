//! What a pipe to another router carries of a producer: all of its streams, as the router has them.

use mediasoup_types::rtp_parameters::{
    RtcpFeedback, RtpCodecParameters, RtpEncodingParameters, RtpEncodingParametersRtx,
    RtpHeaderExtensionUri as Uri, RtpParameters,
};

use crate::ids::Ssrc;

/// The parameters that a producer is piped with: each of its encodings under an SSRC of its own, and RTX if the pipe
/// has it. The router at the other end makes a producer of them. `next_ssrc` is called once or twice per encoding.
#[must_use]
pub fn pipe_parameters(
    consumable: &RtpParameters,
    enable_rtx: bool,
    mut next_ssrc: impl FnMut() -> Ssrc,
) -> RtpParameters {
    // Congestion control and MIDs are matters of a client's transport.
    let passes = |uri: Uri| !matches!(uri, Uri::Mid | Uri::AbsSendTime | Uri::TransportWideCcDraft01);
    let codec = |codec: &RtpCodecParameters| {
        let mut codec = codec.clone();
        codec.rtcp_feedback_mut().retain(|feedback| match feedback {
            RtcpFeedback::NackPli | RtcpFeedback::CcmFir => true,
            RtcpFeedback::Nack => enable_rtx,
            _ => false,
        });
        codec
    };
    let has_rtx = enable_rtx && consumable.codecs.iter().any(RtpCodecParameters::is_rtx);
    let encoding = |encoding: &RtpEncodingParameters| RtpEncodingParameters {
        ssrc: Some(next_ssrc().0),
        rid: None,
        rtx: has_rtx.then(|| RtpEncodingParametersRtx { ssrc: next_ssrc().0 }),
        ..encoding.clone()
    };
    RtpParameters {
        mid: None,
        codecs: consumable.codecs.iter().filter(|codec| enable_rtx || !codec.is_rtx()).map(codec).collect(),
        header_extensions: consumable
            .header_extensions
            .iter()
            .filter(|extension| passes(extension.uri))
            .cloned()
            .collect(),
        encodings: consumable.encodings.iter().map(encoding).collect(),
        rtcp: consumable.rtcp.clone(),
        msid: consumable.msid.clone(),
    }
}
