//! How late a track's units come as a rule: what its pipeline and its place on the timeline cost.

use std::time::Duration;

use crate::media::timeline::MediaTime;

/// How long the least delay is searched for.
const WINDOW: Duration = Duration::from_secs(2);
/// A track is not thought to be later than this; what comes later is late.
const MAX_DELAY: Duration = Duration::from_secs(5);

/// The least time from a unit's moment to its arrival in the last two to four seconds. The least and not the most:
/// after a pause of the network, or with discontinuous transmission (DTX), a burst of late units says nothing of when
/// the next one is to be expected.
#[derive(Debug, Default)]
pub(super) struct Delay {
    window_start: Option<MediaTime>,
    before: Option<Duration>,
    current: Option<Duration>,
}

impl Delay {
    pub(super) fn note(&mut self, pts: MediaTime, now: MediaTime) {
        let start = *self.window_start.get_or_insert(now);
        if now >= start + WINDOW {
            self.before = self.current.take();
            self.window_start = Some(now);
        }
        let delay = now.since(pts).min(MAX_DELAY);
        self.current = Some(self.current.map_or(delay, |least| least.min(delay)));
    }

    pub(super) fn usual(&self) -> Duration {
        self.before.into_iter().chain(self.current).min().unwrap_or_default()
    }
}
