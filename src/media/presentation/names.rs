//! What a peer's files are called.
//!
//! The names of the only, or the best, video rendition hold no number; the further ones' do. Each name tells its peer
//! without a doubt except for playlists, which peers whose ids end alike could dispute.

use crate::media::segmenter::{MAX_VIDEOS, Rendition, VideoId};

/// The names of one peer's files.
#[derive(Debug)]
pub(super) struct Names {
    peer: String,
}

impl Names {
    pub(super) fn new(peer: String) -> Self {
        Self { peer }
    }

    pub(super) fn master(&self) -> String {
        format!("{}.m3u8", self.peer)
    }

    /// The DASH manifest.
    pub(super) fn manifest(&self) -> String {
        format!("{}.mpd", self.peer)
    }

    /// The DASH manifest for low latency.
    pub(super) fn low_latency_manifest(&self) -> String {
        format!("{}-low-latency.mpd", self.peer)
    }

    /// The list of sprites.
    pub(super) fn cues(&self) -> String {
        format!("{}-thumbnails.vtt", self.peer)
    }

    /// A picture that holds many small ones.
    pub(super) fn sprite(&self, number: u64) -> String {
        format!("{}-thumbnails-{number}.jpg", self.peer)
    }

    pub(super) fn playlist(&self, rendition: Rendition) -> String {
        match rendition {
            Rendition::Video(VideoId::BEST) => format!("{}-video.m3u8", self.peer),
            Rendition::Video(id) => format!("{}-video-{}.m3u8", self.peer, id.index()),
            Rendition::Audio => format!("{}-audio.m3u8", self.peer),
        }
    }

    /// An init segment is named after the first segment that needs it, so that a name never stands for two things.
    pub(super) fn init(&self, rendition: Rendition, sequence: u64) -> String {
        format!("{}_{}_init_{sequence}.mp4", prefix(rendition), self.peer)
    }

    /// A key is named after the first segment that needs it.
    pub(super) fn key(&self, sequence: u64) -> String {
        format!("{}-key-{sequence}.key", self.peer)
    }

    pub(super) fn segment(&self, rendition: Rendition, sequence: u64) -> String {
        format!("{}_{}_{sequence:03}.m4s", prefix(rendition), self.peer)
    }

    /// What stands for the names of all segments in a manifest (ISO/IEC 23009-1 section 5.3.9.4.4).
    pub(super) fn numbered(&self, rendition: Rendition) -> String {
        format!("{}_{}_$Number%03d$.m4s", prefix(rendition), self.peer)
    }

    /// Parts are counted through all segments, so that the next one's name is known before it is known which segment it
    /// belongs to.
    pub(super) fn part(&self, rendition: Rendition, number: u64) -> String {
        format!("{}_{}_p{number}.m4s", prefix(rendition), self.peer)
    }
}

pub(super) fn prefix(rendition: Rendition) -> String {
    match rendition {
        Rendition::Video(VideoId::BEST) => "video".to_owned(),
        Rendition::Video(id) => format!("video{}", id.index()),
        Rendition::Audio => "audio".to_owned(),
    }
}

/// The peers that a file of this name may belong to: ids may hold the very marks that names are made of.
pub fn owners(name: &str) -> impl Iterator<Item = &str> {
    let playlist = name.strip_suffix(".m3u8");
    let manifest = name.strip_suffix(".mpd");
    let key = name.strip_suffix(".key").and_then(|stem| stem.rsplit_once("-key-")).map(|(peer, _)| peer);
    let picture = name.strip_suffix(".jpg");
    let low_latency = manifest.and_then(|stem| stem.strip_suffix("-low-latency"));
    let cues = name.strip_suffix("-thumbnails.vtt");
    let sprite = picture.and_then(|stem| stem.rsplit_once("-thumbnails-")).map(|(peer, _)| peer);
    let rendition =
        playlist.and_then(|stem| stem.strip_suffix("-video").or_else(|| stem.strip_suffix("-audio")));
    let further = playlist.and_then(|stem| stem.rsplit_once("-video-")).filter(|(_, id)| is_further(id));
    let media = name.split_once('_').filter(|(kind, _)| match *kind {
        "video" | "audio" => true,
        kind => kind.strip_prefix("video").is_some_and(is_further),
    });
    let numbered =
        |suffix| media.and_then(|(_, rest)| rest.strip_suffix(suffix)).and_then(|stem| stem.rsplit_once('_'));
    let segment = numbered(".m4s").map(|(peer, _)| peer);
    let init = numbered(".mp4").and_then(|(peer, _)| peer.strip_suffix("_init"));
    [
        playlist,
        manifest,
        low_latency,
        key,
        picture,
        cues,
        sprite,
        rendition,
        further.map(|(peer, _)| peer),
        segment,
        init,
    ]
    .into_iter()
    .flatten()
}

/// Whether this is the number of a video rendition below the best one.
pub(super) fn is_further(id: &str) -> bool {
    (1..MAX_VIDEOS).any(|further| further.to_string() == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_peer_whatever_that_is_called() {
        for peer in
            ["a", "a-video", "a_001", "video_b_init", "c_p1", "d-video-1", "e-key-1", "f-thumbnails-2"]
        {
            let names = Names::new(peer.to_owned());
            for rendition in [
                Rendition::Video(VideoId::BEST),
                Rendition::Video(VideoId::new(2).unwrap()),
                Rendition::Audio,
            ] {
                for name in [
                    names.master(),
                    names.manifest(),
                    names.key(12),
                    names.low_latency_manifest(),
                    names.cues(),
                    names.sprite(3),
                    names.playlist(rendition),
                    names.init(rendition, 0),
                    names.segment(rendition, 7),
                    names.part(rendition, 1234),
                ] {
                    assert!(owners(&name).any(|owner| owner == peer), "{name}");
                }
            }
        }
    }

    #[test]
    fn nonsense_belongs_to_nobody() {
        for name in ["", "a.ts", "video_a.m4s", "video0_a_001.m4s", "video9_a_001.m4s", "video+1_a_001.m4s"] {
            assert_eq!(owners(name).count(), 0, "{name}");
        }
        assert_eq!(owners("a-video-9.m3u8").collect::<Vec<_>>(), ["a-video-9"]);
    }
}
