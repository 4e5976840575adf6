//! The same segments as MPEG-TS.

use mpeg2ts::pes::{PesPacketReader, ReadPesPacket};
use mpeg2ts::ts::TsPacketReader;

use super::*;
use crate::media::presentation::muxed::{Choice, Scheme, Whole};

impl Shown {
    fn muxed_playlist(&self, scheme: Scheme, choice: Choice, with_past: bool) -> String {
        self.wholes.playlist("p", scheme, choice, with_past).unwrap()
    }

    /// A segment as a client gets it.
    fn muxed(&self, choice: Choice, sequence: u64) -> Bytes {
        let whole = self.wholes.get(sequence).unwrap();
        let rendition = whole.rendition(choice).unwrap();
        let (own, sound) = whole.sources(rendition);
        let file = |name: &str| &self.files[name];
        whole.mux(rendition, file(own.unwrap()), sound.map(file)).unwrap()
    }
}

fn segments(playlist: &str) -> Vec<&str> {
    playlist.lines().filter(|line| !line.starts_with('#')).collect()
}

/// How many PES packets of video and of sound there are.
fn pes(segment: &[u8]) -> (usize, usize) {
    let mut reader = PesPacketReader::new(TsPacketReader::new(segment));
    let packets: Vec<_> = std::iter::from_fn(|| reader.read_pes_packet().unwrap()).collect();
    let video = packets.iter().filter(|packet| packet.header.stream_id.is_video()).count();
    (video, packets.len() - video)
}

#[test]
fn a_muxed_playlist_lists_what_the_others_list() {
    let mut shown = Shown::new();
    assert!(
        shown.wholes.is_empty() && shown.wholes.playlist("p", Scheme::Flat, Choice::Best, true).is_none()
    );
    (0..12).for_each(|_| shown.push(10));
    shown.open();
    shown.parts();
    for (scheme, version, begin) in
        [(Scheme::Flat, 3, "video_p_"), (Scheme::Folders, 3, "segment_"), (Scheme::Event, 6, "segment_")]
    {
        let playlist = shown.muxed_playlist(scheme, Choice::Best, false);
        let expected: Vec<String> = (7..12)
            .map(|number| if scheme == Scheme::Event { number.to_string() } else { format!("{number:03}") })
            .map(|number| format!("{begin}{number}.ts"))
            .collect();
        assert_eq!(segments(&playlist), expected, "{scheme:?}");
        let head =
            format!("#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:3\n#EXT-X-MEDIA-SEQUENCE:7\n");
        assert!(playlist.starts_with(&head), "{playlist}");
        assert!(!playlist.contains("EXT-X-MAP") && !playlist.contains("PART") && !playlist.contains("EVENT"));
        let date = |text: &str| text.lines().find(|line| line.contains("DATE-TIME")).map(str::to_owned);
        assert_eq!(date(&playlist), date(text(&shown.listings["p-video.m3u8"].plain)));
    }
    assert!(shown.wholes.get(4).is_some() && shown.wholes.get(3).is_none(), "as long as its sources");
    assert_eq!(pes(&shown.muxed(Choice::Best, 11)), (60, 11));
    assert_eq!(pes(&shown.muxed(Choice::Rendition(Rendition::Audio), 11)), (0, 11));
    shown.presentation.end();
    shown.update();
    assert!(shown.muxed_playlist(Scheme::Flat, Choice::Best, false).ends_with("#EXT-X-ENDLIST\n"));
}

#[test]
fn a_playlist_is_an_event_while_it_holds_everything() {
    let mut shown = Shown::with_window(Window { dvr: Duration::from_secs(60), ..WINDOW });
    let event =
        |shown: &Shown| shown.muxed_playlist(Scheme::Event, Choice::Best, true).contains("TYPE:EVENT\n");
    (0..31).for_each(|_| shown.push(10));
    assert!(event(&shown));
    assert!(!shown.muxed_playlist(Scheme::Flat, Choice::Best, true).contains("EVENT"));
    assert_eq!(segments(&shown.muxed_playlist(Scheme::Event, Choice::Best, true)).len(), 31);
    assert!(!shown.wholes.is_in_memory(21) && shown.wholes.is_in_memory(22));
    (0..2).for_each(|_| shown.push(10));
    assert!(!event(&shown), "the beginning left the window");
}

#[test]
fn the_master_names_each_size_once_and_sums_up_the_sound() {
    let mut shown = Shown::new();
    shown.look.sizes = vec![(1280, 720), (640, 360), (640, 360)];
    (0..3).for_each(|_| shown.push(10));
    let master = shown.wholes.master("p", Scheme::Folders).unwrap();
    let codecs = "CODECS=\"avc1.42c00d,mp4a.40.2\"";
    let lines: Vec<&str> = master.lines().filter(|line| !line.starts_with("#EXTM3U")).collect();
    assert_eq!(lines[..2], ["#EXT-X-VERSION:3", "#EXT-X-INDEPENDENT-SEGMENTS"]);
    assert!(lines[2].starts_with("#EXT-X-STREAM-INF:BANDWIDTH=") && lines[2].contains(codecs), "{master}");
    assert!(lines[2].contains("RESOLUTION=1280x720") && !lines[2].contains("AUDIO="), "{master}");
    assert_eq!([lines[3], lines[5]], ["720p/index.m3u8", "360p/index.m3u8"]);
    assert_eq!(lines.len(), 6, "{master}");
    let flat = shown.wholes.master("p", Scheme::Flat).unwrap();
    assert_eq!(segments(&flat), ["p-video-ts.m3u8", "p-video-1-ts.m3u8", "p-video-2-ts.m3u8"]);
    // What is promised is not exceeded, and by not more than a tenth kept.
    let bandwidth: usize = lines[2].split([':', '=', ',']).nth(2).unwrap().parse().unwrap();
    let real =
        (0..3).map(|sequence| shown.muxed(Choice::Best, sequence).len() * 8 * 100 / 192).max().unwrap();
    assert!((real..real * 11 / 10).contains(&bandwidth), "{bandwidth} for {real}");
}

#[test]
fn a_height_stands_for_the_nearest_video_of_each_segment() {
    let mut shown = Shown::new();
    shown.look.sizes = vec![(1280, 720), (640, 360)];
    shown.push(10);
    (shown.look.sizes, shown.look.discontinuity) = (vec![(640, 360), (320, 180)], true);
    shown.push(10);
    let chosen =
        |sequence, choice| shown.wholes.get(sequence).and_then(|whole: &Whole| whole.rendition(choice));
    let second = Rendition::Video(VideoId::new(1).unwrap());
    for (height, expected) in
        [(1080, [VIDEO, VIDEO]), (480, [second, VIDEO]), (360, [second, VIDEO]), (0, [second; 2])]
    {
        let found = [0, 1].map(|sequence| chosen(sequence, Choice::Height(height)).unwrap());
        assert_eq!(found, expected, "{height}");
    }
    let third = Choice::Rendition(Rendition::Video(VideoId::new(2).unwrap()));
    assert_eq!(chosen(0, third), Some(VIDEO), "the best one instead of none");
    let listed = |choice| shown.wholes.listed_rendition(choice).unwrap();
    assert_eq!(listed(Choice::Height(1)), listed(Choice::Height(200)), "so few are kept");
    assert_eq!((listed(Choice::Best), listed(third)), (Choice::Rendition(VIDEO), third));
}

#[test]
fn sound_that_comes_late_is_in_all_segments() {
    let mut shown = Shown::new();
    shown.look.audio = false;
    (0..3).for_each(|_| shown.push(10));
    assert_eq!(pes(&shown.muxed(Choice::Best, 1)), (60, 0));
    (shown.look.audio, shown.look.discontinuity) = (true, true);
    (0..2).for_each(|_| shown.push(10));
    for sequence in 0..5 {
        assert!(matches!(pes(&shown.muxed(Choice::Best, sequence)), (60, 10..=12)), "{sequence}");
    }
    let playlist = shown.muxed_playlist(Scheme::Flat, Choice::Best, false);
    assert_eq!((count(&playlist, "#EXTINF"), count(&playlist, "#EXT-X-DISCONTINUITY")), (5, 3), "{playlist}");
}

#[test]
fn a_segment_is_listed_when_nothing_of_it_can_follow() {
    let mut shown = Shown::new();
    shown.push(10);
    shown.open();
    shown.parts();
    shown.presentation.close(1, VIDEO).unwrap();
    shown.update();
    assert_eq!(segments(&shown.muxed_playlist(Scheme::Flat, Choice::Best, false)), ["video_p_000.ts"]);
    shown.presentation.close(1, Rendition::Audio).unwrap();
    shown.update();
    assert_eq!(segments(&shown.muxed_playlist(Scheme::Flat, Choice::Best, false)).len(), 2);
    // A rendition that brought nothing at all is not waited for for ever.
    shown.next += 1;
    shown.open();
    shown.part(VIDEO);
    shown.presentation.close(2, VIDEO).unwrap();
    shown.next += 1;
    shown.push(10);
    assert_eq!(segments(&shown.muxed_playlist(Scheme::Flat, Choice::Best, false)).len(), 2);
    shown.push(10);
    assert_eq!(segments(&shown.muxed_playlist(Scheme::Flat, Choice::Best, false)).len(), 5);
}

#[test]
fn whole_files_are_encrypted_as_their_sources_are() {
    let (mut clear, mut shown) = (Shown::new(), Shown::encrypted(Method::Aes128, 2));
    [&mut clear, &mut shown].into_iter().for_each(|shown| (0..3).for_each(|_| shown.push(3)));
    for (sequence, key) in [(0, 1), (1, 1), (2, 2)] {
        let decrypted = encryption::decrypted(&shown.muxed(Choice::Best, sequence), key * 16 + 1, sequence);
        assert_eq!(decrypted, clear.muxed(Choice::Best, sequence));
    }
    let playlist = shown.muxed_playlist(Scheme::Folders, Choice::Best, false);
    assert!(playlist.contains("#EXT-X-KEY:METHOD=AES-128,URI=\"p-key-2.key\",IV=0x"), "{playlist}");

    let mut by_sample = Shown::encrypted(Method::Cbcs, 2);
    (0..3).for_each(|_| by_sample.push(3));
    assert!(by_sample.wholes.is_empty(), "that is not offered");
}
