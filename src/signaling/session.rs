//! One socket's task: handles its events in order and sends it what happens, until either side ends it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use socketioxide::ack::AckStream;

use socketioxide::socket::Socket;
use socketioxide::{AckError, SendError, SocketError};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tracing::{debug, info};

use super::client::{Client, Happening, Offer, Outgoing};
use super::dialect::Dialect;
use super::inbox::{Inbox, Message};
use super::refusal::shorten;
use super::{Config, Counters, arguments};

/// How often a client that takes nothing is tried to be told that it is disconnected.
const DISCONNECT_RETRY: Duration = Duration::from_secs(1);
/// How often that is tried before its connection is left to the ping timeout.
const DISCONNECT_TRIES: u32 = 30;

pub(super) struct Session {
    socket: Arc<Socket>,
    client: Client,
    dialect: Dialect,
    /// Whether the dialect is decided; else the first telling event decides.
    pinned: bool,
    /// Offered consumers that the client has not acknowledged yet: at most as many as it may have.
    offers: JoinSet<(Offer, bool)>,
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
    pub(super) fn new(
        socket: Arc<Socket>,
        client: Client,
        dialect: Dialect,
        pinned: bool,
        counters: Arc<Counters>,
    ) -> Self {
        counters.sockets.fetch_add(1, Ordering::Relaxed);
        let (offers, disconnected) = (JoinSet::new(), Arc::default());
        Self { socket, client, dialect, pinned, offers, counters, disconnected }
    }

    /// Registers the socket's handlers before it returns, so that no event of the client can come too early.
    pub(super) fn run(self, config: &Config) -> impl Future<Output = ()> + Send + use<> {
        let (inbox, messages) = Inbox::new(config, Arc::clone(&self.counters));
        let disconnected = Arc::clone(&self.disconnected);
        self.socket.on_disconnect(async move || disconnected.notify_one());
        self.socket.on_fallback(inbox);
        async move {
            let mut session = self;
            debug!(peer = %session.client.peer, "socket connected");
            let end = session.serve(messages).await;
            session.client.leave().await;
            session.finish(end).await;
        }
    }

    async fn serve(&mut self, mut messages: mpsc::Receiver<Message>) -> End {
        let mut next = self.flush();
        while next.is_ok() {
            next = tokio::select! {
                () = self.disconnected.notified() => return End::Disconnected,
                message = messages.recv() => match message {
                    Some(message) => self.handle(message).await,
                    None => return End::Disconnected,
                },
                happening = self.client.happening() => self.tell(&happening),
                Some(offered) = self.offers.join_next() => {
                    if let Ok((offer, taken)) = offered {
                        self.offered(offer, taken).await;
                    }
                    Ok(())
                }
            };
            if next.is_ok() {
                self.dialect.settle(&mut self.client).await;
                next = self.flush();
            }
        }
        next.err().unwrap_or(End::Disconnected)
    }

    async fn handle(&mut self, message: Message) -> Result<(), End> {
        let result = match arguments::first(&message.text) {
            Ok(argument) => {
                self.pin(&message.event, &argument).await;
                self.dialect.handle(&mut self.client, &message.event, argument).await
            }
            Err(refusal) => Err(refusal),
        };
        let answer = match result {
            Ok(answer) => answer,
            Err(refusal) => {
                Counters::count(&self.counters.refused);
                let (event, why) = (shorten(&message.event), &refusal.text);
                debug!(peer = %self.client.peer, event, why, "event refused");
                self.dialect.refused(&message.event, &refusal)
            }
        };
        if message.answer.wanted() { self.sent(message.answer.send(&answer)) } else { Ok(()) }
    }

    /// Decides the dialect if it is not, and if the event tells it.
    async fn pin(&mut self, event: &str, argument: &Value) {
        if self.pinned {
            return;
        }
        let Some(dialect) = Dialect::shown_by(event, argument) else { return };
        self.pinned = true;
        if !dialect.begins_in_default_room() {
            self.client.leave().await;
        }
        self.dialect = dialect;
    }

    fn tell(&mut self, happening: &Happening) -> Result<(), End> {
        match happening {
            Happening::Room(event) => self.dialect.room_event(&mut self.client, event),
            Happening::Own(event) => self.dialect.own_event(&mut self.client, event),
            Happening::Missed(missed) => {
                // It would never learn what it missed, so it has to start over.
                debug!(peer = %self.client.peer, missed, "events missed");
                return Err(End::TooSlow);
            }
            Happening::Removed => return Err(End::Removed),
        }
        Ok(())
    }

    /// The client answered an offer, or did not: what it does not take is closed again.
    async fn offered(&mut self, offer: Offer, taken: bool) {
        let Ok(room) = self.client.room() else { return };
        let peer = &self.client.peer;
        let done = match (offer, taken) {
            (Offer::Consumer(id), true) => room.set_consumer_paused(peer, id, false).await,
            (Offer::Consumer(id), false) => room.close_consumer(peer, id).await,
            (Offer::DataConsumer(_), true) => Ok(()),
            (Offer::DataConsumer(id), false) => room.close_data_consumer(peer, id).await,
        };
        debug!(%peer, ?offer, taken, "the client has answered an offer");
        if let Err(error) = done {
            debug!(%peer, ?offer, %error, "what was offered ended meanwhile");
        }
    }

    /// Sends what the dialect left to be sent.
    fn flush(&mut self) -> Result<(), End> {
        for event in self.client.take_outbox() {
            self.emit(event)?;
        }
        Ok(())
    }

    fn emit(&mut self, event: Outgoing) -> Result<(), End> {
        let Some(offer) = event.offers else {
            return self.sent(self.socket.emit(event.name, &event.payload));
        };
        match self.socket.emit_with_ack::<_, Value>(event.name, &event.payload) {
            Ok(answer) => {
                self.offers.spawn(async move { (offer, is_taken(answer).await) });
                Ok(())
            }
            Err(error) => self.sent(Err(error)),
        }
    }

    fn sent(&self, result: Result<(), SendError>) -> Result<(), End> {
        match result {
            Ok(()) => Ok(()),
            Err(SendError::Socket(SocketError::InternalChannelFull)) => Err(End::TooSlow),
            Err(SendError::Socket(SocketError::Closed)) => Err(End::Disconnected),
            Err(SendError::Serialize(error)) => {
                debug!(peer = %self.client.peer, %error, "an event can't be written as JSON");
                Ok(())
            }
        }
    }

    async fn finish(&self, end: End) {
        let peer = &self.client.peer;
        match end {
            End::Disconnected => {
                debug!(%peer, "socket disconnected");
                return;
            }
            End::Removed => info!(%peer, "socket disconnected: the peer was removed"),
            End::TooSlow => {
                Counters::count(&self.counters.too_slow);
                info!(%peer, "socket disconnected: the client is too slow");
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

/// Whether a client took what it was offered: it acknowledged in time, and with anything but an error.
async fn is_taken(answer: AckStream<Value>) -> bool {
    match answer.await {
        Ok(answer) => answer.get("error").is_none(),
        // An acknowledgement without an argument.
        Err(AckError::Decode(_)) => true,
        Err(AckError::Timeout | AckError::Socket(_)) => false,
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.counters.sockets.fetch_sub(1, Ordering::Relaxed);
    }
}
