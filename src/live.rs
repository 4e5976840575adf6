//! Rooms: who publishes, who receives, and whose HLS runs, from a peer's arrival to its last trace.
//!
//! [`Rooms`] holds all rooms, each over a router of its own. A [`Room`] puts what peers ask for to the media core and to
//! egress, keeps the books of what belongs to whom, and tells what happened as [`Event`] values. However a peer ends (it
//! leaves, its socket closes, its media path dies), one function cleans up. Nothing here knows a wire format.

pub mod access;
mod bitrates;
pub mod broadcasters;
mod controls;
mod data;
mod error;
mod event;
mod fault;
mod hls;
pub mod ice_servers;
mod index;
pub mod keys;
mod plain;
mod registry;
mod reports;
mod room;
mod rooms;
mod secret;
mod speakers;
mod stats;
pub mod streams;
pub mod whip;

use serde::{Deserialize, Serialize};

pub use bitrates::Bound;
pub use data::ConsumedData;
pub use error::{
    AppDataTooLong, ConnectPlainTransportError, ConnectTransportError, ConsumeDataError, ConsumeError,
    ControlError, CreateTransportError, IntroduceError, JoinError, NotYours, PeerGone, ProduceDataError,
    ProduceError, SetBitrateError,
};
pub use event::{Event, HlsEvent, PeerEvent};
pub use fault::{Explained, Fault};
pub use registry::{Direction, PeerInfo, TransportRef};
pub use room::{Consumed, CreatedTransport, ProducerRef, RemoteProducer, Room};
pub use rooms::{DEFAULT_ROOM, Rooms};
pub use secret::Secret;

/// How many events a slow subscriber may be behind before it is told that it missed some.
pub const EVENT_BACKLOG: usize = 1024;
/// How many events of its own a peer may leave unread before it is taken for dead and removed.
pub const PEER_EVENT_BACKLOG: usize = 1024;
/// The longest name that a peer may want to be called, in characters.
pub const MAX_DISPLAY_NAME_CHARS: usize = 100;
/// The longest description of the device that a peer runs on, in bytes of JSON.
pub const MAX_DEVICE_BYTES: usize = 1024;

/// The largest `appData` of a source, in bytes of JSON.
pub const MAX_APP_DATA_BYTES: usize = 4096;

/// Checks a publisher's own words about a source, which others are told.
///
/// # Errors
/// They are too many.
pub fn check_app_data(app_data: &serde_json::Value) -> Result<(), AppDataTooLong> {
    if app_data.to_string().len() > MAX_APP_DATA_BYTES { Err(AppDataTooLong) } else { Ok(()) }
}

/// How many rooms there may be, and how much one room and one peer may hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The most rooms, the default one included.
    pub max_rooms: usize,
    /// The most peers in a room.
    pub max_peers: usize,
    /// The most transports of one peer.
    pub max_transports_per_peer: usize,
    /// The most producers of one peer.
    pub max_producers_per_peer: usize,
    /// The most consumers of one peer.
    pub max_consumers_per_peer: usize,
    /// The most data producers of one peer.
    pub max_data_producers_per_peer: usize,
    /// The most data consumers of one peer.
    pub max_data_consumers_per_peer: usize,
    /// What a viewer's path is thought to take before anything is known of it, in bit/s.
    pub initial_available_outgoing_bitrate: u64,
    /// What each transport's peer is asked to send at most, in bit/s; 0 for no limit.
    pub max_incoming_bitrate: u64,
    /// What each transport's peer is sent at most, as far as there are layers to choose from, in bit/s; 0 for no limit.
    pub max_outgoing_bitrate: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_rooms: 1000,
            max_peers: 10_000,
            max_transports_per_peer: 100,
            max_producers_per_peer: 8,
            max_consumers_per_peer: 1000,
            max_data_producers_per_peer: 16,
            max_data_consumers_per_peer: 1000,
            initial_available_outgoing_bitrate: 600_000,
            max_incoming_bitrate: 0,
            max_outgoing_bitrate: 0,
        }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// The setting that makes no sense, and why.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        for (setting, value) in [
            ("live.max_rooms", self.max_rooms),
            ("live.max_peers", self.max_peers),
            ("live.max_transports_per_peer", self.max_transports_per_peer),
            ("live.max_producers_per_peer", self.max_producers_per_peer),
            ("live.max_consumers_per_peer", self.max_consumers_per_peer),
            ("live.max_data_producers_per_peer", self.max_data_producers_per_peer),
            ("live.max_data_consumers_per_peer", self.max_data_consumers_per_peer),
        ] {
            if value == 0 {
                return Err((setting, "0 would let nobody in".into()));
            }
        }
        bitrates::validate(self)
    }
}

/// How much one room, or all of them, hold at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Rooms.
    pub rooms: usize,
    /// Peers.
    pub peers: usize,
    /// What they publish.
    pub producers: usize,
    /// What they receive.
    pub consumers: usize,
    /// Peers that can be played over HLS.
    pub live_peers: usize,
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            rooms: self.rooms + other.rooms,
            peers: self.peers + other.peers,
            producers: self.producers + other.producers,
            consumers: self.consumers + other.consumers,
            live_peers: self.live_peers + other.live_peers,
        }
    }
}

impl From<&Config> for registry::Limits {
    fn from(config: &Config) -> Self {
        Self {
            peers: config.max_peers,
            transports_per_peer: config.max_transports_per_peer,
            producers_per_peer: config.max_producers_per_peer,
            consumers_per_peer: config.max_consumers_per_peer,
            data_producers_per_peer: config.max_data_producers_per_peer,
            data_consumers_per_peer: config.max_data_consumers_per_peer,
        }
    }
}
