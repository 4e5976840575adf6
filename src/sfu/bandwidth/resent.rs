//! What was sent again, so that a viewer that asks faster than its path answers does not fill the path with copies.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Retransmissions of one consumer that are remembered: more than one second of a path that loses a tenth.
const MAX_REMEMBERED: usize = 256;
/// The round trip where none is known.
const ASSUMED_ROUND_TRIP: Duration = Duration::from_millis(40);
/// A round trip beyond this is a queue, and no reason to let a viewer wait.
const MAX_ROUND_TRIP: Duration = Duration::from_millis(150);

/// The recent retransmissions of one consumer.
#[derive(Debug, Default)]
pub struct Resent {
    recent: VecDeque<(u16, Instant)>,
}

impl Resent {
    /// Whether a packet may be sent again, which is noted: not while the last copy may still be on its way.
    pub fn may_resend(&mut self, now: Instant, sequence: u16, round_trip: Option<Duration>) -> bool {
        let wait = round_trip.unwrap_or(ASSUMED_ROUND_TRIP).min(MAX_ROUND_TRIP);
        while self.recent.pop_front_if(|(_, at)| now.saturating_duration_since(*at) >= wait).is_some() {}
        if self.recent.iter().any(|(known, _)| *known == sequence) || self.recent.len() >= MAX_REMEMBERED {
            return false;
        }
        self.recent.push_back((sequence, now));
        true
    }

    /// Notes that a packet is sent late, so that the viewer has asked for it meanwhile, or is about to.
    pub fn note(&mut self, now: Instant, sequence: u16) {
        if self.recent.len() >= MAX_REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back((sequence, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_sent_once_a_round_trip() {
        let start = Instant::now();
        let mut resent = Resent::default();
        let ms = Duration::from_millis;
        let mut may = |at, sequence| resent.may_resend(start + ms(at), sequence, Some(ms(50)));
        assert!(may(0, 7));
        assert!(!may(49, 7), "the copy is on its way");
        assert!(may(49, 8));
        assert!(may(50, 7));
        resent.note(start + ms(1000), 7);
        let mut may = |at, sequence| resent.may_resend(start + ms(at), sequence, Some(ms(50)));
        assert!(!may(1049, 7), "it was sent late, and for the first time");
        assert!(may(1050, 7));
        let sent = (0..1000).filter(|sequence| may(2000, *sequence)).count();
        assert_eq!(sent, MAX_REMEMBERED);
    }
}
