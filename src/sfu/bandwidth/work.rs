//! What a worker does about its transports' bandwidth: feedback to publishers, reports of viewers, probes.

use std::time::Instant;

use super::Outgoing;
use crate::ids::{Bitrate, TransportId};
use crate::media::rtcp::transport_cc::TransportFeedback;
use crate::sfu::api::{Event, NotFound};
use crate::sfu::consumer::Stamp;
use crate::sfu::{Worker, not_found, post};

/// Padding packets of one step of a probe.
const MAX_PADDING_PACKETS: usize = 64;

impl Worker {
    /// Limits what a transport's peer sends in sum (mediasoup's `maxIncomingBitrate`), or ends the limit. The peer is
    /// told by REMB, which is a wish: nothing is dropped.
    ///
    /// # Errors
    /// Fails if there is no such transport.
    pub fn set_max_incoming_bitrate(
        &mut self,
        now: Instant,
        id: TransportId,
        limit: Option<Bitrate>,
    ) -> Result<(), NotFound> {
        let key = self.transport_key(id)?;
        let transport = self.transports.get_mut(key).ok_or_else(|| not_found("transport", &id))?;
        transport.bandwidth.incoming.set_limit(now, limit);
        self.set_timer(key);
        Ok(())
    }

    /// Bounds from above what a transport's path is thought to take (mediasoup's `maxOutgoingBitrate`).
    ///
    /// # Errors
    /// Fails if there is no such transport.
    pub fn set_max_outgoing_bitrate(
        &mut self,
        now: Instant,
        id: TransportId,
        limit: Option<Bitrate>,
    ) -> Result<(), NotFound> {
        self.bound_outgoing(now, id, |outgoing| outgoing.set_max(limit))
    }

    /// Bounds from below what a transport's path is thought to take (mediasoup's `minOutgoingBitrate`).
    ///
    /// # Errors
    /// Fails if there is no such transport.
    pub fn set_min_outgoing_bitrate(
        &mut self,
        now: Instant,
        id: TransportId,
        limit: Option<Bitrate>,
    ) -> Result<(), NotFound> {
        self.bound_outgoing(now, id, |outgoing| outgoing.set_min(limit))
    }

    fn bound_outgoing(
        &mut self,
        now: Instant,
        id: TransportId,
        bound: impl FnOnce(&mut Outgoing),
    ) -> Result<(), NotFound> {
        let key = self.transport_key(id)?;
        let transport = self.transports.get_mut(key).ok_or_else(|| not_found("transport", &id))?;
        bound(transport.bandwidth.outgoing(now));
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
        self.distribute(now, key);
    }

    pub(in crate::sfu) fn handle_estimated_bitrate(&mut self, now: Instant, key: usize, bitrate: Bitrate) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let Some(outgoing) = &mut transport.bandwidth.outgoing else { return };
        outgoing.handle_estimate(bitrate);
        self.distribute(now, key);
    }

    /// Hands out what a transport's path takes.
    fn distribute(&mut self, now: Instant, key: usize) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let id = transport.id;
        let Some(outgoing) = &mut transport.bandwidth.outgoing else { return };
        if let Some((available, desired)) = outgoing.announce(now) {
            self.events.push_back(Event::AvailableOutgoingBitrate { transport: id, available, desired });
        }
        self.set_timer(key);
    }

    /// Does what is due for a transport: feedback to its publisher, the next packets of a probe.
    pub(in crate::sfu) fn drive_bandwidth(&mut self, now: Instant, key: usize) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let feedback = transport.feedback_ssrc;
        let mut messages = Vec::new();
        transport.bandwidth.incoming.handle_timeout(now, feedback, |message| messages.push(message));
        for message in messages {
            self.send_rtcp(key, message);
        }
        self.drive_probe(now, key);
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
            let Some((srtp, tuple, Some(outgoing))) = sending else { return };
            if due == 0 {
                return;
            }
            let stamp = Stamp { abs_send_time, wide_sequence: outgoing.next_sequence() };
            let mut datagram = Vec::with_capacity(320);
            let Some((ssrc, index, header_len)) = consumer.write_padding(&mut datagram, stamp) else {
                return;
            };
            if srtp.protect_rtp(&mut datagram, 0, header_len, ssrc, index).is_err() {
                return;
            }
            outgoing.note_sent(now, datagram.len());
            due = due.saturating_sub(datagram.len());
            post(&mut self.outbox, &mut self.stats, tuple, datagram);
        }
    }
}
