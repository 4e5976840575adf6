//! Which peer's stream somebody means who asks for it by a public name.

use crate::ids::PeerId;

/// The peer that a stream's public name stands for, if it can be one: the peer's own name, as long as streams have no
/// others.
#[must_use]
pub fn peer_of(stream: &str) -> Option<PeerId> {
    stream.parse().ok()
}
