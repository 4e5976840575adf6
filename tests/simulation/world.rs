//! One worker, its peers and the network between them, driven through simulated time.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mediasoup_types::data_structures::DtlsRole;
use mediasoup_types::rtp_parameters::{
    MediaKind, RtcpFeedback, RtpCapabilities, RtpCodecCapability, RtpHeaderExtensionUri,
};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile as Profile;
use serde_json::json;
use weir::ids::{RouterId, TransportId};
use weir::media::ortc;
use weir::sfu::api::{
    ConsumerInfo, Event, ProducerInfo, TapOutput, WebRtcTransportInfo, WebRtcTransportOptions,
};
use weir::sfu::plain_transport::OwnPort;
use weir::sfu::{Config, SocketId, Transmit, Tuple, Worker};

use crate::network::Network;
use crate::peer::{OPUS, Peer, RTX, VP8, WIDE_SEQUENCE};

pub(crate) const TRANSPORT: WebRtcTransportOptions =
    WebRtcTransportOptions { enable_sctp: true, initial_available_outgoing_bitrate: None };
pub(crate) const CONSENT_TIMEOUT: Duration = Duration::from_secs(20);
pub(crate) const GCM_LAST: [Profile; 2] =
    [Profile::Srtp_Aes128_Cm_Hmac_Sha1_80, Profile::Srtp_Aead_Aes_128_Gcm];

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) core: Worker,
    pub(crate) router: RouterId,
    pub(crate) network: Network,
    pub(crate) peers: Vec<Peer>,
    pub(crate) events: Vec<Event>,
    pub(crate) tapped: Vec<TapOutput>,
    pub(crate) largest_batch: usize,
    /// UDP ports of plain and pipe transports.
    pub(crate) own_ports: Vec<OwnPort>,
    /// Whether viewers tell of their paths, so that what they get depends on it.
    pub(crate) viewers_report: bool,
    pub(crate) capabilities: RtpCapabilities,
    pub(crate) server: SocketAddr,
}

struct Outgoing {
    datagrams: Vec<(Tuple, Vec<u8>)>,
    largest_batch: usize,
}

impl Transmit for Outgoing {
    fn transmit(&mut self, to: Tuple, contents: &[u8], segment_size: usize) {
        assert!(contents.len() <= 65_000, "more than the kernel takes at once");
        let datagrams = contents.chunks(segment_size).map(|datagram| (to, datagram.to_vec()));
        let before = self.datagrams.len();
        self.datagrams.extend(datagrams);
        self.largest_batch = self.largest_batch.max(self.datagrams.len() - before);
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let now = Instant::now();
        let server = SocketAddr::from(([10, 0, 0, 1], 40000));
        let mut core = Worker::new(Config {
            announced_udp: vec![server],
            announced_tcp: Vec::new(),
            ice_consent_timeout: CONSENT_TIMEOUT,
            ntp_at: (now, 0xE000_0000_0000_0000),
        })
        .unwrap();
        let (router, capabilities) = core.create_router(&ortc::default_router_codecs()).unwrap();
        let capabilities = serde_json::to_value(capabilities).unwrap();
        Self {
            now,
            core,
            router,
            network: Network::new(seed),
            peers: Vec::new(),
            events: Vec::new(),
            tapped: Vec::new(),
            largest_batch: 0,
            own_ports: Vec::new(),
            viewers_report: false,
            capabilities: ortc::parse_rtp_capabilities(&capabilities).unwrap(),
            server,
        }
    }

    /// Makes a transport and a peer at its other end; the index of the peer is returned.
    pub(crate) fn join_as(&mut self, role: DtlsRole, profiles: &[Profile]) -> (usize, TransportId) {
        let info: WebRtcTransportInfo = self.core.create_webrtc_transport(self.router, &TRANSPORT).unwrap();
        let id = info.id;
        let address = SocketAddr::new(IpAddr::from([10, 0, 1, 1]), 10_000 + self.peers.len() as u16);
        let peer = Peer::new(self.now, address, info, role, profiles);
        self.core.connect_transport(self.now, id, peer.dtls_parameters()).unwrap();
        self.peers.push(peer);
        (self.peers.len() - 1, id)
    }

    /// A peer that is connected.
    pub(crate) fn join(&mut self) -> (usize, TransportId) {
        let (peer, transport) = self.join_as(DtlsRole::Client, &GCM_LAST);
        self.run_until(Duration::from_secs(20), |world| world.peers[peer].is_connected());
        (peer, transport)
    }

    /// A VP8 producer with one encoding for each of `ssrcs`; each one's RTX stream has the SSRC after it.
    pub(crate) fn produce(&mut self, transport: TransportId, ssrcs: &[u32]) -> ProducerInfo {
        self.produce_codec(transport, ssrcs, "video/VP8")
    }

    /// The same of another codec, under the same payload type.
    pub(crate) fn produce_codec(
        &mut self,
        transport: TransportId,
        ssrcs: &[u32],
        mime_type: &str,
    ) -> ProducerInfo {
        let format = match mime_type {
            "video/H264" => json!({"packetization-mode": 1, "profile-level-id": "42e01f"}),
            _ => json!({}),
        };
        let encodings: Vec<_> =
            ssrcs.iter().map(|ssrc| json!({"ssrc": ssrc, "rtx": {"ssrc": ssrc + 1}})).collect();
        let feedback =
            json!([{"type": "nack"}, {"type": "nack", "parameter": "pli"}, {"type": "transport-cc"}]);
        let parameters = json!({
            "codecs": [
                {
                    "mimeType": mime_type, "payloadType": VP8, "clockRate": 90000, "rtcpFeedback": feedback,
                    "parameters": format,
                },
                {"mimeType": "video/rtx", "payloadType": RTX, "clockRate": 90000, "parameters": {"apt": VP8}},
            ],
            "headerExtensions": [{
                "uri": "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
                "id": WIDE_SEQUENCE,
            }],
            "encodings": encodings,
            "rtcp": {"cname": "peer"},
        });
        let parameters = ortc::parse_rtp_parameters(&parameters).unwrap();
        self.core.produce(self.now, transport, MediaKind::Video, &parameters, false).unwrap()
    }

    /// An Opus producer.
    pub(crate) fn produce_audio(&mut self, transport: TransportId, ssrc: u32) -> ProducerInfo {
        let parameters = json!({
            "codecs": [{"mimeType": "audio/opus", "payloadType": OPUS, "clockRate": 48000, "channels": 2}],
            "encodings": [{"ssrc": ssrc}],
            "rtcp": {"cname": "peer"},
        });
        let parameters = ortc::parse_rtp_parameters(&parameters).unwrap();
        self.core.produce(self.now, transport, MediaKind::Audio, &parameters, false).unwrap()
    }

    /// A paused consumer; the peer knows its streams. The SSRC of the media is returned with it.
    pub(crate) fn consume(
        &mut self,
        peer: usize,
        transport: TransportId,
        producer: &ProducerInfo,
    ) -> (ConsumerInfo, u32) {
        let mut capabilities = self.capabilities.clone();
        if !self.viewers_report {
            capabilities
                .header_extensions
                .retain(|known| known.uri != RtpHeaderExtensionUri::TransportWideCcDraft01);
        }
        for codec in capabilities.codecs.iter_mut().filter(|_| !self.viewers_report) {
            let (RtpCodecCapability::Audio { rtcp_feedback, .. }
            | RtpCodecCapability::Video { rtcp_feedback, .. }) = codec;
            rtcp_feedback.retain(|kind| !matches!(kind, RtcpFeedback::TransportCc | RtcpFeedback::GoogRemb));
        }
        let consumer = self.core.consume(self.now, transport, producer.id, &capabilities, true).unwrap();
        let encoding = &consumer.rtp_parameters.encodings[0];
        let ssrc = encoding.ssrc.unwrap();
        if let Some(rtx) = encoding.rtx {
            self.peers[peer].rtx_of.insert(rtx.ssrc, ssrc);
        }
        (consumer, ssrc)
    }

    /// A port for a plain or pipe transport.
    pub(crate) fn open_port(&mut self) -> OwnPort {
        let id = self.own_ports.len() as u32;
        let address = SocketAddr::new(self.server.ip(), 41_000 + self.own_ports.len() as u16);
        self.own_ports.push(OwnPort { id, address });
        OwnPort { id, address }
    }

    fn transfer(&mut self) {
        let mut outgoing = Outgoing { datagrams: Vec::new(), largest_batch: 0 };
        self.core.flush(self.now, &mut outgoing);
        self.largest_batch = self.largest_batch.max(outgoing.largest_batch);
        for (to, datagram) in outgoing.datagrams {
            let port = self.own_ports.iter().find(|port| SocketId::Own(port.id) == to.socket);
            let from = port.map_or(self.server, |port| port.address);
            self.network.send(self.now, from, to.remote, datagram);
        }
        for peer in &mut self.peers {
            while let Some(datagram) = peer.outbox.pop_front() {
                if peer.alive {
                    self.network.send(self.now, peer.address, self.server, datagram);
                }
            }
        }
        self.events.extend(std::iter::from_fn(|| self.core.poll_event()));
        self.tapped.extend(std::iter::from_fn(|| self.core.poll_tapped().map(|(_, output)| output)));
    }

    /// Lets everything happen that is due up to `until`.
    pub(crate) fn run_to(&mut self, until: Instant) {
        loop {
            self.transfer();
            let peers = self.peers.iter().filter_map(Peer::poll_timeout).min();
            let due = [self.network.next_due(), self.core.poll_timeout(), peers].into_iter().flatten().min();
            let Some(due) = due.filter(|due| *due <= until) else { break };
            self.now = self.now.max(due);
            while let Some(mut datagram) = self.network.receive(self.now) {
                if datagram.to == self.server {
                    let from = Tuple::shared(datagram.from);
                    self.core.handle_datagram(self.now, from, &mut datagram.contents);
                } else if let Some(port) = self.own_ports.iter().find(|port| port.address == datagram.to) {
                    let from = Tuple { socket: SocketId::Own(port.id), remote: datagram.from, local: None };
                    self.core.handle_datagram(self.now, from, &mut datagram.contents);
                } else if let Some(peer) = self.peers.iter_mut().find(|peer| peer.address == datagram.to) {
                    peer.handle_datagram(self.now, datagram.contents);
                }
            }
            self.core.handle_timeout(self.now);
            self.peers.iter_mut().for_each(|peer| peer.handle_timeout(self.now));
        }
        self.now = until;
    }

    pub(crate) fn run(&mut self, time: Duration) {
        self.run_to(self.now + time);
    }

    /// Runs until something is so.
    pub(crate) fn run_until(&mut self, at_most: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.now + at_most;
        while !done(self) {
            assert!(self.now < end, "not so within {at_most:?}");
            self.run(Duration::from_millis(10));
        }
    }
}

/// A camera: a VP8 frame 30 times a second, a key frame first and whenever one was asked for.
pub(crate) struct Camera {
    pub(crate) peer: usize,
    pub(crate) ssrc: u32,
    pub(crate) packets_per_frame: usize,
    /// Payload bytes of a packet, about.
    packet_len: usize,
    /// How many times as many packets a key frame has.
    pub(crate) key_frame_factor: usize,
    /// Whether the next frame is a key frame although nobody asked for one.
    pub(crate) wants_key_frame: bool,
    pub(crate) sequence: u64,
    pub(crate) frames: u32,
    pub(crate) key_frames: usize,
    key_frames_asked: usize,
}

impl Camera {
    pub(crate) fn new(peer: usize, ssrc: u32, packets_per_frame: usize) -> Self {
        Self {
            peer,
            ssrc,
            packets_per_frame,
            packet_len: 1000,
            key_frame_factor: 1,
            wants_key_frame: false,
            sequence: 65_000,
            frames: 0,
            key_frames: 0,
            key_frames_asked: 0,
        }
    }

    /// A camera with about this bitrate, whose key frames are four times as large as others.
    pub(crate) fn with_bitrate(peer: usize, ssrc: u32, kbps: usize) -> Self {
        let mut camera = Self { key_frame_factor: 4, ..Self::new(peer, ssrc, 1) };
        camera.set_bitrate(kbps);
        camera
    }

    /// From the next frame on.
    pub(crate) fn set_bitrate(&mut self, kbps: usize) {
        let frame = kbps * 1000 / 8 / 30;
        self.packets_per_frame = frame.div_ceil(1000);
        self.packet_len = (frame / self.packets_per_frame).saturating_sub(14);
    }

    /// Sends one frame.
    pub(crate) fn shoot(&mut self, world: &mut World) {
        let peer = &mut world.peers[self.peer];
        peer.now = world.now;
        let asked = peer.asked.iter().filter(|(ssrc, _)| *ssrc == self.ssrc).count();
        let wanted = std::mem::take(&mut self.wants_key_frame);
        let is_key = self.frames == 0 || asked > self.key_frames_asked || wanted;
        self.key_frames_asked = asked;
        self.key_frames += usize::from(is_key);
        let packets = self.packets_per_frame * if is_key { self.key_frame_factor } else { 1 };
        for packet in 0..packets {
            let mut payload = vec![if packet == 0 { 0x10 } else { 0 }, u8::from(!is_key)];
            // As encoders cut frames: about equal, the later packets a byte longer.
            let length = self.packet_len + usize::from(packet >= packets / 2);
            payload.extend(std::iter::repeat_n(packet as u8, length));
            let marker = packet + 1 == packets;
            peer.send_rtp(self.ssrc, VP8, self.sequence, self.frames * 3000, marker, &payload);
            self.sequence += 1;
        }
        self.frames += 1;
    }
}

/// Films with all cameras for a number of frames.
pub(crate) fn film(world: &mut World, cameras: &mut [&mut Camera], frames: u32) {
    for _ in 0..frames {
        cameras.iter_mut().for_each(|camera| camera.shoot(world));
        world.run(Duration::from_micros(33_333));
    }
}
