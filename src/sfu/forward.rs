//! What goes out: pending packets are written and encrypted for one viewer after the other, so that each viewer's
//! packets form one batch for the kernel and the buffers stay in the processor's cache.

use std::time::Instant;

use mediasoup_types::rtp_parameters::MediaKind;
use smallvec::SmallVec;

use super::{Transmit, Worker, post};
use crate::media::codec::MAX_SPATIAL_LAYERS;
use crate::media::rtcp;
use crate::sfu::api::{TapOutput, TapPacket};
use crate::sfu::bandwidth::copies::Copy;
use crate::sfu::bandwidth::pacer::{Held, SLOT};
use crate::sfu::burst::Burst;
use crate::sfu::consumer::Tap;
use crate::sfu::header::Stamp;
use crate::sfu::producer::Gathered;
use crate::sfu::rewrite::Target;
use crate::sfu::transport::Sending;

impl Worker {
    /// Whether something waits to be sent at this time.
    #[must_use]
    pub fn is_flush_due(&self, now: Instant) -> bool {
        let is_due = |at: Option<Instant>| at.is_some_and(|due| due <= now);
        !self.outbox.is_empty() || is_due(self.flush_due) || is_due(self.pace_due)
    }

    /// Sends everything that waits.
    pub fn flush(&mut self, now: Instant, out: &mut impl Transmit) {
        while let Some((to, datagram)) = self.outbox.pop_front() {
            out.transmit(to, &datagram, datagram.len());
        }
        let abs_send_time = self.abs_send_time(now);
        self.send_held(now, abs_send_time, out);
        if self.flush_due.is_none_or(|due| due > now) {
            return;
        }
        self.flush_due = None;
        let mut pending = std::mem::take(&mut self.pending);
        for key in pending.drain(..) {
            self.choose_tap_stream(now, key);
            self.forward(now, key, abs_send_time, out);
            self.feed_taps(key);
            if let Some(producer) = self.producers.get_mut(key) {
                producer.pending.clear();
            }
        }
        self.pending = pending;
    }

    /// The absolute send time extension's value: 24 bits, 6.18 fixed point seconds.
    pub(super) fn abs_send_time(&self, now: Instant) -> u32 {
        ((self.ntp(now) >> 14) & 0xFF_FFFF) as u32
    }

    /// NTP time, 32.32 fixed point.
    pub(super) fn ntp(&self, now: Instant) -> u64 {
        let (epoch, ntp) = self.config.ntp_at;
        let elapsed = now.saturating_duration_since(epoch);
        let fraction = (u64::from(elapsed.subsec_nanos()) << 32) / 1_000_000_000;
        ntp.wrapping_add(elapsed.as_secs() << 32).wrapping_add(fraction)
    }

    /// A larger stream that began to arrive needs a key frame before taps can switch to it.
    fn choose_tap_stream(&mut self, now: Instant, key: usize) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        if !Tap::any_reads(&self.taps, &producer.taps) {
            return;
        }
        if producer.choose_streams(now) {
            self.want_key_frame(now, key);
        }
    }

    fn forward(&mut self, now: Instant, key: usize, abs_send_time: u32, out: &mut impl Transmit) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        producer.level_pending();
        let offer = producer.offer(now);
        let gathered: SmallVec<[Gathered<'_>; 32]> = producer.gathered().collect();
        let gathered_bytes = gathered.iter().map(|gathered| gathered.padded_len).sum();
        let is_audio = producer.kind == MediaKind::Audio;
        let clock = |stream: usize| producer.streams.get(stream).and_then(|stream| stream.clock);
        let (consumers, transports, scratch) = (&mut self.consumers, &mut self.transports, &mut self.scratch);
        let mut forwarded = 0;
        let mut awaited = 0_u8;
        for consumer_key in &producer.consumers {
            let Some(consumer) = consumers.get_mut(*consumer_key).filter(|consumer| !consumer.paused) else {
                continue;
            };
            let Some(transport) = transports.get_mut(consumer.transport) else { continue };
            let Some(sending) = transport.sending() else { continue };
            let Some(target) = consumer.target(&offer) else {
                self.events.extend(consumer.layers_change(producer.producer_type, &offer));
                continue;
            };
            let mut burst = Burst::begin(now, abs_send_time, sending, scratch);
            let goes_at_once = is_audio || burst.may_send(gathered_bytes);
            let goes_down = consumer.rewriter.current_stream().is_some_and(|stream| target.stream < stream);
            if !goes_at_once && goes_down && burst.is_congested() {
                // The path takes far less than what it gets until the key frame of the lower stream comes, and would be
                // busy with that when it does.
                consumer.rewriter.lose_sync();
            }
            for Gathered { stream, packet, padded_len } in &gathered {
                let Some(placed) = consumer.rewriter.place(target, *stream, packet, clock) else { continue };
                let is_late = !consumer.rewriter.is_newest(&placed);
                if is_late {
                    consumer.resent.note(now, placed.sequence as u16);
                }
                // What is missing of an earlier picture holds up those after it, and goes first.
                if goes_at_once || is_late || burst.may_send(*padded_len) {
                    burst.send(consumer, placed, packet, *padded_len, out);
                    continue;
                }
                let (consumer_id, origin) = ((*consumer_key, consumer.ssrc), (*stream, packet.sequence));
                if burst.hold(Held { consumer: consumer_id, placed, origin, padded_len: *padded_len }) {
                    self.paced.push(consumer.transport);
                    self.pace_due.get_or_insert(now + SLOT);
                }
            }
            let (packets, bytes) = burst.finish(out);
            transport.traffic.rtp_sent.add(bytes);
            forwarded += packets;
            if consumer.rewriter.needs_key_frame(target, producer.is_k_svc) {
                awaited |= 1_u8.checked_shl(target.stream as u32).unwrap_or(0);
            }
            self.events.extend(consumer.layers_change(producer.producer_type, &offer));
        }
        drop(gathered);
        self.stats.rtp_forwarded += forwarded;
        for stream in (0..u8::BITS).filter(|stream| awaited & 1 << stream != 0) {
            self.want_key_frame_of(now, key, stream as usize);
        }
    }

    fn feed_taps(&mut self, key: usize) {
        let Some(producer) = self.producers.get(key) else { return };
        for tap in &producer.taps {
            let Some(tap) = self.taps.get_mut(*tap).filter(|tap| !tap.paused) else { continue };
            for Gathered { stream, packet, .. } in producer.gathered() {
                let clock = |stream: usize| producer.streams.get(stream).and_then(|stream| stream.clock);
                let before = tap.rewriter.current_stream();
                let wanted = producer.tapped_stream(tap.highest);
                let target = Target { stream: wanted, layers: producer.all_layers() };
                if let Some(placed) = tap.rewriter.place(target, stream, packet, clock) {
                    if let Some(clock) = clock(stream).filter(|_| before != Some(stream)) {
                        let rtp = clock.rtp.wrapping_add(tap.rewriter.timestamp_offset());
                        self.tapped.push_back((tap.id, TapOutput::SenderReport { ntp: clock.ntp, rtp }));
                    }
                    let data = tap.packet(placed, packet);
                    let packet = TapPacket { data, arrival: packet.arrival };
                    self.tapped.push_back((tap.id, TapOutput::Packet(packet)));
                }
            }
        }
    }

    /// Sends packets again that a viewer missed, from the cache of the stream that they came from.
    pub(super) fn retransmit(&mut self, now: Instant, key: usize, missing: impl Iterator<Item = u16>) {
        let abs_send_time = self.abs_send_time(now);
        let Some(consumer) = self.consumers.get_mut(key).filter(|consumer| !consumer.paused) else { return };
        let Some(producer) = self.producers.get(consumer.producer) else { return };
        let sending = self.transports.get_mut(consumer.transport).and_then(|transport| transport.sending());
        let Some(Sending { srtp, tuple, outgoing }) = sending else { return };
        let round_trip = outgoing.as_ref().and_then(|outgoing| outgoing.round_trip());
        let is_judged = outgoing.is_some();
        let held = outgoing.as_ref().map(|outgoing| outgoing.held_of((key, consumer.ssrc)));
        let held: SmallVec<[u64; 32]> = held.into_iter().flatten().collect();
        let mut outgoing = outgoing.filter(|_| consumer.wants_wide_sequence());
        let mut sent_bytes = 0;
        for missed in missing {
            let Some(origin) = consumer.rewriter.origin(missed) else { continue };
            let stream = producer.streams.get(origin.stream);
            let Some(packet) = stream.and_then(|stream| stream.cache.get_recent(now, origin.sequence)) else {
                continue;
            };
            let placed = origin.place(packet);
            if held.binary_search(&placed.sequence).is_ok() {
                continue; // it was not sent yet
            }
            // A viewer that tells nothing of its path is taken at its word.
            let len = packet.payload.len();
            let has_room = outgoing.as_mut().is_none_or(|outgoing| outgoing.has_room_to_resend(now, len));
            if is_judged && !(has_room && consumer.resent.may_resend(now, missed, round_trip)) {
                continue;
            }
            let mut datagram = Vec::with_capacity(packet.payload.len() + 64);
            let wide_sequence = outgoing.as_ref().map_or(0, |outgoing| outgoing.next_sequence());
            let stamp = Stamp { abs_send_time, wide_sequence };
            let (ssrc, sequence, header_len) =
                consumer.write_retransmission(&mut datagram, placed, packet, stamp);
            let index =
                if ssrc == consumer.ssrc { sequence - crate::sfu::rewrite::FIRST_SEQUENCE } else { sequence };
            if srtp.protect_rtp(&mut datagram, 0, header_len, ssrc, index).is_ok() {
                self.stats.rtp_retransmitted += 1;
                sent_bytes += datagram.len();
                consumer.sent.note_retransmitted(placed.sequence);
                if let Some(outgoing) = &mut outgoing {
                    let consumer = (key, consumer.ssrc);
                    outgoing.note_resent(now, datagram.len(), Copy { consumer, sequence: missed });
                }
                post(&mut self.outbox, &mut self.stats, tuple, datagram);
            }
        }
        let transport = consumer.transport;
        if let Some(transport) = self.transports.get_mut(transport) {
            transport.traffic.rtx_sent.add(sent_bytes);
        }
    }

    /// Asks a producer's publisher for key frames of all streams that taps get, now or when it may be asked again.
    pub(super) fn want_key_frame(&mut self, now: Instant, key: usize) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        producer.choose_streams(now);
        let tapped = producer.taps.iter().filter_map(|tap| self.taps.get(*tap)).filter(|tap| !tap.paused);
        let mut wanted: SmallVec<[usize; MAX_SPATIAL_LAYERS as usize]> =
            tapped.map(|tap| producer.tapped_stream(tap.highest)).collect();
        if wanted.is_empty() {
            wanted.push(producer.tapped_stream(usize::MAX));
        }
        wanted.sort_unstable();
        wanted.dedup();
        for stream in wanted {
            self.want_key_frame_of(now, key, stream);
        }
    }

    /// Asks a producer's publisher for a key frame of one stream, now or when it may be asked again.
    pub(super) fn want_key_frame_of(&mut self, now: Instant, key: usize, stream: usize) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        let is_video = producer.kind == MediaKind::Video;
        if !is_video || producer.paused {
            return;
        }
        let transport = producer.transport;
        let Some(stream) = producer.streams.get_mut(stream) else { return };
        let ask = stream.key_frames.request(now);
        let ssrc = stream.ssrc;
        stream.counted.plis += u64::from(ask);
        if ask {
            self.send_key_frame_request(transport, ssrc);
        }
        self.set_timer(transport);
    }

    fn send_key_frame_request(&mut self, transport: usize, ssrc: Option<u32>) {
        let Some(feedback) = self.transports.get(transport).map(|transport| transport.feedback_ssrc) else {
            return;
        };
        // Until the first packet tells the SSRC, there is nobody to ask, and an encoder begins with a key frame.
        let Some(ssrc) = ssrc else { return };
        let mut compound = Vec::with_capacity(64);
        rtcp::write_pli(&mut compound, feedback, ssrc);
        if self.send_rtcp(transport, compound) {
            self.stats.key_frame_requests += 1;
        }
    }

    /// Sends what a publisher has to be asked for: lost packets, and key frames that did not come.
    pub(super) fn ask_publisher(&mut self, now: Instant, transport_key: usize) {
        let Some(transport) = self.transports.get(transport_key) else { return };
        let feedback = transport.feedback_ssrc;
        for key in transport.producers.clone() {
            let Some(producer) = self.producers.get_mut(key) else { continue };
            let mut nacks = Vec::new();
            let mut key_frames = Vec::new();
            for stream in &mut producer.streams {
                let missing = stream.due_nacks(now);
                if let Some(ssrc) = stream.ssrc.filter(|_| !missing.is_empty()) {
                    rtcp::write_nack(&mut nacks, feedback, ssrc, &missing);
                }
                if stream.key_frames.handle_timeout(now) {
                    stream.counted.plis += 1;
                    key_frames.push(stream.ssrc);
                }
            }
            if !nacks.is_empty() {
                self.send_rtcp(transport_key, nacks);
            }
            key_frames.into_iter().for_each(|ssrc| self.send_key_frame_request(transport_key, ssrc));
        }
    }

    /// Protects and queues a compound RTCP packet. False if the transport has no keys or path yet.
    pub(super) fn send_rtcp(&mut self, key: usize, compound: Vec<u8>) -> bool {
        if self.deliver_rtcp(key, &compound) {
            return true;
        }
        let sending = self.transports.get_mut(key).and_then(|transport| transport.sending_rtcp());
        let Some((srtp, tuple)) = sending else { return false };
        let Ok(datagram) = srtp.protect_rtcp(compound) else { return false };
        let len = datagram.len();
        post(&mut self.outbox, &mut self.stats, tuple, datagram);
        if let Some(transport) = self.transports.get_mut(key) {
            transport.traffic.rtcp_sent.add(len);
        }
        true
    }
}
