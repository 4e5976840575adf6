//! What viewers get of a packet's dependency descriptor.
//!
//! A viewer of fewer layers has to be told that the others are not coming (section A.4): every packet carries the decode
//! targets that are left, which the specification names first among the ways to do that and which needs no memory of
//! what a viewer was told or lost. Everything else is passed on as it came. Frame numbers keep the holes of frames that
//! the viewer does not get: they only have to grow, and what a frame needs is told by distances between them, so closing
//! a hole would break those. Only where another stream, or the same one after a pause, begins with a key frame, all
//! numbers from there on are shifted behind the last one, because receivers (libwebrtc) drop a key frame whose number
//! went back.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Bits, Descriptor, FLAGS_END, Layers, MANDATORY_LEN, Structure};

/// Bytes of a value that need no memory of their own: all but those with a structure.
const USUAL_LEN: usize = 16;
/// Bytes that a value can have (RFC 8285 section 4.3).
const MAX_LEN: usize = 255;
/// Place of the flag that tells of decode targets, in bits.
const ACTIVE_FLAG_AT: usize = MANDATORY_LEN * 8 + 1;

/// A descriptor as it came, and what has to be known to change it.
#[derive(Debug, Clone)]
pub struct Extension {
    value: SmallVec<[u8; USUAL_LEN]>,
    structure: Arc<Structure>,
    active: u32,
    active_at: usize,
    tells_active: bool,
}

impl Extension {
    /// What `read` was read from, with the structure that holds for it and the decode targets that the publisher
    /// produces.
    #[must_use]
    pub fn new(value: &[u8], read: &Descriptor, structure: Arc<Structure>, active: u32) -> Self {
        Self {
            value: SmallVec::from_slice(value),
            structure,
            active,
            active_at: read.active_at,
            tells_active: read.active.is_some(),
        }
    }

    /// What a viewer of these layers gets; `number` is added to the frame number.
    #[must_use]
    #[inline]
    pub fn for_viewer(&self, viewer: Layers, number: u16) -> Written<'_> {
        let targets = usize::from(self.structure.decode_targets);
        let active = self.structure.active_for(viewer) & self.active;
        let len = match () {
            () if self.tells_active => self.value.len(),
            () if self.value.len() <= MANDATORY_LEN => (FLAGS_END + targets).div_ceil(8),
            () => (self.value.len() * 8 + targets).div_ceil(8),
        };
        if targets == 1 || active == 0 || len > MAX_LEN {
            return Written { extension: self, number, active: None, len: self.value.len() };
        }
        Written { extension: self, number, active: Some(active), len }
    }
}

/// A descriptor to be written for one viewer.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    extension: &'a Extension,
    number: u16,
    active: Option<u32>,
    len: usize,
}

impl Written<'_> {
    /// Bytes that [`Self::append`] appends.
    #[must_use]
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Appends the extension's value.
    #[inline]
    pub fn append(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let value = self.extension.value.as_slice();
        match self.active {
            None => out.extend_from_slice(value),
            Some(active) if value.len() == MANDATORY_LEN => {
                let targets = u32::from(self.extension.structure.decode_targets);
                let flags = u64::from(active) | 1 << (targets + 3);
                out.extend_from_slice(value);
                let flags = (flags << (u64::BITS - 5 - targets)).to_be_bytes();
                out.extend_from_slice(flags.get(..self.len - MANDATORY_LEN).unwrap_or(&flags));
            }
            Some(active) => self.insert(active, out),
        }
        if let Some(bytes) = out.get_mut(start + 1..start + MANDATORY_LEN) {
            let number = bytes.iter().fold(0, |number, byte| number << 8 | u16::from(*byte));
            bytes.copy_from_slice(&number.wrapping_add(self.number).to_be_bytes());
        }
    }

    /// Writes a descriptor with more fields anew, bit by bit: few packets have one.
    #[cold]
    fn insert(&self, active: u32, out: &mut Vec<u8>) {
        let Extension { value, structure, active_at, tells_active, .. } = self.extension;
        let targets = usize::from(structure.decode_targets);
        let mut bits = Bits { bytes: value, at: 0 };
        let mut free = 0;
        let mut put = |bit: bool| {
            if free == 0 {
                out.push(0);
                free = 8;
            }
            free -= 1;
            if let Some(last) = out.last_mut() {
                *last |= u8::from(bit) << free;
            }
        };
        while let Some(bit) = bits.flag() {
            put(bit || bits.at == ACTIVE_FLAG_AT + 1);
            if bits.at == *active_at {
                (0..targets).rev().for_each(|target| put(active >> target & 1 == 1));
                bits.at += if *tells_active { targets } else { 0 };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Writer, l1t3_key, mandatory};
    use super::*;

    fn extension(value: &[u8], structure: &Arc<Structure>) -> Extension {
        let read = Descriptor::parse(value, Some(structure)).unwrap();
        Extension::new(value, &read, Arc::clone(structure), read.active.unwrap_or(0b111))
    }

    fn written(extension: &Extension, temporal: u8, number: u16) -> Vec<u8> {
        let written = extension.for_viewer(Layers { spatial: 3, temporal }, number);
        let mut out = vec![0xEE];
        written.append(&mut out);
        assert_eq!(out.len(), 1 + written.len());
        out.split_off(1)
    }

    fn structure() -> Arc<Structure> {
        Arc::new(Descriptor::parse(&l1t3_key(), None).unwrap().structure.unwrap())
    }

    #[test]
    fn every_viewer_is_told_its_decode_targets() {
        let structure = structure();
        let mut writer = Writer::default();
        mandatory(&mut writer, 61);
        let shortest = extension(&writer.bytes(), &structure);
        for (temporal, active) in [(0, 0b001), (1, 0b011), (2, 0b111), (7, 0b111)] {
            let value = written(&shortest, temporal, 0);
            assert_eq!(value, [0xFD, 0x12, 0x34, 0b0100_0000 | active], "of {temporal}");
        }
    }

    #[test]
    fn other_fields_stay_as_they_are() {
        let structure = structure();
        let key = extension(&l1t3_key(), &structure);
        let mut custom = Writer::default();
        mandatory(&mut custom, 62);
        custom.put(0b00110, 5).put(0b00_10_10, 6).put(0, 2);
        let custom = extension(&custom.bytes(), &structure);
        for (extension, known) in [(&key, None), (&custom, Some(&*structure))] {
            let before = Descriptor::parse(&extension.value, known).unwrap();
            let value = written(extension, 1, 0);
            let after = Descriptor::parse(&value, known).unwrap();
            assert_eq!(after.active, Some(0b011));
            assert_eq!((after.frame, after.structure), (before.frame, before.structure));
        }
    }

    #[test]
    fn what_the_publisher_stopped_stays_stopped() {
        let structure = structure();
        let mut writer = Writer::default();
        mandatory(&mut writer, 61);
        writer.put(0b01000, 5).put(0b101, 3);
        let told = extension(&writer.bytes(), &structure);
        assert_eq!(written(&told, 2, 0).last(), Some(&0b0100_0101));
        assert_eq!(written(&told, 1, 0).last(), Some(&0b0100_0001));
    }

    #[test]
    fn frame_numbers_are_shifted_and_wrap() {
        let structure = structure();
        let mut writer = Writer::default();
        mandatory(&mut writer, 61);
        let value = written(&extension(&writer.bytes(), &structure), 2, 0xFFFF);
        assert_eq!(value[1..3], [0x12, 0x33]);
    }
}
