//! When a publisher is asked for a key frame of one stream: requests are coalesced, kept apart, and repeated if no
//! key frame comes. However many viewers join at once, the publisher hears of it a bounded number of times.

use std::time::{Duration, Instant};

/// The least time between two requests to a publisher.
pub const MIN_INTERVAL: Duration = Duration::from_millis(500);
/// How long a request waits for its key frame before it is repeated.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often an unanswered request is repeated.
pub const MAX_RETRIES: u8 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// Nobody waits.
    #[default]
    Idle,
    /// A key frame is wanted; the request goes out at this time.
    Due(Instant),
    /// The request went out.
    Asked { at: Instant, retries: u8 },
}

/// The key frame requests of one stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyFrameRequests {
    state: State,
    last_asked: Option<Instant>,
}

impl KeyFrameRequests {
    /// Somebody needs a key frame. True if the request has to go out now.
    pub fn request(&mut self, now: Instant) -> bool {
        if self.state != State::Idle {
            return false;
        }
        let earliest = self.last_asked.map_or(now, |last| last + MIN_INTERVAL);
        if earliest > now {
            self.state = State::Due(earliest);
            return false;
        }
        self.ask(now, 0);
        true
    }

    /// A key frame began to arrive.
    pub fn key_frame(&mut self) {
        if matches!(self.state, State::Asked { .. }) {
            self.state = State::Idle;
        }
    }

    /// Whether a request has to go out now.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        match self.state {
            State::Due(at) if at <= now => {
                self.ask(now, 0);
                true
            }
            State::Asked { at, retries } if at + RETRY_AFTER <= now => {
                if retries >= MAX_RETRIES {
                    self.state = State::Idle;
                    return false;
                }
                self.ask(now, retries + 1);
                true
            }
            _ => false,
        }
    }

    /// When [`Self::handle_timeout`] has to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Idle => None,
            State::Due(at) => Some(at),
            State::Asked { at, .. } => Some(at + RETRY_AFTER),
        }
    }

    fn ask(&mut self, now: Instant, retries: u8) {
        self.state = State::Asked { at: now, retries };
        self.last_asked = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn five_hundred_viewers_within_a_second_cost_few_requests() {
        let start = Instant::now();
        let mut requests = KeyFrameRequests::default();
        let mut sent = 0;
        for viewer in 0..500 {
            let now = start + MS * (2 * viewer);
            sent += u32::from(requests.request(now)) + u32::from(requests.handle_timeout(now));
            if viewer % 50 == 49 {
                requests.key_frame();
            }
        }
        assert!((1..=3).contains(&sent), "{sent}");
    }

    #[test]
    fn an_unanswered_request_is_repeated_and_then_given_up() {
        let start = Instant::now();
        let mut requests = KeyFrameRequests::default();
        assert!(requests.request(start));
        let repeats = (1..60_u32).filter(|i| requests.handle_timeout(start + 500 * MS * *i)).count();
        assert_eq!(repeats, usize::from(MAX_RETRIES));
        assert_eq!(requests.poll_timeout(), None);
    }

    #[test]
    fn a_request_right_after_a_key_frame_waits_for_the_interval() {
        let start = Instant::now();
        let mut requests = KeyFrameRequests::default();
        assert!(requests.request(start));
        requests.key_frame();
        assert!(!requests.request(start + 10 * MS));
        assert_eq!(requests.poll_timeout(), Some(start + MIN_INTERVAL));
        assert!(requests.handle_timeout(start + MIN_INTERVAL));
    }
}
