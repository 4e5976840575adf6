//! The async handles: each request is a closure that runs on the worker's thread, and its answer comes back.

mod data;

mod direct;
mod observers;
mod pipe;
mod plain;
mod stats;

pub use direct::PacketDropped;
pub use pipe::{PipeError, PipedDataProducer, PipedProducer};

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU8;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use mediasoup_types::data_structures::{DtlsParameters, IceParameters};
use mediasoup_types::rtp_parameters::{
    MediaKind, RtpCapabilities, RtpCapabilitiesFinalized, RtpCodecCapability, RtpParameters,
};
use mio::{Poll, Waker};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::listen;
use super::ports::{PortRange, Ports};
use super::sockets::{REQUESTS, Sockets};
use super::thread::{MAX_REQUESTS, Request, Turn, WorkerThread};
use crate::ids::{Bitrate, ConsumerId, ProducerId, RouterId, TapId, TransportId};
use crate::media::codec::Layers;
use crate::sfu::api::{
    ConnectTransportError, ConsumeError, ConsumerInfo, ConsumerScore, CreateRouterError,
    CreateTransportError, Event, NotFound, ProduceError, ProducerInfo, SetBitrateError, TapInfo, TapOutput,
    WebRtcTransportInfo, WebRtcTransportOptions, WorkerStats,
};
use crate::sfu::dtls::Credentials;
use crate::sfu::layers::ConsumeOptions;
use crate::sfu::{self, Worker};

/// Workers that one process may have.
const MAX_WORKERS: usize = 64;
/// Events that wait for the control plane; more wait inside the workers.
const MAX_EVENTS: usize = 4096;
/// Seconds between the NTP epoch (1900) and the Unix epoch (1970).
const NTP_TO_UNIX_SECS: u64 = 2_208_988_800;
/// How long a request waits before a full queue is tried again.
const FULL_QUEUE_RETRY: Duration = Duration::from_millis(1);

/// Where and how workers receive media.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The addresses of the first worker; each further worker takes the next ports.
    #[serde(deserialize_with = "one_or_more")]
    pub listen: Vec<SocketAddr>,
    /// IP addresses that clients are told, best first; without any, the listen addresses.
    pub announce: Vec<String>,
    /// Whether clients may use TCP, on the same port numbers as UDP.
    pub tcp: bool,
    /// The UDP ports of plain and pipe transports, each of which needs one or two of its own.
    pub plain_ports: PortRange,
    /// How many workers (threads) there are.
    pub workers: usize,
    /// How long a transport lives without a valid ICE check, in seconds (RFC 7675).
    pub ice_consent_timeout_secs: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([0, 0, 0, 0], 40000))],
            announce: Vec::new(),
            tcp: true,
            plain_ports: PortRange::default(),
            workers: 1,
            ice_consent_timeout_secs: 25,
        }
    }
}

/// Reads a list, or one element without the brackets.
fn one_or_more<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<SocketAddr>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "an address with its port, as in \"0.0.0.0:40000\", or a list of them")]
    enum OneOrMore {
        One(SocketAddr),
        More(Vec<SocketAddr>),
    }
    Ok(match OneOrMore::deserialize(from)? {
        OneOrMore::One(address) => vec![address],
        OneOrMore::More(addresses) => addresses,
    })
}

/// An event of one of the workers.
pub type WorkerEvent = Event;

/// Why a request to a worker failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError<E> {
    /// The worker is gone or going: the server shuts down.
    #[error("the media worker is shut down")]
    Closed,
    /// The media core said no.
    #[error(transparent)]
    Failed(E),
}

/// One worker's end that requests are put into.
#[derive(Clone)]
struct WorkerHandle {
    requests: SyncSender<Request>,
    waker: Arc<Waker>,
    addresses: Vec<SocketAddr>,
    candidates: Vec<SocketAddr>,
}

impl WorkerHandle {
    fn start(
        config: &Config,
        listen: &[SocketAddr],
        events: mpsc::Sender<Event>,
    ) -> anyhow::Result<(Self, JoinHandle<()>)> {
        let announced = config
            .announce
            .iter()
            .map(|text| text.parse::<IpAddr>().with_context(|| format!("{text:?} is no IP address")))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let announced = if announced.is_empty() { listen::default_announced(listen) } else { announced };
        let poll = Poll::new()?;
        let ports = Ports::new(config.plain_ports, listen, &announced);
        let sockets = Sockets::bind(poll.registry().try_clone()?, listen, config.tcp, ports)?;
        let addresses = sockets.local_addrs()?;
        let candidates = listen::candidates(&addresses, &announced);
        let core_config = sfu::Config {
            announced_tcp: if config.tcp { candidates.clone() } else { Vec::new() },
            announced_udp: candidates.clone(),
            ice_consent_timeout: Duration::from_secs(config.ice_consent_timeout_secs),
            ntp_at: (Instant::now(), ntp_now()),
        };
        let credentials = Credentials::generate()?;
        let waker = Arc::new(Waker::new(poll.registry(), REQUESTS)?);
        let (requests, queue) = sync_channel(MAX_REQUESTS);
        let port = addresses.first().map_or(0, SocketAddr::port);
        // The core is made on its thread and stays there: SCTP associations can't be sent to another one.
        let thread = std::thread::Builder::new().name(format!("weir-worker-{port}")).spawn(move || {
            let core = Worker::with_credentials(core_config, credentials);
            WorkerThread { core, poll, sockets, requests: queue, events }.run();
        })?;
        Ok((Self { requests, waker, addresses, candidates }, thread))
    }

    /// Puts a request into the queue without waiting; gives it back if the queue is full or nobody reads it.
    fn post(&self, request: Request) -> Result<(), TrySendError<Request>> {
        self.requests.try_send(request)?;
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "a worker can't be woken");
        }
        Ok(())
    }

    /// Runs `f` on the worker's thread; waits while its queue is full.
    async fn call<T: Send + 'static, E: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Turn<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, RequestError<E>> {
        let (reply, answer) = oneshot::channel();
        let mut request = Request::Run(Box::new(move |turn| {
            if reply.send(f(turn)).is_err() {
                tracing::debug!("nobody waits for a worker's answer any more");
            }
        }));
        loop {
            match self.post(request) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) => request = back,
                Err(TrySendError::Disconnected(_)) => return Err(RequestError::Closed),
            }
            tokio::time::sleep(FULL_QUEUE_RETRY).await;
        }
        answer.await.map_err(|_| RequestError::Closed)?.map_err(RequestError::Failed)
    }
}

fn ntp_now() -> u64 {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000;
    (unix.as_secs() + NTP_TO_UNIX_SECS) << 32 | fraction
}

/// All workers.
#[derive(Clone)]
pub struct WorkerPool {
    workers: Arc<[WorkerHandle]>,
    threads: Arc<std::sync::Mutex<Vec<JoinHandle<()>>>>,
}

impl WorkerPool {
    /// Binds the sockets and starts the threads.
    ///
    /// # Errors
    /// Fails if an address can't be bound or parsed; the error names it.
    pub fn start(config: &Config) -> anyhow::Result<(Self, mpsc::Receiver<WorkerEvent>)> {
        anyhow::ensure!(
            (1..=MAX_WORKERS).contains(&config.workers),
            "rtc.workers is {}, which is not between 1 and {MAX_WORKERS}",
            config.workers
        );
        anyhow::ensure!(
            (1..=listen::MAX_LISTEN).contains(&config.listen.len()),
            "rtc.listen has to hold 1 to {} addresses",
            listen::MAX_LISTEN
        );
        let (events, receiver) = mpsc::channel(MAX_EVENTS);
        let mut workers = Vec::with_capacity(config.workers);
        let mut threads = Vec::with_capacity(config.workers);
        for index in 0..config.workers {
            let listen = listen::of_worker(&config.listen, index)
                .context("rtc.workers needs more ports than there are after rtc.listen")?;
            let (worker, thread) = WorkerHandle::start(config, &listen, events.clone())?;
            workers.push(worker);
            threads.push(thread);
        }
        Ok((Self { workers: workers.into(), threads: Arc::new(std::sync::Mutex::new(threads)) }, receiver))
    }

    /// The addresses that the workers listen on.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.workers.iter().flat_map(|worker| worker.addresses.iter().copied()).collect()
    }

    /// What clients are told to send media to.
    #[must_use]
    pub fn candidates(&self) -> Vec<SocketAddr> {
        self.workers.iter().flat_map(|worker| worker.candidates.iter().copied()).collect()
    }

    /// Makes a router on the least loaded worker.
    ///
    /// # Errors
    /// Fails if a codec is not supported or the workers are shut down.
    pub async fn create_router(
        &self,
        codecs: Vec<RtpCodecCapability>,
    ) -> Result<RouterHandle, RequestError<CreateRouterError>> {
        let mut least: Option<(usize, &WorkerHandle)> = None;
        for worker in self.workers.iter() {
            let load = worker.call(|turn| Ok::<_, CreateRouterError>(turn.core.stats().transports)).await?;
            if least.is_none_or(|(lowest, _)| load < lowest) {
                least = Some((load, worker));
            }
        }
        let (_, worker) = least.ok_or(RequestError::Closed)?;
        let (id, capabilities) = worker.call(move |turn| turn.core.create_router(&codecs)).await?;
        Ok(RouterHandle { id, worker: worker.clone(), rtp_capabilities: Arc::new(capabilities) })
    }

    /// The sum of all workers' counters; of those that still run.
    pub async fn stats(&self) -> WorkerStats {
        let mut sum = WorkerStats::default();
        for worker in self.workers.iter() {
            if let Ok(stats) = worker.call(|turn| Ok::<_, NotFound>(turn.core.stats())).await {
                sum += stats;
            }
        }
        sum
    }

    /// Closes every transport (the peers get a DTLS close_notify) and waits up to `within` for the threads to end.
    pub async fn shutdown(&self, within: Duration) {
        for worker in self.workers.iter() {
            if worker.post(Request::Stop).is_err() {
                tracing::warn!(addresses = ?worker.addresses, "a worker could not be told to stop");
            }
        }
        let threads =
            self.threads.lock().map(|mut threads| std::mem::take(&mut *threads)).unwrap_or_default();
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().filter_map(|thread| thread.join().err()).count()
        });
        match tokio::time::timeout(within, joined).await {
            Ok(Ok(0)) => {}
            Ok(panicked) => tracing::error!(?panicked, "workers ended by a panic"),
            Err(_) => tracing::warn!("workers did not end in time"),
        }
    }
}

/// A router on one of the workers.
#[derive(Clone)]
pub struct RouterHandle {
    id: RouterId,
    worker: WorkerHandle,
    rtp_capabilities: Arc<RtpCapabilitiesFinalized>,
}

impl RouterHandle {
    /// The router's id.
    #[must_use]
    pub fn id(&self) -> RouterId {
        self.id
    }

    /// What clients load their device with.
    #[must_use]
    pub fn rtp_capabilities(&self) -> &RtpCapabilitiesFinalized {
        &self.rtp_capabilities
    }

    /// Closes the router with everything in it.
    ///
    /// # Errors
    /// Fails if it is closed already.
    pub async fn close(&self) -> Result<(), RequestError<NotFound>> {
        let router = self.id;
        self.worker.call(move |turn| turn.core.close_router(turn.now, router)).await
    }

    /// Makes a WebRTC transport.
    ///
    /// # Errors
    /// See [`CreateTransportError`].
    pub async fn create_webrtc_transport(
        &self,
        options: WebRtcTransportOptions,
    ) -> Result<WebRtcTransportInfo, RequestError<CreateTransportError>> {
        let router = self.id;
        self.worker.call(move |turn| turn.core.create_webrtc_transport(router, &options)).await
    }

    /// Tells a transport the peer's DTLS parameters.
    ///
    /// # Errors
    /// See [`ConnectTransportError`].
    pub async fn connect_transport(
        &self,
        transport: TransportId,
        remote: DtlsParameters,
    ) -> Result<(), RequestError<ConnectTransportError>> {
        self.worker.call(move |turn| turn.core.connect_transport(turn.now, transport, remote)).await
    }

    /// Gives a WebRTC transport new ICE credentials for its client; media goes on meanwhile.
    ///
    /// # Errors
    /// Fails if there is no such WebRTC transport.
    pub async fn restart_ice(&self, transport: TransportId) -> Result<IceParameters, RequestError<NotFound>> {
        self.worker.call(move |turn| turn.core.restart_ice(transport)).await
    }

    /// Closes a transport with its producers and consumers.
    ///
    /// # Errors
    /// Fails if there is no such transport.
    pub async fn close_transport(&self, transport: TransportId) -> Result<(), RequestError<NotFound>> {
        self.worker.call(move |turn| turn.core.close_transport(turn.now, transport)).await
    }

    /// Makes a producer.
    ///
    /// # Errors
    /// See [`ProduceError`].
    pub async fn produce(
        &self,
        transport: TransportId,
        kind: MediaKind,
        parameters: RtpParameters,
        paused: bool,
    ) -> Result<ProducerInfo, RequestError<ProduceError>> {
        self.worker.call(move |turn| turn.core.produce(turn.now, transport, kind, &parameters, paused)).await
    }

    /// Pauses or resumes a producer.
    ///
    /// # Errors
    /// Fails if there is no such producer.
    pub async fn set_producer_paused(
        &self,
        producer: ProducerId,
        paused: bool,
    ) -> Result<(), RequestError<NotFound>> {
        self.worker.call(move |turn| turn.core.set_producer_paused(turn.now, producer, paused)).await
    }

    /// Closes a producer; its consumers end with it.
    ///
    /// # Errors
    /// Fails if there is no such producer.
    pub async fn close_producer(&self, producer: ProducerId) -> Result<(), RequestError<NotFound>> {
        self.worker.call(move |turn| turn.core.close_producer(turn.now, producer)).await
    }

    /// Makes a consumer.
    ///
    /// # Errors
    /// See [`ConsumeError`].
    pub async fn consume(
        &self,
        transport: TransportId,
        producer: ProducerId,
        capabilities: RtpCapabilities,
        options: impl Into<ConsumeOptions>,
    ) -> Result<ConsumerInfo, RequestError<ConsumeError>> {
        let options = options.into();
        self.worker
            .call(move |turn| turn.core.consume(turn.now, transport, producer, &capabilities, options))
            .await
    }

    /// Pauses or resumes a consumer; resuming asks the publisher for a key frame.
    ///
    /// # Errors
    /// Fails if there is no such consumer.
    pub async fn set_consumer_paused(
        &self,
        consumer: ConsumerId,
        paused: bool,
    ) -> Result<(), RequestError<NotFound>> {
        self.worker.call(move |turn| turn.core.set_consumer_paused(turn.now, consumer, paused)).await
    }

    /// Sets the layers that a consumer's client wants at most; without `temporal`, all temporal layers. What the
    /// producer has of them is returned.
    ///
    /// # Errors
    /// Fails if there is no such consumer.
    pub async fn set_consumer_preferred_layers(
        &self,
        consumer: ConsumerId,
        spatial: u8,
        temporal: Option<u8>,
    ) -> Result<Layers, RequestError<NotFound>> {
        let set = self
            .worker
            .call(move |turn| turn.core.set_consumer_preferred_layers(turn.now, consumer, spatial, temporal));
        set.await
    }

    /// Limits what a transport's peer sends, as far as it heeds REMB; none ends the limit.
    ///
    /// # Errors
    /// See [`SetBitrateError`].
    pub async fn set_max_incoming_bitrate(
        &self,
        transport: TransportId,
        limit: Option<Bitrate>,
    ) -> Result<(), RequestError<SetBitrateError>> {
        self.worker.call(move |turn| turn.core.set_max_incoming_bitrate(turn.now, transport, limit)).await
    }

    /// Bounds from above what a transport's path to its peer is thought to take.
    ///
    /// # Errors
    /// See [`SetBitrateError`].
    pub async fn set_max_outgoing_bitrate(
        &self,
        transport: TransportId,
        limit: Option<Bitrate>,
    ) -> Result<(), RequestError<SetBitrateError>> {
        self.worker.call(move |turn| turn.core.set_max_outgoing_bitrate(turn.now, transport, limit)).await
    }

    /// Bounds from below what a transport's path to its peer is thought to take.
    ///
    /// # Errors
    /// See [`SetBitrateError`].
    pub async fn set_min_outgoing_bitrate(
        &self,
        transport: TransportId,
        limit: Option<Bitrate>,
    ) -> Result<(), RequestError<SetBitrateError>> {
        self.worker.call(move |turn| turn.core.set_min_outgoing_bitrate(turn.now, transport, limit)).await
    }

    /// Sets a consumer's share of its transport's bandwidth compared with others.
    ///
    /// # Errors
    /// Fails if there is no such consumer.
    pub async fn set_consumer_priority(
        &self,
        consumer: ConsumerId,
        priority: NonZeroU8,
    ) -> Result<(), RequestError<NotFound>> {
        self.worker.call(move |turn| turn.core.set_consumer_priority(consumer, priority)).await
    }

    /// How well a consumer's stream arrives; changes come as [`Event::ConsumerScore`].
    ///
    /// # Errors
    /// Fails if there is no such consumer.
    pub async fn consumer_score(
        &self,
        consumer: ConsumerId,
    ) -> Result<ConsumerScore, RequestError<NotFound>> {
        self.worker.call(move |turn| turn.core.consumer_score(consumer)).await
    }

    /// Asks the publisher for a key frame on behalf of a consumer's client.
    ///
    /// # Errors
    /// Fails if there is no such consumer.
    pub async fn request_consumer_key_frame(
        &self,
        consumer: ConsumerId,
    ) -> Result<(), RequestError<NotFound>> {
        self.worker.call(move |turn| turn.core.request_consumer_key_frame(turn.now, consumer)).await
    }

    /// Closes a consumer.
    ///
    /// # Errors
    /// Fails if there is no such consumer.
    pub async fn close_consumer(&self, consumer: ConsumerId) -> Result<(), RequestError<NotFound>> {
        self.worker.call(move |turn| turn.core.close_consumer(turn.now, consumer)).await
    }

    /// Asks the publisher for a key frame (coalesced and rate-limited by the core). It never waits and may be called
    /// from any thread; if the worker's queue is full the request is lost, as it could be on the wire.
    pub fn request_key_frame(&self, producer: ProducerId) {
        let request = Request::Run(Box::new(move |turn| {
            if turn.core.request_key_frame(turn.now, producer).is_err() {
                tracing::debug!(%producer, "a key frame was asked of a producer that is gone");
            }
        }));
        if self.worker.post(request).is_err() {
            tracing::debug!(%producer, "a key frame request did not fit into the worker's queue");
        }
    }

    /// Hands each of the producer's simulcast streams to a reader of its own, from the smallest to the largest. A channel
    /// holds `capacity` outputs; what does not fit is dropped and counted. Dropping a receiver ends its tap.
    ///
    /// # Errors
    /// Fails if there is no such producer.
    pub async fn tap(
        &self,
        producer: ProducerId,
        capacity: usize,
    ) -> Result<Vec<(TapInfo, mpsc::Receiver<TapOutput>)>, RequestError<NotFound>> {
        let made = self.worker.call(move |turn| {
            let taps = turn.core.tap(turn.now, producer)?;
            let with_reader = taps.into_iter().map(|info| {
                let (sender, receiver) = mpsc::channel(capacity.max(1));
                turn.readers.taps.insert(info.id, sender);
                (info, receiver)
            });
            Ok(with_reader.collect())
        });
        made.await
    }

    /// Pauses or resumes a tap: a paused one brings no packets and costs nothing.
    ///
    /// # Errors
    /// Fails if there is no such tap.
    pub async fn set_tap_paused(&self, tap: TapId, paused: bool) -> Result<(), RequestError<NotFound>> {
        self.worker.call(move |turn| turn.core.set_tap_paused(turn.now, tap, paused)).await
    }
}
