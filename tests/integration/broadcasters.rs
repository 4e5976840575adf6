//! Broadcasters: programs that are peers of a room by HTTP requests, over plain RTP.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use weir::live::broadcasters::Config;

use crate::support::PATIENCE;
use crate::support::member::Member;
use crate::support::peer::Camera;
use crate::support::server::{Server, ask};

const TOKEN: &str = "open-sesame-and-let-me-in";
const SSRC: u32 = 1111;
const PAYLOAD_TYPE: u8 = 100;

/// A server that lets broadcasters in.
async fn server(more: &str) -> Result<Server> {
    let config: Config = toml::from_str(&format!("token = {TOKEN:?}\n{more}"))?;
    Server::start_with(|all| all.broadcasters = config).await
}

/// One broadcaster, as its program sees the server.
struct Program {
    server: SocketAddr,
    base: String,
}

impl Program {
    async fn start(server: &Server, room: &str, id: &str) -> Result<Self> {
        let base = format!("/rooms/{room}/broadcasters");
        let program = Self { server: server.address, base };
        let (_, capabilities) = ask(server.address, "GET", &format!("/rooms/{room}"), &bearer(), "").await?;
        let about = json!({"id": id, "displayName": "A tone", "device": {"name": "Simulated", "version": "1"},
                           "rtpCapabilities": capabilities});
        program.post("", &about).await?;
        Ok(Self { base: format!("{}/{id}", program.base), ..program })
    }

    async fn try_post(&self, path: &str, body: &Value) -> Result<(u16, Value)> {
        ask(self.server, "POST", &format!("{}{path}", self.base), &bearer(), &body.to_string()).await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let (status, answer) = self.try_post(path, body).await?;
        anyhow::ensure!(status == 200, "{path} answered {status} {answer}");
        Ok(answer)
    }

    /// Why a request is refused.
    async fn refused(&self, path: &str, body: &Value) -> Result<(u16, String)> {
        let (status, answer) = self.try_post(path, body).await?;
        let code = answer.get("code").and_then(Value::as_str);
        Ok((status, code.with_context(|| format!("{path} answered {status} {answer}"))?.to_owned()))
    }

    /// The path of one of its transports.
    fn transport(transport: &Value, rest: &str) -> String {
        format!("/transports/{}/{rest}", transport["id"].as_str().unwrap_or_default())
    }

    /// Publishes a tone over a plain transport, as ffmpeg does.
    async fn publish(&self) -> Result<(String, Tone)> {
        let transport = self.post("/transports", &json!({"type": "plain", "rtcpMux": true})).await?;
        let parameters = json!({
            "codecs": [{"mimeType": "audio/opus", "payloadType": PAYLOAD_TYPE, "clockRate": 48000,
                        "channels": 2, "parameters": {"sprop-stereo": 1}}],
            "encodings": [{"ssrc": SSRC}],
        });
        let wanted = json!({"kind": "audio", "rtpParameters": parameters});
        let producer = self.post(&Self::transport(&transport, "producers"), &wanted).await?;
        let port = transport["port"].as_u64().context("a port")?;
        let to = format!("{}:{port}", transport["ip"].as_str().context("an address")?).parse()?;
        Ok((producer["id"].as_str().context("an id")?.to_owned(), Tone::start(to).await?))
    }
}

fn bearer() -> String {
    format!("Authorization: Bearer {TOKEN}\r\n")
}

/// RTP from a port of this machine, until it is dropped.
struct Tone(JoinHandle<()>);

impl Tone {
    async fn start(to: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        Ok(Self(tokio::spawn(async move {
            for sequence in 0_u16.. {
                let mut packet = vec![0x80, PAYLOAD_TYPE];
                packet.extend(sequence.to_be_bytes());
                packet.extend((u32::from(sequence) * 960).to_be_bytes());
                packet.extend(SSRC.to_be_bytes());
                packet.extend([0xfc, 0xff, 0xfe]);
                // A port that is closed already is no error here.
                drop(socket.send_to(&packet, to).await);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })))
    }
}

impl Drop for Tone {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_publishes_reaches_the_room() -> Result<()> {
    let server = server("").await?;
    let ben = Member::join(server.address, "red", "Ben").await?;
    let program = Program::start(&server, "red", "tone").await?;
    let newcomer = ben.socket.wait("newPeer", |_| true).await?;
    let device = json!({"flag": "broadcaster", "name": "Simulated", "version": "1"});
    assert_eq!(newcomer, json!({"id": "tone", "displayName": "A tone", "device": device}));
    let (producer, _tone) = program.publish().await?;
    let consumer = ben.offered(&producer).await?;
    ben.gets(&consumer, 20).await?;
    let later = Member::join(server.address, "red", "Later").await?;
    assert_eq!(later.joined["peers"].as_array().map(Vec::len), Some(2), "{}", later.joined);

    let (status, _) = ask(server.address, "DELETE", &program.base, &bearer(), "").await?;
    assert_eq!(status, 200);
    ben.socket.wait("peerClosed", |event| event["peerId"] == "tone").await?;
    let (status, _) = ask(server.address, "DELETE", &program.base, &bearer(), "").await?;
    assert_eq!(status, 404);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_receives_where_the_settings_allow_it() -> Result<()> {
    let server = server("destinations = ['127.0.0.1']").await?;
    let anna = Member::join(server.address, "red", "Anna").await?;
    let video = anna.publish_video(Camera::Simple).await?;
    let program = Program::start(&server, "red", "recorder").await?;
    let (_, others) = ask(server.address, "GET", &program.base, &bearer(), "").await?;
    assert_eq!(others["peers"][0]["producers"], json!([{"id": video.id, "kind": "video"}]));

    let told = json!({"type": "plain", "comedia": false, "rtcpMux": true});
    let transport = program.post("/transports", &told).await?;
    let connect = Program::transport(&transport, "plain-connect");
    let victim = json!({"ip": "192.0.2.1", "port": 53});
    assert_eq!(program.refused(&connect, &victim).await?, (403, "forbidden".into()));
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let own = json!({"ip": "127.0.0.1", "port": socket.local_addr()?.port()});
    program.post(&connect, &own).await?;
    assert_eq!(program.refused(&connect, &own).await?, (409, "already".into()));
    let consume = Program::transport(&transport, &format!("consume?producerId={}", video.id));
    let consumer = program.post(&consume, &Value::Null).await?;
    assert_eq!((&consumer["kind"], &consumer["type"]), (&json!("video"), &json!("simple")));
    let ssrc = consumer["rtpParameters"]["encodings"][0]["ssrc"].as_u64().context("an SSRC")?;

    let mut packet = [0; 1500];
    let is_of = |packet: &[u8]| packet.get(8..12).is_some_and(|found| found == (ssrc as u32).to_be_bytes());
    let media = async {
        loop {
            let (len, _) = socket.recv_from(&mut packet).await?;
            if len > 100 && is_of(&packet[..len]) {
                return Ok::<_, anyhow::Error>(());
            }
        }
    };
    timeout(PATIENCE, media).await?
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_nothing_is_heard_of_is_gone() -> Result<()> {
    let server = server("silence_secs = 1").await?;
    let ben = Member::join(server.address, "red", "Ben").await?;
    let program = Program::start(&server, "red", "silent").await?;
    program.post("/transports", &json!({"type": "plain"})).await?;
    ben.socket.wait("peerClosed", |event| event["peerId"] == "silent").await?;
    let (status, _) = ask(server.address, "GET", &program.base, &bearer(), "").await?;
    assert_eq!(status, 404);
    server.stats(|stats| stats.get("/worker/transports") == 1).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_the_token() -> Result<()> {
    let closed = Server::start().await?;
    let (status, answer) = ask(closed.address, "GET", "/rooms/red", &bearer(), "").await?;
    assert_eq!((status, &answer["code"]), (403, &json!("forbidden")), "{answer}");
    let open = server("").await?;
    for headers in ["", "Authorization: Bearer open-sesame\r\n", "Authorization: Basic Ong=\r\n"] {
        for (method, path) in [("GET", "/rooms/red"), ("POST", "/rooms/red/broadcasters")] {
            let (status, answer) = ask(open.address, method, path, headers, "{}").await?;
            assert_eq!(status, 401, "{method} {path} with {headers:?} answered {answer}");
        }
    }
    let (status, capabilities) = ask(open.address, "GET", "/rooms/red", &bearer(), "").await?;
    assert_eq!(status, 200);
    assert!(capabilities["codecs"].as_array().is_some_and(|codecs| !codecs.is_empty()));
    open.stats(|stats| stats.get("/room/rooms") == 1).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_done_is_refused_with_a_code() -> Result<()> {
    let server = server("max_per_room = 2").await?;
    let anna = Member::join(server.address, "red", "Anna").await?;
    let program = Program::start(&server, "red", "one").await?;
    let room = Program { server: server.address, base: "/rooms/red/broadcasters".into() };
    let about = |id: &str| json!({"id": id, "displayName": "x", "device": {"name": "x"}});
    for (body, expected) in [
        (about("one"), (409, "already")),
        (about(anna.id()), (409, "already")),
        (about("two/words"), (400, "bad-request")),
        (json!({"id": "two"}), (400, "bad-request")),
        (json!({"id": "two", "displayName": "x".repeat(101), "device": {"name": "x"}}), (409, "limit")),
        (json!({"id": "two", "displayName": "x".repeat(100_000)}), (413, "bad-request")),
    ] {
        let (status, code) = room.refused("", &body).await?;
        assert_eq!((status, code.as_str()), expected, "{:.100}", body.to_string());
    }
    room.post("", &about("two")).await?;
    assert_eq!(room.refused("", &about("three")).await?, (409, "limit".into()));

    let two = Program { base: format!("{}/two", room.base), ..room };
    let transport = two.post("/transports", &json!({"type": "plain"})).await?;
    assert!(transport["rtcpPort"].is_u64() && transport["srtpParameters"].is_null(), "{transport}");
    let audio = anna.publish_audio().await?;
    let consume = Program::transport(&transport, &format!("consume?producerId={}", audio.id));
    assert_eq!(two.refused(&consume, &Value::Null).await?, (409, "not-ready".into()));
    // Someone who came over a socket is no broadcaster, and nobody has another one's transport.
    let hers = Program { server: server.address, base: format!("/rooms/red/broadcasters/{}", anna.id()) };
    assert_eq!(hers.refused("/transports", &json!({"type": "plain"})).await?, (404, "not-found".into()));
    assert_eq!(program.refused(&consume, &Value::Null).await?, (404, "not-found".into()));
    for (path, body, expected) in [
        ("/transports", json!({"type": "pigeon"}), (400, "bad-request")),
        ("/transports/x/producers", json!({}), (404, "not-found")),
        (&Program::transport(&transport, "consume"), Value::Null, (400, "bad-request")),
        (&Program::transport(&transport, "connect"), json!({"dtlsParameters": {}}), (400, "bad-request")),
        (&Program::transport(&transport, "plain-connect"), json!({}), (409, "already")),
        (&Program::transport(&transport, "consume/data"), json!({"dataProducerId": "x"}), (404, "not-found")),
        (
            &Program::transport(&transport, "produce/data"),
            json!({"sctpStreamParameters": {"streamId": 1}}),
            (409, "not-ready"),
        ),
    ] {
        let (status, code) = two.refused(path, &body).await?;
        assert_eq!((status, code.as_str()), expected, "{path}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn srtp_and_webrtc_transports_are_told_with_what_they_need() -> Result<()> {
    let server = server("").await?;
    let program = Program::start(&server, "red", "one").await?;
    let protected = program.post("/transports", &json!({"type": "plain", "enableSrtp": true})).await?;
    assert_eq!(protected["srtpParameters"]["cryptoSuite"], "AES_CM_128_HMAC_SHA1_80");
    let connect = Program::transport(&protected, "plain-connect");
    assert_eq!(program.refused(&connect, &json!({})).await?, (400, "bad-request".into()));
    program.post(&connect, &json!({"srtpParameters": protected["srtpParameters"]})).await?;

    let wanted = json!({"type": "webrtc", "sctpCapabilities": {"numStreams": {"OS": 1024, "MIS": 1024}}});
    let webrtc = program.post("/transports", &wanted).await?;
    for part in ["iceParameters", "iceCandidates", "dtlsParameters", "sctpParameters"] {
        assert!(!webrtc[part].is_null(), "{part} in {webrtc}");
    }
    let fingerprints = json!([{"algorithm": "sha-256", "value": (["AB"; 32].join(":"))}]);
    let dtls = json!({"dtlsParameters": {"role": "client", "fingerprints": fingerprints}});
    program.post(&Program::transport(&webrtc, "connect"), &dtls).await?;
    let stream = json!({"sctpStreamParameters": {"streamId": 1}, "label": "chat", "appData": {"x": 1}});
    let made = program.post(&Program::transport(&webrtc, "produce/data"), &stream).await?;
    assert!(made["id"].is_string(), "{made}");
    Ok(())
}
