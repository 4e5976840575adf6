//! The TCP side of the web server: accepts connections within a limit, gives up on slow ones, and stops in good order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_io_timeout::TimeoutStream;
use tracing::{debug, warn};

use super::Config;

/// The most that `max_connections` can be set to.
pub(super) const MAX_CONNECTIONS_LIMIT: usize = 1_000_000;
/// The largest head of a request, and the buffer of a connection, in bytes.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// The most header lines of a request.
const MAX_HEADERS: usize = 100;
/// How long a client may take to send the head of a request, and how long a connection is kept between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take nothing of what is sent to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait before accepting again when the system is out of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// The server's counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Open HTTP connections, not counting those that became WebSockets.
    pub connections: usize,
    /// Connections accepted since the start.
    pub accepted: u64,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicUsize,
    accepted: AtomicU64,
}

/// The socket of a web server, and the server once it was started.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    max_connections: usize,
    counters: Arc<Counters>,
}

/// A server that runs.
pub struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Reads the counters of a server.
#[derive(Clone)]
pub struct StatsReader {
    counters: Arc<Counters>,
}

impl Server {
    /// Binds the address.
    ///
    /// # Errors
    /// The address can't be bound; the text names it.
    pub async fn bind(config: &Config) -> anyhow::Result<Self> {
        let failed = |error: io::Error| anyhow::anyhow!("HTTP can't listen on {}: {error}", config.listen);
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, max_connections: config.max_connections, counters: Arc::default() })
    }

    /// The bound address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the counters are read.
    #[must_use]
    pub fn stats(&self) -> StatsReader {
        StatsReader { counters: Arc::clone(&self.counters) }
    }

    /// Serves `router` from now on.
    #[must_use]
    pub fn start(self, router: Router) -> Running {
        let (stop, stopping) = watch::channel(false);
        Running { stop, task: tokio::spawn(self.run(router, stopping)) }
    }

    async fn run(self, router: Router, mut stopping: watch::Receiver<bool>) {
        let slots = Arc::new(Semaphore::new(self.max_connections));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stopped(&mut stopping) => break,
                Some(_) = connections.join_next() => {}
                accepted = self.accept(&slots) => match accepted {
                    Ok((stream, slot)) => {
                        let held = Held::new(&self.counters, slot);
                        connections.spawn(serve(stream, router.clone(), stopping.clone(), held));
                    }
                    Err(error) => {
                        warn!(%error, "no connection can be accepted");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                },
            }
        }
        drop(self.listener);
        while connections.join_next().await.is_some() {}
    }

    async fn accept(&self, slots: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
        let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, _) = self.listener.accept().await?;
        // Fails for a client that is gone already, which the first read finds out as well.
        drop(stream.set_nodelay(true));
        Ok((stream, slot))
    }
}

impl Running {
    /// Accepts nothing from now on and waits until every open request is answered, but no longer than `within`.
    pub async fn stop(mut self, within: Duration) {
        self.stop.send_replace(true);
        if tokio::time::timeout(within, &mut self.task).await.is_err() {
            debug!("open HTTP connections are cut");
            self.task.abort();
        }
    }
}

impl StatsReader {
    /// The counters now.
    #[must_use]
    pub fn read(&self) -> Stats {
        Stats {
            connections: self.counters.connections.load(Ordering::Relaxed),
            accepted: self.counters.accepted.load(Ordering::Relaxed),
        }
    }
}

async fn serve(stream: TcpStream, router: Router, mut stopping: watch::Receiver<bool>, _held: Held) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router))
        .with_upgrades();
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "HTTP connection ended");
    }
}

/// Waits until the server is to stop. One whose [`Running`] is gone stops as well.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    drop(stopping.wait_for(|stop| *stop).await);
}

/// One of the connections that may be open.
struct Held {
    counters: Arc<Counters>,
    _slot: OwnedSemaphorePermit,
}

impl Held {
    fn new(counters: &Arc<Counters>, slot: OwnedSemaphorePermit) -> Self {
        counters.connections.fetch_add(1, Ordering::Relaxed);
        counters.accepted.fetch_add(1, Ordering::Relaxed);
        Self { counters: Arc::clone(counters), _slot: slot }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.counters.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
