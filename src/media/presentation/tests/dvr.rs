//! Windows that reach far back.

use super::*;

/// Segments of the tests last 1.92 s: a minute are 31, beside the open one.
const MINUTE: Window = Window { dvr: Duration::from_secs(60), ..WINDOW };

/// Begins a segment with its first part.
fn begin(shown: &mut Shown) {
    shown.open();
    shown.parts();
}

/// The segments that a playlist lists: numbers, and whether a discontinuity precedes them.
fn listed(text: &str) -> Vec<(u64, bool)> {
    let mut next: u64 = value(text, "#EXT-X-MEDIA-SEQUENCE:").parse().unwrap();
    let mut discontinuity = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line == "#EXT-X-DISCONTINUITY" {
            discontinuity = true;
        } else if !line.starts_with('#') {
            assert!(line.ends_with(&format!("_p_{next:03}.m4s")), "{line} is not number {next}");
            found.push((next, std::mem::take(&mut discontinuity)));
            next += 1;
        }
    }
    found
}

fn value<'a>(text: &'a str, tag: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(tag)).unwrap_or_default()
}

#[test]
fn playlists_list_the_whole_window_and_what_is_old_leaves_memory() {
    let mut shown = Shown::with_window(MINUTE);
    (0..60).for_each(|_| shown.push(10));
    begin(&mut shown);
    for kind in ["video", "audio"] {
        let text = shown.full(&format!("p-{kind}.m3u8"));
        let numbers: Vec<u64> = listed(text).into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, (29..60).collect::<Vec<_>>(), "60 s");
        assert_eq!(count(text, "#EXT-X-PART:"), 21, "parts are only listed close to the end");
        assert_eq!(count(text, "#EXT-X-PROGRAM-DATE-TIME"), 32);
        assert_eq!(count(text, "#EXT-X-MAP"), 1);
        // Five recent ones and three more are in memory, those of the window and three more are there at all.
        let media =
            |name: &&String| name.starts_with(kind) && !name.contains("_p_p") && !name.contains("init");
        assert_eq!(shown.files.keys().filter(media).count(), 31 + 3);
        assert_eq!(shown.files.keys().filter(media).filter(|name| !shown.on_disk.contains(*name)).count(), 8);
    }
    shown.close();
    // The newest one is complete now.
    assert_eq!(manifest(&shown).timeShiftBufferDepth, Some(Duration::from_millis(1920 * 31 + 192)));
    assert_eq!(shown.lost, 0);
}

#[test]
fn sequences_and_maps_are_right_while_segments_leave() {
    let mut shown = Shown::with_window(MINUTE);
    let breaks = [3, 20, 21, 40];
    for number in 0..80 {
        shown.look.discontinuity = breaks.contains(&number);
        if shown.look.discontinuity {
            shown.look.sizes = if number == 20 { vec![(1280, 720)] } else { vec![(640, 360)] };
        }
        shown.push(10);
        for (name, read) in &shown.listings {
            let text = text(&read.full);
            let listed = listed(text);
            let discontinuous = |(number, found): &(u64, bool)| (*found, breaks.contains(number));
            assert!(listed.iter().map(discontinuous).all(|(found, expected)| found == expected), "{text}");
            let before =
                breaks.iter().filter(|number| listed.first().is_some_and(|(first, _)| *number < first));
            assert_eq!(value(text, "#EXT-X-DISCONTINUITY-SEQUENCE:"), before.count().to_string(), "{name}");
            // A new map stands at the beginning, or behind a discontinuity.
            let lines: Vec<&str> = text.lines().collect();
            let maps = lines.windows(2).filter(|pair| pair[1].starts_with("#EXT-X-MAP"));
            let new =
                |pair: &[&str]| pair[0] == "#EXT-X-DISCONTINUITY" || pair[0].starts_with("#EXT-X-INDEP");
            assert!(maps.into_iter().all(new), "{text}");
        }
    }
    assert!(!shown.files.contains_key("video_p_init_20.mp4"), "no listed segment needs it");
    assert!(shown.files.contains_key("video_p_init_21.mp4"), "the same format as before");
}

#[test]
fn a_delta_update_says_the_same_as_the_whole() {
    // With few recent segments it begins among the past ones.
    for recent in [2, 12] {
        let mut shown = Shown::with_window(Window { listed: recent, ..MINUTE });
        for number in 0..50 {
            shown.look.discontinuity = number == 43;
            shown.look.sizes = vec![if number < 43 { (640, 360) } else { (1280, 720) }];
            begin(&mut shown);
            let read = &shown.listings["p-video.m3u8"];
            let (full, delta) = (text(&read.full), text(&read.delta));
            let skipped: usize = value(delta, "#EXT-X-SKIP:SKIPPED-SEGMENTS=").parse().unwrap_or(0);
            assert_eq!(skipped, count(full, "#EXTINF").saturating_sub(9), "18 s of 1.92 s each");
            let sequences = "#EXT-X-MEDIA-SEQUENCE:";
            assert_eq!(value(full, sequences), value(delta, sequences));
            let media: Vec<&str> = full.lines().filter(|line| !line.starts_with("#EXT-X-MAP")).collect();
            let of_delta: Vec<&str> = delta.lines().filter(|line| !line.starts_with("#EXT-X-MAP")).collect();
            let same = of_delta.iter().rev().zip(media.iter().rev()).take_while(|(one, other)| one == other);
            let from_date = of_delta.iter().position(|line| line.starts_with("#EXT-X-PROGRAM")).unwrap();
            assert!(same.count() >= of_delta.len() - from_date, "{delta}");
            assert!(delta.contains("#EXT-X-MAP"), "the first segment's map");
            (0..9).for_each(|_| shown.parts());
            shown.close();
        }
    }
}

#[test]
fn what_is_not_stored_in_time_ends_the_window() {
    let mut shown = Shown::with_window(MINUTE);
    (0..40).for_each(|_| shown.push(10));
    shown.storing = false;
    (0..40).for_each(|_| {
        begin(&mut shown);
        let numbers = listed(shown.full("p-video.m3u8"));
        assert!(numbers.len() >= 5, "what is in memory is listed");
        (0..9).for_each(|_| shown.parts());
        shown.close();
    });
    // Five recent ones and half of the grace, rounded up.
    begin(&mut shown);
    assert_eq!(listed(shown.full("p-video.m3u8")).len(), 5 + 2);
    assert!(shown.lost > 0 && shown.on_disk.is_empty(), "{:?}", shown.on_disk);
    let segments = shown.files.keys().filter(|name| name.starts_with("video_p_0")).count();
    assert_eq!(segments, 8, "no more than without DVR is in memory");
    shown.close();
    shown.storing = true;
    (0..60).for_each(|_| shown.push(10));
    begin(&mut shown);
    assert_eq!(listed(shown.full("p-video.m3u8")).len(), 31, "it grows again");
}

#[test]
fn players_go_back_no_further_than_all_renditions_reach() {
    let mut shown = Shown::with_window(MINUTE);
    shown.look.audio = false;
    (0..20).for_each(|_| shown.push(10));
    (shown.look.audio, shown.look.discontinuity) = (true, true);
    begin(&mut shown);
    let [video, audio] = ["video", "audio"].map(|kind| listed(shown.full(&format!("p-{kind}.m3u8"))));
    assert_eq!(video, audio);
    assert_eq!(video.first(), Some(&(14, false)), "what was recent when the sound came");
}

#[test]
fn what_has_to_make_room_is_listed_no_more() {
    let mut shown = Shown::with_window(MINUTE);
    (0..60).for_each(|_| shown.push(10));
    begin(&mut shown);
    shown.presentation.lose("audio_p_033.m4s");
    shown.presentation.lose("audio_p_031.m4s");
    shown.update();
    for kind in ["video", "audio"] {
        assert_eq!(listed(shown.full(&format!("p-{kind}.m3u8"))).first(), Some(&(34, false)));
        assert!(!shown.files.contains_key(&format!("{kind}_p_033.m4s")));
    }
    assert_eq!(shown.lost, 0, "that is not for want of storing");
}

#[test]
fn a_track_that_left_long_ago_is_offered_as_long_as_players_can_go_back_to_it() {
    let mut shown = Shown::with_window(MINUTE);
    (0..10).for_each(|_| shown.push(10));
    shown.presentation.set_gone(VIDEO, true);
    shown.look.filler = true;
    (0..20).for_each(|_| shown.push(10));
    assert!(shown.has("p.m3u8", "p-video.m3u8"));
    (0..20).for_each(|_| shown.push(10));
    assert!(!shown.has("p.m3u8", "p-video.m3u8"));
}

/// What an update costs may not grow with what lies behind.
#[test]
fn an_update_of_hours_is_made_of_what_changed() {
    let mut shown = Shown::with_window(Window { dvr: Duration::from_secs(1920), ..WINDOW });
    shown.pictures = 60;
    let quick = |shown: &mut Shown| {
        // Without the tests' own reading of every line.
        shown.open();
        for rendition in shown.renditions() {
            shown.part(rendition);
            shown.presentation.close(shown.next, rendition).unwrap();
        }
        shown.now = shown.now + Duration::from_millis(1920);
        shown.next += 1;
        let update = shown.presentation.take_update();
        let names = update.files.iter().filter(|file| matches!(file.kind, FileKind::Media(_)));
        names.for_each(|file| assert!(shown.presentation.stored(&file.name)));
        update
    };
    (0..1050).for_each(|_| drop(quick(&mut shown)));
    let update = quick(&mut shown);
    let listing = update.listings.iter().find(|listing| listing.name == "p-video.m3u8").unwrap();
    let whole = listing.full.join();
    assert_eq!(count(text(&whole), "#EXTINF"), 1001);
    assert!(whole.len() > 80_000 && listing.delta.len() < 3000, "{} {}", whole.len(), listing.delta.len());
    // What is not the past's own text is all that was put together for this update.
    assert!(listing.full.head.len() + listing.full.tail.len() < 3000);
}

#[test]
fn keys_stay_as_long_as_there_is_what_they_decrypt() {
    for method in [Method::Aes128, Method::Cbcs] {
        let mut shown = Shown::with_window(MINUTE).with_keys(method, 4);
        // With cbcs a new key is a new init segment, which comes with a discontinuity.
        for number in 0..60 {
            shown.look.discontinuity = method == Method::Cbcs && number > 0 && number % 4 == 0;
            shown.push(10);
        }
        shown.look.discontinuity = method == Method::Cbcs;
        begin(&mut shown);
        // What is listed begins with 29, and three more are there: they need the key that segment 24 began with.
        let keys: Vec<&String> = shown.files.keys().filter(|name| name.contains("-key-")).collect();
        let expected: Vec<String> = (6..=15).map(|key| format!("p-key-{}.key", key * 4)).collect();
        assert_eq!(keys, expected.iter().collect::<Vec<_>>());
        // Whoever reads only the end is told the key of where that begins.
        let Read { full, delta, .. } = &shown.listings["p-video.m3u8"];
        for (read, cleared) in [(full, false), (delta, method == Method::Aes128)] {
            let (before, _) = text(read).split_once("#EXTINF").unwrap();
            assert_eq!(count(before, "#EXT-X-KEY:METHOD=NONE"), usize::from(cleared), "{before}");
            assert_eq!(count(before, "#EXT-X-KEY"), 1 + usize::from(cleared), "{before}");
        }
        assert_eq!(shown.lost, 0);
    }
}
