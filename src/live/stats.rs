//! The figures of a peer's own things, as the media core has them.

use super::error::ControlError;
use super::room::{Room, not_yours};
use crate::ids::{ConsumerId, PeerId, ProducerId, TransportId};
use crate::sfu::stats::{StreamStats, TransportStats};

impl Room {
    /// The figures of one of the peer's transports.
    ///
    /// # Errors
    /// Not the peer's transport.
    pub async fn transport_stats(
        &self,
        peer: &PeerId,
        transport: TransportId,
    ) -> Result<TransportStats, ControlError> {
        if !self.registry().owns_transport(peer, transport) {
            return Err(not_yours("transport", transport).into());
        }
        Ok(self.inner.router.transport_stats(transport).await?)
    }

    /// The figures of one of the peer's producers, for each stream that has arrived.
    ///
    /// # Errors
    /// Not the peer's producer.
    pub async fn producer_stats(
        &self,
        peer: &PeerId,
        producer: ProducerId,
    ) -> Result<Vec<StreamStats>, ControlError> {
        if self.registry().owner(producer).as_ref() != Some(peer) {
            return Err(not_yours("producer", producer).into());
        }
        Ok(self.inner.router.producer_stats(producer).await?)
    }

    /// The figures of one of the peer's consumers, and of the producer's stream that it gets.
    ///
    /// # Errors
    /// Not the peer's consumer.
    pub async fn consumer_stats(
        &self,
        peer: &PeerId,
        consumer: ConsumerId,
    ) -> Result<Vec<StreamStats>, ControlError> {
        self.check_consumer(peer, consumer)?;
        Ok(self.inner.router.consumer_stats(consumer).await?)
    }
}
