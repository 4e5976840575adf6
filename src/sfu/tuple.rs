//! Paths between the worker and a peer.

use std::net::{IpAddr, SocketAddr};

/// Which of the worker's sockets something came on or is to be sent from. The core owns no socket: whoever drives it
/// gives them these names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocketId {
    /// The UDP socket of a listen address, which all WebRTC transports share.
    Shared(u8),
    /// A UDP port of one transport alone. A number is not given out again while the port is open.
    Own(u32),
    /// A TCP connection of a client. A number is not given out again while the connection may still be known.
    Tcp(u32),
}

/// One path to a peer: the local socket, the peer's address, and the local address that it reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// The local socket.
    pub socket: SocketId,
    /// The peer's address.
    pub remote: SocketAddr,
    /// The local address that the peer's datagrams are sent to, where the system tells.
    pub local: Option<IpAddr>,
}

impl Tuple {
    /// A path over the first shared UDP socket.
    #[must_use]
    pub const fn shared(remote: SocketAddr) -> Self {
        Self { socket: SocketId::Shared(0), remote, local: None }
    }

    /// What tells this path from others. The local address does not: it may become known later.
    #[must_use]
    #[inline]
    pub const fn key(&self) -> (SocketId, SocketAddr) {
        (self.socket, self.remote)
    }
}
