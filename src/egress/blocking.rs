//! What GStreamer may never come back from: starting and stopping pipelines, each on a thread of its own.
//!
//! A state change waits for the elements' threads. One that hangs keeps its thread and its memory; it is left behind
//! and counted, and when too many are, nothing new is started until some of them end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::oneshot;

/// The most threads in state changes at a time, for all peers: pipelines that hang, and those that start and stop at
/// this moment. Further ones start later.
const MAX_THREADS: usize = 256;
/// The same for one track, so that its hanging pipelines leave the other tracks room.
const MAX_TRACK_THREADS: usize = 4;

/// Counts the threads, of all tracks and of one.
#[derive(Debug, Clone, Default)]
pub(super) struct Blocking {
    all: Arc<AtomicUsize>,
    track: Arc<AtomicUsize>,
}

/// Uncounts a thread when its work is done, even by a panic.
struct Counted(Blocking);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.all.fetch_sub(1, Ordering::Relaxed);
        self.0.track.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Blocking {
    /// The same threads, with a track of their own.
    pub(super) fn for_track(&self) -> Self {
        Self { all: Arc::clone(&self.all), track: Arc::default() }
    }

    /// How many threads are in state changes at this moment.
    pub(super) fn threads(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// Whether a pipeline may be started for the track.
    pub(super) fn has_room(&self) -> bool {
        self.threads() < MAX_THREADS && self.track.load(Ordering::Relaxed) < MAX_TRACK_THREADS
    }

    /// Does `work` on a thread of its own and hands its result over; nothing comes if there is no thread to be had.
    pub(super) fn run<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        self.all.fetch_add(1, Ordering::Relaxed);
        self.track.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(self.clone());
        let (done, result) = oneshot::channel();
        let body = move || {
            let _counted = counted;
            drop(done.send(work()));
        };
        if let Err(reason) = std::thread::Builder::new().name(name.to_owned()).spawn(body) {
            tracing::error!(%reason, name, "no thread");
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_track_whose_threads_hang_gets_no_more_and_others_do() {
        let all = Blocking::default();
        let (track, other) = (all.for_track(), all.for_track());
        let hang = || {
            let (release, hold) = oneshot::channel::<()>();
            (release, track.run("hangs", move || hold.blocking_recv().is_ok()))
        };
        let mut hanging: Vec<_> = (0..MAX_TRACK_THREADS).map(|_| hang()).collect();
        assert!(!track.has_room() && other.has_room());
        assert_eq!((all.threads(), other.run("quick", || 7).await), (MAX_TRACK_THREADS, Ok(7)));
        let (release, done) = hanging.pop().unwrap();
        release.send(()).unwrap();
        assert_eq!(done.await, Ok(true));
        while !track.has_room() {
            tokio::task::yield_now().await;
        }
    }
}
