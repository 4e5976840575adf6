//! Is the server well, and what is it doing.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::AppState;

/// `GET /health`: 200 while the server takes new work, 503 when it is going down.
pub(super) async fn health(State(state): State<AppState>) -> Response {
    let stopping = *state.routes.stopping.borrow();
    let (status, word) =
        if stopping { (StatusCode::SERVICE_UNAVAILABLE, "stopping") } else { (StatusCode::OK, "ok") };
    let counts = state.routes.rooms.counts();
    let body = json!({
        "status": word,
        "version": env!("CARGO_PKG_VERSION"),
        "peers": counts.peers,
        "livePeers": counts.live_peers,
    });
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// `GET /api/stats`: all counters.
pub(super) async fn stats(State(state): State<AppState>) -> Response {
    let mut stats = (state.routes.stats)().await;
    if let Some(stats) = stats.as_object_mut() {
        stats.insert("eventStreams".into(), state.event_streams.load(Ordering::Relaxed).into());
    }
    ([(header::CACHE_CONTROL, "no-store")], Json(stats)).into_response()
}
