//! How a simulated client reaches the server: a UDP socket, or a TCP connection with framed datagrams (RFC 4571).

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};

/// What a client's socket holds while the machine gives the client no time: the default holds 60 ms of ten videos.
const RECEIVE_BUFFER_LEN: usize = 4 * 1024 * 1024;

/// One path to the server.
pub(crate) enum Path {
    Udp { socket: UdpSocket, remote: SocketAddr },
    Tcp { stream: TcpStream, received: Vec<u8> },
}

impl Path {
    pub(crate) async fn open(remote: SocketAddr, tcp: bool) -> Result<Self> {
        if tcp {
            let stream = TcpStream::connect(remote).await?;
            stream.set_nodelay(true)?;
            return Ok(Self::Tcp { stream, received: Vec::new() });
        }
        let socket = UdpSocket::bind((if remote.is_ipv4() { "127.0.0.1" } else { "::1" }, 0)).await?;
        socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER_LEN)?;
        Ok(Self::Udp { socket, remote })
    }

    pub(crate) fn local_addr(&self) -> Result<SocketAddr> {
        Ok(match self {
            Self::Udp { socket, .. } => socket.local_addr()?,
            Self::Tcp { stream, .. } => stream.local_addr()?,
        })
    }

    pub(crate) async fn send(&mut self, datagram: &[u8]) -> Result<()> {
        match self {
            Self::Udp { socket, remote } => {
                socket.send_to(datagram, *remote).await?;
            }
            Self::Tcp { stream, .. } => {
                let mut frame = u16::try_from(datagram.len())?.to_be_bytes().to_vec();
                frame.extend(datagram);
                stream.write_all(&frame).await?;
            }
        }
        Ok(())
    }

    /// Waits for the next datagram. Nothing is lost if the future is dropped.
    pub(crate) async fn receive(&mut self) -> Result<Vec<u8>> {
        match self {
            Self::Udp { socket, remote } => {
                let mut buffer = vec![0; 2048];
                loop {
                    let (len, from) = socket.recv_from(&mut buffer).await?;
                    if from == *remote {
                        buffer.truncate(len);
                        return Ok(buffer);
                    }
                }
            }
            Self::Tcp { stream, received } => loop {
                if let Some((prefix, behind)) = received.split_first_chunk::<2>()
                    && let Some(frame) = behind.get(..usize::from(u16::from_be_bytes(*prefix)))
                {
                    let frame = frame.to_vec();
                    received.drain(..2 + frame.len());
                    return Ok(frame);
                }
                stream.readable().await?;
                let mut buffer = [0; 4096];
                match stream.try_read(&mut buffer) {
                    Ok(0) => anyhow::bail!("the server closed the TCP connection"),
                    Ok(len) => received.extend(buffer.get(..len).context("what was read")?),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            },
        }
    }
}

/// One of the server's addresses for UDP or TCP.
pub(crate) fn server_address(info: &Value, tcp: bool, index: usize) -> Result<SocketAddr> {
    let protocol = if tcp { "tcp" } else { "udp" };
    let candidates = info.pointer("/iceCandidates").and_then(Value::as_array).context("candidates")?;
    let has_protocol =
        |candidate: &&Value| candidate.get("protocol").and_then(Value::as_str) == Some(protocol);
    let candidate = candidates
        .iter()
        .filter(has_protocol)
        .nth(index)
        .with_context(|| format!("no {protocol} candidate"))?;
    let ip = candidate.get("ip").or(candidate.get("address")).and_then(Value::as_str);
    let port = candidate.get("port").and_then(Value::as_u64).context("a port")?;
    Ok(SocketAddr::new(ip.context("an address")?.parse()?, u16::try_from(port)?))
}
