//! What is counted of one incoming stream: reports to its publisher (RFC 3550 appendix A.3 and A.8), and its score.

use std::time::Instant;

use crate::media::rtcp::ReportBlock;
use crate::media::rtp::extend_sequence;
use crate::sfu::rewrite::{ClockSample, FIRST_SEQUENCE};
use crate::sfu::score::Interval;

/// A jump of sequence numbers beyond this is a publisher that started over, not loss.
const MAX_SEQUENCE_JUMP: u64 = 10_000;

/// Reception statistics of one stream (RFC 3550 appendix A.3 and A.8).
#[derive(Debug, Default)]
pub struct Reception {
    first: u64,
    highest: Option<u64>,
    received: u64,
    reported_expected: u64,
    reported_received: u64,
    /// Counters of the last time that the score was taken.
    scored: Counters,
    /// Retransmissions that came, and those of them that were missing.
    retransmitted: u64,
    repaired: u64,
    transit: Option<i64>,
    jitter: f64,
}

/// What was counted when the score was taken last.
#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    expected: u64,
    received: u64,
    retransmitted: u64,
    repaired: u64,
}

impl Reception {
    /// The highest extended sequence number.
    #[must_use]
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// The extended sequence number of a packet, and whether the stream started over.
    pub fn extend(&mut self, sequence: u16) -> (u64, bool) {
        let Some(highest) = self.highest else {
            self.first = FIRST_SEQUENCE + u64::from(sequence);
            self.highest = Some(self.first);
            return (self.first, false);
        };
        let extended = extend_sequence(highest, sequence);
        if extended.abs_diff(highest) > MAX_SEQUENCE_JUMP {
            let restarted = (highest / FIRST_SEQUENCE + 2) * FIRST_SEQUENCE + u64::from(sequence);
            *self = Self { first: restarted, highest: Some(restarted), ..Self::default() };
            return (restarted, true);
        }
        self.highest = Some(highest.max(extended));
        (extended, false)
    }

    /// Counts a packet that was sent for the first time.
    pub fn note_received(&mut self) {
        self.received += 1;
    }

    /// Counts a retransmission, which was missing or not.
    pub fn note_retransmitted(&mut self, was_missing: bool) {
        self.retransmitted += 1;
        self.repaired += u64::from(was_missing);
    }

    /// Retransmissions that came, and those of them that were missing.
    #[must_use]
    pub fn repairs(&self) -> (u64, u64) {
        (self.retransmitted, self.repaired)
    }

    /// What was lost and repaired since the last time that this was asked.
    pub fn interval(&mut self) -> Interval {
        let now = Counters {
            expected: self.highest.map_or(0, |highest| highest - self.first + 1),
            received: self.received,
            retransmitted: self.retransmitted,
            repaired: self.repaired,
        };
        let before = std::mem::replace(&mut self.scored, now);
        let expected = now.expected.saturating_sub(before.expected);
        let received = now.received.saturating_sub(before.received);
        Interval {
            packets: expected,
            lost: expected.saturating_sub(received),
            retransmitted: now.retransmitted - before.retransmitted,
            repaired: now.repaired - before.repaired,
        }
    }

    /// Notes when a packet came, for the jitter.
    pub fn note_arrival(&mut self, arrival_ticks: i64, timestamp: u32) {
        let transit = arrival_ticks.wrapping_sub(i64::from(timestamp)) & 0xFFFF_FFFF;
        if let Some(last) = self.transit.replace(transit) {
            let difference = (transit.wrapping_sub(last) as i32).unsigned_abs();
            self.jitter += (f64::from(difference) - self.jitter) / 16.0;
        }
    }

    /// A report block on the stream, once something has arrived.
    pub fn report(&mut self, ssrc: u32, clock: Option<ClockSample>, now: Instant) -> Option<ReportBlock> {
        let highest = self.highest?;
        let expected = highest - self.first + 1;
        let (interval_expected, interval_received) =
            (expected - self.reported_expected, self.received - self.reported_received);
        (self.reported_expected, self.reported_received) = (expected, self.received);
        let interval_lost = interval_expected.saturating_sub(interval_received);
        let fraction = (interval_lost * 256).checked_div(interval_expected).unwrap_or(0).min(255);
        let lost =
            i64::try_from(expected).unwrap_or(i64::MAX) - i64::try_from(self.received).unwrap_or(i64::MAX);
        let delay = clock.map_or(0.0, |clock| now.saturating_duration_since(clock.arrival).as_secs_f64());
        Some(ReportBlock {
            ssrc,
            fraction_lost: fraction as u8,
            total_lost: lost.clamp(-0x80_0000, 0x7F_FFFF) as i32,
            highest_sequence: (highest - FIRST_SEQUENCE) as u32,
            jitter: self.jitter as u32,
            last_sender_report: clock.map_or(0, |clock| (clock.ntp >> 16) as u32),
            delay_since_last: (delay * 65_536.0) as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn sequence_numbers_extend_over_wraps_and_restarts() {
        let mut reception = Reception::default();
        assert_eq!(reception.extend(65_535), (FIRST_SEQUENCE + 65_535, false));
        assert_eq!(reception.extend(1), (2 * FIRST_SEQUENCE + 1, false));
        assert_eq!(reception.extend(0), (2 * FIRST_SEQUENCE, false));
        let (restarted, flag) = reception.extend(30_000);
        assert!(flag && restarted > 3 * FIRST_SEQUENCE);
        assert_eq!(reception.extend(30_001), (restarted + 1, false));
    }

    #[test]
    fn a_report_counts_loss_and_delay() {
        let start = Instant::now();
        let mut reception = Reception::default();
        for sequence in [10_u16, 11, 13, 14] {
            reception.extend(sequence);
            reception.note_received();
        }
        let clock = ClockSample { ntp: 0x0001_0002_0003_0004, rtp: 0, arrival: start };
        let report = reception.report(7, Some(clock), start + Duration::from_millis(500)).unwrap();
        assert_eq!((report.total_lost, report.fraction_lost), (1, 51));
        assert_eq!(report.highest_sequence, 14);
        assert_eq!((report.last_sender_report, report.delay_since_last), (0x0002_0003, 32_768));
        let again = reception.report(7, None, start).unwrap();
        assert_eq!((again.total_lost, again.fraction_lost), (1, 0));
    }
}
