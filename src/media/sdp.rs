//! SDP at the edge: offers of clients that know no ORTC, and the answers that they get (RFC 8866, RFC 9429).
//!
//! An [`Offer`] is an offer as far as a router can use it: for each media section, the capabilities of the one who
//! offers, under the numbers that it uses. [`answer()`] writes what was chosen of them. ICE information by itself, as it is
//! exchanged later, is a [`Fragment`]. Nothing here knows a session or a transport, and nothing that a stranger writes
//! is put into what another one reads.

mod answer;
mod fragment;
mod offer;
mod section;
#[cfg(test)]
mod tests;

use mediasoup_types::data_structures::{DtlsParameters, IceCandidate, IceParameters};
use mediasoup_types::rtp_parameters::{MediaKind, RtpCapabilities, RtpEncodingParameters};

use super::ortc::OrtcError;

pub use answer::{Accepted, answer};
pub use fragment::Fragment;

/// The longest description, in bytes. Those of browsers have about 10 kB.
pub const MAX_BYTES: usize = 64 * 1024;
/// The most lines of a description. Those of browsers have a few hundred.
pub const MAX_LINES: usize = 2000;
/// The most media sections of a description.
pub const MAX_SECTIONS: usize = 16;
/// The longest name of a media section, in bytes: what a one-byte header extension element holds (RFC 8285).
pub const MAX_MID_LEN: usize = 16;

/// Why a description can't be used. The text is meant for the one who sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// It is longer than descriptions are.
    #[error("SDP: more than {MAX_BYTES} bytes or {MAX_LINES} lines")]
    TooLong,
    /// It is no SDP.
    #[error("SDP: {0}")]
    Syntax(String),
    /// Something is missing, or wrong, in what WebRTC makes of SDP.
    #[error("SDP: {0}")]
    Missing(&'static str),
    /// A codec or a header extension makes no sense.
    #[error("SDP: {0}")]
    Parameters(#[from] OrtcError),
    /// It is a proper offer of something that weir does not do.
    #[error("SDP: {0}")]
    Unsupported(&'static str),
}

/// An offer, as far as a router can use it. All of its sections are on one transport.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The offerer's ICE username fragment and password.
    pub ice: Credentials,
    /// The offerer's side of DTLS.
    pub dtls: DtlsParameters,
    /// The media sections, in their order.
    pub sections: Vec<Section>,
}

/// A username fragment and its password (RFC 8839 section 5.4).
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The username fragment.
    pub ufrag: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// Which way the offerer wants a section's media to go (RFC 8866 section 6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    SendRecv,
    /// From the offerer.
    SendOnly,
    /// To the offerer.
    RecvOnly,
    /// No way.
    Inactive,
}

impl Direction {
    /// Whether the offerer sends.
    #[must_use]
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether the offerer receives.
    #[must_use]
    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }
}

/// One media section of an offer.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// Audio or video.
    pub kind: MediaKind,
    /// Its name.
    pub mid: String,
    /// Which way its media goes.
    pub direction: Direction,
    /// The codecs that weir knows, with the offerer's payload types, and the header extensions with its ids.
    pub capabilities: RtpCapabilities,
    /// The streams that the offerer sends, from the smallest to the largest; one without anything that identifies it
    /// if none is described.
    pub encodings: Vec<RtpEncodingParameters>,
    /// The offerer's RTCP name.
    pub cname: Option<String>,
    /// Its stream and track.
    pub msid: Option<String>,
}

/// The answerer's side of the transport.
#[derive(Debug, Clone, Copy)]
pub struct Local<'a> {
    /// Credentials for the offerer's checks.
    pub ice: &'a IceParameters,
    /// Where to send them: all that there are.
    pub candidates: &'a [IceCandidate],
    /// Certificate fingerprints.
    pub dtls: &'a DtlsParameters,
}
