use std::time::Duration;

use mediasoup_types::rtp_parameters::{MimeType, MimeTypeVideo};

use super::*;
use crate::media::codec::{self, DecodeTargets};

fn packet(sequence: u64, timestamp: u32, key: bool, arrival: Instant) -> CachedPacket {
    CachedPacket {
        sequence,
        timestamp,
        marker: false,
        frame: Frame { starts_key_frame: key, ..Frame::WHOLE },
        behind: 0,
        audio_level: None,
        video_orientation: None,
        dependency: None,
        arrival,
        payload: vec![0],
    }
}

fn whole(stream: usize) -> Target {
    Target { stream, layers: Layers::ALL }
}

fn place(rewriter: &mut Rewriter, target: usize, stream: usize, packet: &CachedPacket) -> Option<(u64, u32)> {
    rewriter
        .place(whole(target), stream, packet, |_| None)
        .map(|placed| (placed.sequence - FIRST_SEQUENCE, placed.timestamp))
}

#[test]
fn waits_for_a_key_frame_and_keeps_gaps_and_late_packets() {
    let now = Instant::now();
    let mut rewriter = Rewriter::new(90_000, 500);
    assert_eq!(place(&mut rewriter, 0, 0, &packet(1000, 1, false, now)), None);
    assert_eq!(place(&mut rewriter, 0, 0, &packet(1001, 2, true, now)), Some((500, 2)));
    assert_eq!(place(&mut rewriter, 0, 0, &packet(1004, 3, false, now)), Some((503, 3)));
    assert_eq!(place(&mut rewriter, 0, 0, &packet(1002, 2, false, now)), Some((501, 2)));
    assert_eq!(place(&mut rewriter, 0, 0, &packet(1000, 1, false, now)), None, "before the start");
    assert_eq!(rewriter.origin(503).map(|origin| (origin.stream, origin.sequence)), Some((0, 1004)));
    assert_eq!(rewriter.origin(504), None, "not sent yet");
    assert_eq!(rewriter.origin(499), None, "before the start");
}

#[test]
fn a_pause_leaves_no_gap() {
    let now = Instant::now();
    let mut rewriter = Rewriter::new(90_000, 0);
    place(&mut rewriter, 0, 0, &packet(70_000, 0, true, now));
    rewriter.lose_sync();
    assert_eq!(place(&mut rewriter, 0, 0, &packet(70_001, 9, false, now)), None);
    assert_eq!(place(&mut rewriter, 0, 0, &packet(70_500, 9000, true, now)), Some((1, 9000)));
    assert_eq!(rewriter.origin(1).map(|origin| origin.sequence), Some(70_500));
    assert_eq!(rewriter.origin(0).map(|origin| origin.sequence), Some(70_000));
}

#[test]
fn a_switch_waits_for_the_target_and_time_goes_on() {
    let start = Instant::now();
    let later = start + Duration::from_millis(100);
    let mut rewriter = Rewriter::new(90_000, 0);
    place(&mut rewriter, 0, 0, &packet(66_000, 50_000, true, start));
    assert_eq!(place(&mut rewriter, 1, 1, &packet(90_000, 7, false, later)), None);
    assert_eq!(place(&mut rewriter, 1, 0, &packet(66_001, 53_000, false, later)), Some((1, 53_000)));
    let switched = later + Duration::from_millis(100);
    assert_eq!(place(&mut rewriter, 1, 1, &packet(90_005, 77, true, switched)), Some((2, 62_000)));
    assert_eq!(place(&mut rewriter, 1, 0, &packet(66_002, 56_000, false, switched)), None);
    assert_eq!(place(&mut rewriter, 1, 1, &packet(90_006, 77, false, switched)), Some((3, 62_000)));
}

#[test]
fn a_switch_follows_the_publishers_clock_where_it_is_known() {
    let start = Instant::now();
    let mut rewriter = Rewriter::new(90_000, 0);
    place(&mut rewriter, 0, 0, &packet(66_000, 1_000, true, start));
    let clock = |stream: usize| {
        // Stream 1's timestamp 500 000 is one second after stream 0's 1 000.
        let ntp = if stream == 0 { 10 << 32 } else { 11 << 32 };
        Some(ClockSample { ntp, rtp: [1_000, 500_000][stream], arrival: start })
    };
    let key = packet(70_000, 503_000, true, start + Duration::from_millis(1400));
    let placed = rewriter.place(whole(1), 1, &key, clock).unwrap();
    assert_eq!(placed.timestamp, 1_000 + 90_000 + 3_000);
}

/// A stream of VP8 frames of one packet each, in the usual pattern of three temporal layers.
struct Vp8 {
    start: Instant,
    frames: u64,
}

impl Vp8 {
    fn frame(&mut self) -> CachedPacket {
        let (temporal, sync) = [(0, 0), (2, 1), (1, 1), (2, 0)][(self.frames % 4) as usize];
        let id = (self.frames + 30_000) as u16 & 0x7FFF;
        let [high, low] = id.to_be_bytes();
        let tl0 = (self.frames / 4) as u8;
        let layer = temporal << 6 | sync << 5;
        let payload = vec![0x90, 0xe0, 0x80 | high, low, tl0, layer, u8::from(self.frames > 0)];
        let frame = codec::frame(MimeType::Video(MimeTypeVideo::Vp8), &payload, false);
        let arrival = self.start + Duration::from_millis(33) * self.frames as u32;
        let timestamp = self.frames as u32 * 3000;
        self.frames += 1;
        CachedPacket { frame, payload, ..packet(70_000 + self.frames, timestamp, false, arrival) }
    }
}

/// The picture id and TL0PICIDX that a viewer gets.
fn numbers(placed: &Placed, packet: &CachedPacket) -> (u16, u8) {
    let mut payload = packet.payload.clone();
    packet.frame.renumber(&mut payload, placed.renumbering);
    (u16::from_be_bytes([payload[2], payload[3]]) & 0x7FFF, payload[4])
}

fn temporal(temporal: u8) -> Target {
    Target { stream: 0, layers: Layers { spatial: 3, temporal } }
}

#[test]
fn dropped_temporal_layers_leave_no_holes_in_any_number() {
    let mut rewriter = Rewriter::new(90_000, 0);
    let mut stream = Vp8 { start: Instant::now(), frames: 0 };
    let mut expected = 0;
    // Everything, then half of the frames, a quarter, and up again where a layer can be joined.
    for (target, frames, each) in [(7, 8, 1), (1, 8, 2), (0, 8, 4)] {
        for index in 0..frames {
            let packet = stream.frame();
            let placed = rewriter.place(temporal(target), 0, &packet, |_| None);
            assert_eq!(placed.is_some(), index % each == 0, "{target} {index}");
            let Some(placed) = placed else { continue };
            assert_eq!(placed.sequence, FIRST_SEQUENCE + expected);
            let (id, tl0) = numbers(&placed, &packet);
            assert_eq!(u64::from(id), (30_000 + expected) & 0x7FFF);
            assert_eq!(tl0, ((stream.frames - 1) / 4) as u8);
            let origin = rewriter.origin((placed.sequence & 0xFFFF) as u16).unwrap();
            assert_eq!((origin.sequence, origin.place(&packet)), (packet.sequence, placed));
            expected += 1;
        }
    }
    let got: Vec<bool> =
        (0..9).map(|_| rewriter.place(temporal(2), 0, &stream.frame(), |_| None).is_some()).collect();
    // TID 1 is joined at its sync frame; TID 2 at its own, a period later.
    assert_eq!(got, [true, false, true, false, true, true, true, true, true]);
}

#[test]
fn a_late_packet_is_judged_by_the_layers_of_its_time() {
    let mut rewriter = Rewriter::new(90_000, 0);
    let mut stream = Vp8 { start: Instant::now(), frames: 0 };
    let frames: Vec<_> = (0..12).map(|_| stream.frame()).collect();
    let mut place = |target: u8, index: usize| rewriter.place(temporal(target), 0, &frames[index], |_| None);
    assert!(place(7, 0).is_some() && place(7, 1).is_some());
    // Frame 2 and 3 are lost on their way in; frame 4 begins the time without upper layers.
    assert_eq!(place(0, 4).map(|placed| placed.sequence), Some(FIRST_SEQUENCE + 4), "two gaps are left");
    let late = place(0, 2).unwrap();
    assert!(!late.is_filler && late.sequence == FIRST_SEQUENCE + 2, "the viewer had all layers then");
    // Frame 5 is lost too; it would have been dropped, so its gap is filled without a payload.
    assert!(place(0, 6).is_none() && place(0, 7).is_none());
    assert_eq!(place(0, 8).map(|placed| placed.sequence), Some(FIRST_SEQUENCE + 6));
    let filler = place(0, 5).unwrap();
    assert!(filler.is_filler && filler.sequence == FIRST_SEQUENCE + 5 && !filler.marker);
    assert_eq!(place(0, 7), None, "what was dropped stays dropped");
}

#[test]
fn a_gap_at_the_end_of_a_stream_gives_its_place_to_the_next() {
    let mut rewriter = Rewriter::new(90_000, 0);
    let mut stream = Vp8 { start: Instant::now(), frames: 0 };
    let frames: Vec<_> = (0..4).map(|_| stream.frame()).collect();
    rewriter.place(temporal(0), 0, &frames[0], |_| None).unwrap();
    // Frame 2 is lost: a gap between what is dropped, and nothing after it.
    assert!([1, 3].iter().all(|index| rewriter.place(temporal(0), 0, &frames[*index], |_| None).is_none()));
    let key = packet(80_000, 0, true, stream.start + Duration::from_millis(200));
    let other = Target { stream: 1, layers: Layers::ALL };
    let placed = rewriter.place(other, 1, &key, |_| None).unwrap();
    assert_eq!(placed.sequence, FIRST_SEQUENCE + 1);
    assert_eq!(rewriter.place(other, 0, &frames[2], |_| None), None, "its place is taken");
    assert_eq!(rewriter.origin(1).map(|origin| (origin.stream, origin.sequence)), Some((1, 80_000)));
}

#[test]
fn picture_numbers_go_on_over_a_switch() {
    let mut rewriter = Rewriter::new(90_000, 0);
    let mut small = Vp8 { start: Instant::now(), frames: 0 };
    let mut large = Vp8 { start: small.start, frames: 1000 };
    let mut last = (0, 0);
    for _ in 0..6 {
        let packet = small.frame();
        if let Some(placed) = rewriter.place(temporal(7), 0, &packet, |_| None) {
            last = numbers(&placed, &packet);
        }
    }
    let mut key = large.frame();
    key.payload[6] = 0;
    key.frame = codec::frame(MimeType::Video(MimeTypeVideo::Vp8), &key.payload, false);
    let target = Target { stream: 1, layers: Layers::ALL };
    let placed = rewriter.place(target, 1, &key, |_| None).unwrap();
    assert_eq!(numbers(&placed, &key), (last.0 + 1, last.1 + 1));
    assert_eq!(rewriter.current(), Some(target));
}

/// One VP9 packet of a layer frame, whole; flexible mode.
fn vp9(picture: u64, spatial: u8, inter: bool, is_k_svc: bool) -> CachedPacket {
    let flags = 0xbc | u8::from(inter) << 6;
    let mut payload = vec![flags, picture as u8 & 0x7F, spatial << 1 | u8::from(spatial > 0)];
    payload.extend(inter.then_some(0x02));
    payload.push(0xaa);
    let frame = codec::frame(MimeType::Video(MimeTypeVideo::Vp9), &payload, is_k_svc);
    let sequence = 70_000 + picture * 3 + u64::from(spatial);
    let packet = packet(sequence, picture as u32 * 3000, false, Instant::now());
    CachedPacket { frame, payload, marker: spatial == 2, ..packet }
}

fn spatial(spatial: u8) -> Target {
    Target { stream: 0, layers: Layers { spatial, temporal: 7 } }
}

#[test]
fn spatial_layers_go_down_at_a_picture_and_up_at_a_key_frame() {
    let mut rewriter = Rewriter::new(90_000, 0);
    let mut picture = |picture: u64, target: u8, inter: bool| -> Vec<(u64, bool)> {
        let layers = (0..3).map(|layer| vp9(picture, layer, inter, false));
        let placed = layers.filter_map(|packet| rewriter.place(spatial(target), 0, &packet, |_| None));
        placed.map(|placed| (placed.sequence - FIRST_SEQUENCE, placed.marker)).collect()
    };
    assert_eq!(picture(0, 3, false), [(0, false), (1, false), (2, true)]);
    assert_eq!(picture(1, 1, true), [(3, false), (4, true)]);
    assert_eq!(picture(2, 0, true), [(5, true)]);
    assert_eq!(picture(3, 2, true), [(6, true)], "up only at a key frame");
    assert_eq!(picture(4, 2, false), [(7, false), (8, false), (9, true)]);
}

#[test]
fn layers_that_stand_alone_change_at_key_frames_only() {
    let mut rewriter = Rewriter::new(90_000, 0);
    let mut picture = |picture: u64, target: u8, inter: bool| -> Vec<u64> {
        let layers = (0..3).map(|layer| vp9(picture, layer, inter, true));
        let placed = layers.filter_map(|packet| rewriter.place(spatial(target), 0, &packet, |_| None));
        placed.map(|placed| placed.sequence - FIRST_SEQUENCE).collect()
    };
    assert_eq!(picture(0, 2, false), [0, 1, 2]);
    assert_eq!(picture(1, 2, true), [3]);
    assert_eq!(picture(2, 0, true), [4], "still the upper layer");
    assert!(rewriter_needs_key(&rewriter));
    let mut picture = |picture: u64, target: u8, inter: bool| -> Vec<u64> {
        let layers = (0..3).map(|layer| vp9(picture, layer, inter, true));
        let placed = layers.filter_map(|packet| rewriter.place(spatial(target), 0, &packet, |_| None));
        placed.map(|placed| placed.sequence - FIRST_SEQUENCE).collect()
    };
    assert_eq!(picture(3, 0, false), [5]);
    assert_eq!(picture(4, 0, true), [6]);
}

fn rewriter_needs_key(rewriter: &Rewriter) -> bool {
    rewriter.needs_key_frame(spatial(0), true) && !rewriter.needs_key_frame(spatial(0), false)
}

#[test]
fn a_dependency_descriptor_tells_where_all_higher_layers_begin() {
    // L1T3 by templates: every frame of the lowest layer is a switch for all decode targets.
    let frame = |number: u64| {
        let temporal = [0, 2, 1, 2][(number % 4) as usize];
        let frame = Frame {
            layers: Layers { spatial: 0, temporal },
            needed_by: DecodeTargets::of(|layers| layers.temporal >= temporal),
            switch_to: if temporal == 0 { DecodeTargets::ALL } else { DecodeTargets::NONE },
            starts_key_frame: number == 0,
            ..Frame::WHOLE
        };
        let packet = packet(70_000 + number, number as u32 * 3000, false, Instant::now());
        CachedPacket { frame, ..packet }
    };
    let mut rewriter = Rewriter::new(90_000, 0);
    let mut passes =
        |target: u8, number: u64| rewriter.place(temporal(target), 0, &frame(number), |_| None).is_some();
    assert_eq!([0, 1, 2, 3].map(|number| passes(0, number)), [true, false, false, false]);
    assert_eq!([4, 5, 6].map(|number| passes(0, number)), [true, false, false]);
    assert_eq!([7, 8, 9, 10].map(|number| passes(7, number)), [false, true, true, true]);
    assert_eq!([11, 12, 13, 14].map(|number| passes(1, number)), [false, true, false, true]);
}

#[test]
fn memory_is_bounded_and_old_packets_are_forgotten() {
    let mut rewriter = Rewriter::new(90_000, 0);
    let mut stream = Vp8 { start: Instant::now(), frames: 0 };
    for _ in 0..20_000 {
        rewriter.place(temporal(1), 0, &stream.frame(), |_| None);
    }
    assert!(rewriter.stretches.len() <= MAX_STRETCHES);
    let newest = (rewriter.highest_out & 0xFFFF) as u16;
    assert!(rewriter.origin(newest).is_some() && rewriter.origin(newest.wrapping_sub(300)).is_none());
}

#[test]
fn a_publisher_that_started_over_is_joined_at_a_key_frame() {
    let now = Instant::now();
    let mut rewriter = Rewriter::new(90_000, 0);
    place(&mut rewriter, 0, 0, &packet(70_000, 5000, true, now));
    let restarted = now + Duration::from_millis(100);
    assert_eq!(place(&mut rewriter, 0, 0, &packet(300_000, 7, false, restarted)), None);
    assert_eq!(place(&mut rewriter, 0, 0, &packet(300_001, 7, true, restarted)), Some((1, 14_000)));
}
