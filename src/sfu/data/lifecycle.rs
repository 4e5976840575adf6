//! Data producers and data consumers: made, paused, resumed and closed, and what the other side is told of it.

use std::time::Instant;

use mediasoup_types::sctp_parameters::SctpStreamParameters;

use super::{
    ConsumeDataError, DataConsumer, DataConsumerInfo, DataConsumerOptions, DataConsumerStats, DataProducer,
    DataProducerInfo, DataProducerOptions, DataProducerStats, DataSide, MAX_DATA_CHANNELS, MAX_NAME_LEN,
    MAX_SUBCHANNELS, ProduceDataError, SetSubchannelsError,
};
use crate::ids::{DataConsumerId, DataProducerId, TransportId};
use crate::sfu::api::{Event, NotFound};
use crate::sfu::direct_transport::Delivery;
use crate::sfu::sctp::MAX_STREAMS;
use crate::sfu::transport::Kind;
use crate::sfu::{Worker, not_found};

impl Worker {
    /// Makes a data producer: what comes on this stream of the transport is forwarded.
    ///
    /// # Errors
    /// Fails if there is no such transport, it has no SCTP, or the stream can't be used.
    pub fn produce_data(
        &mut self,
        now: Instant,
        transport_id: TransportId,
        options: DataProducerOptions,
    ) -> Result<DataProducerInfo, ProduceDataError> {
        let DataProducerOptions { sctp_stream_parameters, label, protocol, paused } = options;
        let key = self.transport_key(transport_id)?;
        let transport = self.transports.get_mut(key).ok_or_else(|| not_found("transport", &transport_id))?;
        let (router, carries_data) = (transport.router, transport.carries_data());
        let data = &mut transport.data;
        let free_stream = data.free_stream().ok_or(ProduceDataError::Full(MAX_DATA_CHANNELS))?;
        if label.len() > MAX_NAME_LEN || protocol.len() > MAX_NAME_LEN {
            return Err(ProduceDataError::NameTooLong);
        }
        let refuse = |why: String| Err(ProduceDataError::Parameters(why));
        let parameters = match (&transport.kind, sctp_stream_parameters) {
            (Kind::Direct, None) => SctpStreamParameters::new_ordered(free_stream),
            (Kind::Direct, Some(_)) => return refuse("a direct transport has no streams".into()),
            _ if data.sctp.is_none() => return Err(ProduceDataError::NoSctp),
            (_, None) => return refuse("missing".into()),
            (_, Some(parameters)) => parameters,
        };
        if let Err(why) = check_reliability(&parameters) {
            return refuse(why.into());
        }
        let stream = parameters.stream_id;
        if stream >= MAX_STREAMS {
            return refuse(format!("streamId {stream} is not below {MAX_STREAMS}"));
        }
        if data.producers.contains_key(&stream) || data.consumers.contains_key(&stream) {
            return refuse(format!("streamId {stream} is in use on this transport"));
        }
        if let Some(sctp) = data.sctp.as_mut().filter(|_| carries_data) {
            sctp.connect(now);
        }
        let id = DataProducerId::random();
        let info =
            DataProducerInfo { id, sctp_stream_parameters, label: label.clone(), protocol: protocol.clone() };
        let producer = DataProducer {
            id,
            router,
            transport: key,
            parameters,
            label,
            protocol,
            paused,
            consumers: Vec::new(),
            stats: DataProducerStats::default(),
        };
        let producer = self.data.producers.insert(producer);
        data.producers.insert(stream, producer);
        self.data.producer_keys.insert(id, producer);
        self.send_sctp(now, key);
        Ok(info)
    }

    /// Makes a data consumer of a data producer on a transport of the same router, on a stream that is free there.
    ///
    /// # Errors
    /// Fails if there is no such transport or data producer, the transport has no SCTP or no free stream, or the
    /// options contradict themselves.
    pub fn consume_data(
        &mut self,
        now: Instant,
        transport_id: TransportId,
        producer_id: DataProducerId,
        options: DataConsumerOptions,
    ) -> Result<DataConsumerInfo, ConsumeDataError> {
        let key = self.transport_key(transport_id)?;
        let producer_key = self.data_producer_key(producer_id)?;
        let transport = self.transports.get_mut(key).ok_or_else(|| not_found("transport", &transport_id))?;
        let producer = self.data.producers.get_mut(producer_key);
        let producer = producer
            .filter(|producer| producer.router == transport.router)
            .ok_or_else(|| not_found("data producer", &producer_id))?;
        let carries_data = transport.carries_data();
        let data = &mut transport.data;
        let stream_id = data.free_stream().ok_or(ConsumeDataError::Full(MAX_DATA_CHANNELS))?;
        let is_direct = matches!(transport.kind, Kind::Direct);
        let parameters = consumer_parameters(stream_id, &producer.parameters, &options);
        check_reliability(&parameters).map_err(|why| ConsumeDataError::Options(why.into()))?;
        if options.subchannels.len() > MAX_SUBCHANNELS {
            return Err(ConsumeDataError::Options(SetSubchannelsError::TooMany.to_string()));
        }
        match &mut data.sctp {
            Some(sctp) => {
                sctp.forget_stream(stream_id);
                if carries_data {
                    sctp.connect(now);
                }
            }
            None if is_direct => {}
            None => return Err(ConsumeDataError::NoSctp),
        }
        let info = DataConsumerInfo {
            id: DataConsumerId::random(),
            data_producer_id: producer_id,
            sctp_stream_parameters: (!is_direct).then_some(parameters),
            label: producer.label.clone(),
            protocol: producer.protocol.clone(),
            data_producer_paused: producer.paused,
        };
        let consumer = self.data.consumers.insert(DataConsumer {
            id: info.id,
            transport: key,
            producer: producer_key,
            is_direct,
            parameters,
            paused: options.paused,
            subchannels: options.subchannels,
            stats: DataConsumerStats::default(),
        });
        producer.consumers.push(consumer);
        data.consumers.insert(stream_id, consumer);
        data.next_stream = stream_id.wrapping_add(1);
        self.data.consumer_keys.insert(info.id, consumer);
        self.send_sctp(now, key);
        Ok(info)
    }

    /// Pauses or resumes a data producer: its messages are dropped while it is paused, and its consumers are told.
    ///
    /// # Errors
    /// Fails if there is no such data producer.
    pub fn set_data_producer_paused(&mut self, id: DataProducerId, paused: bool) -> Result<(), NotFound> {
        let key = self.data_producer_key(id)?;
        let Some(producer) = self.data.producers.get_mut(key) else { return Ok(()) };
        if std::mem::replace(&mut producer.paused, paused) == paused {
            return Ok(());
        }
        for consumer in producer.consumers.iter().filter_map(|key| self.data.consumers.get(*key)) {
            self.events.push_back(if paused {
                Event::DataConsumerPaused(consumer.id)
            } else {
                Event::DataConsumerResumed(consumer.id)
            });
        }
        Ok(())
    }

    /// Pauses or resumes a data consumer on its client's behalf: it misses the messages in between.
    ///
    /// # Errors
    /// Fails if there is no such data consumer.
    pub fn set_data_consumer_paused(&mut self, id: DataConsumerId, paused: bool) -> Result<(), NotFound> {
        self.data_consumer(id)?.paused = paused;
        Ok(())
    }

    /// Sets which subchannels a data consumer listens to.
    ///
    /// # Errors
    /// Fails if there is no such data consumer or there are too many subchannels.
    pub fn set_data_consumer_subchannels(
        &mut self,
        id: DataConsumerId,
        subchannels: Vec<u16>,
    ) -> Result<(), SetSubchannelsError> {
        let consumer = self.data_consumer(id)?;
        if subchannels.len() > MAX_SUBCHANNELS {
            return Err(SetSubchannelsError::TooMany);
        }
        consumer.subchannels = subchannels;
        Ok(())
    }

    /// Sets at how many bytes a data consumer that was full counts as drained
    /// ([`Event::DataConsumerBufferedAmountLow`]); 0 by default.
    ///
    /// # Errors
    /// Fails if there is no such data consumer.
    pub fn set_buffered_amount_low_threshold(
        &mut self,
        id: DataConsumerId,
        threshold: usize,
    ) -> Result<(), NotFound> {
        let consumer = self.data_consumer(id)?;
        let (transport, stream) = (consumer.transport, consumer.parameters.stream_id);
        if let Some(sctp) = self.sctp(transport) {
            sctp.set_buffered_amount_low_threshold(stream, threshold);
        }
        Ok(())
    }

    /// What a data producer has received.
    ///
    /// # Errors
    /// Fails if there is no such data producer.
    pub fn data_producer_stats(&self, id: DataProducerId) -> Result<DataProducerStats, NotFound> {
        let key = self.data_producer_key(id)?;
        Ok(self.data.producers.get(key).map(|producer| producer.stats).unwrap_or_default())
    }

    /// What a data consumer has sent.
    ///
    /// # Errors
    /// Fails if there is no such data consumer.
    pub fn data_consumer_stats(&mut self, id: DataConsumerId) -> Result<DataConsumerStats, NotFound> {
        let consumer = self.data_consumer(id)?;
        let (stats, transport, stream) = (consumer.stats, consumer.transport, consumer.parameters.stream_id);
        let buffered_amount = self.sctp(transport).map_or(0, |sctp| sctp.buffered_amount(stream));
        Ok(DataConsumerStats { buffered_amount, ..stats })
    }

    /// Closes a data producer: its stream is reset, and its consumers end with it.
    ///
    /// # Errors
    /// Fails if there is no such data producer.
    pub fn close_data_producer(&mut self, now: Instant, id: DataProducerId) -> Result<(), NotFound> {
        let key = self.data_producer_key(id)?;
        self.remove_data_producer(now, key);
        Ok(())
    }

    /// Closes a data consumer: its stream is reset, and the number can be used again.
    ///
    /// # Errors
    /// Fails if there is no such data consumer.
    pub fn close_data_consumer(&mut self, now: Instant, id: DataConsumerId) -> Result<(), NotFound> {
        let key = *self.data.consumer_keys.get(&id).ok_or_else(|| not_found("data consumer", &id))?;
        self.remove_data_consumer(now, key);
        Ok(())
    }

    /// Ends what a transport that is gone had of data channels.
    pub(in crate::sfu) fn remove_data(&mut self, now: Instant, data: DataSide) {
        data.producers.into_values().for_each(|key| self.remove_data_producer(now, key));
        for key in data.consumers.into_values() {
            self.remove_data_consumer(now, key);
        }
    }

    fn remove_data_producer(&mut self, now: Instant, key: usize) {
        let Some(producer) = self.data.producers.try_remove(key) else { return };
        self.data.producer_keys.remove(&producer.id);
        for consumer in producer.consumers {
            if let Some(id) = self.remove_data_consumer(now, consumer) {
                self.events.push_back(Event::DataConsumerClosed(id));
            }
        }
        if let Some(transport) = self.transports.get_mut(producer.transport) {
            transport.data.producers.remove(&producer.parameters.stream_id);
        }
        // There is no asking the peer to close its direction: closing ours makes it do so (RFC 8831 section 6.7).
        self.close_stream(now, producer.transport, producer.parameters.stream_id);
    }

    fn remove_data_consumer(&mut self, now: Instant, key: usize) -> Option<DataConsumerId> {
        let consumer = self.data.consumers.try_remove(key)?;
        self.data.consumer_keys.remove(&consumer.id);
        if consumer.is_direct {
            self.delivered.push_back(Delivery::DataConsumerClosed(consumer.id));
        }
        if let Some(producer) = self.data.producers.get_mut(consumer.producer) {
            producer.consumers.retain(|known| *known != key);
        }
        if let Some(transport) = self.transports.get_mut(consumer.transport) {
            transport.data.consumers.remove(&consumer.parameters.stream_id);
        }
        self.close_stream(now, consumer.transport, consumer.parameters.stream_id);
        Some(consumer.id)
    }

    fn close_stream(&mut self, now: Instant, transport: usize, stream: u16) {
        let Some(sctp) = self.sctp(transport) else { return };
        sctp.reset_stream(now, stream);
        self.send_sctp(now, transport);
    }

    /// Whether a data consumer is there.
    #[must_use]
    pub fn has_data_consumer(&self, id: DataConsumerId) -> bool {
        self.data.consumer_keys.contains_key(&id)
    }

    pub(in crate::sfu) fn data_producer_key(&self, id: DataProducerId) -> Result<usize, NotFound> {
        self.data.producer_keys.get(&id).copied().ok_or_else(|| not_found("data producer", &id))
    }

    pub(in crate::sfu) fn data_consumer(
        &mut self,
        id: DataConsumerId,
    ) -> Result<&mut DataConsumer, NotFound> {
        let key = self.data.consumer_keys.get(&id);
        key.and_then(|key| self.data.consumers.get_mut(*key)).ok_or_else(|| not_found("data consumer", &id))
    }
}

impl DataSide {
    /// A stream that no data producer and no data consumer uses.
    fn free_stream(&self) -> Option<u16> {
        let after = self.next_stream % MAX_STREAMS;
        let is_free =
            |stream: &u16| !self.producers.contains_key(stream) && !self.consumers.contains_key(stream);
        (after..MAX_STREAMS).chain(0..after).find(is_free)
    }
}

/// Messages that are in order are never given up, and there is one reason at most to give one up.
fn check_reliability(parameters: &SctpStreamParameters) -> Result<(), &'static str> {
    match (parameters.ordered, parameters.max_packet_life_time, parameters.max_retransmits) {
        (_, Some(_), Some(_)) => Err("maxPacketLifeTime and maxRetransmits exclude each other"),
        (true, Some(_), _) | (true, _, Some(_)) => {
            Err("maxPacketLifeTime and maxRetransmits need ordered to be false")
        }
        _ => Ok(()),
    }
}

/// As the data producer has it, where the options leave it open (mediasoup's rule: a limit implies that order is given
/// up).
fn consumer_parameters(
    stream_id: u16,
    producer: &SctpStreamParameters,
    options: &DataConsumerOptions,
) -> SctpStreamParameters {
    let DataConsumerOptions { ordered, max_packet_life_time, max_retransmits, .. } = *options;
    if ordered.is_none() && max_packet_life_time.is_none() && max_retransmits.is_none() {
        return SctpStreamParameters { stream_id, ..*producer };
    }
    let is_limited = max_packet_life_time.is_some() || max_retransmits.is_some();
    let ordered = ordered.unwrap_or(!is_limited && producer.ordered);
    SctpStreamParameters { stream_id, ordered, max_packet_life_time, max_retransmits }
}
