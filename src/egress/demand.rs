//! Whether a stream is made: always, or only while somebody asks for it.
//!
//! Requests and the peer's task meet here: a request wakes a stream that is asleep and waits until its playlists are there;
//! the task lets it sleep again when nobody asked for long. Time is an argument.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// When a peer's HLS is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// As soon as the peer publishes.
    #[default]
    Always,
    /// When somebody asks for one of its playlists, until nobody asks for [`super::Config::idle_secs`].
    OnDemand,
}

/// What there is of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing: nobody asks.
    Asleep,
    /// Nothing yet: somebody asked.
    Waking,
    /// Its playlists.
    Made,
    /// What is left: the peer is gone.
    Over,
}

/// The demand for one stream that is made on demand.
#[derive(Debug)]
pub(super) struct Demand {
    state: watch::Sender<State>,
    /// Where `last` counts from.
    origin: Instant,
    /// When somebody asked last, in milliseconds.
    last: AtomicU64,
}

impl Demand {
    /// Nobody has asked yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { state: watch::Sender::new(State::Asleep), origin: now, last: AtomicU64::new(0) }
    }

    /// Notes that somebody asks for something of the stream.
    pub(super) fn note(&self, now: Instant) {
        self.last.fetch_max(self.millis(now), Ordering::Relaxed);
    }

    /// Wakes the stream if it is asleep. True if its playlists have to be waited for.
    pub(super) fn wake(&self) -> bool {
        self.change(State::Asleep, State::Waking);
        !self.is_made()
    }

    /// Whether there is all that will be: [`Self::wake`] changes nothing.
    pub(super) fn is_made(&self) -> bool {
        matches!(*self.state.borrow(), State::Made | State::Over)
    }

    pub(super) fn is_asleep(&self) -> bool {
        *self.state.borrow() == State::Asleep
    }

    /// Waits until the playlists are there, or will never be. Cancel safe.
    pub(super) async fn made(&self) {
        self.reaches(|state| matches!(state, State::Made | State::Over)).await;
    }

    /// Waits until somebody wakes the stream. Cancel safe.
    pub(super) async fn wanted(&self) {
        self.reaches(|state| *state == State::Waking).await;
    }

    async fn reaches(&self, wanted: impl FnMut(&State) -> bool) {
        // The other end is in `self`.
        drop(self.state.subscribe().wait_for(wanted).await);
    }

    /// The playlists are there: whoever waits goes on.
    pub(super) fn set_made(&self) {
        self.change(State::Waking, State::Made);
    }

    /// Lets the stream sleep if nobody asked for `idle`. True if it sleeps from now on.
    pub(super) fn rest(&self, now: Instant, idle: Duration) -> bool {
        self.state.send_if_modified(|state| {
            // In here, a request that was not seen yet finds the stream asleep and wakes it.
            let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
            let is_idle = now.saturating_duration_since(self.origin).saturating_sub(last) >= idle;
            let rests = is_idle && matches!(state, State::Waking | State::Made);
            if rests {
                *state = State::Asleep;
            }
            rests
        })
    }

    /// The peer is gone: nothing more is made, and nobody waits.
    pub(super) fn end(&self) {
        self.state.send_replace(State::Over);
    }

    fn change(&self, from: State, to: State) {
        self.state.send_if_modified(|state| {
            let changes = *state == from;
            if changes {
                *state = to;
            }
            changes
        });
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const IDLE: Duration = Duration::from_secs(30);

    #[test]
    fn a_stream_is_made_while_somebody_asks_and_again_later() {
        let start = Instant::now();
        let demand = Demand::new(start);
        let now = |secs: u32| start + SECOND * secs;
        assert!(demand.is_asleep() && demand.wanted().now_or_never().is_none());
        demand.note(now(99));
        assert!(demand.is_asleep(), "only a playlist wakes it");
        for begin in [100, 200] {
            assert!(!demand.rest(now(begin), IDLE), "it sleeps already");
            demand.note(now(begin));
            assert!(demand.wake() && demand.wake(), "the second one waits for the same");
            assert!(demand.wanted().now_or_never().is_some() && demand.made().now_or_never().is_none());
            demand.set_made();
            assert!(!demand.wake() && demand.made().now_or_never().is_some());
            demand.note(now(begin + 10));
            demand.note(now(begin + 5));
            assert!(!demand.rest(now(begin + 39), IDLE), "somebody asked 29 s ago");
            assert!(demand.rest(now(begin + 40), IDLE) && demand.is_asleep());
            assert!(demand.wanted().now_or_never().is_none());
        }
    }

    #[test]
    fn a_stream_that_never_comes_is_given_up_and_one_that_ended_is_not_waited_for() {
        let start = Instant::now();
        let demand = Demand::new(start);
        demand.note(start);
        assert!(demand.wake());
        assert!(demand.rest(start + IDLE, IDLE) && demand.is_asleep(), "nothing came of it");
        assert!(demand.wake());
        demand.end();
        assert!(!demand.wake() && demand.made().now_or_never().is_some());
        assert!(!demand.rest(start + 2 * IDLE, IDLE));
        demand.set_made();
        assert!(!demand.is_asleep());
    }
}
