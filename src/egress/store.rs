//! The files of all peers, in memory.
//!
//! A change of a peer's files is applied as one, so that a playlist never lists what isn't there. Requests for what is
//! about to come wait here: each playlist has a channel that wakes them, and an update is rendered once for all.

pub(super) mod growing;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::archive::Shelf;
use super::demand::Demand;
use super::file::{CUES_TYPE, PICTURE_TYPE};
use super::muxed::{Limits, Maker, Muxed};
use super::numbers::{MEDIA_CACHE_CONTROL, Numbers};
use super::stored::StoredFile;
use super::thumbnails::Portrait;
use super::{HlsFile, MANIFEST_TYPE, PLAYLIST_TYPE};
use crate::ids::PeerId;
use crate::media::playlist::{Directives, Position, Text, Wait};
use crate::media::presentation::muxed::{Scheme, What};
use crate::media::presentation::{FileKind, Listing, OpenSegment, Update, owners};
use crate::media::segmenter::{Rendition, TARGET_DURATION_SECS, VideoUnit};
use growing::GrowingFile;

/// The most requests of all peers together that wait for what is about to come; further ones are told to try again.
const MAX_WAITING: usize = 50_000;
/// The longest that a request waits: three target durations, as RFC 8216bis section 6.2.5.2 suggests.
const MAX_WAIT: Duration = Duration::from_secs(3 * TARGET_DURATION_SECS);

/// Why a file can't be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// There is none of this name.
    #[error("no such file")]
    NotFound,
    /// The playlist will not be as far for long.
    #[error("the playlist is far from that segment or part")]
    TooFar,
    /// What was waited for did not come, or too many wait already.
    #[error("what is asked for is not there in time")]
    Unavailable,
    /// There is no MPEG-TS of what is encrypted by sample.
    #[error("what is encrypted by sample is not offered as MPEG-TS")]
    NotOffered,
}

/// What a name stands for, wherever it is.
#[derive(Debug, Clone)]
pub enum Fetched {
    /// It is in memory.
    InMemory(HlsFile),
    /// It left memory.
    OnDisk(StoredFile),
    /// It is being made.
    Growing(GrowingFile),
}

/// A text that is put together when somebody asks for it, once for all.
#[derive(Debug)]
struct Lazy {
    text: Text,
    file: OnceLock<HlsFile>,
}

impl Lazy {
    fn new(text: Text) -> Self {
        Self { text, file: OnceLock::new() }
    }

    fn get(&self) -> HlsFile {
        let (content_type, cache_control) = headers(FileKind::Master);
        let make = || HlsFile::new(content_type, cache_control, self.text.join());
        self.file.get_or_init(make).clone()
    }
}

/// A playlist as it is served.
#[derive(Debug)]
pub(super) struct Served {
    full: Lazy,
    delta: Lazy,
    plain: HlsFile,
    position: Position,
    hint: Option<String>,
    open: Option<OpenSegment>,
    ended: bool,
}

#[derive(Debug)]
struct Stored {
    file: HlsFile,
    kind: FileKind,
}

impl Stored {
    fn is_part(&self) -> bool {
        matches!(self.kind, FileKind::Part(_))
    }
}

#[derive(Debug, Default)]
struct Contents {
    files: HashMap<String, Stored>,
    playlists: HashMap<String, watch::Sender<Arc<Served>>>,
}

/// What a name stands for.
pub(super) enum Found {
    File(HlsFile),
    /// The newest picture.
    Picture(Arc<Portrait>),
    Stored(StoredFile),
    Playlist(watch::Receiver<Arc<Served>>),
    /// The segment that the playlist's next parts belong to.
    Growing(Rendition, watch::Receiver<Arc<Served>>),
    /// The next part of the playlist.
    Next(watch::Receiver<Arc<Served>>),
}

/// One peer's files.
#[derive(Debug)]
pub(super) struct PeerFiles {
    contents: RwLock<Contents>,
    part_target: Duration,
    /// What left memory, with DVR.
    pub(super) shelf: Option<Arc<Shelf>>,
    /// Who asks, if the stream is made on demand.
    pub(super) demand: Option<Demand>,
    /// What is made of the files when somebody asks.
    pub(super) muxed: Muxed,
    /// The newest picture, with the name that it has.
    portrait: Option<(String, Arc<Portrait>)>,
    playable: AtomicBool,
    /// The number of the next segment, for a peer that comes back.
    next_sequence: AtomicU64,
    /// Something changed: for the copy on disk.
    pub(super) changed: Notify,
}

impl PeerFiles {
    /// No files yet, of a peer whose parts are `part_target` long.
    pub(super) fn new(part_target: Duration, shelf: Option<Arc<Shelf>>, demand: Option<Demand>) -> Self {
        Self {
            contents: RwLock::default(),
            part_target,
            shelf,
            demand,
            muxed: Muxed::default(),
            portrait: None,
            playable: AtomicBool::new(false),
            next_sequence: AtomicU64::new(0),
            changed: Notify::new(),
        }
    }

    /// The same with a picture, `name`.
    pub(super) fn with_portrait(self, name: String, portrait: Portrait) -> Self {
        Self { portrait: Some((name, Arc::new(portrait))), ..self }
    }

    /// Takes a key frame that the newest picture may be made of.
    pub(super) fn show(&self, key_frame: &VideoUnit) {
        self.portrait.iter().for_each(|(_, portrait)| portrait.show(key_frame));
    }

    pub(super) fn apply(&self, update: Update) {
        let has_master = update.files.iter().any(|file| file.kind == FileKind::Master);
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        for file in update.files {
            let (content_type, cache_control) = headers(file.kind);
            let served = HlsFile::new(content_type, cache_control, file.body);
            if let (FileKind::Media(_), Some(shelf)) = (file.kind, &self.shelf) {
                shelf.store(&file.name, &served);
            }
            contents.files.insert(file.name, Stored { file: served, kind: file.kind });
        }
        for name in update.aged {
            contents.files.remove(&name);
        }
        for name in update.gone {
            contents.files.remove(&name);
            self.shelf.iter().for_each(|shelf| shelf.remove(&name));
        }
        for listing in update.listings {
            contents.list(listing);
        }
        drop(contents);
        if let Some(change) = update.wholes {
            self.muxed.apply(change);
        }
        self.changed.notify_one();
        self.demand.iter().filter(|_| has_master).for_each(Demand::set_made);
    }

    /// Nothing is left, and nothing will come.
    pub(super) fn clear(&self) {
        self.set_playable(false);
        self.empty();
        self.shelf.iter().for_each(|shelf| shelf.end());
        self.demand.iter().for_each(Demand::end);
    }

    /// Nothing is there until more comes.
    pub(super) fn empty(&self) {
        self.muxed.clear();
        self.portrait.iter().for_each(|(_, portrait)| portrait.clear());
        *self.contents.write().unwrap_or_else(PoisonError::into_inner) = Contents::default();
        self.changed.notify_one();
    }

    /// Whether nothing is made, since nobody asks.
    pub(super) fn is_asleep(&self) -> bool {
        self.demand.as_ref().is_some_and(Demand::is_asleep)
    }

    fn contents(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn find(&self, name: &str) -> Option<Found> {
        let found = self.contents().find(name).or_else(|| self.picture(name).map(Found::Picture));
        found.or_else(|| self.shelf.as_ref()?.get(name).map(Found::Stored))
    }

    fn has(&self, name: &str) -> bool {
        let is_about_to_come =
            || self.demand.as_ref().is_some_and(|demand| is_index(name) && !demand.is_made());
        self.contents().find(name).is_some()
            || self.picture(name).is_some()
            || self.shelf.as_ref().is_some_and(|shelf| shelf.has(name))
            || is_about_to_come()
    }

    fn picture(&self, name: &str) -> Option<Arc<Portrait>> {
        let named = self.portrait.as_ref().filter(|(own, portrait)| own == name && portrait.exists());
        named.map(|(_, portrait)| Arc::clone(portrait))
    }

    /// The file as it is at this moment, if it is in memory.
    pub(super) fn get(&self, name: &str) -> Option<HlsFile> {
        match self.contents().find(name)? {
            Found::File(file) => Some(file),
            Found::Playlist(playlist) => Some(playlist.borrow().full.get()),
            Found::Next(_) | Found::Growing(..) | Found::Stored(_) | Found::Picture(_) => None,
        }
    }

    /// Notes that a file is asked for. If it is a playlist of a stream that nobody asked for before, that begins, and is
    /// waited for until there is something of all its renditions: players read the master playlist once.
    async fn ask(&self, is_index: bool, waiting: &Waiting) -> Result<(), FetchError> {
        let Some(demand) = &self.demand else { return Ok(()) };
        demand.note(Instant::now());
        if !is_index || !demand.wake() {
            return Ok(());
        }
        waiting.within(demand.made()).await
    }

    /// The file as it is asked for; waits for what is about to come.
    async fn fetch(
        self: Arc<Self>,
        name: &str,
        directives: Directives,
        waiting: &Arc<Waiting>,
    ) -> Result<Fetched, FetchError> {
        self.ask(is_index(name), waiting).await?;
        let file = match self.find(name).ok_or(FetchError::NotFound)? {
            Found::File(file) => file,
            Found::Picture(portrait) => portrait.get().await.ok_or(FetchError::NotFound)?,
            Found::Stored(file) => return Ok(Fetched::OnDisk(file)),
            Found::Growing(rendition, playlist) => {
                let file = GrowingFile::new(name, self, (rendition, playlist), Arc::clone(waiting));
                return Ok(Fetched::Growing(file));
            }
            Found::Playlist(mut playlist) => {
                let now = playlist.borrow().wait(directives, self.part_target);
                let served = match now {
                    Wait::TooFar => return Err(FetchError::TooFar),
                    Wait::No => Arc::clone(&playlist.borrow()),
                    Wait::Yes => {
                        let there = |served: &Served| served.wait(directives, self.part_target) != Wait::Yes;
                        wait_for(&mut playlist, waiting, there).await?
                    }
                };
                served.answer(directives)
            }
            Found::Next(mut playlist) => {
                wait_for(&mut playlist, waiting, |served| served.hint.as_deref() != Some(name)).await?;
                self.get(name).ok_or(FetchError::NotFound)?
            }
        };
        Ok(Fetched::InMemory(file))
    }

    /// What a copy elsewhere consists of: plain playlists, no parts and no keys.
    pub(super) fn snapshot(&self) -> HashMap<String, HlsFile> {
        let contents = self.contents();
        let files = contents.files.iter();
        let without = [FileKind::Key, FileKind::LowLatencyManifest];
        let files = files.filter(|(_, stored)| !stored.is_part() && !without.contains(&stored.kind));
        let files = files.map(|(name, stored)| (name.clone(), stored.file.clone()));
        let plain = |(name, playlist): (&String, &watch::Sender<Arc<Served>>)| {
            (name.clone(), playlist.borrow().plain.clone())
        };
        files.chain(contents.playlists.iter().map(plain)).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        let contents = self.contents();
        contents.files.is_empty() && contents.playlists.is_empty()
    }

    /// How many files there are, and how many bytes they hold. Parts are pieces of their segments and not counted.
    pub(super) fn size(&self) -> (usize, usize) {
        let contents = self.contents();
        let files =
            contents.files.values().filter(|stored| !stored.is_part()).map(|stored| stored.file.body.len());
        let playlists = contents.playlists.values().map(|playlist| playlist.borrow().full.text.len());
        files.chain(playlists).fold(self.muxed.size(), |(count, bytes), size| (count + 1, bytes + size))
    }

    pub(super) fn playable(&self) -> bool {
        self.playable.load(Ordering::Relaxed)
    }

    pub(super) fn set_playable(&self, playable: bool) {
        self.playable.store(playable, Ordering::Relaxed);
    }

    pub(super) fn next_sequence(&self) -> u64 {
        self.next_sequence.load(Ordering::Relaxed)
    }

    pub(super) fn set_next_sequence(&self, sequence: u64) {
        self.next_sequence.store(sequence, Ordering::Relaxed);
    }
}

impl Contents {
    fn list(&mut self, listing: Listing) {
        let Listing { name, full, delta, plain, position, hint, open, ended } = listing;
        let before = self.playlists.get(&name);
        // The same bytes in the same place tell the copy on disk that nothing changed.
        let unchanged = before.map(|before| before.borrow().plain.body.clone()).filter(|body| *body == plain);
        let plain = Lazy::new(unchanged.unwrap_or(plain).into()).get();
        let (full, delta) = (Lazy::new(full), Lazy::new(delta));
        let served = Arc::new(Served { full, delta, plain, position, hint, open, ended });
        match before {
            Some(playlist) => drop(playlist.send_replace(served)),
            None => drop(self.playlists.insert(name, watch::Sender::new(served))),
        }
    }

    fn find(&self, name: &str) -> Option<Found> {
        if let Some(stored) = self.files.get(name) {
            return Some(Found::File(stored.file.clone()));
        }
        if let Some(playlist) = self.playlists.get(name) {
            return Some(Found::Playlist(playlist.subscribe()));
        }
        let growing = self.playlists.values().find_map(|playlist| {
            let rendition = playlist.borrow().open_segment(name)?.rendition;
            Some(Found::Growing(rendition, playlist.subscribe()))
        });
        if growing.is_some() {
            return growing;
        }
        let hints = |playlist: &&watch::Sender<Arc<Served>>| playlist.borrow().hint.as_deref() == Some(name);
        self.playlists.values().find(hints).map(|playlist| Found::Next(playlist.subscribe()))
    }
}

impl Served {
    fn wait(&self, directives: Directives, part_target: Duration) -> Wait {
        match directives.until {
            _ if self.ended => Wait::No,
            Some(until) => self.position.wait(until, part_target),
            // Players take a playlist without a complete segment for a broken one.
            None if self.position.complete.is_none() => Wait::Yes,
            None => Wait::No,
        }
    }

    /// The segment that is being made, if this is its name.
    fn open_segment(&self, name: &str) -> Option<&OpenSegment> {
        self.open.as_ref().filter(|open| open.name == name)
    }

    fn answer(&self, directives: Directives) -> HlsFile {
        if directives.skip { self.delta.get() } else { self.full.get() }
    }
}

/// Waits for an update after which `enough` holds.
async fn wait_for(
    playlist: &mut watch::Receiver<Arc<Served>>,
    waiting: &Waiting,
    mut enough: impl FnMut(&Served) -> bool,
) -> Result<Arc<Served>, FetchError> {
    match waiting.within(playlist.wait_for(|served| enough(served))).await? {
        Ok(served) => Ok(Arc::clone(&served)),
        Err(_) => Err(FetchError::NotFound), // the peer's files are gone
    }
}

/// The requests that wait.
#[derive(Debug)]
pub(super) struct Waiting {
    count: AtomicUsize,
    /// The longest that one waits.
    patience: Duration,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { count: AtomicUsize::new(0), patience: MAX_WAIT }
    }
}

impl Waiting {
    /// What a request waits for, if that comes in time and not too many wait.
    pub(super) async fn within<T>(&self, what: impl Future<Output = T>) -> Result<T, FetchError> {
        let _place = Place::take(&self.count).ok_or(FetchError::Unavailable)?;
        tokio::time::timeout(self.patience, what).await.map_err(|_| FetchError::Unavailable)
    }
}

/// One of the requests that may wait.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a file of this name says what else there is: a playlist or a manifest.
fn is_index(name: &str) -> bool {
    name.ends_with(".m3u8") || name.ends_with(".mpd")
}

const fn headers(kind: FileKind) -> (&'static str, &'static str) {
    match kind {
        FileKind::Master => (PLAYLIST_TYPE, "public, max-age=1"),
        FileKind::Manifest => (MANIFEST_TYPE, "public, max-age=1"),
        // Players ask for it more often than once a second.
        FileKind::LowLatencyManifest => (MANIFEST_TYPE, "no-cache"),
        FileKind::Cues => (CUES_TYPE, "public, max-age=1"),
        FileKind::Sprite => (PICTURE_TYPE, MEDIA_CACHE_CONTROL),
        FileKind::Key => ("application/octet-stream", "no-store"),
        FileKind::Init(rendition) | FileKind::Media(rendition) | FileKind::Part(rendition) => {
            let content_type = match rendition {
                Rendition::Video(_) => "video/mp4",
                Rendition::Audio => "audio/mp4",
            };
            (content_type, MEDIA_CACHE_CONTROL)
        }
    }
}

/// All peers' files.
#[derive(Debug, Default)]
pub(super) struct Store {
    peers: RwLock<HashMap<PeerId, Arc<PeerFiles>>>,
    numbers: Mutex<Numbers>,
    waiting: Arc<Waiting>,
    limits: Limits,
}

impl Store {
    pub(super) fn insert(&self, peer: &PeerId, files: &Arc<PeerFiles>) {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        peers.insert(peer.clone(), Arc::clone(files));
    }

    /// Removes a peer's files, unless the peer came back with others.
    pub(super) fn remove(&self, peer: &PeerId, files: &Arc<PeerFiles>) {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        if peers.get(peer).is_some_and(|current| Arc::ptr_eq(current, files)) {
            peers.remove(peer);
            self.numbers().note(Instant::now(), peer, files.next_sequence());
        }
    }

    /// The number of the first segment of a peer that has no files.
    pub(super) fn first_sequence(&self, peer: &PeerId) -> u64 {
        self.numbers().first(Instant::now(), peer)
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peer that has, or will have, a file of this name.
    pub(super) fn owner_of(&self, name: &str) -> Option<PeerId> {
        self.owner(name).map(|(peer, _)| peer)
    }

    pub(super) fn file(&self, name: &str) -> Option<HlsFile> {
        self.owner(name)?.1.get(name)
    }

    pub(super) async fn fetch(&self, name: &str, directives: Directives) -> Result<Fetched, FetchError> {
        let (_, files) = self.owner(name).ok_or(FetchError::NotFound)?;
        files.fetch(name, directives, &self.waiting).await
    }

    /// Whether a peer has files.
    pub(super) fn has(&self, peer: &PeerId) -> bool {
        self.files_of(peer).is_some()
    }

    fn files_of(&self, peer: &PeerId) -> Option<Arc<PeerFiles>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).get(peer).cloned()
    }

    /// A muxed playlist or segment.
    pub(super) async fn fetch_muxed(
        &self,
        peer: &PeerId,
        scheme: Scheme,
        what: What<'_>,
    ) -> Result<HlsFile, FetchError> {
        let files = self.files_of(peer).ok_or(FetchError::NotFound)?;
        let (waiting, limits) = (&self.waiting, &self.limits);
        files.ask(matches!(what, What::Master | What::Playlist(_)), waiting).await?;
        Maker { peer: peer.as_str(), files: &files, waiting, limits }.fetch(scheme, what).await
    }

    /// The peer that has, or will have, a file of this name, with its files.
    fn owner(&self, name: &str) -> Option<(PeerId, Arc<PeerFiles>)> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        owners(name).filter_map(|owner| owner.parse::<PeerId>().ok()).find_map(|owner| {
            let files = peers.get(&owner).filter(|files| files.has(name))?;
            Some((owner, Arc::clone(files)))
        })
    }

    /// How many files all peers have, and how many bytes they hold.
    pub(super) fn size(&self) -> (usize, usize) {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        let add = |all: (usize, usize), one: (usize, usize)| (all.0 + one.0, all.1 + one.1);
        peers.values().map(|files| files.size()).fold((0, 0), add)
    }

    /// How many peers' streams sleep.
    pub(super) fn asleep(&self) -> usize {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.values().filter(|files| files.is_asleep()).count()
    }

    pub(super) fn playable(&self) -> Vec<PeerId> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.iter().filter(|(_, files)| files.playable()).map(|(peer, _)| peer.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
