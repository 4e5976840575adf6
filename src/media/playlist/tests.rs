//! What playlists look like as text.

use super::*;

const PART: Duration = Duration::from_millis(192);

fn segment(number: u64, discontinuity: bool, init: u32) -> ListedSegment {
    ListedSegment {
        uri: Some(format!("video_x_{number:03}.m4s")),
        init_uri: format!("video_x_init_{init}.mp4"),
        duration: Duration::from_millis(2000),
        program_date_time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123 + number * 2000),
        discontinuity,
        key: None,
        independent: true,
        parts: Vec::new(),
    }
}

fn plain(segments: &[ListedSegment]) -> MediaPlaylist<'_> {
    MediaPlaylist {
        media_sequence: 7,
        discontinuity_sequence: 3,
        independent_before: true,
        segments,
        low_latency: None,
        ended: false,
    }
}

#[test]
fn a_media_playlist_names_its_map_again_only_behind_a_discontinuity() {
    let segments = [segment(7, true, 1), segment(8, false, 1), segment(9, true, 2)];
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
    assert_eq!(MediaPlaylist { ended: true, ..plain(&segments) }.to_string(), text);
}

#[test]
fn players_close_to_the_end_are_told_of_parts_and_of_what_comes() {
    let mut segments = [segment(7, false, 1), segment(8, false, 1), segment(9, true, 2)];
    let part = |number: u64, independent| ListedPart {
        uri: format!("video_x_p{number}.m4s"),
        duration: PART,
        independent,
    };
    segments[1].parts = vec![part(80, true), part(81, false)];
    segments[2].uri = None;
    segments[2].parts = vec![part(82, true)];
    let position = Position { complete: Some((8, 10)), open: Some((9, 2)) };
    let reports = [RenditionReport { uri: "x-audio.m3u8".to_owned(), position }];
    let low_latency = LowLatency { part_target: PART, hint: Some("video_x_p83.m4s"), reports: &reports };
    let playlist = MediaPlaylist { low_latency: Some(low_latency), ..plain(&segments) };
    let head =
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=18.0,HOLD-BACK=9.0,PART-HOLD-BACK=0.6
#EXT-X-PART-INF:PART-TARGET=0.19200
#EXT-X-MEDIA-SEQUENCE:7
#EXT-X-DISCONTINUITY-SEQUENCE:3
#EXT-X-INDEPENDENT-SEGMENTS
";
    let tail = "#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:36.123Z
#EXT-X-PART:DURATION=0.19200,URI=\"video_x_p80.m4s\",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.19200,URI=\"video_x_p81.m4s\"
#EXTINF:2.00000,
video_x_008.m4s
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI=\"video_x_init_2.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:38.123Z
#EXT-X-PART:DURATION=0.19200,URI=\"video_x_p82.m4s\",INDEPENDENT=YES
#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"video_x_p83.m4s\"
#EXT-X-RENDITION-REPORT:URI=\"x-audio.m3u8\",LAST-MSN=9,LAST-PART=1
";
    let map = "#EXT-X-MAP:URI=\"video_x_init_1.mp4\"\n";
    let first = "#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:34.123Z\n#EXTINF:2.00000,\nvideo_x_007.m4s\n";
    let begin = |version| format!("#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:3\n");
    assert_eq!(playlist.to_string(), format!("{}{head}{map}{first}{tail}", begin(7)));
    let delta = format!("{}{}", playlist.head(1), playlist.rest(1, None, false));
    let skip = "#EXT-X-SKIP:SKIPPED-SEGMENTS=1\n";
    assert_eq!(delta, format!("{}{head}{skip}{map}{tail}", begin(9)));
    assert_eq!(playlist.rest(1, Some(&segments[0]), false).to_string(), tail, "the map is told already");
}

#[test]
fn a_segment_that_needs_another_takes_the_promise_back() {
    let mut segments = [segment(1, false, 0), segment(2, false, 0)];
    segments[1].independent = false;
    assert!(!plain(&segments).to_string().contains("INDEPENDENT"));
}

fn video(uri: &str, resolution: (u16, u16)) -> VideoAttributes {
    VideoAttributes {
        uri: uri.to_owned(),
        codec: "avc1.42e01f".to_owned(),
        resolution,
        frame_rate: Some(29.97),
    }
}

fn master(videos: Vec<VideoAttributes>, audio: bool) -> String {
    let audio = audio.then(|| AudioAttributes {
        uri: "x-audio.m3u8".to_owned(),
        codec: "mp4a.40.2".to_owned(),
        channels: 2,
    });
    let variant = |video| Variant { bandwidth: 2_700_000, average_bandwidth: 2_500_000, video };
    let mut variants: Vec<Variant> = videos.into_iter().map(|video| variant(Some(video))).collect();
    if variants.is_empty() {
        variants.push(variant(None));
    }
    MasterPlaylist { version: VERSION, variants, audio, independent: true }.to_string()
}

#[test]
fn a_master_playlist_lists_audio_as_a_group_or_as_the_variant() {
    let large = || video("x-video.m3u8", (1280, 720));
    assert_eq!(
        master(vec![large(), video("x-video-1.m3u8", (640, 360))], true),
        "#EXTM3U
#EXT-X-VERSION:7
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Audio\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"x-audio.m3u8\"
#EXT-X-STREAM-INF:BANDWIDTH=2700000,AVERAGE-BANDWIDTH=2500000,CODECS=\"avc1.42e01f,mp4a.40.2\",RESOLUTION=1280x720,FRAME-RATE=29.970,AUDIO=\"audio\"
x-video.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=2700000,AVERAGE-BANDWIDTH=2500000,CODECS=\"avc1.42e01f,mp4a.40.2\",RESOLUTION=640x360,FRAME-RATE=29.970,AUDIO=\"audio\"
x-video-1.m3u8
"
    );
    let alone = master(vec![large()], false);
    assert!(alone.ends_with("CODECS=\"avc1.42e01f\",RESOLUTION=1280x720,FRAME-RATE=29.970\nx-video.m3u8\n"));
    let sound = master(Vec::new(), true);
    assert!(sound.ends_with("AVERAGE-BANDWIDTH=2500000,CODECS=\"mp4a.40.2\"\nx-audio.m3u8\n"), "{sound}");
}
