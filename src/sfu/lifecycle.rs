//! Producers, consumers and taps: made, paused, resumed and closed, and what the other side is told of it.

use std::time::Instant;

use mediasoup_types::rtp_parameters::{MediaKind, RtpCapabilities, RtpParameters};

use super::{Worker, not_found};
use crate::ids::{ConsumerId, ProducerId, Ssrc, TapId, TransportId};
use crate::media::ortc::{self, ConsumerIdentity};
use crate::sfu::api::{
    ConsumeError, ConsumerInfo, Event, NotFound, ProduceError, ProducerInfo, TapInfo, TapOutput,
    TransportCloseReason,
};
use crate::sfu::consumer::{Consumer, Tap};
use crate::sfu::layers::ConsumeOptions;
use crate::sfu::producer::Producer;
use crate::sfu::rewrite::Rewriter;

/// Producers that one transport may have.
pub const MAX_PRODUCERS: usize = 32;
/// Consumers that one transport may have.
pub const MAX_CONSUMERS: usize = 512;

impl Worker {
    /// Makes a producer on a transport.
    ///
    /// # Errors
    /// Fails if there is no such transport, it is full, or `parameters` contradict themselves, the router or what
    /// the transport's other producers use.
    pub fn produce(
        &mut self,
        now: Instant,
        transport_id: TransportId,
        kind: MediaKind,
        parameters: &RtpParameters,
        paused: bool,
    ) -> Result<ProducerInfo, ProduceError> {
        let transport_key = self.transport_key(transport_id)?;
        let transport =
            self.transports.get(transport_key).ok_or_else(|| not_found("transport", &transport_id))?;
        if transport.producers.len() >= MAX_PRODUCERS {
            return Err(ProduceError::Full(MAX_PRODUCERS));
        }
        let router = transport.router;
        let capabilities =
            &self.routers.get(&router).ok_or_else(|| not_found("router", &router))?.capabilities;
        let refused = |error: ortc::OrtcError| ProduceError::Parameters(error.to_string());
        let mapping = ortc::producer_mapping(kind, parameters, capabilities, || Ssrc(rand::random()))
            .map_err(refused)?;
        let consumable = ortc::consumable_parameters(kind, parameters, capabilities, &mapping);
        let codec = parameters.codecs.iter().find(|codec| !codec.is_rtx()).cloned();
        let codec = codec.ok_or_else(|| ProduceError::Parameters("no media codec".into()))?;
        let producer_type = ortc::producer_type(parameters);
        let id = ProducerId::random();
        let info = ProducerInfo { id, kind, producer_type, codec: codec.clone() };
        let producer = Producer::new(
            now,
            id,
            router,
            transport_key,
            kind,
            parameters,
            &mapping,
            consumable,
            codec,
            producer_type,
            paused,
        );
        self.check_free(transport_key, &producer)?;
        let key = self.producers.insert(producer);
        self.producer_keys.insert(id, key);
        if let Some(transport) = self.transports.get_mut(transport_key) {
            transport.producers.push(key);
            transport.bandwidth.incoming.add_producer(now, parameters);
        }
        Ok(info)
    }

    /// A new producer must not claim an SSRC, or a MID and RID, that another one of the transport has.
    fn check_free(&self, transport: usize, new: &Producer) -> Result<(), ProduceError> {
        let Some(transport) = self.transports.get(transport) else { return Ok(()) };
        for known in transport.producers.iter().filter_map(|key| self.producers.get(*key)) {
            let ssrcs = |producer: &Producer| -> Vec<u32> {
                producer.streams.iter().flat_map(|stream| [stream.ssrc, stream.rtx_ssrc]).flatten().collect()
            };
            let taken = ssrcs(known);
            if let Some(ssrc) = ssrcs(new).into_iter().find(|ssrc| taken.contains(ssrc)) {
                return Err(ProduceError::Parameters(format!("SSRC {ssrc} is in use on this transport")));
            }
            if new.mid.is_some() && new.mid == known.mid {
                return Err(ProduceError::Parameters(format!(
                    "mid {:?} is in use on this transport",
                    new.mid.as_deref().unwrap_or_default()
                )));
            }
        }
        Ok(())
    }

    /// Pauses or resumes a producer: its consumers and taps are told.
    ///
    /// # Errors
    /// Fails if there is no such producer.
    pub fn set_producer_paused(
        &mut self,
        now: Instant,
        id: ProducerId,
        paused: bool,
    ) -> Result<(), NotFound> {
        let key = self.producer_key(id)?;
        let Some(producer) = self.producers.get_mut(key) else { return Ok(()) };
        if std::mem::replace(&mut producer.paused, paused) == paused {
            return Ok(());
        }
        let consumers = producer.consumers.clone();
        // The streams of a pipe share an id: one event is enough.
        let is_first = |consumer: &&Consumer| consumer.pinned.is_none_or(|stream| stream == 0);
        for consumer in consumers.iter().filter_map(|key| self.consumers.get(*key)).filter(is_first) {
            self.events.push_back(if paused {
                Event::ConsumerPaused(consumer.id)
            } else {
                Event::ConsumerResumed(consumer.id)
            });
        }
        for tap in producer.taps.iter() {
            let Some(tap) = self.taps.get_mut(*tap) else { continue };
            tap.rewriter.lose_sync();
            self.tapped.push_back((tap.id, if paused { TapOutput::Paused } else { TapOutput::Resumed }));
        }
        let has_readers = Tap::any_reads(&self.taps, &producer.taps);
        for consumer in consumers {
            self.stop_layers(now, consumer);
            if !paused {
                self.pursue_layers(now, consumer);
            }
        }
        if !paused && has_readers {
            self.want_key_frame(now, key);
        }
        Ok(())
    }

    /// Closes a producer; its consumers and taps end with it.
    ///
    /// # Errors
    /// Fails if there is no such producer.
    pub fn close_producer(&mut self, _now: Instant, id: ProducerId) -> Result<(), NotFound> {
        let key = self.producer_key(id)?;
        self.remove_producer(key);
        Ok(())
    }

    /// Makes a consumer of a producer on a transport of the same router.
    ///
    /// # Errors
    /// Fails if there is no such transport or producer, the transport is full, or a client with `capabilities`
    /// can't receive the producer.
    pub fn consume(
        &mut self,
        now: Instant,
        transport_id: TransportId,
        producer_id: ProducerId,
        capabilities: &RtpCapabilities,
        options: impl Into<ConsumeOptions>,
    ) -> Result<ConsumerInfo, ConsumeError> {
        let options = options.into();
        let transport_key = self.transport_key(transport_id)?;
        let producer_key = self.producer_key(producer_id)?;
        let transport =
            self.transports.get_mut(transport_key).ok_or_else(|| not_found("transport", &transport_id))?;
        let producer =
            self.producers.get_mut(producer_key).ok_or_else(|| not_found("producer", &producer_id))?;
        if producer.router != transport.router {
            return Err(not_found("producer", &producer_id).into());
        }
        if transport.consumers.len() >= MAX_CONSUMERS {
            return Err(ConsumeError::Full(MAX_CONSUMERS));
        }
        let identity = ConsumerIdentity {
            mid: Some(options.offered_mid.clone().unwrap_or_else(|| transport.next_mid.to_string())),
            ssrc: Ssrc(rand::random()),
            rtx_ssrc: Ssrc(rand::random()),
        };
        let parameters = match options.offered_mid {
            Some(_) => ortc::offered_consumer_parameters(&producer.consumable, capabilities, identity),
            None => ortc::consumer_parameters(&producer.consumable, capabilities, identity),
        };
        let mut rtp_parameters = parameters.map_err(|error| ConsumeError::Capabilities(error.to_string()))?;
        if !options.enable_rtx.unwrap_or(producer.kind == MediaKind::Video) {
            ortc::refuse_retransmissions(&mut rtp_parameters);
        }
        let id = ConsumerId::random();
        let mut consumer = Consumer::new(id, transport_key, producer_key, &rtp_parameters, rand::random())
            .ok_or_else(|| ConsumeError::Capabilities("no common codec".into()))?;
        consumer.paused = options.paused;
        let choice = options.choice();
        // Layers are video's, except for the one of audio that DTX is.
        if producer.kind == MediaKind::Video || options.ignore_dtx {
            consumer.choose(choice);
        }
        transport.next_mid = transport.next_mid.wrapping_add(1);
        transport.bandwidth.add_consumer(now, &rtp_parameters);
        let info = ConsumerInfo {
            id,
            producer_id,
            kind: producer.kind,
            rtp_parameters,
            producer_type: producer.producer_type,
            producer_paused: producer.paused,
        };
        let key = self.consumers.insert(consumer);
        producer.consumers.push(key);
        transport.consumers.push(key);
        self.consumer_keys.insert(id, key);
        self.distribute(now, transport_key);
        self.pursue_layers(now, key);
        Ok(info)
    }

    /// Pauses or resumes a consumer on its client's behalf. Resuming asks the publisher for a key frame.
    ///
    /// # Errors
    /// Fails if there is no such consumer.
    pub fn set_consumer_paused(
        &mut self,
        now: Instant,
        id: ConsumerId,
        paused: bool,
    ) -> Result<(), NotFound> {
        for key in self.members(id)? {
            let Some(consumer) = self.consumers.get_mut(key) else { continue };
            let transport = consumer.transport;
            if std::mem::replace(&mut consumer.paused, paused) != paused {
                self.stop_layers(now, key);
                self.distribute(now, transport);
                self.pursue_layers(now, key);
            }
        }
        Ok(())
    }

    /// A transport got its keys: consumers that were resumed before that now need their key frames.
    pub(super) fn start_consumers(&mut self, now: Instant, transport: usize) {
        let Some(transport) = self.transports.get(transport) else { return };
        transport.consumers.clone().into_iter().for_each(|consumer| self.pursue_layers(now, consumer));
    }

    /// Closes a consumer.
    ///
    /// # Errors
    /// Fails if there is no such consumer.
    pub fn close_consumer(&mut self, _now: Instant, id: ConsumerId) -> Result<(), NotFound> {
        for key in self.members(id)? {
            self.remove_consumer(key);
        }
        Ok(())
    }

    /// Asks a producer's publisher for a key frame.
    ///
    /// # Errors
    /// Fails if there is no such producer.
    pub fn request_key_frame(&mut self, now: Instant, id: ProducerId) -> Result<(), NotFound> {
        let key = self.producer_key(id)?;
        self.want_key_frame(now, key);
        Ok(())
    }

    /// Hands a producer's packets to readers inside the process, by [`Self::poll_tapped`]: each of its simulcast streams
    /// to a reader of its own, from the smallest to the largest. The reader of a stream that does not arrive gets the
    /// next smaller one. Key frames are asked of all of them at once.
    ///
    /// # Errors
    /// Fails if there is no such producer.
    pub fn tap(&mut self, now: Instant, id: ProducerId) -> Result<Vec<TapInfo>, NotFound> {
        let key = self.producer_key(id)?;
        let streams = self.producers.get(key).map_or(0, |producer| producer.streams.len());
        let taps = (0..streams).filter_map(|stream| self.add_tap(key, stream)).collect();
        self.want_key_frame(now, key);
        Ok(taps)
    }

    fn add_tap(&mut self, producer_key: usize, highest: usize) -> Option<TapInfo> {
        let producer = self.producers.get_mut(producer_key)?;
        let info = TapInfo {
            id: TapId::random(),
            kind: producer.kind,
            codec: producer.codec.clone(),
            producer_paused: producer.paused,
        };
        let tap = Tap {
            id: info.id,
            producer: producer_key,
            highest,
            rewriter: Rewriter::new(producer.codec.clock_rate().get(), rand::random()),
            ssrc: rand::random(),
            payload_type: producer.codec.payload_type(),
            paused: false,
        };
        let key = self.taps.insert(tap);
        producer.taps.push(key);
        self.tap_keys.insert(info.id, key);
        Some(info)
    }

    /// Pauses or resumes a tap. A paused one is told what becomes of its producer and gets no packets; it costs nothing and
    /// asks for nothing. Video goes on with a key frame, which is asked for.
    ///
    /// # Errors
    /// Fails if there is no such tap.
    pub fn set_tap_paused(&mut self, now: Instant, id: TapId, paused: bool) -> Result<(), NotFound> {
        let key = self.tap_keys.get(&id).ok_or_else(|| not_found("tap", &id))?;
        let Some(tap) = self.taps.get_mut(*key) else { return Ok(()) };
        if std::mem::replace(&mut tap.paused, paused) == paused {
            return Ok(());
        }
        tap.rewriter.lose_sync();
        let producer = tap.producer;
        if !paused {
            self.want_key_frame(now, producer);
        }
        Ok(())
    }

    /// Ends a tap.
    ///
    /// # Errors
    /// Fails if there is no such tap.
    pub fn close_tap(&mut self, id: TapId) -> Result<(), NotFound> {
        let key = self.tap_keys.remove(&id).ok_or_else(|| not_found("tap", &id))?;
        if let Some(tap) = self.taps.try_remove(key)
            && let Some(producer) = self.producers.get_mut(tap.producer)
        {
            producer.taps.retain(|known| *known != key);
        }
        Ok(())
    }

    pub(super) fn producer_key(&self, id: ProducerId) -> Result<usize, NotFound> {
        self.producer_keys.get(&id).copied().ok_or_else(|| not_found("producer", &id))
    }

    fn remove_producer(&mut self, key: usize) {
        let Some(producer) = self.producers.try_remove(key) else { return };
        self.producer_keys.remove(&producer.id);
        self.pending.retain(|pending| *pending != key);
        if let Some(transport) = self.transports.get_mut(producer.transport) {
            transport.forget_producer(key);
        }
        for consumer_key in producer.consumers {
            if let Some(consumer) = self.remove_consumer(consumer_key) {
                self.events.push_back(Event::ConsumerClosed(consumer));
            }
        }
        for tap_key in producer.taps {
            if let Some(tap) = self.taps.try_remove(tap_key) {
                self.tap_keys.remove(&tap.id);
                self.tapped.push_back((tap.id, TapOutput::Closed));
            }
        }
    }

    fn remove_consumer(&mut self, key: usize) -> Option<ConsumerId> {
        let consumer = self.consumers.try_remove(key)?;
        // The streams of a pipe share an id, and end as one.
        let is_news = self.consumer_keys.remove(&consumer.id).is_some();
        self.pipe_consumers.remove(&consumer.id);
        if let Some(transport) = self.transports.get_mut(consumer.transport) {
            transport.consumers.retain(|known| *known != key);
        }
        if let Some(producer) = self.producers.get_mut(consumer.producer) {
            producer.consumers.retain(|known| *known != key);
        }
        is_news.then_some(consumer.id)
    }

    /// Ends a transport that nobody asked to end.
    pub(super) fn end_transport(&mut self, now: Instant, key: usize, reason: TransportCloseReason) {
        let Some(id) = self.transports.get(key).map(|transport| transport.id) else { return };
        self.remove_transport(now, key);
        self.events.push_back(Event::TransportClosed(id, reason));
    }

    pub(super) fn remove_transport(&mut self, now: Instant, key: usize) {
        self.leave_webrtc(now, key);
        self.leave_plain(key);
        self.leave_direct(key);
        let Some(transport) = self.transports.try_remove(key) else { return };
        self.transport_keys.remove(&transport.id);
        if let Some(router) = self.routers.get_mut(&transport.router) {
            router.transports.retain(|known| *known != key);
        }
        self.remove_data(now, transport.data);
        for producer in transport.producers {
            self.remove_producer(producer);
        }
        for consumer in transport.consumers {
            self.remove_consumer(consumer);
        }
    }
}
