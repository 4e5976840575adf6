//! Retransmissions that may be lost in their turn. A viewer asks again only after a round trip that it has to guess (100 ms
//! in Chromium), while its report on packets tells within a feedback interval that the copy did not arrive.

use std::collections::VecDeque;

/// Retransmissions to one peer that are waited for: a tenth of what it gets in a round trip of half a second at 5 Mbit/s.
const MAX_WAITING: usize = 128;

/// A packet that was sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy {
    /// The consumer (key in the worker) and its SSRC, because keys are used again.
    pub consumer: (usize, u32),
    /// The sequence number that the viewer misses.
    pub sequence: u16,
}

/// The retransmissions to one peer whose fate is not known yet, oldest first, by transport-wide sequence number.
#[derive(Debug, Default)]
pub struct Copies {
    waiting: VecDeque<(u16, Copy)>,
    lost: Vec<Copy>,
}

impl Copies {
    /// Notes that a copy was sent with this transport-wide sequence number.
    pub fn note(&mut self, wide_sequence: u16, copy: Copy) {
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back((wide_sequence, copy));
    }

    /// Notes that a packet is reported as lost. Older ones that were not are no longer waited for.
    pub fn lose(&mut self, wide_sequence: u16) {
        let is_older =
            |(known, _): &mut (u16, Copy)| wide_sequence.wrapping_sub(*known).wrapping_sub(1) < 1 << 15;
        while self.waiting.pop_front_if(is_older).is_some() {}
        if let Some((_, copy)) = self.waiting.pop_front_if(|(known, _)| *known == wide_sequence) {
            self.lost.push(copy);
        }
    }

    /// The copies that were lost since the last call, at most as many as are waited for.
    pub fn take_lost(&mut self) -> Vec<Copy> {
        std::mem::take(&mut self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_copy_is_told_once_and_older_ones_are_given_up() {
        let copy = |sequence| Copy { consumer: (1, 7), sequence };
        let mut copies = Copies::default();
        for (wide, sequence) in [(65_530, 1), (65_535, 2), (3, 3), (9, 4)] {
            copies.note(wide, copy(sequence));
        }
        copies.lose(65_529);
        copies.lose(65_535);
        copies.lose(65_530);
        copies.lose(65_535);
        copies.lose(2);
        assert_eq!(copies.take_lost(), [copy(2)]);
        copies.lose(9);
        assert_eq!(copies.take_lost(), [copy(4)]);
        assert_eq!(copies.take_lost(), []);
        (0..1000).for_each(|wide| copies.note(wide, copy(wide)));
        assert_eq!(copies.waiting.len(), MAX_WAITING);
    }
}
