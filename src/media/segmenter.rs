//! Cuts a peer's access units into parts and segments: every boundary is decided once, for all renditions together, so
//! that segment N of each of them covers the same time and carries the same discontinuity.
//!
//! Time is cut into slices of one part's length, counted from the beginning of the segment. A slice of a rendition is
//! given out as soon as nothing more is to be expected for it: the next picture is there, or not due before the slice
//! ends. A segment begins on a key frame, which is asked for shortly before it is due. What is missing is filled:
//! silence for audio, what was shown last for video, so that a pause, a mute or a lost track never stops a player.
//!
//! Pure: time comes in as values, and nothing here knows boxes or playlists.

mod audio;
mod delay;
mod group;
#[cfg(test)]
mod tests;
mod units;
mod video;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::media::fmp4::{AudioConfig, VideoConfig};
use crate::media::timeline::MediaTime;
use audio::AudioQueue;
pub use units::{
    AudioUnit, KeyFrameRequest, MAX_VIDEOS, Opening, Output, Part, Rendition, TrackState, VideoId, VideoUnit,
};
use video::{Boundary, VideoQueue};

/// How long a segment should be.
pub const TARGET: Duration = Duration::from_secs(2);
/// How long the first segment should be: players want one that is complete before they begin.
pub const FIRST_TARGET: Duration = Duration::from_secs(1);
/// The playlists' constant EXT-X-TARGETDURATION, in seconds. The second above [`TARGET`] is the time that a publisher
/// has to answer a key frame request.
pub const TARGET_DURATION_SECS: u64 = 3;
/// No segment is longer than this. An audio segment may end up to one frame (22 ms) after its video, so the limit is
/// that much below [`TARGET_DURATION_SECS`].
pub const MAX_SEGMENT: Duration = Duration::from_millis(2950);
/// A key frame that comes this much before [`TARGET`] ends the segment, instead of asking for another one.
pub const EARLY: Duration = Duration::from_millis(250);
/// How long before it is due a key frame is asked for: a round trip and the time to encode it.
pub const REQUEST_LEAD: Duration = Duration::from_millis(150);
/// How long after an unanswered request the next one follows.
pub const REQUEST_RETRY: Duration = Duration::from_millis(500);
/// Parts are a multiple of this: three AAC frames at 48 kHz, so that sound and pictures can be cut at the same moments
/// and all parts are equally long.
pub const PART_STEP: Duration = Duration::from_millis(64);
/// No part is shorter than this: every picture of it needs a moment of its own.
pub const MIN_PART: Duration = Duration::from_millis(10);
/// How much later than usual a picture may come before the slice it belongs to is closed without it. Together with the
/// slice itself that is less than PART-HOLD-BACK, so a player runs dry for a moment at most.
pub const VIDEO_PATIENCE: Duration = Duration::from_millis(350);
/// How much later than usual sound may come before silence takes its place.
pub const AUDIO_PATIENCE: Duration = Duration::from_millis(250);
/// A track that brought nothing for so long is not waited for any more.
pub const STALL: Duration = Duration::from_millis(1500);
/// What is closed when nothing at all flows is closed this much after its time.
pub const CLOCK_PATIENCE: Duration = Duration::from_millis(100);
/// No slice is closed that ends more than this in the future, whatever the times of what came.
pub const MAX_LEAD: Duration = Duration::from_secs(1);
/// A unit that is further than this in the future has a wrong time and is dropped.
pub const MAX_AHEAD: Duration = Duration::from_secs(5);
/// How long the first segment waits for a track that is announced but has not brought anything yet.
pub const START_HOLD: Duration = Duration::from_secs(5);
/// How long the first segment waits for a track of the other kind to be announced: clients publish one by one.
pub const LONE_HOLD: Duration = Duration::from_millis(500);
/// The longest that damaged video is held back for a key frame that repairs it.
pub const REPAIR_PATIENCE: Duration = Duration::from_secs(2);
/// The most video of one rendition that waits to be cut, in bytes; more is dropped up to the next key frame.
pub const MAX_VIDEO_BYTES: usize = 32 << 20;
/// The most pictures of one rendition that wait to be cut: 8 s at 60 Hz.
pub const MAX_PICTURES: usize = 480;
/// The most audio frames that wait to be cut: 15 s at 48 kHz.
pub const MAX_AUDIO_FRAMES: usize = 704;

/// The part length that comes nearest below `wanted`: a multiple of [`PART_STEP`].
#[must_use]
pub fn part_length(wanted: Duration) -> Duration {
    let steps = wanted.as_millis() / PART_STEP.as_millis();
    PART_STEP * u32::try_from(steps.clamp(1, 15)).unwrap_or(1)
}

/// The segment that is being filled.
#[derive(Debug)]
struct Open {
    start: MediaTime,
    /// Where the open slice begins; everything before was given out.
    next: MediaTime,
    /// The decoder configuration of each video rendition that the segment has.
    video: Vec<Option<Arc<VideoConfig>>>,
    /// The audio's, if the segment has audio.
    audio: Option<Arc<AudioConfig>>,
    discontinuity: bool,
}

/// What the audio has to do when it reaches the places that the video decided on.
#[derive(Debug)]
enum AudioStep {
    /// A part up to this moment.
    Part { sequence: u64, end: MediaTime },
    /// The segment ends.
    Close { sequence: u64 },
    /// Another configuration takes over.
    Switch(Arc<AudioConfig>),
}

/// What is to be done with what is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The slice ends.
    Slice(MediaTime),
    /// The segment ends. `at` is where the open slice begins, or a later moment up to which it is given out.
    Segment { at: MediaTime, discontinuity: bool },
    /// Nothing of the segment was given out yet, so it begins with this picture instead.
    Restart { video: usize, at: MediaTime },
}

/// Cuts one peer's access units.
#[derive(Debug)]
pub struct Segmenter {
    part: Duration,
    /// How long the open segment should be.
    target: Duration,
    /// The number of the open segment.
    sequence: u64,
    /// Whether anything was given out.
    published: bool,
    /// When the first unit came, until the first segment is opened.
    waiting_since: Option<MediaTime>,
    open: Option<Open>,
    /// By [`VideoId`].
    videos: Vec<VideoQueue>,
    audio: AudioQueue,
    audio_steps: VecDeque<AudioStep>,
    /// How long the first segment waits for a track of the other kind.
    lone_hold: Duration,
    /// The first segment begins with a discontinuity.
    goes_on: bool,
    /// The next boundary is a discontinuity.
    break_next: bool,
    next_request: MediaTime,
    /// Nothing more will come, so nothing is waited for.
    finishing: bool,
    outputs: VecDeque<Output>,
}

impl Segmenter {
    /// A segmenter whose first segment has the number `first_sequence`, and whose parts are `part` long (see
    /// [`part_length`]).
    #[must_use]
    pub fn new(first_sequence: u64, part: Duration) -> Self {
        Self {
            part: part_length(part),
            target: FIRST_TARGET,
            sequence: first_sequence,
            published: false,
            waiting_since: None,
            open: None,
            videos: Vec::new(),
            audio: AudioQueue::default(),
            audio_steps: VecDeque::new(),
            lone_hold: LONE_HOLD,
            goes_on: false,
            break_next: false,
            next_request: MediaTime::default(),
            finishing: false,
            outputs: VecDeque::new(),
        }
    }

    /// The same, for a stream that goes on after a break: its first segment begins with a discontinuity.
    #[must_use]
    pub fn after_break(self) -> Self {
        Self { goes_on: true, ..self }
    }

    /// Tells that all tracks are announced: the first segment waits for no further one.
    pub fn all_announced(&mut self) {
        self.lone_hold = Duration::ZERO;
    }

    /// Tells what a video track does. After anything but activity its next picture has to be a key frame.
    pub fn set_video(&mut self, video: VideoId, state: TrackState) {
        self.video(video).set_state(state);
    }

    /// Tells what the audio track does.
    pub fn set_audio(&mut self, state: TrackState) {
        self.audio.state = state;
    }

    /// The video comes from somewhere else from now on (another producer, a restarted pipeline).
    pub fn video_restarted(&mut self, video: VideoId) {
        self.video(video).restarted();
    }

    /// The audio comes from somewhere else from now on (another producer, a restarted pipeline).
    pub fn audio_restarted(&mut self) {
        self.break_next |= self.audio.started();
    }

    /// Packets of the video were lost: pictures from `from` to `through` lack some, and those behind them refer to
    /// damaged ones until the next key frame. `through` before `from` says that only whole pictures are missing.
    pub fn video_damaged(&mut self, video: VideoId, from: MediaTime, through: MediaTime) {
        self.video(video).damaged(from, through);
    }

    /// Whole pictures are missing behind the last one that was pushed.
    pub fn video_lost(&mut self, video: VideoId) {
        self.video(video).lost();
    }

    /// Takes a picture, in decode order.
    pub fn push_video(&mut self, video: VideoId, unit: VideoUnit, now: MediaTime) {
        if unit.pts > now + MAX_AHEAD {
            return self.video_lost(video);
        }
        self.waiting_since.get_or_insert(now);
        let given_out = self.open.as_ref().map(|open| open.next);
        self.video(video).push(unit, given_out, now);
    }

    /// Takes an audio frame.
    pub fn push_audio(&mut self, unit: &AudioUnit, now: MediaTime) {
        if unit.pts > now + MAX_AHEAD {
            return;
        }
        self.waiting_since.get_or_insert(now);
        self.audio.push(unit, now);
    }

    /// What is to be done at `now`; to be called until it says nothing.
    pub fn poll(&mut self, now: MediaTime) -> Option<Output> {
        if self.outputs.is_empty() {
            if self.open.is_none() {
                self.try_start(now);
            }
            while let Some(step) = self.next_step(now) {
                self.carry_out(step);
            }
            self.audio_parts(now);
            self.request_key_frames(now);
        }
        self.outputs.pop_front()
    }

    /// Closes what is open, as far as it goes; to be called until it says nothing. Nothing may be pushed any more.
    pub fn finish(&mut self, now: MediaTime) -> Option<Output> {
        if !std::mem::replace(&mut self.finishing, true) {
            self.close_all(now);
        }
        self.outputs.pop_front()
    }

    fn close_all(&mut self, now: MediaTime) {
        let video_ends = self.videos.iter().filter_map(VideoQueue::end);
        let audio_end =
            self.open.as_ref().filter(|open| open.audio.is_some()).and_then(|_| self.audio.end_moment());
        let Some(end) = video_ends.chain(audio_end).max() else { return };
        while let Some(step) = self.next_step(now) {
            let beyond = matches!(step, Step::Slice(at) if at > end);
            if beyond {
                break;
            }
            self.carry_out(step);
        }
        if let Some(open) = &self.open {
            // An audio part has to hold at least one frame.
            if end > open.next + PART_STEP / 2 {
                self.give_out(end, true);
            }
            self.close();
        }
        self.open = None;
        self.audio_parts(now);
    }

    fn video(&mut self, video: VideoId) -> &mut VideoQueue {
        let index = video.index();
        if self.videos.len() <= index {
            self.videos.resize_with(index + 1, VideoQueue::default);
        }
        &mut self.videos[index]
    }

    /// Opens the first segment once every announced track has brought something, or was waited for long enough.
    fn try_start(&mut self, now: MediaTime) {
        let Some(since) = self.waiting_since else { return };
        let active = |queue: &&VideoQueue| queue.state == TrackState::Active;
        let video_waits = self.videos.iter().filter(active).any(|queue| queue.front_key().is_none());
        let audio_waits = self.audio.state == TrackState::Active && !self.audio.started();
        let announced = self.videos.iter().any(|queue| queue.state != TrackState::Absent);
        let lone = announced != (self.audio.state != TrackState::Absent);
        let hold = if video_waits || audio_waits {
            START_HOLD
        } else if lone {
            self.lone_hold
        } else {
            Duration::ZERO
        };
        if now < since + hold {
            return;
        }
        let keys: Vec<_> = self.videos.iter().map(VideoQueue::front_key).collect();
        let first_key = keys.iter().flatten().map(|(pts, _)| *pts).min();
        let Some(start) = first_key.or_else(|| self.audio.first_moment()) else { return };
        self.audio.begin(start);
        let audio = self.audio.config();
        let video = keys.into_iter().map(|key| key.map(|(_, config)| config)).collect();
        self.open = Some(Open { start, next: start, video, audio, discontinuity: self.goes_on });
    }

    /// The video that decides where segments end: the best one that flows.
    fn leader(&self, now: MediaTime) -> Option<usize> {
        self.videos.iter().position(|queue| queue.flows(now))
    }

    /// What comes next for what is open, as far as it is known at `now`.
    fn next_step(&self, now: MediaTime) -> Option<Step> {
        let open = self.open.as_ref()?;
        let leader = self.leader(now);
        let limit = if leader.is_some() { MAX_SEGMENT } else { self.target };
        let end = open.next + self.part;
        if end > open.start + limit {
            return Some(Step::Segment { at: open.next, discontinuity: false });
        }
        let due = open.start + self.target.saturating_sub(EARLY);
        let boundaries = self.videos.iter().enumerate().filter_map(|(index, queue)| {
            let config = open.video.get(index).and_then(Option::as_ref);
            let due = (leader == Some(index)).then_some(due);
            Some((index, queue.boundary(config, due, end)?))
        });
        let boundary = boundaries.min_by_key(|(_, boundary)| (boundary.at, !boundary.discontinuity));
        let until = boundary.map_or(end, |(_, boundary)| boundary.at);
        if !self.reached(until, leader, now) {
            return None;
        }
        let Some((video, Boundary { at, discontinuity })) = boundary else { return Some(Step::Slice(end)) };
        if open.next == open.start {
            return Some(Step::Restart { video, at });
        }
        // Without a picture before it in this slice, the key frame begins the next segment where the slice began.
        let before = self.videos.iter().any(|queue| queue.brings_before(at));
        let at = if before { at.max(open.next + MIN_PART) } else { open.next };
        Some(Step::Segment { at, discontinuity })
    }

    /// Whether nothing more is to be expected before `at`.
    fn reached(&self, at: MediaTime, leader: Option<usize>, now: MediaTime) -> bool {
        if self.finishing {
            return true;
        }
        if at > now + MAX_LEAD {
            return false;
        }
        if leader.is_some() {
            return self.videos.iter().all(|queue| !queue.flows(now) || queue.reached(at, now));
        }
        // No picture decides: the audio does, or the clock.
        if self.audio.flows(now) { self.audio.reached(at, now) } else { now >= at + CLOCK_PATIENCE }
    }

    fn carry_out(&mut self, step: Step) {
        match step {
            Step::Slice(end) => self.give_out(end, false),
            Step::Segment { at, discontinuity } => {
                if self.open.as_ref().is_some_and(|open| at > open.next) {
                    self.give_out(at, true);
                }
                self.close();
                self.open_at(at, discontinuity);
            }
            Step::Restart { video, at } => self.restart(video, at),
        }
    }

    /// Lets the open segment, of which nothing was given out, begin with the picture at `at`.
    fn restart(&mut self, video: usize, at: MediaTime) {
        let (Some(open), Some(queue)) = (&mut self.open, self.videos.get_mut(video)) else { return };
        let start = if self.published { open.start } else { at };
        let config = queue.restart_at(at, start);
        if open.video.len() <= video {
            open.video.resize(video + 1, None);
        }
        open.video[video] = config;
        (open.start, open.next) = (start, start);
        open.discontinuity |= self.published;
        if !self.published {
            self.audio.begin(start);
            open.audio = self.audio.config();
        }
    }

    /// Gives out the open slice up to `end`; `last` says that the segment ends there.
    fn give_out(&mut self, end: MediaTime, last: bool) {
        let Some(open) = &mut self.open else { return };
        let first = open.next == open.start;
        if first {
            let video = open.video.iter().enumerate();
            self.outputs.push_back(Output::Opened(Opening {
                sequence: self.sequence,
                discontinuity: open.discontinuity,
                start: open.start,
                video: video.filter_map(|(id, config)| Some((VideoId::new(id)?, config.clone()?))).collect(),
                audio: open.audio.clone(),
            }));
        }
        let slice = video::Slice { start: open.next, end, last, first, fresh: first && open.discontinuity };
        for (index, queue) in self.videos.iter_mut().enumerate() {
            let config = open.video.get(index).and_then(Option::as_ref);
            let (Some(config), Some(id)) = (config, VideoId::new(index)) else { continue };
            let part = queue.take(config, slice, Rendition::Video(id), self.sequence);
            self.outputs.push_back(Output::Part(part));
        }
        if open.audio.is_some() {
            self.audio_steps.push_back(AudioStep::Part { sequence: self.sequence, end });
        }
        open.next = end;
        self.published = true;
    }

    /// Closes the open segment.
    fn close(&mut self) {
        let Some(open) = &self.open else { return };
        if open.next == open.start {
            return;
        }
        let sequence = self.sequence;
        for (index, _) in open.video.iter().enumerate().filter(|(_, config)| config.is_some()) {
            let Some(id) = VideoId::new(index) else { continue };
            self.outputs.push_back(Output::Closed { sequence, rendition: Rendition::Video(id) });
        }
        if open.audio.is_some() {
            self.audio_steps.push_back(AudioStep::Close { sequence });
        }
        self.sequence = self.sequence.saturating_add(1);
        self.target = TARGET;
    }

    /// Opens the next segment at `at`; it holds whatever has brought something by now.
    fn open_at(&mut self, at: MediaTime, discontinuity: bool) {
        let Some(before) = self.open.take() else { return };
        let mut changed = discontinuity;
        let mut video = Vec::with_capacity(self.videos.len());
        for (index, queue) in self.videos.iter_mut().enumerate() {
            let current = before.video.get(index).and_then(Option::as_ref);
            let opening = queue.open(at, self.part);
            changed |= opening.as_ref().is_some_and(|(config, breaks)| *breaks || Some(config) != current);
            video.push(opening.map(|(config, _)| config).or_else(|| current.cloned()));
        }
        let audio = if before.audio.is_none() {
            self.audio.begin(at);
            self.audio.config()
        } else if let Some(next) = self.audio.take_next_config() {
            self.audio_steps.push_back(AudioStep::Switch(Arc::clone(&next)));
            Some(next)
        } else {
            before.audio.clone()
        };
        let discontinuity = changed || audio != before.audio || std::mem::take(&mut self.break_next);
        self.open = Some(Open { start: at, next: at, video, audio, discontinuity });
    }

    /// Gives out the audio of slices that are decided.
    fn audio_parts(&mut self, now: MediaTime) {
        while let Some(step) = self.audio_steps.front() {
            match step {
                &AudioStep::Part { sequence, end } => {
                    if !self.finishing && !self.audio.reached(end, now) {
                        return;
                    }
                    let part = self.audio.take(end, sequence);
                    self.outputs.extend(part.map(Output::Part));
                }
                &AudioStep::Close { sequence } => {
                    self.outputs.push_back(Output::Closed { sequence, rendition: Rendition::Audio });
                }
                AudioStep::Switch(config) => self.audio.switch_to(Arc::clone(config)),
            }
            self.audio_steps.pop_front();
        }
    }

    fn request_key_frames(&mut self, now: MediaTime) {
        for (index, queue) in self.videos.iter_mut().enumerate() {
            let Some(video) = VideoId::new(index) else { continue };
            if queue.misses_key(now) {
                let request = KeyFrameRequest::Missing;
                self.outputs.push_back(Output::KeyFrame { video, request });
            }
        }
        let Some(open) = &self.open else { return };
        let due = open.start + self.target;
        if now < self.next_request || now < due.before(REQUEST_LEAD) {
            return;
        }
        let Some(leader) = self.videos.iter().find(|queue| queue.flows(now)) else { return };
        if leader.needs_key() || leader.brings_key(due.before(EARLY)) {
            return;
        }
        self.next_request = now + REQUEST_RETRY;
        // All at once, so that their key frames are of the same moment.
        for (index, queue) in self.videos.iter_mut().enumerate() {
            let Some(video) = VideoId::new(index) else { continue };
            if queue.state == TrackState::Active {
                queue.asked(now);
                self.outputs.push_back(Output::KeyFrame { video, request: KeyFrameRequest::Due(due) });
            }
        }
    }
}
