//! Data channels in a room: messages of one peer for the others.

use super::error::{ConsumeDataError, ControlError, ProduceDataError};
use super::event::Event;
use super::registry::{DataConsumer, DataProducer, Direction, Refusal, TransportRef};
use super::room::{Room, not_yours};
use crate::ids::{DataConsumerId, DataProducerId, PeerId, TransportId};
use crate::sfu::data::{
    DataConsumerInfo, DataConsumerOptions, DataConsumerStats, DataProducerOptions, DataProducerStats,
};

/// A data consumer that was made, and what its publisher says about the source.
#[derive(Debug, Clone)]
pub struct ConsumedData {
    /// The data consumer.
    pub consumer: DataConsumerInfo,
    /// Who publishes the source.
    pub publisher: PeerId,
    /// The publisher's own words, as given with `produce_data`.
    pub app_data: serde_json::Value,
}

impl Room {
    /// Publishes a source of messages on one of the peer's transports, and tells everyone.
    ///
    /// # Errors
    /// No such transport to send on, too many data producers, or options that can't be used.
    pub async fn produce_data(
        &self,
        peer: &PeerId,
        on: TransportId,
        options: DataProducerOptions,
        app_data: serde_json::Value,
    ) -> Result<DataProducerId, ProduceDataError> {
        let transport = {
            let registry = self.registry();
            registry.room_for_data_producer(peer).map_err(produce_refusal)?;
            let found = registry.transport(peer, TransportRef::Id(on), Direction::Send);
            found.ok_or_else(|| not_yours("transport to send on", on))?
        };
        let id = self.inner.router.produce_data(transport, options).await?.id;
        let added = self.registry().add_data_producer(peer, DataProducer { id, transport, app_data });
        if let Err(refusal) = added {
            self.log_refused("close data producer", self.inner.router.close_data_producer(id).await);
            return Err(produce_refusal(refusal));
        }
        self.publish(Event::NewDataProducer { peer: peer.clone(), producer: id });
        Ok(id)
    }

    /// Gives the peer a data consumer of `producer` on one of its transports.
    ///
    /// # Errors
    /// No such transport to receive on, no such data producer, too many data consumers, or no SCTP on the transport.
    pub async fn consume_data(
        &self,
        peer: &PeerId,
        on: TransportId,
        producer: DataProducerId,
    ) -> Result<ConsumedData, ConsumeDataError> {
        let (transport, publisher, app_data) = {
            let registry = self.registry();
            let found = registry.transport(peer, TransportRef::Id(on), Direction::Receive);
            let transport = found.ok_or_else(|| not_yours("transport to receive on", on))?;
            let (publisher, entry) =
                registry.data_producer(producer).ok_or_else(|| not_yours("data producer", producer))?;
            registry.room_for_data_consumer(peer).map_err(consume_refusal)?;
            (transport, publisher, entry.app_data.clone())
        };
        let options = DataConsumerOptions::default();
        let consumer = self.inner.router.consume_data(transport, producer, options).await?;
        let entry = DataConsumer { id: consumer.id, transport, producer };
        let added = self.registry().add_data_consumer(peer, entry);
        if let Err(refusal) = added {
            self.log_refused("close data consumer", self.inner.router.close_data_consumer(consumer.id).await);
            return Err(consume_refusal(refusal));
        }
        Ok(ConsumedData { consumer, publisher, app_data })
    }

    /// Closes one of the peer's data consumers.
    ///
    /// # Errors
    /// Not the peer's data consumer.
    pub async fn close_data_consumer(&self, peer: &PeerId, id: DataConsumerId) -> Result<(), ControlError> {
        {
            let mut registry = self.registry();
            if registry.owner(id).as_ref() != Some(peer) {
                return Err(not_yours("data consumer", id).into());
            }
            registry.remove_data_consumer(id);
        }
        Ok(self.inner.router.close_data_consumer(id).await?)
    }

    /// What the other peers send messages from.
    #[must_use]
    pub fn data_producers_of_others(&self, peer: &PeerId) -> Vec<DataProducerId> {
        self.registry().data_producers_of_others(peer)
    }

    /// The figures of one of the peer's data producers.
    ///
    /// # Errors
    /// Not the peer's data producer.
    pub async fn data_producer_stats(
        &self,
        peer: &PeerId,
        id: DataProducerId,
    ) -> Result<DataProducerStats, ControlError> {
        if self.registry().owner(id).as_ref() != Some(peer) {
            return Err(not_yours("data producer", id).into());
        }
        Ok(self.inner.router.data_producer_stats(id).await?)
    }

    /// The figures of one of the peer's data consumers.
    ///
    /// # Errors
    /// Not the peer's data consumer.
    pub async fn data_consumer_stats(
        &self,
        peer: &PeerId,
        id: DataConsumerId,
    ) -> Result<DataConsumerStats, ControlError> {
        if self.registry().owner(id).as_ref() != Some(peer) {
            return Err(not_yours("data consumer", id).into());
        }
        Ok(self.inner.router.data_consumer_stats(id).await?)
    }
}

fn produce_refusal(refusal: Refusal) -> ProduceDataError {
    match refusal {
        Refusal::Full(limit) => ProduceDataError::Full(limit),
        Refusal::Gone | Refusal::NameTaken => ProduceDataError::Closed,
    }
}

fn consume_refusal(refusal: Refusal) -> ConsumeDataError {
    match refusal {
        Refusal::Full(limit) => ConsumeDataError::Full(limit),
        Refusal::Gone | Refusal::NameTaken => ConsumeDataError::Closed,
    }
}
