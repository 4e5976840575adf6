//! Who is in a room and what belongs to whom, as plain values: no task, no I/O, no waiting.
//!
//! Each change is one call that leaves the registry consistent and returns what the change drags along, for the room
//! to carry out. An id that is not there is an ordinary answer, because everything here can end at any moment.

mod data;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mediasoup_types::rtp_parameters::MediaKind;
use tokio::sync::mpsc;

use super::event::PeerEvent;
use super::index::{Index, Owner, Thing};
use crate::ids::{ConsumerId, PeerId, ProducerId, RouterId, TransportId};
pub(super) use data::{DataConsumer, DataProducer};

/// Which way a transport carries media, as its peer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The peer publishes on it.
    Send,
    /// The peer receives on it.
    Receive,
    /// The peer may do both on it.
    Both,
}

impl Direction {
    fn carries(self, wanted: Self) -> bool {
        self == wanted || self == Self::Both
    }
}

/// Which of a peer's transports is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportRef {
    /// This one.
    Id(TransportId),
    /// The newest one that goes the right way.
    Newest,
}

/// How much one room and one of its peers may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) peers: usize,
    pub(super) transports_per_peer: usize,
    pub(super) producers_per_peer: usize,
    pub(super) consumers_per_peer: usize,
    pub(super) data_producers_per_peer: usize,
    pub(super) data_consumers_per_peer: usize,
}

/// What a peer tells the others about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerInfo {
    /// What it wants to be called.
    pub display_name: Option<String>,
    /// What it runs on, in its own words: a JSON object, or null.
    pub device: serde_json::Value,
}

/// One source that a peer publishes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Producer {
    pub(super) id: ProducerId,
    pub(super) transport: TransportId,
    pub(super) kind: MediaKind,
    pub(super) paused: bool,
    pub(super) app_data: serde_json::Value,
    pub(super) hls: HlsState,
    /// How many were published before it in the room.
    pub(super) number: u64,
}

/// Whether a producer feeds its peer's HLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HlsState {
    /// It does not: HLS is off, or another producer of the same kind does.
    Off,
    /// It is the one that shall; its tap is being made.
    Chosen,
    /// It does.
    Fed,
}

#[derive(Debug)]
struct Transport {
    id: TransportId,
    direction: Direction,
    /// Its media path was up at some time.
    was_connected: bool,
}

#[derive(Debug)]
struct Peer {
    inbox: mpsc::Sender<PeerEvent>,
    /// What it told about itself; none until it did.
    info: Option<PeerInfo>,
    /// From the oldest to the newest.
    transports: Vec<Transport>,
    producers: Vec<Producer>,
    consumers: HashMap<ConsumerId, Consumer>,
    data_producers: Vec<DataProducer>,
    data_consumers: Vec<DataConsumer>,
}

#[derive(Debug)]
struct Consumer {
    transport: TransportId,
    producer: ProducerId,
}

/// What went with a transport.
#[derive(Debug, Default, PartialEq)]
pub(super) struct RemovedTransport {
    /// Its media path was up at some time.
    pub(super) was_connected: bool,
    pub(super) producers: Vec<Producer>,
    /// The peer's last source for HLS was on it, so the peer's HLS is over.
    pub(super) ends_hls: bool,
    /// The peer was live over HLS until now.
    pub(super) was_live: bool,
}

/// What went with a peer.
#[derive(Debug, PartialEq)]
pub(super) struct RemovedPeer {
    pub(super) info: Option<PeerInfo>,
    pub(super) transports: Vec<TransportId>,
    pub(super) had_hls: bool,
    pub(super) was_live: bool,
    /// The room ended with this peer: it lets nobody in any more.
    pub(super) ended_room: bool,
}

/// Why something can't be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Gone,
    Full(usize),
    NameTaken,
}

/// The room's books.
#[derive(Debug)]
pub(super) struct Registry {
    room: RouterId,
    limits: Limits,
    /// Whether the room stays when the last peer has left.
    stays: bool,
    peers: HashMap<PeerId, Peer>,
    index: Arc<Index>,
    live: HashSet<PeerId>,
    /// How many producers there have been.
    published: u64,
    closed: bool,
}

impl Registry {
    pub(super) fn new(room: RouterId, limits: Limits, stays: bool, index: Arc<Index>) -> Self {
        Self {
            room,
            limits,
            stays,
            peers: HashMap::new(),
            index,
            live: HashSet::new(),
            published: 0,
            closed: false,
        }
    }

    pub(super) fn add_peer(&mut self, peer: PeerId, inbox: mpsc::Sender<PeerEvent>) -> Result<(), Refusal> {
        self.check_room()?;
        if !self.note(Thing::Peer(peer.clone()), &peer) {
            return Err(Refusal::NameTaken);
        }
        let empty = Peer {
            inbox,
            info: None,
            transports: Vec::new(),
            producers: Vec::new(),
            consumers: HashMap::new(),
            data_producers: Vec::new(),
            data_consumers: Vec::new(),
        };
        self.peers.insert(peer, empty);
        Ok(())
    }

    /// Whether one more peer may come in.
    pub(super) fn check_room(&self) -> Result<(), Refusal> {
        if self.closed {
            return Err(Refusal::Gone);
        }
        within(self.peers.len(), self.limits.peers)
    }

    /// Notes what a peer tells about itself. The answer is what it told before, or none the first time.
    pub(super) fn set_info(&mut self, peer: &PeerId, info: PeerInfo) -> Result<Option<PeerInfo>, Refusal> {
        Ok(self.peers.get_mut(peer).ok_or(Refusal::Gone)?.info.replace(info))
    }

    /// What a peer told about itself.
    pub(super) fn info(&self, peer: &PeerId) -> Option<&PeerInfo> {
        self.peers.get(peer)?.info.as_ref()
    }

    /// Everyone who told about itself.
    pub(super) fn infos(&self) -> Vec<(PeerId, PeerInfo)> {
        let known = self.peers.iter().filter_map(|(name, peer)| Some((name.clone(), peer.info.clone()?)));
        let mut known: Vec<_> = known.collect();
        known.sort_by(|(a, _), (b, _)| a.cmp(b));
        known
    }

    /// Takes a peer out with everything it has; none if it is not there (any more).
    pub(super) fn remove_peer(&mut self, peer: &PeerId) -> Option<RemovedPeer> {
        let removed = self.peers.remove(peer)?;
        self.index.remove(&Thing::Peer(peer.clone()));
        let transports: Vec<TransportId> = removed.transports.iter().map(|transport| transport.id).collect();
        self.forget(transports.iter().copied());
        self.forget(removed.producers.iter().map(|producer| producer.id));
        self.forget(removed.consumers.keys().copied());
        self.forget(removed.data_producers.iter().map(|producer| producer.id));
        self.forget(removed.data_consumers.iter().map(|consumer| consumer.id));
        self.closed |= self.peers.is_empty() && !self.stays;
        Some(RemovedPeer {
            transports,
            had_hls: removed.feeds_hls(),
            info: removed.info,
            was_live: self.live.remove(peer),
            ended_room: self.peers.is_empty() && !self.stays,
        })
    }

    /// Lets nobody in from now on, and tells who is still there.
    pub(super) fn close(&mut self) -> Vec<PeerId> {
        self.closed = true;
        self.peers.keys().cloned().collect()
    }

    /// Whether the peer may have one more transport.
    pub(super) fn room_for_transport(&self, peer: &PeerId) -> Result<(), Refusal> {
        let held = self.peers.get(peer).ok_or(Refusal::Gone)?.transports.len();
        within(held, self.limits.transports_per_peer)
    }

    /// Notes a peer's new transport. If it `replaces` the peer's others of the same direction, those are the answer:
    /// they are to be closed.
    pub(super) fn add_transport(
        &mut self,
        peer: &PeerId,
        direction: Direction,
        transport: TransportId,
        replaces: bool,
    ) -> Result<Vec<(TransportId, RemovedTransport)>, Refusal> {
        let entry = self.peers.get(peer).ok_or(Refusal::Gone)?;
        let same = entry.transports.iter().filter(|known| replaces && known.direction == direction);
        let previous: Vec<TransportId> = same.map(|known| known.id).collect();
        if previous.is_empty() {
            self.room_for_transport(peer)?;
        }
        let mut replaced = Vec::new();
        for id in previous {
            replaced.extend(self.remove_transport(id).map(|(_, removed)| (id, removed)));
        }
        let entry = self.peers.get_mut(peer).ok_or(Refusal::Gone)?;
        entry.transports.push(Transport { id: transport, direction, was_connected: false });
        self.note(transport, peer);
        Ok(replaced)
    }

    /// Takes a transport out with its producers and consumers.
    pub(super) fn remove_transport(&mut self, transport: TransportId) -> Option<(PeerId, RemovedTransport)> {
        let name = self.owner(transport)?;
        let peer = self.peers.get_mut(&name)?;
        let at = peer.transports.iter().position(|known| known.id == transport)?;
        let was_connected = peer.transports.remove(at).was_connected;
        let fed_before = peer.feeds_hls();
        let (producers, left) = std::mem::take(&mut peer.producers)
            .into_iter()
            .partition::<Vec<_>, _>(|producer| producer.transport == transport);
        peer.producers = left;
        let ends_hls = fed_before && !peer.feeds_hls();
        let (consumers, left) = std::mem::take(&mut peer.consumers)
            .into_iter()
            .partition::<HashMap<_, _>, _>(|(_, consumer)| consumer.transport == transport);
        peer.consumers = left;
        self.forget([transport]);
        self.forget(producers.iter().map(|producer| producer.id));
        self.forget(consumers.into_keys());
        self.forget_data(&name, transport);
        let was_live = ends_hls && self.live.remove(&name);
        Some((name, RemovedTransport { was_connected, producers, ends_hls, was_live }))
    }

    /// Notes that a transport's media path is up.
    pub(super) fn set_connected(&mut self, transport: TransportId) {
        let Some(peer) = self.owner(transport).and_then(|name| self.peers.get_mut(&name)) else { return };
        for known in peer.transports.iter_mut().filter(|known| known.id == transport) {
            known.was_connected = true;
        }
    }

    /// Whether a transport's media path was up at some time.
    pub(super) fn was_connected(&self, transport: TransportId) -> bool {
        let peer = self.owner(transport).and_then(|name| self.peers.get(&name));
        peer.is_some_and(|peer| {
            peer.transports.iter().any(|known| known.id == transport && known.was_connected)
        })
    }

    /// The peer's transport that is meant, if it goes this way.
    pub(super) fn transport(
        &self,
        peer: &PeerId,
        wanted: TransportRef,
        direction: Direction,
    ) -> Option<TransportId> {
        let mut transports = self.peers.get(peer)?.transports.iter().rev();
        let is_meant = |known: &&Transport| match wanted {
            TransportRef::Id(id) => known.id == id && known.direction.carries(direction),
            TransportRef::Newest => known.direction.carries(direction),
        };
        transports.find(is_meant).map(|transport| transport.id)
    }

    /// All of a peer's transports.
    pub(super) fn transports(&self, peer: &PeerId) -> Vec<TransportId> {
        let transports = self.peers.get(peer).map_or(&[][..], |entry| &entry.transports);
        transports.iter().map(|transport| transport.id).collect()
    }

    /// Whether the transport is this peer's.
    pub(super) fn owns_transport(&self, peer: &PeerId, transport: TransportId) -> bool {
        self.owner(transport).as_ref() == Some(peer)
    }

    /// Whether the peer may have one more producer.
    pub(super) fn room_for_producer(&self, peer: &PeerId) -> Result<(), Refusal> {
        let held = self.peers.get(peer).ok_or(Refusal::Gone)?.producers.len();
        within(held, self.limits.producers_per_peer)
    }

    /// Notes a producer that was made. It is chosen for HLS if `wants_hls` and it is the peer's first of its kind; the
    /// answer tells.
    pub(super) fn add_producer(
        &mut self,
        peer: &PeerId,
        mut producer: Producer,
        wants_hls: bool,
    ) -> Result<HlsState, Refusal> {
        self.room_for_producer(peer)?;
        let entry = self.peers.get_mut(peer).ok_or(Refusal::Gone)?;
        if !entry.has_transport(producer.transport) {
            return Err(Refusal::Gone);
        }
        let taken =
            entry.producers.iter().any(|other| other.kind == producer.kind && other.hls != HlsState::Off);
        producer.hls = if wants_hls && !taken { HlsState::Chosen } else { HlsState::Off };
        producer.number = self.published;
        self.published += 1;
        let (id, hls) = (producer.id, producer.hls);
        entry.producers.push(producer);
        self.note(id, peer);
        Ok(hls)
    }

    /// Notes that the producer feeds HLS; false if it is gone.
    pub(super) fn set_fed(&mut self, producer: ProducerId) -> bool {
        self.producer_mut(producer).map(|entry| entry.hls = HlsState::Fed).is_some()
    }

    /// Notes that the producer will not feed HLS after all.
    pub(super) fn set_unfed(&mut self, producer: ProducerId) {
        if let Some(entry) = self.producer_mut(producer) {
            entry.hls = HlsState::Off;
        }
    }

    /// Takes one of the peer's producers out. The second value tells whether the peer's HLS is over with it, the third
    /// whether the peer was live until now.
    pub(super) fn remove_producer(
        &mut self,
        peer: &PeerId,
        producer: ProducerId,
    ) -> Option<(Producer, bool, bool)> {
        let entry = self.peers.get_mut(peer)?;
        let at = entry.producers.iter().position(|candidate| candidate.id == producer)?;
        let removed = entry.producers.remove(at);
        let ends_hls = removed.hls != HlsState::Off && !entry.feeds_hls();
        self.forget([producer]);
        Some((removed, ends_hls, ends_hls && self.live.remove(peer)))
    }

    /// Whether the producer is still published.
    pub(super) fn has_producer(&self, producer: ProducerId) -> bool {
        self.producer(producer).is_some()
    }

    /// The producer and who publishes it.
    pub(super) fn producer(&self, producer: ProducerId) -> Option<(PeerId, &Producer)> {
        let name = self.owner(producer)?;
        let entry = self.peers.get(&name)?.producers.iter().find(|candidate| candidate.id == producer)?;
        Some((name, entry))
    }

    /// The peer's first producer of a kind.
    pub(super) fn producer_of_kind(&self, peer: &PeerId, kind: MediaKind) -> Option<ProducerId> {
        let mut producers = self.peers.get(peer)?.producers.iter();
        producers.find(|producer| producer.kind == kind).map(|producer| producer.id)
    }

    /// Notes that a producer is paused or not; true if that is a change.
    pub(super) fn set_paused(&mut self, producer: ProducerId, paused: bool) -> bool {
        self.producer_mut(producer)
            .is_some_and(|entry| std::mem::replace(&mut entry.paused, paused) != paused)
    }

    /// Everything that is published, with who does: a peer's own in the order in which it published them.
    pub(super) fn producers(&self) -> impl Iterator<Item = (&PeerId, &Producer)> {
        self.peers.iter().flat_map(|(name, entry)| entry.producers.iter().map(move |p| (name, p)))
    }

    /// What was published last: by someone else than the peer, or else by the peer itself.
    pub(super) fn newest_producer(&self, peer: &PeerId) -> Option<ProducerId> {
        let newest = self.producers().max_by_key(|(name, producer)| (*name != peer, producer.number));
        newest.map(|(_, producer)| producer.id)
    }

    /// Whether the peer may have one more consumer.
    pub(super) fn room_for_consumer(&self, peer: &PeerId) -> Result<(), Refusal> {
        let held = self.peers.get(peer).ok_or(Refusal::Gone)?.consumers.len();
        within(held, self.limits.consumers_per_peer)
    }

    /// Notes a consumer of `producer` that was made on `transport`.
    pub(super) fn add_consumer(
        &mut self,
        peer: &PeerId,
        transport: TransportId,
        producer: ProducerId,
        consumer: ConsumerId,
    ) -> Result<(), Refusal> {
        self.room_for_consumer(peer)?;
        let entry = self.peers.get_mut(peer).ok_or(Refusal::Gone)?;
        if !entry.has_transport(transport) {
            return Err(Refusal::Gone);
        }
        entry.consumers.insert(consumer, Consumer { transport, producer });
        self.note(consumer, peer);
        Ok(())
    }

    /// Takes a consumer out; tells whose it was, and of what.
    pub(super) fn remove_consumer(&mut self, consumer: ConsumerId) -> Option<(PeerId, ProducerId)> {
        let name = self.owner(consumer)?;
        self.forget([consumer]);
        let removed = self.peers.get_mut(&name)?.consumers.remove(&consumer)?;
        Some((name, removed.producer))
    }

    /// Whose thing this is, if it is in this room.
    pub(super) fn owner(&self, thing: impl Into<Thing>) -> Option<PeerId> {
        let owner = self.index.owner(&thing.into())?;
        (owner.room == self.room).then_some(owner.peer)
    }

    /// Where to leave word for a peer.
    pub(super) fn inbox(&self, peer: &PeerId) -> Option<&mpsc::Sender<PeerEvent>> {
        self.peers.get(peer).map(|peer| &peer.inbox)
    }

    /// Notes that a peer can be played over HLS; true if that is news and the peer still publishes.
    pub(super) fn set_live(&mut self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(Peer::feeds_hls) && self.live.insert(peer.clone())
    }

    /// Who can be played over HLS.
    pub(super) fn live(&self) -> impl Iterator<Item = &PeerId> {
        self.live.iter()
    }

    /// How many peers, producers, consumers and live peers there are.
    pub(super) fn counts(&self) -> [usize; 4] {
        let sum = |count: fn(&Peer) -> usize| self.peers.values().map(count).sum();
        [
            self.peers.len(),
            sum(|peer| peer.producers.len()),
            sum(|peer| peer.consumers.len()),
            self.live.len(),
        ]
    }

    fn producer_mut(&mut self, producer: ProducerId) -> Option<&mut Producer> {
        let name = self.owner(producer)?;
        self.peers.get_mut(&name)?.producers.iter_mut().find(|candidate| candidate.id == producer)
    }

    fn note(&self, thing: impl Into<Thing>, peer: &PeerId) -> bool {
        self.index.insert(thing.into(), Owner { room: self.room, peer: peer.clone() })
    }

    fn forget<T: Into<Thing>>(&self, things: impl IntoIterator<Item = T>) {
        things.into_iter().for_each(|thing| self.index.remove(&thing.into()));
    }
}

impl Peer {
    fn feeds_hls(&self) -> bool {
        self.producers.iter().any(|producer| producer.hls != HlsState::Off)
    }

    fn has_transport(&self, transport: TransportId) -> bool {
        self.transports.iter().any(|known| known.id == transport)
    }
}

fn within(held: usize, limit: usize) -> Result<(), Refusal> {
    if held < limit { Ok(()) } else { Err(Refusal::Full(limit)) }
}

#[cfg(test)]
mod tests;
