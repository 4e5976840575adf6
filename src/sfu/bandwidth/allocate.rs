//! Who gets what of a transport's bandwidth. The scheme is mediasoup's: every consumer gets its lowest layers, those of
//! higher priority first; then, round by round, each gets as many steps up as its priority says, while there is
//! something left. Layers that are sent already need less than new ones, so that a wavering estimate changes nothing.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

/// What new layers need of the bandwidth, measured in their bitrate: headers, retransmissions and room to breathe.
const TO_RAISE: f64 = 1.12;
/// What layers that are sent need, likewise. After one reduction the estimate is 0.85 of what arrives, so a path that
/// takes just these layers keeps them.
const TO_KEEP: f64 = 0.85;
/// What the lowest layers need to go on: a poor picture is better than none.
const TO_KEEP_LOWEST: f64 = 0.6;
/// How long the bandwidth may be too small for what is sent, unless by much.
const PATIENCE: Duration = Duration::from_millis(500);
/// Too small by much: this share of what is needed to keep the layers.
const FAR_TOO_SMALL: f64 = 0.75;
/// How long a new layer's key frame may keep a path busy that takes the layer.
const SETTLING: Duration = Duration::from_millis(700);
/// Layers that had to be taken back so soon were a mistake.
const TRIAL: Duration = Duration::from_secs(8);
/// Layers that held for so long were none; in between, they are at the limit of what the path takes.
const PROVEN: Duration = Duration::from_secs(60);
/// How long nothing is raised after one mistake, and after many in a row.
const PENALTIES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// What one consumer could get.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Its priority; 1 is the lowest.
    pub priority: u8,
    /// Bits per second of each step, from the cheapest to the best. Never empty.
    pub steps: SmallVec<[u64; 12]>,
    /// The step that it is on.
    pub current: Option<usize>,
    /// Whether it gets its only step in any case.
    pub is_fixed: bool,
    /// Whether it gets its lowest step in any case: while nothing is known of the path, that is how to find out.
    pub is_lowest_granted: bool,
}

/// The step of each consumer; none where not even the lowest fits.
pub type Steps = SmallVec<[Option<usize>; 8]>;

/// Hands out `available` bits per second. `may_raise` says whether anybody may get more than now.
#[must_use]
pub fn hand_out(available: u64, wishes: &[Wish], may_raise: bool) -> Steps {
    let mut left = available as f64;
    let mut steps: Steps = SmallVec::from_elem(None, wishes.len());
    let mut order: SmallVec<[usize; 8]> = (0..wishes.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(wishes.get(*index).map_or(0, |wish| wish.priority)));
    let mut is_base = true;
    loop {
        let mut is_done = !is_base;
        for index in &order {
            let (Some(wish), Some(step)) = (wishes.get(*index), steps.get_mut(*index)) else { continue };
            let rounds = if is_base { 1 } else { wish.priority };
            for _ in 0..rounds {
                if !wish.step_up(step, &mut left, may_raise) {
                    break;
                }
                // Not by what is left: a larger picture at a lower rate may cost nothing more.
                is_done = false;
            }
        }
        if is_done {
            return steps;
        }
        is_base = false;
    }
}

impl Wish {
    /// Takes the next step if there is enough left for it.
    fn step_up(&self, step: &mut Option<usize>, left: &mut f64, may_raise: bool) -> bool {
        let next = step.map_or(0, |step| step + 1);
        if next >= self.steps.len() {
            return false;
        }
        // A larger picture at a lower rate takes less than this one, but not for long: what was set aside stays.
        let spent = step.map_or(0.0, |step| (0..=step).map(|step| self.cost(step)).fold(0.0, f64::max));
        let is_kept = self.current.is_some_and(|current| next <= current);
        let cost = self.cost(next) - spent;
        let is_granted = self.is_fixed || next == 0 && self.is_lowest_granted;
        if !is_granted && (cost > *left || !is_kept && !may_raise) {
            return false;
        }
        *left = (*left - cost.max(0.0)).max(0.0);
        *step = Some(next);
        true
    }

    fn cost(&self, step: usize) -> f64 {
        let is_kept = self.is_fixed || self.current.is_some_and(|current| step <= current);
        let factor = match (is_kept, step) {
            (false, _) => TO_RAISE,
            (true, 0) => TO_KEEP_LOWEST,
            (true, _) => TO_KEEP,
        };
        self.steps.get(step).map_or(0.0, |rate| *rate as f64 * factor)
    }
}

/// Keeps the allocation of one transport from wavering.
#[derive(Debug, Default)]
pub struct Steadiness {
    /// Since when the bandwidth has been too small.
    short_since: Option<Instant>,
    raised: Option<Instant>,
    penalty: Option<Duration>,
    barred_until: Option<Instant>,
}

impl Steadiness {
    /// What each consumer should get now. What it has is kept where [`hand_out`] takes something away too rashly.
    pub fn decide(&mut self, now: Instant, available: u64, wishes: &[Wish]) -> Steps {
        let may_raise = self.barred_until.is_none_or(|until| until <= now);
        let steps = hand_out(available, wishes, may_raise);
        let is_lower = |(wish, step): (&Wish, &Option<usize>)| *step < wish.current;
        let is_higher = |(wish, step): (&Wish, &Option<usize>)| *step > wish.current;
        if wishes.iter().zip(&steps).any(is_lower) {
            let kept = |wish: &Wish| {
                wish.current.and_then(|current| wish.steps.get(current)).map_or(0, |rate| *rate)
            };
            let needed = wishes.iter().map(kept).sum::<u64>() as f64 * TO_KEEP;
            let since = *self.short_since.get_or_insert(now);
            let is_patient = now.saturating_duration_since(since) < PATIENCE;
            if is_patient && available as f64 > needed * FAR_TOO_SMALL {
                return wishes.iter().map(|wish| wish.current).collect();
            }
            self.note_lowered(now);
        } else if wishes.iter().zip(&steps).any(is_higher) {
            self.raised = Some(now);
        }
        self.short_since = None;
        steps
    }

    /// Whether somebody got more only now, so that the queue may be the work of the key frame that this begins with.
    #[must_use]
    pub fn is_settling(&self, now: Instant) -> bool {
        self.raised.is_some_and(|at| now.saturating_duration_since(at) < SETTLING)
    }

    fn note_lowered(&mut self, now: Instant) {
        let lasted = self.raised.take().map(|at| now.saturating_duration_since(at));
        self.penalty = lasted.filter(|lasted| *lasted < PROVEN).map(|lasted| match self.penalty {
            Some(penalty) if lasted < TRIAL => (penalty * 2).min(PENALTIES.1),
            penalty => penalty.unwrap_or(PENALTIES.0),
        });
        self.barred_until = self.penalty.map(|penalty| now + penalty);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(priority: u8, current: Option<usize>) -> Wish {
        Wish {
            priority,
            steps: SmallVec::from_slice(&[100, 300, 900]),
            current,
            is_fixed: false,
            is_lowest_granted: false,
        }
    }

    #[test]
    fn everybody_gets_the_base_before_anybody_gets_more() {
        let wishes = [wish(1, None), wish(1, None), wish(1, None)];
        assert_eq!(hand_out(330, &wishes, true)[..], [Some(0), Some(0), None]);
        assert_eq!(hand_out(600, &wishes, true)[..], [Some(1), Some(0), Some(0)]);
        assert_eq!(hand_out(1010, &wishes, true)[..], [Some(1); 3]);
        assert_eq!(hand_out(10_000, &wishes, true)[..], [Some(2); 3]);
        assert_eq!(hand_out(0, &wishes, true)[..], [None; 3]);
        assert!(hand_out(1000, &[], true).is_empty());
    }

    #[test]
    fn a_step_that_costs_nothing_is_not_the_end() {
        // As simulcast has it: the next size at its lowest rate takes less than this one at its highest.
        let steps = SmallVec::from_slice(&[40, 70, 130, 80, 130, 260, 160, 290, 570]);
        let wish = Wish { steps, ..wish(1, None) };
        assert_eq!(hand_out(640, std::slice::from_ref(&wish), true)[..], [Some(8)]);
        assert_eq!(hand_out(400, &[Wish { current: Some(3), ..wish }], true)[..], [Some(7)]);
    }

    #[test]
    fn priority_decides_who_is_first_and_how_fast() {
        let wishes = [wish(1, None), wish(2, None)];
        assert_eq!(hand_out(120, &wishes, true)[..], [None, Some(0)]);
        assert_eq!(hand_out(1200, &wishes, true)[..], [Some(0), Some(2)]);
    }

    #[test]
    fn what_cannot_be_reduced_is_taken_off_first_come_what_may() {
        let fixed = Wish {
            priority: 1,
            steps: SmallVec::from_slice(&[500]),
            current: Some(0),
            is_fixed: true,
            is_lowest_granted: false,
        };
        let wishes = [fixed, wish(1, None)];
        assert_eq!(hand_out(300, &wishes, true)[..], [Some(0), None]);
        assert_eq!(hand_out(600, &wishes, true)[..], [Some(0), Some(0)]);
    }

    #[test]
    fn the_first_look_at_an_unknown_path_is_free() {
        let unknown = Wish { is_lowest_granted: true, ..wish(1, None) };
        assert_eq!(hand_out(50, std::slice::from_ref(&unknown), true)[..], [Some(0)]);
        assert_eq!(hand_out(400, &[unknown], true)[..], [Some(1)]);
    }

    #[test]
    fn between_keeping_and_raising_nothing_changes() {
        for available in [290, 300, 330] {
            assert_eq!(hand_out(available, &[wish(1, Some(1))], true)[..], [Some(1)], "{available}");
            assert_eq!(hand_out(available, &[wish(1, Some(0))], true)[..], [Some(0)], "{available}");
        }
        assert_eq!(hand_out(5000, &[wish(1, Some(0))], false)[..], [Some(0)]);
    }

    #[test]
    fn a_short_dip_takes_nothing_away_and_a_deep_one_does_at_once() {
        let start = Instant::now();
        let mut steadiness = Steadiness::default();
        let on_top = [wish(1, Some(2))];
        assert_eq!(steadiness.decide(start, 750, &on_top)[..], [Some(2)]);
        assert_eq!(steadiness.decide(start + PATIENCE / 2, 900, &on_top)[..], [Some(2)]);
        assert_eq!(steadiness.decide(start + PATIENCE, 750, &on_top)[..], [Some(2)], "it began anew");
        assert_eq!(steadiness.decide(start + PATIENCE * 2, 750, &on_top)[..], [Some(1)]);
        assert_eq!(steadiness.decide(start + PATIENCE * 2, 500, &on_top)[..], [Some(1)]);
    }

    #[test]
    fn a_mistake_is_not_repeated_at_once_and_many_less_and_less() {
        let mut now = Instant::now();
        let mut steadiness = Steadiness::default();
        let mut waits = Vec::new();
        for _ in 0..6 {
            let begin = now;
            while steadiness.decide(now, 2000, &[wish(1, Some(1))])[..] != [Some(2)] {
                now += Duration::from_secs(1);
            }
            waits.push((now - begin).as_secs());
            now += Duration::from_secs(1);
            assert_eq!(steadiness.decide(now, 400, &[wish(1, Some(2))])[..], [Some(1)]);
        }
        assert_eq!(waits, [0, 5, 10, 20, 40, 60]);
        now += Duration::from_secs(60);
        assert_eq!(steadiness.decide(now, 2000, &[wish(1, Some(1))])[..], [Some(2)]);
        now += TRIAL;
        assert_eq!(steadiness.decide(now, 400, &[wish(1, Some(2))])[..], [Some(1)]);
        now += Duration::from_secs(59);
        assert_eq!(steadiness.decide(now, 2000, &[wish(1, Some(1))])[..], [Some(1)], "as long as before");
        now += Duration::from_secs(1);
        assert_eq!(steadiness.decide(now, 2000, &[wish(1, Some(1))])[..], [Some(2)]);
        now += PROVEN;
        assert_eq!(steadiness.decide(now, 400, &[wish(1, Some(2))])[..], [Some(1)]);
        assert_eq!(steadiness.decide(now, 2000, &[wish(1, Some(1))])[..], [Some(2)], "that was no mistake");
    }
}
