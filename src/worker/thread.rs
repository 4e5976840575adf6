//! One worker's thread: datagrams in, requests in, time in; batches, events and tapped packets out.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit as Datagrams, UdpSockRef, UdpSocketState};
use tokio::sync::mpsc;

use crate::ids::TapId;
use crate::sfu::api::{Event, TapOutput};
use crate::sfu::{SocketId, Transmit, Tuple, Worker};

/// The wake-up that announces requests.
pub(super) const REQUESTS: Token = Token(0);
const SOCKET: Token = Token(1);

/// Requests that wait for a worker; one more waits in its caller.
pub(super) const MAX_REQUESTS: usize = 1024;
/// Events that wait for the control plane inside the worker, beyond the channel's own.
const MAX_WAITING_EVENTS: usize = 65_536;
/// Reads from the socket before requests and timers get their turn.
const READS_PER_TURN: usize = 64;
/// The largest datagram, or several of one size merged by the kernel.
const RECEIVE_BUFFER_LEN: usize = 64 * 1024;
/// Socket buffers, in bytes: a burst of a few hundred viewers' key frames. The system may grant less.
const SOCKET_BUFFER_LEN: usize = 8 * 1024 * 1024;
/// How long the thread sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(1);

/// What the control plane asks of a worker.
pub(super) enum Request {
    /// Run this between two datagrams.
    Run(Box<dyn FnOnce(&mut Turn<'_>) + Send>),
    /// Say goodbye to every peer and end.
    Stop,
}

/// What a request can reach.
pub(super) struct Turn<'a> {
    pub(super) now: Instant,
    pub(super) core: &'a mut Worker,
    pub(super) taps: &'a mut HashMap<TapId, mpsc::Sender<TapOutput>>,
}

/// Everything that a worker's thread owns.
pub(super) struct WorkerThread {
    pub(super) core: Worker,
    pub(super) poll: Poll,
    pub(super) socket: Socket,
    pub(super) requests: Receiver<Request>,
    pub(super) events: mpsc::Sender<Event>,
}

/// The worker's UDP socket with its offloads.
pub(super) struct Socket {
    socket: mio::net::UdpSocket,
    state: UdpSocketState,
    dropped: u64,
    buffers: Vec<Vec<u8>>,
}

impl Socket {
    /// Binds a socket.
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
        if address.is_ipv6() && address.ip().is_unspecified() {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let granted = state
            .set_send_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_LEN)
            .and_then(|()| state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_LEN));
        if let Err(error) = granted {
            tracing::warn!(%error, "the UDP socket keeps its default buffers");
        }
        Ok(Self {
            socket: mio::net::UdpSocket::from_std(socket.into()),
            state,
            dropped: 0,
            buffers: vec![vec![0; RECEIVE_BUFFER_LEN]; BATCH_SIZE],
        })
    }

    /// The bound address.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Reads one batch. False if there was nothing.
    fn receive(&mut self, mut each: impl FnMut(Tuple, &mut [u8])) -> bool {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut buffers = self.buffers.iter_mut();
        let mut slices: [io::IoSliceMut<'_>; BATCH_SIZE] = std::array::from_fn(|_| {
            io::IoSliceMut::new(buffers.next().map(Vec::as_mut_slice).unwrap_or_default())
        });
        let count = match self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut metas) {
            Ok(count) => count,
            // An ICMP error of an earlier send is no reason to stop reading.
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        };
        for (meta, buffer) in metas.iter().zip(&mut self.buffers).take(count) {
            let from = Tuple { socket: SocketId::Shared(0), remote: meta.addr, local: meta.dst_ip };
            let received = buffer.get_mut(..meta.len).unwrap_or_default();
            for datagram in received.chunks_mut(meta.stride.max(1)) {
                each(from, datagram);
            }
        }
        true
    }
}

impl Transmit for Socket {
    fn transmit(&mut self, to: Tuple, contents: &[u8], segment_size: usize) {
        let segment_size = segment_size.max(1);
        // Where the kernel can't cut a batch apart, it is one datagram at a time.
        for contents in contents.chunks(segment_size * self.state.max_gso_segments().max(1)) {
            let datagrams = Datagrams {
                destination: to.remote,
                ecn: None,
                contents,
                segment_size: (segment_size < contents.len()).then_some(segment_size),
                src_ip: to.local.filter(|ip| !ip.is_unspecified()),
            };
            if let Err(error) = self.state.try_send(UdpSockRef::from(&self.socket), &datagrams) {
                self.dropped += contents.len().div_ceil(segment_size) as u64;
                tracing::trace!(%error, to = %to.remote, "datagrams dropped");
            }
        }
    }
}

impl WorkerThread {
    /// Runs until it is told to stop or nobody holds its handles any more.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(8);
        let mut waiting: VecDeque<Event> = VecDeque::new();
        let mut taps: HashMap<TapId, mpsc::Sender<TapOutput>> = HashMap::new();
        if let Err(error) = self.poll.registry().register(&mut self.socket.socket, SOCKET, Interest::READABLE)
        {
            tracing::error!(%error, "the worker's socket can't be polled");
            return;
        }
        let mut readable = true;
        loop {
            let now = Instant::now();
            let until = self.core.poll_timeout().map_or(IDLE, |due| due.saturating_duration_since(now));
            let sleep = if readable { Duration::ZERO } else { until.min(IDLE) };
            match self.poll.poll(&mut events, Some(sleep)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::error!(%error, "the worker can't wait for datagrams");
                    return;
                }
            }
            readable |= events.iter().any(|event| event.token() == SOCKET);
            let stopping = self.handle_requests(&mut taps);
            if readable {
                readable = self.read();
            }
            let now = Instant::now();
            self.core.handle_timeout(now);
            if self.core.is_flush_due(now) {
                self.core.flush(now, &mut self.socket);
                self.core.note_send_drop(std::mem::take(&mut self.socket.dropped));
            }
            self.deliver(&mut waiting, &mut taps);
            if stopping {
                return;
            }
        }
    }

    /// Runs what was asked for. True if the worker is to stop.
    fn handle_requests(&mut self, taps: &mut HashMap<TapId, mpsc::Sender<TapOutput>>) -> bool {
        for _ in 0..MAX_REQUESTS {
            match self.requests.try_recv() {
                Ok(Request::Run(run)) => run(&mut Turn { now: Instant::now(), core: &mut self.core, taps }),
                Ok(Request::Stop) | Err(TryRecvError::Disconnected) => {
                    self.core.close(Instant::now());
                    return true;
                }
                Err(TryRecvError::Empty) => break,
            }
        }
        false
    }

    /// Reads until the socket is empty or others have to get their turn. False if it is empty.
    fn read(&mut self) -> bool {
        for _ in 0..READS_PER_TURN {
            let now = Instant::now();
            let core = &mut self.core;
            if !self.socket.receive(|from, datagram| core.handle_datagram(now, from, datagram)) {
                return false;
            }
            if self.core.is_flush_due(now) {
                self.core.flush(now, &mut self.socket);
            }
        }
        true
    }

    fn deliver(&mut self, waiting: &mut VecDeque<Event>, taps: &mut HashMap<TapId, mpsc::Sender<TapOutput>>) {
        while let Some((tap, output)) = self.core.poll_tapped() {
            let ends = matches!(output, TapOutput::Closed);
            let Some(reader) = taps.get(&tap) else { continue };
            match reader.try_send(output) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => self.core.note_tap_drop(),
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    taps.remove(&tap);
                    if self.core.close_tap(tap).is_err() {
                        tracing::debug!(%tap, "a tap ended twice");
                    }
                }
            }
            if ends {
                taps.remove(&tap); // the reader sees the end of its channel, even if the last output did not fit
            }
        }
        while let Some(event) = self.core.poll_event() {
            if waiting.len() < MAX_WAITING_EVENTS {
                waiting.push_back(event);
            } else {
                tracing::error!(?event, "the control plane does not take events: one is lost");
            }
        }
        while let Some(event) = waiting.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
                waiting.push_front(event);
                return;
            }
        }
    }
}

/// The address that `listen` stands for in candidates, where nothing is announced.
pub(super) fn default_announced(listen: SocketAddr) -> Vec<IpAddr> {
    if listen.ip().is_unspecified() { vec![IpAddr::from([127, 0, 0, 1])] } else { vec![listen.ip()] }
}
