use mediasoup_types::data_structures::{
    DtlsFingerprint, DtlsRole, IceCandidateTcpType, IceCandidateType, Protocol,
};
use mediasoup_types::rtp_parameters::{MimeType, MimeTypeAudio, MimeTypeVideo, RtpParameters};

use super::*;
use crate::media::ortc::{default_router_codecs, publishing_parameters, router_capabilities};

const HEAD: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=ice-ufrag:abcd\r\n\
    a=ice-pwd:0123456789abcdefghijkl\r\na=setup:actpass\r\na=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:\
0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n";
const AUDIO: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 0\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\n\
    a=rtcp-mux\r\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=extmap:9 urn:x-unknown\r\n\
    a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=rtcp-fb:111 transport-cc\r\n\
    a=rtpmap:63 speex-of-old/48000/2\r\na=fmtp:63 111/111\r\na=ssrc:7 cname:them\r\na=msid:s t\r\n";
const VIDEO: &str = "m=video 9 UDP/TLS/RTP/SAVPF 96 97 108 109\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=sendonly\r\n\
    a=rtcp-mux\r\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=extmap:10/sendrecv \
urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\na=rtpmap:96 VP8/90000\r\na=rtcp-fb:* nack pli\r\n\
    a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:108 H264/90000\r\na=fmtp:108 level-asymmetry-allowed=1;\
packetization-mode=1;profile-level-id=42e01f\r\na=rtpmap:109 rtx/90000\r\na=fmtp:109 apt=108\r\n";

fn offer(parts: &[&str]) -> Result<Offer, SdpError> {
    Offer::parse(&parts.concat())
}

fn video(lines: &str) -> Section {
    offer(&[HEAD, AUDIO, VIDEO, lines]).unwrap().sections.remove(1)
}

fn rids(section: &Section) -> Vec<&str> {
    section.encodings.iter().filter_map(|encoding| encoding.rid.as_deref()).collect()
}

#[test]
fn an_offer_is_read_as_what_it_can_do_under_its_own_numbers() {
    let offer = offer(&[
        HEAD,
        AUDIO,
        VIDEO,
        "a=ssrc-group:FID 5 6\r\na=ssrc:5 cname:them\r\na=ssrc:6 cname:them\r\n",
    ]);
    let offer = offer.unwrap();
    assert_eq!((offer.ice.ufrag.as_str(), offer.dtls.role), ("abcd", DtlsRole::Client));
    assert!(matches!(offer.dtls.fingerprints[..], [DtlsFingerprint::Sha256 { value }] if value[31] == 0x1f));
    let [audio, video] = &offer.sections[..] else { panic!("{offer:?}") };
    assert_eq!(
        (audio.mid.as_str(), audio.kind, audio.direction),
        ("0", MediaKind::Audio, Direction::SendOnly)
    );
    assert_eq!((audio.cname.as_deref(), audio.msid.as_deref()), (Some("them"), Some("s t")));
    let [opus] = &audio.capabilities.codecs[..] else { panic!("what nobody knows is left out: {audio:?}") };
    assert_eq!(opus.mime_type(), MimeType::Audio(MimeTypeAudio::Opus));
    assert_eq!(opus.preferred_payload_type(), Some(111));
    assert_eq!(audio.capabilities.header_extensions.len(), 1);
    assert_eq!(audio.encodings[0].ssrc, Some(7));
    assert_eq!(video.capabilities.codecs.len(), 4);
    assert_eq!((video.encodings[0].ssrc, video.encodings[0].rtx.map(|rtx| rtx.ssrc)), (Some(5), Some(6)));
    assert!(!format!("{offer:?}").contains("0123456789abcdefghijkl"), "passwords are not printed");
}

#[test]
fn streams_are_ordered_from_the_smallest_to_the_largest() {
    let order = |lines: &str| rids(&video(lines)).join(" ");
    assert_eq!(order("a=simulcast:send 0;1;2\r\n"), "2 1 0", "OBS: the best one comes first");
    assert_eq!(order("a=simulcast:send q;h;f\r\n"), "q h f");
    assert_eq!(order("a=simulcast:send High;Low\r\n"), "Low High");
    assert_eq!(order("a=simulcast:recv x send h;m;l\r\n"), "l m h");
    assert_eq!(order("a=simulcast:send a,b;~c,d\r\n"), "c a");
    let sizes = "a=rid:a send max-width=320\r\na=rid:b send pt=96;max-width=1280\r\na=simulcast:send a;b\r\n";
    assert_eq!(order(sizes), "a b");
    assert_eq!(order("a=simulcast:send 1;2;3;4;5;6\r\n"), "4 3 2 1", "no more than four");
    let by_ssrc = video("a=ssrc-group:SIM 1 2 3\r\na=ssrc-group:FID 2 9\r\n");
    let ssrcs: Vec<_> = by_ssrc.encodings.iter().map(|one| (one.ssrc, one.rtx.map(|rtx| rtx.ssrc))).collect();
    assert_eq!(ssrcs, [(Some(1), None), (Some(2), Some(9)), (Some(3), None)]);
}

#[test]
fn what_webrtc_on_one_transport_cannot_be_made_of_is_refused() {
    let is_unsupported = |result: Result<Offer, SdpError>| matches!(result, Err(SdpError::Unsupported(_)));
    let data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:1\r\n";
    assert!(is_unsupported(offer(&[HEAD, AUDIO, data])));
    assert!(is_unsupported(offer(&[&HEAD.replace("BUNDLE 0 1", "BUNDLE 0"), AUDIO, VIDEO])));
    assert!(is_unsupported(offer(&[HEAD, AUDIO, &VIDEO.replace("mid:1", "mid:0")])));
    assert!(is_unsupported(offer(&[HEAD, &AUDIO.replace("a=rtcp-mux\r\n", "")])));
    assert!(is_unsupported(offer(&[HEAD, &AUDIO.replace("audio 9", "audio 0")])));
    assert!(is_unsupported(offer(&[HEAD, &AUDIO.replace("SAVPF", "AVP")])));
    assert!(offer(&[HEAD, AUDIO, &VIDEO.replace("video 9", "video 0"), "a=bundle-only\r\n"]).is_ok());
    for (from, to) in [
        ("a=ice-ufrag:abcd", "a=x"),
        ("ijkl", ""),
        ("a=fingerprint", "a=x"),
        ("a=setup:actpass", "a=setup:x"),
    ] {
        assert!(offer(&[&HEAD.replace(from, to), AUDIO]).is_err(), "{from}");
    }
    assert!(matches!(offer(&[HEAD]), Err(SdpError::Missing(_))));
    assert!(matches!(Offer::parse("hello"), Err(SdpError::Syntax(_))));
    assert!(matches!(offer(&[HEAD, AUDIO, "a=x\ra=y\r\n"]), Err(SdpError::Syntax(_))));
    assert_eq!(offer(&[HEAD, AUDIO, &"a=x\r\n".repeat(MAX_LINES)]), Err(SdpError::TooLong));
    assert_eq!(offer(&[HEAD, AUDIO, "a=x:", &"y".repeat(MAX_BYTES)]), Err(SdpError::TooLong));
}

/// The answer that weir gives to a publisher.
fn answered(offer: &Offer) -> String {
    let router = router_capabilities(&default_router_codecs()).unwrap();
    let parameters: Vec<RtpParameters> = offer
        .sections
        .iter()
        .map(|section| {
            let own = publishing_parameters(section.kind, &section.capabilities, &router).unwrap();
            RtpParameters { encodings: section.encodings.clone(), ..own }
        })
        .collect();
    let accepted: Vec<_> = parameters.iter().map(Accepted::Receive).collect();
    let candidate = |protocol, tcp_type| IceCandidate {
        foundation: "f".into(),
        priority: 1,
        address: "192.0.2.1".into(),
        protocol,
        port: 4,
        r#type: IceCandidateType::Host,
        tcp_type,
    };
    let local = Local {
        ice: &IceParameters { username_fragment: "wxyz".into(), password: "pw".into(), ice_lite: Some(true) },
        candidates: &[
            candidate(Protocol::Udp, None),
            candidate(Protocol::Tcp, Some(IceCandidateTcpType::Passive)),
        ],
        dtls: &DtlsParameters {
            role: DtlsRole::Auto,
            fingerprints: vec![DtlsFingerprint::Sha256 { value: [0xab; 32] }],
        },
    };
    answer(offer, &accepted, local, 4)
}

#[test]
fn the_answer_takes_one_codec_of_each_section_and_says_where_to_send_it() {
    let offer =
        offer(&[HEAD, AUDIO, VIDEO, "a=rid:h send\r\na=rid:l send\r\na=simulcast:send h;l\r\n"]).unwrap();
    let text = answered(&offer);
    let has = |line: &str| assert!(text.lines().any(|known| known == line), "no {line} in\n{text}");
    has("a=group:BUNDLE 0 1");
    has("a=ice-lite");
    has("m=audio 9 UDP/TLS/RTP/SAVPF 111");
    has("m=video 9 UDP/TLS/RTP/SAVPF 108 109");
    has("a=fmtp:108 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f");
    has("a=rtcp-fb:108 nack pli");
    has("a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id");
    has("a=simulcast:recv h;l");
    has("a=rid:l recv");
    has("a=candidate:f 1 udp 1 192.0.2.1 4 typ host");
    has("a=candidate:f 1 tcp 1 192.0.2.1 4 typ host tcptype passive");
    has("a=end-of-candidates");
    let count = |line: &str| text.lines().filter(|known| *known == line).count();
    assert_eq!((count("a=recvonly"), count("a=rtcp-mux"), count("a=setup:passive")), (2, 2, 2), "{text}");
    assert_eq!((count("a=ice-ufrag:wxyz"), count("a=end-of-candidates")), (2, 1));
    let passive = Offer::parse(&[&HEAD.replace("actpass", "passive"), AUDIO].concat()).unwrap();
    assert!(answered(&passive).contains("a=setup:active\r\n"));
}

#[test]
fn fragments_are_read_leniently_and_written_whole() {
    let text = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio RTP/AVP 0\r\na=mid:0\r\n\
        a=candidate:nonsense\r\na=end-of-candidates\r\n";
    let fragment = Fragment::parse(text).unwrap();
    assert_eq!(fragment.ice.ufrag, "EsAw");
    assert!(Fragment::parse("a=ice-ufrag:EsAw\r\n").is_err());
    assert!(Fragment::parse(&text.replace("m=audio", "no SDP")).is_err());
    assert_eq!(Fragment::parse(&"a=x\r\n".repeat(MAX_LINES + 1)), Err(SdpError::TooLong));
    let ice =
        IceParameters { username_fragment: "abcd".into(), password: "p".repeat(32), ice_lite: Some(true) };
    let written = Fragment::write(&ice, &[]);
    assert_eq!(Fragment::parse(&written).unwrap().ice.ufrag, "abcd");
}

#[test]
fn the_codec_is_the_routers_first_that_the_offer_has() {
    let router = router_capabilities(&default_router_codecs()).unwrap();
    let chosen = |section: &Section| publishing_parameters(section.kind, &section.capabilities, &router);
    let h264 = chosen(&video("")).unwrap();
    assert_eq!(h264.codecs.iter().map(|codec| codec.payload_type()).collect::<Vec<_>>(), [108, 109]);
    let without = offer(&[HEAD, AUDIO, &VIDEO.replace("108 H264", "108 H265")]).unwrap();
    let vp8 = chosen(&without.sections[1]).unwrap();
    assert_eq!(vp8.codecs[0].mime_type(), MimeType::Video(MimeTypeVideo::Vp8));
    let nothing = offer(&[HEAD, &VIDEO.replace("VP8", "VP6").replace("H264", "H265")]);
    assert!(chosen(&nothing.unwrap().sections[0]).is_err());
}
