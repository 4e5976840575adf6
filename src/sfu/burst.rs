//! Packets for one peer, sent at one moment: each is written, encrypted and added to a batch of datagrams of one size,
//! which the kernel takes in one send. Everything is done in one buffer that all peers share, so that it stays in the
//! processor's cache.

use std::time::Instant;

use super::{Transmit, Tuple};
use crate::sfu::bandwidth::outgoing::{Outgoing, SendTime};
use crate::sfu::bandwidth::pacer::Held;
use crate::sfu::cache::CachedPacket;
use crate::sfu::consumer::Consumer;
use crate::sfu::header::Stamp;
use crate::sfu::rewrite::{FIRST_SEQUENCE, Placed};
use crate::sfu::srtp::{MAX_OVERHEAD, Sender};
use crate::sfu::transport::Sending;

/// Datagrams of one batch: what the kernel takes in one UDP_SEGMENT send.
const MAX_SEGMENTS: usize = 60;
/// Bytes of one batch, below the 64 KiB of a UDP_SEGMENT send.
const MAX_BATCH_LEN: usize = 60_000;

/// Packets for one peer.
pub(super) struct Burst<'a> {
    now: Instant,
    abs_send_time: u32,
    srtp: &'a mut Sender,
    tuple: Tuple,
    outgoing: Option<(&'a mut Outgoing, SendTime)>,
    batch: Batch<'a>,
    packets: u64,
    bytes: usize,
}

impl<'a> Burst<'a> {
    pub(super) fn begin(
        now: Instant,
        abs_send_time: u32,
        sending: Sending<'a>,
        scratch: &'a mut Vec<u8>,
    ) -> Self {
        let outgoing = sending.outgoing.map(|outgoing| {
            let at = outgoing.begin_burst(now);
            (outgoing, at)
        });
        let (srtp, tuple) = (sending.srtp, sending.tuple);
        Self { now, abs_send_time, srtp, tuple, outgoing, batch: Batch::begin(scratch), packets: 0, bytes: 0 }
    }

    /// Sends a packet, now or with the next ones.
    #[inline]
    pub(super) fn send(
        &mut self,
        consumer: &mut Consumer,
        placed: Placed,
        packet: &CachedPacket,
        padded_len: usize,
        out: &mut impl Transmit,
    ) {
        let start = self.batch.buffer.len();
        let outgoing = self.outgoing.as_mut().filter(|_| consumer.wants_wide_sequence());
        let wide_sequence = outgoing.as_ref().map_or(0, |(outgoing, _)| outgoing.next_sequence());
        let stamp = Stamp { abs_send_time: self.abs_send_time, wide_sequence };
        let header_len = consumer.write_packet(self.batch.buffer, placed, packet, stamp, padded_len);
        // The rewriter counts from one cycle on; SRTP's index begins with the first sequence number.
        let index = placed.sequence - FIRST_SEQUENCE;
        if self.srtp.protect_rtp(self.batch.buffer, start, header_len, consumer.ssrc, index).is_err() {
            self.batch.buffer.truncate(start);
            return;
        }
        let len = self.batch.buffer.len() - start;
        if let Some((outgoing, at)) = outgoing {
            outgoing.note_packet(*at, len);
        }
        self.bytes += len;
        self.packets += 1;
        consumer.sent_bytes.add(len);
        consumer.sent.note(self.now, placed.timestamp, packet.payload.len());
        let tuple = self.tuple;
        self.batch.take_segment(start, |contents, size| out.transmit(tuple, contents, size));
    }

    /// Whether so many bytes may be sent now, all of them.
    #[inline]
    pub(super) fn may_send(&mut self, bytes: usize) -> bool {
        let now = self.now;
        self.outgoing.as_mut().is_none_or(|(outgoing, _)| outgoing.may_send(now, bytes))
    }

    /// Whether what is sent has to change at once.
    pub(super) fn is_congested(&self) -> bool {
        self.outgoing.as_ref().is_some_and(|(outgoing, _)| outgoing.is_congested())
    }

    /// Sends a packet later. True if it is the only one that is held back.
    pub(super) fn hold(&mut self, held: Held) -> bool {
        let Some((outgoing, _)) = &mut self.outgoing else { return false };
        let is_first = !outgoing.is_holding();
        outgoing.hold(held);
        is_first
    }

    /// The next packet that was held back and may be sent now.
    pub(super) fn release(&mut self) -> Option<Held> {
        let now = self.now;
        self.outgoing.as_mut().and_then(|(outgoing, _)| outgoing.release(now))
    }

    /// Sends what is left; the packets and bytes of the whole burst are returned.
    pub(super) fn finish(mut self, out: &mut impl Transmit) -> (u64, usize) {
        let tuple = self.tuple;
        self.batch.finish(|contents, size| out.transmit(tuple, contents, size));
        (self.packets, self.bytes)
    }
}

/// Packets for one viewer, gathered while they are of one size: the kernel cuts them apart again.
struct Batch<'a> {
    buffer: &'a mut Vec<u8>,
    segment_size: usize,
    segments: usize,
}

impl<'a> Batch<'a> {
    fn begin(buffer: &'a mut Vec<u8>) -> Self {
        buffer.clear();
        Self { buffer, segment_size: 0, segments: 0 }
    }

    /// Takes the packet that was written from `start` on. What was gathered is sent before it if it is longer, and
    /// with it if it is shorter or the batch is full.
    fn take_segment(&mut self, start: usize, mut send: impl FnMut(&[u8], usize)) {
        let len = self.buffer.len() - start;
        if self.segments > 0 && len > self.segment_size {
            if let Some(gathered) = self.buffer.get(..start) {
                send(gathered, self.segment_size);
            }
            self.buffer.drain(..start);
            self.segments = 0;
        }
        if self.segments == 0 {
            self.segment_size = len;
        }
        self.segments += 1;
        let is_full = self.segments >= MAX_SEGMENTS || self.buffer.len() + len + MAX_OVERHEAD > MAX_BATCH_LEN;
        if len < self.segment_size || is_full {
            self.finish(send);
        }
    }

    fn finish(&mut self, mut send: impl FnMut(&[u8], usize)) {
        if self.segments > 0 {
            send(self.buffer, self.segment_size);
        }
        self.buffer.clear();
        self.segments = 0;
    }
}
