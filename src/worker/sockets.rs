//! Everything that one worker's thread reads from and writes to, by the names that the core knows it by.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use anyhow::Context as _;
use mio::event::Event;
use mio::{Interest, Registry, Token};

use super::listen;
use super::ports::Ports;
use super::tcp::{self, Tcp};
use super::udp::{Buffers, Udp};
use crate::sfu::plain_transport::OwnPort;
use crate::sfu::{SocketId, Transmit, Tuple, Worker};

/// The wake-up that announces requests.
pub(super) const REQUESTS: Token = Token(0);
/// The socket buffers of a listen address, in bytes: a burst of a few hundred viewers' key frames.
const SHARED_BUFFER_LEN: usize = 8 * 1024 * 1024;

/// What a token says is ready: the class is in the lowest two bits.
enum Source {
    Requests,
    Shared(usize),
    Listener(usize),
    Tcp(u32),
    Own(u32),
}

impl Source {
    fn token(&self) -> Token {
        match self {
            Self::Requests => REQUESTS,
            Self::Shared(index) => Token((index + 1) << 2),
            Self::Listener(index) => Token(index << 2 | 1),
            Self::Tcp(id) => Token((*id as usize) << 2 | 2),
            Self::Own(id) => Token((*id as usize) << 2 | 3),
        }
    }

    fn of(token: Token) -> Self {
        let number = token.0 >> 2;
        match token.0 & 3 {
            0 if number == 0 => Self::Requests,
            0 => Self::Shared(number - 1),
            1 => Self::Listener(number),
            2 => Self::Tcp(u32::try_from(number).unwrap_or(u32::MAX)),
            _ => Self::Own(u32::try_from(number).unwrap_or(u32::MAX)),
        }
    }
}

struct Shared {
    udp: Udp,
    is_readable: bool,
}

/// The sockets of one worker.
pub(super) struct Sockets {
    registry: Registry,
    shared: Vec<Shared>,
    tcp: Tcp,
    ports: Ports,
    buffers: Buffers,
    dropped: u64,
}

impl Sockets {
    /// Binds UDP and, if `with_tcp`, TCP to each of `addresses`, and polls them with `registry`.
    /// Further ports are opened in `ports`.
    pub(super) fn bind(
        registry: Registry,
        addresses: &[SocketAddr],
        with_tcp: bool,
        ports: Ports,
    ) -> anyhow::Result<Self> {
        let only_v6 = addresses.iter().any(SocketAddr::is_ipv4);
        let mut shared = Vec::with_capacity(addresses.len());
        let mut tcp = Tcp::default();
        for (index, address) in addresses.iter().enumerate() {
            let (mut udp, bound) = bind_both(*address, only_v6, with_tcp.then_some(&mut tcp))?;
            registry.register(&mut udp.socket, Source::Shared(index).token(), Interest::READABLE)?;
            tracing::debug!(%bound, "media is received here");
            shared.push(Shared { udp, is_readable: true });
        }
        tcp.register(&registry, |index| Source::Listener(index).token())?;
        Ok(Self { registry, shared, tcp, ports, buffers: Buffers::default(), dropped: 0 })
    }

    /// The bound addresses, in the order of the listen addresses.
    pub(super) fn local_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        self.shared.iter().map(|shared| shared.udp.local_addr()).collect()
    }

    /// Notes what is ready.
    pub(super) fn note(&mut self, event: &Event) {
        match Source::of(event.token()) {
            Source::Requests => {}
            Source::Shared(index) => {
                if let Some(shared) = self.shared.get_mut(index) {
                    shared.is_readable = true;
                }
            }
            Source::Listener(index) => self.tcp.note_acceptable(index),
            Source::Own(id) => self.ports.note_readable(id),
            Source::Tcp(id) => {
                if event.is_writable() {
                    self.tcp.note_writable(id);
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.tcp.note_readable(id);
                }
            }
        }
    }

    /// Whether something can be read without waiting.
    pub(super) fn is_readable(&self) -> bool {
        self.shared.iter().any(|shared| shared.is_readable) || self.tcp.is_ready() || self.ports.is_ready()
    }

    /// Reads one batch from each socket that has one into the core.
    pub(super) fn receive(&mut self, now: Instant, core: &mut Worker) {
        for (index, shared) in self.shared.iter_mut().enumerate() {
            if shared.is_readable {
                let socket = SocketId::Shared(u8::try_from(index).unwrap_or(u8::MAX));
                shared.is_readable = shared.udp.receive(&mut self.buffers, |remote, local, datagram| {
                    core.handle_datagram(now, Tuple { socket, remote, local }, datagram);
                });
            }
        }
        self.ports.receive(now, &mut self.buffers, core);
        if self.tcp.is_ready() {
            let token = |id| Source::Tcp(id).token();
            self.tcp.accept(now, &self.registry, token, |path| core.has_path(&tuple(path)));
            self.tcp.receive(|path, datagram| core.handle_datagram(now, tuple(&path), datagram));
        }
    }

    /// Closes ports whose transports have ended and TCP connections that nobody uses, and tells the core which ones are gone.
    pub(super) fn handle_timeout(&mut self, now: Instant, core: &mut Worker) {
        self.tcp.handle_timeout(now, |path| core.has_path(&tuple(path)));
        self.close_released(core);
        while let Some(path) = self.tcp.poll_closed() {
            core.handle_closed_path(&tuple(&path));
        }
    }

    /// Opens a UDP port for one transport; `None` if none is free.
    pub(super) fn open_port(&mut self, listen_ip: Option<IpAddr>) -> Option<OwnPort> {
        self.ports.open(listen_ip, &self.registry, |id| Source::Own(id).token())
    }

    /// Opens a UDP port that only this machine reaches.
    pub(super) fn open_loopback_port(&mut self) -> Option<OwnPort> {
        self.ports.open_loopback(&self.registry, |id| Source::Own(id).token())
    }

    /// Closes the ports whose transports have ended.
    pub(super) fn close_released(&mut self, core: &mut Worker) {
        while let Some(port) = core.poll_released_port() {
            self.close_port(port);
        }
    }

    /// Closes a port of a transport.
    pub(super) fn close_port(&mut self, id: u32) {
        self.ports.close(id);
    }

    /// How many datagrams were not sent since the last call.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

/// Binds UDP and TCP to one address; with port 0, to the same free port.
fn bind_both(address: SocketAddr, only_v6: bool, tcp: Option<&mut Tcp>) -> anyhow::Result<(Udp, SocketAddr)> {
    let Some(tcp) = tcp else {
        let udp = bind_udp(address, only_v6)?;
        let bound = udp.local_addr()?;
        return Ok((udp, bound));
    };
    for attempt in 1.. {
        let udp = bind_udp(address, only_v6)?;
        let bound = udp.local_addr()?;
        match tcp.bind(bound, only_v6) {
            Ok(()) => return Ok((udp, bound)),
            // Somebody else has the TCP port of this number: another one may be free in both.
            Err(_) if address.port() == 0 && attempt < listen::MAX_FREE_PORT_ATTEMPTS => {}
            Err(error) => {
                return Err(error).with_context(|| format!("TCP {bound} (rtc.listen) can't be bound"));
            }
        }
    }
    anyhow::bail!("no port is free in UDP and TCP")
}

fn bind_udp(address: SocketAddr, only_v6: bool) -> anyhow::Result<Udp> {
    Udp::bind(address, only_v6, SHARED_BUFFER_LEN)
        .with_context(|| format!("UDP {address} (rtc.listen) can't be bound"))
}

fn tuple(path: &tcp::Path) -> Tuple {
    Tuple { socket: SocketId::Tcp(path.id), remote: path.remote, local: path.local }
}

impl Transmit for Sockets {
    fn transmit(&mut self, to: Tuple, contents: &[u8], segment_size: usize) {
        self.dropped += match to.socket {
            SocketId::Shared(index) => self
                .shared
                .get(usize::from(index))
                .map_or(0, |shared| shared.udp.send(to.remote, to.local, contents, segment_size)),
            SocketId::Own(id) => self.ports.send(id, to.remote, contents, segment_size),
            SocketId::Tcp(id) => self.tcp.send(id, contents, segment_size),
        };
    }
}
