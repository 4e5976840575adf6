//! Requests about direct transports.

use tokio::sync::mpsc;

use super::{RequestError, RouterHandle};
use crate::ids::{DataProducerId, TransportId};
use crate::sfu::api::CreateTransportError;
use crate::sfu::data::{Audience, ConsumeDataError, DataConsumerInfo, DataConsumerOptions};
use crate::sfu::direct_transport::SendDataError;
use crate::sfu::sctp::DataMessage;
use crate::worker::thread::Request;

/// Compound RTCP packets that wait for a direct transport's user.
const MAX_RTCP: usize = 64;

/// The worker has too much else to do for a packet, or is shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the media worker does not take packets")]
pub struct PacketDropped;

impl RouterHandle {
    /// Makes a direct transport: what its producers send and its data consumers get is the process's own. The receiver
    /// gets RTCP about its RTP producers (key frame requests, NACKs) and ends with the transport; who produces no RTP
    /// may drop it.
    ///
    /// # Errors
    /// See [`CreateTransportError`].
    pub async fn create_direct_transport(
        &self,
    ) -> Result<(TransportId, mpsc::Receiver<Vec<u8>>), RequestError<CreateTransportError>> {
        let router = self.id;
        let (sender, receiver) = mpsc::channel(MAX_RTCP);
        let made = self.worker.call(move |turn| {
            let id = turn.core.create_direct_transport(router)?;
            turn.readers.rtcp.insert(id, sender);
            Ok(id)
        });
        made.await.map(|id| (id, receiver))
    }

    /// Makes a data consumer on a direct transport. The channel holds `capacity` messages; what does not fit is
    /// dropped and counted. It ends with the data consumer, which dropping the receiver closes.
    ///
    /// # Errors
    /// See [`ConsumeDataError`].
    pub async fn consume_data_directly(
        &self,
        transport: TransportId,
        producer: DataProducerId,
        options: DataConsumerOptions,
        capacity: usize,
    ) -> Result<(DataConsumerInfo, mpsc::Receiver<DataMessage>), RequestError<ConsumeDataError>> {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let made = self.worker.call(move |turn| {
            let info = turn.core.consume_data(turn.now, transport, producer, options)?;
            turn.readers.data.insert(info.id, sender);
            Ok(info)
        });
        made.await.map(|info| (info, receiver))
    }

    /// Sends a message on a data producer of a direct transport. Waits while the worker has too much else to do.
    ///
    /// # Errors
    /// See [`SendDataError`].
    pub async fn send_data(
        &self,
        producer: DataProducerId,
        message: DataMessage,
        audience: Audience,
    ) -> Result<(), RequestError<SendDataError>> {
        self.worker.call(move |turn| turn.core.send_data(turn.now, producer, &message, &audience)).await
    }

    /// Sends an RTP packet of a producer of a direct transport, or RTCP about one. Does not wait: like a network, a
    /// worker that has too much else to do loses it.
    ///
    /// # Errors
    /// Fails if the worker's queue is full or the worker is shut down.
    pub fn send_rtp(&self, transport: TransportId, mut packet: Vec<u8>) -> Result<(), PacketDropped> {
        let request = Request::Run(Box::new(move |turn| {
            if let Err(error) = turn.core.send_rtp(turn.now, transport, &mut packet) {
                tracing::debug!(%error, "a packet was sent to a transport that is gone");
            }
        }));
        self.worker.post(request).map_err(|_| PacketDropped)
    }
}
