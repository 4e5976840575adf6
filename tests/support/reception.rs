//! What one received RTP stream was like: gaps, duplicates, and whether the payloads are those that were sent.

use std::collections::{BTreeMap, BTreeSet};

use rtc_rtp::Packet;

use super::media::Stamp;

/// One stream that a client receives.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reception {
    /// Packets that came, retransmissions included, duplicates not.
    pub(crate) packets: u64,
    /// Packets that the client was told to lose.
    pub(crate) lost: u64,
    /// Packets that came twice.
    pub(crate) duplicates: u64,
    /// Packets that a retransmission brought.
    pub(crate) repaired: u64,
    /// Packets with the parameter sets that start a key frame.
    pub(crate) key_frames: u64,
    /// Packets whose payload is none of a [`super::media::Source`].
    pub(crate) foreign: u64,
    /// Payload types seen.
    pub(crate) payload_types: BTreeSet<u8>,
    /// MID header extensions seen, by extension id.
    pub(crate) extensions: BTreeMap<u8, Vec<u8>>,
    /// The first packet's sequence number, extended by a rollover counter.
    first: Option<u64>,
    /// The highest extended sequence number.
    highest: u64,
    /// What is missing between the two.
    missing: BTreeSet<u64>,
    /// The stamps by extended sequence number.
    stamps: BTreeMap<u64, Stamp>,
}

/// Extended sequence numbers start here, so that packets before the first one have room.
const BASE: u64 = 1 << 20;

impl Reception {
    /// Takes a packet in; `sequence` and `payload` are the original ones of a retransmission.
    pub(crate) fn take(&mut self, packet: &Packet, sequence: u16, payload: &[u8], retransmitted: bool) {
        let extended = self.extend(sequence);
        let known = self.first.is_some_and(|first| extended >= first)
            && extended <= self.highest
            && !self.missing.contains(&extended);
        if known {
            self.duplicates += 1;
            return;
        }
        self.packets += 1;
        self.repaired += u64::from(retransmitted);
        if !retransmitted {
            self.payload_types.insert(packet.header.payload_type);
            for extension in &packet.header.extensions {
                self.extensions.insert(extension.id, extension.payload.to_vec());
            }
        }
        match self.first {
            None => {
                self.first = Some(extended);
                self.highest = extended;
            }
            Some(first) => {
                self.missing.remove(&extended);
                self.missing.extend(self.highest + 1..extended);
                self.first = Some(first.min(extended));
                self.highest = self.highest.max(extended);
            }
        }
        // A STAP-A begins the key frames that the sources make.
        self.key_frames += u64::from(payload.first().is_some_and(|header| header & 0x1f == 24));
        match Stamp::read(payload) {
            Some(stamp) => {
                self.stamps.insert(extended, stamp);
            }
            None => self.foreign += 1,
        }
    }

    fn extend(&self, sequence: u16) -> u64 {
        if self.first.is_none() {
            return BASE + u64::from(sequence);
        }
        let distance = sequence
            .wrapping_sub(self.highest.to_le_bytes().first_chunk().map_or(0, |low| u16::from_le_bytes(*low)));
        if distance < 0x8000 {
            self.highest + u64::from(distance)
        } else {
            self.highest - u64::from(distance.wrapping_neg())
        }
    }

    /// Sequence numbers that never came, between the first and the last one that did.
    pub(crate) fn missing(&self) -> Vec<u16> {
        self.missing.iter().map(|extended| (extended & 0xffff) as u16).collect()
    }

    /// Neighbouring packets whose stamps are not neighbours: another source, or packets of the source that were left
    /// out without a gap in the sequence.
    pub(crate) fn seams(&self) -> usize {
        let mut stamps = self.stamps.iter().peekable();
        let mut seams = 0;
        while let (Some((sequence, stamp)), Some((next_sequence, next))) = (stamps.next(), stamps.peek()) {
            let continuous = next.source == stamp.source
                && u64::from(next.counter.wrapping_sub(stamp.counter)) == *next_sequence - sequence;
            seams += usize::from(!continuous);
        }
        seams
    }

    /// The newest stamp by sequence number.
    pub(crate) fn last_stamp(&self) -> Option<Stamp> {
        self.stamps.last_key_value().map(|(_, stamp)| *stamp)
    }
}
