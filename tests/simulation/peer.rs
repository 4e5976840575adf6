//! A browser as far as a transport can tell: it checks ICE, shakes hands, sends frames and answers NACKs, and asks
//! again for what it misses. Everything it knows it was told by signalling.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use bytes::BytesMut;
use mediasoup_types::data_structures::{DtlsFingerprint, DtlsParameters, DtlsRole, IceParameters};
use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile as Profile;
use rtc_shared::TransportProtocol;
use rtc_stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_USE_CANDIDATE, ATTR_USERNAME};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, Message, Setter, TransactionId};
use weir::media::rtcp::{self, Item};
use weir::media::rtp::RtpView;
use weir::sfu::api::WebRtcTransportInfo;
use weir::sfu::bandwidth::arrivals::Arrivals;
use weir::sfu::srtp::{self, Receiver, Sender, Suite};

use crate::sctp_peer::SctpPeer;

const CHECK_INTERVAL: Duration = Duration::from_millis(2500);
const NACK_INTERVAL: Duration = Duration::from_millis(40);
const MAX_NACKS: u32 = 12;
const HISTORY: usize = 2000;

/// Id of the transport-wide sequence number's header extension, and the first number, shortly before the wrap.
pub(crate) const WIDE_SEQUENCE: u8 = 7;
/// The id of the dependency descriptor, here and at the server.
pub(crate) const DEPENDENCY: u8 = 8;
/// The id of the absolute send time.
pub(crate) const ABS_SEND_TIME: u8 = 4;
/// Ids of the extensions that name streams: MID, RID and repaired RID.
pub(crate) const NAMES: [u8; 3] = [1, 2, 3];
/// The id of the audio level extension.
pub(crate) const AUDIO_LEVEL: u8 = 6;
/// The payload type of Opus.
pub(crate) const OPUS: u8 = 111;
/// Id under which the server writes its own, and how often a viewer reports on them.
const SERVER_WIDE_SEQUENCE: u8 = 5;
const FEEDBACK_INTERVAL: Duration = Duration::from_millis(100);
const FIRST_WIDE_SEQUENCE: u64 = (1 << 16) + 65_000;

pub(crate) const VP8: u8 = 96;
pub(crate) const RTX: u8 = 97;

/// What a viewer got on one stream.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) packets: BTreeMap<u64, ReceivedPacket>,
    pub(crate) retransmitted: usize,
    missing: BTreeMap<u64, (Instant, u32)>,
    highest: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReceivedPacket {
    pub(crate) dependency: Vec<u8>,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) payload: Vec<u8>,
}

impl Inbox {
    /// Share of the frames before the newest second that came whole.
    pub(crate) fn complete_frames(&self) -> (usize, usize) {
        let mut frames: BTreeMap<u32, Vec<(u64, bool, bool)>> = BTreeMap::new();
        for (sequence, packet) in &self.packets {
            let starts = packet.payload.first() == Some(&0x10);
            frames.entry(packet.timestamp).or_default().push((*sequence, starts, packet.marker));
        }
        let whole = |packets: &Vec<(u64, bool, bool)>| {
            let (first, last) = (packets[0], packets[packets.len() - 1]);
            first.1 && last.2 && last.0 - first.0 + 1 == packets.len() as u64
        };
        (frames.values().filter(|packets| whole(packets)).count(), frames.len())
    }

    pub(crate) fn has_gaps(&self) -> bool {
        let (first, last) = (self.packets.keys().next(), self.packets.keys().next_back());
        first.zip(last).is_some_and(|(first, last)| last - first + 1 != self.packets.len() as u64)
    }
}

pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) alive: bool,
    pub(crate) outbox: VecDeque<Vec<u8>>,
    pub(crate) key_frame_requests: usize,
    /// Each of them: of which stream and when.
    pub(crate) asked: Vec<(u32, Instant)>,
    pub(crate) reports: Vec<rtcp::ReportBlock>,
    pub(crate) sender_reports: Vec<rtcp::SenderInfo>,
    pub(crate) inboxes: HashMap<u32, Inbox>,
    pub(crate) suite: Option<Suite>,
    pub(crate) closed_by_server: bool,
    /// How often it asks for a packet.
    pub(crate) max_nacks: u32,
    /// RTX SSRCs of streams that this peer receives, and whose retransmissions they are.
    pub(crate) rtx_of: HashMap<u32, u32>,
    /// Streams that are known by names only: MID and RID of each SSRC.
    pub(crate) names: HashMap<u32, [&'static str; 2]>,
    provider: Arc<dyn RTCCryptoProvider>,
    server: WebRtcTransportInfo,
    dtls: Endpoint,
    is_client: bool,
    config: Arc<rtc_dtls::config::HandshakeConfig>,
    fingerprint: DtlsFingerprint,
    started: bool,
    keys: Option<(Sender, Receiver)>,
    next_check: Instant,
    sent: HashMap<(u32, u16), Vec<u8>>,
    sent_order: VecDeque<(u32, u16)>,
    rtx_sequence: u64,
    /// When each packet with a transport-wide sequence number was sent.
    pub(crate) wide_sent: Vec<Instant>,
    /// What the server told of them: index into `wide_sent`, and arrival in ticks of 250 µs if it arrived.
    pub(crate) wide_reported: Vec<(usize, Option<i64>)>,
    /// What arrived with transport-wide sequence numbers of the server's, and when that is reported next.
    arrivals: Arrivals,
    feedback_due: Option<Instant>,
    /// Whether this peer reports on what it receives.
    pub(crate) reports_arrivals: bool,
    /// Bytes of padding that came.
    pub(crate) padding: usize,
    /// Bitrates that the server allowed by REMB.
    pub(crate) allowed: Vec<u64>,
    /// The clock that its packets carry the time of, if they do.
    pub(crate) send_clock: Option<Instant>,
    pub(crate) now: Instant,
    /// Its data channels, once it opened them.
    pub(crate) sctp: Option<SctpPeer>,
}

fn association() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 1))
}

impl Peer {
    pub(crate) fn new(
        now: Instant,
        address: SocketAddr,
        server: WebRtcTransportInfo,
        role: DtlsRole,
        profiles: &[Profile],
    ) -> Self {
        let provider = rtc_crypto::default_provider().unwrap();
        let certificate =
            Certificate::generate_self_signed(vec!["peer".to_owned()], provider.crypto()).unwrap();
        let mut value = [0; 32];
        value.copy_from_slice(digest::digest(&digest::SHA256, &certificate.certificate[0]).as_ref());
        let is_client = role == DtlsRole::Client;
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider.clone())
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(profiles.to_vec())
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_insecure_skip_verify(true)
            .build(is_client, None)
            .map(Arc::new)
            .unwrap();
        let dtls = Endpoint::new(association(), TransportProtocol::UDP, (!is_client).then(|| config.clone()));
        Self {
            address,
            alive: true,
            outbox: VecDeque::new(),
            key_frame_requests: 0,
            asked: Vec::new(),
            reports: Vec::new(),
            sender_reports: Vec::new(),
            inboxes: HashMap::new(),
            suite: None,
            closed_by_server: false,
            max_nacks: MAX_NACKS,
            rtx_of: HashMap::new(),
            names: HashMap::new(),
            provider,
            server,
            dtls,
            is_client,
            config,
            fingerprint: DtlsFingerprint::Sha256 { value },
            started: false,
            keys: None,
            next_check: now,
            sent: HashMap::new(),
            sent_order: VecDeque::new(),
            rtx_sequence: 1 << 16,
            wide_sent: Vec::new(),
            wide_reported: Vec::new(),
            arrivals: Arrivals::new(now),
            feedback_due: None,
            reports_arrivals: true,
            padding: 0,
            allowed: Vec::new(),
            send_clock: None,
            now,
            sctp: None,
        }
    }

    pub(crate) fn dtls_parameters(&self) -> DtlsParameters {
        let role = if self.is_client { DtlsRole::Client } else { DtlsRole::Server };
        DtlsParameters { role, fingerprints: vec![self.fingerprint] }
    }

    /// Signalling told new ICE credentials: checks use them from now on.
    pub(crate) fn restart_ice(&mut self, now: Instant, parameters: IceParameters) {
        self.server.ice_parameters = parameters;
        self.next_check = now;
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.keys.is_some()
    }

    /// A connectivity check as the controlling agent sends it.
    pub(crate) fn check(&self, password: &str) -> Vec<u8> {
        let mut message = Message::new();
        message.build(&[Box::new(BINDING_REQUEST), Box::new(TransactionId::new())]).unwrap();
        message
            .add(ATTR_USERNAME, format!("{}:peer", self.server.ice_parameters.username_fragment).as_bytes());
        message.add(ATTR_ICE_CONTROLLING, &[7; 8]);
        message.add(ATTR_USE_CANDIDATE, &[]);
        MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), self.provider.crypto())
            .add_to(&mut message)
            .unwrap();
        FINGERPRINT.add_to(&mut message).unwrap();
        message.raw
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if !self.alive {
            return None;
        }
        let nacks = self.inboxes.values().flat_map(|inbox| inbox.missing.values().map(|(at, _)| *at)).min();
        let sctp = self.sctp.as_ref().and_then(SctpPeer::poll_timeout);
        let dtls = self.dtls.poll_timeout(&association());
        [Some(self.next_check), self.feedback_due, dtls, nacks, sctp].into_iter().flatten().min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if !self.alive {
            return;
        }
        if self.next_check <= now {
            self.next_check = now + if self.started { CHECK_INTERVAL } else { Duration::from_millis(100) };
            self.outbox.push_back(self.check(&self.server.ice_parameters.password.clone()));
        }
        if self.dtls.poll_timeout(&association()).is_some_and(|due| due <= now) {
            self.dtls.handle_timeout(association(), now).unwrap();
        }
        self.sctp.iter_mut().for_each(|sctp| sctp.handle_timeout(now));
        self.drain_dtls(now);
        self.ask_again(now);
        if self.feedback_due.is_some_and(|due| due <= now) {
            self.feedback_due = None;
            let mut messages = Vec::new();
            self.arrivals.report(now, 1, 2, |message| messages.push(message));
            messages.into_iter().for_each(|message| self.send_rtcp(message));
        }
    }

    fn ask_again(&mut self, now: Instant) {
        let mut compound = Vec::new();
        for (ssrc, inbox) in &mut self.inboxes {
            inbox.missing.retain(|_, (_, asked)| *asked < self.max_nacks);
            let due: Vec<u64> = inbox
                .missing
                .iter()
                .filter(|(_, (at, _))| *at <= now)
                .map(|(sequence, _)| *sequence)
                .collect();
            for sequence in &due {
                inbox.missing.insert(*sequence, (now + NACK_INTERVAL, inbox.missing[sequence].1 + 1));
            }
            if !due.is_empty() {
                let wire: Vec<u16> = due.iter().map(|sequence| *sequence as u16).collect();
                rtcp::write_nack(&mut compound, 1, *ssrc, &wire);
            }
        }
        if !compound.is_empty() {
            self.send_rtcp(compound);
        }
    }

    pub(crate) fn send_rtcp(&mut self, compound: Vec<u8>) {
        let Some((sender, _)) = &mut self.keys else { return };
        self.outbox.push_back(sender.protect_rtcp(compound).unwrap());
    }

    /// Sends one RTP packet; `index` is its extended sequence number.
    pub(crate) fn send_rtp(
        &mut self,
        ssrc: u32,
        payload_type: u8,
        index: u64,
        timestamp: u32,
        marker: bool,
        payload: &[u8],
    ) {
        self.send_described(ssrc, payload_type, index, timestamp, marker, &[], payload);
    }

    /// The same with a dependency descriptor.
    #[expect(clippy::too_many_arguments, reason = "the fields of a packet")]
    pub(crate) fn send_described(
        &mut self,
        ssrc: u32,
        payload_type: u8,
        index: u64,
        timestamp: u32,
        marker: bool,
        dependency: &[u8],
        payload: &[u8],
    ) {
        let mut packet = vec![0x90, u8::from(marker) << 7 | payload_type];
        packet.extend((index as u16).to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend(ssrc.to_be_bytes());
        let wide = (FIRST_WIDE_SEQUENCE + self.wide_sent.len() as u64) as u16;
        let mut elements = vec![WIDE_SEQUENCE, 2];
        elements.extend(wide.to_be_bytes());
        let mut add = |id: u8, value: &[u8]| {
            elements.extend([id, value.len() as u8]);
            elements.extend(value);
        };
        if !dependency.is_empty() {
            add(DEPENDENCY, dependency);
        }
        if let Some(epoch) = self.send_clock {
            let time = ((self.now - epoch).as_micros() << 18) / 1_000_000;
            add(ABS_SEND_TIME, &(time as u32).to_be_bytes()[1..]);
        }
        let repaired = if payload_type == RTX { ssrc - 1 } else { ssrc };
        if let Some([mid, rid]) = self.names.get(&repaired) {
            add(NAMES[0], mid.as_bytes());
            add(if payload_type == RTX { NAMES[2] } else { NAMES[1] }, rid.as_bytes());
        }
        elements.resize(elements.len().next_multiple_of(4), 0);
        packet.extend([0x10, 0, 0, (elements.len() / 4) as u8]);
        packet.extend(&elements);
        let header_len = 16 + elements.len();
        packet.extend(payload);
        self.wide_sent.push(self.now);
        let key = (ssrc, index as u16);
        if payload_type != RTX {
            self.sent.insert(key, packet.clone());
            self.sent_order.push_back(key);
            if self.sent_order.len() > HISTORY {
                let old = self.sent_order.pop_front().unwrap();
                self.sent.remove(&old);
            }
        }
        let (sender, _) = self.keys.as_mut().expect("connected");
        sender.protect_rtp(&mut packet, 0, header_len, ssrc, index).unwrap();
        self.outbox.push_back(packet);
    }

    /// Sends 20 ms of sound of this level (RFC 6464: in -dBov).
    pub(crate) fn send_audio(&mut self, ssrc: u32, index: u64, level: u8) {
        let mut packet = vec![0x90, OPUS];
        packet.extend((index as u16).to_be_bytes());
        packet.extend((index as u32 * 960).to_be_bytes());
        packet.extend(ssrc.to_be_bytes());
        packet.extend([0xBE, 0xDE, 0, 1, AUDIO_LEVEL << 4, level, 0, 0]);
        packet.extend([0; 20]);
        let (sender, _) = self.keys.as_mut().expect("connected");
        sender.protect_rtp(&mut packet, 0, 20, ssrc, index).unwrap();
        self.outbox.push_back(packet);
    }

    pub(crate) fn handle_datagram(&mut self, now: Instant, mut datagram: Vec<u8>) {
        self.now = now;
        match datagram.first() {
            Some(0..=3) => {
                let is_first = !std::mem::replace(&mut self.started, true);
                if is_first && self.is_client {
                    self.dtls.connect(now, association(), self.config.clone(), None).unwrap();
                }
            }
            Some(20..=63) => {
                let events = self.dtls.read(now, association(), None, BytesMut::from(&datagram[..]));
                for event in events.unwrap_or_default() {
                    match event {
                        EndpointEvent::HandshakeComplete => self.export_keys(),
                        EndpointEvent::ApplicationData(packet) => {
                            self.sctp
                                .iter_mut()
                                .for_each(|sctp| sctp.handle_packet(now, packet.clone().freeze()));
                        }
                        EndpointEvent::PeerClosed => self.closed_by_server = true,
                        _ => {}
                    }
                }
            }
            _ if self.keys.is_some() => {
                if matches!(datagram.get(1), Some(192..=223)) {
                    self.handle_rtcp(&mut datagram);
                } else {
                    self.handle_rtp(now, &mut datagram);
                }
            }
            _ => {}
        }
        self.drain_dtls(now);
    }

    /// Sends something through DTLS.
    pub(crate) fn send_application_data(&mut self, now: Instant, data: &[u8]) {
        self.dtls.write(now, association(), data).unwrap();
    }

    fn drain_dtls(&mut self, now: Instant) {
        let packets = self.sctp.iter_mut().flat_map(|sctp| sctp.outbox.drain(..)).collect::<Vec<_>>();
        packets.iter().for_each(|packet| self.send_application_data(now, packet));
        while let Some(transmit) = self.dtls.poll_transmit() {
            self.outbox.push_back(transmit.message.to_vec());
        }
    }

    fn export_keys(&mut self) {
        let state = self.dtls.get_connection_state(association()).unwrap();
        let suite = match state.srtp_protection_profile() {
            Profile::Srtp_Aead_Aes_128_Gcm => Suite::AeadAes128Gcm,
            Profile::Srtp_Aes128_Cm_Hmac_Sha1_80 => Suite::AesCm128HmacSha1_80,
            other => panic!("{other:?}"),
        };
        let material =
            state.export_keying_material("EXTRACTOR-dtls_srtp", &[], suite.keying_material_len()).unwrap();
        let material = material.into_bytes();
        self.keys = Some(srtp::sessions(suite, &self.provider, &material, self.is_client).unwrap());
        self.suite = Some(suite);
    }

    fn handle_rtp(&mut self, now: Instant, datagram: &mut [u8]) {
        let (sequence, ssrc) = weir::media::rtp::sequence_and_ssrc(datagram).unwrap();
        // Streams are short here and start below the wrap: the highest index of the stream is its reference.
        let media_ssrc = self.rtx_of.get(&ssrc).copied();
        let reference =
            self.inboxes.get(&ssrc).and_then(|inbox| inbox.highest).unwrap_or(u64::from(sequence));
        let index = weir::media::rtp::extend_sequence(reference, sequence);
        let (_, receiver) = self.keys.as_mut().expect("connected");
        let len = receiver.unprotect_rtp(datagram, ssrc, index).expect("authentic");
        let view = RtpView::parse(&datagram[..len]).unwrap();
        let wide = view.extensions().find(|(id, _)| *id == SERVER_WIDE_SEQUENCE).map(|(_, value)| value);
        if let Some(wide) = wide.and_then(|wide| wide.try_into().ok()).filter(|_| self.reports_arrivals) {
            self.arrivals.note(now, u16::from_be_bytes(wide));
            self.feedback_due.get_or_insert(now + FEEDBACK_INTERVAL);
        }
        if view.payload().is_empty() {
            self.padding += len;
            self.inboxes.entry(ssrc).or_default().highest.replace(reference.max(index));
            return;
        }
        let packet = |payload: &[u8]| ReceivedPacket {
            dependency: extension(&view, DEPENDENCY).to_vec(),
            timestamp: view.timestamp(),
            marker: view.marker(),
            payload: payload.to_vec(),
        };
        self.inboxes.entry(ssrc).or_default().highest.replace(reference.max(index));
        let Some(media_ssrc) = media_ssrc else {
            let stored = packet(view.payload());
            self.store(now, ssrc, index, stored);
            return;
        };
        let (original, payload) = view.payload().split_at(2);
        let original = u16::from_be_bytes(original.try_into().unwrap());
        let stored = packet(payload);
        let inbox = self.inboxes.entry(media_ssrc).or_default();
        inbox.retransmitted += 1;
        let index = weir::media::rtp::extend_sequence(inbox.highest.unwrap(), original);
        self.store(now, media_ssrc, index, stored);
    }

    fn store(&mut self, now: Instant, ssrc: u32, index: u64, packet: ReceivedPacket) {
        let inbox = self.inboxes.entry(ssrc).or_default();
        let newest = inbox.packets.keys().next_back().copied().unwrap_or(index);
        for lost in newest + 1..index {
            inbox.missing.insert(lost, (now, 0));
        }
        inbox.missing.remove(&index);
        inbox.packets.insert(index, packet);
    }

    fn handle_rtcp(&mut self, datagram: &mut [u8]) {
        let (_, receiver) = self.keys.as_mut().expect("connected");
        let len = receiver.unprotect_rtcp(datagram).expect("authentic");
        let mut items = Vec::new();
        rtcp::read(&datagram[..len], |item| items.push(item)).unwrap();
        for item in items {
            match item {
                Item::KeyFrameRequest { ssrc } => {
                    self.key_frame_requests += 1;
                    self.asked.push((ssrc, self.now));
                }
                Item::Report(report) => self.reports.push(report),
                Item::SenderInfo(info) => self.sender_reports.push(info),
                Item::Nack { ssrc, first, following } => {
                    for sequence in rtcp::nacked(first, following) {
                        self.retransmit(ssrc, sequence);
                    }
                }
                Item::TransportFeedback(feedback) => {
                    let base = i64::from(feedback.reference) * 256;
                    for (sequence, ticks) in feedback.packets() {
                        let newest = FIRST_WIDE_SEQUENCE + self.wide_sent.len() as u64;
                        let index = weir::media::rtp::extend_sequence(newest, sequence) - FIRST_WIDE_SEQUENCE;
                        self.wide_reported.push((index as usize, ticks.map(|ticks| base + ticks)));
                    }
                }
                Item::EstimatedBitrate(bitrate) => self.allowed.push(bitrate),
                Item::Bye { .. } => {}
            }
        }
    }

    fn retransmit(&mut self, ssrc: u32, sequence: u16) {
        let Some(packet) = self.sent.get(&(ssrc, sequence)).cloned() else { return };
        let view = RtpView::parse(&packet).unwrap();
        let mut payload = sequence.to_be_bytes().to_vec();
        payload.extend(view.payload());
        self.rtx_sequence += 1;
        let (index, dependency) = (self.rtx_sequence & 0xFFFF, extension(&view, DEPENDENCY));
        self.send_described(ssrc + 1, RTX, index, view.timestamp(), view.marker(), dependency, &payload);
    }
}

/// The value of a header extension, empty if it is not there.
fn extension<'a>(view: &RtpView<'a>, id: u8) -> &'a [u8] {
    view.extensions().find(|(known, _)| *known == id).map_or(&[], |(_, value)| value)
}
