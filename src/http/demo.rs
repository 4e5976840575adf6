//! The demo page: the built web demo, inside the release binary, from disk in a debug one.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use super::error;

/// `web-demo/dist` as `make` builds it; empty where only the server was built.
#[derive(RustEmbed)]
#[folder = "web-demo/dist"]
#[allow_missing = true]
struct Demo;

/// Where the bundler puts files whose names hold a hash of what is in them.
const HASHED: &str = "assets/";

const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>weir</title>\
    <body><h1>weir is running</h1>\
    <p>This binary was built without the web demo. <code>make run</code> builds both.</p></body></html>";

pub(super) async fn file(uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    let path = if path.is_empty() { "index.html" } else { path };
    match Demo::get(path) {
        Some(file) => respond(path, &file, &headers),
        None if path == "index.html" => Html(NOT_BUILT).into_response(),
        None => error(StatusCode::NOT_FOUND, "not found"),
    }
}

fn respond(path: &str, file: &EmbeddedFile, request: &HeaderMap) -> Response {
    let tag: String = file.metadata.sha256_hash().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let cache = if path.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut headers = HeaderMap::new();
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    for (name, value) in
        [(header::CONTENT_TYPE, kind.as_ref()), (header::CACHE_CONTROL, cache), (header::ETAG, &tag)]
    {
        headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
    }
    if request.get(header::IF_NONE_MATCH).is_some_and(|given| given == tag.as_str()) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, Body::from(file.data.clone().into_owned())).into_response()
}
