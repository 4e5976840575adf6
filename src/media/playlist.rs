//! Playlists as text (RFC 8216 with the clarifications of draft-pantos-hls-rfc8216bis).
//!
//! Tags stand flush left, one a line, so that strict parsers accept them. What is listed is decided elsewhere.

mod directives;
mod muxed;
mod text;

use std::fmt::{self, Write};
use std::time::{Duration, SystemTime};

pub use directives::{Directives, Position, Wait};
pub use muxed::{MuxedPlaylist, MuxedSegment};
pub use text::Text;

use crate::media::encryption::Method;
use crate::media::segmenter::TARGET_DURATION_SECS;

/// The protocol version: EXT-X-MAP in playlists of ordinary segments needs at least 6 (RFC 8216 section 7).
pub const VERSION: u32 = 7;

/// The protocol version of a playlist with EXT-X-SKIP (RFC 8216bis section 8).
const VERSION_WITH_SKIP: u32 = 9;
/// A delta update leaves out what is so much before the playlist's end: six target durations, the least that
/// RFC 8216bis section 4.4.3.8 allows.
pub const SKIP_UNTIL: Duration = Duration::from_secs(6 * TARGET_DURATION_SECS);
/// How far from the end players that don't know of parts have to stay (RFC 8216bis section 4.4.3.8).
const HOLD_BACK: Duration = Duration::from_secs(3 * TARGET_DURATION_SECS);
/// How many parts players stay away from the end: the least that Apple's authoring specification allows.
const PARTS_HELD_BACK: u32 = 3;

/// A part as a media playlist lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedPart {
    /// Where it is.
    pub uri: String,
    /// How long it is.
    pub duration: Duration,
    /// Whether decoding can start here.
    pub independent: bool,
}

/// The key of a segment as a media playlist lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedKey {
    /// How the segment is encrypted.
    pub method: Method,
    /// Where the key is.
    pub uri: String,
    /// The initialization vector.
    pub iv: [u8; 16],
}

/// One segment as a media playlist lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedSegment {
    /// Where it is; nowhere as long as it is not complete, which only the last one may be.
    pub uri: Option<String>,
    /// Where its init segment is.
    pub init_uri: String,
    /// How long it is.
    pub duration: Duration,
    /// When its first sample was recorded.
    pub program_date_time: SystemTime,
    /// Whether EXT-X-DISCONTINUITY precedes it.
    pub discontinuity: bool,
    /// What it is encrypted with, if it is.
    pub key: Option<ListedKey>,
    /// Whether it can be decoded without another one.
    pub independent: bool,
    /// Its parts, if they are listed.
    pub parts: Vec<ListedPart>,
}

/// Where another rendition's playlist ends.
#[derive(Debug, Clone, PartialEq)]
pub struct RenditionReport {
    /// The playlist.
    pub uri: String,
    /// Where it ends.
    pub position: Position,
}

/// What players need that stay close to the end.
#[derive(Debug, Clone, PartialEq)]
pub struct LowLatency<'a> {
    /// How long parts are.
    pub part_target: Duration,
    /// The next part, if one will follow.
    pub hint: Option<&'a str>,
    /// Where the other renditions end.
    pub reports: &'a [RenditionReport],
}

/// A media playlist.
#[derive(Debug, Clone, PartialEq)]
pub struct MediaPlaylist<'a> {
    /// The number of the first segment.
    pub media_sequence: u64,
    /// How many discontinuities there were before the first segment's own.
    pub discontinuity_sequence: u64,
    /// Whether every segment can be decoded without another one that is listed before [`MediaPlaylist::segments`].
    pub independent_before: bool,
    /// The segments, or the last ones of them if the others' text is there already.
    pub segments: &'a [ListedSegment],
    /// For players that know of parts; without it the playlist is a plain one.
    pub low_latency: Option<LowLatency<'a>>,
    /// Whether no segment will follow.
    pub ended: bool,
}

impl MediaPlaylist<'_> {
    /// Everything before the first segment, which says that so many are left out.
    pub fn head(&self, skipped: usize) -> impl fmt::Display {
        fmt::from_fn(move |f| self.write_head(f, skipped))
    }

    /// The segments from `skipped` on and what follows them. `before` is the segment that is listed before them, if one is;
    /// `is_whole` says that none is left out before that.
    pub fn rest<'a>(
        &'a self,
        skipped: usize,
        before: Option<&'a ListedSegment>,
        is_whole: bool,
    ) -> impl fmt::Display {
        fmt::from_fn(move |f| self.write_rest(f, skipped, before, is_whole))
    }

    fn write_head(&self, f: &mut fmt::Formatter<'_>, skipped: usize) -> fmt::Result {
        let version = if skipped > 0 { VERSION_WITH_SKIP } else { VERSION };
        writeln!(f, "#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{TARGET_DURATION_SECS}")?;
        if let Some(low_latency) = &self.low_latency {
            low_latency.write_control(f)?;
        }
        writeln!(f, "#EXT-X-MEDIA-SEQUENCE:{}", self.media_sequence)?;
        writeln!(f, "#EXT-X-DISCONTINUITY-SEQUENCE:{}", self.discontinuity_sequence)?;
        if self.independent_before && self.segments.iter().all(|segment| segment.independent) {
            writeln!(f, "#EXT-X-INDEPENDENT-SEGMENTS")?;
        }
        if skipped > 0 {
            writeln!(f, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}")?;
        }
        Ok(())
    }

    fn write_rest<'a>(
        &'a self,
        f: &mut fmt::Formatter<'_>,
        skipped: usize,
        mut before: Option<&'a ListedSegment>,
        is_whole: bool,
    ) -> fmt::Result {
        for segment in self.segments.iter().skip(skipped) {
            write!(f, "{}{}", segment.lead(before, is_whole), segment.own(self.low_latency.is_some()))?;
            before = Some(segment);
        }
        if let Some(low_latency) = &self.low_latency {
            low_latency.write_outlook(f)?;
        }
        if self.ended {
            writeln!(f, "#EXT-X-ENDLIST")?;
        }
        Ok(())
    }
}

impl ListedKey {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (method, format) = match self.method {
            Method::None => return Ok(()),
            Method::Aes128 => ("AES-128", ""),
            Method::Cbcs => ("SAMPLE-AES", ",KEYFORMAT=\"identity\""),
        };
        let iv = u128::from_be_bytes(self.iv);
        writeln!(f, "#EXT-X-KEY:METHOD={method},URI=\"{}\",IV=0x{iv:032x}{format}", self.uri)
    }
}

impl fmt::Display for MediaPlaylist<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_head(f, 0)?;
        self.write_rest(f, 0, None, true)
    }
}

impl ListedSegment {
    /// What is only said where it changes. `before` is the segment that is listed before this one, if one is; `is_whole` says
    /// that none is left out before that.
    pub fn lead(&self, before: Option<&Self>, is_whole: bool) -> impl fmt::Display {
        let map = before.is_none_or(|before| before.init_uri != self.init_uri);
        let key =
            self.key.as_ref().filter(|key| map || before.and_then(|before| before.key.as_ref()) != Some(key));
        fmt::from_fn(move |f| {
            if self.discontinuity {
                writeln!(f, "#EXT-X-DISCONTINUITY")?;
            }
            if map {
                // An init segment is encrypted if a key for whole files precedes it (RFC 8216 section 4.3.2.4). Ours never
                // are, and what a delta update leaves out precedes it as well.
                let for_files = self.key.as_ref().is_some_and(|key| key.method == Method::Aes128);
                if for_files && (before.is_some() || !is_whole) {
                    writeln!(f, "#EXT-X-KEY:METHOD=NONE")?;
                }
                writeln!(f, "#EXT-X-MAP:URI=\"{}\"", self.init_uri)?;
            }
            key.map_or(Ok(()), |key| key.write(f))
        })
    }

    /// What is said of each segment.
    pub fn own(&self, with_parts: bool) -> impl fmt::Display {
        fmt::from_fn(move |f| {
            let recorded = humantime::format_rfc3339_millis(self.program_date_time);
            writeln!(f, "#EXT-X-PROGRAM-DATE-TIME:{recorded}")?;
            self.parts.iter().filter(|_| with_parts).try_for_each(|part| part.write(f))?;
            match &self.uri {
                Some(uri) => writeln!(f, "#EXTINF:{:.5},\n{uri}", self.duration.as_secs_f64()),
                None => Ok(()),
            }
        })
    }
}

impl ListedPart {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let independent = if self.independent { ",INDEPENDENT=YES" } else { "" };
        let duration = self.duration.as_secs_f64();
        writeln!(f, "#EXT-X-PART:DURATION={duration:.5},URI=\"{}\"{independent}", self.uri)
    }
}

impl LowLatency<'_> {
    fn write_control(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hold_back = part_hold_back(self.part_target).as_secs_f64();
        writeln!(
            f,
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={:.1},HOLD-BACK={:.1},\
             PART-HOLD-BACK={hold_back:.1}",
            SKIP_UNTIL.as_secs_f64(),
            HOLD_BACK.as_secs_f64(),
        )?;
        writeln!(f, "#EXT-X-PART-INF:PART-TARGET={:.5}", self.part_target.as_secs_f64())
    }

    fn write_outlook(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(hint) = self.hint {
            writeln!(f, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{hint}\"")?;
        }
        for RenditionReport { uri, position } in self.reports {
            let Some((sequence, part)) = position.last_part() else { continue };
            writeln!(f, "#EXT-X-RENDITION-REPORT:URI=\"{uri}\",LAST-MSN={sequence},LAST-PART={part}")?;
        }
        Ok(())
    }
}

/// How far from the end a player that knows of parts has to stay: three parts, rounded up to a tenth of a second.
#[must_use]
pub fn part_hold_back(part_target: Duration) -> Duration {
    let tenths = (part_target * PARTS_HELD_BACK).as_millis().div_ceil(100);
    Duration::from_millis(100) * u32::try_from(tenths).unwrap_or(u32::MAX)
}

/// How the video of a variant looks.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoAttributes {
    /// The media playlist.
    pub uri: String,
    /// The codec as RFC 6381 writes it.
    pub codec: String,
    /// Width and height in pixels.
    pub resolution: (u16, u16),
    /// Pictures per second, if they could be counted.
    pub frame_rate: Option<f64>,
}

/// How the audio of a variant sounds.
#[derive(Debug, Clone, PartialEq)]
pub struct AudioAttributes {
    /// The media playlist.
    pub uri: String,
    /// The codec as RFC 6381 writes it.
    pub codec: String,
    /// 1 for mono, 2 for stereo.
    pub channels: u8,
}

/// One video rendition with the sound, or the sound alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// The bit rate of the heaviest segment, with the sound, in bit/s.
    pub bandwidth: u64,
    /// The bit rate over all segments, with the sound, in bit/s.
    pub average_bandwidth: u64,
    /// The video, if there is any.
    pub video: Option<VideoAttributes>,
}

/// A master playlist.
#[derive(Debug, Clone, PartialEq)]
pub struct MasterPlaylist {
    /// The protocol version.
    pub version: u32,
    /// The variants, best first.
    pub variants: Vec<Variant>,
    /// The audio: a rendition group beside the video, or the variant itself.
    pub audio: Option<AudioAttributes>,
    /// Whether every segment of every rendition can be decoded without another one.
    pub independent: bool,
}

impl fmt::Display for MasterPlaylist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "#EXTM3U\n#EXT-X-VERSION:{}", self.version)?;
        if self.independent {
            writeln!(f, "#EXT-X-INDEPENDENT-SEGMENTS")?;
        }
        let with_video = self.variants.iter().any(|variant| variant.video.is_some());
        if let (true, Some(audio)) = (with_video, &self.audio) {
            writeln!(
                f,
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Audio\",DEFAULT=YES,AUTOSELECT=YES,\
                 CHANNELS=\"{}\",URI=\"{}\"",
                audio.channels, audio.uri
            )?;
        }
        self.variants.iter().try_for_each(|variant| variant.write(f, self.audio.as_ref()))
    }
}

impl Variant {
    fn write(&self, f: &mut fmt::Formatter<'_>, audio: Option<&AudioAttributes>) -> fmt::Result {
        let codecs = self.video.iter().map(|video| video.codec.as_str());
        let codecs: Vec<&str> = codecs.chain(audio.map(|audio| audio.codec.as_str())).collect();
        let mut attributes = String::new();
        if let Some(video) = &self.video {
            let (width, height) = video.resolution;
            write!(attributes, ",RESOLUTION={width}x{height}")?;
            if let Some(rate) = video.frame_rate {
                write!(attributes, ",FRAME-RATE={rate:.3}")?;
            }
            if audio.is_some() {
                attributes.push_str(",AUDIO=\"audio\"");
            }
        }
        writeln!(
            f,
            "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"{}\"{attributes}",
            self.bandwidth,
            self.average_bandwidth,
            codecs.join(",")
        )?;
        let video = self.video.as_ref().map(|video| &video.uri);
        writeln!(f, "{}", video.or(audio.map(|audio| &audio.uri)).map_or("", String::as_str))
    }
}

#[cfg(test)]
mod tests;
