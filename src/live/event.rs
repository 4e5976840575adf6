//! What a room tells: to everyone who watches it, and to one peer alone.

use mediasoup_types::rtp_parameters::MediaKind;

use super::registry::PeerInfo;
use crate::ids::{Bitrate, ConsumerId, DataConsumerId, DataProducerId, PeerId, ProducerId, TransportId};
use crate::media::codec::Layers;
use crate::sfu::api::{ConsumerScore, EncodingScore};

/// What happened in a room, for everyone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A peer told about itself for the first time.
    PeerJoined {
        /// Who.
        peer: PeerId,
        /// What it told.
        info: PeerInfo,
    },
    /// A peer that told about itself is called something else now.
    PeerRenamed {
        /// Who.
        peer: PeerId,
        /// The new name.
        display_name: Option<String>,
        /// The old one.
        old_display_name: Option<String>,
    },
    /// A peer publishes one more source.
    NewProducer {
        /// Who.
        peer: PeerId,
        /// What.
        producer: ProducerId,
        /// Audio or video.
        kind: MediaKind,
    },
    /// A peer publishes one more source of messages.
    NewDataProducer {
        /// Who.
        peer: PeerId,
        /// What.
        producer: DataProducerId,
    },
    /// A source ended while its peer stays.
    ProducerClosed {
        /// Whose.
        peer: PeerId,
        /// Which.
        producer: ProducerId,
        /// Audio or video.
        kind: MediaKind,
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
    /// Who speaks, and how loud (in dBov, from -127 to 0); nobody, if it is empty. Told while someone speaks, and once
    /// when nobody does any more.
    SpeakingPeers(Vec<(PeerId, i8)>),
    /// Someone else is the active speaker.
    ActiveSpeaker(PeerId),
    /// A peer is gone, with everything that it had.
    PeerLeft {
        /// Who.
        peer: PeerId,
        /// What it had told about itself, if it did.
        info: Option<PeerInfo>,
    },
}

/// What happened over HLS, in whichever room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HlsEvent {
    /// A peer can be played from now on.
    Live(PeerId),
    /// A peer that was live no longer is: it left or publishes nothing any more.
    OffAir(PeerId),
}

/// What happened to one peer's own things without its asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerEvent {
    /// A consumer ended because its producer did.
    ConsumerClosed {
        /// The consumer.
        consumer: ConsumerId,
        /// Its producer.
        producer: ProducerId,
    },
    /// A consumer's producer was paused.
    ConsumerPaused(ConsumerId),
    /// A consumer's producer was resumed.
    ConsumerResumed(ConsumerId),
    /// A data consumer ended because its data producer did.
    DataConsumerClosed {
        /// The data consumer.
        consumer: DataConsumerId,
        /// Its data producer.
        producer: DataProducerId,
    },
    /// A consumer gets other layers now; none if nothing arrives or fits, or it is paused.
    ConsumerLayersChanged {
        /// The consumer.
        consumer: ConsumerId,
        /// What it gets.
        layers: Option<Layers>,
    },
    /// How well a consumer's stream arrives has changed.
    ConsumerScore {
        /// The consumer.
        consumer: ConsumerId,
        /// Its scores.
        score: ConsumerScore,
    },
    /// How well a producer's streams arrive has changed.
    ProducerScore {
        /// The producer.
        producer: ProducerId,
        /// The scores of its streams.
        scores: Vec<EncodingScore>,
    },
    /// What a transport's path to the peer is thought to take has changed.
    DownlinkBitrate {
        /// The transport.
        transport: TransportId,
        /// What the path takes.
        available: Bitrate,
        /// What the transport's consumers would take at their best.
        desired: Bitrate,
    },
    /// A transport ended, with its producers and consumers; the peer stays and may make a new one.
    TransportClosed(TransportId),
}
