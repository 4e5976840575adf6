//! Media playlists of segments that hold video and sound together and need no init segment: what players of any age read.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::{ListedKey, TARGET_DURATION_SECS};

/// A segment as such a playlist lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct MuxedSegment {
    /// Where it is.
    pub uri: String,
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
}

/// Such a playlist.
#[derive(Debug, Clone, PartialEq)]
pub struct MuxedPlaylist {
    /// The protocol version: 3 is enough for everything in here (RFC 8216 section 7).
    pub version: u32,
    /// Whether it holds everything since the stream began (EXT-X-PLAYLIST-TYPE, RFC 8216 section 4.3.3.5).
    pub is_event: bool,
    /// The number of the first segment.
    pub media_sequence: u64,
    /// How many discontinuities there were before the first segment's own.
    pub discontinuity_sequence: u64,
    /// The segments.
    pub segments: Vec<MuxedSegment>,
    /// Whether no segment will follow.
    pub ended: bool,
}

impl fmt::Display for MuxedPlaylist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "#EXTM3U\n#EXT-X-VERSION:{}", self.version)?;
        writeln!(f, "#EXT-X-TARGETDURATION:{TARGET_DURATION_SECS}")?;
        writeln!(f, "#EXT-X-MEDIA-SEQUENCE:{}", self.media_sequence)?;
        writeln!(f, "#EXT-X-DISCONTINUITY-SEQUENCE:{}", self.discontinuity_sequence)?;
        if self.is_event {
            writeln!(f, "#EXT-X-PLAYLIST-TYPE:EVENT")?;
        }
        if self.segments.iter().all(|segment| segment.independent) {
            writeln!(f, "#EXT-X-INDEPENDENT-SEGMENTS")?;
        }
        let mut key = None;
        for segment in &self.segments {
            segment.write(f, key)?;
            key = segment.key.as_ref();
        }
        if self.ended {
            writeln!(f, "#EXT-X-ENDLIST")?;
        }
        Ok(())
    }
}

impl MuxedSegment {
    fn write(&self, f: &mut fmt::Formatter<'_>, key_before: Option<&ListedKey>) -> fmt::Result {
        if self.discontinuity {
            writeln!(f, "#EXT-X-DISCONTINUITY")?;
        }
        if let Some(key) = self.key.as_ref().filter(|key| Some(*key) != key_before) {
            key.write(f)?;
        }
        let recorded = humantime::format_rfc3339_millis(self.program_date_time);
        writeln!(f, "#EXT-X-PROGRAM-DATE-TIME:{recorded}")?;
        writeln!(f, "#EXTINF:{:.5},\n{}", self.duration.as_secs_f64(), self.uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::encryption::Method;

    #[test]
    fn a_playlist_is_as_plain_as_old_players_need_it() {
        let key = |iv| ListedKey { method: Method::Aes128, uri: "p-key-7.key".into(), iv: [iv; 16] };
        let segment = |uri: &str, discontinuity, key| MuxedSegment {
            uri: uri.to_owned(),
            duration: Duration::from_millis(1920),
            program_date_time: SystemTime::UNIX_EPOCH,
            discontinuity,
            key,
            independent: true,
        };
        let segments = vec![
            segment("a.ts", false, None),
            segment("b.ts", true, Some(key(0))),
            segment("c.ts", false, Some(key(0))),
        ];
        let playlist = MuxedPlaylist {
            version: 3,
            is_event: true,
            media_sequence: 7,
            discontinuity_sequence: 2,
            segments,
            ended: true,
        };
        let time = "#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:00.000Z\n#EXTINF:1.92000,";
        assert_eq!(
            playlist.to_string(),
            format!(
                "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n#EXT-X-MEDIA-SEQUENCE:7\n\
                 #EXT-X-DISCONTINUITY-SEQUENCE:2\n#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-INDEPENDENT-SEGMENTS\n\
                 {time}\na.ts\n#EXT-X-DISCONTINUITY\n\
                 #EXT-X-KEY:METHOD=AES-128,URI=\"p-key-7.key\",IV=0x{:032x}\n{time}\nb.ts\n{time}\nc.ts\n\
                 #EXT-X-ENDLIST\n",
                0
            )
        );
        let dependent = MuxedSegment { independent: false, ..segment("a.ts", false, None) };
        let playlist = MuxedPlaylist { segments: vec![dependent], is_event: false, ended: false, ..playlist };
        let text = playlist.to_string();
        assert!(
            !text.contains("INDEPENDENT") && !text.contains("EVENT") && !text.contains("ENDLIST"),
            "{text}"
        );
    }
}
