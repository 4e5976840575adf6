//! Playlists as text (RFC 8216 with the clarifications of draft-pantos-hls-rfc8216bis).
//!
//! Tags stand flush left, one a line, so that strict parsers accept them. What is listed is decided elsewhere.

use std::fmt::{self, Write};
use std::time::{Duration, SystemTime};

use crate::media::segmenter::TARGET_DURATION_SECS;

/// The protocol version: EXT-X-MAP in playlists of ordinary segments needs at least 6 (RFC 8216 section 7).
const VERSION: u32 = 7;

/// One segment as a media playlist lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedSegment {
    /// Where it is.
    pub uri: String,
    /// Where its init segment is.
    pub init_uri: String,
    /// How long it is.
    pub duration: Duration,
    /// When its first sample was recorded.
    pub program_date_time: SystemTime,
    /// Whether EXT-X-DISCONTINUITY precedes it.
    pub discontinuity: bool,
    /// Whether it can be decoded without another one.
    pub independent: bool,
}

/// A media playlist.
#[derive(Debug, Clone, PartialEq)]
pub struct MediaPlaylist<'a> {
    /// The number of the first segment.
    pub media_sequence: u64,
    /// How many discontinuities there were before the first segment's own.
    pub discontinuity_sequence: u64,
    /// The segments.
    pub segments: &'a [ListedSegment],
    /// Whether no segment will follow.
    pub ended: bool,
}

impl fmt::Display for MediaPlaylist<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-TARGETDURATION:{TARGET_DURATION_SECS}")?;
        writeln!(f, "#EXT-X-MEDIA-SEQUENCE:{}", self.media_sequence)?;
        writeln!(f, "#EXT-X-DISCONTINUITY-SEQUENCE:{}", self.discontinuity_sequence)?;
        if self.segments.iter().all(|segment| segment.independent) {
            writeln!(f, "#EXT-X-INDEPENDENT-SEGMENTS")?;
        }
        let mut init = None;
        for segment in self.segments {
            if segment.discontinuity {
                writeln!(f, "#EXT-X-DISCONTINUITY")?;
            }
            if init != Some(&segment.init_uri) {
                writeln!(f, "#EXT-X-MAP:URI=\"{}\"", segment.init_uri)?;
                init = Some(&segment.init_uri);
            }
            let recorded = humantime::format_rfc3339_millis(segment.program_date_time);
            writeln!(f, "#EXT-X-PROGRAM-DATE-TIME:{recorded}")?;
            writeln!(f, "#EXTINF:{:.5},\n{}", segment.duration.as_secs_f64(), segment.uri)?;
        }
        if self.ended {
            writeln!(f, "#EXT-X-ENDLIST")?;
        }
        Ok(())
    }
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

/// A master playlist of one variant.
#[derive(Debug, Clone, PartialEq)]
pub struct MasterPlaylist {
    /// The bit rate of the heaviest segment, all renditions together, in bit/s.
    pub bandwidth: u64,
    /// The bit rate over all segments, all renditions together, in bit/s.
    pub average_bandwidth: u64,
    /// The video, if there is any.
    pub video: Option<VideoAttributes>,
    /// The audio: a rendition group beside the video, or the variant itself.
    pub audio: Option<AudioAttributes>,
    /// Whether every segment of every rendition can be decoded without another one.
    pub independent: bool,
}

impl fmt::Display for MasterPlaylist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "#EXTM3U\n#EXT-X-VERSION:{VERSION}")?;
        if self.independent {
            writeln!(f, "#EXT-X-INDEPENDENT-SEGMENTS")?;
        }
        if let (Some(_), Some(audio)) = (&self.video, &self.audio) {
            writeln!(
                f,
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Audio\",DEFAULT=YES,AUTOSELECT=YES,\
                 CHANNELS=\"{}\",URI=\"{}\"",
                audio.channels, audio.uri
            )?;
        }
        let codecs = self.video.iter().map(|video| video.codec.as_str());
        let codecs: Vec<&str> = codecs.chain(self.audio.iter().map(|audio| audio.codec.as_str())).collect();
        let mut attributes = String::new();
        if let Some(video) = &self.video {
            let (width, height) = video.resolution;
            write!(attributes, ",RESOLUTION={width}x{height}")?;
            if let Some(rate) = video.frame_rate {
                write!(attributes, ",FRAME-RATE={rate:.3}")?;
            }
            if self.audio.is_some() {
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
        writeln!(f, "{}", video.or(self.audio.as_ref().map(|audio| &audio.uri)).map_or("", String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(number: u64, discontinuity: bool, init: u32) -> ListedSegment {
        ListedSegment {
            uri: format!("video_x_{number:03}.m4s"),
            init_uri: format!("video_x_init_{init}.mp4"),
            duration: Duration::from_millis(2000),
            program_date_time: SystemTime::UNIX_EPOCH
                + Duration::from_millis(1_700_000_000_123 + number * 2000),
            discontinuity,
            independent: true,
        }
    }

    #[test]
    fn a_media_playlist_names_its_map_again_only_behind_a_discontinuity() {
        let segments = [segment(7, true, 1), segment(8, false, 1), segment(9, true, 2)];
        let playlist =
            MediaPlaylist { media_sequence: 7, discontinuity_sequence: 3, segments: &segments, ended: true };
        let text = "#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:3
#EXT-X-MEDIA-SEQUENCE:7
#EXT-X-DISCONTINUITY-SEQUENCE:3
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI=\"video_x_init_1.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:34.123Z
#EXTINF:2.00000,
video_x_007.m4s
#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:36.123Z
#EXTINF:2.00000,
video_x_008.m4s
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI=\"video_x_init_2.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:38.123Z
#EXTINF:2.00000,
video_x_009.m4s
#EXT-X-ENDLIST
";
        assert_eq!(playlist.to_string(), text);
    }

    #[test]
    fn a_segment_that_needs_another_takes_the_promise_back() {
        let mut segments = [segment(1, false, 0), segment(2, false, 0)];
        segments[1].independent = false;
        let playlist =
            MediaPlaylist { media_sequence: 1, discontinuity_sequence: 0, segments: &segments, ended: false };
        assert!(!playlist.to_string().contains("INDEPENDENT"));
    }

    fn master(video: bool, audio: bool) -> String {
        let video = video.then(|| VideoAttributes {
            uri: "x-video.m3u8".to_owned(),
            codec: "avc1.42e01f".to_owned(),
            resolution: (1280, 720),
            frame_rate: Some(29.97),
        });
        let audio = audio.then(|| AudioAttributes {
            uri: "x-audio.m3u8".to_owned(),
            codec: "mp4a.40.2".to_owned(),
            channels: 2,
        });
        MasterPlaylist { bandwidth: 2_700_000, average_bandwidth: 2_500_000, video, audio, independent: true }
            .to_string()
    }

    #[test]
    fn a_master_playlist_lists_audio_as_a_group_or_as_the_variant() {
        assert_eq!(
            master(true, true),
            "#EXTM3U
#EXT-X-VERSION:7
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Audio\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"x-audio.m3u8\"
#EXT-X-STREAM-INF:BANDWIDTH=2700000,AVERAGE-BANDWIDTH=2500000,CODECS=\"avc1.42e01f,mp4a.40.2\",RESOLUTION=1280x720,FRAME-RATE=29.970,AUDIO=\"audio\"
x-video.m3u8
"
        );
        assert!(
            master(true, false)
                .ends_with("CODECS=\"avc1.42e01f\",RESOLUTION=1280x720,FRAME-RATE=29.970\nx-video.m3u8\n")
        );
        assert!(
            master(false, true).ends_with("AVERAGE-BANDWIDTH=2500000,CODECS=\"mp4a.40.2\"\nx-audio.m3u8\n")
        );
    }
}
