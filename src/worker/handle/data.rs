//! Requests about data channels.

use super::{RequestError, RouterHandle};
use crate::ids::{DataConsumerId, DataProducerId, TransportId};
use crate::sfu::api::NotFound;
use crate::sfu::data::{
    ConsumeDataError, DataConsumerInfo, DataConsumerOptions, DataConsumerStats, DataProducerInfo,
    DataProducerOptions, DataProducerStats, ProduceDataError, SetSubchannelsError,
};

impl RouterHandle {
    /// Makes a data producer.
    ///
    /// # Errors
    /// See [`ProduceDataError`].
    pub async fn produce_data(
        &self,
        transport: TransportId,
        options: DataProducerOptions,
    ) -> Result<DataProducerInfo, RequestError<ProduceDataError>> {
        self.worker.call(move |turn| turn.core.produce_data(turn.now, transport, options)).await
    }

    /// Makes a data consumer.
    ///
    /// # Errors
    /// See [`ConsumeDataError`].
    pub async fn consume_data(
        &self,
        transport: TransportId,
        producer: DataProducerId,
        options: DataConsumerOptions,
    ) -> Result<DataConsumerInfo, RequestError<ConsumeDataError>> {
        self.worker.call(move |turn| turn.core.consume_data(turn.now, transport, producer, options)).await
    }

    /// Pauses or resumes a data producer.
    ///
    /// # Errors
    /// Fails if there is no such data producer.
    pub async fn set_data_producer_paused(
        &self,
        producer: DataProducerId,
        paused: bool,
    ) -> Result<(), RequestError<NotFound>> {
        self.worker.call(move |turn| turn.core.set_data_producer_paused(producer, paused)).await
    }

    /// Pauses or resumes a data consumer.
    ///
    /// # Errors
    /// Fails if there is no such data consumer.
    pub async fn set_data_consumer_paused(
        &self,
        consumer: DataConsumerId,
        paused: bool,
    ) -> Result<(), RequestError<NotFound>> {
        self.worker.call(move |turn| turn.core.set_data_consumer_paused(consumer, paused)).await
    }

    /// Sets which subchannels a data consumer listens to.
    ///
    /// # Errors
    /// See [`SetSubchannelsError`].
    pub async fn set_data_consumer_subchannels(
        &self,
        consumer: DataConsumerId,
        subchannels: Vec<u16>,
    ) -> Result<(), RequestError<SetSubchannelsError>> {
        self.worker.call(move |turn| turn.core.set_data_consumer_subchannels(consumer, subchannels)).await
    }

    /// Sets at how many bytes a data consumer that was full counts as drained.
    ///
    /// # Errors
    /// Fails if there is no such data consumer.
    pub async fn set_buffered_amount_low_threshold(
        &self,
        consumer: DataConsumerId,
        threshold: usize,
    ) -> Result<(), RequestError<NotFound>> {
        self.worker.call(move |turn| turn.core.set_buffered_amount_low_threshold(consumer, threshold)).await
    }

    /// Closes a data producer; its consumers end with it.
    ///
    /// # Errors
    /// Fails if there is no such data producer.
    pub async fn close_data_producer(&self, producer: DataProducerId) -> Result<(), RequestError<NotFound>> {
        self.worker.call(move |turn| turn.core.close_data_producer(turn.now, producer)).await
    }

    /// Closes a data consumer.
    ///
    /// # Errors
    /// Fails if there is no such data consumer.
    pub async fn close_data_consumer(&self, consumer: DataConsumerId) -> Result<(), RequestError<NotFound>> {
        self.worker.call(move |turn| turn.core.close_data_consumer(turn.now, consumer)).await
    }

    /// What a data producer has received.
    ///
    /// # Errors
    /// Fails if there is no such data producer.
    pub async fn data_producer_stats(
        &self,
        producer: DataProducerId,
    ) -> Result<DataProducerStats, RequestError<NotFound>> {
        self.worker.call(move |turn| turn.core.data_producer_stats(producer)).await
    }

    /// What a data consumer has sent.
    ///
    /// # Errors
    /// Fails if there is no such data consumer.
    pub async fn data_consumer_stats(
        &self,
        consumer: DataConsumerId,
    ) -> Result<DataConsumerStats, RequestError<NotFound>> {
        self.worker.call(move |turn| turn.core.data_consumer_stats(consumer)).await
    }
}
