//! What a room tells: to everyone who watches it, and to one peer alone.

use mediasoup_types::rtp_parameters::MediaKind;

use crate::ids::{ConsumerId, PeerId, ProducerId, TransportId};

/// What happened in a room, for everyone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A peer publishes one more source.
    NewProducer {
        /// Who.
        peer: PeerId,
        /// What.
        producer: ProducerId,
        /// Audio or video.
        kind: MediaKind,
    },
    /// A source ended while its peer stays.
    ProducerClosed {
        /// Whose.
        peer: PeerId,
        /// Which.
        producer: ProducerId,
    },
    /// A source was paused.
    ProducerPaused {
        /// Whose.
        peer: PeerId,
        /// Which.
        producer: ProducerId,
        /// Audio or video.
        kind: MediaKind,
    },
    /// A source was resumed.
    ProducerResumed {
        /// Whose.
        peer: PeerId,
        /// Which.
        producer: ProducerId,
        /// Audio or video.
        kind: MediaKind,
    },
    /// A peer is gone, with everything that it had.
    PeerLeft(PeerId),
    /// A peer can be played over HLS from now on.
    PeerLive(PeerId),
    /// A peer that was live over HLS no longer is: it left or publishes nothing any more.
    PeerOffAir(PeerId),
}

/// What happened to one peer's own things without its asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerEvent {
    /// A consumer ended because its producer did.
    ConsumerClosed(ConsumerId),
    /// A consumer's producer was paused.
    ConsumerPaused(ConsumerId),
    /// A consumer's producer was resumed.
    ConsumerResumed(ConsumerId),
    /// A transport ended, with its producers and consumers; the peer stays and may make a new one.
    TransportClosed(TransportId),
}
