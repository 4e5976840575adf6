//! One connection of the web server: the handshake of TLS, then HTTP/1.1 or HTTP/2 as was agreed there, each within
//! limits of time and memory.

use std::pin::Pin;
use std::time::Duration;

use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::activity::Activity;
use super::site::Site;
use super::tls::ALPN_H2;

/// The largest head of a request, and the buffer of a connection, in bytes.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// The most header lines of a request.
const MAX_HEADERS: usize = 100;
/// How long a client may take to send the head of a request, and how long a connection is kept between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take nothing of what is sent to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the handshake of TLS may take.
const TLS_TIMEOUT: Duration = Duration::from_secs(10);

/// The most requests at a time on one HTTP/2 connection (RFC 9113 section 6.5.2 recommends 100 at least).
const MAX_STREAMS: u32 = 128;
/// What is copied for one HTTP/2 stream whose client takes it slowly, in bytes.
const MAX_STREAM_BUFFER_BYTES: usize = 64 * 1024;
/// The largest head of a request over HTTP/2, as its section 6.5.2 counts it.
const MAX_HEADER_LIST_BYTES: u32 = 32 * 1024;
/// Requests that a client took back before they were looked at: more, and it is attacking (CVE-2023-44487).
const MAX_RESET_BEFORE_ACCEPT: usize = 20;
/// Streams that a client's faults ended: more, and it is attacking (CVE-2025-8671).
const MAX_FAULTY_STREAMS: usize = 100;
/// How often a quiet HTTP/2 connection is asked whether it is still there, and how long it may take to answer.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an HTTP/2 connection without requests is kept. Players of live streams are back within seconds.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How often an HTTP/2 connection is looked at for the limits above.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a connection is answered with, and the word to stop.
#[derive(Clone)]
pub(super) struct Served {
    pub(super) site: Site,
    pub(super) stopping: watch::Receiver<bool>,
}

/// Why a connection that was to begin with TLS never got there.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the handshake took longer than {TLS_TIMEOUT:?}")]
    TooSlow,
    #[error("{0}")]
    Failed(#[from] std::io::Error),
}

/// Serves a connection that begins with TLS, until it ends.
pub(super) async fn serve_tls(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    mut served: Served,
) -> Result<(), HandshakeError> {
    let handshake = tokio::time::timeout(TLS_TIMEOUT, acceptor.accept(guarded(stream)));
    let stream = tokio::select! {
        done = handshake => done.map_err(|_| HandshakeError::TooSlow)??,
        () = stopped(&mut served.stopping) => return Ok(()),
    };
    if stream.get_ref().1.alpn_protocol() == Some(ALPN_H2) {
        serve_http2(stream, served).await;
    } else {
        serve_http1(stream, served).await;
    }
    Ok(())
}

/// Serves a connection without TLS, until it ends.
pub(super) async fn serve_plain(stream: TcpStream, served: Served) {
    serve_http1(guarded(stream), served).await;
}

fn guarded(stream: TcpStream) -> Pin<Box<TimeoutStream<TcpStream>>> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    Box::pin(stream)
}

async fn serve_http1(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    Served { site, mut stopping }: Served,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), site)
        .with_upgrades();
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "HTTP connection ended");
    }
}

async fn serve_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    Served { site, mut stopping }: Served,
) {
    let activity = Activity::new();
    let answers = service_fn(|request: Request<Incoming>| {
        let open = activity.begin();
        let answer = site.call(request);
        async move { answer.await.map(|response| open.answer(response)) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(MAX_STREAM_BUFFER_BYTES)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(MAX_RESET_BEFORE_ACCEPT)
        .max_local_error_reset_streams(MAX_FAULTY_STREAMS)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(stream), answers);
    tokio::pin!(connection);
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut leaving = false;
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    debug!(%error, "HTTP/2 connection ended");
                }
                return;
            }
            () = stopped(&mut stopping), if !leaving => {
                connection.as_mut().graceful_shutdown();
                leaving = true;
            }
            _ = look.tick() => {
                if activity.is_stuck(WRITE_TIMEOUT) {
                    debug!("HTTP/2 connection cut: an answer was not taken");
                    return;
                }
                if activity.is_idle(IDLE_TIMEOUT) {
                    // A second look finds one that does not go by itself.
                    if leaving {
                        return;
                    }
                    connection.as_mut().graceful_shutdown();
                    leaving = true;
                }
            }
        }
    }
}

/// Waits until the server is to stop. One that nobody can stop any more stops as well.
pub(super) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    drop(stopping.wait_for(|stop| *stop).await);
}
