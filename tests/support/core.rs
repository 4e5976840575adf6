//! Clients of a bare media core: what signalling would carry is handed over in memory, UDP is real.

use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;
use weir::ids::{ConsumerId, ProducerId, TransportId};
use weir::media::ortc;
use weir::sfu::api::{Event, WebRtcTransportOptions, WorkerStats};
use weir::worker::{Config, RouterHandle, WorkerPool};

use super::PATIENCE;
use super::media::Source;
use super::peer::{Camera, Consumer, audio_parameters, encodings, video_parameters};
use super::publisher::{Content, Encoding, Publisher};
use super::transport::{Behaviour, Prepared, Transport};

/// Workers with one router.
pub(crate) struct Core {
    pub(crate) pool: WorkerPool,
    pub(crate) router: RouterHandle,
    events: mpsc::Receiver<Event>,
    unclaimed: Vec<Event>,
}

impl Core {
    /// Starts one worker on a free port of the loopback interface.
    pub(crate) async fn start() -> Result<Self> {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(configure: impl FnOnce(&mut Config)) -> Result<Self> {
        let mut config = Config { listen: vec![([127, 0, 0, 1], 0).into()], ..Config::default() };
        configure(&mut config);
        let (pool, events) = WorkerPool::start(&config)?;
        let router = pool.create_router(ortc::default_router_codecs()).await?;
        Ok(Self { pool, router, events, unclaimed: Vec::new() })
    }

    /// Takes the first event that `wanted` accepts and that nobody took before.
    pub(crate) async fn event<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> Result<T> {
        let search = async {
            loop {
                let mut unclaimed = self.unclaimed.iter().enumerate();
                if let Some((index, found)) = unclaimed.find_map(|(i, event)| Some((i, wanted(event)?))) {
                    self.unclaimed.remove(index);
                    return Ok(found);
                }
                self.unclaimed.push(self.events.recv().await.context("the workers ended")?);
            }
        };
        timeout(PATIENCE, search).await.context("the event did not come")?
    }

    /// Waits until the counters are as `wanted` says.
    pub(crate) async fn stats(&self, wanted: impl Fn(&WorkerStats) -> bool) -> Result<WorkerStats> {
        let search = async {
            loop {
                let stats = self.pool.stats().await;
                if wanted(&stats) {
                    return stats;
                }
                tokio::task::yield_now().await;
            }
        };
        let now = || async { self.pool.stats().await };
        match timeout(PATIENCE, search).await {
            Ok(stats) => Ok(stats),
            Err(_) => anyhow::bail!("the counters did not get there: {:?}", now().await),
        }
    }

    /// Makes a transport and the client's end of it.
    pub(crate) async fn prepare(&self, behaviour: Behaviour) -> Result<Prepared> {
        let options = WebRtcTransportOptions {
            enable_sctp: behaviour.data_channels,
            ..WebRtcTransportOptions::default()
        };
        let info = self.router.create_webrtc_transport(options).await?;
        let info = json!({
            "id": info.id, "iceParameters": info.ice_parameters, "iceCandidates": info.ice_candidates,
            "dtlsParameters": info.dtls_parameters,
        });
        Prepared::new(&info, behaviour).await
    }

    /// Tells the core about the client's end and begins with ICE.
    pub(crate) async fn connect(&self, prepared: Prepared) -> Result<Arc<Transport>> {
        let parameters = ortc::parse_dtls_parameters(&prepared.dtls_parameters())?;
        self.router.connect_transport(prepared.id().parse()?, parameters).await?;
        Ok(Arc::new(prepared.begin()))
    }

    /// A transport over which media can flow.
    pub(crate) async fn open(&self, behaviour: Behaviour) -> Result<Arc<Transport>> {
        let transport = self.connect(self.prepare(behaviour).await?).await?;
        transport.connected().await?;
        Ok(transport)
    }

    pub(crate) async fn produce(
        &self,
        transport: &Transport,
        kind: &str,
        parameters: &Value,
    ) -> Result<ProducerId> {
        let kind = serde_json::from_value(json!(kind))?;
        let parameters = ortc::parse_rtp_parameters(parameters)?;
        Ok(self.router.produce(transport_id(transport)?, kind, parameters, false).await?.id)
    }

    pub(crate) async fn publish_audio(&self, transport: &Arc<Transport>) -> Result<Publisher> {
        let media = Source::new(rand::random(), super::peer::OPUS, "0", None);
        let id = self.produce(transport, "audio", &audio_parameters(media.ssrc)).await?;
        let encodings = vec![Encoding { media, repair: None }];
        Ok(Publisher::start(id.to_string(), Arc::clone(transport), Content::Audio, encodings))
    }

    pub(crate) async fn publish_video(
        &self,
        transport: &Arc<Transport>,
        camera: Camera,
    ) -> Result<Publisher> {
        let encodings = encodings(camera);
        let id = self.produce(transport, "video", &video_parameters(&encodings)).await?;
        let content = Content::Video { packets_per_frame: 3 };
        Ok(Publisher::start(id.to_string(), Arc::clone(transport), content, encodings))
    }

    /// Consumes a producer; the consumer starts paused.
    pub(crate) async fn consume(&self, transport: &Transport, producer: &Publisher) -> Result<Consumer> {
        let capabilities = serde_json::to_value(self.router.rtp_capabilities())?;
        let capabilities = ortc::parse_rtp_capabilities(&capabilities)?;
        let (transport_id, producer) = (transport_id(transport)?, producer.id.parse()?);
        let info = self.router.consume(transport_id, producer, capabilities, true).await?;
        let answer = json!({
            "id": info.id, "producerId": info.producer_id, "kind": info.kind, "rtpParameters": info.rtp_parameters,
        });
        let consumer = Consumer::read(&answer).with_context(|| format!("consumer {answer}"))?;
        consumer.expect_on(transport);
        Ok(consumer)
    }

    pub(crate) async fn resume(&self, consumer: &Consumer) -> Result<()> {
        self.pause_consumer(consumer, false).await
    }

    pub(crate) async fn pause_consumer(&self, consumer: &Consumer, paused: bool) -> Result<()> {
        let id: ConsumerId = consumer.id.parse()?;
        Ok(self.router.set_consumer_paused(id, paused).await?)
    }

    pub(crate) async fn pause_producer(&self, producer: &Publisher, paused: bool) -> Result<()> {
        Ok(self.router.set_producer_paused(producer.id.parse()?, paused).await?)
    }
}

/// The core's id of a client's transport.
pub(crate) fn transport_id(transport: &Transport) -> Result<TransportId> {
    Ok(transport.id.parse()?)
}
