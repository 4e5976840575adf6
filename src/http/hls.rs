//! `GET /live/<file>`: playlists and segments, straight from memory.

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::header::HeaderName;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::range::{Wanted, wanted};
use super::token::{self, Asked};
use super::{AppState, error};
use crate::egress::{Egress, Encoded, FetchError, HlsFile, MANIFEST_TYPE};
use crate::ids::PeerId;
use crate::live::access::{Access, Denied, Purpose};
use crate::media::playlist::Directives;

/// Room for the header lines of an answer, those included that the server adds.
const MAX_ANSWER_HEADERS: usize = 12;
/// Where the files are.
pub(super) const PREFIX: &str = "/live/";

/// What caches may do with a playlist that was asked for with `_HLS_msn`: hand it to all who ask at about the same time.
/// RFC 8216bis appendix B.1 would let them keep it for six target durations, because what it has to hold is in its address.
/// But video.js asks for the same position once more where a playlist ends with a complete segment, and has to get a newer
/// playlist then; with one from its browser's cache it stands still.
const CACHE_RELOADS: &str = "public, max-age=0, s-maxage=1";
/// The same for a playlist with the viewer's own token, which is nobody else's.
const CACHE_OWN_RELOADS: &str = "private, max-age=0";

/// The files, and who may have them.
#[derive(Clone)]
pub(super) struct Files {
    pub(super) egress: Egress,
    /// None if everybody may.
    pub(super) access: Option<Arc<Access>>,
}

pub(super) async fn file(
    State(state): State<AppState>,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    match &state.files {
        Some(files) => files.answer(&path, query.as_deref().unwrap_or_default(), &headers).await,
        None => error(StatusCode::NOT_FOUND, "no such file"),
    }
}

impl Files {
    /// The answer to a request for `path` below [`PREFIX`], as soon as the file is as far as the query asks.
    pub(super) async fn answer(&self, path: &str, query: &str, headers: &HeaderMap) -> Response {
        let asked = Asked::read(path, query, headers);
        if let Err(denied) = self.check(&asked) {
            return refuse(denied);
        }
        let directives = match Directives::parse(query) {
            Ok(directives) => directives,
            Err(reason) => return error(StatusCode::BAD_REQUEST, &reason.to_string()),
        };
        let mut file = match self.egress.fetch(asked.name, directives).await {
            Ok(file) => file,
            Err(reason) => return error(status(reason), &reason.to_string()),
        };
        let is_reload = directives.until.is_some() && file.is_playlist();
        if is_reload {
            file.cache_control = CACHE_RELOADS;
        }
        match asked.token.filter(|_| self.access.is_some() && asked.in_query && file.is_playlist()) {
            Some(token) => respond(&with_token(&file, token, is_reload), headers),
            None => respond(&file, headers),
        }
    }

    fn check(&self, asked: &Asked<'_>) -> Result<(), Denied> {
        let Some(access) = &self.access else { return Ok(()) };
        let peer = self.egress.owner(asked.name);
        let is_master =
            |peer: &PeerId| asked.name.strip_suffix(".m3u8").is_some_and(|stem| stem == peer.as_str());
        let purpose = if peer.as_ref().is_some_and(is_master) { Purpose::Begin } else { Purpose::GoOn };
        access.check(asked.token, peer.as_ref(), purpose, SystemTime::now())
    }
}

/// The playlist, or manifest, for the one who showed this token.
fn with_token(playlist: &HlsFile, token: &str, is_reload: bool) -> HlsFile {
    let text = String::from_utf8_lossy(&playlist.body);
    let text = match playlist.content_type {
        MANIFEST_TYPE => token::leading_manifest(&text, token),
        _ => token::leading(&text, token),
    };
    let cache_control = if is_reload { CACHE_OWN_RELOADS } else { "private, max-age=1" };
    HlsFile::new(playlist.content_type, cache_control, text.into())
}

const fn status(reason: FetchError) -> StatusCode {
    match reason {
        FetchError::NotFound => StatusCode::NOT_FOUND,
        FetchError::TooFar => StatusCode::BAD_REQUEST,
        FetchError::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn refuse(denied: Denied) -> Response {
    let (status, challenge) = match denied {
        Denied::Missing => (StatusCode::UNAUTHORIZED, "Bearer"),
        Denied::Invalid | Denied::Expired => (StatusCode::UNAUTHORIZED, "Bearer error=\"invalid_token\""),
        Denied::OutOfScope => (StatusCode::FORBIDDEN, "Bearer error=\"insufficient_scope\""),
    };
    let headers = [(header::WWW_AUTHENTICATE, challenge), (header::CACHE_CONTROL, "no-store")];
    (headers, error(status, &denied.to_string())).into_response()
}

pub(super) fn respond(file: &HlsFile, request: &HeaderMap) -> Response {
    let mut headers = HeaderMap::with_capacity(MAX_ANSWER_HEADERS);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(file.cache_control));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let range = request.get(header::RANGE).and_then(|value| value.to_str().ok());
    if file.is_playlist() {
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    // Bytes of a playlist mean its text: nobody asks for pieces of a compressed one.
    let compressed = if range.is_none() && takes_gzip(request) { file.compressed() } else { None };
    if compressed.is_some() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    let Encoded { body, tag } = compressed.unwrap_or_else(|| file.plain());
    let known = names_tag(request, &header::IF_NONE_MATCH, &tag);
    // A range that holds for one state of the file only counts if this is the state.
    let same_state = !request.contains_key(header::IF_RANGE) || names_tag(request, &header::IF_RANGE, &tag);
    if let Ok(tag) = HeaderValue::from_maybe_shared(tag) {
        headers.insert(header::ETAG, tag);
    }
    if known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    match range.filter(|_| same_state).map_or(Wanted::Whole, |range| wanted(range, body.len())) {
        Wanted::Whole => (headers, Body::from(body)).into_response(),
        Wanted::Nothing => {
            set_range(&mut headers, format!("bytes */{}", body.len()));
            (StatusCode::RANGE_NOT_SATISFIABLE, headers).into_response()
        }
        Wanted::Part(part) => {
            set_range(
                &mut headers,
                format!("bytes {}-{}/{}", part.start, part.end.saturating_sub(1), body.len()),
            );
            (StatusCode::PARTIAL_CONTENT, headers, Body::from(body.slice(part))).into_response()
        }
    }
}

fn set_range(headers: &mut HeaderMap, text: String) {
    headers.extend(HeaderValue::try_from(text).ok().map(|value| (header::CONTENT_RANGE, value)));
}

/// Whether the client takes gzip (RFC 9110 section 12.5.3): it names it, or everything, and not with a weight of 0.
fn takes_gzip(request: &HeaderMap) -> bool {
    let weight = |coding: &str| {
        let given = request.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let mut codings =
            given.flat_map(|list| list.split(',')).map(|one| one.split_once(';').unwrap_or((one, "")));
        let (_, weight) = codings.find(|(name, _)| name.trim().eq_ignore_ascii_case(coding))?;
        let (_, weight) = weight.split_once('=').unwrap_or(("", "1"));
        Some(weight.trim().parse::<f32>().unwrap_or(0.0) > 0.0)
    };
    weight("gzip").or_else(|| weight("*")).unwrap_or(false)
}

fn names_tag(request: &HeaderMap, header: &HeaderName, tag: &Bytes) -> bool {
    let given = request.get_all(header).iter().filter_map(|value| value.to_str().ok());
    given.flat_map(|list| list.split(',')).any(|one| {
        let one = one.trim();
        one == "*" || one.trim_start_matches("W/").as_bytes() == tag
    })
}
