//! ICE-TCP (RFC 6544): clients whose network lets no UDP through open a TCP connection to the same port number, and
//! every datagram goes in a frame of its own (RFC 4571).
//!
//! A connection is as cheap for a stranger as it may be: it has to begin with STUN, and unless a valid check comes on
//! it soon, it is closed. What a slow reader does not take is lost, as it would be on UDP.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

/// Connections that one worker holds.
pub(super) const MAX_CONNECTIONS: usize = 4096;
/// The longest frame that is read, in bytes: more than any client's MTU.
const MAX_FRAME_LEN: usize = 2048;
/// Bytes that wait for a slow reader; a frame that does not fit is lost.
const MAX_UNSENT: usize = 128 * 1024;
/// The kernel's own buffer for a connection, in bytes. It is small, because what waits in it arrives late.
const KERNEL_BUFFER_LEN: usize = 128 * 1024;
/// How long a connection may be open without a valid check, and how often that is looked at again.
const PROOF_INTERVAL: Duration = Duration::from_secs(10);
/// Connections taken, and reads from one connection, before others get their turn.
const TURN: usize = 16;
/// Proven connections that are skipped in search of one that can be closed for a new one.
const MAX_SPARED: usize = 64;
/// The length before each frame (RFC 4571 section 2).
const PREFIX_LEN: usize = 2;
/// Bytes of one read.
const READ_LEN: usize = 64 * 1024;

/// A connection's path: its number and both addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) id: u32,
    pub(super) remote: SocketAddr,
    pub(super) local: Option<IpAddr>,
}

struct Connection {
    stream: TcpStream,
    path: Path,
    /// The beginning of a frame whose rest has not come.
    incoming: Vec<u8>,
    /// What the kernel did not take.
    unsent: Vec<u8>,
    has_begun: bool,
    /// Whether it waits to be read.
    is_queued: bool,
}

/// The listeners and connections of one worker.
pub(super) struct Tcp {
    listeners: Vec<TcpListener>,
    connections: HashMap<u32, Connection>,
    /// All connections, in the order in which they have to prove themselves.
    proofs: VecDeque<(Instant, u32)>,
    /// Connections with something to read, and listeners with something to take.
    readable: VecDeque<u32>,
    acceptable: Vec<usize>,
    closed: Vec<Path>,
    next: u32,
    limit: usize,
    buffer: Vec<u8>,
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            connections: HashMap::new(),
            proofs: VecDeque::new(),
            readable: VecDeque::new(),
            acceptable: Vec::new(),
            closed: Vec::new(),
            next: 0,
            limit: MAX_CONNECTIONS,
            buffer: vec![0; PREFIX_LEN + MAX_FRAME_LEN + READ_LEN],
        }
    }
}

impl Tcp {
    /// Listens on an address.
    pub(super) fn bind(&mut self, address: SocketAddr, only_v6: bool) -> io::Result<()> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(only_v6 || !address.ip().is_unspecified())?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(1024)?;
        self.listeners.push(TcpListener::from_std(socket.into()));
        Ok(())
    }

    /// Registers the listeners; `token` names each.
    pub(super) fn register(&mut self, registry: &Registry, token: impl Fn(usize) -> Token) -> io::Result<()> {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            registry.register(listener, token(index), Interest::READABLE)?;
            self.acceptable.push(index);
        }
        Ok(())
    }

    /// Somebody waits at a listener.
    pub(super) fn note_acceptable(&mut self, listener: usize) {
        if !self.acceptable.contains(&listener) {
            self.acceptable.push(listener);
        }
    }

    /// Something is to be read from a connection.
    pub(super) fn note_readable(&mut self, id: u32) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if !std::mem::replace(&mut connection.is_queued, true) {
            self.readable.push_back(id);
        }
    }

    /// The kernel takes more for a connection.
    pub(super) fn note_writable(&mut self, id: u32) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let unsent = std::mem::take(&mut connection.unsent);
        if !connection.write(&unsent) {
            self.close(id);
        }
    }

    /// Whether somebody waits.
    pub(super) fn is_ready(&self) -> bool {
        !self.readable.is_empty() || !self.acceptable.is_empty()
    }

    /// Takes new connections; `token` names them.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        registry: &Registry,
        token: impl Fn(u32) -> Token,
        mut is_proven: impl FnMut(&Path) -> bool,
    ) {
        for index in std::mem::take(&mut self.acceptable) {
            for taken in 0..=TURN {
                if taken == TURN {
                    self.acceptable.push(index);
                    break;
                }
                let Some(listener) = self.listeners.get(index) else { break };
                let (stream, remote) = match listener.accept() {
                    Ok(accepted) => accepted,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        // Without a file descriptor to spare, the next one who comes wakes the thread again.
                        tracing::debug!(%error, "a TCP connection could not be taken");
                        break;
                    }
                };
                if self.make_room(now, &mut is_proven) {
                    self.add(now, stream, remote, registry, &token);
                }
            }
        }
    }

    fn add(
        &mut self,
        now: Instant,
        mut stream: TcpStream,
        remote: SocketAddr,
        registry: &Registry,
        token: impl Fn(u32) -> Token,
    ) {
        while self.connections.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let id = self.next;
        self.next = (self.next + 1) & MAX_ID;
        let prepared = stream.set_nodelay(true).and_then(|()| {
            socket2::SockRef::from(&stream).set_send_buffer_size(KERNEL_BUFFER_LEN)?;
            registry.register(&mut stream, token(id), Interest::READABLE | Interest::WRITABLE)
        });
        if let Err(error) = prepared {
            tracing::debug!(%error, %remote, "a TCP connection could not be set up");
            return;
        }
        let local = stream.local_addr().ok().map(|address| address.ip());
        let path = Path { id, remote, local };
        let (incoming, unsent) = (Vec::new(), Vec::new());
        let connection = Connection { stream, path, incoming, unsent, has_begun: false, is_queued: false };
        self.connections.insert(id, connection);
        if self.proofs.len() >= 2 * MAX_CONNECTIONS {
            self.proofs.retain(|(_, id)| self.connections.contains_key(id));
        }
        self.proofs.push_back((now, id));
        self.note_readable(id);
    }

    /// Makes room for one more connection by closing the oldest one that has not proven itself. False if all have.
    fn make_room(&mut self, now: Instant, mut is_proven: impl FnMut(&Path) -> bool) -> bool {
        for _ in 0..MAX_SPARED {
            if self.connections.len() < self.limit {
                return true;
            }
            let Some((_, id)) = self.proofs.pop_front() else { return false };
            match self.connections.get(&id) {
                Some(connection) if is_proven(&connection.path) => self.proofs.push_back((now, id)),
                Some(_) => self.close(id),
                None => {}
            }
        }
        self.connections.len() < self.limit
    }

    /// Closes connections that have had their time and have not proven themselves, or whose transport ended.
    pub(super) fn handle_timeout(&mut self, now: Instant, mut is_proven: impl FnMut(&Path) -> bool) {
        while let Some((since, id)) = self.proofs.front().copied() {
            if now.saturating_duration_since(since) < PROOF_INTERVAL {
                return;
            }
            self.proofs.pop_front();
            match self.connections.get(&id) {
                Some(connection) if is_proven(&connection.path) => self.proofs.push_back((now, id)),
                Some(_) => self.close(id),
                None => {}
            }
        }
    }

    /// Reads from the connections that have something: each frame is a datagram.
    pub(super) fn receive(&mut self, mut each: impl FnMut(Path, &mut [u8])) {
        for _ in 0..self.readable.len().min(TURN) {
            let Some(id) = self.readable.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            match connection.read(&mut self.buffer, &mut each) {
                Reading::More => self.readable.push_back(id),
                Reading::Nothing => connection.is_queued = false,
                Reading::Ended => self.close(id),
            }
        }
    }

    /// Sends `contents` cut into datagrams of `segment_size` bytes; how many were lost is returned.
    pub(super) fn send(&mut self, id: u32, contents: &[u8], segment_size: usize) -> u64 {
        let datagrams = contents.chunks(segment_size.max(1));
        let Some(connection) = self.connections.get_mut(&id) else { return datagrams.len() as u64 };
        let mut dropped = 0;
        let mut frames = Vec::with_capacity(contents.len() + PREFIX_LEN * datagrams.len());
        for datagram in datagrams {
            let waiting = connection.unsent.len() + frames.len() + PREFIX_LEN + datagram.len();
            match u16::try_from(datagram.len()) {
                Ok(len) if waiting <= MAX_UNSENT => {
                    frames.extend(len.to_be_bytes());
                    frames.extend(datagram);
                }
                _ => dropped += 1,
            }
        }
        let is_open = if connection.unsent.is_empty() {
            connection.write(&frames)
        } else {
            connection.unsent.extend(frames);
            true
        };
        if !is_open {
            self.close(id);
        }
        dropped
    }

    fn close(&mut self, id: u32) {
        // Closing the stream takes it out of the poll as well.
        self.closed.extend(self.connections.remove(&id).map(|connection| connection.path));
    }

    /// The paths that ended since the last call.
    pub(super) fn poll_closed(&mut self) -> Option<Path> {
        self.closed.pop()
    }
}

/// The highest number of a connection; tokens have to hold it and what it is.
pub(super) const MAX_ID: u32 = u32::MAX >> 4;

enum Reading {
    More,
    Nothing,
    Ended,
}

impl Connection {
    /// Reads once. What came of an incomplete frame before is put in front of it.
    fn read(&mut self, buffer: &mut [u8], each: &mut impl FnMut(Path, &mut [u8])) -> Reading {
        let held = self.incoming.len();
        if let Some(front) = buffer.get_mut(..held) {
            front.copy_from_slice(&self.incoming);
        }
        let read = buffer.get_mut(held..).map_or(Ok(0), |free| self.stream.read(free));
        let len = match read {
            Ok(0) => return Reading::Ended,
            Ok(len) => held + len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Reading::Nothing,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Reading::More,
            Err(_) => return Reading::Ended,
        };
        let mut rest = buffer.get_mut(..len).unwrap_or_default();
        while let Some((&prefix, behind)) = rest.split_first_chunk::<PREFIX_LEN>() {
            let frame_len = usize::from(u16::from_be_bytes(prefix));
            if frame_len > MAX_FRAME_LEN || !self.may_begin_with(behind.first()) {
                return Reading::Ended;
            }
            if behind.len() < frame_len {
                break;
            }
            let (frame, next) = std::mem::take(&mut rest).split_at_mut(PREFIX_LEN).1.split_at_mut(frame_len);
            if !frame.is_empty() {
                self.has_begun = true;
                each(self.path, frame);
            }
            rest = next;
        }
        self.incoming.clear();
        self.incoming.extend_from_slice(rest);
        Reading::More
    }

    /// A connection begins with a STUN message (RFC 7983); who begins with anything else is no ICE client.
    fn may_begin_with(&self, first: Option<&u8>) -> bool {
        self.has_begun || first.is_none_or(|first| *first <= 3)
    }

    /// Writes what the kernel takes and keeps the rest, whose size the caller bounds. False if the connection ended.
    fn write(&mut self, mut frames: &[u8]) -> bool {
        while !frames.is_empty() {
            match self.stream.write(frames) {
                Ok(written) => frames = frames.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.unsent.extend_from_slice(frames);
                    return true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Shutdown};

    use super::*;

    /// A listener with its clients. What comes in is polled without a poll: everything is always tried.
    struct Server {
        tcp: Tcp,
        poll: mio::Poll,
        address: SocketAddr,
        now: Instant,
        received: Vec<(u32, Vec<u8>)>,
    }

    impl Server {
        fn new(limit: usize) -> Self {
            let mut tcp = Tcp { limit, ..Tcp::default() };
            tcp.bind((Ipv4Addr::LOCALHOST, 0).into(), false).unwrap();
            let address = tcp.listeners[0].local_addr().unwrap();
            Self { tcp, poll: mio::Poll::new().unwrap(), address, now: Instant::now(), received: Vec::new() }
        }

        fn connect(&mut self, proven: &[u32]) -> std::net::TcpStream {
            let client = std::net::TcpStream::connect(self.address).unwrap();
            self.tcp.note_acceptable(0);
            let registry = self.poll.registry();
            let token = |id| Token(id as usize);
            self.tcp.accept(self.now, registry, token, |path| proven.contains(&path.id));
            client
        }

        /// Reads until `done`.
        fn read(&mut self, done: impl Fn(&Self) -> bool) {
            while !done(self) {
                let ids: Vec<u32> = self.tcp.connections.keys().copied().collect();
                ids.into_iter().for_each(|id| self.tcp.note_readable(id));
                self.tcp.receive(|path, datagram| self.received.push((path.id, datagram.to_vec())));
                std::thread::yield_now();
            }
        }
    }

    fn frame(contents: &[u8]) -> Vec<u8> {
        [&u16::try_from(contents.len()).unwrap().to_be_bytes()[..], contents].concat()
    }

    #[test]
    fn frames_are_datagrams_however_they_are_cut() {
        let mut server = Server::new(8);
        let mut client = server.connect(&[]);
        let long = vec![0x80; MAX_FRAME_LEN];
        let bytes = [frame(&[0, 1, 2]), frame(&[]), frame(&long), frame(&[0x90])].concat();
        let expected = [vec![0, 1, 2], long, vec![0x90]].map(|datagram| (0, datagram));
        for piece in [1, 2, 3, 700, bytes.len()] {
            server.received.clear();
            for (index, part) in bytes.chunks(piece).enumerate() {
                client.write_all(part).unwrap();
                if index % 100 == 0 {
                    server.tcp.note_readable(0);
                    server.tcp.receive(|path, datagram| server.received.push((path.id, datagram.to_vec())));
                }
            }
            server.read(|server| server.received.len() == 3);
            assert_eq!(server.received, expected, "in pieces of {piece}");
        }
        assert_eq!(server.tcp.send(0, &[7; 25], 10), 0);
        let mut answer = [0; 31];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..], [frame(&[7; 10]), frame(&[7; 10]), frame(&[7; 5])].concat());
    }

    #[test]
    fn who_is_no_ice_client_is_closed() {
        let too_long = u16::try_from(MAX_FRAME_LEN + 1).unwrap().to_be_bytes();
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &too_long, &frame(&[22, 254, 253]), &[0, 9, 0x80]] {
            let mut server = Server::new(8);
            let mut client = server.connect(&[]);
            client.write_all(bytes).unwrap();
            server.read(|server| server.tcp.connections.is_empty());
            assert_eq!(server.received, [], "{bytes:?}");
            assert_eq!(server.tcp.poll_closed().map(|path| path.id), Some(0));
            assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
        }
        let mut server = Server::new(8);
        let client = server.connect(&[]);
        client.shutdown(Shutdown::Write).unwrap();
        server.read(|server| server.tcp.connections.is_empty());
    }

    #[test]
    fn a_slow_reader_costs_a_bounded_buffer_and_loses_whole_frames() {
        let mut server = Server::new(8);
        let mut client = server.connect(&[]);
        let mut lost = 0;
        let mut sent = 0_u32;
        while lost < 100 {
            let datagram: Vec<u8> = sent.to_be_bytes().into_iter().cycle().take(1200).collect();
            lost += server.tcp.send(0, &datagram, 1200);
            sent += 1;
            assert!(server.tcp.connections[&0].unsent.len() <= MAX_UNSENT);
        }
        client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut stream = Vec::new();
        let mut buffer = [0; 65_536];
        while !server.tcp.connections[&0].unsent.is_empty() || stream.len() % 1202 != 0 {
            stream.extend(client.read(&mut buffer).map(|len| buffer[..len].to_vec()).unwrap_or_default());
            server.tcp.note_writable(0);
        }
        for frame in stream.chunks(1202) {
            assert_eq!(frame[..2], 1200_u16.to_be_bytes());
            assert_eq!(frame[2..6], frame[1198..], "frames are whole");
        }
        assert_eq!(server.tcp.send(0, &[0; 10], 10), 0, "it goes on");
    }

    #[test]
    fn half_open_connections_make_room_and_end() {
        let mut server = Server::new(8);
        let clients: Vec<_> = (0..100).map(|_| server.connect(&[0, 1])).collect();
        let mut left: Vec<u32> = server.tcp.connections.keys().copied().collect();
        left.sort_unstable();
        assert_eq!(left, [0, 1, 94, 95, 96, 97, 98, 99], "the proven ones and the newest");
        assert!(server.tcp.proofs.len() <= 2 * MAX_CONNECTIONS);

        server.tcp.handle_timeout(server.now + PROOF_INTERVAL / 2, |_| false);
        assert_eq!(server.tcp.connections.len(), 8);
        server.tcp.handle_timeout(server.now + PROOF_INTERVAL, |path| path.id < 2);
        assert_eq!(server.tcp.connections.len(), 2);
        server.tcp.handle_timeout(server.now + 2 * PROOF_INTERVAL, |path| path.id == 1);
        assert_eq!(server.tcp.connections.keys().collect::<Vec<_>>(), [&1], "0's transport ended");
        drop(clients);
    }

    #[test]
    fn where_all_are_proven_the_newcomer_is_turned_away() {
        let mut server = Server::new(2);
        let _kept = [server.connect(&[0, 1]), server.connect(&[0, 1])];
        let mut turned_away = server.connect(&[0, 1]);
        assert!(matches!(turned_away.read(&mut [0]), Ok(0) | Err(_)));
        assert_eq!(server.tcp.connections.len(), 2);
    }
}
