//! Viewers that get different layers of one VP9 stream, and change them, under loss. The packets say which frames
//! they need, so that a viewer can tell whether a decoder could show what it got.

use std::collections::HashSet;
use std::time::Duration;

use mediasoup_types::rtp_parameters::MediaKind;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use weir::ids::ConsumerId;
use weir::media::ortc;

use crate::peer::{Inbox, RTX, VP8};
use crate::world::World;

const FRAME: Duration = Duration::from_micros(33_333);
const SSRC: u32 = 4000;
/// Packets of the frames of each spatial layer.
const PACKETS: [usize; 3] = [1, 2, 4];
/// Bits of the first byte of the payload descriptor (RFC 9628 section 4.2).
const INTER_PICTURE: u8 = 0x40;
const STARTS: u8 = 0x08;
const ENDS: u8 = 0x04;

/// Which frame: its picture, and its spatial layer.
type Name = (u32, u8);

/// A camera with three spatial and two temporal layers in flexible mode.
struct SvcCamera {
    peer: usize,
    is_k_svc: bool,
    sequence: u64,
    picture: u32,
    key: u32,
    answered: usize,
}

impl SvcCamera {
    fn shoot(&mut self, world: &mut World) {
        let peer = &mut world.peers[self.peer];
        let is_key = self.picture == 0 || peer.asked.len() > self.answered;
        self.answered = peer.asked.len();
        if is_key {
            self.key = self.picture;
        }
        let temporal = ((self.picture - self.key) % 2) as u8;
        for spatial in 0..3_u8 {
            let mut needs: Vec<Name> = Vec::new();
            if !is_key {
                needs.push((self.picture - if temporal == 1 { 1 } else { 2 }, spatial));
            }
            if spatial > 0 && (is_key || !self.is_k_svc) {
                needs.push((self.picture, spatial - 1));
            }
            let packets = PACKETS[usize::from(spatial)];
            for index in 0..packets {
                let payload =
                    self.payload(is_key, temporal, spatial, &needs, index == 0, index + 1 == packets);
                let marker = spatial == 2 && index + 1 == packets;
                peer.send_rtp(SSRC, VP8, self.sequence, self.picture * 3000, marker, &payload);
                self.sequence += 1;
            }
        }
        self.picture += 1;
    }

    fn payload(
        &self,
        is_key: bool,
        temporal: u8,
        spatial: u8,
        needs: &[Name],
        starts: bool,
        ends: bool,
    ) -> Vec<u8> {
        let bits = |set: bool, bits: u8| if set { bits } else { 0 };
        let flags = 0xb0 | bits(!is_key, INTER_PICTURE) | bits(starts, STARTS) | bits(ends, ENDS);
        let [high, low] = (self.picture as u16 & 0x7FFF).to_be_bytes();
        let inter_layer = u8::from(spatial > 0 && (is_key || !self.is_k_svc));
        let layer = temporal << 5 | bits(temporal == 1, 0x10) | spatial << 1 | inter_layer;
        let mut payload = vec![flags, 0x80 | high, low, layer];
        if !is_key {
            payload.push((if temporal == 1 { 1 } else { 2 }) << 1);
        }
        for (picture, spatial) in std::iter::once(&(self.picture, spatial)).chain(needs) {
            payload.extend(picture.to_be_bytes());
            payload.push(*spatial);
        }
        payload.push(0xFF);
        payload.resize(800, 0);
        payload
    }
}

/// The frames that a payload names: its own and those that it needs.
fn names(payload: &[u8]) -> Vec<Name> {
    let descriptor = if payload[0] & INTER_PICTURE != 0 { 5 } else { 4 };
    let count = payload[descriptor..].chunks(5).take_while(|name| name[4] < 3 && name[0] != 0xFF).count();
    let name = |bytes: &[u8]| (u32::from_be_bytes(bytes[..4].try_into().unwrap()), bytes[4]);
    payload[descriptor..].chunks(5).take(count.min(3)).map(name).collect()
}

#[derive(Debug, Default)]
struct Watched {
    pictures: usize,
    torn: usize,
    broken: Vec<Name>,
    /// Pictures by their highest spatial layer.
    by_layer: [usize; 3],
}

fn watch(inbox: &Inbox) -> Watched {
    let mut watched = Watched::default();
    let mut decoded = HashSet::new();
    let packets: Vec<_> = inbox.packets.iter().filter(|(_, packet)| !packet.payload.is_empty()).collect();
    for picture in packets.chunk_by(|a, b| a.1.timestamp == b.1.timestamp) {
        let ((first, start), (last, end)) = (picture[0], picture[picture.len() - 1]);
        let marked = picture.iter().filter(|(_, packet)| packet.marker).count();
        let whole = (last - first + 1) as usize == picture.len() && start.payload[0] & STARTS != 0;
        if !whole || !end.marker || marked != 1 {
            watched.torn += 1;
            continue;
        }
        watched.pictures += 1;
        for packet in picture.iter().filter(|(_, packet)| packet.payload[0] & ENDS != 0) {
            let names = names(&packet.1.payload);
            let (own, needs) = names.split_first().unwrap();
            if needs.iter().all(|need| decoded.contains(need)) {
                decoded.insert(*own);
            } else {
                watched.broken.push(*own);
            }
        }
        watched.by_layer[usize::from(names(&end.payload)[0].1)] += 1;
    }
    watched
}

fn switch_under_loss(seed: u64, mode: &str) {
    let mut world = World::new(seed);
    let (publisher, sending) = world.join();
    let parameters = ortc::parse_rtp_parameters(&json!({
        "codecs": [
            {
                "mimeType": "video/VP9", "payloadType": VP8, "clockRate": 90000,
                "rtcpFeedback": [{"type": "nack"}, {"type": "nack", "parameter": "pli"}],
            },
            {"mimeType": "video/rtx", "payloadType": RTX, "clockRate": 90000, "parameters": {"apt": VP8}},
        ],
        "encodings": [{"ssrc": SSRC, "rtx": {"ssrc": SSRC + 1}, "scalabilityMode": mode}],
    }));
    let produced = world.core.produce(world.now, sending, MediaKind::Video, &parameters.unwrap(), false);
    let producer = produced.unwrap();
    let viewers: Vec<(usize, ConsumerId, u32)> = (0..2)
        .map(|_| {
            let (viewer, viewing) = world.join();
            let (consumer, ssrc) = world.consume(viewer, viewing, &producer);
            world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
            (viewer, consumer.id, ssrc)
        })
        .collect();
    let is_k_svc = mode.ends_with("_KEY");
    let mut camera =
        SvcCamera { peer: publisher, is_k_svc, sequence: 65_000, picture: 0, key: 0, answered: 0 };
    let mut film = |world: &mut World, pictures: u32| {
        for _ in 0..pictures {
            camera.shoot(world);
            world.run(FRAME);
        }
    };
    film(&mut world, 30);
    world.network.loss = 0.05;
    world.network.delay = Duration::from_millis(20);
    world.network.jitter = Duration::from_millis(10);
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..100 {
        for (_, consumer, _) in &viewers {
            let (spatial, temporal) = (random.random_range(0..3), random.random_range(0..2));
            world.core.set_consumer_preferred_layers(world.now, *consumer, spatial, Some(temporal)).unwrap();
        }
        let pictures = random.random_range(1..30);
        film(&mut world, pictures);
    }
    world.network.loss = 0.0;
    film(&mut world, 60);
    for (viewer, _, ssrc) in viewers {
        let watched = watch(&world.peers[viewer].inboxes[&ssrc]);
        assert!(watched.pictures > 700 && watched.by_layer.iter().all(|count| *count > 10), "{watched:?}");
        assert!(watched.broken.is_empty() && watched.torn == 0, "{watched:?}");
    }
}

#[test]
fn layers_that_build_on_each_other_are_switched_under_loss() {
    switch_under_loss(50, "L3T2");
}

#[test]
fn layers_that_stand_alone_are_switched_under_loss() {
    switch_under_loss(81, "L3T2_KEY");
}
