//! Socket.IO: clients' events become calls to a room, and what happens in the room becomes events to clients.
//!
//! One connected socket is one peer, whose name is the socket's id. Its events are handled one after the other by a
//! task of its own, in the order in which they came. Clients speak one of several dialects, each a module of its own;
//! `docs/wire/` describes them. Nothing is decided here: this module translates, and it bounds what one client can make
//! the server do.

mod arguments;
mod client;
mod dialect;
mod inbox;
mod mediasoup_hls;
mod objects;
mod rate;
mod refusal;
mod room;
mod rooms;
mod sample_app;
mod session;
mod tutorial;
mod video_rooms;

use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::Request;
use serde::{Deserialize, Serialize};
use socketioxide::SocketIo;
use socketioxide::adapter::LocalAdapter;
use socketioxide::handler::{ConnectHandler, Value};
use socketioxide::layer::SocketIoLayer;
use socketioxide::socket::Socket;
use tracing::{debug, info};

use crate::ids::{PeerId, RoomId};
use crate::live::{DEFAULT_ROOM, Rooms};
use client::Client;
use dialect::Dialect;
use refusal::Refusal;
use session::Session;

/// How many packets may wait for one client before it is taken for dead and disconnected.
const MAX_OUTGOING_PACKETS: usize = 1024;
/// How long a client may take to get from its first HTTP request to a connected socket.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to acknowledge a consumer that it is offered.
const ACK_TIMEOUT: Duration = Duration::from_secs(20);
/// The most sockets at a time: one that has not joined a room is in nobody else's books.
const MAX_SOCKETS: usize = 20_000;
/// The namespace of the dialect for new applications.
const ROOMS_NAMESPACE: &str = "/rooms";
/// The namespace that the tutorial's clients connect to.
const TUTORIAL_NAMESPACE: &str = "/mediasoup";
/// The path that the sample app's clients connect to instead of `/socket.io`.
const SAMPLE_APP_PATH: &str = "/server/";
/// The path that Socket.IO is served on.
const SOCKET_IO_PATH: &str = "/socket.io/";
/// The most that `max_message_bytes` can be set to, in bytes.
const MAX_MESSAGE_BYTES_LIMIT: usize = 64 * 1024 * 1024;

/// How clients may talk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The largest message from a client, in bytes.
    pub max_message_bytes: usize,
    /// How many events a client may send per second in the long run; three times as many at once.
    pub events_per_second: u32,
    /// How often a client is asked whether it is still there, in seconds.
    pub ping_interval_secs: u64,
    /// How long it may take to answer, in seconds.
    pub ping_timeout_secs: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_message_bytes: 2 * 1024 * 1024,
            events_per_second: 100,
            ping_interval_secs: 10,
            ping_timeout_secs: 10,
        }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// The setting that makes no sense, and why.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        if !(1024..=MAX_MESSAGE_BYTES_LIMIT).contains(&self.max_message_bytes) {
            let reason = format!("not in the range 1024 to {MAX_MESSAGE_BYTES_LIMIT}");
            return Err(("signaling.max_message_bytes", reason));
        }
        for (setting, value) in [
            ("signaling.events_per_second", u64::from(self.events_per_second)),
            ("signaling.ping_interval_secs", self.ping_interval_secs),
            ("signaling.ping_timeout_secs", self.ping_timeout_secs),
        ] {
            if value == 0 {
                return Err((setting, "0 would let nobody talk".into()));
            }
        }
        Ok(())
    }
}

/// What happened on all sockets since the start, and how many there are now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Connected sockets now.
    pub sockets: usize,
    /// Events received.
    pub events: u64,
    /// Events answered with an error, or that would have been if they had asked for an answer.
    pub refused: u64,
    /// Events refused unread because their sender sent too many or too much at once (also in `refused`).
    pub rate_limited: u64,
    /// Clients disconnected because they did not take what was sent to them.
    pub too_slow: u64,
}

#[derive(Debug, Default)]
struct Counters {
    sockets: AtomicUsize,
    events: AtomicU64,
    refused: AtomicU64,
    rate_limited: AtomicU64,
    too_slow: AtomicU64,
}

impl Counters {
    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// All sockets.
#[derive(Clone)]
pub struct Signaling {
    io: SocketIo,
    counters: Arc<Counters>,
}

impl Signaling {
    /// Prepares Socket.IO for `rooms`. The layer goes around the HTTP routes.
    #[must_use]
    pub fn new(config: &Config, rooms: Rooms) -> (Self, SocketIoLayer) {
        let (layer, io) = SocketIo::builder()
            .req_path(SOCKET_IO_PATH.trim_end_matches('/'))
            .max_payload(config.max_message_bytes as u64)
            .ws_max_message_size(config.max_message_bytes)
            .ws_max_frame_size(config.max_message_bytes)
            .max_buffer_size(MAX_OUTGOING_PACKETS)
            .ack_timeout(ACK_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .ping_interval(Duration::from_secs(config.ping_interval_secs))
            .ping_timeout(Duration::from_secs(config.ping_timeout_secs))
            .build_layer();
        let counters = Arc::new(Counters::default());
        for (path, entrance) in [
            ("/", Entrance::Default),
            (ROOMS_NAMESPACE, Entrance::Rooms),
            (TUTORIAL_NAMESPACE, Entrance::Tutorial),
        ] {
            let (config, counters) = (Arc::new(config.clone()), Arc::clone(&counters));
            io.ns(path, Gate { entrance, rooms: rooms.clone(), config, counters });
        }
        (Self { io, counters }, layer)
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            sockets: self.counters.sockets.load(Ordering::Relaxed),
            events: read(&self.counters.events),
            refused: read(&self.counters.refused),
            rate_limited: read(&self.counters.rate_limited),
            too_slow: read(&self.counters.too_slow),
        }
    }

    /// Tells every client that the connection ends, and ends it.
    pub async fn close(&self) {
        self.io.close().await;
    }
}

/// Takes a request to the sample app's path to Socket.IO's, and notes where it came from. To be asked before anyone
/// else looks at the path.
#[must_use]
pub fn find_socket_io<B>(mut request: Request<B>) -> Request<B> {
    let Some(rest) = request.uri().path().strip_prefix(SAMPLE_APP_PATH) else { return request };
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    if let Ok(uri) = format!("{SOCKET_IO_PATH}{rest}{query}").parse() {
        *request.uri_mut() = uri;
        request.extensions_mut().insert(ViaSampleAppPath);
    }
    request
}

/// Marks the requests that came to the sample app's path.
#[derive(Debug, Clone, Copy)]
struct ViaSampleAppPath;

/// Where a socket comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entrance {
    Default,
    Rooms,
    Tutorial,
}

/// What every new socket goes through.
///
/// It is a hand-written handler because the usual `async fn` runs in a task of its own: a client that sends at once
/// could be faster than the registration of its message handler, and two of its events could overtake each other.
#[derive(Clone)]
struct Gate {
    entrance: Entrance,
    rooms: Rooms,
    config: Arc<Config>,
    counters: Arc<Counters>,
}

/// Names this handler's way to take arguments, for the trait's sake.
struct Whole;

impl Gate {
    /// What speaks for a socket, which may have to go into the default room at once.
    fn admit(
        &self,
        socket: &Socket,
        peer: PeerId,
        auth: Option<&Value>,
    ) -> Result<(Client, Dialect, bool), Refusal> {
        let mut client = Client::new(peer, self.rooms.clone());
        let (dialect, pinned) = match self.entrance {
            Entrance::Default => {
                let sample_app = socket.req_parts().extensions.get::<ViaSampleAppPath>().is_some();
                client.enter_default()?;
                client.emit(room::welcome(&client.peer));
                if sample_app {
                    (Dialect::SampleApp(sample_app::State::default()), true)
                } else {
                    client.emit(tutorial::welcome(&client.peer));
                    (Dialect::Room, false)
                }
            }
            Entrance::Rooms => (Dialect::Rooms(Box::new(rooms::State::new(wanted_room(auth)?))), true),
            Entrance::Tutorial => {
                client.emit(tutorial::welcome(&client.peer));
                (Dialect::Tutorial, true)
            }
        };
        Ok((client, dialect, pinned))
    }

    fn check(&self, auth: Option<&Value>) -> Result<(), Refusal> {
        self.rooms.check_open()?;
        if self.counters.sockets.load(Ordering::Relaxed) >= MAX_SOCKETS {
            let why = format!("too many sockets: the limit is {MAX_SOCKETS}");
            return Err(Refusal::new(refusal::Code::Limit, &why));
        }
        match self.entrance {
            Entrance::Default => Ok(self.rooms.default_room().check_join()?),
            Entrance::Rooms => wanted_room(auth).map(drop),
            Entrance::Tutorial => Ok(()),
        }
    }
}

/// The room that a client of the rooms dialect names when it connects: `{roomId}`, or the default one.
fn wanted_room(auth: Option<&Value>) -> Result<RoomId, Refusal> {
    let auth: Option<rooms::wire::Auth> = match auth {
        Some(Value::Str(text, _)) => {
            serde_json::from_str(text).map_err(|error| Refusal::bad(&format!("auth: {error}")))?
        }
        _ => None,
    };
    let id = auth.and_then(|auth| auth.room_id);
    id.as_deref().unwrap_or(DEFAULT_ROOM).parse().map_err(|error| Refusal::bad(&error))
}

impl ConnectHandler<LocalAdapter, Whole> for Gate {
    fn call(&self, socket: Arc<Socket>, auth: Option<Value>) {
        let Ok(peer) = socket.id.as_str().parse::<PeerId>() else {
            debug!(id = %socket.id, "a socket id that is no peer id");
            drop(socket.disconnect());
            return;
        };
        match self.admit(&socket, peer, auth.as_ref()) {
            Ok((client, dialect, pinned)) => {
                let session = Session::new(socket, client, dialect, pinned, Arc::clone(&self.counters));
                tokio::spawn(session.run(&self.config));
            }
            Err(refusal) => {
                info!(socket = %socket.id, why = refusal.text, "socket refused");
                drop(socket.disconnect());
            }
        }
    }

    fn call_middleware<'a>(
        &'a self,
        _socket: Arc<Socket>,
        auth: &'a Option<Value>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Box<dyn Display + Send>>> + Send + 'a>> {
        Box::pin(async {
            match self.check(auth.as_ref()) {
                Ok(()) => Ok(()),
                Err(refusal) => Err(Box::new(refusal.text) as Box<dyn Display + Send>),
            }
        })
    }
}
