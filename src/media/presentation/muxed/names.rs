//! What the muxed playlists and segments are called. Each scheme is one that clients of another server know; all are
//! about the same segments.

use super::Choice;
use crate::media::presentation::names::{is_further, prefix};
use crate::media::segmenter::{Rendition, VideoId};

/// How a peer's muxed playlists and segments are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `<peer>-ts.m3u8`, `<peer>-video-ts.m3u8`, `video_<peer>_007.ts`: beside the CMAF ones.
    Flat,
    /// `<peer>/index.m3u8` or `<peer>/master.m3u8`, `<peer>/720p/index.m3u8`, `<peer>/720p/segment_007.ts`.
    Folders,
    /// `<peer>/stream.m3u8` with `<peer>/segment_7.ts`, and `<peer>/master.m3u8`, `<peer>/720p/stream.m3u8`. Playlists
    /// are events as long as everything since the beginning is listed.
    Event,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What<'a> {
    /// The master playlist.
    Master,
    /// A media playlist.
    Playlist(Choice),
    /// A segment.
    Segment(Choice, u64),
    /// The file of a key, by the name that it has beside the CMAF playlists.
    Key(&'a str),
}

/// A name that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The peer, or what stands for it.
    pub peer: &'a str,
    /// How it is called.
    pub scheme: Scheme,
    /// What is meant.
    pub what: What<'a>,
}

impl<'a> Asked<'a> {
    /// Reads a name beside the CMAF ones, or in a folder of [`Scheme::Folders`] there.
    #[must_use]
    pub fn beside_cmaf(path: &'a str) -> Option<Self> {
        let Some((peer, rest)) = path.split_once('/') else { return Self::flat(path) };
        let what = match rest {
            "index.m3u8" | "master.m3u8" => What::Master,
            _ => in_quality(rest, "index.m3u8")?,
        };
        Some(Self { peer, scheme: Scheme::Folders, what })
    }

    /// Reads a name of [`Scheme::Event`].
    #[must_use]
    pub fn event(path: &'a str) -> Option<Self> {
        let (peer, rest) = path.split_once('/')?;
        let what = match rest {
            "master.m3u8" => What::Master,
            "stream.m3u8" => What::Playlist(Choice::Best),
            _ if rest.contains('/') => in_quality(rest, "stream.m3u8")?,
            _ => segment_or_key(rest, Choice::Best)?,
        };
        Some(Self { peer, scheme: Scheme::Event, what })
    }

    fn flat(name: &'a str) -> Option<Self> {
        let (peer, what) = if let Some(stem) = name.strip_suffix("-ts.m3u8") {
            let of = |rendition| What::Playlist(Choice::Rendition(rendition));
            let further = stem.rsplit_once("-video-").filter(|(_, id)| is_further(id));
            if let Some((peer, id)) = further {
                (peer, of(Rendition::Video(id.parse().ok().and_then(VideoId::new)?)))
            } else if let Some(peer) = stem.strip_suffix("-video") {
                (peer, of(Rendition::Video(VideoId::BEST)))
            } else if let Some(peer) = stem.strip_suffix("-audio") {
                (peer, of(Rendition::Audio))
            } else {
                (stem, What::Master)
            }
        } else {
            let (kind, rest) = name.strip_suffix(".ts")?.split_once('_')?;
            let (peer, number) = rest.rsplit_once('_')?;
            let rendition = match kind {
                "video" => Rendition::Video(VideoId::BEST),
                "audio" => Rendition::Audio,
                _ => {
                    let id = kind.strip_prefix("video").filter(|id| is_further(id))?;
                    Rendition::Video(id.parse().ok().and_then(VideoId::new)?)
                }
            };
            (peer, What::Segment(Choice::Rendition(rendition), parse_number(number)?))
        };
        Some(Self { peer, scheme: Scheme::Flat, what })
    }

    /// Whether players begin with this.
    #[must_use]
    pub const fn is_entry(&self) -> bool {
        matches!((self.scheme, self.what), (_, What::Master) | (Scheme::Event, What::Playlist(Choice::Best)))
    }
}

/// A name in the folder of a quality.
fn in_quality<'a>(path: &'a str, playlist: &str) -> Option<What<'a>> {
    let (quality, name) = path.split_once('/')?;
    let choice = match quality {
        "audio" => Choice::Rendition(Rendition::Audio),
        _ => Choice::Height(parse_number(quality.strip_suffix('p')?)?.try_into().ok()?),
    };
    if name == playlist { Some(What::Playlist(choice)) } else { segment_or_key(name, choice) }
}

fn segment_or_key(name: &str, choice: Choice) -> Option<What<'_>> {
    if name.ends_with(".key") {
        return Some(What::Key(name));
    }
    let number = name.strip_prefix("segment_")?.strip_suffix(".ts")?;
    Some(What::Segment(choice, parse_number(number)?))
}

/// Digits and nothing else.
fn parse_number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

impl Scheme {
    /// The protocol version that playlists tell.
    #[must_use]
    pub const fn version(self) -> u32 {
        match self {
            Self::Flat | Self::Folders => 3,
            Self::Event => 6,
        }
    }

    /// Whether playlists say that they hold everything since the beginning, if they do.
    #[must_use]
    pub const fn is_event(self) -> bool {
        matches!(self, Self::Event)
    }

    /// A rendition's playlist as the master playlist names it, with the video's height in pixels.
    pub(super) fn playlist(self, peer: &str, rendition: Rendition, height: u16) -> String {
        let file = match self {
            Self::Flat => {
                return match rendition {
                    Rendition::Video(VideoId::BEST) => format!("{peer}-video-ts.m3u8"),
                    Rendition::Video(id) => format!("{peer}-video-{}-ts.m3u8", id.index()),
                    Rendition::Audio => format!("{peer}-audio-ts.m3u8"),
                };
            }
            Self::Folders => "index.m3u8",
            Self::Event => "stream.m3u8",
        };
        match rendition {
            Rendition::Video(_) => format!("{height}p/{file}"),
            Rendition::Audio => format!("audio/{file}"),
        }
    }

    /// A segment as media playlists name it.
    pub(super) fn segment(self, peer: &str, rendition: Rendition, sequence: u64) -> String {
        match self {
            Self::Flat => format!("{}_{peer}_{sequence:03}.ts", prefix(rendition)),
            Self::Folders => format!("segment_{sequence:03}.ts"),
            Self::Event => format!("segment_{sequence}.ts"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Rendition = Rendition::Video(VideoId::BEST);

    #[test]
    fn names_are_read_as_they_are_made() {
        for peer in ["a", "a-video", "a_001", "b-ts", "c-video-1", "720p"] {
            let third = Rendition::Video(VideoId::new(2).unwrap());
            for rendition in [SECOND, third, Rendition::Audio] {
                let choice = Choice::Rendition(rendition);
                let playlist = Scheme::Flat.playlist(peer, rendition, 360);
                let segment = Scheme::Flat.segment(peer, rendition, 7);
                for (name, what) in [(playlist, What::Playlist(choice)), (segment, What::Segment(choice, 7))]
                {
                    let asked = Asked { peer, scheme: Scheme::Flat, what };
                    assert_eq!(Asked::beside_cmaf(&name), Some(asked), "{name}");
                }
                let choice = if rendition == Rendition::Audio { choice } else { Choice::Height(360) };
                for scheme in [Scheme::Folders, Scheme::Event] {
                    let playlist = format!("{peer}/{}", scheme.playlist(peer, rendition, 360));
                    let folder = playlist.rsplit_once('/').unwrap().0;
                    let segment = format!("{folder}/{}", scheme.segment(peer, rendition, 1234));
                    for (name, what) in
                        [(&playlist, What::Playlist(choice)), (&segment, What::Segment(choice, 1234))]
                    {
                        let read = if scheme == Scheme::Event {
                            Asked::event(name)
                        } else {
                            Asked::beside_cmaf(name)
                        };
                        assert_eq!(read, Some(Asked { peer, scheme, what }), "{name}");
                    }
                }
            }
        }
    }

    #[test]
    fn players_begin_with_masters_and_the_stream() {
        let live = |path| Asked::beside_cmaf(path).unwrap();
        let event = |path| Asked::event(path).unwrap();
        for entry in [live("p-ts.m3u8"), live("p/index.m3u8"), live("p/master.m3u8"), event("p/stream.m3u8")]
        {
            assert!(entry.is_entry() && entry.peer == "p", "{entry:?}");
        }
        assert_eq!(event("p/master.m3u8").what, What::Master);
        assert_eq!(event("p/segment_12.ts").what, What::Segment(Choice::Best, 12));
        assert_eq!(event("p/p-key-0.key").what, What::Key("p-key-0.key"));
        assert_eq!(live("p/480p/p-key-0.key").what, What::Key("p-key-0.key"));
        for follows in [live("p/480p/index.m3u8"), live("p-video-ts.m3u8"), event("p/480p/stream.m3u8")] {
            assert!(!follows.is_entry(), "{follows:?}");
        }
    }

    #[test]
    fn nonsense_is_nothing() {
        for path in [
            "",
            "p",
            "p.m3u8",
            "p.ts",
            "video_p.ts",
            "video0_p_1.ts",
            "video9_p_1.ts",
            "video_p_+1.ts",
            "video_p_.ts",
            "p/",
            "p/x.m3u8",
            "p/stream.m3u8",
            "p/segment_1.ts",
            "p/480/index.m3u8",
            "p/p/index.m3u8",
            "p/99999p/index.m3u8",
            "p/480p/stream.m3u8",
            "p/480p/segment_-1.ts",
            "p/480p/x/index.m3u8",
        ] {
            assert_eq!(Asked::beside_cmaf(path), None, "{path}");
        }
        for path in [
            "",
            "p",
            "health",
            "p/status",
            "p/index.m3u8",
            "p/segment_.ts",
            "p/480p/index.m3u8",
            "p/a/b/c.ts",
        ] {
            assert_eq!(Asked::event(path), None, "{path}");
        }
    }
}
