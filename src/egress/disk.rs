//! The copy of a peer's files on disk.
//!
//! It follows what is in memory and is never waited for: when the disk is slow, it skips to the newest state. A file
//! appears under its name only when it is whole.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::store::PeerFiles;

/// What unfinished files end with.
const UNFINISHED: &str = ".part";

/// Keeps the copy of one peer's files.
#[derive(Debug)]
pub(super) struct Mirror {
    folder: PathBuf,
    files: Arc<PeerFiles>,
    last_round: Arc<AtomicBool>,
    written: HashMap<String, Bytes>,
}

impl Mirror {
    pub(super) fn new(folder: PathBuf, files: Arc<PeerFiles>) -> (Self, LastRound) {
        let last_round = Arc::new(AtomicBool::new(false));
        let flag = LastRound { flag: Arc::clone(&last_round), files: Arc::clone(&files) };
        (Self { folder, files, last_round, written: HashMap::new() }, flag)
    }

    /// Follows the files until the last round is asked for.
    pub(super) async fn run(mut self) {
        loop {
            self.files.changed.notified().await;
            let last = self.last_round.load(Ordering::Acquire);
            self.follow().await;
            if last {
                return;
            }
        }
    }

    async fn follow(&mut self) {
        let current = self.files.snapshot();
        let mut names: Vec<&String> = current.keys().collect();
        // Media first, master playlists last: what a file on disk names is there already.
        names.sort_by_key(|name| match name.rsplit_once('.') {
            Some((stem, "m3u8")) => 1 + u8::from(!stem.contains("-video") && !stem.ends_with("-audio")),
            Some((_, "mpd")) => 2,
            _ => 0,
        });
        for name in names {
            let Some(file) = current.get(name) else { continue };
            let same =
                |written: &Bytes| written.as_ptr() == file.body.as_ptr() && written.len() == file.body.len();
            if self.written.get(name).is_some_and(same) {
                continue;
            }
            match write_whole(&self.folder, name, &file.body).await {
                Ok(()) => drop(self.written.insert(name.clone(), file.body.clone())),
                Err(reason) => tracing::warn!(name, %reason, "HLS file not written"),
            }
        }
        let gone: HashSet<String> =
            self.written.keys().filter(|name| !current.contains_key(*name)).cloned().collect();
        for name in gone {
            self.written.remove(&name);
            if let Err(reason) = tokio::fs::remove_file(self.folder.join(&name)).await {
                tracing::warn!(name, %reason, "HLS file not removed");
            }
        }
    }
}

/// Asks a [`Mirror`] to follow once more and to stop.
#[derive(Debug)]
pub(super) struct LastRound {
    flag: Arc<AtomicBool>,
    files: Arc<PeerFiles>,
}

impl LastRound {
    pub(super) fn ask(&self) {
        self.flag.store(true, Ordering::Release);
        self.files.changed.notify_one();
    }
}

async fn write_whole(folder: &Path, name: &str, body: &Bytes) -> std::io::Result<()> {
    let unfinished = folder.join(format!("{name}{UNFINISHED}"));
    tokio::fs::write(&unfinished, body).await?;
    tokio::fs::rename(&unfinished, folder.join(name)).await
}

/// Makes the folder and removes what an earlier run left in it.
pub(super) fn prepare(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let ours = path.extension().and_then(|extension| extension.to_str());
        if matches!(ours, Some("m3u8" | "mpd" | "m4s" | "mp4" | "part")) && path.is_file() {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
