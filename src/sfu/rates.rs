//! How many bits per second arrive of each layer of a stream, over the last second or so.

use std::time::{Duration, Instant};

use crate::media::codec::{Layers, MAX_SPATIAL_LAYERS, MAX_TEMPORAL_LAYERS};

/// Time that one bucket stands for.
const BUCKET: Duration = Duration::from_millis(100);
/// Whole buckets that the rate is taken over: one second.
const BUCKETS: usize = 10;
/// Layers that are counted apart.
const LAYERS: usize = MAX_SPATIAL_LAYERS as usize * MAX_TEMPORAL_LAYERS as usize;

/// Bytes by layer and time.
#[derive(Debug, Clone)]
pub struct LayerRates {
    /// The bucket that is being filled, and those before it, in a ring.
    buckets: [[u32; LAYERS]; BUCKETS + 1],
    /// When the first bucket began, and the number of the newest one since then.
    newest: Option<(Instant, u64)>,
}

impl Default for LayerRates {
    fn default() -> Self {
        Self { buckets: [[0; LAYERS]; BUCKETS + 1], newest: None }
    }
}

fn index(layers: Layers) -> usize {
    let (spatial, temporal) =
        (layers.spatial.min(MAX_SPATIAL_LAYERS - 1), layers.temporal.min(MAX_TEMPORAL_LAYERS - 1));
    usize::from(spatial * MAX_TEMPORAL_LAYERS + temporal)
}

fn number(start: Instant, now: Instant) -> u64 {
    (now.saturating_duration_since(start).as_millis() / BUCKET.as_millis()) as u64
}

fn slot(number: u64) -> usize {
    (number % (BUCKETS as u64 + 1)) as usize
}

impl LayerRates {
    /// Counts bytes of a layer.
    pub fn add(&mut self, now: Instant, layers: Layers, bytes: usize) {
        let (start, newest) = *self.newest.get_or_insert((now, 0));
        let number = number(start, now);
        for passed in (newest + 1..=number).rev().take(BUCKETS + 1) {
            self.buckets[slot(passed)] = [0; LAYERS];
        }
        self.newest = Some((start, number.max(newest)));
        if let Some(count) = self.buckets[slot(number.max(newest))].get_mut(index(layers)) {
            *count = count.saturating_add(bytes as u32);
        }
    }

    /// The layers that are counted apart.
    pub fn layers(&self) -> impl Iterator<Item = Layers> + use<> {
        (0..MAX_SPATIAL_LAYERS)
            .flat_map(|spatial| (0..MAX_TEMPORAL_LAYERS).map(move |temporal| Layers { spatial, temporal }))
    }

    /// Bits per second of the layers that `wanted` accepts, over the last whole second; 0 before anything came.
    /// During the first second it is what came so far over the time so far.
    #[must_use]
    pub fn bitrate(&self, now: Instant, wanted: impl Fn(Layers) -> bool) -> u64 {
        let Some((start, newest)) = self.newest else { return 0 };
        let current = number(start, now);
        let mut bytes = 0;
        for number in current.saturating_sub(BUCKETS as u64)..current.min(newest + 1) {
            for (index, count) in (0_u8..).zip(&self.buckets[slot(number)]) {
                let layers =
                    Layers { spatial: index / MAX_TEMPORAL_LAYERS, temporal: index % MAX_TEMPORAL_LAYERS };
                if *count > 0 && wanted(layers) {
                    bytes += u64::from(*count);
                }
            }
        }
        let buckets = current.min(BUCKETS as u64);
        (bytes * 8 * 10).checked_div(buckets).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Layers = Layers { spatial: 0, temporal: 0 };
    const UPPER: Layers = Layers { spatial: 0, temporal: 1 };

    #[test]
    fn each_layer_has_its_rate_and_silence_ends_it() {
        let start = Instant::now();
        let mut rates = LayerRates::default();
        assert_eq!(rates.bitrate(start, |_| true), 0);
        for frame in 0..60_u32 {
            let layers = if frame % 2 == 0 { BASE } else { UPPER };
            rates.add(start + Duration::from_millis(33) * frame, layers, 1000);
        }
        let now = start + Duration::from_millis(33 * 60);
        let (base, all) = (rates.bitrate(now, |layers| layers == BASE), rates.bitrate(now, |_| true));
        assert!((110_000..=130_000).contains(&base), "{base}");
        assert!((230_000..=255_000).contains(&all), "{all}");
        let half = rates.bitrate(now + Duration::from_millis(500), |_| true);
        assert!((100_000..140_000).contains(&half), "{half}");
        assert_eq!(rates.bitrate(now + Duration::from_secs(2), |_| true), 0);
        rates.add(now + Duration::from_secs(60), BASE, 1000);
        assert_eq!(
            rates.bitrate(now + Duration::from_secs(62), |_| true),
            0,
            "an old bucket is not counted again"
        );
    }
}
