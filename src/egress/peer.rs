//! One peer's HLS from its first track to its end: the task that owns the peer's feeds, segmenter and playlists.
//!
//! Everything of a peer happens on this task, so nothing of it is locked; what comes out goes into the peer's files.

mod away;
mod dormant;
mod rungs;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::archive::Note;
use super::demand::Demand;
use super::feed::{Damage, Epoch, Event, Feed, Shared};
use super::ladder::Ladder;
use super::pipeline::Output;
use super::store::PeerFiles;
use super::thumbnails::sprites::Sprites;
use super::{Config, EgressEvent, Track};
use crate::ids::{PeerId, ProducerId};
use crate::media::encryption::{ContentKey, Encryption};
use crate::media::playlist::part_hold_back;
use crate::media::presentation::{Presentation, Sprite, Window};
use crate::media::segmenter::{
    self, Rendition, Segmenter, TARGET_DURATION_SECS, TrackState, VideoId, VideoUnit,
};
use crate::media::timeline::MediaTime;
use crate::sfu::api::TapOutput;
use away::Away;
use dormant::Dormant;

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
    /// It left, and is waited for until then: its playlists go on.
    Away(Instant),
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
    pub(super) ending: watch::Sender<Ending>,
    /// The task of the same peer before it left and came back.
    pub(super) previous: Option<JoinHandle<()>>,
}

impl PeerSetup {
    fn segmenter(&self) -> Segmenter {
        Segmenter::new(self.files.next_sequence(), Duration::from_millis(self.config.part_ms))
    }

    fn sprites(&self) -> Option<Sprites> {
        let every = Duration::from_secs(self.config.sprite_secs);
        let thumbnails = self.shared.thumbnails.clone().filter(|_| !every.is_zero())?;
        Some(Sprites::new(thumbnails, every, Duration::from_secs(self.config.dvr_secs)))
    }

    /// Of a timeline that begins at `wall`.
    fn presentation(&self, wall: SystemTime) -> Presentation {
        let window = Window {
            listed: self.config.window_segments,
            grace: self.config.grace_segments,
            dvr: Duration::from_secs(self.config.dvr_secs),
        };
        let part = Duration::from_millis(self.config.part_ms);
        let presentation = Presentation::new(self.peer.to_string(), window, part, wall);
        presentation.encrypted(encryption(&self.config))
    }
}

/// The task's state.
pub(super) struct Peer {
    setup: PeerSetup,
    epoch: Epoch,
    segmenter: Segmenter,
    presentation: Presentation,
    feeds: BTreeMap<Rendition, Feed>,
    /// Makes further renditions of the best video's feed, if there are to be any.
    ladder: Option<Ladder>,
    /// Every rendition that there ever was.
    had: BTreeSet<Rendition>,
    /// The tracks of a stream that nobody asks for.
    dormant: Dormant,
    /// The log knows that DVR lost something.
    told_loss: bool,
    away: Away,
    /// Makes pictures of what was shown, if there are to be any.
    sprites: Option<Sprites>,
}

impl Peer {
    pub(super) fn new(setup: PeerSetup) -> Self {
        let now = Instant::now();
        let epoch = now.checked_sub(HEADROOM).unwrap_or(now);
        let wall = SystemTime::now();
        let wall = wall.checked_sub(now.saturating_duration_since(epoch)).unwrap_or(wall);
        Self {
            epoch: Epoch(epoch),
            segmenter: setup.segmenter(),
            presentation: setup.presentation(wall),
            dormant: Dormant::new(setup.files.demand.is_some()),
            sprites: setup.sprites(),
            setup,
            feeds: BTreeMap::new(),
            ladder: None,
            had: BTreeSet::new(),
            told_loss: false,
            away: Away::default(),
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
        self.setup.files.demand.iter().for_each(Demand::end);
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
        let feeds = std::mem::take(&mut self.feeds);
        let rungs = self.ladder.take().map(Ladder::stop).unwrap_or_default();
        let stopped: Vec<_> = feeds.into_values().filter_map(Feed::stop).chain(rungs).collect();
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
        let mut ending = self.setup.ending.subscribe();
        tokio::select! {
            () = tokio::time::sleep(retain) => {}
            _ = ending.wait_for(|ending| matches!(ending, Ending::Replaced | Ending::Shutdown)) => {}
        }
    }

    /// Everything between the first track and the end.
    async fn live(&mut self) -> Ending {
        let mut ending = self.setup.ending.subscribe();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                ending = ended(&self.setup.ending, &mut ending) => return ending,
                command = self.setup.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return Ending::Shutdown,
                },
                (rendition, event) = next(&mut self.feeds) => self.event(rendition, event),
                (member, event) = rungs::next(self.ladder.as_mut()) => self.rung_event(member, event),
                heard = self.dormant.next(&self.setup.files) => self.dozed(heard).await,
                sprite = next_sprite(&mut self.sprites) => self.presentation.add_sprite(sprite),
                slates = self.away.next() => self.show_slates(slates, self.epoch.moment(Instant::now())),
                _ = tick.tick() => self.tick().await,
            }
            self.poll_segmenter().await;
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::AddTrack(track) => self.add_track(*track),
            Command::RemoveTrack(producer) => {
                self.dormant.remove(producer);
                let its = self.feeds.iter().filter(|(_, feed)| feed.track.producer_id == producer);
                let its: Vec<Rendition> = its.map(|(rendition, _)| *rendition).collect();
                its.into_iter().for_each(|rendition| self.remove_track(rendition));
            }
        }
    }

    fn add_track(&mut self, track: Track) {
        let (rendition, paused, producer) = (track.rendition(), track.paused, track.producer_id);
        let mime_type = track.codec.mime_type();
        if self.dormant.rests && track.is_playable() {
            return self.dormant.add(track);
        }
        let Some(feed) = Feed::start(&self.setup.peer, track, self.epoch, &self.setup.shared) else {
            tracing::warn!(peer = %self.setup.peer, %producer, ?mime_type, "codec can't be made into HLS");
            return;
        };
        tracing::info!(peer = %self.setup.peer, %producer, ?rendition, ?mime_type, "track added to HLS");
        // A second track of a rendition takes the first one's place.
        self.set_ladder(rendition, feed.ladder(&self.setup.peer, &self.setup.shared));
        self.feeds.insert(rendition, feed);
        if !self.had.insert(rendition) {
            self.restarted(rendition);
        }
        self.set_state(rendition, if paused { TrackState::Paused } else { TrackState::Active });
    }

    fn remove_track(&mut self, rendition: Rendition) {
        tracing::info!(peer = %self.setup.peer, ?rendition, "track removed from HLS");
        self.feeds.remove(&rendition);
        self.set_ladder(rendition, None);
        self.set_state(rendition, TrackState::Absent);
    }

    fn restarted(&mut self, rendition: Rendition) {
        match rendition {
            Rendition::Audio => self.segmenter.audio_restarted(),
            Rendition::Video(id) => self.segmenter.video_restarted(id),
        }
    }

    fn set_paused(&mut self, rendition: Rendition, paused: bool) {
        self.feeds.get_mut(&rendition).into_iter().for_each(|feed| feed.track.paused = paused);
        self.set_state(rendition, if paused { TrackState::Paused } else { TrackState::Active });
    }

    fn set_state(&mut self, rendition: Rendition, state: TrackState) {
        let made_of_it = self.rungs_of(rendition);
        for rendition in made_of_it.into_iter().chain([rendition]) {
            match rendition {
                Rendition::Audio => self.segmenter.set_audio(state),
                Rendition::Video(id) => self.segmenter.set_video(id, state),
            }
            self.presentation.set_gone(rendition, state == TrackState::Absent);
        }
    }

    fn event(&mut self, rendition: Rendition, event: Event) {
        match event {
            Event::Tap(output) => self.tapped(rendition, output),
            Event::Output(output) => {
                self.output(rendition, output);
                for _ in 0..MAX_BATCH {
                    let feed = self.feeds.get_mut(&rendition);
                    let Some(output) = feed.and_then(Feed::try_output) else { break };
                    self.output(rendition, output);
                }
            }
            Event::Started { again: false } => {}
            Event::Started { again: true } => self.restarted(rendition),
            Event::Due => self.forward(rendition),
        }
    }

    fn tapped(&mut self, rendition: Rendition, output: TapOutput) {
        match output {
            TapOutput::Packet(packet) => {
                if let Some(feed) = self.feeds.get_mut(&rendition) {
                    feed.packet(packet, Instant::now());
                }
                self.forward(rendition);
            }
            TapOutput::SenderReport { ntp, rtp } => {
                if let Some(feed) = self.feeds.get_mut(&rendition) {
                    feed.clock.sender_report(ntp, rtp);
                }
                self.synchronise();
            }
            TapOutput::Paused => self.set_paused(rendition, true),
            TapOutput::Resumed => self.set_paused(rendition, false),
            TapOutput::Closed => self.remove_track(rendition),
        }
    }

    /// Lets all video follow the best one, so that pictures of one moment stay together, and the audio where it tells its
    /// clock: a correction of that would be heard. Segments tell the publisher's time.
    fn synchronise(&mut self) {
        let mut epoch = None;
        for leader in [Rendition::Video(VideoId::BEST), Rendition::Audio] {
            let Some(leading) = self.feeds.remove(&leader) else { continue };
            let videos = self.feeds.iter_mut().filter(|(rendition, _)| **rendition != Rendition::Audio);
            videos.for_each(|(_, feed)| feed.clock.follow(&leading.clock));
            epoch = leading.clock.publisher_epoch().or(epoch);
            self.feeds.insert(leader, leading);
        }
        if let Some(epoch) = epoch {
            self.presentation.set_recorded_epoch(epoch);
        }
    }

    fn forward(&mut self, rendition: Rendition) {
        let Some(feed) = self.feeds.get_mut(&rendition) else { return };
        let Some(Damage { from, through }) = feed.forward(Instant::now()) else { return };
        match rendition {
            Rendition::Video(id) if feed.passes_damage() => self.segmenter.video_damaged(id, from, through),
            _ => feed.ask_publisher(),
        }
        self.ladder_of(rendition).into_iter().for_each(Ladder::damaged);
    }

    fn output(&mut self, rendition: Rendition, output: Output) {
        let instant = Instant::now();
        let now = self.epoch.moment(instant);
        let Some(feed) = self.feeds.get_mut(&rendition) else { return };
        match (output, rendition) {
            (Output::Video(unit), Rendition::Video(id)) => {
                feed.fruitful(unit.pts, instant);
                if feed.take_overflow() {
                    self.segmenter.video_lost(id);
                }
                if id == VideoId::BEST {
                    self.show(&unit);
                }
                self.encode(id, &unit, instant);
                self.push_video(id, unit, now);
            }
            (Output::Picture(picture), Rendition::Video(_)) => {
                feed.fruitful(picture.pts, instant);
                self.picture(&picture, instant);
            }
            (Output::Audio(unit), Rendition::Audio) => {
                feed.fruitful(unit.pts, instant);
                self.segmenter.push_audio(&unit, now);
            }
            (Output::Failed(reason), _) => feed.failed(&reason, instant),
            (Output::Video(_) | Output::Picture(_), Rendition::Audio)
            | (Output::Audio(_), Rendition::Video(_)) => {
                feed.failed("it gives another kind of media than it takes", instant);
            }
        }
    }

    /// Hands a key frame to whatever makes small pictures.
    fn show(&mut self, unit: &VideoUnit) {
        if unit.key {
            self.setup.files.show(unit);
            self.sprites.iter_mut().for_each(|sprites| sprites.show(unit));
        }
    }

    async fn tick(&mut self) {
        self.follow_away();
        let now = Instant::now();
        self.feeds.values_mut().for_each(|feed| feed.tick(now));
        self.ladder.iter_mut().for_each(|ladder| ladder.tick(now));
        self.rest_if_idle(now).await;
    }

    async fn poll_segmenter(&mut self) {
        let now: MediaTime = self.epoch.moment(Instant::now());
        let mut published = self.read_notes();
        while let Some(output) = self.segmenter.poll(now) {
            published |= !matches!(output, segmenter::Output::KeyFrame { .. });
            self.publish(output);
        }
        if published {
            let update = self.presentation.take_update();
            self.count_lost(update.lost);
            self.setup.files.apply(update);
            self.report_playable().await;
        }
    }

    /// Follows what became of segments on disk. True if that changes playlists.
    fn read_notes(&mut self) -> bool {
        let Some(shelf) = &self.setup.files.shelf else { return false };
        let mut changed = false;
        for note in shelf.take_notes() {
            match note {
                Note::Stored(name) if self.presentation.stored(&name) => {}
                Note::Stored(name) => shelf.remove(&name),
                Note::Lost(name) => {
                    self.presentation.lose(&name);
                    shelf.remove(&name);
                    changed = true;
                }
            }
        }
        changed
    }

    fn count_lost(&mut self, lost: usize) {
        let Some(shelf) = self.setup.files.shelf.as_ref().filter(|_| lost > 0) else { return };
        shelf.count_lost(lost);
        if !std::mem::replace(&mut self.told_loss, true) {
            tracing::warn!(peer = %self.setup.peer, "the disk is too slow or fails: DVR reaches less far back");
        }
    }

    fn publish(&mut self, output: segmenter::Output) {
        let written = match output {
            segmenter::Output::KeyFrame { video, request } => {
                let feed = self.feeds.get(&Rendition::Video(video));
                feed.into_iter().for_each(|feed| feed.request_key_frame(request));
                self.ladder.iter().for_each(|ladder| ladder.request_key_frame(video, request));
                Ok(())
            }
            segmenter::Output::Opened(opening) => {
                self.setup.files.set_next_sequence(opening.sequence.saturating_add(1));
                self.presentation.open(&opening)
            }
            segmenter::Output::Part(part) => self.presentation.push(&part),
            segmenter::Output::Closed { sequence, rendition } => self.presentation.close(sequence, rendition),
        };
        if let Err(reason) = written {
            tracing::error!(peer = %self.setup.peer, %reason, "HLS not written");
        }
    }

    async fn report_playable(&mut self) {
        let lone = !self.had.contains(&Rendition::Audio) || self.had.len() == 1;
        let enough = if lone { LONE_PLAYABLE_AFTER } else { part_hold_back(self.presentation.part_target()) };
        if !self.setup.files.playable() && self.presentation.listed_duration() >= enough {
            self.announce().await;
        }
    }

    /// Reports that the peer can be played, once.
    async fn announce(&mut self) {
        if self.setup.files.playable() {
            return;
        }
        self.setup.files.set_playable(true);
        let event = EgressEvent::Playable(self.setup.peer.clone());
        if self.setup.events.send(event).await.is_err() {
            tracing::debug!("nobody listens to egress events");
        }
    }
}

/// How segments are encrypted, with keys of this machine's random numbers.
fn encryption(config: &Config) -> Encryption {
    let keys = Box::new(|| ContentKey { id: rand::random(), secret: rand::random(), iv: rand::random() });
    Encryption { method: config.encryption, segments_per_key: config.key_rotation_segments, keys }
}

/// Waits until the peer is over: at once, or when it was away for too long. Cancel safe.
async fn ended(ending: &watch::Sender<Ending>, changes: &mut watch::Receiver<Ending>) -> Ending {
    loop {
        let now = *changes.borrow_and_update();
        let patience = async {
            match now {
                Ending::Away(until) => tokio::time::sleep_until(until.into()).await,
                _ => std::future::pending().await,
            }
        };
        if !matches!(now, Ending::No | Ending::Away(_)) {
            return now;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return Ending::Shutdown },
            // Unless it came back this moment.
            () = patience => drop(ending.send_if_modified(|current| {
                let over = *current == now;
                if over {
                    *current = Ending::Left;
                }
                over
            })),
        }
    }
}

/// The next pictures of what was shown, if any are made. Cancel safe.
async fn next_sprite(sprites: &mut Option<Sprites>) -> Sprite {
    match sprites {
        Some(sprites) => sprites.next().await,
        None => std::future::pending().await,
    }
}

/// The next event of any feed. Cancel safe.
async fn next(feeds: &mut BTreeMap<Rendition, Feed>) -> (Rendition, Event) {
    // The audio first: it brings little, and is missed most.
    let feeds = feeds.iter_mut().rev();
    let mut waits: Vec<_> =
        feeds.map(|(rendition, feed)| Box::pin(async { (*rendition, feed.next().await) })).collect();
    std::future::poll_fn(|context| {
        let ready = waits.iter_mut().find_map(|wait| match wait.as_mut().poll(context) {
            Poll::Ready(event) => Some(event),
            Poll::Pending => None,
        });
        ready.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}
