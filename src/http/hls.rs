//! `GET /live/<file>`: playlists and segments, straight from memory.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::range::{Wanted, wanted};
use super::{AppState, error};
use crate::egress::HlsFile;

/// Up to this size a body gets an entity tag, in bytes. Playlists and init segments are asked for again and again;
/// segments are asked for once.
const MAX_TAGGED_BYTES: usize = 16 * 1024;

pub(super) async fn file(
    State(state): State<AppState>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    match state.routes.egress.as_ref().and_then(|egress| egress.file(&name)) {
        Some(file) => respond(file, &headers),
        None => error(StatusCode::NOT_FOUND, "no such file"),
    }
}

pub(super) fn respond(file: HlsFile, request: &HeaderMap) -> Response {
    let length = file.body.len();
    let tag = entity_tag(&file.body);
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(file.cache_control));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(tag) = &tag {
        headers.insert(header::ETAG, tag.clone());
        if names_tag(request, &header::IF_NONE_MATCH, tag) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
    }
    // A range that holds for one state of the file only counts if this is the state.
    let same_state = match request.get(header::IF_RANGE) {
        None => true,
        Some(_) => tag.as_ref().is_some_and(|tag| names_tag(request, &header::IF_RANGE, tag)),
    };
    let range = request.get(header::RANGE).and_then(|value| value.to_str().ok()).filter(|_| same_state);
    match range.map_or(Wanted::Whole, |range| wanted(range, length)) {
        Wanted::Whole => (headers, Body::from(file.body)).into_response(),
        Wanted::Nothing => {
            let unsatisfied = HeaderValue::try_from(format!("bytes */{length}"));
            headers.extend(unsatisfied.ok().map(|value| (header::CONTENT_RANGE, value)));
            (StatusCode::RANGE_NOT_SATISFIABLE, headers).into_response()
        }
        Wanted::Part(part) => {
            let shown = format!("bytes {}-{}/{length}", part.start, part.end.saturating_sub(1));
            headers.extend(HeaderValue::try_from(shown).ok().map(|value| (header::CONTENT_RANGE, value)));
            (StatusCode::PARTIAL_CONTENT, headers, Body::from(file.body.slice(part))).into_response()
        }
    }
}

fn entity_tag(body: &[u8]) -> Option<HeaderValue> {
    if body.len() > MAX_TAGGED_BYTES {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    HeaderValue::try_from(format!("\"{:016x}\"", hasher.finish())).ok()
}

fn names_tag(request: &HeaderMap, header: &header::HeaderName, tag: &HeaderValue) -> bool {
    let given = request.get_all(header).iter().filter_map(|value| value.to_str().ok());
    given.flat_map(|list| list.split(',')).any(|one| one.trim().trim_start_matches("W/").as_bytes() == tag)
}
