//! Whole datagrams: ICE checks, DTLS records, and whatever else comes to the worker's port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use mediasoup_types::data_structures::{DtlsParameters, DtlsRole};
use weir::media::ortc;
use weir::sfu::api::WebRtcTransportOptions;
use weir::sfu::dtls::{Credentials, Dtls};
use weir::sfu::ice::{self, IceLite, MAX_TUPLES};
use weir::sfu::{Config, Transmit, Tuple, Worker};

use super::Input;

static CREDENTIALS: LazyLock<Credentials> = LazyLock::new(|| Credentials::generate().expect("a certificate"));
/// Answers and flights that one input can cause: more would make weir an amplifier.
const MAX_ANSWERS: usize = 4096;

fn tuple(port: u8) -> Tuple {
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    Tuple::shared(SocketAddr::new(address, 1024 + u16::from(port)))
}

/// Binding requests: nobody without the password opens a path.
pub fn stun(data: &[u8]) {
    let mut agent = IceLite::new(Duration::from_secs(25));
    let (mut input, now) = (Input(data), Instant::now());
    while !input.is_empty() {
        let port = input.byte();
        let Some((request, ufrag)) = ice::read_request(input.datagram()) else { continue };
        agent.handle_request(now, CREDENTIALS.provider().crypto(), tuple(port), &ufrag, request);
        assert!(agent.tuples().len() <= MAX_TUPLES);
        assert_eq!(agent.selected(), None, "the password was guessed");
    }
}

/// DTLS records for either role: nobody without a certificate gets in.
pub fn dtls(data: &[u8]) {
    let (mut input, mut now) = (Input(data), Instant::now());
    let role = if input.byte() & 1 == 0 { DtlsRole::Client } else { DtlsRole::Server };
    let mut dtls = Dtls::default();
    dtls.connect(role, vec![CREDENTIALS.fingerprint()]);
    let _event = dtls.advance(now, &CREDENTIALS);
    while !input.is_empty() {
        let _event = dtls.handle_datagram(now, &CREDENTIALS, input.datagram());
        now += Duration::from_millis(500);
        let _event = dtls.handle_timeout(now);
        let flights = std::iter::from_fn(|| dtls.poll_transmit()).take(MAX_ANSWERS).count();
        assert!(flights < MAX_ANSWERS);
    }
}

struct Counter(usize);

impl Transmit for Counter {
    fn transmit(&mut self, _to: Tuple, contents: &[u8], segment_size: usize) {
        self.0 += contents.len().div_ceil(segment_size.max(1));
    }
}

/// Datagrams of any kind from several addresses to a worker whose transport waits for its peer.
pub fn datagrams(data: &[u8]) {
    let (mut input, mut now) = (Input(data), Instant::now());
    let mut worker = Worker::new(Config {
        announced_udp: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000))],
        announced_tcp: Vec::new(),
        ice_consent_timeout: Duration::from_secs(25),
        ntp_at: (now, 0),
    })
    .expect("a worker");
    let (router, _) = worker.create_router(&ortc::default_router_codecs()).expect("a router");
    let options = WebRtcTransportOptions { enable_sctp: true, ..WebRtcTransportOptions::default() };
    let transport = worker.create_webrtc_transport(router, &options).expect("a transport");
    let remote = DtlsParameters { role: DtlsRole::Client, fingerprints: vec![CREDENTIALS.fingerprint()] };
    worker.connect_transport(now, transport.id, remote).expect("connects once");
    let mut sent = Counter(0);
    while !input.is_empty() {
        let from = tuple(input.byte() & 3);
        let mut datagram = input.datagram().to_vec();
        worker.handle_datagram(now, from, &mut datagram);
        now += Duration::from_millis(20);
        worker.handle_timeout(now);
        worker.flush(now, &mut sent);
    }
    assert_eq!(sent.0, 0, "an answer to somebody who can't know the password");
    assert_eq!(worker.stats().transports, 1);
}
