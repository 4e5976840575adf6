//! Makes one continuous RTP stream for a viewer out of the streams of a producer: which packets are passed on, and
//! what their sequence numbers, timestamps and picture numbers become.
//!
//! The outgoing stream is made of stretches: runs of incoming packets that keep their distances, so a packet lost on
//! the way in is a gap that the viewer asks for. Between stretches nothing is left out, so what is dropped (layers
//! above the viewer's, other streams, a pause) leaves no gap. A stretch also remembers which layers it holds; a late
//! packet is judged by them and not by what is wanted now, so that a frame is passed on whole or not at all.

use std::collections::VecDeque;
use std::time::Instant;

use crate::media::codec::{Frame, Layers, Renumbering};
use crate::media::rtp::extend_sequence;
use crate::sfu::cache::CachedPacket;

/// Stretches that are remembered, so that late packets and NACKs of earlier ones still find their way. Dropping the
/// upper layer of every picture makes one for each: two seconds, as long as the cache, at 60 pictures a second.
const MAX_STRETCHES: usize = 128;
/// A gap of so many packets is no loss but a publisher that started over: the viewer goes on at a key frame.
const MAX_LEAP: u64 = 10_000;
/// A key frame of which so many later packets came first is too old to begin with.
const MAX_BEHIND: u64 = 100;
/// Extended sequence numbers start here, so that a packet before the first one has one too.
pub const FIRST_SEQUENCE: u64 = 1 << 16;

/// A publisher's clock: the RTP timestamp that belongs to an NTP time, and when weir was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockSample {
    /// NTP time, 32.32 fixed point.
    pub ntp: u64,
    /// RTP timestamp of the same moment.
    pub rtp: u32,
    /// When the sender report arrived.
    pub arrival: Instant,
}

/// What a viewer should get: one of the producer's streams, and these layers inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The producer's stream.
    pub stream: usize,
    /// Layers inside the stream.
    pub layers: Layers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    stream: usize,
    first_in: u64,
    first_out: u64,
    timestamp_offset: u32,
    renumbering: Renumbering,
    layers: Layers,
}

impl Stretch {
    fn place(&self, packet: &CachedPacket) -> Placed {
        let frame = &packet.frame;
        let is_filler = !frame.needed_by.contains(self.layers);
        let ends_picture = frame.ends_frame && frame.layers.spatial == self.layers.spatial;
        Placed {
            sequence: self.first_out + (packet.sequence - self.first_in),
            timestamp: packet.timestamp.wrapping_add(self.timestamp_offset),
            marker: !is_filler && (packet.marker || ends_picture),
            renumbering: self.renumbering,
            layers: self.layers,
            is_filler,
        }
    }
}

/// A packet's place in the outgoing stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Extended sequence number; its low 16 bits go on the wire.
    pub sequence: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// The marker bit: the packet is the last one of its picture that the viewer gets.
    pub marker: bool,
    /// What is added to the picture numbers.
    pub renumbering: Renumbering,
    /// The layers that the viewer gets.
    pub layers: Layers,
    /// The viewer left a gap for this packet, but has no use for its frame: it goes without its payload.
    pub is_filler: bool,
}

/// Where an outgoing packet came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The producer's stream.
    pub stream: usize,
    /// Its extended sequence number there.
    pub sequence: u64,
    stretch: Stretch,
}

impl Origin {
    /// What was made of the packet, or would have been if it had not been lost.
    #[must_use]
    pub fn place(&self, packet: &CachedPacket) -> Placed {
        self.stretch.place(packet)
    }
}

/// The rewriting state of one consumer or tap.
#[derive(Debug)]
pub struct Rewriter {
    clock_rate: u32,
    stretches: VecDeque<Stretch>,
    /// Whether the current stretch goes on; else the next key frame begins a new one.
    in_sync: bool,
    highest_out: u64,
    /// The highest one that was no filler, which `last` and `last_numbers` are of.
    newest_out: u64,
    last: Option<(u32, Instant)>,
    /// The sequence number after the highest one that was seen of the current stream.
    next_in: u64,
    /// The incoming timestamp of the newest picture that layers were chosen for.
    picture: u32,
    /// The newest outgoing picture numbers.
    last_numbers: (Option<u16>, Option<u8>, Option<u16>),
    /// The incoming picture id of the newest frame that was dropped.
    last_dropped: Option<u16>,
}

impl Rewriter {
    /// A stream with this RTP clock, whose first sequence number is `first_sequence`.
    #[must_use]
    pub fn new(clock_rate: u32, first_sequence: u16) -> Self {
        Self {
            clock_rate,
            stretches: VecDeque::new(),
            in_sync: false,
            highest_out: FIRST_SEQUENCE + u64::from(first_sequence) - 1,
            newest_out: 0,
            last: None,
            next_in: 0,
            picture: 0,
            last_numbers: (None, None, None),
            last_dropped: None,
        }
    }

    /// The RTP clock, in Hz.
    #[must_use]
    pub fn clock_rate(&self) -> u32 {
        self.clock_rate
    }

    /// The stream and the layers of it that are passed on at the moment.
    #[must_use]
    #[inline]
    pub fn current(&self) -> Option<Target> {
        let stretch = self.stretches.back().filter(|_| self.in_sync)?;
        Some(Target { stream: stretch.stream, layers: stretch.layers })
    }

    /// The stream that is passed on at the moment.
    #[must_use]
    #[inline]
    pub fn current_stream(&self) -> Option<usize> {
        self.current().map(|current| current.stream)
    }

    /// Whether only a key frame of the target's stream brings the viewer there. Going down inside a stream needs none
    /// unless its layers stand alone (K-SVC), nor do temporal layers.
    #[must_use]
    #[inline]
    pub fn needs_key_frame(&self, target: Target, is_k_svc: bool) -> bool {
        self.current().is_none_or(|current| {
            current.stream != target.stream
                || current.layers.spatial < target.layers.spatial
                || is_k_svc && current.layers.spatial != target.layers.spatial
        })
    }

    /// Whether a packet that was placed is part of the newest picture.
    #[must_use]
    pub fn is_newest(&self, placed: &Placed) -> bool {
        self.last.is_some_and(|(timestamp, _)| timestamp == placed.timestamp)
    }

    /// What is added to the current stream's timestamps.
    #[must_use]
    pub fn timestamp_offset(&self) -> u32 {
        self.stretches.back().map_or(0, |stretch| stretch.timestamp_offset)
    }

    /// Ends the current stretch, as at a pause: the next packet that is passed on starts a key frame.
    pub fn lose_sync(&mut self) {
        self.in_sync = false;
    }

    /// Places a packet of `stream`, or tells that it is not for this viewer. `target` is what should be passed on;
    /// `clock` gives what is known of a stream's clock.
    #[inline]
    pub fn place(
        &mut self,
        target: Target,
        stream: usize,
        packet: &CachedPacket,
        clock: impl Fn(usize) -> Option<ClockSample>,
    ) -> Option<Placed> {
        if self.current_stream() == Some(stream) && packet.sequence >= self.next_in {
            if packet.sequence - self.next_in < MAX_LEAP {
                return self.go_on(target, packet);
            }
            self.lose_sync();
        }
        let can_begin = packet.frame.starts_key_frame
            && packet.behind <= MAX_BEHIND
            && packet.frame.needed_by.contains(target.layers);
        if can_begin && stream == target.stream && self.current_stream() != Some(stream) {
            return Some(self.begin(target, packet, clock));
        }
        self.place_late(stream, packet)
    }

    /// The next packet of the current stream.
    fn go_on(&mut self, target: Target, packet: &CachedPacket) -> Option<Placed> {
        let stretch = *self.stretches.back()?;
        let layers = if stretch.stream == target.stream && stretch.layers != target.layers {
            self.next_layers(stretch.layers, target.layers, packet)
        } else {
            stretch.layers
        };
        self.next_in = packet.sequence + 1;
        if packet.frame.needed_by.contains(Layers { temporal: Layers::ALL.temporal, ..layers }) {
            self.picture = packet.timestamp;
        }
        if packet.payload.is_empty() || !packet.frame.needed_by.contains(layers) {
            self.leave_out(Stretch { layers, ..stretch }, packet);
            return None;
        }
        let mut placed = stretch.place(packet);
        if layers != stretch.layers {
            let changed =
                Stretch { layers, first_in: packet.sequence, first_out: placed.sequence, ..stretch };
            self.push(changed);
            placed = changed.place(packet);
        }
        self.note(&placed, packet);
        Some(placed)
    }

    /// The layers from this packet on. Spatial layers don't change inside of a picture, so that it is passed on as one
    /// thing.
    fn next_layers(&self, current: Layers, target: Layers, packet: &CachedPacket) -> Layers {
        let frame = &packet.frame;
        if frame.starts_key_frame {
            return target;
        }
        // The first frame of the picture among those that a viewer of this spatial layer gets.
        let all_temporal = |spatial| Layers { spatial, temporal: Layers::ALL.temporal };
        let starts_picture = frame.starts_frame
            && frame.needed_by.contains(all_temporal(current.spatial))
            && packet.timestamp != self.picture
            && (frame.layers.spatial == 0 || packet.sequence == self.next_in);
        let mut next = current;
        // Where spatial layers build on each other the lower ones were passed on all the time. Where they stand alone
        // (K-SVC) they were not, and a key frame is needed.
        if starts_picture
            && target.spatial < current.spatial
            && frame.needed_by.contains(all_temporal(target.spatial))
        {
            next.spatial = target.spatial;
        }
        if target.temporal < current.temporal {
            next.temporal = if starts_picture { target.temporal } else { current.temporal };
        } else if frame.starts_frame && frame.needed_by.contains(current) {
            // Temporal layers may come to a picture's later frames: what they lack is what all of them lack.
            let higher = (current.temporal + 1..=target.temporal).rev();
            let switch = |temporal: &u8| frame.switch_to.contains(Layers { temporal: *temporal, ..next });
            next.temporal = higher.into_iter().find(switch).unwrap_or(current.temporal);
        } else if starts_picture && frame.is_layer_sync && frame.layers.temporal == current.temporal + 1 {
            next.temporal = frame.layers.temporal;
        }
        next
    }

    /// Lets the stream go on behind a packet as if it had never been there.
    fn leave_out(&mut self, stretch: Stretch, packet: &CachedPacket) {
        let mut next = Stretch {
            first_in: packet.sequence + 1,
            first_out: stretch.first_out + (packet.sequence - stretch.first_in),
            ..stretch
        };
        if let Some(id) = packet.frame.picture_id.filter(|id| !id.is_referenced)
            && self.last_dropped != Some(id.value)
        {
            self.last_dropped = Some(id.value);
            next.renumbering.picture_id = next.renumbering.picture_id.wrapping_sub(1);
        }
        self.push(next);
    }

    /// Begins a stretch; those that nothing was placed in give way to it.
    fn push(&mut self, stretch: Stretch) {
        while self.stretches.back().is_some_and(|last| last.first_out >= stretch.first_out) {
            self.stretches.pop_back();
        }
        if self.stretches.len() >= MAX_STRETCHES {
            self.stretches.pop_front();
        }
        self.stretches.push_back(stretch);
    }

    /// A packet that comes after later ones, or of a stream that is not passed on (any more).
    fn place_late(&mut self, stream: usize, packet: &CachedPacket) -> Option<Placed> {
        let matches = |(_, stretch): &(usize, &Stretch)| {
            stretch.stream == stream && stretch.first_in <= packet.sequence
        };
        let (index, stretch) = self.stretches.iter().enumerate().rev().find(matches)?;
        let placed = stretch.place(packet);
        let end = self.stretches.get(index + 1).map_or(self.highest_out + 1, |next| next.first_out);
        if placed.sequence >= end {
            return None;
        }
        self.note(&placed, packet);
        Some(placed)
    }

    fn begin(
        &mut self,
        target: Target,
        packet: &CachedPacket,
        clock: impl Fn(usize) -> Option<ClockSample>,
    ) -> Placed {
        let (picture_id, tl0_picture_index, number) = self.last_numbers;
        let frame = &packet.frame;
        let renumbering = Renumbering {
            picture_id: picture_id
                .zip(frame.picture_id)
                .map_or(0, |(last, new)| last.wrapping_add(1).wrapping_sub(new.value)),
            tl0_picture_index: tl0_picture_index
                .zip(frame.tl0_picture_index)
                .map_or(0, |(last, (_, new))| last.wrapping_add(1).wrapping_sub(new)),
            frame_number: number
                .zip(frame.number)
                .map_or(0, |(last, new)| last.wrapping_add(1).wrapping_sub(new)),
        };
        let stretch = Stretch {
            stream: target.stream,
            first_in: packet.sequence,
            first_out: self.highest_out + 1,
            timestamp_offset: self.offset_for(target.stream, packet, clock),
            renumbering,
            layers: target.layers,
        };
        self.push(stretch);
        self.in_sync = true;
        self.next_in = packet.sequence + 1;
        self.picture = packet.timestamp;
        self.last_dropped = None;
        let placed = stretch.place(packet);
        self.note(&placed, packet);
        placed
    }

    /// Remembers a packet that is passed on, if it is the newest.
    #[inline]
    fn note(&mut self, placed: &Placed, packet: &CachedPacket) {
        self.highest_out = self.highest_out.max(placed.sequence);
        if placed.is_filler || placed.sequence < self.newest_out {
            return;
        }
        self.newest_out = placed.sequence;
        self.last = Some((placed.timestamp, packet.arrival));
        let Frame { picture_id, tl0_picture_index, number, .. } = packet.frame;
        self.last_numbers = (
            picture_id.map(|id| id.value.wrapping_add(placed.renumbering.picture_id)),
            tl0_picture_index.map(|(_, index)| index.wrapping_add(placed.renumbering.tl0_picture_index)),
            number.map(|number| number.wrapping_add(placed.renumbering.frame_number)),
        );
    }

    /// The offset that lets a stretch go on in time where the last one stopped: by the publisher's own clock where
    /// both streams have told it, else by the time that passed here.
    fn offset_for(
        &self,
        stream: usize,
        packet: &CachedPacket,
        clock: impl Fn(usize) -> Option<ClockSample>,
    ) -> u32 {
        let (Some(previous), Some((last_timestamp, last_arrival))) = (self.stretches.back(), self.last)
        else {
            return 0;
        };
        let unchanged = (previous.stream == stream).then_some(previous.timestamp_offset);
        let clocks = clock(previous.stream).zip(clock(stream));
        let by_clock = clocks.map(|(old, new)| {
            let apart = (new.ntp.wrapping_sub(old.ntp)).cast_signed();
            let ticks = (i128::from(apart) * i128::from(self.clock_rate)) >> 32;
            // The new stream's sample, told in the old stream's outgoing timestamps.
            let sample = old.rtp.wrapping_add(previous.timestamp_offset).wrapping_add(ticks as u32);
            sample.wrapping_sub(new.rtp)
        });
        let elapsed = packet.arrival.saturating_duration_since(last_arrival).as_secs_f64();
        let by_arrival = last_timestamp
            .wrapping_add((elapsed * f64::from(self.clock_rate)) as u32)
            .wrapping_sub(packet.timestamp);
        let offset = unchanged.or(by_clock).unwrap_or(by_arrival);
        let grows = |offset: u32| {
            let ahead = packet.timestamp.wrapping_add(offset).wrapping_sub(last_timestamp).cast_signed();
            ahead > 0
        };
        match [offset, by_arrival].into_iter().find(|offset| grows(*offset)) {
            Some(offset) => offset,
            None => last_timestamp.wrapping_add(1).wrapping_sub(packet.timestamp),
        }
    }

    /// The producer stream and sequence number behind an outgoing sequence number, for a NACK.
    #[must_use]
    pub fn origin(&self, sequence: u16) -> Option<Origin> {
        let out = extend_sequence(self.highest_out, sequence);
        if out > self.highest_out {
            return None;
        }
        let after = self.stretches.partition_point(|stretch| stretch.first_out <= out);
        let stretch = *self.stretches.get(after.checked_sub(1)?)?;
        Some(Origin {
            stream: stretch.stream,
            sequence: stretch.first_in + (out - stretch.first_out),
            stretch,
        })
    }
}

#[cfg(test)]
mod tests;
