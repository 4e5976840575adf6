//! The packets that were sent with a transport-wide sequence number and whose fate is not known yet. Bounded, and
//! nothing is allocated per packet once it has grown to what the path's round trip takes.

use std::collections::VecDeque;

use crate::media::rtp::extend_sequence;

/// Packets that are remembered: 4 seconds at 5 Mbit/s. A viewer that reports nothing costs 64 KiB.
pub const MAX_PACKETS: usize = 2048;
/// Packets before the newest one reported that are kept, because they may have been overtaken.
const OVERTAKEN: u64 = 128;
/// Extended sequence numbers start here, so that a number before the first one has a place too.
const FIRST_SEQUENCE: u64 = 1 << 16;

/// A packet that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// When, in microseconds since the transport's epoch.
    pub at: i64,
    /// Its bytes on the wire.
    pub len: u16,
    /// The probe that it belongs to; zero for none.
    pub probe: u8,
    /// Whether its loss was reported; it may still arrive.
    pub lost: bool,
}

/// The history of one transport.
#[derive(Debug)]
pub struct SentPackets {
    first: u64,
    packets: VecDeque<Option<Sent>>,
}

impl Default for SentPackets {
    fn default() -> Self {
        Self { first: FIRST_SEQUENCE, packets: VecDeque::new() }
    }
}

impl SentPackets {
    fn end(&self) -> u64 {
        self.first + self.packets.len() as u64
    }

    /// The sequence number of the next packet.
    #[must_use]
    #[inline]
    pub fn next_sequence(&self) -> u16 {
        (self.end() & 0xFFFF) as u16
    }

    /// Notes that the packet with [`Self::next_sequence`] was sent.
    #[inline]
    pub fn push(&mut self, packet: Sent) {
        if self.packets.len() >= MAX_PACKETS {
            self.packets.pop_front();
            self.first += 1;
        }
        self.packets.push_back(Some(packet));
    }

    /// The packet that a sequence number means, if its arrival was not reported before.
    pub fn get_mut(&mut self, sequence: u16) -> Option<&mut Option<Sent>> {
        let sequence = extend_sequence(self.end(), sequence);
        let index = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.packets.get_mut(index).filter(|packet| packet.is_some())
    }

    /// Forgets what was sent well before this packet, which was reported on.
    pub fn forget_before(&mut self, sequence: u16) {
        let limit = extend_sequence(self.end(), sequence).saturating_sub(OVERTAKEN).min(self.end());
        while self.first < limit || matches!(self.packets.front(), Some(None)) {
            self.packets.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(at: i64) -> Sent {
        Sent { at, len: 1, probe: 0, lost: false }
    }

    #[test]
    fn a_packet_is_found_once_across_the_wrap_and_memory_is_bounded() {
        let mut packets = SentPackets::default();
        for at in 0..70_000 {
            assert_eq!(packets.next_sequence(), (at % 65_536) as u16);
            packets.push(sent(at));
            assert!(packets.packets.len() <= MAX_PACKETS && packets.packets.capacity() <= MAX_PACKETS);
        }
        for at in [69_999, 69_000, 68_000] {
            let sequence = (at % 65_536) as u16;
            assert_eq!(packets.get_mut(sequence).unwrap().take(), Some(sent(at)));
            assert!(packets.get_mut(sequence).is_none(), "twice");
        }
        assert!(packets.get_mut(60_000).is_none(), "forgotten");
        assert!(packets.get_mut(packets.next_sequence()).is_none(), "not sent yet");
        packets.forget_before(packets.next_sequence().wrapping_sub(1));
        assert!(packets.packets.len() <= OVERTAKEN as usize + 1);
    }
}
