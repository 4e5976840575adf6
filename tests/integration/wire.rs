//! Golden transcripts: what goes over Socket.IO, packet by packet, as `tests/wire/` holds it.
//!
//! A transcript is a dialogue. `anna> …` is a packet that Anna's client sends, `anna< …` the next one that it gets, and
//! `anna~ …` one of those that it gets in whatever order. A line that begins with a blank goes on with the one above.
//! In what is received, the string `<name>` takes a value that later lines mean by the same name, and `<*>` is any value.
//! `! path …` says where the clients connect if that is not `/socket.io/`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::PATIENCE;
use crate::support::server::Server;

const ANYTHING: &str = "<*>";

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Names = HashMap<String, Value>;

/// One line of a transcript.
#[derive(Debug, PartialEq)]
struct Line {
    number: usize,
    who: String,
    what: What,
}

#[derive(Debug, PartialEq)]
enum What {
    Sends(String),
    Gets(String),
    GetsSometime(String),
}

fn parse(text: &str) -> Result<Vec<Line>> {
    let mut lines: Vec<Line> = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let number = index + 1;
        if raw.is_empty() || raw.starts_with(['#', '!']) {
            continue;
        }
        if raw.starts_with(' ') {
            let line = lines.last_mut().with_context(|| format!("line {number} goes on with nothing"))?;
            let (What::Sends(packet) | What::Gets(packet) | What::GetsSometime(packet)) = &mut line.what;
            packet.push_str(raw.trim());
            continue;
        }
        let at = raw.find(['>', '<', '~']).with_context(|| format!("line {number} has no direction"))?;
        let (who, rest) = raw.split_at(at);
        let packet = rest.get(1..).unwrap_or_default().trim().to_owned();
        let what = match rest.as_bytes()[0] {
            b'>' => What::Sends(packet),
            b'<' => What::Gets(packet),
            _ => What::GetsSometime(packet),
        };
        lines.push(Line { number, who: who.trim().to_owned(), what });
    }
    Ok(lines)
}

/// Splits a packet into its type, namespace and acknowledgement number, and its JSON.
fn split(packet: &str) -> Result<(&str, Value)> {
    let at = packet.find(['[', '{', '"']).unwrap_or(packet.len());
    let (head, json) = packet.split_at(at);
    let value = if json.is_empty() { Value::Null } else { serde_json::from_str(json)? };
    Ok((head, value))
}

/// Whether `got` is what `expected` describes. Names are bound only if all of it is.
fn fits(expected: &str, got: &str, names: &mut Names) -> Result<bool> {
    let (expected_head, expected) = split(expected).with_context(|| format!("the transcript: {expected}"))?;
    let (head, got) = split(got).with_context(|| format!("the server: {got}"))?;
    let mut bound = names.clone();
    let all = expected_head == head && value_fits(&expected, &got, &mut bound);
    if all {
        *names = bound;
    }
    Ok(all)
}

fn value_fits(expected: &Value, got: &Value, names: &mut Names) -> bool {
    match (expected, got) {
        (Value::String(text), _) if text == ANYTHING => true,
        (Value::String(text), _) if text.starts_with('<') && text.ends_with('>') => {
            names.entry(text.clone()).or_insert_with(|| got.clone()) == got
        }
        (Value::Array(expected), Value::Array(got)) => {
            expected.len() == got.len()
                && expected.iter().zip(got).all(|(expected, got)| value_fits(expected, got, names))
        }
        (Value::Object(expected), Value::Object(got)) => {
            expected.len() == got.len()
                && expected
                    .iter()
                    .all(|(key, expected)| got.get(key).is_some_and(|got| value_fits(expected, got, names)))
        }
        _ => expected == got,
    }
}

fn fill_in(packet: &str, names: &Names) -> String {
    names.iter().fold(packet.to_owned(), |packet, (name, value)| {
        packet.replace(&format!("\"{name}\""), &value.to_string())
    })
}

/// One transcript being played.
struct Play<'a> {
    server: &'a Server,
    /// Where the clients connect.
    path: &'a str,
    sockets: HashMap<String, Socket>,
    names: Names,
    /// What each one shall get in whatever order.
    pending: HashMap<String, Vec<String>>,
}

impl Play<'_> {
    async fn line(&mut self, line: &Line) -> Result<()> {
        if !matches!(line.what, What::GetsSometime(_)) {
            self.settle(&line.who).await?;
        }
        match &line.what {
            What::Sends(packet) => {
                let packet = fill_in(packet, &self.names);
                self.socket(&line.who).await?.send(Message::text(packet)).await?;
            }
            What::Gets(expected) => {
                let got = self.next(&line.who).await?;
                ensure!(fits(expected, &got, &mut self.names)?, "\nexpected {expected}\ngot      {got}");
            }
            What::GetsSometime(expected) => {
                self.pending.entry(line.who.clone()).or_default().push(expected.clone());
            }
        }
        Ok(())
    }

    /// Waits for everything that `who` shall get in whatever order.
    async fn settle(&mut self, who: &str) -> Result<()> {
        let mut wanted = self.pending.remove(who).unwrap_or_default();
        while !wanted.is_empty() {
            let got = self.next(who).await?;
            let mut found = None;
            for (at, expected) in wanted.iter().enumerate() {
                if fits(expected, &got, &mut self.names)? {
                    found = Some(at);
                    break;
                }
            }
            let Some(at) = found else { bail!("\nexpected one of {wanted:#?}\ngot {got}") };
            wanted.remove(at);
        }
        Ok(())
    }

    async fn socket(&mut self, who: &str) -> Result<&mut Socket> {
        if !self.sockets.contains_key(who) {
            let url = format!("ws://{}{}?EIO=4&transport=websocket", self.server.address, self.path);
            let (socket, _) = timeout(PATIENCE, connect_async(url)).await??;
            self.sockets.insert(who.to_owned(), socket);
        }
        self.sockets.get_mut(who).context("a socket that was just opened")
    }

    /// The next packet for `who` that is no ping.
    async fn next(&mut self, who: &str) -> Result<String> {
        let socket = self.socket(who).await?;
        loop {
            let message = timeout(PATIENCE, socket.next()).await.context("nothing came")?;
            match message.context("the socket was closed")?? {
                Message::Text(text) if text.as_str() == "2" => socket.send(Message::text("3")).await?,
                Message::Text(text) => return Ok(text.to_string()),
                Message::Ping(_) | Message::Pong(_) => {}
                other => bail!("{other:?} came"),
            }
        }
    }
}

async fn play(path: &Path) -> Result<()> {
    let text = fs::read_to_string(path)?;
    let lines = parse(&text)?;
    let socket_path = text.lines().find_map(|line| line.strip_prefix("! path ")).unwrap_or("/socket.io/");
    let server = Server::start().await?;
    let (names, pending) = (Names::new(), HashMap::new());
    let mut play = Play { server: &server, path: socket_path, sockets: HashMap::new(), names, pending };
    for line in &lines {
        play.line(line).await.with_context(|| format!("{}:{}", path.display(), line.number))?;
    }
    let waiting: Vec<String> = play.pending.keys().cloned().collect();
    for who in waiting {
        play.settle(&who).await.with_context(|| format!("{}: at the end", path.display()))?;
    }
    drop(play);
    server.shutdown().await;
    Ok(())
}

/// Plays every transcript of a dialect, of which there are at least so many.
async fn play_all(dialect: &str, at_least: usize) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire").join(dialect);
    let mut found = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    found.sort();
    ensure!(found.len() >= at_least, "only {} transcripts of {dialect}", found.len());
    for path in found {
        play(&path).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_room_dialect_is_what_its_transcripts_say() -> Result<()> {
    play_all("room", 4).await
}

#[tokio::test]
async fn the_rooms_dialect_is_what_its_transcripts_say() -> Result<()> {
    play_all("rooms", 3).await
}

#[tokio::test]
async fn the_tutorials_dialects_are_what_their_transcripts_say() -> Result<()> {
    for dialect in ["video_rooms", "sample_app", "tutorial", "mediasoup_hls"] {
        play_all(dialect, 1).await?;
    }
    Ok(())
}

#[test]
fn a_transcript_that_is_not_kept_is_noticed() -> Result<()> {
    let mut names = Names::new();
    assert!(fits(r#"42["x",{"a":"<one>","b":"<*>"}]"#, r#"42["x",{"b":[1],"a":7}]"#, &mut names)?);
    assert_eq!(fill_in(r#"{"a":"<one>"}"#, &names), r#"{"a":7}"#);
    for (expected, got) in [
        (r#"42["x",{"a":"<one>"}]"#, r#"42["x",{"a":8}]"#),
        (r#"42["x",{"a":"<one>"}]"#, r#"42["x",{"a":7,"more":1}]"#),
        (r#"42["x",{"a":7,"b":1}]"#, r#"42["x",{"a":7}]"#),
        (r#"421["x"]"#, r#"422["x"]"#),
        (r#"42["x"]"#, r#"42["x",null]"#),
        (r#"42["x",1]"#, r#"42["x","1"]"#),
    ] {
        assert!(!fits(expected, got, &mut names)?, "{expected} is not {got}");
    }
    Ok(())
}
