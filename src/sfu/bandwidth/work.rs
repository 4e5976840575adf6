//! What a worker does about its transports' bandwidth: feedback to publishers, reports of viewers, probes.

use std::num::NonZeroU8;
use std::time::Instant;

use mediasoup_types::rtp_parameters::MediaKind;
use smallvec::SmallVec;

use super::Outgoing;
use super::allocate::Wish;
use super::copies::Copy;
use super::outgoing::MINIMUM;
use super::pacer::SLOT;
use crate::ids::{Bitrate, TransportId};
use crate::media::codec::Layers;
use crate::media::ortc::ProducerType;
use crate::media::rtcp::transport_cc::TransportFeedback;
use crate::sfu::api::{Event, NotFound, SetBitrateError};
use crate::sfu::burst::Burst;
use crate::sfu::header::Stamp;
use crate::sfu::layers::{Allocation, Ladder};
use crate::sfu::transport::{RemoteSsrc, Sending};
use crate::sfu::{Transmit, Worker, not_found, post};

/// Who a wish is of, and what its steps are.
struct Share {
    consumer: usize,
    is_audio: bool,
    ladder: Ladder,
}

/// Bytes that a packet of padding has besides: headers, extensions, the SRTP tag.
const PADDING_OVERHEAD: usize = 80;
/// Padding packets of one step of a probe.
const MAX_PADDING_PACKETS: usize = 64;

impl Worker {
    /// Limits what a transport's peer sends in sum (mediasoup's `maxIncomingBitrate`), or ends the limit. The peer is
    /// told by REMB, which is a wish: nothing is dropped.
    ///
    /// # Errors
    /// Fails if there is no such transport or the limit is too low to be of use.
    pub fn set_max_incoming_bitrate(
        &mut self,
        now: Instant,
        id: TransportId,
        limit: Option<Bitrate>,
    ) -> Result<(), SetBitrateError> {
        if let Some(limit) = limit.filter(|limit| *limit < MINIMUM) {
            return Err(SetBitrateError::TooLow(limit));
        }
        let key = self.transport_key(id)?;
        let transport = self.transports.get_mut(key).ok_or_else(|| not_found("transport", &id))?;
        transport.bandwidth.incoming.set_limit(now, limit);
        self.set_timer(key);
        Ok(())
    }

    /// Bounds from above what a transport's path is thought to take (mediasoup's `maxOutgoingBitrate`).
    ///
    /// # Errors
    /// Fails if there is no such transport or the bounds make no sense.
    pub fn set_max_outgoing_bitrate(
        &mut self,
        now: Instant,
        id: TransportId,
        limit: Option<Bitrate>,
    ) -> Result<(), SetBitrateError> {
        self.bound_outgoing(now, id, |outgoing| outgoing.set_max(limit))
    }

    /// Bounds from below what a transport's path is thought to take (mediasoup's `minOutgoingBitrate`).
    ///
    /// # Errors
    /// Fails if there is no such transport or the bounds make no sense.
    pub fn set_min_outgoing_bitrate(
        &mut self,
        now: Instant,
        id: TransportId,
        limit: Option<Bitrate>,
    ) -> Result<(), SetBitrateError> {
        self.bound_outgoing(now, id, |outgoing| outgoing.set_min(limit))
    }

    fn bound_outgoing(
        &mut self,
        now: Instant,
        id: TransportId,
        bound: impl FnOnce(&mut Outgoing) -> Result<(), SetBitrateError>,
    ) -> Result<(), SetBitrateError> {
        let key = self.transport_key(id)?;
        let transport = self.transports.get_mut(key).ok_or_else(|| not_found("transport", &id))?;
        bound(transport.bandwidth.outgoing(now))?;
        self.distribute(now, key);
        Ok(())
    }

    /// What a transport's path to its peer is thought to take; none if the peer tells nothing of it.
    ///
    /// # Errors
    /// Fails if there is no such transport.
    pub fn available_outgoing_bitrate(&self, id: TransportId) -> Result<Option<Bitrate>, NotFound> {
        let key = self.transport_key(id)?;
        let transport = self.transports.get(key).ok_or_else(|| not_found("transport", &id))?;
        Ok(transport.bandwidth.outgoing.as_ref().and_then(|outgoing| outgoing.available()))
    }

    pub(in crate::sfu) fn handle_transport_feedback(
        &mut self,
        now: Instant,
        key: usize,
        feedback: &TransportFeedback<'_>,
    ) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let Some(outgoing) = &mut transport.bandwidth.outgoing else { return };
        outgoing.handle_feedback(now, feedback);
        for Copy { consumer: (key, ssrc), sequence } in outgoing.take_lost_copies() {
            if self.consumers.get(key).is_some_and(|consumer| consumer.ssrc == ssrc) {
                self.retransmit(now, key, std::iter::once(sequence));
            }
        }
        self.distribute(now, key);
    }

    pub(in crate::sfu) fn handle_estimated_bitrate(&mut self, now: Instant, key: usize, bitrate: Bitrate) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let Some(outgoing) = &mut transport.bandwidth.outgoing else { return };
        outgoing.handle_estimate(bitrate);
        self.distribute(now, key);
    }

    /// Hands out what a transport's path takes to its consumers.
    pub(in crate::sfu) fn distribute(&mut self, now: Instant, key: usize) {
        let Some(transport) = self.transports.get(key) else { return };
        let Some(outgoing) = &transport.bandwidth.outgoing else { return };
        let (available, is_told, is_unknown) =
            (outgoing.available(), outgoing.is_told(), outgoing.is_unknown());
        let is_draining = outgoing.is_draining();
        let id = transport.id;
        let consumers: SmallVec<[usize; 8]> = transport.consumers.iter().copied().collect();
        let Some(available) = available else {
            if !outgoing.hears_of_packets() {
                return; // nobody has ever limited them
            }
            consumers.into_iter().for_each(|consumer| self.allocate(now, consumer, Allocation::Unlimited));
            return;
        };
        let mut shares: SmallVec<[Share; 8]> = SmallVec::new();
        let mut wishes: SmallVec<[Wish; 8]> = SmallVec::new();
        let mut audio = 0;
        for consumer in consumers {
            let Some((mut wish, share)) = self.wish(now, consumer) else { continue };
            wish.is_lowest_granted = is_unknown;
            if share.is_audio {
                audio += wish.steps.last().copied().unwrap_or(0);
            } else {
                wishes.push(wish);
                shares.push(share);
            }
        }
        // Audio is not counted in by transport-wide feedback, but it is in the estimate of an old viewer.
        let for_video = if is_told { available.0.saturating_sub(audio) } else { available.0 };
        let desired = wishes.iter().filter_map(|wish| wish.steps.last()).sum();
        let Some(outgoing) = self.transports.get_mut(key).and_then(|transport| transport.outgoing()) else {
            return;
        };
        let steps = if is_draining {
            wishes.iter().map(|wish| wish.is_fixed.then_some(0)).collect()
        } else {
            outgoing.steadiness.decide(now, for_video, &wishes)
        };
        let at_best =
            |(wish, step): (&Wish, &Option<usize>)| step.is_some_and(|step| step + 1 == wish.steps.len());
        let more_is_wanted = !wishes.iter().zip(&steps).all(at_best);
        outgoing.set_desired(now, Bitrate(desired), more_is_wanted);
        for ((share, wish), step) in shares.iter().zip(&wishes).zip(&steps) {
            if !wish.is_fixed {
                let layers = step.and_then(|step| share.ladder.get(step)).map(|step| step.layers);
                self.allocate(now, share.consumer, layers.map_or(Allocation::Nothing, Allocation::UpTo));
            }
        }
        let Some(outgoing) = self.transports.get_mut(key).and_then(|transport| transport.outgoing()) else {
            return;
        };
        if let Some((available, desired)) = outgoing.announce(now) {
            self.events.push_back(Event::AvailableOutgoingBitrate { transport: id, available, desired });
        }
        self.set_timer(key);
    }

    /// What a consumer would take. A layered one of which nothing has arrived yet gets its lowest layers first.
    fn wish(&mut self, now: Instant, key: usize) -> Option<(Wish, Share)> {
        let consumer = self.consumers.get(key).filter(|consumer| !consumer.paused)?;
        let producer = self.producers.get(consumer.producer).filter(|producer| !producer.paused)?;
        let (priority, allocation) = (consumer.priority.get(), consumer.choice.allocation);
        let is_fixed = producer.producer_type == ProducerType::Simple;
        let is_audio = producer.kind == MediaKind::Audio;
        let ladder = self.ladder(now, key);
        if ladder.is_empty() {
            if !is_fixed && allocation == Allocation::Unlimited {
                self.allocate(now, key, Allocation::UpTo(Layers { spatial: 0, temporal: 0 }));
            }
            return None;
        }
        let current = match allocation {
            Allocation::Unlimited => is_fixed.then_some(0),
            Allocation::UpTo(layers) => ladder.iter().rposition(|step| step.layers <= layers),
            Allocation::Nothing => None,
        };
        let steps = ladder.iter().map(|step| step.bitrate).collect();
        Some((
            Wish { priority, steps, current, is_fixed, is_lowest_granted: false },
            Share { consumer: key, is_audio, ladder },
        ))
    }

    /// Does what is due for a transport: feedback to its publisher, the next packets of a probe.
    pub(in crate::sfu) fn drive_bandwidth(&mut self, now: Instant, key: usize) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let feedback = transport.feedback_ssrc;
        let mut messages = Vec::new();
        let is_media = |remote: &RemoteSsrc| remote.route.is_some_and(|route| !route.is_rtx);
        let media = transport.ssrcs.iter().filter(|(_, remote)| is_media(remote)).map(|(ssrc, _)| *ssrc);
        transport.bandwidth.incoming.handle_timeout(now, feedback, media, |message| messages.push(message));
        for message in messages {
            self.send_rtcp(key, message);
        }
        self.drive_probe(now, key);
        let outgoing = self.transports.get_mut(key).and_then(|transport| transport.outgoing());
        if outgoing.is_some_and(|outgoing| outgoing.is_review_due(now)) {
            self.distribute(now, key);
        }
    }

    /// Sends what was held back and may go now.
    pub(in crate::sfu) fn send_held(&mut self, now: Instant, abs_send_time: u32, out: &mut impl Transmit) {
        if self.pace_due.is_none_or(|due| due > now) {
            return;
        }
        let mut paced = std::mem::take(&mut self.paced);
        paced.retain(|key| self.send_held_of(now, *key, abs_send_time, out));
        self.pace_due = (!paced.is_empty()).then_some(now + SLOT);
        self.paced = paced;
    }

    /// The same for one transport. True if it still holds something back.
    fn send_held_of(
        &mut self,
        now: Instant,
        key: usize,
        abs_send_time: u32,
        out: &mut impl Transmit,
    ) -> bool {
        let Some(transport) = self.transports.get_mut(key) else { return false };
        let Some(sending) = transport.sending() else {
            transport.outgoing().into_iter().for_each(Outgoing::forget_held);
            return false;
        };
        let mut burst = Burst::begin(now, abs_send_time, sending, &mut self.scratch);
        while let Some(held) = burst.release() {
            let (consumer, ssrc) = held.consumer;
            let consumer = self.consumers.get_mut(consumer).filter(|consumer| consumer.ssrc == ssrc);
            let Some(consumer) = consumer else { continue };
            let Some(producer) = self.producers.get(consumer.producer) else { continue };
            let (stream, sequence) = held.origin;
            if let Some(packet) = producer.streams.get(stream).and_then(|stream| stream.cache.get(sequence)) {
                burst.send(consumer, held.placed, packet, held.padded_len, out);
            }
        }
        let (packets, bytes) = burst.finish(out);
        transport.traffic.rtp_sent.add(bytes);
        self.stats.rtp_forwarded += packets;
        transport.outgoing().is_some_and(|outgoing| outgoing.is_holding())
    }

    fn drive_probe(&mut self, now: Instant, key: usize) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let Some(outgoing) = &mut transport.bandwidth.outgoing else { return };
        let can_pad = |key: &usize| self.consumers.get(*key).is_some_and(|consumer| consumer.can_pad());
        let padded = transport.consumers.iter().copied().find(can_pad);
        let mut due = outgoing.handle_timeout(now, padded.is_some());
        let abs_send_time = self.abs_send_time(now);
        let Some(consumer) = padded.and_then(|key| self.consumers.get_mut(key)) else { return };
        for _ in 0..MAX_PADDING_PACKETS {
            let sending = self.transports.get_mut(key).and_then(|transport| transport.sending());
            let Some(Sending { srtp, tuple, outgoing: Some(outgoing) }) = sending else { return };
            if due == 0 {
                return;
            }
            let stamp = Stamp { abs_send_time, wide_sequence: outgoing.next_sequence() };
            let mut datagram = Vec::with_capacity(320);
            let len = u8::try_from(due.saturating_sub(PADDING_OVERHEAD)).unwrap_or(u8::MAX);
            let len = NonZeroU8::new(len).unwrap_or(NonZeroU8::MIN);
            let padding = consumer.write_padding(&mut datagram, stamp, len);
            let Some((ssrc, index, header_len)) = padding else { return };
            if srtp.protect_rtp(&mut datagram, 0, header_len, ssrc, index).is_err() {
                return;
            }
            outgoing.note_sent(now, datagram.len());
            due = due.saturating_sub(usize::from(len.get()) + PADDING_OVERHEAD);
            post(&mut self.outbox, &mut self.stats, tuple, datagram);
        }
    }
}
