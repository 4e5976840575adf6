//! The packets of one producer stream, kept for a while: what is being forwarded is read from here, and so is what a
//! viewer asks for again. One cache serves all consumers of the stream, so a NACK costs no copy per viewer.

use std::time::{Duration, Instant};

use crate::media::codec::{DependencyExtension, Frame};

/// Packets that a video stream keeps: two seconds at 4 Mbit/s.
pub const VIDEO_PACKETS: usize = 1024;
/// Packets that an audio stream keeps: one second of 20 ms frames, rounded up.
pub const AUDIO_PACKETS: usize = 64;
/// How long after its arrival a packet is still sent again.
pub const MAX_AGE: Duration = Duration::from_secs(2);

/// One packet, decrypted and taken apart.
#[derive(Debug, Clone)]
pub struct CachedPacket {
    /// Extended sequence number.
    pub sequence: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Marker bit.
    pub marker: bool,
    /// What it says about its frame.
    pub frame: Frame,
    /// How many later packets of its stream came before it.
    pub behind: u64,
    /// Value of the audio level extension (RFC 6464).
    pub audio_level: Option<u8>,
    /// Value of the video orientation extension (3GPP TS 26.114).
    pub video_orientation: Option<u8>,
    /// The dependency descriptor, where viewers need it.
    pub dependency: Option<DependencyExtension>,
    /// When it arrived.
    pub arrival: Instant,
    /// The payload.
    pub payload: Vec<u8>,
}

/// A ring of packets by sequence number. Its memory grows with use, up to the capacity, and is used again.
#[derive(Debug)]
pub struct PacketCache {
    slots: Vec<Option<CachedPacket>>,
    capacity: usize,
}

impl PacketCache {
    /// A cache of `capacity` packets.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { slots: Vec::new(), capacity: capacity.max(1) }
    }

    fn slot(&self, sequence: u64) -> usize {
        (sequence % self.capacity as u64) as usize
    }

    /// Whether the packet is here.
    #[must_use]
    pub fn contains(&self, sequence: u64) -> bool {
        self.get(sequence).is_some()
    }

    /// The packet, if it was not overwritten.
    #[must_use]
    pub fn get(&self, sequence: u64) -> Option<&CachedPacket> {
        let slot = self.slots.get(self.slot(sequence))?.as_ref()?;
        (slot.sequence == sequence).then_some(slot)
    }

    /// The packet, if it is young enough to be worth sending again.
    #[must_use]
    pub fn get_recent(&self, now: Instant, sequence: u64) -> Option<&CachedPacket> {
        self.get(sequence).filter(|packet| now.saturating_duration_since(packet.arrival) <= MAX_AGE)
    }

    /// Stores a packet with this payload over the one that was in its place, whose buffer it takes.
    pub fn insert(&mut self, mut packet: CachedPacket, payload: &[u8]) {
        let index = self.slot(packet.sequence);
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        let Some(slot) = self.slots.get_mut(index) else { return };
        if let Some(old) = slot.take() {
            packet.payload = old.payload;
        }
        packet.payload.clear();
        packet.payload.extend_from_slice(payload);
        *slot = Some(packet);
    }

    /// Forgets everything, as after a restart of the stream.
    pub fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| *slot = None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u64, arrival: Instant) -> CachedPacket {
        CachedPacket {
            sequence,
            timestamp: 0,
            marker: false,
            frame: Frame::WHOLE,
            behind: 0,
            audio_level: None,
            video_orientation: None,
            dependency: None,
            arrival,
            payload: Vec::new(),
        }
    }

    #[test]
    fn keeps_the_newest_and_only_for_a_while() {
        let start = Instant::now();
        let mut cache = PacketCache::new(4);
        for sequence in 10..16 {
            cache.insert(packet(sequence, start), &[sequence as u8]);
        }
        assert!(!cache.contains(11), "overwritten by 15");
        assert_eq!(cache.get(15).map(|p| p.payload.clone()), Some(vec![15]));
        assert!(cache.get_recent(start + MAX_AGE, 15).is_some());
        assert!(cache.get_recent(start + MAX_AGE + Duration::from_millis(1), 15).is_none());
        cache.clear();
        assert!(!cache.contains(15));
    }
}
