//! The folder of all peers' files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::Disk;

/// What unfinished files end with.
const UNFINISHED: &str = ".part";
/// The most threads that wait for the disk at a time: a disk that hangs takes no more of them from others.
const MAX_WRITERS: usize = 8;

/// A folder of the local file system.
#[derive(Debug)]
pub(in crate::egress) struct Folder {
    path: PathBuf,
    writers: Arc<Semaphore>,
}

impl Folder {
    pub(in crate::egress) fn new(path: PathBuf) -> Self {
        Self { path, writers: Arc::new(Semaphore::new(MAX_WRITERS)) }
    }

    /// Runs `work` on a thread that may wait for the disk, even when nobody waits for the answer any more.
    async fn run(&self, work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
        let turn = Arc::clone(&self.writers).acquire_owned().await.map_err(io::Error::other)?;
        let work = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        work.await.map_err(io::Error::other)?
    }
}

impl Disk for Folder {
    async fn write(&self, name: &str, body: Bytes) -> io::Result<()> {
        let (unfinished, whole) = (self.path.join(format!("{name}{UNFINISHED}")), self.path.join(name));
        self.run(move || {
            let written =
                std::fs::write(&unfinished, &body).and_then(|()| std::fs::rename(&unfinished, &whole));
            if written.is_err()
                && let Err(reason) = std::fs::remove_file(&unfinished)
            {
                tracing::debug!(?unfinished, %reason, "an unfinished file stays behind");
            }
            written
        })
        .await
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path.join(name);
        self.run(move || std::fs::remove_file(path)).await
    }
}

/// Makes the folder and removes what an earlier run left in it.
pub(in crate::egress) fn prepare(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let ours = path.extension().and_then(|extension| extension.to_str());
        if matches!(ours, Some("m3u8" | "mpd" | "m4s" | "mp4" | "part" | "jpg" | "vtt")) && path.is_file() {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
