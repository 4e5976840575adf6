//! What a peer's HLS looks like from outside: names, sliding window, init segments, and the playlists over them.
//!
//! Takes the segmenter's segments and answers with the files that change. Pure: bytes and texts out, no store, no disk.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::media::fmp4::{self, AAC_FRAME_SAMPLES, AudioConfig, Sample, VIDEO_TIMESCALE, VideoConfig};
use crate::media::playlist::{
    AudioAttributes, ListedSegment, MasterPlaylist, MediaPlaylist, VideoAttributes,
};
use crate::media::segmenter::{AudioSegment, Segment, TARGET_DURATION_SECS, VideoSegment};
use crate::media::timeline::MediaTime;

/// The most segments that a playlist lists, however short they are.
pub const MAX_LISTED: usize = 60;
/// A playlist is never shorter than this many target durations (RFC 8216 section 6.2.2).
const MIN_TARGET_DURATIONS: u64 = 3;
/// Segments shorter than this say nothing about the bit rate (RFC 8216bis section 4.4.6.2: half a target duration).
const BIT_RATE_MIN: Duration = Duration::from_millis(TARGET_DURATION_SECS * 500);

/// How much is listed and kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// How many segments a playlist lists; more if they are so short that three target durations aren't reached.
    pub listed: usize,
    /// How many segments stay fetchable behind the window, for players that read an older playlist.
    pub grace: usize,
}

/// What kind of file a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Changes with every segment.
    Playlist,
    /// An init or media segment of video; never changes.
    Video,
    /// An init or media segment of audio; never changes.
    Audio,
}

/// A file that appeared or changed.
#[derive(Debug, Clone)]
pub struct File {
    /// Its name, without a folder.
    pub name: String,
    /// Its kind.
    pub kind: FileKind,
    /// Its bytes.
    pub body: Bytes,
}

/// What changed, to be applied as one.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// Files that appeared or changed.
    pub files: Vec<File>,
    /// Names that are gone.
    pub gone: Vec<String>,
}

/// One rendition's part of a kept segment.
#[derive(Debug, Clone)]
struct Part {
    listed: ListedSegment,
    bytes: usize,
    filler: bool,
    format: Format,
}

#[derive(Debug, Clone)]
enum Format {
    Video { config: Arc<VideoConfig>, pictures: usize },
    Audio { config: Arc<AudioConfig> },
}

#[derive(Debug)]
struct Kept {
    sequence: u64,
    duration: Duration,
    /// Discontinuities up to and with this segment's.
    discontinuities: u64,
    video: Option<Part>,
    audio: Option<Part>,
}

/// The init segment that is current in a rendition. It is named after the first segment that needs it, so that a
/// name never stands for two things.
#[derive(Debug)]
struct Init<C> {
    config: Arc<C>,
    uri: String,
}

/// One peer's playlists and segments.
#[derive(Debug)]
pub struct Presentation {
    peer: String,
    window: Window,
    /// What the timeline's beginning was by the wall clock.
    epoch: SystemTime,
    /// Segments, oldest first: first the grace ones, then the listed ones.
    kept: VecDeque<Kept>,
    listed: usize,
    discontinuities: u64,
    video_init: Option<Init<VideoConfig>>,
    audio_init: Option<Init<AudioConfig>>,
    video_gone: bool,
    audio_gone: bool,
    ended: bool,
}

impl Presentation {
    /// An empty presentation of `peer`, whose timeline began at `epoch`.
    #[must_use]
    pub fn new(peer: String, window: Window, epoch: SystemTime) -> Self {
        Self {
            peer,
            window,
            epoch,
            kept: VecDeque::new(),
            listed: 0,
            discontinuities: 0,
            video_init: None,
            audio_init: None,
            video_gone: false,
            audio_gone: false,
            ended: false,
        }
    }

    /// Tells which tracks are gone for good. Their renditions go on with fillers for whoever plays them, but new
    /// players aren't sent there once nothing else is listed.
    pub fn set_gone(&mut self, video: bool, audio: bool) {
        self.video_gone = video;
        self.audio_gone = audio;
    }

    /// Adds a segment.
    ///
    /// # Errors
    /// Fails if a box can't be written, which needs a segment of 4 GB; the segment is then missing.
    pub fn push(&mut self, segment: &Segment) -> Result<Update, mp4_atom::Error> {
        let mut update = Update::default();
        let video =
            segment.video.as_ref().map(|video| self.video_part(segment, video, &mut update)).transpose()?;
        let audio =
            segment.audio.as_ref().map(|audio| self.audio_part(segment, audio, &mut update)).transpose()?;
        self.discontinuities += u64::from(segment.discontinuity);
        self.kept.push_back(Kept {
            sequence: segment.sequence,
            duration: segment.end.since(segment.start),
            discontinuities: self.discontinuities,
            video,
            audio,
        });
        self.listed += 1;
        self.slide(&mut update);
        self.write_playlists(&mut update);
        Ok(update)
    }

    /// Ends the playlists: no segment will follow.
    pub fn end(&mut self) -> Update {
        self.ended = true;
        let mut update = Update::default();
        self.write_playlists(&mut update);
        update
    }

    /// How much media every listed rendition lists: what a player could buffer that comes now.
    #[must_use]
    pub fn listed_duration(&self) -> Duration {
        let (video, audio) = self.renditions();
        let sum = |pick: fn(&Kept) -> Option<&Part>| -> Duration {
            self.window_segments().filter_map(pick).map(|part| part.listed.duration).sum()
        };
        match (video, audio) {
            (false, false) => Duration::ZERO,
            (true, false) => sum(|kept| kept.video.as_ref()),
            (false, true) => sum(|kept| kept.audio.as_ref()),
            (true, true) => sum(|kept| kept.video.as_ref()).min(sum(|kept| kept.audio.as_ref())),
        }
    }

    fn video_part(
        &mut self,
        segment: &Segment,
        video: &VideoSegment,
        update: &mut Update,
    ) -> Result<Part, mp4_atom::Error> {
        let changed = self.video_init.as_ref().is_none_or(|init| init.config != video.config);
        if changed {
            let uri = format!("video_{}_init_{}.mp4", self.peer, segment.sequence);
            let body = fmp4::video_init(&video.config)?;
            update.files.push(File { name: uri.clone(), kind: FileKind::Video, body });
            self.video_init = Some(Init { config: video.config.clone(), uri });
        }
        let uri = format!("video_{}_{:03}.m4s", self.peer, segment.sequence);
        let body = fmp4::media_segment(fragment_number(segment), video.base, &video.samples)?;
        let part = Part {
            listed: ListedSegment {
                uri: uri.clone(),
                init_uri: self.video_init.as_ref().map(|init| init.uri.clone()).unwrap_or_default(),
                duration: duration_of(&video.samples, VIDEO_TIMESCALE),
                program_date_time: self.wall_clock(MediaTime::from_ticks(video.base, VIDEO_TIMESCALE)),
                discontinuity: segment.discontinuity,
                independent: video.independent,
            },
            bytes: body.len(),
            filler: video.filler,
            format: Format::Video { config: video.config.clone(), pictures: video.samples.len() },
        };
        update.files.push(File { name: uri, kind: FileKind::Video, body });
        Ok(part)
    }

    fn audio_part(
        &mut self,
        segment: &Segment,
        audio: &AudioSegment,
        update: &mut Update,
    ) -> Result<Part, mp4_atom::Error> {
        let changed = self.audio_init.as_ref().is_none_or(|init| init.config != audio.config);
        if changed {
            let uri = format!("audio_{}_init_{}.mp4", self.peer, segment.sequence);
            let body = fmp4::audio_init(&audio.config)?;
            update.files.push(File { name: uri.clone(), kind: FileKind::Audio, body });
            self.audio_init = Some(Init { config: audio.config.clone(), uri });
        }
        let rate = audio.config.sample_rate();
        let sample = |data: &Bytes| Sample {
            data: data.clone(),
            duration: AAC_FRAME_SAMPLES,
            composition: 0,
            sync: true,
        };
        let samples: Vec<Sample> = audio.frames.iter().map(sample).collect();
        let uri = format!("audio_{}_{:03}.m4s", self.peer, segment.sequence);
        let body = fmp4::media_segment(fragment_number(segment), audio.base, &samples)?;
        let part = Part {
            listed: ListedSegment {
                uri: uri.clone(),
                init_uri: self.audio_init.as_ref().map(|init| init.uri.clone()).unwrap_or_default(),
                duration: duration_of(&samples, rate),
                program_date_time: self.wall_clock(MediaTime::from_ticks(audio.base, rate)),
                discontinuity: segment.discontinuity,
                independent: true,
            },
            bytes: body.len(),
            filler: audio.filler,
            format: Format::Audio { config: audio.config.clone() },
        };
        update.files.push(File { name: uri, kind: FileKind::Audio, body });
        Ok(part)
    }

    fn wall_clock(&self, moment: MediaTime) -> SystemTime {
        self.epoch.checked_add(moment.since(MediaTime::default())).unwrap_or(self.epoch)
    }

    fn window_segments(&self) -> impl Iterator<Item = &Kept> {
        self.kept.iter().skip(self.kept.len().saturating_sub(self.listed))
    }

    /// Lists no more than the window and keeps no more than the grace behind it.
    fn slide(&mut self, update: &mut Update) {
        let least = Duration::from_secs(TARGET_DURATION_SECS * MIN_TARGET_DURATIONS);
        let mut total: Duration = self.window_segments().map(|kept| kept.duration).sum();
        while self.listed > self.window.listed.max(1) {
            let first = self.window_segments().next().map_or(Duration::ZERO, |kept| kept.duration);
            total = total.saturating_sub(first);
            if total < least && self.listed <= MAX_LISTED {
                break;
            }
            self.listed -= 1;
        }
        while self.kept.len() > self.listed.saturating_add(self.window.grace) {
            let Some(old) = self.kept.pop_front() else { break };
            for part in old.video.into_iter().chain(old.audio) {
                let init = part.listed.init_uri;
                let used = self.kept.iter().flat_map(Kept::parts).any(|part| part.listed.init_uri == init);
                update.gone.push(part.listed.uri);
                if !used {
                    update.gone.push(init);
                }
            }
        }
    }

    /// Which renditions new players are told of.
    fn renditions(&self) -> (bool, bool) {
        let video = self.window_segments().any(|kept| kept.video.is_some());
        let audio = self.window_segments().any(|kept| kept.audio.is_some());
        let alive = |part: &Part| !part.filler;
        let video_dead =
            self.video_gone && !self.window_segments().filter_map(|k| k.video.as_ref()).any(alive);
        let audio_dead =
            self.audio_gone && !self.window_segments().filter_map(|k| k.audio.as_ref()).any(alive);
        match (video && !video_dead, audio && !audio_dead) {
            (false, false) => (video, audio),
            listed => listed,
        }
    }

    fn write_playlists(&self, update: &mut Update) {
        let mut add = |name: String, text: String| {
            update.files.push(File { name, kind: FileKind::Playlist, body: text.into() });
        };
        if let Some(text) = self.media_playlist(|kept| kept.video.as_ref()) {
            add(format!("{}-video.m3u8", self.peer), text);
        }
        if let Some(text) = self.media_playlist(|kept| kept.audio.as_ref()) {
            add(format!("{}-audio.m3u8", self.peer), text);
        }
        if self.listed > 0 {
            add(format!("{}.m3u8", self.peer), self.master_playlist().to_string());
        }
    }

    fn media_playlist(&self, pick: fn(&Kept) -> Option<&Part>) -> Option<String> {
        let first = self.window_segments().find(|kept| pick(kept).is_some())?;
        let own = pick(first).is_some_and(|part| part.listed.discontinuity);
        let segments: Vec<ListedSegment> =
            self.window_segments().filter_map(pick).map(|part| part.listed.clone()).collect();
        let playlist = MediaPlaylist {
            media_sequence: first.sequence,
            discontinuity_sequence: first.discontinuities.saturating_sub(u64::from(own)),
            segments: &segments,
            ended: self.ended,
        };
        Some(playlist.to_string())
    }

    fn master_playlist(&self) -> MasterPlaylist {
        let (video, audio) = self.renditions();
        let parts = |kept: &Kept| -> Vec<Part> {
            let video = kept.video.clone().filter(|_| video);
            video.into_iter().chain(kept.audio.clone().filter(|_| audio)).collect()
        };
        let rate = |bytes: usize, time: Duration| (bytes as f64 * 8.0 / time.as_secs_f64().max(0.001)) as u64;
        let (mut peak, mut bytes, mut time, mut independent) = (0, 0, Duration::ZERO, true);
        for kept in self.window_segments() {
            let parts = parts(kept);
            let size: usize = parts.iter().map(|part| part.bytes).sum();
            independent &= parts.iter().all(|part| part.listed.independent);
            bytes += size;
            time += kept.duration;
            if kept.duration >= BIT_RATE_MIN {
                peak = peak.max(rate(size, kept.duration));
            }
        }
        let average = rate(bytes, time);
        MasterPlaylist {
            bandwidth: peak.max(average),
            average_bandwidth: average,
            video: if video { self.video_attributes() } else { None },
            audio: if audio { self.audio_attributes() } else { None },
            independent,
        }
    }

    fn video_attributes(&self) -> Option<VideoAttributes> {
        let parts = || self.window_segments().filter_map(|kept| kept.video.as_ref());
        let configs = parts().filter_map(|part| match &part.format {
            Format::Video { config, .. } => Some(config),
            Format::Audio { .. } => None,
        });
        // The variant has to be playable by whoever can play the most demanding of its segments.
        let codec = configs.max_by_key(|config| config.level())?.codec();
        let resolution = self.video_init.as_ref()?.config.size();
        let rates = parts().filter(|part| !part.filler && part.listed.duration >= BIT_RATE_MIN);
        let rates = rates.filter_map(|part| match part.format {
            Format::Video { pictures, .. } => Some(pictures as f64 / part.listed.duration.as_secs_f64()),
            Format::Audio { .. } => None,
        });
        let frame_rate = rates.max_by(f64::total_cmp);
        Some(VideoAttributes { uri: format!("{}-video.m3u8", self.peer), codec, resolution, frame_rate })
    }

    fn audio_attributes(&self) -> Option<AudioAttributes> {
        let last = self.window_segments().filter_map(|kept| kept.audio.as_ref()).last()?;
        let Format::Audio { config } = &last.format else { return None };
        Some(AudioAttributes {
            uri: format!("{}-audio.m3u8", self.peer),
            codec: config.codec().to_owned(),
            channels: config.channels(),
        })
    }
}

impl Kept {
    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.video.iter().chain(&self.audio)
    }
}

/// `mfhd`'s number counts from 1 and may wrap.
fn fragment_number(segment: &Segment) -> u32 {
    (segment.sequence.wrapping_add(1) & u64::from(u32::MAX)) as u32
}

fn duration_of(samples: &[Sample], rate: u32) -> Duration {
    let ticks: u64 = samples.iter().map(|sample| u64::from(sample.duration)).sum();
    MediaTime::from_ticks(ticks, rate).since(MediaTime::default())
}
