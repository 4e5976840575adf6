//! The copy of a peer's files on disk.
//!
//! It follows what is in memory and is never waited for: when the disk is slow, it skips to the newest state, and when
//! files can't be written, that is told and tried again. A file appears under its name only when it is whole, and a
//! playlist only when what it lists is there.

mod folder;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::HlsFile;
use super::store::PeerFiles;
pub(super) use folder::{Folder, prepare};

/// How long after a file could not be written it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The longest that the end of a peer waits for a disk that does not answer.
const LAST_ROUND_WITHIN: Duration = Duration::from_secs(5);

/// Where files are kept.
pub(super) trait Disk: Send + Sync + 'static {
    /// Lets a file appear, or replaces it.
    fn write(&self, name: &str, body: Bytes) -> impl Future<Output = io::Result<()>> + Send;
    /// Removes a file.
    fn remove(&self, name: &str) -> impl Future<Output = io::Result<()>> + Send;
}

/// What happened to the files of all peers since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Files that were written.
    pub(super) written: AtomicU64,
    /// Attempts to write a file that failed.
    pub(super) failed: AtomicU64,
    /// How often the disk was so slow that segments were gone before it took them.
    pub(super) late: AtomicU64,
}

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// The disk holds what was in memory when it began.
    Complete,
    /// What was in memory is gone already.
    Stale,
    /// Something could not be written.
    Failed,
}

/// Keeps the copy of one peer's files.
#[derive(Debug)]
pub(super) struct Mirror<D> {
    disk: Arc<D>,
    files: Arc<PeerFiles>,
    counters: Arc<Counters>,
    last_round: watch::Receiver<bool>,
    retry_after: Duration,
    /// What is on the disk; of files that change, what they hold.
    written: HashMap<String, Option<Bytes>>,
    /// Files can't be written, which was told.
    failing: bool,
}

impl<D: Disk> Mirror<D> {
    /// Begins to follow a peer's files.
    pub(super) fn start(disk: Arc<D>, files: Arc<PeerFiles>, counters: Arc<Counters>) -> Running {
        let (last_round, asked) = watch::channel(false);
        let mirror = Self {
            disk,
            files,
            counters,
            last_round: asked,
            retry_after: RETRY_AFTER,
            written: HashMap::new(),
            failing: false,
        };
        Running { task: tokio::spawn(mirror.run()), last_round }
    }

    /// Follows the files until the last round is asked for.
    async fn run(mut self) {
        let mut round = Round::Complete;
        loop {
            let mut asked = self.last_round.clone();
            let last = tokio::select! {
                biased;
                _ = asked.wait_for(|asked| *asked) => true,
                () = self.due(round) => false,
            };
            round = self.follow().await;
            if last {
                return;
            }
        }
    }

    /// Waits until there is something to do after a round.
    async fn due(&self, before: Round) {
        match before {
            Round::Complete => self.files.changed.notified().await,
            Round::Stale => {}
            Round::Failed => tokio::time::sleep(self.retry_after).await,
        }
    }

    async fn follow(&mut self) -> Round {
        let (playlists, media): (Vec<_>, Vec<_>) =
            self.files.snapshot().into_iter().partition(|(name, _)| order(name) > 0);
        let names: HashSet<String> = media.iter().chain(&playlists).map(|(name, _)| name.clone()).collect();
        let round = self.write_all(media, playlists).await;
        let gone: Vec<String> = self.written.keys().filter(|name| !names.contains(*name)).cloned().collect();
        for name in gone {
            self.written.remove(&name);
            if let Err(reason) = self.disk.remove(&name).await {
                tracing::debug!(name, %reason, "HLS file not removed");
            }
        }
        if round == Round::Complete && std::mem::take(&mut self.failing) {
            tracing::info!("HLS files are written to disk again");
        }
        round
    }

    /// Writes what is new. What is lost of the media keeps the playlists from being written, which would list it.
    async fn write_all(
        &mut self,
        media: Vec<(String, HlsFile)>,
        mut playlists: Vec<(String, HlsFile)>,
    ) -> Round {
        let mut stale = false;
        for (name, file) in media {
            if self.written.contains_key(&name) {
                continue;
            }
            if self.files.get(&name).is_none() {
                stale = true;
            } else if self.write(&name, file.body).await {
                self.written.insert(name, None);
            } else {
                return Round::Failed;
            }
        }
        if stale {
            self.counters.late.fetch_add(1, Ordering::Relaxed);
            return Round::Stale;
        }
        playlists.sort_by_key(|(name, _)| order(name));
        for (name, HlsFile { body, .. }) in playlists {
            let same = |known: &Bytes| known.as_ptr() == body.as_ptr() && known.len() == body.len();
            if self.written.get(&name).and_then(Option::as_ref).is_some_and(same) {
                continue;
            }
            if !self.write(&name, body.clone()).await {
                return Round::Failed;
            }
            self.written.insert(name, Some(body));
        }
        Round::Complete
    }

    /// Writes a file and tells whether that worked.
    async fn write(&mut self, name: &str, body: Bytes) -> bool {
        let Err(reason) = self.disk.write(name, body).await else {
            self.counters.written.fetch_add(1, Ordering::Relaxed);
            return true;
        };
        self.counters.failed.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(name, %reason, "HLS files can't be written to disk; live playback goes on from memory");
        }
        false
    }
}

/// Which files are written before which: what a file names is to be there already. Those of 0 never change.
fn order(name: &str) -> u8 {
    match name.rsplit_once('.') {
        Some((stem, "m3u8")) => 1 + u8::from(!stem.contains("-video") && !stem.ends_with("-audio")),
        Some((_, "mpd" | "vtt")) => 2,
        _ => 0,
    }
}

/// A [`Mirror`] as it is seen from outside.
#[derive(Debug)]
pub(super) struct Running {
    task: JoinHandle<()>,
    last_round: watch::Sender<bool>,
}

impl Running {
    /// Lets it follow once more and stop. One whose disk does not answer is left behind.
    pub(super) async fn stop(mut self) {
        self.last_round.send_replace(true);
        match tokio::time::timeout(LAST_ROUND_WITHIN, &mut self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => tracing::error!(%reason, "the task that writes HLS files failed"),
            Err(_) => {
                self.task.abort();
                tracing::warn!(
                    "the disk does not take the last HLS files of a peer; they are left as they are"
                );
            }
        }
    }
}
