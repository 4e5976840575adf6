//! A stream that is made on demand, while nobody asks: its tracks wait without pipelines, and without packets once there
//! was one.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use mediasoup_types::rtp_parameters::MediaKind;

use super::{Ending, LONE_PLAYABLE_AFTER, Peer};
use crate::egress::Track;
use crate::egress::store::PeerFiles;
use crate::ids::ProducerId;
use crate::media::segmenter::Rendition;
use crate::sfu::api::TapOutput;

/// The tracks that wait, and what is known of the peer's tracks.
#[derive(Default)]
pub(super) struct Dormant {
    /// Nothing is made: further tracks wait as well.
    pub(super) rests: bool,
    tracks: BTreeMap<Rendition, Track>,
    /// Kinds of media that came.
    heard: BTreeSet<MediaKind>,
    /// When the first of them came.
    since: Option<Instant>,
}

impl Dormant {
    pub(super) fn new(rests: bool) -> Self {
        Self { rests, ..Self::default() }
    }

    pub(super) fn add(&mut self, track: Track) {
        self.tracks.insert(track.rendition(), track);
    }

    pub(super) fn remove(&mut self, producer: ProducerId) {
        self.tracks.retain(|_, track| track.producer_id != producer);
    }

    /// What the next track brings, or nothing if somebody asks for the stream. Cancel safe.
    pub(super) async fn next(&mut self, files: &PeerFiles) -> Option<(Rendition, TapOutput)> {
        let rests = self.rests;
        let wanted = async {
            match files.demand.as_ref().filter(|_| rests) {
                Some(demand) => demand.wanted().await,
                None => std::future::pending().await,
            }
        };
        let heard = std::future::poll_fn(|context| {
            let ready =
                self.tracks.iter_mut().find_map(|(rendition, track)| match track.source.poll_recv(context) {
                    Poll::Ready(output) => Some((*rendition, output.unwrap_or(TapOutput::Closed))),
                    Poll::Pending => None,
                });
            ready.map_or(Poll::Pending, Poll::Ready)
        });
        tokio::select! {
            () = wanted => None,
            heard = heard => Some(heard),
        }
    }

    /// Whether no further track is about to come, as far as one can tell.
    fn is_complete(&self, now: Instant) -> bool {
        let since = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.heard.len() > 1 || since >= LONE_PLAYABLE_AFTER
    }
}

impl Peer {
    /// Takes what [`Dormant::next`] says.
    pub(super) async fn dozed(&mut self, heard: Option<(Rendition, TapOutput)>) {
        match heard {
            Some((rendition, output)) => self.heard(rendition, output).await,
            None => self.wake().await,
        }
    }

    /// Starts the pipelines of all tracks.
    async fn wake(&mut self) {
        tracing::info!(peer = %self.setup.peer, "somebody asks for the stream, it begins");
        self.dormant.rests = false;
        for track in std::mem::take(&mut self.dormant.tracks).into_values() {
            let resume = (track.set_tap_paused)(false);
            self.add_track(track);
            resume.await;
        }
        if self.dormant.is_complete(Instant::now()) {
            self.segmenter.all_announced();
        }
    }

    /// Takes what a track brings that nobody asks for.
    async fn heard(&mut self, rendition: Rendition, output: TapOutput) {
        let Some(track) = self.dormant.tracks.get_mut(&rendition) else { return };
        match output {
            TapOutput::Packet(_) => {
                self.dormant.heard.insert(track.kind);
                self.dormant.since.get_or_insert_with(Instant::now);
                (track.set_tap_paused)(true).await;
            }
            TapOutput::SenderReport { .. } => {}
            TapOutput::Paused => track.paused = true,
            TapOutput::Resumed => track.paused = false,
            TapOutput::Closed => drop(self.dormant.tracks.remove(&rendition)),
        }
    }

    /// Announces a stream that rests as soon as it can be asked for, and lets one rest that nobody asks for.
    pub(super) async fn rest_if_idle(&mut self, now: Instant) {
        let Some(demand) = &self.setup.files.demand else { return };
        if self.dormant.rests {
            if self.dormant.is_complete(now) {
                self.announce().await;
            }
            return;
        }
        let idle = Duration::from_secs(self.setup.config.idle_secs);
        // One that was left ends by itself.
        let goes_on = *self.setup.ending.borrow() == Ending::No;
        if !idle.is_zero() && goes_on && demand.rest(now, idle) {
            self.rest().await;
        }
    }

    /// Stops everything. What comes later goes on with the numbers, behind a discontinuity.
    async fn rest(&mut self) {
        tracing::info!(peer = %self.setup.peer, "nobody asks for the stream any more, it rests");
        self.setup.files.empty();
        self.dormant.rests = true;
        self.ladder = None;
        for feed in std::mem::take(&mut self.feeds).into_values() {
            let track = feed.into_track();
            // One that was not announced is to be heard of first.
            if self.setup.files.playable() {
                (track.set_tap_paused)(true).await;
            }
            self.dormant.add(track);
        }
        self.had.clear();
        self.sprites = self.setup.sprites();
        self.segmenter = self.setup.segmenter().after_break();
        self.presentation = self.setup.presentation(SystemTime::now()).continuing(&self.presentation);
    }
}
