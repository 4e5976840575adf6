use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use http_body_util::BodyExt;

use super::*;
use crate::egress::{HlsFile, PLAYLIST_TYPE, PipelineStats, Stats, StoredFile};
use crate::live::Counts;
use crate::media::segmenter::{Rendition, VideoId};

fn request(headers: &[(header::HeaderName, &'static str)]) -> HeaderMap {
    headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
}

fn playlist() -> HlsFile {
    HlsFile::new(PLAYLIST_TYPE, "no-cache", Bytes::from_static(b"0123456789"))
}

async fn body(response: Response) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

fn header_of<'a>(response: &'a Response, name: &header::HeaderName) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_file_comes_with_its_type_and_cache_rule() {
    let response = hls::respond(&playlist(), &request(&[]));
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header_of(&response, &header::CONTENT_TYPE), "application/vnd.apple.mpegurl");
    assert_eq!(header_of(&response, &header::CACHE_CONTROL), "no-cache");
    assert_eq!(header_of(&response, &header::ACCEPT_RANGES), "bytes");
    assert_eq!(body(response).await, "0123456789");
}

#[tokio::test]
async fn a_range_is_a_part_and_a_wrong_one_is_refused() {
    let response = hls::respond(&playlist(), &request(&[(header::RANGE, "bytes=2-4")]));
    assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(header_of(&response, &header::CONTENT_RANGE), "bytes 2-4/10");
    assert_eq!(body(response).await, "234");
    let response = hls::respond(&playlist(), &request(&[(header::RANGE, "bytes=10-")]));
    assert_eq!(response.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(header_of(&response, &header::CONTENT_RANGE), "bytes */10");
    let changed = request(&[(header::RANGE, "bytes=2-4"), (header::IF_RANGE, "\"other\"")]);
    assert_eq!(hls::respond(&playlist(), &changed).status(), StatusCode::OK);
}

#[tokio::test]
async fn an_unchanged_playlist_is_not_sent_again() {
    let response = hls::respond(&playlist(), &request(&[]));
    let mut again = HeaderMap::new();
    again.insert(header::IF_NONE_MATCH, response.headers()[header::ETAG].clone());
    let response = hls::respond(&playlist(), &again);
    assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
    assert!(body(response).await.is_empty());
    let changed = HlsFile::new(PLAYLIST_TYPE, "no-cache", Bytes::from_static(b"other"));
    assert_eq!(hls::respond(&changed, &again).status(), StatusCode::OK);
}

#[tokio::test]
async fn a_playlist_is_compressed_for_those_who_take_it() {
    use std::io::Read;

    let text = "#EXTINF:2.000,\nvideo_1.m4s\n".repeat(20);
    let file = HlsFile::new(PLAYLIST_TYPE, "no-cache", text.clone().into());
    let plain = hls::respond(&file, &request(&[]));
    assert_eq!(header_of(&plain, &header::CONTENT_ENCODING), "");
    assert_eq!(header_of(&plain, &header::VARY), "accept-encoding");
    for taken in ["gzip", "br;q=1.0, GZIP;q=0.5", "*"] {
        let response = hls::respond(&file, &request(&[(header::ACCEPT_ENCODING, taken)]));
        assert_eq!(header_of(&response, &header::CONTENT_ENCODING), "gzip", "{taken}");
        assert_eq!(header_of(&response, &header::VARY), "accept-encoding");
        assert_ne!(header_of(&response, &header::ETAG), header_of(&plain, &header::ETAG));
        let body = body(response).await;
        let mut unpacked = String::new();
        flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut unpacked).unwrap();
        assert_eq!(unpacked, text);
    }
    for refused in ["", "br", "gzip;q=0", "gzip;q=x, *", "identity"] {
        let response = hls::respond(&file, &request(&[(header::ACCEPT_ENCODING, refused)]));
        assert_eq!(header_of(&response, &header::CONTENT_ENCODING), "", "{refused}");
    }
    let piece = request(&[(header::ACCEPT_ENCODING, "gzip"), (header::RANGE, "bytes=0-6")]);
    assert_eq!(body(hls::respond(&file, &piece)).await, "#EXTINF");
}

#[tokio::test]
async fn what_is_made_of_a_file_is_made_once_and_media_is_sent_as_it_is() {
    let file = HlsFile::new(PLAYLIST_TYPE, "no-cache", "x".repeat(1000).into());
    let (one, other) = (file.compressed().unwrap(), file.clone().compressed().unwrap());
    assert_eq!(one.body.as_ptr(), other.body.as_ptr());
    let segment = HlsFile::new("video/mp4", "public, max-age=3600, immutable", vec![0; 1_000_000].into());
    let response = hls::respond(&segment, &request(&[(header::ACCEPT_ENCODING, "gzip")]));
    assert_eq!(header_of(&response, &header::CONTENT_ENCODING), "");
    assert_eq!(header_of(&response, &header::VARY), "");
    assert_eq!(body(response).await.as_ptr(), segment.body.as_ptr(), "nothing is copied");
}

#[tokio::test]
async fn a_file_is_answered_alike_from_memory_and_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let text = "0123456789".repeat(60_000);
    let file = HlsFile::new("video/mp4", "public, max-age=3600, immutable", text.into());
    let stored = StoredFile::written(&file, &folder.path().join("file"));
    let mut known = HeaderMap::new();
    known.insert(header::IF_NONE_MATCH, HeaderValue::from_maybe_shared(file.plain().tag).unwrap());
    let ranges = ["bytes=2-4", "bytes=-300000", "bytes=100-", "bytes=600000-", "bytes=4-2"];
    let mut requests = vec![request(&[]), request(&[(header::ACCEPT_ENCODING, "gzip")]), known];
    requests.extend(ranges.map(|range| request(&[(header::RANGE, range)])));
    requests.push(request(&[(header::RANGE, "bytes=2-4"), (header::IF_RANGE, "\"other\"")]));
    for asked in requests {
        let expected = hls::respond(&file, &asked);
        let mut answer = hls::respond_stored(stored.clone(), &asked).await;
        let length = answer.headers_mut().remove(header::CONTENT_LENGTH);
        assert_eq!((answer.status(), answer.headers()), (expected.status(), expected.headers()), "{asked:?}");
        let (answer, expected) = (body(answer).await, body(expected).await);
        assert_eq!(answer.len(), expected.len(), "{asked:?}");
        assert!(answer == expected && length.is_none_or(|length| length == expected.len().to_string()));
    }
    std::fs::remove_file(folder.path().join("file")).unwrap();
    let answer = hls::respond_stored(stored, &request(&[])).await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_root_answers_with_a_page_whether_the_demo_was_built_or_not() {
    let response = demo::file(Uri::from_static("/"), HeaderMap::new()).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(header_of(&response, &header::CONTENT_TYPE).starts_with("text/html"));
    assert!(body(response).await.starts_with(b"<!doctype html>"));
}

#[tokio::test]
async fn what_is_not_part_of_the_demo_is_not_found() {
    for path in
        ["/nothing.js", "/../Cargo.toml", "/assets/../../Cargo.toml", "/%2e%2e/Cargo.toml", "//etc/passwd"]
    {
        let response = demo::file(path.parse().unwrap(), HeaderMap::new()).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn every_answer_allows_any_origin_and_forbids_sniffing() {
    use tower::ServiceExt;

    let (_stop, stopping) = watch::channel(false);
    let router = public(Router::new().route("/", get(async || "hello")), stopping);
    let request = axum::http::Request::get("/").header(header::ORIGIN, "https://example.org");
    let response = router.oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
    assert_eq!(header_of(&response, &header::ACCESS_CONTROL_ALLOW_ORIGIN), "*");
    assert_eq!(header_of(&response, &header::X_CONTENT_TYPE_OPTIONS), "nosniff");
}

#[tokio::test]
async fn a_file_is_answered_alike_with_and_without_the_router() {
    use tower::ServiceExt;

    let (_stop, stopping) = watch::channel(false);
    let answer = async |headers: HeaderMap| hls::respond(&playlist(), &headers);
    let router = public(Router::new().route("/", get(answer)), stopping);
    for asked in [
        &[][..],
        &[(header::ORIGIN, "https://example.org")],
        &[(header::RANGE, "bytes=2-3"), (header::ORIGIN, "null")],
        &[(header::IF_NONE_MATCH, "*")],
    ] {
        let mut request_ = axum::http::Request::get("/").body(axum::body::Body::empty()).unwrap();
        *request_.headers_mut() = request(asked);
        let routed = router.clone().oneshot(request_).await.unwrap();
        let direct = site::as_for_all(hls::respond(&playlist(), &request(asked)));
        assert_eq!(direct.status(), routed.status(), "{asked:?}");
        let mut headers = routed.headers().clone();
        // The router says it, and the server below says it of direct answers.
        headers.remove(header::CONTENT_LENGTH);
        assert_eq!(direct.headers(), &headers, "{asked:?}");
        assert_eq!(body(direct).await, body(routed).await, "{asked:?}");
    }
}

#[test]
fn files_of_streams_are_told_from_what_else_has_their_place() {
    use hls::Place;

    let is_file = |path| Place::split(path).is_some_and(|(place, rest)| place.has(rest));
    for path in [
        "/live/p.m3u8",
        "/live/p/720p/index.m3u8",
        "/livestream/p/stream.m3u8",
        "/livestream/p/~T/segment_1.ts",
    ] {
        assert!(is_file(path), "{path}");
    }
    for path in [
        "/",
        "/live",
        "/livestream/p/status",
        "/livestream/health",
        "/livestream/p/temp.webm",
        "/livestreams/p",
    ] {
        assert!(!is_file(path), "{path}");
    }
}

#[tokio::test]
async fn a_page_of_any_origin_may_ask_with_a_token_and_read_every_header() {
    use tower::ServiceExt;

    let (_stop, stopping) = watch::channel(false);
    let router = public(Router::new().route("/", get(async || "hello")), stopping);
    let request = axum::http::Request::options("/")
        .header(header::ORIGIN, "https://example.org")
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "GET")
        .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization, range");
    let response = router.clone().oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    // The star would not stand for Authorization.
    assert_eq!(header_of(&response, &header::ACCESS_CONTROL_ALLOW_HEADERS), "authorization, range");
    assert_eq!(header_of(&response, &header::ACCESS_CONTROL_MAX_AGE), "86400");
    let request = axum::http::Request::get("/").header(header::ORIGIN, "https://example.org");
    let response = router.oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
    assert_eq!(header_of(&response, &header::ACCESS_CONTROL_EXPOSE_HEADERS), "*");
    assert_eq!(header_of(&response, &header::VARY), "", "one answer for all origins, for caches");
}

#[tokio::test]
async fn a_server_that_is_going_down_takes_no_new_socket_but_lets_the_others_finish() {
    use tower::ServiceExt;

    let (stop, stopping) = watch::channel(false);
    let router = public(Router::new().fallback(async || "socket"), stopping);
    let status = async |path: &str| {
        let request = axum::http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap().status()
    };
    let (handshake, poll) =
        ("/socket.io/?EIO=4&transport=polling", "/socket.io/?EIO=4&transport=polling&sid=x");
    assert_eq!(status(handshake).await, StatusCode::OK);
    stop.send_replace(true);
    assert_eq!(status(handshake).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status(poll).await, StatusCode::OK);
    assert_eq!(status("/live/someone.m3u8").await, StatusCode::OK);
}

mod server {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn start(max_connections: usize) -> (SocketAddr, StatsReader, Running) {
        let config = Config { listen: "127.0.0.1:0".parse().unwrap(), max_connections };
        let server = Server::bind(&config).await.unwrap();
        let (address, stats) = (server.address(), server.stats());
        (address, stats, server.start(Router::new().route("/", get(async || "hello"))))
    }

    async fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

    #[tokio::test]
    async fn it_answers_and_counts() {
        let (address, stats, running) = start(8).await;
        assert!(ask(address, REQUEST).await.ends_with("hello"));
        assert!(ask(address, REQUEST).await.ends_with("hello"));
        assert_eq!(stats.read().accepted, 2);
        running.stop(Duration::from_secs(5)).await;
        assert_eq!(stats.read().connections, 0);
    }

    #[tokio::test]
    async fn beyond_the_limit_a_connection_waits_for_its_turn() {
        let (address, stats, _running) = start(1).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut begin = [0; 8];
        first.read_exact(&mut begin).await.unwrap();
        let second = tokio::spawn(ask(address, REQUEST));
        tokio::task::yield_now().await;
        assert_eq!(stats.read().accepted, 1);
        drop(first);
        assert!(second.await.unwrap().ends_with("hello"));
    }

    #[tokio::test]
    async fn an_endless_request_head_is_refused() {
        let (address, _stats, _running) = start(8).await;
        let mut head = b"GET / HTTP/1.1\r\nx: ".to_vec();
        head.resize(200_000, b'a');
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The server may close before all of it is written.
        drop(stream.write_all(&head).await);
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }

    #[tokio::test]
    async fn stopping_closes_the_port_and_idle_connections() {
        let (address, _stats, running) = start(8).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut begin = [0; 8];
        idle.read_exact(&mut begin).await.unwrap();
        running.stop(Duration::from_secs(5)).await;
        let mut rest = Vec::new();
        idle.read_to_end(&mut rest).await.unwrap();
        assert!(rest.ends_with(b"hello"));
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn an_address_in_use_is_an_error_that_names_it() {
        let (address, _stats, _running) = start(8).await;
        let config = Config { listen: address, max_connections: 1 };
        let error = Server::bind(&config).await.err().unwrap().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
    }
}

#[test]
fn metrics_name_each_pipeline() {
    let pipeline = PipelineStats {
        peer: "p-1".parse().unwrap(),
        rendition: Rendition::Video(VideoId::BEST),
        template: "h264",
        frames_in: 30,
        units_out: 29,
        packets_lost: 2,
        dropped: 1,
        restarts: 3,
        hangs: 1,
        latency: Duration::from_millis(58),
        latencies: 29,
    };
    let text =
        metrics::encode(&Counts::default(), &Stats { dvr_lost: 5, ..Stats::default() }, &[pipeline]).unwrap();
    let labels = "{peer=\"p-1\",kind=\"video\",rendition=\"0\",template=\"h264\"}";
    for line in [
        format!("weir_pipeline_frames_in_total{labels} 30"),
        format!("weir_pipeline_restarts_total{labels} 3"),
        format!("weir_pipeline_latency_seconds_total{labels} 0.058"),
        "weir_hls_peers 0".to_owned(),
        "weir_hls_disk_failed_total 0".to_owned(),
        "weir_hls_dvr_lost_total 5".to_owned(),
        "# EOF".to_owned(),
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in {text}");
    }
}
