//! UDP ports that belong to one transport each: those of plain and pipe transports.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Instant;

use mio::{Interest, Registry, Token};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::tcp::MAX_ID;
use super::udp::{Buffers, Udp};
use crate::sfu::plain_transport::OwnPort;
use crate::sfu::{SocketId, Tuple, Worker};

/// Ports that a range may hold.
const MAX_RANGE: u16 = 10_000;
/// The socket buffers of one port, in bytes: one publisher's or one viewer's burst.
const BUFFER_LEN: usize = 1024 * 1024;

/// Ports from the first to the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl Default for PortRange {
    fn default() -> Self {
        Self { first: 41_000, last: 41_999 }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        range.to_string()
    }
}

/// Why a text is no [`PortRange`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a range of ports is as in \"41000-41999\": the first one, at least 1, and the last one, at most {MAX_RANGE} ports"
)]
pub struct InvalidPortRange;

impl FromStr for PortRange {
    type Err = InvalidPortRange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once('-').ok_or(InvalidPortRange)?;
        let port = |text: &str| text.trim().parse::<u16>().map_err(|_| InvalidPortRange);
        let (first, last) = (port(first)?, port(last)?);
        let is_valid = first > 0 && first <= last && last - first < MAX_RANGE;
        is_valid.then_some(Self { first, last }).ok_or(InvalidPortRange)
    }
}

impl TryFrom<String> for PortRange {
    type Error = InvalidPortRange;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl PortRange {
    /// All ports, beginning anywhere, so that a port that was just used is seldom the next one.
    fn shuffled(self) -> impl Iterator<Item = u16> {
        let start = rand::rng().random_range(self.first..=self.last);
        (start..=self.last).chain(self.first..start)
    }
}

struct Port {
    udp: Udp,
    is_queued: bool,
}

/// The open ports of one worker.
pub(super) struct Ports {
    range: PortRange,
    /// Where ports are opened unless the transport says otherwise, and the address that peers are told for that.
    listen_ip: IpAddr,
    announced_ip: IpAddr,
    open: HashMap<u32, Port>,
    readable: VecDeque<u32>,
    next: u32,
}

impl Ports {
    /// Ports of `range` on the first of the `listen` addresses. Peers are told the best `announced` address instead of
    /// a wildcard.
    pub(super) fn new(range: PortRange, listen: &[SocketAddr], announced: &[IpAddr]) -> Self {
        let own = listen.first().map_or(IpAddr::from(Ipv4Addr::LOCALHOST), SocketAddr::ip);
        let announced_ip = announced.first().copied().unwrap_or(own);
        let listen_ip = match announced_ip {
            _ if !own.is_unspecified() => own,
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        Self { range, listen_ip, announced_ip, open: HashMap::new(), readable: VecDeque::new(), next: 0 }
    }

    /// Opens a free port of the range; `None` if there is none. `token` names it.
    pub(super) fn open(
        &mut self,
        listen_ip: Option<IpAddr>,
        registry: &Registry,
        token: impl Fn(u32) -> Token,
    ) -> Option<OwnPort> {
        let ip = listen_ip.unwrap_or(self.listen_ip);
        let bind = |port| Udp::bind(SocketAddr::new(ip, port), false, BUFFER_LEN).ok();
        let udp = self.range.shuffled().find_map(bind)?;
        let told = listen_ip.filter(|ip| !ip.is_unspecified()).unwrap_or(self.announced_ip);
        self.add(udp, told, registry, token)
    }

    /// Opens any port of the loopback interface, for a pipe inside this process. `token` names it.
    pub(super) fn open_loopback(
        &mut self,
        registry: &Registry,
        token: impl Fn(u32) -> Token,
    ) -> Option<OwnPort> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let udp = Udp::bind(SocketAddr::new(loopback, 0), false, BUFFER_LEN).ok()?;
        self.add(udp, loopback, registry, token)
    }

    fn add(
        &mut self,
        mut udp: Udp,
        told: IpAddr,
        registry: &Registry,
        token: impl Fn(u32) -> Token,
    ) -> Option<OwnPort> {
        let port = udp.local_addr().ok()?.port();
        while self.open.contains_key(&self.next) {
            self.next = (self.next + 1) & MAX_ID;
        }
        let id = self.next;
        self.next = (self.next + 1) & MAX_ID;
        if let Err(error) = registry.register(&mut udp.socket, token(id), Interest::READABLE) {
            tracing::error!(%error, port, "a UDP port can't be polled");
            return None;
        }
        self.open.insert(id, Port { udp, is_queued: false });
        Some(OwnPort { id, address: SocketAddr::new(told, port) })
    }

    pub(super) fn close(&mut self, id: u32) {
        // Closing the socket takes it out of the poll as well.
        self.open.remove(&id);
    }

    /// Something is to be read from a port.
    pub(super) fn note_readable(&mut self, id: u32) {
        let Some(port) = self.open.get_mut(&id) else { return };
        if !std::mem::replace(&mut port.is_queued, true) {
            self.readable.push_back(id);
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        !self.readable.is_empty()
    }

    /// Reads one batch from each port that has one.
    pub(super) fn receive(&mut self, now: Instant, buffers: &mut Buffers, core: &mut Worker) {
        for _ in 0..self.readable.len() {
            let Some(id) = self.readable.pop_front() else { return };
            let Some(port) = self.open.get_mut(&id) else { continue };
            let socket = SocketId::Own(id);
            port.is_queued = port.udp.receive(buffers, |remote, local, datagram| {
                core.handle_datagram(now, Tuple { socket, remote, local }, datagram);
            });
            if port.is_queued {
                self.readable.push_back(id);
            }
        }
    }

    /// Sends datagrams; how many the socket did not take is returned.
    pub(super) fn send(&self, id: u32, to: SocketAddr, contents: &[u8], segment_size: usize) -> u64 {
        self.open.get(&id).map_or(0, |port| port.udp.send(to, None, contents, segment_size))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_range_reads_as_it_prints_and_refuses_nonsense() {
        for text in ["41000-41999", "1-1", "65535-65535"] {
            assert_eq!(text.parse::<PortRange>().unwrap().to_string(), text);
        }
        for text in ["", "-", "5", "0-7", "9-8", "1-10001", "1-65536", "a-b", "1-2-3"] {
            assert_eq!(text.parse::<PortRange>(), Err(InvalidPortRange), "{text}");
        }
    }

    #[test]
    fn each_port_is_given_out_once_until_it_is_closed() {
        // Four free ports in a row: the system's own choice, and those behind it, until that works.
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        let first = std::iter::repeat_with(|| {
            std::net::UdpSocket::bind((loopback, 0)).unwrap().local_addr().unwrap().port()
        })
        .find(|first| {
            let row: Vec<_> = (*first..first.saturating_add(4))
                .filter_map(|port| std::net::UdpSocket::bind((loopback, port)).ok())
                .collect();
            row.len() == 4
        })
        .unwrap();
        let range = PortRange { first, last: first + 3 };
        let poll = mio::Poll::new().unwrap();
        let mut ports = Ports::new(range, &[(loopback, 0).into()], &[]);
        let mut open = || ports.open(None, poll.registry(), |id| Token(id as usize));
        let opened: Vec<OwnPort> = std::iter::from_fn(&mut open).take(5).collect();
        let numbers: HashSet<u16> = opened.iter().map(|port| port.address.port()).collect();
        assert_eq!(numbers, (first..=first + 3).collect::<HashSet<_>>());
        ports.close(opened[2].id);
        let again = ports.open(None, poll.registry(), |id| Token(id as usize)).unwrap();
        assert_eq!(again.address, opened[2].address);
        assert_ne!(again.id, opened[2].id, "a number is not used again at once");
    }
}
