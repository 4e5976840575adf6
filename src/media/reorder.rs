//! Puts the packets of one stream back into the order of their sequence numbers, waiting a bounded time for what is
//! missing (a retransmission may still bring it). Pure: the caller says what time it is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::media::rtp::extend_sequence;

/// A sequence number further away than this from what was expected starts a new sequence.
const MAX_JUMP: u64 = 3000;

/// Packets waiting for their turn.
#[derive(Debug)]
pub struct Reorder<T> {
    /// How long a missing packet is waited for.
    patience: Duration,
    /// How many packets may wait; one more gives up on what is missing.
    capacity: usize,
    next: Option<u64>,
    waiting: BTreeMap<u64, (Instant, T)>,
}

/// A packet whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ordered<T> {
    /// How many packets right before this one never came.
    pub lost_before: u64,
    /// The packet.
    pub packet: T,
}

impl<T> Reorder<T> {
    /// A buffer that waits `patience` for a missing packet and holds `capacity` packets meanwhile.
    #[must_use]
    pub const fn new(patience: Duration, capacity: usize) -> Self {
        Self { patience, capacity, next: None, waiting: BTreeMap::new() }
    }

    /// Takes a packet. One that comes after its turn, or again, is dropped.
    pub fn push(&mut self, sequence: u16, now: Instant, packet: T) {
        let next = *self.next.get_or_insert(u64::from(sequence).saturating_add(1 << 16));
        let extended = extend_sequence(next, sequence);
        if extended.abs_diff(next) > MAX_JUMP {
            self.waiting.clear();
            self.next = Some(extended);
        } else if extended < next {
            return;
        }
        self.waiting.entry(extended).or_insert((now, packet));
    }

    /// The next packet whose turn it is at `now`.
    pub fn pop(&mut self, now: Instant) -> Option<Ordered<T>> {
        let next = self.next?;
        let first = self.waiting.first_entry()?;
        let sequence = *first.key();
        let due = first.get().0.checked_add(self.patience).is_none_or(|due| due <= now);
        if sequence != next && !due && self.waiting.len() <= self.capacity {
            return None;
        }
        let (_, (_, packet)) = self.waiting.pop_first()?;
        self.next = Some(sequence.saturating_add(1));
        Some(Ordered { lost_before: sequence.saturating_sub(next), packet })
    }

    /// When [`Reorder::pop`] gives up on a missing packet, if one is waited for.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let (sequence, (arrived, _)) = self.waiting.first_key_value()?;
        if Some(*sequence) == self.next {
            return Some(*arrived);
        }
        arrived.checked_add(self.patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(buffer: &mut Reorder<u16>, now: Instant) -> Vec<(u64, u16)> {
        std::iter::from_fn(|| buffer.pop(now)).map(|ordered| (ordered.lost_before, ordered.packet)).collect()
    }

    #[test]
    fn reorders_over_the_wrap_and_drops_duplicates() {
        let now = Instant::now();
        let mut buffer = Reorder::new(Duration::from_millis(100), 50);
        for sequence in [65_534, 0, 65_535, 0, 1] {
            buffer.push(sequence, now, sequence);
        }
        assert_eq!(drain(&mut buffer, now), [(0, 65_534), (0, 65_535), (0, 0), (0, 1)]);
        buffer.push(65_535, now, 65_535);
        assert_eq!(drain(&mut buffer, now), [], "its turn is over");
    }

    #[test]
    fn waits_for_a_missing_packet_but_not_for_ever() {
        let now = Instant::now();
        let mut buffer = Reorder::new(Duration::from_millis(100), 50);
        buffer.push(1, now, 1);
        buffer.push(4, now, 4);
        assert_eq!(drain(&mut buffer, now), [(0, 1)]);
        let due = buffer.deadline().unwrap();
        assert_eq!(due, now + Duration::from_millis(100));
        assert_eq!(drain(&mut buffer, due), [(2, 4)]);
        assert_eq!(buffer.deadline(), None);
    }

    #[test]
    fn a_retransmission_in_time_leaves_no_gap() {
        let now = Instant::now();
        let mut buffer = Reorder::new(Duration::from_millis(100), 50);
        buffer.push(1, now, 1);
        buffer.push(3, now, 3);
        assert_eq!(drain(&mut buffer, now), [(0, 1)]);
        buffer.push(2, now + Duration::from_millis(60), 2);
        assert_eq!(drain(&mut buffer, now + Duration::from_millis(60)), [(0, 2), (0, 3)]);
    }

    #[test]
    fn holds_no_more_than_its_capacity() {
        let now = Instant::now();
        let mut buffer = Reorder::new(Duration::from_secs(100), 10);
        buffer.push(1, now, 1);
        for sequence in 3..=13 {
            buffer.push(sequence, now, sequence);
        }
        let out = drain(&mut buffer, now);
        assert_eq!(out.first(), Some(&(0, 1)));
        assert_eq!(out.get(1), Some(&(1, 3)));
        assert_eq!(out.len(), 12);
    }

    #[test]
    fn a_far_jump_starts_a_new_sequence() {
        let now = Instant::now();
        let mut buffer = Reorder::new(Duration::from_millis(100), 50);
        buffer.push(1, now, 1);
        assert_eq!(drain(&mut buffer, now), [(0, 1)]);
        buffer.push(30_000, now, 30_000);
        assert_eq!(drain(&mut buffer, now), [(0, 30_000)]);
    }
}
