//! The master playlist: which renditions new players are told of, and what they cost.

use std::collections::BTreeSet;
use std::time::Duration;

use super::kept::{Format, Track};
use super::past::Past;
use super::{Presentation, TARGET_DURATION_SECS};
use crate::media::playlist::{AudioAttributes, MasterPlaylist, VERSION, Variant, VideoAttributes};
use crate::media::segmenter::{Rendition, VideoId};

/// Segments shorter than this say nothing about the bit rate (RFC 8216bis section 4.4.6.2: half a target duration).
pub(super) const BIT_RATE_MIN: Duration = Duration::from_millis(TARGET_DURATION_SECS * 500);

/// Bit rates of what is listed, in bit/s.
pub(super) struct BitRate {
    /// Of the heaviest segment.
    pub(super) peak: u64,
    /// Of all segments together.
    pub(super) average: u64,
}

impl Presentation {
    /// Which renditions new players are told of.
    pub(super) fn offered(&self) -> BTreeSet<Rendition> {
        let there = |rendition: &Rendition| self.tracks(*rendition).next().is_some();
        let listed: BTreeSet<Rendition> = self.lines.keys().copied().filter(there).collect();
        let alive = |rendition: &Rendition| {
            !self.gone.contains(rendition)
                || self.has_real_past(*rendition)
                || self.tracks(*rendition).any(|track| !track.filler)
        };
        let offered: BTreeSet<Rendition> = listed.iter().copied().filter(alive).collect();
        if offered.is_empty() { listed } else { offered }
    }

    /// The size of each video rendition's newest pictures.
    #[must_use]
    pub fn video_sizes(&self) -> Vec<(VideoId, (u16, u16))> {
        let sizes = self.lines.iter().filter_map(|(rendition, line)| match (rendition, &line.format) {
            (Rendition::Video(id), Format::Video(config)) => Some((*id, config.size())),
            _ => None,
        });
        sizes.collect()
    }

    pub(super) fn master_playlist(&self) -> MasterPlaylist {
        let offered = self.offered();
        let audio = offered.contains(&Rendition::Audio);
        let videos = offered.iter().filter(|rendition| matches!(rendition, Rendition::Video(_)));
        let mut variants: Vec<Variant> = videos.map(|video| self.variant(*video, audio)).collect();
        if variants.is_empty() && audio {
            variants.push(self.variant(Rendition::Audio, false));
        }
        MasterPlaylist {
            version: VERSION,
            variants,
            audio: if audio { self.audio_attributes() } else { None },
            independent: offered.iter().all(|one| {
                let past = self.pasts.get(one).is_none_or(Past::is_independent);
                past && self.tracks(*one).all(|track| track.independent)
            }),
        }
    }

    /// What a rendition takes, alone or with the audio, in bit/s.
    pub(super) fn bit_rate(&self, rendition: Rendition, with_audio: bool) -> BitRate {
        let rate = |bytes: usize, time: Duration| (bytes as f64 * 8.0 / time.as_secs_f64().max(0.001)) as u64;
        let (mut peak, mut bytes, mut time) = (0, 0, Duration::ZERO);
        for kept in self.recent() {
            let Some(track) = kept.tracks.get(&rendition) else { continue };
            let audio = kept.tracks.get(&Rendition::Audio).filter(|_| with_audio);
            let size = track.bytes + audio.map_or(0, |audio| audio.bytes);
            bytes += size;
            time += track.duration;
            if track.duration >= BIT_RATE_MIN {
                peak = peak.max(rate(size, track.duration));
            }
        }
        let average = rate(bytes, time);
        BitRate { peak: peak.max(average), average }
    }

    fn variant(&self, rendition: Rendition, with_audio: bool) -> Variant {
        let BitRate { peak, average } = self.bit_rate(rendition, with_audio);
        let video = self.video_attributes(rendition);
        Variant { bandwidth: peak, average_bandwidth: average, video }
    }

    fn video_attributes(&self, rendition: Rendition) -> Option<VideoAttributes> {
        let configs = || {
            self.tracks(rendition).filter_map(|track| match &track.format {
                Format::Video(config) => Some(config),
                Format::Audio(_) => None,
            })
        };
        // The variant has to be playable by whoever can play the most demanding of its segments.
        let codec = configs().max_by_key(|config| config.level())?.codec();
        let resolution = configs().last()?.size();
        let counted = |least: Duration| {
            let tracks = self.tracks(rendition).filter(move |track| !track.filler && track.duration >= least);
            let rates = tracks.map(|track: &Track| track.samples as f64 / track.duration.as_secs_f64());
            rates.max_by(f64::total_cmp)
        };
        let frame_rate = counted(BIT_RATE_MIN).or_else(|| counted(Duration::from_millis(1)));
        Some(VideoAttributes { uri: self.names.playlist(rendition), codec, resolution, frame_rate })
    }

    fn audio_attributes(&self) -> Option<AudioAttributes> {
        let last = self.tracks(Rendition::Audio).last()?;
        let Format::Audio(config) = &last.format else { return None };
        Some(AudioAttributes {
            uri: self.names.playlist(Rendition::Audio),
            codec: config.codec().to_owned(),
            channels: config.channels(),
        })
    }
}
