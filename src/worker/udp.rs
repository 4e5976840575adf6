//! One UDP socket with the kernel's offloads: many datagrams in and out with one call.

use std::io;
use std::net::{IpAddr, SocketAddr};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};

/// The largest datagram, or several of one size merged by the kernel.
const RECEIVE_BUFFER_LEN: usize = 64 * 1024;

/// What one read takes, shared by all sockets of a thread.
pub(super) struct Buffers(Vec<Vec<u8>>);

impl Default for Buffers {
    fn default() -> Self {
        Self(vec![vec![0; RECEIVE_BUFFER_LEN]; BATCH_SIZE])
    }
}

/// A UDP socket.
pub(super) struct Udp {
    pub(super) socket: mio::net::UdpSocket,
    state: UdpSocketState,
}

impl Udp {
    /// Binds a socket whose buffers hold `buffer_len` bytes, if the system grants that. A socket on `[::]` takes IPv4
    /// as well unless it is `only_v6`.
    pub(super) fn bind(address: SocketAddr, only_v6: bool, buffer_len: usize) -> io::Result<Self> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(only_v6 || !address.ip().is_unspecified())?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let granted = state
            .set_send_buffer_size(UdpSockRef::from(&socket), buffer_len)
            .and_then(|()| state.set_recv_buffer_size(UdpSockRef::from(&socket), buffer_len));
        if let Err(error) = granted {
            tracing::warn!(%error, %address, "the UDP socket keeps its default buffers");
        }
        Ok(Self { socket: mio::net::UdpSocket::from_std(socket.into()), state })
    }

    /// The bound address.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Reads one batch: each datagram with its sender and the local address that it was sent to. False if there was
    /// nothing.
    pub(super) fn receive(
        &self,
        buffers: &mut Buffers,
        mut each: impl FnMut(SocketAddr, Option<IpAddr>, &mut [u8]),
    ) -> bool {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut free = buffers.0.iter_mut();
        let mut slices: [io::IoSliceMut<'_>; BATCH_SIZE] = std::array::from_fn(|_| {
            io::IoSliceMut::new(free.next().map(Vec::as_mut_slice).unwrap_or_default())
        });
        let count = match self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut metas) {
            Ok(count) => count,
            // An ICMP error of an earlier send is no reason to stop reading.
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        };
        for (meta, buffer) in metas.iter().zip(&mut buffers.0).take(count) {
            let received = buffer.get_mut(..meta.len).unwrap_or_default();
            for datagram in received.chunks_mut(meta.stride.max(1)) {
                each(meta.addr, meta.dst_ip, datagram);
            }
        }
        true
    }

    /// Sends `contents` cut into datagrams of `segment_size` bytes; how many the socket did not take is returned.
    pub(super) fn send(
        &self,
        to: SocketAddr,
        from: Option<IpAddr>,
        contents: &[u8],
        segment_size: usize,
    ) -> u64 {
        let segment_size = segment_size.max(1);
        let mut dropped = 0;
        // Where the kernel can't cut a batch apart, it is one datagram at a time.
        for contents in contents.chunks(segment_size * self.state.max_gso_segments().max(1)) {
            let datagrams = Transmit {
                destination: to,
                ecn: None,
                contents,
                segment_size: (segment_size < contents.len()).then_some(segment_size),
                src_ip: from.filter(|ip| !ip.is_unspecified()),
            };
            if let Err(error) = self.state.try_send(UdpSockRef::from(&self.socket), &datagrams) {
                dropped += contents.len().div_ceil(segment_size) as u64;
                tracing::trace!(%error, %to, "datagrams dropped");
            }
        }
        dropped
    }
}
