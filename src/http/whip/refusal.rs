//! Why a request is refused, as HTTP tells it: a status, what goes with it, and a problem (RFC 9457).

use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{ACCEPT_PATCH, ACCEPT_POST, FRAGMENT, SDP};
use crate::live::access::Denied;
use crate::live::keys::KeyDenied;
use crate::live::whip::{PatchError, StartError};
use crate::live::{Explained, Fault, NotYours};
use crate::media::sdp::SdpError;

/// The longest text that a client is sent, in characters: it can quote what the client sent.
const MAX_TEXT_CHARS: usize = 300;
/// After how many seconds a client may ask again for a stream that is not live, or for a place.
const RETRY_SECS: &str = "2";
/// How the body of a refusal is called.
const PROBLEM: &str = "application/problem+json";

/// A refused request.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    text: String,
    header: Option<(HeaderName, &'static str)>,
}

impl Refusal {
    fn new(status: StatusCode, text: &impl ToString) -> Self {
        Self { status, text: text.to_string().chars().take(MAX_TEXT_CHARS).collect(), header: None }
    }

    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.header = Some((name, value));
        self
    }

    /// A request that makes no sense.
    pub(super) fn bad(text: &impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// Something that is not there.
    pub(super) fn not_found(text: &impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// A session that is not there.
    pub(super) fn no_session() -> Self {
        Self::not_found(&"there is no such session")
    }

    /// A body of another type than can be read here.
    pub(super) fn wrong_type(wanted: &'static str) -> Self {
        let accept = if wanted == SDP { ACCEPT_POST } else { ACCEPT_PATCH };
        let text = format!("the body has to be {wanted}");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, &text).with(accept, wanted)
    }

    /// A change of the ICE session that does not say which one it means (RFC 6585 section 3).
    pub(super) fn unconditional() -> Self {
        Self::new(StatusCode::PRECONDITION_REQUIRED, &"If-Match is needed").with(ACCEPT_PATCH, FRAGMENT)
    }
}

impl From<SdpError> for Refusal {
    fn from(error: SdpError) -> Self {
        let status = match error {
            SdpError::Unsupported(_) => StatusCode::UNPROCESSABLE_ENTITY,
            SdpError::TooLong | SdpError::Syntax(_) | SdpError::Missing(_) | SdpError::Parameters(_) => {
                StatusCode::BAD_REQUEST
            }
        };
        Self::new(status, &error)
    }
}

impl From<StartError> for Refusal {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Offer(error) => error.into(),
            StartError::Direction(_)
            | StartError::TooManySections
            | StartError::NoCodec(_)
            | StartError::NothingToPlay => Self::new(StatusCode::UNPROCESSABLE_ENTITY, &error),
            StartError::Taken | StartError::NotLive => {
                Self::new(StatusCode::CONFLICT, &error).with(header::RETRY_AFTER, RETRY_SECS)
            }
            StartError::Busy => Self::busy(&error),
            StartError::Join(error) => Self::of(&error),
            StartError::Introduce(error) => Self::of(&error),
            StartError::Transport(error) => Self::of(&error),
            StartError::Connect(error) => Self::of(&error),
            StartError::Produce(error) => Self::of(&error),
            StartError::Consume(error) => Self::of(&error),
            StartError::Control(error) => Self::of(&error),
        }
    }
}

impl From<PatchError> for Refusal {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::Fragment(error) => error.into(),
            PatchError::OtherSession => Self::new(StatusCode::PRECONDITION_FAILED, &error),
            PatchError::Restarting => Self::new(StatusCode::CONFLICT, &error),
            PatchError::Gone(error) => Self::of(&error),
        }
    }
}

impl Refusal {
    fn busy(text: &impl ToString) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text).with(header::RETRY_AFTER, RETRY_SECS)
    }

    fn of(error: &impl Explained) -> Self {
        match error.fault() {
            Fault::BadRequest => Self::bad(error),
            Fault::NotFound => Self::not_found(error),
            Fault::Already | Fault::NotReady => Self::new(StatusCode::CONFLICT, error),
            Fault::CannotConsume => Self::new(StatusCode::UNPROCESSABLE_ENTITY, error),
            Fault::Forbidden => Self::new(StatusCode::FORBIDDEN, error),
            Fault::Limit | Fault::Closed => Self::busy(error),
        }
    }
}

impl From<NotYours> for Refusal {
    fn from(_: NotYours) -> Self {
        Self::no_session()
    }
}

impl From<KeyDenied> for Refusal {
    fn from(denied: KeyDenied) -> Self {
        let challenge = match denied {
            KeyDenied::Missing => "Bearer",
            KeyDenied::Wrong => "Bearer error=\"invalid_token\"",
        };
        Self::new(StatusCode::UNAUTHORIZED, &denied).with(header::WWW_AUTHENTICATE, challenge)
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let (status, challenge) = match denied {
            Denied::Missing => (StatusCode::UNAUTHORIZED, "Bearer"),
            Denied::Invalid | Denied::Expired => (StatusCode::UNAUTHORIZED, "Bearer error=\"invalid_token\""),
            Denied::OutOfScope => (StatusCode::FORBIDDEN, "Bearer error=\"insufficient_scope\""),
        };
        Self::new(status, &denied).with(header::WWW_AUTHENTICATE, challenge)
    }
}

/// A body that is too large (413) or did not come whole.
impl From<BytesRejection> for Refusal {
    fn from(error: BytesRejection) -> Self {
        Self::new(error.status(), &error.body_text())
    }
}

impl From<PathRejection> for Refusal {
    fn from(error: PathRejection) -> Self {
        Self::new(error.status(), &error.body_text())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or_default();
        let problem = json!({ "title": title, "status": self.status.as_u16(), "detail": self.text });
        let headers = [(header::CONTENT_TYPE, PROBLEM), (header::CACHE_CONTROL, "no-store")];
        let mut response = (self.status, headers, problem.to_string()).into_response();
        let header = self.header.map(|(name, value)| (name, HeaderValue::from_static(value)));
        response.headers_mut().extend(header);
        response
    }
}
