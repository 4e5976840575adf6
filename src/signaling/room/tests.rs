use super::*;
use crate::live::PeerInfo;

const PRODUCER: &str = "0b2c4a5e-62a1-4f0e-9a5d-3f4f53a0b1c2";

fn parse(event: &str, arguments: &str) -> Result<Request, String> {
    read_text(event, &format!("[{event:?}{arguments}]"))
}

fn read_text(event: &str, text: &str) -> Result<Request, String> {
    let read = arguments::first(text).and_then(|argument| Request::read(event, argument));
    read.map_err(|refusal| refusal.text)
}

fn refusal(event: &str, arguments: &str) -> String {
    parse(event, arguments).expect_err(&format!("{event}{arguments}"))
}

#[test]
fn events_without_an_argument_take_null_nothing_and_anything() {
    for arguments in ["", ",null", ",{}", ",1,2,3", ",\"x\""] {
        let bare_too = arguments == ",{}";
        let expected = Ok(Request::GetRouterRtpCapabilities { bare_too });
        assert_eq!(parse("getRouterRtpCapabilities", arguments), expected);
        assert_eq!(parse("getProducers", arguments), Ok(Request::GetProducers));
    }
}

#[test]
fn a_transport_is_asked_for_by_its_direction() {
    assert_eq!(
        parse("createWebRtcTransport", r#",{"isConsumer":false}"#),
        Ok(Request::CreateTransport(Direction::Send))
    );
    assert_eq!(
        parse("createWebRtcTransport", r#",{"isConsumer":true,"more":1}"#),
        Ok(Request::CreateTransport(Direction::Receive))
    );
    assert!(refusal("createWebRtcTransport", r#",{}"#).contains("isConsumer"));
    assert!(refusal("createWebRtcTransport", r#",{"isConsumer":"yes"}"#).contains("boolean"));
}

#[test]
fn a_producer_is_meant_by_kind_or_by_id() {
    let id: ProducerId = PRODUCER.parse().unwrap();
    let video = ProducerRef::Kind(MediaKind::Video);
    assert_eq!(
        parse("pauseProducer", r#",{"kind":"video"}"#),
        Ok(Request::SetProducerPaused { producer: video, paused: true })
    );
    assert_eq!(
        parse("resumeProducer", &format!(r#",{{"producerId":"{PRODUCER}"}}"#)),
        Ok(Request::SetProducerPaused { producer: ProducerRef::Id(id), paused: false })
    );
    assert_eq!(parse("closeProducer", r#",{"kind":"video"}"#), Ok(Request::CloseProducer(video)));
    assert!(refusal("pauseProducer", r#",{"kind":"smell"}"#).contains("smell"));
    assert!(refusal("pauseProducer", r#",{}"#).contains("kind"));
}

#[test]
fn a_consumer_is_meant_by_id() {
    let consumer: ConsumerId = PRODUCER.parse().unwrap();
    let arguments = format!(r#",{{"consumerId":"{PRODUCER}"}}"#);
    assert_eq!(
        parse("resumeConsumer", &arguments),
        Ok(Request::SetConsumerPaused { consumer, paused: false })
    );
    assert_eq!(parse("pauseConsumer", &arguments), Ok(Request::SetConsumerPaused { consumer, paused: true }));
    assert_eq!(parse("closeConsumer", &arguments), Ok(Request::CloseConsumer(consumer)));
    assert_eq!(refusal("resumeConsumer", r#",{"consumerId":"no such"}"#), "consumer no such not found");
}

#[test]
fn app_data_is_an_object_of_bounded_size() {
    let produce = |app_data: &str| {
        let parameters = r#"{"mid":"0","codecs":[{"mimeType":"audio/opus","payloadType":111,"clockRate":48000,"channels":2}],"encodings":[{"ssrc":1}]}"#;
        parse("transportProduce", &format!(r#",{{"kind":"audio","rtpParameters":{parameters}{app_data}}}"#))
    };
    for (given, kept) in
        [("", json!({})), (",\"appData\":null", json!({})), (",\"appData\":{\"a\":1}", json!({"a": 1}))]
    {
        match produce(given) {
            Ok(Request::Produce { app_data, kind: MediaKind::Audio, .. }) => assert_eq!(app_data, kept),
            other => panic!("{given}: {other:?}"),
        }
    }
    assert!(produce(",\"appData\":[]").unwrap_err().contains("appData"));
    let large = format!(",\"appData\":{{\"a\":\"{}\"}}", "x".repeat(5000));
    assert!(produce(&large).unwrap_err().contains("appData"));
}

#[test]
fn what_makes_no_sense_is_refused_with_a_reason() {
    assert_eq!(refusal("makeCoffee", ""), "unknown event \"makeCoffee\"");
    for event in
        ["createWebRtcTransport", "connectTransport", "transportProduce", "transportConsume", "closeProducer"]
    {
        for argument in ["", ",null", ",[]", ",1", ",\"x\""] {
            assert_eq!(refusal(event, argument), "the argument is not an object", "{event}{argument}");
        }
    }
    assert!(refusal("transportProduce", r#",{"kind":"audio","rtpParameters":7}"#).contains("rtpParameters"));
    assert!(refusal("transportProduce", r#",{"kind":"audio"}"#).contains("rtpParameters"));
    let consume = format!(r#",{{"remoteProducerId":"{PRODUCER}","rtpCapabilities":[]}}"#);
    assert!(refusal("transportConsume", &consume).contains("rtpCapabilities"));
    let connect = format!(r#",{{"transportId":"{PRODUCER}","dtlsParameters":{{"fingerprints":"é"}}}}"#);
    assert!(refusal("connectTransport", &connect).contains("dtlsParameters"));
    let foreign = r#",{"transportId":"../../etc","dtlsParameters":{"fingerprints":[]}}"#;
    assert_eq!(refusal("connectTransport", foreign), "transport ../../etc not found");
    assert!(read_text("getProducers", "{}").is_err());
    assert!(read_text("getProducers", "[\"getProducers\"").is_err());
}

#[test]
fn deep_nesting_is_refused() {
    let deep = format!(",{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(refusal("transportProduce", &deep).contains("no JSON"));
}

fn shown(to: &str, event: &Event) -> Option<(&'static str, Value)> {
    let to: PeerId = to.parse().unwrap();
    room_event(&to, event).map(|out| (out.name, out.payload))
}

#[test]
fn room_events_read_as_the_dialect_says() {
    let producer: ProducerId = PRODUCER.parse().unwrap();
    let a: PeerId = "a".parse().unwrap();
    let kind = MediaKind::Audio;
    let new = Event::NewProducer { peer: a.clone(), producer, kind };
    let expected = json!({"producerId": PRODUCER, "producerSocketId": "a"});
    assert_eq!(shown("b", &new), Some(("newProducer", expected)));
    assert_eq!(shown("a", &new), None, "a publisher is not told of its own producer");
    for to in ["a", "b"] {
        let paused = Event::ProducerPaused { peer: a.clone(), producer, kind };
        let expected = json!({"kind": "audio", "peerId": "a", "paused": true});
        assert_eq!(shown(to, &paused), Some(("producerChange", expected)));
        let resumed = Event::ProducerResumed { peer: a.clone(), producer, kind };
        let expected = json!({"kind": "audio", "peerId": "a", "paused": false});
        assert_eq!(shown(to, &resumed), Some(("producerChange", expected)));
        assert_eq!(
            shown(to, &Event::PeerLeft { peer: a.clone(), info: None }),
            Some(("peerLeft", json!({"peerId": "a"})))
        );
        assert_eq!(shown(to, &Event::PeerJoined { peer: a.clone(), info: PeerInfo::default() }), None);
    }
    let closed = Event::ProducerClosed { peer: a, producer, kind: MediaKind::Video };
    let expected = json!({"producerId": PRODUCER, "peerId": "a"});
    assert_eq!(shown("b", &closed), Some(("producerClosed", expected)));
}

#[test]
fn own_events_read_as_the_dialect_says() {
    let consumer: ConsumerId = PRODUCER.parse().unwrap();
    let transport: TransportId = PRODUCER.parse().unwrap();
    let producer: ProducerId = PRODUCER.parse().unwrap();
    for (event, name, payload) in [
        (PeerEvent::ConsumerClosed { consumer, producer }, "consumerClosed", json!({"consumerId": PRODUCER})),
        (PeerEvent::ConsumerPaused(consumer), "consumerPaused", json!({"consumerId": PRODUCER})),
        (PeerEvent::ConsumerResumed(consumer), "consumerResumed", json!({"consumerId": PRODUCER})),
        (PeerEvent::TransportClosed(transport), "transportClosed", json!({"transportId": PRODUCER})),
    ] {
        let out = own_event(&event).unwrap();
        assert_eq!((out.name, serde_json::to_value(&out.payload).unwrap()), (name, payload));
    }
}
