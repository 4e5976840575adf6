//! Stories of publishers, and what they are cut into.

mod publisher;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::media::fmp4::VIDEO_TIMESCALE;
use crate::media::fmp4::tests::audio_config;
use publisher::{FRAME_MS, Publisher, Segment, at, ms};

fn lengths(segments: &[Segment]) -> Vec<u64> {
    segments.iter().map(|segment| ms(segment.end()) - ms(segment.opening.start)).collect()
}

fn discontinuities(segments: &[Segment]) -> Vec<usize> {
    (0..segments.len()).filter(|index| segments[*index].opening.discontinuity).collect()
}

#[test]
fn segments_of_two_seconds_begin_on_requested_key_frames() {
    let mut publisher = Publisher::new(true, true);
    publisher.run(10_000);
    let requests = publisher.requests.clone();
    let segments = publisher.finish();
    assert_eq!(lengths(&segments)[..4], [957, 1920, 1920, 1920]);
    assert!(segments.iter().all(|segment| segment.video().independent()));
    assert!(segments.iter().all(|segment| !segment.audio().filler() && !segment.video().filler()));
    assert!(discontinuities(&segments).is_empty());
    assert_eq!(requests[0], (850, KeyFrameRequest::Due(at(1000))), "the first one is short: {requests:?}");
    assert_eq!(requests[1], (2807, KeyFrameRequest::Due(at(2957))), "{requests:?}");
    assert_eq!(requests.len(), 5, "one for each segment: {requests:?}");
}

#[test]
fn a_part_is_given_out_when_its_last_picture_is_in() {
    let mut publisher = Publisher::new(true, true);
    publisher.run(10_000);
    let part = publisher.part();
    let first = publisher.parts[0].0;
    assert!(first < 200, "{first}");
    for (when, part) in publisher.parts.iter().filter(|(_, part)| part.rendition != Rendition::Audio) {
        let end = part.base + part.samples.iter().map(|sample| u64::from(sample.duration)).sum::<u64>();
        let late = *when as i64 - ms(MediaTime::from_ticks(end, VIDEO_TIMESCALE)) as i64;
        assert!(late <= 0, "given out {late} ms after its end");
    }
    let segments = publisher.finish();
    for segment in &segments[..4] {
        let (last, whole) = segment.video().parts.split_last().unwrap();
        for part_of in whole {
            let ticks: u64 = part_of.samples.iter().map(|sample| u64::from(sample.duration)).sum();
            assert_eq!(ticks, part.as_millis() as u64 * 90);
        }
        assert!(!last.samples.is_empty());
        let (_, whole) = segment.audio().parts.split_last().unwrap();
        assert!(whole.iter().all(|part| part.samples.len() == 9), "9 AAC frames are 192 ms");
    }
}

#[test]
fn pictures_are_shown_at_their_own_time() {
    // A camera that sends 7 to 40 pictures a second.
    let mut random = StdRng::seed_from_u64(3);
    let mut publisher = Publisher::new(false, true);
    publisher.video = false;
    let (mut sent, mut next) = (Vec::new(), 0);
    publisher.run(1);
    for _ in 0..600 {
        while publisher.now < next {
            publisher.run(1);
        }
        let key = publisher.key_due.take_if(|due| *due <= next).is_some();
        publisher.push_video(next, key);
        sent.push(next);
        next += random.random_range(25..140);
    }
    let segments = publisher.finish();
    assert!(segments.len() > 15);
    let mut shown = Vec::new();
    for part in segments.iter().flat_map(|segment| &segment.video().parts) {
        assert!(!part.filler);
        let mut decoded = part.base;
        for sample in &part.samples {
            let pts = decoded.cast_signed() + i64::from(sample.composition);
            shown.push(ms(MediaTime::from_ticks(pts.cast_unsigned() + 1, VIDEO_TIMESCALE)));
            decoded += u64::from(sample.duration);
            assert!(sample.composition.abs() < 200 * 90, "{}", sample.composition);
        }
    }
    assert_eq!(shown, sent);
}

#[test]
fn a_publisher_without_key_frames_is_cut_below_the_target_duration() {
    let mut publisher = Publisher::new(true, true);
    publisher.answers_after = None;
    publisher.run(12_000);
    assert!(publisher.requests.len() > 5, "asks again: {:?}", publisher.requests);
    let segments = publisher.finish();
    assert_eq!(lengths(&segments)[..3], [2880, 2880, 2880]);
}

#[test]
fn whoever_comes_inside_a_long_group_finds_a_key_frame_and_all_that_refers_to_it() {
    let mut publisher = Publisher::new(true, true);
    (publisher.answers_after, publisher.key_due) = (None, None);
    publisher.run(18_000);
    let segments = publisher.finish();
    let mut before = 0;
    for segment in &segments {
        let first = &segment.video().parts[0];
        let pictures: usize = segment.video().parts.iter().map(|part| part.samples.len()).sum();
        let repeated = if before > 0 && before <= group::MAX_REOPENING { before } else { 0 };
        assert_eq!(first.independent, before <= group::MAX_REOPENING, "after {before} pictures");
        assert_eq!(first.samples.iter().filter(|sample| sample.sync).count(), usize::from(first.independent));
        let times = segment.shown();
        assert!(times.is_sorted(), "{times:?}");
        let over = times[repeated] - ms(segment.opening.start);
        assert!(over <= FRAME_MS + 4, "the repeated ones are over after {over} ms");
        before += pictures - repeated;
    }
    assert!(before > group::MAX_REOPENING, "{before} pictures are too many");
    assert!(!segments.last().unwrap().video().independent());
}

#[test]
fn a_long_group_of_many_bytes_is_not_repeated() {
    let mut publisher = Publisher::new(false, true);
    (publisher.answers_after, publisher.key_due) = (None, None);
    publisher.picture = Bytes::from(vec![0; group::MAX_REOPENING_BYTES / 100]);
    publisher.run(8000);
    let segments = publisher.finish();
    let independent: Vec<_> = segments.iter().map(|segment| segment.video().independent()).collect();
    assert_eq!(independent, [true, true, false], "after 0, 87 and 174 pictures");
}

#[test]
fn no_hole_precedes_the_first_picture_behind_a_discontinuity() {
    for shift in (0..400).step_by(7) {
        let mut publisher = Publisher::new(true, true);
        publisher.run(4000 + shift);
        publisher.size = (1280, 720);
        publisher.run(3000);
        let segments = publisher.finish();
        let [marked] = discontinuities(&segments)[..] else { panic!("one change") };
        let first = &segments[marked].video().parts[0].samples[0];
        assert_eq!(first.composition, 0, "shown late, with the change after {shift} ms");
    }
}

#[test]
fn a_new_resolution_is_a_new_segment_and_a_discontinuity_of_both() {
    let mut publisher = Publisher::new(true, true);
    publisher.run(5000);
    publisher.size = (1280, 720);
    publisher.run(5000);
    let segments = publisher.finish();
    let marked = discontinuities(&segments);
    assert_eq!(marked.len(), 1);
    let changed = &segments[marked[0]];
    assert_eq!(changed.opening.video[0].1.size(), (1280, 720));
    assert!((4950..5040).contains(&ms(changed.opening.start)), "at once: {}", ms(changed.opening.start));
}

#[test]
fn a_resolution_that_changes_twice_in_a_moment_leaves_no_tiny_segment() {
    let mut publisher = Publisher::new(true, true);
    publisher.run(5000);
    publisher.size = (800, 600);
    publisher.run(40);
    publisher.size = (1280, 720);
    publisher.run(5000);
    let segments = publisher.finish();
    assert_eq!(discontinuities(&segments).len(), 1);
    assert_eq!(segments.last().unwrap().opening.video[0].1.size(), (1280, 720));
}

#[test]
fn one_kind_of_media_is_enough() {
    let mut publisher = Publisher::new(true, false);
    publisher.run(7000);
    let segments = publisher.finish();
    assert_eq!(lengths(&segments)[..3], [960, 1920, 1920]);
    assert!(segments.iter().all(|segment| segment.opening.video.is_empty()));

    let mut publisher = Publisher::new(false, true);
    publisher.run(7000);
    let segments = publisher.finish();
    assert_eq!(lengths(&segments)[..3], [957, 1920, 1920]);
    assert!(segments.iter().all(|segment| segment.opening.audio.is_none()));
}

#[test]
fn a_stream_that_goes_on_begins_at_once_and_with_a_discontinuity() {
    let mut publisher = Publisher::new(true, false);
    publisher.segmenter = Segmenter::new(0, Duration::from_millis(200)).after_break();
    publisher.segmenter.set_audio(TrackState::Active);
    publisher.segmenter.all_announced();
    publisher.run(400);
    assert!(!publisher.parts.is_empty(), "it waits for no other kind");
    publisher.run(5000);
    assert_eq!(discontinuities(&publisher.finish()), [0]);
}

#[test]
fn a_lone_track_waits_a_moment_for_the_other_kind() {
    let mut publisher = Publisher::new(true, false);
    publisher.run(400);
    assert!(publisher.parts.is_empty());
    publisher.segmenter.set_video(VideoId::BEST, TrackState::Active);
    publisher.video = true;
    publisher.run(5000);
    let segments = publisher.finish();
    assert!(discontinuities(&segments).is_empty());
    assert!(!segments[0].opening.video.is_empty() && segments[0].opening.audio.is_some());
    assert!((400..440).contains(&ms(segments[0].opening.start)));
}

#[test]
fn late_tracks_join_in_step_behind_a_discontinuity() {
    for late_video in [true, false] {
        let mut publisher = Publisher::new(late_video, !late_video);
        publisher.run(9000);
        publisher.segmenter.set_video(VideoId::BEST, TrackState::Active);
        publisher.segmenter.set_audio(TrackState::Active);
        (publisher.video, publisher.audio) = (true, true);
        publisher.run(9000);
        let segments = publisher.finish();
        let has_both =
            |segment: &Segment| !segment.opening.video.is_empty() && segment.opening.audio.is_some();
        let both = segments.iter().position(has_both).unwrap();
        assert_eq!(discontinuities(&segments), [both]);
        assert!((8800..11_100).contains(&ms(segments[both].opening.start)));
    }
}

#[test]
fn a_track_that_is_announced_but_brings_nothing_holds_the_start_only_so_long() {
    let mut publisher = Publisher::new(true, false);
    publisher.segmenter.set_video(VideoId::BEST, TrackState::Active);
    publisher.run(4900);
    assert!(publisher.segmenter.open.is_none());
    publisher.run(5000);
    let segments = publisher.finish();
    assert!(segments.len() >= 2 && segments[0].opening.video.is_empty());
}

#[test]
fn paused_video_goes_on_with_its_last_key_frame_at_the_pace_of_parts() {
    let mut publisher = Publisher::new(true, true);
    publisher.run(6500);
    publisher.video = false;
    publisher.segmenter.set_video(VideoId::BEST, TrackState::Paused);
    publisher.run(10_000);
    let asked = publisher.requests.len();
    publisher.segmenter.set_video(VideoId::BEST, TrackState::Active);
    publisher.video = true;
    publisher.run(6000);
    assert_eq!(publisher.requests[asked].1, KeyFrameRequest::Missing, "asks at once");
    let longest = publisher.longest_wait(|part| part.rendition != Rendition::Audio);
    assert!(longest < 700, "nothing for {longest} ms");
    let segments = publisher.finish();
    let fillers = segments.iter().filter(|segment| segment.video().filler()).count();
    assert!((4..=5).contains(&fillers), "{fillers}");
    assert!(segments.iter().all(|segment| segment.video().independent()));
    assert!(discontinuities(&segments).is_empty());
}

#[test]
fn video_that_stalls_without_a_word_is_filled_before_a_player_runs_dry() {
    let mut publisher = Publisher::new(true, true);
    publisher.run(6500);
    publisher.video = false;
    publisher.run(10_000);
    publisher.video = true;
    publisher.run(6000);
    let longest = publisher.longest_wait(|part| part.rendition != Rendition::Audio);
    assert!(longest < 600, "nothing for {longest} ms");
    let segments = publisher.finish();
    assert!(segments.iter().any(|segment| segment.video().filler()));
    assert!(!segments.last().unwrap().video().filler());
}

#[test]
fn pictures_that_were_held_up_go_on_where_they_stopped() {
    let mut publisher = Publisher::new(true, true);
    publisher.run(2500);
    // The network brings nothing for 900 ms and then all at once.
    publisher.video = false;
    publisher.run(900);
    let late: Vec<u64> = (2500..3400).filter(|when| when % FRAME_MS == 0).collect();
    late.iter().for_each(|when| publisher.push_video(*when, false));
    publisher.video = true;
    publisher.run(3000);
    assert!(
        !publisher.requests.iter().any(|(_, why)| *why == KeyFrameRequest::Missing),
        "the decoder goes on"
    );
    let segments = publisher.finish();
    let repeats =
        segments.iter().flat_map(|segment| &segment.video().parts).filter(|part| part.filler).count();
    assert!((1..=4).contains(&repeats), "{repeats}");
    let pictures = segments.iter().flat_map(|segment| &segment.video().parts).filter(|part| !part.filler);
    let pictures: usize = pictures.map(|part| part.samples.len()).sum();
    assert_eq!(pictures as u64, 6400u64.div_ceil(FRAME_MS), "each picture came once");
    for segment in &segments {
        let times = segment.shown();
        assert!(times.is_sorted(), "{times:?}");
    }
}

#[test]
fn muted_audio_is_silence() {
    let mut publisher = Publisher::new(true, true);
    publisher.run(5000);
    publisher.audio = false;
    publisher.run(400); // Opus DTX
    publisher.audio = true;
    publisher.run(3000);
    publisher.audio = false;
    publisher.run(10_000);
    publisher.audio = true;
    publisher.run(4000);
    let longest = publisher.longest_wait(|part| part.rendition == Rendition::Audio);
    assert!(longest < 500, "nothing for {longest} ms");
    let segments = publisher.finish();
    assert!(discontinuities(&segments).is_empty());
    let fillers = segments.iter().filter(|segment| segment.audio().filler()).count();
    assert!((3..=5).contains(&fillers), "{fillers}");
    let silence = audio_config().silence();
    let samples = segments.iter().flat_map(|segment| &segment.audio().parts).flat_map(|part| &part.samples);
    let silent = samples.filter(|sample| sample.data == silence).count() as u64;
    assert!((10_400 * 3 / 64 - 4..=10_400 * 3 / 64 + 4).contains(&silent), "{silent}");
}

#[test]
fn sound_that_is_always_late_is_waited_for() {
    let mut publisher = Publisher::new(true, true);
    publisher.audio_delay = 900;
    publisher.run(10_000);
    let segments = publisher.finish();
    let silence = audio_config().silence();
    let samples =
        segments[1..3].iter().flat_map(|segment| &segment.audio().parts).flat_map(|part| &part.samples);
    assert_eq!(samples.filter(|sample| sample.data == silence).count(), 0);
}

#[test]
fn a_peer_whose_tracks_are_all_silent_goes_on() {
    let mut publisher = Publisher::new(true, true);
    publisher.run(5000);
    (publisher.audio, publisher.video) = (false, false);
    publisher.segmenter.set_audio(TrackState::Absent);
    publisher.segmenter.set_video(VideoId::BEST, TrackState::Absent);
    publisher.run(10_000);
    let longest = publisher.longest_wait(|_| true);
    assert!(longest < 400, "nothing for {longest} ms");
    let segments = publisher.finish();
    assert!(segments.len() >= 6, "{}", segments.len());
}

#[test]
fn damaged_pictures_wait_for_a_key_frame() {
    let mut publisher = Publisher::new(true, true);
    publisher.run(2500);
    publisher.segmenter.video_damaged(VideoId::BEST, at(2500), at(2500));
    publisher.run(3000);
    assert!(publisher.requests.iter().any(|(when, why)| *when == 2500 && *why == KeyFrameRequest::Missing));
    let times = publisher.finish().iter().flat_map(Segment::shown).collect::<Vec<_>>();
    let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!((40..160).contains(&gap), "frozen for {gap} ms");

    // A publisher that sends no key frame is shown damaged after a while.
    let mut publisher = Publisher::new(true, true);
    publisher.answers_after = None;
    publisher.run(2500);
    publisher.segmenter.video_damaged(VideoId::BEST, at(2500), at(2500));
    publisher.run(4000);
    let segments = publisher.finish();
    assert!(!segments.last().unwrap().video().parts.last().unwrap().filler);
}

#[test]
fn ten_minutes_of_loss_leave_no_hole() {
    let mut random = StdRng::seed_from_u64(5);
    let mut publisher = Publisher::new(true, true);
    publisher.run(2000);
    for _ in 0..600_000 / FRAME_MS {
        publisher.run(FRAME_MS);
        if random.random_bool(0.05) {
            let damaged = at(publisher.now.next_multiple_of(FRAME_MS));
            publisher.segmenter.video_damaged(VideoId::BEST, damaged, damaged);
        }
    }
    let longest = publisher.longest_wait(|part| part.rendition != Rendition::Audio);
    assert!(longest < 400, "nothing for {longest} ms");
    let segments = publisher.finish();
    assert!(discontinuities(&segments).is_empty());
    assert!(segments.iter().all(|segment| segment.video().independent() && !segment.video().filler()));
    let times = segments.iter().flat_map(Segment::shown).collect::<Vec<_>>();
    let gap = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap();
    // One key frame in twenty is torn as well.
    assert!(u128::from(gap) < REPAIR_PATIENCE.as_millis(), "frozen for {gap} ms");
}

#[test]
fn a_minute_of_discontinuous_transmission_is_silence_and_no_longer_segments() {
    let mut publisher = Publisher::new(true, true);
    publisher.run(5000);
    // A frame of comfort noise every 400 ms.
    publisher.audio = false;
    for _ in 0..150 {
        publisher.run(400);
        publisher.push_audio(at(publisher.now));
    }
    publisher.audio = true;
    publisher.run(4000);
    let longest = publisher.longest_wait(|part| part.rendition == Rendition::Audio);
    assert!(longest < 500, "nothing for {longest} ms");
    let segments = publisher.finish();
    assert!(discontinuities(&segments).is_empty());
    assert!(segments.len() > 30 && segments.iter().all(|segment| segment.video().independent()));
}

#[test]
fn b_frames_are_decoded_in_their_order_and_shown_in_theirs() {
    let mut publisher = Publisher::new(false, true);
    publisher.video = false;
    let mut sent = Vec::new();
    for group in 0..40u64 {
        publisher.now = group * 132;
        for (index, slot) in [0u64, 3, 1, 2].iter().enumerate() {
            publisher.push_video(publisher.now + slot * 33, index == 0 && group.is_multiple_of(15));
            sent.push(publisher.now + slot * 33);
        }
        publisher.poll();
    }
    let segments = publisher.finish();
    let shown: Vec<u64> = segments.iter().flat_map(Segment::shown).collect();
    assert_eq!(shown, sent);
}

#[test]
fn another_source_is_a_discontinuity() {
    let mut publisher = Publisher::new(true, true);
    publisher.run(5000);
    publisher.segmenter.video_restarted(VideoId::BEST);
    publisher.run(5000);
    publisher.segmenter.audio_restarted();
    publisher.run(5000);
    let segments = publisher.finish();
    assert_eq!(discontinuities(&segments).len(), 2);
}

#[test]
fn the_end_closes_what_is_there() {
    let mut publisher = Publisher::new(true, true);
    publisher.run(3000);
    let segments = publisher.finish();
    assert_eq!(segments.len(), 3);
    assert!((2970..3040).contains(&ms(segments[2].end())), "{}", ms(segments[2].end()));
}

#[test]
fn whatever_a_publisher_does_the_renditions_stay_in_step() {
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut publisher = Publisher::new(random.random(), random.random());
        for _ in 0..40 {
            match random.random_range(0..10) {
                0 => {
                    publisher.video = random.random();
                    let state = if publisher.video { TrackState::Active } else { TrackState::Paused };
                    publisher.segmenter.set_video(VideoId::BEST, state);
                }
                1 => {
                    publisher.audio = random.random();
                    let state = if publisher.audio { TrackState::Active } else { TrackState::Absent };
                    publisher.segmenter.set_audio(state);
                }
                2 => publisher.size = (640 + 2 * random.random_range(0..4), 360),
                3 => publisher.answers_after = random.random_bool(0.7).then_some(random.random_range(0..900)),
                4 => {
                    let (from, through) = (at(publisher.now), at(publisher.now + 100));
                    publisher.segmenter.video_damaged(VideoId::BEST, from, through);
                }
                5 => publisher.segmenter.video_restarted(VideoId::BEST),
                6 => publisher.segmenter.audio_restarted(),
                7 => publisher.video = random.random(),
                8 => publisher.audio = random.random(),
                _ => publisher.push_audio(at(publisher.now.saturating_sub(random.random_range(0..5000)))),
            }
            publisher.run(random.random_range(0..4000));
        }
        publisher.finish();
    }
}

#[test]
fn times_that_go_back_and_sizes_that_change_leave_the_renditions_whole() {
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut publisher = Publisher::new(true, true);
        publisher.run(3000);
        // Pictures come from here only.
        publisher.video = false;
        for _ in 0..400 {
            publisher.run(FRAME_MS);
            let key = random.random_bool(0.1);
            if key {
                publisher.size = (320 + 16 * random.random_range(0..4), 240);
            }
            let pts = (publisher.now + random.random_range(0..600)).saturating_sub(500);
            publisher.push_video(pts, key);
        }
        publisher.finish();
    }
}

#[test]
fn all_sizes_of_a_picture_are_cut_at_the_same_moments() {
    let mut publisher = Publisher::new(true, true);
    let second = VideoId::new(1).unwrap();
    publisher.segmenter.set_video(second, TrackState::Active);
    publisher.second = true;
    publisher.run(8000);
    // The smaller one stands still for a while, and then comes back with the next key frame.
    publisher.second = false;
    publisher.run(3000);
    publisher.second = true;
    publisher.run(6000);
    let segments = publisher.finish();
    assert!(discontinuities(&segments).is_empty());
    for segment in &segments[..4] {
        let smaller = &segment.tracks[&Rendition::Video(second)];
        assert!(smaller.independent() && !smaller.filler());
        let starts = |track: &publisher::Track| track.parts.iter().map(|part| part.base).collect::<Vec<_>>();
        assert_eq!(starts(smaller), starts(segment.video()));
    }
    assert!(segments.iter().all(|segment| segment.video().independent() && !segment.video().filler()));
    let smaller =
        |segment: &Segment| segment.tracks[&Rendition::Video(second)].parts.iter().any(|part| part.filler);
    assert!(segments.iter().any(smaller) && !smaller(segments.last().unwrap()));
}
