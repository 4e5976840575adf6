//! Why a room refuses what a peer asks for, per operation. The texts are meant for the one who asked.

use std::net::IpAddr;

use mediasoup_types::rtp_parameters::MediaKind;

use crate::sfu::{api, data, plain_transport};
use crate::worker::RequestError;

use super::MAX_APP_DATA_BYTES;

/// Why a peer can't join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The room holds as many peers as it may.
    #[error("the room is full: the limit is {0} peers")]
    Full(usize),
    /// A peer of this name is in a room already.
    #[error("a peer of this name is in a room already")]
    NameTaken,
    /// The room ended, or the server is going down.
    #[error("the room is closed")]
    Closed,
    /// There are as many rooms as there may be.
    #[error("there is no place for another room: the limit is {0} rooms")]
    TooManyRooms(usize),
    /// The media core can't carry another room.
    #[error(transparent)]
    Media(#[from] RequestError<api::CreateRouterError>),
}

/// Why a peer can't tell this about itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntroduceError {
    /// The peer is gone.
    #[error(transparent)]
    Gone(#[from] PeerGone),
    /// The name is too long.
    #[error("displayName: longer than {0} characters")]
    NameTooLong(usize),
    /// The description of the device is too long.
    #[error("device: larger than {0} bytes")]
    DeviceTooLong(usize),
}

/// The peer has left, or was removed because it vanished.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the peer has left the room")]
pub struct PeerGone;

/// A thing that this peer does not have (any more).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {id} not found")]
pub struct NotYours {
    /// What was looked for.
    pub what: &'static str,
    /// Its id.
    pub id: String,
}

/// Why a transport can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateTransportError {
    /// The peer is gone.
    #[error(transparent)]
    Gone(#[from] PeerGone),
    /// The peer has as many transports as it may.
    #[error("too many transports: the limit is {0} for a peer")]
    Full(usize),
    /// The media core said no.
    #[error(transparent)]
    Media(#[from] RequestError<api::CreateTransportError>),
}

/// Why a transport can't be connected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectTransportError {
    /// Not a transport of this peer.
    #[error(transparent)]
    NotFound(#[from] NotYours),
    /// The media core said no.
    #[error(transparent)]
    Media(#[from] RequestError<api::ConnectTransportError>),
}

/// Why a bound of a transport's bit rate can't be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetBitrateError {
    /// Not a transport of this peer.
    #[error(transparent)]
    NotFound(#[from] NotYours),
    /// The media core said no.
    #[error(transparent)]
    Media(#[from] RequestError<api::SetBitrateError>),
}

/// Why a plain transport can't be connected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectPlainTransportError {
    /// Not a transport of this peer.
    #[error(transparent)]
    NotFound(#[from] NotYours),
    /// The settings name no network that this address is in.
    #[error("{0} is not in broadcasters.destinations: let comedia find the address instead")]
    Destination(IpAddr),
    /// The media core said no.
    #[error(transparent)]
    Media(#[from] RequestError<plain_transport::ConnectPlainError>),
}

/// A peer says more about a source than others have to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("appData: larger than {MAX_APP_DATA_BYTES} bytes")]
pub struct AppDataTooLong;

/// Why a producer can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// The peer has no transport to send on.
    #[error("Send transport not initialized")]
    NoTransport,
    /// Not a transport of this peer that it can send on.
    #[error(transparent)]
    NotFound(#[from] NotYours),
    /// The peer has as many producers as it may.
    #[error("too many producers: the limit is {0} for a peer")]
    Full(usize),
    /// The peer or its transport ended meanwhile.
    #[error("the transport was closed")]
    Closed,
    /// `appData.hlsStart` is something else than a [`crate::egress::Start`].
    #[error("appData.hlsStart is neither \"always\" nor \"on-demand\"")]
    HlsStart,
    /// The media core said no.
    #[error(transparent)]
    Media(#[from] RequestError<api::ProduceError>),
}

/// Why a consumer can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsumeError {
    /// The peer has no transport to receive on.
    #[error("Receive transport not initialized")]
    NoTransport,
    /// No such producer in this room, or not a transport of this peer that it can receive on.
    #[error(transparent)]
    NotFound(#[from] NotYours),
    /// The peer has as many consumers as it may.
    #[error("too many consumers: the limit is {0} for a peer")]
    Full(usize),
    /// The peer or its transport ended meanwhile.
    #[error("the transport was closed")]
    Closed,
    /// The media core said no.
    #[error(transparent)]
    Media(#[from] RequestError<api::ConsumeError>),
}

/// Why a data producer can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProduceDataError {
    /// Not a transport of this peer that it can send on.
    #[error(transparent)]
    NotFound(#[from] NotYours),
    /// The peer has as many data producers as it may.
    #[error("too many data producers: the limit is {0} for a peer")]
    Full(usize),
    /// The peer or its transport ended meanwhile.
    #[error("the transport was closed")]
    Closed,
    /// The media core said no.
    #[error(transparent)]
    Media(#[from] RequestError<data::ProduceDataError>),
}

/// Why a data consumer can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsumeDataError {
    /// No such data producer in this room, or not a transport of this peer that it can receive on.
    #[error(transparent)]
    NotFound(#[from] NotYours),
    /// The peer has as many data consumers as it may.
    #[error("too many data consumers: the limit is {0} for a peer")]
    Full(usize),
    /// The peer or its transport ended meanwhile.
    #[error("the transport was closed")]
    Closed,
    /// The media core said no.
    #[error(transparent)]
    Media(#[from] RequestError<data::ConsumeDataError>),
}

/// Why something can't be paused, resumed or closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Not a thing of this peer.
    #[error(transparent)]
    NotFound(#[from] NotYours),
    /// The peer publishes nothing of this kind.
    #[error("no {} producer", kind_name(*.0))]
    NoneOfKind(MediaKind),
    /// The media core said no.
    #[error(transparent)]
    Media(#[from] RequestError<api::NotFound>),
}

fn kind_name(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
    }
}
