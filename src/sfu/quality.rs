//! The layers that consumers get: what their clients and the bandwidth allocator ask for, and what they are told.

use std::num::NonZeroU8;
use std::time::Instant;

use super::{Worker, not_found};
use crate::ids::ConsumerId;
use crate::media::codec::Layers;
use crate::media::ortc::ProducerType;
use crate::sfu::api::{Event, NotFound};
use crate::sfu::consumer::Consumer;
use crate::sfu::layers::{Allocation, Choice, Ladder, Offer};

impl Worker {
    /// Sets the layers that a consumer's client wants at most; without `temporal`, all temporal layers. What the
    /// producer has of them is returned. The switch happens at the next key frame that it needs, which is asked for;
    /// until then the old layers go on.
    ///
    /// # Errors
    /// Fails if there is no such consumer.
    pub fn set_consumer_preferred_layers(
        &mut self,
        now: Instant,
        id: ConsumerId,
        spatial: u8,
        temporal: Option<u8>,
    ) -> Result<Layers, NotFound> {
        let key = self.consumer_key(id)?;
        let preferred = Layers { spatial, temporal: temporal.unwrap_or(Layers::ALL.temporal) };
        let consumer = self.consumers.get_mut(key).ok_or_else(|| not_found("consumer", &id))?;
        consumer.choose(Choice { preferred, ..consumer.choice });
        let offer = self.producers.get(consumer.producer).map(|producer| producer.offer(now));
        let granted = offer.map_or(preferred, |offer| consumer.choice.preferred(&offer));
        self.pursue_layers(now, key);
        Ok(granted)
    }

    /// Sets a consumer's share of its transport's bandwidth: of two consumers, the one with the higher priority gets
    /// better layers first.
    ///
    /// # Errors
    /// Fails if there is no such consumer.
    pub fn set_consumer_priority(&mut self, id: ConsumerId, priority: NonZeroU8) -> Result<(), NotFound> {
        let key = self.consumer_key(id)?;
        if let Some(consumer) = self.consumers.get_mut(key) {
            consumer.priority = priority;
        }
        Ok(())
    }

    /// Asks for a key frame on behalf of a consumer's client.
    ///
    /// # Errors
    /// Fails if there is no such consumer.
    pub fn request_consumer_key_frame(&mut self, now: Instant, id: ConsumerId) -> Result<(), NotFound> {
        let key = self.consumer_key(id)?;
        self.consumer_wants_key_frame(now, key);
        Ok(())
    }

    /// Limits the layers of a consumer to what its transport's bandwidth allows, below what the client prefers.
    /// Whoever allocates calls this for each of a transport's consumers when its mind has changed; it costs nothing
    /// if the allocation is the same. [`Allocation::Nothing`] stops the consumer until something else is set.
    ///
    /// # Errors
    /// Fails if there is no such consumer.
    pub fn set_consumer_allocation(
        &mut self,
        now: Instant,
        id: ConsumerId,
        allocation: Allocation,
    ) -> Result<(), NotFound> {
        let key = self.consumer_key(id)?;
        self.allocate(now, key, allocation);
        Ok(())
    }

    /// The same by the consumer's key in the worker.
    pub(super) fn allocate(&mut self, now: Instant, key: usize, allocation: Allocation) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        if consumer.choice.allocation != allocation {
            consumer.choose(Choice { allocation, ..consumer.choice });
            self.pursue_layers(now, key);
        }
    }

    /// The layers that a consumer may be given, from the cheapest to the best one that its client prefers, with the
    /// bits per second that each takes. Only layers that arrive are listed; if none up to the preferred ones does,
    /// the least above is. Empty if nothing arrives or the consumer is paused: it needs nothing.
    ///
    /// # Errors
    /// Fails if there is no such consumer.
    pub fn consumer_ladder(&self, now: Instant, id: ConsumerId) -> Result<Ladder, NotFound> {
        Ok(self.ladder(now, self.consumer_key(id)?))
    }

    /// The same by the consumer's key in the worker.
    pub(super) fn ladder(&self, now: Instant, key: usize) -> Ladder {
        let Some(consumer) = self.consumers.get(key).filter(|consumer| !consumer.paused) else {
            return Ladder::new();
        };
        let Some(producer) = self.producers.get(consumer.producer).filter(|producer| !producer.paused) else {
            return Ladder::new();
        };
        let offer = producer.offer(now);
        let unlimited = Choice { allocation: Allocation::Unlimited, ..consumer.choice };
        let Some(best) = unlimited.target(&offer) else { return Ladder::new() };
        let mut ladder = producer.ladder(now);
        ladder.retain(|step| step.layers <= best);
        ladder
    }

    /// Chooses a consumer's layers anew and asks for the key frame that it needs to get there.
    pub(super) fn pursue_layers(&mut self, now: Instant, key: usize) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        let Some(producer) = self.producers.get(consumer.producer) else { return };
        let offer = producer.offer(now);
        let target = consumer.target(&offer);
        self.events.extend(consumer.layers_change(producer.producer_type, &offer));
        let is_up = self.transports.get(consumer.transport).is_some_and(|transport| transport.srtp.is_some());
        let Some(target) = target.filter(|_| is_up && !consumer.paused) else { return };
        if consumer.rewriter.needs_key_frame(target, producer.is_k_svc) {
            let producer = consumer.producer;
            self.want_key_frame_of(now, producer, target.stream);
        }
    }

    /// A consumer's client can't go on without a key frame: one of the stream that it gets, and of the one that it
    /// waits for.
    pub(super) fn consumer_wants_key_frame(&mut self, now: Instant, key: usize) {
        let Some(consumer) = self.consumers.get_mut(key).filter(|consumer| !consumer.paused) else { return };
        let Some(producer) = self.producers.get(consumer.producer) else { return };
        let target = consumer.target(&producer.offer(now)).map(|target| target.stream);
        let current = consumer.rewriter.current_stream().filter(|current| Some(*current) != target);
        let producer = consumer.producer;
        for stream in [target, current].into_iter().flatten() {
            self.want_key_frame_of(now, producer, stream);
        }
    }

    /// A consumer lost its place in the stream; its client is told that it gets no layers.
    pub(super) fn stop_layers(&mut self, now: Instant, key: usize) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        consumer.rewriter.lose_sync();
        let Some(producer) = self.producers.get(consumer.producer) else { return };
        self.events.extend(consumer.layers_change(producer.producer_type, &producer.offer(now)));
    }

    /// Once a second for each producer of a transport: layers that stopped arriving are given up, even if nothing
    /// arrives at all any more.
    pub(super) fn review_layers(&mut self, now: Instant, transport: usize) {
        let Some(transport) = self.transports.get(transport) else { return };
        for producer in transport.producers.iter().filter_map(|key| self.producers.get(*key)) {
            let offer = producer.offer(now);
            for key in &producer.consumers {
                let Some(consumer) = self.consumers.get_mut(*key) else { continue };
                consumer.target(&offer);
                self.events.extend(consumer.layers_change(producer.producer_type, &offer));
            }
        }
    }

    fn consumer_key(&self, id: ConsumerId) -> Result<usize, NotFound> {
        self.consumer_keys.get(&id).copied().ok_or_else(|| not_found("consumer", &id))
    }
}

impl Consumer {
    /// The event of other layers, if they are others than the client was told last. A producer with one stream of
    /// one layer has none to tell of.
    #[inline]
    pub(super) fn layers_change(&mut self, producer_type: ProducerType, offer: &Offer) -> Option<Event> {
        if producer_type == ProducerType::Simple || self.pinned.is_some() {
            return None;
        }
        let layers = self.current_layers(offer);
        let changed = std::mem::replace(&mut self.told_layers, layers) != layers;
        changed.then_some(Event::ConsumerLayersChanged { consumer: self.id, layers })
    }
}
