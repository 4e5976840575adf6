//! Why a request is refused, as every dialect tells it: a text for people and a code for programs.

use serde_json::{Value, json};

use crate::live;
use crate::sfu::{api, data};
use crate::worker::RequestError;

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

/// The code of what a worker refused, or did not even read because it is shut down.
fn media<E>(error: &RequestError<E>, code: impl FnOnce(&E) -> Code) -> Code {
    match error {
        RequestError::Closed => Code::Closed,
        RequestError::Failed(error) => code(error),
    }
}

/// Gives each error type of `live` its code, and its own text.
macro_rules! refusals {
    ($($error:ty: $code:expr),+ $(,)?) => {$(
        impl From<$error> for Refusal {
            fn from(error: $error) -> Self {
                let code: fn(&$error) -> Code = $code;
                Self::new(code(&error), &error)
            }
        }
    )+};
}

refusals! {
    live::NotYours: |_| Code::NotFound,
    live::PeerGone: |_| Code::Closed,
    live::JoinError: |error| match error {
        live::JoinError::Full(_) | live::JoinError::TooManyRooms(_) => Code::Limit,
        live::JoinError::NameTaken => Code::Already,
        live::JoinError::Closed => Code::Closed,
        live::JoinError::Media(error) => media(error, |_| Code::Limit),
    },
    live::IntroduceError: |error| match error {
        live::IntroduceError::Gone(_) => Code::Closed,
        live::IntroduceError::NameTooLong(_) | live::IntroduceError::DeviceTooLong(_) => Code::Limit,
    },
    live::CreateTransportError: |error| match error {
        live::CreateTransportError::Gone(_) => Code::Closed,
        live::CreateTransportError::Full(_) => Code::Limit,
        live::CreateTransportError::Media(error) => media(error, |_| Code::Limit),
    },
    live::ConnectTransportError: |error| match error {
        live::ConnectTransportError::NotFound(_) => Code::NotFound,
        live::ConnectTransportError::Media(error) => media(error, |error| match error {
            api::ConnectTransportError::NotFound(_) => Code::NotFound,
            api::ConnectTransportError::AlreadyConnected => Code::Already,
            _ => Code::BadRequest,
        }),
    },
    live::ProduceError: |error| match error {
        live::ProduceError::NoTransport => Code::NotReady,
        live::ProduceError::NotFound(_) => Code::NotFound,
        live::ProduceError::Full(_) => Code::Limit,
        live::ProduceError::Closed => Code::Closed,
        live::ProduceError::Media(error) => media(error, |error| match error {
            api::ProduceError::NotFound(_) => Code::NotFound,
            api::ProduceError::Full(_) => Code::Limit,
            api::ProduceError::Parameters(_) => Code::BadRequest,
        }),
    },
    live::ConsumeError: |error| match error {
        live::ConsumeError::NoTransport => Code::NotReady,
        live::ConsumeError::NotFound(_) => Code::NotFound,
        live::ConsumeError::Full(_) => Code::Limit,
        live::ConsumeError::Closed => Code::Closed,
        live::ConsumeError::Media(error) => media(error, |error| match error {
            api::ConsumeError::NotFound(_) => Code::NotFound,
            api::ConsumeError::Full(_) => Code::Limit,
            api::ConsumeError::Capabilities(_) => Code::CannotConsume,
        }),
    },
    live::ProduceDataError: |error| match error {
        live::ProduceDataError::NotFound(_) => Code::NotFound,
        live::ProduceDataError::Full(_) => Code::Limit,
        live::ProduceDataError::Closed => Code::Closed,
        live::ProduceDataError::Media(error) => media(error, |error| match error {
            data::ProduceDataError::NotFound(_) => Code::NotFound,
            data::ProduceDataError::NoSctp => Code::NotReady,
            data::ProduceDataError::Parameters(_) => Code::BadRequest,
            data::ProduceDataError::NameTooLong | data::ProduceDataError::Full(_) => Code::Limit,
        }),
    },
    live::ControlError: |error| match error {
        live::ControlError::NotFound(_) | live::ControlError::NoneOfKind(_) => Code::NotFound,
        live::ControlError::Media(error) => media(error, |_| Code::NotFound),
    },
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
        let closed = live::ProduceError::Media(RequestError::Closed);
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
