//! The TCP side of the web server: accepts connections within a limit and stops in good order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::Config;
use super::connection::{Served, serve_plain, serve_tls, stopped};
use super::site::Site;
use super::tls::Certificate;

/// The most that `max_connections` can be set to.
pub(super) const MAX_CONNECTIONS_LIMIT: usize = 1_000_000;
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
    /// Those of them that ended before their TLS handshake was done.
    pub failed_handshakes: u64,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicUsize,
    accepted: AtomicU64,
    failed_handshakes: AtomicU64,
}

/// The sockets of a web server, and the server once it was started.
pub struct Server {
    plain: Port,
    encrypted: Vec<Port>,
    max_connections: usize,
    counters: Arc<Counters>,
}

/// One of its sockets.
struct Port {
    listener: TcpListener,
    address: SocketAddr,
    /// For connections that begin with TLS.
    acceptor: Option<TlsAcceptor>,
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
        let plain = Port::bind("HTTP", config.listen, None).await?;
        let max_connections = config.max_connections;
        Ok(Self { plain, encrypted: Vec::new(), max_connections, counters: Arc::default() })
    }

    /// Serves the same over TLS at these addresses, HTTP/2 included.
    ///
    /// # Errors
    /// An address can't be bound; the text names it.
    pub async fn with_tls(
        mut self,
        listen: &[SocketAddr],
        certificate: &Certificate,
    ) -> anyhow::Result<Self> {
        for address in listen {
            self.encrypted.push(Port::bind("HTTPS", *address, Some(certificate.acceptor())).await?);
        }
        Ok(self)
    }

    /// The bound address without TLS.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.plain.address
    }

    /// The bound addresses with TLS.
    #[must_use]
    pub fn tls_addresses(&self) -> Vec<SocketAddr> {
        self.encrypted.iter().map(|port| port.address).collect()
    }

    /// Where the counters are read.
    #[must_use]
    pub fn stats(&self) -> StatsReader {
        StatsReader { counters: Arc::clone(&self.counters) }
    }

    /// Serves `site` from now on.
    #[must_use]
    pub fn start(self, site: impl Into<Site>) -> Running {
        let (stop, stopping) = watch::channel(false);
        Running { stop, task: tokio::spawn(self.run(site.into(), stopping)) }
    }

    async fn run(self, site: Site, stopping: watch::Receiver<bool>) {
        let slots = Arc::new(Semaphore::new(self.max_connections));
        let mut ports = JoinSet::new();
        for port in std::iter::once(self.plain).chain(self.encrypted) {
            let served = Served { site: site.clone(), stopping: stopping.clone() };
            ports.spawn(port.run(served, Arc::clone(&slots), Arc::clone(&self.counters)));
        }
        while ports.join_next().await.is_some() {}
    }
}

impl Port {
    async fn bind(what: &str, address: SocketAddr, acceptor: Option<TlsAcceptor>) -> anyhow::Result<Self> {
        let failed = |error: io::Error| anyhow::anyhow!("{what} can't listen on {address}: {error}");
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, acceptor })
    }

    async fn run(self, mut served: Served, slots: Arc<Semaphore>, counters: Arc<Counters>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stopped(&mut served.stopping) => break,
                Some(_) = connections.join_next() => {}
                accepted = self.accept(&slots) => match accepted {
                    Ok((stream, slot)) => {
                        let held = Held::new(&counters, slot);
                        connections.spawn(serve(stream, self.acceptor.clone(), served.clone(), held));
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

async fn serve(stream: TcpStream, acceptor: Option<TlsAcceptor>, served: Served, held: Held) {
    let Some(acceptor) = acceptor else { return serve_plain(stream, served).await };
    if let Err(error) = serve_tls(stream, acceptor, served).await {
        held.counters.failed_handshakes.fetch_add(1, Ordering::Relaxed);
        debug!(%error, "TLS handshake failed");
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
            failed_handshakes: self.counters.failed_handshakes.load(Ordering::Relaxed),
        }
    }
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
