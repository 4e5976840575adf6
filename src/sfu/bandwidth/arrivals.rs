//! When packets with transport-wide sequence numbers arrived, and the feedback that tells their sender
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01). Each packet is reported once, those that are missing before
//! it as lost; one that comes late is reported again, with what follows it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::media::rtcp::transport_cc::{self, Header, TICK_US, TICKS_PER_REFERENCE};
use crate::media::rtp::extend_sequence;

/// Packets that are remembered; with [`KEEP`] that is 8000 packets a second.
pub const MAX_PACKETS: usize = 4096;
/// How long a reported packet is remembered, so that one that was overtaken still finds its place.
pub const KEEP: Duration = Duration::from_millis(500);
/// Packets of one feedback message beyond those that are missing in front: about a thousand bytes at most.
const MAX_MESSAGE: usize = 400;
/// Extended sequence numbers start here, so that a packet before the first one has one too.
const FIRST_SEQUENCE: u64 = 1 << 16;

/// Arrival times of one sender's packets, in ticks of 250 µs since this was made.
#[derive(Debug)]
pub struct Arrivals {
    epoch: Instant,
    /// Extended sequence number of the first slot.
    first: u64,
    slots: VecDeque<Option<i64>>,
    /// The first packet that was not reported yet.
    unreported: u64,
    /// Packets before this one were forgotten.
    forgotten: u64,
    messages: u8,
}

impl Arrivals {
    /// No arrivals yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { epoch: now, first: 0, slots: VecDeque::new(), unreported: 0, forgotten: 0, messages: 0 }
    }

    fn ticks(&self, at: Instant) -> i64 {
        (at.saturating_duration_since(self.epoch).as_micros() as i64) / TICK_US
    }

    /// Notes the arrival of a packet.
    pub fn note(&mut self, now: Instant, sequence: u16) {
        let ticks = self.ticks(now);
        let end = self.first + self.slots.len() as u64;
        let is_first = end == 0;
        let sequence =
            if is_first { FIRST_SEQUENCE + u64::from(sequence) } else { extend_sequence(end, sequence) };
        if is_first || sequence.abs_diff(end) >= MAX_PACKETS as u64 {
            // The first one, or a jump that loss does not explain: what was before it is not reported as lost.
            self.slots.clear();
            (self.first, self.unreported, self.forgotten) = (sequence, sequence, 0);
        }
        if sequence < self.first {
            let missing = (self.first - sequence) as usize;
            if sequence < self.forgotten || missing + self.slots.len() > MAX_PACKETS {
                return;
            }
            (0..missing).for_each(|_| self.slots.push_front(None));
            self.first = sequence;
        }
        let index = (sequence - self.first) as usize;
        if index >= self.slots.len() {
            self.slots.resize(index + 1, None);
        }
        if let Some(slot) = self.slots.get_mut(index).filter(|slot| slot.is_none()) {
            *slot = Some(ticks);
            self.unreported = self.unreported.min(sequence);
        }
        let excess = self.slots.len().saturating_sub(MAX_PACKETS);
        self.forget(excess);
    }

    fn forget(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        self.slots.drain(..count);
        self.first += count as u64;
        self.forgotten = self.forgotten.max(self.first);
        self.unreported = self.unreported.max(self.first);
    }

    /// Writes the messages that report what was not reported yet, each to `send`.
    pub fn report(&mut self, now: Instant, sender: u32, media: u32, mut send: impl FnMut(Vec<u8>)) {
        loop {
            let start = (self.unreported - self.first) as usize;
            let rest = self.slots.range(start.min(self.slots.len())..);
            let Some((leading, first)) = rest.enumerate().find_map(|(index, slot)| Some((index, (*slot)?)))
            else {
                break;
            };
            let reference = first.div_euclid(TICKS_PER_REFERENCE);
            let end = self.slots.len().min(start + leading + MAX_MESSAGE);
            let slots = self.slots.range(start..end);
            let arrivals: Vec<Option<i64>> =
                slots.map(|slot| slot.map(|ticks| ticks - reference * TICKS_PER_REFERENCE)).collect();
            let base = (self.unreported & 0xFFFF) as u16;
            let header = Header { sender, media, base, reference, count: self.messages };
            let mut message = Vec::with_capacity(64 + arrivals.len());
            let written = transport_cc::write(&mut message, &header, &arrivals);
            send(message);
            self.messages = self.messages.wrapping_add(1);
            self.unreported += written.max(1) as u64;
        }
        let expired = self.ticks(now) - KEEP.as_micros() as i64 / TICK_US;
        let young = self.slots.iter().position(|slot| slot.is_some_and(|ticks| ticks > expired));
        let reported = (self.unreported - self.first) as usize;
        self.forget(young.unwrap_or(self.slots.len()).min(reported).min(self.slots.len()));
    }
}

#[cfg(test)]
mod tests {
    use rand::seq::SliceRandom;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::media::rtcp::{Item, read};

    /// What the sender learns: arrival in milliseconds since `start`, by sequence number.
    fn reports(arrivals: &mut Arrivals, now: Instant) -> Vec<(u16, Option<i64>)> {
        let mut told = Vec::new();
        arrivals.report(now, 1, 2, |message| {
            assert!(message.len() < 1200, "{} bytes", message.len());
            read(&message, |item| {
                let Item::TransportFeedback(feedback) = item else { panic!("{item:?}") };
                let base = i64::from(feedback.reference) * TICKS_PER_REFERENCE;
                told.extend(
                    feedback.packets().map(|(sequence, at)| (sequence, at.map(|at| (at + base) / 4))),
                );
            })
            .unwrap();
        });
        told
    }

    #[test]
    fn a_lost_packet_is_reported_once_and_a_late_one_again() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut arrivals = Arrivals::new(start);
        for (ms, sequence) in [(10, 65_534), (11, 65_535), (12, 1), (13, 2)] {
            arrivals.note(at(ms), sequence);
        }
        let told = reports(&mut arrivals, at(100));
        assert_eq!(told, [(65_534, Some(10)), (65_535, Some(11)), (0, None), (1, Some(12)), (2, Some(13))]);
        assert!(reports(&mut arrivals, at(200)).is_empty(), "nothing is said twice");
        arrivals.note(at(210), 0);
        arrivals.note(at(211), 3);
        let told = reports(&mut arrivals, at(300));
        assert_eq!(told, [(0, Some(210)), (1, Some(12)), (2, Some(13)), (3, Some(211))]);
    }

    #[test]
    fn everything_is_told_under_loss_reordering_and_wraps() {
        let mut random = rand::rngs::StdRng::seed_from_u64(3);
        let start = Instant::now();
        let mut arrivals = Arrivals::new(start);
        let mut told = std::collections::BTreeMap::new();
        let mut sent = std::collections::BTreeMap::new();
        let mut now = start;
        for round in 0..2000_u64 {
            let mut batch: Vec<u64> = (0..50).map(|i| 65_000 + round * 50 + i).collect();
            batch.shuffle(&mut random);
            for sequence in batch.into_iter().filter(|_| random.random_bool(0.9)) {
                now += Duration::from_millis(1);
                arrivals.note(now, sequence as u16);
                sent.insert(sequence, (now - start).as_millis() as i64);
            }
            for (sequence, arrival) in reports(&mut arrivals, now) {
                let extended = extend_sequence(65_000 + round * 50 + 25, sequence);
                told.insert(extended, arrival);
            }
            assert!(arrivals.slots.len() <= MAX_PACKETS);
        }
        for (sequence, arrival) in told {
            assert_eq!(sent.remove(&sequence), arrival, "{sequence}");
        }
        assert!(sent.is_empty(), "not told: {sent:?}");
    }

    #[test]
    fn jumps_and_noise_cost_bounded_memory() {
        let mut random = rand::rngs::StdRng::seed_from_u64(4);
        let start = Instant::now();
        let mut arrivals = Arrivals::new(start);
        for step in 0..20_000 {
            arrivals.note(start + Duration::from_millis(step), random.random());
            assert!(arrivals.slots.len() <= MAX_PACKETS && arrivals.slots.capacity() <= 4 * MAX_PACKETS);
            if step % 100 == 0 {
                arrivals.report(start + Duration::from_millis(step), 1, 2, |message| {
                    assert!(message.len() < 1300);
                });
            }
        }
    }
}
