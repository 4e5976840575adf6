//! `GET /live/<file>`: playlists and segments, straight from memory; what left that, from disk. In folders below that, and
//! below `/livestream/`, there is the same as MPEG-TS, by the names that clients of other servers know.

use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::header::HeaderName;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;

use super::range::{Wanted, wanted};
use super::token::{self, Asked};
use super::{AppState, error};
use crate::egress::{
    CUES_TYPE, Egress, Encoded, FetchError, Fetched, GrowingFile, HlsFile, MANIFEST_TYPE, StoredFile,
};
use crate::ids::PeerId;
use crate::live::access::{Access, Denied, Purpose};
use crate::live::streams;
use crate::media::playlist::Directives;
use crate::media::presentation::TIME;
use crate::media::presentation::muxed::{self, Scheme};

/// Room for the header lines of an answer, those included that the server adds.
const MAX_ANSWER_HEADERS: usize = 12;

/// What caches may do with a playlist that was asked for with `_HLS_msn`: hand it to all who ask at about the same time.
/// RFC 8216bis appendix B.1 would let them keep it for six target durations, because what it has to hold is in its address.
/// But video.js asks for the same position once more where a playlist ends with a complete segment, and has to get a newer
/// playlist then; with one from its browser's cache it stands still.
const CACHE_RELOADS: &str = "public, max-age=0, s-maxage=1";
/// The same for a playlist with the viewer's own token, which is nobody else's.
const CACHE_OWN_RELOADS: &str = "private, max-age=0";

/// Where files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// `/live/`
    Live,
    /// `/livestream/`, beside what is no file.
    Livestream,
}

impl Place {
    /// The place that a path names, and what follows.
    pub(super) fn split(path: &str) -> Option<(Self, &str)> {
        let live = path.strip_prefix("/live/").map(|rest| (Self::Live, rest));
        live.or_else(|| Some((Self::Livestream, path.strip_prefix("/livestream/")?)))
    }

    fn muxed(self, name: &str) -> Option<muxed::Asked<'_>> {
        match self {
            Self::Live => muxed::Asked::beside_cmaf(name),
            Self::Livestream => muxed::Asked::event(name),
        }
    }

    /// Whether a name there, behind a token or not, is a file's.
    pub(super) fn has(self, path: &str) -> bool {
        self == Self::Live || self.muxed(&Asked::read(path, "", &HeaderMap::new()).name).is_some()
    }
}

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
    at(Place::Live, &state, &path, query, &headers).await
}

pub(super) async fn livestream_file(
    State(state): State<AppState>,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    at(Place::Livestream, &state, &path, query, &headers).await
}

async fn at(
    place: Place,
    state: &AppState,
    path: &str,
    query: Option<String>,
    headers: &HeaderMap,
) -> Response {
    match &state.files {
        Some(files) => files.answer(place, path, query.as_deref().unwrap_or_default(), headers).await,
        None => error(StatusCode::NOT_FOUND, "no such file"),
    }
}

impl Files {
    /// The answer to a request for `path` in a place, as soon as the file is as far as the query asks.
    pub(super) async fn answer(
        &self,
        place: Place,
        path: &str,
        query: &str,
        headers: &HeaderMap,
    ) -> Response {
        let asked = Asked::read(path, query, headers);
        if asked.name == TIME {
            let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
            return ([(header::CACHE_CONTROL, "no-store")], now).into_response();
        }
        // Where one peer's playlist could be another one's MPEG-TS, it is what it is without that.
        let muxed = place.muxed(&asked.name);
        let muxed =
            muxed.filter(|muxed| muxed.scheme != Scheme::Flat || self.egress.owner(&asked.name).is_none());
        if muxed.is_some() || place == Place::Livestream {
            return self.answer_muxed(muxed, &asked, headers).await;
        }
        if let Err(denied) = self.check(&asked) {
            return refuse(denied);
        }
        let directives = match Directives::parse(query) {
            Ok(directives) => directives,
            Err(reason) => return error(StatusCode::BAD_REQUEST, &reason.to_string()),
        };
        let mut file = match self.egress.fetch(&asked.name, directives).await {
            Ok(Fetched::InMemory(file)) => file,
            Ok(Fetched::OnDisk(file)) => return respond_stored(file, headers).await,
            Ok(Fetched::Growing(file)) => return respond_growing(file),
            Err(reason) => return error(status(reason), &reason.to_string()),
        };
        if directives.until.is_some() && file.is_playlist() {
            file.cache_control = CACHE_RELOADS;
        }
        self.respond_for(&file, &asked, headers)
    }

    async fn answer_muxed(
        &self,
        muxed: Option<muxed::Asked<'_>>,
        asked: &Asked<'_>,
        headers: &HeaderMap,
    ) -> Response {
        let found = muxed.and_then(|muxed| Some((muxed, streams::peer_of(muxed.peer)?)));
        let existing = found.as_ref().map(|(_, peer)| peer).filter(|peer| self.egress.has(peer));
        let is_entry = muxed.is_some_and(|muxed| muxed.is_entry());
        if let Some(access) = &self.access
            && let Err(denied) = access.check(asked.token, existing, purpose(is_entry), SystemTime::now())
        {
            return refuse(denied);
        }
        let fetched = match &found {
            Some((muxed, peer)) => self.egress.fetch_muxed(peer, muxed.scheme, muxed.what).await,
            None => Err(FetchError::NotFound),
        };
        match fetched {
            Ok(file) => self.respond_for(&file, asked, headers),
            Err(reason) => error(status(reason), &reason.to_string()),
        }
    }

    /// The file, with the token in it if it is a playlist that was asked for with one.
    fn respond_for(&self, file: &HlsFile, asked: &Asked<'_>, headers: &HeaderMap) -> Response {
        match asked.token.filter(|_| self.access.is_some() && asked.in_query && file.is_playlist()) {
            Some(token) => respond(&with_token(file, token), headers),
            None => respond(file, headers),
        }
    }

    fn check(&self, asked: &Asked<'_>) -> Result<(), Denied> {
        let Some(access) = &self.access else { return Ok(()) };
        let peer = self.egress.owner(&asked.name);
        let is_master =
            |peer: &PeerId| asked.name.strip_suffix(".m3u8").is_some_and(|stem| stem == peer.as_str());
        let purpose = purpose(peer.as_ref().is_some_and(is_master));
        access.check(asked.token, peer.as_ref(), purpose, SystemTime::now())
    }
}

/// What a token is shown for, with a file that players begin with or not.
const fn purpose(is_entry: bool) -> Purpose {
    if is_entry { Purpose::Begin } else { Purpose::GoOn }
}

/// The playlist, or manifest, for the one who showed this token.
fn with_token(playlist: &HlsFile, token: &str) -> HlsFile {
    let text = String::from_utf8_lossy(&playlist.body);
    let text = match playlist.content_type {
        MANIFEST_TYPE => token::leading_manifest(&text, token),
        CUES_TYPE => token::leading_cues(&text, token),
        _ => token::leading(&text, token),
    };
    let cache_control = match playlist.cache_control {
        CACHE_RELOADS => CACHE_OWN_RELOADS,
        "no-cache" => "private, no-cache",
        _ => "private, max-age=1",
    };
    HlsFile::new(playlist.content_type, cache_control, text.into())
}

const fn status(reason: FetchError) -> StatusCode {
    match reason {
        FetchError::NotFound | FetchError::NotOffered => StatusCode::NOT_FOUND,
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
    let mut headers = own_headers(file.content_type, file.cache_control);
    if file.is_playlist() {
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    // Bytes of a playlist mean its text: nobody asks for pieces of a compressed one.
    let whole = !request.contains_key(header::RANGE);
    let compressed = if whole && takes_gzip(request) { file.compressed() } else { None };
    if compressed.is_some() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    let Encoded { body, tag } = compressed.unwrap_or_else(|| file.plain());
    let (status, part) = decide(&mut headers, request, tag, body.len());
    (status, headers, part.map_or_else(Body::empty, |part| Body::from(body.slice(part)))).into_response()
}

/// The same for a file on disk, which is read while it is sent.
pub(super) async fn respond_stored(file: StoredFile, request: &HeaderMap) -> Response {
    let mut headers = own_headers(file.content_type, file.cache_control);
    let (status, part) = decide(&mut headers, request, file.tag.clone(), file.length);
    let Some(part) = part else { return (status, headers).into_response() };
    // The first piece says whether the file can be read, as long as that can still be told.
    let first = match file.read(part.clone()).await {
        Ok(first) => first,
        Err(reason) if reason.kind() == ErrorKind::NotFound => {
            return error(StatusCode::NOT_FOUND, &FetchError::NotFound.to_string());
        }
        Err(_) => {
            return error(StatusCode::SERVICE_UNAVAILABLE, &FetchError::Unavailable.to_string());
        }
    };
    headers.insert(header::CONTENT_LENGTH, part.len().into());
    let rest = part.start + first.len()..part.end;
    let rest = futures_util::stream::try_unfold((file, rest), |(file, rest)| async move {
        let piece = file.read(rest.clone()).await?;
        let behind = rest.start + piece.len()..rest.end;
        Ok::<_, std::io::Error>((!piece.is_empty()).then_some((piece, (file, behind))))
    });
    let pieces = futures_util::stream::iter([Ok(first)]).chain(rest);
    (status, headers, Body::from_stream(pieces)).into_response()
}

/// A segment that is being made: its parts are sent as they come. How long it will be is not known, so there are no
/// pieces of it to be had.
fn respond_growing(file: GrowingFile) -> Response {
    let mut headers = own_headers(file.content_type, file.cache_control);
    headers.remove(header::ACCEPT_RANGES);
    let pieces = futures_util::stream::try_unfold(file, |mut file| async {
        let piece = file.next().await?;
        Ok::<_, FetchError>(piece.map(|piece| (piece, file)))
    });
    (headers, Body::from_stream(pieces)).into_response()
}

fn own_headers(content_type: &'static str, cache_control: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(MAX_ANSWER_HEADERS);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache_control));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers
}

/// What of a body a request gets, if anything, and the header lines that say so.
fn decide(
    headers: &mut HeaderMap,
    request: &HeaderMap,
    tag: Bytes,
    length: usize,
) -> (StatusCode, Option<Range<usize>>) {
    let known = names_tag(request, &header::IF_NONE_MATCH, &tag);
    // A range that holds for one state of the file only counts if this is the state.
    let same_state = !request.contains_key(header::IF_RANGE) || names_tag(request, &header::IF_RANGE, &tag);
    if let Ok(tag) = HeaderValue::from_maybe_shared(tag) {
        headers.insert(header::ETAG, tag);
    }
    if known {
        return (StatusCode::NOT_MODIFIED, None);
    }
    let range = request.get(header::RANGE).and_then(|value| value.to_str().ok());
    match range.filter(|_| same_state).map_or(Wanted::Whole, |range| wanted(range, length)) {
        Wanted::Whole => (StatusCode::OK, Some(0..length)),
        Wanted::Nothing => {
            set_range(headers, format!("bytes */{length}"));
            (StatusCode::RANGE_NOT_SATISFIABLE, None)
        }
        Wanted::Part(part) => {
            set_range(headers, format!("bytes {}-{}/{length}", part.start, part.end.saturating_sub(1)));
            (StatusCode::PARTIAL_CONTENT, Some(part))
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
