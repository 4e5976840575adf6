//! From DTLS to SCTP to data producers, and from their consumers to SCTP to DTLS; on pipes, UDP takes DTLS's place.

use std::time::Instant;

use mediasoup_types::data_structures::SctpState;

use super::Audience;
use crate::sfu::api::Event;
use crate::sfu::direct_transport::Delivery;
use crate::sfu::sctp::{DataMessage, MAX_STREAMS, Output, Sctp, SendError};
use crate::sfu::transport::Kind;
use crate::sfu::{Worker, post};

impl Worker {
    pub(super) fn sctp(&mut self, transport: usize) -> Option<&mut Sctp> {
        self.transports.get_mut(transport)?.data.sctp.as_mut()
    }

    /// A transport got its keys: data channels that were made before that can be opened now.
    pub(in crate::sfu) fn start_sctp(&mut self, now: Instant, key: usize) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let data = &mut transport.data;
        if data.producers.is_empty() && data.consumers.is_empty() {
            return; // the peer begins, once it opens one
        }
        if let Some(sctp) = &mut data.sctp {
            sctp.connect(now);
            self.send_sctp(now, key);
        }
    }

    /// Handles SCTP packets that came in one datagram.
    pub(in crate::sfu) fn handle_sctp(
        &mut self,
        now: Instant,
        key: usize,
        packets: impl IntoIterator<Item: AsRef<[u8]>>,
    ) {
        for packet in packets {
            let Some(sctp) = self.sctp(key) else {
                self.stats.dropped_sctp += 1;
                continue;
            };
            sctp.handle_packet(now, packet.as_ref());
            while let Some((stream, message)) = self.sctp(key).and_then(Sctp::poll_message) {
                self.receive_data(now, key, stream, message);
            }
            self.send_sctp(now, key);
        }
    }

    /// Does what is due in SCTP.
    pub(in crate::sfu) fn handle_sctp_timeout(&mut self, now: Instant, key: usize) {
        let Some(sctp) = self.sctp(key) else { return };
        if sctp.poll_timeout().is_some_and(|due| due <= now) {
            sctp.handle_timeout(now);
            self.send_sctp(now, key);
        }
    }

    /// Does what an association asks for: packets go to the peer, news to the control plane.
    pub(super) fn send_sctp(&mut self, now: Instant, key: usize) {
        while let Some(output) = self.sctp(key).and_then(Sctp::poll_output) {
            match output {
                Output::Packet(packet) => self.send_sctp_packet(now, key, &packet),
                Output::Refused => self.stats.dropped_sctp += 1,
                Output::State(state) => self.note_sctp_state(key, state),
                Output::StreamsReset(streams) => self.follow_reset(now, key, &streams),
                Output::BufferedAmountLow(stream, amount) => {
                    let id = self.data_consumer_on(key, stream);
                    self.events.extend(id.map(|id| Event::DataConsumerBufferedAmountLow(id, amount)));
                }
            }
        }
        self.set_timer(key);
    }

    fn send_sctp_packet(&mut self, now: Instant, key: usize, packet: &[u8]) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        match (&mut transport.kind, transport.path) {
            (Kind::WebRtc(webrtc), _) => {
                webrtc.dtls.write(now, packet);
                self.send_dtls(key);
            }
            (Kind::Plain(_), Some(path)) => post(&mut self.outbox, &mut self.stats, path, packet.to_vec()),
            (Kind::Plain(_), None) | (Kind::Direct, _) => {}
        }
    }

    fn note_sctp_state(&mut self, key: usize, state: SctpState) {
        let Some(transport) = self.transports.get(key) else { return };
        self.events.push_back(Event::SctpStateChanged(transport.id, state));
    }

    /// The peer closed channels. It expects the same of this side before it uses their numbers again (RFC 8831 section
    /// 6.7); that a data producer or consumer is gone is signalled.
    fn follow_reset(&mut self, now: Instant, key: usize, streams: &[u16]) {
        let Some(data) = self.transports.get_mut(key).map(|transport| &mut transport.data) else { return };
        let Some(sctp) = &mut data.sctp else { return };
        let used = data.producers.keys().chain(data.consumers.keys()).filter(|_| streams.is_empty());
        for stream in streams.iter().filter(|stream| **stream < MAX_STREAMS).chain(used) {
            sctp.reset_stream(now, *stream);
        }
    }

    fn data_consumer_on(&self, transport: usize, stream: u16) -> Option<crate::ids::DataConsumerId> {
        let consumer = self.transports.get(transport)?.data.consumers.get(&stream)?;
        self.data.consumers.get(*consumer).map(|consumer| consumer.id)
    }

    fn receive_data(&mut self, now: Instant, transport: usize, stream: u16, message: Option<DataMessage>) {
        let transport = self.transports.get(transport);
        let producer = transport.and_then(|transport| transport.data.producers.get(&stream).copied());
        match (producer, message) {
            (Some(producer), Some(message)) => {
                self.forward_data(now, producer, &message, &Audience::default());
            }
            _ => self.stats.dropped_sctp += 1,
        }
    }

    /// Hands a message of a data producer to its consumers.
    pub(in crate::sfu) fn forward_data(
        &mut self,
        now: Instant,
        key: usize,
        message: &DataMessage,
        audience: &Audience,
    ) {
        let Some(producer) = self.data.producers.get_mut(key) else { return };
        producer.stats.messages_received += 1;
        producer.stats.bytes_received += message.payload().len() as u64;
        self.stats.messages_received += 1;
        if producer.paused {
            return;
        }
        // Nothing on the way makes or removes consumers.
        let consumers = std::mem::take(&mut producer.consumers);
        consumers.iter().for_each(|consumer| self.deliver_data(now, *consumer, message, audience));
        if let Some(producer) = self.data.producers.get_mut(key) {
            producer.consumers = consumers;
        }
    }

    fn deliver_data(&mut self, now: Instant, key: usize, message: &DataMessage, audience: &Audience) {
        let Some(consumer) = self.data.consumers.get_mut(key) else { return };
        if consumer.paused || !audience.includes(&consumer.subchannels) {
            return;
        }
        let Some(transport) = self.transports.get_mut(consumer.transport) else { return };
        let sent = match &mut transport.data.sctp {
            Some(sctp) => sctp.send(now, &consumer.parameters, message),
            None => {
                self.delivered.push_back(Delivery::Message(consumer.id, message.clone()));
                Ok(())
            }
        };
        match sent {
            Ok(()) => {
                consumer.stats.messages_sent += 1;
                consumer.stats.bytes_sent += message.payload().len() as u64;
                self.stats.messages_forwarded += 1;
            }
            Err(error) => {
                consumer.stats.messages_dropped += 1;
                self.stats.dropped_data += 1;
                if error == (SendError::BufferFull { is_news: true }) {
                    self.events.push_back(Event::DataConsumerBufferFull(consumer.id));
                }
            }
        }
        let transport = consumer.transport;
        self.send_sctp(now, transport);
    }
}
