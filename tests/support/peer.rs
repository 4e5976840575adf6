//! A whole simulated client that plays the client's part of the mediasoup-style signalling: produce, list, consume.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::media::{ABS_SEND_TIME_EXTENSION, AUDIO_LEVEL_EXTENSION, MID_EXTENSION, RID_EXTENSION, Source};
use super::publisher::{Content, Encoding, Publisher};
use super::socketio::SocketIo;
use super::transport::{Behaviour, Prepared, Transport};

/// Payload types as Chromium chooses them; none is the router's.
pub(crate) const OPUS: u8 = 111;
const H264: u8 = 108;
const H264_RTX: u8 = 109;

/// One client.
pub(crate) struct Peer {
    pub(crate) socket: SocketIo,
    /// The router's capabilities, which are the client's own, too.
    pub(crate) capabilities: Value,
    send: Option<Arc<Transport>>,
    recv: Option<Arc<Transport>>,
}

/// A consumer as its client knows it.
#[derive(Debug, Clone)]
pub(crate) struct Consumer {
    pub(crate) id: String,
    pub(crate) producer_id: String,
    pub(crate) kind: String,
    pub(crate) ssrc: u32,
    pub(crate) rtx_ssrc: Option<u32>,
    pub(crate) payload_type: u8,
    pub(crate) mid_extension: Option<u8>,
    pub(crate) rtp_parameters: Value,
}

/// How a client sends its camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Camera {
    /// One stream, with RTX.
    Simple,
    /// Three streams told apart by RID.
    Simulcast,
}

impl Peer {
    /// Connects to the signalling and loads the capabilities.
    pub(crate) async fn join(server: SocketAddr) -> Result<Self> {
        let socket = SocketIo::connect(server).await?;
        let welcome = socket.wait("connectionSuccess", |_| true).await?;
        ensure!(welcome.get("socketId") == Some(&json!(socket.id)), "welcomed as {welcome}");
        let answer = socket.request("getRouterRtpCapabilities", Value::Null).await?;
        let capabilities = answer.get("rtpCapabilities").context("rtpCapabilities")?.clone();
        Ok(Self { socket, capabilities, send: None, recv: None })
    }

    /// The peer id that others see.
    pub(crate) fn id(&self) -> &str {
        &self.socket.id
    }

    pub(crate) fn send(&self) -> &Arc<Transport> {
        self.send.as_ref().expect("the send transport is open")
    }

    pub(crate) fn recv(&self) -> &Arc<Transport> {
        self.recv.as_ref().expect("the receive transport is open")
    }

    /// Asks the server for a transport.
    pub(crate) async fn create_transport(&self, is_consumer: bool, behaviour: Behaviour) -> Result<Prepared> {
        let answer = self.socket.request("createWebRtcTransport", json!({"isConsumer": is_consumer})).await?;
        Prepared::new(&answer, behaviour).await
    }

    /// Tells the server the client's end of a transport and begins with ICE.
    pub(crate) async fn connect_transport(&self, prepared: Prepared) -> Result<Arc<Transport>> {
        let request = json!({"transportId": prepared.id(), "dtlsParameters": prepared.dtls_parameters()});
        let answer = self.socket.request("connectTransport", request).await?;
        ensure!(answer == json!({"connected": true}), "connectTransport answered {answer}");
        Ok(Arc::new(prepared.begin()))
    }

    pub(crate) async fn open_send(&mut self, behaviour: Behaviour) -> Result<()> {
        let prepared = self.create_transport(false, behaviour).await?;
        self.send = Some(self.connect_transport(prepared).await?);
        Ok(())
    }

    pub(crate) async fn open_recv(&mut self, behaviour: Behaviour) -> Result<()> {
        let prepared = self.create_transport(true, behaviour).await?;
        self.recv = Some(self.connect_transport(prepared).await?);
        Ok(())
    }

    /// Opens both transports and waits until media can flow.
    pub(crate) async fn open(&mut self) -> Result<()> {
        self.open_send(Behaviour::default()).await?;
        self.open_recv(Behaviour::default()).await?;
        self.send().connected().await?;
        self.recv().connected().await?;
        Ok(())
    }

    /// Announces a producer without sending anything.
    pub(crate) async fn produce(&self, kind: &str, rtp_parameters: Value) -> Result<String> {
        let request = json!({"kind": kind, "rtpParameters": rtp_parameters});
        let answer = self.socket.request("transportProduce", request).await?;
        Ok(answer.get("id").and_then(Value::as_str).context("a producer id")?.to_owned())
    }

    /// Publishes a microphone.
    pub(crate) async fn publish_audio(&self) -> Result<Publisher> {
        let media = Source::new(rand::random(), OPUS, "0", None);
        let id = self.produce("audio", audio_parameters(media.ssrc)).await?;
        let encodings = vec![Encoding { media, repair: None }];
        Ok(Publisher::start(id, Arc::clone(self.send()), Content::Audio, encodings))
    }

    /// Publishes a camera.
    pub(crate) async fn publish_video(&self, camera: Camera, packets_per_frame: usize) -> Result<Publisher> {
        let encodings = encodings(camera);
        let id = self.produce("video", video_parameters(&encodings)).await?;
        let content = Content::Video { packets_per_frame };
        Ok(Publisher::start(id, Arc::clone(self.send()), content, encodings))
    }

    /// The other peers' producers: peer id and producer id.
    pub(crate) async fn others(&self) -> Result<Vec<(String, String)>> {
        let answer = self.socket.call_with("getProducers", &[]).await?;
        let producers = answer.get("producers").and_then(Value::as_array).context("producers")?;
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let pairs = producers.iter().map(|entry| Some((text(entry, "peerId")?, text(entry, "producerId")?)));
        pairs.collect::<Option<Vec<_>>>().with_context(|| format!("getProducers answered {answer}"))
    }

    /// Consumes a producer; the consumer starts paused.
    pub(crate) async fn consume(&self, producer: &str) -> Result<Consumer> {
        self.consume_with(producer, self.capabilities.clone()).await
    }

    /// Consumes with other capabilities than all of the router's.
    pub(crate) async fn consume_with(&self, producer: &str, capabilities: Value) -> Result<Consumer> {
        let request = json!({"rtpCapabilities": capabilities, "remoteProducerId": producer});
        let answer = self.socket.request("transportConsume", request).await?;
        let consumer = Consumer::read(&answer).with_context(|| format!("transportConsume gave {answer}"))?;
        ensure!(consumer.producer_id == producer, "consumes {} instead of {producer}", consumer.producer_id);
        consumer.expect_on(self.recv());
        Ok(consumer)
    }

    pub(crate) async fn resume(&self, consumer: &Consumer) -> Result<()> {
        self.socket.emit("resumeConsumer", json!({"consumerId": consumer.id})).await
    }
}

impl Consumer {
    /// Tells the transport which retransmissions belong to this consumer.
    pub(crate) fn expect_on(&self, transport: &Transport) {
        if let Some(rtx_ssrc) = self.rtx_ssrc {
            transport.seen.update(|seen| {
                seen.repairs.insert(rtx_ssrc, self.ssrc);
            });
        }
    }

    /// Reads what a consume request was answered with.
    pub(crate) fn read(answer: &Value) -> Option<Self> {
        let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
        let rtp_parameters = answer.get("rtpParameters")?.clone();
        let number = |pointer: &str| rtp_parameters.pointer(pointer).and_then(Value::as_u64);
        let mid_extension = rtp_parameters
            .get("headerExtensions")?
            .as_array()?
            .iter()
            .find(|extension| extension.get("uri") == Some(&json!("urn:ietf:params:rtp-hdrext:sdes:mid")))
            .and_then(|extension| u8::try_from(extension.get("id")?.as_u64()?).ok());
        Some(Self {
            id: text("id")?,
            producer_id: text("producerId")?,
            kind: text("kind")?,
            ssrc: u32::try_from(number("/encodings/0/ssrc")?).ok()?,
            rtx_ssrc: number("/encodings/0/rtx/ssrc").and_then(|ssrc| u32::try_from(ssrc).ok()),
            payload_type: u8::try_from(number("/codecs/0/payloadType")?).ok()?,
            mid_extension,
            rtp_parameters,
        })
    }
}

/// Fresh streams of a camera.
pub(crate) fn encodings(camera: Camera) -> Vec<Encoding> {
    match camera {
        Camera::Simple => vec![Encoding {
            media: Source::new(rand::random(), H264, "1", None),
            repair: Some(Source::new(rand::random(), H264_RTX, "1", None)),
        }],
        Camera::Simulcast => ["r0", "r1", "r2"]
            .map(|rid| Encoding { media: Source::new(rand::random(), H264, "1", Some(rid)), repair: None })
            .to_vec(),
    }
}

/// `rtpParameters` of a microphone as mediasoup-client makes them.
pub(crate) fn audio_parameters(ssrc: u32) -> Value {
    json!({
        "mid": "0",
        "codecs": [{
            "mimeType": "audio/opus", "payloadType": OPUS, "clockRate": 48000, "channels": 2,
            "parameters": {"minptime": 10, "useinbandfec": 1}, "rtcpFeedback": []
        }],
        "headerExtensions": [
            {"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": MID_EXTENSION, "encrypt": false, "parameters": {}},
            {"uri": "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time", "id": ABS_SEND_TIME_EXTENSION, "encrypt": false, "parameters": {}},
            {"uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "id": AUDIO_LEVEL_EXTENSION, "encrypt": false, "parameters": {}}
        ],
        "encodings": [{"ssrc": ssrc, "dtx": false}],
        "rtcp": {"cname": "simulated", "reducedSize": true}
    })
}

/// `rtpParameters` of a camera as mediasoup-client makes them: SSRCs for one encoding, RIDs for several.
pub(crate) fn video_parameters(encodings: &[Encoding]) -> Value {
    let encodings: Vec<Value> = encodings
        .iter()
        .map(|encoding| match (&encoding.media.rid, &encoding.repair) {
            (Some(rid), _) => json!({"rid": rid, "scalabilityMode": "S1T3", "dtx": false}),
            (None, Some(repair)) => json!({"ssrc": encoding.media.ssrc, "rtx": {"ssrc": repair.ssrc}}),
            (None, None) => json!({"ssrc": encoding.media.ssrc}),
        })
        .collect();
    json!({
        "mid": "1",
        "codecs": [
            {
                "mimeType": "video/H264", "payloadType": H264, "clockRate": 90000,
                "parameters": {"level-asymmetry-allowed": 1, "packetization-mode": 1, "profile-level-id": "42e01f"},
                "rtcpFeedback": [
                    {"type": "nack", "parameter": ""}, {"type": "nack", "parameter": "pli"}, {"type": "ccm", "parameter": "fir"}
                ]
            },
            {
                "mimeType": "video/rtx", "payloadType": H264_RTX, "clockRate": 90000,
                "parameters": {"apt": H264}, "rtcpFeedback": []
            }
        ],
        "headerExtensions": [
            {"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": MID_EXTENSION, "encrypt": false, "parameters": {}},
            {"uri": "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", "id": RID_EXTENSION, "encrypt": false, "parameters": {}},
            {"uri": "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time", "id": ABS_SEND_TIME_EXTENSION, "encrypt": false, "parameters": {}}
        ],
        "encodings": encodings,
        "rtcp": {"cname": "simulated", "reducedSize": true}
    })
}
