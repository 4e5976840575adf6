//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep-03): each rule by its status and headers, and media that flows.

mod client;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use weir::live::ice_servers::IceServerConfig;

use crate::support::peer::Peer;
use crate::support::server::{Reply, Server, request};
use client::{FRAGMENT, SDP, Session, fragment, offer, send};

const KEY: &str = "a-key-that-nobody-guesses";

/// A server that lets everybody publish.
async fn open() -> Result<Server> {
    Server::start().await
}

/// A server with a key for the stream `red` and one for all.
async fn guarded() -> Result<Server> {
    let keys = toml::from_str(&format!("keys = ['red:{KEY}', '*:the-key-of-them-all']"))?;
    Server::start_with(|config| config.streams = keys).await
}

/// Sends an offer.
async fn post(server: &Server, path: &str, body: &str) -> Result<Reply> {
    send(server.address, "POST", path, (SDP, ""), body).await
}

/// Whether a refusal says why, in the way of RFC 9457.
fn explains(reply: &Reply) -> bool {
    let problem: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    reply.header("content-type") == "application/problem+json"
        && problem["status"] == reply.status
        && problem["detail"].as_str().is_some_and(|detail| !detail.is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_is_answered_with_everything_that_its_client_has_to_know() -> Result<()> {
    let turn: IceServerConfig = toml::from_str(
        "urls = ['turn:t.example:3478?transport=udp', 'stun:s.example']\nusername = 'u'\ncredential = 'c'",
    )?;
    let server = Server::start_with(|config| config.ice_servers = vec![turn]).await?;
    let reply = post(&server, "/whip/red", &offer("sendonly")).await?;
    assert_eq!((reply.status, reply.header("content-type")), (201, SDP));
    let session = reply.header("location").strip_prefix("/whip/red/").expect("a path of its own").to_owned();
    assert_eq!(session.len(), 36, "a random UUID");
    let tag = reply.header("etag");
    assert!(tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"'), "a strong entity tag: {tag}");
    assert_eq!(reply.header("accept-patch"), FRAGMENT);
    assert_eq!(reply.header("access-control-allow-origin"), "*");
    let login = "rel=\"ice-server\"; username=\"u\"; credential=\"c\"; credential-type=\"password\"";
    let expected =
        [format!("<turn:t.example:3478?transport=udp>; {login}"), format!("<stun:s.example>; {login}")];
    assert_eq!(reply.headers("link"), expected);
    let answer: Vec<&str> = reply.body.lines().collect();
    let count = |line: &str| answer.iter().filter(|known| **known == line).count();
    assert_eq!(count("a=recvonly"), 2);
    assert_eq!(count("a=rtcp-mux"), 2);
    assert_eq!(count("a=group:BUNDLE 0 1"), 1);
    assert_eq!(count("a=setup:passive"), 2);
    assert_eq!(count("a=end-of-candidates"), 1, "the candidates are all that there are");
    assert!(answer.iter().any(|line| line.starts_with("a=candidate:") && line.contains(" udp ")));
    server.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_offer_of_a_publisher_is_refused() -> Result<()> {
    let server = open().await?;
    let good = offer("sendonly");
    let refused = async |body: &str| -> Result<u16> {
        let reply = post(&server, "/whip/red", body).await?;
        assert!(explains(&reply), "{reply:?}");
        Ok(reply.status)
    };
    assert_eq!(refused("").await?, 400);
    assert_eq!(refused("v=0\r\nhello").await?, 400);
    assert_eq!(refused(&good.replace("a=ice-pwd", "a=x")).await?, 400);
    assert_eq!(refused(&format!("{good}{}", "a=x\r\n".repeat(10_000))).await?, 400);
    assert_eq!(refused(&format!("{good}a=x:{}\r\n", "y".repeat(100_000))).await?, 413);
    assert_eq!(refused(&offer("recvonly")).await?, 422);
    assert_eq!(refused(&offer("inactive")).await?, 422);
    assert_eq!(refused(&good.replace("H264", "H263")).await?, 422, "one section is never refused alone");
    assert_eq!(refused(&good.replace("a=rtcp-mux\r\n", "")).await?, 422);
    let second = good.split("m=video").nth(1).expect("a video section").replace("a=mid:1", "a=mid:2");
    let two = format!("{}m=video{second}", good.replace("BUNDLE 0 1", "BUNDLE 0 1 2"));
    assert_eq!(refused(&two).await?, 422, "one of each kind");

    let wrong_type = send(server.address, "POST", "/whip/red", ("text/plain", ""), &good).await?;
    assert_eq!((wrong_type.status, wrong_type.header("accept-post")), (415, SDP));
    let odd_type = ("Application/SDP; charset=utf-8", "");
    assert_eq!(send(server.address, "POST", "/whip/red", odd_type, &good).await?.status, 201);
    assert_eq!(post(&server, "/whip/no%2Fname", &good).await?.status, 404);

    let again = post(&server, "/whip/red", &good).await?;
    assert_eq!(again.status, 409, "anybody could take it away otherwise");
    assert!(!again.header("retry-after").is_empty() && explains(&again));
    server.stats(|stats| stats.get("/room/peers") == 1).await?;
    server.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_tell_what_there_is_to_do() -> Result<()> {
    let server = open().await?;
    for path in ["/whip/red", "/whep/red", "/whip/red/x"] {
        let preflight = "Origin: https://app.example\r\nAccess-Control-Request-Method: PATCH\r\n\
                         Access-Control-Request-Headers: authorization,content-type,if-match\r\n";
        let options = request(server.address, "OPTIONS", path, preflight, "").await?;
        assert_eq!((options.status, options.header("accept-post")), (200, SDP), "{path}");
        assert_eq!(options.header("access-control-allow-headers"), "authorization,content-type,if-match");
        assert!(options.headers("link").is_empty(), "ICE servers are for those who may publish");
    }
    let get = request(server.address, "GET", "/whip/red", "", "").await?;
    assert_eq!((get.status, get.body.as_str()), (204, ""));
    for method in ["GET", "HEAD"] {
        let found = request(server.address, method, "/whep/red", "", "").await?;
        assert_eq!(
            (found.status, found.header("content-type"), found.body.as_str()),
            (200, SDP, ""),
            "{method}"
        );
    }
    assert_eq!(request(server.address, "PUT", "/whip/red", "", "").await?.status, 405);
    assert_eq!(request(server.address, "POST", "/whip/red/x", "", "").await?.status, 405);
    server.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ice_session_is_changed_under_its_entity_tag_only() -> Result<()> {
    let server = open().await?;
    let made = post(&server, "/whip/red", &offer("sendonly")).await?;
    let (path, tag) = (made.header("location"), made.header("etag"));
    let patch = async |headers: &str, body: &str| {
        send(server.address, "PATCH", path, (FRAGMENT, headers), body).await
    };
    let if_match = |tag: &str| format!("If-Match: {tag}\r\n");

    let trickled = patch(&if_match(tag), &fragment("clnt")).await?;
    assert_eq!((trickled.status, trickled.body.as_str(), trickled.header("etag")), (204, "", ""));
    assert_eq!(patch("", &fragment("clnt")).await?.status, 428);
    assert_eq!(patch(&if_match("\"other\""), &fragment("clnt")).await?.status, 412);
    assert_eq!(
        patch(&if_match(&format!("W/{tag}")), &fragment("clnt")).await?.status,
        412,
        "not a strong one"
    );
    assert_eq!(patch(&if_match(tag), "no fragment").await?.status, 400);
    let wrong_type = send(server.address, "PATCH", path, (SDP, &if_match(tag)), &fragment("clnt")).await?;
    assert_eq!((wrong_type.status, wrong_type.header("accept-patch")), (415, FRAGMENT));

    let restarted = patch("If-Match: *\r\n", &fragment("new1")).await?;
    assert_eq!((restarted.status, restarted.header("content-type")), (200, FRAGMENT));
    let new_tag = restarted.header("etag");
    assert!(!new_tag.is_empty() && new_tag != tag, "a restart is another ICE session");
    let ufrag =
        |text: &str| text.lines().find_map(|line| Some(line.strip_prefix("a=ice-ufrag:")?.to_owned()));
    assert!(ufrag(&restarted.body).is_some() && ufrag(&restarted.body) != ufrag(&made.body));
    assert!(restarted.body.contains("a=ice-pwd:") && restarted.body.contains("a=candidate:"));
    assert_eq!(patch(&if_match(tag), &fragment("new1")).await?.status, 412, "the old tag is worth nothing");
    assert_eq!(patch(&if_match(tag), &fragment("new2")).await?.status, 412);
    assert_eq!(
        patch(&if_match(new_tag), &fragment("new1")).await?.status,
        204,
        "what failed changed nothing"
    );

    let ended = send(server.address, "DELETE", path, (SDP, &if_match("\"other\"")), "").await?;
    assert_eq!((ended.status, ended.body.as_str()), (200, ""), "entity tags do not matter here");
    assert_eq!(request(server.address, "DELETE", path, "", "").await?.status, 404);
    assert_eq!(patch("If-Match: *\r\n", &fragment("clnt")).await?.status, 404);
    server.stats(|stats| stats.get("/room/peers") == 0).await?;
    assert_eq!(post(&server, "/whip/red", &offer("sendonly")).await?.status, 201, "the name is free again");
    server.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_its_owners() -> Result<()> {
    let server = guarded().await?;
    let publish = async |token: &str| {
        let authorization = format!("Authorization: Bearer {token}\r\n");
        let headers = if token.is_empty() { "" } else { &authorization };
        send(server.address, "POST", "/whip/red", (SDP, headers), &offer("sendonly")).await
    };
    let nobody = publish("").await?;
    assert_eq!((nobody.status, nobody.header("www-authenticate")), (401, "Bearer"));
    let stranger = publish("a-key-of-another-stream").await?;
    assert_eq!(
        (stranger.status, stranger.header("www-authenticate")),
        (401, "Bearer error=\"invalid_token\"")
    );
    let first = publish(KEY).await?;
    assert_eq!(first.status, 201);
    let path = first.header("location");
    for (method, headers) in [("DELETE", ""), ("PATCH", "If-Match: *\r\n")] {
        let reply = send(server.address, method, path, (FRAGMENT, headers), &fragment("clnt")).await?;
        assert_eq!(reply.status, 401, "{method} by one who only knows the URL");
    }
    let preflight = request(server.address, "OPTIONS", path, "Origin: https://app.example\r\n", "").await?;
    assert_eq!(preflight.status, 200, "preflights carry no token");

    let second = publish("the-key-of-them-all").await?;
    assert_eq!(second.status, 201, "who lost the connection need not wait until it is known");
    let owner = format!("Authorization: Bearer {KEY}\r\n");
    assert_eq!(request(server.address, "DELETE", path, &owner, "").await?.status, 404, "it was replaced");
    let by_url = format!("{}?token={KEY}", second.header("location"));
    assert_eq!(request(server.address, "DELETE", &by_url, "", "").await?.status, 200);
    server.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_watch_may_play() -> Result<()> {
    let access = toml::from_str("secrets = ['0123456789abcdef']")?;
    let server = Server::start_with(|config| config.access = access).await?;
    let rule: weir::live::access::Config = toml::from_str("secrets = ['0123456789abcdef']")?;
    let rule = weir::live::access::Access::new(&rule).expect("a rule");
    let (_publishing, _media) = Session::publish(server.address, "red", "").await?;
    let until = std::time::SystemTime::now() + Duration::from_secs(60);
    let play = async |token: &str| {
        let headers = format!("Authorization: Bearer {token}\r\n");
        send(server.address, "POST", "/whep/red", (SDP, &headers), &offer("recvonly")).await
    };
    assert_eq!(post(&server, "/whep/red", &offer("recvonly")).await?.status, 401);
    assert_eq!(play("x").await?.status, 401);
    let other = play(&rule.sign("blue", until)).await?;
    assert_eq!(
        (other.status, other.header("www-authenticate")),
        (403, "Bearer error=\"insufficient_scope\"")
    );
    let token = rule.sign("red", until);
    let playing = play(&token).await?;
    assert_eq!(playing.status, 201);
    let path = playing.header("location");
    assert_eq!(request(server.address, "DELETE", path, "", "").await?.status, 401);
    assert_eq!(
        request(server.address, "DELETE", &format!("{path}?token={token}"), "", "").await?.status,
        200
    );
    server.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_reaches_rooms_and_players_under_the_numbers_of_their_offers() -> Result<()> {
    let server = open().await?;
    let early = post(&server, "/whep/red", &offer("recvonly")).await?;
    assert_eq!(early.status, 409, "nobody publishes yet");
    assert!(early.header("retry-after").parse::<u32>()? > 0);

    let (publishing, media) = Session::publish(server.address, "red", "").await?;
    let mut viewer = Peer::join(server.address).await?;
    viewer.open().await?;
    for (owner, producer) in viewer.others().await? {
        assert_eq!(owner, "red");
        let consumer = viewer.consume(&producer).await?;
        viewer.resume(&consumer).await?;
        let seen = &viewer.recv().seen;
        seen.wait("media", |seen| (seen.stream(consumer.ssrc).packets > 30).then_some(())).await?;
    }

    for refused in [offer("sendonly"), offer("inactive"), offer("recvonly").replace("H264", "VP8")] {
        assert_eq!(post(&server, "/whep/red", &refused).await?.status, 422);
    }
    let playing = Session::start(server.address, "/whep/red", "").await?;
    assert!(playing.path.starts_with("/whep/red/") && playing.answer_has("a=sendonly"));
    assert!(!playing.answer_has("a=recvonly"));
    let ssrcs = playing.announced();
    assert_eq!(ssrcs.len(), 2);
    for (ssrc, payload_type, mid) in [(ssrcs[0], 111, "0"), (ssrcs[1], 108, "1")] {
        let enough = |seen: &crate::support::observed::Observations| {
            let stream = seen.stream(ssrc);
            (stream.packets > 60).then_some(stream)
        };
        let stream = playing.transport.seen.wait("media", enough).await?;
        assert_eq!(stream.payload_types.into_iter().collect::<Vec<_>>(), [payload_type]);
        assert_eq!(stream.extensions.get(&4).map(Vec::as_slice), Some(mid.as_bytes()));
        assert_eq!((stream.foreign, stream.duplicates), (0, 0));
    }
    assert_eq!(playing.ask("PATCH", "", &fragment("clnt")).await?.status, 428);
    let with_tag = format!("If-Match: {}\r\n", playing.tag);
    assert_eq!(playing.ask("PATCH", &with_tag, &fragment("clnt")).await?.status, 204);

    assert_eq!(publishing.ask("DELETE", "", "").await?.status, 200);
    publishing.transport.seen.wait("goodbye", |seen| seen.closed_by_server.then_some(())).await?;
    playing.transport.seen.wait("the end", |seen| seen.closed_by_server.then_some(())).await?;
    drop(media);
    server.stats(|stats| stats.get("/worker/transports") == 2 && stats.get("/room/peers") == 1).await?;
    assert_eq!(playing.ask("DELETE", "", "").await?.status, 404);
    server.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn simulcast_is_published_in_all_sizes() -> Result<()> {
    let server = open().await?;
    let (publishing, _media) = Session::publish_simulcast(server.address, "red").await?;
    assert!(publishing.answer_has("a=simulcast:recv h;m;l") && publishing.answer_has("a=rid:m recv"));
    let mut viewer = Peer::join(server.address).await?;
    viewer.open().await?;
    let others = viewer.others().await?;
    let mut videos = Vec::new();
    for (_, producer) in &others {
        let consumer = viewer.consume(producer).await?;
        if consumer.kind == "video" {
            assert_eq!(consumer.rtp_parameters["encodings"][0]["scalabilityMode"], "L3T1");
            viewer.resume(&consumer).await?;
            videos.push(consumer.ssrc);
        }
    }
    assert_eq!(videos.len(), 1);
    let seen = &viewer.recv().seen;
    seen.wait("media", |seen| (seen.stream(videos[0]).packets > 30).then_some(())).await?;
    server.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_vanishes_or_never_comes_is_removed() -> Result<()> {
    let whip = toml::from_str("connect_secs = 1\nmax_publishers = 2")?;
    let server = Server::start_with(|config| {
        config.rtc.ice_consent_timeout_secs = 2;
        config.whip = whip;
    });
    let server = server.await?;
    let (publishing, media) = Session::publish(server.address, "red", "").await?;
    let never = post(&server, "/whip/blue", &offer("sendonly")).await?;
    assert_eq!(never.status, 201);
    let full = post(&server, "/whip/green", &offer("sendonly")).await?;
    assert_eq!(full.status, 503);
    assert!(!full.header("retry-after").is_empty());
    server.stats(|stats| stats.get("/room/peers") == 1).await?;
    assert_eq!(request(server.address, "DELETE", never.header("location"), "", "").await?.status, 404);
    drop(media);
    publishing.transport.vanish();
    server.stats(|stats| stats.get("/room/peers") == 0 && stats.get("/worker/transports") == 0).await?;
    assert_eq!(publishing.ask("DELETE", "", "").await?.status, 404);
    let polite = Session::start(server.address, "/whip/green", "").await?;
    Arc::into_inner(polite.transport).context("the only one")?.goodbye().await?;
    server.stats(|stats| stats.get("/room/peers") == 0).await?;
    assert_eq!(post(&server, "/whip/green", &offer("sendonly")).await?.status, 201, "there is a place again");
    server.shutdown().await;
    Ok(())
}
