//! A transport: the producers that come in on it, the consumers that go out, the path they take and the keys that
//! protect them. How path and keys are found is what its kinds differ in.

use std::collections::HashMap;
use std::time::Instant;

use crate::ids::{RouterId, TransportId};
use crate::sfu::Tuple;
use crate::sfu::bandwidth::Bandwidth;
use crate::sfu::bandwidth::outgoing::Outgoing;
use crate::sfu::data::DataSide;
use crate::sfu::plain_transport::Plain;
use crate::sfu::sctp::Sctp;
use crate::sfu::srtp::{Receiver, ReplayWindow, Sender};
use crate::sfu::stats::Traffic;
use crate::sfu::webrtc_transport::WebRtc;

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

/// What it takes to send media.
pub struct Sending<'a> {
    /// The keys.
    pub srtp: &'a mut Sender,
    /// The path.
    pub tuple: Tuple,
    /// What hears of packets with transport-wide sequence numbers, if the peer reports on them.
    pub outgoing: Option<&'a mut Outgoing>,
}

/// How a transport comes by its path and keys, and whatever else only this kind has.
pub enum Kind {
    /// ICE and DTLS.
    WebRtc(Box<WebRtc>),
    /// An address and keys that were told.
    Plain(Plain),
    /// Nothing: whoever uses it is inside the process.
    Direct,
}

/// A transport.
pub struct Transport {
    /// Its id.
    pub id: TransportId,
    /// The router that it is in.
    pub router: RouterId,
    /// What it is.
    pub kind: Kind,
    /// Where media is sent, once known.
    pub path: Option<Tuple>,
    /// What protects media, once known.
    pub srtp: Option<(Sender, Receiver)>,
    /// Its producers (keys in the worker).
    pub producers: Vec<usize>,
    /// Its consumers (keys in the worker).
    pub consumers: Vec<usize>,
    /// Its data channels.
    pub data: DataSide,
    /// What the peer sends from.
    pub ssrcs: HashMap<u32, RemoteSsrc>,
    /// The SSRC that weir's own feedback comes from.
    pub feedback_ssrc: u32,
    /// The MID of the next consumer.
    pub next_mid: u32,
    /// What went over it.
    pub traffic: Traffic,
    /// When reports are due next.
    pub reports_due: Option<Instant>,
    /// Its congestion control.
    pub bandwidth: Bandwidth,
    /// The timer that is set for this transport.
    pub timer: Option<Instant>,
}

impl Transport {
    /// A transport that waits for its peer.
    #[must_use]
    pub fn new(id: TransportId, router: RouterId, kind: Kind) -> Self {
        Self {
            id,
            router,
            kind,
            path: None,
            srtp: None,
            producers: Vec::new(),
            consumers: Vec::new(),
            data: DataSide::default(),
            ssrcs: HashMap::new(),
            feedback_ssrc: rand::random(),
            next_mid: 0,
            traffic: Traffic::default(),
            reports_due: None,
            bandwidth: Bandwidth::default(),
            timer: None,
        }
    }

    /// When the transport itself has something to do: its kind's affairs, or reports.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let kind = match &self.kind {
            Kind::WebRtc(webrtc) => webrtc.poll_timeout(),
            Kind::Plain(_) | Kind::Direct => None,
        };
        let sctp = self.data.sctp.as_ref().and_then(Sctp::poll_timeout);
        [kind, sctp, self.reports_due, self.bandwidth.poll_timeout()].into_iter().flatten().min()
    }

    /// Whether what its association says can be sent now.
    #[must_use]
    pub fn carries_data(&self) -> bool {
        match &self.kind {
            Kind::WebRtc(_) => self.srtp.is_some(),
            Kind::Plain(_) => self.path.is_some(),
            Kind::Direct => false,
        }
    }

    /// Where RTCP can be sent now.
    pub fn sending_rtcp(&mut self) -> Option<(&mut Sender, Tuple)> {
        let tuple = match &self.kind {
            Kind::Plain(plain) => plain.rtcp_path(self.path)?,
            Kind::WebRtc(_) | Kind::Direct => self.path?,
        };
        self.srtp.as_mut().map(|(sender, _)| (sender, tuple))
    }

    /// Where media can be sent now: the keys and the path, and what has to hear of every packet that carries a
    /// transport-wide sequence number. The same for all kinds, because it is asked per packet.
    #[inline]
    pub fn sending(&mut self) -> Option<Sending<'_>> {
        let tuple = self.path?;
        let outgoing = self.bandwidth.outgoing.as_deref_mut().filter(|outgoing| outgoing.hears_of_packets());
        self.srtp.as_mut().map(|(srtp, _)| Sending { srtp, tuple, outgoing })
    }

    /// What is known of the path to the peer, once there are consumers.
    pub fn outgoing(&mut self) -> Option<&mut Outgoing> {
        self.bandwidth.outgoing.as_deref_mut()
    }

    /// Forgets the routes to a producer that is gone.
    pub fn forget_producer(&mut self, producer: usize) {
        self.producers.retain(|known| *known != producer);
        self.ssrcs.values_mut().for_each(|remote| {
            remote.route = remote.route.filter(|route| route.producer != producer);
        });
    }
}
