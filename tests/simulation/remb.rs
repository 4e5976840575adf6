//! Publishers that were not offered transport-wide feedback: what their path takes is estimated by weir, and they go by
//! the REMB messages that tell it.

use std::time::Duration;

use mediasoup_types::rtp_parameters::MediaKind;
use serde_json::json;
use weir::ids::{Bitrate, TransportId};
use weir::media::ortc;

use crate::network::Link;
use crate::peer::{ABS_SEND_TIME, VP8, WIDE_SEQUENCE};
use crate::world::{Camera, World, film};

const SECOND: Duration = Duration::from_secs(1);
const SSRC: u32 = 1000;
/// What the publisher would send if it might, in kbit/s.
const WISH: usize = 2500;
const ABS_SEND_TIME_URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
const WIDE_SEQUENCE_URI: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

struct Show {
    world: World,
    publisher: usize,
    transport: TransportId,
    camera: Camera,
}

impl Show {
    /// A publisher behind a link of this many kbit/s, which begins with `kbps`.
    fn new(seed: u64, capacity: u32, kbps: usize) -> Self {
        let mut world = World::new(seed);
        let (publisher, transport) = world.join();
        produce(&mut world, transport, SSRC, &[(ABS_SEND_TIME_URI, ABS_SEND_TIME)], &["goog-remb"]);
        world.peers[publisher].send_clock = Some(world.now);
        world.network.delay = Duration::from_millis(25);
        world.network.jitter = Duration::from_millis(2);
        let link = Link::new(world.now, capacity, Duration::from_millis(500));
        world.network.links.insert(world.server, link);
        let camera = Camera::with_bitrate(publisher, SSRC, kbps);
        Self { world, publisher, transport, camera }
    }

    /// One frame, as large as the last message allows.
    fn frame(&mut self) {
        if let Some(allowed) = self.world.peers[self.publisher].allowed.last() {
            // A tenth goes into headers.
            self.camera.set_bitrate((*allowed as usize * 9 / 10_000).clamp(30, WISH));
        }
        self.camera.shoot(&mut self.world);
        self.world.run(Duration::from_micros(33_333));
    }

    fn run(&mut self, time: Duration) {
        let end = self.world.now + time;
        while self.world.now < end {
            self.frame();
        }
    }

    fn allowed(&self) -> Option<u64> {
        self.world.peers[self.publisher].allowed.last().map(|allowed| allowed / 1000)
    }

    fn link(&mut self) -> &mut Link {
        self.world.network.links.get_mut(&self.world.server).unwrap()
    }

    fn set_capacity(&mut self, kbps: u32) {
        let now = self.world.now;
        self.link().set_capacity(now, kbps);
        (self.link().longest, self.link().dropped) = (Duration::ZERO, 0);
    }

    /// What passed in this time, in kbit/s.
    fn passed(&mut self, time: Duration) -> u64 {
        self.link().bytes = 0;
        self.run(time);
        self.link().bytes as u64 * 8 / time.as_millis() as u64
    }
}

fn produce(
    world: &mut World,
    transport: TransportId,
    ssrc: u32,
    extensions: &[(&str, u8)],
    feedback: &[&str],
) {
    let extensions: Vec<_> = extensions.iter().map(|(uri, id)| json!({"uri": uri, "id": id})).collect();
    let feedback: Vec<_> = feedback.iter().map(|kind| json!({"type": kind})).collect();
    let parameters = json!({
        "codecs": [
            {"mimeType": "video/VP8", "payloadType": VP8, "clockRate": 90000, "rtcpFeedback": feedback},
        ],
        "headerExtensions": extensions,
        "encodings": [{"ssrc": ssrc}],
        "rtcp": {"cname": "peer"},
    });
    let parameters = ortc::parse_rtp_parameters(&parameters).unwrap();
    world.core.produce(world.now, transport, MediaKind::Video, &parameters, false).unwrap();
}

#[test]
fn a_publisher_that_knows_remb_only_follows_its_link_down_and_up() {
    for seed in 60..64 {
        let mut show = Show::new(seed, 3000, WISH);
        show.run(30 * SECOND);
        let passed = show.passed(10 * SECOND);
        assert!(passed > 2250, "{seed}: {passed} of 3000 kbit/s, allowed {:?}", show.allowed());
        show.set_capacity(500);
        show.run(3 * SECOND);
        assert!(show.allowed().unwrap() < 500, "{seed}: {:?} after 3 s", show.allowed());
        show.run(2 * SECOND);
        show.set_capacity(500);
        let passed = show.passed(60 * SECOND);
        let (longest, dropped) = (show.link().longest, show.link().dropped);
        assert!(passed > 350, "{seed}: {passed} of 500 kbit/s");
        assert!(longest < Duration::from_millis(300) && dropped == 0, "{seed}: {longest:?}, {dropped} lost");
        show.set_capacity(3000);
        show.run(30 * SECOND);
        let passed = show.passed(10 * SECOND);
        assert!(passed > 2250, "{seed}: {passed} of 3000 kbit/s, allowed {:?}", show.allowed());
    }
}

#[test]
fn an_estimate_is_told_every_second_and_stays_below_the_limit() {
    let mut show = Show::new(64, 3000, WISH);
    let limit = Bitrate::kbps(700);
    show.run(SECOND);
    assert_eq!(show.allowed(), None, "nothing is known yet");
    show.world.core.set_max_incoming_bitrate(show.world.now, show.transport, Some(limit)).unwrap();
    show.run(20 * SECOND);
    let allowed = std::mem::take(&mut show.world.peers[show.publisher].allowed);
    assert!(allowed.len() >= 25 && allowed.iter().all(|bitrate| *bitrate <= limit.0), "{allowed:?}");
    let stats = show.world.core.transport_stats(show.world.now, show.transport).unwrap();
    assert!(stats.available_incoming_bitrate.unwrap() > limit.0, "{stats:?}");
    show.world.core.set_max_incoming_bitrate(show.world.now, show.transport, None).unwrap();
    show.run(20 * SECOND);
    assert!(show.allowed() > Some(1500), "{:?}", show.allowed());
    show.world.peers[show.publisher].allowed.clear();
    show.world.run(20 * SECOND);
    assert!(show.world.peers[show.publisher].allowed.len() <= 3, "nothing is told of what does not arrive");
}

#[test]
fn loss_alone_is_no_queue() {
    let mut show = Show::new(65, 5000, 1000);
    show.world.network.loss = 0.05;
    show.run(60 * SECOND);
    assert!(show.allowed() > Some(2000), "{:?}", show.allowed());
}

#[test]
fn transport_wide_feedback_takes_the_place_of_an_estimate() {
    let mut show = Show::new(66, 500, 1000);
    show.run(10 * SECOND);
    assert!(show.allowed().unwrap() < 700);
    show.world.peers[show.publisher].allowed.clear();
    let both = [(ABS_SEND_TIME_URI, ABS_SEND_TIME), (WIDE_SEQUENCE_URI, WIDE_SEQUENCE)];
    produce(&mut show.world, show.transport, SSRC + 1, &both, &["goog-remb", "transport-cc"]);
    show.world.run(20 * SECOND);
    show.camera.set_bitrate(400);
    film(&mut show.world, &mut [&mut show.camera], 300);
    let peer = &show.world.peers[show.publisher];
    assert_eq!(peer.allowed, [0; 4], "what was told is taken back, and nothing follows");
    assert!(!peer.wide_reported.is_empty());
}
