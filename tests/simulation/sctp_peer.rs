//! A peer's data channels: an SCTP association by another implementation than the server's.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use mediasoup_types::sctp_parameters::SctpStreamParameters;
use rtc_sctp::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier as Ppi, ReliabilityType, StreamEvent,
};
use rtc_shared::TransportProtocol;

fn server() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 5000))
}

/// A message: whether it is text, and its bytes.
pub(crate) type Received = (bool, Vec<u8>);

pub(crate) struct SctpPeer {
    endpoint: Endpoint,
    handle: AssociationHandle,
    association: Association,
    pub(crate) is_connected: bool,
    pub(crate) is_lost: bool,
    /// While this is false, nothing is read, and the window closes.
    pub(crate) reads: bool,
    pub(crate) received: BTreeMap<u16, Vec<Received>>,
    /// Streams that the server closed.
    pub(crate) closed: Vec<u16>,
    /// Packets for the server.
    pub(crate) outbox: VecDeque<Vec<u8>>,
}

impl SctpPeer {
    /// Begins an association, as browsers do once DTLS is up.
    pub(crate) fn connect(now: Instant) -> Self {
        let mut endpoint =
            Endpoint::new(server(), TransportProtocol::UDP, Arc::new(EndpointConfig::new()), None);
        let (handle, association) =
            endpoint.connect(now, ClientConfig::default(), server()).expect("a first association");
        let mut peer = Self {
            endpoint,
            handle,
            association,
            is_connected: false,
            is_lost: false,
            reads: true,
            received: BTreeMap::new(),
            closed: Vec::new(),
            outbox: VecDeque::new(),
        };
        peer.drain(now);
        peer
    }

    /// Opens this end of a negotiated channel. A message may have been here before.
    pub(crate) fn open(&mut self, parameters: &SctpStreamParameters) {
        let id = parameters.stream_id;
        if self.association.stream(id).is_err() {
            self.association.open_stream(id, Ppi::Binary).expect("a free stream");
        }
        let mut stream = self.association.stream(id).expect("an open stream");
        let (kind, value) = match (parameters.max_retransmits, parameters.max_packet_life_time) {
            (Some(retransmits), _) => (ReliabilityType::Rexmit, retransmits),
            (_, Some(time)) => (ReliabilityType::Timed, time),
            _ => (ReliabilityType::Reliable, 0),
        };
        stream.set_reliability_params(!parameters.ordered, kind, value.into()).expect("an open stream");
    }

    pub(crate) fn send(&mut self, now: Instant, stream: u16, is_text: bool, message: &[u8]) {
        let (ppi, message) = match (is_text, message) {
            (true, []) => (Ppi::StringEmpty, &[0][..]),
            (false, []) => (Ppi::BinaryEmpty, &[0][..]),
            (true, message) => (Ppi::String, message),
            (false, message) => (Ppi::Binary, message),
        };
        self.send_as(now, stream, ppi, message);
    }

    pub(crate) fn send_as(&mut self, now: Instant, stream: u16, ppi: Ppi, message: &[u8]) {
        let mut stream = self.association.stream(stream).expect("an open stream");
        stream.write_with_ppi(now, message, ppi).expect("a message that is not too long");
        self.drain(now);
    }

    /// Closes a channel.
    pub(crate) fn close(&mut self, now: Instant, stream: u16) {
        self.association
            .stream(stream)
            .expect("an open stream")
            .close(now)
            .expect("a reset that can be sent");
        self.drain(now);
    }

    pub(crate) fn handle_packet(&mut self, now: Instant, packet: Bytes) {
        if let Some((_, DatagramEvent::AssociationEvent(event))) =
            self.endpoint.handle(now, server(), None, packet)
        {
            self.association.handle_event(event);
        }
        self.drain(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.association.poll_timeout()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            self.association.handle_timeout(now);
        }
        self.drain(now);
    }

    fn drain(&mut self, now: Instant) {
        while let Some(event) = self.association.poll() {
            match event {
                Event::Connected => self.is_connected = true,
                Event::AssociationLost { id, .. } => self.closed.push(id),
                Event::HandshakeFailed { .. } => self.is_lost = true,
                Event::Stream(StreamEvent::Opened { .. }) => {
                    while self.association.accept_stream().is_some() {}
                }
                _ => {}
            }
        }
        if self.reads {
            self.read();
        }
        while let Some(event) = self.association.poll_endpoint_event() {
            self.endpoint.handle_event(self.handle, event);
        }
        while let Some(transmit) = self.association.poll_transmit(now) {
            let Payload::RawEncode(packets) = transmit.message else { continue };
            self.outbox.extend(packets.iter().map(|packet| packet.to_vec()));
        }
    }

    fn read(&mut self) {
        for id in self.association.stream_ids() {
            while let Some(chunks) =
                self.association.stream(id).ok().and_then(|mut stream| stream.read().ok()?)
            {
                let message = chunks.to_payload(1 << 20).expect("less than a megabyte").to_vec();
                let message = match chunks.ppi {
                    Ppi::String => (true, message),
                    Ppi::StringEmpty => (true, Vec::new()),
                    Ppi::Binary => (false, message),
                    Ppi::BinaryEmpty => (false, Vec::new()),
                    other => panic!("{other:?} on stream {id}"),
                };
                self.received.entry(id).or_default().push(message);
            }
        }
    }
}
