//! Plain transports: who may send to them, what their peers are told, and what SRTP changes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mediasoup_types::rtp_parameters::{MediaKind, RtpCapabilities};
use rtc_crypto::RTCCryptoProvider;
use serde_json::json;
use weir::ids::{RouterId, TransportId};
use weir::media::{ortc, rtcp};
use weir::sfu::api::{Event, ProducerInfo, WebRtcTransportOptions};
use weir::sfu::plain_transport::{
    ConnectPlainError, OwnPort, PlainRemote, PlainTransportInfo, PlainTransportOptions,
};
use weir::sfu::srtp::{MasterKey, Receiver, Sender, Suite};
use weir::sfu::{Config, SocketId, Transmit, Tuple, Worker};

const SSRC: u32 = 7000;
const SUITES: [(Suite, &str); 4] = [
    (Suite::AeadAes128Gcm, "AEAD_AES_128_GCM"),
    (Suite::AeadAes256Gcm, "AEAD_AES_256_GCM"),
    (Suite::AesCm128HmacSha1_80, "AES_CM_128_HMAC_SHA1_80"),
    (Suite::AesCm128HmacSha1_32, "AES_CM_128_HMAC_SHA1_32"),
];

/// Where each datagram goes, and what it holds.
type Datagrams = Vec<(Tuple, Vec<u8>)>;

/// A worker whose plain transports are addressed directly.
struct Plain {
    core: Worker,
    router: RouterId,
    capabilities: RtpCapabilities,
    now: Instant,
    sent: Datagrams,
    next_port: u32,
}

struct Sent<'a>(&'a mut Datagrams);

impl Transmit for Sent<'_> {
    fn transmit(&mut self, to: Tuple, contents: &[u8], segment_size: usize) {
        self.0.extend(contents.chunks(segment_size).map(|datagram| (to, datagram.to_vec())));
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn at(port: OwnPort, remote: &str) -> Tuple {
    Tuple { socket: SocketId::Own(port.id), remote: address(remote), local: None }
}

fn rtp(ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0x80 | 96];
    packet.extend(sequence.to_be_bytes());
    packet.extend(u32::from(sequence).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0x10, 0, 1, 2, 3]);
    packet
}

impl Plain {
    fn new() -> Self {
        let now = Instant::now();
        let config = Config {
            announced_udp: Vec::new(),
            announced_tcp: Vec::new(),
            ice_consent_timeout: Duration::from_secs(20),
            ntp_at: (now, 0xE000_0000_0000_0000),
        };
        let mut core = Worker::new(config).unwrap();
        let (router, capabilities) = core.create_router(&ortc::default_router_codecs()).unwrap();
        let capabilities = serde_json::to_value(capabilities).unwrap();
        let capabilities = ortc::parse_rtp_capabilities(&capabilities).unwrap();
        Self { core, router, capabilities, now, sent: Vec::new(), next_port: 0 }
    }

    fn port(&mut self) -> OwnPort {
        self.next_port += 1;
        let number = u16::try_from(self.next_port).unwrap();
        OwnPort { id: self.next_port, address: SocketAddr::new(IpAddr::from([10, 0, 0, 1]), 41_000 + number) }
    }

    fn create(&mut self, options: &PlainTransportOptions) -> (PlainTransportInfo, OwnPort, Option<OwnPort>) {
        let rtp = self.port();
        let rtcp = (!options.rtcp_mux).then(|| self.port());
        let info = self.core.create_plain_transport(self.router, options, rtp, rtcp).unwrap();
        (info, rtp, rtcp)
    }

    /// A transport that sends to `remote`, and a running consumer of `producer` on it.
    fn view(&mut self, producer: &ProducerInfo, remote: &str) -> OwnPort {
        let (info, port, _) = self.create(&PlainTransportOptions::default());
        self.connect(info.id, &to(remote)).unwrap();
        self.core.consume(self.now, info.id, producer.id, &self.capabilities, false).unwrap();
        port
    }

    fn connect(&mut self, id: TransportId, remote: &PlainRemote) -> Result<(), ConnectPlainError> {
        self.core.connect_plain_transport(self.now, id, remote)
    }

    fn produce(&mut self, transport: TransportId) -> ProducerInfo {
        let parameters = json!({
            "codecs": [{"mimeType": "video/VP8", "payloadType": 96, "clockRate": 90000,
                        "rtcpFeedback": [{"type": "nack"}, {"type": "nack", "parameter": "pli"}]}],
            "encodings": [{"ssrc": SSRC}],
        });
        let parameters = ortc::parse_rtp_parameters(&parameters).unwrap();
        self.core.produce(self.now, transport, MediaKind::Video, &parameters, false).unwrap()
    }

    fn receive(&mut self, from: Tuple, mut datagram: Vec<u8>) {
        self.core.handle_datagram(self.now, from, &mut datagram);
    }

    /// What is sent within the next time, RTP and RTCP apart.
    fn run(&mut self, time: Duration) -> (Datagrams, Datagrams) {
        let end = self.now + time;
        self.core.flush(self.now, &mut Sent(&mut self.sent));
        while let Some(due) = self.core.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.core.handle_timeout(self.now);
            self.core.flush(self.now, &mut Sent(&mut self.sent));
        }
        self.now = end;
        let is_rtcp = |datagram: &[u8]| (192..=223).contains(&datagram[1]);
        std::mem::take(&mut self.sent).into_iter().partition(|(_, datagram)| !is_rtcp(datagram))
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.core.poll_event()).collect()
    }

    fn forwarded(&mut self) -> Vec<Tuple> {
        self.run(Duration::from_millis(5)).0.into_iter().map(|(to, _)| to).collect()
    }
}

fn to(remote: &str) -> PlainRemote {
    let remote = address(remote);
    PlainRemote { ip: Some(remote.ip()), port: Some(remote.port()), ..PlainRemote::default() }
}

fn comedia() -> PlainTransportOptions {
    PlainTransportOptions { comedia: true, ..PlainTransportOptions::default() }
}

#[test]
fn rtp_of_the_told_address_is_forwarded_and_nobody_elses() {
    let mut plain = Plain::new();
    let (info, port, _) = plain.create(&PlainTransportOptions::default());
    let producer = plain.produce(info.id);
    let viewer = plain.view(&producer, "10.0.2.2:5000");
    plain.receive(at(port, "10.0.1.1:4000"), rtp(SSRC, 1));
    assert_eq!(plain.forwarded(), [], "nobody is told yet");
    plain.connect(info.id, &to("10.0.1.1:4000")).unwrap();
    plain.receive(at(port, "10.0.1.1:4000"), rtp(SSRC, 2));
    assert_eq!(plain.forwarded(), [at(viewer, "10.0.2.2:5000")]);
    for stranger in [at(port, "10.0.1.1:4001"), at(port, "10.9.9.9:4000"), at(viewer, "10.0.1.1:4000")] {
        let before = plain.core.stats().dropped_unknown;
        plain.receive(stranger, rtp(SSRC, 3));
        assert_eq!(plain.core.stats().dropped_unknown, before + 1);
    }
    for nonsense in [vec![], vec![0x80], vec![0, 1, 2, 3], vec![0x16; 40], vec![0x80; 11], vec![0x90; 13]] {
        plain.receive(at(port, "10.0.1.1:4000"), nonsense);
    }
    assert_eq!(plain.forwarded(), []);
}

#[test]
fn comedia_takes_the_address_of_the_first_packet_that_belongs_to_a_producer() {
    let mut plain = Plain::new();
    let (info, port, _) = plain.create(&comedia());
    let producer = plain.produce(info.id);
    let viewer = plain.view(&producer, "10.0.2.2:5000");
    plain.receive(at(port, "10.9.9.9:9"), rtp(SSRC + 1, 1));
    plain.receive(at(port, "10.9.9.9:9"), vec![0x80, 201, 0, 1, 0, 0, 0, 1]);
    assert!(
        !plain.events().contains(&Event::TransportConnected(info.id)),
        "a stranger's packets tell nothing"
    );
    plain.receive(at(port, "10.0.1.1:4000"), rtp(SSRC, 1));
    assert!(plain.events().contains(&Event::TransportConnected(info.id)));
    assert_eq!(plain.forwarded(), [at(viewer, "10.0.2.2:5000")], "the first packet counts");
    plain.receive(at(port, "10.0.1.2:4000"), rtp(SSRC, 2));
    assert_eq!(plain.forwarded(), [], "there is one peer");
    assert_eq!(plain.connect(info.id, &to("10.0.1.2:4000")), Err(ConnectPlainError::AlreadyConnected));
}

#[test]
fn a_publisher_that_starts_over_goes_on() {
    let mut plain = Plain::new();
    let (info, port, _) = plain.create(&comedia());
    let producer = plain.produce(info.id);
    plain.view(&producer, "10.0.2.2:5000");
    for sequence in [60_000, 60_001, 10, 11] {
        plain.receive(at(port, "10.0.1.1:4000"), rtp(SSRC, sequence));
        assert_eq!(plain.forwarded().len(), 1, "{sequence}");
    }
}

#[test]
fn rtcp_has_a_port_of_its_own_unless_it_is_multiplexed() {
    let asks = |mux: bool, comedia: bool| {
        let mut plain = Plain::new();
        let options = PlainTransportOptions { rtcp_mux: mux, comedia, ..PlainTransportOptions::default() };
        let (info, port, rtcp_port) = plain.create(&options);
        if !comedia {
            let rtcp_port = (!mux).then_some(4001);
            plain.connect(info.id, &PlainRemote { rtcp_port, ..to("10.0.1.1:4000") }).unwrap();
        }
        let producer = plain.produce(info.id);
        plain.receive(at(port, "10.0.1.1:4000"), rtp(SSRC, 1));
        let mut report = Vec::new();
        let sender = rtcp::SenderInfo { ssrc: SSRC, ntp: 5 << 32, rtp: 1, packets: 1, octets: 1 };
        rtcp::write_sender_report(&mut report, &sender);
        let rtcp_at = rtcp_port.unwrap_or(port);
        plain.receive(at(rtcp_at, if mux { "10.0.1.1:4000" } else { "10.0.1.1:4001" }), report.clone());
        let before = plain.core.stats().dropped_unknown;
        plain.receive(at(rtcp_at, "10.9.9.9:4001"), report.clone());
        assert_eq!(plain.core.stats().dropped_unknown, before + 1, "a stranger's report");
        if !mux {
            plain.receive(at(port, "10.0.1.1:4000"), report);
            plain.receive(at(rtcp_at, "10.0.1.1:4001"), rtp(SSRC, 2));
            assert_eq!(plain.core.stats().dropped_unknown, before + 3, "each on its port");
        }
        plain.core.request_key_frame(plain.now, producer.id).unwrap();
        let (_, rtcp) = plain.run(Duration::from_millis(5));
        rtcp.into_iter().map(|(to, _)| (to.socket, to.remote.port())).collect::<Vec<_>>()
    };
    for comedia in [false, true] {
        assert_eq!(asks(true, comedia), [(SocketId::Own(1), 4000)]);
        assert_eq!(asks(false, comedia), [(SocketId::Own(2), 4001)]);
    }
}

#[test]
fn what_does_not_fit_the_options_is_refused_with_a_reason() {
    let srtp = |suite: &str, key: &str| {
        let parameters = json!({"cryptoSuite": suite, "keyBase64": key});
        PlainRemote {
            srtp_parameters: Some(serde_json::from_value(parameters).unwrap()),
            ..to("10.0.1.1:4000")
        }
    };
    let base = PlainTransportOptions::default();
    let secured = PlainTransportOptions { srtp: Some(Suite::AeadAes128Gcm), ..base.clone() };
    let separate = PlainTransportOptions { rtcp_mux: false, ..base.clone() };
    let told = to("10.0.1.1:4000");
    for (options, remote, reason) in [
        (&base, PlainRemote::default(), "ip is missing"),
        (&base, PlainRemote { port: None, ..told.clone() }, "port is missing"),
        (&base, PlainRemote { rtcp_port: Some(1), ..told.clone() }, "rtcpPort does not fit"),
        (&base, to("10.0.1.1:0"), "no address"),
        (&base, to("0.0.0.0:5"), "no address"),
        (&base, to("[::1]:5"), "no address"),
        (&base, srtp("AEAD_AES_128_GCM", ""), "srtpParameters does not fit"),
        (&separate, told.clone(), "rtcpPort is missing"),
        (&secured, told.clone(), "srtpParameters is missing"),
        (&secured, srtp("AEAD_AES_256_GCM", ""), "cryptoSuite"),
        (&secured, srtp("AEAD_AES_128_GCM", "no base64!"), "no base64"),
        (&secured, srtp("AEAD_AES_128_GCM", "AAAA"), "length"),
        (&PlainTransportOptions { comedia: true, ..secured.clone() }, told.clone(), "srtpParameters"),
    ] {
        let mut plain = Plain::new();
        let (info, ..) = plain.create(options);
        let error = plain.connect(info.id, &remote).unwrap_err().to_string();
        assert!(error.contains(reason), "{error} instead of {reason}");
    }
    let mut plain = Plain::new();
    let webrtc =
        plain.core.create_webrtc_transport(plain.router, &WebRtcTransportOptions::default()).unwrap().id;
    assert!(matches!(plain.connect(webrtc, &told), Err(ConnectPlainError::NotFound(_))));
}

#[test]
fn srtp_of_every_suite_protects_both_ways_and_a_wrong_key_opens_nothing() {
    let provider: Arc<dyn RTCCryptoProvider> = rtc_crypto::default_provider().unwrap();
    for (suite, name) in SUITES {
        let mut plain = Plain::new();
        let (info, port, _) =
            plain.create(&PlainTransportOptions { srtp: Some(suite), comedia: true, ..comedia() });
        let key = MasterKey::random(suite);
        let told = info.srtp_parameters.clone().unwrap();
        assert_eq!(serde_json::to_value(&told).unwrap()["cryptoSuite"], name);
        let remote = PlainRemote { srtp_parameters: Some(parameters(name, &key)), ..PlainRemote::default() };
        plain.connect(info.id, &remote).unwrap();
        let producer = plain.produce(info.id);
        plain.core.consume(plain.now, info.id, producer.id, &plain.capabilities.clone(), false).unwrap();

        let protect = |key: &MasterKey, sequence: u16| {
            let mut packet = rtp(SSRC, sequence);
            let mut sender = Sender::new(&provider, key).unwrap();
            sender.protect_rtp(&mut packet, 0, 12, SSRC, u64::from(sequence)).unwrap();
            packet
        };
        plain.receive(at(port, "10.9.9.9:9"), protect(&MasterKey::random(suite), 1));
        plain.receive(at(port, "10.9.9.9:9"), rtp(SSRC, 1));
        assert_eq!(plain.forwarded(), [], "neither another key nor none opens {name}");
        plain.receive(at(port, "10.0.1.1:4000"), protect(&key, 1));
        let (forwarded, _) = plain.run(Duration::from_millis(5));
        let [(path, datagram)] = forwarded.as_slice() else { panic!("{} packets", forwarded.len()) };
        assert_eq!(*path, at(port, "10.0.1.1:4000"));

        let theirs = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, &told.key_base64).unwrap();
        let mut receiver = Receiver::new(&provider, MasterKey::new(suite, &theirs).unwrap()).unwrap();
        let (sequence, ssrc) = weir::media::rtp::sequence_and_ssrc(datagram).unwrap();
        let mut opened = datagram.clone();
        let len = receiver.unprotect_rtp(&mut opened, ssrc, u64::from(sequence)).unwrap();
        assert!(opened[..len].ends_with(&[0x10, 0, 1, 2, 3]), "{name}");
        let refused = plain.core.stats().dropped_srtp;
        plain.receive(at(port, "10.0.1.1:4000"), protect(&key, 1));
        assert_eq!(plain.core.stats().dropped_srtp, refused + 1, "a replay");
    }
}

#[test]
fn the_ports_come_back_when_the_transport_ends() {
    let mut plain = Plain::new();
    let (info, port, _) =
        plain.create(&PlainTransportOptions { rtcp_mux: false, ..PlainTransportOptions::default() });
    plain.core.close_transport(plain.now, info.id).unwrap();
    let released: Vec<u32> = std::iter::from_fn(|| plain.core.poll_released_port()).collect();
    assert_eq!(released, [1, 2]);
    plain.receive(at(port, "10.0.1.1:4000"), rtp(SSRC, 1));
    assert_eq!(plain.core.stats().dropped_unknown, 1);
    plain.create(&comedia());
    plain.core.close(plain.now);
    assert_eq!(plain.core.poll_released_port(), Some(3));
}

fn parameters(suite: &str, key: &MasterKey) -> mediasoup_types::srtp_parameters::SrtpParameters {
    let key = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, key.bytes());
    serde_json::from_value(json!({"cryptoSuite": suite, "keyBase64": key})).unwrap()
}
