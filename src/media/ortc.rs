//! The ORTC rules that `mediasoup-client` expects: which capabilities a router has, whether a consumer can be fed
//! from a producer, and the RTP parameters that each side is told.
//!
//! The rules follow mediasoup version 3 as its clients see them. Everything is a function of its arguments: random
//! SSRCs are drawn by the caller, and nothing here knows a transport or a packet. JSON from strangers enters through
//! [`parse_rtp_parameters`], [`parse_rtp_capabilities`] and [`parse_dtls_parameters`] only.

mod capabilities;
mod consumer;
mod h264_profile;
mod matching;
mod offered;
mod parse;
mod pipe;
mod producer;
#[cfg(test)]
mod tests;

use mediasoup_types::rtp_parameters::MediaKind;
use mediasoup_types::scalability_modes::ScalabilityMode;
use serde::Serialize;

use crate::ids::Ssrc;

pub use capabilities::{default_router_codecs, router_capabilities, supported_capabilities};
pub use consumer::{
    ConsumerIdentity, can_consume, consumable_parameters, consumer_parameters, refuse_retransmissions,
};
pub use offered::{offered_consumer_parameters, publishing_parameters};
pub use parse::{parse_dtls_parameters, parse_rtp_capabilities, parse_rtp_parameters};
pub use pipe::pipe_parameters;
pub use producer::{producer_mapping, producer_type};

/// The most encodings (simulcast streams) of one producer. Browsers send three at most.
pub const MAX_ENCODINGS: usize = 4;
/// The most codecs in one set of parameters or capabilities. Chromium lists about fifty.
pub const MAX_CODECS: usize = 128;
/// The most header extensions in one set of parameters or capabilities.
pub const MAX_HEADER_EXTENSIONS: usize = 64;
/// The most RTCP feedback entries of one codec.
pub const MAX_RTCP_FEEDBACK: usize = 32;
/// The most format parameters of one codec.
pub const MAX_CODEC_PARAMETERS: usize = 64;
/// The most fingerprints in DTLS parameters.
pub const MAX_FINGERPRINTS: usize = 16;
/// The longest text in parameters or capabilities, in bytes.
pub const MAX_TEXT_LEN: usize = 256;
/// The longest MID or RID, in bytes: what a one-byte header extension element holds (RFC 8285 section 4.2).
pub const MAX_STREAM_ID_LEN: usize = 16;

/// Why parameters or capabilities are refused. The text is meant for the one who sent them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrtcError {
    /// A field is missing or holds what it may not hold.
    #[error("{path}: {problem}")]
    Field {
        /// Where, as in `rtpParameters.codecs[1].payloadType`.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// Weir, or this router, does not handle a codec with these parameters.
    #[error("unsupported codec {mime_type} (payload type {payload_type})")]
    UnsupportedCodec {
        /// The MIME type.
        mime_type: &'static str,
        /// The payload type as text, or "any".
        payload_type: String,
    },
    /// A codec of the other kind.
    #[error("codec {mime_type} does not belong to {} parameters", kind_name(*kind))]
    WrongKind {
        /// The MIME type.
        mime_type: &'static str,
        /// The kind of the parameters.
        kind: MediaKind,
    },
    /// No codec but RTX is there.
    #[error("no media codec")]
    NoMediaCodec,
    /// All dynamic payload types are used up.
    #[error("too many codecs: no payload type is left")]
    NoPayloadTypeLeft,
    /// Two codecs have one payload type.
    #[error("payload type {0} is used twice")]
    DuplicatePayloadType(u8),
    /// A payload type above 127.
    #[error("payload type {0} is not in the range 0 to 127")]
    InvalidPayloadType(u8),
    /// An RTX codec whose `apt` parameter is missing or names no media codec (RFC 4588 section 8.1).
    #[error("the apt parameter of RTX payload type {0} names no media codec")]
    InvalidApt(u8),
    /// The number of encodings is not in the allowed range.
    #[error("{count} encodings: 1 to {allowed} are allowed")]
    EncodingCount {
        /// How many there are.
        count: usize,
        /// How many may be there: [`MAX_ENCODINGS`] for video, one for audio.
        allowed: usize,
    },
    /// One of several encodings has neither SSRC nor RID.
    #[error("encodings[{0}] has neither ssrc nor rid")]
    UnidentifiedEncoding(usize),
    /// The only encoding has neither SSRC nor RID, and there is no MID either.
    #[error("there is no mid, and the encoding has neither ssrc nor rid")]
    UnidentifiedProducer,
    /// Two streams have one SSRC.
    #[error("ssrc {0} is used twice")]
    DuplicateSsrc(u32),
    /// Two encodings have one RID.
    #[error("rid \"{0}\" is used twice")]
    DuplicateRid(String),
    /// An encoding names a codec that is not there or is RTX.
    #[error("encodings[{encoding}].codecPayloadType {payload_type} is no media codec of these parameters")]
    InvalidEncodingCodec {
        /// The encoding's index.
        encoding: usize,
        /// What it names.
        payload_type: u8,
    },
    /// A MID or RID that is empty or too long.
    #[error("\"{0}\" is no valid mid or rid: 1 to {MAX_STREAM_ID_LEN} bytes are allowed")]
    InvalidStreamId(String),
    /// A header extension id outside 1 to 255 (RFC 8285 section 4.3).
    #[error("header extension id {0} is not in the range 1 to 255")]
    InvalidHeaderExtensionId(u16),
    /// Two header extensions have one id.
    #[error("header extension id {0} is used twice")]
    DuplicateHeaderExtensionId(u16),
    /// The client's capabilities hold none of the producer's codecs.
    #[error("no codec in common")]
    NoCompatibleCodec,
}

fn kind_name(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
    }
}

/// How a producer's streams relate (mediasoup's `type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProducerType {
    /// One stream.
    Simple,
    /// Several streams of one source at different sizes.
    Simulcast,
    /// One stream with several layers inside.
    Svc,
}

/// How a producer's payload types and streams appear inside its router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtpMapping {
    /// The codecs, RTX included, in the order of the parameters.
    pub codecs: Vec<CodecMapping>,
    /// The encodings, in the order of the parameters (for simulcast that is from the smallest to the largest).
    pub encodings: Vec<EncodingMapping>,
}

/// One codec of a producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecMapping {
    /// The payload type that the publisher sends.
    pub payload_type: u8,
    /// The router's payload type for it, which consumers are told.
    pub mapped_payload_type: u8,
    /// For H.264: the `profile-level-id` that both sides agree on (RFC 6184 section 8.2.2).
    pub profile_level_id: Option<String>,
}

/// One encoding of a producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodingMapping {
    /// The SSRC, if it was signalled.
    pub ssrc: Option<Ssrc>,
    /// The SSRC of its RTX stream, if it was signalled.
    pub rtx_ssrc: Option<Ssrc>,
    /// The RID, if it was signalled.
    pub rid: Option<String>,
    /// Spatial and temporal layers inside the stream.
    pub scalability_mode: ScalabilityMode,
    /// The SSRC that stands for this encoding inside the router.
    pub mapped_ssrc: Ssrc,
}
