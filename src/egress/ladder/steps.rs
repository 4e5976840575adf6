//! Which sizes and bit rates a publisher's pictures are made into.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::media::segmenter::{MAX_VIDEOS, VideoId};

/// The most steps of a ladder: the source itself may be one more rendition.
pub(super) const MAX_STEPS: usize = MAX_VIDEOS - 1;
/// Steps that are known by their height alone, with their bit rates in kbit/s.
const PRESETS: [(u32, u32); 5] = [(1080, 4500), (720, 2500), (480, 1200), (360, 800), (240, 400)];
/// Heights that a step may have, in pixels.
const HEIGHTS: std::ops::RangeInclusive<u32> = 90..=4320;
/// Bit rates that a step may have, in kbit/s.
const KBPS: std::ops::RangeInclusive<u32> = 50..=50_000;
/// A step is worth an encoder if it is at most so many tenths of the source's height.
const WORTHWHILE_TENTHS: u64 = 9;

/// One step of [`crate::egress::Config::ladder`], written as `720p` or, with a bit rate of its own in kbit/s, as
/// `720p:2500`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Step {
    /// The shorter side of the pictures, in pixels: portraits are as large as landscapes.
    pub height: u32,
    /// The bit rate, in kbit/s.
    pub kbps: u32,
}

/// Why a text is no step.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// It isn't written as one.
    #[error("{0:?} is not written as 720p or 720p:2500")]
    Syntax(String),
    /// It names no bit rate, and its height has no usual one.
    #[error("{0}p needs a bit rate, as in {0}p:1000")]
    NoRate(u32),
    /// One of the numbers is out of its range.
    #[error("{0:?} is not within 90p to 4320p and 50 to 50000 kbit/s")]
    Range(String),
}

impl FromStr for Step {
    type Err = StepError;

    fn from_str(text: &str) -> Result<Self, StepError> {
        let syntax = || StepError::Syntax(text.to_owned());
        let (height, kbps) = text.split_once(':').map_or((text, None), |(height, kbps)| (height, Some(kbps)));
        let height: u32 =
            height.strip_suffix('p').and_then(|height| height.parse().ok()).ok_or_else(syntax)?;
        let usual = || PRESETS.iter().find(|(preset, _)| *preset == height).map(|(_, kbps)| *kbps);
        let kbps = match kbps {
            Some(kbps) => kbps.parse().map_err(|_| syntax())?,
            None => usual().ok_or(StepError::NoRate(height))?,
        };
        if !HEIGHTS.contains(&height) || !KBPS.contains(&kbps) {
            return Err(StepError::Range(text.to_owned()));
        }
        Ok(Self { height, kbps })
    }
}

impl TryFrom<String> for Step {
    type Error = StepError;

    fn try_from(text: String) -> Result<Self, StepError> {
        text.parse()
    }
}

impl From<Step> for String {
    fn from(step: Step) -> Self {
        step.to_string()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}p:{}", self.height, self.kbps)
    }
}

/// Whether these can be the steps of a ladder: best first, and not too many.
///
/// # Errors
/// Says what is wrong with them.
pub fn check(steps: &[Step]) -> Result<(), String> {
    if steps.len() > MAX_STEPS {
        return Err(format!("{} steps, at most {MAX_STEPS} can be", steps.len()));
    }
    let falls = |[above, below]: &[Step; 2]| above.height > below.height;
    if !steps.array_windows().all(falls) {
        return Err("each step has to be below the one before it".to_owned());
    }
    Ok(())
}

/// A rendition that has to be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    /// Width and height in pixels.
    pub(super) size: (u32, u32),
    /// The bit rate, in kbit/s.
    pub(super) kbps: u32,
}

/// What a source of `size` is made into. The best rendition is the source itself: `passed_through`, or encoded in its own
/// size, up to the first step's. The others are the steps that are clearly below it.
pub(super) fn targets(steps: &[Step], size: (u32, u32), passed_through: bool) -> Vec<(VideoId, Target)> {
    let height = size.0.min(size.1);
    let mut found = Vec::new();
    if let Some(first) = steps.first().filter(|_| !passed_through) {
        let own = height.min(first.height);
        // Of the steps that reach this height, the lowest one is closest to it.
        let closest = steps.iter().rev().find(|step| step.height >= own).unwrap_or(first);
        let kbps = scaled_rate(*closest, own);
        found.push((VideoId::BEST, Target { size: scaled_size(size, own), kbps }));
    }
    let below = steps.iter().enumerate().skip(usize::from(!passed_through));
    for (index, step) in below {
        let worthwhile = u64::from(step.height) * 10 <= u64::from(height) * WORTHWHILE_TENTHS;
        let id = VideoId::new(index + usize::from(passed_through)).filter(|_| worthwhile);
        let target = Target { size: scaled_size(size, step.height), kbps: step.kbps };
        found.extend(id.map(|id| (id, target)));
    }
    found
}

/// The size of pictures of `size` whose shorter side becomes `height`; both sides are even, as 4:2:0 pictures need it.
fn scaled_size((width, height): (u32, u32), to: u32) -> (u32, u32) {
    let from = u64::from(width.min(height)).max(1);
    let side = |side: u32| {
        let half = (u64::from(side) * u64::from(to) + from) / (2 * from);
        u32::try_from(half.min(u64::from(side) / 2).max(1) * 2).unwrap_or(u32::MAX)
    };
    (side(width), side(height))
}

/// A step's bit rate for pictures that are only `height` high: as much for each pixel.
fn scaled_rate(step: Step, height: u32) -> u32 {
    let pixels = |height: u32| u64::from(height) * u64::from(height);
    let kbps = u64::from(step.kbps) * pixels(height) / pixels(step.height).max(1);
    u32::try_from(kbps).unwrap_or(step.kbps).max(*KBPS.start())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(texts: &[&str]) -> Vec<Step> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn sizes(steps: &[Step], size: (u32, u32), passed_through: bool) -> Vec<(usize, (u32, u32), u32)> {
        let targets = targets(steps, size, passed_through);
        targets.into_iter().map(|(id, target)| (id.index(), target.size, target.kbps)).collect()
    }

    #[test]
    fn steps_are_read_and_mistakes_are_named() {
        assert_eq!("720p".parse(), Ok(Step { height: 720, kbps: 2500 }));
        assert_eq!("180p:150".parse(), Ok(Step { height: 180, kbps: 150 }));
        assert_eq!("720p".parse::<Step>().unwrap().to_string().parse(), "720p".parse::<Step>());
        assert_eq!("540p".parse::<Step>(), Err(StepError::NoRate(540)));
        for text in ["", "p", "720", "720p:", "720p:x", "-1p", "720p:2500:1"] {
            assert_eq!(text.parse::<Step>(), Err(StepError::Syntax(text.to_owned())));
        }
        for text in ["20p:500", "9000p:500", "720p:1", "720p:60000"] {
            assert_eq!(text.parse::<Step>(), Err(StepError::Range(text.to_owned())));
        }
        assert_eq!(check(&steps(&["720p", "360p"])), Ok(()));
        check(&steps(&["360p", "720p"])).unwrap_err();
        check(&steps(&["720p", "720p"])).unwrap_err();
        check(&[Step { height: 100, kbps: 100 }; 9]).unwrap_err();
    }

    #[test]
    fn nothing_is_made_larger_and_the_source_itself_is_the_best() {
        let ladder = steps(&["1080p", "720p", "480p", "360p"]);
        let below = [(2, (854, 480), 1200), (3, (640, 360), 800)];
        let mut all = vec![(0, (1280, 720), 2500)];
        all.extend(below);
        assert_eq!(sizes(&ladder, (1280, 720), false), all);
        let passed = [(3, (854, 480), 1200), (4, (640, 360), 800)];
        assert_eq!(sizes(&ladder, (1280, 720), true), passed);
        assert_eq!(sizes(&ladder, (3840, 2160), false)[0], (0, (1920, 1080), 4500));
        assert_eq!(sizes(&ladder, (3840, 2160), true).len(), 4);
        // A quarter of the pixels of 360p.
        assert_eq!(sizes(&ladder, (320, 180), false), [(0, (320, 180), 200)]);
        assert_eq!(sizes(&ladder, (320, 180), true), []);
        assert_eq!(sizes(&[], (1280, 720), false), []);
    }

    #[test]
    fn sizes_are_even_and_portraits_keep_their_shape() {
        let ladder = steps(&["720p", "360p"]);
        assert_eq!(sizes(&ladder, (720, 1280), false)[1], (1, (360, 640), 800));
        assert_eq!(sizes(&ladder, (641, 481), false)[0].1, (640, 480));
        assert_eq!(sizes(&ladder, (0, 0), false)[0].1, (2, 2));
        assert_eq!(sizes(&ladder, (1, 65_535), true), []);
    }
}
