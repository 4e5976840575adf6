//! A network that loses a share of all datagrams, chosen by a seed, and delays the rest.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// One datagram on its way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Datagram {
    pub(crate) due: Instant,
    order: u64,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) contents: Vec<u8>,
}

/// A bottleneck in front of one address: a queue that drains at a constant rate and loses what does not fit.
#[derive(Debug)]
pub(crate) struct Link {
    /// Bits per second.
    capacity: f64,
    /// The longest time that a datagram waits.
    pub(crate) limit: Duration,
    /// When the queue will be empty.
    free_at: Instant,
    /// The longest wait since this was last read.
    pub(crate) longest: Duration,
    pub(crate) dropped: usize,
    pub(crate) bytes: usize,
    /// Share of datagrams that is lost here, beside what does not fit.
    pub(crate) loss: f64,
}

impl Link {
    pub(crate) fn new(now: Instant, kbps: u32, limit: Duration) -> Self {
        let capacity = f64::from(kbps) * 1000.0;
        Self { capacity, limit, free_at: now, longest: Duration::ZERO, dropped: 0, bytes: 0, loss: 0.0 }
    }

    /// Changes the capacity; what waits goes on at the new rate.
    pub(crate) fn set_capacity(&mut self, now: Instant, kbps: u32) {
        let waiting = self.free_at.saturating_duration_since(now).as_secs_f64() * self.capacity;
        self.capacity = f64::from(kbps) * 1000.0;
        self.free_at = now + Duration::from_secs_f64(waiting / self.capacity).min(self.limit);
    }

    pub(crate) fn kbps(&self) -> f64 {
        self.capacity / 1000.0
    }

    /// When a datagram has passed, if it fits.
    fn pass(&mut self, now: Instant, len: usize) -> Option<Instant> {
        let wait = self.free_at.saturating_duration_since(now);
        if wait > self.limit {
            self.dropped += 1;
            return None;
        }
        self.longest = self.longest.max(wait);
        self.bytes += len;
        self.free_at = now + wait + Duration::from_secs_f64((len + 28) as f64 * 8.0 / self.capacity);
        Some(self.free_at)
    }
}

pub(crate) struct Network {
    random: StdRng,
    queue: BinaryHeap<Reverse<Datagram>>,
    order: u64,
    /// Share of datagrams that is lost.
    pub(crate) loss: f64,
    /// Time from one end to the other.
    pub(crate) delay: Duration,
    /// Up to this much more, at random: what reorders.
    pub(crate) jitter: Duration,
    /// Bottlenecks, by the address behind them.
    pub(crate) links: HashMap<SocketAddr, Link>,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            queue: BinaryHeap::new(),
            order: 0,
            loss: 0.0,
            delay: Duration::from_millis(1),
            jitter: Duration::ZERO,
            links: HashMap::new(),
        }
    }

    pub(crate) fn send(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, contents: Vec<u8>) {
        let loss = self.links.get(&to).map_or(self.loss, |link| link.loss.max(self.loss));
        if self.random.random_bool(loss) {
            return;
        }
        let passed = match self.links.get_mut(&to) {
            Some(link) => link.pass(now, contents.len()),
            None => Some(now),
        };
        let Some(passed) = passed else { return };
        let due = passed + self.delay + self.jitter.mul_f64(self.random.random());
        self.order += 1;
        self.queue.push(Reverse(Datagram { due, order: self.order, from, to, contents }));
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse(datagram)| datagram.due)
    }

    pub(crate) fn receive(&mut self, now: Instant) -> Option<Datagram> {
        if self.next_due()? > now {
            return None;
        }
        self.queue.pop().map(|Reverse(datagram)| datagram)
    }
}
