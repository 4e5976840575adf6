//! The books of data channels: who sends messages, and who gets them.

use super::{Refusal, Registry, within};
use crate::ids::{DataConsumerId, DataProducerId, PeerId, TransportId};

/// One source of messages that a peer publishes.
#[derive(Debug, Clone)]
pub(in crate::live) struct DataProducer {
    pub(in crate::live) id: DataProducerId,
    pub(in crate::live) transport: TransportId,
    pub(in crate::live) app_data: serde_json::Value,
}

/// One source of messages as a peer gets them.
#[derive(Debug)]
pub(in crate::live) struct DataConsumer {
    pub(in crate::live) id: DataConsumerId,
    pub(in crate::live) transport: TransportId,
    pub(in crate::live) producer: DataProducerId,
}

impl Registry {
    /// Whether the peer may have one more data producer.
    pub(in crate::live) fn room_for_data_producer(&self, peer: &PeerId) -> Result<(), Refusal> {
        let held = self.peers.get(peer).ok_or(Refusal::Gone)?.data_producers.len();
        within(held, self.limits.data_producers_per_peer)
    }

    /// Notes a data producer that was made.
    pub(in crate::live) fn add_data_producer(
        &mut self,
        peer: &PeerId,
        producer: DataProducer,
    ) -> Result<(), Refusal> {
        self.room_for_data_producer(peer)?;
        let entry = self.peers.get_mut(peer).ok_or(Refusal::Gone)?;
        if !entry.has_transport(producer.transport) {
            return Err(Refusal::Gone);
        }
        let id = producer.id;
        entry.data_producers.push(producer);
        self.note(id, peer);
        Ok(())
    }

    /// The data producer and who publishes it.
    pub(in crate::live) fn data_producer(&self, id: DataProducerId) -> Option<(PeerId, &DataProducer)> {
        let name = self.owner(id)?;
        let entry = self.peers.get(&name)?.data_producers.iter().find(|candidate| candidate.id == id)?;
        Some((name, entry))
    }

    /// Everything that the others send messages from.
    pub(in crate::live) fn data_producers_of_others(&self, peer: &PeerId) -> Vec<DataProducerId> {
        let others = self.peers.iter().filter(|(name, _)| *name != peer);
        others.flat_map(|(_, entry)| entry.data_producers.iter().map(|producer| producer.id)).collect()
    }

    /// Whether the peer may have one more data consumer.
    pub(in crate::live) fn room_for_data_consumer(&self, peer: &PeerId) -> Result<(), Refusal> {
        let held = self.peers.get(peer).ok_or(Refusal::Gone)?.data_consumers.len();
        within(held, self.limits.data_consumers_per_peer)
    }

    /// Notes a data consumer that was made.
    pub(in crate::live) fn add_data_consumer(
        &mut self,
        peer: &PeerId,
        consumer: DataConsumer,
    ) -> Result<(), Refusal> {
        self.room_for_data_consumer(peer)?;
        let entry = self.peers.get_mut(peer).ok_or(Refusal::Gone)?;
        if !entry.has_transport(consumer.transport) {
            return Err(Refusal::Gone);
        }
        let id = consumer.id;
        entry.data_consumers.push(consumer);
        self.note(id, peer);
        Ok(())
    }

    /// Takes a data consumer out; tells whose it was, and of what.
    pub(in crate::live) fn remove_data_consumer(
        &mut self,
        id: DataConsumerId,
    ) -> Option<(PeerId, DataProducerId)> {
        let name = self.owner(id)?;
        self.forget([id]);
        let consumers = &mut self.peers.get_mut(&name)?.data_consumers;
        let at = consumers.iter().position(|consumer| consumer.id == id)?;
        Some((name, consumers.swap_remove(at).producer))
    }

    /// Forgets the data channels of one of the peer's transports, or of all.
    pub(super) fn forget_data(&mut self, peer: &PeerId, transport: TransportId) {
        let Some(entry) = self.peers.get_mut(peer) else { return };
        let producers: Vec<_> =
            entry.data_producers.extract_if(.., |producer| producer.transport == transport).collect();
        let consumers: Vec<_> =
            entry.data_consumers.extract_if(.., |consumer| consumer.transport == transport).collect();
        self.forget(producers.into_iter().map(|producer| producer.id));
        self.forget(consumers.into_iter().map(|consumer| consumer.id));
    }
}
