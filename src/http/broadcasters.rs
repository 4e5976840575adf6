//! `/rooms/…`: broadcasters, in the words of mediasoup-demo's HTTP API (`docs/wire/broadcasters.md`).
//!
//! Each request shows a token; then it is one call of [`Broadcaster`] and back. Bodies are as small as those of all
//! routes may be, and refusals are `{error, code}`, as over Socket.IO.

mod refusal;
mod wire;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::ids::{PeerId, RoomId, TransportId};
use crate::live::broadcasters::{AccessError, Broadcaster, Broadcasters};
use crate::live::{self, PeerInfo};
use crate::media::ortc;
use crate::sfu::api::WebRtcTransportOptions;
use refusal::Refusal;

type Answer<T> = Result<Json<T>, Refusal>;
/// The body of a request, if it came whole.
type Body = Result<Bytes, BytesRejection>;
/// The names in a request's path.
type Names<T> = Result<Path<T>, PathRejection>;

/// The routes.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(broadcasters: Broadcasters) -> Router<S> {
    let transport = "/rooms/{room}/broadcasters/{broadcaster}/transports/{transport}";
    Router::new()
        .route("/rooms/{room}", get(capabilities))
        .route("/rooms/{room}/broadcasters", post(create))
        .route("/rooms/{room}/broadcasters/{broadcaster}", delete(end).get(others))
        .route("/rooms/{room}/broadcasters/{broadcaster}/transports", post(create_transport))
        .route(&format!("{transport}/connect"), post(connect))
        .route(&format!("{transport}/plain-connect"), post(connect_plain))
        .route(&format!("{transport}/producers"), post(produce))
        .route(&format!("{transport}/consume"), post(consume))
        .route(&format!("{transport}/produce/data"), post(produce_data))
        .route(&format!("{transport}/consume/data"), post(consume_data))
        .route_layer(middleware::from_fn_with_state(broadcasters.clone(), admit))
        .with_state(broadcasters)
}

/// Lets those in who show the token.
async fn admit(State(broadcasters): State<Broadcasters>, request: Request, next: Next) -> Response {
    let token = token(request.headers());
    match broadcasters.check(token.as_deref()) {
        Ok(()) => next.run(request).await,
        Err(AccessError::Token) => {
            ([(header::WWW_AUTHENTICATE, "Bearer")], Refusal::unauthorized(&AccessError::Token))
                .into_response()
        }
        Err(error @ AccessError::Off) => Refusal::from(error).into_response(),
    }
}

/// The token of a request: `Bearer`, or the password of `Basic`, which is what clients make of `http://:TOKEN@host/`.
fn token(headers: &HeaderMap) -> Option<String> {
    let (scheme, value) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64.decode(value.trim()).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

async fn capabilities(
    State(broadcasters): State<Broadcasters>,
    names: Names<String>,
) -> Result<Response, Refusal> {
    let Path(room) = names?;
    room.parse::<RoomId>().map_err(|error| Refusal::bad(&error))?;
    Ok(Json(broadcasters.rtp_capabilities()).into_response())
}

async fn create(
    State(broadcasters): State<Broadcasters>,
    names: Names<String>,
    body: Body,
) -> Answer<wire::Others> {
    let Path(room) = names?;
    let room: RoomId = room.parse().map_err(|error| Refusal::bad(&error))?;
    let wanted: wire::Create = read(body)?;
    let peer: PeerId = wanted.id.parse().map_err(|error| Refusal::bad(&format!("id: {error}")))?;
    let capabilities = wanted.rtp_capabilities.as_ref().map(ortc::parse_rtp_capabilities).transpose();
    let capabilities = capabilities.map_err(|error| Refusal::bad(&error))?;
    let info = PeerInfo { display_name: Some(wanted.display_name), device: wanted.device.into_value() };
    let made = broadcasters.create(&room, peer, info, capabilities).await?;
    Ok(Json(wire::Others::of(&made)))
}

async fn others(
    State(broadcasters): State<Broadcasters>,
    names: Names<(String, String)>,
) -> Answer<wire::Others> {
    let Path((room, peer)) = names?;
    Ok(Json(wire::Others::of(&find(&broadcasters, &room, &peer)?)))
}

async fn end(State(broadcasters): State<Broadcasters>, names: Names<(String, String)>) -> Answer<Value> {
    let Path((room, peer)) = names?;
    let (room, peer) = named(&room, &peer)?;
    broadcasters.delete(&room, &peer).await?;
    done()
}

async fn create_transport(
    State(broadcasters): State<Broadcasters>,
    names: Names<(String, String)>,
    body: Body,
) -> Result<Response, Refusal> {
    let Path((room, peer)) = names?;
    let broadcaster = find(&broadcasters, &room, &peer)?;
    match read(body)? {
        wire::CreateTransport::Plain(wanted) => {
            let made = broadcaster.create_plain_transport(wanted.into()).await?;
            Ok(Json(wire::PlainTransport::from(made)).into_response())
        }
        wire::CreateTransport::Webrtc { sctp_capabilities } => {
            let enable_sctp = sctp_capabilities.is_some();
            let options = WebRtcTransportOptions { enable_sctp, ..WebRtcTransportOptions::default() };
            let made = broadcaster.create_webrtc_transport(options).await?;
            Ok(Json(wire::WebRtcTransport::from(made)).into_response())
        }
    }
}

async fn connect(
    State(broadcasters): State<Broadcasters>,
    names: Names<(String, String, String)>,
    body: Body,
) -> Answer<Value> {
    let (broadcaster, transport) = find_transport(&broadcasters, names)?;
    let wanted: wire::Connect = read(body)?;
    let dtls = ortc::parse_dtls_parameters(&wanted.dtls_parameters).map_err(|error| Refusal::bad(&error))?;
    broadcaster.connect_transport(transport, dtls).await?;
    done()
}

async fn connect_plain(
    State(broadcasters): State<Broadcasters>,
    names: Names<(String, String, String)>,
    body: Body,
) -> Answer<Value> {
    let (broadcaster, transport) = find_transport(&broadcasters, names)?;
    let wanted: wire::ConnectPlain = read(body)?;
    broadcaster.connect_plain_transport(transport, wanted.into()).await?;
    done()
}

async fn produce(
    State(broadcasters): State<Broadcasters>,
    names: Names<(String, String, String)>,
    body: Body,
) -> Answer<wire::Made> {
    let (broadcaster, transport) = find_transport(&broadcasters, names)?;
    let wanted: wire::Produce = read(body)?;
    let parameters =
        ortc::parse_rtp_parameters(&wanted.rtp_parameters).map_err(|error| Refusal::bad(&error))?;
    let id = broadcaster.produce(transport, wanted.kind, parameters).await?;
    Ok(Json(wire::Made { id: id.to_string() }))
}

async fn consume(
    State(broadcasters): State<Broadcasters>,
    names: Names<(String, String, String)>,
    query: Result<Query<wire::Consume>, QueryRejection>,
) -> Answer<wire::Consumer> {
    let (broadcaster, transport) = find_transport(&broadcasters, names)?;
    let Query(wanted) = query?;
    let made = broadcaster.consume(transport, id("producer", &wanted.producer_id)?).await?;
    Ok(Json(made.into()))
}

async fn produce_data(
    State(broadcasters): State<Broadcasters>,
    names: Names<(String, String, String)>,
    body: Body,
) -> Answer<wire::Made> {
    let (broadcaster, transport) = find_transport(&broadcasters, names)?;
    let mut wanted: wire::ProduceData = read(body)?;
    let app_data = wanted.app_data.take().map_or_else(|| serde_json::json!({}), Value::Object);
    live::check_app_data(&app_data)?;
    let id = broadcaster.produce_data(transport, wanted.into(), app_data).await?;
    Ok(Json(wire::Made { id: id.to_string() }))
}

async fn consume_data(
    State(broadcasters): State<Broadcasters>,
    names: Names<(String, String, String)>,
    body: Body,
) -> Answer<wire::DataConsumer> {
    let (broadcaster, transport) = find_transport(&broadcasters, names)?;
    let wanted: wire::ConsumeData = read(body)?;
    let made = broadcaster.consume_data(transport, id("data producer", &wanted.data_producer_id)?).await?;
    Ok(Json(made.into()))
}

fn find_transport(
    broadcasters: &Broadcasters,
    names: Names<(String, String, String)>,
) -> Result<(Broadcaster, TransportId), Refusal> {
    let Path((room, peer, transport)) = names?;
    Ok((find(broadcasters, &room, &peer)?, id("transport", &transport)?))
}

fn find(broadcasters: &Broadcasters, room: &str, peer: &str) -> Result<Broadcaster, Refusal> {
    let (room, peer) = named(room, peer)?;
    Ok(broadcasters.find(&room, &peer)?)
}

/// A name that can't be one gets the same answer as one that is not there.
fn named(room: &str, peer: &str) -> Result<(RoomId, PeerId), Refusal> {
    Ok((id("room", room)?, id("broadcaster", peer)?))
}

fn id<T: std::str::FromStr>(what: &str, given: &str) -> Result<T, Refusal> {
    given.parse().map_err(|_| Refusal::not_found(&format!("{what} {given} not found")))
}

/// Reads the body, whatever its content type says: command line tools seldom care.
fn read<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    serde_json::from_slice(&body?).map_err(|error| Refusal::bad(&error))
}

/// The answer to what has no answer but that it is done.
fn done() -> Answer<Value> {
    Ok(Json(serde_json::json!({})))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_token_is_that_of_bearer_or_the_password_of_basic() {
        let shown = |text: &'static str| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(text))]);
            token(&headers)
        };
        assert_eq!(shown("Bearer sesame").as_deref(), Some("sesame"));
        assert_eq!(shown("bearer  sesame ").as_deref(), Some("sesame"));
        // base64("ffmpeg:open:sesame"): a password may hold colons, a user may not.
        assert_eq!(shown("Basic ZmZtcGVnOm9wZW46c2VzYW1l").as_deref(), Some("open:sesame"));
        for nothing in ["", "Bearer", "Basic !", "Basic Zm9v", "Digest sesame"] {
            assert_eq!(shown(nothing), None, "{nothing}");
        }
        assert_eq!(token(&HeaderMap::new()), None);
    }
}
