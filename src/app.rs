//! The application: builds every part from the settings, and takes them down in the order in which nobody loses
//! anything. What the parts do is theirs.

mod announce;
mod reach;
mod urls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tracing::warn;

use crate::config::Config;
use crate::egress::Egress;
use crate::http::tls::Certificate;
use crate::http::{self, Routes, Running, Server, Site, StatsReader, StatsSource};
use crate::live::Rooms;
use crate::live::access::Access;
use crate::live::broadcasters::Broadcasters;
use crate::live::keys::ConfiguredKeys;
use crate::live::whip::Sessions;
use crate::media::encryption::Method;
use crate::media::ortc;
use crate::signaling::{self, Signaling};
use crate::worker::WorkerPool;

/// How long clients get to take their goodbye.
const GOODBYE_WAIT: Duration = Duration::from_millis(500);
/// How long HLS gets to write its last segments and end tags.
const EGRESS_WAIT: Duration = Duration::from_millis(2000);
/// How long HLS is served from when it begins to end, so that players that reload meanwhile read the end tag.
const LAST_RELOAD_WAIT: Duration = Duration::from_millis(2500);
/// How long open HTTP requests get to finish.
const HTTP_WAIT: Duration = Duration::from_millis(500);
/// How long the media workers get to say goodbye.
const WORKER_WAIT: Duration = Duration::from_millis(500);

/// A running server.
pub struct App {
    config: Config,
    http_addr: SocketAddr,
    https_addrs: Vec<SocketAddr>,
    certificate: Option<Certificate>,
    announced: announce::Announced,
    workers: WorkerPool,
    egress: Option<Egress>,
    rooms: Rooms,
    signaling: Signaling,
    http: Running,
    stopping: watch::Sender<bool>,
    follower: JoinHandle<()>,
}

impl App {
    /// Starts everything. When this returns, the server is ready.
    ///
    /// # Errors
    /// An address that can't be bound or resolved, or something that HLS needs and the machine lacks; the text names
    /// it.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let announced = announce::find(&config.rtc).await?;
        let mut rtc = config.rtc.clone();
        rtc.announce = announced.addresses.iter().map(ToString::to_string).collect();
        let mut server = Server::bind(&config.http).await?;
        let certificate = certificate(&config, &announced).await?;
        if let Some(certificate) = &certificate {
            server = server.with_tls(&config.https.listen, certificate).await?;
        }
        let (http_addr, https_addrs) = (server.address(), server.tls_addresses());
        let (egress, egress_events) = if config.hls.enabled {
            let (egress, events) = Egress::start(&config.hls, &config.data_dir).context("HLS can't start")?;
            (Some(egress), Some(events))
        } else {
            (None, None)
        };
        let (workers, media_events) = WorkerPool::start(&rtc).context("the media workers can't start")?;
        let codecs = ortc::default_router_codecs();
        let rooms =
            Rooms::start(&config.live, workers.clone(), codecs, egress.clone(), &config.ice_servers).await?;
        let follower = tokio::spawn(rooms.clone().follow(media_events, egress_events));
        let (signaling, socket_io) = Signaling::new(&config.signaling, rooms.clone());
        let (stopping, stopped) = watch::channel(false);
        let stats = stats_source(&workers, &rooms, &signaling, egress.clone(), server.stats());
        let access = Access::new(&config.access).map(Arc::new);
        if config.hls.encryption != Method::None && access.is_none() {
            tracing::warn!("HLS is encrypted, and whoever asks gets the keys: access.secrets are not set");
        }
        let keys = ConfiguredKeys::new(&config.streams);
        if keys.is_open() {
            warn!("everybody may publish over WHIP: streams.keys are not set");
        }
        let routes = Routes {
            rooms: rooms.clone(),
            sessions: Sessions::new(&config.whip, rooms.clone(), Arc::new(keys)),
            egress: egress.clone(),
            access: access.clone(),
            broadcasters: Broadcasters::new(config.broadcasters.clone(), rooms.clone()),
            stats,
            stopping: stopped.clone(),
        };
        let find_socket_io =
            axum::middleware::map_request(async |request| signaling::find_socket_io(request));
        let router = http::public(routes.into_router().layer(socket_io), stopped).layer(find_socket_io);
        let http = server.start(Site::new(router, egress.clone(), access));
        Ok(Self {
            config,
            http_addr,
            https_addrs,
            certificate,
            announced,
            workers,
            egress,
            rooms,
            signaling,
            http,
            stopping,
            follower,
        })
    }

    /// The address that HTTP and Socket.IO are served on.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// The addresses that the same is served on with TLS.
    #[must_use]
    pub fn https_addrs(&self) -> &[SocketAddr] {
        &self.https_addrs
    }

    /// Notified, it has the certificate files read again; none if there are none.
    #[must_use]
    pub fn certificate_reload(&self) -> Option<Arc<Notify>> {
        self.certificate.as_ref().and_then(Certificate::reload)
    }

    /// The settings that the server runs with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The media workers.
    #[must_use]
    pub fn workers(&self) -> &WorkerPool {
        &self.workers
    }

    /// What to tell the one who started the server: where to open it, and what may not work.
    #[must_use]
    pub fn greeting(&self) -> String {
        let web = urls::Web {
            http: self.http_addr,
            https: &self.https_addrs,
            certificate: self.certificate.as_ref().map(Certificate::description),
        };
        urls::greeting(&web, &self.config.rtc, &self.announced, &self.workers.candidates())
    }

    /// Ends everything within 5 s: clients are told, playlists get their end tag, files are whole.
    pub async fn shutdown(self) {
        self.stopping.send_replace(true);
        let goodbye = async {
            self.signaling.close().await;
            self.rooms.close().await;
        };
        in_time("closing sockets", GOODBYE_WAIT, goodbye).await;
        if let Some(egress) = &self.egress {
            let anything_served = egress.stats().files > 0;
            let ended = Instant::now();
            in_time("ending HLS", EGRESS_WAIT, egress.shutdown()).await;
            if anything_served {
                tokio::time::sleep(LAST_RELOAD_WAIT.saturating_sub(ended.elapsed())).await;
            }
        }
        self.http.stop(HTTP_WAIT).await;
        in_time("stopping workers", WORKER_WAIT * 2, self.workers.shutdown(WORKER_WAIT)).await;
        self.follower.abort();
    }
}

/// The certificate for TLS, if there is to be any. One that weir makes is for localhost and for what is announced.
async fn certificate(
    config: &Config,
    announced: &announce::Announced,
) -> anyhow::Result<Option<Certificate>> {
    if config.https.listen.is_empty() {
        return Ok(None);
    }
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let addresses = announced.addresses.iter().map(ToString::to_string);
    for name in addresses.chain(config.rtc.announce.iter().cloned()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let certificate = Certificate::load(&config.https, &config.data_dir, &names);
    certificate.await.context("HTTPS can't start").map(Some)
}

async fn in_time(what: &str, limit: Duration, work: impl Future<Output = ()>) {
    if tokio::time::timeout(limit, work).await.is_err() {
        warn!("{what} took longer than {limit:?}");
    }
}

/// All modules' counters as one JSON object.
fn stats_source(
    workers: &WorkerPool,
    rooms: &Rooms,
    signaling: &Signaling,
    egress: Option<Egress>,
    http: StatsReader,
) -> StatsSource {
    let started = Instant::now();
    let (workers, rooms, signaling) = (workers.clone(), rooms.clone(), signaling.clone());
    Arc::new(move || {
        let (workers, rooms, signaling) = (workers.clone(), rooms.clone(), signaling.clone());
        let (egress, http) = (egress.clone(), http.clone());
        Box::pin(async move {
            json!({
                "version": env!("CARGO_PKG_VERSION"),
                "uptimeSecs": started.elapsed().as_secs(),
                "worker": workers.stats().await,
                "resourceUsage": workers.resource_usage().await,
                "room": rooms.counts(),
                "signaling": signaling.stats(),
                "hls": egress.map(|egress| egress.stats()).unwrap_or_default(),
                "http": http.read(),
            })
        })
    })
}

#[cfg(test)]
mod tests;
