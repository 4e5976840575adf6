//! How often something may happen: a token bucket. Time is an argument.

use std::time::Instant;

/// How many seconds' worth of events may come at once after a pause.
const BURST_SECONDS: u32 = 3;

/// A bucket that fills with `per_second` tokens a second and holds three seconds' worth.
#[derive(Debug)]
pub(super) struct TokenBucket {
    per_second: f64,
    capacity: f64,
    tokens: f64,
    filled: Instant,
}

impl TokenBucket {
    pub(super) fn new(now: Instant, per_second: u32) -> Self {
        let capacity = f64::from(per_second) * f64::from(BURST_SECONDS);
        Self { per_second: f64::from(per_second), capacity, tokens: capacity, filled: now }
    }

    /// Takes one token, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.capacity);
        self.filled = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start, 10);
        assert_eq!((0..100).filter(|_| bucket.take(start)).count(), 30);
        let later = start + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| bucket.take(later)).count(), 10);
    }

    #[test]
    fn a_long_pause_saves_up_no_more_than_the_burst() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start, 10);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..100).filter(|_| bucket.take(much_later)).count(), 30);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_gives_nothing() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut bucket = TokenBucket::new(start, 1);
        assert_eq!((0..10).filter(|_| bucket.take(start - Duration::from_secs(5))).count(), 3);
    }
}
