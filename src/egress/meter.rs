//! What each pipeline does, in numbers: written by the peers' tasks and by GStreamer's threads without a lock, read by
//! whoever asks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::ids::PeerId;
use crate::media::segmenter::Rendition;
use crate::media::timeline::MediaTime;

/// Pictures or packets of sound that are remembered until they come out.
const MAX_ON_THE_WAY: usize = 256;

/// What the pipelines of one track did since the track was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineStats {
    /// Whose track it is.
    pub peer: PeerId,
    /// What it becomes.
    pub rendition: Rendition,
    /// The template, which is the name of its file without the ending.
    pub template: &'static str,
    /// Pictures or packets of sound that went in.
    pub frames_in: u64,
    /// Access units that came out.
    pub units_out: u64,
    /// Packets that never came.
    pub packets_lost: u64,
    /// Packets that came while no pipeline ran, and access units that nobody took in time.
    pub dropped: u64,
    /// Pipelines that took another one's place because that failed or hung.
    pub restarts: u64,
    /// Pipelines that hung.
    pub hangs: u64,
    /// The time from the arrival of access units' last packets to the access units, added up.
    pub latency: Duration,
    /// How many access units' latencies were added up.
    pub latencies: u64,
}

/// The counters of one track.
#[derive(Debug)]
pub(super) struct Meter {
    peer: PeerId,
    rendition: Rendition,
    template: &'static str,
    frames_in: AtomicU64,
    units_out: AtomicU64,
    packets_lost: AtomicU64,
    dropped: AtomicU64,
    restarts: AtomicU64,
    hangs: AtomicU64,
    latency_nanos: AtomicU64,
    latencies: AtomicU64,
}

impl Meter {
    pub(super) fn new(peer: PeerId, rendition: Rendition, template: &'static str) -> Self {
        Self {
            peer,
            rendition,
            template,
            frames_in: AtomicU64::new(0),
            units_out: AtomicU64::new(0),
            packets_lost: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            hangs: AtomicU64::new(0),
            latency_nanos: AtomicU64::new(0),
            latencies: AtomicU64::new(0),
        }
    }

    pub(super) fn peer(&self) -> &PeerId {
        &self.peer
    }

    pub(super) fn frame_in(&self) {
        self.frames_in.fetch_add(1, Ordering::Relaxed);
    }

    /// An access unit came out, `latency` after its last packet had come, where that is known.
    pub(super) fn unit_out(&self, latency: Option<Duration>) {
        self.units_out.fetch_add(1, Ordering::Relaxed);
        if let Some(latency) = latency {
            let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
            self.latency_nanos.fetch_add(nanos, Ordering::Relaxed);
            self.latencies.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn packets_lost(&self, count: u64) {
        self.packets_lost.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn restarted(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn hung(&self) {
        self.hangs.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> PipelineStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PipelineStats {
            peer: self.peer.clone(),
            rendition: self.rendition,
            template: self.template,
            frames_in: count(&self.frames_in),
            units_out: count(&self.units_out),
            packets_lost: count(&self.packets_lost),
            dropped: count(&self.dropped),
            restarts: count(&self.restarts),
            hangs: count(&self.hangs),
            latency: Duration::from_nanos(count(&self.latency_nanos)),
            latencies: count(&self.latencies),
        }
    }
}

/// The meters of all tracks that there are.
#[derive(Debug, Clone, Default)]
pub(super) struct Meters {
    all: Arc<Mutex<Vec<Weak<Meter>>>>,
}

impl Meters {
    pub(super) fn add(&self, meter: Meter) -> Arc<Meter> {
        let meter = Arc::new(meter);
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(&meter));
        meter
    }

    pub(super) fn read(&self) -> Vec<PipelineStats> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).map(|meter| meter.read()).collect()
    }
}

/// When the media inside a pipeline arrived.
#[derive(Debug, Default)]
pub(super) struct OnTheWay {
    arrivals: VecDeque<(MediaTime, Instant)>,
}

impl OnTheWay {
    /// Notes that a packet of the moment `pts` arrived.
    pub(super) fn note(&mut self, pts: MediaTime, arrival: Instant) {
        match self.arrivals.back_mut() {
            Some((last, latest)) if *last == pts => *latest = arrival.max(*latest),
            _ => {
                if self.arrivals.len() >= MAX_ON_THE_WAY {
                    self.arrivals.pop_front();
                }
                self.arrivals.push_back((pts, arrival));
            }
        }
    }

    /// When the last packet of what comes out at `pts` arrived.
    pub(super) fn take(&mut self, pts: MediaTime) -> Option<Instant> {
        let mut arrival = None;
        while let Some((front, came)) = self.arrivals.front()
            && *front <= pts
        {
            arrival = Some(*came);
            self.arrivals.pop_front();
        }
        arrival
    }

    /// How many are inside.
    pub(super) fn len(&self) -> usize {
        self.arrivals.len()
    }

    pub(super) fn clear(&mut self) {
        self.arrivals.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_the_last_packet_of_a_picture() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let pts = |millis| MediaTime::default() + ms(millis);
        let mut on_the_way = OnTheWay::default();
        for (at, millis) in [(0, 0), (0, 5), (33, 30), (66, 70)] {
            on_the_way.note(pts(at), start + ms(millis));
        }
        assert_eq!(on_the_way.take(pts(0)), Some(start + ms(5)));
        assert_eq!(on_the_way.take(pts(10)), None);
        assert_eq!(on_the_way.take(pts(66)), Some(start + ms(70)), "what was dropped inside is skipped");
        (0..1000).for_each(|millis| on_the_way.note(pts(1000 + millis), start));
        assert_eq!(on_the_way.arrivals.len(), MAX_ON_THE_WAY);
    }

    #[test]
    fn meters_are_read_as_long_as_their_tracks_are_there() {
        let meters = Meters::default();
        let meter = |peer: &str| Meter::new(peer.parse().unwrap(), Rendition::Audio, "opus");
        let (kept, gone) = (meters.add(meter("a")), meters.add(meter("b")));
        kept.frame_in();
        kept.unit_out(Some(Duration::from_millis(3)));
        drop(gone);
        let [only] = &meters.read()[..] else { panic!("one track") };
        assert_eq!((only.peer.as_str(), only.frames_in, only.units_out), ("a", 1, 1));
        assert_eq!((only.latency, only.latencies), (Duration::from_millis(3), 1));
    }
}
