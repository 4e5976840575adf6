//! A file that is on disk, as it is served: in pieces, so that nobody's slow reading holds the whole of it in memory.

use std::io::{Error, ErrorKind};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::HlsFile;
use super::archive::{Shelf, read_piece};

/// How much is read at a time, in bytes.
const PIECE: usize = 256 * 1024;
/// How long a disk may take for a piece.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// One file of a peer's HLS that left memory.
#[derive(Debug, Clone)]
pub struct StoredFile {
    /// The MIME type.
    pub content_type: &'static str,
    /// The `Cache-Control` header.
    pub cache_control: &'static str,
    /// The entity tag: the same as when it was in memory.
    pub tag: Bytes,
    /// How long it is, in bytes.
    pub length: usize,
    path: Arc<Path>,
    reads: Arc<Semaphore>,
    shelf: Weak<Shelf>,
}

impl StoredFile {
    /// What was written to `path`; `reads` limits how many read at a time.
    pub(super) fn new(file: &HlsFile, path: Arc<Path>, reads: Arc<Semaphore>, shelf: Weak<Shelf>) -> Self {
        Self {
            content_type: file.content_type,
            cache_control: file.cache_control,
            tag: file.plain().tag,
            length: file.body.len(),
            path,
            reads,
            shelf,
        }
    }

    /// The beginning of a range of bytes: all of it, if it is no longer than a piece. Nothing for an empty range.
    ///
    /// # Errors
    /// The disk failed or took too long, or the range is not within the file.
    pub async fn read(&self, range: Range<usize>) -> std::io::Result<Bytes> {
        let length = range.len().min(PIECE);
        let begin = u64::try_from(range.start).map_err(Error::other)?;
        let path = Arc::clone(&self.path);
        let read = async {
            let permit = Arc::clone(&self.reads).acquire_owned().await.map_err(Error::other)?;
            // The thread keeps its place until the disk lets it go, whether somebody still waits or not.
            let read = move || {
                let piece = read_piece(&path, begin, length);
                drop(permit);
                piece
            };
            tokio::task::spawn_blocking(read).await.map_err(Error::other)?
        };
        let piece = tokio::time::timeout(READ_WITHIN, read).await.unwrap_or_else(|late| Err(late.into()));
        if let Err(reason) = &piece
            && reason.kind() == ErrorKind::NotFound
            && let (Some(shelf), Some(name)) = (self.shelf.upgrade(), self.path.file_name())
        {
            shelf.missing(&name.to_string_lossy());
        }
        piece
    }
}

#[cfg(test)]
impl StoredFile {
    /// The file, written to `path`.
    pub(crate) fn written(file: &HlsFile, path: &Path) -> Self {
        std::fs::write(path, &file.body).unwrap();
        Self::new(file, path.into(), Arc::new(Semaphore::new(1)), Weak::new())
    }
}
