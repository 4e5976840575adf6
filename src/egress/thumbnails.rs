//! Small pictures of each peer, for pages that let people choose what to watch and for players that show where one seeks.
//!
//! They are made of key frames, one at a time for all peers. Where that does not keep up, pictures are older or missing;
//! media never waits for them. [`Portrait`] is a peer's newest picture, made when somebody asks; [`sprites`] are the past.

mod picture;
mod portrait;
pub(super) mod sprites;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use gstreamer as gst;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::blocking::Blocking;
pub(super) use portrait::Portrait;

/// Pictures that wait to be made; more are left out.
const MAX_JOBS: usize = 32;
/// How long one may take until it is left behind with its thread.
const MADE_WITHIN: Duration = Duration::from_secs(5);
/// What decodes H.264, best first. Software alone: a single picture is not worth a hardware's set-up.
const DECODERS: [&str; 2] = ["avdec_h264", "openh264dec"];

/// Something that blocks until a picture is made, with the decoder's name.
type Job = Box<dyn FnOnce(&'static str) -> anyhow::Result<()> + Send>;

/// What makes pictures of key frames.
#[derive(Debug, Clone)]
pub(super) struct Thumbnails {
    jobs: mpsc::Sender<Job>,
    counters: Arc<Counters>,
}

/// What became of the pictures since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) made: AtomicU64,
    /// Not made: a decoder failed or hung, or too many were wanted at once.
    pub(super) failed: AtomicU64,
}

impl Thumbnails {
    /// Starts, if there is something that decodes.
    ///
    /// # Errors
    /// No decoder is installed.
    pub(super) fn start(runtime: &Handle, blocking: &Blocking) -> anyhow::Result<Self> {
        let installed = DECODERS.into_iter().find(|name| gst::ElementFactory::find(name).is_some());
        let decoder = installed.with_context(|| format!("thumbnails need one of {DECODERS:?}"))?;
        let (jobs, receiver) = mpsc::channel(MAX_JOBS);
        let counters = Arc::<Counters>::default();
        runtime.spawn(work(receiver, decoder, blocking.for_track(), Arc::clone(&counters)));
        Ok(Self { jobs, counters })
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Has a picture made. Never waits; false if too many are made already.
    fn make(&self, job: impl FnOnce(&'static str) -> anyhow::Result<()> + Send + 'static) -> bool {
        let taken = self.jobs.try_send(Box::new(job)).is_ok();
        if !taken {
            self.counters.failed.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }
}

async fn work(
    mut jobs: mpsc::Receiver<Job>,
    decoder: &'static str,
    blocking: Blocking,
    counters: Arc<Counters>,
) {
    while let Some(job) = jobs.recv().await {
        let made = if blocking.has_room() {
            let done = blocking.run("thumbnail", move || job(decoder));
            let made = tokio::time::timeout(MADE_WITHIN, done).await.context("it hangs");
            made.and_then(|made| made.context("no thread, or it panicked").flatten())
        } else {
            Err(anyhow!("too many decoders hang"))
        };
        let counter = if made.is_ok() { &counters.made } else { &counters.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Err(reason) = made {
            tracing::debug!(reason = format!("{reason:#}"), "no thumbnail");
        }
    }
}
