//! A room: who publishes, who receives, and whose HLS runs, from a peer's arrival to its last trace.
//!
//! A [`Room`] puts what peers ask for to the media core and to egress, keeps the books of what belongs to whom, and
//! tells what happened as [`Event`] values. However a peer ends (it leaves, its socket closes, its media path dies),
//! one function cleans up. Nothing here knows a wire format.

mod error;
mod event;
mod hls;
mod registry;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mediasoup_types::data_structures::DtlsParameters;
use mediasoup_types::rtp_parameters::{MediaKind, RtpCapabilities, RtpCapabilitiesFinalized, RtpParameters};
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc};
use tracing::{debug, info};

use crate::egress::{Egress, EgressEvent};
use crate::ids::{ConsumerId, PeerId, ProducerId, TransportId};
use crate::sfu::api::{self, ConsumerInfo, TransportCloseReason, WebRtcTransportInfo};
use crate::worker::{RouterHandle, WorkerEvent};

pub use error::{
    ConnectTransportError, ConsumeError, ControlError, CreateTransportError, JoinError, NotYours, PeerGone,
    ProduceError,
};
pub use event::{Event, PeerEvent};
pub use registry::Direction;
use registry::{HlsState, Limits, Producer, Refusal, Registry};

/// How many events a slow subscriber may be behind before it is told that it missed some.
pub const EVENT_BACKLOG: usize = 1024;
/// How many events of its own a peer may leave unread before it is taken for dead and removed.
pub const PEER_EVENT_BACKLOG: usize = 1024;
/// The most transports of one peer: one to send on and one to receive on. A new one replaces the old one.
pub const MAX_TRANSPORTS_PER_PEER: usize = 2;

/// How much one room and one peer may hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The most peers in the room.
    pub max_peers: usize,
    /// The most producers of one peer.
    pub max_producers_per_peer: usize,
    /// The most consumers of one peer.
    pub max_consumers_per_peer: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_peers: 10_000, max_producers_per_peer: 8, max_consumers_per_peer: 1000 }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// The setting that makes no sense, and why.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        for (setting, value) in [
            ("live.max_peers", self.max_peers),
            ("live.max_producers_per_peer", self.max_producers_per_peer),
            ("live.max_consumers_per_peer", self.max_consumers_per_peer),
        ] {
            if value == 0 {
                return Err((setting, "0 would let nobody in".into()));
            }
        }
        Ok(())
    }
}

/// How much a room holds at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Peers.
    pub peers: usize,
    /// What they publish.
    pub producers: usize,
    /// What they receive.
    pub consumers: usize,
    /// Peers that can be played over HLS.
    pub live_peers: usize,
}

/// A consumer that was made, and what its publisher says about the source.
#[derive(Debug, Clone)]
pub struct Consumed {
    /// The consumer.
    pub consumer: ConsumerInfo,
    /// The publisher's own words, as given with `produce`.
    pub app_data: serde_json::Value,
}

/// Which of a peer's own producers is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProducerRef {
    /// This one.
    Id(ProducerId),
    /// The peer's first one of this kind.
    Kind(MediaKind),
}

/// One room over one router. Clones are the same room.
#[derive(Clone)]
pub struct Room {
    inner: Arc<Inner>,
}

struct Inner {
    router: RouterHandle,
    egress: Option<Egress>,
    registry: Mutex<Registry>,
    events: broadcast::Sender<Event>,
}

impl Room {
    /// An empty room. Without `egress`, nobody gets HLS.
    #[must_use]
    pub fn new(config: &Config, router: RouterHandle, egress: Option<Egress>) -> Self {
        let limits = Limits {
            peers: config.max_peers,
            producers_per_peer: config.max_producers_per_peer,
            consumers_per_peer: config.max_consumers_per_peer,
        };
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        let registry = Mutex::new(Registry::new(limits));
        Self { inner: Arc::new(Inner { router, egress, registry, events }) }
    }

    /// What clients load their device with.
    #[must_use]
    pub fn rtp_capabilities(&self) -> &RtpCapabilitiesFinalized {
        self.inner.router.rtp_capabilities()
    }

    /// What happens from now on. A subscriber that falls [`EVENT_BACKLOG`] events behind is told so by its receiver.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.inner.events.subscribe()
    }

    /// Who can be played over HLS.
    #[must_use]
    pub fn live_peers(&self) -> Vec<PeerId> {
        self.registry().live()
    }

    /// How much the room holds.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let [peers, producers, consumers, live_peers] = self.registry().counts();
        Counts { peers, producers, consumers, live_peers }
    }

    /// Lets a peer in. The receiver gets what happens to the peer's own things; it ends when the peer is removed.
    ///
    /// # Errors
    /// The room is full or closed, or the name is taken.
    pub fn join(&self, peer: PeerId) -> Result<mpsc::Receiver<PeerEvent>, JoinError> {
        let (inbox, events) = mpsc::channel(PEER_EVENT_BACKLOG);
        self.registry().add_peer(peer, inbox).map_err(join_refusal)?;
        Ok(events)
    }

    /// Whether a new peer could join at this moment.
    ///
    /// # Errors
    /// The room is full or closed.
    pub fn check_join(&self) -> Result<(), JoinError> {
        self.registry().check_room().map_err(join_refusal)
    }

    /// Removes a peer and everything it had, everywhere. Does nothing for one who is gone already.
    pub async fn leave(&self, peer: &PeerId) {
        let Some(removed) = self.registry().remove_peer(peer) else { return };
        if removed.had_hls {
            self.end_hls(peer);
        }
        self.publish(Event::PeerLeft(peer.clone()));
        if removed.was_live {
            self.publish(Event::PeerOffAir(peer.clone()));
        }
        for transport in removed.transports {
            self.close_in_core(transport).await;
        }
    }

    /// Makes a transport for a peer. The one it had for the same direction is closed, with everything on it.
    ///
    /// # Errors
    /// The peer is gone, or the worker is full.
    pub async fn create_transport(
        &self,
        peer: &PeerId,
        direction: Direction,
    ) -> Result<WebRtcTransportInfo, CreateTransportError> {
        let info = self.inner.router.create_webrtc_transport().await?;
        let added = self.registry().add_transport(peer, direction, info.id);
        match added {
            Ok(None) => {}
            Ok(Some((previous, removed))) => {
                self.transport_removed(peer, removed);
                self.close_in_core(previous).await;
            }
            Err(_) => {
                self.close_in_core(info.id).await;
                return Err(PeerGone.into());
            }
        }
        Ok(info)
    }

    /// Connects one of the peer's transports.
    ///
    /// # Errors
    /// Not the peer's transport, connected already, or parameters that can't be used.
    pub async fn connect_transport(
        &self,
        peer: &PeerId,
        transport: TransportId,
        remote: DtlsParameters,
    ) -> Result<(), ConnectTransportError> {
        if !self.registry().owns_transport(peer, transport) {
            return Err(not_yours("transport", transport).into());
        }
        Ok(self.inner.router.connect_transport(transport, remote).await?)
    }

    /// Publishes a source on the peer's send transport.
    ///
    /// # Errors
    /// No send transport, too many producers, or parameters that can't be used.
    pub async fn produce(
        &self,
        peer: &PeerId,
        kind: MediaKind,
        parameters: RtpParameters,
        app_data: serde_json::Value,
    ) -> Result<ProducerId, ProduceError> {
        let transport = {
            let registry = self.registry();
            registry.room_for_producer(peer).map_err(produce_refusal)?;
            registry.transport(peer, Direction::Send).ok_or(ProduceError::NoTransport)?
        };
        let info = self.inner.router.produce(transport, kind, parameters, false).await?;
        let id = info.id;
        let producer = Producer { id, kind, paused: false, app_data, hls: HlsState::Off };
        let added = self.registry().add_producer(peer, transport, producer, self.inner.egress.is_some());
        match added {
            Err(refusal) => {
                self.log_refused("close producer", self.inner.router.close_producer(id).await);
                return Err(produce_refusal(refusal));
            }
            Ok(hls) => {
                self.publish(Event::NewProducer { peer: peer.clone(), producer: id, kind });
                if hls == HlsState::Chosen {
                    self.start_hls(peer, id).await;
                }
            }
        }
        Ok(id)
    }

    /// Gives the peer a consumer of `producer` on its receive transport, paused.
    ///
    /// # Errors
    /// No receive transport, no such producer, too many consumers, or capabilities that don't fit.
    pub async fn consume(
        &self,
        peer: &PeerId,
        producer: ProducerId,
        capabilities: RtpCapabilities,
    ) -> Result<Consumed, ConsumeError> {
        let (transport, app_data) = {
            let registry = self.registry();
            let transport = registry.transport(peer, Direction::Receive).ok_or(ConsumeError::NoTransport)?;
            let (_, entry) = registry.producer(producer).ok_or_else(|| not_yours("producer", producer))?;
            registry.room_for_consumer(peer).map_err(consume_refusal)?;
            (transport, entry.app_data.clone())
        };
        let consumer = self.inner.router.consume(transport, producer, capabilities, true).await?;
        let added = self.registry().add_consumer(peer, transport, consumer.id);
        if let Err(refusal) = added {
            self.log_refused("close consumer", self.inner.router.close_consumer(consumer.id).await);
            return Err(consume_refusal(refusal));
        }
        Ok(Consumed { consumer, app_data })
    }

    /// Pauses or resumes one of the peer's consumers.
    ///
    /// # Errors
    /// Not the peer's consumer.
    pub async fn set_consumer_paused(
        &self,
        peer: &PeerId,
        consumer: ConsumerId,
        paused: bool,
    ) -> Result<(), ControlError> {
        if self.registry().consumer_owner(consumer) != Some(peer) {
            return Err(not_yours("consumer", consumer).into());
        }
        Ok(self.inner.router.set_consumer_paused(consumer, paused).await?)
    }

    /// Closes one of the peer's consumers.
    ///
    /// # Errors
    /// Not the peer's consumer.
    pub async fn close_consumer(&self, peer: &PeerId, consumer: ConsumerId) -> Result<(), ControlError> {
        {
            let mut registry = self.registry();
            if registry.consumer_owner(consumer) != Some(peer) {
                return Err(not_yours("consumer", consumer).into());
            }
            registry.remove_consumer(consumer);
        }
        Ok(self.inner.router.close_consumer(consumer).await?)
    }

    /// Pauses or resumes one of the peer's producers, and tells everyone if that is a change.
    ///
    /// # Errors
    /// Not the peer's producer, or none of this kind.
    pub async fn set_producer_paused(
        &self,
        peer: &PeerId,
        producer: ProducerRef,
        paused: bool,
    ) -> Result<(), ControlError> {
        let (id, kind) = self.own_producer(peer, producer)?;
        self.inner.router.set_producer_paused(id, paused).await?;
        if self.registry().set_paused(id, paused) {
            let (peer, producer) = (peer.clone(), id);
            self.publish(if paused {
                Event::ProducerPaused { peer, producer, kind }
            } else {
                Event::ProducerResumed { peer, producer, kind }
            });
        }
        Ok(())
    }

    /// Ends one of the peer's producers, and tells everyone.
    ///
    /// # Errors
    /// Not the peer's producer, or none of this kind.
    pub async fn close_producer(&self, peer: &PeerId, producer: ProducerRef) -> Result<(), ControlError> {
        let (id, _) = self.own_producer(peer, producer)?;
        let removed = self.registry().remove_producer(peer, id);
        let Some((removed, ends_hls, was_live)) = removed else {
            return Err(not_yours("producer", id).into());
        };
        self.producers_removed(peer, &[removed], ends_hls, was_live);
        Ok(self.inner.router.close_producer(id).await?)
    }

    /// What the other peers publish, with who does.
    #[must_use]
    pub fn producers_of_others(&self, peer: &PeerId) -> Vec<(PeerId, ProducerId)> {
        self.registry().producers_of_others(peer)
    }

    /// Follows what the media core and egress report, until both have ended. Runs as a task of its own.
    pub async fn follow(
        self,
        mut media: mpsc::Receiver<WorkerEvent>,
        mut egress: Option<mpsc::Receiver<EgressEvent>>,
    ) {
        loop {
            tokio::select! {
                event = media.recv() => match event {
                    Some(event) => self.on_media_event(event).await,
                    None => return,
                },
                event = async {
                    match &mut egress {
                        Some(events) => events.recv().await,
                        None => std::future::pending().await,
                    }
                } => match event {
                    Some(event) => self.on_egress_event(event),
                    None => egress = None,
                },
            }
        }
    }

    /// Lets nobody in from now on and removes everyone.
    pub async fn close(&self) {
        let peers = self.registry().close();
        for peer in peers {
            self.leave(&peer).await;
        }
    }

    async fn on_media_event(&self, event: WorkerEvent) {
        match event {
            api::Event::TransportConnected(transport) => {
                debug!(%transport, "transport connected");
                self.registry().set_connected(transport);
            }
            api::Event::TransportClosed(transport, reason) => {
                self.on_transport_closed(transport, reason).await
            }
            api::Event::ConsumerClosed(consumer) => {
                let owner = self.registry().remove_consumer(consumer);
                self.tell(owner, PeerEvent::ConsumerClosed(consumer)).await;
            }
            api::Event::ConsumerPaused(consumer) => {
                let owner = self.registry().consumer_owner(consumer).cloned();
                self.tell(owner, PeerEvent::ConsumerPaused(consumer)).await;
            }
            api::Event::ConsumerResumed(consumer) => {
                let owner = self.registry().consumer_owner(consumer).cloned();
                self.tell(owner, PeerEvent::ConsumerResumed(consumer)).await;
            }
        }
    }

    /// A browser that no longer answers is gone with everything it had. One that closed a transport, could not secure
    /// it, or never got it up, loses that transport only.
    async fn on_transport_closed(&self, transport: TransportId, reason: TransportCloseReason) {
        let removed = self.registry().remove_transport(transport);
        let Some((peer, removed)) = removed else { return };
        info!(%peer, %transport, ?reason, "transport closed");
        let vanished = reason == TransportCloseReason::ConsentLost && removed.was_connected;
        self.transport_removed(&peer, removed);
        if vanished {
            self.leave(&peer).await;
        } else {
            self.tell(Some(peer), PeerEvent::TransportClosed(transport)).await;
        }
    }

    fn on_egress_event(&self, event: EgressEvent) {
        match event {
            EgressEvent::Playable(peer) => {
                let news = self.registry().set_live(&peer);
                if news {
                    self.publish(Event::PeerLive(peer));
                }
            }
            EgressEvent::Gone(peer) => debug!(%peer, "HLS gone"),
        }
    }

    /// Leaves word for a peer. One that has not read its last [`PEER_EVENT_BACKLOG`] events is removed.
    async fn tell(&self, peer: Option<PeerId>, event: PeerEvent) {
        let Some(peer) = peer else { return };
        let stuck = {
            let registry = self.registry();
            matches!(registry.inbox(&peer).map(|inbox| inbox.try_send(event)), Some(Err(_)))
        };
        if stuck {
            info!(%peer, "peer removed: it does not read its events");
            self.leave(&peer).await;
        }
    }

    fn own_producer(
        &self,
        peer: &PeerId,
        producer: ProducerRef,
    ) -> Result<(ProducerId, MediaKind), ControlError> {
        let registry = self.registry();
        match producer {
            ProducerRef::Kind(kind) => {
                let id = registry.producer_of_kind(peer, kind).ok_or(ControlError::NoneOfKind(kind))?;
                Ok((id, kind))
            }
            ProducerRef::Id(id) => match registry.producer(id) {
                Some((owner, entry)) if owner == peer => Ok((id, entry.kind)),
                _ => Err(not_yours("producer", id).into()),
            },
        }
    }

    async fn close_in_core(&self, transport: TransportId) {
        self.log_refused("close transport", self.inner.router.close_transport(transport).await);
    }

    /// What is closed here may have ended in the core by itself a moment ago: that is no error.
    fn log_refused<E: std::error::Error>(&self, what: &str, result: Result<(), E>) {
        if let Err(error) = result {
            debug!(router = %self.inner.router.id(), %error, "{what}");
        }
    }

    fn publish(&self, event: Event) {
        debug!(?event, "room event");
        // Nobody listening is no error.
        drop(self.inner.events.send(event));
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.inner.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_yours(what: &'static str, id: impl ToString) -> NotYours {
    NotYours { what, id: id.to_string() }
}

fn join_refusal(refusal: Refusal) -> JoinError {
    match refusal {
        Refusal::Gone => JoinError::Closed,
        Refusal::Full(limit) => JoinError::Full(limit),
        Refusal::NameTaken => JoinError::NameTaken,
    }
}

fn produce_refusal(refusal: Refusal) -> ProduceError {
    match refusal {
        Refusal::Full(limit) => ProduceError::Full(limit),
        Refusal::Gone | Refusal::NameTaken => ProduceError::Closed,
    }
}

fn consume_refusal(refusal: Refusal) -> ConsumeError {
    match refusal {
        Refusal::Full(limit) => ConsumeError::Full(limit),
        Refusal::Gone | Refusal::NameTaken => ConsumeError::Closed,
    }
}
