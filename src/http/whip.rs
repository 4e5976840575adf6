//! `/whip/…` and `/whep/…`: publishing and playing with one SDP offer (RFC 9725, draft-ietf-wish-whep-03).
//!
//! Each request shows a token: a publisher its stream's key, a player what it would watch HLS with. Then it is one call
//! of [`Sessions`] and back. What is refused is told as a problem (RFC 9457).

mod refusal;

use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use crate::ids::{PeerId, SessionId};
use crate::live::access::{Access, Purpose};
use crate::live::ice_servers::IceServer;
use crate::live::keys::Grant;
use crate::live::whip::{Condition, Patched, Role, Session, Sessions, Started};
use refusal::Refusal;

/// What an offer is sent as.
const SDP: &str = "application/sdp";
/// What ICE information by itself is sent as.
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// Tells what can be sent by POST (Linked Data Platform 1.0 section 7.1), and by PATCH (RFC 5789 section 3.1).
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

type Body = Result<Bytes, BytesRejection>;
type Names<T> = Result<Path<T>, PathRejection>;

/// What the routes stand on.
#[derive(Clone)]
struct Whip {
    sessions: Sessions,
    /// Who may play; none if everybody may.
    access: Option<Arc<Access>>,
}

/// The routes.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(
    sessions: Sessions,
    access: Option<Arc<Access>>,
) -> Router<S> {
    let session = || get(nothing).patch(patch).delete(end);
    Router::new()
        .route("/whip/{stream}", post(publish).get(nothing))
        .route("/whep/{stream}", post(play).get(endpoint))
        .route("/whip/{stream}/{session}", session())
        .route("/whep/{stream}/{session}", session())
        .with_state(Whip { sessions, access })
}

/// Tells whoever asks for the options of these routes what can be sent there. What else preflights need is said for all
/// routes.
pub(super) async fn tell_accepted(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_asked =
        request.method() == Method::OPTIONS && (path.starts_with("/whip/") || path.starts_with("/whep/"));
    let mut response = next.run(request).await;
    if is_asked {
        response.headers_mut().insert(ACCEPT_POST, HeaderValue::from_static(SDP));
    }
    response
}

/// There is nothing to be had by GET.
async fn nothing() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Players find out by HEAD that a URL is one of WHEP.
async fn endpoint() -> Response {
    [(header::CONTENT_TYPE, SDP)].into_response()
}

/// A token in the URL, for clients that can't set headers.
#[derive(Debug, Default, Deserialize)]
struct InQuery {
    token: Option<String>,
}

/// The token of a request.
struct Token(Option<String>);

impl Token {
    fn read(headers: &HeaderMap, query: InQuery) -> Self {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = shown.and_then(|value| value.split_once(' '));
        let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        Self(bearer.map(|(_, token)| token.trim().to_owned()).or(query.token))
    }

    fn shown(&self) -> Option<&str> {
        self.0.as_deref().filter(|token| !token.is_empty())
    }
}

impl Whip {
    async fn may_publish(&self, stream: &PeerId, token: &Token) -> Result<Grant, Refusal> {
        Ok(self.sessions.check_key(stream, token.shown()).await?)
    }

    fn may_play(&self, stream: &PeerId, token: &Token, purpose: Purpose) -> Result<(), Refusal> {
        let Some(access) = &self.access else { return Ok(()) };
        Ok(access.check(token.shown(), Some(stream), purpose, SystemTime::now())?)
    }

    /// The session that a request is for, if who asks may change it.
    async fn session(
        &self,
        role: Role,
        names: Names<(String, String)>,
        token: &Token,
    ) -> Result<Session, Refusal> {
        let Path((stream, session)) = names?;
        let stream = stream_name(&stream)?;
        match role {
            Role::Publish => drop(self.may_publish(&stream, token).await?),
            Role::Play => self.may_play(&stream, token, Purpose::GoOn)?,
        }
        let session: SessionId = session.parse().map_err(|_| Refusal::no_session())?;
        Ok(self.sessions.find(role, &stream, session)?)
    }
}

/// A name that can't be one is that of no stream.
fn stream_name(name: &str) -> Result<PeerId, Refusal> {
    name.parse().map_err(|error| Refusal::not_found(&error))
}

async fn publish(
    State(whip): State<Whip>,
    names: Names<String>,
    Query(query): Query<InQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let Path(stream) = names?;
    let stream = stream_name(&stream)?;
    let grant = whip.may_publish(&stream, &Token::read(&headers, query)).await?;
    let offer = text(&headers, SDP, body)?;
    let started = whip.sessions.publish(&stream, grant, &offer).await?;
    created("whip", &stream, started)
}

async fn play(
    State(whip): State<Whip>,
    names: Names<String>,
    Query(query): Query<InQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let Path(stream) = names?;
    let stream = stream_name(&stream)?;
    whip.may_play(&stream, &Token::read(&headers, query), Purpose::Begin)?;
    let offer = text(&headers, SDP, body)?;
    let started = whip.sessions.play(&stream, &offer).await?;
    created("whep", &stream, started)
}

/// Which of the two a session's URL belongs to.
fn role(request: &axum::http::Uri) -> Role {
    if request.path().starts_with("/whip/") { Role::Publish } else { Role::Play }
}

async fn patch(
    State(whip): State<Whip>,
    names: Names<(String, String)>,
    Query(query): Query<InQuery>,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let session = whip.session(role(&uri), names, &Token::read(&headers, query)).await?;
    let fragment = text(&headers, FRAGMENT, body)?;
    let condition = headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok());
    let condition = Condition::read(condition.ok_or_else(Refusal::unconditional)?);
    Ok(match session.patch(condition, &fragment).await? {
        Patched::Trickled => StatusCode::NO_CONTENT.into_response(),
        Patched::Restarted { tag, fragment } => {
            let headers = [(header::CONTENT_TYPE, FRAGMENT.to_owned()), (header::ETAG, tag)];
            (headers, fragment).into_response()
        }
    })
}

async fn end(
    State(whip): State<Whip>,
    names: Names<(String, String)>,
    Query(query): Query<InQuery>,
    uri: axum::http::Uri,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    let session = whip.session(role(&uri), names, &Token::read(&headers, query)).await?;
    whip.sessions.end(&session).await;
    Ok(StatusCode::OK)
}

/// The body, if it is of this type.
fn text(headers: &HeaderMap, wanted: &'static str, body: Body) -> Result<String, Refusal> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let given = given.split(';').next().unwrap_or_default().trim();
    if !given.eq_ignore_ascii_case(wanted) {
        return Err(Refusal::wrong_type(wanted));
    }
    String::from_utf8(body?.to_vec()).map_err(|_| Refusal::bad(&"the body is no UTF-8"))
}

/// 201 with everything that a client has to know.
fn created(kind: &str, stream: &PeerId, started: Started) -> Result<Response, Refusal> {
    let location = format!("/{kind}/{stream}/{}", started.id);
    let mut response = (
        StatusCode::CREATED,
        [
            (header::CONTENT_TYPE, SDP.to_owned()),
            (header::LOCATION, location),
            (header::ETAG, started.tag),
            (ACCEPT_PATCH, FRAGMENT.to_owned()),
            (header::CACHE_CONTROL, "no-store".to_owned()),
        ],
        started.answer,
    )
        .into_response();
    let links = started.ice_servers.iter().flat_map(links);
    // What can't be written into a header is not told: a client does without that server.
    for link in links.filter_map(|link| HeaderValue::try_from(link).ok()) {
        response.headers_mut().append(header::LINK, link);
    }
    Ok(response)
}

/// One `Link` for each of the server's URLs (RFC 9725 section 4.6).
fn links(server: &IceServer) -> impl Iterator<Item = String> + '_ {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    server.urls.iter().map(move |url| {
        let mut link = format!("<{url}>; rel=\"ice-server\"");
        if let (Some(username), Some(credential)) = (&server.username, &server.credential) {
            link.push_str(&format!(
                "; username={}; credential={}; credential-type=\"password\"",
                quoted(username),
                quoted(credential)
            ));
        }
        link
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ice_servers_are_links() {
        let turn = IceServer {
            urls: vec!["turn:t.example?transport=udp".into(), "turns:t.example".into()],
            username: Some("u\"x".into()),
            credential: Some("c".into()),
        };
        let links: Vec<_> = links(&turn).collect();
        assert_eq!(
            links[0],
            "<turn:t.example?transport=udp>; rel=\"ice-server\"; username=\"u\\\"x\"; credential=\"c\"; \
             credential-type=\"password\""
        );
        assert!(links[1].starts_with("<turns:t.example>; "));
        let stun = IceServer { urls: vec!["stun:s.example".into()], username: None, credential: None };
        assert_eq!(super::links(&stun).collect::<Vec<_>>(), ["<stun:s.example>; rel=\"ice-server\""]);
    }

    #[test]
    fn the_token_is_that_of_bearer_or_of_the_query() {
        let token = |value: Option<&'static str>, query: Option<&str>| {
            let headers = value.map(|value| (header::AUTHORIZATION, HeaderValue::from_static(value)));
            let query = InQuery { token: query.map(str::to_owned) };
            Token::read(&HeaderMap::from_iter(headers), query).shown().map(str::to_owned)
        };
        assert_eq!(token(Some("Bearer sesame"), Some("other")).as_deref(), Some("sesame"));
        assert_eq!(token(Some("bearer sesame"), None).as_deref(), Some("sesame"));
        assert_eq!(token(Some("Basic c2VzYW1l"), Some("sesame")).as_deref(), Some("sesame"));
        assert_eq!(token(Some("Bearer "), None), None);
        assert_eq!(token(None, None), None);
    }
}
