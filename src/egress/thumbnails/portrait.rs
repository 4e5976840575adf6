//! A peer's newest picture. Nothing is decoded that nobody asks for: the newest key frame is kept until then.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use super::picture::{jpeg_of, scaled};
use super::{MADE_WITHIN, Thumbnails};
use crate::egress::HlsFile;
use crate::egress::file::PICTURE_TYPE;
use crate::media::segmenter::VideoUnit;

/// The longer side of the picture, in pixels.
const LONGER_SIDE: u32 = 320;
/// What caches may do with it.
const CACHE: &str = "public, max-age=1";

/// One peer's picture.
#[derive(Debug)]
pub(in crate::egress) struct Portrait {
    thumbnails: Thumbnails,
    /// The least time between two pictures.
    pause: Duration,
    next: Mutex<Next>,
    /// The newest picture; told of anew when an attempt is over.
    made: watch::Sender<Option<HlsFile>>,
}

/// The picture that is to be made.
#[derive(Debug, Default)]
struct Next {
    /// What it is made of; none if that was done.
    key_frame: Option<VideoUnit>,
    /// When the one before was begun.
    begun: Option<Instant>,
    under_way: bool,
    /// Nothing is to be shown any more.
    over: bool,
}

/// An attempt to make a picture: however it ends, nobody waits for it any longer.
struct Attempt(Arc<Portrait>);

impl Drop for Attempt {
    fn drop(&mut self) {
        self.0.next.lock().unwrap_or_else(PoisonError::into_inner).under_way = false;
        self.0.made.send_modify(|_| ());
    }
}

impl Portrait {
    /// Nothing to show yet.
    pub(in crate::egress) fn new(thumbnails: Thumbnails, pause: Duration) -> Self {
        Self { thumbnails, pause, next: Mutex::default(), made: watch::Sender::new(None) }
    }

    /// Takes a key frame that a picture may be made of.
    pub(in crate::egress) fn show(&self, key_frame: &VideoUnit) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if !next.over {
            next.key_frame = Some(key_frame.clone());
        }
    }

    /// Whether there is a picture, or one can be made.
    pub(in crate::egress) fn exists(&self) -> bool {
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        next.key_frame.is_some() || next.under_way || self.newest().is_some()
    }

    /// The newest picture that was made.
    pub(in crate::egress) fn newest(&self) -> Option<HlsFile> {
        self.made.borrow().clone()
    }

    /// Shows nothing any more.
    pub(in crate::egress) fn clear(&self) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Next { over: true, ..Next::default() };
        self.made.send_replace(None);
    }

    /// The picture of now. Waits until it is made, if it is time for another one. Cancel safe.
    pub(in crate::egress) async fn get(self: &Arc<Self>) -> Option<HlsFile> {
        let mut made = self.made.subscribe();
        if self.is_under_way() && tokio::time::timeout(MADE_WITHIN, made.changed()).await.is_err() {
            tracing::debug!("a thumbnail was not made in time");
        }
        self.newest()
    }

    /// Whether there will be a newer picture, which is begun if it is time for it.
    fn is_under_way(self: &Arc<Self>) -> bool {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let early = next.begun.is_some_and(|begun| now.saturating_duration_since(begun) < self.pause);
        if next.under_way || early {
            return next.under_way;
        }
        let Some(unit) = next.key_frame.take() else { return false };
        (next.under_way, next.begun) = (true, Some(now));
        drop(next); // an attempt that finds no place ends at once
        let attempt = Attempt(Arc::clone(self));
        self.thumbnails.make(move |decoder| {
            let picture = jpeg_of(&unit, decoder, scaled(unit.config.size(), LONGER_SIDE, false))?;
            attempt.0.finish(picture);
            Ok(())
        })
    }

    fn finish(&self, picture: Bytes) {
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if !next.over {
            self.made.send_replace(Some(HlsFile::new(PICTURE_TYPE, CACHE, picture)));
        }
    }
}
