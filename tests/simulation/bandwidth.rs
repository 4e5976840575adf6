//! How publishers and viewers find out what their paths take.

use std::collections::BTreeMap;
use std::time::Duration;

use weir::ids::{Bitrate, ConsumerId, TransportId};
use weir::sfu::api::{Event, WebRtcTransportOptions};

use crate::network::Link;
use crate::peer::OPUS;
use crate::plot::{self, Sample};
use crate::world::{Camera, TRANSPORT, World, film};

const SECOND: Duration = Duration::from_secs(1);
/// The streams of the publisher and their bitrates in kbit/s.
const LAYERS: [(u32, usize); 3] = [(1000, 150), (2000, 600), (3000, 2200)];
const AUDIO: u32 = 5000;

/// A publisher of three layers and audio, and its viewers behind links of their own.
struct Show {
    world: World,
    cameras: Vec<Camera>,
    publisher: usize,
    viewers: Vec<Viewer>,
    audio_packets: u64,
    frames: u64,
    /// What the first viewer's link did, twice a second.
    samples: Vec<Sample>,
}

struct Viewer {
    peer: usize,
    transport: TransportId,
    video: ConsumerId,
    video_ssrc: u32,
    audio_ssrc: u32,
}

impl Show {
    /// One viewer for each capacity in kbit/s.
    fn new(seed: u64, capacities: &[u32]) -> Self {
        let mut world = World::new(seed);
        world.viewers_report = true;
        let (publisher, sending) = world.join();
        let video = world.produce(sending, &LAYERS.map(|(ssrc, _)| ssrc));
        let audio = world.produce_audio(sending, AUDIO);
        let cameras = LAYERS.map(|(ssrc, kbps)| Camera::with_bitrate(publisher, ssrc, kbps)).into();
        world.network.delay = Duration::from_millis(25);
        world.network.jitter = Duration::from_millis(2);
        let mut viewers = Vec::new();
        for capacity in capacities {
            let (peer, transport) = world.join();
            let link = Link::new(world.now, *capacity, Duration::from_millis(300));
            world.network.links.insert(world.peers[peer].address, link);
            let (video, video_ssrc) = world.consume(peer, transport, &video);
            let (audio, audio_ssrc) = world.consume(peer, transport, &audio);
            world.core.set_consumer_paused(world.now, video.id, false).unwrap();
            world.core.set_consumer_paused(world.now, audio.id, false).unwrap();
            viewers.push(Viewer { peer, transport, video: video.id, video_ssrc, audio_ssrc });
        }
        Self { world, cameras, publisher, viewers, audio_packets: 0, frames: 0, samples: Vec::new() }
    }

    /// One frame of each layer, and the audio of its time.
    fn frame(&mut self) {
        self.cameras.iter_mut().for_each(|camera| camera.shoot(&mut self.world));
        self.frames += 1;
        let end = self.world.now + Duration::from_micros(33_333);
        while self.audio_packets * 20_000 < self.frames * 33_333 {
            let peer = &mut self.world.peers[self.publisher];
            peer.now = self.world.now;
            let timestamp = self.audio_packets as u32 * 960;
            peer.send_rtp(AUDIO, OPUS, 65_000 + self.audio_packets, timestamp, false, &[1; 80]);
            self.audio_packets += 1;
        }
        self.world.run_to(end);
        if self.frames.is_multiple_of(15) {
            let estimate = self.available(0).0 as f64 / 1000.0;
            let at = Duration::from_micros(self.frames * 33_333);
            let link = self.link(0);
            let passed = std::mem::take(&mut link.bytes) as f64 * 8.0 / 500.0;
            let capacity = link.kbps();
            self.samples.push(Sample { at, capacity, estimate, passed });
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.world.now + time;
        while self.world.now < end {
            self.frame();
        }
    }

    /// Runs until a viewer gets a layer; how long that took.
    fn time_until(&mut self, viewer: usize, layer: Option<u8>) -> Duration {
        let start = self.world.now;
        while self.layer(viewer) != layer {
            let passed = self.world.now - start;
            assert!(passed < 60 * SECOND, "still {:?}, {:?}", self.layer(viewer), self.available(viewer));
            self.frame();
        }
        self.world.now - start
    }

    /// The layer that a viewer gets, as it was told.
    fn layer(&self, viewer: usize) -> Option<u8> {
        self.changes(viewer).last().copied().flatten()
    }

    fn changes(&self, viewer: usize) -> Vec<Option<u8>> {
        let id = self.viewers[viewer].video;
        let told = self.world.events.iter().filter_map(|event| match event {
            Event::ConsumerLayersChanged { consumer, layers } if *consumer == id => Some(*layers),
            _ => None,
        });
        told.map(|layers| layers.map(|layers| layers.spatial)).collect()
    }

    fn link(&mut self, viewer: usize) -> &mut Link {
        let address = self.world.peers[self.viewers[viewer].peer].address;
        self.world.network.links.get_mut(&address).unwrap()
    }

    fn available(&self, viewer: usize) -> Bitrate {
        self.world.core.available_outgoing_bitrate(self.viewers[viewer].transport).unwrap().unwrap()
    }

    /// Video packets that a viewer got a second time, because it had lost them.
    fn repaired(&self, viewer: usize) -> usize {
        let Viewer { peer, video_ssrc, .. } = &self.viewers[viewer];
        self.world.peers[*peer].inboxes[video_ssrc].retransmitted
    }

    /// Audio packets that a viewer got.
    fn heard(&self, viewer: usize) -> usize {
        let Viewer { peer, audio_ssrc, .. } = &self.viewers[viewer];
        self.world.peers[*peer].inboxes.get(audio_ssrc).map_or(0, |inbox| inbox.packets.len())
    }
}

#[test]
fn what_was_not_measured_yet_is_not_taken_for_cheap() {
    let mut show = Show::new(29, &[800]);
    let video = show.viewers[0].video;
    show.world.core.set_consumer_paused(show.world.now, video, true).unwrap();
    show.run(Duration::from_millis(70));
    show.world.core.set_consumer_paused(show.world.now, video, false).unwrap();
    show.run(3 * SECOND);
    let told = show.changes(0);
    assert_eq!(told.first(), Some(&Some(0)));
    assert!(!told.contains(&Some(2)), "2200 kbit/s do not fit: {told:?}");
}

#[test]
fn layers_follow_a_link_down_and_up() {
    let mut show = Show::new(30, &[3000]);
    assert!(show.time_until(0, Some(2)) < 15 * SECOND);
    show.run(30 * SECOND);
    assert_eq!(show.layer(0), Some(2));
    let heard = show.heard(0);
    let now = show.world.now;
    show.link(0).set_capacity(now, 300);
    let down = show.time_until(0, Some(0));
    assert!(down < 3 * SECOND, "down after {down:?}");
    show.run(3 * SECOND - down);
    show.link(0).longest = Duration::ZERO;
    show.run(30 * SECOND);
    assert_eq!(show.layer(0), Some(0));
    let longest = show.link(0).longest;
    assert!(longest < Duration::from_millis(200), "a queue of {longest:?}");
    let now = show.world.now;
    show.link(0).set_capacity(now, 3000);
    let up = show.time_until(0, Some(2));
    assert!(up < 15 * SECOND, "up after {up:?}");
    show.run(60 * SECOND);
    assert_eq!(show.layer(0), Some(2));
    plot::write_if_asked(&show.samples);
    let (heard, played) = (show.heard(0) - heard, (93 + up.as_secs() as usize) * 50);
    assert!(heard * 100 >= played * 98, "{heard} of about {played} audio packets");
}

#[test]
fn a_long_queue_is_left_soon() {
    let mut show = Show::new(34, &[3000]);
    show.link(0).limit = 5 * SECOND;
    show.run(45 * SECOND);
    assert_eq!(show.layer(0), Some(2));
    let now = show.world.now;
    show.link(0).set_capacity(now, 300);
    show.link(0).longest = Duration::ZERO;
    // Half a second of the highest layer, until the first reports tell of it: four seconds and a half of queue.
    show.run(9 * SECOND);
    let longest = std::mem::take(&mut show.link(0).longest);
    assert!(longest < 5 * SECOND && show.link(0).dropped == 0, "{longest:?}");
    show.run(20 * SECOND);
    let longest = show.link(0).longest;
    assert!(longest < Duration::from_millis(300), "still a queue of {longest:?}");
    assert_eq!(show.layer(0), Some(0));
}

#[test]
fn a_steady_link_has_steady_layers() {
    let mut show = Show::new(31, &[800]);
    show.time_until(0, Some(1));
    show.run(10 * SECOND);
    let changes = show.changes(0).len();
    let dropped = show.link(0).dropped;
    show.run(300 * SECOND);
    assert_eq!(show.changes(0).len(), changes, "{:?}", show.changes(0));
    let longest = show.link(0).longest;
    assert!(longest < Duration::from_millis(300), "a queue of {longest:?}");
    assert_eq!(show.link(0).dropped, dropped);
}

/// The layer takes seven eighths of the link: what a reduction leaves is just below that.
#[test]
fn a_layer_that_just_fits_stays_whatever_the_order_of_packets() {
    for seed in 100..108 {
        let mut show = Show::new(seed, &[800]);
        show.time_until(0, Some(1));
        show.run(10 * SECOND);
        let changes = show.changes(0).len();
        show.run(60 * SECOND);
        assert_eq!(show.changes(0).len(), changes, "{seed}: {:?}", show.changes(0));
        let link = show.link(0);
        assert!(link.longest < Duration::from_millis(250) && link.dropped == 0, "{seed}: {:?}", link.longest);
    }
}

#[test]
fn key_frames_do_not_overflow_a_short_queue() {
    let queue = Duration::from_millis(50);
    let mut show = Show::new(33, &[600]);
    show.link(0).limit = queue;
    show.world.network.jitter = Duration::ZERO;
    // 6.6 kB: the link needs 88 ms for it. Sent at once, five of the ten packets were lost.
    show.cameras.iter_mut().for_each(|camera| camera.key_frame_factor = 10);
    show.run(30 * SECOND);
    assert_eq!(show.layer(0), Some(0));
    let before = (show.repaired(0), show.link(0).dropped);
    let key_frames = show.cameras[0].key_frames;
    show.link(0).longest = Duration::ZERO;
    for _ in 0..20 {
        show.cameras.iter_mut().for_each(|camera| camera.wants_key_frame = true);
        show.run(Duration::from_millis(1500));
    }
    assert_eq!(show.cameras[0].key_frames - key_frames, 20);
    assert_eq!((show.repaired(0), show.link(0).dropped), before, "nothing is lost");
    assert!(show.link(0).longest < queue, "{:?}", show.link(0).longest);
}

#[test]
fn each_viewer_gets_what_its_link_takes() {
    let capacities = [110, 250, 300, 500, 850, 1000, 1500, 2900, 4000, 10_000];
    let mut show = Show::new(32, &capacities);
    show.run(50 * SECOND);
    let layers: Vec<Option<u8>> = (0..capacities.len()).map(|viewer| show.layer(viewer)).collect();
    let expected = [None, Some(0), Some(0), Some(0), Some(1), Some(1), Some(1), Some(2), Some(2), Some(2)];
    assert_eq!(layers, expected, "{:?}", (0..10).map(|v| show.available(v)).collect::<Vec<_>>());
    for viewer in 0..capacities.len() {
        let heard = show.heard(viewer);
        assert!(heard as u64 * 100 >= show.audio_packets * 90, "{viewer}: {heard} of {}", show.audio_packets);
    }
}

#[test]
fn what_is_told_of_a_path_is_believed_until_more_is_known() {
    let mut world = World::new(23);
    world.viewers_report = true;
    let (_, sending) = world.join();
    let producer = world.produce(sending, &[1000]);
    let kbps = Bitrate::kbps;
    for (told, believed) in [(None, kbps(600)), (Some(kbps(1500)), kbps(1500)), (Some(Bitrate(1)), kbps(30))]
    {
        let options = WebRtcTransportOptions { initial_available_outgoing_bitrate: told, ..TRANSPORT };
        let viewing = world.core.create_webrtc_transport(world.router, &options).unwrap().id;
        world.core.consume(world.now, viewing, producer.id, &world.capabilities, true).unwrap();
        assert_eq!(world.core.available_outgoing_bitrate(viewing).unwrap(), Some(believed));
    }
}

#[test]
fn a_publisher_learns_when_each_packet_arrived() {
    let mut world = World::new(20);
    let (publisher, sending) = world.join();
    world.produce(sending, &[1000]);
    world.network.loss = 0.1;
    world.network.delay = Duration::from_millis(25);
    world.network.jitter = Duration::from_millis(8);
    let mut camera = Camera::new(publisher, 1000, 9);
    film(&mut world, &mut [&mut camera], 900);
    let peer = &world.peers[publisher];
    assert!(peer.wide_sent.len() > 8000, "{}", peer.wide_sent.len());
    let told: BTreeMap<usize, Option<i64>> = peer.wide_reported.iter().copied().collect();
    let start = peer.wide_sent[0];
    let transit = |(index, ticks): (&usize, &Option<i64>)| {
        let sent = peer.wide_sent[*index].duration_since(start).as_micros() as i64;
        ticks.map(|ticks| ticks * 250 - sent)
    };
    let transits: Vec<i64> = told.iter().filter_map(transit).collect();
    let spread = transits.iter().max().unwrap() - transits.iter().min().unwrap();
    assert!((6_000..=8_250).contains(&spread), "the jitter of the network and nothing else: {spread} us");
    let share = transits.len() as f64 / told.len() as f64;
    assert!((0.88..0.92).contains(&share), "{share} of the packets arrived");
    // A tenth of the feedback is lost too; what it told is not repeated.
    assert!(told.len() as f64 > 0.85 * peer.wide_sent.len() as f64, "{} told", told.len());
}

#[test]
fn a_publisher_is_told_its_limit() {
    let mut world = World::new(21);
    let (publisher, sending) = world.join();
    world.produce(sending, &[1000]);
    world.core.set_max_incoming_bitrate(world.now, sending, Some(Bitrate::kbps(700))).unwrap();
    world.run(10 * SECOND);
    assert!((6..=8).contains(&world.peers[publisher].allowed.len()));
    assert!(world.peers[publisher].allowed.iter().all(|bitrate| (699_000..=700_000).contains(bitrate)));
    world.peers[publisher].allowed.clear();
    world.core.set_max_incoming_bitrate(world.now, sending, None).unwrap();
    world.run(10 * SECOND);
    assert_eq!(world.peers[publisher].allowed, [0; 4], "zero means no limit");
}

#[test]
fn a_narrow_path_is_noticed_and_its_viewer_told() {
    let mut world = World::new(22);
    world.viewers_report = true;
    let (publisher, sending) = world.join();
    let producer = world.produce(sending, &[1000]);
    let (viewer, viewing) = world.join();
    let (consumer, _) = world.consume(viewer, viewing, &producer);
    world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
    world.network.delay = Duration::from_millis(20);
    let address = world.peers[viewer].address;
    world.network.links.insert(address, Link::new(world.now, 1000, SECOND));
    // 500 kbit/s.
    let mut camera = Camera::new(publisher, 1000, 2);
    film(&mut world, &mut [&mut camera], 300);
    assert!(world.core.available_outgoing_bitrate(viewing).unwrap().unwrap() >= Bitrate::kbps(500));
    world.network.links.get_mut(&address).unwrap().set_capacity(world.now, 200);
    film(&mut world, &mut [&mut camera], 90);
    let available = world.core.available_outgoing_bitrate(viewing).unwrap().unwrap();
    assert!(available <= Bitrate::kbps(250), "{available}");
    assert!(world.network.links[&address].dropped > 0, "the producer has no smaller layer");
    let told = world.events.iter().rev().find_map(|event| match event {
        Event::AvailableOutgoingBitrate { transport, available, .. } if *transport == viewing => {
            Some(*available)
        }
        _ => None,
    });
    assert!(told.is_some_and(|told| told <= Bitrate::kbps(400)), "{told:?}");
    assert_eq!(world.core.available_outgoing_bitrate(sending).unwrap(), None, "nothing goes there");
}
