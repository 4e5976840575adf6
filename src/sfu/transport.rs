//! A WebRTC transport: one ICE-lite agent, one DTLS association and the SRTP sessions that came out of it, the
//! producers that come in on it and the consumers that go out.

use std::collections::HashMap;
use std::time::Instant;

use crate::ids::{RouterId, TransportId};
use crate::sfu::dtls::Dtls;
use crate::sfu::ice::{IceLite, Tuple};
use crate::sfu::srtp::{Receiver, ReplayWindow, Sender};

/// SSRCs that one transport may send from; a producer needs two for each simulcast layer.
pub const MAX_REMOTE_SSRCS: usize = 128;

/// Which stream an SSRC carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The producer (key in the worker).
    pub producer: usize,
    /// Its stream.
    pub stream: usize,
    /// Whether this SSRC carries the stream's retransmissions.
    pub is_rtx: bool,
}

/// An SSRC that authentic packets came from.
#[derive(Debug, Default)]
pub struct RemoteSsrc {
    /// Its roll-over counter and what was seen of it.
    pub window: ReplayWindow,
    /// Where its packets go, once known.
    pub route: Option<Route>,
}

/// A WebRTC transport.
pub struct WebRtcTransport {
    /// Its id.
    pub id: TransportId,
    /// The router that it is in.
    pub router: RouterId,
    /// Its ICE agent.
    pub ice: IceLite,
    /// Its DTLS association.
    pub dtls: Dtls,
    /// Its SRTP sessions, once DTLS is done.
    pub srtp: Option<(Sender, Receiver)>,
    /// Its producers (keys in the worker).
    pub producers: Vec<usize>,
    /// Its consumers (keys in the worker).
    pub consumers: Vec<usize>,
    /// What the peer sends from.
    pub ssrcs: HashMap<u32, RemoteSsrc>,
    /// The SSRC that weir's own feedback comes from.
    pub feedback_ssrc: u32,
    /// The MID of the next consumer.
    pub next_mid: u32,
    /// When reports are due next.
    pub reports_due: Option<Instant>,
    /// The timer that is set for this transport.
    pub timer: Option<Instant>,
}

impl WebRtcTransport {
    /// A transport that waits for its peer.
    #[must_use]
    pub fn new(id: TransportId, router: RouterId, ice: IceLite) -> Self {
        Self {
            id,
            router,
            ice,
            dtls: Dtls::default(),
            srtp: None,
            producers: Vec::new(),
            consumers: Vec::new(),
            ssrcs: HashMap::new(),
            feedback_ssrc: rand::random(),
            next_mid: 0,
            reports_due: None,
            timer: None,
        }
    }

    /// Where media can be sent now: the SRTP session and the selected path.
    #[inline]
    pub fn sending(&mut self) -> Option<(&mut Sender, Tuple)> {
        let tuple = self.ice.selected()?;
        self.srtp.as_mut().map(|(sender, _)| (sender, tuple))
    }

    /// Forgets the routes to a producer that is gone.
    pub fn forget_producer(&mut self, producer: usize) {
        self.producers.retain(|known| *known != producer);
        self.ssrcs.values_mut().for_each(|remote| {
            remote.route = remote.route.filter(|route| route.producer != producer);
        });
    }
}
