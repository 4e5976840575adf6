//! Congestion control of a transport: what its peer is told of the packets that it sends, and how much the path to it
//! takes. All of it in simulated time: instants are arguments, and nothing here sends by itself.

pub mod arrivals;
pub mod incoming;

use std::time::Instant;

use super::Worker;
use crate::ids::{Bitrate, TransportId};
use crate::media::rtp::RtpView;
use crate::sfu::api::NotFound;
use crate::sfu::not_found;
use incoming::Incoming;

/// What one transport knows of its path.
#[derive(Debug, Default)]
pub struct Bandwidth {
    /// Towards weir.
    pub incoming: Incoming,
}

impl Bandwidth {
    /// When something is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.incoming.poll_timeout()
    }

    /// Notes a packet that the peer sent. True if a timer was started by it.
    #[inline]
    pub fn note_arrival(&mut self, now: Instant, view: &RtpView<'_>) -> bool {
        self.incoming.note_arrival(now, view)
    }
}

impl Worker {
    /// Limits what a transport's peer sends in sum (mediasoup's `maxIncomingBitrate`), or ends the limit. The peer is
    /// told by REMB, which is a wish: nothing is dropped.
    ///
    /// # Errors
    /// Fails if there is no such transport.
    pub fn set_max_incoming_bitrate(
        &mut self,
        now: Instant,
        id: TransportId,
        limit: Option<Bitrate>,
    ) -> Result<(), NotFound> {
        let key = self.transport_key(id)?;
        let transport = self.transports.get_mut(key).ok_or_else(|| not_found("transport", &id))?;
        transport.bandwidth.incoming.set_limit(now, limit);
        self.set_timer(key);
        Ok(())
    }

    /// Tells a publisher about its packets if that is due.
    pub(super) fn send_bandwidth_feedback(&mut self, now: Instant, key: usize) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let feedback = transport.feedback_ssrc;
        let mut messages = Vec::new();
        transport.bandwidth.incoming.handle_timeout(now, feedback, |message| messages.push(message));
        for message in messages {
            self.send_rtcp(key, message);
        }
    }
}
