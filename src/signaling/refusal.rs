//! Why a request is refused, as every dialect tells it: a text for people and a code for programs.

use serde_json::{Value, json};

use crate::live::{self, Fault};

/// The longest error text that a client is sent, in characters: such a text can quote what the client sent.
const MAX_ERROR_CHARS: usize = 300;

/// What kind of refusal it is. The texts are part of the wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    /// The request makes no sense: a missing field, a wrong type, parameters that contradict each other.
    BadRequest,
    /// The dialect has no such event.
    UnknownEvent,
    /// What the request is about is not there, or not the client's.
    NotFound,
    /// It has been done before and can be done only once.
    Already,
    /// The client has to join first, or make a transport first.
    NotReady,
    /// There are as many as there may be.
    Limit,
    /// The client can't receive what the producer sends.
    CannotConsume,
    /// The client may not do this here.
    Forbidden,
    /// The client sends too much at once.
    SlowDown,
    /// The room or the server ends.
    Closed,
}

impl Code {
    fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::UnknownEvent => "unknown-event",
            Self::NotFound => "not-found",
            Self::Already => "already",
            Self::NotReady => "not-ready",
            Self::Limit => "limit",
            Self::CannotConsume => "cannot-consume",
            Self::Forbidden => "forbidden",
            Self::SlowDown => "slow-down",
            Self::Closed => "closed",
        }
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) text: String,
}

impl Refusal {
    /// A refusal; a text that is too long to send back is cut.
    pub(super) fn new(code: Code, text: &impl ToString) -> Self {
        Self { code, text: shorten(&text.to_string()) }
    }

    /// A request that makes no sense.
    pub(super) fn bad(text: &impl ToString) -> Self {
        Self::new(Code::BadRequest, text)
    }

    /// An event that the dialect does not have.
    pub(super) fn unknown(event: &str) -> Self {
        Self::new(Code::UnknownEvent, &format!("unknown event {event:?}"))
    }

    /// How it reads on the wire.
    pub(super) fn to_value(&self) -> Value {
        json!({ "error": self.text, "code": self.code.as_str() })
    }
}

/// `text` without what is too long to send back or to log.
pub(super) fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_ERROR_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Each refusal of `live` keeps its text; what kind it is decides the code.
impl<E: live::Explained> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::new(error.fault().into(), &error)
    }
}

impl From<Fault> for Code {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::BadRequest => Self::BadRequest,
            Fault::NotFound => Self::NotFound,
            Fault::Already => Self::Already,
            Fault::NotReady => Self::NotReady,
            Fault::Limit => Self::Limit,
            Fault::CannotConsume => Self::CannotConsume,
            Fault::Forbidden => Self::Forbidden,
            Fault::Closed => Self::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_a_text_for_people_and_a_code_for_programs() {
        let full = Refusal::from(live::JoinError::Full(3));
        assert_eq!(
            full.to_value(),
            json!({"error": "the room is full: the limit is 3 peers", "code": "limit"})
        );
        let closed = live::ProduceError::Closed;
        assert_eq!(Refusal::from(closed).code, Code::Closed);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = "é".repeat(MAX_ERROR_CHARS + 1);
        let short = Refusal::unknown(&long).text;
        assert_eq!(short.chars().count(), MAX_ERROR_CHARS + 1);
        assert!(short.ends_with('…'));
        assert_eq!(shorten("é"), "é");
    }
}
