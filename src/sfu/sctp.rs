//! SCTP of one transport, which carries data channels (RFC 8831): an association inside DTLS (RFC 8261), or between two
//! pipe transports over UDP as it is (mediasoup's way), by `dcsctp`, whose authors wrote the stack of Chromium too. Its price is that it makes a line of hexadecimal text for its log of
//! every packet, whether anyone reads the log or not: 20 ns per byte, most of what a large message costs here.
//!
//! What an association can hold is counted here and not there: a message costs its length and [`MESSAGE_OVERHEAD`]
//! from [`Sctp::send`] until the peer has acknowledged it or it was given up, so a peer that acknowledges nothing, or
//! is sent a million empty messages, holds no more memory than any other.

mod filter;
mod message;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use dcsctp::api::{
    DcSctpSocket as _, ErrorKind, LifecycleId, Message, Options, PpId, SendOptions, Socket, SocketEvent,
    SocketTime, StreamId, ZERO_CHECKSUM_ALTERNATE_ERROR_DETECTION_METHOD_LOWER_LAYER_DTLS as CHECKED_BY_DTLS,
    ZERO_CHECKSUM_ALTERNATE_ERROR_DETECTION_METHOD_NONE as CHECKED_BY_NOBODY,
};
use mediasoup_types::data_structures::SctpState;
use mediasoup_types::sctp_parameters::{SctpParameters, SctpStreamParameters};

use filter::Filter;
pub use message::DataMessage;

/// The port that both sides of a data channel association use (RFC 8841 section 5.1 lets SDP say another; browsers
/// don't).
pub const PORT: u16 = 5000;
/// Streams in each direction (mediasoup's default).
pub const MAX_STREAMS: u16 = 1024;
/// The longest message in bytes, in both directions (mediasoup's default, and what browsers announce).
pub const MAX_MESSAGE_LEN: usize = 262_144;
/// What one stream's messages may cost that the peer has not acknowledged yet (mediasoup's default). A message always
/// fits into an empty stream.
pub const MAX_STREAM_BUFFER_LEN: usize = 2_000_000;
/// The same for all streams of an association together: a stream that is full leaves room for others.
pub const MAX_SEND_BUFFER_LEN: usize = 4_000_000;
/// What the stack keeps of a message beside its bytes, roughly, in bytes.
pub const MESSAGE_OVERHEAD: usize = 128;
/// Bytes of incomplete messages that are kept: two of the longest ones.
pub const RECEIVE_WINDOW_LEN: usize = 512 * 1024;

/// Associations that a peer may have after each other on one transport: who ends one to begin another all the time makes
/// work for the control plane.
const MAX_ASSOCIATIONS: u8 = 16;

/// What an association brought about.
#[derive(Debug)]
pub enum Output {
    /// A packet for the peer.
    Packet(Vec<u8>),
    /// A packet of the peer was refused.
    Refused,
    /// The association has another state.
    State(SctpState),
    /// The peer closed its direction of these streams; of all, if the list is empty.
    StreamsReset(Vec<u16>),
    /// A stream that refused messages takes them again: this many bytes are left, no more than its threshold.
    BufferedAmountLow(u16, usize),
}

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer is too slow for the stream or for the association. `is_news` the first time, until
    /// [`Output::BufferedAmountLow`].
    #[error("the send buffer is full")]
    BufferFull {
        /// Whether the stream was not full before.
        is_news: bool,
    },
    /// The message is longer than [`MAX_MESSAGE_LEN`].
    #[error("the message has {0} bytes, {MAX_MESSAGE_LEN} are allowed")]
    TooLong(usize),
    /// The association has ended.
    #[error("the SCTP association has ended")]
    Ended,
}

/// What a stream's messages hold until they are acknowledged.
#[derive(Debug, Default)]
struct Stream {
    bytes: usize,
    messages: usize,
    /// Set while messages are refused.
    is_full: bool,
    low_threshold: usize,
}

impl Stream {
    fn cost(&self) -> usize {
        self.bytes + self.messages * MESSAGE_OVERHEAD
    }
}

/// What carries an association.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// DTLS, which tells what was damaged on the way.
    Dtls,
    /// UDP: the stack's checksums do that.
    Udp,
}

/// Whether a datagram on a pipe is SCTP: both ports are [`PORT`], whose first byte is neither RTP's nor RTCP's.
#[must_use]
pub fn is_sctp(datagram: &[u8]) -> bool {
    let [high, low] = PORT.to_be_bytes();
    datagram.starts_with(&[high, low, high, low])
}

/// One SCTP association.
pub struct Sctp {
    carrier: Carrier,
    /// Nothing is left of it after a panic of the stack or the last of [`MAX_ASSOCIATIONS`].
    socket: Option<Box<Socket>>,
    epoch: Instant,
    filter: Filter,
    state: SctpState,
    streams: HashMap<u16, Stream>,
    cost: usize,
    /// How many of the streams are full.
    full: usize,
    /// Packets that the filter refused and [`Self::poll_output`] has not told of.
    refused: u32,
    ended: u8,
    has_panicked: bool,
}

impl Sctp {
    /// An association that waits for its peer. Its clock counts from `epoch`, which no later time may precede.
    #[must_use]
    pub fn new(epoch: Instant, carrier: Carrier) -> Self {
        let socket = Some(Box::new(Socket::new("", &options(carrier))));
        Self {
            carrier,
            socket,
            epoch,
            filter: Filter::default(),
            state: SctpState::New,
            streams: HashMap::new(),
            cost: 0,
            full: 0,
            refused: 0,
            ended: 0,
            has_panicked: false,
        }
    }

    /// What clients are told of it.
    #[must_use]
    pub fn parameters() -> SctpParameters {
        SctpParameters {
            port: PORT,
            max_send_message_size: MAX_MESSAGE_LEN as u32,
            max_receive_message_size: MAX_MESSAGE_LEN as u32,
            send_buffer_size: MAX_SEND_BUFFER_LEN as u32,
            per_stream_send_queue_limit: MAX_STREAM_BUFFER_LEN as u32,
            max_receiver_window_buffer_size: RECEIVE_WINDOW_LEN as u32,
            is_data_channel: true,
            os: MAX_STREAMS,
            mis: MAX_STREAMS,
            max_message_size: MAX_MESSAGE_LEN as u32,
        }
    }

    /// The association's state.
    #[must_use]
    pub fn state(&self) -> SctpState {
        self.state
    }

    /// Whether the stack panicked: nothing will come of this association any more.
    #[must_use]
    pub fn has_panicked(&self) -> bool {
        self.has_panicked
    }

    /// Begins an association unless it was begun. Both sides may do so at once (RFC 9260 section 5.2.1).
    pub fn connect(&mut self, now: Instant) {
        if self.state == SctpState::New {
            self.state = SctpState::Connecting;
            self.run(now, |socket| socket.connect());
        }
    }

    /// Handles one packet of the peer.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        if self.filter.accepts(packet) {
            self.run(now, |socket| socket.handle_input(packet));
        } else {
            self.refused += 1;
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.run(now, |_| ());
    }

    /// When something is due next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.socket.as_ref()?.poll_timeout();
        (due != SocketTime::infinite_future()).then(|| self.epoch + (due - SocketTime::zero()))
    }

    /// Sends a message on a stream. One that is not sent now waits for the peer to keep up.
    ///
    /// # Errors
    /// Fails if the message is too long, too much waits already, or the association has ended.
    pub fn send(
        &mut self,
        now: Instant,
        parameters: &SctpStreamParameters,
        message: &DataMessage,
    ) -> Result<(), SendError> {
        let len = message.sctp_len();
        if len > MAX_MESSAGE_LEN {
            return Err(SendError::TooLong(len));
        }
        if matches!(self.state, SctpState::Failed | SctpState::Closed) {
            return Err(SendError::Ended);
        }
        let stream = self.streams.entry(parameters.stream_id).or_default();
        let cost = len + MESSAGE_OVERHEAD;
        let fits_stream = stream.messages == 0 || stream.cost() + cost <= MAX_STREAM_BUFFER_LEN;
        if !fits_stream || self.cost + cost > MAX_SEND_BUFFER_LEN {
            let is_news = !std::mem::replace(&mut stream.is_full, true);
            self.full += usize::from(is_news);
            return Err(SendError::BufferFull { is_news });
        }
        stream.bytes += len;
        stream.messages += 1;
        self.cost += cost;
        let options = SendOptions {
            unordered: !parameters.ordered,
            lifetime: parameters.max_packet_life_time.map(|time| Duration::from_millis(time.into())),
            max_retransmissions: parameters.max_retransmits,
            lifecycle_id: lifecycle_id(parameters.stream_id, len),
        };
        let (ppid, payload) = message.to_sctp();
        let message = Message::new(StreamId(parameters.stream_id), PpId(ppid), payload);
        match self.run(now, |socket| socket.send(message, &options)) {
            Some(Ok(())) => Ok(()),
            _ => Err(SendError::Ended),
        }
    }

    /// Closes this side's direction of a stream (RFC 6525): what waits there is dropped, and the number can be used
    /// for another channel.
    pub fn reset_stream(&mut self, now: Instant, stream: u16) {
        if let Some(Err(error)) = self.run(now, |socket| socket.reset_streams(&[StreamId(stream)])) {
            tracing::debug!(stream, %error, "a stream was not reset");
        }
    }

    /// Bytes of a stream that the peer has not acknowledged yet.
    #[must_use]
    pub fn buffered_amount(&self, stream: u16) -> usize {
        self.streams.get(&stream).map_or(0, |stream| stream.bytes)
    }

    /// At how many bytes a stream that was full counts as drained.
    pub fn set_buffered_amount_low_threshold(&mut self, stream: u16, threshold: usize) {
        self.streams.entry(stream).or_default().low_threshold = threshold;
    }

    /// Forgets what a stream was used for.
    pub fn forget_stream(&mut self, stream: u16) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            self.full -= usize::from(stream.is_full);
            *stream = Stream { bytes: stream.bytes, messages: stream.messages, ..Stream::default() };
        }
    }

    /// The next message of the peer, and the stream that it came on. There is none in it if it is not one of a data
    /// channel, or longer than was agreed.
    pub fn poll_message(&mut self) -> Option<(u16, Option<DataMessage>)> {
        let Message { stream_id, ppid, payload } = self.socket.as_mut()?.get_next_message()?;
        Some((stream_id.0, DataMessage::from_sctp(ppid.0, payload)))
    }

    /// The next thing that the association brought about.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.refused > 0 {
            self.refused -= 1;
            return Some(Output::Refused);
        }
        loop {
            let Some(socket) = &mut self.socket else {
                let is_over = matches!(self.state, SctpState::Failed | SctpState::Closed);
                return (!is_over).then(|| self.change(SctpState::Failed));
            };
            let Some(event) = socket.poll_event() else { return self.poll_drained() };
            if let Some(output) = self.translate(event) {
                return Some(output);
            }
        }
    }

    /// The next stream that was full and may be written to again.
    fn poll_drained(&mut self) -> Option<Output> {
        if self.full == 0 || self.cost > MAX_SEND_BUFFER_LEN / 2 {
            return None;
        }
        let is_drained = |stream: &Stream| stream.is_full && stream.bytes <= stream.low_threshold;
        let (number, stream) = self.streams.iter_mut().find(|(_, stream)| is_drained(stream))?;
        stream.is_full = false;
        self.full -= 1;
        Some(Output::BufferedAmountLow(*number, stream.bytes))
    }

    fn translate(&mut self, event: SocketEvent) -> Option<Output> {
        match event {
            SocketEvent::SendPacket(packet) => {
                self.filter.note_sent(&packet);
                Some(Output::Packet(packet))
            }
            SocketEvent::OnConnectionRestarted() => {
                self.filter = Filter::default();
                None
            }
            SocketEvent::OnConnected() => {
                (self.state != SctpState::Connected).then(|| self.change(SctpState::Connected))
            }
            SocketEvent::OnClosed() => Some(self.end(SctpState::Closed)),
            SocketEvent::OnAborted(kind, reason) => {
                tracing::debug!(?kind, reason, "an SCTP association was aborted");
                Some(self.end(SctpState::Failed))
            }
            SocketEvent::OnError(kind, reason) => {
                tracing::trace!(?kind, reason, "SCTP");
                (kind == ErrorKind::ParseFailed).then_some(Output::Refused)
            }
            SocketEvent::OnIncomingStreamReset(streams) => {
                Some(Output::StreamsReset(streams.into_iter().map(|stream| stream.0).collect()))
            }
            SocketEvent::OnLifecycleEnd(id) => {
                self.release(id);
                None
            }
            _ => None,
        }
    }

    fn change(&mut self, state: SctpState) -> Output {
        self.state = state;
        Output::State(state)
    }

    /// The association is over. A peer may begin another one; nothing of this one is left for it.
    fn end(&mut self, state: SctpState) -> Output {
        self.ended += 1;
        let may_go_on = self.ended < MAX_ASSOCIATIONS;
        self.socket = may_go_on.then(|| Box::new(Socket::new("", &options(self.carrier))));
        self.filter = Filter::default();
        self.streams.clear();
        (self.cost, self.full) = (0, 0);
        self.change(state)
    }

    /// A message was acknowledged or given up.
    fn release(&mut self, id: LifecycleId) {
        let (number, len) = stream_and_len(id);
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.bytes = stream.bytes.saturating_sub(len);
        stream.messages = stream.messages.saturating_sub(1);
        self.cost = self.cost.saturating_sub(len + MESSAGE_OVERHEAD);
    }

    /// Does something with the stack at a time. A panic in it ends this association alone.
    fn run<T>(&mut self, now: Instant, f: impl FnOnce(&mut Socket) -> T) -> Option<T> {
        let time = SocketTime::zero() + now.saturating_duration_since(self.epoch);
        let socket = self.socket.as_mut()?;
        let done = catch_unwind(AssertUnwindSafe(|| {
            socket.advance_time(time);
            f(socket)
        }));
        if done.is_err() {
            tracing::warn!("an SCTP association ended in a panic of its stack");
            self.socket = None;
            self.has_panicked = true;
        }
        done.ok()
    }
}

fn options(carrier: Carrier) -> Options {
    Options {
        local_port: PORT,
        remote_port: PORT,
        announced_maximum_incoming_streams: MAX_STREAMS,
        announced_maximum_outgoing_streams: MAX_STREAMS,
        max_message_size: MAX_MESSAGE_LEN,
        max_receiver_window_buffer_size: RECEIVE_WINDOW_LEN,
        // `Sctp::send` is stricter.
        max_send_buffer_size: usize::MAX,
        per_stream_send_queue_limit: usize::MAX,
        zero_checksum_alternate_error_detection_method: match carrier {
            Carrier::Dtls => CHECKED_BY_DTLS,
            Carrier::Udp => CHECKED_BY_NOBODY,
        },
        ..Options::default()
    }
}

/// What the stack names a message by when it is done with it: its stream and length, with a bit that is always set
/// because zero is no name.
fn lifecycle_id(stream: u16, len: usize) -> Option<LifecycleId> {
    LifecycleId::new(1 << 63 | u64::from(stream) << 32 | len as u64)
}

fn stream_and_len(id: LifecycleId) -> (u16, usize) {
    ((id.value() >> 32) as u16, id.value() as u32 as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes packets from one to the other until neither has more to say; gives what else came of it.
    fn talk(now: Instant, left: &mut Sctp, right: &mut Sctp) -> Vec<SctpState> {
        let mut states = Vec::new();
        loop {
            let (mut is_silent, before) = (true, states.len());
            for _ in 0..2 {
                while let Some(output) = left.poll_output() {
                    match output {
                        Output::Packet(packet) => right.handle_packet(now, &packet),
                        Output::State(state) => states.push(state),
                        other => panic!("{other:?}"),
                    }
                    is_silent = false;
                }
                std::mem::swap(left, right);
            }
            if is_silent && before == states.len() {
                return states;
            }
        }
    }

    #[test]
    fn old_and_new_clients_find_the_parameters_they_look_for() {
        let parameters = serde_json::to_value(Sctp::parameters()).expect("serializable");
        let fields = ["port", "OS", "MIS", "maxMessageSize", "maxSendMessageSize", "maxReceiveMessageSize"];
        let values = fields.map(|field| parameters[field].as_u64().expect(field));
        assert_eq!(values, [5000, 1024, 1024, 262_144, 262_144, 262_144]);
    }

    #[test]
    fn associations_that_end_all_the_time_end_for_good() {
        let now = Instant::now();
        let mut weir = Sctp::new(now, Carrier::Dtls);
        let mut connected = 0;
        for _ in 0..100 {
            let mut peer = Sctp::new(now, Carrier::Dtls);
            peer.connect(now);
            connected += talk(now, &mut weir, &mut peer).len() / 2;
            peer.run(now, |socket| socket.close());
            talk(now, &mut weir, &mut peer);
        }
        assert_eq!(connected, usize::from(MAX_ASSOCIATIONS));
        assert!(weir.state() == SctpState::Failed && !weir.has_panicked() && weir.poll_timeout().is_none());
        let sent = weir.send(now, &SctpStreamParameters::new_ordered(0), &DataMessage::String("x".into()));
        assert_eq!(sent, Err(SendError::Ended));
    }

    #[test]
    fn a_panic_of_the_stack_ends_one_association() {
        let now = Instant::now();
        let (mut weir, mut peer) = (Sctp::new(now, Carrier::Dtls), Sctp::new(now, Carrier::Dtls));
        weir.connect(now);
        assert_eq!(talk(now, &mut weir, &mut peer), [SctpState::Connected; 2]);
        assert!(weir.run(now, |_| -> () { panic!("as a stack does that meets the impossible") }).is_none());
        assert!(weir.has_panicked());
        assert!(matches!(weir.poll_output(), Some(Output::State(SctpState::Failed))));
        assert!(weir.poll_output().is_none() && weir.poll_message().is_none());
        weir.handle_packet(now, &[0; 64]);
    }
}
