//! Whose everything is: from the id of a thing to its room and its peer in one step, for all rooms together.
//!
//! The media core and egress report by id. With one index over all rooms, finding the room that a report is for costs
//! the same with one room as with thousands.

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::ids::{ConsumerId, DataConsumerId, DataProducerId, PeerId, ProducerId, RouterId, TransportId};

/// Something that belongs to a peer in a room.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Thing {
    Peer(PeerId),
    Transport(TransportId),
    Producer(ProducerId),
    Consumer(ConsumerId),
    DataProducer(DataProducerId),
    DataConsumer(DataConsumerId),
}

/// Where a thing belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    /// The room, by its router.
    pub(super) room: RouterId,
    pub(super) peer: PeerId,
}

/// All things of all rooms.
#[derive(Debug, Default)]
pub(super) struct Index {
    owners: DashMap<Thing, Owner>,
}

impl Index {
    /// Notes whose a thing is; false if it is someone's already.
    pub(super) fn insert(&self, thing: Thing, owner: Owner) -> bool {
        match self.owners.entry(thing) {
            Entry::Occupied(_) => false,
            Entry::Vacant(free) => {
                free.insert(owner);
                true
            }
        }
    }

    /// Forgets a thing.
    pub(super) fn remove(&self, thing: &Thing) {
        self.owners.remove(thing);
    }

    /// Whose a thing is.
    pub(super) fn owner(&self, thing: &Thing) -> Option<Owner> {
        self.owners.get(thing).map(|entry| entry.value().clone())
    }
}

impl From<TransportId> for Thing {
    fn from(id: TransportId) -> Self {
        Self::Transport(id)
    }
}

impl From<ProducerId> for Thing {
    fn from(id: ProducerId) -> Self {
        Self::Producer(id)
    }
}

impl From<ConsumerId> for Thing {
    fn from(id: ConsumerId) -> Self {
        Self::Consumer(id)
    }
}

impl From<DataProducerId> for Thing {
    fn from(id: DataProducerId) -> Self {
        Self::DataProducer(id)
    }
}

impl From<DataConsumerId> for Thing {
    fn from(id: DataConsumerId) -> Self {
        Self::DataConsumer(id)
    }
}
