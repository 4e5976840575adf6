//! How active one speaker is: the activity scores of dominant speaker identification (I. Volfin and I. Cohen, "Dominant
//! speaker identification for multipoint videoconferencing", 2012), as Jitsi and mediasoup compute them.
//!
//! Audio levels of 20 ms each are seen in three time scales: each level for itself, runs of levels and runs of those. In
//! each scale the score is the log likelihood ratio of "so many of the small parts are active because someone speaks"
//! against "by chance".

use std::time::{Duration, Instant};

/// The loudest level; 0 is silence.
pub const MAX_LEVEL: u8 = 127;
/// Time that one level stands for.
const LEVEL_TIME: Duration = Duration::from_millis(20);
/// A speaker who was not heard for this long is silent.
const IDLE_AFTER: Duration = Duration::from_millis(40);
/// Steps of an immediate activity: the number of subbands in the paper.
const N1: u8 = 13;
/// Immediate activities in a medium one.
const N2: usize = 5;
/// Medium activities in a long one.
const N3: usize = 10;
/// Levels that are remembered.
const LEVELS: usize = N2 * N3;
/// An immediate activity above this counts for the medium one.
const MEDIUM_THRESHOLD: u8 = 7;
/// A medium activity above this counts for the long one.
const LONG_THRESHOLD: u8 = 4;
/// The score of someone of whom nothing was heard.
const MIN_SCORE: f64 = 1e-10;
/// Levels after which the level of a speaker's noise is estimated anew: 15 s.
const MIN_LEVEL_WINDOW: u32 = 750;

/// The scores in the three time scales: immediate, medium, long.
pub type Scores = [f64; 3];

/// One speaker.
#[derive(Debug, Clone)]
pub struct Speaker {
    /// Newest first.
    levels: [u8; LEVELS],
    last_level: Option<Instant>,
    /// The level of the speaker's noise, and what it will be after the window; 0 is not known.
    min_level: u8,
    next_min_level: u8,
    window: u32,
}

impl Default for Speaker {
    fn default() -> Self {
        Self { levels: [0; LEVELS], last_level: None, min_level: 0, next_min_level: 0, window: 0 }
    }
}

impl Speaker {
    /// Takes the level of a packet: from 0, silence, to [`MAX_LEVEL`].
    pub fn hear(&mut self, now: Instant, level: u8) {
        let level = level.min(MAX_LEVEL);
        let elapsed = self.last_level.map_or(LEVEL_TIME, |last| now.saturating_duration_since(last));
        self.last_level = Some(now);
        // A packet longer than 20 ms, or one after a gap, stands for several levels.
        let levels = (elapsed.as_millis() / LEVEL_TIME.as_millis()).clamp(1, LEVELS as u128) as usize;
        self.levels.rotate_right(levels);
        self.levels.iter_mut().take(levels).for_each(|newest| *newest = level);
        self.follow_noise(level);
    }

    /// The scores now. A speaker who is not heard any more is silent.
    pub fn scores(&mut self, now: Instant) -> Scores {
        if self.last_level.is_some_and(|last| now.saturating_duration_since(last) > IDLE_AFTER) {
            self.hear(now, 0);
        }
        let noise = self.min_level.saturating_add(N1);
        let immediate = self.levels.map(|level| if level < noise { 0 } else { level / N1 });
        let medium: [u8; N3] = active_parts(&immediate, MEDIUM_THRESHOLD);
        let [long]: [u8; 1] = active_parts(&medium, LONG_THRESHOLD);
        [
            score(immediate[0], N1, 0.5, 0.78),
            score(medium[0], N2 as u8, 0.5, 24.0),
            score(long, N3 as u8, 0.5, 47.0),
        ]
    }

    fn follow_noise(&mut self, level: u8) {
        if level == 0 {
            return;
        }
        if self.min_level == 0 || level < self.min_level {
            (self.min_level, self.next_min_level, self.window) = (level, 0, 0);
        } else if self.next_min_level == 0 {
            (self.next_min_level, self.window) = (level, 1);
        } else {
            self.next_min_level = self.next_min_level.min(level);
            self.window += 1;
            if self.window >= MIN_LEVEL_WINDOW {
                let between = f64::from(self.min_level) * f64::from(self.next_min_level);
                self.min_level = between.sqrt() as u8;
                (self.next_min_level, self.window) = (0, 0);
            }
        }
    }
}

/// How many of the small parts in each large one are above the threshold.
fn active_parts<const LARGE: usize>(small: &[u8], threshold: u8) -> [u8; LARGE] {
    let mut large = [0; LARGE];
    let parts = small.chunks_exact(small.len() / LARGE);
    for (count, part) in large.iter_mut().zip(parts) {
        *count = part.iter().filter(|small| **small > threshold).count() as u8;
    }
    large
}

/// The score of `active` out of `parts` (equation 7 of the paper).
fn score(active: u8, parts: u8, p: f64, lambda: f64) -> f64 {
    let (v, n) = (f64::from(active), f64::from(parts));
    let score =
        binomial(parts, active).ln() + v * p.ln() + (n - v) * (1.0 - p).ln() - lambda.ln() + lambda * v;
    score.max(MIN_SCORE)
}

/// How many ways there are to choose k of n.
fn binomial(n: u8, k: u8) -> f64 {
    let k = k.min(n - k.min(n));
    (0..k).fold(1.0, |product, step| product * f64::from(n - step) / f64::from(step + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets a speaker be heard at one level for a while.
    fn speak(speaker: &mut Speaker, from: Instant, millis: u64, level: u8) -> Instant {
        for step in 0..millis / 20 {
            speaker.hear(from + Duration::from_millis(step * 20), level);
        }
        from + Duration::from_millis(millis)
    }

    #[test]
    fn speech_scores_above_noise_in_every_scale() {
        let start = Instant::now();
        let (mut loud, mut noise) = (Speaker::default(), Speaker::default());
        loud.hear(start, 20);
        noise.hear(start, 20);
        let now = speak(&mut loud, start + LEVEL_TIME, 1000, 110);
        speak(&mut noise, start + LEVEL_TIME, 1000, 25);
        let (loud, noise) = (loud.scores(now), noise.scores(now));
        assert!(loud.iter().zip(noise).all(|(loud, noise)| *loud > noise), "{loud:?} {noise:?}");
    }

    #[test]
    fn who_is_not_heard_any_more_is_silent() {
        let start = Instant::now();
        let mut speaker = Speaker::default();
        speaker.hear(start, 20);
        let now = speak(&mut speaker, start + LEVEL_TIME, 1000, 110);
        let before = speaker.scores(now);
        let after = speaker.scores(now + Duration::from_secs(2));
        assert!(after.iter().zip(before).all(|(after, before)| *after < before), "{after:?} {before:?}");
        assert_eq!(after[1], MIN_SCORE);
    }

    #[test]
    fn constant_noise_is_learnt_and_is_no_speech() {
        let start = Instant::now();
        let mut speaker = Speaker::default();
        speaker.hear(start, 60);
        let now = speak(&mut speaker, start + LEVEL_TIME, 2000, 70);
        assert_eq!(speaker.scores(now)[1], MIN_SCORE, "70 is within what the noise of 60 covers");
    }

    #[test]
    fn ways_to_choose() {
        assert_eq!(
            [binomial(5, 0), binomial(5, 2), binomial(5, 5), binomial(13, 6)],
            [1.0, 10.0, 1.0, 1716.0]
        );
    }
}
