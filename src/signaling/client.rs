//! One client's side of things, whichever dialect it speaks: the room it is in, and what it is to be sent.

use serde::Serialize;
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tracing::error;

use super::refusal::{Code, Refusal};
use crate::ids::{ConsumerId, DataConsumerId, PeerId, RoomId};
use crate::live::{Event, JoinError, PeerEvent, Room, Rooms};

/// An event for a client.
#[derive(Debug, PartialEq)]
pub(super) struct Outgoing {
    pub(super) name: &'static str,
    pub(super) payload: Value,
    /// What the client has to acknowledge with this event, if anything.
    pub(super) offers: Option<Offer>,
}

/// What a client is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    /// A consumer, which waits to be resumed.
    Consumer(ConsumerId),
    /// A data consumer, which runs.
    DataConsumer(DataConsumerId),
}

impl Outgoing {
    /// An event that needs no acknowledgement.
    pub(super) fn new(name: &'static str, payload: &impl Serialize) -> Self {
        Self { name, payload: to_value(payload), offers: None }
    }
}

/// A wire type as JSON.
pub(super) fn to_value(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_else(|error| {
        error!(%error, "a wire type that can't be written as JSON");
        Value::Null
    })
}

/// What happened in the client's room.
#[derive(Debug)]
pub(super) enum Happening {
    /// To anyone.
    Room(Event),
    /// To something of the client's own.
    Own(PeerEvent),
    /// More than the client took: it would never learn what it missed.
    Missed(u64),
    /// The client's peer was removed.
    Removed,
}

/// Being in a room.
struct Membership {
    room: Room,
    events: broadcast::Receiver<Event>,
    own: mpsc::Receiver<PeerEvent>,
}

pub(super) struct Client {
    pub(super) peer: PeerId,
    pub(super) rooms: Rooms,
    membership: Option<Membership>,
    outbox: Vec<Outgoing>,
}

impl Client {
    /// A client that is in no room.
    pub(super) fn new(peer: PeerId, rooms: Rooms) -> Self {
        Self { peer, rooms, membership: None, outbox: Vec::new() }
    }

    /// Goes into the default room, which is always there.
    pub(super) fn enter_default(&mut self) -> Result<(), JoinError> {
        let room = self.rooms.default_room().clone();
        let events = room.subscribe();
        let own = room.join(self.peer.clone())?;
        self.membership = Some(Membership { room, events, own });
        Ok(())
    }

    /// Goes into a room; a client can be in one at a time.
    pub(super) async fn enter(&mut self, id: &RoomId) -> Result<(), Refusal> {
        if self.membership.is_some() {
            return Err(Refusal::new(Code::Already, &"in a room already"));
        }
        let (room, own) = self.rooms.join(id, &self.peer).await?;
        self.membership = Some(Membership { events: room.subscribe(), room, own });
        Ok(())
    }

    /// Leaves its room, if it is in one.
    pub(super) async fn leave(&mut self) {
        if let Some(membership) = self.membership.take() {
            membership.room.leave(&self.peer).await;
        }
    }

    /// The room that it is in.
    pub(super) fn room(&self) -> Result<Room, Refusal> {
        let membership = self.membership.as_ref();
        membership
            .map(|membership| membership.room.clone())
            .ok_or_else(|| Refusal::new(Code::NotReady, &"not in a room: join first"))
    }

    /// Waits for what happens in its room; for ever, if it is in none.
    pub(super) async fn happening(&mut self) -> Happening {
        let Some(membership) = &mut self.membership else { return std::future::pending().await };
        tokio::select! {
            event = membership.events.recv() => match event {
                Ok(event) => Happening::Room(event),
                Err(RecvError::Lagged(missed)) => Happening::Missed(missed),
                Err(RecvError::Closed) => Happening::Removed,
            },
            event = membership.own.recv() => event.map_or(Happening::Removed, Happening::Own),
        }
    }

    /// Sends an event, once what is being handled is answered.
    pub(super) fn emit(&mut self, event: Outgoing) {
        self.outbox.push(event);
    }

    /// What is to be sent now.
    pub(super) fn take_outbox(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.outbox)
    }
}
