//! All that the web server answers: HLS files at once, everything else by way of the router.
//!
//! Most requests of a server with an audience are for playlists and media, and the way through the router's layers costs
//! more than the answer itself. Both ways give the same answers; a test compares them.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::header::HeaderName;
use axum::http::{HeaderValue, Method, header};
use axum::response::Response;
use futures_util::future::{BoxFuture, Either};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::{TowerToHyperService, TowerToHyperServiceFuture};

use super::hls::{Files, Place};
use crate::egress::Egress;
use crate::live::access::Access;

/// What holds for every answer, as the layers of [`super::public`] say it.
const FOR_ALL: [(HeaderName, HeaderValue); 3] = [
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
    (header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];

/// The whole of what is served.
#[derive(Clone)]
pub struct Site {
    router: TowerToHyperService<Router>,
    files: Option<Files>,
}

impl Site {
    /// Answers with the files of `egress` where it can, and else with `router`, which has to know them too. `access` says
    /// who may have them; none if everybody may.
    #[must_use]
    pub fn new(router: Router, egress: Option<Egress>, access: Option<Arc<Access>>) -> Self {
        let files = egress.map(|egress| Files { egress, access });
        Self { router: TowerToHyperService::new(router), files }
    }
}

impl From<Router> for Site {
    fn from(router: Router) -> Self {
        Self::new(router, None, None)
    }
}

impl Service<Request<Incoming>> for Site {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<
        BoxFuture<'static, Result<Response, Infallible>>,
        TowerToHyperServiceFuture<Router, Request<Incoming>>,
    >;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        match &self.files {
            Some(files) if is_plain(&request) => {
                let answer = answer(files.clone(), request.map(drop));
                Either::Left(Box::pin(async { Ok(answer.await) }))
            }
            _ => Either::Right(self.router.call(request)),
        }
    }
}

/// Whether the request is for an HLS file, with nothing in it that has to be decoded.
fn is_plain<B>(request: &Request<B>) -> bool {
    let is_file = |(place, name): (Place, &str)| !name.contains('%') && place.has(name);
    request.method() == Method::GET && Place::split(request.uri().path()).is_some_and(is_file)
}

async fn answer(files: Files, request: Request<()>) -> Response {
    let (place, path) = Place::split(request.uri().path()).unwrap_or((Place::Live, ""));
    as_for_all(files.answer(place, path, request.uri().query().unwrap_or_default(), request.headers()).await)
}

/// Adds what the layers around the router would have added.
pub(super) fn as_for_all(mut response: Response) -> Response {
    response.headers_mut().extend(FOR_ALL);
    response
}
