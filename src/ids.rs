//! Typed identifiers and units that every layer shares.
//!
//! An id made by weir is a random UUID, so that it can't be guessed; a [`PeerId`] is the name that the signalling
//! layer knows a peer by. Nothing here knows what the named things are.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};
use uuid::Uuid;

macro_rules! uuid_id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A new random id (UUID version 4).
            #[must_use]
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::try_parse(text).map(Self)
            }
        }
    )+};
}

uuid_id! {
    /// A router: the set of transports whose producers and consumers can be connected.
    RouterId,
    /// A transport: one ICE, DTLS and SRTP association with a peer.
    TransportId,
    /// A producer: one audio or video source that a peer sends.
    ProducerId,
    /// A consumer: one producer as it is forwarded to one transport.
    ConsumerId,
    /// A data producer: one data channel that a peer sends on.
    DataProducerId,
    /// A data consumer: one data producer as it is forwarded to one transport.
    DataConsumerId,
    /// An observer of a router's audio.
    RtpObserverId,
    /// A tap: one producer as it is handed to a reader inside the process.
    TapId,
    /// A WHIP or WHEP session. Whoever knows it may change and end the session.
    SessionId,
}

/// The name by which the signalling layer knows a peer (for Socket.IO: the socket id).
///
/// It is part of HLS file names, so it holds ASCII letters, digits, `-` and `_` only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(Arc<str>);

/// Why a text is no [`PeerId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a peer id is 1 to {} ASCII letters, digits, '-' or '_'", PeerId::MAX_LEN)]
pub struct InvalidPeerId;

impl PeerId {
    /// The longest peer id, in bytes.
    pub const MAX_LEN: usize = 64;

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PeerId {
    type Err = InvalidPeerId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if text.is_empty() || text.len() > Self::MAX_LEN || !text.bytes().all(allowed) {
            return Err(InvalidPeerId);
        }
        Ok(Self(text.into()))
    }
}

impl Serialize for PeerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a room, chosen by its clients: 1 to [`RoomId::MAX_LEN`] bytes of text without control characters. Cloning
/// is cheap.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomId(Arc<str>);

/// A text that can't be a [`RoomId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a room id is 1 to {} bytes of text without control characters", RoomId::MAX_LEN)]
pub struct InvalidRoomId;

impl RoomId {
    /// The longest room id, in bytes.
    pub const MAX_LEN: usize = 128;
}

impl FromStr for RoomId {
    type Err = InvalidRoomId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.len() > Self::MAX_LEN || text.chars().any(char::is_control) {
            return Err(InvalidRoomId);
        }
        Ok(Self(text.into()))
    }
}

impl Serialize for RoomId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An RTP synchronization source identifier (RFC 3550 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ssrc(pub u32);

impl fmt::Display for Ssrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A bitrate, in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct Bitrate(pub u64);

impl Bitrate {
    /// So many thousand bits per second.
    #[must_use]
    pub const fn kbps(thousands: u64) -> Self {
        Self(thousands.saturating_mul(1000))
    }

    /// A share or multiple of this rate; what is negative or no number counts as zero.
    #[must_use]
    pub fn mul_f64(self, factor: f64) -> Self {
        Self((self.0 as f64 * factor) as u64)
    }

    /// The rate at which `bytes` were moved in `time`, which counts as a microsecond at least.
    #[must_use]
    pub fn of(bytes: usize, time: Duration) -> Self {
        let micros = time.as_micros().max(1) as u64;
        Self((bytes as u64).saturating_mul(8_000_000) / micros)
    }

    /// Bytes that fit into `time` at this rate.
    #[must_use]
    pub fn bytes_in(self, time: Duration) -> usize {
        (self.0 as f64 * time.as_secs_f64() / 8.0) as usize
    }
}

impl fmt::Display for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kbit/s", self.0 / 1000)
    }
}
