//! Holds back what is more than a narrow path takes at once, as a key frame is, so that it does not overflow the queue
//! in front of it. What a path takes in the time of a frame goes through untouched, in one batch.
//!
//! Only places in the outgoing stream are kept. Packets are read from their stream's cache, written and stamped when
//! they are sent, so that nothing is copied and send times are true.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::ids::Bitrate;
use crate::sfu::rewrite::Placed;

/// Packets of one transport that are held back; beyond that the oldest go at once. Half of what a stream's cache holds.
pub const MAX_HELD: usize = 512;
/// Time between two batches of what is held back.
pub const SLOT: Duration = Duration::from_millis(5);
/// Nothing is held back for much longer: a path that takes less than this needs loses what it can't take.
pub const MAX_WAIT: Duration = Duration::from_millis(200);
/// Where the path's limit was met: the pace, in multiples of the estimate, and how far ahead of it may be sent, in time
/// at the estimate. That is one frame, at 30 a second.
const AT_LIMIT: (f64, Duration) = (1.0, Duration::from_millis(33));
/// The same where it was not met and the path may take much more. Frames differ in size, and the larger ones of those
/// that the path does take are not worth another batch.
const BELOW_LIMIT: (f64, Duration) = (2.0, Duration::from_millis(45));
/// Capacity of the queue that is kept while it is empty.
const KEPT_CAPACITY: usize = 32;

/// A packet that is held back: what it becomes, and where to find it.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// The consumer (key in the worker) and its SSRC, because keys are used again.
    pub consumer: (usize, u32),
    /// What it becomes.
    pub placed: Placed,
    /// The producer's stream, and the packet's extended sequence number there.
    pub origin: (usize, u64),
    /// The payload length that it is padded to.
    pub padded_len: usize,
}

/// What is held back on the way to one peer.
#[derive(Debug)]
pub struct Pacer {
    held: VecDeque<Held>,
    held_bytes: usize,
    /// Bytes per second that let nothing wait for longer than [`MAX_WAIT`], since the queue was empty.
    least_rate: f64,
    /// Bytes that were sent ahead of the pace.
    ahead: f64,
    updated: Instant,
}

/// What a pacer goes by.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// What the path is thought to take.
    pub estimate: Bitrate,
    /// Whether that is so because the path's limit was met.
    pub is_at_limit: bool,
}

impl Pace {
    /// Bytes per second, and how many may be sent ahead of that.
    fn bytes(self) -> (f64, f64) {
        let (factor, ahead) = if self.is_at_limit { AT_LIMIT } else { BELOW_LIMIT };
        let estimate = self.estimate.0 as f64 / 8.0;
        (estimate * factor, estimate * ahead.as_secs_f64())
    }
}

impl Pacer {
    /// Nothing was sent yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { held: VecDeque::new(), held_bytes: 0, least_rate: 0.0, ahead: 0.0, updated: now }
    }

    /// Whether anything is held back.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// The sequence numbers of a consumer's packets that are held back, ascending.
    pub fn held_of(&self, consumer: (usize, u32)) -> impl Iterator<Item = u64> + '_ {
        self.held.iter().filter(move |held| held.consumer == consumer).map(|held| held.placed.sequence)
    }

    /// How long the path takes for what is held back.
    #[must_use]
    pub fn backlog(&self, pace: Pace) -> Duration {
        Duration::from_secs_f64(self.held_bytes as f64 * 8.0 / pace.estimate.0.max(1) as f64)
    }

    fn update(&mut self, now: Instant, rate: f64) {
        let elapsed = now.saturating_duration_since(std::mem::replace(&mut self.updated, now));
        self.ahead = (self.ahead - elapsed.as_secs_f64() * rate).max(0.0);
    }

    /// Whether `bytes` may be sent now, all of them, which is noted.
    #[inline]
    pub fn pass(&mut self, now: Instant, pace: Pace, bytes: usize) -> bool {
        let (rate, limit) = pace.bytes();
        self.update(now, rate);
        let ahead = self.ahead + bytes as f64;
        let passes = self.held.is_empty() && ahead <= limit;
        if passes {
            self.ahead = ahead;
        }
        passes
    }

    /// Notes bytes that are not held back in any case.
    pub fn note_urgent(&mut self, bytes: usize) {
        self.ahead += bytes as f64;
    }

    /// Holds a packet back, before those of its stream that belong behind it.
    pub fn hold(&mut self, held: Held) {
        let is_before =
            |other: &Held| other.consumer == held.consumer && other.placed.sequence > held.placed.sequence;
        let behind = self.held.iter().rev().take_while(|other| is_before(other)).count();
        self.held_bytes += held.padded_len;
        self.least_rate = self.least_rate.max(self.held_bytes as f64 / MAX_WAIT.as_secs_f64());
        self.held.insert(self.held.len() - behind, held);
    }

    /// Gives up what is held back.
    pub fn forget(&mut self) {
        self.held = VecDeque::new();
        (self.held_bytes, self.least_rate) = (0, 0.0);
    }

    /// The next packet that may be sent now.
    pub fn release(&mut self, now: Instant, pace: Pace) -> Option<Held> {
        let (rate, limit) = pace.bytes();
        let rate = rate.max(self.least_rate);
        self.update(now, rate);
        let len = self.held.front()?.padded_len;
        // A slot takes a whole packet, and what that is too much is made up for by the next ones.
        let fits = self.ahead + len as f64 <= limit || self.ahead < rate * SLOT.as_secs_f64();
        if !fits && self.held.len() <= MAX_HELD {
            return None;
        }
        self.ahead += len as f64;
        self.held_bytes = self.held_bytes.saturating_sub(len);
        let held = self.held.pop_front();
        if self.held.is_empty() {
            self.held.shrink_to(KEPT_CAPACITY);
            self.least_rate = 0.0;
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::Renumbering;

    const LEN: usize = 1000;

    fn held(sequence: u64) -> Held {
        let placed = Placed {
            sequence,
            timestamp: 0,
            marker: false,
            renumbering: Renumbering::default(),
            layers: crate::media::codec::Layers::ALL,
            is_filler: false,
        };
        Held { consumer: (0, 0), placed, origin: (0, sequence), padded_len: LEN }
    }

    /// Sends a burst; how many bytes went at once, and the times in milliseconds at which the others did.
    fn send(pacer: &mut Pacer, start: Instant, pace: Pace, packets: u64) -> (usize, Vec<u128>) {
        let mut at_once = 0;
        for sequence in 0..packets {
            if pacer.pass(start, pace, LEN) {
                at_once += LEN;
            } else {
                pacer.hold(held(sequence));
            }
        }
        let mut now = start;
        let mut later = Vec::new();
        while pacer.is_holding() {
            now += SLOT;
            while let Some(next) = pacer.release(now, pace) {
                assert_eq!(next.placed.sequence, (at_once / LEN + later.len()) as u64, "in order");
                later.push((now - start).as_millis());
            }
        }
        (at_once, later)
    }

    #[test]
    fn what_a_path_takes_in_a_frame_passes_and_the_rest_follows_at_its_pace() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        let pace = Pace { estimate: Bitrate::kbps(800), is_at_limit: true };
        // 100 bytes a millisecond: 3300 at once.
        let (at_once, later) = send(&mut pacer, start, pace, 20);
        assert_eq!(at_once, 3000);
        assert_eq!(later.len(), 17);
        assert!((165..=175).contains(later.last().unwrap()), "{later:?}");
        assert_eq!(pacer.backlog(pace), Duration::ZERO);
        assert!(pacer.held.capacity() <= KEPT_CAPACITY);
        let wide = Pace { estimate: Bitrate::kbps(4000), is_at_limit: false };
        assert_eq!(send(&mut Pacer::new(start), start, wide, 20), (20 * LEN, vec![]));
    }

    #[test]
    fn nothing_waits_for_long_and_not_much_at_all() {
        let start = Instant::now();
        let pace = Pace { estimate: Bitrate::kbps(300), is_at_limit: true };
        let (_, later) = send(&mut Pacer::new(start), start, pace, 100);
        assert!(*later.last().unwrap() <= (MAX_WAIT + SLOT).as_millis(), "{later:?}");
        let (_, later) = send(&mut Pacer::new(start), start, pace, MAX_HELD as u64 + 100);
        assert!(later.iter().filter(|ms| **ms <= SLOT.as_millis()).count() >= 90);
    }
}
