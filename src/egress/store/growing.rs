//! A segment that is sent while it is made, part by part.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::{FetchError, FileKind, PeerFiles, Place, Served, Waiting, headers};
use crate::media::segmenter::Rendition;

/// One segment, as one request gets it: it holds nothing but a place in it. Who reads so slowly that the segment is gone
/// before its end is told so.
#[derive(Debug, Clone)]
pub struct GrowingFile {
    /// The MIME type.
    pub content_type: &'static str,
    /// The `Cache-Control` header.
    pub cache_control: &'static str,
    name: String,
    files: Arc<PeerFiles>,
    playlist: watch::Receiver<Arc<Served>>,
    waiting: Arc<Waiting>,
    /// What was given out: parts, and bytes.
    parts: usize,
    bytes: usize,
}

/// What there is for a reader.
enum Found {
    Piece(Bytes),
    End,
    NotYet,
}

impl GrowingFile {
    pub(super) fn new(
        name: &str,
        files: Arc<PeerFiles>,
        (rendition, playlist): (Rendition, watch::Receiver<Arc<Served>>),
        waiting: Arc<Waiting>,
    ) -> Self {
        let (content_type, cache_control) = headers(FileKind::Media(rendition));
        let name = name.to_owned();
        Self { content_type, cache_control, name, files, playlist, waiting, parts: 0, bytes: 0 }
    }

    /// What follows, as soon as it is there; nothing behind the end. Cancel safe.
    ///
    /// # Errors
    /// Nothing came in time, too many wait, or the segment is gone.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            match self.find()? {
                Found::Piece(piece) => return Ok(Some(piece)),
                Found::End => return Ok(None),
                Found::NotYet => {}
            }
            let _place = Place::take(&self.waiting.count).ok_or(FetchError::Unavailable)?;
            match tokio::time::timeout(self.waiting.patience, self.playlist.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(FetchError::NotFound), // the peer's files are gone
                Err(_) => return Err(FetchError::Unavailable),
            }
        }
    }

    fn find(&mut self) -> Result<Found, FetchError> {
        // Files and playlists change as one.
        let contents = self.files.contents();
        if let Some(stored) = contents.files.get(&self.name) {
            let whole = &stored.file.body;
            let rest = whole.slice(self.bytes.min(whole.len())..);
            self.bytes = whole.len();
            return Ok(if rest.is_empty() { Found::End } else { Found::Piece(rest) });
        }
        let served = Arc::clone(&self.playlist.borrow_and_update());
        drop(contents);
        let open = served.open_segment(&self.name).ok_or(FetchError::NotFound)?;
        let Some(piece) = open.parts.get(self.parts) else { return Ok(Found::NotYet) };
        self.parts += 1;
        self.bytes += piece.len();
        Ok(Found::Piece(piece.clone()))
    }
}
