//! Muxed playlists and segments, made of a peer's files when somebody asks for them.
//!
//! A segment is muxed once for all who ask, on a thread for that, and stays as long as what it is made of is in memory.
//! One whose sources are on disk is read and muxed for each request, a few at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, watch};

use super::file::{HlsFile, PLAYLIST_TYPE};
use super::store::{FetchError, Found, PeerFiles, Waiting};
use crate::media::presentation::muxed::{Change, Choice, Scheme, What, Whole, Wholes};
use crate::media::segmenter::Rendition;

/// The MIME type of segments (RFC 8216 section 3.2).
const SEGMENT_TYPE: &str = "video/mp2t";
/// As long as other media ([`super::numbers`]), but not immutable: a segment gets sound when that is told late.
const SEGMENT_CACHE: &str = "public, max-age=60";
/// How many segments are muxed at a time, each on a thread.
const MAX_AT_A_TIME: usize = 4;
/// The most segments made of what is on disk that are held until slow clients took them; more wait.
const MAX_FROM_DISK: usize = 64;

/// What a text is: the master playlist, or the one of a rendition. So there are a few of each scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct TextKey(Scheme, Option<Choice>);

type Cell = Arc<OnceCell<HlsFile>>;

/// One peer's muxed files.
#[derive(Debug)]
pub(super) struct Muxed {
    wholes: watch::Sender<Wholes>,
    made: Mutex<Made>,
}

impl Default for Muxed {
    fn default() -> Self {
        Self { wholes: watch::Sender::new(Wholes::default()), made: Mutex::default() }
    }
}

#[derive(Debug, Default)]
struct Made {
    texts: HashMap<TextKey, HlsFile>,
    segments: HashMap<(u64, Rendition), Cell>,
}

/// How much is made at a time, for all peers.
#[derive(Debug)]
pub(super) struct Limits {
    threads: Arc<Semaphore>,
    from_disk: Arc<Semaphore>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            threads: Arc::new(Semaphore::new(MAX_AT_A_TIME)),
            from_disk: Arc::new(Semaphore::new(MAX_FROM_DISK)),
        }
    }
}

impl Muxed {
    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what changed, and drops what was made of what isn't there any more.
    pub(super) fn apply(&self, change: Change) {
        let changed: Vec<u64> = change.segments.iter().map(Whole::sequence).collect();
        let in_memory_from = change.in_memory_from;
        self.wholes.send_modify(|wholes| wholes.apply(change));
        let mut made = self.made();
        made.texts.clear();
        made.segments.retain(|(sequence, _), _| *sequence >= in_memory_from && !changed.contains(sequence));
    }

    pub(super) fn clear(&self) {
        self.wholes.send_replace(Wholes::default());
        *self.made() = Made::default();
    }

    /// How many segments are kept, and how many bytes they hold.
    pub(super) fn size(&self) -> (usize, usize) {
        let made = self.made();
        let segments = made.segments.values().filter_map(|cell| cell.get());
        segments.fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.body.len()))
    }

    fn text(&self, peer: &str, scheme: Scheme, choice: Option<Choice>, with_past: bool) -> Option<HlsFile> {
        // A change waits for this, so that it finds the text it has to drop.
        let wholes = self.wholes.borrow();
        let choice = match choice {
            Some(choice) => Some(wholes.listed_rendition(choice)?),
            None => None,
        };
        let key = TextKey(scheme, choice);
        if let Some(text) = self.made().texts.get(&key) {
            return Some(text.clone());
        }
        let text = match choice {
            Some(choice) => wholes.playlist(peer, scheme, choice, with_past),
            None => wholes.master(peer, scheme),
        };
        let cache_control = if scheme.is_event() { "no-cache" } else { "public, max-age=1" };
        let file = HlsFile::new(PLAYLIST_TYPE, cache_control, text?.into());
        self.made().texts.insert(key, file.clone());
        Some(file)
    }
}

/// One peer's files with what is made of them.
pub(super) struct Maker<'a> {
    pub(super) peer: &'a str,
    pub(super) files: &'a PeerFiles,
    pub(super) waiting: &'a Waiting,
    pub(super) limits: &'a Limits,
}

impl Maker<'_> {
    /// The file that is asked for; a playlist is waited for until it has a segment.
    pub(super) async fn fetch(&self, scheme: Scheme, what: What<'_>) -> Result<HlsFile, FetchError> {
        let choice = match what {
            What::Master => None,
            What::Playlist(choice) => Some(choice),
            What::Segment(choice, sequence) => return self.segment(choice, sequence).await,
            What::Key(name) => return self.files.get(name).ok_or(FetchError::NotFound),
        };
        let mut wholes = self.files.muxed.wholes.subscribe();
        if wholes.borrow().is_empty() {
            let begun = self.waiting.within(wholes.wait_for(|wholes| !wholes.is_empty())).await?;
            begun.map_err(|_| FetchError::NotFound)?;
        }
        let with_past = self.files.shelf.is_some();
        self.files.muxed.text(self.peer, scheme, choice, with_past).ok_or(FetchError::NotFound)
    }

    async fn segment(&self, choice: Choice, sequence: u64) -> Result<HlsFile, FetchError> {
        let (whole, rendition, cell) = {
            // A change waits for this, so that it finds the segment it has to drop.
            let wholes = self.files.muxed.wholes.borrow();
            let whole = wholes.get(sequence).ok_or(FetchError::NotFound)?;
            let rendition = whole.rendition(choice).ok_or(FetchError::NotFound)?;
            let place =
                || Arc::clone(self.files.muxed.made().segments.entry((sequence, rendition)).or_default());
            (whole.clone(), rendition, wholes.is_in_memory(sequence).then(place))
        };
        let Some(cell) = cell else {
            let permit = Arc::clone(&self.limits.from_disk).acquire_owned();
            let permit = self.waiting.within(permit).await?.map_err(|_| FetchError::Unavailable)?;
            let HlsFile { body, .. } = self.make(whole, rendition).await?;
            return Ok(segment_file(Bytes::from_owner(Held { body, _permit: permit })));
        };
        let made = cell.get_or_try_init(|| self.make(whole, rendition)).await;
        made.cloned()
    }

    async fn make(&self, whole: Whole, rendition: Rendition) -> Result<HlsFile, FetchError> {
        let (own, sound) = whole.sources(rendition);
        let own = self.read(own.ok_or(FetchError::NotFound)?).await?;
        let sound = match sound {
            Some(name) => Some(self.read(name).await?),
            None => None,
        };
        let permit = Arc::clone(&self.limits.threads).acquire_owned();
        let permit = self.waiting.within(permit).await?.map_err(|_| FetchError::Unavailable)?;
        let mux = move || {
            let made = whole.mux(rendition, &own, sound.as_ref());
            drop(permit);
            made
        };
        match tokio::task::spawn_blocking(mux).await {
            Ok(Ok(body)) => Ok(segment_file(body)),
            Ok(Err(reason)) => {
                tracing::warn!(peer = self.peer, %reason, "a segment can't be muxed");
                Err(FetchError::Unavailable)
            }
            Err(_) => Err(FetchError::Unavailable),
        }
    }

    /// All of a file, wherever it is.
    async fn read(&self, name: &str) -> Result<Bytes, FetchError> {
        let file = match self.files.find(name).ok_or(FetchError::NotFound)? {
            Found::File(file) => return Ok(file.body),
            Found::Stored(file) => file,
            Found::Playlist(_) | Found::Next(_) | Found::Growing(..) | Found::Picture(_) => {
                return Err(FetchError::NotFound);
            }
        };
        let mut body = BytesMut::with_capacity(file.length);
        while body.len() < file.length {
            let piece = file.read(body.len()..file.length).await.map_err(|_| FetchError::Unavailable)?;
            if piece.is_empty() {
                return Err(FetchError::Unavailable);
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    }
}

/// Bytes that count as long as somebody reads them.
struct Held {
    body: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

fn segment_file(body: Bytes) -> HlsFile {
    HlsFile::new(SEGMENT_TYPE, SEGMENT_CACHE, body)
}
