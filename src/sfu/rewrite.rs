//! Makes one continuous RTP stream for a viewer out of the streams of a producer: which stream is passed on, and
//! what its sequence numbers and timestamps become.
//!
//! Within one stretch (from a start or a switch to the next) sequence numbers keep their distances, so a packet lost
//! on the way in is a gap that the viewer asks for; between stretches nothing is left out.

use std::collections::VecDeque;
use std::time::Instant;

use crate::media::rtp::extend_sequence;
use crate::sfu::cache::CachedPacket;

/// Stretches that are remembered, so that late packets and NACKs of earlier ones still find their way.
const MAX_STRETCHES: usize = 8;
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

#[derive(Debug, Clone, Copy)]
struct Stretch {
    stream: usize,
    first_in: u64,
    first_out: u64,
    timestamp_offset: u32,
}

/// A packet's place in the outgoing stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Extended sequence number; its low 16 bits go on the wire.
    pub sequence: u64,
    /// RTP timestamp.
    pub timestamp: u32,
}

/// Where an outgoing packet came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The producer's stream.
    pub stream: usize,
    /// Its extended sequence number there.
    pub sequence: u64,
    /// Its extended sequence number in the outgoing stream.
    pub placed_sequence: u64,
    /// What was added to its timestamp.
    pub timestamp_offset: u32,
}

/// The rewriting state of one consumer or tap.
#[derive(Debug)]
pub struct Rewriter {
    clock_rate: u32,
    stretches: VecDeque<Stretch>,
    /// Whether the current stretch goes on; else the next key frame begins a new one.
    in_sync: bool,
    highest_out: u64,
    last: Option<(u32, Instant)>,
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
            last: None,
        }
    }

    /// The RTP clock, in Hz.
    #[must_use]
    pub fn clock_rate(&self) -> u32 {
        self.clock_rate
    }

    /// The stream that is passed on at the moment.
    #[must_use]
    pub fn current_stream(&self) -> Option<usize> {
        self.stretches.back().filter(|_| self.in_sync).map(|stretch| stretch.stream)
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

    /// Places a packet of `stream`, or tells that it is not for this viewer. `target` is the stream that should be
    /// passed on; `clock` gives what is known of a stream's clock.
    pub fn place(
        &mut self,
        target: usize,
        stream: usize,
        packet: &CachedPacket,
        clock: impl Fn(usize) -> Option<ClockSample>,
    ) -> Option<Placed> {
        let current = self.current_stream();
        if current != Some(target) && stream == target && packet.starts_key_frame {
            return Some(self.begin(stream, packet, clock));
        }
        let (index, stretch) = self
            .stretches
            .iter()
            .enumerate()
            .rev()
            .find(|(_, stretch)| stretch.stream == stream && stretch.first_in <= packet.sequence)?;
        let sequence = stretch.first_out + (packet.sequence - stretch.first_in);
        let timestamp = packet.timestamp.wrapping_add(stretch.timestamp_offset);
        match self.stretches.get(index + 1) {
            Some(next) if sequence >= next.first_out => return None,
            Some(_) => {}
            None if !self.in_sync && sequence > self.highest_out => return None,
            None => {}
        }
        if sequence > self.highest_out {
            self.highest_out = sequence;
            self.last = Some((timestamp, packet.arrival));
        }
        Some(Placed { sequence, timestamp })
    }

    fn begin(
        &mut self,
        stream: usize,
        packet: &CachedPacket,
        clock: impl Fn(usize) -> Option<ClockSample>,
    ) -> Placed {
        let timestamp_offset = self.offset_for(stream, packet, clock);
        let sequence = self.highest_out + 1;
        if self.stretches.len() >= MAX_STRETCHES {
            self.stretches.pop_front();
        }
        self.stretches.push_back(Stretch {
            stream,
            first_in: packet.sequence,
            first_out: sequence,
            timestamp_offset,
        });
        self.in_sync = true;
        self.highest_out = sequence;
        let timestamp = packet.timestamp.wrapping_add(timestamp_offset);
        self.last = Some((timestamp, packet.arrival));
        Placed { sequence, timestamp }
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
        if previous.stream == stream {
            return previous.timestamp_offset;
        }
        let by_clock = clock(previous.stream).zip(clock(stream)).map(|(old, new)| {
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
        let offset = by_clock.unwrap_or(by_arrival);
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
        let stretch = self.stretches.iter().rev().find(|stretch| stretch.first_out <= out)?;
        Some(Origin {
            stream: stretch.stream,
            sequence: stretch.first_in + (out - stretch.first_out),
            placed_sequence: out,
            timestamp_offset: stretch.timestamp_offset,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn packet(sequence: u64, timestamp: u32, key: bool, arrival: Instant) -> CachedPacket {
        CachedPacket {
            sequence,
            timestamp,
            marker: false,
            starts_key_frame: key,
            audio_level: None,
            video_orientation: None,
            arrival,
            payload: Vec::new(),
        }
    }

    fn place(
        rewriter: &mut Rewriter,
        target: usize,
        stream: usize,
        packet: &CachedPacket,
    ) -> Option<(u64, u32)> {
        rewriter
            .place(target, stream, packet, |_| None)
            .map(|placed| (placed.sequence - FIRST_SEQUENCE, placed.timestamp))
    }

    #[test]
    fn waits_for_a_key_frame_and_keeps_gaps_and_late_packets() {
        let now = Instant::now();
        let mut rewriter = Rewriter::new(90_000, 500);
        assert_eq!(place(&mut rewriter, 0, 0, &packet(1000, 1, false, now)), None);
        assert_eq!(place(&mut rewriter, 0, 0, &packet(1001, 2, true, now)), Some((500, 2)));
        assert_eq!(place(&mut rewriter, 0, 0, &packet(1004, 3, false, now)), Some((503, 3)));
        assert_eq!(place(&mut rewriter, 0, 0, &packet(1002, 2, false, now)), Some((501, 2)));
        assert_eq!(place(&mut rewriter, 0, 0, &packet(1000, 1, false, now)), None, "before the start");
        assert_eq!(rewriter.origin(503).map(|origin| (origin.stream, origin.sequence)), Some((0, 1004)));
        assert_eq!(rewriter.origin(504), None, "not sent yet");
        assert_eq!(rewriter.origin(499), None, "before the start");
    }

    #[test]
    fn a_pause_leaves_no_gap() {
        let now = Instant::now();
        let mut rewriter = Rewriter::new(90_000, 0);
        place(&mut rewriter, 0, 0, &packet(70_000, 0, true, now));
        rewriter.lose_sync();
        assert_eq!(place(&mut rewriter, 0, 0, &packet(70_001, 9, false, now)), None);
        assert_eq!(place(&mut rewriter, 0, 0, &packet(70_500, 9000, true, now)), Some((1, 9000)));
        assert_eq!(rewriter.origin(1).map(|origin| origin.sequence), Some(70_500));
        assert_eq!(rewriter.origin(0).map(|origin| origin.sequence), Some(70_000));
    }

    #[test]
    fn a_switch_waits_for_the_target_and_time_goes_on() {
        let start = Instant::now();
        let later = start + Duration::from_millis(100);
        let mut rewriter = Rewriter::new(90_000, 0);
        place(&mut rewriter, 0, 0, &packet(66_000, 50_000, true, start));
        assert_eq!(place(&mut rewriter, 1, 1, &packet(90_000, 7, false, later)), None);
        assert_eq!(place(&mut rewriter, 1, 0, &packet(66_001, 53_000, false, later)), Some((1, 53_000)));
        let switched = later + Duration::from_millis(100);
        assert_eq!(place(&mut rewriter, 1, 1, &packet(90_005, 77, true, switched)), Some((2, 62_000)));
        assert_eq!(place(&mut rewriter, 1, 0, &packet(66_002, 56_000, false, switched)), None);
        assert_eq!(place(&mut rewriter, 1, 1, &packet(90_006, 77, false, switched)), Some((3, 62_000)));
    }

    #[test]
    fn a_switch_follows_the_publishers_clock_where_it_is_known() {
        let start = Instant::now();
        let mut rewriter = Rewriter::new(90_000, 0);
        place(&mut rewriter, 0, 0, &packet(66_000, 1_000, true, start));
        let clock = |stream: usize| {
            // Stream 1's timestamp 500 000 is one second after stream 0's 1 000.
            let ntp = if stream == 0 { 10 << 32 } else { 11 << 32 };
            Some(ClockSample { ntp, rtp: [1_000, 500_000][stream], arrival: start })
        };
        let key = packet(70_000, 503_000, true, start + Duration::from_millis(1400));
        let placed = rewriter.place(1, 1, &key, clock).unwrap();
        assert_eq!(placed.timestamp, 1_000 + 90_000 + 3_000);
    }
}
