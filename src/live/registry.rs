//! Who is in a room and what belongs to whom, as plain values: no task, no I/O, no waiting.
//!
//! Each change is one call that leaves the registry consistent and returns what the change drags along, for the room
//! to carry out. An id that is not there is an ordinary answer, because everything here can end at any moment.

use std::collections::{HashMap, HashSet};

use mediasoup_types::rtp_parameters::MediaKind;
use tokio::sync::mpsc;

use super::event::PeerEvent;
use crate::ids::{ConsumerId, PeerId, ProducerId, TapId, TransportId};

/// Which way a transport carries media, as its peer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The peer publishes on it.
    Send,
    /// The peer receives on it.
    Receive,
}

/// How much one room and one of its peers may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) peers: usize,
    pub(super) producers_per_peer: usize,
    pub(super) consumers_per_peer: usize,
}

/// One source that a peer publishes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Producer {
    pub(super) id: ProducerId,
    pub(super) kind: MediaKind,
    pub(super) paused: bool,
    pub(super) app_data: serde_json::Value,
    pub(super) hls: HlsState,
}

/// Whether a producer feeds its peer's HLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HlsState {
    /// It does not: HLS is off, or another producer of the same kind does.
    Off,
    /// It is the one that shall; its tap is being made.
    Chosen,
    /// It does, through this tap.
    Fed(TapId),
}

#[derive(Debug)]
struct Peer {
    inbox: mpsc::Sender<PeerEvent>,
    send: Option<TransportId>,
    receive: Option<TransportId>,
    producers: Vec<Producer>,
    consumers: HashSet<ConsumerId>,
}

/// What went with a transport.
#[derive(Debug, Default, PartialEq)]
pub(super) struct RemovedTransport {
    /// Its media path was up at some time.
    pub(super) was_connected: bool,
    pub(super) producers: Vec<Producer>,
    /// It was the peer's last source, so the peer's HLS is over.
    pub(super) ends_hls: bool,
    /// The peer was live over HLS until now.
    pub(super) was_live: bool,
}

/// What went with a peer.
#[derive(Debug, PartialEq)]
pub(super) struct RemovedPeer {
    pub(super) transports: Vec<TransportId>,
    pub(super) had_hls: bool,
    pub(super) was_live: bool,
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
    limits: Limits,
    peers: HashMap<PeerId, Peer>,
    transports: HashMap<TransportId, PeerId>,
    /// The transports whose media path was up at some time.
    connected: HashSet<TransportId>,
    producers: HashMap<ProducerId, PeerId>,
    consumers: HashMap<ConsumerId, PeerId>,
    live: HashSet<PeerId>,
    closed: bool,
}

impl Registry {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            peers: HashMap::new(),
            transports: HashMap::new(),
            connected: HashSet::new(),
            producers: HashMap::new(),
            consumers: HashMap::new(),
            live: HashSet::new(),
            closed: false,
        }
    }

    pub(super) fn add_peer(&mut self, peer: PeerId, inbox: mpsc::Sender<PeerEvent>) -> Result<(), Refusal> {
        self.check_room()?;
        if self.peers.contains_key(&peer) {
            return Err(Refusal::NameTaken);
        }
        let empty =
            Peer { inbox, send: None, receive: None, producers: Vec::new(), consumers: HashSet::new() };
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

    /// Takes a peer out with everything it has; none if it is not there (any more).
    pub(super) fn remove_peer(&mut self, peer: &PeerId) -> Option<RemovedPeer> {
        let removed = self.peers.remove(peer)?;
        let transports: Vec<TransportId> = removed.send.into_iter().chain(removed.receive).collect();
        for transport in &transports {
            self.transports.remove(transport);
            self.connected.remove(transport);
        }
        for producer in &removed.producers {
            self.producers.remove(&producer.id);
        }
        for consumer in &removed.consumers {
            self.consumers.remove(consumer);
        }
        let had_hls = removed.producers.iter().any(|producer| producer.hls != HlsState::Off);
        Some(RemovedPeer { transports, had_hls, was_live: self.live.remove(peer) })
    }

    /// Lets nobody in from now on, and tells who is still there.
    pub(super) fn close(&mut self) -> Vec<PeerId> {
        self.closed = true;
        self.peers.keys().cloned().collect()
    }

    /// Notes a peer's new transport. The peer's previous one of the same direction is the answer: it is to be closed.
    pub(super) fn add_transport(
        &mut self,
        peer: &PeerId,
        direction: Direction,
        transport: TransportId,
    ) -> Result<Option<(TransportId, RemovedTransport)>, Refusal> {
        let slot = self.peers.get_mut(peer).ok_or(Refusal::Gone)?.slot(direction);
        let previous = *slot;
        let removed = previous.and_then(|id| self.remove_transport(id).map(|(_, removed)| (id, removed)));
        if let Some(peer) = self.peers.get_mut(peer) {
            *peer.slot(direction) = Some(transport);
        }
        self.transports.insert(transport, peer.clone());
        Ok(removed)
    }

    /// Takes a transport out with its producers and consumers.
    pub(super) fn remove_transport(&mut self, transport: TransportId) -> Option<(PeerId, RemovedTransport)> {
        let name = self.transports.remove(&transport)?;
        let was_connected = self.connected.remove(&transport);
        let peer = self.peers.get_mut(&name)?;
        if peer.receive == Some(transport) {
            peer.receive = None;
            for consumer in peer.consumers.drain() {
                self.consumers.remove(&consumer);
            }
            return Some((name, RemovedTransport { was_connected, ..RemovedTransport::default() }));
        }
        peer.send = None;
        let producers = std::mem::take(&mut peer.producers);
        for producer in &producers {
            self.producers.remove(&producer.id);
        }
        let ends_hls = producers.iter().any(|producer| producer.hls != HlsState::Off);
        let was_live = self.live.remove(&name);
        Some((name, RemovedTransport { was_connected, producers, ends_hls, was_live }))
    }

    /// Notes that a transport's media path is up.
    pub(super) fn set_connected(&mut self, transport: TransportId) {
        if self.transports.contains_key(&transport) {
            self.connected.insert(transport);
        }
    }

    /// The peer's transport of this direction.
    pub(super) fn transport(&self, peer: &PeerId, direction: Direction) -> Option<TransportId> {
        let peer = self.peers.get(peer)?;
        match direction {
            Direction::Send => peer.send,
            Direction::Receive => peer.receive,
        }
    }

    /// Whether the transport is this peer's.
    pub(super) fn owns_transport(&self, peer: &PeerId, transport: TransportId) -> bool {
        self.transports.get(&transport) == Some(peer)
    }

    /// Whether the peer may have one more producer.
    pub(super) fn room_for_producer(&self, peer: &PeerId) -> Result<(), Refusal> {
        let held = self.peers.get(peer).ok_or(Refusal::Gone)?.producers.len();
        within(held, self.limits.producers_per_peer)
    }

    /// Notes a producer that was made on `transport`. It is chosen for HLS if `wants_hls` and it is the peer's first of
    /// its kind; the answer tells.
    pub(super) fn add_producer(
        &mut self,
        peer: &PeerId,
        transport: TransportId,
        mut producer: Producer,
        wants_hls: bool,
    ) -> Result<HlsState, Refusal> {
        self.room_for_producer(peer)?;
        let entry = self.peers.get_mut(peer).ok_or(Refusal::Gone)?;
        if entry.send != Some(transport) {
            return Err(Refusal::Gone);
        }
        let taken =
            entry.producers.iter().any(|other| other.kind == producer.kind && other.hls != HlsState::Off);
        producer.hls = if wants_hls && !taken { HlsState::Chosen } else { HlsState::Off };
        let hls = producer.hls;
        self.producers.insert(producer.id, peer.clone());
        entry.producers.push(producer);
        Ok(hls)
    }

    /// Notes that the producer feeds HLS through `tap`; false if it is gone.
    pub(super) fn set_fed(&mut self, producer: ProducerId, tap: TapId) -> bool {
        self.producer_mut(producer).map(|entry| entry.hls = HlsState::Fed(tap)).is_some()
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
        self.producers.remove(&producer);
        let fed = |producer: &Producer| producer.hls != HlsState::Off;
        let ends_hls = fed(&removed) && !entry.producers.iter().any(fed);
        Some((removed, ends_hls, ends_hls && self.live.remove(peer)))
    }

    /// Whether the producer is still published.
    pub(super) fn has_producer(&self, producer: ProducerId) -> bool {
        self.producers.contains_key(&producer)
    }

    /// The producer and who publishes it.
    pub(super) fn producer(&self, producer: ProducerId) -> Option<(&PeerId, &Producer)> {
        let name = self.producers.get(&producer)?;
        let entry = self.peers.get(name)?.producers.iter().find(|candidate| candidate.id == producer)?;
        Some((name, entry))
    }

    /// The peer's first producer of a kind.
    pub(super) fn producer_of_kind(&self, peer: &PeerId, kind: MediaKind) -> Option<ProducerId> {
        self.peers
            .get(peer)?
            .producers
            .iter()
            .find(|producer| producer.kind == kind)
            .map(|producer| producer.id)
    }

    /// Notes that a producer is paused or not; true if that is a change.
    pub(super) fn set_paused(&mut self, producer: ProducerId, paused: bool) -> bool {
        self.producer_mut(producer)
            .is_some_and(|entry| std::mem::replace(&mut entry.paused, paused) != paused)
    }

    /// Everything that the others publish, with who does.
    pub(super) fn producers_of_others(&self, peer: &PeerId) -> Vec<(PeerId, ProducerId)> {
        let others = self.peers.iter().filter(|(name, _)| *name != peer);
        others.flat_map(|(name, entry)| entry.producers.iter().map(|p| (name.clone(), p.id))).collect()
    }

    /// Whether the peer may have one more consumer.
    pub(super) fn room_for_consumer(&self, peer: &PeerId) -> Result<(), Refusal> {
        let held = self.peers.get(peer).ok_or(Refusal::Gone)?.consumers.len();
        within(held, self.limits.consumers_per_peer)
    }

    /// Notes a consumer that was made on `transport`.
    pub(super) fn add_consumer(
        &mut self,
        peer: &PeerId,
        transport: TransportId,
        consumer: ConsumerId,
    ) -> Result<(), Refusal> {
        self.room_for_consumer(peer)?;
        let entry = self.peers.get_mut(peer).ok_or(Refusal::Gone)?;
        if entry.receive != Some(transport) {
            return Err(Refusal::Gone);
        }
        entry.consumers.insert(consumer);
        self.consumers.insert(consumer, peer.clone());
        Ok(())
    }

    /// Takes a consumer out; tells whose it was.
    pub(super) fn remove_consumer(&mut self, consumer: ConsumerId) -> Option<PeerId> {
        let name = self.consumers.remove(&consumer)?;
        self.peers.get_mut(&name)?.consumers.remove(&consumer);
        Some(name)
    }

    /// Whose consumer this is.
    pub(super) fn consumer_owner(&self, consumer: ConsumerId) -> Option<&PeerId> {
        self.consumers.get(&consumer)
    }

    /// Where to leave word for a peer.
    pub(super) fn inbox(&self, peer: &PeerId) -> Option<&mpsc::Sender<PeerEvent>> {
        self.peers.get(peer).map(|peer| &peer.inbox)
    }

    /// Notes that a peer can be played over HLS; true if that is news and the peer still publishes.
    pub(super) fn set_live(&mut self, peer: &PeerId) -> bool {
        let fed = |entry: &Peer| entry.producers.iter().any(|producer| producer.hls != HlsState::Off);
        self.peers.get(peer).is_some_and(fed) && self.live.insert(peer.clone())
    }

    /// Who can be played over HLS.
    pub(super) fn live(&self) -> Vec<PeerId> {
        let mut live: Vec<PeerId> = self.live.iter().cloned().collect();
        live.sort();
        live
    }

    /// How many peers, producers, consumers and live peers there are.
    pub(super) fn counts(&self) -> [usize; 4] {
        [self.peers.len(), self.producers.len(), self.consumers.len(), self.live.len()]
    }

    fn producer_mut(&mut self, producer: ProducerId) -> Option<&mut Producer> {
        let name = self.producers.get(&producer)?;
        self.peers.get_mut(name)?.producers.iter_mut().find(|candidate| candidate.id == producer)
    }
}

impl Peer {
    fn slot(&mut self, direction: Direction) -> &mut Option<TransportId> {
        match direction {
            Direction::Send => &mut self.send,
            Direction::Receive => &mut self.receive,
        }
    }
}

fn within(held: usize, limit: usize) -> Result<(), Refusal> {
    if held < limit { Ok(()) } else { Err(Refusal::Full(limit)) }
}

#[cfg(test)]
mod tests;
