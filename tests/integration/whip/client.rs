//! A client that makes SDP offers, over the transport of the other simulated clients.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::support::dtls::Identity;
use crate::support::media::{ABS_SEND_TIME_EXTENSION, MID_EXTENSION, RID_EXTENSION, Source};
use crate::support::peer::OPUS;
use crate::support::publisher::{Content, Encoding, Publisher};
use crate::support::server::{Reply, request};
use crate::support::transport::{Behaviour, Prepared, Transport};

pub(super) const SDP: &str = "application/sdp";
pub(super) const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// Payload types as no router has them.
const H264: u8 = 108;
const H264_RTX: u8 = 109;
/// A fingerprint of nobody.
const NOBODY: &str =
    "00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F";

/// An offer as a browser makes it, with audio and video that go in one `direction`.
pub(super) fn offer(direction: &str) -> String {
    offer_of(direction, NOBODY, "")
}

/// With a certificate, and lines about the streams of the video.
fn offer_of(direction: &str, fingerprint: &str, streams: &str) -> String {
    let section = |kind: &str, mid: u8, formats: &str, lines: &str| {
        format!(
            "m={kind} 9 UDP/TLS/RTP/SAVPF {formats}\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\na={direction}\r\n\
             a=rtcp-mux\r\na=extmap:{MID_EXTENSION} urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
             a=extmap:{ABS_SEND_TIME_EXTENSION} http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time\r\n{lines}"
        )
    };
    let audio = format!("a=rtpmap:{OPUS} opus/48000/2\r\na=fmtp:{OPUS} minptime=10;useinbandfec=1\r\n");
    let video = format!(
        "a=extmap:{RID_EXTENSION} urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\na=rtpmap:{H264} H264/90000\r\n\
         a=fmtp:{H264} level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
         a=rtcp-fb:{H264} nack\r\na=rtcp-fb:{H264} nack pli\r\na=rtpmap:{H264_RTX} rtx/90000\r\n\
         a=fmtp:{H264_RTX} apt={H264}\r\n{streams}"
    );
    let formats = format!("{H264} {H264_RTX}");
    format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=ice-ufrag:clnt\r\n\
         a=ice-pwd:client-password-client-pw\r\na=setup:actpass\r\na=fingerprint:sha-256 {fingerprint}\r\n{}{}",
        section("audio", 0, &OPUS.to_string(), &audio),
        section("video", 1, &formats, &video)
    )
}

/// The lines of a fragment with the credentials of [`offer`], or others.
pub(super) fn fragment(ufrag: &str) -> String {
    format!(
        "a=ice-ufrag:{ufrag}\r\na=ice-pwd:client-password-client-pw\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
         a=candidate:1 1 udp 2122260223 no-such-host.local 61764 typ host\r\na=end-of-candidates\r\n"
    )
}

/// Sends a body of a type.
pub(super) async fn send(
    server: SocketAddr,
    method: &str,
    path: &str,
    (content_type, headers): (&str, &str),
    body: &str,
) -> Result<Reply> {
    request(server, method, path, &format!("Content-Type: {content_type}\r\n{headers}"), body).await
}

/// A session that is up.
pub(super) struct Session {
    pub(super) server: SocketAddr,
    /// Its path.
    pub(super) path: String,
    pub(super) tag: String,
    pub(super) transport: Arc<Transport>,
    answer: String,
}

impl Session {
    /// Offers, and connects as the answer says.
    pub(super) async fn start(server: SocketAddr, path: &str, headers: &str) -> Result<Self> {
        Self::start_with(server, path, headers, "").await
    }

    async fn start_with(server: SocketAddr, path: &str, headers: &str, streams: &str) -> Result<Self> {
        let identity = Identity::new()?;
        let direction = if path.starts_with("/whip/") { "sendonly" } else { "recvonly" };
        let offer = offer_of(direction, &identity.fingerprint, streams);
        let reply = send(server, "POST", path, (SDP, headers), &offer).await?;
        ensure!(reply.status == 201, "{path} answered {reply:?}");
        let behaviour = Behaviour { identity: Some(identity), ..Behaviour::default() };
        let prepared = Prepared::new(&transport_info(&reply.body)?, behaviour).await?;
        let transport = Arc::new(prepared.begin());
        transport.connected().await?;
        let (path, tag) = (reply.header("location").to_owned(), reply.header("etag").to_owned());
        Ok(Self { server, path, tag, transport, answer: reply.body })
    }

    /// Publishes a camera and a microphone.
    pub(super) async fn publish(
        server: SocketAddr,
        stream: &str,
        headers: &str,
    ) -> Result<(Self, [Publisher; 2])> {
        let media = Source::new(rand::random(), H264, "1", None);
        let repair = Source::new(rand::random(), H264_RTX, "1", None);
        let streams = format!("a=ssrc-group:FID {0} {1}\r\na=ssrc:{0} cname:c\r\n", media.ssrc, repair.ssrc);
        let session = Self::start_with(server, &format!("/whip/{stream}"), headers, &streams).await?;
        let camera = vec![Encoding { media, repair: Some(repair) }];
        let microphone = vec![Encoding { media: Source::new(rand::random(), OPUS, "0", None), repair: None }];
        let begin = |content, encodings| {
            Publisher::start(String::new(), Arc::clone(&session.transport), content, encodings)
        };
        let publishers =
            [begin(Content::Video { packets_per_frame: 3 }, camera), begin(Content::Audio, microphone)];
        Ok((session, publishers))
    }

    /// Publishes a camera in three sizes.
    pub(super) async fn publish_simulcast(server: SocketAddr, stream: &str) -> Result<(Self, Publisher)> {
        let streams = "a=rid:h send\r\na=rid:m send\r\na=rid:l send\r\na=simulcast:send h;m;l\r\n";
        let session = Self::start_with(server, &format!("/whip/{stream}"), "", streams).await?;
        let sizes = ["l", "m", "h"].map(|rid| Source::new(rand::random(), H264, "1", Some(rid)));
        let encodings = sizes.map(|media| Encoding { media, repair: None }).to_vec();
        let content = Content::Video { packets_per_frame: 3 };
        let transport = Arc::clone(&session.transport);
        Ok((session, Publisher::start(String::new(), transport, content, encodings)))
    }

    /// A request to the session itself.
    pub(super) async fn ask(&self, method: &str, headers: &str, body: &str) -> Result<Reply> {
        send(self.server, method, &self.path, (FRAGMENT, headers), body).await
    }

    /// The SSRCs that the answer announces, audio before video.
    pub(super) fn announced(&self) -> Vec<u32> {
        let media = self.answer.split("m=").skip(1);
        media.filter_map(|section| number_behind(section, "a=ssrc:")).collect()
    }

    pub(super) fn answer_has(&self, line: &str) -> bool {
        self.answer.lines().any(|known| known == line)
    }
}

fn number_behind(text: &str, key: &str) -> Option<u32> {
    text.lines().find_map(|line| line.strip_prefix(key)?.split(' ').next()?.parse().ok())
}

/// What a client of mediasoup would have been told instead of this answer.
fn transport_info(answer: &str) -> Result<Value> {
    let value = |key: &str| {
        answer
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .with_context(|| format!("no {key} in {answer}"))
    };
    let candidates: Vec<Value> = answer
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.strip_prefix("a=candidate:")?.split(' ').collect();
            let (protocol, ip) = (words.get(2)?, words.get(4)?);
            Some(json!({"protocol": protocol, "ip": ip, "port": words.get(5)?.parse::<u16>().ok()?}))
        })
        .collect();
    Ok(json!({
        "id": "",
        "iceParameters": {"usernameFragment": value("a=ice-ufrag:")?, "password": value("a=ice-pwd:")?},
        "iceCandidates": candidates,
        "dtlsParameters": {"fingerprints": [{"algorithm": "sha-256", "value": value("a=fingerprint:sha-256 ")?}]},
    }))
}
