//! A simulated client of the rooms dialect.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::media::Source;
use super::peer::{Camera, Consumer, OPUS, audio_parameters, encodings, video_parameters};
use super::publisher::{Content, Encoding, Publisher};
use super::socketio::SocketIo;
use super::transport::{Behaviour, Prepared, Transport};

/// One client in one room.
pub(crate) struct Member {
    pub(crate) socket: SocketIo,
    /// What the server answered to `join`.
    pub(crate) joined: Value,
    /// Its only transport, for both ways.
    pub(crate) transport: Arc<Transport>,
    pub(crate) transport_id: String,
}

/// Connects to a room without asking for anything.
pub(crate) async fn enter(server: SocketAddr, room: &str) -> Result<SocketIo> {
    SocketIo::connect_to(server, "/rooms,", &json!({"roomId": room}).to_string()).await
}

impl Member {
    /// Connects, makes a transport and joins under a name.
    pub(crate) async fn join(server: SocketAddr, room: &str, name: &str) -> Result<Self> {
        Self::join_with(server, room, name, false, Value::Null).await
    }

    /// Like [`Self::join`], perhaps with data channels or wishes for its consumers.
    pub(crate) async fn join_with(
        server: SocketAddr,
        room: &str,
        name: &str,
        data: bool,
        wishes: Value,
    ) -> Result<Self> {
        let sctp = if data { json!({"numStreams": {"OS": 1024, "MIS": 1024}}) } else { Value::Null };
        let socket = enter(server, room).await?;
        let capabilities = socket.request("getRouterRtpCapabilities", Value::Null).await?;
        let made = socket.request("createWebRtcTransport", json!({"sctpCapabilities": sctp})).await?;
        let prepared =
            Prepared::new(&made, Behaviour { data_channels: data, ..Behaviour::default() }).await?;
        let transport_id = prepared.id().to_owned();
        let dtls = prepared.dtls_parameters();
        let connect = json!({"transportId": transport_id, "dtlsParameters": dtls});
        socket.request("connectWebRtcTransport", connect).await?;
        let transport = Arc::new(prepared.begin());
        let mut join = json!({"displayName": name, "device": {"name": "simulated"}, "rtpCapabilities": capabilities, "sctpCapabilities": sctp});
        if !wishes.is_null() {
            join["consumerOptions"] = wishes;
        }
        let joined = socket.request("join", join).await?;
        transport.connected().await?;
        Ok(Self { socket, joined, transport, transport_id })
    }

    /// The peer id that others see.
    pub(crate) fn id(&self) -> &str {
        &self.socket.id
    }

    pub(crate) async fn publish_audio(&self) -> Result<Publisher> {
        let media = Source::new(rand::random(), OPUS, "0", None);
        let id = self.produce("audio", audio_parameters(media.ssrc)).await?;
        let encodings = vec![Encoding { media, repair: None }];
        Ok(Publisher::start(id, Arc::clone(&self.transport), Content::Audio, encodings))
    }

    pub(crate) async fn publish_video(&self, camera: Camera) -> Result<Publisher> {
        let encodings = encodings(camera);
        let id = self.produce("video", video_parameters(&encodings)).await?;
        let content = Content::Video { packets_per_frame: 3 };
        Ok(Publisher::start(id, Arc::clone(&self.transport), content, encodings))
    }

    async fn produce(&self, kind: &str, rtp_parameters: Value) -> Result<String> {
        let request =
            json!({"transportId": self.transport_id, "kind": kind, "rtpParameters": rtp_parameters});
        let answer = self.socket.request("produce", request).await?;
        Ok(answer.get("id").and_then(Value::as_str).context("a producer id")?.to_owned())
    }

    /// Waits until the server has offered a consumer of this producer.
    pub(crate) async fn offered(&self, producer: &str) -> Result<Consumer> {
        let is_it = |event: &Value| event.get("producerId") == Some(&json!(producer));
        let offer = self.socket.wait("newConsumer", is_it).await?;
        let consumer = Consumer::read(&offer).with_context(|| format!("newConsumer: {offer}"))?;
        consumer.expect_on(&self.transport);
        Ok(consumer)
    }

    /// Waits until a consumer got so many packets more than now.
    pub(crate) async fn gets(&self, consumer: &Consumer, more: u64) -> Result<()> {
        let seen = &self.transport.seen;
        let goal = seen.lock().stream(consumer.ssrc).packets + more;
        let enough = |packets: u64| (packets >= goal).then_some(());
        seen.wait("packets", |seen| enough(seen.stream(consumer.ssrc).packets)).await
    }
}
