//! The decoder never meets an undecodable frame: real simulcast streams go through the media core in simulated time,
//! over a network that loses datagrams, to a viewer that changes its mind a thousand times. Every frame that reaches
//! it whole has to decode into exactly the picture that a decoder of the whole original stream shows.
//!
//! SVC is not here because no encoder of GStreamer makes spatial layers; `tests/simulation` has its stories.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop where it stands")]
#![allow(dead_code, reason = "the simulation tests use more of what they share")]

mod codec;
#[path = "../simulation/network.rs"]
mod network;
#[path = "../simulation/peer.rs"]
mod peer;
#[path = "../simulation/sctp_peer.rs"]
mod sctp_peer;
#[path = "../simulation/world.rs"]
mod world;

use std::collections::HashMap;
use std::time::Duration;

use codec::{Codec, Decoder, Encoder, fingerprint};
use peer::{Inbox, VP8};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use weir::sfu::api::Event;
use world::World;

const FRAME: Duration = Duration::from_micros(33_333);
const SSRCS: [u32; 3] = [1000, 2000, 3000];
const SIZES: [(usize, usize); 3] = [(48, 32), (80, 64), (160, 96)];
/// The least share of the frames of the stream that the viewer has to see: all but what temporal layers and the ends
/// of streams take.
const MIN_SHOWN: f64 = 0.3;

/// One stream of the publisher, and the pictures that its frames decode into.
struct Stream {
    ssrc: u32,
    encoder: Encoder,
    reference: Decoder,
    sequence: u64,
    answered: usize,
}

/// Films three sizes at once until the viewer has changed its mind so often, and judges what it got.
fn hammer(codec: Codec, changes: u32, seed: u64) {
    let mut world = World::new(seed);
    let (publisher, sending) = world.join();
    let producer = world.produce_codec(sending, &SSRCS, codec.mime_type());
    let (viewer, viewing) = world.join();
    let (consumer, ssrc) = world.consume(viewer, viewing, &producer);
    world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
    let mut streams: Vec<Stream> = SSRCS
        .iter()
        .zip(SIZES)
        .map(|(ssrc, size)| Stream {
            ssrc: *ssrc,
            encoder: Encoder::new(codec, size),
            reference: Decoder::new(codec),
            sequence: 65_000,
            answered: 0,
        })
        .collect();
    let mut random = StdRng::seed_from_u64(seed);
    let mut pictures = HashMap::new();
    let mut frame = 0;
    world.network.delay = Duration::from_millis(10);
    world.network.jitter = Duration::from_millis(5);
    for change in 0..=changes {
        world.network.loss = if change < changes { 0.03 } else { 0.0 };
        let (spatial, temporal) = (random.random_range(0..3), random.random_range(0..3));
        world.core.set_consumer_preferred_layers(world.now, consumer.id, spatial, Some(temporal)).unwrap();
        let frames = if change < changes { random.random_range(1..=5) } else { 60 };
        for _ in 0..frames {
            streams
                .iter_mut()
                .for_each(|stream| shoot(&mut world, publisher, codec, stream, frame, &mut pictures));
            world.run(FRAME);
            frame += 1;
        }
    }
    let switches = world.events.iter().filter(|event| matches!(event, Event::ConsumerLayersChanged { .. }));
    assert!(switches.count() > changes as usize / 10, "the viewer gets what it asks for");
    judge(codec, &world.peers[viewer].inboxes[&ssrc], &pictures, frame);
}

/// Sends one picture of a stream, a key frame if one was asked for.
fn shoot(
    world: &mut World,
    publisher: usize,
    codec: Codec,
    stream: &mut Stream,
    frame: u32,
    pictures: &mut HashMap<u64, u64>,
) {
    let peer = &mut world.peers[publisher];
    let asked = peer.asked.iter().filter(|(ssrc, _)| *ssrc == stream.ssrc).count();
    let payloads = stream.encoder.encode(frame, asked > stream.answered);
    stream.answered = asked;
    for (index, payload) in payloads.iter().enumerate() {
        let marker = index + 1 == payloads.len();
        // Each stream has a clock of its own.
        let timestamp = (stream.ssrc * 1_000_000).wrapping_add(frame * 3000);
        peer.send_rtp(stream.ssrc, VP8, stream.sequence, timestamp, marker, payload);
        stream.sequence += 1;
    }
    let encoded = codec.assemble(payloads.iter().map(Vec::as_slice));
    let name = fingerprint(&encoded);
    let (picture, _) = stream.reference.decode(encoded, u64::from(frame) * 33_333_333).unwrap();
    pictures.insert(name, picture);
}

fn judge(codec: Codec, inbox: &Inbox, pictures: &HashMap<u64, u64>, filmed: u32) {
    let decoder = Decoder::new(codec);
    let packets: Vec<_> = inbox.packets.iter().filter(|(_, packet)| !packet.payload.is_empty()).collect();
    let (mut shown, mut torn) = (0_u32, 0_u32);
    let mut time = None;
    for frame in packets.chunk_by(|a, b| a.1.timestamp == b.1.timestamp) {
        let ((first, start), (last, end)) = (frame[0], frame[frame.len() - 1]);
        let now: u64 = match time {
            None => u64::from(start.timestamp),
            Some(last) => {
                let step = start.timestamp.wrapping_sub(last as u32).cast_signed();
                assert!(step > 0, "timestamps grow");
                last + step as u64
            }
        };
        time = Some(now);
        let whole = (last - first + 1) as usize == frame.len() && end.marker;
        if !whole || !codec.starts_frame(&start.payload) {
            torn += 1;
            continue;
        }
        let encoded = codec.assemble(frame.iter().map(|(_, packet)| packet.payload.as_slice()));
        let expected = pictures.get(&fingerprint(&encoded)).expect("a frame that the publisher sent");
        let nanoseconds = now * 100_000 / 9;
        let (picture, shown_at) = decoder.decode(encoded, nanoseconds).unwrap();
        assert_eq!(picture, *expected, "frame {shown} at {first} is another picture than it was");
        assert_eq!(shown_at, nanoseconds);
        shown += 1;
    }
    println!("{codec:?}: {shown} of {filmed} frames shown, {torn} torn at switches");
    assert!(f64::from(shown) > MIN_SHOWN * f64::from(filmed), "{shown} of {filmed} shown, {torn} torn");
    assert!(torn < shown / 10, "{torn} torn");
}

#[test]
fn vp8_simulcast_with_temporal_layers() {
    hammer(Codec::Vp8, 1000, 1);
}

#[test]
fn h264_simulcast() {
    hammer(Codec::H264, 1000, 2);
}

#[test]
fn vp9_simulcast() {
    hammer(Codec::Vp9, 200, 3);
}
