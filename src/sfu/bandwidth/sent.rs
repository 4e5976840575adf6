//! The packets that were sent with a transport-wide sequence number and whose fate is not known yet. Bounded, and
//! nothing is allocated per packet once it has grown to what the path's round trip takes.

use std::collections::VecDeque;

use crate::media::rtp::extend_sequence;

/// Packets that are remembered: 4 seconds at 5 Mbit/s, in 16 KiB.
pub const MAX_PACKETS: usize = 2048;
/// The same before the first report: it comes a tenth of a second after the first packet, or never.
pub const MAX_UNREPORTED: usize = 256;
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Unknown,
    /// Reported as lost; it may still arrive.
    Lost,
    Arrived,
}

/// The same in eight bytes: of the time only the low bits, which is more than an hour.
#[derive(Debug, Clone, Copy)]
struct Slot {
    at: u32,
    len: u16,
    probe: u8,
    fate: Fate,
}

/// The history of one transport.
#[derive(Debug)]
pub struct SentPackets {
    first: u64,
    packets: VecDeque<Slot>,
    /// When the newest packet was sent.
    newest: i64,
}

impl Default for SentPackets {
    fn default() -> Self {
        Self { first: FIRST_SEQUENCE, packets: VecDeque::new(), newest: 0 }
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

    /// Notes that the packet with [`Self::next_sequence`] was sent, as one of the last `limit`.
    #[inline]
    pub fn push(&mut self, packet: Sent, limit: usize) {
        if self.packets.len() >= limit {
            self.packets.pop_front();
            self.first += 1;
        }
        self.newest = packet.at;
        let at = (packet.at & 0xFFFF_FFFF) as u32;
        self.packets.push_back(Slot { at, len: packet.len, probe: packet.probe, fate: Fate::Unknown });
    }

    /// Counts the packet with [`Self::next_sequence`] without remembering it or any before it, for a peer that
    /// reports nothing.
    #[inline]
    pub fn skip(&mut self) {
        self.first = self.end() + 1;
        self.packets = VecDeque::new();
    }

    fn get_mut(&mut self, sequence: u16) -> Option<&mut Slot> {
        let sequence = extend_sequence(self.end(), sequence);
        let index = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.packets.get_mut(index)
    }

    /// The packet that arrived, if that was not reported before.
    pub fn arrive(&mut self, sequence: u16) -> Option<Sent> {
        let newest = self.newest;
        let slot = self.get_mut(sequence).filter(|slot| slot.fate != Fate::Arrived)?;
        slot.fate = Fate::Arrived;
        let age = ((newest & 0xFFFF_FFFF) as u32).wrapping_sub(slot.at);
        Some(Sent { at: newest - i64::from(age), len: slot.len, probe: slot.probe })
    }

    /// Notes that a packet was reported as lost. False if that is no news, or nothing is known of the packet.
    pub fn lose(&mut self, sequence: u16) -> bool {
        let slot = self.get_mut(sequence).filter(|slot| slot.fate == Fate::Unknown);
        slot.map(|slot| slot.fate = Fate::Lost).is_some()
    }

    /// Whether the fate of all packets is known.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.packets.iter().all(|slot| slot.fate != Fate::Unknown)
    }

    /// Forgets what was sent well before this packet, which was reported on.
    pub fn forget_before(&mut self, sequence: u16) {
        let limit = extend_sequence(self.end(), sequence).saturating_sub(OVERTAKEN).min(self.end());
        let is_over = |slot: &Slot| slot.fate == Fate::Arrived;
        while self.first < limit || self.packets.front().is_some_and(is_over) {
            self.packets.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(at: i64) -> Sent {
        Sent { at, len: 1, probe: 0 }
    }

    #[test]
    fn a_packet_is_found_once_across_the_wrap_and_memory_is_bounded() {
        assert_eq!(size_of::<Slot>(), 8);
        let mut packets = SentPackets::default();
        // Across the wrap of the low bits of the time too.
        let time = |at: i64| (1 << 32) - 69_500 + at;
        for at in 0..70_000 {
            assert_eq!(packets.next_sequence(), (at % 65_536) as u16);
            packets.push(sent(time(at)), MAX_PACKETS);
            assert!(packets.packets.len() <= MAX_PACKETS && packets.packets.capacity() <= MAX_PACKETS);
        }
        for at in [69_999, 69_000, 68_000] {
            let sequence = (at % 65_536) as u16;
            assert!(packets.lose(sequence) && !packets.lose(sequence), "lost once");
            assert_eq!(packets.arrive(sequence), Some(sent(time(at))), "and found after all");
            assert_eq!(packets.arrive(sequence), None, "twice");
            assert!(!packets.lose(sequence));
        }
        assert_eq!(packets.arrive(60_000), None, "forgotten");
        assert_eq!(packets.arrive(packets.next_sequence()), None, "not sent yet");
        packets.forget_before(packets.next_sequence().wrapping_sub(1));
        assert!(packets.packets.len() <= OVERTAKEN as usize + 1);
    }

    #[test]
    fn what_is_not_remembered_is_counted() {
        let mut packets = SentPackets::default();
        packets.push(sent(0), MAX_UNREPORTED);
        let first = packets.next_sequence();
        packets.skip();
        packets.skip();
        assert_eq!(packets.next_sequence(), first.wrapping_add(2));
        assert_eq!((packets.packets.capacity(), packets.arrive(first)), (0, None));
        packets.push(sent(7), MAX_UNREPORTED);
        assert_eq!(packets.arrive(first.wrapping_add(2)), Some(sent(7)));
    }
}
