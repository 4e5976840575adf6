//! The media core, sans-IO: routers, transports (ICE-lite, DTLS, SRTP), producers and consumers.
//!
//! A [`Worker`] is fed datagrams, requests and time, and is asked for what to send, for events and for the next
//! timeout. It owns no socket, reads no clock and never blocks; `worker` drives it on a thread of its own.

pub mod api;
pub mod bandwidth;
mod burst;
pub mod cache;
pub mod consumer;
pub mod data;
pub mod direct_transport;
pub mod dtls;
pub mod dump;
mod forward;
pub mod frames;
pub mod header;
pub mod ice;
pub mod key_frames;
pub mod layers;
pub mod lifecycle;
pub mod nack;
pub mod observers;
pub mod pipe_transport;
pub mod plain_transport;
pub mod producer;
mod quality;
pub mod rates;
pub mod receive;
pub mod reception;
pub mod reports;
pub mod rewrite;
pub mod score;
mod scores;
pub mod sctp;
pub mod srtp;
pub mod stats;
pub mod transport;
pub mod tuple;
pub mod webrtc_transport;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mediasoup_types::rtp_parameters::{RtpCapabilitiesFinalized, RtpCodecCapability};
use slab::Slab;

use crate::ids::{ConsumerId, ProducerId, RouterId, TapId, TransportId};
use crate::media::ortc;
use api::{CreateRouterError, CreateTransportError, Event, NotFound, TapOutput, WorkerStats};
use consumer::{Consumer, Tap};
use data::DataChannels;
use direct_transport::Delivery;
use dtls::Credentials;
use observers::Observers;
use producer::Producer;
use transport::{Kind, Transport};
pub use tuple::{SocketId, Tuple};

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
    /// UDP addresses that clients are told, best first.
    pub announced_udp: Vec<SocketAddr>,
    /// TCP addresses that clients are told, best first. They come after the UDP ones.
    pub announced_tcp: Vec<SocketAddr>,
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
    transports: Slab<Transport>,
    producers: Slab<Producer>,
    consumers: Slab<Consumer>,
    taps: Slab<Tap>,
    data: DataChannels,
    delivered: VecDeque<Delivery>,
    transport_keys: HashMap<TransportId, usize>,
    producer_keys: HashMap<ProducerId, usize>,
    consumer_keys: HashMap<ConsumerId, usize>,
    tap_keys: HashMap<TapId, usize>,
    /// Transports by the username fragment that checks name them with.
    ufrags: HashMap<String, usize>,
    /// Transports by the paths that valid checks came on.
    paths: HashMap<(SocketId, SocketAddr), usize>,
    /// The streams of each consumer on a pipe (keys of consumers that share its id).
    pipe_consumers: HashMap<ConsumerId, pipe_transport::Members>,
    /// Transports by the ports that belong to them alone, and ports whose transports have ended.
    own_ports: HashMap<u32, usize>,
    released_ports: VecDeque<u32>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    outbox: VecDeque<(Tuple, Vec<u8>)>,
    /// Producers with packets that wait to be forwarded, and when that is due at the latest.
    pending: Vec<usize>,
    flush_due: Option<Instant>,
    /// Transports on whose way packets are held back, and when to look after them.
    paced: Vec<usize>,
    pace_due: Option<Instant>,
    scratch: Vec<u8>,
    events: VecDeque<Event>,
    tapped: VecDeque<(TapId, TapOutput)>,
    observers: Observers,
    stats: WorkerStats,
}

impl Worker {
    /// A worker with a certificate of its own.
    ///
    /// # Errors
    /// Fails if the crypto library can't make a certificate.
    pub fn new(config: Config) -> anyhow::Result<Self> {
        Ok(Self::with_credentials(config, Credentials::generate()?))
    }

    /// A worker that shows this certificate.
    #[must_use]
    pub fn with_credentials(mut config: Config, credentials: Credentials) -> Self {
        config.ice_consent_timeout =
            config.ice_consent_timeout.clamp(*CONSENT_TIMEOUTS.start(), *CONSENT_TIMEOUTS.end());
        Self {
            config,
            credentials,
            routers: HashMap::new(),
            transports: Slab::new(),
            producers: Slab::new(),
            consumers: Slab::new(),
            taps: Slab::new(),
            data: DataChannels::default(),
            delivered: VecDeque::new(),
            transport_keys: HashMap::new(),
            producer_keys: HashMap::new(),
            consumer_keys: HashMap::new(),
            tap_keys: HashMap::new(),
            ufrags: HashMap::new(),
            paths: HashMap::new(),
            pipe_consumers: HashMap::new(),
            own_ports: HashMap::new(),
            released_ports: VecDeque::new(),
            timers: BinaryHeap::new(),
            outbox: VecDeque::new(),
            pending: Vec::new(),
            flush_due: None,
            paced: Vec::new(),
            pace_due: None,
            scratch: Vec::new(),
            events: VecDeque::new(),
            tapped: VecDeque::new(),
            observers: Observers::default(),
            stats: WorkerStats::default(),
        }
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
        self.observers.close_router(id);
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

    /// Puts a transport into a router; its key and id are returned.
    fn add_transport(
        &mut self,
        router_id: RouterId,
        kind: Kind,
    ) -> Result<(usize, TransportId), CreateTransportError> {
        let router = self.routers.get_mut(&router_id).ok_or_else(|| not_found("router", &router_id))?;
        if self.transports.len() >= MAX_TRANSPORTS {
            return Err(CreateTransportError::Full(MAX_TRANSPORTS));
        }
        let id = TransportId::random();
        let key = self.transports.insert(Transport::new(id, router_id, kind));
        router.transports.push(key);
        self.transport_keys.insert(id, key);
        Ok((key, id))
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
            data_producers: self.data.producers(),
            data_consumers: self.data.consumers(),
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
        [timer, self.flush_due, self.pace_due, outbox, self.observers.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due: reports, NACKs, key frame requests, handshake flights, the end of transports without consent.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.handle_observers(now);
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
            self.handle_webrtc_timeout(now, key);
            self.handle_sctp_timeout(now, key);
            self.ask_publisher(now, key);
            self.drive_bandwidth(now, key);
            self.send_reports(now, key);
            self.set_timer(key);
        }
    }

    /// Sets the timer of a transport to what it waits for next.
    fn set_timer(&mut self, key: usize) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let producers = transport.producers.iter().filter_map(|key| self.producers.get(*key)?.poll_timeout());
        let Some(due) = transport.poll_timeout().into_iter().chain(producers).min() else { return };
        if transport.timer.is_none_or(|timer| due < timer) {
            transport.timer = Some(due);
            self.timers.push(Reverse((due, key)));
        }
    }

    fn transport_key(&self, id: TransportId) -> Result<usize, NotFound> {
        self.transport_keys.get(&id).copied().ok_or_else(|| not_found("transport", &id))
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
