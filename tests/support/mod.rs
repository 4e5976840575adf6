//! Simulated WebRTC clients for tests and benches: Socket.IO signalling, ICE, DTLS, SRTP and media that can be checked.
//!
//! Nothing in here uses weir's own media code, so that a mistake has to be made twice to stay unseen: STUN, DTLS and
//! SRTP come from the webrtc family's crates, RTP and RTCP are read by them. The clients count and never judge; waits
//! are for conditions, bounded by [`PATIENCE`].

use std::time::Duration;

pub(crate) mod core;
pub(crate) mod dtls;
pub(crate) mod media;
pub(crate) mod member;
pub(crate) mod observed;
pub(crate) mod path;
pub(crate) mod peer;
pub(crate) mod publisher;
pub(crate) mod reception;
#[path = "../simulation/sctp_peer.rs"]
pub(crate) mod sctp_peer;
pub(crate) mod server;
pub(crate) mod socketio;
pub(crate) mod stun;
pub(crate) mod transport;

/// How long anything that has to happen may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
