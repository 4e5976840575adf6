//! The numbers of peers that are gone. A stream of the same id begins behind them: what caches and players still have of
//! the old one goes by the names that it would give again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::ids::PeerId;

/// How long caches may keep media without asking: as `Cache-Control` says it, and in time.
pub(super) const MEDIA_CACHE_CONTROL: &str = "public, max-age=60, immutable";
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// So many peers are remembered at most. Those that leave beyond that may give a name twice.
const MAX_REMEMBERED: usize = 10_000;

/// Where the streams of peers ended that left lately.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    gone: HashMap<PeerId, (Instant, u64)>,
}

impl Numbers {
    /// Notes that a peer is gone whose next segment would have had this number.
    pub(super) fn note(&mut self, now: Instant, peer: &PeerId, next: u64) {
        self.gone.retain(|_, (left, _)| now.saturating_duration_since(*left) < REMEMBERED_FOR);
        if self.gone.len() < MAX_REMEMBERED {
            self.gone.insert(peer.clone(), (now, next));
        }
    }

    /// The number that a peer's stream begins with.
    pub(super) fn first(&self, now: Instant, peer: &PeerId) -> u64 {
        let known = self.gone.get(peer);
        known
            .filter(|(left, _)| now.saturating_duration_since(*left) < REMEMBERED_FOR)
            .map_or(0, |(_, next)| *next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_as_long_as_caches_may_keep_media() {
        let (mut numbers, start) = (Numbers::default(), Instant::now());
        let peer: PeerId = "p".parse().unwrap();
        numbers.note(start, &peer, 7);
        assert!(MEDIA_CACHE_CONTROL.contains(&format!("max-age={},", REMEMBERED_FOR.as_secs())));
        assert_eq!(numbers.first(start + REMEMBERED_FOR / 2, &peer), 7);
        assert_eq!(numbers.first(start + REMEMBERED_FOR, &peer), 0);
        assert_eq!(numbers.first(start, &"q".parse().unwrap()), 0);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut numbers, start) = (Numbers::default(), Instant::now());
        for number in 0..=MAX_REMEMBERED {
            numbers.note(start, &format!("p{number}").parse().unwrap(), 1);
        }
        assert_eq!(numbers.gone.len(), MAX_REMEMBERED);
        numbers.note(start + REMEMBERED_FOR, &"p".parse().unwrap(), 1);
        assert_eq!(numbers.gone.len(), 1);
    }
}
