//! Broadcasters: programs that are peers of a room without a socket of their own, such as ffmpeg and GStreamer.
//!
//! They come in over requests that stand alone, so what a peer's socket does elsewhere is done here: a task for each one
//! reads its events, and removes it when nothing has been heard of it for a while. As they can have UDP ports opened and
//! media sent somewhere, only those who know the token get in, and only to the networks that the settings name.

mod config;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use mediasoup_types::data_structures::DtlsParameters;
use mediasoup_types::rtp_parameters::{MediaKind, RtpCapabilities, RtpCapabilitiesFinalized, RtpParameters};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{debug, info};

use super::data::ConsumedData;
use super::error::{
    ConnectPlainTransportError, ConnectTransportError, ConsumeDataError, ConsumeError, ControlError,
    CreateTransportError, IntroduceError, JoinError, NotYours, ProduceDataError, ProduceError,
};
use super::event::PeerEvent;
use super::registry::{Direction, PeerInfo, TransportRef};
use super::room::{Consumed, CreatedTransport, RemoteProducer, Room, not_yours};
use super::rooms::Rooms;
use crate::ids::{DataProducerId, PeerId, ProducerId, RoomId, TransportId};
use crate::sfu::api::WebRtcTransportOptions;
use crate::sfu::data::DataProducerOptions;
use crate::sfu::plain_transport::{PlainRemote, PlainTransportInfo, PlainTransportOptions};
pub use config::{Config, Network};

/// How often it is looked whether a broadcaster is silent, in parts of the time that it may be.
const LOOKS: u32 = 4;

/// Why someone can't use broadcasters at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// No token is set.
    #[error("broadcasters are off: the setting broadcasters.token is empty")]
    Off,
    /// The token is missing or another one.
    #[error("the token of the setting broadcasters.token is needed")]
    Token,
}

/// Why a broadcaster can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateBroadcasterError {
    /// The room has as many as it may.
    #[error("too many broadcasters: the limit is {0} in a room")]
    Full(usize),
    /// It can't join the room.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// It can't tell this about itself.
    #[error(transparent)]
    Introduce(#[from] IntroduceError),
}

/// Why a broadcaster can't consume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BroadcasterConsumeError {
    /// It did not tell what it can receive.
    #[error("the broadcaster was made without rtpCapabilities")]
    NoCapabilities,
    /// The room said no.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
    /// The consumer ended at once.
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// Another peer, as a broadcaster is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherPeer {
    /// The peer.
    pub id: PeerId,
    /// What it told about itself.
    pub info: PeerInfo,
    /// What it publishes.
    pub producers: Vec<RemoteProducer>,
}

/// All broadcasters. Clones are the same.
#[derive(Clone)]
pub struct Broadcasters {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    rooms: Rooms,
    /// At most [`Config::max_per_room`] for each room.
    by_name: Mutex<HashMap<(RoomId, PeerId), Broadcaster>>,
}

/// One broadcaster. Clones are the same.
#[derive(Clone)]
pub struct Broadcaster {
    inner: Arc<BroadcasterInner>,
}

struct BroadcasterInner {
    room: Room,
    peer: PeerId,
    capabilities: Option<RtpCapabilities>,
    destinations: Vec<Network>,
    heard: Mutex<Heard>,
}

/// When a broadcaster was heard of last.
#[derive(Debug)]
struct Heard {
    at: Instant,
    /// How many bytes had come in on its transports by then.
    bytes: u64,
}

impl Heard {
    /// So many bytes have come in by now. A transport that was closed takes its own out of the sum.
    fn note(&mut self, now: Instant, bytes: u64) {
        if bytes != self.bytes {
            *self = Self { at: now, bytes };
        }
    }
}

impl Broadcasters {
    /// The broadcasters of `rooms`: none yet.
    #[must_use]
    pub fn new(config: Config, rooms: Rooms) -> Self {
        Self { inner: Arc::new(Inner { config, rooms, by_name: Mutex::default() }) }
    }

    /// Whether someone who shows this token may use broadcasters.
    ///
    /// # Errors
    /// No, or nobody may.
    pub fn check(&self, token: Option<&str>) -> Result<(), AccessError> {
        if self.inner.config.token.is_empty() {
            return Err(AccessError::Off);
        }
        let is_known = token.is_some_and(|token| self.inner.config.token.is(token));
        if is_known { Ok(()) } else { Err(AccessError::Token) }
    }

    /// What every room can carry, whether it is there or not.
    #[must_use]
    pub fn rtp_capabilities(&self) -> &RtpCapabilitiesFinalized {
        self.inner.rooms.default_room().rtp_capabilities()
    }

    /// Makes a broadcaster, and its room if that is not there. Everyone in the room is told.
    ///
    /// # Errors
    /// The room has enough of them or is full, the name is taken, or it says too much about itself.
    pub async fn create(
        &self,
        room: &RoomId,
        peer: PeerId,
        info: PeerInfo,
        capabilities: Option<RtpCapabilities>,
    ) -> Result<Broadcaster, CreateBroadcasterError> {
        let (joined, events) = self.inner.rooms.join(room, &peer).await?;
        let made = Broadcaster {
            inner: Arc::new(BroadcasterInner {
                room: joined,
                peer: peer.clone(),
                capabilities,
                destinations: self.inner.config.destinations.clone(),
                heard: Mutex::new(Heard { at: Instant::now(), bytes: 0 }),
            }),
        };
        if let Err(error) = self.admit(room, &made, info) {
            made.inner.room.leave(&peer).await;
            return Err(error);
        }
        let silence = Duration::from_secs(self.inner.config.silence_secs);
        tokio::spawn(attend(Arc::downgrade(&self.inner), made.clone(), events, silence));
        Ok(made)
    }

    /// Notes a new broadcaster and lets it introduce itself.
    fn admit(&self, room: &RoomId, made: &Broadcaster, info: PeerInfo) -> Result<(), CreateBroadcasterError> {
        let limit = self.inner.config.max_per_room;
        let BroadcasterInner { room: joined, peer, .. } = &*made.inner;
        let mut by_name = self.inner.by_name();
        if by_name.keys().filter(|(of, other)| of == room && other != peer).count() >= limit {
            return Err(CreateBroadcasterError::Full(limit));
        }
        joined.introduce(peer, info)?;
        // One of this name may be there still, which has left the room a moment ago.
        by_name.insert((room.clone(), peer.clone()), made.clone());
        Ok(())
    }

    /// The broadcaster of this name, which shows by that that it is alive.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, room: &RoomId, peer: &PeerId) -> Result<Broadcaster, NotYours> {
        let found = self.inner.by_name().get(&(room.clone(), peer.clone())).cloned();
        let found = found.ok_or_else(|| not_yours("broadcaster", peer))?;
        found.inner.heard().at = Instant::now();
        Ok(found)
    }

    /// Removes a broadcaster with everything that it has.
    ///
    /// # Errors
    /// There is none of this name.
    pub async fn delete(&self, room: &RoomId, peer: &PeerId) -> Result<(), NotYours> {
        let removed = self.inner.by_name().remove(&(room.clone(), peer.clone()));
        let removed = removed.ok_or_else(|| not_yours("broadcaster", peer))?;
        removed.inner.room.leave(peer).await;
        Ok(())
    }
}

impl Inner {
    fn by_name(&self) -> MutexGuard<'_, HashMap<(RoomId, PeerId), Broadcaster>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets a broadcaster that leaves, or has left. Another one of its name may be there already.
fn forget(all: &Weak<Inner>, gone: &Broadcaster) {
    let Some(all) = all.upgrade() else { return };
    let name = (gone.inner.room.id().clone(), gone.inner.peer.clone());
    let mut by_name = all.by_name();
    if by_name.get(&name).is_some_and(|known| Arc::ptr_eq(&known.inner, &gone.inner)) {
        by_name.remove(&name);
    }
}

/// Takes what happens to a broadcaster, until it has left the room: by itself, or because nothing is heard of it.
async fn attend(
    all: Weak<Inner>,
    broadcaster: Broadcaster,
    mut events: mpsc::Receiver<PeerEvent>,
    silence: Duration,
) {
    let BroadcasterInner { room, peer, .. } = &*broadcaster.inner;
    let mut looks = tokio::time::interval(silence / LOOKS);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => debug!(%peer, ?event, "nobody to tell"),
                None => break,
            },
            _ = looks.tick() => if broadcaster.silent_for().await >= silence {
                info!(%peer, room = %room.id(), "broadcaster removed: nothing is heard of it");
                forget(&all, &broadcaster);
                room.leave(peer).await;
            },
        }
    }
    forget(&all, &broadcaster);
}

impl Broadcaster {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> &PeerId {
        &self.inner.peer
    }

    /// The others in its room that have introduced themselves, with what they publish.
    #[must_use]
    pub fn others(&self) -> Vec<OtherPeer> {
        let BroadcasterInner { room, peer, .. } = &*self.inner;
        let published = room.producers_of_others(peer);
        let others = room.introduced_peers().into_iter().filter(|(id, _)| id != peer);
        let other = |(id, info): (PeerId, PeerInfo)| {
            let producers = published.iter().filter(|producer| producer.peer == id).cloned().collect();
            OtherPeer { id, info, producers }
        };
        others.map(other).collect()
    }

    /// Makes a plain transport. See [`Room::create_plain_transport`].
    ///
    /// # Errors
    /// See [`CreateTransportError`].
    pub async fn create_plain_transport(
        &self,
        options: PlainTransportOptions,
    ) -> Result<PlainTransportInfo, CreateTransportError> {
        self.inner.room.create_plain_transport(&self.inner.peer, options).await
    }

    /// Makes a WebRTC transport, which carries media both ways.
    ///
    /// # Errors
    /// See [`CreateTransportError`].
    pub async fn create_webrtc_transport(
        &self,
        options: WebRtcTransportOptions,
    ) -> Result<CreatedTransport, CreateTransportError> {
        self.inner.room.create_transport(&self.inner.peer, Direction::Both, false, options).await
    }

    /// Connects a WebRTC transport.
    ///
    /// # Errors
    /// See [`ConnectTransportError`].
    pub async fn connect_transport(
        &self,
        transport: TransportId,
        remote: DtlsParameters,
    ) -> Result<(), ConnectTransportError> {
        self.inner.room.connect_transport(&self.inner.peer, transport, remote).await
    }

    /// Connects a plain transport: to an address in one of the networks that the settings name, or with keys for the one
    /// that comedia finds.
    ///
    /// # Errors
    /// See [`ConnectPlainTransportError`].
    pub async fn connect_plain_transport(
        &self,
        transport: TransportId,
        remote: PlainRemote,
    ) -> Result<(), ConnectPlainTransportError> {
        let allowed = |ip: &IpAddr| self.inner.destinations.iter().any(|network| network.contains(*ip));
        if let Some(ip) = remote.ip.filter(|ip| !allowed(ip)) {
            return Err(ConnectPlainTransportError::Destination(ip));
        }
        self.inner.room.connect_plain_transport(&self.inner.peer, transport, remote).await
    }

    /// Publishes a source.
    ///
    /// # Errors
    /// See [`ProduceError`].
    pub async fn produce(
        &self,
        on: TransportId,
        kind: MediaKind,
        parameters: RtpParameters,
    ) -> Result<ProducerId, ProduceError> {
        let app_data = serde_json::json!({});
        self.inner.room.produce(&self.inner.peer, TransportRef::Id(on), kind, parameters, app_data).await
    }

    /// Makes a consumer, which runs at once.
    ///
    /// # Errors
    /// See [`BroadcasterConsumeError`].
    pub async fn consume(
        &self,
        on: TransportId,
        producer: ProducerId,
    ) -> Result<Consumed, BroadcasterConsumeError> {
        let BroadcasterInner { room, peer, capabilities, .. } = &*self.inner;
        let capabilities = capabilities.clone().ok_or(BroadcasterConsumeError::NoCapabilities)?;
        let made =
            room.consume(peer, TransportRef::Id(on), producer, capabilities, Default::default()).await?;
        room.set_consumer_paused(peer, made.consumer.id, false).await?;
        Ok(made)
    }

    /// Publishes a source of messages.
    ///
    /// # Errors
    /// See [`ProduceDataError`].
    pub async fn produce_data(
        &self,
        on: TransportId,
        options: DataProducerOptions,
        app_data: serde_json::Value,
    ) -> Result<DataProducerId, ProduceDataError> {
        self.inner.room.produce_data(&self.inner.peer, on, options, app_data).await
    }

    /// Makes a data consumer.
    ///
    /// # Errors
    /// See [`ConsumeDataError`].
    pub async fn consume_data(
        &self,
        on: TransportId,
        producer: DataProducerId,
    ) -> Result<ConsumedData, ConsumeDataError> {
        self.inner.room.consume_data(&self.inner.peer, on, producer).await
    }

    /// How long nothing has been heard of it: no request, and no packet on any of its transports.
    async fn silent_for(&self) -> Duration {
        let received = self.inner.room.bytes_received(&self.inner.peer).await;
        let mut heard = self.inner.heard();
        match received {
            Ok(bytes) => heard.note(Instant::now(), bytes),
            // The server is going down, and everyone is removed.
            Err(error) => debug!(peer = %self.inner.peer, %error, "not heard"),
        }
        heard.at.elapsed()
    }
}

impl BroadcasterInner {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_sends_is_heard_and_whoever_stops_is_not() {
        let start = Instant::now();
        let second = |seconds| start + Duration::from_secs(seconds);
        let mut heard = Heard { at: start, bytes: 0 };
        heard.note(second(1), 0);
        assert_eq!(heard.at, start);
        heard.note(second(2), 100);
        heard.note(second(3), 100);
        assert_eq!(heard.at, second(2));
        heard.note(second(4), 101);
        assert_eq!(heard.at, second(4));
    }
}
