//! A network that loses a share of all datagrams, chosen by a seed, and delays the rest.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
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
        }
    }

    pub(crate) fn send(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, contents: Vec<u8>) {
        if self.random.random_bool(self.loss) {
            return;
        }
        let due = now + self.delay + self.jitter.mul_f64(self.random.random());
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
