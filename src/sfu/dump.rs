//! What there is, for people who look for what is wrong: mediasoup's `dump` methods with its field names, as far as
//! weir has the same things. Keys, credentials and addresses are not in it.

use std::collections::BTreeMap;
use std::time::Instant;

use mediasoup_types::data_structures::SctpState;
use mediasoup_types::rtp_parameters::MediaKind;
use serde::Serialize;

use super::{Worker, not_found};
use crate::ids::{
    ConsumerId, DataConsumerId, DataProducerId, ProducerId, RouterId, RtpObserverId, TransportId,
};
use crate::media::ortc::ProducerType;
use crate::sfu::api::NotFound;
use crate::sfu::sctp::Sctp;
use crate::sfu::transport::Kind;

/// The routers of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerDump {
    /// Their ids.
    pub router_ids: Vec<RouterId>,
}

/// What is in a router, and who consumes whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouterDump {
    /// The router.
    pub id: RouterId,
    /// Its transports.
    pub transport_ids: Vec<TransportId>,
    /// Its observers.
    pub rtp_observer_ids: Vec<RtpObserverId>,
    /// The consumers of each producer.
    pub map_producer_id_consumer_ids: BTreeMap<ProducerId, Vec<ConsumerId>>,
    /// The producer of each consumer.
    pub map_consumer_id_producer_id: BTreeMap<ConsumerId, ProducerId>,
    /// The observers of each producer that has some.
    pub map_producer_id_observer_ids: BTreeMap<ProducerId, Vec<RtpObserverId>>,
    /// The data consumers of each data producer.
    pub map_data_producer_id_data_consumer_ids: BTreeMap<DataProducerId, Vec<DataConsumerId>>,
    /// The data producer of each data consumer.
    pub map_data_consumer_id_data_producer_id: BTreeMap<DataConsumerId, DataProducerId>,
}

/// What is on a transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TransportDump {
    /// The transport.
    pub id: TransportId,
    /// Whether its other end is the process itself.
    pub direct: bool,
    /// Its producers.
    pub producer_ids: Vec<ProducerId>,
    /// Its consumers.
    pub consumer_ids: Vec<ConsumerId>,
    /// The consumer that is sent with each SSRC.
    pub map_ssrc_consumer_id: BTreeMap<u32, ConsumerId>,
    /// The consumer whose retransmissions are sent with each SSRC.
    pub map_rtx_ssrc_consumer_id: BTreeMap<u32, ConsumerId>,
    /// Its data producers.
    pub data_producer_ids: Vec<DataProducerId>,
    /// Its data consumers.
    pub data_consumer_ids: Vec<DataConsumerId>,
    /// The state of its SCTP association, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sctp_state: Option<SctpState>,
}

/// A producer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProducerDump {
    /// The producer.
    pub id: ProducerId,
    /// Audio or video.
    pub kind: MediaKind,
    /// `simple`, `simulcast` or `svc`.
    pub r#type: ProducerType,
    /// Whether it is paused.
    pub paused: bool,
    /// Its streams, as far as their SSRCs are known.
    pub rtp_streams: Vec<RtpStreamDump>,
}

/// One stream of a producer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RtpStreamDump {
    /// Its place among the producer's encodings.
    pub encoding_idx: usize,
    /// Its SSRC.
    pub ssrc: u32,
    /// Its RID, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rid: Option<String>,
    /// The SSRC of its retransmissions, if it has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtx_ssrc: Option<u32>,
    /// Its codec.
    pub mime_type: String,
}

/// A consumer. Layers are none while there are none: it is paused, or nothing arrives or fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerDump {
    /// The consumer.
    pub id: ConsumerId,
    /// Its producer.
    pub producer_id: ProducerId,
    /// Audio or video.
    pub kind: MediaKind,
    /// What its producer is.
    pub r#type: ProducerType,
    /// Whether its client paused it.
    pub paused: bool,
    /// Whether its producer is paused.
    pub producer_paused: bool,
    /// Its share of the transport's bandwidth compared with others.
    pub priority: u8,
    /// The SSRC that it is sent with.
    pub ssrc: u32,
    /// The spatial layer that its client prefers of what there is.
    pub preferred_spatial_layer: u8,
    /// The temporal layer that its client prefers of what there is.
    pub preferred_temporal_layer: u8,
    /// The spatial layer that its client was told it gets.
    pub current_spatial_layer: Option<u8>,
    /// The temporal layer that its client was told it gets.
    pub current_temporal_layer: Option<u8>,
}

impl Worker {
    /// Its routers.
    #[must_use]
    pub fn dump(&self) -> WorkerDump {
        let mut router_ids: Vec<RouterId> = self.routers.keys().copied().collect();
        router_ids.sort_unstable();
        WorkerDump { router_ids }
    }

    /// What is in a router.
    ///
    /// # Errors
    /// Fails if there is no such router.
    pub fn router_dump(&self, id: RouterId) -> Result<RouterDump, NotFound> {
        let router = self.routers.get(&id).ok_or_else(|| not_found("router", &id))?;
        let transports = || router.transports.iter().filter_map(|key| self.transports.get(*key));
        let producers = transports().flat_map(|transport| &transport.producers);
        let producers = producers.filter_map(|key| self.producers.get(*key));
        let map_producer_id_consumer_ids: BTreeMap<_, _> =
            producers.map(|producer| (producer.id, self.consumer_ids(&producer.consumers))).collect();
        let map_data_producer_id_data_consumer_ids: BTreeMap<_, _> = self.data.of_router(id).collect();
        let mut map_producer_id_observer_ids: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (observer, producer) in self.observers.observed_in(id) {
            map_producer_id_observer_ids.entry(producer).or_default().push(observer);
        }
        Ok(RouterDump {
            id,
            transport_ids: transports().map(|transport| transport.id).collect(),
            rtp_observer_ids: self.observers.ids_in(id).collect(),
            map_consumer_id_producer_id: inverse(&map_producer_id_consumer_ids),
            map_producer_id_consumer_ids,
            map_producer_id_observer_ids,
            map_data_consumer_id_data_producer_id: inverse(&map_data_producer_id_data_consumer_ids),
            map_data_producer_id_data_consumer_ids,
        })
    }

    /// What is on a transport.
    ///
    /// # Errors
    /// Fails if there is no such transport.
    pub fn transport_dump(&self, id: TransportId) -> Result<TransportDump, NotFound> {
        let transport = self.transports.get(self.transport_key(id)?);
        let transport = transport.ok_or_else(|| not_found("transport", &id))?;
        let producers = transport.producers.iter().filter_map(|key| self.producers.get(*key));
        let consumers = || transport.consumers.iter().filter_map(|key| self.consumers.get(*key));
        let rtx_ssrcs = consumers().filter_map(|consumer| Some((consumer.rtx.as_ref()?.ssrc, consumer.id)));
        Ok(TransportDump {
            id,
            direct: matches!(transport.kind, Kind::Direct),
            producer_ids: producers.map(|producer| producer.id).collect(),
            consumer_ids: self.consumer_ids(&transport.consumers),
            map_ssrc_consumer_id: consumers().map(|consumer| (consumer.ssrc, consumer.id)).collect(),
            map_rtx_ssrc_consumer_id: rtx_ssrcs.collect(),
            data_producer_ids: self.data.producers_of(&transport.data),
            data_consumer_ids: self.data.consumers_of(&transport.data),
            sctp_state: transport.data.sctp.as_ref().map(Sctp::state),
        })
    }

    /// What a producer is.
    ///
    /// # Errors
    /// Fails if there is no such producer.
    pub fn producer_dump(&self, id: ProducerId) -> Result<ProducerDump, NotFound> {
        let producer = self.producers.get(self.producer_key(id)?);
        let producer = producer.ok_or_else(|| not_found("producer", &id))?;
        let streams = producer.streams.iter().enumerate().filter_map(|(encoding_idx, stream)| {
            Some(RtpStreamDump {
                encoding_idx,
                ssrc: stream.ssrc?,
                rid: stream.rid.clone(),
                rtx_ssrc: stream.rtx_ssrc,
                mime_type: producer.codec.mime_type().as_str().to_owned(),
            })
        });
        Ok(ProducerDump {
            id,
            kind: producer.kind,
            r#type: producer.producer_type,
            paused: producer.paused,
            rtp_streams: streams.collect(),
        })
    }

    /// What a consumer is and gets.
    ///
    /// # Errors
    /// Fails if there is no such consumer.
    pub fn consumer_dump(&self, now: Instant, id: ConsumerId) -> Result<ConsumerDump, NotFound> {
        let consumer = self.consumer_keys.get(&id).and_then(|key| self.consumers.get(*key));
        let consumer = consumer.ok_or_else(|| not_found("consumer", &id))?;
        let producer = self.producers.get(consumer.producer).ok_or_else(|| not_found("consumer", &id))?;
        let preferred = consumer.choice.preferred(&producer.offer(now));
        Ok(ConsumerDump {
            id,
            producer_id: producer.id,
            kind: producer.kind,
            r#type: producer.producer_type,
            paused: consumer.paused,
            producer_paused: producer.paused,
            priority: consumer.priority.get(),
            ssrc: consumer.ssrc,
            preferred_spatial_layer: preferred.spatial,
            preferred_temporal_layer: preferred.temporal,
            current_spatial_layer: consumer.told_layers.map(|layers| layers.spatial),
            current_temporal_layer: consumer.told_layers.map(|layers| layers.temporal),
        })
    }

    /// The ids of consumers, those on pipes once.
    fn consumer_ids(&self, keys: &[usize]) -> Vec<ConsumerId> {
        let mut ids: Vec<ConsumerId> =
            keys.iter().filter_map(|key| self.consumers.get(*key)).map(|consumer| consumer.id).collect();
        ids.dedup();
        ids
    }
}

fn inverse<P: Copy, C: Copy + Ord>(consumers_of: &BTreeMap<P, Vec<C>>) -> BTreeMap<C, P> {
    let pairs = consumers_of
        .iter()
        .flat_map(|(producer, consumers)| consumers.iter().map(|consumer| (*consumer, *producer)));
    pairs.collect()
}
