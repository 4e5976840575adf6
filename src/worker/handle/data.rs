//! Requests about data channels.

use tokio::sync::mpsc;

use super::{RequestError, RouterHandle};
use crate::ids::{DataConsumerId, DataProducerId, TransportId};
use crate::sfu::api::{CreateTransportError, NotFound};
use crate::sfu::data::{
    Audience, ConsumeDataError, DataConsumerInfo, DataConsumerOptions, DataConsumerStats, DataProducerInfo,
    DataProducerOptions, DataProducerStats, ProduceDataError, SendDataError, SetSubchannelsError,
};
use crate::sfu::sctp::DataMessage;

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

    /// Makes a direct transport: its data producers and data consumers are used from inside the process.
    ///
    /// # Errors
    /// See [`CreateTransportError`].
    pub async fn create_direct_transport(&self) -> Result<TransportId, RequestError<CreateTransportError>> {
        let router = self.id;
        self.worker.call(move |turn| turn.core.create_direct_transport(router)).await
    }

    /// Makes a data consumer on a direct transport. The channel holds `capacity` messages; what does not fit is
    /// dropped and counted. It ends with the data consumer, which dropping the receiver closes.
    ///
    /// # Errors
    /// See [`ConsumeDataError`].
    pub async fn consume_data_directly(
        &self,
        transport: TransportId,
        producer: DataProducerId,
        options: DataConsumerOptions,
        capacity: usize,
    ) -> Result<(DataConsumerInfo, mpsc::Receiver<DataMessage>), RequestError<ConsumeDataError>> {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let made = self.worker.call(move |turn| {
            let info = turn.core.consume_data(turn.now, transport, producer, options)?;
            turn.readers.data.insert(info.id, sender);
            Ok(info)
        });
        made.await.map(|info| (info, receiver))
    }

    /// Sends a message on a data producer of a direct transport. Waits while the worker has too much else to do.
    ///
    /// # Errors
    /// See [`SendDataError`].
    pub async fn send_data(
        &self,
        producer: DataProducerId,
        message: DataMessage,
        audience: Audience,
    ) -> Result<(), RequestError<SendDataError>> {
        self.worker.call(move |turn| turn.core.send_data(turn.now, producer, &message, &audience)).await
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
