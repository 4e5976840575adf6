//! Cuts a peer's access units into segments: every boundary is decided once, for video and audio together, so that
//! segment N of both renditions covers the same time and carries the same discontinuity.
//!
//! A segment begins on a key frame, which is asked for shortly before it is due. What is missing is filled: silence
//! for audio, the last key frame again for video, so that a pause, a mute or a lost track never stops a player. Pure:
//! time comes in as values, and nothing here knows boxes or playlists.

mod audio;
#[cfg(test)]
mod tests;
mod video;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::media::fmp4::{AudioConfig, Sample, VideoConfig};
use crate::media::timeline::MediaTime;
use audio::AudioQueue;
use video::VideoQueue;

/// How long a segment should be.
pub const TARGET: Duration = Duration::from_secs(2);
/// The playlists' constant EXT-X-TARGETDURATION, in seconds. The second above [`TARGET`] is the time that a publisher
/// has to answer a key frame request.
pub const TARGET_DURATION_SECS: u64 = 3;
/// No segment is longer than this. An audio segment may end up to one frame (22 ms) after its video, so the limit is
/// that much below [`TARGET_DURATION_SECS`].
pub const MAX_SEGMENT: Duration = Duration::from_millis(2950);
/// No segment is shorter than this: an audio segment must hold at least one frame.
pub const MIN_SEGMENT: Duration = Duration::from_millis(100);
/// A key frame that comes this much before [`TARGET`] ends the segment, instead of asking for another one.
pub const EARLY: Duration = Duration::from_millis(250);
/// How long before it is due a key frame is asked for: a round trip and the time to encode it.
pub const REQUEST_LEAD: Duration = Duration::from_millis(150);
/// How long after an unanswered request the next one follows.
pub const REQUEST_RETRY: Duration = Duration::from_millis(500);
/// Video that brought nothing for so long is not waited for.
pub const VIDEO_STALL: Duration = Duration::from_millis(1500);
/// Audio that brought nothing for so long is not waited for; longer than the 400 ms between packets of Opus DTX.
pub const AUDIO_STALL: Duration = Duration::from_millis(700);
/// A track that is this much behind is not waited for, even if it still brings something.
pub const MAX_LAG: Duration = Duration::from_secs(8);
/// A unit that is further than this in the future has a wrong time and is dropped.
pub const MAX_AHEAD: Duration = Duration::from_secs(5);
/// How long the first segment waits for a track that is announced but has not brought anything yet.
pub const START_HOLD: Duration = Duration::from_secs(5);
/// The longest that damaged video is held back for a key frame that repairs it.
pub const REPAIR_PATIENCE: Duration = Duration::from_secs(2);
/// The most video that waits to be cut, in bytes; more is dropped up to the next key frame.
pub const MAX_VIDEO_BYTES: usize = 32 << 20;
/// The most audio frames that wait to be cut: 15 s at 48 kHz.
pub const MAX_AUDIO_FRAMES: usize = 704;

/// What a track is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackState {
    /// There never was one, or it is gone.
    Absent,
    /// It is there, and nothing is to be expected from it.
    Paused,
    /// It is there and should bring something.
    Active,
}

/// One picture.
#[derive(Debug, Clone)]
pub struct VideoUnit {
    /// When it is shown.
    pub pts: MediaTime,
    /// Whether decoding can start here.
    pub key: bool,
    /// NAL units, each behind its length in four bytes.
    pub data: Bytes,
    /// What its decoder needs.
    pub config: Arc<VideoConfig>,
}

/// One AAC frame.
#[derive(Debug, Clone)]
pub struct AudioUnit {
    /// When its first sample is heard.
    pub pts: MediaTime,
    /// The raw frame.
    pub data: Bytes,
    /// What its decoder needs.
    pub config: Arc<AudioConfig>,
}

/// A segment of every rendition that there is.
#[derive(Debug, Clone)]
pub struct Segment {
    /// The media sequence number, the same in all renditions.
    pub sequence: u64,
    /// Whether EXT-X-DISCONTINUITY precedes it, in all renditions.
    pub discontinuity: bool,
    /// When it begins.
    pub start: MediaTime,
    /// When it ends and the next one begins.
    pub end: MediaTime,
    /// The video, if there is a rendition of it.
    pub video: Option<VideoSegment>,
    /// The audio, if there is a rendition of it.
    pub audio: Option<AudioSegment>,
}

/// The video of a segment.
#[derive(Debug, Clone)]
pub struct VideoSegment {
    /// What its decoder needs.
    pub config: Arc<VideoConfig>,
    /// The first sample's decode time, in ticks of the track.
    pub base: u64,
    /// The pictures, in decode order.
    pub samples: Vec<Sample>,
    /// Whether it begins with a key frame. It doesn't only if the publisher sends none.
    pub independent: bool,
    /// Whether it holds nothing but a repeated key frame.
    pub filler: bool,
}

/// The audio of a segment.
#[derive(Debug, Clone)]
pub struct AudioSegment {
    /// What its decoder needs.
    pub config: Arc<AudioConfig>,
    /// The first frame's decode time, in samples.
    pub base: u64,
    /// The frames.
    pub frames: Vec<Bytes>,
    /// Whether it holds nothing but silence.
    pub filler: bool,
}

/// What the segmenter wants.
#[derive(Debug, Clone)]
pub enum Output {
    /// The publisher, or the encoder, should send a key frame.
    KeyFrame(KeyFrameRequest),
    /// A segment is complete.
    Segment(Box<Segment>),
}

/// Why a key frame is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFrameRequest {
    /// A segment may end at this moment.
    Due(MediaTime),
    /// Without one nothing can be decoded.
    Missing,
}

/// The segment that is being filled.
#[derive(Debug)]
struct Open {
    start: MediaTime,
    /// The decoder configuration of its video rendition, if it has one.
    video: Option<Arc<VideoConfig>>,
    audio: bool,
    discontinuity: bool,
}

/// Where the open segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    at: MediaTime,
    discontinuity: bool,
}

/// Cuts one peer's access units.
#[derive(Debug)]
pub struct Segmenter {
    sequence: u64,
    /// Whether anything was given out.
    published: bool,
    /// When the first unit came, until the first segment is opened.
    waiting_since: Option<MediaTime>,
    open: Option<Open>,
    video: VideoQueue,
    audio: AudioQueue,
    /// The next boundary is a discontinuity.
    break_next: bool,
    next_request: MediaTime,
}

impl Segmenter {
    /// A segmenter whose first segment has the number `first_sequence`.
    #[must_use]
    pub fn new(first_sequence: u64) -> Self {
        Self {
            sequence: first_sequence,
            published: false,
            waiting_since: None,
            open: None,
            video: VideoQueue::default(),
            audio: AudioQueue::default(),
            break_next: false,
            next_request: MediaTime::default(),
        }
    }

    /// Tells what the video track does. After anything but activity its next picture has to be a key frame.
    pub fn set_video(&mut self, state: TrackState) {
        self.video.set_state(state);
    }

    /// Tells what the audio track does.
    pub fn set_audio(&mut self, state: TrackState) {
        self.audio.state = state;
    }

    /// The video comes from somewhere else from now on (another producer, a restarted pipeline).
    pub fn video_restarted(&mut self) {
        self.video.restarted();
    }

    /// The audio comes from somewhere else from now on (another producer, a restarted pipeline).
    pub fn audio_restarted(&mut self) {
        self.break_next |= self.audio.started();
    }

    /// Packets of the video were lost: pictures from `from` to `through` lack some, and those behind them refer to
    /// damaged ones until the next key frame. `through` before `from` says that only whole pictures are missing.
    pub fn video_damaged(&mut self, from: MediaTime, through: MediaTime) {
        self.video.damaged(from, through);
    }

    /// Whole pictures are missing behind the last one that was pushed.
    pub fn video_lost(&mut self) {
        self.video.lost();
    }

    /// Takes a picture, in decode order.
    pub fn push_video(&mut self, unit: VideoUnit, now: MediaTime) {
        if unit.pts > now + MAX_AHEAD {
            return self.video_lost();
        }
        self.waiting_since.get_or_insert(now);
        let start = self.open.as_ref().map(|open| open.start);
        self.video.push(unit, start, now);
    }

    /// Takes an audio frame.
    pub fn push_audio(&mut self, unit: AudioUnit, now: MediaTime) {
        if unit.pts > now + MAX_AHEAD {
            return;
        }
        self.waiting_since.get_or_insert(now);
        self.audio.push(&unit, now);
    }

    /// What is to be done at `now`; to be called until it says nothing.
    pub fn poll(&mut self, now: MediaTime) -> Option<Output> {
        if self.open.is_none() {
            self.try_start(now);
        }
        while let Some(cut) = self.next_cut(now) {
            if self.restart_in_place(cut) {
                continue;
            }
            if !self.audio_complete(cut.at, now) {
                break;
            }
            if let Some(segment) = self.close(cut) {
                return Some(Output::Segment(Box::new(segment)));
            }
        }
        self.key_frame_request(now).map(Output::KeyFrame)
    }

    /// Closes what is open, as far as it goes; to be called until it says nothing. Nothing may be pushed any more.
    pub fn finish(&mut self, now: MediaTime) -> Option<Segment> {
        while let Some(cut) = self.next_cut(now) {
            if self.restart_in_place(cut) {
                continue;
            }
            return self.close(cut);
        }
        let open = self.open.as_ref()?;
        let video_end = if open.video.is_some() { self.video.end() } else { None };
        let audio_end = if open.audio { self.audio.end_moment() } else { None };
        let at = video_end.max(audio_end)?.min(open.start + MAX_SEGMENT);
        if at < open.start + MIN_SEGMENT {
            return None;
        }
        let last = self.close(Cut { at, discontinuity: false });
        self.open = None;
        last
    }

    /// Opens the first segment once every announced track has brought something, or was waited for long enough.
    fn try_start(&mut self, now: MediaTime) {
        let Some(since) = self.waiting_since else { return };
        let key = self.video.front_key();
        let waits = self.video.state == TrackState::Active && key.is_none()
            || self.audio.state == TrackState::Active && !self.audio.started();
        if waits && now < since + START_HOLD {
            return;
        }
        let (key_start, video) = key.unzip();
        let Some(start) = key_start.or_else(|| self.audio.first_moment()) else { return };
        self.audio.begin(start);
        let audio = self.audio.started();
        self.open = Some(Open { start, video, audio, discontinuity: false });
    }

    /// Where the open segment has to end, as far as it is known at `now`.
    fn next_cut(&self, now: MediaTime) -> Option<Cut> {
        let open = self.open.as_ref()?;
        let limit = open.start + MAX_SEGMENT;
        let due = open.start + (TARGET - EARLY);
        let mut last_frame = None;
        for queued in self.video.units() {
            let pts = queued.unit.pts;
            if pts > limit {
                let at = last_frame.unwrap_or(open.start + TARGET);
                return Some(Cut { at, discontinuity: false });
            }
            let changed =
                queued.unit.key && (queued.breaks || open.video.as_ref() != Some(&queued.unit.config));
            if changed && pts >= open.start {
                return Some(Cut { at: pts, discontinuity: true });
            }
            if queued.unit.key && pts >= due {
                return Some(Cut { at: pts, discontinuity: false });
            }
            if pts > open.start + MIN_SEGMENT {
                last_frame = Some(pts);
            }
        }
        if self.video.flows(now) && now < limit + MAX_LAG {
            return None;
        }
        // No picture decides: the audio does, or the clock.
        let at = open.start + TARGET;
        let decided = if self.audio.flows(now) && now < at + MAX_LAG {
            self.audio.covers(at)
        } else {
            now >= at + AUDIO_STALL
        };
        decided.then_some(Cut { at, discontinuity: false })
    }

    /// A change right at the beginning of the open segment changes the segment instead of ending it, and so does the
    /// first picture of a peer that nothing was published of.
    fn restart_in_place(&mut self, cut: Cut) -> bool {
        let Some(open) = &mut self.open else { return false };
        if !cut.discontinuity {
            return false;
        }
        let first_picture = !self.published && open.video.is_none();
        if !first_picture && cut.at >= open.start + MIN_SEGMENT {
            return false;
        }
        let start = if first_picture { cut.at } else { open.start };
        let Some(config) = self.video.restart_at(cut.at, start) else { return false };
        open.start = start;
        open.video = Some(config);
        open.discontinuity |= self.published;
        if first_picture {
            self.audio.begin(start);
            open.audio = self.audio.started();
        }
        true
    }

    fn audio_complete(&self, at: MediaTime, now: MediaTime) -> bool {
        let needed = self.open.as_ref().is_some_and(|open| open.audio);
        !needed || self.audio.covers(at) || !self.audio.flows(now) || now >= at + MAX_LAG
    }

    fn close(&mut self, cut: Cut) -> Option<Segment> {
        let open = self.open.take()?;
        let video = open.video.as_ref().map(|config| self.video.take(config, open.start, cut.at));
        let audio = if open.audio { self.audio.take(cut.at) } else { None };
        // What the next segment holds: whatever has brought something by now.
        let next_video =
            self.video.open_at(cut.at).or_else(|| open.video.as_ref().and(self.video.last_config()));
        let late_audio = !open.audio && self.audio.started();
        if late_audio {
            self.audio.begin(cut.at);
        }
        let audio_changed = self.audio.switch_config();
        // A change of the pictures begins a segment of its own as a rule; where it did not, it is told all the same.
        let video_changed = next_video != open.video;
        let discontinuity = cut.discontinuity
            || late_audio
            || audio_changed
            || video_changed
            || std::mem::take(&mut self.break_next);
        self.open =
            Some(Open { start: cut.at, video: next_video, audio: open.audio || late_audio, discontinuity });
        if video.is_none() && audio.is_none() {
            return None;
        }
        let sequence = self.sequence;
        self.sequence = self.sequence.saturating_add(1);
        self.published = true;
        let Open { start, discontinuity, .. } = open;
        Some(Segment { sequence, discontinuity, start, end: cut.at, video, audio })
    }

    fn key_frame_request(&mut self, now: MediaTime) -> Option<KeyFrameRequest> {
        if self.video.state != TrackState::Active || now < self.next_request {
            return None;
        }
        let request = if self.video.needs_key() {
            KeyFrameRequest::Missing
        } else {
            let due = self.open.as_ref()?.start + TARGET;
            let answered = |queued: &video::Queued| queued.unit.key && queued.unit.pts >= due.before(EARLY);
            if now < due.before(REQUEST_LEAD) || self.video.units().any(answered) {
                return None;
            }
            KeyFrameRequest::Due(due)
        };
        self.next_request = now + REQUEST_RETRY;
        Some(request)
    }
}
