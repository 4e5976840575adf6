//! Per-peer egress: RTP taps become GStreamer pipelines become HLS segments, held in memory and served by name.
//!
//! A peer's failure stays that peer's; nothing here knows where the packets come from or who plays the result.

mod archive;
mod blocking;
mod demand;
mod disk;
mod encoders;
mod feed;
mod file;
mod ladder;
mod meter;
mod muxed;
mod numbers;
mod peer;
mod pipeline;
mod slate;
mod still;
mod store;
mod stored;
mod supervisor;
mod templates;
mod thumbnails;
mod watchdog;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::future::BoxFuture;
use mediasoup_types::rtp_parameters::{MediaKind, RtpCodecParameters};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::ids::{PeerId, ProducerId};
use crate::media::encryption::Method;
use crate::media::playlist::Directives;
use crate::media::presentation::muxed::{Scheme, What};
use crate::media::segmenter::{VideoId, part_length};
use crate::sfu::api::TapOutput;
use archive::Archive;
use blocking::Blocking;
use demand::Demand;
pub use demand::Start;
use disk::{Folder, Mirror};
use feed::Shared;
pub use file::{CUES_TYPE, Encoded, HlsFile, MANIFEST_TYPE, PLAYLIST_TYPE};
pub use ladder::{Step, StepError, check as check_ladder};
use meter::Meters;
pub use meter::PipelineStats;
use peer::{Command, Ending, Peer, PeerSetup};
use slate::Slate;
pub use store::growing::GrowingFile;
pub use store::{FetchError, Fetched};
use store::{PeerFiles, Store};
pub use stored::StoredFile;
use templates::Templates;
use thumbnails::{Portrait, Thumbnails};

/// Events that wait to be read; a peer that has one more waits.
const EVENT_CAPACITY: usize = 256;
/// Commands that wait for a peer's task; more are refused.
const COMMAND_CAPACITY: usize = 64;
/// How long [`Egress::shutdown`] waits for playlists, files and pipelines.
const SHUTDOWN_WITHIN: Duration = Duration::from_millis(1900);
/// The folder of HLS files inside the data folder.
const LIVE_FOLDER: &str = "live";
/// The folder of segments that left memory, inside the data folder.
const DVR_FOLDER: &str = "dvr";

/// How HLS is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether peers get HLS at all.
    pub enabled: bool,
    /// When a peer's HLS is made; a publisher may ask for something else ([`Track::start`]).
    pub start: Start,
    /// How long nobody has to ask for anything of a stream that is made on demand until it is not made any more, in
    /// seconds. 0 for never.
    pub idle_secs: u64,
    /// How long the parts are that players close to the live edge get, in milliseconds: 64 to 1000. It is rounded down to
    /// a multiple of 64.
    pub part_ms: u64,
    /// How many segments of about 2 s a playlist lists. Three target durations (9 s) are listed in any case.
    pub window_segments: usize,
    /// How many segments stay fetchable after they left the playlist; should be at least `window_segments` and one.
    pub grace_segments: usize,
    /// How far back players can go, in seconds; what that is beyond the segments above is kept on disk, in
    /// `<data-dir>/dvr`. 0 for the segments above alone.
    pub dvr_secs: u64,
    /// The most that all peers together may have there, in MB (10^6 bytes). The oldest segments make room.
    pub dvr_max_mb: u64,
    /// How long a peer's ended playlists and segments stay after it left, in seconds.
    pub retain_secs: u64,
    /// How long a peer's stream goes on after it left, in seconds, showing what was shown last: players play on if the same
    /// peer comes back in that time. 0 ends it at once.
    pub away_secs: u64,
    /// What is shown meanwhile instead: a PNG or JPEG file, made as large as the peer's video. Empty for what was shown last.
    pub slate: PathBuf,
    /// The least time between two pictures of a peer, `/live/<peerId>.jpg`, in seconds; one is made when somebody asks for
    /// it. 0 for none.
    pub thumbnail_secs: u64,
    /// How often a picture is taken for `/live/<peerId>-thumbnails.vtt`, which players show where their viewer seeks, in
    /// seconds; less often if a window of hours would need too many. 0 for none.
    pub sprite_secs: u64,
    /// The most peers with HLS at a time; further ones get none.
    pub max_peers: usize,
    /// The bit rate of VP8 and VP9 transcoded to H.264, in kbit/s.
    pub transcode_kbps: u32,
    /// What a publisher's video is made into that comes in one quality only, best first. Empty for that one quality.
    pub ladder: Vec<Step>,
    /// The GStreamer element that encodes H.264, or `auto`: the best one that works, hardware first.
    pub encoder: String,
    /// How segments are encrypted.
    pub encryption: Method,
    /// After how many segments there is a new key; 0 for one key for all of a stream.
    pub key_rotation_segments: u64,
    /// Whether the files are written to `<data-dir>/live` as well.
    pub write_to_disk: bool,
    /// A folder whose pipeline templates replace the built-in ones of the same names; empty for none.
    pub pipelines_dir: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            start: Start::Always,
            idle_secs: 30,
            part_ms: 200,
            window_segments: 8,
            grace_segments: 10,
            dvr_secs: 0,
            dvr_max_mb: 10_000,
            retain_secs: 15,
            away_secs: 0,
            slate: PathBuf::new(),
            thumbnail_secs: 0,
            sprite_secs: 0,
            max_peers: 500,
            transcode_kbps: 2500,
            ladder: Vec::new(),
            encoder: encoders::AUTO.to_owned(),
            encryption: Method::None,
            key_rotation_segments: 60,
            write_to_disk: false,
            pipelines_dir: PathBuf::new(),
        }
    }
}

/// Asks the publisher of one track for a key frame; callable from any thread, rate-limited by the media core.
pub type KeyFrameRequester = Arc<dyn Fn() + Send + Sync>;

/// Pauses or resumes one track's packets; done when the media core has heard of it. Video that is resumed goes on with a
/// key frame.
pub type TapSwitch = Arc<dyn Fn(bool) -> BoxFuture<'static, ()> + Send + Sync>;

/// One producer as egress gets it.
pub struct Track {
    /// Whose packets these are.
    pub producer_id: ProducerId,
    /// Audio or video.
    pub kind: MediaKind,
    /// Which of the peer's video renditions it becomes, if it is video: simulcast layers of one producer are as many
    /// tracks, the best one first. Tracks may come and go one by one; an id that had a track before goes on with the new
    /// one behind a discontinuity.
    pub video: VideoId,
    /// Whether the publisher sends the video in one quality only, so that [`Config::ladder`] is made of it.
    pub single_layer: bool,
    /// Codec, payload type, clock rate, channels and format parameters of the packets.
    pub codec: RtpCodecParameters,
    /// Whether the producer is paused at this moment.
    pub paused: bool,
    /// The packets.
    pub source: mpsc::Receiver<TapOutput>,
    /// How to ask for a key frame.
    pub request_key_frame: KeyFrameRequester,
    /// How to have no packets as long as nobody asks for the stream.
    pub set_tap_paused: TapSwitch,
    /// When the peer's HLS shall be made, if the publisher says so; its first track decides.
    pub start: Option<Start>,
}

/// What egress reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EgressEvent {
    /// The peer's master playlist answers and its media playlists list at least one segment, now or (on demand) soon after
    /// somebody asks. Sent once for a peer, and again when it was away.
    Playable(PeerId),
    /// Everything of a peer is gone from memory and disk.
    Gone(PeerId),
}

/// How much HLS there is at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Peers whose media is made into HLS, or whose last segments are kept.
    pub hls_peers: usize,
    /// Those of them whose HLS is not made at the moment, since nobody asks for it.
    pub asleep: usize,
    /// Playlists, segments and init segments in memory.
    pub files: usize,
    /// The bytes of all of them. Parts share their segments' bytes; where they don't (AES-128), they are not counted.
    pub bytes: usize,
    /// Segments on disk, for players that go back.
    pub dvr_files: usize,
    /// The bytes of all of them.
    pub dvr_bytes: u64,
    /// Segments that players can't go back to since they were not written in time, since the start.
    pub dvr_lost: usize,
    /// Thumbnails that were made since the start.
    pub thumbnails_made: u64,
    /// Thumbnails that were not: a decoder failed or hung, or too many were wanted at once.
    pub thumbnails_failed: u64,
    /// Threads that start or stop a pipeline: if it stays above zero, pipelines hang.
    pub state_changes: usize,
    /// Files written to disk since the start.
    pub disk_written: u64,
    /// Attempts to write a file to disk that failed.
    pub disk_failed: u64,
    /// How often the disk was so slow that segments were gone before it took them.
    pub disk_late: u64,
}

/// All peers' HLS.
#[derive(Clone)]
pub struct Egress {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    /// Where files are written, if they are.
    folder: Option<Arc<Folder>>,
    on_disk: Arc<disk::Counters>,
    /// What left memory, with DVR.
    archive: Option<Arc<Archive>>,
    runtime: Handle,
    /// `None` if HLS is off.
    shared: Option<Shared>,
    store: Store,
    events: mpsc::Sender<EgressEvent>,
    peers: Mutex<Peers>,
}

#[derive(Default)]
struct Peers {
    running: HashMap<PeerId, Running>,
    shut_down: bool,
}

/// A peer's task as it is seen from outside.
struct Running {
    files: Arc<PeerFiles>,
    commands: mpsc::Sender<Command>,
    ending: watch::Sender<Ending>,
    task: JoinHandle<()>,
}

impl Egress {
    /// Initialises GStreamer, checks that every pipeline template can be built, and starts. Has to be called inside a
    /// tokio runtime, which the peers' tasks then run on.
    ///
    /// # Errors
    /// Fails if a GStreamer element is missing, a template is wrong, or the folder for files can't be made; the error
    /// names it.
    pub fn start(config: &Config, data_dir: &Path) -> anyhow::Result<(Self, mpsc::Receiver<EgressEvent>)> {
        let runtime = Handle::try_current().context("egress needs a tokio runtime")?;
        let mut shared = None;
        let mut folder = None;
        let mut archive = None;
        if config.enabled {
            gstreamer::init().context("GStreamer does not start")?;
            let own = Some(config.pipelines_dir.as_path()).filter(|path| !path.as_os_str().is_empty());
            let blocking = Blocking::default();
            let encoders = encoders::choose(&config.encoder)?;
            let slate = Some(&config.slate).filter(|path| !path.as_os_str().is_empty());
            let slate = slate.map(|path| {
                Slate::load(path, encoders).with_context(|| format!("hls.slate: {}", path.display()))
            });
            shared = Some(Shared {
                templates: Arc::new(Templates::load(own, encoders, !config.ladder.is_empty())?),
                thumbnails: match (config.thumbnail_secs, config.sprite_secs) {
                    (0, 0) => None,
                    _ => Some(Thumbnails::start(&runtime, &blocking)?),
                },
                slate: slate.transpose()?.map(Arc::new),
                blocking,
                meters: Meters::default(),
                video_kbps: config.transcode_kbps,
                ladder: config.ladder.as_slice().into(),
            });
            if config.write_to_disk {
                let path = data_dir.join(LIVE_FOLDER);
                disk::prepare(&path).with_context(|| format!("preparing {}", path.display()))?;
                folder = Some(Arc::new(Folder::new(path)));
            }
            if config.dvr_secs > 0 {
                let limit = config.dvr_max_mb.saturating_mul(1_000_000);
                archive = Some(Archive::start(data_dir.join(DVR_FOLDER), limit, &runtime));
            }
        }
        let (events, receiver) = mpsc::channel(EVENT_CAPACITY);
        let inner = Inner {
            config: config.clone(),
            folder,
            on_disk: Arc::default(),
            archive,
            runtime,
            shared,
            store: Store::default(),
            events,
            peers: Mutex::default(),
        };
        Ok((Self { inner: Arc::new(inner) }, receiver))
    }

    /// Adds a track to a peer's HLS, starting it with the peer's first track. A second track of a rendition takes the
    /// first one's place. Never waits. A track that can't be taken (codec, limits) is refused with a warning.
    pub fn add_track(&self, peer: &PeerId, track: Track) {
        let Some(shared) = &self.inner.shared else { return };
        let mut peers = self.peers();
        if peers.shut_down {
            return;
        }
        if !peers.running.get(peer).is_some_and(Running::goes_on) {
            let previous = peers.running.remove(peer);
            if previous.is_none() && peers.running.len() >= self.inner.config.max_peers {
                tracing::warn!(%peer, limit = self.inner.config.max_peers, "too many peers for HLS");
                return;
            }
            let start = track.start.unwrap_or(self.inner.config.start);
            let running = self.start_peer(peer, start, previous, shared.clone());
            peers.running.insert(peer.clone(), running);
        }
        let Some(running) = peers.running.get(peer) else { return };
        let producer = track.producer_id;
        if running.commands.try_send(Command::AddTrack(Box::new(track))).is_err() {
            tracing::warn!(%peer, %producer, "too many changes at once, track refused");
        }
    }

    /// Takes one track away; the peer's other track plays on.
    pub fn remove_track(&self, peer: &PeerId, producer: ProducerId) {
        let peers = self.peers();
        let Some(running) = peers.running.get(peer) else { return };
        if running.commands.try_send(Command::RemoveTrack(producer)).is_err() {
            // Nothing is lost: the end of the tap says the same.
            tracing::debug!(%peer, %producer, "too many changes at once");
        }
    }

    /// The peer has left: its playlists get their end tag, unless it brings a track within [`Config::away_secs`], and
    /// everything is gone [`Config::retain_secs`] later, which [`EgressEvent::Gone`] reports.
    pub fn end_peer(&self, peer: &PeerId) {
        let away = Duration::from_secs(self.inner.config.away_secs);
        if let Some(running) = self.peers().running.get(peer) {
            // Nobody waits for one that nobody watches.
            let waits = !away.is_zero() && running.files.playable() && !running.files.is_asleep();
            running.end(if waits { Ending::Away(Instant::now() + away) } else { Ending::Left });
        }
    }

    /// Whose file `/live/<name>` names, if somebody has it or is about to.
    #[must_use]
    pub fn owner(&self, name: &str) -> Option<PeerId> {
        self.inner.store.owner_of(name)
    }

    /// The file that `/live/<name>` names, as `directives` ask for it: a playlist that is not as far yet, or the part that
    /// one announces as its next, is waited for. Cancel safe.
    ///
    /// # Errors
    /// There is no such file, it will not come for long, or it did not come in time.
    pub async fn fetch(&self, name: &str, directives: Directives) -> Result<Fetched, FetchError> {
        self.inner.store.fetch(name, directives).await
    }

    /// Whether there are files of this peer.
    #[must_use]
    pub fn has(&self, peer: &PeerId) -> bool {
        self.inner.store.has(peer)
    }

    /// A playlist or segment of a peer in which video and sound are muxed as MPEG-TS, made of its files if it isn't there
    /// yet. A playlist is waited for until it lists a segment. Cancel safe.
    ///
    /// # Errors
    /// There is none, or not in time.
    pub async fn fetch_muxed(
        &self,
        peer: &PeerId,
        scheme: Scheme,
        what: What<'_>,
    ) -> Result<HlsFile, FetchError> {
        if self.inner.config.encryption == Method::Cbcs && self.has(peer) {
            return Err(FetchError::NotOffered);
        }
        self.inner.store.fetch_muxed(peer, scheme, what).await
    }

    /// The file that `/live/<name>` names at this moment, if there is one in memory.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<HlsFile> {
        self.inner.store.file(name)
    }

    /// Peers whose master playlist is playable now.
    #[must_use]
    pub fn playable(&self) -> Vec<PeerId> {
        self.inner.store.playable()
    }

    /// How much HLS there is.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (files, bytes) = self.inner.store.size();
        let state_changes = self.inner.shared.as_ref().map_or(0, |shared| shared.blocking.threads());
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let disk::Counters { written, failed, late } = &*self.inner.on_disk;
        let dvr = self.inner.archive.as_ref().map(|archive| archive.amount()).unwrap_or_default();
        let thumbnails = self.inner.shared.as_ref().and_then(|shared| shared.thumbnails.as_ref());
        let (made, left_out) = thumbnails.map_or((0, 0), |thumbnails| {
            let counters = thumbnails.counters();
            (count(&counters.made), count(&counters.failed))
        });
        Stats {
            thumbnails_made: made,
            thumbnails_failed: left_out,
            hls_peers: self.peers().running.len(),
            asleep: self.inner.store.asleep(),
            files,
            bytes,
            state_changes,
            disk_written: count(written),
            disk_failed: count(failed),
            disk_late: count(late),
            dvr_files: dvr.files,
            dvr_bytes: dvr.bytes,
            dvr_lost: dvr.lost,
        }
    }

    /// What each track's pipelines do.
    #[must_use]
    pub fn pipelines(&self) -> Vec<PipelineStats> {
        self.inner.shared.as_ref().map(|shared| shared.meters.read()).unwrap_or_default()
    }

    /// Ends every playlist with its end tag and stops all pipelines, within about two seconds. Files stay readable.
    pub async fn shutdown(&self) {
        let running: Vec<Running> = {
            let mut peers = self.peers();
            peers.shut_down = true;
            peers.running.drain().map(|(_, running)| running).collect()
        };
        for peer in &running {
            peer.end(Ending::Shutdown);
        }
        let all = async {
            for peer in running {
                if peer.task.await.is_err() {
                    tracing::error!("a peer's task failed");
                }
            }
        };
        if tokio::time::timeout(SHUTDOWN_WITHIN, all).await.is_err() {
            tracing::warn!("HLS did not end in time");
        }
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.inner.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_peer(&self, peer: &PeerId, start: Start, previous: Option<Running>, shared: Shared) -> Running {
        let part_target = part_length(Duration::from_millis(self.inner.config.part_ms));
        let shelf = self.inner.archive.as_ref().map(Archive::shelf);
        // What is kept on disk has to be made whether somebody watches or not.
        let is_kept = shelf.is_some() || self.inner.folder.is_some();
        let demand = (start == Start::OnDemand && !is_kept).then(|| Demand::new(Instant::now()));
        let mut files = PeerFiles::new(part_target, shelf, demand);
        let pause = Duration::from_secs(self.inner.config.thumbnail_secs);
        if let Some(thumbnails) = shared.thumbnails.clone().filter(|_| !pause.is_zero()) {
            files = files.with_portrait(format!("{peer}.jpg"), Portrait::new(thumbnails, pause));
        }
        let files = Arc::new(files);
        let before = previous.as_ref().map(|previous| previous.files.next_sequence());
        files.set_next_sequence(before.unwrap_or_else(|| self.inner.store.first_sequence(peer)));
        let previous = previous.map(|previous| {
            previous.end(Ending::Replaced);
            previous.task
        });
        self.inner.store.insert(peer, &files);
        let (commands, receiver) = mpsc::channel(COMMAND_CAPACITY);
        let ending = watch::Sender::new(Ending::No);
        let watcher = ending.subscribe();
        let setup = PeerSetup {
            peer: peer.clone(),
            config: self.inner.config.clone(),
            shared,
            files: Arc::clone(&files),
            events: self.inner.events.clone(),
            commands: receiver,
            ending: ending.clone(),
            previous,
        };
        let egress = self.clone();
        let (peer, own) = (peer.clone(), Arc::clone(&files));
        let task = self.inner.runtime.spawn(async move {
            let mirror = egress
                .inner
                .folder
                .clone()
                .map(|folder| Mirror::start(folder, Arc::clone(&own), Arc::clone(&egress.inner.on_disk)));
            Peer::new(setup).run().await;
            let ending = *watcher.borrow();
            egress.peer_ended(&peer, &own, ending, mirror).await;
        });
        Running { files, commands, ending, task }
    }

    /// Removes what is left of a peer whose task is done.
    async fn peer_ended(
        &self,
        peer: &PeerId,
        files: &Arc<PeerFiles>,
        ending: Ending,
        mirror: Option<disk::Running>,
    ) {
        if ending != Ending::Shutdown {
            files.clear();
            self.inner.store.remove(peer, files);
        }
        if let Some(mirror) = mirror {
            mirror.stop().await;
        }
        if ending != Ending::Left {
            return;
        }
        let own = |running: &Running| Arc::ptr_eq(&running.files, files);
        {
            let mut peers = self.peers();
            if peers.running.get(peer).is_some_and(own) {
                peers.running.remove(peer);
            }
        }
        if self.inner.events.send(EgressEvent::Gone(peer.clone())).await.is_err() {
            tracing::debug!("nobody listens to egress events");
        }
    }
}

impl Running {
    /// Ends the peer, unless it ended already in a way that says more.
    fn end(&self, ending: Ending) {
        self.ending.send_if_modified(|current| {
            let changes = *current == Ending::No || matches!(ending, Ending::Replaced | Ending::Shutdown);
            if changes {
                *current = ending;
            }
            changes
        });
    }

    /// Whether tracks can be added. One that was away is back with that.
    fn goes_on(&self) -> bool {
        let was_away = self.ending.send_if_modified(|current| {
            let away = matches!(current, Ending::Away(_));
            if away {
                *current = Ending::No;
            }
            away
        });
        if was_away {
            self.files.set_playable(false); // and is told to be again with its next part
        }
        *self.ending.borrow() == Ending::No
    }
}
