//! Congestion control of a transport: what its peer is told of the packets that it sends, and how much the path to it
//! takes. All of it in simulated time: instants are arguments, and nothing here sends by itself.
//!
//! Towards weir, a browser estimates its path from the feedback of [`incoming`], or is told an estimate made of what is
//! [`arriving`]. Towards a viewer, [`outgoing`] keeps what was [`sent`], learns what became of it, and lets the
//! [`estimator`] judge by the [`trend`] of the delay, by loss and by [`probe`]s; [`allocate`] decides which layers the
//! consumers get of it, and the [`pacer`] spreads what is more than the path takes at once.

pub mod allocate;
pub mod arrivals;
pub mod arriving;
pub mod copies;
pub mod estimator;
pub mod incoming;
pub mod outgoing;
pub mod pacer;
pub mod probe;
pub mod resent;
pub mod sent;
pub mod trend;
mod work;

use std::time::Instant;

use mediasoup_types::rtp_parameters::RtpParameters;

use crate::ids::Bitrate;
use crate::media::rtp::RtpView;
use incoming::Incoming;
use outgoing::Outgoing;

/// What one transport knows of its path.
#[derive(Debug, Default)]
pub struct Bandwidth {
    /// Towards weir.
    pub incoming: Incoming,
    /// Towards the peer, once it has consumers.
    pub outgoing: Option<Box<Outgoing>>,
    /// What the path to the peer is thought to take at first, if that was told.
    pub initial: Option<Bitrate>,
}

impl Bandwidth {
    /// When something is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let outgoing = self.outgoing.as_ref().and_then(|outgoing| outgoing.poll_timeout());
        [self.incoming.poll_timeout(), outgoing].into_iter().flatten().min()
    }

    /// Notes a packet that the peer sent. True if a timer was started by it.
    #[inline]
    pub fn note_arrival(&mut self, now: Instant, view: &RtpView<'_>) -> bool {
        self.incoming.note_arrival(now, view)
    }

    /// Begins to estimate the path to the peer, if its client reports on it.
    pub fn add_consumer(&mut self, now: Instant, parameters: &RtpParameters) {
        self.outgoing(now).add_consumer(parameters);
    }

    fn outgoing(&mut self, now: Instant) -> &mut Outgoing {
        let initial = self.initial;
        self.outgoing
            .get_or_insert_with(|| Box::new(Outgoing::new(now, initial.unwrap_or(outgoing::INITIAL))))
    }
}
