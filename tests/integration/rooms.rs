//! Rooms and dialects: who hears and reaches whom, and what rooms hold no more of.

use anyhow::{Context, Result};
use mediasoup_types::sctp_parameters::SctpStreamParameters;
use serde_json::{Value, json};

use crate::support::member::{Member, enter};
use crate::support::peer::{Camera, Peer};
use crate::support::server::Server;
use crate::support::socketio::SocketIo;

/// The code of the refusal that a call gets.
async fn code(socket: &SocketIo, event: &str, argument: Value) -> Result<String> {
    let answer = socket.call(event, argument).await?;
    let code = answer.get("code").and_then(Value::as_str);
    Ok(code.with_context(|| format!("{event} was not refused: {answer}"))?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_what_it_is_offered_sees_and_hears() -> Result<()> {
    let server = Server::start().await?;
    let anna = Member::join(server.address, "red", "Anna").await?;
    let video = anna.publish_video(Camera::Simple).await?;
    let ben = Member::join(server.address, "red", "Ben").await?;
    assert_eq!(
        ben.joined,
        json!({"peers": [{"id": anna.id(), "displayName": "Anna", "device": {"name": "simulated"}}]})
    );
    let audio = anna.publish_audio().await?;
    for publisher in [&video, &audio] {
        let consumer = ben.offered(&publisher.id).await?;
        ben.gets(&consumer, 20).await?;
    }
    let seen = ben.offered(&video.id).await?;
    ben.socket.request("pauseConsumer", json!({"consumerId": seen.id})).await?;
    ben.socket.request("resumeConsumer", json!({"consumerId": seen.id})).await?;
    ben.gets(&seen, 20).await?;
    anna.socket.vanish();
    ben.socket.wait("peerClosed", |event| event.get("peerId") == Some(&json!(anna.id()))).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_chooses_its_layers_and_learns_what_it_gets() -> Result<()> {
    let server = Server::start().await?;
    let anna = Member::join(server.address, "red", "Anna").await?;
    let ben = Member::join(server.address, "red", "Ben").await?;
    let video = anna.publish_video(Camera::Simulcast).await?;
    let consumer = ben.offered(&video.id).await?;
    let gets_layer = |layer: u8| {
        let of = json!(consumer.id);
        move |event: &Value| {
            event.get("consumerId") == Some(&of) && event.get("spatialLayer") == Some(&json!(layer))
        }
    };
    ben.socket.wait("consumerLayersChanged", gets_layer(2)).await?;
    let lowest = json!({"consumerId": consumer.id, "spatialLayer": 0, "temporalLayer": 0});
    ben.socket.request("setConsumerPreferredLayers", lowest.clone()).await?;
    ben.socket.wait("consumerLayersChanged", gets_layer(0)).await?;
    ben.gets(&consumer, 20).await?;
    ben.socket.request("setConsumerPriority", json!({"consumerId": consumer.id, "priority": 255})).await?;
    let never = json!({"consumerId": consumer.id, "priority": 0});
    assert_eq!(code(&ben.socket, "setConsumerPriority", never).await?, "bad-request");
    assert_eq!(code(&anna.socket, "setConsumerPreferredLayers", lowest).await?, "not-found");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_gets_the_figures_of_what_is_theirs() -> Result<()> {
    let server = Server::start().await?;
    let anna = Member::join(server.address, "red", "Anna").await?;
    let ben = Member::join(server.address, "red", "Ben").await?;
    let video = anna.publish_video(Camera::Simple).await?;
    let consumer = ben.offered(&video.id).await?;
    ben.gets(&consumer, 30).await?;
    let first = |stats: &Value, name: &str| stats.get(0).and_then(|entry| entry.get(name)).cloned();
    let of_producer = anna.socket.request("getProducerStats", json!({"producerId": video.id})).await?;
    assert_eq!(first(&of_producer, "type"), Some(json!("inbound-rtp")));
    assert!(first(&of_producer, "packetCount").and_then(|count| count.as_u64()) >= Some(30), "{of_producer}");
    let of_consumer = ben.socket.request("getConsumerStats", json!({"consumerId": consumer.id})).await?;
    assert_eq!(first(&of_consumer, "ssrc"), Some(json!(consumer.ssrc)));
    assert_eq!(of_consumer.pointer("/1/type"), Some(&json!("inbound-rtp")), "{of_consumer}");
    let of_transport =
        anna.socket.request("getTransportStats", json!({"transportId": anna.transport_id})).await?;
    assert_eq!(first(&of_transport, "dtlsState"), Some(json!("connected")));
    for (event, argument) in [
        ("getProducerStats", json!({"producerId": video.id})),
        ("getTransportStats", json!({"transportId": anna.transport_id})),
    ] {
        assert_eq!(code(&ben.socket, event, argument).await?, "not-found", "{event}");
    }
    let foreign = json!({"consumerId": consumer.id});
    assert_eq!(code(&anna.socket, "getConsumerStats", foreign).await?, "not-found");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_says_how_it_wants_what_it_is_offered() -> Result<()> {
    let server = Server::start().await?;
    let anna = Member::join(server.address, "red", "Anna").await?;
    let (video, audio) = (anna.publish_video(Camera::Simulcast).await?, anna.publish_audio().await?);
    let wishes = json!({"preferredLayers": {"spatialLayer": 0}, "enableRtx": true, "ignoreDtx": true});
    let ben = Member::join_with(server.address, "red", "Ben", false, wishes).await?;
    let carl = Member::join(server.address, "red", "Carl").await?;
    let small = ben.offered(&video.id).await?;
    let of = json!(small.id);
    let layers =
        ben.socket.wait("consumerLayersChanged", |event| event.get("consumerId") == Some(&of)).await?;
    assert_eq!(layers.get("spatialLayer"), Some(&json!(0)), "{layers}");
    ben.gets(&small, 20).await?;
    let sound = |member: Member| {
        let audio = audio.id.clone();
        async move {
            let is_it = |event: &Value| event.get("producerId") == Some(&json!(audio));
            let offer = member.socket.wait("newConsumer", is_it).await?;
            let feedback = offer.pointer("/rtpParameters/codecs/0/rtcpFeedback").cloned();
            Ok::<_, anyhow::Error>(feedback.context("rtcpFeedback")?.to_string().contains("nack"))
        }
    };
    assert!(sound(ben).await?, "lost sound is sent again for who wants it");
    assert!(!sound(carl).await?, "and not for others");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_of_av1_are_told_of_its_layers() -> Result<()> {
    let server = Server::start().await?;
    let anna = Member::join(server.address, "red", "Anna").await?;
    let codec = json!({"mimeType": "video/AV1", "payloadType": 45, "clockRate": 90_000});
    let encodings = json!([{"ssrc": 45, "scalabilityMode": "L3T3_KEY"}]);
    let parameters = json!({"codecs": [codec], "encodings": encodings});
    let wanted = json!({"transportId": anna.transport_id, "kind": "video", "rtpParameters": parameters});
    let made = anna.socket.request("produce", wanted).await?;
    let ben = Member::join(server.address, "red", "Ben").await?;
    let offer = ben.socket.wait("newConsumer", |event| event.get("producerId") == made.get("id")).await?;
    assert_eq!(offer.pointer("/rtpParameters/encodings/0/scalabilityMode"), Some(&json!("L3T3_KEY")));
    let extensions = offer.pointer("/rtpParameters/headerExtensions").context("headerExtensions")?;
    assert!(extensions.to_string().contains("dependency-descriptor"), "{extensions}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bit_rates_are_bounded_as_the_client_wants_within_the_settings() -> Result<()> {
    let server = Server::start_with(|config| config.live.max_incoming_bitrate = 800_000).await?;
    let anna = enter(server.address, "red").await?;
    let wanted = json!({"initialAvailableOutgoingBitrate": 1_000_000, "maxIncomingBitrate": 5_000_000,
                        "minOutgoingBitrate": 100_000});
    let made = anna.request("createWebRtcTransport", wanted).await?;
    let of = |bitrate: Value| json!({"transportId": made.get("id"), "bitrate": bitrate});
    let figures = async || {
        let stats = anna.request("getTransportStats", of(Value::Null)).await?;
        let figure = |name: &str| stats.pointer(&format!("/0/{name}Bitrate")).and_then(Value::as_u64);
        Ok::<_, anyhow::Error>([figure("maxIncoming"), figure("maxOutgoing"), figure("minOutgoing")])
    };
    assert_eq!(figures().await?, [Some(800_000), None, Some(100_000)]);
    anna.request("setMaxIncomingBitrate", of(json!(300_000))).await?;
    anna.request("setMaxOutgoingBitrate", of(json!(500_000))).await?;
    assert_eq!(figures().await?, [Some(300_000), Some(500_000), Some(100_000)]);
    assert_eq!(code(&anna, "setMinOutgoingBitrate", of(json!(600_000))).await?, "bad-request");
    assert_eq!(code(&anna, "setMaxIncomingBitrate", of(json!(1))).await?, "bad-request");
    assert_eq!(code(&anna, "setMaxIncomingBitrate", of(json!(-1))).await?, "bad-request");
    anna.request("setMaxIncomingBitrate", of(json!(0))).await?;
    anna.request("setMaxOutgoingBitrate", of(Value::Null)).await?;
    anna.request("setMinOutgoingBitrate", of(Value::Null)).await?;
    assert_eq!(figures().await?, [Some(800_000), None, None]);
    let crossed = json!({"minOutgoingBitrate": 500_000, "maxOutgoingBitrate": 400_000});
    assert_eq!(code(&anna, "createWebRtcTransport", crossed).await?, "bad-request");
    server.stats(|stats| stats.get("/worker/transports") == 1).await?;
    let ben = enter(server.address, "red").await?;
    assert_eq!(code(&ben, "setMaxIncomingBitrate", of(json!(300_000))).await?, "not-found");
    assert_eq!(code(&ben, "applyNetworkThrottle", json!({"secret": "x"})).await?, "forbidden");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_reach_those_who_are_offered_them() -> Result<()> {
    let server = Server::start().await?;
    let anna = Member::join_with(server.address, "red", "Anna", true, Value::Null).await?;
    let ben = Member::join_with(server.address, "red", "Ben", true, Value::Null).await?;
    let deaf = Member::join(server.address, "red", "Carl").await?;
    for member in [&anna, &ben] {
        member.transport.seen.wait("SCTP", |seen| seen.has_data_channels.then_some(())).await?;
    }
    let ordered = |stream: u16| SctpStreamParameters::new_ordered(stream);
    anna.transport.open_channel(ordered(3)).await?;
    let request = json!({
        "transportId": anna.transport_id, "sctpStreamParameters": ordered(3), "label": "chat",
        "protocol": "", "appData": {"what": "chat"},
    });
    let made = anna.socket.request("produceData", request).await?;
    let producer = json!({"dataProducerId": made.get("id")});
    let offer = ben.socket.wait("newDataConsumer", |_| true).await?;
    assert_eq!((offer.get("peerId"), offer.get("label")), (Some(&json!(anna.id())), Some(&json!("chat"))));
    let parameters: SctpStreamParameters =
        serde_json::from_value(offer.get("sctpStreamParameters").context("a stream")?.clone())?;
    ben.transport.open_channel(parameters).await?;
    anna.transport.send_text(3, "hello".into()).await?;
    let stream = parameters.stream_id;
    let heard =
        ben.transport.seen.wait("a text", |seen| seen.messages.get(&stream)?.first().cloned()).await?;
    assert_eq!(heard.1, b"hello");
    let consumer = json!({"dataConsumerId": offer.get("id")});
    let sent = ben.socket.request("getDataConsumerStats", consumer.clone()).await?;
    assert_eq!(sent.pointer("/0/messagesSent"), Some(&json!(1)), "{sent}");
    let received = anna.socket.request("getDataProducerStats", producer.clone()).await?;
    assert_eq!(received.pointer("/0/bytesReceived"), Some(&json!(5)), "{received}");
    assert_eq!(code(&ben.socket, "getDataProducerStats", producer).await?, "not-found");
    assert_eq!(code(&anna.socket, "getDataConsumerStats", consumer.clone()).await?, "not-found");
    let on_none = json!({
        "transportId": deaf.transport_id, "sctpStreamParameters": {"streamId": 1}, "label": "x",
    });
    assert_eq!(code(&deaf.socket, "produceData", on_none).await?, "not-ready");
    anna.socket.vanish();
    ben.socket.wait("dataConsumerClosed", |event| *event == consumer).await?;
    assert_eq!(deaf.socket.events("newDataConsumer"), Vec::<Value>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_room_is_told_who_speaks() -> Result<()> {
    let server = Server::start().await?;
    let anna = Member::join(server.address, "red", "Anna").await?;
    // Who published before anyone wanted to know is heard as well.
    let _voice = anna.publish_audio().await?;
    let ben = Member::join(server.address, "red", "Ben").await?;
    let speaks = |event: &Value| event.pointer("/peerVolumes/0/peerId") == Some(&json!(anna.id()));
    let told = ben.socket.wait("speakingPeers", speaks).await?;
    let volume = told.pointer("/peerVolumes/0/volume").and_then(Value::as_i64);
    assert!(volume.is_some_and(|volume| (-127..=0).contains(&volume)), "{told}");
    let is_anna = |event: &Value| event.get("peerId") == Some(&json!(anna.id()));
    anna.socket.wait("activeSpeaker", is_anna).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_hear_and_reach_nothing_of_each_other() -> Result<()> {
    let server = Server::start().await?;
    let anna = Member::join(server.address, "red", "Anna").await?;
    let zoe = Member::join(server.address, "blue", "Zoe").await?;
    let ben = Member::join(server.address, "red", "Ben").await?;
    let video = anna.publish_video(Camera::Simple).await?;
    let consumer = ben.offered(&video.id).await?;
    ben.gets(&consumer, 20).await?;

    for (event, argument) in [
        ("closeProducer", json!({"producerId": video.id})),
        ("pauseProducer", json!({"producerId": video.id})),
        ("resumeProducer", json!({"producerId": video.id})),
        ("closeConsumer", json!({"consumerId": consumer.id})),
        ("pauseConsumer", json!({"consumerId": consumer.id})),
        ("resumeConsumer", json!({"consumerId": consumer.id})),
        ("requestConsumerKeyFrame", json!({"consumerId": consumer.id})),
        ("restartIce", json!({"transportId": anna.transport_id})),
    ] {
        for stranger in [&zoe.socket, &ben.socket] {
            // Ben may do as he likes with his own consumer.
            if std::ptr::eq(stranger, &ben.socket) && argument.get("consumerId").is_some() {
                continue;
            }
            assert_eq!(code(stranger, event, argument.clone()).await?, "not-found", "{event}");
        }
    }
    ben.gets(&consumer, 20).await?;
    // What concerns the red room has long been told there.
    assert_eq!(zoe.joined, json!({"peers": []}));
    for event in ["newPeer", "newConsumer", "peerClosed", "consumerPaused"] {
        assert_eq!(zoe.socket.events(event), Vec::<Value>::new(), "{event}");
    }
    let counters = server.counters().await?;
    assert_eq!((counters.get("/room/rooms"), counters.get("/room/peers")), (3, 3));
    drop((anna, ben));
    server.stats(|counters| counters.get("/room/rooms") == 2).await?;
    drop(zoe);
    let counters = server.stats(|counters| counters.get("/room/rooms") == 1).await?;
    assert_eq!((counters.get("/room/peers"), counters.get("/room/consumers")), (0, 0));
    server.stats(|counters| counters.get("/worker/transports") == 0).await?;
    Ok(())
}

#[tokio::test]
async fn rooms_hold_no_more_than_they_may() -> Result<()> {
    let server = Server::start_with(|config| {
        config.live.max_rooms = 2;
        config.live.max_peers = 1;
        config.live.max_transports_per_peer = 1;
    })
    .await?;
    let anna = enter(server.address, "red").await?;
    anna.request("createWebRtcTransport", json!({})).await?;
    assert_eq!(code(&anna, "createWebRtcTransport", json!({})).await?, "limit");
    let ben = enter(server.address, "red").await?;
    assert_eq!(code(&ben, "join", json!({})).await?, "limit");
    let zoe = enter(server.address, "blue").await?;
    assert_eq!(code(&zoe, "join", json!({})).await?, "limit");
    // The default room is one of the two.
    let mia = enter(server.address, "default").await?;
    mia.request("join", json!({})).await?;
    drop(anna);
    server.stats(|counters| counters.get("/room/rooms") == 1).await?;
    zoe.request("join", json!({"displayName": "Zoe"})).await?;
    assert_eq!(code(&zoe, "changeDisplayName", json!({"displayName": "Z".repeat(101)})).await?, "limit");
    Ok(())
}

#[tokio::test]
async fn a_name_or_description_that_is_too_long_keeps_its_owner_out() -> Result<()> {
    let server = Server::start().await?;
    let anna = enter(server.address, "red").await?;
    assert_eq!(code(&anna, "join", json!({"displayName": "A".repeat(101)})).await?, "limit");
    assert_eq!(code(&anna, "join", json!({"device": {"name": "x".repeat(1100)}})).await?, "limit");
    anna.request("join", json!({"displayName": "é".repeat(100)})).await?;
    let refused = enter(server.address, &"r".repeat(129)).await;
    let why = refused.err().context("a room id of 129 bytes")?.to_string();
    assert!(why.contains("a room id is 1 to 128 bytes"), "{why}");
    Ok(())
}

#[tokio::test]
async fn the_room_dialect_and_the_rooms_dialect_meet_in_the_default_room() -> Result<()> {
    let server = Server::start().await?;
    let mut anna = Peer::join(server.address).await?;
    anna.open().await?;
    let mia = Member::join(server.address, "default", "Mia").await?;
    let video = anna.publish_video(Camera::Simple, 3).await?;
    let consumer = mia.offered(&video.id).await?;
    mia.gets(&consumer, 20).await?;
    let voice = mia.publish_audio().await?;
    let told =
        anna.socket.wait("newProducer", |event| event.get("producerId") == Some(&json!(voice.id))).await?;
    assert_eq!(told.get("producerSocketId"), Some(&json!(mia.id())));
    Ok(())
}

#[tokio::test]
async fn a_socket_speaks_one_dialect_and_hears_no_other() -> Result<()> {
    let server = Server::start().await?;
    // The first telling event decides, whatever comes after it.
    let decided = [
        ("createRoom", json!({"room_id": "x"}), "createProducerTransport"),
        ("join", json!({"room_id": "x", "name": "X"}), "joinRoom"),
        ("joinRoom", json!({"roomName": "x"}), "createRoom"),
        ("createProducerTransport", json!({}), "transportProduce"),
        ("createConsumerTransport", json!({}), "joinRoom"),
        ("initialize", Value::Null, "joinRoom"),
        ("createTransport", json!({"consumer": true}), "createWebRtcTransport"),
        ("getProducers", Value::Null, "initialize"),
        ("createWebRtcTransport", json!({"isConsumer": true}), "joinRoom"),
        ("makeCoffee", Value::Null, "createRoom"),
    ];
    let mut listeners = Vec::new();
    for (first, argument, foreign) in decided {
        let socket = SocketIo::connect(server.address).await?;
        socket.call(first, argument).await?;
        let answer = socket.call(foreign, json!({"room_id": "x", "roomName": "x", "consumer": true})).await?;
        let code = answer.get("code").or_else(|| answer.pointer("/params/code")).and_then(Value::as_str);
        assert!(matches!(code, Some("unknown-event" | "not-ready")), "{foreign} after {first}: {answer}");
        listeners.push((first, socket));
    }
    // One who has not said anything is told what the room dialect tells.
    let silent = SocketIo::connect(server.address).await?;
    let anna = Peer::join(server.address).await?;
    let made = anna.create_transport(false, Default::default()).await?;
    let id = anna.produce("audio", crate::support::peer::audio_parameters(7)).await?;
    silent.wait("newProducer", |event| event.get("producerSocketId") == Some(&json!(anna.id()))).await?;
    drop(made);
    for (first, socket) in &listeners {
        let room = vec![json!({"producerId": id, "producerSocketId": anna.id()})];
        let expected = match *first {
            "getProducers" | "createWebRtcTransport" | "makeCoffee" => room,
            "createProducerTransport" | "createConsumerTransport" => vec![json!({"id": id})],
            "initialize" | "createTransport" => {
                vec![json!({"userId": anna.id(), "producerId": id, "kind": "audio"})]
            }
            _ => vec![],
        };
        if !expected.is_empty() {
            socket.wait("newProducer", |_| true).await?;
        }
        assert_eq!(socket.events("newProducer"), expected, "{first}");
    }
    Ok(())
}
