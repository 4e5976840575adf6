//! Segments on disk, for players that go back further than memory does.
//!
//! One task writes and removes for all peers: a slow disk is asked for one thing at a time, and nobody waits for it.
//! What it has not written when it leaves memory is lost to players that go back, and to nobody else. What is there
//! belongs to this run of the server alone.

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

use super::HlsFile;
use super::stored::StoredFile;

/// What may wait to be written or removed. More is not written (and lost to DVR), or not removed before its peer ends.
const MAX_JOBS: usize = 16_384;
/// How many files are read at a time, each on a thread that a disk may hold; more wait.
const MAX_READS: usize = 32;
/// How often the log tells that something is not written.
const TELL_EVERY: Duration = Duration::from_secs(600);

/// What the disk is to do.
#[derive(Debug)]
enum Job {
    Write(Weak<Shelf>, String),
    Remove(PathBuf),
    RemoveFolder(PathBuf),
}

/// What a peer is told of its segments.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// It is on disk.
    Stored(String),
    /// It is not, or has to make room.
    Lost(String),
}

/// The folder of all peers.
#[derive(Debug)]
pub(super) struct Archive {
    folder: PathBuf,
    /// The most bytes of all peers.
    limit: u64,
    jobs: mpsc::Sender<Job>,
    reads: Arc<Semaphore>,
    ledger: Mutex<Ledger>,
    shelves: AtomicUsize,
    lost: AtomicUsize,
}

/// What is on disk, in the order in which it came.
#[derive(Debug, Default)]
struct Ledger {
    files: BTreeMap<u64, Line>,
    next: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Line {
    shelf: Weak<Shelf>,
    name: String,
    bytes: u64,
}

/// How much is on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) files: usize,
    pub(super) bytes: u64,
    /// How many segments were not written in time since the start.
    pub(super) lost: usize,
}

impl Archive {
    /// Uses `folder` for up to `limit` bytes, and removes what an earlier run left there. A folder that can't be used is
    /// no reason not to start.
    pub(super) fn start(folder: PathBuf, limit: u64, runtime: &Handle) -> Arc<Self> {
        if let Err(reason) = remove_leftovers(&folder) {
            tracing::warn!(folder = %folder.display(), %reason, "the folder for DVR can't be used");
        }
        let (jobs, receiver) = mpsc::channel(MAX_JOBS);
        runtime.spawn(work(receiver));
        Arc::new(Self {
            folder,
            limit,
            jobs,
            reads: Arc::new(Semaphore::new(MAX_READS)),
            ledger: Mutex::default(),
            shelves: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
        })
    }

    /// A place for one peer's segments.
    pub(super) fn shelf(self: &Arc<Self>) -> Arc<Shelf> {
        let number = self.shelves.fetch_add(1, Ordering::Relaxed);
        let folder = self.folder.join(number.to_string());
        Arc::new(Shelf { archive: Arc::clone(self), folder, state: Mutex::default() })
    }

    pub(super) fn amount(&self) -> Amount {
        let ledger = self.ledger();
        Amount { files: ledger.files.len(), bytes: ledger.bytes, lost: self.lost.load(Ordering::Relaxed) }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a file, and gives back those that have to make room for it.
    fn count(&self, shelf: &Arc<Shelf>, name: &str, bytes: u64) -> (u64, Vec<Line>) {
        let mut ledger = self.ledger();
        let serial = ledger.next;
        ledger.next += 1;
        ledger.bytes += bytes;
        ledger.files.insert(serial, Line { shelf: Arc::downgrade(shelf), name: name.to_owned(), bytes });
        let mut oldest = Vec::new();
        while ledger.bytes > self.limit
            && let Some((_, line)) = ledger.files.pop_first()
        {
            ledger.bytes -= line.bytes;
            oldest.push(line);
        }
        (serial, oldest)
    }

    /// Counts a file no more; false if it was not counted.
    fn forget(&self, serial: u64) -> bool {
        let mut ledger = self.ledger();
        let line = ledger.files.remove(&serial);
        ledger.bytes -= line.as_ref().map_or(0, |line| line.bytes);
        line.is_some()
    }

    fn ask(&self, job: Job) {
        if let Err(refused) = self.jobs.try_send(job) {
            tracing::debug!(%refused, "the disk has too much to do");
        }
    }
}

/// One peer's segments on disk.
#[derive(Debug)]
pub(super) struct Shelf {
    archive: Arc<Archive>,
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What waits to be written; all of it is in memory for players as well.
    waiting: HashMap<String, HlsFile>,
    /// What is there, with its number in the ledger.
    files: HashMap<String, (u64, StoredFile)>,
    /// What the peer was not told yet: as much as there are files, at the most twice.
    notes: Vec<Note>,
    ended: bool,
}

impl Shelf {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a file written.
    pub(super) fn store(self: &Arc<Self>, name: &str, file: &HlsFile) {
        self.state().waiting.insert(name.to_owned(), file.clone());
        self.archive.ask(Job::Write(Arc::downgrade(self), name.to_owned()));
    }

    /// Has a file removed, and not written if it was not yet.
    pub(super) fn remove(&self, name: &str) {
        let removed = {
            let mut state = self.state();
            state.waiting.remove(name);
            state.files.remove(name)
        };
        if let Some((serial, _)) = removed {
            self.archive.forget(serial);
            self.archive.ask(Job::Remove(self.folder.join(name)));
        }
    }

    /// Has everything removed.
    pub(super) fn end(&self) {
        let files = {
            let mut state = self.state();
            state.ended = true;
            state.waiting.clear();
            std::mem::take(&mut state.files)
        };
        for (serial, _) in files.into_values() {
            self.archive.forget(serial);
        }
        self.archive.ask(Job::RemoveFolder(self.folder.clone()));
    }

    pub(super) fn get(&self, name: &str) -> Option<StoredFile> {
        self.state().files.get(name).map(|(_, file)| file.clone())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.state().files.contains_key(name)
    }

    /// What happened since the last call.
    pub(super) fn take_notes(&self) -> Vec<Note> {
        std::mem::take(&mut self.state().notes)
    }

    /// Counts segments that were not written in time.
    pub(super) fn count_lost(&self, segments: usize) {
        self.archive.lost.fetch_add(segments, Ordering::Relaxed);
    }

    fn note(&self, note: Note) {
        self.state().notes.push(note);
    }

    /// Tells that a file is not there, whoever removed it.
    pub(super) fn missing(&self, name: &str) {
        let serial = self.state().files.get(name).map(|(serial, _)| *serial);
        if serial.is_some_and(|serial| self.archive.forget(serial)) {
            self.note(Note::Lost(name.to_owned()));
        }
    }

    /// Writes a file that waits for it, and says why it could not.
    async fn write(self: Arc<Self>, name: String) -> std::io::Result<()> {
        let Some(file) = self.state().waiting.remove(&name) else { return Ok(()) };
        let (folder, path, body) = (self.folder.clone(), self.folder.join(&name), file.body.clone());
        let write = move || {
            std::fs::create_dir_all(folder)?;
            std::fs::write(&path, body).inspect_err(|_| drop(std::fs::remove_file(&path)))
        };
        tokio::task::spawn_blocking(write).await.map_err(std::io::Error::other)??;
        let path: Arc<Path> = self.folder.join(&name).into();
        if self.state().ended {
            self.archive.ask(Job::RemoveFolder(self.folder.clone()));
            return Ok(());
        }
        let stored = StoredFile::new(&file, path, Arc::clone(&self.archive.reads), Arc::downgrade(&self));
        let bytes = u64::try_from(file.body.len()).unwrap_or(u64::MAX);
        let (serial, oldest) = self.archive.count(&self, &name, bytes);
        {
            let mut state = self.state();
            state.files.insert(name.clone(), (serial, stored));
            state.notes.push(Note::Stored(name));
        }
        for Line { shelf, name, .. } in oldest {
            if let Some(shelf) = shelf.upgrade() {
                shelf.note(Note::Lost(name));
            }
        }
        Ok(())
    }
}

/// Does what the disk is asked for.
async fn work(mut jobs: mpsc::Receiver<Job>) {
    let mut told: Option<Instant> = None;
    while let Some(job) = jobs.recv().await {
        let done = match job {
            Job::Write(shelf, name) => match shelf.upgrade() {
                Some(shelf) => shelf.write(name).await,
                None => Ok(()),
            },
            Job::Remove(path) => gone(tokio::fs::remove_file(path).await),
            Job::RemoveFolder(path) => gone(tokio::fs::remove_dir_all(path).await),
        };
        if let Err(reason) = done
            && told.is_none_or(|told| told.elapsed() > TELL_EVERY)
        {
            told = Some(Instant::now());
            tracing::warn!(%reason, "the disk for DVR fails: players can't go back as far");
        }
    }
}

/// What is not there needs no removal.
fn gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    removed.or_else(|reason| if reason.kind() == ErrorKind::NotFound { Ok(()) } else { Err(reason) })
}

/// Makes the folder and removes the shelves of an earlier run.
fn remove_leftovers(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let number = entry.file_name().to_str().is_some_and(|name| name.parse::<usize>().is_ok());
        // A link is none of ours.
        if number && entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// What a piece of a file is read into.
pub(super) fn read_piece(path: &Path, begin: u64, length: usize) -> std::io::Result<Bytes> {
    use std::os::unix::fs::FileExt;
    let mut piece = vec![0; length];
    std::fs::File::open(path)?.read_exact_at(&mut piece, begin)?;
    Ok(piece.into())
}

#[cfg(test)]
mod tests;
