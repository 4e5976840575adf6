//! Plain RTP and RTCP without protection: the way from a stranger's bytes to the core's inside that no key bars.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mediasoup_types::rtp_parameters::MediaKind;
use serde_json::json;
use weir::media::ortc;
use weir::sfu::plain_transport::{OwnPort, PlainRemote, PlainTransportOptions};
use weir::sfu::{Config, SocketId, Transmit, Tuple, Worker};

use super::Input;

const PUBLISHING: u32 = 1;
const VIEWING: u32 = 2;

fn peer(port: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 1024 + u16::from(port))
}

fn own(id: u32) -> OwnPort {
    OwnPort { id, address: SocketAddr::from((Ipv4Addr::LOCALHOST, 41_000)) }
}

/// Where each transport sends to.
#[derive(Default)]
struct Destinations(HashSet<(SocketId, SocketAddr)>);

impl Transmit for Destinations {
    fn transmit(&mut self, to: Tuple, _contents: &[u8], _segment_size: usize) {
        self.0.insert(to.key());
    }
}

/// A publisher that comedia has to find, a viewer whose address is told, and strangers at the ports of both.
pub fn plain(data: &[u8]) {
    let (mut input, mut now) = (Input(data), Instant::now());
    let config = Config {
        announced_udp: Vec::new(),
        announced_tcp: Vec::new(),
        ice_consent_timeout: Duration::from_secs(25),
        ntp_at: (now, 0),
    };
    let mut worker = Worker::new(config).expect("a worker");
    let (router, capabilities) = worker.create_router(&ortc::default_router_codecs()).expect("a router");
    let capabilities = serde_json::to_value(capabilities).expect("JSON");
    let capabilities = ortc::parse_rtp_capabilities(&capabilities).expect("capabilities");
    let mut make = |comedia, port| {
        let options = PlainTransportOptions { comedia, ..PlainTransportOptions::default() };
        worker.create_plain_transport(router, &options, own(port), None).expect("a transport").id
    };
    let (publishing, viewing) = (make(true, PUBLISHING), make(false, VIEWING));
    let parameters = json!({
        "codecs": [
            {"mimeType": "video/VP8", "payloadType": 96, "clockRate": 90000,
             "rtcpFeedback": [{"type": "nack"}, {"type": "nack", "parameter": "pli"}]},
            {"mimeType": "video/rtx", "payloadType": 97, "clockRate": 90000, "parameters": {"apt": 96}},
        ],
        "encodings": [{"ssrc": 7, "rtx": {"ssrc": 8}}, {"ssrc": 9, "rtx": {"ssrc": 10}}],
    });
    let parameters = ortc::parse_rtp_parameters(&parameters).expect("parameters");
    let producer = worker.produce(now, publishing, MediaKind::Video, &parameters, false).expect("a producer");
    let viewer = peer(u8::MAX);
    let remote = PlainRemote { ip: Some(viewer.ip()), port: Some(viewer.port()), ..PlainRemote::default() };
    worker.connect_plain_transport(now, viewing, &remote).expect("connects once");
    worker.consume(now, viewing, producer.id, &capabilities, false).expect("a consumer");

    let mut sent = Destinations::default();
    while !input.is_empty() {
        let how = input.byte();
        let (port, remote) = match how & 7 {
            7 => (VIEWING, viewer),
            6 => (VIEWING, peer(0)),
            sender => (PUBLISHING, peer(sender & 1)),
        };
        let mut datagram = input.datagram().to_vec();
        worker.handle_datagram(
            now,
            Tuple { socket: SocketId::Own(port), remote, local: None },
            &mut datagram,
        );
        now += Duration::from_millis(u64::from(how >> 3));
        worker.handle_timeout(now);
        worker.flush(now, &mut sent);
    }
    let of = |port: u32| sent.0.iter().filter(move |(socket, _)| *socket == SocketId::Own(port));
    assert!(of(PUBLISHING).count() <= 1, "the publisher is whom comedia found first");
    assert!(of(VIEWING).all(|(_, to)| *to == viewer), "media went to a stranger");
    assert_eq!((worker.stats().transports, worker.stats().consumers), (2, 1));
}
