//! The same segments with video and sound together, as MPEG-TS: for old players, and by the names that clients of other
//! servers know.
//!
//! While nobody asks for them they cost a line per segment: a [`Whole`] says what a segment of this kind is made of.
//! Playlists are written, and segments muxed, from that and from the CMAF files when somebody asks.

mod names;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::kept::{Format, Kept};
use super::protection::{self, SegmentKey};
use super::{Presentation, WriteError};
use crate::media::encryption::CipherError;
use crate::media::fmp4;
use crate::media::playlist::{
    AudioAttributes, MasterPlaylist, MuxedPlaylist, MuxedSegment, Variant, VideoAttributes,
};
use crate::media::segmenter::Rendition;
use crate::media::transport_stream::{self, MuxError, Tracks, most_bytes};
pub use names::{Asked, Scheme, What};

/// How many of the last segments tell what the master playlist says of bit rates and codecs.
const MASTER_SEGMENTS: usize = 10;

/// Why a muxed segment can't be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// It can't be muxed.
    #[error(transparent)]
    Mux(#[from] MuxError),
    /// What it is made of can't be decrypted, or it can't be encrypted.
    #[error(transparent)]
    Cipher(#[from] CipherError),
    /// It can't be encrypted.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Which rendition a playlist is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Choice {
    /// The best one.
    Best,
    /// This one, or the best one of segments that lack it.
    Rendition(Rendition),
    /// Video of about this height in pixels. A size changes at discontinuities only, so this may be another rendition
    /// behind one.
    Height(u16),
}

/// A rendition of a [`Whole`].
#[derive(Debug, Clone, PartialEq, Eq)]
struct Track {
    uri: String,
    format: Format,
    duration: Duration,
    recorded: SystemTime,
    bytes: usize,
    samples: usize,
    independent: bool,
    filler: bool,
}

/// A segment that is complete in all of its renditions.
#[derive(Debug, Clone)]
pub struct Whole {
    sequence: u64,
    discontinuity: bool,
    discontinuities_before: u64,
    key: Option<Arc<SegmentKey>>,
    tracks: BTreeMap<Rendition, Track>,
}

impl Whole {
    fn new(kept: &Kept) -> Self {
        let tracks = kept.tracks.iter().filter_map(|(rendition, track)| {
            let made = Track {
                uri: track.uri.clone()?,
                format: track.format.clone(),
                duration: track.duration,
                recorded: track.recorded.unwrap_or(SystemTime::UNIX_EPOCH),
                bytes: track.bytes,
                samples: track.samples,
                independent: track.independent,
                filler: track.filler,
            };
            Some((*rendition, made))
        });
        Self {
            sequence: kept.sequence,
            discontinuity: kept.discontinuity,
            discontinuities_before: kept.discontinuities_before(),
            key: kept.key.clone(),
            tracks: tracks.collect(),
        }
    }

    /// Its media sequence number.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The rendition that is meant.
    #[must_use]
    pub fn rendition(&self, choice: Choice) -> Option<Rendition> {
        let best = || self.tracks.keys().next().copied();
        match choice {
            Choice::Best => best(),
            Choice::Rendition(rendition) => {
                self.tracks.contains_key(&rendition).then_some(rendition).or_else(best)
            }
            Choice::Height(wanted) => {
                let heights = self.tracks.iter().filter_map(|(rendition, track)| match &track.format {
                    Format::Video(config) => Some((rendition, config.size().1)),
                    Format::Audio(_) => None,
                });
                let nearest = heights.min_by_key(|(_, height)| height.abs_diff(wanted));
                nearest.map(|(rendition, _)| *rendition).or_else(best)
            }
        }
    }

    /// The CMAF files that the rendition's muxed segment is made of: its own, and the sound if it is video.
    #[must_use]
    pub fn sources(&self, rendition: Rendition) -> (Option<&str>, Option<&str>) {
        let uri = |rendition| self.tracks.get(&rendition).map(|track| track.uri.as_str());
        (uri(rendition), self.sound_beside(rendition).map(|track| track.uri.as_str()))
    }

    fn sound_beside(&self, rendition: Rendition) -> Option<&Track> {
        self.tracks.get(&Rendition::Audio).filter(|_| rendition != Rendition::Audio)
    }

    /// The rendition's muxed segment, made of the files that [`Self::sources`] names; encrypted if they are.
    ///
    /// # Errors
    /// Fails if the files are others than those.
    pub fn mux(&self, rendition: Rendition, own: &Bytes, sound: Option<&Bytes>) -> Result<Bytes, MakeError> {
        let key = self.key.as_deref();
        let samples = |file: &Bytes| -> Result<_, MakeError> {
            let clear = protection::clear_file(key, self.sequence, file)?;
            Ok(fmp4::samples(&clear).map_err(MuxError::from)?)
        };
        let own = samples(own)?;
        let sound = sound.map(samples).transpose()?;
        let mut tracks = Tracks::default();
        match self.tracks.get(&rendition).map(|track| &track.format) {
            Some(Format::Video(config)) => tracks.video = Some((config, &own)),
            Some(Format::Audio(config)) => tracks.audio = Some((config, &own)),
            None => {}
        }
        if let (Some(Format::Audio(config)), Some(samples)) =
            (self.sound_beside(rendition).map(|track| &track.format), &sound)
        {
            tracks.audio = Some((config, samples));
        }
        let muxed = transport_stream::segment(self.sequence, &tracks)?;
        Ok(protection::file(key, self.sequence, &muxed)?)
    }

    /// At most so many bytes is a rendition's muxed segment.
    fn most_bytes(&self, rendition: Rendition) -> usize {
        let bytes = |track: &Track| {
            let units =
                if matches!(track.format, Format::Audio(_)) { track.samples / 8 } else { track.samples };
            most_bytes(units, track.bytes)
        };
        let tracks = self.tracks.get(&rendition).into_iter().chain(self.sound_beside(rendition));
        tracks.map(bytes).sum()
    }
}

/// What changed of a presentation's [`Wholes`].
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Segments that appeared, or got another rendition, oldest first.
    pub segments: Vec<Whole>,
    /// The first segment that is listed.
    pub listed_from: u64,
    /// The first one that can be had at all.
    pub kept_from: u64,
    /// The first one that is in memory.
    pub in_memory_from: u64,
    /// Whether no segment will follow.
    pub ended: bool,
}

impl Presentation {
    /// Remembers that a segment may be complete, or has another rendition.
    pub(super) fn may_be_whole(&mut self, sequence: u64) {
        self.wholes_due.insert(sequence);
    }

    /// What changed since the last call.
    pub(super) fn take_wholes(&mut self) -> Option<Change> {
        let last = self.kept.back()?.sequence;
        let mut segments = Vec::new();
        while let Some(sequence) = self.wholes_due.first().copied() {
            let kept = self.kept.iter().rev().find(|kept| kept.sequence == sequence);
            // A rendition of which nothing came yet may still be late.
            let is_settled = |kept: &Kept| {
                let all = kept.tracks.values().all(|track| track.uri.is_some());
                kept.is_complete() && (all || self.ended || sequence.saturating_add(1) < last)
            };
            let by_sample = |kept: &Kept| kept.key.as_ref().is_some_and(|key| !key.is_for_files());
            match kept {
                Some(kept) if !is_settled(kept) => break,
                Some(kept) if !by_sample(kept) => segments.push(Whole::new(kept)),
                _ => {}
            }
            self.wholes_due.pop_first();
        }
        let sequence = |kept: Option<&Kept>| kept.map_or(last, |kept| kept.sequence);
        let listed_from = sequence(self.all_listed().next());
        let kept_from = sequence(self.kept.front());
        let in_memory_from = sequence(self.kept.get(self.kept.partition_point(|kept| kept.aged)));
        let bounds = (listed_from, kept_from, in_memory_from, self.ended);
        let before = std::mem::replace(&mut self.wholes_told, bounds);
        let changed = before != bounds || !segments.is_empty();
        changed.then_some(Change { segments, listed_from, kept_from, in_memory_from, ended: self.ended })
    }
}

/// All [`Whole`] segments of a presentation that can be had.
#[derive(Debug, Default)]
pub struct Wholes {
    segments: VecDeque<Whole>,
    /// The first one that there was.
    first: Option<u64>,
    listed_from: u64,
    in_memory_from: u64,
    ended: bool,
}

impl Wholes {
    /// Takes a change.
    pub fn apply(&mut self, change: Change) {
        for whole in change.segments {
            self.first.get_or_insert(whole.sequence);
            match self.segments.binary_search_by_key(&whole.sequence, Whole::sequence) {
                Ok(index) => drop(self.segments.get_mut(index).map(|before| *before = whole)),
                Err(index) => self.segments.insert(index, whole),
            }
        }
        while self.segments.pop_front_if(|first| first.sequence < change.kept_from).is_some() {}
        self.listed_from = change.listed_from;
        self.in_memory_from = change.in_memory_from;
        self.ended = change.ended;
    }

    /// A segment by its number.
    #[must_use]
    pub fn get(&self, sequence: u64) -> Option<&Whole> {
        let index = self.segments.binary_search_by_key(&sequence, Whole::sequence).ok()?;
        self.segments.get(index)
    }

    /// Whether a segment's files are in memory.
    #[must_use]
    pub const fn is_in_memory(&self, sequence: u64) -> bool {
        sequence >= self.in_memory_from
    }

    /// The rendition that stands for a choice in playlists: all choices that mean the same share one. Renditions are
    /// as long as each other.
    #[must_use]
    pub fn listed_rendition(&self, choice: Choice) -> Option<Choice> {
        match choice {
            Choice::Rendition(_) => Some(choice),
            _ => self.segments.back()?.rendition(choice).map(Choice::Rendition),
        }
    }

    /// Whether nothing is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.back().is_none_or(|last| last.sequence < self.listed_from)
    }

    /// What is listed: playlists have no holes.
    fn listed(&self) -> impl DoubleEndedIterator<Item = &Whole> {
        let from = self.segments.partition_point(|whole| whole.sequence < self.listed_from);
        let last = self.segments.back().map_or(0, |last| last.sequence);
        let count = self.segments.len() - from;
        let gapless = |(index, whole): (usize, &Whole)| {
            u64::try_from(index).ok().and_then(|index| last.checked_sub(index)) == Some(whole.sequence)
        };
        let without = self.segments.iter().rev().take(count).enumerate().position(|one| !gapless(one));
        self.segments.iter().skip(self.segments.len() - without.unwrap_or(count))
    }

    /// A media playlist; none as long as there is no segment. `with_past` says that the window holds more than what
    /// players that stay near the end need.
    #[must_use]
    pub fn playlist(&self, peer: &str, scheme: Scheme, choice: Choice, with_past: bool) -> Option<String> {
        let first = self.listed().next()?;
        let segments = self.listed().filter_map(|whole| {
            let rendition = whole.rendition(choice)?;
            let track = whole.tracks.get(&rendition)?;
            let named = if let Choice::Rendition(named) = choice { named } else { rendition };
            Some(MuxedSegment {
                uri: scheme.segment(peer, named, whole.sequence),
                duration: track.duration,
                program_date_time: track.recorded,
                discontinuity: whole.discontinuity,
                key: whole.key.as_ref().map(|key| key.listed(whole.sequence)),
                independent: track.independent,
            })
        });
        let playlist = MuxedPlaylist {
            version: scheme.version(),
            is_event: scheme.is_event() && with_past && self.first == Some(first.sequence),
            media_sequence: first.sequence,
            discontinuity_sequence: first.discontinuities_before,
            segments: segments.collect(),
            ended: self.ended,
        };
        Some(playlist.to_string())
    }

    /// The master playlist; none as long as there is no segment.
    #[must_use]
    pub fn master(&self, peer: &str, scheme: Scheme) -> Option<String> {
        let recent: Vec<&Whole> = self.listed().rev().take(MASTER_SEGMENTS).collect();
        let newest = *recent.first()?;
        let alive = |rendition: &Rendition| {
            recent.iter().filter_map(|whole| whole.tracks.get(rendition)).any(|track| !track.filler)
        };
        let videos = || newest.tracks.keys().filter(|one| **one != Rendition::Audio).copied();
        let mut offered: Vec<Rendition> = videos().filter(alive).collect();
        if offered.is_empty() {
            offered = videos().take(1).collect();
        }
        let mut variants: Vec<Variant> = Vec::new();
        for rendition in offered {
            let variant = variant(peer, scheme, &recent, rendition);
            let uri = |variant: &Variant| variant.video.as_ref().map(|video| video.uri.clone());
            // Two of one size are one by a name that tells the size.
            if !variants.iter().any(|other| uri(other) == uri(&variant)) {
                variants.push(variant);
            }
        }
        let mut audio = None;
        if variants.is_empty()
            && let Some(Format::Audio(config)) =
                newest.tracks.get(&Rendition::Audio).map(|track| &track.format)
        {
            variants.push(variant(peer, scheme, &recent, Rendition::Audio));
            let uri = scheme.playlist(peer, Rendition::Audio, 0);
            let codec = config.codec().to_owned();
            audio = Some(AudioAttributes { uri, codec, channels: config.channels() });
        }
        let independent =
            self.listed().flat_map(|whole| whole.tracks.values()).all(|track| track.independent);
        Some(MasterPlaylist { version: scheme.version(), variants, audio, independent }.to_string())
    }
}

/// A rendition with the sound as the newest and some segments before show it.
fn variant(peer: &str, scheme: Scheme, recent: &[&Whole], rendition: Rendition) -> Variant {
    let (mut peak, mut bytes, mut time) = (0, 0, Duration::ZERO);
    let rate = |bytes: usize, time: Duration| (bytes as f64 * 8.0 / time.as_secs_f64().max(0.001)) as u64;
    for whole in recent {
        let Some(track) = whole.tracks.get(&rendition) else { continue };
        let size = whole.most_bytes(rendition);
        bytes += size;
        time += track.duration;
        if track.duration >= super::master::BIT_RATE_MIN {
            peak = peak.max(rate(size, track.duration));
        }
    }
    let average = rate(bytes, time);
    let configs = || recent.iter().filter_map(|whole| Some(&whole.tracks.get(&rendition)?.format));
    let configs = || {
        configs().filter_map(|format| match format {
            Format::Video(config) => Some(config),
            Format::Audio(_) => None,
        })
    };
    let sound = recent.iter().find_map(|whole| whole.sound_beside(rendition));
    let video = configs().next().zip(configs().max_by_key(|config| config.level())).map(|(newest, most)| {
        let codecs = [Some(most.codec()), sound.map(|sound| sound.format.codec())];
        VideoAttributes {
            uri: scheme.playlist(peer, rendition, newest.size().1),
            codec: codecs.into_iter().flatten().collect::<Vec<_>>().join(","),
            resolution: newest.size(),
            frame_rate: None,
        }
    });
    Variant { bandwidth: peak.max(average), average_bandwidth: average, video }
}
