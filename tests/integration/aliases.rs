//! Media through the dialects of the tutorials: one client publishes sound and another one hears it, each in the words
//! of that dialect alone. `tests/wire` pins those words.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::support::media::Source;
use crate::support::peer::{Consumer, OPUS, audio_parameters};
use crate::support::publisher::{Content, Encoding, Publisher};
use crate::support::server::Server;
use crate::support::socketio::SocketIo;
use crate::support::transport::{Behaviour, Prepared, Transport};

/// Enough to be no accident.
const PACKETS: u64 = 20;

/// One client with its transports.
struct Client {
    socket: SocketIo,
}

impl Client {
    async fn connect(server: SocketAddr, namespace: &str) -> Result<Self> {
        Ok(Self { socket: SocketIo::connect_to(server, namespace, "").await? })
    }

    async fn ask(&self, event: &str, argument: Value) -> Result<Value> {
        self.socket.request(event, argument).await
    }

    /// Builds its end of a transport that the server made, and connects it by `event`, whose argument gets what is
    /// needed in addition to `names`.
    async fn open(&self, made: &Value, event: &str, mut names: Value) -> Result<Arc<Transport>> {
        let prepared = Prepared::new(made, Behaviour::default()).await?;
        names["dtlsParameters"] = serde_json::to_value(prepared.dtls_parameters())?;
        self.ask(event, names).await?;
        Ok(Arc::new(prepared.begin()))
    }

    /// Announces a microphone by `event` and begins to send it; the answer's `field` is the producer.
    async fn publish(
        &self,
        on: Arc<Transport>,
        event: &str,
        field: &str,
        mut names: Value,
    ) -> Result<Publisher> {
        let media = Source::new(rand::random(), OPUS, "0", None);
        names["kind"] = json!("audio");
        names["rtpParameters"] = audio_parameters(media.ssrc);
        let answer = self.ask(event, names).await?;
        let id = answer[field].as_str().with_context(|| format!("{event} answered {answer}"))?.to_owned();
        Ok(Publisher::start(id, on, Content::Audio, vec![Encoding { media, repair: None }]))
    }
}

/// Waits until the consumer that `answer` tells of gets its packets.
async fn hears(on: &Transport, answer: &Value, publisher: &Publisher) -> Result<()> {
    let consumer = Consumer::read(answer).with_context(|| format!("no consumer: {answer}"))?;
    ensure!(consumer.producer_id == publisher.id, "consumes another producer: {answer}");
    let enough = |packets: u64| (packets >= PACKETS).then_some(());
    on.seen.wait("packets", |seen| enough(seen.stream(consumer.ssrc).packets)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tutorial_carries_sound() -> Result<()> {
    let server = Server::start().await?;
    let [anna, ben] = [(); 2].map(|()| Client::connect(server.address, "/mediasoup,"));
    let (anna, ben) = (anna.await?, ben.await?);
    let kitchen = json!({"roomName": "kitchen"});
    anna.ask("joinRoom", kitchen.clone()).await?;
    let made = anna.ask("createWebRtcTransport", json!({"consumer": false})).await?;
    let sending = anna.open(&made["params"], "transport-connect", json!({})).await?;
    let published = anna.publish(sending, "transport-produce", "id", json!({"appData": {}})).await?;

    let capabilities = ben.ask("joinRoom", kitchen).await?["rtpCapabilities"].clone();
    assert_eq!(ben.ask("getProducers", Value::Null).await?, json!([published.id]));
    let made = ben.ask("createWebRtcTransport", json!({"consumer": true})).await?;
    let on = json!({"serverConsumerTransportId": made["params"]["id"]});
    let receiving = ben.open(&made["params"], "transport-recv-connect", on.clone()).await?;
    let consume = json!({"rtpCapabilities": capabilities, "remoteProducerId": published.id,
                         "serverConsumerTransportId": on["serverConsumerTransportId"]});
    let answer = ben.ask("consume", consume).await?;
    let resume = json!({"serverConsumerId": answer["params"]["serverConsumerId"]});
    ben.ask("consumer-resume", resume).await?;
    hears(&receiving, &answer["params"], &published).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_app_carries_sound() -> Result<()> {
    let server = Server::start().await?;
    let (anna, ben) =
        (Client::connect(server.address, "").await?, Client::connect(server.address, "").await?);
    let made = anna.ask("createProducerTransport", json!({"forceTcp": false})).await?;
    let sending = anna.open(&made, "connectProducerTransport", json!({})).await?;
    let published = anna.publish(sending, "produce", "id", json!({})).await?;

    let capabilities = ben.ask("getRouterRtpCapabilities", json!({})).await?;
    let made = ben.ask("createConsumerTransport", json!({"forceTcp": false})).await?;
    let receiving = ben.open(&made, "connectConsumerTransport", json!({})).await?;
    let answer = ben.ask("consume", json!({"rtpCapabilities": capabilities})).await?;
    ben.ask("resume", json!({})).await?;
    hears(&receiving, &answer, &published).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_video_rooms_carry_sound() -> Result<()> {
    let server = Server::start().await?;
    let (anna, ben) =
        (Client::connect(server.address, "").await?, Client::connect(server.address, "").await?);
    anna.ask("createRoom", json!({"room_id": "123"})).await?;
    anna.ask("join", json!({"name": "Anna", "room_id": "123"})).await?;
    let made = anna.ask("createWebRtcTransport", json!({"forceTcp": false})).await?;
    let sending = anna.open(&made, "connectTransport", json!({"transport_id": made["id"]})).await?;
    let on = json!({"producerTransportId": made["id"]});
    let published = anna.publish(sending, "produce", "producer_id", on).await?;

    ben.ask("join", json!({"name": "Ben", "room_id": "123"})).await?;
    let capabilities = ben.ask("getRouterRtpCapabilities", json!({})).await?;
    let made = ben.ask("createWebRtcTransport", json!({"forceTcp": false})).await?;
    let receiving = ben.open(&made, "connectTransport", json!({"transport_id": made["id"]})).await?;
    let consume = json!({"consumerTransportId": made["id"], "producerId": published.id,
                         "rtpCapabilities": capabilities});
    let answer = ben.ask("consume", consume).await?;
    hears(&receiving, &answer, &published).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_meeting_application_carries_sound() -> Result<()> {
    let server = Server::start().await?;
    let (anna, ben) =
        (Client::connect(server.address, "").await?, Client::connect(server.address, "").await?);
    anna.ask("initialize", Value::Null).await?;
    let made = anna.ask("createTransport", json!({"consumer": false})).await?;
    let sending = anna.open(&made, "transportConnect", json!({"transportId": made["id"]})).await?;
    let on = json!({"transportId": made["id"], "appData": {}});
    let published = anna.publish(sending, "transportProduce", "id", on).await?;

    ben.ask("initialize", Value::Null).await?;
    ben.socket.emit("getRTPCapabilities", Value::Null).await?;
    let told = ben.socket.wait("RTPCapabilities", |_| true).await?;
    let made = ben.ask("createTransport", json!({"consumer": true})).await?;
    let receiving = ben.open(&made, "transportConnect", json!({"transportId": made["id"]})).await?;
    let answer = ben.ask("transportConsume", json!({"rtpCapabilities": told["data"]})).await?;
    let consumer = &answer[0];
    ben.ask("resumeConsumeTransport", json!({"consumerId": consumer["id"]})).await?;
    hears(&receiving, consumer, &published).await
}
