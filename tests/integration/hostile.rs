//! What a server has to survive: nonsense, foreign ids, impossible parameters, floods. The sender learns what was
//! wrong (or nothing, on UDP), a counter moves, and those who behave do not notice.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::net::UdpSocket;

use crate::support::media::Source;
use crate::support::peer::{Camera, Consumer, Peer, audio_parameters};
use crate::support::publisher::Publisher;
use crate::support::server::Server;
use crate::support::socketio::SocketIo;
use crate::support::transport::Behaviour;

/// Two who behave, one watching the other, and a count of what went wrong before.
struct Scene {
    server: Server,
    _anna: Peer,
    ben: Peer,
    video: Publisher,
    consumer: Consumer,
    refused_before: u64,
}

impl Scene {
    async fn new() -> Result<Self> {
        let server = Server::start().await?;
        let mut anna = Peer::join(server.address).await?;
        let mut ben = Peer::join(server.address).await?;
        anna.open().await?;
        ben.open().await?;
        let video = anna.publish_video(Camera::Simple, 3).await?;
        let consumer = ben.consume(&video.id).await?;
        ben.resume(&consumer).await?;
        let refused_before = server.counters().await?.get("/signaling/refused");
        Ok(Self { server, _anna: anna, ben, video, consumer, refused_before })
    }

    /// Those who behave noticed nothing, and the server counted `refusals`.
    async fn is_undisturbed(&self, refusals: u64) -> Result<()> {
        let seen = &self.ben.recv().seen;
        let goal = seen.lock().stream(self.consumer.ssrc).packets + 60;
        let stream = |packets: u64| (packets >= goal).then_some(());
        seen.wait("more video", |seen| stream(seen.stream(self.consumer.ssrc).packets)).await?;
        let stream = seen.lock().stream(self.consumer.ssrc);
        assert_eq!((stream.missing(), stream.seams(), stream.foreign), (vec![], 0, 0));
        let refused = self.server.counters().await?.get("/signaling/refused") - self.refused_before;
        assert_eq!(refused, refusals, "refused events");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_events_and_wrong_shapes_are_refused_with_a_reason() -> Result<()> {
    let scene = Scene::new().await?;
    let mallory = SocketIo::connect(scene.server.address).await?;
    let shapes = [
        Value::Null,
        json!(true),
        json!(-1.5),
        json!("text"),
        json!([]),
        json!([[["deep"]]]),
        json!({}),
        json!({"isConsumer": "yes"}),
        json!({"transportId": 7, "dtlsParameters": []}),
        json!({"kind": "smell", "rtpParameters": {}}),
        json!({"consumerId": {"$ne": null}}),
    ];
    let events = [
        "createWebRtcTransport",
        "connectTransport",
        "transportProduce",
        "transportConsume",
        "resumeConsumer",
        "pauseProducer",
        "resumeProducer",
        "noSuchEvent",
        "",
        "__proto__",
    ];
    let mut refusals = 0;
    for event in events {
        for shape in &shapes {
            let why =
                mallory.refused(event, shape.clone()).await.with_context(|| format!("{event} {shape}"))?;
            assert!(!why.is_empty());
            refusals += 1;
        }
    }
    assert_eq!(mallory.refused("noSuchEvent", Value::Null).await?, "unknown event \"noSuchEvent\"");
    // Without an acknowledgement there is nobody to tell; the connection stays.
    mallory.emit("noSuchEvent", json!(1)).await?;
    let alive = mallory.call("getRouterRtpCapabilities", Value::Null).await?;
    assert!(alive.get("rtpCapabilities").is_some());
    scene.is_undisturbed(refusals + 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_and_dead_ids_are_not_found() -> Result<()> {
    let scene = Scene::new().await?;
    let mut mallory = Peer::join(scene.server.address).await?;
    mallory.open().await?;
    let nobody = "00000000-0000-4000-8000-000000000000";
    let anna = scene.ben.others().await?.first().context("a producer")?.0.clone();
    let prepared = mallory.create_transport(false, Behaviour::default()).await?;
    let dtls = prepared.dtls_parameters();
    let calls = [
        ("connectTransport", json!({"transportId": scene.ben.recv().id, "dtlsParameters": dtls})),
        ("connectTransport", json!({"transportId": nobody, "dtlsParameters": dtls})),
        ("connectTransport", json!({"transportId": "../../etc/passwd", "dtlsParameters": dtls})),
        ("resumeConsumer", json!({"consumerId": scene.consumer.id})),
        ("pauseConsumer", json!({"consumerId": scene.consumer.id})),
        ("closeConsumer", json!({"consumerId": nobody})),
        ("closeProducer", json!({"producerId": scene.video.id})),
        ("pauseProducer", json!({"producerId": scene.video.id})),
        ("transportConsume", json!({"rtpCapabilities": mallory.capabilities, "remoteProducerId": nobody})),
        ("transportConsume", json!({"rtpCapabilities": mallory.capabilities, "remoteProducerId": anna})),
    ];
    for (event, argument) in &calls {
        let why = mallory.socket.refused(event, argument.clone()).await?;
        assert!(why.contains("not found"), "{event} {argument}: {why}");
    }
    assert!(mallory.socket.refused("pauseProducer", json!({"kind": "video"})).await?.contains("video"));
    scene.is_undisturbed(calls.len() as u64 + 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn things_out_of_order_are_refused() -> Result<()> {
    let scene = Scene::new().await?;
    let mut mallory = Peer::join(scene.server.address).await?;
    let produce = json!({"kind": "audio", "rtpParameters": audio_parameters(1)});
    let consume = json!({"rtpCapabilities": mallory.capabilities, "remoteProducerId": scene.video.id});
    let why = mallory.socket.refused("transportProduce", produce.clone()).await?;
    assert_eq!(why, "Send transport not initialized");
    let why = mallory.socket.refused("transportConsume", consume.clone()).await?;
    assert_eq!(why, "Receive transport not initialized");

    // Consuming before the transport is connected is what clients do; media waits for the connection.
    let prepared = mallory.create_transport(true, Behaviour::default()).await?;
    let early = mallory.socket.request("transportConsume", consume).await?;
    assert!(early.get("id").is_some());
    let connect = json!({"transportId": prepared.id(), "dtlsParameters": prepared.dtls_parameters()});
    mallory.socket.request("connectTransport", connect.clone()).await?;
    let why = mallory.socket.refused("connectTransport", connect).await?;
    assert!(why.contains("already"), "{why}");

    mallory.open_send(Behaviour::default()).await?;
    mallory.socket.request("transportProduce", produce.clone()).await?;
    let why = mallory.socket.refused("transportProduce", produce).await?;
    assert!(why.contains("in use"), "{why}");
    scene.is_undisturbed(4).await
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_parameters_are_refused_with_their_path() -> Result<()> {
    let scene = Scene::new().await?;
    let mut mallory = Peer::join(scene.server.address).await?;
    mallory.open_send(Behaviour::default()).await?;
    mallory.open_recv(Behaviour::default()).await?;
    let change = |pointer: &str, value: Value| {
        let mut parameters = audio_parameters(99);
        if let Some(place) = parameters.pointer_mut(pointer) {
            *place = value;
        }
        json!({"kind": "audio", "rtpParameters": parameters})
    };
    let produce = [
        (change("/codecs/0/payloadType", json!(300)), "codecs[0].payloadType"),
        (change("/codecs/0/mimeType", json!("audio/theremin")), "codecs[0].mimeType"),
        (change("/codecs/0/mimeType", json!("video/H264")), "video/H264"),
        (change("/codecs/0/clockRate", json!(0)), "codecs[0].clockRate"),
        (change("/codecs", json!([])), "no media codec"),
        (change("/encodings", json!(vec![json!({}); 1000])), "encodings"),
        (change("/encodings/0/ssrc", json!(1e30)), "encodings[0].ssrc"),
        (change("/headerExtensions/0/id", json!(0)), "headerExtensions[0].id"),
        (change("/headerExtensions/1/id", json!(4)), "header extension id 4"),
        (change("/mid", json!("m".repeat(100_000))), "mid"),
        (change("", Value::Null), "rtpParameters"),
        (json!({"kind": "video", "rtpParameters": audio_parameters(98)}), "audio/opus"),
    ];
    for (request, place) in &produce {
        let why = mallory.socket.refused("transportProduce", request.clone()).await?;
        assert!(why.contains(place), "{place}: {why}");
    }
    let prepared = mallory.create_transport(true, Behaviour::default()).await?;
    let dtls = [
        json!(null),
        json!({"fingerprints": []}),
        json!({"fingerprints": [{"algorithm": "sha-256", "value": "€€€€"}]}),
        json!({"role": "king", "fingerprints": prepared.dtls_parameters()["fingerprints"]}),
    ];
    for parameters in &dtls {
        let request = json!({"transportId": prepared.id(), "dtlsParameters": parameters});
        mallory.socket.refused("connectTransport", request).await?;
    }
    let consume = json!({"rtpCapabilities": {"codecs": [{"mimeType": "video/VP8", "clockRate": 90000}]},
        "remoteProducerId": scene.video.id});
    let why = mallory.socket.refused("transportConsume", consume).await?;
    assert!(why.starts_with("Cannot consume this producer"), "{why}");
    scene.is_undisturbed((produce.len() + dtls.len()) as u64 + 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_megabyte_of_nonsense_is_refused() -> Result<()> {
    let scene = Scene::new().await?;
    let mallory = SocketIo::connect(scene.server.address).await?;
    let megabyte = "x".repeat(1_000_000);
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let payloads = [json!(megabyte), json!({"isConsumer": megabyte}), json!({ &megabyte: true })];
    for payload in &payloads {
        let why = mallory.refused("createWebRtcTransport", payload.clone()).await?;
        assert!(why.len() < 1000, "{} bytes of error", why.len());
    }
    let why = mallory.refused(&megabyte, Value::Null).await?;
    assert!(why.len() < 1000, "{} bytes of error", why.len());
    scene.is_undisturbed(payloads.len() as u64 + 1).await?;
    // Nesting that no parser should follow: refused or ignored, but the server lives on.
    mallory.send_text(format!("42[\"createWebRtcTransport\",{deep}]")).await?;
    let other = SocketIo::connect(scene.server.address).await?;
    assert!(other.call("getRouterRtpCapabilities", Value::Null).await?.get("rtpCapabilities").is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_events_is_slowed_down() -> Result<()> {
    let scene = Scene::new().await?;
    let mallory = SocketIo::connect(scene.server.address).await?;
    let before = scene.server.counters().await?.get("/signaling/rateLimited");
    for _ in 0..2000 {
        mallory.emit("noSuchEvent", Value::Null).await?;
    }
    scene.server.stats(|stats| stats.get("/signaling/rateLimited") > before).await?;
    let seen = &scene.ben.recv().seen;
    let goal = seen.lock().stream(scene.consumer.ssrc).packets + 60;
    let enough = |packets: u64| (packets >= goal).then_some(());
    seen.wait("more video", |seen| enough(seen.stream(scene.consumer.ssrc).packets)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn udp_from_strangers_and_of_unknown_streams_is_dropped_in_silence() -> Result<()> {
    let scene = Scene::new().await?;
    let stranger = UdpSocket::bind("127.0.0.1:0").await?;
    let media = scene.ben.recv().remote;
    let before = scene.server.counters().await?;
    let mut source = Source::new(4242, 96, "9", None);
    for first in 0..=255_u8 {
        let mut datagram = source.audio_frame();
        if let Some(byte) = datagram.first_mut() {
            *byte = first;
        }
        stranger.send_to(&datagram, media).await?;
    }
    let dropped = |stats: &crate::support::server::Counters| {
        stats.get("/worker/droppedUnknown") + stats.get("/worker/droppedStun")
    };
    scene.server.stats(|stats| dropped(stats) >= dropped(&before) + 256).await?;
    let mut buffer = [0; 1500];
    assert!(stranger.try_recv_from(&mut buffer).is_err(), "a stranger was answered");

    let mut mallory = Peer::join(scene.server.address).await?;
    mallory.open_send(Behaviour::default()).await?;
    mallory.send().connected().await?;
    for _ in 0..10 {
        mallory.send().send_rtp(source.audio_frame()).await?;
    }
    let unknown = before.get("/worker/droppedUnknownSsrc") + 10;
    scene.server.stats(|stats| stats.get("/worker/droppedUnknownSsrc") == unknown).await?;

    let guesses = Behaviour { wrong_password: Some("guessed".into()), ..Behaviour::default() };
    let stun = scene.server.counters().await?.get("/worker/droppedStun");
    mallory.open_recv(guesses).await?;
    scene.server.stats(|stats| stats.get("/worker/droppedStun") >= stun + 3).await?;
    assert_eq!(mallory.recv().seen.lock().stun_successes, 0);
    scene.is_undisturbed(0).await
}
