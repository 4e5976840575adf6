//! How well a stream arrives, from 10 (nothing lost) to 0 (nothing arrives), as mediasoup computes it: loss that
//! retransmission repaired counts less, and a weighted mean of the last while keeps it calm.

use std::collections::VecDeque;

/// Values that the mean is taken over.
const HISTORY: usize = 24;

/// What happened to the packets of a stream in some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Interval {
    /// Packets that were sent.
    pub packets: u64,
    /// Packets that did not arrive at first.
    pub lost: u64,
    /// Retransmissions.
    pub retransmitted: u64,
    /// Packets that arrived by retransmission.
    pub repaired: u64,
}

impl Interval {
    /// The score of this time alone.
    #[must_use]
    pub fn score(&self) -> u8 {
        if self.packets == 0 {
            return Score::BEST;
        }
        let packets = self.packets as f64;
        let lost = self.lost.min(self.packets);
        let repaired = self.repaired.min(lost);
        // A repair is worth less the more of them are needed, and the more often each was tried.
        let mut worth = (1.0 + repaired as f64 / packets).powi(-4);
        if self.retransmitted > repaired {
            worth *= repaired as f64 / self.retransmitted as f64;
        }
        let delivered = 1.0 - (lost as f64 - repaired as f64 * worth) / packets;
        (delivered.clamp(0.0, 1.0).powi(4) * f64::from(Score::BEST)).round() as u8
    }
}

/// A stream's score.
#[derive(Debug, Clone)]
pub struct Score {
    value: u8,
    history: VecDeque<u8>,
}

impl Default for Score {
    fn default() -> Self {
        Self { value: Self::BEST, history: VecDeque::new() }
    }
}

impl Score {
    /// Everything arrives.
    pub const BEST: u8 = 10;

    /// The score now.
    #[must_use]
    pub fn value(&self) -> u8 {
        self.value
    }

    /// Forgets what was before.
    pub fn reset(&mut self, value: u8) {
        self.history.clear();
        self.value = value;
    }

    /// Adds what happened last; the newer it is, the more it weighs.
    pub fn add(&mut self, interval: &Interval) {
        if self.history.len() >= HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(interval.score());
        let weighted = (1..).zip(&self.history).fold((0, 0), |(sum, weights), (weight, score)| {
            (sum + weight * u32::from(*score), weights + weight)
        });
        self.value = (f64::from(weighted.0) / f64::from(weighted.1)).round() as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(lost: u64, retransmitted: u64, repaired: u64) -> u8 {
        Interval { packets: 100, lost, retransmitted, repaired }.score()
    }

    #[test]
    fn loss_counts_and_repaired_loss_counts_less() {
        assert_eq!(interval(0, 0, 0), 10);
        assert_eq!(interval(5, 0, 0), 8);
        assert_eq!(interval(5, 5, 5), 10);
        assert_eq!(interval(20, 0, 0), 4);
        assert_eq!(interval(20, 20, 20), 6);
        assert_eq!(interval(20, 60, 20), 5, "each had to be tried three times");
        assert_eq!(interval(100, 0, 0), 0);
        assert_eq!(interval(u64::MAX, 0, u64::MAX), 0, "nonsense is clamped");
        assert_eq!(Interval::default().score(), 10);
    }

    #[test]
    fn the_newest_weighs_most_and_the_old_is_forgotten() {
        let mut score = Score::default();
        let bad = Interval { packets: 100, lost: 100, ..Interval::default() };
        for _ in 0..3 {
            score.add(&Interval { packets: 100, ..Interval::default() });
        }
        score.add(&bad);
        assert_eq!(score.value(), 6);
        (0..HISTORY).for_each(|_| score.add(&bad));
        assert_eq!(score.value(), 0);
        score.reset(10);
        assert_eq!(score.value(), 10);
    }
}
