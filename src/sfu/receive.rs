//! What arrives: demultiplexed by its first byte (RFC 7983) and the address it came from, authenticated, parsed once
//! and put into its stream's cache, from where it is forwarded.

use std::time::{Duration, Instant};

use mediasoup_types::rtp_parameters::MediaKind;

use super::{SocketId, Tuple, Worker};
use crate::ids::Bitrate;
use crate::media::rtcp::{self, Item};
use crate::media::rtp::{self, RtpView};
use crate::sfu::api::TapOutput;
use crate::sfu::nack::Gap;
use crate::sfu::observers;
use crate::sfu::producer::{Arrival, Producer, Received};
use crate::sfu::rewrite::ClockSample;
use crate::sfu::transport::{MAX_REMOTE_SSRCS, RemoteSsrc, Route};

/// How long a packet waits for the rest of its frame, so that a viewer gets them in one batch. A frame that ends
/// sooner goes at once.
pub const MAX_GATHER: Duration = Duration::from_millis(1);
/// Packets of one producer that wait for a flush.
const MAX_PENDING: usize = 512;

impl Worker {
    /// Handles one datagram; it is decrypted in place.
    pub fn handle_datagram(&mut self, now: Instant, from: Tuple, datagram: &mut [u8]) {
        self.stats.datagrams_received += 1;
        if let SocketId::Own(port) = from.socket {
            self.handle_own_port(now, port, from, datagram);
            return;
        }
        let first = datagram.first().copied().unwrap_or(u8::MAX);
        if first <= 3 {
            self.handle_stun(now, from, datagram);
            return;
        }
        let Some(&key) = self.paths.get(&from.key()) else {
            self.stats.dropped_unknown += 1;
            return;
        };
        match first {
            20..=63 => self.handle_dtls(now, key, datagram),
            // RFC 5761 section 4: RTCP packet types 192 to 223 are the second byte of RTCP.
            128..=191 if matches!(datagram.get(1), Some(192..=223)) => self.handle_rtcp(now, key, datagram),
            128..=191 => self.handle_rtp(now, key, datagram),
            _ => self.stats.dropped_unknown += 1,
        }
    }

    pub(super) fn handle_rtp(&mut self, now: Instant, key: usize, datagram: &mut [u8]) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let (Some((_, receiver)), Some((sequence, ssrc))) =
            (&mut transport.srtp, rtp::sequence_and_ssrc(datagram))
        else {
            self.stats.dropped_srtp += 1;
            return;
        };
        let known = transport.ssrcs.get(&ssrc);
        let index = known.map_or(u64::from(sequence), |remote| remote.window.estimate(sequence));
        let fresh = receiver.is_clear() || known.is_none_or(|remote| remote.window.check(index).is_ok());
        let Some(len) = fresh.then(|| receiver.unprotect_rtp(datagram, ssrc, index).ok()).flatten() else {
            self.stats.dropped_srtp += 1;
            return;
        };
        if known.is_none() && transport.ssrcs.len() >= MAX_REMOTE_SSRCS {
            // Those of closed producers make room; a peer that opens and closes producers for days needs it.
            transport.ssrcs.retain(|_, remote| remote.route.is_some());
        }
        if !transport.ssrcs.contains_key(&ssrc) && transport.ssrcs.len() >= MAX_REMOTE_SSRCS {
            self.stats.dropped_unknown_ssrc += 1;
            return;
        }
        transport.traffic.rtp_received.add(len);
        let remote = transport.ssrcs.entry(ssrc).or_insert_with(RemoteSsrc::default);
        remote.window.accept(index);
        let Some(view) = datagram.get(..len).and_then(|packet| RtpView::parse(packet).ok()) else {
            self.stats.dropped_malformed += 1;
            return;
        };
        let route = remote.route;
        if transport.bandwidth.note_arrival(now, &view) {
            self.set_timer(key);
        }
        let route = match route {
            Some(route) => route,
            None => {
                let producers = self.transports.get(key).map(|transport| transport.producers.clone());
                let producers = producers.unwrap_or_default();
                let Some(route) = self.find_route(&producers, &view) else {
                    self.stats.dropped_unknown_ssrc += 1;
                    return;
                };
                if let Some(remote) =
                    self.transports.get_mut(key).and_then(|transport| transport.ssrcs.get_mut(&ssrc))
                {
                    remote.route = Some(route);
                }
                route
            }
        };
        self.receive_media(now, key, route, &view);
    }

    /// Finds the stream of an SSRC that is seen for the first time: by the signalled SSRCs, else by the MID and RID
    /// that the packet carries (RFC 8843 section 9.2, RFC 8852).
    pub(super) fn find_route(&mut self, producers: &[usize], view: &RtpView<'_>) -> Option<Route> {
        let ssrc = view.ssrc();
        for key in producers {
            let producer = self.producers.get_mut(*key)?;
            for (stream, known) in producer.streams.iter().enumerate() {
                if known.ssrc == Some(ssrc) || known.rtx_ssrc == Some(ssrc) {
                    return Some(Route { producer: *key, stream, is_rtx: known.rtx_ssrc == Some(ssrc) });
                }
            }
        }
        for key in producers {
            let producer = self.producers.get_mut(*key)?;
            if let Some(route) = match_by_ids(*key, producer, view) {
                let stream = producer.streams.get_mut(route.stream)?;
                let slot = if route.is_rtx { &mut stream.rtx_ssrc } else { &mut stream.ssrc };
                *slot = Some(ssrc);
                return Some(route);
            }
        }
        None
    }

    fn receive_media(&mut self, now: Instant, transport: usize, route: Route, view: &RtpView<'_>) {
        let Some(producer) = self.producers.get_mut(route.producer) else { return };
        let Some(arrival) = arrival(producer, route, view) else {
            self.stats.dropped_malformed += u64::from(!route.is_rtx);
            return;
        };
        self.stats.rtp_received += 1;
        let Received::New { sequences, gap } = producer.receive(now, route.stream, &arrival) else { return };
        if gap != Gap::None {
            if gap == Gap::Outage {
                self.want_key_frame_of(now, route.producer, route.stream);
            }
            self.ask_publisher(now, transport);
            self.set_timer(transport);
        }
        let Some(producer) = self.producers.get_mut(route.producer) else { return };
        if producer.levels.is_some() {
            sequences
                .iter()
                .for_each(|sequence| observers::note_level(producer, now, route.stream, *sequence));
        }
        let is_wanted = !producer.consumers.is_empty() || !producer.taps.is_empty();
        if sequences.is_empty() || producer.paused || !is_wanted {
            return;
        }
        if producer.pending.is_empty() {
            self.pending.push(route.producer);
        }
        for sequence in sequences {
            if producer.pending.len() < MAX_PENDING {
                producer.add_pending(route.stream, sequence);
            }
        }
        let frame_ends = producer.kind == MediaKind::Audio || view.marker();
        let due = if frame_ends { now } else { now + MAX_GATHER };
        self.flush_due = Some(self.flush_due.map_or(due, |earlier| earlier.min(due)));
    }

    pub(super) fn handle_rtcp(&mut self, now: Instant, key: usize, datagram: &mut [u8]) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let opened = transport.srtp.as_mut().and_then(|(_, receiver)| receiver.unprotect_rtcp(datagram).ok());
        let Some(compound) = opened.and_then(|len| datagram.get(..len)) else {
            self.stats.dropped_srtp += 1;
            return;
        };
        transport.traffic.rtcp_received.add(compound.len());
        let mut items = Vec::new();
        let read = rtcp::read(compound, |item| {
            if items.len() < MAX_RTCP_ITEMS {
                items.push(item);
            }
        });
        if read.is_err() {
            self.stats.dropped_malformed += 1;
        }
        for item in items {
            match item {
                Item::SenderInfo(info) => {
                    let clock = ClockSample { ntp: info.ntp, rtp: info.rtp, arrival: now };
                    self.note_clock(key, info.ssrc, clock);
                }
                Item::KeyFrameRequest { ssrc } => {
                    if let Some(consumer) = self.consumer_by_ssrc(key, ssrc) {
                        self.hear(consumer, |heard| heard.plis += 1);
                        self.consumer_wants_key_frame(now, consumer);
                    }
                }
                Item::Nack { ssrc, first, following } => {
                    if let Some(consumer) = self.consumer_by_ssrc(key, ssrc) {
                        let packets = 1 + u64::from(following.count_ones());
                        self.hear(consumer, |heard| {
                            (heard.nacks, heard.nacked) = (heard.nacks + 1, heard.nacked + packets)
                        });
                        self.retransmit(now, consumer, rtcp::nacked(first, following));
                    }
                }
                Item::TransportFeedback(feedback) => self.handle_transport_feedback(now, key, &feedback),
                Item::EstimatedBitrate(bitrate) => self.handle_estimated_bitrate(now, key, Bitrate(bitrate)),
                Item::Report(report) => {
                    self.hear_report(now, key, &report);
                    self.handle_report(key, &report);
                }
                Item::Bye { .. } => {}
            }
        }
    }

    pub(super) fn consumer_by_ssrc(&self, transport: usize, ssrc: u32) -> Option<usize> {
        let transport = self.transports.get(transport)?;
        let has_ssrc = |key: &usize| self.consumers.get(*key).is_some_and(|consumer| consumer.ssrc == ssrc);
        transport.consumers.iter().copied().find(has_ssrc)
    }

    /// A publisher told its clock: viewers hear of it with their next sender report, taps at once.
    fn note_clock(&mut self, transport: usize, ssrc: u32, clock: ClockSample) {
        let route = self.transports.get(transport).and_then(|transport| transport.ssrcs.get(&ssrc)?.route);
        let Some(route) = route.filter(|route| !route.is_rtx) else { return };
        let Some(producer) = self.producers.get_mut(route.producer) else { return };
        if let Some(stream) = producer.streams.get_mut(route.stream) {
            stream.clock = Some(clock);
        }
        for tap in producer.taps.iter().filter_map(|key| self.taps.get(*key)) {
            if tap.rewriter.current_stream() == Some(route.stream) {
                let rtp = clock.rtp.wrapping_add(tap.rewriter.timestamp_offset());
                self.tapped.push_back((tap.id, TapOutput::SenderReport { ntp: clock.ntp, rtp }));
            }
        }
    }
}

/// Items of one compound RTCP packet that are looked at.
const MAX_RTCP_ITEMS: usize = 256;

/// The stream that a packet's MID and RID name in a producer.
fn match_by_ids(key: usize, producer: &Producer, view: &RtpView<'_>) -> Option<Route> {
    let ids = producer.extensions;
    let text = |id: u8| {
        let value = view.extensions().find(|(known, _)| *known == id && id != 0);
        value.and_then(|(_, value)| std::str::from_utf8(value).ok())
    };
    let mid = text(ids.mid);
    if producer.mid.is_none() || mid != producer.mid.as_deref() {
        return None;
    }
    let by_rid = |rid: &str| producer.streams.iter().position(|stream| stream.rid.as_deref() == Some(rid));
    if let Some(stream) = text(ids.repaired_rid).and_then(by_rid) {
        return Some(Route { producer: key, stream, is_rtx: true });
    }
    if let Some(stream) = text(ids.rid).and_then(by_rid) {
        return Some(Route { producer: key, stream, is_rtx: false });
    }
    // One encoding without a RID: the payload type tells media from retransmissions.
    let [only] = producer.streams.as_slice() else { return None };
    let is_rtx = producer.rtx_payload_type == Some(view.payload_type());
    let is_free = if is_rtx { only.rtx_ssrc.is_none() } else { only.ssrc.is_none() };
    let is_known_type = is_rtx || view.payload_type() == producer.codec.payload_type();
    (only.rid.is_none() && is_free && is_known_type).then_some(Route { producer: key, stream: 0, is_rtx })
}

/// Takes the RTX header off a retransmission (RFC 4588 section 4); refuses payload types that the producer does not
/// have and retransmissions of nothing, which senders use to probe for bandwidth.
fn arrival<'a>(producer: &Producer, route: Route, view: &RtpView<'a>) -> Option<Arrival<'a>> {
    let payload = view.payload();
    if !route.is_rtx {
        let expected = view.payload_type() == producer.codec.payload_type();
        return expected.then(|| Arrival {
            sequence: view.sequence(),
            view: *view,
            payload,
            is_retransmission: false,
        });
    }
    let (original, payload) = payload.split_at_checked(2)?;
    let sequence = u16::from_be_bytes(original.try_into().ok()?);
    let is_rtx = producer.rtx_payload_type == Some(view.payload_type()) && !payload.is_empty();
    is_rtx.then_some(Arrival { sequence, view: *view, payload, is_retransmission: true })
}
