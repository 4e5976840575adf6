//! A Socket.IO 5 client over one WebSocket (Engine.IO 4): events both ways and acknowledgements.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::PATIENCE;

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Engine.IO's heartbeat: the server pings.
const PING: &str = "2";
const PONG: &str = "3";
/// Messages that may wait to be sent.
const MAX_OUTBOX: usize = 256;

/// A connection to a namespace. What the server asks to be acknowledged is acknowledged at once.
pub(crate) struct SocketIo {
    /// The socket id that the server gave.
    pub(crate) id: String,
    /// What a packet's type is followed by: nothing on the default namespace, else its name and a comma.
    namespace: String,
    outbox: mpsc::Sender<Message>,
    shared: Arc<Shared>,
    next_ack: AtomicU64,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct Inbox {
    events: Vec<(String, Value)>,
    acks: HashMap<u64, oneshot::Sender<Value>>,
    closed: bool,
}

impl Shared {
    fn update<T>(&self, change: impl FnOnce(&mut Inbox) -> T) -> T {
        let result = change(&mut self.inbox.lock().expect("no holder of the lock panics"));
        self.version.send_modify(|version| *version += 1);
        result
    }
}

impl SocketIo {
    /// Opens a WebSocket, does both handshakes and joins the default namespace.
    pub(crate) async fn connect(server: SocketAddr) -> Result<Self> {
        Self::connect_to(server, "", "").await
    }

    /// Like [`Self::connect`], to a namespace, as `"/rooms,"`, with a payload.
    pub(crate) async fn connect_to(server: SocketAddr, namespace: &str, auth: &str) -> Result<Self> {
        let url = format!("ws://{server}/socket.io/?EIO=4&transport=websocket");
        // Without the delay that would wait for a fuller packet: every request is a small one.
        let (mut stream, _) = timeout(PATIENCE, connect_async_with_config(url, None, true)).await??;
        let open = next_text(&mut stream).await?;
        let open = open.strip_prefix('0').with_context(|| format!("no Engine.IO open packet: {open}"))?;
        serde_json::from_str::<Value>(open)?.get("pingInterval").context("an Engine.IO open packet")?;
        stream.send(Message::text(format!("40{namespace}{auth}"))).await?;
        let joined = next_text(&mut stream).await?;
        let welcome = format!("40{namespace}");
        let joined = joined.strip_prefix(&welcome).with_context(|| format!("not let in: {joined}"))?;
        let joined: Value = serde_json::from_str(joined)?;
        let id = joined.get("sid").and_then(Value::as_str).context("a socket id")?.to_owned();
        let shared = Arc::new(Shared::default());
        let (outbox, queue) = mpsc::channel(MAX_OUTBOX);
        let task = tokio::spawn(serve(stream, queue, Arc::clone(&shared)));
        Ok(Self { id, namespace: namespace.to_owned(), outbox, shared, next_ack: AtomicU64::new(0), task })
    }

    /// Sends an event with any number of arguments and waits for what the server acknowledges it with.
    pub(crate) async fn call_with(&self, event: &str, arguments: &[Value]) -> Result<Value> {
        let id = self.next_ack.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.shared.update(|inbox| inbox.acks.insert(id, sender));
        self.send_text(format!("42{}{id}{}", self.namespace, packet(event, arguments))).await?;
        let answer = timeout(PATIENCE, receiver).await.with_context(|| format!("no answer to {event}"))?;
        answer.with_context(|| format!("the connection ended before {event} was answered"))
    }

    /// Sends an event with one argument and waits for the acknowledgement.
    pub(crate) async fn call(&self, event: &str, argument: Value) -> Result<Value> {
        self.call_with(event, &[argument]).await
    }

    /// Like [`Self::call`], for a call that has to succeed.
    pub(crate) async fn request(&self, event: &str, argument: Value) -> Result<Value> {
        let answer = self.call(event, argument).await?;
        match answer.get("error") {
            Some(error) => bail!("{event}: {error}"),
            None => Ok(answer),
        }
    }

    /// Like [`Self::call`], for a call that has to fail; gives the error text.
    pub(crate) async fn refused(&self, event: &str, argument: Value) -> Result<String> {
        let answer = self.call(event, argument).await?;
        let error = answer.get("error").and_then(Value::as_str);
        Ok(error.with_context(|| format!("{event} was not refused: {answer}"))?.to_owned())
    }

    /// Sends an event that is not acknowledged.
    pub(crate) async fn emit(&self, event: &str, argument: Value) -> Result<()> {
        self.send_text(format!("42{}{}", self.namespace, packet(event, &[argument]))).await
    }

    /// Sends an Engine.IO packet as it is.
    pub(crate) async fn send_text(&self, text: String) -> Result<()> {
        self.outbox.send(Message::text(text)).await.map_err(|_| anyhow!("the connection has ended"))
    }

    /// Waits for an event, now or in the past, that `wanted` accepts.
    pub(crate) async fn wait(&self, event: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let found = self.wait_inbox(|inbox| {
            let mut events = inbox.events.iter();
            events.find(|(name, data)| name == event && wanted(data)).map(|(_, data)| data.clone())
        });
        found.await.with_context(|| format!("waiting for {event}; came: {:?}", self.log()))
    }

    /// Waits until the server has closed the connection.
    pub(crate) async fn wait_closed(&self) -> Result<()> {
        self.wait_inbox(|inbox| inbox.closed.then_some(())).await
    }

    async fn wait_inbox<T>(&self, ready: impl Fn(&Inbox) -> Option<T>) -> Result<T> {
        let mut version = self.shared.version.subscribe();
        let search = async {
            loop {
                if let Some(found) = ready(&self.shared.inbox.lock().expect("no holder of the lock panics")) {
                    return Ok(found);
                }
                version.changed().await?;
            }
        };
        timeout(PATIENCE, search).await?
    }

    /// All events of a name that came so far.
    pub(crate) fn events(&self, event: &str) -> Vec<Value> {
        self.log().into_iter().filter(|(name, _)| name == event).map(|(_, data)| data).collect()
    }

    fn log(&self) -> Vec<(String, Value)> {
        self.shared.inbox.lock().expect("no holder of the lock panics").events.clone()
    }

    /// Cuts the TCP connection without a closing handshake.
    pub(crate) fn vanish(&self) {
        self.task.abort();
    }
}

impl Drop for SocketIo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn packet(event: &str, arguments: &[Value]) -> Value {
    std::iter::once(json!(event)).chain(arguments.iter().cloned()).collect()
}

/// The next packet of a handshake; a ping in between is answered.
async fn next_text(stream: &mut Stream) -> Result<String> {
    loop {
        match timeout(PATIENCE, stream.next()).await? {
            Some(Ok(Message::Text(text))) if text == PING => stream.send(Message::text(PONG)).await?,
            Some(Ok(Message::Text(text))) => return Ok(text.to_string()),
            other => bail!("expected a text message, got {other:?}"),
        }
    }
}

async fn serve(mut stream: Stream, mut queue: mpsc::Receiver<Message>, shared: Arc<Shared>) {
    loop {
        tokio::select! {
            message = stream.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    if let Some(reply) = receive(&text, &shared)
                        && stream.send(Message::text(reply)).await.is_err()
                    {
                        break;
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            },
            message = queue.recv() => match message {
                Some(message) => {
                    if stream.send(message).await.is_err() {
                        break;
                    }
                }
                None => break,
            },
        }
    }
    shared.update(|inbox| {
        inbox.closed = true;
        inbox.acks.clear();
    });
}

/// Takes an Engine.IO packet in and gives the one to answer with, if any.
fn receive(text: &str, shared: &Shared) -> Option<String> {
    if text == PING {
        return Some(PONG.to_owned());
    }
    if text == "1" || text.starts_with("41") {
        shared.update(|inbox| inbox.closed = true);
        return None;
    }
    let (kind, body) = text.split_at_checked(2)?;
    let start = body.find('[')?;
    let (head, body) = body.split_at_checked(start)?;
    let id = head.rsplit(',').next().unwrap_or_default();
    let body: Vec<Value> = serde_json::from_str(body).ok()?;
    match kind {
        "42" => {
            let name = body.first()?.as_str()?.to_owned();
            let data = body.get(1).cloned().unwrap_or(Value::Null);
            shared.update(|inbox| inbox.events.push((name, data)));
            if !id.is_empty() {
                return Some(format!("43{head}[]"));
            }
        }
        "43" => {
            let waiting = shared.update(|inbox| inbox.acks.remove(&id.parse().ok()?))?;
            // Whoever waited may have given up.
            drop(waiting.send(body.into_iter().next().unwrap_or(Value::Null)));
        }
        _ => {}
    }
    None
}
