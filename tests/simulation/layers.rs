//! Viewers that get different layers of one publisher, and change them, on good networks and bad ones.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use mediasoup_types::data_structures::DtlsRole;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use weir::ids::ConsumerId;
use weir::media::codec::Layers;
use weir::media::rtcp::{self, ReportBlock};
use weir::media::rtp::RtpView;
use weir::sfu::api::{Event, TapOutput};
use weir::sfu::layers::Allocation;

use crate::peer::{Inbox, VP8};
use crate::world::{Camera, GCM_LAST, World};

const FRAME: Duration = Duration::from_micros(33_333);
/// The streams of the publisher, from the smallest to the largest.
const SSRCS: [u32; 3] = [1000, 2000, 3000];
/// Bytes of the VP8 payload descriptor as Chromium writes it, and the first byte of the frame.
const HEADER: usize = 7;

/// A camera with three temporal layers. Its packets say which frames they need, so that a viewer can tell whether a
/// decoder could show what it got.
struct LayeredCamera {
    peer: usize,
    ssrc: u32,
    packets_per_frame: usize,
    sequence: u64,
    frame: u32,
    key: u32,
    answered: usize,
}

impl LayeredCamera {
    fn new(peer: usize, stream: usize) -> Self {
        let (ssrc, packets_per_frame) = (SSRCS[stream], [1, 2, 5][stream]);
        Self { peer, ssrc, packets_per_frame, sequence: 65_000, frame: 0, key: 0, answered: 0 }
    }

    fn shoot(&mut self, world: &mut World) {
        let peer = &mut world.peers[self.peer];
        let asked = peer.asked.iter().filter(|(ssrc, _)| *ssrc == self.ssrc).count();
        let is_key = self.frame == 0 || asked > self.answered;
        self.answered = asked;
        if is_key {
            self.key = self.frame;
        }
        let since_key = self.frame - self.key;
        let base = self.frame - since_key % 4;
        // What each frame of the pattern is predicted from, the latter two being layer syncs.
        let (temporal, sync, needs) = match since_key % 4 {
            0 => (0, 0, vec![self.frame.wrapping_sub(4)]),
            1 => (2, 1, vec![base]),
            2 => (1, 1, vec![base]),
            _ => (2, 0, vec![base, base + 1, base + 2]),
        };
        let needs = if is_key { Vec::new() } else { needs };
        let [high, low] = (self.frame as u16 & 0x7FFF).to_be_bytes();
        for index in 0..self.packets_per_frame {
            let start = if index == 0 { 0x90 } else { 0x80 };
            let layer = temporal << 6 | sync << 5;
            let mut payload = vec![
                start,
                0xe0,
                0x80 | high,
                low,
                (base / 4) as u8,
                layer,
                u8::from(!is_key),
                needs.len() as u8,
            ];
            for number in std::iter::once(self.ssrc).chain([self.frame]).chain(needs.iter().copied()) {
                payload.extend(number.to_be_bytes());
            }
            payload.resize(1000, 0);
            let marker = index + 1 == self.packets_per_frame;
            peer.send_rtp(self.ssrc, VP8, self.sequence, self.frame * 3000, marker, &payload);
            self.sequence += 1;
        }
        self.frame += 1;
    }
}

fn film(world: &mut World, cameras: &mut [LayeredCamera], frames: u32) {
    for _ in 0..frames {
        cameras.iter_mut().for_each(|camera| camera.shoot(world));
        world.run(FRAME);
    }
}

/// What a decoder makes of an inbox.
#[derive(Debug, Default)]
struct Watched {
    shown: usize,
    /// Frames that came whole but were predicted from one that had not come.
    broken: Vec<u32>,
    /// Frames that did not come whole.
    torn: usize,
    /// Whole frames by stream.
    by_stream: BTreeMap<u32, usize>,
}

fn number(payload: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(payload[HEADER + 1 + 4 * at..][..4].try_into().unwrap())
}

fn watch(inbox: &Inbox) -> Watched {
    let mut watched = Watched::default();
    let mut frames: Vec<Vec<(u64, &[u8], bool)>> = Vec::new();
    let mut last_timestamp = None;
    for (sequence, packet) in &inbox.packets {
        if packet.payload.is_empty() {
            continue; // a filler
        }
        if last_timestamp != Some(packet.timestamp) {
            assert!(last_timestamp.is_none_or(|last| packet.timestamp > last), "time goes back");
            last_timestamp = Some(packet.timestamp);
            frames.push(Vec::new());
        }
        frames.last_mut().unwrap().push((*sequence, &packet.payload, packet.marker));
    }
    let mut decoded = HashSet::new();
    let mut picture_id = None;
    for packets in frames {
        let ((first, start, _), (last, _, marker)) = (packets[0], packets[packets.len() - 1]);
        if start[0] != 0x90 || !marker || (last - first + 1) as usize != packets.len() {
            watched.torn += 1;
            continue;
        }
        let id = u16::from_be_bytes([start[2], start[3]]) & 0x7FFF;
        assert!(picture_id.is_none_or(|last| id.wrapping_sub(last) & 0x7FFF < 1000), "{picture_id:?} {id}");
        picture_id = Some(id);
        let (stream, frame) = (number(start, 0), number(start, 1));
        if start[HEADER - 1] == 0 {
            decoded.clear();
        }
        if (0..usize::from(start[HEADER])).all(|need| decoded.contains(&(stream, number(start, 2 + need)))) {
            decoded.insert((stream, frame));
            watched.shown += 1;
            *watched.by_stream.entry(stream).or_default() += 1;
        } else {
            watched.broken.push(frame);
        }
    }
    watched
}

/// Picture ids, and TL0PICIDX of the frames of the lowest layer, count one by one.
fn counts_on(inbox: &Inbox) -> bool {
    let starts = inbox.packets.values().filter(|packet| packet.payload.first() == Some(&0x90));
    let numbers: Vec<(u16, u8, u8)> = starts
        .map(|packet| &packet.payload)
        .map(|p| (u16::from_be_bytes([p[2], p[3]]) & 0x7FFF, p[4], p[5] >> 6))
        .collect();
    numbers.windows(2).all(|pair| {
        let next_tl0 = pair[0].1.wrapping_add(u8::from(pair[1].2 == 0));
        pair[1].0 == (pair[0].0 + 1) & 0x7FFF && pair[1].1 == next_tl0
    })
}

struct Viewer {
    peer: usize,
    consumer: ConsumerId,
    ssrc: u32,
}

impl Viewer {
    fn inbox<'a>(&self, world: &'a World) -> &'a Inbox {
        &world.peers[self.peer].inboxes[&self.ssrc]
    }

    fn prefer(&self, world: &mut World, spatial: u8, temporal: u8) {
        world.core.set_consumer_preferred_layers(world.now, self.consumer, spatial, Some(temporal)).unwrap();
    }

    fn told(&self, world: &World) -> Option<Option<Layers>> {
        world.events.iter().rev().find_map(|event| match event {
            Event::ConsumerLayersChanged { consumer, layers } if *consumer == self.consumer => Some(*layers),
            _ => None,
        })
    }
}

/// A publisher of three streams and viewers of it.
fn stage(seed: u64, viewers: usize) -> (World, [LayeredCamera; 3], Vec<Viewer>) {
    let mut world = World::new(seed);
    let (publisher, sending) = world.join();
    let producer = world.produce(sending, &SSRCS);
    let viewers = (0..viewers).map(|_| {
        let (peer, viewing) = world.join();
        let (consumer, ssrc) = world.consume(peer, viewing, &producer);
        world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
        Viewer { peer, consumer: consumer.id, ssrc }
    });
    let viewers = viewers.collect();
    (world, [0, 1, 2].map(|stream| LayeredCamera::new(publisher, stream)), viewers)
}

fn layers(spatial: u8, temporal: u8) -> Layers {
    Layers { spatial, temporal }
}

#[test]
fn each_viewer_gets_its_own_layers() {
    let (mut world, mut cameras, viewers) = stage(30, 4);
    film(&mut world, &mut cameras, 10);
    viewers[0].prefer(&mut world, 0, 2);
    viewers[1].prefer(&mut world, 1, 1);
    viewers[2].prefer(&mut world, 2, 0);
    film(&mut world, &mut cameras, 90);
    let expected = [layers(0, 2), layers(1, 1), layers(2, 0), layers(2, 2)];
    for (viewer, expected) in viewers.iter().zip(expected) {
        assert_eq!(viewer.told(&world), Some(Some(expected)));
        let inbox = viewer.inbox(&world);
        let watched = watch(inbox);
        assert!(watched.broken.is_empty() && watched.torn == 0, "{watched:?}");
        assert!(!inbox.has_gaps() && counts_on(inbox), "what is left out leaves no gap");
        let frames = [88, 44, 22][usize::from(2 - expected.temporal)];
        let of_stream = watched.by_stream[&SSRCS[usize::from(expected.spatial)]];
        assert!(of_stream >= frames, "{of_stream} of {frames} frames");
    }
}

#[test]
fn switching_under_loss_never_shows_a_frame_without_its_references() {
    let (mut world, mut cameras, viewers) = stage(31, 3);
    film(&mut world, &mut cameras, 30);
    world.network.loss = 0.05;
    world.network.delay = Duration::from_millis(20);
    world.network.jitter = Duration::from_millis(10);
    let mut random = StdRng::seed_from_u64(32);
    for _ in 0..120 {
        for viewer in &viewers {
            let (spatial, temporal) = (random.random_range(0..3), random.random_range(0..3));
            viewer.prefer(&mut world, spatial, temporal);
        }
        let frames = random.random_range(1..30);
        film(&mut world, &mut cameras, frames);
    }
    world.network.loss = 0.0;
    film(&mut world, &mut cameras, 60);
    for viewer in &viewers {
        let watched = watch(viewer.inbox(&world));
        assert!(watched.shown > 800, "{watched:?}");
        assert!(watched.by_stream.len() == 3, "{watched:?}");
        // A frame is torn where a switch cuts off the old stream in the middle of it.
        assert!(watched.torn < 40, "{watched:?}");
        assert!(watched.broken.is_empty(), "{watched:?}");
    }
}

#[test]
fn an_allocation_limits_the_layers_and_nothing_stops_them() {
    let (mut world, mut cameras, viewers) = stage(33, 1);
    film(&mut world, &mut cameras, 60);
    let viewer = &viewers[0];
    let ladder = world.core.consumer_ladder(world.now, viewer.consumer).unwrap();
    let steps: Vec<Layers> = ladder.iter().map(|step| step.layers).collect();
    assert_eq!(steps.len(), 9);
    assert!(steps.is_sorted() && ladder[8].layers == layers(2, 2));
    // 30 frames of five packets of 1012 bytes a second, a quarter of them in the lowest temporal layer.
    let (full, quarter) = (ladder[8].bitrate, ladder[6].bitrate);
    assert!((1_150_000..1_280_000).contains(&full), "{full}");
    assert!((270_000..350_000).contains(&quarter), "{quarter}");
    let mut allocate = |world: &mut World, allocation, frames| {
        world.core.set_consumer_allocation(world.now, viewer.consumer, allocation).unwrap();
        film(world, &mut cameras, frames);
        viewer.told(world).unwrap()
    };
    assert_eq!(allocate(&mut world, Allocation::UpTo(layers(1, 1)), 15), Some(layers(1, 1)));
    assert_eq!(allocate(&mut world, Allocation::Nothing, 15), None);
    let before = viewer.inbox(&world).packets.len();
    assert_eq!(allocate(&mut world, Allocation::Nothing, 30), None);
    assert_eq!(viewer.inbox(&world).packets.len(), before);
    assert_eq!(allocate(&mut world, Allocation::Unlimited, 30), Some(layers(2, 2)));
    let watched = watch(viewer.inbox(&world));
    assert!(watched.broken.is_empty() && watched.torn == 0, "{watched:?}");
}

#[test]
fn a_viewer_without_a_layer_is_told_so() {
    let (mut world, mut cameras, viewers) = stage(34, 1);
    film(&mut world, &mut cameras, 30);
    assert_eq!(viewers[0].told(&world), Some(Some(layers(2, 2))));
    world.run(Duration::from_secs(4));
    assert_eq!(viewers[0].told(&world), Some(None), "nothing arrives any more");
    film(&mut world, &mut cameras[..1], 30);
    assert_eq!(viewers[0].told(&world), Some(Some(layers(0, 2))));
    world.core.set_consumer_paused(world.now, viewers[0].consumer, true).unwrap();
    world.run(FRAME);
    assert_eq!(viewers[0].told(&world), Some(None));
}

#[test]
fn five_hundred_viewers_within_a_second_cost_two_key_frames_of_each_layer() {
    let mut world = World::new(35);
    let (publisher, sending) = world.join();
    let producer = world.produce(sending, &SSRCS);
    let mut cameras = [1, 1, 2].map(|_| Camera::new(publisher, 0, 1));
    for (camera, ssrc) in cameras.iter_mut().zip(SSRCS) {
        camera.ssrc = ssrc;
    }
    let mut shoot = |world: &mut World| {
        cameras.iter_mut().for_each(|camera| camera.shoot(world));
        world.run(FRAME);
    };
    let viewers: Vec<_> = (0..500).map(|_| world.join_as(DtlsRole::Client, &GCM_LAST)).collect();
    world.run_until(Duration::from_secs(60), |world| world.peers.iter().all(|peer| peer.is_connected()));
    (0..60).for_each(|_| shoot(&mut world));
    world.peers[publisher].asked.clear();
    for (index, (peer, transport)) in viewers.iter().enumerate() {
        let (consumer, _) = world.consume(*peer, *transport, &producer);
        let spatial = (index % 3) as u8;
        world.core.set_consumer_preferred_layers(world.now, consumer.id, spatial, None).unwrap();
        world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
        if index % 17 == 16 {
            shoot(&mut world);
        }
    }
    (0..30).for_each(|_| shoot(&mut world));
    let asked = &world.peers[publisher].asked;
    for ssrc in SSRCS {
        let times: Vec<_> = asked.iter().filter(|(of, _)| *of == ssrc).map(|(_, at)| *at).collect();
        assert!(!times.is_empty(), "viewers of {ssrc} need a key frame");
        for first in &times {
            let within =
                times.iter().filter(|at| (*first..*first + Duration::from_secs(1)).contains(*at)).count();
            assert!(within <= 2, "{within} requests in a second for {ssrc}");
        }
    }
    let watching = world.peers.iter().filter(|peer| !peer.inboxes.is_empty()).count();
    assert_eq!(watching, 500);
}

/// The scores that were told last, from the smallest stream to the largest.
fn producer_scores(world: &World) -> Vec<u8> {
    let told = world.events.iter().rev().find_map(|event| match event {
        Event::ProducerScore { scores, .. } => Some(scores.iter().map(|score| score.score).collect()),
        _ => None,
    });
    told.unwrap_or_default()
}

#[test]
fn scores_tell_how_streams_arrive_and_only_when_that_changes() {
    let (mut world, mut cameras, viewers) = stage(36, 1);
    let told = |world: &World| {
        world.events.iter().filter(|event| matches!(event, Event::ProducerScore { .. })).count()
    };
    film(&mut world, &mut cameras, 150);
    assert_eq!((producer_scores(&world), told(&world)), (vec![10, 10, 10], 1));
    world.network.loss = 0.2;
    film(&mut world, &mut cameras, 300);
    world.network.loss = 0.0;
    let lossy = producer_scores(&world);
    assert!(lossy.iter().all(|score| (3..=8).contains(score)), "{lossy:?}");
    let peer = &mut world.peers[viewers[0].peer];
    let block = ReportBlock {
        ssrc: viewers[0].ssrc,
        fraction_lost: 0,
        total_lost: 600,
        highest_sequence: 0,
        jitter: 0,
        last_sender_report: 0,
        delay_since_last: 0,
    };
    let mut report = Vec::new();
    rtcp::write_receiver_report(&mut report, 1, &[block]);
    peer.send_rtcp(report);
    film(&mut world, &mut cameras[..2], 90);
    assert_eq!(producer_scores(&world)[2], 0, "the largest stream stopped");
    let score = world.core.consumer_score(viewers[0].consumer).unwrap();
    assert!((1..=8).contains(&score.score), "{score:?}");
    assert_eq!(score.producer_scores, producer_scores(&world));
    assert_eq!(score.producer_score, score.producer_scores[1], "the middle stream is passed on");
    let last = world.events.iter().rev().find_map(|event| match event {
        Event::ConsumerScore { score, .. } => Some(score.clone()),
        _ => None,
    });
    assert_eq!(last, Some(score));
    assert!(told(&world) <= 18, "once a second at most");
}

#[test]
fn each_stream_has_a_tap_of_its_own_and_key_frames_are_asked_of_all_at_once() {
    let mut world = World::new(77);
    let (publisher, sending) = world.join();
    let producer = world.produce(sending, &SSRCS);
    let mut cameras = [0, 1, 2].map(|stream| LayeredCamera::new(publisher, stream));
    film(&mut world, &mut cameras, 3);
    let taps = world.core.tap(world.now, producer.id).unwrap();
    assert_eq!(taps.len(), 3);
    let asked = |world: &World| {
        SSRCS.map(|ssrc| world.peers[publisher].asked.iter().filter(|(to, _)| *to == ssrc).count())
    };
    film(&mut world, &mut cameras, 30);
    let at_first = asked(&world);
    assert!(at_first.iter().all(|count| *count > 0), "{at_first:?}");
    world.core.request_key_frame(world.now, producer.id).unwrap();
    film(&mut world, &mut cameras, 30);
    assert_eq!(asked(&world), at_first.map(|count| count + 1));

    let mut streams: BTreeMap<u32, Vec<(u32, bool)>> = BTreeMap::new();
    for output in &world.tapped {
        let TapOutput::Packet(packet) = output else { continue };
        let view = RtpView::parse(&packet.data).unwrap();
        let of_key_frame = view.payload()[HEADER - 1] == 0;
        streams.entry(view.ssrc()).or_default().push((number(view.payload(), 0), of_key_frame));
    }
    assert_eq!(streams.len(), 3, "one SSRC for each tap");
    let mut sources = HashSet::new();
    for packets in streams.values() {
        let (source, starts_with_key_frame) = packets[0];
        assert!(starts_with_key_frame && packets.iter().all(|(ssrc, _)| *ssrc == source));
        assert!(sources.insert(source));
    }

    // The publisher has no room for its largest stream any more.
    world.tapped.clear();
    film(&mut world, &mut cameras[..2], 90);
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    let last = world.tapped.iter().rev().filter_map(|output| match output {
        TapOutput::Packet(packet) => Some(packet),
        _ => None,
    });
    for packet in last.take(50) {
        let view = RtpView::parse(&packet.data).unwrap();
        *counts.entry(number(view.payload(), 0)).or_default() += 1;
        assert!(streams.contains_key(&view.ssrc()));
    }
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), SSRCS[..2]);
    assert!(counts[&SSRCS[1]] > 3 * counts[&SSRCS[0]], "two of the taps get it: {counts:?}");
    for tap in taps {
        world.core.close_tap(tap.id).unwrap();
    }
}
