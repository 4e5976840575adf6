//! Notices a pipeline that takes media and gives nothing: an element that hangs, waits for ever or drops everything.
//!
//! Pure, and careful with its verdict: media that can't bring anything (before a key frame, behind a loss) does not
//! count, and neither does time in which this process itself did not get to run.

use std::time::{Duration, Instant};

/// The most that counts between two looks at the clock: what is longer, the process slept, and so did the pipeline.
const MAX_STEP: Duration = Duration::from_millis(100);
/// Pictures or packets of sound that may be on their way through a healthy pipeline.
const MIN_UNANSWERED: u32 = 4;

/// Watches one pipeline.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// Whether media has to begin with a key frame.
    needs_key_frame: bool,
    /// Whether what goes in can come out: nothing is missing since a key frame.
    decodable: bool,
    /// Pictures or packets of sound that went in since something came out.
    unanswered: u32,
    /// For how long they have been waited for.
    waited: Duration,
    looked: Instant,
}

impl Watchdog {
    pub(super) fn new(needs_key_frame: bool, now: Instant) -> Self {
        Self {
            needs_key_frame,
            decodable: !needs_key_frame,
            unanswered: 0,
            waited: Duration::ZERO,
            looked: now,
        }
    }

    /// Something is missing before the next packet.
    pub(super) fn lost(&mut self) {
        self.decodable = !self.needs_key_frame;
    }

    /// A packet went in.
    pub(super) fn fed(&mut self, starts_key_frame: bool, ends_frame: bool) {
        self.decodable |= starts_key_frame;
        if self.decodable && ends_frame {
            self.unanswered = self.unanswered.saturating_add(1);
        }
    }

    /// Something came out.
    pub(super) fn answered(&mut self) {
        self.unanswered = 0;
        self.waited = Duration::ZERO;
    }

    /// Looks at the clock, which has to happen several times within `patience`. True if the pipeline hangs.
    pub(super) fn hangs(&mut self, now: Instant, patience: Duration) -> bool {
        let step = now.saturating_duration_since(self.looked).min(MAX_STEP);
        self.looked = now;
        if self.decodable && self.unanswered > 0 {
            self.waited += step;
        }
        self.unanswered >= MIN_UNANSWERED && self.waited >= patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(700);
    const TICK: Duration = Duration::from_millis(50);

    /// Feeds a frame with every tick until the pipeline is found to hang, at most a minute.
    fn hangs_after(
        dog: &mut Watchdog,
        start: Instant,
        mut frame: impl FnMut(&mut Watchdog, u32),
    ) -> Option<u32> {
        (1..1200).find(|tick| {
            frame(dog, *tick);
            dog.hangs(start + TICK * *tick, PATIENCE)
        })
    }

    #[test]
    fn a_pipeline_that_gives_nothing_is_found_in_time_and_one_that_works_never() {
        let start = Instant::now();
        let found = hangs_after(&mut Watchdog::new(false, start), start, |dog, _| dog.fed(false, true));
        assert_eq!(found, Some(14), "700 ms of ticks");
        let works = |dog: &mut Watchdog, tick: u32| {
            dog.fed(false, true);
            if tick.is_multiple_of(10) {
                dog.answered();
            }
        };
        assert_eq!(hangs_after(&mut Watchdog::new(false, start), start, works), None);
    }

    #[test]
    fn nothing_is_expected_before_a_key_frame_or_behind_a_loss() {
        let start = Instant::now();
        let mut dog = Watchdog::new(true, start);
        assert_eq!(hangs_after(&mut dog, start, |dog, _| dog.fed(false, true)), None);
        let mut dog = Watchdog::new(true, start);
        let key_then_loss = |dog: &mut Watchdog, tick: u32| {
            if tick == 5 {
                dog.lost();
            }
            dog.fed(tick == 1, true);
        };
        assert_eq!(hangs_after(&mut dog, start, key_then_loss), None);
        // Losses don't hide a hang for ever where key frames come.
        let mut dog = Watchdog::new(true, start);
        let both = |dog: &mut Watchdog, tick: u32| {
            if tick.is_multiple_of(4) {
                dog.lost();
            }
            dog.fed(tick % 4 == 2, true);
        };
        assert!(hangs_after(&mut dog, start, both).is_some());
    }

    #[test]
    fn the_rest_of_a_stream_that_stopped_is_no_hang() {
        let start = Instant::now();
        let mut dog = Watchdog::new(false, start);
        assert_eq!(hangs_after(&mut dog, start, |dog, tick| dog.fed(false, tick < 4)), None);
    }

    #[test]
    fn a_process_that_did_not_run_blames_nobody() {
        let start = Instant::now();
        let mut dog = Watchdog::new(false, start);
        (0..8).for_each(|_| dog.fed(false, true));
        assert!(!dog.hangs(start + Duration::from_secs(60), PATIENCE));
        dog.answered();
        assert!(!dog.hangs(start + Duration::from_secs(61), PATIENCE));
    }
}
