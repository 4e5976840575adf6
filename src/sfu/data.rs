//! Data producers and data consumers: messages that come in on one data channel and go out on others of the same
//! router, as mediasoup forwards them.
//!
//! A message goes to every consumer whole or not at all. A consumer whose peer is too slow loses the newest messages,
//! and says so once ([`Event::DataConsumerBufferFull`](crate::sfu::api::Event)); the producer and everyone else don't
//! notice. Reliable channels are therefore reliable up to that point, as mediasoup's are.

mod forward;
mod lifecycle;

use std::collections::HashMap;

use mediasoup_types::sctp_parameters::SctpStreamParameters;
use serde::Serialize;
use slab::Slab;

use crate::ids::{DataConsumerId, DataProducerId, RouterId};
use crate::sfu::api::NotFound;
use crate::sfu::sctp::Sctp;

/// Data producers that one transport may have, and data consumers: as many as there are streams.
pub const MAX_DATA_CHANNELS: usize = crate::sfu::sctp::MAX_STREAMS as usize;
/// The longest label and the longest protocol of a data channel, in bytes.
pub const MAX_NAME_LEN: usize = 1024;
/// Subchannels that one data consumer may listen to.
pub const MAX_SUBCHANNELS: usize = 64;

/// How a data producer is made.
#[derive(Debug, Clone)]
pub struct DataProducerOptions {
    /// The stream that its messages come on; none on a direct transport.
    pub sctp_stream_parameters: Option<SctpStreamParameters>,
    /// The channel's label.
    pub label: String,
    /// The channel's protocol.
    pub protocol: String,
    /// Whether it starts paused.
    pub paused: bool,
}

/// A data producer that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataProducerInfo {
    /// The data producer.
    pub id: DataProducerId,
    /// The stream that its messages come on; none on a direct transport.
    pub sctp_stream_parameters: Option<SctpStreamParameters>,
    /// The channel's label.
    pub label: String,
    /// The channel's protocol.
    pub protocol: String,
}

/// How a data consumer is made. What is left open is as the data producer has it.
#[derive(Debug, Clone, Default)]
pub struct DataConsumerOptions {
    /// Whether messages keep their order.
    pub ordered: Option<bool>,
    /// After how many milliseconds a message is given up; needs `ordered` to be false.
    pub max_packet_life_time: Option<u16>,
    /// After how many retransmissions a message is given up; needs `ordered` to be false.
    pub max_retransmits: Option<u16>,
    /// Whether it starts paused.
    pub paused: bool,
    /// The subchannels that it listens to.
    pub subchannels: Vec<u16>,
}

/// A data consumer that was made, as its client has to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataConsumerInfo {
    /// The data consumer.
    pub id: DataConsumerId,
    /// Whose messages it gets.
    pub data_producer_id: DataProducerId,
    /// The stream that its messages go on; none on a direct transport.
    pub sctp_stream_parameters: Option<SctpStreamParameters>,
    /// The channel's label.
    pub label: String,
    /// The channel's protocol.
    pub protocol: String,
    /// Whether the data producer is paused at this moment.
    pub data_producer_paused: bool,
}

/// Which consumers a message is for (mediasoup's subchannels); by default for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audience {
    /// If there are any, a consumer has to listen to one of them.
    pub subchannels: Vec<u16>,
    /// A subchannel that a consumer has to listen to in any case.
    pub required_subchannel: Option<u16>,
}

impl Audience {
    fn includes(&self, listens_to: &[u16]) -> bool {
        self.required_subchannel.is_none_or(|required| listens_to.contains(&required))
            && (self.subchannels.is_empty() || self.subchannels.iter().any(|one| listens_to.contains(one)))
    }
}

/// What a data producer has received (mediasoup's names).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DataProducerStats {
    /// Messages.
    pub messages_received: u64,
    /// Bytes of them.
    pub bytes_received: u64,
}

/// What a data consumer has sent (mediasoup's names).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DataConsumerStats {
    /// Messages.
    pub messages_sent: u64,
    /// Bytes of them.
    pub bytes_sent: u64,
    /// Bytes that the peer has not acknowledged yet.
    pub buffered_amount: usize,
    /// Messages that were dropped because the peer was too slow (not in mediasoup).
    pub messages_dropped: u64,
}

/// Why a data producer could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProduceDataError {
    /// No such transport.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// The transport was made without SCTP.
    #[error("SCTP is not enabled on this transport")]
    NoSctp,
    /// The stream parameters contradict themselves, or the stream is in use or out of range.
    #[error("sctpStreamParameters: {0}")]
    Parameters(String),
    /// Label or protocol are too long.
    #[error("label and protocol may have {MAX_NAME_LEN} bytes each")]
    NameTooLong,
    /// The transport has as many data producers as it may.
    #[error("too many data producers on this transport: the limit is {0}")]
    Full(usize),
}

/// Why a data consumer could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsumeDataError {
    /// No such transport or data producer in this router.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// The transport was made without SCTP.
    #[error("SCTP is not enabled on this transport")]
    NoSctp,
    /// The options contradict themselves.
    #[error("{0}")]
    Options(String),
    /// All streams of the transport are in use.
    #[error("too many data consumers on this transport: the limit is {0}")]
    Full(usize),
}

/// Why the subchannels of a data consumer could not be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetSubchannelsError {
    /// No such data consumer.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// There are too many.
    #[error("too many subchannels: the limit is {MAX_SUBCHANNELS}")]
    TooMany,
}

/// A data producer.
pub struct DataProducer {
    id: DataProducerId,
    router: RouterId,
    /// Key in the worker.
    transport: usize,
    /// On a direct transport, the stream is a number that nothing goes on.
    parameters: SctpStreamParameters,
    label: String,
    protocol: String,
    paused: bool,
    /// Keys in the worker.
    consumers: Vec<usize>,
    stats: DataProducerStats,
}

impl DataConsumer {
    /// Counts a message that its reader was too slow for.
    pub(super) fn note_drop(&mut self) {
        self.stats.messages_dropped += 1;
    }
}

/// A data consumer.
pub struct DataConsumer {
    id: DataConsumerId,
    /// Keys in the worker.
    transport: usize,
    producer: usize,
    is_direct: bool,
    parameters: SctpStreamParameters,
    paused: bool,
    subchannels: Vec<u16>,
    stats: DataConsumerStats,
}

/// All data producers and consumers of a worker.
#[derive(Default)]
pub struct DataChannels {
    producers: Slab<DataProducer>,
    consumers: Slab<DataConsumer>,
    producer_keys: HashMap<DataProducerId, usize>,
    consumer_keys: HashMap<DataConsumerId, usize>,
}

impl DataChannels {
    /// How many data producers there are.
    #[must_use]
    pub fn producers(&self) -> usize {
        self.producers.len()
    }

    /// The data producers of a router, each with its consumers.
    pub(super) fn of_router(
        &self,
        router: RouterId,
    ) -> impl Iterator<Item = (DataProducerId, Vec<DataConsumerId>)> {
        let producers = self.producers.iter().filter(move |(_, producer)| producer.router == router);
        producers.map(|(_, producer)| {
            let consumers = producer.consumers.iter().filter_map(|key| self.consumers.get(*key));
            (producer.id, consumers.map(|consumer| consumer.id).collect())
        })
    }

    /// The data producers of a transport.
    pub(super) fn producers_of(&self, side: &DataSide) -> Vec<DataProducerId> {
        let producers = side.producers.values().filter_map(|key| self.producers.get(*key));
        producers.map(|producer| producer.id).collect()
    }

    /// The data consumers of a transport.
    pub(super) fn consumers_of(&self, side: &DataSide) -> Vec<DataConsumerId> {
        let consumers = side.consumers.values().filter_map(|key| self.consumers.get(*key));
        consumers.map(|consumer| consumer.id).collect()
    }

    /// The transport (key in the worker) of a data producer.
    pub(super) fn transport_of(&self, producer: usize) -> Option<usize> {
        self.producers.get(producer).map(|producer| producer.transport)
    }

    /// How many data consumers there are.
    #[must_use]
    pub fn consumers(&self) -> usize {
        self.consumers.len()
    }
}

/// What a transport has of data channels.
#[derive(Default)]
pub struct DataSide {
    /// Its SCTP association, if it was made with one.
    pub sctp: Option<Sctp>,
    /// Its data producers (keys in the worker) by the streams that they come on.
    producers: HashMap<u16, usize>,
    /// Its data consumers (keys in the worker) by the streams that they go on.
    consumers: HashMap<u16, usize>,
    /// Where the search for a free stream begins. Numbers are not used again at once, because a client may not have
    /// heard yet that the last channel with it is gone.
    next_stream: u16,
}
