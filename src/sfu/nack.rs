//! Which packets of a publisher's stream are missing, and when to ask for them (RFC 4585 section 6.2.1).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Packets that can be missing at once; more is an outage that only a key frame ends.
pub const MAX_MISSING: usize = 512;
/// How often a packet is asked for.
pub const MAX_ATTEMPTS: u8 = 10;
/// How long after a request the next one for the same packet follows.
pub const RETRY_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy)]
struct Missing {
    attempts: u8,
    ask_at: Instant,
}

/// What became of a packet's arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// Nothing new is missing.
    None,
    /// Packets are missing that should be asked for now.
    Missing,
    /// More is missing than can be asked for: a key frame is needed.
    Outage,
}

/// The missing packets of one stream.
#[derive(Debug, Default)]
pub struct NackGenerator {
    highest: Option<u64>,
    missing: BTreeMap<u64, Missing>,
}

impl NackGenerator {
    /// Notes the arrival of a packet, by extended sequence number.
    pub fn receive(&mut self, now: Instant, sequence: u64) -> Gap {
        let Some(highest) = self.highest else {
            self.highest = Some(sequence);
            return Gap::None;
        };
        if sequence <= highest {
            self.missing.remove(&sequence);
            return Gap::None;
        }
        self.highest = Some(sequence);
        let skipped = (sequence - highest - 1) as usize;
        if skipped == 0 {
            return Gap::None;
        }
        if self.missing.len() + skipped > MAX_MISSING {
            self.missing.clear();
            return Gap::Outage;
        }
        self.missing.extend((highest + 1..sequence).map(|lost| (lost, Missing { attempts: 0, ask_at: now })));
        Gap::Missing
    }

    /// The sequence numbers to ask for now, in ascending order.
    pub fn due(&mut self, now: Instant) -> Vec<u16> {
        let mut due = Vec::new();
        self.missing.retain(|sequence, missing| {
            if missing.ask_at > now {
                return true;
            }
            if missing.attempts >= MAX_ATTEMPTS {
                return false;
            }
            missing.attempts += 1;
            missing.ask_at = now + RETRY_INTERVAL;
            due.push((*sequence & 0xFFFF) as u16);
            true
        });
        due
    }

    /// When [`Self::due`] has something to say again.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.missing.values().map(|missing| missing.ask_at).min()
    }

    /// Forgets what is missing, as after a key frame request or a pause.
    pub fn clear(&mut self) {
        self.missing.clear();
        self.highest = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_at_once_then_again_until_the_packet_comes() {
        let start = Instant::now();
        let mut nack = NackGenerator::default();
        assert_eq!(nack.receive(start, 100), Gap::None);
        assert_eq!(nack.receive(start, 103), Gap::Missing);
        assert_eq!(nack.due(start), vec![101, 102]);
        assert!(nack.due(start).is_empty(), "not twice at once");
        nack.receive(start, 102);
        assert_eq!(nack.next_due(), Some(start + RETRY_INTERVAL));
        assert_eq!(nack.due(start + RETRY_INTERVAL), vec![101]);
        nack.receive(start, 101);
        assert_eq!(nack.next_due(), None);
    }

    #[test]
    fn gives_up_after_the_last_attempt() {
        let start = Instant::now();
        let mut nack = NackGenerator::default();
        nack.receive(start, 1);
        nack.receive(start, 3);
        let asked = (0..40).filter(|i| !nack.due(start + RETRY_INTERVAL * *i).is_empty()).count();
        assert_eq!(asked, usize::from(MAX_ATTEMPTS));
        assert_eq!(nack.next_due(), None);
    }

    #[test]
    fn an_outage_asks_for_nothing_but_a_key_frame() {
        let start = Instant::now();
        let mut nack = NackGenerator::default();
        nack.receive(start, 1);
        assert_eq!(nack.receive(start, 1 + MAX_MISSING as u64 + 2), Gap::Outage);
        assert_eq!(nack.next_due(), None);
    }
}
