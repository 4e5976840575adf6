//! A consumer: one producer as it is sent to one transport; and a tap: one producer as it is handed to a reader
//! inside the process.

use std::num::NonZeroU8;
use std::time::Instant;

use bytes::{BufMut, Bytes};
use mediasoup_types::rtp_parameters::{MimeType, MimeTypeVideo, RtpParameters};
use slab::Slab;

use crate::ids::{ConsumerId, TapId};
use crate::media::codec::{Layers, Renumbering};
use crate::media::rtcp::SenderInfo;
use crate::media::rtp::FIXED_HEADER_LEN;
use crate::sfu::bandwidth::resent::Resent;
use crate::sfu::cache::CachedPacket;
use crate::sfu::header::{HeaderTemplate, Stamp};
use crate::sfu::layers::{Choice, Offer};
use crate::sfu::rewrite::{ClockSample, Placed, Rewriter, Target};
use crate::sfu::score::{Interval, Score};
use crate::sfu::stats::{Heard, Meter};

/// The P bit of the first header byte.
const PADDING_BIT: u8 = 0x20;

/// The retransmission stream of a consumer (RFC 4588).
#[derive(Debug)]
pub struct Rtx {
    /// Its SSRC.
    pub ssrc: u32,
    /// Its payload type.
    pub payload_type: u8,
    /// Its last extended sequence number.
    pub sequence: u64,
}

/// What was sent so far, for sender reports.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    packets: u32,
    octets: u32,
    last: Option<(u32, Instant)>,
    retransmitted: u32,
    /// Packets that were retransmitted at least once, and the newest of them.
    repaired: u32,
    newest_repaired: u64,
    /// Packets, retransmissions, repairs and reported losses when the score was taken last.
    scored: [u32; 4],
}

/// A consumer.
pub struct Consumer {
    /// Its id.
    pub id: ConsumerId,
    /// The transport that it is sent on (key in the worker).
    pub transport: usize,
    /// Its producer (key in the worker).
    pub producer: usize,
    /// Whether its client paused it.
    pub paused: bool,
    /// The SSRC that its client was told.
    pub ssrc: u32,
    /// Its retransmissions, if the client takes them.
    pub rtx: Option<Rtx>,
    /// Which packets it gets and what they become.
    pub rewriter: Rewriter,
    /// Which layers it should get.
    pub choice: Choice,
    /// Whether its client can't tell the spatial layers of its stream apart: AV1 without the dependency descriptor.
    is_blind: bool,
    /// For a consumer on a pipe: the one stream that it passes on as it is. Each stream of the producer has one.
    pub pinned: Option<usize>,
    /// Its share of the transport's bandwidth compared with others: 1 is the lowest.
    pub priority: NonZeroU8,
    /// How well it arrives, by its client's reports.
    pub score: Score,
    /// The score, and the one of the stream that is passed on, that its client was told last.
    pub told_score: Option<(u8, u8)>,
    /// The layers that its client was told last.
    pub told_layers: Option<Layers>,
    /// What was last chosen, and from what.
    targeted: Option<(Offer, Option<Target>)>,
    /// What was sent.
    pub sent: Sent,
    /// Bytes that were sent for the first time, header and payload, as long as they are on the wire.
    pub sent_bytes: Meter,
    /// What its client said about its reception.
    pub heard: Heard,
    /// What was sent again.
    pub resent: Resent,
    payload_type: u8,
    header: HeaderTemplate,
}

impl Consumer {
    /// A paused consumer with the parameters that its client was told.
    #[must_use]
    pub fn new(
        id: ConsumerId,
        transport: usize,
        producer: usize,
        parameters: &RtpParameters,
        first_sequence: u16,
    ) -> Option<Self> {
        let encoding = parameters.encodings.first()?;
        let codec = parameters.codecs.iter().find(|codec| !codec.is_rtx())?;
        let rtx_codec = parameters.codecs.iter().find(|codec| codec.is_rtx());
        let rtx = encoding.rtx.zip(rtx_codec).map(|(rtx, codec)| Rtx {
            ssrc: rtx.ssrc,
            payload_type: codec.payload_type(),
            sequence: u64::from(first_sequence),
        });
        let header = HeaderTemplate::new(parameters);
        let is_av1 = codec.mime_type() == MimeType::Video(MimeTypeVideo::AV1);
        Some(Self {
            id,
            transport,
            producer,
            is_blind: is_av1 && !header.has_dependency(),
            paused: true,
            ssrc: encoding.ssrc?,
            rtx,
            rewriter: Rewriter::new(codec.clock_rate().get(), first_sequence),
            choice: Choice::default(),
            pinned: None,
            priority: NonZeroU8::MIN,
            score: Score::default(),
            told_score: None,
            told_layers: None,
            targeted: None,
            sent: Sent::default(),
            sent_bytes: Meter::default(),
            heard: Heard::default(),
            resent: Resent::default(),
            payload_type: codec.payload_type(),
            header,
        })
    }

    /// Changes which layers it should get.
    pub fn choose(&mut self, choice: Choice) {
        self.choice = choice;
        self.targeted = None;
    }

    /// What it should get of this offer. Without anything to get it is out of sync.
    #[inline]
    pub fn target(&mut self, offer: &Offer) -> Option<Target> {
        if let Some((known, target)) = &self.targeted
            && known == offer
        {
            return *target;
        }
        let target = match self.pinned {
            None => self.choice_of(offer).target(offer).map(|layers| offer.target(layers)),
            Some(stream) => {
                offer.arrives_on(stream).then_some(Target { stream, layers: Layers::OF_ALL_VIEWERS })
            }
        };
        self.targeted = Some((*offer, target));
        if target.is_none() {
            self.rewriter.lose_sync();
        }
        target
    }

    /// A client that can't tell spatial layers apart gets the lowest.
    fn choice_of(&self, offer: &Offer) -> Choice {
        let mut choice = self.choice;
        if self.is_blind && !offer.is_simulcast {
            choice.preferred.spatial = 0;
        }
        choice
    }

    /// The layers that it gets at the moment.
    #[must_use]
    pub fn current_layers(&self, offer: &Offer) -> Option<Layers> {
        self.rewriter.current().map(|current| offer.layers(current))
    }

    /// Appends the RTP packet that this consumer's client gets for a cached one, its payload padded to `padded_len`;
    /// the header's length is returned.
    #[inline]
    pub fn write_packet(
        &self,
        out: &mut Vec<u8>,
        placed: Placed,
        packet: &CachedPacket,
        stamp: Stamp,
        padded_len: usize,
    ) -> usize {
        let start = out.len();
        let header_len = self.header.write(out, self.payload_type, self.ssrc, &placed, Some(packet), stamp);
        if placed.is_filler {
            return header_len;
        }
        write_payload(out, placed.renumbering, packet);
        let padding = padded_len.saturating_sub(packet.payload.len());
        if let Some(count) = u8::try_from(padding).ok().filter(|count| *count > 0) {
            out.extend(std::iter::repeat_n(0, padding - 1));
            out.push(count);
            if let Some(first) = out.get_mut(start) {
                *first |= PADDING_BIT;
            }
        }
        header_len
    }

    /// Appends the packet once more as RTX if the client takes that, else as it was. Its SSRC, extended sequence
    /// number and header length are returned.
    pub fn write_retransmission(
        &mut self,
        out: &mut Vec<u8>,
        placed: Placed,
        packet: &CachedPacket,
        stamp: Stamp,
    ) -> (u32, u64, usize) {
        let Some(rtx) = &mut self.rtx else {
            let header_len = self.write_packet(out, placed, packet, stamp, 0);
            return (self.ssrc, placed.sequence, header_len);
        };
        rtx.sequence += 1;
        let (ssrc, payload_type, sequence) = (rtx.ssrc, rtx.payload_type, rtx.sequence);
        let as_rtx = Placed { sequence, ..placed };
        let header_len = self.header.write(out, payload_type, ssrc, &as_rtx, Some(packet), stamp);
        out.extend_from_slice(&((placed.sequence & 0xFFFF) as u16).to_be_bytes());
        if !placed.is_filler {
            write_payload(out, placed.renumbering, packet);
        }
        (ssrc, sequence, header_len)
    }

    /// Appends a packet of `len` bytes of padding alone on the retransmission stream, as probes are made of; None if there is no
    /// such stream. What is returned is as above.
    pub fn write_padding(
        &mut self,
        out: &mut Vec<u8>,
        stamp: Stamp,
        len: NonZeroU8,
    ) -> Option<(u32, u64, usize)> {
        let timestamp = self.sent.last.map_or(0, |(timestamp, _)| timestamp);
        let rtx = self.rtx.as_mut()?;
        rtx.sequence += 1;
        let (ssrc, payload_type, sequence) = (rtx.ssrc, rtx.payload_type, rtx.sequence);
        let start = out.len();
        let placed = Placed {
            sequence,
            timestamp,
            marker: false,
            renumbering: Renumbering::default(),
            layers: Layers::ALL,
            is_filler: true,
        };
        let header_len = self.header.write(out, payload_type, ssrc, &placed, None, stamp);
        out.extend(std::iter::repeat_n(0, usize::from(len.get()) - 1));
        out.push(len.get());
        if let Some(first) = out.get_mut(start) {
            *first |= PADDING_BIT;
        }
        Some((ssrc, sequence, header_len))
    }

    /// Whether packets of this consumer carry transport-wide sequence numbers.
    #[must_use]
    #[inline]
    pub fn wants_wide_sequence(&self) -> bool {
        self.header.has_wide_sequence()
    }

    /// Whether [`Self::write_padding`] can write something.
    #[must_use]
    pub fn can_pad(&self) -> bool {
        !self.paused && self.rtx.is_some() && self.wants_wide_sequence()
    }

    /// The sender report that is due now: the publisher's own clock where it is known, so that a viewer can put
    /// audio and video of one publisher in step (RFC 3550 section 6.4.1); else weir's.
    #[must_use]
    pub fn sender_info(&self, now: Instant, ntp_now: u64, clock: Option<ClockSample>) -> Option<SenderInfo> {
        let (last_timestamp, last_sent) = self.sent.last?;
        let clock_rate = f64::from(self.rewriter.clock_rate());
        let (ntp, rtp) = match clock {
            Some(clock) => {
                let elapsed = now.saturating_duration_since(clock.arrival).as_secs_f64();
                let rtp = clock.rtp.wrapping_add(self.rewriter.timestamp_offset());
                let ntp = clock.ntp.wrapping_add((elapsed * 4_294_967_296.0) as u64);
                (ntp, rtp.wrapping_add((elapsed * clock_rate) as u32))
            }
            None => {
                let elapsed = now.saturating_duration_since(last_sent).as_secs_f64();
                (ntp_now, last_timestamp.wrapping_add((elapsed * clock_rate) as u32))
            }
        };
        Some(SenderInfo { ssrc: self.ssrc, ntp, rtp, packets: self.sent.packets, octets: self.sent.octets })
    }
}

/// Appends a packet's payload with its picture numbers made continuous for this viewer.
#[inline]
fn write_payload(out: &mut Vec<u8>, renumbering: Renumbering, packet: &CachedPacket) {
    let start = out.len();
    out.extend_from_slice(&packet.payload);
    if renumbering != Renumbering::default()
        && let Some(payload) = out.get_mut(start..)
    {
        packet.frame.renumber(payload, renumbering);
    }
}

impl Sent {
    /// Notes a packet that was sent.
    #[inline]
    pub fn note(&mut self, now: Instant, timestamp: u32, payload_len: usize) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload_len as u32);
        self.last = Some((timestamp, now));
    }

    /// Notes a packet that was sent again.
    pub fn note_retransmitted(&mut self, sequence: u64) {
        self.retransmitted = self.retransmitted.wrapping_add(1);
        if sequence > self.newest_repaired {
            self.newest_repaired = sequence;
            self.repaired = self.repaired.wrapping_add(1);
        }
    }

    /// Packets, retransmissions, and packets that were retransmitted at least once.
    #[must_use]
    pub fn totals(&self) -> [u64; 3] {
        [self.packets, self.retransmitted, self.repaired].map(u64::from)
    }

    /// What happened since the last report of the viewer, which has lost so many packets in all.
    pub fn interval(&mut self, total_lost: i32) -> Interval {
        let now = [self.packets, self.retransmitted, self.repaired, total_lost.max(0).cast_unsigned()];
        let before = std::mem::replace(&mut self.scored, now);
        let [packets, retransmitted, repaired, _] = std::array::from_fn(|at| {
            u64::from(now.get(at).zip(before.get(at)).map_or(0, |(now, before)| now.wrapping_sub(*before)))
        });
        let lost = u64::from(now[3].saturating_sub(before[3]));
        Interval { packets, lost, retransmitted, repaired }
    }
}

/// A tap.
pub struct Tap {
    /// Its id.
    pub id: TapId,
    /// Its producer (key in the worker).
    pub producer: usize,
    /// The largest simulcast stream that it gets; as long as that does not arrive, it gets the next smaller one.
    pub highest: usize,
    /// Which packets it gets and what they become.
    pub rewriter: Rewriter,
    /// The SSRC of its packets.
    pub ssrc: u32,
    /// The payload type of its packets: the publisher's.
    pub payload_type: u8,
    /// Its reader wants no packets for now.
    pub paused: bool,
}

impl Tap {
    /// Whether one of these taps is not paused.
    #[must_use]
    pub fn any_reads(all: &Slab<Self>, keys: &[usize]) -> bool {
        keys.iter().filter_map(|key| all.get(*key)).any(|tap| !tap.paused)
    }

    /// The plain RTP packet that the tap's reader gets for a cached one.
    #[must_use]
    pub fn packet(&self, placed: Placed, packet: &CachedPacket) -> Bytes {
        let mut out = Vec::with_capacity(FIXED_HEADER_LEN + packet.payload.len());
        out.put_u8(0x80);
        out.put_u8(u8::from(placed.marker) << 7 | self.payload_type & 0x7F);
        out.put_u16((placed.sequence & 0xFFFF) as u16);
        out.put_u32(placed.timestamp);
        out.put_u32(self.ssrc);
        if !placed.is_filler {
            write_payload(&mut out, placed.renumbering, packet);
        }
        out.into()
    }
}
