//! `GET /api/live-streams`: who is live over HLS, as server-sent events.
//!
//! A stream begins with `init`, the list of everyone who is live, and goes on with `peerLive` and `peerLeft`. A client
//! that missed events gets `init` again, so what it knows is right again.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

use super::{AppState, MAX_EVENT_STREAMS};
use crate::ids::PeerId;
use crate::live::{HlsEvent, Rooms};

/// How often a silent stream gets a comment, so that no proxy takes it for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a client is asked to wait when there are too many.
const RETRY_AFTER_SECS: &str = "10";
/// Asks nginx not to hold events back.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Peer {
    peer_id: PeerId,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Init {
    live_peers: Vec<Peer>,
}

pub(super) async fn live_streams(State(state): State<AppState>) -> Response {
    let Some(slot) = Slot::take(&state.event_streams) else {
        let refusal = super::error(StatusCode::SERVICE_UNAVAILABLE, "too many event streams");
        return ([(header::RETRY_AFTER, RETRY_AFTER_SECS)], refusal).into_response();
    };
    let follower = Follower {
        // Subscribed before the first list is made: nothing falls between the two.
        events: state.routes.rooms.subscribe_hls(),
        rooms: state.routes.rooms,
        stopping: state.routes.stopping,
        known: None,
        _slot: slot,
    };
    let events = stream::unfold(follower, |mut follower| async {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    ([(X_ACCEL_BUFFERING, "no")], sse).into_response()
}

struct Follower {
    rooms: Rooms,
    events: broadcast::Receiver<HlsEvent>,
    stopping: watch::Receiver<bool>,
    /// Who the client believes to be live; none until it was told.
    known: Option<HashSet<PeerId>>,
    _slot: Slot,
}

impl Follower {
    /// The next event for the client; none when the server goes down.
    async fn next(&mut self) -> Option<SseEvent> {
        if self.known.is_none() {
            return Some(self.init());
        }
        loop {
            let event = tokio::select! {
                event = self.events.recv() => event,
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
            };
            let known = self.known.get_or_insert_default();
            match event {
                Ok(HlsEvent::Live(peer)) if known.insert(peer.clone()) => {
                    return Some(named("peerLive", &Peer { peer_id: peer }));
                }
                Ok(HlsEvent::OffAir(peer)) if known.remove(&peer) => {
                    return Some(named("peerLeft", &Peer { peer_id: peer }));
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return Some(self.init()),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn init(&mut self) -> SseEvent {
        let live = self.rooms.live_peers();
        self.known = Some(live.iter().cloned().collect());
        named("init", &Init { live_peers: live.into_iter().map(|peer_id| Peer { peer_id }).collect() })
    }
}

fn named(name: &str, data: &impl Serialize) -> SseEvent {
    let text = serde_json::to_string(data).unwrap_or_default();
    SseEvent::default().event(name).data(text)
}

/// One of the [`MAX_EVENT_STREAMS`] streams.
struct Slot {
    taken: Arc<AtomicUsize>,
}

impl Slot {
    fn take(taken: &Arc<AtomicUsize>) -> Option<Self> {
        let one_more = |held: usize| (held < MAX_EVENT_STREAMS).then_some(held + 1);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self { taken: Arc::clone(taken) })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}
