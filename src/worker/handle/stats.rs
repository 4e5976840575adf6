//! Requests for figures.

use super::{RequestError, RouterHandle};
use crate::ids::{ConsumerId, ProducerId, TransportId};
use crate::sfu::api::NotFound;
use crate::sfu::stats::{StreamStats, TransportStats};

impl RouterHandle {
    /// The figures of a transport.
    ///
    /// # Errors
    /// Fails if there is no such transport.
    pub async fn transport_stats(
        &self,
        transport: TransportId,
    ) -> Result<TransportStats, RequestError<NotFound>> {
        self.worker.call(move |turn| turn.core.transport_stats(turn.now, transport)).await
    }

    /// The figures of a producer's streams.
    ///
    /// # Errors
    /// Fails if there is no such producer.
    pub async fn producer_stats(
        &self,
        producer: ProducerId,
    ) -> Result<Vec<StreamStats>, RequestError<NotFound>> {
        self.worker.call(move |turn| turn.core.producer_stats(turn.now, producer)).await
    }

    /// The figures of a consumer, and of the producer's stream that it gets.
    ///
    /// # Errors
    /// Fails if there is no such consumer.
    pub async fn consumer_stats(
        &self,
        consumer: ConsumerId,
    ) -> Result<Vec<StreamStats>, RequestError<NotFound>> {
        self.worker.call(move |turn| turn.core.consumer_stats(turn.now, consumer)).await
    }
}
