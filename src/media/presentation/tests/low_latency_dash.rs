//! The manifest for players that take segments while they grow.

use super::*;

fn read(shown: &Shown) -> dash_mpd_core::MPD {
    dash_mpd_core::parse(text(&shown.files["p-low-latency.mpd"])).unwrap()
}

/// The segments of a kind: names, and when each begins and ends, in seconds.
fn listed(shown: &Shown, kind: usize) -> Vec<(String, f64, f64)> {
    let manifest = read(shown);
    let representation = &manifest.periods[0].adaptations[kind].representations[0];
    let template = representation.SegmentTemplate.as_ref().unwrap();
    let rate = template.timescale.unwrap() as f64;
    let timeline = template.SegmentTimeline.as_ref().unwrap().segments.iter();
    let lengths: Vec<u64> =
        timeline.flat_map(|one| vec![one.d; usize::try_from(one.r.unwrap_or(0)).unwrap() + 1]).collect();
    let times = named(representation).into_iter().zip(lengths);
    times.map(|((name, time), length)| (name, time as f64 / rate, (time + length) as f64 / rate)).collect()
}

#[test]
fn the_segment_that_is_made_is_listed_from_its_first_part_on() {
    let mut shown = Shown::new();
    (0..3).for_each(|_| shown.push(10));
    for kind in [0, 1] {
        assert_eq!(listed(&shown, kind).len(), 3);
    }
    shown.open();
    shown.part(VIDEO);
    shown.update();
    assert_eq!(listed(&shown, 0).len(), 3, "not as long as a rendition has nothing of it");
    shown.part(Rendition::Audio);
    shown.update();
    for (kind, name) in [(0, "video_p_003.m4s"), (1, "audio_p_003.m4s")] {
        let segments = listed(&shown, kind);
        let (last, begin, end) = &segments[3];
        assert_eq!((last.as_str(), segments.len()), (name, 4));
        assert!((begin - segments[2].2).abs() < 0.001 && (end - begin - 2.5).abs() < 0.001, "{segments:?}");
    }
    assert_eq!(manifest(&shown).periods[0].adaptations.len(), 2);
    assert!(!text(&shown.files["p.mpd"]).contains("_003"), "others get complete ones only");

    let open = shown.presentation.open_segment(VIDEO).unwrap();
    assert_eq!((open.name.as_str(), open.parts.len()), ("video_p_003.m4s", 1));
    shown.now = shown.now + Duration::from_millis(192);
    (0..9).for_each(|_| shown.parts());
    let grown = shown.presentation.open_segment(VIDEO).unwrap().parts.concat();
    shown.close();
    assert_eq!(grown, shown.files["video_p_003.m4s"], "a segment is its parts");
    assert!(shown.presentation.open_segment(VIDEO).is_none());
    let (_, begin, end) = &listed(&shown, 0)[3];
    assert!((end - begin - 1.92).abs() < 0.001, "now its length is known");
}

#[test]
fn it_says_how_to_stay_close() {
    let mut shown = Shown::new();
    (0..2).for_each(|_| shown.push(10));
    let manifest = read(&shown);
    assert_eq!(manifest.minimumUpdatePeriod, Some(Duration::from_millis(500)));
    let [service] = &manifest.ServiceDescription[..] else { panic!("one service") };
    assert_eq!(service.Latency[0].target, Some(1500.0));
    let [timing] = &manifest.UTCTiming[..] else { panic!("one source of time") };
    assert_eq!(timing.schemeIdUri, "urn:mpeg:dash:utc:http-iso:2014");
    let template = manifest.periods[0].adaptations[0].representations[0].SegmentTemplate.as_ref().unwrap();
    assert_eq!(template.availabilityTimeComplete, Some(false));
    assert_eq!(template.availabilityTimeOffset, Some(2.308));
    let raw = text(&shown.files["p-low-latency.mpd"]);
    assert!(raw.find("<ServiceDescription") < raw.find("<Period"), "the schema's order: {raw}");
    assert!(raw.contains("target=\"1500\""), "{raw}");
    shown.presentation.end();
    shown.update();
    let ended = read(&shown);
    assert!(ended.minimumUpdatePeriod.is_none() && ended.mediaPresentationDuration.is_some());
}

#[test]
fn nothing_encrypted_is_sent_while_it_grows() {
    let mut shown = Shown::encrypted(Method::Aes128, 60);
    shown.open();
    shown.parts();
    assert!(shown.presentation.open_segment(VIDEO).is_none());
    assert!(!shown.files.contains_key("p-low-latency.mpd"));
}
