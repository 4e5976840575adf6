//! What a peer's HLS and DASH look like from outside: names, sliding window, init segments, and the playlists over them.
//!
//! Takes what the segmenter gives out and answers with the files and playlists that change. Pure: bytes and texts out,
//! no store, no disk.

mod backfill;
mod dash;
mod growing;
mod kept;
mod master;
pub mod muxed;
mod names;
mod past;
mod protection;
mod sprites;
#[cfg(test)]
mod tests;
mod window;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::media::encryption::{CipherError, Encryption};
use crate::media::fmp4::{self, ProtectionError};
use crate::media::playlist::{
    ListedPart, ListedSegment, LowLatency, MediaPlaylist, Position, RenditionReport, SKIP_UNTIL, Text,
};
use crate::media::segmenter::{Opening, Part, Rendition, TARGET_DURATION_SECS, part_length};
use crate::media::timeline::MediaTime;
pub use dash::TIME;
pub use growing::OpenSegment;
use kept::{Format, Kept, Track};
use names::Names;
pub use names::owners;
use past::Past;
use protection::{Protection, SegmentKey};
pub use sprites::{MAX_TILES, SPRITE_COLUMNS, SPRITE_ROWS, Sprite};
pub use window::Window;

/// The most segments that a playlist lists without DVR, however short they are.
pub const MAX_LISTED: usize = 60;
/// A playlist is never shorter than this many target durations (RFC 8216 section 6.2.2).
const MIN_TARGET_DURATIONS: u64 = 3;
/// How many segments behind the open one keep their parts: more than a player close to the end needs, and less than
/// the three target durations that RFC 8216bis section 4.4.4.9 allows.
const SEGMENTS_WITH_PARTS: usize = 2;
/// How many segments more keep them fetchable, for players that read an older playlist.
const SEGMENTS_WITH_OLD_PARTS: usize = 3;
/// Parts are numbered from this multiple of their rendition's first segment on: no segment has so many, so the numbers
/// of a peer that comes back are new as well.
const PART_NUMBERS: u64 = 64;

/// No segment has more frames of silence: ten seconds.
const MAX_SILENT_FRAMES: usize = 480;

/// A publisher's wall clock that differs more from this machine's is not believed.
const MAX_CLOCK_ERROR: Duration = Duration::from_secs(10);
/// How much the wall clock that times are told by may be corrected from one segment to the next.
const MAX_CLOCK_STEP: Duration = Duration::from_millis(10);

/// What kind of file a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// The master playlist.
    Master,
    /// The DASH manifest.
    Manifest,
    /// The DASH manifest for low latency: of no use where segments can't be had while they grow.
    LowLatencyManifest,
    /// The list of small pictures of what was shown.
    Cues,
    /// Many of those in one; never changes.
    Sprite,
    /// An init segment; never changes, and stays as long as a segment that needs it.
    Init(Rendition),
    /// A media segment; never changes.
    Media(Rendition),
    /// A part of a segment; never changes, and is of no use where there is no blocking reload.
    Part(Rendition),
    /// The key of some segments: for those only who may watch, and never copied elsewhere.
    Key,
}

/// Why something is not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A box can't be written.
    #[error(transparent)]
    Box(#[from] mp4_atom::Error),
    /// What was to be encrypted can't be.
    #[error(transparent)]
    Cipher(#[from] CipherError),
}

impl From<ProtectionError> for WriteError {
    fn from(reason: ProtectionError) -> Self {
        match reason {
            ProtectionError::Box(reason) => Self::Box(reason),
            ProtectionError::Cipher(reason) => Self::Cipher(reason),
        }
    }
}

/// A file that appeared or changed.
#[derive(Debug, Clone)]
pub struct File {
    /// Its name, without a folder.
    pub name: String,
    /// Its kind.
    pub kind: FileKind,
    /// Its bytes.
    pub body: Bytes,
}

/// A rendition's playlist as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    /// Its name.
    pub name: String,
    /// All of it.
    pub full: Text,
    /// Without what players know that read it before; the same as `full` if nothing can be left out.
    pub delta: Text,
    /// As a plain file without DVR, for servers that can't hold requests back.
    pub plain: Bytes,
    /// Where it ends.
    pub position: Position,
    /// The name of the next part, if one will follow.
    pub hint: Option<String>,
    /// The segment that is being made, as long as none of it is encrypted.
    pub open: Option<OpenSegment>,
    /// Whether nothing will follow.
    pub ended: bool,
}

/// What changed, to be applied as one.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// Files that appeared or changed.
    pub files: Vec<File>,
    /// Playlists that appeared or changed.
    pub listings: Vec<Listing>,
    /// Names of stored files that leave memory.
    pub aged: Vec<String>,
    /// Names that are gone.
    pub gone: Vec<String>,
    /// How many segments DVR does not show because they were not stored in time.
    pub lost: usize,
    /// What is complete in all renditions, if that changed.
    pub wholes: Option<muxed::Change>,
}

/// What is the same for all segments of a rendition until it changes.
#[derive(Debug)]
struct Line {
    format: Format,
    init_uri: String,
    /// The key that the init segment tells of, if there is one.
    key: Option<Arc<SegmentKey>>,
    /// The number of the next part.
    next_part: u64,
    position: Position,
}

/// One peer's playlists and segments.
#[derive(Debug)]
pub struct Presentation {
    names: Names,
    window: Window,
    protection: Protection,
    part_target: Duration,
    /// What the timeline's beginning is by the wall clock that the next segment's times are told by.
    epoch: SystemTime,
    /// The same by this machine's clock, whatever the recording clock says: segments can be had by it.
    own_epoch: SystemTime,
    /// What it is by the publisher's wall clock.
    recorded_epoch: Option<SystemTime>,
    /// Segments, oldest first: those that are listed no more, the past ones, the recent ones and the open one.
    kept: VecDeque<Kept>,
    /// How many of them are recent, the open one included.
    listed: usize,
    /// How many of them are past, and how long these are.
    past: usize,
    past_duration: Duration,
    /// The past ones as each rendition's playlist lists them.
    pasts: BTreeMap<Rendition, Past>,
    discontinuities: u64,
    period: MediaTime,
    lines: BTreeMap<Rendition, Line>,
    gone: BTreeSet<Rendition>,
    fragments: u32,
    /// Pictures of what was shown, oldest first.
    sprites: VecDeque<sprites::Listed>,
    /// What the newest one was called before it got its last tile.
    old_sprite: Option<String>,
    next_sprite: u64,
    ended: bool,
    update: Update,
    changed: BTreeSet<Rendition>,
    master_changed: bool,
    manifest_changed: bool,
    /// Segments that may be complete in all renditions, and what was told of those that are.
    wholes_due: BTreeSet<u64>,
    wholes_told: (u64, u64, u64, bool),
    low_latency_changed: bool,
    cues_changed: bool,
}

impl Presentation {
    /// An empty presentation of `peer`, whose timeline began at `epoch`, with parts of `part` (see [`part_length`]).
    #[must_use]
    pub fn new(peer: String, window: Window, part: Duration, epoch: SystemTime) -> Self {
        Self {
            names: Names::new(peer),
            window,
            protection: Protection::default(),
            part_target: part_length(part),
            epoch,
            own_epoch: epoch,
            recorded_epoch: None,
            kept: VecDeque::new(),
            listed: 0,
            past: 0,
            past_duration: Duration::ZERO,
            pasts: BTreeMap::new(),
            discontinuities: 0,
            period: MediaTime::default(),
            lines: BTreeMap::new(),
            gone: BTreeSet::new(),
            fragments: 0,
            sprites: VecDeque::new(),
            old_sprite: None,
            next_sprite: 0,
            ended: false,
            update: Update::default(),
            changed: BTreeSet::new(),
            master_changed: false,
            manifest_changed: false,
            wholes_due: BTreeSet::new(),
            wholes_told: (0, 0, 0, false),
            low_latency_changed: false,
            cues_changed: false,
        }
    }

    /// The same, encrypted; there is no DASH manifest then.
    #[must_use]
    pub fn encrypted(self, encryption: Encryption) -> Self {
        Self { protection: Protection::new(encryption), ..self }
    }

    /// The same, for a stream that was listed by another presentation before and goes on behind a discontinuity: with the
    /// clock of that one, and numbers that it didn't give. Segments have to be numbered on as well.
    #[must_use]
    pub fn continuing(self, before: &Self) -> Self {
        Self {
            epoch: before.epoch,
            own_epoch: before.own_epoch,
            recorded_epoch: before.recorded_epoch,
            discontinuities: before.discontinuities,
            fragments: before.fragments,
            ..self
        }
    }

    /// How long parts are.
    #[must_use]
    pub const fn part_target(&self) -> Duration {
        self.part_target
    }

    /// Tells whether a track is gone for good. Its rendition goes on with fillers for whoever plays it, but new players
    /// aren't sent there once nothing else is listed.
    pub fn set_gone(&mut self, rendition: Rendition, gone: bool) {
        let changed = if gone { self.gone.insert(rendition) } else { self.gone.remove(&rendition) };
        self.master_changed |= changed;
    }

    /// Tells what the timeline's beginning was by the wall clock of whoever recorded it. The times of segments are told
    /// by that clock, unless it is wrong by far.
    pub fn set_recorded_epoch(&mut self, epoch: SystemTime) {
        self.recorded_epoch = Some(epoch).filter(|epoch| difference(*epoch, self.epoch) <= MAX_CLOCK_ERROR);
    }

    /// Goes over to the recording clock: at once if nothing was told by another one yet, and else in steps that no player
    /// notices.
    fn correct_clock(&mut self) {
        let Some(wanted) = self.recorded_epoch else { return };
        let step = match difference(wanted, self.epoch) {
            distance if self.kept.is_empty() => distance,
            distance => distance.min(MAX_CLOCK_STEP),
        };
        let corrected =
            if wanted > self.epoch { self.epoch.checked_add(step) } else { self.epoch.checked_sub(step) };
        self.epoch = corrected.unwrap_or(self.epoch);
    }

    /// Begins a segment.
    ///
    /// # Errors
    /// Fails if a box can't be written, which a config that was accepted doesn't cause.
    pub fn open(&mut self, opening: &Opening) -> Result<(), WriteError> {
        let (key, key_file) = self.protection.key_of(opening.sequence, &self.names);
        let told = key.as_ref().filter(|key| !key.is_for_files());
        // A new key comes with new init segments, and those with a discontinuity.
        let discontinuity =
            opening.discontinuity || told.is_some() && key_file.is_some() && !self.kept.is_empty();
        self.update.files.extend(key_file);
        let video =
            opening.video.iter().map(|(id, config)| (Rendition::Video(*id), Format::Video(config.clone())));
        let audio = opening.audio.iter().map(|config| (Rendition::Audio, Format::Audio(config.clone())));
        let mut tracks = BTreeMap::new();
        for (rendition, format) in video.chain(audio) {
            let is_new = !self.lines.contains_key(&rendition);
            let init_uri = self.init(rendition, &format, told, opening.sequence)?;
            if is_new {
                self.unlist_past();
            }
            if let (Format::Audio(config), true) = (&format, is_new) {
                self.backfill(config, &init_uri, told, opening.start)?;
            }
            tracks.insert(rendition, Track::new(init_uri, format));
        }
        self.discontinuities += u64::from(discontinuity);
        self.correct_clock();
        if discontinuity || self.kept.is_empty() {
            self.period = opening.start;
        }
        self.kept.push_back(Kept {
            epoch: self.epoch,
            sequence: opening.sequence,
            discontinuity,
            key,
            discontinuities: self.discontinuities,
            period: self.period,
            tracks,
            aged: false,
        });
        self.listed += 1;
        self.slide();
        Ok(())
    }

    /// The name of the init segment for `format` and `key`, which is written if it is a new one.
    fn init(
        &mut self,
        rendition: Rendition,
        format: &Format,
        key: Option<&Arc<SegmentKey>>,
        sequence: u64,
    ) -> Result<String, mp4_atom::Error> {
        let line = self.lines.get(&rendition);
        let same = |line: &&Line| {
            line.format == *format && line.key.as_ref().map(Arc::as_ptr) == key.map(Arc::as_ptr)
        };
        if let Some(line) = line.filter(same) {
            return Ok(line.init_uri.clone());
        }
        let name = self.names.init(rendition, sequence);
        let body = match format {
            Format::Video(config) => fmp4::video_init(config)?,
            Format::Audio(config) => fmp4::audio_init(config)?,
        };
        let body = match key {
            Some(key) => fmp4::protected_init(&body, protection::coding(rendition), &key.content)?,
            None => body,
        };
        self.update.files.push(File { name: name.clone(), kind: FileKind::Init(rendition), body });
        let next_part = line.map_or(sequence.saturating_mul(PART_NUMBERS), |line| line.next_part);
        let position = line.map_or(Position::default(), |line| line.position);
        let line =
            Line { format: format.clone(), init_uri: name.clone(), key: key.cloned(), next_part, position };
        self.lines.insert(rendition, line);
        Ok(name)
    }

    /// Adds a part to a segment that was begun.
    ///
    /// # Errors
    /// Fails if a box can't be written, which needs a part of 4 GB, or if it can't be encrypted; the part is then missing.
    pub fn push(&mut self, part: &Part) -> Result<(), WriteError> {
        let Some(kept) = self.kept.iter_mut().rev().find(|kept| kept.sequence == part.sequence) else {
            return Ok(());
        };
        let Some(track) = kept.tracks.get_mut(&part.rendition) else { return Ok(()) };
        let Some(line) = self.lines.get_mut(&part.rendition) else { return Ok(()) };
        self.fragments = self.fragments.wrapping_add(1);
        let first = track.count == 0;
        let key = kept.key.as_deref();
        let body = protection::chunk(key, part.rendition, (first, self.fragments, part.base), &part.samples)?;
        let published = protection::file(key, part.sequence, &body)?;
        if first {
            let since = MediaTime::from_ticks(part.base, part.rate).since(MediaTime::default());
            track.recorded = kept.epoch.checked_add(since);
            (track.base, track.rate) = (part.base, part.rate);
            track.independent = part.independent;
            self.master_changed = true;
        }
        let ticks: u64 = part.samples.iter().map(|sample| u64::from(sample.duration)).sum();
        let duration = MediaTime::from_ticks(ticks, part.rate).since(MediaTime::default());
        track.duration += duration;
        track.ticks = track.ticks.saturating_add(ticks);
        track.bytes += body.len();
        // What is shown in no time at all was shown before.
        track.samples += part.samples.iter().filter(|sample| sample.duration > 1).count();
        track.filler &= part.filler;
        track.count += 1;
        let uri = self.names.part(part.rendition, line.next_part);
        line.next_part = line.next_part.saturating_add(1);
        line.position.open = Some((part.sequence, track.count));
        let listed = ListedPart { uri: uri.clone(), duration, independent: part.independent };
        track.parts.push((listed, body));
        let kind = FileKind::Part(part.rendition);
        self.update.files.push(File { name: uri, kind, body: published });
        self.changed.insert(part.rendition);
        self.low_latency_changed |= first && kept.is_begun();
        Ok(())
    }

    /// Ends a rendition's segment.
    ///
    /// A segment is its parts one behind the other, and they are then served from its bytes; not so with AES-128, which
    /// encrypts and pads each file on its own (RFC 8216 section 4.3.2.4).
    ///
    /// # Errors
    /// Fails if it can't be encrypted; the segment is then missing.
    pub fn close(&mut self, sequence: u64, rendition: Rendition) -> Result<(), WriteError> {
        let Some(kept) = self.kept.iter_mut().rev().find(|kept| kept.sequence == sequence) else {
            return Ok(());
        };
        let Some(track) = kept.tracks.get_mut(&rendition).filter(|track| track.count > 0) else {
            return Ok(());
        };
        let name = self.names.segment(rendition, sequence);
        let key = kept.key.as_deref();
        let body = protection::file(key, sequence, &track.join())?;
        if key.is_some_and(SegmentKey::is_for_files) {
            track.forget_clear_parts();
        } else {
            for (listed, body) in &track.parts {
                let (name, body) = (listed.uri.clone(), body.clone());
                self.update.files.push(File { name, kind: FileKind::Part(rendition), body });
            }
        }
        track.uri = Some(name.clone());
        self.update.files.push(File { name, kind: FileKind::Media(rendition), body });
        if let Some(line) = self.lines.get_mut(&rendition) {
            line.position = Position { complete: Some((sequence, track.count)), open: None };
        }
        self.changed.insert(rendition);
        self.master_changed = true;
        self.manifest_changed |= kept.is_complete();
        self.cues_changed |= kept.is_complete();
        self.may_be_whole(sequence);
        self.low_latency_changed = true;
        self.drop_parts(rendition);
        Ok(())
    }

    /// Ends the playlists: no segment will follow.
    pub fn end(&mut self) {
        self.ended = true;
        (self.manifest_changed, self.low_latency_changed) = (true, true);
        self.changed.extend(self.lines.keys().copied());
    }

    /// What changed since the last call.
    pub fn take_update(&mut self) -> Update {
        let changed = std::mem::take(&mut self.changed);
        let listings: Vec<Listing> =
            changed.into_iter().filter_map(|rendition| self.listing(rendition)).collect();
        self.update.listings.extend(listings);
        // A player reads the master once: it is not told half of what there is.
        let whole = self.kept.back().is_some_and(|kept| kept.tracks.values().all(|track| track.count > 0));
        if whole && std::mem::take(&mut self.master_changed) {
            let body = self.master_playlist().to_string().into();
            self.update.files.push(File { name: self.names.master(), kind: FileKind::Master, body });
        }
        if std::mem::take(&mut self.manifest_changed)
            && !self.protection.is_on()
            && let Some(text) = self.manifest()
        {
            let (name, body) = (self.names.manifest(), text.into());
            self.update.files.push(File { name, kind: FileKind::Manifest, body });
        }
        self.update.wholes = self.take_wholes();
        if std::mem::take(&mut self.low_latency_changed)
            && !self.protection.is_on()
            && let Some(text) = self.low_latency_manifest()
        {
            let (name, body) = (self.names.low_latency_manifest(), text.into());
            self.update.files.push(File { name, kind: FileKind::LowLatencyManifest, body });
        }
        if std::mem::take(&mut self.cues_changed)
            && let Some(text) = self.cues()
        {
            let (name, body) = (self.names.cues(), text.into());
            self.update.files.push(File { name, kind: FileKind::Cues, body });
        }
        std::mem::take(&mut self.update)
    }

    /// A rendition's share of the recent segments, as far as it is there.
    fn tracks(&self, rendition: Rendition) -> impl Iterator<Item = &Track> {
        self.recent().filter_map(move |kept| kept.tracks.get(&rendition)).filter(|track| track.count > 0)
    }

    /// Drops the parts that nobody needs any more: their segments are there.
    fn drop_parts(&mut self, rendition: Rendition) {
        let tracks = self.kept.iter_mut().rev().filter_map(|kept| kept.tracks.get_mut(&rendition));
        let complete = tracks.filter(|track| track.uri.is_some());
        let old = complete.skip(SEGMENTS_WITH_PARTS + SEGMENTS_WITH_OLD_PARTS);
        for track in old.take_while(|track| !track.parts.is_empty()) {
            self.update.gone.extend(track.parts.drain(..).map(|(listed, _)| listed.uri));
        }
    }

    fn listing(&self, rendition: Rendition) -> Option<Listing> {
        let line = self.lines.get(&rendition)?;
        let nothing = Past::default();
        let past = self.pasts.get(&rendition).unwrap_or(&nothing);
        let listed = |kept: &&Kept| kept.tracks.get(&rendition).is_some_and(|track| track.count > 0);
        let first = self.recent().find(listed)?;
        let first_recent = (first.sequence, first.discontinuities_before());
        let (media_sequence, discontinuity_sequence) = past.first().unwrap_or(first_recent);
        // From the end: how much lies behind each segment says whether a delta update leaves it out.
        let (mut behind, mut kept_by_delta, mut complete) = (Duration::ZERO, 0, 0);
        let mut segments: Vec<ListedSegment> = Vec::with_capacity(self.listed);
        for kept in self.recent().rev() {
            let Some(track) = kept.tracks.get(&rendition).filter(|track| track.count > 0) else { continue };
            complete += usize::from(track.uri.is_some());
            let key = kept.key.as_ref().map(|key| key.listed(kept.sequence));
            segments.push(track.listed(kept.discontinuity, key, complete <= SEGMENTS_WITH_PARTS));
            behind += track.duration;
            kept_by_delta += usize::from(behind <= SKIP_UNTIL);
        }
        segments.reverse();
        kept_by_delta += past.within(SKIP_UNTIL.saturating_sub(behind));
        let hint = (!self.ended).then(|| self.names.part(rendition, line.next_part));
        let reports = self.reports(rendition);
        let playlist = MediaPlaylist {
            media_sequence,
            discontinuity_sequence,
            independent_before: past.is_independent(),
            segments: &segments,
            low_latency: Some(LowLatency {
                part_target: self.part_target,
                hint: hint.as_deref(),
                reports: &reports,
            }),
            ended: self.ended,
        };
        let full = whole(&playlist, past, 0);
        let skipped = (past.len() + segments.len()).saturating_sub(kept_by_delta);
        let delta = if skipped > 0 { whole(&playlist, past, skipped) } else { full.clone() };
        let complete = segments.iter().position(|segment| segment.uri.is_none()).unwrap_or(segments.len());
        let plain = MediaPlaylist {
            media_sequence: first_recent.0,
            discontinuity_sequence: first_recent.1,
            independent_before: true,
            segments: segments.get(..complete).unwrap_or_default(),
            low_latency: None,
            ended: self.ended,
        };
        let (name, plain) = (self.names.playlist(rendition), plain.to_string().into());
        let open = self.open_segment(rendition);
        Some(Listing { name, full, delta, plain, position: line.position, hint, open, ended: self.ended })
    }

    /// Where the other renditions' playlists end.
    fn reports(&self, rendition: Rendition) -> Vec<RenditionReport> {
        let others = self.lines.iter().filter(|(other, _)| **other != rendition && !self.ended);
        let reports = others.map(|(other, line)| RenditionReport {
            uri: self.names.playlist(*other),
            position: line.position,
        });
        reports.collect()
    }
}

/// The playlist without so many of the segments before and in it.
fn whole(playlist: &MediaPlaylist<'_>, past: &Past, skipped: usize) -> Text {
    let (lead, middle) = past.text_from(skipped);
    let before = past.last().filter(|_| skipped < past.len());
    let head = format!("{}{lead}", playlist.head(skipped)).into();
    let tail = playlist.rest(skipped.saturating_sub(past.len()), before, skipped == 0).to_string().into();
    Text { head, middle, tail }
}

fn difference(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other).unwrap_or_else(|reason| reason.duration())
}
