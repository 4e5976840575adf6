//! What the fuzzers run: each function takes a stranger's bytes and panics if a rule does not hold.
//!
//! `cargo fuzz` calls them through `fuzz_targets/`; the server's own tests run them over the kept corpora and over
//! seeded mutations of these, so that what was found once is looked for with every `cargo test`.

mod media;
mod plain;
mod records;
mod rewrite;
mod sctp;
mod sdp;
mod state;

pub use media::{codecs, dependency, rtcp, rtp};
pub use plain::plain;
pub use records::{datagrams, dtls, stun};
pub use rewrite::rewrite;
pub use sctp::sctp;
pub use sdp::sdp;
pub use state::{cache, nack};

/// A fuzz target.
pub type Target = fn(&[u8]);

/// Every target by the name of its corpus folder.
pub const TARGETS: &[(&str, Target)] = &[
    ("cache", cache),
    ("codecs", codecs),
    ("datagrams", datagrams),
    ("dependency", dependency),
    ("dtls", dtls),
    ("nack", nack),
    ("plain", plain),
    ("rewrite", rewrite),
    ("rtcp", rtcp),
    ("rtp", rtp),
    ("sctp", sctp),
    ("sdp", sdp),
    ("stun", stun),
];

/// Takes an input apart; an empty one gives zeros.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// At most this many bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Bytes behind their length, as datagrams are written into the corpora.
    pub(crate) fn datagram(&mut self) -> &'a [u8] {
        let len = usize::from(self.u16());
        self.bytes(len)
    }
}
