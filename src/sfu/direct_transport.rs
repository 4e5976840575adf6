//! Direct transports: their other end is the process itself. Messages and packets are handed over as they are.
//!
//! What its producers would be asked for by RTCP (key frames, lost packets) is delivered as RTCP; what they send is read
//! by taps and consumers like everything else. It has no RTP consumers of its own that arrive anywhere: those are taps.

use std::time::Instant;

use super::{Worker, not_found};
use crate::ids::{DataConsumerId, DataProducerId, RouterId, TransportId};
use crate::sfu::api::{CreateTransportError, NotFound};
use crate::sfu::data::Audience;
use crate::sfu::sctp::{DataMessage, MAX_MESSAGE_LEN};
use crate::sfu::srtp;
use crate::sfu::transport::Kind;

/// What is for a reader inside the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// A message for a data consumer on a direct transport.
    Message(DataConsumerId, DataMessage),
    /// A data consumer on a direct transport is gone; nothing follows.
    DataConsumerClosed(DataConsumerId),
    /// A compound RTCP packet about the producers of a direct transport.
    Rtcp(TransportId, Vec<u8>),
    /// A direct transport is gone; no RTCP follows.
    TransportClosed(TransportId),
}

/// Why a message could not be sent from inside the process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendDataError {
    /// No such data producer.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// The data producer is not on a direct transport: its peer sends.
    #[error("the data producer's messages come from its peer")]
    NotDirect,
    /// The message is too long.
    #[error("the message has {0} bytes, {MAX_MESSAGE_LEN} are allowed")]
    TooLong(usize),
}

impl Worker {
    /// Makes a direct transport in a router.
    ///
    /// # Errors
    /// Fails if there is no such router or the worker is full.
    pub fn create_direct_transport(&mut self, router: RouterId) -> Result<TransportId, CreateTransportError> {
        let (key, id) = self.add_transport(router, Kind::Direct)?;
        if let Some(transport) = self.transports.get_mut(key) {
            transport.srtp = Some(srtp::clear());
        }
        Ok(id)
    }

    /// Sends a message on a data producer of a direct transport.
    ///
    /// # Errors
    /// Fails if there is no such data producer, it is on another kind of transport, or the message is too long.
    pub fn send_data(
        &mut self,
        now: Instant,
        id: DataProducerId,
        message: &DataMessage,
        audience: &Audience,
    ) -> Result<(), SendDataError> {
        let key = self.data_producer_key(id)?;
        if !self.data.transport_of(key).is_some_and(|transport| self.is_direct(transport)) {
            return Err(SendDataError::NotDirect);
        }
        if message.payload().len() > MAX_MESSAGE_LEN {
            return Err(SendDataError::TooLong(message.payload().len()));
        }
        self.forward_data(now, key, message, audience);
        Ok(())
    }

    /// Takes an RTP packet for a producer of a direct transport, or RTCP about one; they are told apart as on the wire
    /// (RFC 5761 section 4).
    ///
    /// # Errors
    /// Fails if there is no such direct transport. Packets of no producer are dropped and counted.
    pub fn send_rtp(&mut self, now: Instant, id: TransportId, packet: &mut [u8]) -> Result<(), NotFound> {
        let key = self.transport_key(id)?;
        if !self.is_direct(key) {
            return Err(not_found("direct transport", &id));
        }
        if matches!(packet.get(1), Some(192..=223)) {
            self.handle_rtcp(now, key, packet);
        } else {
            self.handle_rtp(now, key, packet);
        }
        Ok(())
    }

    /// The next thing for a reader inside the process.
    pub fn poll_delivered(&mut self) -> Option<Delivery> {
        self.delivered.pop_front()
    }

    /// Counts a message that a data consumer's reader was too slow for.
    pub fn note_data_drop(&mut self, id: DataConsumerId) {
        self.stats.dropped_data += 1;
        if let Ok(consumer) = self.data_consumer(id) {
            consumer.note_drop();
        }
    }

    /// Hands RTCP to a direct transport's reader. False if the transport is of another kind.
    pub(super) fn deliver_rtcp(&mut self, key: usize, compound: &[u8]) -> bool {
        if !self.is_direct(key) {
            return false;
        }
        let id = self.transports.get(key).map(|transport| transport.id);
        self.delivered.extend(id.map(|id| Delivery::Rtcp(id, compound.to_vec())));
        true
    }

    /// Tells the reader of a direct transport that it ends.
    pub(super) fn leave_direct(&mut self, key: usize) {
        let id = self.transports.get(key).filter(|_| self.is_direct(key)).map(|transport| transport.id);
        self.delivered.extend(id.map(Delivery::TransportClosed));
    }

    fn is_direct(&self, key: usize) -> bool {
        self.transports.get(key).is_some_and(|transport| matches!(transport.kind, Kind::Direct))
    }
}
