//! One WebRTC transport of a simulated client: a UDP socket and a task that does ICE, DTLS and SRTP on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use mediasoup_types::sctp_parameters::SctpStreamParameters;
use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_rtcp::packet::Packet as RtcpPacket;
use rtc_rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::sender_report::SenderReport;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};
use rtc_rtp::Packet as RtpPacket;
use rtc_shared::marshal::{Marshal, Unmarshal};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use super::dtls::{BROWSER_PROFILES, Dtls, Identity, Progress, Role, Srtp};
use super::observed::{Observations, Shared};
use super::path::{Path, server_address};
use super::sctp_peer::SctpPeer;
use super::stun::{self, Credentials};

/// Commands that may wait for the task.
const MAX_COMMANDS: usize = 4096;
/// How often an unanswered check is repeated.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// How a client behaves; the default is well.
#[derive(Debug, Clone)]
pub(crate) struct Behaviour {
    /// Its side of DTLS.
    pub(crate) role: Role,
    /// The SRTP profiles that it offers or accepts.
    pub(crate) profiles: Vec<SrtpProtectionProfile>,
    /// What it uses instead of the server's ICE password.
    pub(crate) wrong_password: Option<String>,
    /// How often it sends consent checks once it is connected (RFC 7675).
    pub(crate) consent_interval: Duration,
    /// Whether it uses TCP because its network lets no UDP through.
    pub(crate) tcp: bool,
    /// Which of the server's addresses for that protocol it uses.
    pub(crate) candidate: usize,
    /// Of the media packets of a stream, the n-th ones that it does not take in (0 is the first).
    pub(crate) loses: Vec<u64>,
    /// Of the RTP packets that it sends, the n-th ones that never reach the network.
    pub(crate) drops: Vec<u64>,
    /// Whether it opens an SCTP association once DTLS is up.
    pub(crate) data_channels: bool,
    /// Its certificate, if the server was told of it before it said anything itself.
    pub(crate) identity: Option<Identity>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            role: Role::Client,
            profiles: BROWSER_PROFILES.to_vec(),
            wrong_password: None,
            consent_interval: Duration::from_millis(1000),
            tcp: false,
            candidate: 0,
            loses: Vec::new(),
            drops: Vec::new(),
            data_channels: false,
            identity: None,
        }
    }
}

/// Something to do with the data channels.
type OnSctp = Box<dyn FnOnce(&mut SctpPeer, Instant) + Send>;

enum Command {
    Rtp(Vec<u8>),
    Rtcp(Vec<u8>),
    Raw(Vec<u8>),
    Data(OnSctp),
    Goodbye,
}

/// A transport that knows its keys and has sent nothing yet, as a browser before `setRemoteDescription`.
pub(crate) struct Prepared {
    id: String,
    link: Link,
}

impl Prepared {
    /// Makes the client's end of what `createWebRtcTransport` answered.
    pub(crate) async fn new(info: &Value, behaviour: Behaviour) -> Result<Self> {
        let text = |pointer: &str| {
            info.pointer(pointer).and_then(Value::as_str).with_context(|| format!("{pointer} of {info}"))
        };
        let remote = server_address(info, behaviour.tcp, behaviour.candidate)?;
        let password = text("/iceParameters/password")?.to_owned();
        let remote_credentials = Credentials {
            ufrag: text("/iceParameters/usernameFragment")?.to_owned(),
            password: behaviour.wrong_password.clone().unwrap_or(password),
        };
        let path = Path::open(remote, behaviour.tcp).await?;
        let crypto = rtc_crypto::default_provider().map_err(|error| anyhow!("{error}"))?;
        let local = path.local_addr()?;
        let identity = behaviour.identity.clone().map_or_else(Identity::new, Ok)?;
        let (role, profiles) = (behaviour.role, &behaviour.profiles);
        let dtls = Dtls::of(identity, role, profiles, (local, remote), Arc::clone(&crypto))?;
        let link = Link {
            path,
            remote,
            credentials: Credentials { ufrag: "clnt".into(), password: "client-password-client-pw".into() },
            remote_credentials,
            server_fingerprint: server_fingerprint(info)?,
            crypto,
            dtls,
            srtp: None,
            sctp: None,
            started: false,
            rtp_sent: 0,
            next_check: Instant::now(),
            behaviour,
            seen: Shared::new(),
        };
        Ok(Self { id: text("/id")?.to_owned(), link })
    }

    /// The server's id of the transport.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// What `connectTransport` has to be told.
    pub(crate) fn dtls_parameters(&self) -> Value {
        self.link.dtls.parameters()
    }

    /// Begins with ICE.
    pub(crate) fn begin(self) -> Transport {
        let (commands, inbox) = mpsc::channel(MAX_COMMANDS);
        let seen = self.link.seen.clone();
        let remote = self.link.remote;
        Transport { id: self.id, seen, remote, commands, task: tokio::spawn(self.link.run(inbox)) }
    }
}

/// One transport.
pub(crate) struct Transport {
    /// The server's id of it.
    pub(crate) id: String,
    /// What it has seen.
    pub(crate) seen: Shared,
    /// The server's media address.
    pub(crate) remote: SocketAddr,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

impl Transport {
    /// Waits until media can flow and gives the SRTP profile.
    pub(crate) async fn connected(&self) -> Result<SrtpProtectionProfile> {
        self.seen.wait("ICE and DTLS", |seen| seen.profile).await
    }

    pub(crate) async fn send_rtp(&self, packet: Vec<u8>) -> Result<()> {
        self.command(Command::Rtp(packet)).await
    }

    pub(crate) async fn send_rtcp(&self, packet: Vec<u8>) -> Result<()> {
        self.command(Command::Rtcp(packet)).await
    }

    /// Sends a datagram as it is.
    pub(crate) async fn send_raw(&self, datagram: Vec<u8>) -> Result<()> {
        self.command(Command::Raw(datagram)).await
    }

    /// Opens this end of a data channel that was signalled.
    pub(crate) async fn open_channel(&self, parameters: SctpStreamParameters) -> Result<()> {
        self.command(Command::Data(Box::new(move |sctp, _| sctp.open(&parameters)))).await
    }

    /// Closes a data channel, as `mediasoup-client` does before it tells the server.
    pub(crate) async fn close_channel(&self, stream: u16) -> Result<()> {
        self.command(Command::Data(Box::new(move |sctp, now| sctp.close(now, stream)))).await
    }

    /// Sends a text on a data channel.
    pub(crate) async fn send_text(&self, stream: u16, text: String) -> Result<()> {
        let send = move |sctp: &mut SctpPeer, now| sctp.send(now, stream, true, text.as_bytes());
        self.command(Command::Data(Box::new(send))).await
    }

    /// Asks the server for packets again (RFC 4585 section 6.2.1).
    pub(crate) async fn send_nack(&self, ssrc: u32, sequences: &[u16]) -> Result<()> {
        let nacks = nack_pairs_from_sequence_numbers(sequences);
        let nack = TransportLayerNack { sender_ssrc: 1, media_ssrc: ssrc, nacks };
        self.send_rtcp(nack.marshal()?.to_vec()).await
    }

    /// Asks the server for a key frame (RFC 4585 section 6.3.1).
    pub(crate) async fn send_pli(&self, ssrc: u32) -> Result<()> {
        let pli = PictureLossIndication { sender_ssrc: 1, media_ssrc: ssrc };
        self.send_rtcp(pli.marshal()?.to_vec()).await
    }

    /// Says goodbye in DTLS and ends.
    pub(crate) async fn goodbye(self) -> Result<()> {
        self.command(Command::Goodbye).await?;
        self.commands.closed().await;
        Ok(())
    }

    /// Falls silent at once.
    pub(crate) fn vanish(&self) {
        self.task.abort();
    }

    async fn command(&self, command: Command) -> Result<()> {
        self.commands.send(command).await.map_err(|_| anyhow!("the transport has ended"))
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn server_fingerprint(info: &Value) -> Result<String> {
    let fingerprints = info.pointer("/dtlsParameters/fingerprints").and_then(Value::as_array);
    let sha256 = fingerprints
        .context("fingerprints")?
        .iter()
        .find(|fingerprint| fingerprint.get("algorithm").and_then(Value::as_str) == Some("sha-256"));
    let value = sha256.and_then(|fingerprint| fingerprint.get("value")).and_then(Value::as_str);
    Ok(value.context("a sha-256 fingerprint")?.to_owned())
}

/// The task's state.
struct Link {
    path: Path,
    remote: SocketAddr,
    credentials: Credentials,
    remote_credentials: Credentials,
    server_fingerprint: String,
    crypto: Arc<dyn RTCCryptoProvider>,
    dtls: Dtls,
    srtp: Option<Srtp>,
    sctp: Option<SctpPeer>,
    started: bool,
    rtp_sent: u64,
    next_check: Instant,
    behaviour: Behaviour,
    seen: Shared,
}

impl Link {
    async fn run(mut self, inbox: mpsc::Receiver<Command>) {
        if let Err(error) = self.serve(inbox).await {
            self.seen.update(|seen| seen.failure = Some(format!("{error:#}")));
        }
    }

    async fn serve(&mut self, mut inbox: mpsc::Receiver<Command>) -> Result<()> {
        loop {
            let now = Instant::now();
            if now >= self.next_check {
                self.check(now).await?;
            }
            self.dtls.handle_timeout(now)?;
            self.sctp.iter_mut().for_each(|sctp| sctp.handle_timeout(now));
            self.flush().await?;
            let sctp = self.sctp.as_ref().and_then(SctpPeer::poll_timeout);
            let wake =
                [self.dtls.poll_timeout(), sctp].into_iter().flatten().fold(self.next_check, Instant::min);
            tokio::select! {
                received = self.path.receive() => self.receive(&mut received?)?,
                command = inbox.recv() => match command {
                    Some(Command::Goodbye) => {
                        self.dtls.close(Instant::now())?;
                        return self.flush().await;
                    }
                    Some(command) => self.send(command).await?,
                    None => return Ok(()),
                },
                () = sleep_until(wake.into()) => {}
            }
        }
    }

    async fn check(&mut self, now: Instant) -> Result<()> {
        let request = stun::binding_request(&self.credentials, &self.remote_credentials, &*self.crypto)?;
        self.path.send(&request).await?;
        let interval = if self.started { self.behaviour.consent_interval } else { CHECK_INTERVAL };
        self.next_check = now + interval;
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        if let Some(sctp) = &mut self.sctp {
            for packet in sctp.outbox.drain(..) {
                self.dtls.write(Instant::now(), &packet)?;
            }
            let (connected, received) = (sctp.is_connected, std::mem::take(&mut sctp.received));
            if connected && (!received.is_empty() || !self.seen.lock().has_data_channels) {
                self.seen.update(|seen| {
                    seen.has_data_channels = true;
                    for (stream, messages) in received {
                        seen.messages.entry(stream).or_default().extend(messages);
                    }
                });
            }
        }
        while let Some(datagram) = self.dtls.poll_transmit() {
            self.path.send(&datagram).await?;
        }
        Ok(())
    }

    async fn send(&mut self, command: Command) -> Result<()> {
        let datagram = match (command, &mut self.srtp) {
            (Command::Raw(datagram), _) => datagram,
            (Command::Data(act), _) => {
                if let Some(sctp) = &mut self.sctp {
                    act(sctp, Instant::now());
                }
                return Ok(());
            }
            (Command::Rtp(packet), Some(srtp)) => {
                let index = self.rtp_sent;
                self.rtp_sent += 1;
                if self.behaviour.drops.contains(&index) {
                    return Ok(());
                }
                srtp.outbound.encrypt_rtp(&packet)?.to_vec()
            }
            (Command::Rtcp(packet), Some(srtp)) => srtp.outbound.encrypt_rtcp(&packet)?.to_vec(),
            // As in browsers, media that comes before the keys is lost.
            _ => return Ok(()),
        };
        self.path.send(&datagram).await?;
        Ok(())
    }

    /// Tells protocols apart by the first byte (RFC 7983 section 7).
    fn receive(&mut self, datagram: &mut [u8]) -> Result<()> {
        match datagram.first() {
            Some(0..=3) => {
                if stun::is_success(datagram, &self.remote_credentials.password, &*self.crypto)? {
                    self.seen.update(|seen| seen.stun_successes += 1);
                    if !std::mem::replace(&mut self.started, true) {
                        self.dtls.start(Instant::now())?;
                    }
                }
            }
            Some(20..=63) => match self.dtls.handle(Instant::now(), datagram)? {
                Progress::Connected => {
                    let srtp = self.dtls.srtp(&self.server_fingerprint)?;
                    self.seen.update(|seen| seen.profile = Some(srtp.profile));
                    self.srtp = Some(srtp);
                    self.sctp = self.behaviour.data_channels.then(|| SctpPeer::connect(Instant::now()));
                }
                Progress::Closed => self.seen.update(|seen| seen.closed_by_server = true),
                Progress::None => {
                    for packet in self.dtls.take_received() {
                        self.sctp.iter_mut().for_each(|sctp| {
                            sctp.handle_packet(Instant::now(), packet.clone().freeze());
                        });
                    }
                }
            },
            Some(128..=191) => self.receive_srtp(datagram),
            _ => self.seen.update(|seen| seen.unreadable += 1),
        }
        Ok(())
    }

    fn receive_srtp(&mut self, datagram: &[u8]) {
        let Some(srtp) = &mut self.srtp else {
            return;
        };
        // RFC 5761 section 4: RTCP packet types look like these payload types.
        let rtcp = datagram.get(1).is_some_and(|byte| (192..=223).contains(byte));
        let read = if rtcp {
            srtp.inbound.decrypt_rtcp(datagram).map_err(anyhow::Error::from).and_then(|mut packet| {
                let packets = rtc_rtcp::packet::unmarshal(&mut packet)?;
                self.seen.update(|seen| take_rtcp(seen, &packets));
                Ok(())
            })
        } else {
            srtp.inbound.decrypt_rtp(datagram).map_err(anyhow::Error::from).and_then(|packet| {
                let packet = RtpPacket::unmarshal(&mut packet.freeze())?;
                let loses = &self.behaviour.loses;
                self.seen.update(|seen| take_rtp(seen, &packet, loses));
                Ok(())
            })
        };
        if read.is_err() {
            self.seen.update(|seen| seen.unreadable += 1);
        }
    }
}

fn take_rtp(seen: &mut Observations, packet: &RtpPacket, loses: &[u64]) {
    let ssrc = packet.header.ssrc;
    let Some(media) = seen.repairs.get(&ssrc).copied() else {
        let stream = seen.streams.entry(ssrc).or_default();
        let arrived = stream.packets + stream.lost;
        if loses.contains(&arrived) {
            stream.lost += 1;
        } else {
            stream.take(packet, packet.header.sequence_number, &packet.payload, false);
        }
        return;
    };
    // RFC 4588 section 4: the original sequence number comes before the original payload.
    if let Some((original, payload)) = packet.payload.split_first_chunk::<2>() {
        let sequence = u16::from_be_bytes(*original);
        seen.streams.entry(media).or_default().take(packet, sequence, payload, true);
    }
}

fn take_rtcp(seen: &mut Observations, packets: &[Box<dyn RtcpPacket>]) {
    for packet in packets {
        let packet = packet.as_any();
        if let Some(pli) = packet.downcast_ref::<PictureLossIndication>() {
            *seen.key_frame_requests.entry(pli.media_ssrc).or_default() += 1;
        } else if let Some(fir) = packet.downcast_ref::<FullIntraRequest>() {
            for entry in &fir.fir {
                *seen.key_frame_requests.entry(entry.ssrc).or_default() += 1;
            }
        } else if let Some(nack) = packet.downcast_ref::<TransportLayerNack>() {
            let lost = nack.nacks.iter().flat_map(|pair| pair.packet_list());
            seen.nacks.entry(nack.media_ssrc).or_default().extend(lost);
        } else if let Some(report) = packet.downcast_ref::<SenderReport>() {
            seen.sender_reports.insert(report.ssrc, report.clone());
        } else if let Some(report) = packet.downcast_ref::<ReceiverReport>() {
            for block in &report.reports {
                *seen.reception_reports.entry(block.ssrc).or_default() += 1;
            }
        }
    }
}
