//! One session: its ICE, and its end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use mediasoup_types::data_structures::IceCandidate;
use tokio::sync::mpsc;
use tracing::{debug, info};
use uuid::Uuid;

use super::{Inner, PatchError, Place};
use crate::ids::{PeerId, SessionId, TransportId};
use crate::live::event::PeerEvent;
use crate::live::room::Room;
use crate::media::sdp::{Credentials, Fragment};

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It publishes (WHIP).
    Publish,
    /// It plays (WHEP).
    Play,
}

/// One session. Clones are the same.
#[derive(Clone)]
pub struct Session {
    inner: Arc<SessionInner>,
}

/// What a session is made of.
pub(super) struct Parts {
    pub(super) role: Role,
    pub(super) stream: PeerId,
    pub(super) room: Room,
    pub(super) peer: PeerId,
    pub(super) transport: TransportId,
    pub(super) candidates: Vec<IceCandidate>,
    /// The client's side of ICE.
    pub(super) remote: Credentials,
    /// How many things it plays; all of them ended, it is over. A publisher plays nothing.
    pub(super) consumers: usize,
    pub(super) _place: Place,
}

struct SessionInner {
    id: SessionId,
    parts: Parts,
    ice: Mutex<IceSession>,
}

/// The ICE session, from one restart to the next.
struct IceSession {
    remote: Credentials,
    tag: String,
    is_restarting: bool,
}

/// What a changed ICE session is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Patched {
    /// The client's candidates are known.
    Trickled,
    /// There is a new ICE session.
    Restarted {
        /// Its entity tag.
        tag: String,
        /// The server's side of it, as an SDP fragment.
        fragment: String,
    },
}

/// The condition of a request (RFC 9110 section 13.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition<'a> {
    /// `*`: whichever ICE session there is.
    Any,
    /// One of these entity tags, as the header has them.
    OneOf(&'a str),
}

impl<'a> Condition<'a> {
    /// Reads the value of `If-Match`.
    #[must_use]
    pub fn read(header: &'a str) -> Self {
        if header.trim() == "*" { Self::Any } else { Self::OneOf(header) }
    }

    /// Weak tags match nothing: the comparison is the strong one.
    fn holds(self, tag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(tags) => tags.split(',').any(|one| one.trim() == tag),
        }
    }
}

impl Session {
    pub(super) fn new(parts: Parts) -> Self {
        let ice = IceSession { remote: parts.remote.clone(), tag: new_tag(), is_restarting: false };
        Self { inner: Arc::new(SessionInner { id: SessionId::random(), parts, ice: Mutex::new(ice) }) }
    }

    /// What its client addresses it by.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.inner.id
    }

    /// Whether it is of this role and stream.
    pub(super) fn is(&self, role: Role, stream: &PeerId) -> bool {
        self.inner.parts.role == role && self.inner.parts.stream == *stream
    }

    /// The entity tag of its ICE session.
    pub(super) fn tag(&self) -> String {
        self.ice().tag.clone()
    }

    /// Takes what the client tells of its ICE agent. Other credentials than before are an ICE restart.
    ///
    /// # Errors
    /// See [`PatchError`].
    pub async fn patch(&self, condition: Condition<'_>, text: &str) -> Result<Patched, PatchError> {
        let fragment = Fragment::parse(text)?;
        {
            let mut ice = self.ice();
            if !condition.holds(&ice.tag) {
                return Err(PatchError::OtherSession);
            }
            if fragment.ice == ice.remote {
                return Ok(Patched::Trickled);
            }
            if std::mem::replace(&mut ice.is_restarting, true) {
                return Err(PatchError::Restarting);
            }
        }
        let Parts { room, peer, transport, candidates, .. } = &self.inner.parts;
        let restarted = room.restart_ice(peer, *transport).await;
        let mut ice = self.ice();
        ice.is_restarting = false;
        let local = restarted?;
        ice.remote = fragment.ice;
        ice.tag = new_tag();
        Ok(Patched::Restarted { tag: ice.tag.clone(), fragment: Fragment::write(&local, candidates) })
    }

    /// Takes its peer out of the room, unless its transport ended already: the peer follows by itself then, and another one
    /// of its name may be there.
    pub(super) async fn leave(&self) {
        let Parts { room, peer, transport, .. } = &self.inner.parts;
        if room.owns_transport(peer, *transport) {
            room.leave(peer).await;
        }
    }

    /// Takes what happens to its peer, until that has left the room, and forgets the session then.
    pub(super) async fn attend(
        self,
        all: Weak<Inner>,
        mut events: mpsc::Receiver<PeerEvent>,
        connect_within: Duration,
    ) {
        let Parts { room, peer, transport, stream, role, .. } = &self.inner.parts;
        let mut consumers = self.inner.parts.consumers;
        let mut connect = std::pin::pin!(tokio::time::sleep(connect_within));
        let mut is_awaited = true;
        let why = loop {
            tokio::select! {
                event = events.recv() => match event {
                    None => break None,
                    Some(PeerEvent::TransportClosed(_)) => break Some("its transport ended"),
                    Some(PeerEvent::ConsumerClosed { .. }) => {
                        consumers = consumers.saturating_sub(1);
                        if consumers == 0 {
                            break Some("the stream ended");
                        }
                    }
                    Some(event) => debug!(%stream, ?event, "nobody to tell"),
                },
                () = &mut connect, if is_awaited => {
                    is_awaited = false;
                    if !room.was_connected(*transport) {
                        break Some("it never connected");
                    }
                }
            }
        };
        info!(%stream, ?role, why = why.unwrap_or("its peer left"), "session ended");
        if why.is_some() {
            // Its events had not ended, so it is still there, and still this one.
            room.leave(peer).await;
        }
        if let Some(all) = all.upgrade() {
            all.by_id().remove(&self.id());
        }
    }

    fn ice(&self) -> MutexGuard<'_, IceSession> {
        self.inner.ice.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A strong entity tag that no ICE session had before (RFC 9110 section 8.8.3).
fn new_tag() -> String {
    format!("\"{}\"", Uuid::new_v4().simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_holds_for_the_star_and_for_the_tag_itself() {
        let holds = |header| Condition::read(header).holds("\"a\"");
        assert!(holds("*") && holds("\"a\"") && holds("\"b\", \"a\"") && holds(" * "));
        assert!(!holds("\"b\"") && !holds("a") && !holds("W/\"a\"") && !holds(""));
    }
}
