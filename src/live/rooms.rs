//! All rooms of the server: made when the first peer comes, gone when the last one leaves.
//!
//! Each room has a router of its own, on the worker that carries the least. What the media core and egress report is
//! taken to its room through one index of everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use mediasoup_types::rtp_parameters::RtpCodecCapability;
use tokio::sync::{broadcast, mpsc};
use tracing::{debug, info};

use super::bitrates::Bitrates;
use super::error::JoinError;
use super::event::{HlsEvent, PeerEvent};
use super::ice_servers::IceServerConfig;
use super::index::{Index, Thing};
use super::registry::Limits;
use super::room::{Parts, Room};
use super::{Config, Counts, EVENT_BACKLOG};
use crate::egress::{Egress, EgressEvent};
use crate::ids::{PeerId, RoomId, RouterId};
use crate::sfu::api;
use crate::worker::{WorkerEvent, WorkerPool};

/// The name of the room that is always there: of clients that know of no rooms.
pub const DEFAULT_ROOM: &str = "default";
/// How often joining is tried when the room ends at the same moment.
const JOIN_TRIES: usize = 3;

/// All rooms. Clones are the same.
#[derive(Clone)]
pub struct Rooms {
    inner: Arc<Inner>,
    default: Room,
}

pub(super) struct Inner {
    config: Config,
    workers: WorkerPool,
    codecs: Vec<RtpCodecCapability>,
    pub(super) egress: Option<Egress>,
    pub(super) index: Arc<Index>,
    by_id: DashMap<RoomId, Room>,
    by_router: DashMap<RouterId, Room>,
    pub(super) hls_events: broadcast::Sender<HlsEvent>,
    pub(super) ice_servers: Arc<[IceServerConfig]>,
    closed: AtomicBool,
}

impl Rooms {
    /// The rooms of a server, of which only the default one is there; its peers may use `codecs`. Without `egress`,
    /// nobody gets HLS. Clients are told of `ice_servers`.
    ///
    /// # Errors
    /// A codec that is not supported.
    pub async fn start(
        config: &Config,
        workers: WorkerPool,
        codecs: Vec<RtpCodecCapability>,
        egress: Option<Egress>,
        ice_servers: &[IceServerConfig],
    ) -> anyhow::Result<Self> {
        let id = DEFAULT_ROOM.parse()?;
        let (hls_events, _) = broadcast::channel(EVENT_BACKLOG);
        let inner = Arc::new(Inner {
            config: config.clone(),
            workers,
            codecs,
            egress,
            index: Arc::default(),
            by_id: DashMap::new(),
            by_router: DashMap::new(),
            hls_events,
            ice_servers: ice_servers.into(),
            closed: AtomicBool::new(false),
        });
        let default = inner.create(&id, true).await?;
        Ok(Self { inner, default })
    }

    /// The room of clients that know of no rooms.
    #[must_use]
    pub fn default_room(&self) -> &Room {
        &self.default
    }

    /// The room of this name, if it is there.
    #[must_use]
    pub fn get(&self, id: &RoomId) -> Option<Room> {
        self.inner.by_id.get(id).map(|room| room.value().clone())
    }

    /// The room that a peer is in.
    #[must_use]
    pub fn room_of_peer(&self, peer: &PeerId) -> Option<Room> {
        self.room_of(&Thing::Peer(peer.clone()))
    }

    /// Lets a peer into the room of this name, which is made if it is not there. See [`Room::join`].
    ///
    /// # Errors
    /// The room is full, there are too many rooms, the name is taken, or the server is going down.
    pub async fn join(
        &self,
        id: &RoomId,
        peer: &PeerId,
    ) -> Result<(Room, mpsc::Receiver<PeerEvent>), JoinError> {
        for _ in 0..JOIN_TRIES {
            self.check_open()?;
            let room = match self.get(id) {
                Some(room) => room,
                None => self.inner.create(id, false).await?,
            };
            match room.join(peer.clone()) {
                Ok(events) => return Ok((room, events)),
                // Its last peer left at this very moment; the next room of this name is another one.
                Err(JoinError::Closed) => {}
                Err(error) => return Err(error),
            }
        }
        Err(JoinError::Closed)
    }

    /// Whether anyone may come in at all.
    ///
    /// # Errors
    /// The server is going down.
    pub fn check_open(&self) -> Result<(), JoinError> {
        if self.inner.closed.load(Ordering::Acquire) { Err(JoinError::Closed) } else { Ok(()) }
    }

    /// Who goes on and off the air over HLS from now on, in all rooms. A subscriber that falls [`EVENT_BACKLOG`] events
    /// behind is told so by its receiver.
    #[must_use]
    pub fn subscribe_hls(&self) -> broadcast::Receiver<HlsEvent> {
        self.inner.hls_events.subscribe()
    }

    /// Who can be played over HLS, in all rooms.
    #[must_use]
    pub fn live_peers(&self) -> Vec<PeerId> {
        let mut live: Vec<PeerId> = self.all().iter().flat_map(Room::live_peers).collect();
        live.sort();
        live
    }

    /// How much all rooms hold.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.all().iter().map(Room::counts).fold(Counts::default(), |sum, counts| sum + counts)
    }

    /// Follows what the media core and egress report, until the media core has ended. Runs as a task of its own.
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
        self.inner.closed.store(true, Ordering::Release);
        for room in self.all() {
            room.close().await;
        }
    }

    async fn on_media_event(&self, event: WorkerEvent) {
        let about = match &event {
            api::Event::TransportConnected(id)
            | api::Event::TransportClosed(id, _)
            | api::Event::AvailableOutgoingBitrate { transport: id, .. } => Thing::from(*id),
            api::Event::ConsumerClosed(id)
            | api::Event::ConsumerPaused(id)
            | api::Event::ConsumerResumed(id)
            | api::Event::ConsumerLayersChanged { consumer: id, .. }
            | api::Event::ConsumerScore { consumer: id, .. } => Thing::from(*id),
            api::Event::ProducerScore { producer, .. } => Thing::from(*producer),
            api::Event::Volumes { router, .. }
            | api::Event::Silence { router, .. }
            | api::Event::DominantSpeaker { router, .. } => {
                let room = self.inner.by_router.get(router).map(|room| room.value().clone());
                if let Some(room) = room {
                    room.on_media_event(event).await;
                }
                return;
            }
            api::Event::SctpStateChanged(id, _) => Thing::from(*id),
            api::Event::DataConsumerClosed(id)
            | api::Event::DataConsumerPaused(id)
            | api::Event::DataConsumerResumed(id)
            | api::Event::DataConsumerBufferFull(id)
            | api::Event::DataConsumerBufferedAmountLow(id, _) => Thing::from(*id),
        };
        match self.room_of(&about) {
            Some(room) => room.on_media_event(event).await,
            None => debug!(?event, "about something that is gone"),
        }
    }

    fn on_egress_event(&self, event: EgressEvent) {
        let (EgressEvent::Playable(peer) | EgressEvent::Gone(peer)) = &event;
        if let Some(room) = self.room_of(&Thing::Peer(peer.clone())) {
            room.on_egress_event(event);
        }
    }

    fn room_of(&self, thing: &Thing) -> Option<Room> {
        let owner = self.inner.index.owner(thing)?;
        self.inner.by_router.get(&owner.room).map(|room| room.value().clone())
    }

    fn all(&self) -> Vec<Room> {
        self.inner.by_router.iter().map(|room| room.value().clone()).collect()
    }
}

impl Inner {
    /// Makes the room of this name; if someone else was faster, it is theirs.
    async fn create(self: &Arc<Self>, id: &RoomId, stays: bool) -> Result<Room, JoinError> {
        let limit = self.config.max_rooms;
        if self.by_id.len() >= limit {
            return Err(JoinError::TooManyRooms(limit));
        }
        let router = self.workers.create_router(self.codecs.clone()).await?;
        let home = Arc::downgrade(self);
        let (limits, bitrates) = (Limits::from(&self.config), Bitrates::from(&self.config));
        let room = Room::new(Parts { id: id.clone(), router, limits, bitrates, stays, home }, self);
        let faster = match self.by_id.entry(id.clone()) {
            Entry::Occupied(other) => Some(other.get().clone()),
            Entry::Vacant(free) => {
                self.by_router.insert(room.router_id(), room.clone());
                free.insert(room.clone());
                None
            }
        };
        if let Some(other) = faster {
            room.discard().await;
            return Ok(other);
        }
        info!(room = %id, "room made");
        Ok(room)
    }

    /// Forgets a room that ended. Another one of its name may be there already.
    pub(super) fn forget(&self, room: &Room) {
        self.by_router.remove(&room.router_id());
        self.by_id.remove_if(room.id(), |_, known| known.router_id() == room.router_id());
        info!(room = %room.id(), "room ended");
    }
}
