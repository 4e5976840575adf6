//! Plain transports in a room: for programs that send and take RTP without ICE and DTLS.

use super::error::{ConnectPlainTransportError, ControlError, CreateTransportError};
use super::registry::Direction;
use super::room::{Room, not_yours, transport_refusal};
use crate::ids::{PeerId, TransportId};
use crate::sfu::plain_transport::{PlainRemote, PlainTransportInfo, PlainTransportOptions};

impl Room {
    /// Makes a plain transport for a peer, on UDP ports of its own. It carries media both ways.
    ///
    /// # Errors
    /// The peer is gone or has as many transports as it may, the worker is full, or no port is free.
    pub async fn create_plain_transport(
        &self,
        peer: &PeerId,
        options: PlainTransportOptions,
    ) -> Result<PlainTransportInfo, CreateTransportError> {
        self.registry().room_for_transport(peer).map_err(transport_refusal)?;
        let info = self.inner.router.create_plain_transport(options).await?;
        let added = self.registry().add_transport(peer, Direction::Both, info.id, false);
        match added {
            Ok(_) => Ok(info),
            Err(refusal) => {
                self.close_in_core(info.id).await;
                Err(transport_refusal(refusal))
            }
        }
    }

    /// Tells one of the peer's plain transports where the peer is, and what it protects its packets with. Whoever asks
    /// has to be allowed to have media sent there.
    ///
    /// # Errors
    /// Not the peer's transport, connected already, or values that don't fit the transport's options.
    pub async fn connect_plain_transport(
        &self,
        peer: &PeerId,
        transport: TransportId,
        remote: PlainRemote,
    ) -> Result<(), ConnectPlainTransportError> {
        if !self.registry().owns_transport(peer, transport) {
            return Err(not_yours("transport", transport).into());
        }
        Ok(self.inner.router.connect_plain_transport(transport, remote).await?)
    }

    /// How many bytes have come in on all of a peer's transports that are there now.
    ///
    /// # Errors
    /// The server is going down.
    pub async fn bytes_received(&self, peer: &PeerId) -> Result<u64, ControlError> {
        let mut sum = 0;
        let transports = self.registry().transports(peer);
        for transport in transports {
            match self.transport_stats(peer, transport).await {
                Ok(stats) => sum += stats.bytes_received,
                // It ended meanwhile.
                Err(ControlError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sum)
    }
}
