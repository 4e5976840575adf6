//! A whole server in this process, on free ports of the loopback interface, without HLS.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use weir::app::App;
use weir::config::Config;

use super::PATIENCE;

/// A running server.
pub(crate) struct Server {
    /// Where HTTP and Socket.IO are.
    pub(crate) address: SocketAddr,
    /// Where they are with TLS; the address above if there is none.
    pub(crate) https: SocketAddr,
    app: App,
    _data: TempDir,
}

impl Server {
    pub(crate) async fn start() -> Result<Self> {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(configure: impl FnOnce(&mut Config)) -> Result<Self> {
        let data = TempDir::new()?;
        let mut config = Config { data_dir: data.path().to_owned(), ..Config::default() };
        config.http.listen = ([127, 0, 0, 1], 0).into();
        config.rtc.listen = vec![([127, 0, 0, 1], 0).into()];
        config.hls.enabled = false;
        configure(&mut config);
        let app = App::start(config).await?;
        let address = app.http_addr();
        let https = app.https_addrs().first().copied().unwrap_or(address);
        Ok(Self { address, https, app, _data: data })
    }

    /// Notified, it has the certificate files read again.
    pub(crate) fn certificate_reload(&self) -> Option<Arc<Notify>> {
        self.app.certificate_reload()
    }

    pub(crate) async fn shutdown(self) {
        self.app.shutdown().await;
    }

    /// The counters of `/api/stats`, once they are as `wanted` says.
    pub(crate) async fn stats(&self, wanted: impl Fn(&Counters) -> bool) -> Result<Counters> {
        let search = async {
            loop {
                let stats = Counters(get_json(self.address, "/api/stats").await?);
                if wanted(&stats) {
                    return Ok(stats);
                }
                tokio::task::yield_now().await;
            }
        };
        match timeout(PATIENCE, search).await {
            Ok(found) => found,
            Err(_) => {
                let stats = timeout(PATIENCE, get_json(self.address, "/api/stats")).await??;
                anyhow::bail!("the counters did not get there: {stats}")
            }
        }
    }

    /// The counters as they are.
    pub(crate) async fn counters(&self) -> Result<Counters> {
        self.stats(|_| true).await
    }
}

/// What `/api/stats` answered.
#[derive(Debug)]
pub(crate) struct Counters(Value);

impl Counters {
    /// The counter at a JSON pointer.
    pub(crate) fn get(&self, pointer: &str) -> u64 {
        let value = self.0.pointer(pointer).and_then(Value::as_u64);
        value.unwrap_or_else(|| panic!("no counter {pointer} in {}", self.0))
    }
}

/// Sends a GET request and gives the response's head and a reader of its body.
async fn get(server: SocketAddr, path: &str) -> Result<(String, BufReader<TcpStream>)> {
    let mut stream = TcpStream::connect(server).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while reader.read_line(&mut head).await? > 2 {}
    Ok((head, reader))
}

/// The JSON that a GET request is answered with.
pub(crate) async fn get_json(server: SocketAddr, path: &str) -> Result<Value> {
    let (head, mut reader) = get(server, path).await?;
    anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "{path} answered {head}");
    let mut body = String::new();
    reader.read_to_string(&mut body).await?;
    serde_json::from_str(&body).with_context(|| format!("{path} answered {body}"))
}

/// What an HTTP request is answered with: the status, and the body as JSON, null if it is none.
pub(crate) async fn ask(
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Result<(u16, Value)> {
    let reply = request(server, method, path, headers, body).await?;
    Ok((reply.status, serde_json::from_str(&reply.body).unwrap_or(Value::Null)))
}

/// What an HTTP request is answered with.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Reply {
    /// The values of all headers of this name.
    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let of_name = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        of_name.map(|(_, value)| value.trim()).collect()
    }

    /// The value of the first header of this name; empty without one.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers(name).first().copied().unwrap_or_default()
    }
}

/// Sends an HTTP request and takes the whole answer; `headers` are whole lines.
pub(crate) async fn request(
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Result<Reply> {
    let mut stream = TcpStream::connect(server).await?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {server}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await??;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{path} answered {answer}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.with_context(|| head.to_owned())?;
    Ok(Reply { status, head: head.to_owned(), body: body.to_owned() })
}
