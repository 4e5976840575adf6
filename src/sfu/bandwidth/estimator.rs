//! How much a path takes, as its sender can tell: Google's congestion control (draft-ietf-rmcat-gcc-02) with the
//! trendline, the acknowledged bitrate and the probe results of libwebrtc.
//!
//! `rtc-interceptor` has an estimator of this kind too. It is not used, because neither of its halves is bound to what
//! was acknowledged: while a viewer is sent less than its path takes, which is the normal case for an SFU, its target
//! grows to its maximum without any evidence, and it takes no probe results, which are what replaces such guesses. It
//! also wants a list allocated for each feedback message.

use std::time::{Duration, Instant};

use crate::ids::Bitrate;
use crate::sfu::bandwidth::probe::Outcome;
use crate::sfu::bandwidth::trend::{Acknowledged, DelayTrend, Usage};

/// What remains of the acknowledged bitrate when a queue grows.
const BACKOFF: f64 = 0.85;
/// Growth per second while nothing is known of the path's limit.
const GROWTH: f64 = 1.08;
/// The estimate grows at most to so many times what was acknowledged: more was not shown to fit.
const MAX_UNPROVEN: f64 = 1.5;
const MAX_UNPROVEN_OFFSET: f64 = 10_000.0;
/// Where a probe has met the path's limit, only what arrives beyond that lets the estimate grow further.
const ABOVE_CEILING: f64 = 1.1;
/// Response time of the path beyond its round trip, for the growth near its limit.
const RESPONSE_TIME: Duration = Duration::from_millis(100);
/// Two reductions are that far apart at least, by the round trip.
const REDUCTION_INTERVALS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));
/// Weight of a new sample in the memory of where the path's limit was.
const LIMIT_WEIGHT: f64 = 0.05;
/// Loss below which the estimate may grow, and above which it shrinks.
const LOSS: (f64, f64) = (0.02, 0.1);
/// Loss is judged over that many packets and that time at least.
const LOSS_SAMPLE: (u32, Duration) = (20, Duration::from_millis(300));

/// The estimator of one path.
#[derive(Debug)]
pub struct Estimator {
    trend: DelayTrend,
    rate: AcknowledgedRate,
    /// By delay, in bits per second.
    target: f64,
    /// By loss; infinite while there is none.
    loss_limit: f64,
    range: (f64, f64),
    last_change: Option<Instant>,
    /// What the last probe met as the path's limit; infinite if it met none.
    ceiling: f64,
    /// Where the path's limit was when it was reached: the mean and the relative variance.
    limit: Option<(f64, f64)>,
    round_trip: Option<Duration>,
    lost: u32,
    reported: u32,
    loss_since: Option<Instant>,
    /// Lately, once judged.
    loss: Option<f64>,
}

impl Estimator {
    /// An estimator that begins with `initial` and stays within `min` and `max`.
    #[must_use]
    pub fn new(initial: Bitrate, min: Bitrate, max: Bitrate) -> Self {
        let mut estimator = Self {
            trend: DelayTrend::default(),
            rate: AcknowledgedRate::default(),
            target: initial.0 as f64,
            loss_limit: f64::INFINITY,
            range: (0.0, f64::INFINITY),
            last_change: None,
            ceiling: f64::INFINITY,
            limit: None,
            round_trip: None,
            lost: 0,
            reported: 0,
            loss_since: None,
            loss: None,
        };
        estimator.set_range(min, max);
        estimator
    }

    /// Sets the bounds of the estimate.
    pub fn set_range(&mut self, min: Bitrate, max: Bitrate) {
        self.range = (min.0 as f64, max.0.max(min.0) as f64);
        self.target = self.target.clamp(self.range.0, self.range.1);
    }

    /// The estimate.
    #[must_use]
    pub fn estimate(&self) -> Bitrate {
        Bitrate(self.target.min(self.loss_limit).clamp(self.range.0, self.range.1) as u64)
    }

    /// Whether a queue is growing.
    #[must_use]
    pub fn is_overused(&self) -> bool {
        self.trend.usage() == Usage::Over
    }

    /// Whether the path's limit was met: by a queue, or by a probe.
    #[must_use]
    pub fn is_at_limit(&self) -> bool {
        self.limit.is_some() || self.ceiling.is_finite()
    }

    /// The round trip of packets and their feedback, once known.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// The share of packets that was lost lately, 0 to 1, once known.
    #[must_use]
    pub fn loss(&self) -> Option<f64> {
        self.loss
    }

    /// The bitrate that arrived over the last half second, if enough came to tell.
    #[must_use]
    pub fn acknowledged(&self) -> Option<Bitrate> {
        self.rate.rate().map(|rate| Bitrate(rate as u64))
    }

    /// Takes a packet that arrived. One of a probe says nothing about the delay: it was sent to make a queue.
    pub fn acknowledge(&mut self, packet: &Acknowledged, is_probe: bool) {
        if !is_probe {
            self.trend.add(packet);
        }
        self.rate.add(packet.arrival, packet.len);
        self.reported += 1;
    }

    /// Takes a packet that did not arrive.
    pub fn lose(&mut self) {
        self.lost += 1;
        self.reported += 1;
    }

    /// Concludes from what was taken since the last call; `round_trip` includes the wait for the feedback. While a
    /// queue may be the work of a probe (`is_probing`), it is no reason to reduce.
    pub fn update(&mut self, now: Instant, round_trip: Option<Duration>, is_probing: bool) {
        if let Some(sample) = round_trip {
            self.round_trip = Some(self.round_trip.map_or(sample, |known| (known * 7 + sample) / 8));
        }
        self.update_loss(now);
        match self.trend.usage() {
            Usage::Over if is_probing => {}
            Usage::Over => self.reduce(now),
            Usage::Normal => self.grow(now),
            Usage::Under => self.last_change = Some(now),
        }
        self.target = self.target.clamp(self.range.0, self.range.1);
    }

    /// Takes the result of a probe: what arrived of packets that were sent faster than the estimate.
    pub fn probed(&mut self, now: Instant, outcome: Outcome) {
        let result = outcome.result.0 as f64;
        self.ceiling = if outcome.is_open { f64::INFINITY } else { result };
        if self.is_overused() && result > self.target {
            return;
        }
        self.target =
            result.max(self.rate.rate().unwrap_or(0.0).min(self.target)).clamp(self.range.0, self.range.1);
        if self.loss.is_none_or(|loss| loss < LOSS.1) {
            self.loss_limit = self.loss_limit.max(result);
        }
        if self.limit.is_some_and(|limit| result > upper(limit)) {
            self.limit = None;
        }
        self.last_change = Some(now);
    }

    /// Begins anew with `bitrate`, which has arrived.
    pub fn restart(&mut self, bitrate: Bitrate) {
        self.target = (bitrate.0 as f64).clamp(self.range.0, self.range.1);
    }

    /// The peer has reported nothing for a while although it was sent something.
    pub fn starve(&mut self, now: Instant) {
        self.target = (self.target / 2.0).clamp(self.range.0, self.range.1);
        self.last_change = Some(now);
    }

    fn reduce(&mut self, now: Instant) {
        let Some(rate) = self.rate.recent() else { return };
        let interval = self.round_trip.unwrap_or(REDUCTION_INTERVALS.1);
        let interval = interval.clamp(REDUCTION_INTERVALS.0, REDUCTION_INTERVALS.1);
        let waited = self.last_change.is_none_or(|last| now.saturating_duration_since(last) >= interval);
        if !waited && rate > self.target / 2.0 {
            return;
        }
        if self.limit.is_some_and(|limit| rate < lower(limit)) {
            self.limit = None;
        }
        let (mean, variance) = self.limit.unwrap_or((rate, 0.4));
        let mean = (1.0 - LIMIT_WEIGHT) * mean + LIMIT_WEIGHT * rate;
        let error = (mean - rate) / 1000.0;
        let variance =
            (1.0 - LIMIT_WEIGHT) * variance + LIMIT_WEIGHT * error * error / (mean / 1000.0).max(1.0);
        self.limit = Some((mean, variance.clamp(0.4, 2.5)));
        self.target = self.target.min(rate * BACKOFF);
        self.last_change = Some(now);
        self.trend.note_reaction();
    }

    fn grow(&mut self, now: Instant) {
        let elapsed =
            self.last_change.replace(now).map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let seconds = elapsed.as_secs_f64().min(1.0);
        let Some(rate) = self.rate.rate() else { return };
        if self.limit.is_some_and(|limit| rate > upper(limit)) {
            self.limit = None;
        }
        let proven = (rate * MAX_UNPROVEN + MAX_UNPROVEN_OFFSET).min(self.ceiling.max(rate * ABOVE_CEILING));
        if self.target >= proven {
            return;
        }
        let growth = if self.limit.is_some() {
            let response = (self.round_trip.unwrap_or(RESPONSE_TIME) + RESPONSE_TIME).as_secs_f64() * 2.0;
            let frame = self.target / 30.0;
            let packet = frame / (frame / 9600.0).ceil().max(1.0);
            (packet / response).max(4000.0) * seconds
        } else {
            (self.target * (GROWTH.powf(seconds) - 1.0)).max(1000.0 * seconds)
        };
        self.target = (self.target + growth).min(proven);
    }

    fn update_loss(&mut self, now: Instant) {
        let since = *self.loss_since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        if self.reported < LOSS_SAMPLE.0 || elapsed < LOSS_SAMPLE.1 {
            return;
        }
        let loss = f64::from(self.lost) / f64::from(self.reported);
        let average = (self.loss.unwrap_or_default() + loss) / 2.0;
        self.loss = Some(average);
        (self.lost, self.reported, self.loss_since) = (0, 0, Some(now));
        if average > LOSS.1 && loss > LOSS.1 {
            // What arrives in spite of the loss does fit: the estimate never goes below that for loss alone.
            let floor = self.rate.rate().unwrap_or(0.0);
            let reduced = self.target.min(self.loss_limit) * (1.0 - 0.5 * loss);
            self.loss_limit = reduced.max(floor);
        } else if average < LOSS.0 && self.loss_limit.is_finite() {
            self.loss_limit *= GROWTH.powf(elapsed.as_secs_f64().min(1.0));
            if self.loss_limit > 2.0 * self.target {
                self.loss_limit = f64::INFINITY;
            }
        }
    }
}

fn deviation((mean, variance): (f64, f64)) -> f64 {
    (variance * mean / 1000.0).sqrt() * 1000.0
}

fn upper(limit: (f64, f64)) -> f64 {
    limit.0 + 3.0 * deviation(limit)
}

fn lower(limit: (f64, f64)) -> f64 {
    limit.0 - 3.0 * deviation(limit)
}

/// Time of one bucket, in microseconds, and how many there are: half a second.
const BUCKET_US: i64 = 25_000;
const BUCKETS: usize = 20;
/// Buckets that have to have passed before there is a rate.
const MIN_BUCKETS: i64 = 8;

/// The bitrate at which packets arrive, on the receiver's clock.
#[derive(Debug, Default)]
struct AcknowledgedRate {
    buckets: [u32; BUCKETS + 1],
    /// Numbers of the first bucket since the last jump of the clock and of the newest one.
    span: Option<(i64, i64)>,
}

impl AcknowledgedRate {
    fn slot(number: i64) -> usize {
        number.rem_euclid(BUCKETS as i64 + 1) as usize
    }

    fn add(&mut self, arrival: i64, len: u32) {
        let number = arrival.div_euclid(BUCKET_US);
        let (first, newest) = self.span.unwrap_or((number, number));
        let passed = number - newest;
        if passed.unsigned_abs() > BUCKETS as u64 {
            self.buckets = [0; BUCKETS + 1];
            self.span = Some((number, number));
        } else {
            for number in newest + 1..=number {
                if let Some(bucket) = self.buckets.get_mut(Self::slot(number)) {
                    *bucket = 0;
                }
            }
            self.span = Some((first, newest.max(number)));
        }
        if let Some(bucket) = self.buckets.get_mut(Self::slot(number)) {
            *bucket = bucket.saturating_add(len);
        }
    }

    /// Over half a second.
    fn rate(&self) -> Option<f64> {
        self.over(BUCKETS as i64)
    }

    /// Over the shortest time that says something. A path with a queue delivers evenly, so that is enough then.
    fn recent(&self) -> Option<f64> {
        self.over(MIN_BUCKETS)
    }

    /// Over the whole buckets before the newest one, so many at most.
    fn over(&self, count: i64) -> Option<f64> {
        let (first, newest) = self.span?;
        let count = (newest - first).min(count);
        if count < MIN_BUCKETS {
            return None;
        }
        let slots = (newest - count..newest).filter_map(|number| self.buckets.get(Self::slot(number)));
        let bytes: u64 = slots.map(|bytes| u64::from(*bytes)).sum();
        Some(bytes as f64 * 8.0 * 1e6 / (count * BUCKET_US) as f64)
    }
}
