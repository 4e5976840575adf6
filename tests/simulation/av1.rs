//! Viewers that get different layers of one AV1 stream, and change them, under loss. A model of a decoder follows what
//! the dependency descriptors say, and nothing else: never may a frame come whose references did not.

use std::collections::HashSet;
use std::time::Duration;

use mediasoup_types::rtp_parameters::{MediaKind, RtpHeaderExtensionUri};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use weir::ids::ConsumerId;
use weir::media::ortc;
use weir::media::rtp::is_newer;
use weir::sfu::pipe_transport::PipeTransportOptions;

use crate::peer::{DEPENDENCY, Inbox, RTX, ReceivedPacket, VP8};
use crate::pipe::Pipe;
use crate::world::World;

const FRAME: Duration = Duration::from_micros(33_333);
const SSRC: u32 = 4000;
/// Packets of the frames of each spatial layer.
const PACKETS: [usize; 3] = [1, 2, 4];
/// Templates of one spatial layer: a key frame's, and those of four pictures in their order of temporal layers.
const TEMPORAL: [u8; 5] = [0, 0, 1, 2, 2];
/// The template of each picture of a cycle; which one is the key frame's is another matter.
const CYCLE: [u8; 4] = [1, 3, 2, 4];
/// How many pictures before each template's the one is that it is predicted from.
const BEFORE: [u16; 5] = [0, 4, 2, 1, 1];
const TEMPLATES: u8 = 15;
const TARGETS: u32 = 9;

/// Bits, the highest of a byte first.
#[derive(Default)]
struct Bits(Vec<bool>);

impl Bits {
    fn put(&mut self, value: u32, count: u32) -> &mut Self {
        self.0.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| {
            bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | u8::from(*bit) << (7 - at))
        };
        self.0.chunks(8).map(byte).collect()
    }

    fn read(bytes: &[u8]) -> Self {
        let mut bits = Self::default();
        bytes.iter().for_each(|byte| _ = bits.put(u32::from(*byte), 8));
        bits
    }

    fn take(&mut self, count: usize) -> u32 {
        self.0.drain(..count).fold(0, |value, bit| value << 1 | u32::from(bit))
    }
}

/// How spatial layers depend on each other.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// At every picture: L3T3.
    Svc,
    /// At key frames only: L3T3_KEY.
    KSvc,
    /// Never: S3T3.
    Simulcast,
}

impl Mode {
    /// Distances to the frames that a template's are predicted from.
    fn distances(self, template: u8) -> Vec<u16> {
        let (spatial, kind) = (template / 5, template % 5);
        let before = BEFORE[usize::from(kind)] * 3;
        let on_lower = spatial > 0 && (self == Self::Svc || self == Self::KSvc && kind == 0);
        [(before > 0).then_some(before), on_lower.then_some(1)].into_iter().flatten().collect()
    }

    /// What a template's frames are to a decode target: 0 nothing, 1 discardable, 2 switch, 3 required.
    fn indication(self, template: u8, target: u32) -> u32 {
        let (spatial, kind) = (template / 5, template % 5);
        let temporal = TEMPORAL[usize::from(kind)];
        let (of_spatial, of_temporal) = ((target / 3) as u8, (target % 3) as u8);
        let alone = self == Self::Simulcast || self == Self::KSvc && kind > 0;
        if spatial > of_spatial || temporal > of_temporal || alone && spatial != of_spatial {
            return 0;
        }
        match (spatial == of_spatial, kind) {
            (_, 0) | (true, 1) => 2,
            (true, _) if of_temporal == temporal => 1,
            (true, _) => 2,
            (false, _) => 3,
        }
    }

    /// The template structure without the offset of its ids.
    fn structure(self) -> Bits {
        let mut bits = Bits::default();
        bits.put(TARGETS - 1, 5);
        for template in 0..TEMPLATES {
            let next = match (template, TEMPORAL.get(usize::from(template % 5) + 1)) {
                (14, _) => 3,
                (_, None) => 2,
                (_, Some(next)) => u32::from(*next - TEMPORAL[usize::from(template % 5)]),
            };
            bits.put(next, 2);
        }
        for template in 0..TEMPLATES {
            (0..TARGETS).for_each(|target| _ = bits.put(self.indication(template, target), 2));
        }
        for template in 0..TEMPLATES {
            for distance in self.distances(template) {
                bits.put(1, 1).put(u32::from(distance - 1), 4);
            }
            bits.put(0, 1);
        }
        // No chains (of up to nine: three bits) and no resolutions.
        bits.put(0, 3).put(0, 1);
        bits
    }
}

struct Camera {
    peer: usize,
    mode: Mode,
    sequence: u64,
    number: u16,
    picture: u32,
    key: u32,
    id_offset: u8,
    answered: usize,
}

impl Camera {
    fn new(peer: usize, mode: Mode) -> Self {
        Self { peer, mode, sequence: 65_000, number: 65_400, picture: 0, key: 0, id_offset: 40, answered: 0 }
    }

    fn shoot(&mut self, world: &mut World) {
        let peer = &mut world.peers[self.peer];
        let is_key = self.picture == 0 || peer.asked.len() > self.answered;
        self.answered = peer.asked.len();
        if is_key {
            self.key = self.picture;
            self.id_offset = (self.id_offset + TEMPLATES) % 64;
        }
        let kind = if is_key { 0 } else { CYCLE[((self.picture - self.key) % 4) as usize] };
        for spatial in 0..3_u8 {
            let template = spatial * 5 + kind;
            let packets = PACKETS[usize::from(spatial)];
            for index in 0..packets {
                let (starts, ends) = (index == 0, index + 1 == packets);
                let mut bits = Bits::default();
                bits.put(u32::from(starts), 1).put(u32::from(ends), 1);
                bits.put(u32::from((self.id_offset + template) % 64), 6).put(u32::from(self.number), 16);
                if is_key && spatial == 0 && starts {
                    bits.put(0b10000, 5).put(u32::from(self.id_offset), 6);
                    bits.0.extend(self.mode.structure().0);
                }
                let mut payload = vec![0x10, spatial, u8::from(starts), u8::from(ends)];
                payload.resize(800, 0);
                let marker = spatial == 2 && ends;
                let (sequence, timestamp) = (self.sequence, self.picture * 3000);
                peer.send_described(SSRC, VP8, sequence, timestamp, marker, &bits.bytes(), &payload);
                self.sequence += 1;
            }
            self.number = self.number.wrapping_add(1);
        }
        self.picture += 1;
    }
}

/// A decoder that knows what it was told.
struct Decoder {
    mode: Mode,
    id_offset: Option<u8>,
    active: u32,
    newest: Option<u16>,
    decoded: HashSet<u16>,
}

/// What one packet's descriptor says.
struct Told {
    starts: bool,
    ends: bool,
    template: u8,
    number: u16,
}

impl Decoder {
    fn read(&mut self, value: &[u8]) -> Told {
        let mut bits = Bits::read(value);
        let (starts, ends) = (bits.take(1) == 1, bits.take(1) == 1);
        let (id, number) = (bits.take(6) as u8, bits.take(16) as u16);
        let flags = if value.len() > 3 { bits.take(5) } else { 0 };
        assert_eq!(flags & 0b00111, 0, "nothing custom was sent");
        if flags & 0b10000 != 0 {
            assert!(starts);
            self.id_offset = Some(bits.take(6) as u8);
            let known = self.mode.structure().0;
            assert!(bits.0.drain(..known.len()).eq(known));
            self.active = (1 << TARGETS) - 1;
            self.decoded.clear();
        }
        if flags & 0b01000 != 0 {
            self.active = bits.take(TARGETS as usize);
        }
        let template = (id + 64 - self.id_offset.expect("templates came first")) % 64;
        assert!(template < TEMPLATES);
        Told { starts, ends, template, number }
    }

    /// Decodes a frame. False if something that it needs did not come.
    fn decode(&mut self, told: &Told) -> bool {
        assert!(self.newest.is_none_or(|newest| is_newer(told.number, newest)), "frame numbers grow");
        self.newest = Some(told.number);
        let indication = |target: u32| self.mode.indication(told.template, target);
        let is_key = self.mode.distances(told.template).is_empty();
        let is_wanted =
            is_key || (0..TARGETS).any(|target| self.active >> target & 1 == 1 && indication(target) > 0);
        assert!(is_wanted, "{} is of no decode target that is left", told.template);
        let needs = self.mode.distances(told.template);
        let can = needs.iter().all(|distance| self.decoded.contains(&told.number.wrapping_sub(*distance)));
        if can {
            self.decoded.insert(told.number);
        }
        can
    }
}

#[derive(Debug, Default)]
struct Watched {
    pictures: usize,
    torn: usize,
    broken: usize,
    /// Pictures by their highest spatial layer, and by their temporal layer.
    by_spatial: [usize; 3],
    by_temporal: [usize; 3],
}

fn pictures(inbox: &Inbox) -> Vec<Vec<(u64, &ReceivedPacket)>> {
    let packets = inbox.packets.iter().filter(|(_, packet)| !packet.payload.is_empty());
    let packets: Vec<_> = packets.map(|(sequence, packet)| (*sequence, packet)).collect();
    packets.chunk_by(|a, b| a.1.timestamp == b.1.timestamp).map(<[_]>::to_vec).collect()
}

fn is_whole(picture: &[(u64, &ReceivedPacket)]) -> bool {
    let ((first, start), (last, end)) = (picture[0], picture[picture.len() - 1]);
    let marked = picture.iter().filter(|(_, packet)| packet.marker).count();
    (last - first + 1) as usize == picture.len() && start.payload[2] == 1 && end.marker && marked == 1
}

fn watch(inbox: &Inbox, mode: Mode) -> Watched {
    let mut watched = Watched::default();
    let mut decoder = Decoder { mode, id_offset: None, active: 0, newest: None, decoded: HashSet::default() };
    for picture in pictures(inbox) {
        if !is_whole(&picture) {
            watched.torn += 1;
            continue;
        }
        watched.pictures += 1;
        let mut last = 0;
        for (_, packet) in &picture {
            let told = decoder.read(&packet.dependency);
            assert_eq!((told.starts, told.ends), (packet.payload[2] == 1, packet.payload[3] == 1));
            if told.ends {
                watched.broken += usize::from(!decoder.decode(&told));
                last = told.template;
            }
        }
        let highest = (0..TARGETS).rev().find(|target| decoder.active >> target & 1 == 1).unwrap();
        assert_eq!(u32::from(last / 5), highest / 3, "the picture ends with the highest layer that is left");
        watched.by_spatial[usize::from(last / 5)] += 1;
        watched.by_temporal[usize::from(TEMPORAL[usize::from(last % 5)])] += 1;
    }
    watched
}

fn publish(seed: u64, mode: Mode) -> (World, Camera, weir::sfu::api::ProducerInfo) {
    let mut world = World::new(seed);
    let (publisher, sending) = world.join();
    let parameters = ortc::parse_rtp_parameters(&json!({
        "codecs": [
            {
                "mimeType": "video/AV1", "payloadType": VP8, "clockRate": 90000,
                "rtcpFeedback": [{"type": "nack"}, {"type": "nack", "parameter": "pli"}],
            },
            {"mimeType": "video/rtx", "payloadType": RTX, "clockRate": 90000, "parameters": {"apt": VP8}},
        ],
        "headerExtensions": [{
            "uri": "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
            "id": DEPENDENCY,
        }],
        "encodings": [{
            "ssrc": SSRC, "rtx": {"ssrc": SSRC + 1},
            "scalabilityMode": match mode {
                Mode::Svc => "L3T3",
                Mode::KSvc => "L3T3_KEY",
                Mode::Simulcast => "S3T3",
            },
        }],
    }));
    let produced = world.core.produce(world.now, sending, MediaKind::Video, &parameters.unwrap(), false);
    (world, Camera::new(publisher, mode), produced.unwrap())
}

fn switch_under_loss(seed: u64, mode: Mode) {
    let (mut world, mut camera, producer) = publish(seed, mode);
    let watching = |world: &mut World| -> (usize, ConsumerId, u32) {
        let (viewer, viewing) = world.join();
        let (consumer, ssrc) = world.consume(viewer, viewing, &producer);
        world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
        (viewer, consumer.id, ssrc)
    };
    let mut viewers: Vec<_> = (0..2).map(|_| watching(&mut world)).collect();
    let extensions = &mut world.capabilities.header_extensions;
    extensions.retain(|known| known.uri != RtpHeaderExtensionUri::DependencyDescriptor);
    let (blind, _, blind_ssrc) = watching(&mut world);
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
            let (spatial, temporal) = (random.random_range(0..3), random.random_range(0..3));
            world.core.set_consumer_preferred_layers(world.now, *consumer, spatial, Some(temporal)).unwrap();
        }
        film(&mut world, random.random_range(1..30));
    }
    world.network.loss = 0.0;
    film(&mut world, 60);
    for (viewer, _, ssrc) in viewers.drain(..) {
        let watched = watch(&world.peers[viewer].inboxes[&ssrc], mode);
        assert!(watched.pictures > 700, "{watched:?}");
        assert!(
            watched.by_spatial.iter().chain(&watched.by_temporal).all(|count| *count > 50),
            "{watched:?}"
        );
        assert!(watched.broken == 0 && watched.torn == 0, "{watched:?}");
    }
    let seen = pictures(&world.peers[blind].inboxes[&blind_ssrc]);
    assert!(seen.len() > 1000 && seen.iter().all(|picture| is_whole(picture)));
    assert!(seen.iter().flatten().all(|(_, packet)| packet.payload[1] == 0 && packet.dependency.is_empty()));
}

#[test]
fn layers_that_build_on_each_other_are_switched_under_loss() {
    switch_under_loss(51, Mode::Svc);
}

#[test]
fn layers_that_stand_alone_are_switched_under_loss() {
    switch_under_loss(82, Mode::KSvc);
}

#[test]
fn layers_that_have_nothing_in_common_are_switched_under_loss() {
    switch_under_loss(83, Mode::Simulcast);
}

#[test]
fn temporal_layers_come_back_without_a_key_frame() {
    let (mut world, mut camera, producer) = publish(7, Mode::Svc);
    let (viewer, viewing) = world.join();
    let (consumer, ssrc) = world.consume(viewer, viewing, &producer);
    world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
    let mut rates = Vec::new();
    for temporal in [2, 0, 2, 1] {
        world.core.set_consumer_preferred_layers(world.now, consumer.id, 1, Some(temporal)).unwrap();
        let before = world.peers[viewer].inboxes.get(&ssrc).map_or(0, |inbox| pictures(inbox).len());
        for _ in 0..40 {
            camera.shoot(&mut world);
            world.run(FRAME);
        }
        rates.push(pictures(&world.peers[viewer].inboxes[&ssrc]).len() - before);
    }
    assert!(rates[0] > 35 && rates[1] < 14 && rates[2] > 35 && (19..=23).contains(&rates[3]), "{rates:?}");
    let watched = watch(&world.peers[viewer].inboxes[&ssrc], camera.mode);
    assert!(watched.broken == 0 && watched.torn == 0 && watched.by_spatial[0] == 0, "{watched:?}");
    assert!(world.peers[camera.peer].asked.len() <= 2, "spatial layers needed them, temporal ones did not");
}

#[test]
fn a_pause_takes_no_frame_number_back() {
    let (mut world, mut camera, producer) = publish(8, Mode::Svc);
    let (viewer, viewing) = world.join();
    let (consumer, ssrc) = world.consume(viewer, viewing, &producer);
    for _ in 0..3 {
        world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
        for _ in 0..20 {
            camera.shoot(&mut world);
            world.run(FRAME);
        }
        world.core.set_consumer_paused(world.now, consumer.id, true).unwrap();
        // The publisher goes on for more frames than numbers can tell apart.
        camera.number = camera.number.wrapping_add(40_000);
    }
    let watched = watch(&world.peers[viewer].inboxes[&ssrc], camera.mode);
    assert!(watched.pictures > 50 && watched.broken == 0 && watched.torn == 0, "{watched:?}");
}

#[test]
fn layers_that_stand_alone_pass_a_pipe() {
    pass_a_pipe(9, Mode::KSvc);
    pass_a_pipe(10, Mode::Simulcast);
}

fn pass_a_pipe(seed: u64, mode: Mode) {
    let (mut world, mut camera, producer) = publish(seed, mode);
    let pipe = Pipe::new(&mut world, &PipeTransportOptions::default());
    let (_, piped) = pipe.carry(&mut world, &producer);
    world.router = pipe.far;
    let (viewer, viewing) = world.join();
    let (consumer, ssrc) = world.consume(viewer, viewing, &piped);
    world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
    for spatial in [2, 0, 1] {
        world.core.set_consumer_preferred_layers(world.now, consumer.id, spatial, None).unwrap();
        for _ in 0..60 {
            camera.shoot(&mut world);
            world.run(FRAME);
        }
    }
    let watched = watch(&world.peers[viewer].inboxes[&ssrc], camera.mode);
    assert!(watched.broken == 0 && watched.torn == 0, "{watched:?}");
    assert!(watched.by_spatial.iter().all(|count| *count > 25), "{watched:?}");
}
