//! One socket's task: handles its events in order and sends it what happens, until either side ends it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;
use socketioxide::socket::Socket;
use socketioxide::{SendError, SocketError};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast, mpsc};
use tracing::{debug, info};

use super::inbox::{Inbox, Message};
use super::room::{self, Outgoing};
use super::{Config, Counters};
use crate::ids::PeerId;
use crate::live::{Event, PeerEvent, Room};

/// How often a client that takes nothing is tried to be told that it is disconnected.
const DISCONNECT_RETRY: Duration = Duration::from_secs(1);
/// How often that is tried before its connection is left to the ping timeout.
const DISCONNECT_TRIES: u32 = 30;

pub(super) struct Session {
    socket: Arc<Socket>,
    peer: PeerId,
    room: Room,
    counters: Arc<Counters>,
    disconnected: Arc<Notify>,
}

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The socket is closed.
    Disconnected,
    /// The room removed the peer: its media path died.
    Removed,
    /// The client does not take what is sent to it.
    TooSlow,
}

impl Session {
    pub(super) fn new(socket: Arc<Socket>, peer: PeerId, room: Room, counters: Arc<Counters>) -> Self {
        counters.sockets.fetch_add(1, Ordering::Relaxed);
        Self { socket, peer, room, counters, disconnected: Arc::default() }
    }

    /// Registers the socket's handlers before it returns, so that no event of the client can come too early.
    pub(super) fn run(
        self,
        config: &Config,
        events: broadcast::Receiver<Event>,
        own_events: mpsc::Receiver<PeerEvent>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (inbox, messages) = Inbox::new(config, Arc::clone(&self.counters));
        let disconnected = Arc::clone(&self.disconnected);
        self.socket.on_disconnect(async move || disconnected.notify_one());
        self.socket.on_fallback(inbox);
        async move {
            debug!(peer = %self.peer, "socket connected");
            let end = self.serve(messages, events, own_events).await;
            self.room.leave(&self.peer).await;
            self.finish(end).await;
        }
    }

    async fn serve(
        &self,
        mut messages: mpsc::Receiver<Message>,
        mut events: broadcast::Receiver<Event>,
        mut own_events: mpsc::Receiver<PeerEvent>,
    ) -> End {
        let mut next = self.emit(&room::welcome(&self.peer));
        while next.is_ok() {
            next = tokio::select! {
                () = self.disconnected.notified() => return End::Disconnected,
                message = messages.recv() => match message {
                    Some(message) => self.handle(message).await,
                    None => return End::Disconnected,
                },
                event = events.recv() => match event {
                    Ok(event) => room::room_event(&self.peer, &event).map_or(Ok(()), |event| self.emit(&event)),
                    // It would never learn what it missed, so it has to start over.
                    Err(RecvError::Lagged(missed)) => {
                        debug!(peer = %self.peer, missed, "events missed");
                        Err(End::TooSlow)
                    }
                    Err(RecvError::Closed) => return End::Removed,
                },
                event = own_events.recv() => match event {
                    Some(event) => self.emit(&room::own_event(&event)),
                    None => return End::Removed,
                },
            };
        }
        next.err().unwrap_or(End::Disconnected)
    }

    async fn handle(&self, message: Message) -> Result<(), End> {
        let result = match room::Request::parse(&message.event, &message.text) {
            Ok(request) => room::handle(request, &self.room, &self.peer).await,
            Err(error) => Err(error),
        };
        let answer = match result {
            Ok(answer) => answer,
            Err(why) => {
                let why = room::shorten(&why);
                Counters::count(&self.counters.refused);
                debug!(peer = %self.peer, event = room::shorten(&message.event), why, "event refused");
                room::wire::error(&why)
            }
        };
        if message.answer.wanted() { self.sent(message.answer.send(&answer)) } else { Ok(()) }
    }

    fn emit<T: Serialize>(&self, event: &Outgoing<T>) -> Result<(), End> {
        self.sent(self.socket.emit(event.name, &event.payload))
    }

    fn sent(&self, result: Result<(), SendError>) -> Result<(), End> {
        match result {
            Ok(()) => Ok(()),
            Err(SendError::Socket(SocketError::InternalChannelFull)) => Err(End::TooSlow),
            Err(SendError::Socket(SocketError::Closed)) => Err(End::Disconnected),
            Err(SendError::Serialize(error)) => {
                debug!(peer = %self.peer, %error, "an event can't be written as JSON");
                Ok(())
            }
        }
    }

    async fn finish(&self, end: End) {
        match end {
            End::Disconnected => {
                debug!(peer = %self.peer, "socket disconnected");
                return;
            }
            End::Removed => info!(peer = %self.peer, "socket disconnected: the peer was removed"),
            End::TooSlow => {
                Counters::count(&self.counters.too_slow);
                info!(peer = %self.peer, "socket disconnected: the client is too slow");
            }
        }
        for _ in 0..DISCONNECT_TRIES {
            match Arc::clone(&self.socket).disconnect() {
                Err(SocketError::InternalChannelFull) => {}
                Ok(()) | Err(SocketError::Closed) => return,
            }
            tokio::select! {
                () = self.disconnected.notified() => return,
                () = tokio::time::sleep(DISCONNECT_RETRY) => {}
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.counters.sockets.fetch_sub(1, Ordering::Relaxed);
    }
}
