//! One socket's incoming events: queued in order, within limits, and refused unread beyond them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::{AckSender, Event};
use socketioxide::handler::{FromMessageParts, MessageHandler, Value};
use socketioxide::socket::Socket;
use tokio::sync::mpsc;
use tracing::debug;

use super::rate::TokenBucket;
use super::refusal::{Code, Refusal};
use super::{Config, Counters};

/// How many events of one socket may wait to be handled.
const MAX_QUEUED_EVENTS: usize = 128;
/// How many of the largest messages one socket may have waiting to be handled.
const MAX_QUEUED_MESSAGES_IN_FULL: usize = 2;

/// One event as it came.
pub(super) struct Message {
    /// Its name.
    pub(super) event: String,
    /// Its JSON text: an array with the name first.
    pub(super) text: String,
    /// How to answer.
    pub(super) answer: Answer,
    _held: Held,
}

/// The way back to the sender of one event, which may not have asked for an answer.
pub(super) struct Answer {
    ack: AckSender,
    wanted: bool,
}

impl Answer {
    /// Whether the sender wants an answer.
    pub(super) fn wanted(&self) -> bool {
        self.wanted
    }

    /// Sends the answer. An error means that the client does not take what is sent to it.
    pub(super) fn send(self, value: &serde_json::Value) -> Result<(), socketioxide::SendError> {
        self.ack.send(value)
    }
}

/// Where a socket's events go in.
pub(super) struct Inbox {
    queue: mpsc::Sender<Message>,
    rate: Mutex<TokenBucket>,
    queued_bytes: Arc<AtomicUsize>,
    max_queued_bytes: usize,
    counters: Arc<Counters>,
}

/// Names this handler's way to take arguments, for the trait's sake.
pub(super) struct Whole;

impl Inbox {
    /// An inbox, and where its messages come out.
    pub(super) fn new(config: &Config, counters: Arc<Counters>) -> (Self, mpsc::Receiver<Message>) {
        let (queue, messages) = mpsc::channel(MAX_QUEUED_EVENTS);
        let inbox = Self {
            queue,
            rate: Mutex::new(TokenBucket::new(Instant::now(), config.events_per_second)),
            queued_bytes: Arc::default(),
            max_queued_bytes: config.max_message_bytes.saturating_mul(MAX_QUEUED_MESSAGES_IN_FULL),
            counters,
        };
        (inbox, messages)
    }

    fn admit(&self, event: &str, text: &str) -> Result<Held, &'static str> {
        let in_rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
        if !in_rate {
            return Err("too many events: slow down");
        }
        let bytes = text.len() + event.len();
        let total = &self.queued_bytes;
        let fits = |queued: usize| queued.checked_add(bytes).filter(|sum| *sum <= self.max_queued_bytes);
        total
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .map(|_| Held { bytes, total: Arc::clone(total) })
            .map_err(|_| "too much is waiting to be handled: slow down")
    }
}

impl MessageHandler<LocalAdapter, Whole> for Inbox {
    fn call(&self, socket: Arc<Socket>, mut value: Value, ack_id: Option<i64>) {
        Counters::count(&self.counters.events);
        let Ok(ack) = AckSender::from_message_parts(&socket, &mut value, &ack_id);
        let answer = Answer { ack, wanted: ack_id.is_some() };
        let event = Event::from_message_parts(&socket, &mut value, &ack_id).map(|event| event.0);
        let (Ok(event), Value::Str(text, _)) = (event, value) else {
            return self.refuse(&socket, answer, "not an event");
        };
        match self.admit(&event, &text) {
            Err(why) => {
                Counters::count(&self.counters.rate_limited);
                self.refuse(&socket, answer, why);
            }
            Ok(held) => {
                let message = Message { event, text: text.as_str().to_owned(), answer, _held: held };
                if let Err(mpsc::error::TrySendError::Full(message)) = self.queue.try_send(message) {
                    Counters::count(&self.counters.rate_limited);
                    self.refuse(
                        &socket,
                        message.answer,
                        "too many events are waiting to be handled: slow down",
                    );
                }
            }
        }
    }
}

impl Inbox {
    fn refuse(&self, socket: &Socket, answer: Answer, why: &str) {
        Counters::count(&self.counters.refused);
        debug!(peer = %socket.id, why, "event refused");
        if answer.wanted() {
            // A client that floods and does not read loses its answers.
            drop(answer.send(&Refusal::new(Code::SlowDown, &why).to_value()));
        }
    }
}

/// Bytes that count against a socket's limit until this is dropped.
struct Held {
    bytes: usize,
    total: Arc<AtomicUsize>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
