//! Observers of what producers say: who is how loud (mediasoup's AudioLevelObserver), and who speaks (its
//! ActiveSpeakerObserver).
//!
//! Both read the audio level that publishers put into their packets (RFC 6464), so nothing is decoded. A producer that
//! nobody observes costs one comparison per packet.

pub mod speaker;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, Instant};

use mediasoup_types::rtp_parameters::MediaKind;
use slab::Slab;

use super::{Worker, not_found};
use crate::ids::{ProducerId, RouterId, RtpObserverId};
use crate::sfu::api::{AudioLevelVolume, Event, NotFound};
use crate::sfu::producer::Producer;
use speaker::{MAX_LEVEL, Scores, Speaker};

/// Observers that one router may have.
pub const MAX_OBSERVERS: usize = 16;
/// Intervals that are taken.
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(5);
/// Packets in an interval below which a producer's average says nothing.
const MIN_PACKETS: u64 = 10;
/// The level that stands for silence in a packet.
const SILENT: u8 = 127;
/// How much more active than the dominant speaker another one must be in each time scale, as log ratios.
const TAKE_OVER: Scores = [3.0, 2.0, 0.0];

/// What an observer is to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObserverOptions {
    /// [`Event::Volumes`] of the loudest, and [`Event::Silence`].
    AudioLevel {
        /// The most producers that are told of at a time.
        max_entries: usize,
        /// The average volume below which a producer is not told of, in dBov (-127 to 0).
        threshold: i8,
        /// Time between two reports, and that averages are taken over.
        interval: Duration,
    },
    /// [`Event::DominantSpeaker`].
    ActiveSpeaker {
        /// Time between two decisions.
        interval: Duration,
    },
}

impl ObserverOptions {
    fn interval(self) -> Duration {
        let (Self::AudioLevel { interval, .. } | Self::ActiveSpeaker { interval }) = self;
        interval.clamp(*INTERVALS.start(), *INTERVALS.end())
    }
}

/// Why a producer can't be observed, or an observer not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObserveError {
    /// No such router, observer or producer.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// The producer is none of audio.
    #[error("only audio can be observed")]
    NotAudio,
    /// The router has as many observers as it may.
    #[error("too many observers: the limit is {0} for a router")]
    Full(usize),
}

/// What is known of a producer that is observed.
#[derive(Debug, Default)]
pub struct Levels {
    /// The sum of all levels (in -dBov) and their number. Each observer remembers what it has seen of them.
    sum: u64,
    count: u64,
    speaker: Speaker,
}

impl Levels {
    /// Notes the level of a packet, in -dBov as RFC 6464 has it.
    #[inline]
    fn note(&mut self, now: Instant, level: u8) {
        self.sum += u64::from(level);
        self.count += 1;
        self.speaker.hear(now, MAX_LEVEL - level.min(SILENT));
    }
}

/// One observed producer, with the sum and count of levels at the last report.
#[derive(Debug)]
struct Observed {
    producer: ProducerId,
    seen: (u64, u64),
}

#[derive(Debug)]
struct Observer {
    router: RouterId,
    options: ObserverOptions,
    producers: Vec<Observed>,
    /// When it is due; none while it observes nobody.
    due: Option<Instant>,
    /// The last report was of silence.
    silent: bool,
    dominant: Option<ProducerId>,
}

/// A worker's observers.
#[derive(Debug, Default)]
pub struct Observers {
    observers: HashMap<RtpObserverId, Observer>,
    timers: BinaryHeap<Reverse<(Instant, RtpObserverId)>>,
}

impl Observers {
    /// When one is due next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((due, _))| *due)
    }

    /// A router's observers.
    pub fn ids_in(&self, router: RouterId) -> impl Iterator<Item = RtpObserverId> {
        self.observers.iter().filter(move |(_, observer)| observer.router == router).map(|(id, _)| *id)
    }

    /// What a router's observers observe.
    pub fn observed_in(&self, router: RouterId) -> impl Iterator<Item = (RtpObserverId, ProducerId)> {
        let observers = self.observers.iter().filter(move |(_, observer)| observer.router == router);
        observers
            .flat_map(|(id, observer)| observer.producers.iter().map(|observed| (*id, observed.producer)))
    }

    /// Forgets a router's observers.
    pub fn close_router(&mut self, router: RouterId) {
        self.observers.retain(|_, observer| observer.router != router);
    }

    /// The next one that is due now.
    fn take_due(&mut self, now: Instant) -> Option<RtpObserverId> {
        while let Some(Reverse((due, id))) = self.timers.peek().copied() {
            if due > now {
                return None;
            }
            self.timers.pop();
            if self.observers.get(&id).is_some_and(|observer| observer.due == Some(due)) {
                return Some(id);
            }
        }
        None
    }

    fn set_timer(&mut self, now: Instant, id: RtpObserverId) {
        let Some(observer) = self.observers.get_mut(&id) else { return };
        observer.due = (!observer.producers.is_empty()).then(|| now + observer.options.interval());
        if let Some(due) = observer.due {
            self.timers.push(Reverse((due, id)));
        }
    }
}

/// Notes the level of a packet that a producer's cache has just got.
#[inline]
pub(super) fn note_level(producer: &mut Producer, now: Instant, stream: usize, sequence: u64) {
    let Some(levels) = producer.levels.as_deref_mut() else { return };
    let packet = producer.streams.get(stream).and_then(|stream| stream.cache.get(sequence));
    if let Some(level) = packet.and_then(|packet| packet.audio_level).filter(|_| !producer.paused) {
        levels.note(now, level & 0x7F); // the first bit says whether it is voice
    }
}

impl Worker {
    /// Makes an observer in a router. It observes nobody yet.
    ///
    /// # Errors
    /// Fails if there is no such router, or it has too many observers.
    pub fn create_observer(
        &mut self,
        router: RouterId,
        options: ObserverOptions,
    ) -> Result<RtpObserverId, ObserveError> {
        if !self.routers.contains_key(&router) {
            return Err(not_found("router", &router).into());
        }
        let observers = &mut self.observers.observers;
        if observers.values().filter(|observer| observer.router == router).count() >= MAX_OBSERVERS {
            return Err(ObserveError::Full(MAX_OBSERVERS));
        }
        let id = RtpObserverId::random();
        let (producers, due, silent, dominant) = (Vec::new(), None, true, None);
        observers.insert(id, Observer { router, options, producers, due, silent, dominant });
        Ok(id)
    }

    /// Lets an observer observe an audio producer of its router, until that ends. Twice is as good as once.
    ///
    /// # Errors
    /// Fails if there is no such observer or producer in one router, or the producer is none of audio.
    pub fn observe(
        &mut self,
        now: Instant,
        id: RtpObserverId,
        producer_id: ProducerId,
    ) -> Result<(), ObserveError> {
        let observer = self.observers.observers.get_mut(&id).ok_or_else(|| not_found("observer", &id))?;
        let key = self.producer_keys.get(&producer_id).copied();
        let producer = key.and_then(|key| self.producers.get_mut(key));
        let producer = producer.filter(|producer| producer.router == observer.router);
        let producer = producer.ok_or_else(|| not_found("producer", &producer_id))?;
        if producer.kind != MediaKind::Audio {
            return Err(ObserveError::NotAudio);
        }
        let levels = producer.levels.get_or_insert_default();
        if !observer.producers.iter().any(|known| known.producer == producer_id) {
            let seen = (levels.sum, levels.count);
            observer.producers.push(Observed { producer: producer_id, seen });
        }
        if observer.due.is_none() {
            self.observers.set_timer(now, id);
        }
        Ok(())
    }

    /// Ends an observer.
    ///
    /// # Errors
    /// Fails if there is no such observer.
    pub fn close_observer(&mut self, id: RtpObserverId) -> Result<(), NotFound> {
        self.observers.observers.remove(&id).map(drop).ok_or_else(|| not_found("observer", &id))
    }

    /// Reports what is due.
    pub(super) fn handle_observers(&mut self, now: Instant) {
        while let Some(id) = self.observers.take_due(now) {
            let Some(observer) = self.observers.observers.get_mut(&id) else { continue };
            let keys = &self.producer_keys;
            observer.producers.retain(|observed| keys.contains_key(&observed.producer));
            let mut published = Published { keys, producers: &mut self.producers };
            let event = match observer.options {
                ObserverOptions::AudioLevel { max_entries, threshold, .. } => {
                    let volumes = observer.volumes(threshold, &mut published);
                    observer.report(id, volumes, max_entries)
                }
                ObserverOptions::ActiveSpeaker { .. } => observer.decide(id, now, &mut published),
            };
            self.events.extend(event);
            self.observers.set_timer(now, id);
        }
    }
}

/// A worker's producers by id.
struct Published<'a> {
    keys: &'a HashMap<ProducerId, usize>,
    producers: &'a mut Slab<Producer>,
}

impl Published<'_> {
    fn levels(&mut self, producer: ProducerId) -> Option<&mut Levels> {
        self.producers.get_mut(*self.keys.get(&producer)?)?.levels.as_deref_mut()
    }
}

impl Observer {
    /// Who was louder than the threshold since the last report, the loudest first.
    fn volumes(&mut self, threshold: i8, published: &mut Published<'_>) -> Vec<AudioLevelVolume> {
        let mut volumes = Vec::new();
        for observed in &mut self.producers {
            let Some(levels) = published.levels(observed.producer) else { continue };
            let (sum_before, count_before) =
                std::mem::replace(&mut observed.seen, (levels.sum, levels.count));
            let count = levels.count - count_before;
            if count < MIN_PACKETS {
                continue;
            }
            let average = (levels.sum - sum_before + count / 2) / count;
            let volume = i8::try_from(average).map_or(i8::MIN + 1, |average| -average);
            if volume >= threshold {
                volumes.push(AudioLevelVolume { producer: observed.producer, volume });
            }
        }
        volumes.sort_by_key(|entry| Reverse(entry.volume));
        volumes
    }

    /// What to tell of these volumes: silence only once.
    fn report(
        &mut self,
        observer: RtpObserverId,
        mut volumes: Vec<AudioLevelVolume>,
        max_entries: usize,
    ) -> Option<Event> {
        let router = self.router;
        volumes.truncate(max_entries);
        let was_silent = std::mem::replace(&mut self.silent, volumes.is_empty());
        match (self.silent, was_silent) {
            (false, _) => Some(Event::Volumes { router, observer, volumes }),
            (true, false) => Some(Event::Silence { router, observer }),
            (true, true) => None,
        }
    }

    /// Decides who dominates, and tells if that is someone else than before. Who dominates stays it until someone else
    /// is more active in all three time scales.
    fn decide(
        &mut self,
        observer: RtpObserverId,
        now: Instant,
        published: &mut Published<'_>,
    ) -> Option<Event> {
        let mut scored = Vec::with_capacity(self.producers.len());
        for observed in &self.producers {
            let levels = published.levels(observed.producer);
            scored.extend(levels.map(|levels| (observed.producer, levels.speaker.scores(now))));
        }
        let dominant = dominant(&scored, self.dominant)?;
        if self.dominant.replace(dominant) == Some(dominant) {
            return None;
        }
        Some(Event::DominantSpeaker { router: self.router, observer, producer: dominant })
    }
}

/// Who dominates, given who did; the first one if nobody did. None if there is nobody.
fn dominant(scored: &[(ProducerId, Scores)], before: Option<ProducerId>) -> Option<ProducerId> {
    let reigning = scored.iter().find(|(producer, _)| Some(*producer) == before).or(scored.first())?;
    let mut winner = (reigning.0, TAKE_OVER[1]);
    for (candidate, scores) in scored {
        let ratio = |scale: usize| (scores[scale] / reigning.1[scale]).ln();
        let takes_over = (0..TAKE_OVER.len()).all(|scale| ratio(scale) > TAKE_OVER[scale]);
        if takes_over && ratio(1) > winner.1 {
            winner = (*candidate, ratio(1));
        }
    }
    Some(winner.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_is_more_active_in_every_scale_takes_over() {
        let [a, b, c] = [(); 3].map(|()| ProducerId::random());
        let (quiet, loud, louder) = ([1e-10; 3], [3.0, 60.0, 100.0], [3.0, 90.0, 100.0]);
        assert_eq!(dominant(&[], Some(a)), None);
        assert_eq!(dominant(&[(a, quiet), (b, quiet)], None), Some(a), "the first, if nobody speaks");
        assert_eq!(dominant(&[(a, quiet), (b, loud)], Some(a)), Some(b));
        assert_eq!(dominant(&[(a, quiet), (b, loud), (c, louder)], Some(a)), Some(c));
        assert_eq!(dominant(&[(a, loud), (b, louder)], Some(a)), Some(a), "not by so little");
        let only_now = [3.0, 60.0, 1e-10];
        assert_eq!(dominant(&[(a, quiet), (b, only_now)], Some(a)), Some(a), "a click is no speech");
        assert_eq!(dominant(&[(b, loud)], Some(a)), Some(b), "who is gone does not dominate");
    }
}
