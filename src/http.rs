//! The web server: who is live as an event stream, HLS files, the demo page, health and counters.
//!
//! Handlers translate between HTTP and the modules below and decide nothing. The server underneath bounds what one
//! client can hold: connections, header sizes, and the time a slow client may take. Socket.IO is not known here; the
//! application puts it around these routes.

mod activity;
mod broadcasters;
mod connection;
mod demo;
mod hls;
mod metrics;
mod range;
mod server;
mod site;
mod sse;
mod status;
pub mod tls;
mod token;
mod whip;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tower_http::cors::{AllowHeaders, CorsLayer};

use crate::egress::Egress;
use crate::live::Rooms;
use crate::live::access::Access;
use crate::live::broadcasters::Broadcasters;
use crate::live::whip::Sessions;

pub use server::{Running, Server, Stats, StatsReader};
pub use site::Site;

/// The largest request body that these routes take, in bytes: several times a broadcaster's `rtpCapabilities`.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// How long a request may take until its answer begins: longer than a long-polling client is kept waiting.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a browser need not ask again whether it may ask.
const PREFLIGHT_AGE: Duration = Duration::from_secs(24 * 3600);
/// Where Socket.IO is served; `sid` in the query tells a session that exists from a handshake.
const SOCKET_IO_PATH: &str = "/socket.io";
/// The most event streams at a time.
const MAX_EVENT_STREAMS: usize = 10_000;

/// Where the web server listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The TCP address of HTTP and Socket.IO.
    pub listen: SocketAddr,
    /// The most HTTP connections at a time, not counting those that became WebSockets. Further ones wait.
    pub max_connections: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([0, 0, 0, 0], 4000)), max_connections: 4096 }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// The setting that makes no sense, and why.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        if !(1..=server::MAX_CONNECTIONS_LIMIT).contains(&self.max_connections) {
            let reason = format!("not in the range 1 to {}", server::MAX_CONNECTIONS_LIMIT);
            return Err(("http.max_connections", reason));
        }
        Ok(())
    }
}

/// Answers `/api/stats`: the counters of all modules, which only the application knows together.
pub type StatsSource = Arc<dyn Fn() -> BoxFuture<'static, serde_json::Value> + Send + Sync>;

/// What the routes stand on.
#[derive(Clone)]
pub struct Routes {
    /// Who is live.
    pub rooms: Rooms,
    /// The HLS files; none if HLS is off.
    pub egress: Option<Egress>,
    /// Who may have them; none if everybody may.
    pub access: Option<Arc<Access>>,
    /// Programs that are peers of a room by requests alone.
    pub broadcasters: Broadcasters,
    /// Peers that came with an SDP offer.
    pub sessions: Sessions,
    /// All counters.
    pub stats: StatsSource,
    /// Turns true when the server is going down.
    pub stopping: watch::Receiver<bool>,
}

#[derive(Clone)]
struct AppState {
    routes: Routes,
    files: Option<hls::Files>,
    event_streams: Arc<AtomicUsize>,
}

impl Routes {
    /// The routes of this module.
    pub fn into_router(self) -> Router {
        let broadcasters = broadcasters::routes(self.broadcasters.clone());
        let whip = whip::routes(self.sessions.clone(), self.access.clone());
        let files = self.egress.clone().map(|egress| hls::Files { egress, access: self.access.clone() });
        let state = AppState { routes: self, files, event_streams: Arc::default() };
        Router::new()
            .route("/health", get(status::health))
            .route("/api/stats", get(status::stats))
            .route("/metrics", get(metrics::metrics))
            .route("/api/live-streams", get(sse::live_streams))
            .route("/live/{*path}", get(hls::file))
            .route("/livestream/{*path}", get(hls::livestream_file))
            .merge(broadcasters)
            .merge(whip)
            .fallback(get(demo::file))
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .with_state(state)
    }
}

/// Puts what holds for every answer around all routes: any origin may ask, no request waits for ever, and a server that
/// is `stopping` begins no conversation any more.
pub fn public(router: Router, stopping: watch::Receiver<bool>) -> Router {
    router
        .layer(middleware::from_fn_with_state(stopping, no_new_sessions))
        .layer(middleware::from_fn(finish_in_time))
        .layer(any_origin())
        .layer(middleware::from_fn(whip::tell_accepted))
}

/// Lets pages of any origin ask. Preflights name the headers back that were asked for, because the star does not stand
/// for `Authorization`, and are good for a day.
fn any_origin() -> CorsLayer {
    CorsLayer::permissive().allow_headers(AllowHeaders::mirror_request()).max_age(PREFLIGHT_AGE).vary([])
}

/// Answers the handshakes of a server that is going down with 503. Engine.IO clients try again after that, and reach
/// the next server; one that Socket.IO refuses by name would stay away for good.
async fn no_new_sessions(
    State(stopping): State<watch::Receiver<bool>>,
    request: Request,
    next: Next,
) -> Response {
    let handshake = request.uri().path().starts_with(SOCKET_IO_PATH)
        && !request.uri().query().unwrap_or_default().split('&').any(|pair| pair.starts_with("sid="));
    if handshake && *stopping.borrow() {
        return error(StatusCode::SERVICE_UNAVAILABLE, "the server is going down");
    }
    next.run(request).await
}

async fn finish_in_time(request: Request, next: Next) -> Response {
    let Ok(mut response) = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await else {
        return error(StatusCode::REQUEST_TIMEOUT, "the request took too long");
    };
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// An error as JSON.
fn error(status: StatusCode, why: &str) -> Response {
    (status, axum::Json(serde_json::json!({ "error": why }))).into_response()
}

#[cfg(test)]
mod tests;
