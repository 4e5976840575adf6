//! WHIP and WHEP sessions (RFC 9725, draft-ietf-wish-whep-03): peers that come with one SDP offer.
//!
//! A publisher is an ordinary peer of the default room, named as its stream: it is watched as every other peer is. A
//! player is a peer that nobody is told of, in the room of the one that it watches. Both have one transport, and a task
//! that removes them when that ends, or never comes up. What becomes of an offer is decided here; HTTP is not known.

mod config;
mod error;
mod play;
mod publish;
mod session;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::error::NotYours;
use super::event::PeerEvent;
use super::ice_servers::IceServer;
use super::keys::{Grant, KeyDenied, KeyRule};
use super::room::not_yours;
use super::rooms::Rooms;
use crate::ids::{PeerId, SessionId};
pub use config::Config;
pub use error::{PatchError, StartError};
pub use session::{Condition, Patched, Role, Session};

/// How many sessions may begin per second in the long run, and how many at once: each costs a transport, whoever asks.
const STARTS_PER_SEC: f64 = 50.0;
const STARTS_AT_ONCE: f64 = 200.0;

/// All sessions. Clones are the same.
#[derive(Clone)]
pub struct Sessions {
    inner: Arc<Inner>,
}

struct Inner {
    rooms: Rooms,
    keys: Arc<dyn KeyRule>,
    /// At most [`Config::max_publishers`] and [`Config::max_players`].
    by_id: Mutex<HashMap<SessionId, Session>>,
    publishers: Places,
    players: Places,
    starts: Mutex<Starts>,
    connect_within: Duration,
}

/// A session that began.
#[derive(Debug)]
pub struct Started {
    /// What the client addresses it by.
    pub id: SessionId,
    /// The SDP answer.
    pub answer: String,
    /// The strong entity tag of its ICE session, with the quotation marks.
    pub tag: String,
    /// STUN and TURN servers that the client may use.
    pub ice_servers: Vec<IceServer>,
}

impl Sessions {
    /// The sessions of a server: none yet. `keys` says who may publish.
    #[must_use]
    pub fn new(config: &Config, rooms: Rooms, keys: Arc<dyn KeyRule>) -> Self {
        Self {
            inner: Arc::new(Inner {
                rooms,
                keys,
                by_id: Mutex::default(),
                publishers: Places::new(config.max_publishers),
                players: Places::new(config.max_players),
                starts: Mutex::new(Starts { left: STARTS_AT_ONCE, at: Instant::now() }),
                connect_within: Duration::from_secs(config.connect_secs),
            }),
        }
    }

    /// Whether the one who shows this key may publish this stream.
    ///
    /// # Errors
    /// No.
    pub async fn check_key(&self, stream: &PeerId, key: Option<&str>) -> Result<Grant, KeyDenied> {
        self.inner.keys.check(stream, key).await
    }

    /// Keeps a session that began, as long as its peer is there.
    fn keep(&self, session: Session, events: mpsc::Receiver<PeerEvent>) {
        self.inner.by_id().insert(session.id(), session.clone());
        let all = Arc::downgrade(&self.inner);
        tokio::spawn(session.attend(all, events, self.inner.connect_within));
    }

    /// The session of this id, which has to be of this role and stream.
    ///
    /// # Errors
    /// There is none (any more).
    pub fn find(&self, role: Role, stream: &PeerId, id: SessionId) -> Result<Session, NotYours> {
        let found = self.inner.by_id().get(&id).cloned();
        found.filter(|found| found.is(role, stream)).ok_or_else(|| not_yours("session", id))
    }

    /// Ends a session with everything that it has.
    pub async fn end(&self, session: &Session) {
        self.inner.by_id().remove(&session.id());
        session.leave().await;
    }

    /// How many publish and how many play.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (
            self.inner.publishers.taken.load(Ordering::Relaxed),
            self.inner.players.taken.load(Ordering::Relaxed),
        )
    }
}

impl Inner {
    fn by_id(&self) -> MutexGuard<'_, HashMap<SessionId, Session>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets one more session begin, if there is a place and not too many begin at a time.
    fn admit(&self, places: &Places) -> Result<Place, StartError> {
        let place = places.take().ok_or(StartError::Busy)?;
        let mut starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        if starts.take(Instant::now()) { Ok(place) } else { Err(StartError::Busy) }
    }
}

/// A bucket of starts (token bucket).
#[derive(Debug)]
struct Starts {
    left: f64,
    at: Instant,
}

impl Starts {
    fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + elapsed * STARTS_PER_SEC).min(STARTS_AT_ONCE);
        self.at = now;
        let is_one = self.left >= 1.0;
        if is_one {
            self.left -= 1.0;
        }
        is_one
    }
}

/// So many places for sessions.
#[derive(Debug)]
struct Places {
    taken: Arc<AtomicUsize>,
    limit: usize,
}

impl Places {
    fn new(limit: usize) -> Self {
        Self { taken: Arc::default(), limit }
    }

    fn take(&self) -> Option<Place> {
        let one_more = |held: usize| (held < self.limit).then_some(held + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Place(Arc::clone(&self.taken)))
    }
}

/// One of the places, until it is dropped.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_and_never_overdrawn() {
        let places = Places::new(2);
        let first = places.take();
        assert!(first.is_some());
        let second = places.take();
        assert!(second.is_some() && places.take().is_none());
        drop(first);
        assert!(places.take().is_some());
    }

    #[test]
    fn a_storm_of_offers_is_held_up_and_passes() {
        let now = Instant::now();
        let mut starts = Starts { left: STARTS_AT_ONCE, at: now };
        assert_eq!((0..1000).filter(|_| starts.take(now)).count(), 200);
        assert_eq!((0..1000).filter(|_| starts.take(now + Duration::from_secs(1))).count(), 50);
    }
}
