//! The media core, sans-IO: routers, transports (ICE-lite, DTLS, SRTP), producers and consumers.
//!
//! A [`Worker`] is fed datagrams, requests and time, and is asked for what to send, for events and for the next
//! timeout. It owns no socket, reads no clock and never blocks; `worker` drives it on a thread of its own.

pub mod api;
pub mod cache;
pub mod consumer;
pub mod dtls;
mod forward;
pub mod ice;
pub mod key_frames;
pub mod lifecycle;
pub mod nack;
pub mod producer;
pub mod receive;
pub mod reports;
pub mod rewrite;
pub mod srtp;
pub mod transport;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mediasoup_types::data_structures::{
    DtlsParameters, DtlsRole, IceCandidate, IceCandidateType, IceParameters, Protocol,
};
use mediasoup_types::rtp_parameters::{RtpCapabilitiesFinalized, RtpCodecCapability};
use slab::Slab;

use crate::ids::{ConsumerId, ProducerId, RouterId, TapId, TransportId};
use crate::media::ortc;
use api::{
    ConnectTransportError, CreateRouterError, CreateTransportError, Event, NotFound, TapOutput,
    TransportCloseReason, WebRtcTransportInfo, WorkerStats,
};
use consumer::{Consumer, Tap};
use dtls::{Credentials, DtlsEvent};
use ice::IceLite;
pub use ice::Tuple;
use producer::Producer;
use transport::WebRtcTransport;

/// Transports that one worker holds.
pub const MAX_TRANSPORTS: usize = 20_000;
/// Datagrams of weir's own (STUN, DTLS, RTCP, retransmissions) that wait for the next flush.
const MAX_OUTBOX: usize = 16_384;
/// The shortest and longest consent timeout that is taken.
const CONSENT_TIMEOUTS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(300);

/// How a worker is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Addresses that clients are told, best first.
    pub announced: Vec<IpAddr>,
    /// The UDP port that clients are told.
    pub port: u16,
    /// How long a transport lives without a valid ICE check (RFC 7675).
    pub ice_consent_timeout: Duration,
    /// The time of a moment: NTP, 32.32 fixed point seconds since 1900.
    pub ntp_at: (Instant, u64),
}

/// Takes what the core sends.
pub trait Transmit {
    /// Sends `contents` to a path: datagrams of `segment_size` bytes each, the last one perhaps shorter.
    fn transmit(&mut self, to: Tuple, contents: &[u8], segment_size: usize);
}

struct Router {
    capabilities: RtpCapabilitiesFinalized,
    transports: Vec<usize>,
}

/// One worker's routers and everything in them.
pub struct Worker {
    config: Config,
    credentials: Credentials,
    routers: HashMap<RouterId, Router>,
    transports: Slab<WebRtcTransport>,
    producers: Slab<Producer>,
    consumers: Slab<Consumer>,
    taps: Slab<Tap>,
    transport_keys: HashMap<TransportId, usize>,
    producer_keys: HashMap<ProducerId, usize>,
    consumer_keys: HashMap<ConsumerId, usize>,
    tap_keys: HashMap<TapId, usize>,
    /// Transports by the username fragment that checks name them with.
    ufrags: HashMap<String, usize>,
    /// Transports by the addresses that valid checks came from.
    paths: HashMap<SocketAddr, usize>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    outbox: VecDeque<(Tuple, Vec<u8>)>,
    /// Producers with packets that wait to be forwarded, and when that is due at the latest.
    pending: Vec<usize>,
    flush_due: Option<Instant>,
    scratch: Vec<u8>,
    events: VecDeque<Event>,
    tapped: VecDeque<(TapId, TapOutput)>,
    stats: WorkerStats,
}

impl Worker {
    /// A worker with a certificate of its own.
    ///
    /// # Errors
    /// Fails if the crypto library can't make a certificate.
    pub fn new(mut config: Config) -> anyhow::Result<Self> {
        config.ice_consent_timeout =
            config.ice_consent_timeout.clamp(*CONSENT_TIMEOUTS.start(), *CONSENT_TIMEOUTS.end());
        Ok(Self {
            config,
            credentials: Credentials::generate()?,
            routers: HashMap::new(),
            transports: Slab::new(),
            producers: Slab::new(),
            consumers: Slab::new(),
            taps: Slab::new(),
            transport_keys: HashMap::new(),
            producer_keys: HashMap::new(),
            consumer_keys: HashMap::new(),
            tap_keys: HashMap::new(),
            ufrags: HashMap::new(),
            paths: HashMap::new(),
            timers: BinaryHeap::new(),
            outbox: VecDeque::new(),
            pending: Vec::new(),
            flush_due: None,
            scratch: Vec::new(),
            events: VecDeque::new(),
            tapped: VecDeque::new(),
            stats: WorkerStats::default(),
        })
    }

    /// Makes a router that offers `codecs`; its capabilities are what clients load their device with.
    ///
    /// # Errors
    /// Fails if a codec is not supported.
    pub fn create_router(
        &mut self,
        codecs: &[RtpCodecCapability],
    ) -> Result<(RouterId, RtpCapabilitiesFinalized), CreateRouterError> {
        let capabilities = ortc::router_capabilities(codecs)
            .map_err(|error| CreateRouterError::Codecs(error.to_string()))?;
        let id = RouterId::random();
        self.routers.insert(id, Router { capabilities: capabilities.clone(), transports: Vec::new() });
        Ok((id, capabilities))
    }

    /// Closes a router and everything in it.
    ///
    /// # Errors
    /// Fails if there is no such router.
    pub fn close_router(&mut self, now: Instant, id: RouterId) -> Result<(), NotFound> {
        let router = self.routers.remove(&id).ok_or_else(|| not_found("router", &id))?;
        router.transports.into_iter().for_each(|key| self.remove_transport(now, key));
        Ok(())
    }

    /// Closes everything; goodbyes wait for the next flush.
    pub fn close(&mut self, now: Instant) {
        for router in self.routers.keys().copied().collect::<Vec<_>>() {
            if self.close_router(now, router).is_err() {
                tracing::debug!(%router, "a router ended twice");
            }
        }
    }

    /// Makes a WebRTC transport in a router.
    ///
    /// # Errors
    /// Fails if there is no such router or the worker is full.
    pub fn create_webrtc_transport(
        &mut self,
        router_id: RouterId,
    ) -> Result<WebRtcTransportInfo, CreateTransportError> {
        let router = self.routers.get_mut(&router_id).ok_or_else(|| not_found("router", &router_id))?;
        if self.transports.len() >= MAX_TRANSPORTS {
            return Err(CreateTransportError::Full(MAX_TRANSPORTS));
        }
        let id = TransportId::random();
        let ice = IceLite::new(self.config.ice_consent_timeout);
        let info = WebRtcTransportInfo {
            id,
            ice_parameters: IceParameters {
                username_fragment: ice.ufrag().to_owned(),
                password: ice.password().to_owned(),
                ice_lite: Some(true),
            },
            ice_candidates: candidates(&self.config),
            dtls_parameters: DtlsParameters {
                role: DtlsRole::Auto,
                fingerprints: vec![self.credentials.fingerprint()],
            },
        };
        let ufrag = ice.ufrag().to_owned();
        let key = self.transports.insert(WebRtcTransport::new(id, router_id, ice));
        router.transports.push(key);
        self.transport_keys.insert(id, key);
        self.ufrags.insert(ufrag, key);
        Ok(info)
    }

    /// Tells a transport the peer's DTLS role and fingerprints; the handshake follows.
    ///
    /// # Errors
    /// Fails if there is no such transport, it is connected already, or no fingerprint can be verified.
    pub fn connect_transport(
        &mut self,
        now: Instant,
        id: TransportId,
        remote: DtlsParameters,
    ) -> Result<(), ConnectTransportError> {
        let key = self.transport_key(id)?;
        let transport = self.transports.get_mut(key).ok_or_else(|| not_found("transport", &id))?;
        if transport.dtls.is_connecting() {
            return Err(ConnectTransportError::AlreadyConnected);
        }
        if !remote.fingerprints.iter().any(dtls::is_verifiable) {
            return Err(ConnectTransportError::NoFingerprint);
        }
        transport.dtls.connect(remote.role, remote.fingerprints);
        self.advance_dtls(now, key);
        Ok(())
    }

    /// Closes a transport, its producers and its consumers, and says goodbye to the peer.
    ///
    /// # Errors
    /// Fails if there is no such transport.
    pub fn close_transport(&mut self, now: Instant, id: TransportId) -> Result<(), NotFound> {
        let key = self.transport_key(id)?;
        self.remove_transport(now, key);
        Ok(())
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> WorkerStats {
        WorkerStats {
            transports: self.transports.len(),
            producers: self.producers.len(),
            consumers: self.consumers.len(),
            taps: self.taps.len(),
            ..self.stats
        }
    }

    /// What happened since the last call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next thing for a tap's reader.
    pub fn poll_tapped(&mut self) -> Option<(TapId, TapOutput)> {
        self.tapped.pop_front()
    }

    /// Counts packets that a tap's reader was too slow for.
    pub fn note_tap_drop(&mut self) {
        self.stats.dropped_tap += 1;
    }

    /// Counts datagrams that the socket did not take.
    pub fn note_send_drop(&mut self, datagrams: u64) {
        self.stats.dropped_send += datagrams;
    }

    /// When [`Self::handle_timeout`] or [`Self::flush`] has to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let outbox = (!self.outbox.is_empty()).then_some(self.config.ntp_at.0);
        [timer, self.flush_due, outbox].into_iter().flatten().min()
    }

    /// Does what is due: reports, NACKs, key frame requests, handshake flights, the end of transports without consent.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(Reverse((at, key))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            let Some(transport) = self.transports.get_mut(key) else { continue };
            if transport.timer != Some(at) {
                continue; // set anew since then, or another transport in the same place
            }
            transport.timer = None;
            if transport.ice.consent_until().is_some_and(|until| until <= now) {
                self.end_transport(now, key, TransportCloseReason::ConsentLost);
                continue;
            }
            if let Some(event) = transport.dtls.handle_timeout(now) {
                self.handle_dtls_event(now, key, event);
            }
            self.send_dtls(key);
            self.ask_publisher(now, key);
            self.send_reports(now, key);
            self.set_timer(key);
        }
    }

    /// Sets the timer of a transport to what it waits for next.
    fn set_timer(&mut self, key: usize) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let producers = transport.producers.iter().filter_map(|key| self.producers.get(*key)?.poll_timeout());
        let own = [transport.ice.consent_until(), transport.dtls.poll_timeout(), transport.reports_due];
        let Some(due) = own.into_iter().flatten().chain(producers).min() else { return };
        if transport.timer.is_none_or(|timer| due < timer) {
            transport.timer = Some(due);
            self.timers.push(Reverse((due, key)));
        }
    }

    fn transport_key(&self, id: TransportId) -> Result<usize, NotFound> {
        self.transport_keys.get(&id).copied().ok_or_else(|| not_found("transport", &id))
    }

    /// Lets DTLS go on after `connect` or a first valid check.
    fn advance_dtls(&mut self, now: Instant, key: usize) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        if transport.ice.selected().is_none() {
            return;
        }
        if let Some(event) = transport.dtls.advance(now, &self.credentials) {
            self.handle_dtls_event(now, key, event);
        }
        self.send_dtls(key);
        self.set_timer(key);
    }

    fn handle_dtls_event(&mut self, now: Instant, key: usize, event: DtlsEvent) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        match event {
            DtlsEvent::Connected { suite, keying_material, is_client } => {
                let provider = self.credentials.provider();
                match srtp::sessions(suite, provider, &keying_material, is_client) {
                    Ok(sessions) => {
                        transport.srtp = Some(sessions);
                        transport.reports_due = Some(now + reports::INTERVAL);
                        let id = transport.id;
                        self.events.push_back(Event::TransportConnected(id));
                        self.start_consumers(now, key);
                    }
                    Err(error) => {
                        tracing::warn!(transport = %transport.id, %error, "SRTP could not be set up");
                        self.end_transport(now, key, TransportCloseReason::DtlsFailed);
                    }
                }
            }
            DtlsEvent::Failed(reason) => {
                tracing::info!(transport = %transport.id, reason, "DTLS failed");
                self.end_transport(now, key, TransportCloseReason::DtlsFailed);
            }
            DtlsEvent::Closed => self.end_transport(now, key, TransportCloseReason::DtlsClosed),
        }
    }

    fn send_dtls(&mut self, key: usize) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let Some(tuple) = transport.ice.selected() else { return };
        while let Some(record) = transport.dtls.poll_transmit() {
            post(&mut self.outbox, &mut self.stats, tuple, record.to_vec());
        }
    }
}

/// Queues a datagram for the next flush.
fn post(outbox: &mut VecDeque<(Tuple, Vec<u8>)>, stats: &mut WorkerStats, to: Tuple, datagram: Vec<u8>) {
    if outbox.len() >= MAX_OUTBOX {
        stats.dropped_send += 1;
        return;
    }
    outbox.push_back((to, datagram));
}

fn not_found(what: &'static str, id: &impl ToString) -> NotFound {
    NotFound { what, id: id.to_string() }
}

/// Host candidates in the order of the announced addresses (priorities as in RFC 8445 section 5.1.2).
fn candidates(config: &Config) -> Vec<IceCandidate> {
    let priority = |preference: usize| {
        let local_preference = 65_535_u32.saturating_sub(preference as u32);
        (126 << 24) + (local_preference << 8) + 255
    };
    let candidate = |(index, address): (usize, &IpAddr)| IceCandidate {
        foundation: format!("udp{index}"),
        priority: priority(index),
        address: address.to_string(),
        protocol: Protocol::Udp,
        port: config.port,
        r#type: IceCandidateType::Host,
        tcp_type: None,
    };
    config.announced.iter().enumerate().map(candidate).collect()
}
