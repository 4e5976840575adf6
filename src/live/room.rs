//! One room: what its peers ask for is put to the media core and to egress, and what happens is told.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::SystemTime;

use mediasoup_types::data_structures::DtlsParameters;
use mediasoup_types::rtp_parameters::{MediaKind, RtpCapabilities, RtpCapabilitiesFinalized, RtpParameters};
use tokio::sync::{broadcast, mpsc};
use tracing::debug;

use super::bitrates::Bitrates;
use super::error::{
    ConnectTransportError, ConsumeError, ControlError, CreateTransportError, JoinError, NotYours, PeerGone,
    ProduceError,
};
use super::event::{Event, HlsEvent, PeerEvent};
use super::hls::wanted_start;
use super::ice_servers::{self, IceServer, IceServerConfig};
use super::registry::{Direction, HlsState, Limits, Producer, Refusal, Registry, TransportRef};
use super::speakers::Listeners;
use super::{Counts, EVENT_BACKLOG, PEER_EVENT_BACKLOG, rooms};
use crate::egress::Egress;
use crate::ids::{PeerId, ProducerId, RoomId, RouterId, TransportId};
use crate::sfu::api::{ConsumerInfo, WebRtcTransportInfo, WebRtcTransportOptions};
use crate::sfu::layers::ConsumeOptions;
use crate::worker::RouterHandle;

/// A consumer that was made, and what its publisher says about the source.
#[derive(Debug, Clone)]
pub struct Consumed {
    /// The consumer.
    pub consumer: ConsumerInfo,
    /// Who publishes the source.
    pub publisher: PeerId,
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

/// A producer as the other peers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteProducer {
    /// Who publishes it.
    pub peer: PeerId,
    /// The producer.
    pub id: ProducerId,
    /// Audio or video.
    pub kind: MediaKind,
}

/// A room over one router. Clones are the same room.
#[derive(Clone)]
pub struct Room {
    pub(super) inner: Arc<Inner>,
}

/// What a room is made from.
pub(super) struct Parts {
    pub(super) id: RoomId,
    pub(super) router: RouterHandle,
    pub(super) limits: Limits,
    pub(super) bitrates: Bitrates,
    /// Whether the room stays when the last peer has left.
    pub(super) stays: bool,
    pub(super) home: Weak<rooms::Inner>,
}

pub(super) struct Inner {
    pub(super) id: RoomId,
    pub(super) router: RouterHandle,
    pub(super) egress: Option<Egress>,
    pub(super) bitrates: Bitrates,
    /// What tells who speaks, once someone wants to know.
    pub(super) listeners: OnceLock<Listeners>,
    registry: Mutex<Registry>,
    events: broadcast::Sender<Event>,
    /// Who is live over HLS, in all rooms.
    hls_events: broadcast::Sender<HlsEvent>,
    ice_servers: Arc<[IceServerConfig]>,
    home: Weak<rooms::Inner>,
}

/// A transport that was made, as its client has to be told.
#[derive(Debug)]
pub struct CreatedTransport {
    /// The transport.
    pub info: WebRtcTransportInfo,
    /// STUN and TURN servers that the client may use; empty unless some are configured.
    pub ice_servers: Vec<IceServer>,
}

impl Room {
    pub(super) fn new(parts: Parts, home: &rooms::Inner) -> Self {
        let Parts { id, router, limits, bitrates, stays, home: weak } = parts;
        let registry = Registry::new(router.id(), limits, stays, Arc::clone(&home.index));
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        let inner = Inner {
            id,
            router,
            egress: home.egress.clone(),
            bitrates,
            listeners: OnceLock::new(),
            registry: Mutex::new(registry),
            events,
            hls_events: home.hls_events.clone(),
            ice_servers: Arc::clone(&home.ice_servers),
            home: weak,
        };
        Self { inner: Arc::new(inner) }
    }

    /// What its clients call it.
    #[must_use]
    pub fn id(&self) -> &RoomId {
        &self.inner.id
    }

    pub(super) fn router_id(&self) -> RouterId {
        self.inner.router.id()
    }

    /// Ends a room that nobody has ever been in.
    pub(super) async fn discard(&self) {
        self.registry().close();
        self.log_refused("close router", self.inner.router.close().await);
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

    /// Who of it can be played over HLS.
    pub(super) fn live_peers(&self) -> Vec<PeerId> {
        self.registry().live().cloned().collect()
    }

    /// How much the room holds.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let [peers, producers, consumers, live_peers] = self.registry().counts();
        Counts { rooms: 1, peers, producers, consumers, live_peers }
    }

    /// Lets a peer in. The receiver gets what happens to the peer's own things; it ends when the peer is removed.
    ///
    /// # Errors
    /// The room is full or closed, or a peer of this name is in this or another room.
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
        self.publish(Event::PeerLeft { peer: peer.clone(), info: removed.info });
        if removed.was_live {
            self.publish_hls(HlsEvent::OffAir(peer.clone()));
        }
        for transport in removed.transports {
            self.close_in_core(transport).await;
        }
        if removed.ended_room {
            if let Some(home) = self.inner.home.upgrade() {
                home.forget(self);
            }
            self.log_refused("close router", self.inner.router.close().await);
        }
    }

    /// Makes a transport for a peer, which `replaces` those that the peer had for the same direction, with everything on
    /// them, or is one more.
    ///
    /// # Errors
    /// The peer is gone or has as many transports as it may, or the worker is full.
    pub async fn create_transport(
        &self,
        peer: &PeerId,
        direction: Direction,
        replaces: bool,
        mut options: WebRtcTransportOptions,
    ) -> Result<CreatedTransport, CreateTransportError> {
        if !replaces {
            self.registry().room_for_transport(peer).map_err(transport_refusal)?;
        }
        options.initial_available_outgoing_bitrate.get_or_insert(self.inner.bitrates.initial_outgoing);
        let info = self.inner.router.create_webrtc_transport(options).await?;
        let added = self.registry().add_transport(peer, direction, info.id, replaces);
        match added {
            Ok(replaced) => {
                for (previous, removed) in replaced {
                    self.transport_removed(peer, removed);
                    self.close_in_core(previous).await;
                }
            }
            Err(refusal) => {
                self.close_in_core(info.id).await;
                return Err(transport_refusal(refusal));
            }
        }
        for bound in self.inner.bitrates.own() {
            if let Err(error) = self.set_bitrate(peer, info.id, bound, None).await {
                debug!(%peer, transport = %info.id, %error, "not bounded");
            }
        }
        let ice_servers = ice_servers::told(&self.inner.ice_servers, SystemTime::now(), peer.as_str());
        Ok(CreatedTransport { info, ice_servers })
    }

    /// The peer's newest transport of a direction.
    #[must_use]
    pub fn newest_transport(&self, peer: &PeerId, direction: Direction) -> Option<TransportId> {
        self.registry().transport(peer, TransportRef::Newest, direction)
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

    /// Publishes a source on one of the peer's transports.
    ///
    /// # Errors
    /// No such transport to send on, too many producers, or parameters or `appData` that can't be used.
    pub async fn produce(
        &self,
        peer: &PeerId,
        on: TransportRef,
        kind: MediaKind,
        parameters: RtpParameters,
        app_data: serde_json::Value,
    ) -> Result<ProducerId, ProduceError> {
        let start = wanted_start(&app_data)?;
        let transport = {
            let registry = self.registry();
            registry.room_for_producer(peer).map_err(produce_refusal)?;
            match (registry.transport(peer, on, Direction::Send), on) {
                (Some(transport), _) => transport,
                (None, TransportRef::Newest) => return Err(ProduceError::NoTransport),
                (None, TransportRef::Id(id)) => return Err(not_yours("transport to send on", id).into()),
            }
        };
        let info = self.inner.router.produce(transport, kind, parameters, false).await?;
        let id = info.id;
        let producer =
            Producer { id, transport, kind, paused: false, app_data, hls: HlsState::Off, number: 0 };
        let added = self.registry().add_producer(peer, producer, self.inner.egress.is_some());
        match added {
            Err(refusal) => {
                self.log_refused("close producer", self.inner.router.close_producer(id).await);
                return Err(produce_refusal(refusal));
            }
            Ok(hls) => {
                self.publish(Event::NewProducer { peer: peer.clone(), producer: id, kind });
                self.listen_to(id, kind).await;
                if hls == HlsState::Chosen {
                    self.start_hls(peer, id, start).await;
                }
            }
        }
        Ok(id)
    }

    /// Gives the peer a consumer of `producer` on one of its transports, paused in any case. Layers are preferred of
    /// video only.
    ///
    /// # Errors
    /// No such transport to receive on, no such producer, too many consumers, or capabilities that don't fit.
    pub async fn consume(
        &self,
        peer: &PeerId,
        on: TransportRef,
        producer: ProducerId,
        capabilities: RtpCapabilities,
        mut options: ConsumeOptions,
    ) -> Result<Consumed, ConsumeError> {
        options.paused = true;
        let (transport, publisher, app_data) = {
            let registry = self.registry();
            let transport = match (registry.transport(peer, on, Direction::Receive), on) {
                (Some(transport), _) => transport,
                (None, TransportRef::Newest) => return Err(ConsumeError::NoTransport),
                (None, TransportRef::Id(id)) => return Err(not_yours("transport to receive on", id).into()),
            };
            let (publisher, entry) =
                registry.producer(producer).ok_or_else(|| not_yours("producer", producer))?;
            registry.room_for_consumer(peer).map_err(consume_refusal)?;
            options.preferred_layers = options.preferred_layers.filter(|_| entry.kind == MediaKind::Video);
            (transport, publisher, entry.app_data.clone())
        };
        let consumer = self.inner.router.consume(transport, producer, capabilities, options).await?;
        let added = self.registry().add_consumer(peer, transport, producer, consumer.id);
        if let Err(refusal) = added {
            self.log_refused("close consumer", self.inner.router.close_consumer(consumer.id).await);
            return Err(consume_refusal(refusal));
        }
        Ok(Consumed { consumer, publisher, app_data })
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

    /// Ends one of the peer's producers, and tells everyone. Its kind is the answer.
    ///
    /// # Errors
    /// Not the peer's producer, or none of this kind.
    pub async fn close_producer(
        &self,
        peer: &PeerId,
        producer: ProducerRef,
    ) -> Result<MediaKind, ControlError> {
        let (id, kind) = self.own_producer(peer, producer)?;
        let removed = self.registry().remove_producer(peer, id);
        let Some((removed, ends_hls, was_live)) = removed else {
            return Err(not_yours("producer", id).into());
        };
        self.producers_removed(peer, &[removed], ends_hls, was_live);
        self.inner.router.close_producer(id).await?;
        Ok(kind)
    }

    /// What the other peers publish, with who does.
    #[must_use]
    pub fn producers_of_others(&self, peer: &PeerId) -> Vec<RemoteProducer> {
        let registry = self.registry();
        let others = registry.producers().filter(|(name, _)| *name != peer);
        others
            .map(|(name, entry)| RemoteProducer { peer: name.clone(), id: entry.id, kind: entry.kind })
            .collect()
    }

    /// What was published last: by another peer, or else by this one itself.
    #[must_use]
    pub fn newest_producer(&self, peer: &PeerId) -> Option<ProducerId> {
        self.registry().newest_producer(peer)
    }

    /// Lets nobody in from now on and removes everyone.
    pub async fn close(&self) {
        let peers = self.registry().close();
        for peer in peers {
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
                Some((owner, entry)) if owner == *peer => Ok((id, entry.kind)),
                _ => Err(not_yours("producer", id).into()),
            },
        }
    }

    pub(super) async fn close_in_core(&self, transport: TransportId) {
        self.log_refused("close transport", self.inner.router.close_transport(transport).await);
    }

    /// What is closed here may have ended in the core by itself a moment ago: that is no error.
    pub(super) fn log_refused<E: std::error::Error>(&self, what: &str, result: Result<(), E>) {
        if let Err(error) = result {
            debug!(router = %self.inner.router.id(), %error, "{what}");
        }
    }

    pub(super) fn publish_hls(&self, event: HlsEvent) {
        debug!(?event, "HLS event");
        // Nobody listening is no error.
        drop(self.inner.hls_events.send(event));
    }

    pub(super) fn publish(&self, event: Event) {
        debug!(?event, "room event");
        // Nobody listening is no error.
        drop(self.inner.events.send(event));
    }

    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.inner.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn not_yours(what: &'static str, id: impl ToString) -> NotYours {
    NotYours { what, id: id.to_string() }
}

pub(super) fn transport_refusal(refusal: Refusal) -> CreateTransportError {
    match refusal {
        Refusal::Full(limit) => CreateTransportError::Full(limit),
        Refusal::Gone | Refusal::NameTaken => PeerGone.into(),
    }
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
