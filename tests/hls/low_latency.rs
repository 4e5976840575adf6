//! Low-latency HLS over real HTTP, rule by rule (RFC 8216bis sections 4.4 and 6.2.5).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use weir::http::{self, Routes, Running};
use weir::live::Rooms;
use weir::live::broadcasters::{self, Broadcasters};
use weir::live::keys::ConfiguredKeys;
use weir::live::whip::Sessions;
use weir::media::ortc;
use weir::worker::{self, WorkerPool};

use super::source::{Codec, Source};
use super::viewer::pictures;
use super::{PATIENCE, Server, serve};

/// A server with one peer, and its web server.
struct Site {
    address: SocketAddr,
    server: Server,
    sources: Vec<Source>,
    workers: WorkerPool,
    _running: Running,
    _stop: watch::Sender<bool>,
}

impl Site {
    /// Starts it with a peer `p` that publishes pictures and sound; answers when it is playable.
    async fn start() -> Result<Self> {
        let mut server = serve(|config, _| config.window_segments = 14)?;
        let sources =
            vec![server.publish("p", Codec::H264, (320, 240))?, server.publish("p", Codec::Opus, (0, 0))?];
        let config = worker::Config { listen: vec![([127, 0, 0, 1], 0).into()], ..worker::Config::default() };
        let (workers, _events) = WorkerPool::start(&config)?;
        let egress = Some(server.egress.clone());
        let live = weir::live::Config::default();
        let codecs = ortc::default_router_codecs();
        let rooms = Rooms::start(&live, workers.clone(), codecs, egress.clone(), &[]).await?;
        let (stop, stopping) = watch::channel(false);
        let stats: http::StatsSource = Arc::new(|| Box::pin(async { serde_json::Value::Null }));
        let broadcasters = Broadcasters::new(broadcasters::Config::default(), rooms.clone());
        let keys = Arc::new(ConfiguredKeys::new(&Default::default()));
        let sessions = Sessions::new(&Default::default(), rooms.clone(), keys);
        let stopping_too = stopping.clone();
        let routes =
            Routes { rooms, broadcasters, sessions, egress, access: None, stats, stopping: stopping_too };
        let config = http::Config { listen: ([127, 0, 0, 1], 0).into(), ..http::Config::default() };
        let web = http::Server::bind(&config).await?;
        let address = web.address();
        let router = http::public(routes.into_router(), stopping);
        let running = web.start(http::Site::new(router, Some(server.egress.clone()), None));
        server.event().await?;
        Ok(Self { address, server, sources, workers, _running: running, _stop: stop })
    }

    async fn get(&self, path: &str) -> Result<(u16, Vec<u8>)> {
        get(self.address, path).await
    }

    async fn playlist(&self, path: &str) -> Result<Playlist> {
        let (status, body) = self.get(path).await?;
        ensure!(status == 200, "{path}: {status}");
        Playlist::parse(String::from_utf8(body)?).with_context(|| path.to_owned())
    }

    /// The playlist once segment `sequence` is complete, by as many reloads as that takes.
    async fn reload(&self, name: &str, sequence: u64) -> Result<Playlist> {
        loop {
            let playlist = self.playlist(name).await?;
            let (open, _) = playlist.end();
            if open > sequence {
                return Ok(playlist);
            }
            self.playlist(&format!("{name}?_HLS_msn={open}")).await?;
        }
    }

    async fn stop(self) {
        self.server.egress.shutdown().await;
        self.workers.shutdown(PATIENCE).await;
    }
}

async fn get(address: SocketAddr, path: &str) -> Result<(u16, Vec<u8>)> {
    let (head, body) = answer(address, path).await?;
    Ok((head.get(9..12).context("no status")?.parse()?, body))
}

async fn head(address: SocketAddr, path: &str) -> Result<String> {
    Ok(answer(address, path).await?.0)
}

/// The answer's head, as it came, and its body.
async fn answer(address: SocketAddr, path: &str) -> Result<(String, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /live/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await??;
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n").context("no head")?;
    let body = answer.split_off(head + 4);
    Ok((String::from_utf8(answer)?, body))
}

/// A media playlist as a low-latency player reads it.
struct Playlist {
    text: String,
    first: u64,
    /// Complete segments with their parts' names, and behind them the open one's.
    segments: Vec<(Option<String>, Vec<String>)>,
}

impl Playlist {
    fn parse(text: String) -> Result<Self> {
        let mut playlist = Self { first: 0, segments: vec![(None, Vec::new())], text: String::new() };
        for line in text.lines() {
            let (_, parts) = playlist.segments.last_mut().context("no segment")?;
            if let Some(first) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
                playlist.first = first.parse()?;
            } else if line.starts_with("#EXT-X-PART:") {
                parts.push(attribute(line, "URI").to_owned());
            } else if !line.starts_with('#') {
                let parts = std::mem::take(parts);
                playlist.segments.insert(playlist.segments.len() - 1, (Some(line.to_owned()), parts));
            }
        }
        Ok(Self { text, ..playlist })
    }

    /// Where it ends: the number of the open segment, and how many parts that has.
    fn end(&self) -> (u64, u64) {
        let open = self.segments.last().map_or(0, |(_, parts)| parts.len() as u64);
        (self.first + self.segments.len() as u64 - 1, open)
    }

    fn tag(&self, tag: &str) -> &str {
        let mut found = self.text.lines().filter_map(|line| line.strip_prefix(tag));
        found.next().and_then(|rest| rest.strip_prefix(':')).unwrap_or_default()
    }

    fn has(&self, sequence: u64, part: u64) -> bool {
        (sequence, part) < self.end()
    }
}

fn attribute<'a>(line: &'a str, name: &str) -> &'a str {
    let (_, attributes) = line.split_once(':').unwrap_or_default();
    let mut pairs = attributes.split(',').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map_or("", |(_, value)| value.trim_matches('"'))
}

#[tokio::test(flavor = "multi_thread")]
async fn playlists_say_what_the_server_can_do() -> Result<()> {
    let site = Site::start().await?;
    for (name, other) in [("p-video.m3u8", "p-audio.m3u8"), ("p-audio.m3u8", "p-video.m3u8")] {
        let playlist = site.playlist(name).await?;
        let control = format!("x:{}", playlist.tag("#EXT-X-SERVER-CONTROL"));
        let seconds = |name| attribute(&control, name).parse::<f64>();
        let target: f64 =
            attribute(&format!("x:{}", playlist.tag("#EXT-X-PART-INF")), "PART-TARGET").parse()?;
        let duration: f64 = playlist.tag("#EXT-X-TARGETDURATION").parse()?;
        assert_eq!(attribute(&control, "CAN-BLOCK-RELOAD"), "YES");
        assert!(seconds("PART-HOLD-BACK")? >= 3.0 * target);
        assert!(seconds("HOLD-BACK")? >= 3.0 * duration);
        assert!(seconds("CAN-SKIP-UNTIL")? >= 6.0 * duration);
        assert!(!control.contains("DATERANGES"));
        assert!(!playlist.tag("#EXT-X-PROGRAM-DATE-TIME").is_empty());
        let report = format!("x:{}", playlist.tag("#EXT-X-RENDITION-REPORT"));
        assert_eq!(attribute(&report, "URI"), other);
        let (sequence, part): (u64, u64) =
            (attribute(&report, "LAST-MSN").parse()?, attribute(&report, "LAST-PART").parse()?);
        let reported = site.playlist(&format!("{other}?_HLS_msn={sequence}&_HLS_part={part}")).await?;
        assert!(reported.has(sequence, part), "the report promises what is there");
    }
    site.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_blocks_until_the_part_or_the_segment_is_there() -> Result<()> {
    let site = Site::start().await?;
    for name in ["p-video.m3u8", "p-audio.m3u8"] {
        let (sequence, parts) = site.playlist(name).await?.end();
        let next = site.playlist(&format!("{name}?_HLS_msn={sequence}&_HLS_part={parts}")).await?;
        assert!(next.has(sequence, parts) || next.end().0 > sequence, "{}", next.text);
        assert!(next.end().0 <= sequence + 1, "not held back for longer than needed");
        let segment = site.playlist(&format!("{name}?_HLS_msn={}", sequence + 1)).await?;
        assert!(segment.end().0 > sequence + 1, "{}", segment.text);
        let stale = site.playlist(&format!("{name}?_HLS_msn=0&_HLS_part=99")).await?;
        assert!(stale.end() >= segment.end(), "who asks for what is past gets what is now");
        let head = head(site.address, &format!("{name}?_HLS_msn=0&_HLS_part=99")).await?;
        assert!(
            head.contains("\r\ncache-control: public, max-age=0, s-maxage=1\r\n"),
            "and not what was: {head}"
        );
    }
    site.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_make_no_sense_are_refused_at_once() -> Result<()> {
    let site = Site::start().await?;
    let (sequence, parts) = site.playlist("p-video.m3u8").await?.end();
    let refused = [
        "_HLS_part=1".to_owned(),
        "_HLS_msn=x".to_owned(),
        format!("_HLS_msn={}", sequence + 100),
        format!("_HLS_msn={sequence}&_HLS_part={}", parts + 100),
        "_HLS_skip=MAYBE".to_owned(),
    ];
    for query in refused {
        let (status, _) = site.get(&format!("p-video.m3u8?{query}")).await?;
        assert_eq!(status, 400, "{query}");
    }
    assert_eq!(
        site.get("p-video.m3u8?token=x&_HLS_unknown=1").await?.0,
        200,
        "others' parameters are theirs"
    );
    assert_eq!(site.get("q-video.m3u8?_HLS_msn=1").await?.0, 404);
    assert_eq!(site.get("video_p_p99999.m4s").await?.0, 404, "neither there nor announced");
    site.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announced_part_can_be_asked_for_before_it_is_there() -> Result<()> {
    let site = Site::start().await?;
    for name in ["p-video.m3u8", "p-audio.m3u8"] {
        // Across the boundary between two segments too.
        for _ in 0..15 {
            let playlist = site.playlist(name).await?;
            let hint = attribute(&format!("x:{}", playlist.tag("#EXT-X-PRELOAD-HINT")), "URI").to_owned();
            let (status, body) = site.get(&hint).await?;
            ensure!(status == 200, "{hint}: {status}");
            assert!(pictures(&body) > 0);
        }
    }
    site.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_is_the_concatenation_of_its_parts() -> Result<()> {
    let site = Site::start().await?;
    for name in ["p-video.m3u8", "p-audio.m3u8"] {
        let playlist = site.reload(name, 2).await?;
        let (uri, parts) = playlist.segments.iter().rev().nth(1).context("no segment")?;
        let uri = uri.as_ref().context("no complete segment")?;
        assert!(parts.len() >= 5, "{}", playlist.text);
        let mut joined = Vec::new();
        for part in parts {
            joined.extend(site.get(part).await?.1);
        }
        assert_eq!(joined, site.get(uri).await?.1, "{uri}");
    }
    site.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_update_and_what_was_known_make_the_whole_playlist() -> Result<()> {
    let site = Site::start().await?;
    let name = "p-video.m3u8";
    let mut known = BTreeMap::new();
    let mut note = |playlist: &Playlist, first: u64| {
        for (number, (uri, _)) in playlist.segments.iter().enumerate() {
            known.extend(uri.clone().map(|uri| (first + number as u64, uri)));
        }
    };
    site.reload(name, 4).await?;
    let early = site.playlist(&format!("{name}?_HLS_skip=YES")).await?;
    assert!(early.tag("#EXT-X-SKIP").is_empty(), "too short for a delta update");
    note(&early, early.first);
    let full = site.reload(name, 11).await?;
    assert!(full.tag("#EXT-X-SKIP").is_empty());
    for skip in ["YES", "v2"] {
        let delta = site.playlist(&format!("{name}?_HLS_msn=11&_HLS_skip={skip}")).await?;
        let skipped: u64 =
            attribute(&format!("x:{}", delta.tag("#EXT-X-SKIP")), "SKIPPED-SEGMENTS").parse()?;
        assert!(skipped > 0 && delta.text.contains("#EXT-X-VERSION:9\n"), "{}", delta.text);
        note(&delta, delta.first + skipped);
    }
    for (number, (uri, _)) in full.segments.iter().enumerate() {
        let Some(uri) = uri else { continue };
        assert_eq!(known.get(&(full.first + number as u64)), Some(uri));
    }
    site.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_listed_close_to_the_end_only_and_plain_players_find_whole_segments() -> Result<()> {
    let site = Site::start().await?;
    let playlist = site.reload("p-video.m3u8", 8).await?;
    let with_parts = playlist.segments.iter().filter(|(_, parts)| !parts.is_empty()).count();
    assert!(playlist.segments.len() >= 9 && (2..=3).contains(&with_parts), "{}", playlist.text);
    assert!(playlist.segments.first().is_some_and(|(_, parts)| parts.is_empty()));
    // What a player reads that knows RFC 8216 only.
    let plain: Vec<&str> = playlist.text.lines().filter(|line| line.starts_with("#EXTINF")).collect();
    assert_eq!(plain.len(), playlist.segments.len() - 1);
    for (uri, _) in &playlist.segments {
        let Some(uri) = uri else { continue };
        assert_eq!(site.get(uri).await?.0, 200, "{uri}");
    }
    site.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_players_wait_for_the_same_part() -> Result<()> {
    let site = Site::start().await?;
    let (sequence, _) = site.playlist("p-video.m3u8").await?.end();
    let path = format!("p-video.m3u8?_HLS_msn={}&_HLS_part=0", sequence + 1);
    let address = site.address;
    let players: Vec<_> = (0..500)
        .map(|_| {
            let path = path.clone();
            tokio::spawn(async move { (get(address, &path).await, Instant::now()) })
        })
        .collect();
    let mut answered = Vec::new();
    for player in players {
        let (answer, when) = player.await?;
        let (status, body) = answer?;
        ensure!(status == 200);
        assert!(Playlist::parse(String::from_utf8(body)?)?.has(sequence + 1, 0));
        answered.push(when);
    }
    let (first, last) = (answered.iter().min().context("none")?, answered.iter().max().context("none")?);
    eprintln!("500 players were answered within {:?}", last.saturating_duration_since(*first));
    site.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_answers_whoever_waits() -> Result<()> {
    let site = Site::start().await?;
    let (sequence, _) = site.playlist("p-audio.m3u8").await?.end();
    // The open segment may have no part yet: the one behind it is as far as can be waited for at all times.
    let path = format!("p-audio.m3u8?_HLS_msn={}&_HLS_part=0", sequence + 1);
    let waits = tokio::spawn({
        let address = site.address;
        async move { get(address, &path).await }
    });
    site.server.egress.end_peer(&"p".parse()?);
    let (status, body) = waits.await??;
    let text = String::from_utf8(body)?;
    assert!(status == 200 && text.ends_with("#EXT-X-ENDLIST\n"), "{status} {text}");
    assert!(!text.contains("PRELOAD-HINT"));
    drop(site.sources);
    site.workers.shutdown(PATIENCE).await;
    Ok(())
}
