//! One peer's HLS from its first track to its end: the task that owns the peer's feeds, segmenter and playlists.
//!
//! Everything of a peer happens on this task, so nothing of it is locked; what comes out goes into the peer's files.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mediasoup_types::rtp_parameters::MediaKind;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::feed::{Damage, Epoch, Event, Feed, Shared};
use super::pipeline::Output;
use super::store::PeerFiles;
use super::{Config, EgressEvent, Track};
use crate::ids::{PeerId, ProducerId};
use crate::media::playlist::part_hold_back;
use crate::media::presentation::{Presentation, Window};
use crate::media::segmenter::{self, Rendition, Segmenter, TARGET_DURATION_SECS, TrackState, VideoId};
use crate::media::timeline::MediaTime;
use crate::sfu::api::TapOutput;

/// How often deadlines are looked at when nothing else happens.
const TICK: Duration = Duration::from_millis(50);
/// Room on the timeline before its first packet: clocks are corrected backwards too.
const HEADROOM: Duration = Duration::from_secs(10);
/// A peer that has one kind of media so far is reported as playable when this much is listed: players read the master
/// playlist once, and a track of the other kind may be about to come.
const LONE_PLAYABLE_AFTER: Duration = Duration::from_secs(TARGET_DURATION_SECS);
/// How long the pipelines of a peer that ended are waited for.
const STOP_WITHIN: Duration = Duration::from_secs(1);
/// Events that are handled in one go before the segmenter is asked.
const MAX_BATCH: usize = 256;

/// What a peer is told.
pub(super) enum Command {
    AddTrack(Box<Track>),
    RemoveTrack(ProducerId),
}

/// Whether a peer goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    No,
    /// It left: its playlists end, and its files go after a while.
    Left,
    /// It left and is back already: its files make room at once.
    Replaced,
    /// The server stops: its playlists end and its files stay.
    Shutdown,
}

/// What a peer's task is made with.
pub(super) struct PeerSetup {
    pub(super) peer: PeerId,
    pub(super) config: Config,
    pub(super) shared: Shared,
    pub(super) files: Arc<PeerFiles>,
    pub(super) events: mpsc::Sender<EgressEvent>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) ending: watch::Receiver<Ending>,
    /// The task of the same peer before it left and came back.
    pub(super) previous: Option<JoinHandle<()>>,
}

/// The task's state.
pub(super) struct Peer {
    setup: PeerSetup,
    epoch: Epoch,
    segmenter: Segmenter,
    presentation: Presentation,
    audio: Option<Feed>,
    video: Option<Feed>,
    had_audio: bool,
    had_video: bool,
}

impl Peer {
    pub(super) fn new(setup: PeerSetup) -> Self {
        let now = Instant::now();
        let epoch = now.checked_sub(HEADROOM).unwrap_or(now);
        let wall = SystemTime::now();
        let wall = wall.checked_sub(now.saturating_duration_since(epoch)).unwrap_or(wall);
        let window = Window { listed: setup.config.window_segments, grace: setup.config.grace_segments };
        let part = Duration::from_millis(setup.config.part_ms);
        let presentation = Presentation::new(setup.peer.to_string(), window, part, wall);
        let segmenter = Segmenter::new(setup.files.next_sequence(), part);
        Self {
            setup,
            epoch: Epoch(epoch),
            segmenter,
            presentation,
            audio: None,
            video: None,
            had_audio: false,
            had_video: false,
        }
    }

    /// Runs until the peer left and its files are gone, or the server stops.
    pub(super) async fn run(mut self) {
        if let Some(previous) = self.setup.previous.take()
            && previous.await.is_err()
        {
            tracing::error!(peer = %self.setup.peer, "the peer's task before this one failed");
        }
        let ending = self.live().await;
        let now = self.epoch.moment(Instant::now());
        while let Some(output) = self.segmenter.finish(now) {
            self.publish(output);
        }
        self.presentation.end();
        self.setup.files.apply(self.presentation.take_update());
        self.setup.files.set_playable(false);
        self.stop_feeds().await;
        if ending == Ending::Left {
            self.linger().await;
        }
    }

    /// Stops the pipelines and waits for them, unless they hang.
    async fn stop_feeds(&mut self) {
        let feeds = [self.audio.take(), self.video.take()].into_iter().flatten();
        let stopped: Vec<_> = feeds.filter_map(Feed::stop).collect();
        let all = async {
            for stopped in stopped {
                if stopped.await.is_err() {
                    tracing::warn!(peer = %self.setup.peer, "a pipeline was not stopped");
                }
            }
        };
        if tokio::time::timeout(STOP_WITHIN, all).await.is_err() {
            tracing::warn!(peer = %self.setup.peer, "a pipeline hangs and is left behind");
        }
    }

    /// Keeps the files of a peer that left until their time is over, it comes back, or the server stops.
    async fn linger(&mut self) {
        if self.setup.files.is_empty() {
            return;
        }
        let retain = Duration::from_secs(self.setup.config.retain_secs);
        let ending = &mut self.setup.ending;
        tokio::select! {
            () = tokio::time::sleep(retain) => {}
            _ = ending.wait_for(|ending| matches!(ending, Ending::Replaced | Ending::Shutdown)) => {}
        }
    }

    /// Everything between the first track and the end.
    async fn live(&mut self) -> Ending {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                ending = ended(&mut self.setup.ending) => return ending,
                command = self.setup.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return Ending::Shutdown,
                },
                event = next(&mut self.audio) => self.event(MediaKind::Audio, event),
                event = next(&mut self.video) => self.event(MediaKind::Video, event),
                _ = tick.tick() => self.tick(),
            }
            self.poll_segmenter().await;
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::AddTrack(track) => self.add_track(*track),
            Command::RemoveTrack(producer) => {
                for kind in [MediaKind::Audio, MediaKind::Video] {
                    if self.feed(kind).as_ref().is_some_and(|feed| feed.producer_id == producer) {
                        self.remove_track(kind);
                    }
                }
            }
        }
    }

    fn add_track(&mut self, track: Track) {
        let (kind, paused, producer) = (track.kind, track.paused, track.producer_id);
        let mime_type = track.codec.mime_type();
        let Some(feed) = Feed::start(&self.setup.peer, track, self.epoch, &self.setup.shared) else {
            tracing::warn!(peer = %self.setup.peer, %producer, ?mime_type, "codec can't be made into HLS");
            return;
        };
        tracing::info!(peer = %self.setup.peer, %producer, ?mime_type, "track added to HLS");
        // A second track of a kind takes the first one's place.
        let replaced = self.feed(kind).replace(feed).is_some();
        match kind {
            MediaKind::Audio => {
                if replaced || self.had_audio {
                    self.segmenter.audio_restarted();
                }
                self.had_audio = true;
            }
            MediaKind::Video => {
                if replaced || self.had_video {
                    self.segmenter.video_restarted(VideoId::BEST);
                }
                self.had_video = true;
            }
        }
        self.set_state(kind, if paused { TrackState::Paused } else { TrackState::Active });
    }

    fn remove_track(&mut self, kind: MediaKind) {
        tracing::info!(peer = %self.setup.peer, ?kind, "track removed from HLS");
        *self.feed(kind) = None;
        self.set_state(kind, TrackState::Absent);
    }

    fn set_state(&mut self, kind: MediaKind, state: TrackState) {
        match kind {
            MediaKind::Audio => self.segmenter.set_audio(state),
            MediaKind::Video => self.segmenter.set_video(VideoId::BEST, state),
        }
        self.presentation.set_gone(Rendition::Video(VideoId::BEST), self.video.is_none());
        self.presentation.set_gone(Rendition::Audio, self.audio.is_none());
    }

    fn feed(&mut self, kind: MediaKind) -> &mut Option<Feed> {
        match kind {
            MediaKind::Audio => &mut self.audio,
            MediaKind::Video => &mut self.video,
        }
    }

    fn event(&mut self, kind: MediaKind, event: Event) {
        match event {
            Event::Tap(output) => self.tapped(kind, output),
            Event::Output(output) => {
                self.output(kind, output);
                for _ in 0..MAX_BATCH {
                    let Some(output) = self.feed(kind).as_mut().and_then(Feed::try_output) else { break };
                    self.output(kind, output);
                }
            }
            Event::Started { again: false } => {}
            Event::Started { again: true } => match kind {
                MediaKind::Audio => self.segmenter.audio_restarted(),
                MediaKind::Video => self.segmenter.video_restarted(VideoId::BEST),
            },
            Event::Due => self.forward(kind),
        }
    }

    fn tapped(&mut self, kind: MediaKind, output: TapOutput) {
        match output {
            TapOutput::Packet(packet) => {
                if let Some(feed) = self.feed(kind) {
                    feed.packet(packet, Instant::now());
                }
                self.forward(kind);
            }
            TapOutput::SenderReport { ntp, rtp } => {
                if let Some(feed) = self.feed(kind) {
                    feed.clock.sender_report(ntp, rtp);
                }
                if let (Some(audio), Some(video)) = (&self.audio, &mut self.video) {
                    video.clock.follow(&audio.clock);
                }
            }
            TapOutput::Paused => self.set_state(kind, TrackState::Paused),
            TapOutput::Resumed => self.set_state(kind, TrackState::Active),
            TapOutput::Closed => self.remove_track(kind),
        }
    }

    fn forward(&mut self, kind: MediaKind) {
        let Some(feed) = self.feed(kind) else { return };
        let Some(Damage { from, through }) = feed.forward(Instant::now()) else { return };
        if feed.passes_damage() {
            self.segmenter.video_damaged(VideoId::BEST, from, through);
        } else {
            feed.ask_publisher();
        }
    }

    fn output(&mut self, kind: MediaKind, output: Output) {
        let instant = Instant::now();
        let now = self.epoch.moment(instant);
        match output {
            Output::Video(unit) => {
                if let Some(feed) = &mut self.video {
                    feed.fruitful(unit.pts, instant);
                    if feed.take_overflow() {
                        self.segmenter.video_lost(VideoId::BEST);
                    }
                }
                self.segmenter.push_video(VideoId::BEST, unit, now);
            }
            Output::Audio(unit) => {
                self.audio.iter_mut().for_each(|feed| feed.fruitful(unit.pts, instant));
                self.segmenter.push_audio(&unit, now);
            }
            Output::Failed(reason) => {
                self.feed(kind).iter_mut().for_each(|feed| feed.failed(&reason, instant));
            }
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        [&mut self.audio, &mut self.video].into_iter().flatten().for_each(|feed| feed.tick(now));
    }

    async fn poll_segmenter(&mut self) {
        let now: MediaTime = self.epoch.moment(Instant::now());
        let mut published = false;
        while let Some(output) = self.segmenter.poll(now) {
            published |= !matches!(output, segmenter::Output::KeyFrame { .. });
            self.publish(output);
        }
        if published {
            self.setup.files.apply(self.presentation.take_update());
            self.report_playable().await;
        }
    }

    fn publish(&mut self, output: segmenter::Output) {
        let written = match output {
            segmenter::Output::KeyFrame { request, .. } => {
                self.video.iter().for_each(|feed| feed.request_key_frame(request));
                Ok(())
            }
            segmenter::Output::Opened(opening) => {
                self.setup.files.set_next_sequence(opening.sequence.saturating_add(1));
                self.presentation.open(&opening)
            }
            segmenter::Output::Part(part) => self.presentation.push(&part),
            segmenter::Output::Closed { sequence, rendition } => {
                self.presentation.close(sequence, rendition);
                Ok(())
            }
        };
        if let Err(reason) = written {
            tracing::error!(peer = %self.setup.peer, %reason, "HLS not written");
        }
    }

    async fn report_playable(&mut self) {
        let enough = if self.had_audio && self.had_video {
            part_hold_back(self.presentation.part_target())
        } else {
            LONE_PLAYABLE_AFTER
        };
        if !self.setup.files.playable() && self.presentation.listed_duration() >= enough {
            self.setup.files.set_playable(true);
            let event = EgressEvent::Playable(self.setup.peer.clone());
            if self.setup.events.send(event).await.is_err() {
                tracing::debug!("nobody listens to egress events");
            }
        }
    }
}

async fn ended(ending: &mut watch::Receiver<Ending>) -> Ending {
    ending.wait_for(|ending| *ending != Ending::No).await.map_or(Ending::Shutdown, |ending| *ending)
}

async fn next(feed: &mut Option<Feed>) -> Event {
    match feed {
        Some(feed) => feed.next().await,
        None => std::future::pending().await,
    }
}
