//! A ladder: the pictures of a publisher that sends one quality, decoded once and encoded in several sizes.
//!
//! The decoder and each rung are pipelines of their own, so that one that fails or hangs is replaced alone. Pictures go
//! from one to the others by reference. A rung that can't keep up drops pictures before it encodes them, which damages
//! nothing and costs nobody else anything.

mod steps;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use tokio::sync::oneshot;

use super::feed::Shared;
use super::meter::{Meter, OnTheWay};
use super::pipeline::{Picture, Pipeline, Plan};
use super::supervisor::{Event, Supervisor};
use super::templates::{Template, Variables};
use super::watchdog::Watchdog;
use crate::ids::PeerId;
use crate::media::fmp4::VIDEO_TIMESCALE;
use crate::media::segmenter::{KeyFrameRequest, Rendition, VideoId, VideoUnit};
use crate::media::timeline::MediaTime;
pub use steps::{Step, StepError, check};
use steps::{Target, targets};

/// Pictures that are inside of a rung's pipeline or wait for its start, at most: a fifth of a second.
const MAX_PICTURES: usize = 6;
/// Access units that are inside of the decoder's pipeline or wait for its start, at most: a second.
const MAX_UNITS: usize = 30;

/// What an event is of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Member {
    Decoder,
    Rung(VideoId),
}

/// What the source's size changes for a rendition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// A new encoder makes it from now on.
    Encoded,
    /// The source is too small for it by now: whoever plays it gets what the best rendition has.
    Follows,
}

/// The ladder of one track.
pub(super) struct Ladder {
    peer: PeerId,
    shared: Shared,
    /// Decodes what is also passed through. The pictures of what isn't come from the track's own pipeline.
    decoder: Option<Decoder>,
    rungs: BTreeMap<VideoId, Rung>,
    /// Renditions that there were before the source became too small for them.
    followers: BTreeSet<VideoId>,
    /// The source's size.
    size: Option<(u32, u32)>,
}

impl Ladder {
    /// The ladder of a track that is, or is not, `passed_through` as its best rendition.
    pub(super) fn new(peer: &PeerId, passed_through: bool, shared: &Shared) -> Self {
        Self {
            peer: peer.clone(),
            shared: shared.clone(),
            decoder: passed_through.then(|| Decoder::start(peer, shared)),
            rungs: BTreeMap::new(),
            followers: BTreeSet::new(),
            size: None,
        }
    }

    /// The renditions that it makes.
    pub(super) fn renditions(&self) -> Vec<VideoId> {
        self.rungs.keys().chain(&self.followers).copied().collect()
    }

    /// The renditions that get what the best one has.
    pub(super) fn followers(&self) -> &BTreeSet<VideoId> {
        &self.followers
    }

    /// The next event. Cancel safe.
    pub(super) async fn next(&mut self) -> (Member, Event) {
        let decoder = self.decoder.iter_mut().map(|decoder| (Member::Decoder, &mut decoder.stage));
        let rungs = self.rungs.iter_mut().map(|(id, rung)| (Member::Rung(*id), &mut rung.stage));
        let mut waits: Vec<_> = decoder
            .chain(rungs)
            .map(|(member, stage)| Box::pin(async move { (member, stage.supervisor.next().await) }))
            .collect();
        std::future::poll_fn(|context| {
            let ready = waits.iter_mut().find_map(|wait| match wait.as_mut().poll(context) {
                Poll::Ready(event) => Some(event),
                Poll::Pending => None,
            });
            ready.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// A pipeline runs from now on: it gets what has waited for it.
    pub(super) fn started(&mut self, member: Member, now: Instant) {
        match member {
            Member::Decoder => self.decoder.iter_mut().for_each(|decoder| decoder.started(now)),
            Member::Rung(id) => self.rungs.get_mut(&id).into_iter().for_each(|rung| rung.started(now)),
        }
    }

    /// Notes that something of the moment `pts` came out.
    pub(super) fn fruitful(&mut self, member: Member, pts: MediaTime, now: Instant) {
        self.stage(member).into_iter().for_each(|stage| stage.fruitful(pts, now));
    }

    /// Notes that a pipeline failed.
    pub(super) fn failed(&mut self, member: Member, reason: &str, now: Instant) {
        self.stage(member).into_iter().for_each(|stage| stage.supervisor.failed(reason, now));
    }

    /// Whether access units were lost between a pipeline and its reader.
    pub(super) fn take_overflow(&mut self, member: Member) -> bool {
        let pipeline = self.stage(member).and_then(|stage| stage.supervisor.pipeline());
        pipeline.is_some_and(Pipeline::take_overflow)
    }

    fn stage(&mut self, member: Member) -> Option<&mut Stage> {
        match member {
            Member::Decoder => self.decoder.as_mut().map(|decoder| &mut decoder.stage),
            Member::Rung(id) => self.rungs.get_mut(&id).map(|rung| &mut rung.stage),
        }
    }

    /// Takes note of the source's size from the moment `at` on, and answers what that changes.
    pub(super) fn resize(&mut self, size: (u32, u32), at: MediaTime) -> Vec<(VideoId, Change)> {
        if self.size.replace(size) == Some(size) {
            return Vec::new();
        }
        let targets = targets(&self.shared.ladder, size, self.decoder.is_some());
        let mut changes = Vec::new();
        let too_large = |id: &VideoId| targets.iter().all(|(target, _)| target != id);
        let above: Vec<VideoId> = self.rungs.keys().copied().filter(too_large).collect();
        for id in above {
            self.rungs.remove(&id);
            self.followers.insert(id);
            changes.push((id, Change::Follows));
        }
        for (id, target) in targets {
            match self.rungs.get(&id) {
                // What is best begins anew with a key frame, and so does whatever stays as it is.
                Some(rung) if rung.target == target => rung.force_key_frame(Some(at)),
                _ => {
                    tracing::info!(peer = %self.peer, rendition = id.index(), ?target, "rung of the ladder");
                    self.followers.remove(&id);
                    self.rungs.insert(id, Rung::start(&self.peer, id, target, &self.shared));
                    changes.push((id, Change::Encoded));
                }
            }
        }
        changes
    }

    /// Takes an access unit of what is passed through.
    pub(super) fn unit(&mut self, unit: &VideoUnit, now: Instant) {
        let Some(decoder) = &mut self.decoder else { return };
        if unit.key {
            // So that segments of all renditions begin with the same picture.
            self.rungs.values().for_each(|rung| rung.force_key_frame(Some(unit.pts)));
        }
        decoder.take(unit.clone(), now);
    }

    /// Packets of what is passed through were lost: the decoder may have to wait for a key frame.
    pub(super) fn damaged(&mut self) {
        self.decoder.iter_mut().for_each(Decoder::damaged);
    }

    /// Takes a decoded picture.
    pub(super) fn picture(&mut self, picture: &Picture, now: Instant) {
        self.rungs.values_mut().for_each(|rung| rung.take(picture.clone(), now));
    }

    /// Passes a segmenter's request on to the encoder of a rendition.
    pub(super) fn request_key_frame(&self, id: VideoId, request: KeyFrameRequest) {
        let Some(rung) = self.rungs.get(&id) else { return };
        match request {
            KeyFrameRequest::Missing => rung.force_key_frame(None),
            KeyFrameRequest::Due(at) if self.decoder.is_none() => rung.force_key_frame(Some(at)),
            // The publisher was asked as well; its key frame becomes everybody's.
            KeyFrameRequest::Due(_) => {}
        }
    }

    /// Regular upkeep: replaces a pipeline that hangs.
    pub(super) fn tick(&mut self, now: Instant) {
        let rungs = self.rungs.values_mut().map(|rung| &mut rung.stage);
        let decoder = self.decoder.iter_mut().map(|decoder| &mut decoder.stage);
        rungs.chain(decoder).for_each(|stage| stage.supervisor.tick(now));
    }

    /// Stops all pipelines; the answers come when their threads have ended.
    pub(super) fn stop(self) -> Vec<oneshot::Receiver<()>> {
        let rungs = self.rungs.into_values().map(|rung| rung.stage);
        let decoder = self.decoder.into_iter().map(|decoder| decoder.stage);
        rungs.chain(decoder).filter_map(|stage| stage.supervisor.stop()).collect()
    }
}

/// One pipeline.
struct Stage {
    supervisor: Supervisor,
    meter: Arc<Meter>,
    on_the_way: OnTheWay,
}

impl Stage {
    fn start(
        peer: &PeerId,
        id: VideoId,
        template: Template,
        target: Option<Target>,
        shared: &Shared,
    ) -> Self {
        let meter = shared.meters.add(Meter::new(peer.clone(), Rendition::Video(id), template.name()));
        let variables = Variables {
            clock_rate: VIDEO_TIMESCALE,
            channels: 1,
            video_kbps: target.map_or(0, |target| target.kbps),
            size: target.map_or((0, 0), |target| target.size),
            fallback: false,
        };
        let plan = Plan {
            templates: Arc::clone(&shared.templates),
            template,
            variables,
            blocking: shared.blocking.for_track(),
            meter: Arc::clone(&meter),
        };
        let needs_key_frame = template == Template::H264Pictures;
        let supervisor = Supervisor::new(plan, needs_key_frame, Instant::now());
        Self { supervisor, meter, on_the_way: OnTheWay::default() }
    }

    /// The pipeline, if it runs and has room for one more of `most`; what goes in is then noted.
    fn enter(&mut self, pts: MediaTime, key: bool, most: usize, now: Instant) -> Option<&Pipeline> {
        if self.on_the_way.len() >= most {
            return None;
        }
        self.supervisor.watchdog()?.fed(key, true);
        self.on_the_way.note(pts, now);
        self.meter.frame_in();
        self.supervisor.pipeline()
    }

    fn fruitful(&mut self, pts: MediaTime, now: Instant) {
        self.supervisor.watchdog().into_iter().for_each(Watchdog::answered);
        let entered = self.on_the_way.take(pts);
        self.meter.unit_out(entered.map(|entered| now.saturating_duration_since(entered)));
    }
}

/// Makes pictures of what is passed through.
struct Decoder {
    stage: Stage,
    /// What came while the pipeline starts.
    waiting: VecDeque<VideoUnit>,
    /// Something was left out, so that nothing can be decoded before the next key frame.
    needs_key: bool,
}

impl Decoder {
    fn start(peer: &PeerId, shared: &Shared) -> Self {
        let stage = Stage::start(peer, VideoId::BEST, Template::H264Pictures, None, shared);
        Self { stage, waiting: VecDeque::new(), needs_key: true }
    }

    fn take(&mut self, unit: VideoUnit, now: Instant) {
        self.needs_key &= !unit.key;
        if self.needs_key {
            return self.stage.meter.dropped();
        }
        if self.stage.supervisor.is_starting() && self.waiting.len() < MAX_UNITS {
            return self.waiting.push_back(unit);
        }
        self.feed(&unit, now);
    }

    fn feed(&mut self, unit: &VideoUnit, now: Instant) {
        match self.stage.enter(unit.pts, unit.key, MAX_UNITS, now) {
            Some(pipeline) => pipeline.push_unit(unit),
            None => {
                self.stage.meter.dropped();
                self.needs_key = true;
                self.waiting.clear();
            }
        }
    }

    fn started(&mut self, now: Instant) {
        self.stage.on_the_way.clear();
        while let Some(unit) = self.waiting.pop_front() {
            self.feed(&unit, now);
        }
    }

    fn damaged(&mut self) {
        self.stage.supervisor.watchdog().into_iter().for_each(Watchdog::lost);
        // What it can't decode never comes out.
        self.stage.on_the_way.clear();
    }
}

/// Makes one rendition of pictures.
struct Rung {
    stage: Stage,
    target: Target,
    /// What came while the pipeline starts.
    waiting: VecDeque<Picture>,
}

impl Rung {
    fn start(peer: &PeerId, id: VideoId, target: Target, shared: &Shared) -> Self {
        let stage = Stage::start(peer, id, Template::Rung, Some(target), shared);
        Self { stage, target, waiting: VecDeque::new() }
    }

    fn take(&mut self, picture: Picture, now: Instant) {
        if self.stage.supervisor.is_starting() && self.waiting.len() < MAX_PICTURES {
            return self.waiting.push_back(picture);
        }
        self.feed(&picture, now);
    }

    fn feed(&mut self, picture: &Picture, now: Instant) {
        match self.stage.enter(picture.pts, true, MAX_PICTURES, now) {
            Some(pipeline) => pipeline.push_picture(picture),
            None => self.stage.meter.dropped(),
        }
    }

    fn started(&mut self, now: Instant) {
        self.stage.on_the_way.clear();
        while let Some(picture) = self.waiting.pop_front() {
            self.feed(&picture, now);
        }
    }

    fn force_key_frame(&self, at: Option<MediaTime>) {
        let pipeline = self.stage.supervisor.pipeline();
        pipeline.into_iter().for_each(|pipeline| pipeline.force_key_frame(at));
    }
}
