//! Why a request is refused, as HTTP tells it: a status, a text for people and a code for programs.

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::live::{Explained, Fault};

/// The longest error text that a client is sent, in characters: such a text can quote what the client sent.
const MAX_ERROR_CHARS: usize = 300;

/// A refused request.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    text: String,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, text: &impl ToString) -> Self {
        Self { status, code, text: text.to_string().chars().take(MAX_ERROR_CHARS).collect() }
    }

    /// A request that makes no sense.
    pub(super) fn bad(text: &impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", text)
    }

    /// Something that is not there.
    pub(super) fn not_found(text: &impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", text)
    }

    /// A request that did not show what it has to.
    pub(super) fn unauthorized(text: &impl ToString) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "forbidden", text)
    }
}

impl<E: Explained> From<E> for Refusal {
    fn from(error: E) -> Self {
        let (status, code) = match error.fault() {
            Fault::BadRequest => (StatusCode::BAD_REQUEST, "bad-request"),
            Fault::NotFound => (StatusCode::NOT_FOUND, "not-found"),
            Fault::Already => (StatusCode::CONFLICT, "already"),
            Fault::NotReady => (StatusCode::CONFLICT, "not-ready"),
            Fault::Limit => (StatusCode::CONFLICT, "limit"),
            Fault::CannotConsume => (StatusCode::CONFLICT, "cannot-consume"),
            Fault::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
            Fault::Closed => (StatusCode::SERVICE_UNAVAILABLE, "closed"),
        };
        Self::new(status, code, &error)
    }
}

/// A body that is too large (413) or did not come whole.
impl From<BytesRejection> for Refusal {
    fn from(error: BytesRejection) -> Self {
        Self::new(error.status(), "bad-request", &error.body_text())
    }
}

impl From<PathRejection> for Refusal {
    fn from(error: PathRejection) -> Self {
        Self::new(error.status(), "bad-request", &error.body_text())
    }
}

impl From<QueryRejection> for Refusal {
    fn from(error: QueryRejection) -> Self {
        Self::new(error.status(), "bad-request", &error.body_text())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.text, "code": self.code }))).into_response()
    }
}
