//! Disks that are slow or full, and what is on them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::*;
use crate::media::playlist::Position;
use crate::media::presentation::{File, FileKind, Listing, Update};
use crate::media::segmenter::{Rendition, VideoId};

/// How many segments are in memory at a time.
const WINDOW: usize = 4;

/// A disk that takes as many files as the test says.
#[derive(Debug)]
struct Fake {
    files: Mutex<BTreeMap<String, String>>,
    takes: Semaphore,
    full: AtomicBool,
}

impl Fake {
    fn new(takes: usize) -> Arc<Self> {
        let (files, takes) = (Mutex::default(), Semaphore::new(takes));
        Arc::new(Self { files, takes, full: AtomicBool::new(false) })
    }

    fn names(&self) -> Vec<String> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    fn text(&self, name: &str) -> String {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.get(name).cloned().unwrap_or_default()
    }

    async fn until(&self, enough: impl Fn(&Self) -> bool) {
        while !enough(self) {
            tokio::task::yield_now().await;
        }
    }
}

impl Disk for Fake {
    async fn write(&self, name: &str, body: Bytes) -> io::Result<()> {
        self.takes.acquire().await.map_err(io::Error::other)?.forget();
        if self.full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), text);
        Ok(())
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        let removed = self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        removed.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// The bytes of a segment, which are counted as long as anybody holds them.
struct Counted(Arc<AtomicUsize>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        b"segment"
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A peer in memory.
struct Peer {
    files: Arc<PeerFiles>,
    next: usize,
    /// How many segments anybody holds.
    held: Arc<AtomicUsize>,
}

impl Peer {
    fn new() -> Self {
        let files = Arc::new(PeerFiles::new(Duration::from_millis(192), None, None));
        Self { files, next: 0, held: Arc::default() }
    }

    /// One more segment, and one less behind the window.
    fn segment(&mut self) {
        self.held.fetch_add(1, Ordering::Relaxed);
        let kind = FileKind::Media(Rendition::Video(VideoId::BEST));
        let body = Bytes::from_owner(Counted(Arc::clone(&self.held)));
        let listed: Vec<String> = (self.next.saturating_sub(1)..=self.next).map(name).collect();
        let text = Bytes::from(listed.join(" "));
        let listing = Listing {
            name: "p-video.m3u8".to_owned(),
            full: text.clone().into(),
            delta: text.clone().into(),
            plain: text,
            position: Position::default(),
            hint: None,
            open: None,
            ended: false,
        };
        let gone = self.next.checked_sub(WINDOW).map(name).into_iter().collect();
        let files = vec![File { name: name(self.next), kind, body }];
        self.files.apply(Update { files, listings: vec![listing], gone, ..Update::default() });
        self.next += 1;
    }
}

fn name(segment: usize) -> String {
    format!("video_p_{segment:03}.m4s")
}

#[tokio::test]
async fn a_slow_disk_holds_no_more_than_a_window_and_skips_to_the_newest() {
    let (disk, mut peer, counters) = (Fake::new(0), Peer::new(), Arc::new(Counters::default()));
    let mirror = Mirror::start(Arc::clone(&disk), Arc::clone(&peer.files), Arc::clone(&counters));
    for round in 0..200 {
        peer.segment();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        if round % 10 == 9 {
            disk.takes.add_permits(1);
        }
        let held = peer.held.load(Ordering::Relaxed);
        // What is in memory, and what was when the round began.
        assert!(held <= 2 * WINDOW, "{held} segments are held after {round}");
    }
    assert!(counters.late.load(Ordering::Relaxed) > 10, "{counters:?}");
    // A disk that keeps up again has all that there is.
    disk.takes.add_permits(1000);
    let newest = peer.next - 1;
    disk.until(|disk| disk.text("p-video.m3u8") == [name(newest - 1), name(newest)].join(" ")).await;
    mirror.stop().await;
    let expected: Vec<String> = (peer.next - WINDOW..peer.next).map(name).collect();
    assert_eq!(disk.names(), [&["p-video.m3u8".to_owned()], &expected[..]].concat());
}

#[tokio::test]
async fn a_full_disk_is_told_and_tried_again() {
    let (disk, mut peer, counters) = (Fake::new(1_000_000), Peer::new(), Arc::new(Counters::default()));
    let (last_round, asked) = watch::channel(false);
    let mirror = Mirror {
        disk: Arc::clone(&disk),
        files: Arc::clone(&peer.files),
        counters: Arc::clone(&counters),
        last_round: asked,
        retry_after: Duration::ZERO,
        written: HashMap::new(),
        failing: false,
    };
    let mirror = Running { task: tokio::spawn(mirror.run()), last_round };
    peer.segment();
    disk.until(|disk| disk.text("p-video.m3u8") == name(0)).await;
    disk.full.store(true, Ordering::Relaxed);
    (0..WINDOW).for_each(|_| peer.segment());
    disk.until(|disk| counters.failed.load(Ordering::Relaxed) > 2 && !disk.names().contains(&name(0))).await;
    assert_eq!(disk.text("p-video.m3u8"), name(0), "what is gone makes room, and nothing else changed");
    disk.full.store(false, Ordering::Relaxed);
    disk.until(|disk| disk.text("p-video.m3u8") == [name(WINDOW - 1), name(WINDOW)].join(" ")).await;
    // A peer that left takes its files along.
    peer.files.clear();
    mirror.stop().await;
    assert!(disk.names().is_empty(), "{:?}", disk.names());
    assert_eq!(peer.held.load(Ordering::Relaxed), 0);
}
