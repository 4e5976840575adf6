//! Data channels in the rooms dialect.

use std::collections::{HashMap, VecDeque};

use mediasoup_types::sctp_parameters::SctpStreamParameters;
use serde_json::Value;
use tracing::debug;

use super::wire::{self, incoming, outgoing};
use crate::ids::{DataProducerId, PeerId, TransportId};
use crate::live::{Direction, Room};
use crate::sfu::data::DataProducerOptions;
use crate::signaling::arguments::{self, id, read};
use crate::signaling::client::{Client, Offer, Outgoing, to_value};
use crate::signaling::refusal::Refusal;

/// What is remembered of one client's data channels.
#[derive(Default)]
pub(super) struct DataState {
    /// Whether it wants to be offered any.
    pub(super) wants_offers: bool,
    /// What others publish and it has not been offered yet.
    wanted: VecDeque<DataProducerId>,
    /// What it has been offered, and on which transport.
    offered: HashMap<DataProducerId, TransportId>,
}

impl DataState {
    /// Everything that is published and was not offered has to be offered.
    pub(super) fn want_all(&mut self, room: &Room, peer: &PeerId) {
        let published = room.data_producers_of_others(peer).into_iter();
        self.wanted = published.filter(|producer| !self.offered.contains_key(producer)).collect();
    }

    /// One more has to be offered.
    pub(super) fn want(&mut self, producer: DataProducerId) {
        if !self.offered.contains_key(&producer) && !self.wanted.contains(&producer) {
            self.wanted.push_back(producer);
        }
    }

    /// A data producer has ended.
    pub(super) fn forget(&mut self, producer: DataProducerId) {
        self.offered.remove(&producer);
    }

    /// A transport has ended, with what was offered on it.
    pub(super) fn forget_transport(&mut self, ended: TransportId) {
        self.offered.retain(|_, transport| *transport != ended);
    }

    /// Offers the client what it has not been offered, once it can take it.
    pub(super) async fn offer(&mut self, client: &mut Client, room: &Room) {
        if !self.wants_offers {
            return;
        }
        while let Some(producer) = self.wanted.pop_front() {
            let Some(transport) = room.newest_transport(&client.peer, Direction::Receive) else {
                self.wanted.clear(); // all is wanted again when there is one
                return;
            };
            match room.consume_data(&client.peer, transport, producer).await {
                Ok(made) => {
                    self.offered.insert(producer, transport);
                    let offers = Some(Offer::DataConsumer(made.consumer.id));
                    let payload = wire::NewDataConsumer {
                        peer_id: made.publisher,
                        id: made.consumer.id,
                        data_producer_id: producer,
                        sctp_stream_parameters: made.consumer.sctp_stream_parameters,
                        label: made.consumer.label,
                        protocol: made.consumer.protocol,
                        app_data: made.app_data,
                    };
                    let offer = Outgoing::new(outgoing::NEW_DATA_CONSUMER, &payload);
                    client.emit(Outgoing { offers, ..offer });
                }
                Err(error) => debug!(peer = %client.peer, %producer, %error, "not offered"),
            }
        }
    }
}

/// Carries out `produceData`.
pub(super) async fn produce(room: &Room, peer: &PeerId, argument: Value) -> Result<Value, Refusal> {
    let wanted: wire::ProduceData = read(argument)?;
    let on = id("transport", &wanted.transport_id)?;
    let stream = wanted.sctp_stream_parameters;
    let unreliable = stream.max_packet_life_time.is_some() || stream.max_retransmits.is_some();
    let parameters = SctpStreamParameters {
        stream_id: stream.stream_id,
        ordered: stream.ordered.unwrap_or(!unreliable),
        max_packet_life_time: stream.max_packet_life_time,
        max_retransmits: stream.max_retransmits,
    };
    let app_data = arguments::app_data(wanted.app_data)?;
    let options = DataProducerOptions {
        sctp_stream_parameters: Some(parameters),
        label: wanted.label,
        protocol: wanted.protocol,
        paused: false,
    };
    let id = room.produce_data(peer, on, options, app_data).await?;
    Ok(to_value(&wire::ProducedData { id }))
}

/// Answers with the figures of one of the client's data channels.
pub(super) async fn stats(
    room: &Room,
    peer: &PeerId,
    event: &str,
    argument: Value,
) -> Result<Value, Refusal> {
    match event {
        incoming::GET_DATA_PRODUCER_STATS => {
            let wanted: wire::DataProducerRef = read(argument)?;
            let figures =
                room.data_producer_stats(peer, id("data producer", &wanted.data_producer_id)?).await?;
            Ok(to_value(&[wire::DataStats { r#type: "data-producer", figures }]))
        }
        incoming::GET_DATA_CONSUMER_STATS => {
            let wanted: wire::DataConsumerRef = read(argument)?;
            let figures =
                room.data_consumer_stats(peer, id("data consumer", &wanted.data_consumer_id)?).await?;
            Ok(to_value(&[wire::DataStats { r#type: "data-consumer", figures }]))
        }
        unknown => Err(Refusal::unknown(unknown)),
    }
}
