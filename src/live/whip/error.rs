//! Why a session does not begin, or can't be changed. The texts are meant for the one who asked.

use mediasoup_types::rtp_parameters::MediaKind;

use crate::live::error::{
    ConnectTransportError, ConsumeError, ControlError, CreateTransportError, IntroduceError, JoinError,
    ProduceError,
};
use crate::media::sdp::SdpError;

/// Why a session does not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The offer can't be read or used.
    #[error(transparent)]
    Offer(#[from] SdpError),
    /// A publisher's section does not send, or a player's does not receive.
    #[error("SDP: the media sections have to be {0} or sendrecv")]
    Direction(&'static str),
    /// More than one section of a kind.
    #[error("SDP: there can be one section for audio and one for video")]
    TooManySections,
    /// None of the offered codecs will do.
    #[error("SDP: no codec of the {} section can be used", kind_name(*.0))]
    NoCodec(MediaKind),
    /// The offer has no section for anything that the stream has.
    #[error("SDP: the stream has nothing that fits the media sections")]
    NothingToPlay,
    /// Somebody else publishes under this name.
    #[error("a stream of this name is live already")]
    Taken,
    /// Nobody publishes the stream.
    #[error("the stream is not live")]
    NotLive,
    /// There are as many sessions as there may be, or too many begin at a time.
    #[error("too many sessions: try again later")]
    Busy,
    /// The room says no.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The room does not take what is said about the publisher.
    #[error(transparent)]
    Introduce(#[from] IntroduceError),
    /// There is no transport to be had.
    #[error(transparent)]
    Transport(#[from] CreateTransportError),
    /// The transport can't be connected.
    #[error(transparent)]
    Connect(#[from] ConnectTransportError),
    /// What is offered can't be published.
    #[error(transparent)]
    Produce(#[from] ProduceError),
    /// What is published can't be received.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
    /// What was just made ended at once.
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// Why an ICE session can't be changed. The session goes on as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The fragment can't be read.
    #[error(transparent)]
    Fragment(#[from] SdpError),
    /// The entity tag is not that of the ICE session.
    #[error("the entity tag is not that of the ICE session")]
    OtherSession,
    /// An ICE restart is under way.
    #[error("an ICE restart is under way")]
    Restarting,
    /// The session is gone.
    #[error(transparent)]
    Gone(#[from] ControlError),
}

fn kind_name(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
    }
}
