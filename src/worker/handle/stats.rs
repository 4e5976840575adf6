//! Requests for figures, and for what there is.

use super::{RequestError, RouterHandle, WorkerPool};
use crate::ids::{ConsumerId, ProducerId, TransportId};
use crate::sfu::api::NotFound;
use crate::sfu::dump::{ConsumerDump, ProducerDump, RouterDump, TransportDump, WorkerDump};
use crate::sfu::stats::{StreamStats, TransportStats};
use crate::worker::usage::ResourceUsage;

impl WorkerPool {
    /// What each worker costs; those that are shut down are left out.
    pub async fn resource_usage(&self) -> Vec<ResourceUsage> {
        let mut usages = Vec::new();
        for worker in self.workers.iter() {
            let usage = worker.call(|_| Ok::<_, NotFound>(ResourceUsage::of_this_thread())).await;
            usages.extend(usage);
        }
        usages
    }

    /// The routers of each worker; those that are shut down are left out.
    pub async fn dump(&self) -> Vec<WorkerDump> {
        let mut dumps = Vec::new();
        for worker in self.workers.iter() {
            dumps.extend(worker.call(|turn| Ok::<_, NotFound>(turn.core.dump())).await);
        }
        dumps
    }
}

impl RouterHandle {
    /// What is in the router, and who consumes whom.
    ///
    /// # Errors
    /// Fails if the router is closed.
    pub async fn dump(&self) -> Result<RouterDump, RequestError<NotFound>> {
        let router = self.id;
        self.worker.call(move |turn| turn.core.router_dump(router)).await
    }

    /// What is on a transport.
    ///
    /// # Errors
    /// Fails if there is no such transport.
    pub async fn transport_dump(
        &self,
        transport: TransportId,
    ) -> Result<TransportDump, RequestError<NotFound>> {
        self.worker.call(move |turn| turn.core.transport_dump(transport)).await
    }

    /// What a producer is.
    ///
    /// # Errors
    /// Fails if there is no such producer.
    pub async fn producer_dump(&self, producer: ProducerId) -> Result<ProducerDump, RequestError<NotFound>> {
        self.worker.call(move |turn| turn.core.producer_dump(producer)).await
    }

    /// What a consumer is and gets.
    ///
    /// # Errors
    /// Fails if there is no such consumer.
    pub async fn consumer_dump(&self, consumer: ConsumerId) -> Result<ConsumerDump, RequestError<NotFound>> {
        self.worker.call(move |turn| turn.core.consumer_dump(turn.now, consumer)).await
    }

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
