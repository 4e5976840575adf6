//! Probes: for a moment more is sent than the estimate allows, as padding, to see whether it arrives in time. Without
//! them the estimate could not grow beyond what the layers that are sent now prove to fit.

use std::time::{Duration, Instant};

use crate::ids::Bitrate;

/// How long a probe lasts. Long enough for a few packets of a slow path, short enough for a small queue.
pub const DURATION: Duration = Duration::from_millis(40);
/// The slowest probe: enough for [`MIN_PACKETS`] in that time.
const MIN_RATE: Bitrate = Bitrate::kbps(200);
/// Time between two bursts of one probe.
const STEP: Duration = Duration::from_millis(5);
/// How long after its end a probe's packets are waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the queue that a probe made can be seen in the delay.
const AFTERMATH: Duration = Duration::from_millis(500);
/// Packets that have to arrive, and the share of all of them, for a result.
const MIN_PACKETS: u32 = 5;
const MIN_SHARE: f64 = 0.5;
/// A probe that arrived slower than this share of its rate has met the path's limit.
const LIMIT_MET: f64 = 0.9;
/// What is left for others when the limit was met.
const UTILIZATION: f64 = 0.95;
/// The shortest and the longest time between two rounds of probes.
pub const INTERVALS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(8));
/// A probe goes that far beyond what is known, so that a few of them span any path.
const STEP_UP: f64 = 2.0;
/// The first probe of a transport goes further.
const FIRST_STEP_UP: f64 = 3.0;
/// A result of this share of the probed rate is worth another probe at once.
const WORTH_MORE: f64 = 0.7;

/// A probe that is being sent, or whose packets are on their way.
#[derive(Debug)]
struct Running {
    id: u8,
    rate: Bitrate,
    started: Instant,
    sent_bytes: usize,
    sent_packets: u32,
    /// First and last packet: when it was sent or arrived in microseconds, and its length.
    first_sent: Option<(i64, u32)>,
    last_sent: (i64, u32),
    first_arrival: Option<(i64, u32)>,
    last_arrival: i64,
    arrived_bytes: u64,
    arrived_packets: u32,
    arrived_first_sent: i64,
    arrived_last_sent: i64,
    next_step: Option<Instant>,
}

/// Decides when to probe, and judges.
#[derive(Debug)]
pub struct Prober {
    running: Option<Running>,
    last_id: u8,
    next: Option<Instant>,
    interval: Duration,
    is_first: bool,
    finished: Option<Instant>,
}

impl Default for Prober {
    fn default() -> Self {
        Self { running: None, last_id: 0, next: None, interval: INTERVALS.0, is_first: true, finished: None }
    }
}

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The rate that arrived.
    pub result: Bitrate,
    /// Whether nothing stood in the way: the path may take still more.
    pub is_open: bool,
}

impl Prober {
    /// The probe that packets which are sent now belong to; zero for none.
    #[must_use]
    #[inline]
    pub fn current(&self) -> u8 {
        self.running.as_ref().filter(|running| running.next_step.is_some()).map_or(0, |running| running.id)
    }

    /// Whether what is reported now may still show a probe's queue.
    #[must_use]
    pub fn is_recent(&self, now: Instant) -> bool {
        self.running.is_some()
            || self.finished.is_some_and(|at| now.saturating_duration_since(at) < AFTERMATH)
    }

    /// When the next burst is due or the next probe may begin.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.running {
            Some(running) => Some(running.next_step.unwrap_or(running.started + DURATION + PATIENCE)),
            None => self.next,
        }
    }

    /// Says that more bandwidth is wanted than the estimate has, or that it is not.
    pub fn set_wanted(&mut self, now: Instant, wanted: bool) {
        if !wanted {
            self.next = None;
            self.interval = INTERVALS.0;
        } else if self.next.is_none() && self.running.is_none() {
            self.next = Some(if self.is_first { now } else { now + self.interval });
        }
    }

    /// Puts the next probe off: the path has just shown that it takes no more.
    pub fn back_off(&mut self, now: Instant) {
        if let Some(next) = &mut self.next {
            *next = (*next).max(now + self.interval);
        }
    }

    /// Begins a probe if one is due, for a path that is thought to take `estimate` and of which `wanted` is wanted.
    pub fn begin(&mut self, now: Instant, estimate: Bitrate, wanted: Bitrate) {
        if self.running.is_some() || self.next.is_none_or(|next| next > now) {
            return;
        }
        let step = if self.is_first { FIRST_STEP_UP } else { STEP_UP };
        self.is_first = false;
        self.next = None;
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.running = Some(Running {
            id: self.last_id,
            rate: estimate.mul_f64(step).min(wanted).max(estimate.mul_f64(1.1)).max(MIN_RATE),
            started: now,
            sent_bytes: 0,
            sent_packets: 0,
            first_sent: None,
            last_sent: (0, 0),
            first_arrival: None,
            last_arrival: 0,
            arrived_bytes: 0,
            arrived_packets: 0,
            arrived_first_sent: i64::MAX,
            arrived_last_sent: i64::MIN,
            next_step: Some(now),
        });
    }

    /// Bytes of padding that are due now.
    pub fn due(&mut self, now: Instant) -> usize {
        let Some(running) = self.running.as_mut() else { return 0 };
        let Some(step) = running.next_step.filter(|step| *step <= now) else { return 0 };
        let elapsed = (now.saturating_duration_since(running.started) + STEP).min(DURATION);
        running.next_step = (elapsed < DURATION).then_some(step.max(now) + STEP);
        running.rate.bytes_in(elapsed).saturating_sub(running.sent_bytes)
    }

    /// Notes a packet that was sent as part of the current probe.
    pub fn note_sent(&mut self, at: i64, len: u32) {
        let Some(running) = self.running.as_mut() else { return };
        running.sent_bytes += len as usize;
        running.sent_packets += 1;
        running.first_sent.get_or_insert((at, len));
        running.last_sent = (at, len);
    }

    /// Notes the arrival of a packet of a probe.
    pub fn note_arrival(&mut self, id: u8, sent: i64, arrival: i64, len: u32) {
        let Some(running) = self.running.as_mut().filter(|running| running.id == id) else { return };
        let first = running.first_arrival.get_or_insert((arrival, len));
        if arrival < first.0 {
            *first = (arrival, len);
        }
        running.last_arrival =
            if running.arrived_packets == 0 { arrival } else { running.last_arrival.max(arrival) };
        running.arrived_bytes += u64::from(len);
        running.arrived_packets += 1;
        running.arrived_first_sent = running.arrived_first_sent.min(sent);
        running.arrived_last_sent = running.arrived_last_sent.max(sent);
    }

    /// The outcome of a probe whose packets have arrived or are given up.
    pub fn finish(&mut self, now: Instant) -> Option<Outcome> {
        let running = self.running.as_ref().filter(|running| running.next_step.is_none())?;
        let is_complete = running.arrived_packets >= running.sent_packets;
        if !is_complete && now < running.started + DURATION + PATIENCE {
            return None;
        }
        let running = self.running.take()?;
        self.finished = Some(now);
        let outcome = running.outcome();
        let goes_on = outcome.is_some_and(|outcome| {
            outcome.is_open && outcome.result.0 as f64 > running.rate.0 as f64 * WORTH_MORE
        });
        self.interval = if goes_on { INTERVALS.0 } else { (self.interval * 2).min(INTERVALS.1) };
        self.next = Some(if goes_on { now } else { now + self.interval });
        outcome
    }
}

impl Running {
    fn outcome(&self) -> Option<Outcome> {
        let enough = self.arrived_packets >= MIN_PACKETS
            && f64::from(self.arrived_packets) >= f64::from(self.sent_packets) * MIN_SHARE;
        if !enough {
            return None;
        }
        let (first_arrival, first_len) = self.first_arrival?;
        let rate = |bytes: u64, micros: i64| bytes as f64 * 8e6 / micros.max(1) as f64;
        let received =
            rate(self.arrived_bytes.saturating_sub(u64::from(first_len)), self.last_arrival - first_arrival);
        let sent = rate(
            self.arrived_bytes.saturating_sub(u64::from(self.last_sent.1)),
            self.arrived_last_sent - self.arrived_first_sent,
        );
        let result = sent.min(received).min(self.rate.0 as f64);
        let is_open = received >= sent * LIMIT_MET;
        Some(Outcome {
            result: Bitrate((if is_open { result } else { result * UTILIZATION }) as u64),
            is_open,
        })
    }
}
