//! Plain transports: RTP as other programs send and take it (ffmpeg, GStreamer, SIP gateways), on UDP ports of their
//! own, because nothing in a plain packet tells whose it is. With SRTP if its keys are signalled, without ICE or DTLS.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mediasoup_types::data_structures::{Protocol, TransportTuple};
use mediasoup_types::srtp_parameters::{SrtpCryptoSuite, SrtpParameters};
use smallvec::SmallVec;

use super::{Tuple, Worker, not_found};
use crate::ids::{RouterId, TransportId};
use crate::media::rtp::RtpView;
use crate::sfu::api::{CreateTransportError, Event, NotFound};
use crate::sfu::srtp::{self, MasterKey, Receiver, Sender, Suite};
use crate::sfu::transport::{Kind, Transport};
use crate::sfu::{SocketId, reports, sctp};

/// A UDP port that was opened for one transport alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnPort {
    /// The number in its [`SocketId::Own`].
    pub id: u32,
    /// The address that the peer is told.
    pub address: SocketAddr,
}

/// What a plain transport is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainTransportOptions {
    /// Whether RTCP comes on the port of RTP (RFC 5761); else it has one of its own.
    pub rtcp_mux: bool,
    /// Whether the peer's address is taken from its first packet instead of being told.
    pub comedia: bool,
    /// The SRTP suite; without one, nothing is protected.
    pub srtp: Option<Suite>,
    /// The local address to listen on instead of the first listen address.
    pub listen_ip: Option<IpAddr>,
}

impl Default for PlainTransportOptions {
    fn default() -> Self {
        Self { rtcp_mux: true, comedia: false, srtp: None, listen_ip: None }
    }
}

/// What the peer of a plain transport has to be told.
#[derive(Debug, Clone)]
pub struct PlainTransportInfo {
    /// The transport.
    pub id: TransportId,
    /// Where RTP goes (and RTCP, if multiplexed).
    pub tuple: TransportTuple,
    /// Where RTCP goes, if not multiplexed.
    pub rtcp_tuple: Option<TransportTuple>,
    /// What weir protects its packets with.
    pub srtp_parameters: Option<SrtpParameters>,
}

/// What a plain transport is told of its peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlainRemote {
    /// Its IP address; required unless comedia finds it.
    pub ip: Option<IpAddr>,
    /// Its port for RTP; required unless comedia finds it.
    pub port: Option<u16>,
    /// Its port for RTCP; required if RTCP is not multiplexed, unless comedia finds it.
    pub rtcp_port: Option<u16>,
    /// What it protects its packets with; required with SRTP.
    pub srtp_parameters: Option<SrtpParameters>,
}

/// Why a plain or pipe transport could not be connected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectPlainError {
    /// No such plain or pipe transport.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// `connect` was called before, or comedia needs none.
    #[error("the transport is connected already")]
    AlreadyConnected,
    /// A value is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A value is there that the transport's options leave no room for.
    #[error("{0} does not fit the transport's options")]
    Unexpected(&'static str),
    /// Nothing can be sent to this address.
    #[error("{0} is no address that this transport can send to")]
    Address(SocketAddr),
    /// The SRTP parameters are not those of the transport's suite, or no key.
    #[error("srtpParameters: {0}")]
    Srtp(&'static str),
}

/// The parts that only a plain transport (or a pipe transport between processes) has.
pub struct Plain {
    rtp: OwnPort,
    rtcp: Option<OwnPort>,
    comedia: bool,
    is_connected: bool,
    local_key: Option<MasterKey>,
    /// Where RTCP is sent, if not multiplexed.
    rtcp_path: Option<Tuple>,
    /// For a pipe transport: whether it has RTX.
    pipe_rtx: Option<bool>,
}

impl Plain {
    /// The parts of a pipe transport.
    pub(super) fn pipe(port: OwnPort, suite: Option<Suite>, rtx: bool) -> Self {
        Self {
            rtp: port,
            rtcp: None,
            comedia: false,
            is_connected: false,
            local_key: suite.map(MasterKey::random),
            rtcp_path: None,
            pipe_rtx: Some(rtx),
        }
    }

    /// Whether lost packets are sent again, if it is a pipe.
    #[must_use]
    pub fn pipe_rtx(&self) -> Option<bool> {
        self.pipe_rtx
    }

    /// Its ports.
    pub fn ports(&self) -> impl Iterator<Item = OwnPort> {
        std::iter::once(self.rtp).chain(self.rtcp)
    }

    /// Where RTCP is sent; `rtp_path` is where RTP is.
    #[must_use]
    pub fn rtcp_path(&self, rtp_path: Option<Tuple>) -> Option<Tuple> {
        if self.rtcp.is_some() { self.rtcp_path } else { rtp_path }
    }
}

impl Worker {
    /// Makes a plain transport in a router. `rtp` and, unless RTCP is multiplexed, `rtcp` are ports that were opened
    /// for it; when it ends, [`Self::poll_released_port`] gives them back.
    ///
    /// # Errors
    /// Fails if there is no such router or the worker is full; the ports stay the caller's then.
    pub fn create_plain_transport(
        &mut self,
        router: RouterId,
        options: &PlainTransportOptions,
        rtp: OwnPort,
        rtcp: Option<OwnPort>,
    ) -> Result<PlainTransportInfo, CreateTransportError> {
        let plain = Plain {
            rtp,
            rtcp,
            comedia: options.comedia,
            // Without keys there is nothing that comedia has to be told.
            is_connected: options.comedia && options.srtp.is_none(),
            local_key: options.srtp.map(MasterKey::random),
            rtcp_path: None,
            pipe_rtx: None,
        };
        let (id, tuple, srtp_parameters) = self.add_plain(router, plain)?;
        let rtcp_tuple = rtcp.map(|rtcp| local_only(rtcp.address));
        Ok(PlainTransportInfo { id, tuple, rtcp_tuple, srtp_parameters })
    }

    /// Puts a plain or pipe transport into a router; what its peer has to be told is returned.
    pub(super) fn add_plain(
        &mut self,
        router: RouterId,
        plain: Plain,
    ) -> Result<(TransportId, TransportTuple, Option<SrtpParameters>), CreateTransportError> {
        let srtp_parameters = plain.local_key.as_ref().map(signalled);
        let ports: SmallVec<[u32; 2]> = plain.ports().map(|port| port.id).collect();
        let tuple = local_only(plain.rtp.address);
        let (key, id) = self.add_transport(router, Kind::Plain(plain))?;
        if let Some(transport) = self.transports.get_mut(key).filter(|_| srtp_parameters.is_none()) {
            transport.srtp = Some(srtp::clear());
        }
        self.own_ports.extend(ports.into_iter().map(|port| (port, key)));
        Ok((id, tuple, srtp_parameters))
    }

    /// Tells a plain or pipe transport where its peer is and what it protects its packets with.
    ///
    /// # Errors
    /// See [`ConnectPlainError`].
    pub fn connect_plain_transport(
        &mut self,
        now: Instant,
        id: TransportId,
        remote: &PlainRemote,
    ) -> Result<(), ConnectPlainError> {
        let key = self.transport_key(id)?;
        let transport = self.transports.get_mut(key).ok_or_else(|| not_found("transport", &id))?;
        let Kind::Plain(plain) = &mut transport.kind else {
            return Err(not_found("plain transport", &id).into());
        };
        if plain.is_connected {
            return Err(ConnectPlainError::AlreadyConnected);
        }
        let sessions = match (&plain.local_key, &remote.srtp_parameters) {
            (Some(local), Some(theirs)) => {
                let provider = self.credentials.provider();
                let keys =
                    (Sender::new(provider, local), Receiver::new(provider, master_key(local, theirs)?));
                let (Ok(sender), Ok(receiver)) = keys else {
                    return Err(ConnectPlainError::Srtp("the keys can't be used"));
                };
                Some((sender, receiver))
            }
            (Some(_), None) => return Err(ConnectPlainError::Missing("srtpParameters")),
            (None, Some(_)) => return Err(ConnectPlainError::Unexpected("srtpParameters")),
            (None, None) => None,
        };
        let (path, rtcp_path) = paths(plain, remote)?;
        plain.is_connected = true;
        plain.rtcp_path = rtcp_path;
        if sessions.is_some() {
            transport.srtp = sessions;
        }
        if path.is_some() {
            transport.path = path;
            self.open_plain(now, key);
        }
        Ok(())
    }

    /// The next port whose transport has ended.
    pub fn poll_released_port(&mut self) -> Option<u32> {
        self.released_ports.pop_front()
    }

    /// Handles a datagram on a port of a transport's own.
    pub(super) fn handle_own_port(&mut self, now: Instant, port: u32, from: Tuple, datagram: &mut [u8]) {
        let is_rtp_or_rtcp = matches!(datagram.first(), Some(128..=191));
        let is_rtcp = matches!(datagram.get(1), Some(192..=223));
        let transport =
            self.own_ports.get(&port).and_then(|key| Some((*key, self.transports.get_mut(*key)?)));
        let is_sctp = |transport: &Transport| transport.data.sctp.is_some() && sctp::is_sctp(datagram);
        let Some((key, transport)) = transport.filter(|(_, known)| is_rtp_or_rtcp || is_sctp(known)) else {
            self.stats.dropped_unknown += 1;
            return;
        };
        let Kind::Plain(plain) = &transport.kind else { return };
        let is_rtcp_port = plain.rtcp.is_some_and(|rtcp| rtcp.id == port);
        let path = if is_rtcp_port { plain.rtcp_path } else { transport.path };
        let is_misplaced = is_rtcp_port != is_rtcp && plain.rtcp.is_some();
        let may_learn = path.is_none() && plain.comedia && plain.is_connected && !is_misplaced;
        if may_learn && is_rtcp_port {
            // RTCP comes again; this packet has told enough.
            self.learn_rtcp_path(key, from, datagram);
            return;
        }
        let is_known = path.is_some_and(|path| path.key() == from.key())
            || may_learn && !is_rtcp && self.learn_path(now, key, from, datagram);
        match is_known && !is_misplaced {
            true if !is_rtp_or_rtcp => self.handle_sctp(now, key, [&*datagram]),
            true if is_rtcp => self.handle_rtcp(now, key, datagram),
            true => self.handle_rtp(now, key, datagram),
            false => self.stats.dropped_unknown += 1,
        }
    }

    /// The first packet that is authentic, and belongs to a producer if there is one, tells where the peer is.
    fn learn_path(&mut self, now: Instant, key: usize, from: Tuple, datagram: &[u8]) -> bool {
        let Some(transport) = self.transports.get_mut(key) else { return false };
        let (Some((_, receiver)), Some((sequence, ssrc))) =
            (&mut transport.srtp, crate::media::rtp::sequence_and_ssrc(datagram))
        else {
            return false;
        };
        let mut opened = datagram.to_vec();
        let len = receiver.unprotect_rtp(&mut opened, ssrc, u64::from(sequence));
        let Some(view) = len.ok().and_then(|len| RtpView::parse(opened.get(..len)?).ok()) else {
            return false;
        };
        let producers = transport.producers.clone();
        if !producers.is_empty() && self.find_route(&producers, &view).is_none() {
            return false;
        }
        if let Some(transport) = self.transports.get_mut(key) {
            transport.path = Some(from);
        }
        self.open_plain(now, key);
        true
    }

    /// The first authentic RTCP packet from the peer's own address tells where its RTCP port is.
    fn learn_rtcp_path(&mut self, key: usize, from: Tuple, datagram: &[u8]) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let Kind::Plain(plain) = &mut transport.kind else { return };
        let is_peer = transport.path.is_some_and(|path| path.remote.ip() == from.remote.ip());
        let mut opened = datagram.to_vec();
        let receiver = transport.srtp.as_mut().map(|(_, receiver)| receiver).filter(|_| is_peer);
        if receiver.is_some_and(|receiver| receiver.unprotect_rtcp(&mut opened).is_ok()) {
            plain.rtcp_path = Some(from);
        } else {
            self.stats.dropped_unknown += 1;
        }
    }

    /// Path and keys are there: media flows.
    fn open_plain(&mut self, now: Instant, key: usize) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        transport.reports_due = Some(now + reports::INTERVAL);
        self.events.push_back(Event::TransportConnected(transport.id));
        self.start_consumers(now, key);
        self.start_sctp(now, key);
        self.set_timer(key);
    }

    /// Gives the ports of a transport back that ends.
    pub(super) fn leave_plain(&mut self, key: usize) {
        let Some(Kind::Plain(plain)) = self.transports.get(key).map(|transport| &transport.kind) else {
            return;
        };
        for port in plain.ports() {
            self.own_ports.remove(&port.id);
            self.released_ports.push_back(port.id);
        }
    }
}

/// Where RTP and RTCP are to be sent, if that is told and not found.
fn paths(plain: &Plain, remote: &PlainRemote) -> Result<(Option<Tuple>, Option<Tuple>), ConnectPlainError> {
    let told = [("ip", remote.ip.is_some()), ("port", remote.port.is_some())];
    if plain.comedia {
        let told = told.into_iter().chain([("rtcpPort", remote.rtcp_port.is_some())]).find(|(_, is)| *is);
        return told.map_or(Ok((None, None)), |(what, _)| Err(ConnectPlainError::Unexpected(what)));
    }
    if remote.rtcp_port.is_some() && plain.rtcp.is_none() {
        return Err(ConnectPlainError::Unexpected("rtcpPort"));
    }
    let ip = remote.ip.ok_or(ConnectPlainError::Missing("ip"))?;
    let to = |local: OwnPort, port: Option<u16>, what| {
        let remote = SocketAddr::new(ip, port.ok_or(ConnectPlainError::Missing(what))?);
        let is_usable = !ip.is_unspecified() && remote.port() != 0 && ip.is_ipv4() == local.address.is_ipv4();
        let tuple = Tuple { socket: SocketId::Own(local.id), remote, local: None };
        is_usable.then_some(tuple).ok_or(ConnectPlainError::Address(remote))
    };
    let rtp = to(plain.rtp, remote.port, "port")?;
    let rtcp = plain.rtcp.map(|rtcp| to(rtcp, remote.rtcp_port, "rtcpPort")).transpose()?;
    Ok((Some(rtp), rtcp))
}

fn local_only(address: SocketAddr) -> TransportTuple {
    TransportTuple::LocalOnly {
        local_address: address.ip().to_string(),
        local_port: address.port(),
        protocol: Protocol::Udp,
    }
}

/// A suite by its name in signalling.
impl From<SrtpCryptoSuite> for Suite {
    fn from(named: SrtpCryptoSuite) -> Self {
        match named {
            SrtpCryptoSuite::AeadAes128Gcm => Self::AeadAes128Gcm,
            SrtpCryptoSuite::AeadAes256Gcm => Self::AeadAes256Gcm,
            SrtpCryptoSuite::AesCm128HmacSha180 => Self::AesCm128HmacSha1_80,
            SrtpCryptoSuite::AesCm128HmacSha132 => Self::AesCm128HmacSha1_32,
        }
    }
}

fn signalled(key: &MasterKey) -> SrtpParameters {
    let crypto_suite = match key.suite() {
        Suite::AeadAes128Gcm => SrtpCryptoSuite::AeadAes128Gcm,
        Suite::AeadAes256Gcm => SrtpCryptoSuite::AeadAes256Gcm,
        Suite::AesCm128HmacSha1_80 => SrtpCryptoSuite::AesCm128HmacSha180,
        Suite::AesCm128HmacSha1_32 => SrtpCryptoSuite::AesCm128HmacSha132,
    };
    SrtpParameters { crypto_suite, key_base64: BASE64.encode(key.bytes()) }
}

/// The peer's key, which has to be for the suite of `local`.
fn master_key(local: &MasterKey, theirs: &SrtpParameters) -> Result<MasterKey, ConnectPlainError> {
    if signalled(local).crypto_suite != theirs.crypto_suite {
        return Err(ConnectPlainError::Srtp("cryptoSuite is not the transport's"));
    }
    let bytes =
        BASE64.decode(&theirs.key_base64).map_err(|_| ConnectPlainError::Srtp("keyBase64 is no base64"))?;
    MasterKey::new(local.suite(), &bytes)
        .map_err(|_| ConnectPlainError::Srtp("keyBase64 does not have the length of the suite's key"))
}
