//! How much the path from a publisher takes that gets no transport-wide feedback: by the times that its packets carry
//! (abs-send-time, 24 bits of 6.18 fixed point seconds) and those at which they arrive. It is told by REMB.
//!
//! libwebrtc's and mediasoup's `RemoteBitrateEstimatorAbsSendTime` does the same; here the [`Estimator`] that judges the
//! paths to viewers does it, fed with what was seen instead of what was reported. Bursts are not taken for probes.

use std::time::{Duration, Instant};

use crate::ids::Bitrate;
use crate::media::rtp::RtpView;
use crate::sfu::bandwidth::estimator::Estimator;
use crate::sfu::bandwidth::outgoing::MINIMUM;
use crate::sfu::bandwidth::trend::Acknowledged;

/// Time between two conclusions while packets arrive.
const REVIEW_INTERVAL: Duration = Duration::from_millis(100);
/// How often the publisher is told an estimate that grows or stays (libwebrtc's interval).
pub const TELL_INTERVAL: Duration = Duration::from_secs(1);
/// An estimate below this share of what was told last is told at once.
const TELL_AT_ONCE: f64 = 0.97;
/// How long packets have to arrive before the first estimate, unless a queue grows before (libwebrtc's time).
const INITIALIZATION: Duration = Duration::from_secs(5);
/// After so long without a packet, nothing more is told until one comes.
const PAUSE: Duration = Duration::from_secs(2);
/// Fractional bits of abs-send-time.
const UNIT_BITS: u32 = 18;
/// The publisher's clock and weir's may disagree so much between two packets, two seconds; more is another clock.
const MAX_CLOCK_JUMP: i64 = 2 << UNIT_BITS;

/// The path from one publisher.
#[derive(Debug)]
pub struct Arriving {
    /// Id of the abs-send-time header extension.
    extension: u8,
    epoch: Instant,
    clock: Option<Clock>,
    estimator: Estimator,
    /// When the first packet arrived.
    since: Option<Instant>,
    is_known: bool,
    told: Option<(Instant, Bitrate)>,
    due: Option<Instant>,
}

/// The newest packet.
#[derive(Debug, Clone, Copy)]
struct Clock {
    stamp: u32,
    /// When it was sent, in 1/2^18 s of the publisher's clock, which begins where weir's stood.
    sent: i64,
    /// When it arrived, in microseconds.
    arrival: i64,
}

impl Clock {
    fn begin(stamp: u32, arrival: i64) -> Self {
        Self { stamp, sent: to_units(arrival), arrival }
    }

    /// The next packet to arrive, which may have been sent before this one.
    fn next(self, stamp: u32, arrival: i64) -> Self {
        // The difference of two 24-bit numbers, sign-extended.
        let sent = i64::from((stamp.wrapping_sub(self.stamp) << 8).cast_signed() >> 8);
        let passed = to_units(arrival - self.arrival);
        let is_same_clock = (sent - passed).abs() < MAX_CLOCK_JUMP;
        Self { stamp, sent: self.sent + if is_same_clock { sent } else { passed }, arrival }
    }

    fn sent_us(self) -> i64 {
        ((i128::from(self.sent) * 1_000_000) >> UNIT_BITS) as i64
    }
}

fn to_units(us: i64) -> i64 {
    ((i128::from(us) << UNIT_BITS) / 1_000_000) as i64
}

impl Arriving {
    /// Nothing has arrived yet.
    #[must_use]
    pub fn new(now: Instant, extension: u8) -> Self {
        Self {
            extension,
            epoch: now,
            clock: None,
            estimator: Estimator::new(Bitrate(u64::MAX), MINIMUM, Bitrate(u64::MAX)),
            since: None,
            is_known: false,
            told: None,
            due: None,
        }
    }

    /// What the path is thought to take, once known.
    #[must_use]
    pub fn estimate(&self) -> Option<Bitrate> {
        self.is_known.then(|| self.estimator.estimate())
    }

    /// Notes a packet. True if a timer was started by it.
    #[inline]
    pub fn note(&mut self, now: Instant, view: &RtpView<'_>) -> bool {
        let mut extensions = view.extensions();
        let value = extensions.find(|(id, _)| *id == self.extension).map(|(_, value)| value);
        let Some(&[high, middle, low]) = value else { return false };
        let stamp = u32::from_be_bytes([0, high, middle, low]);
        let arrival = now.saturating_duration_since(self.epoch).as_micros() as i64;
        let clock =
            self.clock.map_or_else(|| Clock::begin(stamp, arrival), |clock| clock.next(stamp, arrival));
        self.clock = Some(clock);
        self.since.get_or_insert(now);
        let packet = Acknowledged { sent: clock.sent_us(), arrival, len: view.packet_len() as u32 };
        self.estimator.acknowledge(&packet, false);
        self.due.replace(self.due.unwrap_or(now + REVIEW_INTERVAL)).is_none()
    }

    /// When to conclude next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Concludes from what arrived. What the publisher has to be told is returned: at most `limit`.
    pub fn handle_timeout(&mut self, now: Instant, limit: Option<Bitrate>) -> Option<Bitrate> {
        if self.due.is_none_or(|due| due > now) {
            return None;
        }
        let newest = self.clock.map_or(0, |clock| clock.arrival);
        if now.saturating_duration_since(self.epoch + Duration::from_micros(newest.unsigned_abs())) >= PAUSE {
            (self.due, self.since) = (None, None);
            return None;
        }
        self.due = Some(now + REVIEW_INTERVAL);
        if !self.is_known && !self.begin(now) {
            return None;
        }
        self.estimator.update(now, None, false);
        let estimate = self.estimator.estimate();
        let bitrate = limit.map_or(estimate, |limit| limit.min(estimate));
        let is_news = self.told.is_none_or(|(at, told)| {
            now.saturating_duration_since(at) >= TELL_INTERVAL
                || (bitrate.0 as f64) < told.0 as f64 * TELL_AT_ONCE
        });
        if !is_news {
            return None;
        }
        self.told = Some((now, bitrate));
        Some(bitrate)
    }

    /// The first estimate is what arrives, after a while or once that is too much.
    fn begin(&mut self, now: Instant) -> bool {
        let has_waited =
            self.since.is_some_and(|since| now.saturating_duration_since(since) >= INITIALIZATION);
        let rate = self.estimator.acknowledged().filter(|_| has_waited || self.estimator.is_overused());
        rate.into_iter().for_each(|rate| self.estimator.restart(rate));
        self.is_known = rate.is_some();
        self.is_known
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    const EXTENSION: u8 = 4;

    /// A packet of 1000 bytes with this time in it.
    fn packet(stamp: u32) -> Vec<u8> {
        let mut packet = vec![0x90, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0xBE, 0xDE, 0, 1];
        packet.push(EXTENSION << 4 | 2);
        packet.extend(&stamp.to_be_bytes()[1..]);
        packet.resize(1000, 0);
        packet
    }

    /// What is told while packets arrive: every 10 ms, with these times.
    fn told(stamps: impl Iterator<Item = (u64, u32)>) -> Vec<(u64, Bitrate)> {
        let start = Instant::now();
        let mut arriving = Arriving::new(start, EXTENSION);
        let mut told = Vec::new();
        for (ms, stamp) in stamps {
            let now = start + Duration::from_millis(ms);
            arriving.note(now, &RtpView::parse(&packet(stamp)).unwrap());
            told.extend(arriving.handle_timeout(now, None).map(|bitrate| (ms, bitrate)));
        }
        told
    }

    fn stamp(us: u64) -> u32 {
        ((us << 18) / 1_000_000) as u32 & 0xFF_FFFF
    }

    #[test]
    fn a_free_path_is_told_every_second_after_five_and_across_the_wrap_of_the_clock() {
        // 800 kbit/s for 130 s: the 24 bits wrap twice.
        let told = told((0..13_000).map(|index| (index * 10, stamp(63_000_000 + index * 10_000))));
        assert!((5000..5200).contains(&told[0].0) && (120..=126).contains(&told.len()), "{told:?}");
        assert!(told.iter().all(|(_, bitrate)| *bitrate >= Bitrate::kbps(760)), "{told:?}");
        let last = told.last().unwrap().1;
        assert!(
            (Bitrate::kbps(1100)..=Bitrate::kbps(1300)).contains(&last),
            "half more than arrives: {last}"
        );
    }

    #[test]
    fn a_growing_queue_is_told_at_once() {
        // Sent every 5 ms, arriving every 10.
        let told = told((0..300).map(|index| (index * 10, stamp(index * 5_000))));
        let (first, bitrate) = told[0];
        assert!(first < 1000 && bitrate < Bitrate::kbps(800), "{told:?}");
    }

    #[test]
    fn clocks_that_jump_or_stand_still_are_survived() {
        let mut random = StdRng::seed_from_u64(5);
        told((0..2000).map(|index| (index * 10, random.random::<u32>())));
        told((0..2000).map(|index| (index * 10, 7)));
        // After a restart, the publisher's clock begins elsewhere: nothing is taken for a queue.
        let jump = |index: u64| if index < 1000 { 0 } else { 30_000_000 };
        let told = told((0..3000).map(|index| (index * 10, stamp(index * 10_000 + jump(index)))));
        assert!(told.iter().all(|(_, bitrate)| *bitrate >= Bitrate::kbps(760)), "{told:?}");
    }
}
