use mediasoup_types::data_structures::{DtlsFingerprint, DtlsRole};
use mediasoup_types::rtp_parameters::{
    MediaKind, MimeTypeVideo, RtcpFeedback, RtpCapabilities, RtpCapabilitiesFinalized, RtpCodecCapability,
    RtpCodecParameters, RtpHeaderExtensionUri as Uri, RtpParameters,
};
use serde_json::{Value, json};

use super::*;

fn codecs(value: Value) -> Vec<RtpCodecCapability> {
    serde_json::from_value(value).expect("valid codecs")
}

fn parameters(value: &Value) -> RtpParameters {
    parse_rtp_parameters(value).expect("valid parameters")
}

fn capabilities(value: &Value) -> RtpCapabilities {
    parse_rtp_capabilities(value).expect("valid capabilities")
}

fn default_router() -> RtpCapabilitiesFinalized {
    router_capabilities(&default_router_codecs()).expect("the default codecs are supported")
}

fn mapping(kind: MediaKind, value: &Value) -> Result<RtpMapping, OrtcError> {
    let mut last = 1000;
    producer_mapping(kind, &parameters(value), &default_router(), || {
        last += 1;
        Ssrc(last)
    })
}

fn identity() -> ConsumerIdentity {
    ConsumerIdentity { mid: Some("7".into()), ssrc: Ssrc(5000), rtx_ssrc: Ssrc(5001) }
}

/// What a router's capabilities look like to a client that supports all of them.
fn full_client() -> RtpCapabilities {
    capabilities(&serde_json::to_value(default_router()).expect("serializable"))
}

/// What mediasoup-client makes of Chromium's offer for a microphone.
fn chromium_audio() -> Value {
    json!({
        "mid": "0",
        "codecs": [{
            "mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2,
            "parameters": {"minptime": 10, "useinbandfec": 1}, "rtcpFeedback": [{"type": "transport-cc", "parameter": ""}]
        }],
        "headerExtensions": [
            {"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 4, "encrypt": false, "parameters": {}},
            {"uri": "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time", "id": 2, "encrypt": false, "parameters": {}},
            {"uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "id": 1, "encrypt": false, "parameters": {}}
        ],
        "encodings": [{"ssrc": 1_955_021_043_u32, "dtx": false}],
        "rtcp": {"cname": "GDrPnZbKGSfYUKcc", "reducedSize": true},
        "msid": "b6bd1a4f-9a21-4e43-b9a8-1d1b2f9a1f3f 3f7bb1d5-3c8c-4f68-8b75-bd3b4f2f9f0e"
    })
}

/// The three simulcast encodings of H.264 that a stock client sends for a camera.
fn chromium_simulcast() -> Value {
    let encoding = |rid: &str, bitrate: u32| json!({"active": true, "scaleResolutionDownBy": 1, "rid": rid, "maxBitrate": bitrate, "scalabilityMode": "S1T3", "dtx": false});
    json!({
        "mid": "1",
        "codecs": [
            {
                "mimeType": "video/H264", "payloadType": 108, "clockRate": 90000,
                "parameters": {"level-asymmetry-allowed": 1, "packetization-mode": 1, "profile-level-id": "42e01f"},
                "rtcpFeedback": [
                    {"type": "goog-remb", "parameter": ""}, {"type": "transport-cc", "parameter": ""},
                    {"type": "ccm", "parameter": "fir"}, {"type": "nack", "parameter": ""}, {"type": "nack", "parameter": "pli"}
                ]
            },
            {"mimeType": "video/rtx", "payloadType": 109, "clockRate": 90000, "parameters": {"apt": 108}, "rtcpFeedback": []}
        ],
        "headerExtensions": [
            {"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 4, "encrypt": false, "parameters": {}},
            {"uri": "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", "id": 10, "encrypt": false, "parameters": {}},
            {"uri": "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id", "id": 11, "encrypt": false, "parameters": {}},
            {"uri": "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time", "id": 2, "encrypt": false, "parameters": {}},
            {"uri": "urn:3gpp:video-orientation", "id": 13, "encrypt": false, "parameters": {}},
            {"uri": "http://example.org/of/next/year", "id": 14, "encrypt": false, "parameters": {}}
        ],
        "encodings": [encoding("r0", 100_000), encoding("r1", 300_000), encoding("r2", 900_000)],
        "rtcp": {"cname": "GDrPnZbKGSfYUKcc", "reducedSize": true}
    })
}

#[test]
fn router_gives_payload_types_as_mediasoup_does() {
    let offered = router_capabilities(&codecs(json!([
        {"kind": "audio", "mimeType": "audio/opus", "clockRate": 48000, "channels": 2,
         "parameters": {"useinbandfec": 1, "foo": "bar"}},
        {"kind": "video", "mimeType": "video/VP8", "preferredPayloadType": 125, "clockRate": 90000},
        {"kind": "video", "mimeType": "video/H264", "clockRate": 90000,
         "parameters": {"level-asymmetry-allowed": 1, "profile-level-id": "42e01f", "foo": "bar"},
         "rtcpFeedback": [{"type": "goog-remb"}]},
    ])))
    .expect("supported");
    let feedback = json!([
        {"type": "nack", "parameter": ""}, {"type": "nack", "parameter": "pli"}, {"type": "ccm", "parameter": "fir"},
        {"type": "goog-remb", "parameter": ""}, {"type": "transport-cc", "parameter": ""}
    ]);
    assert_eq!(
        serde_json::to_value(&offered.codecs).expect("serializable"),
        json!([
            {"kind": "audio", "mimeType": "audio/opus", "preferredPayloadType": 100, "clockRate": 48000, "channels": 2,
             "parameters": {"useinbandfec": 1, "foo": "bar"},
             "rtcpFeedback": [{"type": "nack", "parameter": ""}, {"type": "transport-cc", "parameter": ""}]},
            {"kind": "video", "mimeType": "video/VP8", "preferredPayloadType": 125, "clockRate": 90000,
             "parameters": {}, "rtcpFeedback": feedback},
            {"kind": "video", "mimeType": "video/rtx", "preferredPayloadType": 101, "clockRate": 90000,
             "parameters": {"apt": 125}, "rtcpFeedback": []},
            {"kind": "video", "mimeType": "video/H264", "preferredPayloadType": 102, "clockRate": 90000,
             "parameters": {"packetization-mode": 1, "level-asymmetry-allowed": 1, "profile-level-id": "42e01f", "foo": "bar"},
             "rtcpFeedback": feedback},
            {"kind": "video", "mimeType": "video/rtx", "preferredPayloadType": 103, "clockRate": 90000,
             "parameters": {"apt": 102}, "rtcpFeedback": []},
        ])
    );
}

#[test]
fn router_refuses_what_it_cannot_offer() {
    let opus = |channels: u8| json!({"kind": "audio", "mimeType": "audio/opus", "clockRate": 48000, "channels": channels});
    let preferring = |pt: u8| json!({"kind": "video", "mimeType": "video/VP8", "clockRate": 90000, "preferredPayloadType": pt});
    let refused = |value: Value| router_capabilities(&codecs(value)).expect_err("refused");
    assert!(matches!(refused(json!([opus(1)])), OrtcError::UnsupportedCodec { .. }));
    assert_eq!(refused(Value::Array(vec![opus(2); 100])), OrtcError::NoPayloadTypeLeft);
    assert_eq!(refused(json!([preferring(110), preferring(110)])), OrtcError::DuplicatePayloadType(110));
    assert_eq!(refused(json!([preferring(128)])), OrtcError::InvalidPayloadType(128));
}

#[test]
fn default_router_prefers_h264() {
    let video: Vec<_> = default_router()
        .codecs
        .iter()
        .filter(|codec| !codec.is_rtx())
        .map(|c| c.preferred_payload_type())
        .collect();
    assert_eq!(video, [100, 101, 103, 105, 107]);
    let wire = serde_json::to_value(default_router()).expect("serializable");
    assert_eq!(wire["codecs"][1]["mimeType"], "video/H264");
    assert_eq!(wire["codecs"][1]["parameters"]["x-google-start-bitrate"], 1000);
}

/// The video of mediasoup's own ORTC tests.
fn mediasoup_test_video() -> Value {
    json!({
        "codecs": [
            {"mimeType": "video/H264", "payloadType": 111, "clockRate": 90000,
             "parameters": {"foo": 1234, "packetization-mode": 1, "profile-level-id": "4d0032"},
             "rtcpFeedback": [{"type": "nack", "parameter": ""}, {"type": "nack", "parameter": "pli"}, {"type": "goog-remb", "parameter": ""}]},
            {"mimeType": "video/rtx", "payloadType": 112, "clockRate": 90000, "parameters": {"apt": 111}},
        ],
        "headerExtensions": [
            {"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 1}, {"uri": "urn:3gpp:video-orientation", "id": 2},
        ],
        "encodings": [
            {"ssrc": 11_111_111, "rtx": {"ssrc": 11_111_112}, "maxBitrate": 111_111, "scalabilityMode": "L1T3"},
            {"ssrc": 21_111_111, "rtx": {"ssrc": 21_111_112}, "maxBitrate": 222_222, "scalabilityMode": "L1T3"},
            {"rid": "high", "maxBitrate": 333_333, "scalabilityMode": "L1T3"},
        ],
        "rtcp": {"cname": "qwerty1234"},
    })
}

#[test]
fn maps_what_mediasoups_own_test_maps() {
    let router = router_capabilities(&codecs(json!([
        {"kind": "audio", "mimeType": "audio/opus", "clockRate": 48000, "channels": 2},
        {"kind": "video", "mimeType": "video/H264", "clockRate": 90000,
         "parameters": {"level-asymmetry-allowed": 1, "packetization-mode": 1, "profile-level-id": "4d0032", "foo": "lalala"}},
    ])))
    .expect("supported");
    let sent = parameters(&mediasoup_test_video());
    let mut ssrcs = (1..).map(Ssrc);
    let mapping = producer_mapping(MediaKind::Video, &sent, &router, || ssrcs.next().expect("endless"))
        .expect("mappable");
    let pairs: Vec<_> =
        mapping.codecs.iter().map(|codec| (codec.payload_type, codec.mapped_payload_type)).collect();
    assert_eq!(pairs, [(111, 101), (112, 102)]);
    let streams: Vec<_> =
        mapping.encodings.iter().map(|e| (e.ssrc, e.rid.as_deref(), e.mapped_ssrc.0)).collect();
    assert_eq!(
        streams,
        [(Some(Ssrc(11_111_111)), None, 1), (Some(Ssrc(21_111_111)), None, 2), (None, Some("high"), 3)]
    );

    let consumable = consumable_parameters(MediaKind::Video, &sent, &router, &mapping);
    assert_eq!(
        consumable.codecs.iter().map(RtpCodecParameters::payload_type).collect::<Vec<_>>(),
        [101, 102]
    );
    let first = serde_json::to_value(&consumable.codecs[0]).expect("serializable");
    assert_eq!(
        first["parameters"],
        json!({"foo": 1234, "packetization-mode": 1, "profile-level-id": "4d0032"})
    );
    assert_eq!(consumable.encodings.iter().map(|e| e.ssrc).collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);
    assert!(consumable.encodings.iter().all(|e| e.rtx.is_none() && e.rid.is_none()));
    assert_eq!(consumable.rtcp.cname.as_deref(), Some("qwerty1234"));

    let remote = capabilities(&json!({
        "codecs": [
            {"mimeType": "audio/opus", "kind": "audio", "preferredPayloadType": 100, "clockRate": 48000, "channels": 2},
            {"mimeType": "video/H264", "kind": "video", "preferredPayloadType": 101, "clockRate": 90000,
             "parameters": {"packetization-mode": 1, "profile-level-id": "4d0032", "baz": "LOLOLO"},
             "rtcpFeedback": [{"type": "nack", "parameter": ""}, {"type": "nack", "parameter": "pli"}, {"type": "foo", "parameter": "FOO"}]},
            {"mimeType": "video/rtx", "kind": "video", "preferredPayloadType": 102, "clockRate": 90000, "parameters": {"apt": 101}},
        ],
        "headerExtensions": [
            {"kind": "audio", "uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "preferredId": 1},
            {"kind": "video", "uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "preferredId": 1},
            {"kind": "video", "uri": "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", "preferredId": 2},
            {"kind": "video", "uri": "urn:3gpp:video-orientation", "preferredId": 11},
            {"kind": "audio", "uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "preferredId": 8},
        ],
    }));
    assert!(can_consume(&consumable, &remote));
    let told = consumer_parameters(&consumable, &remote, identity()).expect("consumable");
    assert_eq!(told.codecs.iter().map(RtpCodecParameters::payload_type).collect::<Vec<_>>(), [101, 102]);
    assert_eq!(told.codecs[0].rtcp_feedback(), [RtcpFeedback::Nack, RtcpFeedback::NackPli]);
    let encodings = serde_json::to_value(&told.encodings).expect("serializable");
    assert_eq!(
        encodings,
        json!([{"ssrc": 5000, "rtx": {"ssrc": 5001}, "scalabilityMode": "L3T3", "maxBitrate": 333_333}])
    );
    assert_eq!(told.header_extensions.iter().map(|e| e.id).collect::<Vec<_>>(), [1, 11]);
    assert_eq!(told.mid.as_deref(), Some("7"));
}

#[test]
fn accepts_chromium_audio() {
    let sent = parameters(&chromium_audio());
    assert_eq!(sent.header_extensions.len(), 3);
    let mapping = mapping(MediaKind::Audio, &chromium_audio()).expect("mappable");
    assert_eq!(mapping.codecs[0].mapped_payload_type, 100);
    let consumable = consumable_parameters(MediaKind::Audio, &sent, &default_router(), &mapping);
    let told = consumer_parameters(&consumable, &full_client(), identity()).expect("consumable");
    assert_eq!(told.encodings[0].rtx, None);
    assert_eq!(told.header_extensions.iter().map(|e| e.id).collect::<Vec<_>>(), [1, 4, 10]);
    assert_eq!(producer_type(&sent), ProducerType::Simple);
}

#[test]
fn accepts_chromium_simulcast() {
    let sent = parameters(&chromium_simulcast());
    // The extension that nobody knows is skipped.
    assert_eq!(sent.header_extensions.iter().map(|e| e.id).collect::<Vec<_>>(), [4, 10, 11, 2, 13]);
    assert_eq!(producer_type(&sent), ProducerType::Simulcast);
    let mapping = mapping(MediaKind::Video, &chromium_simulcast()).expect("mappable");
    assert_eq!(mapping.codecs[0].profile_level_id.as_deref(), Some("42e01f"));
    assert_eq!(
        mapping.encodings.iter().filter_map(|e| e.rid.as_deref()).collect::<Vec<_>>(),
        ["r0", "r1", "r2"]
    );
    let consumable = consumable_parameters(MediaKind::Video, &sent, &default_router(), &mapping);
    let told = consumer_parameters(&consumable, &full_client(), identity()).expect("consumable");
    let encoding = serde_json::to_value(&told.encodings[0]).expect("serializable");
    assert_eq!(encoding["scalabilityMode"], "L3T3");
    assert_eq!(encoding["maxBitrate"], 900_000);
    // RID extensions are for receiving only: consumers are never told of them.
    assert_eq!(told.header_extensions.iter().map(|e| e.id).collect::<Vec<_>>(), [1, 4, 5, 8, 11]);
}

#[test]
fn one_congestion_feedback_is_kept() {
    let sent = parameters(&chromium_simulcast());
    let mapping = mapping(MediaKind::Video, &chromium_simulcast()).expect("mappable");
    let consumable = consumable_parameters(MediaKind::Video, &sent, &default_router(), &mapping);
    let feedback_without = |unknown: &[Uri]| {
        let mut client = full_client();
        client.header_extensions.retain(|extension| !unknown.contains(&extension.uri));
        let told = consumer_parameters(&consumable, &client, identity()).expect("consumable");
        let all = told.codecs[0].rtcp_feedback().iter().copied();
        all.filter(|kind| matches!(kind, RtcpFeedback::TransportCc | RtcpFeedback::GoogRemb))
            .collect::<Vec<_>>()
    };
    assert_eq!(feedback_without(&[]), [RtcpFeedback::TransportCc]);
    assert_eq!(feedback_without(&[Uri::TransportWideCcDraft01]), [RtcpFeedback::GoogRemb]);
    assert_eq!(feedback_without(&[Uri::TransportWideCcDraft01, Uri::AbsSendTime]), []);
}

#[test]
fn client_without_rtx_gets_none() {
    let sent = parameters(&chromium_simulcast());
    let mapping = mapping(MediaKind::Video, &chromium_simulcast()).expect("mappable");
    let consumable = consumable_parameters(MediaKind::Video, &sent, &default_router(), &mapping);
    let mut client = full_client();
    client
        .codecs
        .retain(|codec| !matches!(codec, RtpCodecCapability::Video { mime_type: MimeTypeVideo::Rtx, .. }));
    let told = consumer_parameters(&consumable, &client, identity()).expect("consumable");
    assert_eq!(told.codecs.len(), 1);
    assert_eq!(told.encodings[0].rtx, None);
}

#[test]
fn client_without_the_codec_cannot_consume() {
    let sent = parameters(&chromium_simulcast());
    let mapping = mapping(MediaKind::Video, &chromium_simulcast()).expect("mappable");
    let consumable = consumable_parameters(MediaKind::Video, &sent, &default_router(), &mapping);
    let clients = [
        json!({}),
        json!({"codecs": [{"mimeType": "video/rtx", "clockRate": 90000, "parameters": {"apt": 101}}]}),
        json!({"codecs": [{"mimeType": "video/H264", "clockRate": 90000}]}),
        json!({"codecs": [{"mimeType": "video/H264", "clockRate": 90000,
            "parameters": {"packetization-mode": 1, "profile-level-id": "64001f"}}]}),
        json!({"codecs": [{"mimeType": "video/H266", "clockRate": "not even looked at"}, {"mimeType": "video/VP8", "clockRate": 90000}]}),
    ];
    for client in clients {
        let client = capabilities(&client);
        assert!(!can_consume(&consumable, &client), "{client:?}");
        let refusal = consumer_parameters(&consumable, &client, identity());
        assert_eq!(refusal, Err(OrtcError::NoCompatibleCodec), "{client:?}");
    }
}

#[test]
fn profiles_decide_which_codec_matches() {
    let with = |mime_type: &str, parameters: Value| json!({"mid": "0", "codecs": [{"mimeType": mime_type, "payloadType": 96, "clockRate": 90000, "parameters": parameters}]});
    let h264 = |id: &str| {
        with(
            "video/H264",
            json!({"packetization-mode": 1, "profile-level-id": id, "level-asymmetry-allowed": 1}),
        )
    };
    let accepted = mapping(MediaKind::Video, &h264("42c028")).expect("constrained baseline by another name");
    assert_eq!(accepted.codecs[0].profile_level_id.as_deref(), Some("42e028"));
    assert!(mapping(MediaKind::Video, &with("video/VP9", json!({"profile-id": 0}))).is_ok());
    assert!(mapping(MediaKind::Video, &with("video/VP9", json!({}))).is_ok());
    assert!(mapping(MediaKind::Video, &with("video/AV1", json!({}))).is_ok());
    for refused in [
        h264("64001f"),
        h264("nonsense"),
        with("video/H264", json!({"profile-level-id": "42e01f"})),
        with("video/VP9", json!({"profile-id": 2})),
    ] {
        let refusal = mapping(MediaKind::Video, &refused).expect_err("refused");
        assert!(matches!(refusal, OrtcError::UnsupportedCodec { .. }), "{refused}: {refusal}");
    }
}

#[test]
fn impossible_parameters_are_refused() {
    let change = |pointer: &str, value: Value| {
        let mut parameters = chromium_simulcast();
        put(&mut parameters, pointer, value);
        mapping(MediaKind::Video, &parameters).expect_err("refused")
    };
    assert_eq!(change("/encodings/1/rid", json!("r0")), OrtcError::DuplicateRid("r0".into()));
    assert_eq!(change("/encodings/2/rid", Value::Null), OrtcError::UnidentifiedEncoding(2));
    assert!(matches!(change("/encodings/0/rid", json!("")), OrtcError::InvalidStreamId(_)));
    assert!(matches!(change("/mid", json!("seventeen letters")), OrtcError::InvalidStreamId(_)));
    assert_eq!(change("/encodings/0", json!({"ssrc": 7, "rtx": {"ssrc": 7}})), OrtcError::DuplicateSsrc(7));
    assert_eq!(change("/codecs/1/payloadType", json!(108)), OrtcError::DuplicatePayloadType(108));
    assert_eq!(change("/codecs/1/parameters/apt", json!(96)), OrtcError::InvalidApt(109));
    assert_eq!(change("/codecs/1/parameters/apt", json!(109)), OrtcError::InvalidApt(109));
    assert_eq!(change("/headerExtensions/1/id", json!(4)), OrtcError::DuplicateHeaderExtensionId(4));
    assert_eq!(change("/codecs", json!([])), OrtcError::NoMediaCodec);
    assert_eq!(
        change("/encodings/0/codecPayloadType", json!(109)),
        OrtcError::InvalidEncodingCodec { encoding: 0, payload_type: 109 }
    );
    assert!(matches!(
        mapping(MediaKind::Audio, &chromium_simulcast()).expect_err("refused"),
        OrtcError::WrongKind { .. }
    ));
    let mut nameless = chromium_audio();
    nameless["mid"] = Value::Null;
    nameless["encodings"] = json!([]);
    assert_eq!(mapping(MediaKind::Audio, &nameless), Err(OrtcError::UnidentifiedProducer));
    nameless["encodings"] = json!([{"ssrc": 1}, {"ssrc": 2}]);
    assert_eq!(mapping(MediaKind::Audio, &nameless), Err(OrtcError::EncodingCount { count: 2, allowed: 1 }));
}

#[test]
fn layers_make_the_type() {
    let of = |mime_type: &str, mode: &str| {
        producer_type(&parameters(&json!({
            "mid": "0", "codecs": [{"mimeType": mime_type, "payloadType": 96, "clockRate": 90000}],
            "encodings": [{"scalabilityMode": mode}],
        })))
    };
    assert_eq!(of("video/VP9", "L3T3_KEY"), ProducerType::Svc);
    assert_eq!(of("video/VP8", "L1T3"), ProducerType::Simulcast);
    assert_eq!(of("video/VP8", "L1T1"), ProducerType::Simple);
    assert_eq!(of("video/VP8", "not a mode"), ProducerType::Simple);
    assert_eq!(of("audio/opus", "L1T3"), ProducerType::Simple);
}

#[test]
fn error_texts_name_the_place() {
    let refused = |pointer: &str, value: Value| {
        let mut parameters = chromium_simulcast();
        put(&mut parameters, pointer, value);
        parse_rtp_parameters(&parameters).expect_err("refused").to_string()
    };
    assert_eq!(
        refused("/codecs/1/payloadType", json!(300)),
        "rtpParameters.codecs[1].payloadType: expected an integer from 0 to 127"
    );
    assert_eq!(refused("/codecs/0/clockRate", Value::Null), "rtpParameters.codecs[0].clockRate: missing");
    assert_eq!(refused("/codecs", json!("H264")), "rtpParameters.codecs: expected an array");
    assert_eq!(
        refused("/codecs/0/parameters/packetization-mode", json!([1])),
        "rtpParameters.codecs[0].parameters.packetization-mode: expected a string or a number"
    );
    assert_eq!(
        refused("/encodings/0/rtx", json!({"ssrc": -1})),
        "rtpParameters.encodings[0].rtx.ssrc: expected an integer from 0 to 4294967295"
    );
    assert_eq!(
        refused("/encodings", json!([{}, {}, {}, {}, {}])),
        "rtpParameters.encodings: 5 entries, at most 4 are allowed"
    );
    assert_eq!(refused("/mid", json!("m".repeat(257))), "rtpParameters.mid: longer than 256 bytes");
}

#[test]
fn numbers_may_be_written_as_floats() {
    let mut sent = chromium_audio();
    sent["codecs"][0]["payloadType"] = json!(111.0);
    sent["encodings"][0]["ssrc"] = json!(4_294_967_295.0);
    assert_eq!(parameters(&sent).encodings[0].ssrc, Some(u32::MAX));
    sent["encodings"][0]["ssrc"] = json!(0.5);
    assert!(parse_rtp_parameters(&sent).is_err());
}

#[test]
fn dtls_parameters_are_read_without_trusting_them() {
    let value = (0..32).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
    let read = parse_dtls_parameters(&json!({"fingerprints": [
        {"algorithm": "SHA-256", "value": value}, {"algorithm": "md5", "value": "00"}
    ]}))
    .expect("valid");
    assert_eq!(read.role, DtlsRole::Auto);
    let digest: [u8; 32] = std::array::from_fn(|index| u8::try_from(index).expect("small"));
    assert_eq!(read.fingerprints, [DtlsFingerprint::Sha256 { value: digest }]);
    for bad in [
        json!(null),
        json!({}),
        json!({"role": "boss", "fingerprints": []}),
        json!({"fingerprints": [{"algorithm": "sha-256", "value": "€".repeat(32)}]}),
        json!({"fingerprints": [{"algorithm": "sha-256", "value": value.replace("00:", "+0:")}]}),
        json!({"fingerprints": [{"algorithm": "sha-256", "value": "00:11"}]}),
        json!({"fingerprints": vec![json!({"algorithm": "sha-256", "value": value}); 17]}),
    ] {
        assert!(parse_dtls_parameters(&bad).is_err(), "{bad}");
    }
}

#[test]
fn no_json_panics() {
    let junk = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1e300),
        json!("\u{0}é"),
        json!([]),
        json!([[[]]]),
        json!({}),
        json!({"ssrc": {}}),
        json!(["video/H264"]),
    ];
    let samples = [
        chromium_audio(),
        chromium_simulcast(),
        serde_json::to_value(default_router()).expect("serializable"),
    ];
    let mut refused = 0;
    for sample in &samples {
        for pointer in pointers(sample) {
            for value in &junk {
                let mut broken = sample.clone();
                *broken.pointer_mut(&pointer).expect("exists") = value.clone();
                refused += usize::from(parse_rtp_capabilities(&broken).is_err());
                refused += usize::from(parse_dtls_parameters(&broken).is_err());
                if let Ok(parameters) = parse_rtp_parameters(&broken) {
                    for kind in [MediaKind::Audio, MediaKind::Video] {
                        refused += usize::from(
                            producer_mapping(kind, &parameters, &default_router(), || Ssrc(1)).is_err(),
                        );
                    }
                }
            }
        }
    }
    assert!(refused > 1000, "{refused}");
}

/// The JSON pointers of everything in `value`, itself included.
fn pointers(value: &Value) -> Vec<String> {
    let mut found = vec![String::new()];
    let children: Vec<(String, &Value)> = match value {
        Value::Array(items) => items.iter().enumerate().map(|(i, item)| (i.to_string(), item)).collect(),
        Value::Object(map) => map.iter().map(|(key, item)| (key.clone(), item)).collect(),
        _ => Vec::new(),
    };
    for (key, child) in children {
        found.extend(pointers(child).into_iter().map(|rest| format!("/{key}{rest}")));
    }
    found
}

/// Sets what `pointer` names; the last step may be a new member.
fn put(value: &mut Value, pointer: &str, new: Value) {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    match value.pointer_mut(parent).expect("the parent exists") {
        Value::Array(items) => items[key.parse::<usize>().expect("an index")] = new,
        parent => parent[key] = new,
    }
}
