//! Whether packets need longer and longer to arrive: the delay gradient between groups of packets, a line fitted to
//! it, and an adaptive threshold (draft-ietf-rmcat-gcc-02 section 5 with libwebrtc's trendline in place of the filter).

/// Packets sent within so many microseconds are one group.
const GROUP_US: i64 = 5_000;
/// Packets that arrive at once after a pause of the path belong to one group up to this length.
const MAX_BURST_US: i64 = 100_000;
/// A jump of the receiver's clock beyond this is no delay.
const MAX_JUMP_US: i64 = 3_000_000;
/// Groups that the line is fitted to.
const WINDOW: usize = 20;
const SMOOTHING: f64 = 0.9;
const GAIN: f64 = 4.0;
const MAX_GROUPS: f64 = 60.0;
const INITIAL_THRESHOLD: f64 = 12.5;
const THRESHOLDS: (f64, f64) = (6.0, 600.0);
const THRESHOLD_UP: f64 = 0.0087;
const THRESHOLD_DOWN: f64 = 0.039;
/// A trend so far above the threshold is a sudden drop of capacity, to which the threshold must not get used.
const MAX_ADAPT: f64 = 15.0;
const MAX_ADAPT_MS: f64 = 100.0;
/// How long the trend has to be above the threshold.
const OVERUSE_MS: f64 = 10.0;

/// A packet that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// When it was sent, in microseconds of the sender's clock.
    pub sent: i64,
    /// When it arrived, in microseconds of the receiver's clock.
    pub arrival: i64,
    /// Its bytes.
    pub len: u32,
}

/// What the delay says about the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Usage {
    /// Nothing changes.
    #[default]
    Normal,
    /// A queue is growing.
    Over,
    /// A queue is getting shorter.
    Under,
}

#[derive(Debug, Clone, Copy)]
struct Group {
    first_sent: i64,
    last_sent: i64,
    first_arrival: i64,
    last_arrival: i64,
}

/// The delay trend of one path.
#[derive(Debug)]
pub struct DelayTrend {
    current: Option<Group>,
    previous: Option<Group>,
    /// Arrival and smoothed delay of the last groups, in milliseconds; a ring.
    window: [(f64, f64); WINDOW],
    groups: usize,
    accumulated: f64,
    smoothed: f64,
    last_trend: f64,
    threshold: f64,
    last_update: Option<f64>,
    /// How long the trend has been above the threshold, and for how many groups.
    over: Option<(f64, u32)>,
    usage: Usage,
}

impl Default for DelayTrend {
    fn default() -> Self {
        Self {
            current: None,
            previous: None,
            window: [(0.0, 0.0); WINDOW],
            groups: 0,
            accumulated: 0.0,
            smoothed: 0.0,
            last_trend: 0.0,
            threshold: INITIAL_THRESHOLD,
            last_update: None,
            over: None,
            usage: Usage::Normal,
        }
    }
}

impl DelayTrend {
    /// What is the case at the moment.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Overuse was acted upon: it counts again once the delay grows further.
    pub fn note_reaction(&mut self) {
        self.usage = Usage::Under;
    }

    /// Takes a packet, in the order of sending; those that were overtaken say nothing.
    pub fn add(&mut self, packet: &Acknowledged) {
        let Some(group) = &mut self.current else {
            self.current = Some(Group::of(packet));
            return;
        };
        if packet.sent < group.first_sent {
            return;
        }
        if group.takes(packet) {
            group.last_sent = group.last_sent.max(packet.sent);
            group.last_arrival = group.last_arrival.max(packet.arrival);
            return;
        }
        let complete = *group;
        self.current = Some(Group::of(packet));
        if let Some(previous) = self.previous.replace(complete) {
            let sent = complete.last_sent - previous.last_sent;
            let arrived = complete.last_arrival - previous.last_arrival;
            if arrived < 0 || (arrived - sent).abs() > MAX_JUMP_US {
                *self = Self { threshold: self.threshold, ..Self::default() };
                return;
            }
            self.add_group(
                sent as f64 / 1000.0,
                arrived as f64 / 1000.0,
                complete.last_arrival as f64 / 1000.0,
            );
        }
    }

    fn add_group(&mut self, sent_ms: f64, arrived_ms: f64, at_ms: f64) {
        self.accumulated += arrived_ms - sent_ms;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * self.accumulated;
        if let Some(slot) = self.window.get_mut(self.groups % WINDOW) {
            *slot = (at_ms, self.smoothed);
        }
        self.groups += 1;
        let trend = if self.groups >= WINDOW { slope(&self.window) } else { None };
        let trend = trend.unwrap_or(self.last_trend);
        self.detect(trend, sent_ms, at_ms);
        self.last_trend = trend;
    }

    fn detect(&mut self, trend: f64, sent_ms: f64, at_ms: f64) {
        let scaled = (self.groups as f64).min(MAX_GROUPS) * trend * GAIN;
        if scaled > self.threshold {
            let (time, count) =
                self.over.map_or((sent_ms / 2.0, 1), |(time, count)| (time + sent_ms, count + 1));
            self.over = Some((time, count));
            if time > OVERUSE_MS && count > 1 && trend >= self.last_trend {
                self.over = None;
                self.usage = Usage::Over;
            }
        } else {
            self.over = None;
            self.usage = if scaled < -self.threshold { Usage::Under } else { Usage::Normal };
        }
        let elapsed =
            self.last_update.replace(at_ms).map_or(0.0, |last| at_ms - last).clamp(0.0, MAX_ADAPT_MS);
        if scaled.abs() <= self.threshold + MAX_ADAPT {
            let speed = if scaled.abs() < self.threshold { THRESHOLD_DOWN } else { THRESHOLD_UP };
            self.threshold += speed * (scaled.abs() - self.threshold) * elapsed;
            self.threshold = self.threshold.clamp(THRESHOLDS.0, THRESHOLDS.1);
        }
    }
}

impl Group {
    fn of(packet: &Acknowledged) -> Self {
        Self {
            first_sent: packet.sent,
            last_sent: packet.sent,
            first_arrival: packet.arrival,
            last_arrival: packet.arrival,
        }
    }

    /// Whether a packet belongs to the group: it was sent with it, or both waited for the same thing on the way.
    fn takes(&self, packet: &Acknowledged) -> bool {
        let (sent, arrived) = (packet.sent - self.last_sent, packet.arrival - self.last_arrival);
        let waited =
            arrived - sent < 0 && arrived <= GROUP_US && packet.arrival - self.first_arrival < MAX_BURST_US;
        packet.sent - self.first_sent <= GROUP_US || sent > 0 && waited
    }
}

/// Slope of the line through the points, by least squares.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let (sum_x, sum_y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let (products, squares) = points.iter().fold((0.0, 0.0), |(products, squares), (x, y)| {
        (products + (x - mean_x) * (y - mean_y), squares + (x - mean_x).powi(2))
    });
    (squares > 0.0).then(|| products / squares)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of three packets, 33 ms apart, over a path that adds `delay(frame)` microseconds.
    fn usages(frames: i64, delay: impl Fn(i64) -> i64) -> Vec<Usage> {
        let mut trend = DelayTrend::default();
        (0..frames)
            .map(|frame| {
                for packet in 0..3 {
                    let sent = frame * 33_000 + packet * 50;
                    trend.add(&Acknowledged { sent, arrival: sent + 20_000 + delay(frame), len: 1000 });
                }
                trend.usage()
            })
            .collect()
    }

    #[test]
    fn a_growing_queue_is_noticed_within_a_second_and_its_end_too() {
        let told = usages(120, |frame| (frame - 60).clamp(0, 30) * 10_000);
        assert!(told[..60].iter().all(|usage| *usage == Usage::Normal));
        let noticed = told.iter().position(|usage| *usage == Usage::Over).unwrap();
        assert!((61..80).contains(&noticed), "frame {noticed}");
        assert_ne!(told[119], Usage::Over, "a long queue that does not grow is no overuse");
    }

    #[test]
    fn a_queue_that_drains_is_underuse() {
        let told = usages(120, |frame| 300_000 - (frame - 60).clamp(0, 30) * 10_000);
        assert!(told[60..].contains(&Usage::Under) && !told.contains(&Usage::Over));
    }

    #[test]
    fn jitter_is_no_trend() {
        let mut seed = 1_u32;
        let jitter: Vec<i64> = (0..3000)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                i64::from(seed >> 24) * 40
            })
            .collect();
        let told = usages(3000, |frame| jitter[frame as usize]);
        let over = told.iter().filter(|usage| **usage == Usage::Over).count();
        assert!(over < 60, "{over} of 3000 frames");
    }

    #[test]
    fn a_jumping_clock_is_survived() {
        let mut trend = DelayTrend::default();
        for (sent, arrival) in
            [(0, 0), (10_000, i64::MAX / 4), (20_000, i64::MIN / 4), (30_000, 5), (40_000, 6)]
        {
            trend.add(&Acknowledged { sent, arrival, len: 1 });
        }
        assert_eq!(trend.usage(), Usage::Normal);
    }
}
