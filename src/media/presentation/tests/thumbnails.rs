//! Pictures of what was shown, and their list.

use super::*;

/// Begins a segment, adds a tile of its beginning, and ends it.
fn push(shown: &mut Shown, times: &mut Vec<MediaTime>) {
    let now = shown.now;
    shown.open();
    (0..10).for_each(|_| shown.parts());
    tile(shown, times, now);
    shown.close();
}

/// Adds a tile of what is shown at `at` to those that are in its sprite already.
fn tile(shown: &mut Shown, times: &mut Vec<MediaTime>, at: MediaTime) {
    if times.len() == SPRITE_COLUMNS * SPRITE_ROWS {
        times.clear();
    }
    times.push(at);
    let body = format!("{times:?} {:?}", shown.now).into();
    shown.presentation.add_sprite(Sprite { body, tile: (160, 90), shown: times.clone() });
    shown.update();
}

/// What is listed: from when to when, in seconds, which file, and where in it.
fn cues(shown: &Shown) -> Vec<(f64, f64, String, String)> {
    let text = text(&shown.files["p-thumbnails.vtt"]);
    assert!(text.starts_with("WEBVTT\n\nNOTE 00:00:00.000 is 1970-01-01T00:0"), "{text}");
    let seconds =
        |time: &str| time.split(':').fold(0.0, |sum, digits| sum * 60.0 + digits.parse::<f64>().unwrap());
    let blocks = text.split("\n\n").filter_map(|block| block.split_once(" --> "));
    let read = blocks.map(|(from, rest)| {
        let (until, place) = rest.trim_end().split_once('\n').unwrap();
        let (name, place) = place.split_once("#xywh=").unwrap();
        assert!(shown.files.contains_key(name), "{name} is listed but missing");
        (seconds(from), seconds(until), name.to_owned(), place.to_owned())
    });
    read.collect()
}

/// How much the video's playlist lists, in seconds, without the parts of the open segment.
fn length(shown: &Shown) -> f64 {
    let lines = text(&shown.listings["p-video.m3u8"].full).lines();
    lines.filter_map(|line| line.strip_prefix("#EXTINF:")?.trim_end_matches(',').parse::<f64>().ok()).sum()
}

#[test]
fn tiles_are_listed_by_the_playlists_time_until_their_segments_leave() {
    let mut shown = Shown::new();
    let (mut sprites, mut times) = (BTreeSet::new(), Vec::new());
    // A sprite that comes before everything else waits for the next tile.
    let now = shown.now;
    tile(&mut shown, &mut times, now);
    for _ in 1..60 {
        push(&mut shown, &mut times);
        let listed = cues(&shown);
        assert!((listed[0].0).abs() < 0.001, "{listed:?}");
        assert!((listed.last().unwrap().1 - length(&shown)).abs() < 0.002, "{listed:?}");
        assert!(listed.windows(2).all(|pair| (pair[0].1 - pair[1].0).abs() < 0.001), "{listed:?}");
        let there: Vec<&String> = shown.files.keys().filter(|name| name.ends_with(".jpg")).collect();
        assert!(there.len() <= 3, "{there:?}");
        sprites.extend(there.into_iter().cloned());
    }
    assert_eq!(sprites.len(), 59, "what has a name never changes");
    let listed = cues(&shown);
    assert_eq!(listed.len(), 6, "one for each segment of the window, and of the newest");
    // The last tile is the tenth of the third sprite.
    assert_eq!(times.len(), 10);
    assert_eq!(listed[5].3, "640,90,160,90");
    assert_eq!(listed[0].3, "640,0,160,90");
}

#[test]
fn pictures_begin_with_the_first_tile_and_go_with_the_window_of_dvr() {
    let mut shown = Shown::with_window(Window { dvr: Duration::from_secs(60), ..WINDOW });
    (0..10).for_each(|_| shown.push(10));
    assert!(!shown.files.contains_key("p-thumbnails.vtt"), "there is nothing to list");
    let mut times = Vec::new();
    (0..50).for_each(|_| push(&mut shown, &mut times));
    let listed = cues(&shown);
    assert_eq!(listed.len(), 32, "60 s, and the newest");
    let names: BTreeSet<&String> = listed.iter().map(|(_, _, name, _)| name).collect();
    assert_eq!(names.len(), 2);
    let now = shown.now;
    (0..5).for_each(|_| tile(&mut shown, &mut times, now.before(Duration::from_secs(1))));
    let listed = cues(&shown);
    assert!((listed.last().unwrap().1 - length(&shown)).abs() < 0.002, "several of a moment: the last one");
    assert!(listed.iter().all(|(from, until, ..)| from < until), "{listed:?}");
}
