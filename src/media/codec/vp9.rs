//! The VP9 payload descriptor (RFC 9628 section 4.2).

use super::{DecodeTargets, Frame, Layers, MAX_SPATIAL_LAYERS, PictureId};

/// What the descriptor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// P: predicted from an earlier picture.
    is_inter_picture: bool,
    /// B: the first packet of a layer frame.
    starts_frame: bool,
    /// E: the last packet of a layer frame.
    ends_frame: bool,
    picture_id: Option<PictureId>,
    /// TID, U and SID, if the stream has layers.
    layers: Option<(Layers, bool)>,
    tl0_picture_index: Option<(u8, u8)>,
}

impl Descriptor {
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        const PICTURE_ID: u8 = 0x80;
        const INTER_PICTURE: u8 = 0x40;
        const LAYERS: u8 = 0x20;
        const FLEXIBLE: u8 = 0x10;
        const START: u8 = 0x08;
        const END: u8 = 0x04;
        const STRUCTURE: u8 = 0x02;
        const LONG: u8 = 0x80;
        const SWITCHING_UP: u8 = 0x10;
        const NEXT_DISTANCE: u8 = 0x01;

        let first = *payload.first()?;
        let mut at = 1;
        let (mut picture_id, mut layers, mut tl0_picture_index) = (None, None, None);
        if first & PICTURE_ID != 0 {
            let (value, is_long) = match *payload.get(at)? {
                high if high & LONG != 0 => (u16::from_be_bytes([high & !LONG, *payload.get(at + 1)?]), true),
                short => (u16::from(short), false),
            };
            picture_id = Some(PictureId { at: at as u8, value, is_long, is_referenced: true });
            at += if is_long { 2 } else { 1 };
        }
        if first & LAYERS != 0 {
            let byte = *payload.get(at)?;
            at += 1;
            let id = Layers { spatial: byte >> 1 & 0x07, temporal: byte >> 5 };
            layers = Some((id, byte & SWITCHING_UP != 0));
            if first & FLEXIBLE == 0 {
                tl0_picture_index = Some((at as u8, *payload.get(at)?));
                at += 1;
            }
        }
        if first & INTER_PICTURE != 0 && first & FLEXIBLE != 0 {
            const MAX_REFERENCES: usize = 3;
            let distances = payload.get(at..)?;
            at +=
                1 + distances.iter().take(MAX_REFERENCES - 1).take_while(|d| *d & NEXT_DISTANCE != 0).count();
        }
        if first & STRUCTURE != 0 {
            at += structure_len(payload.get(at..)?)?;
        }
        // A descriptor without anything behind it is no packet of a frame.
        payload.get(at)?;
        Some(Self {
            is_inter_picture: first & INTER_PICTURE != 0,
            starts_frame: first & START != 0,
            ends_frame: first & END != 0,
            picture_id,
            layers,
            tl0_picture_index,
        })
    }

    /// What that means for viewers. With K-SVC, a picture that is predicted from earlier ones has spatial layers that
    /// know nothing of each other, and a viewer gets only its own.
    pub(super) fn frame(&self, is_k_svc: bool) -> Frame {
        let (id, switches_up) = self.layers.unwrap_or_default();
        let alone = is_k_svc && self.is_inter_picture;
        let has_spatial =
            |of: Layers| if alone { of.spatial == id.spatial } else { of.spatial >= id.spatial };
        let needed_by = if id.spatial < MAX_SPATIAL_LAYERS {
            DecodeTargets::of(|of| has_spatial(of) && of.temporal >= id.temporal)
        } else {
            DecodeTargets::NONE
        };
        // Higher temporal layers don't depend on what came before this picture, which begins with its lowest layer.
        let switch_to =
            if switches_up && (alone || id.spatial == 0) { needed_by } else { DecodeTargets::NONE };
        Frame {
            layers: id,
            needed_by,
            switch_to,
            is_layer_sync: switches_up,
            starts_key_frame: !self.is_inter_picture && self.starts_frame && id.spatial == 0,
            starts_frame: self.starts_frame,
            ends_frame: self.ends_frame,
            picture_id: self.picture_id,
            tl0_picture_index: self.tl0_picture_index,
            number: None,
        }
    }
}

/// The length of the scalability structure (RFC 9628 section 4.2.1).
fn structure_len(structure: &[u8]) -> Option<usize> {
    const SIZES: u8 = 0x10;
    const GROUP: u8 = 0x08;

    let first = *structure.first()?;
    let mut len = 1;
    if first & SIZES != 0 {
        len += 4 * (usize::from(first >> 5) + 1);
    }
    if first & GROUP != 0 {
        let pictures = *structure.get(len)?;
        len += 1;
        for _ in 0..pictures {
            len += 1 + usize::from(*structure.get(len)? >> 2 & 0x03);
        }
    }
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_layer_of_a_non_flexible_stream() {
        // I, P, L, B; 15-bit picture id; TID 1, U, SID 2, D; TL0PICIDX 9.
        let descriptor = Descriptor::parse(&[0xe8, 0x81, 0x02, 0x35, 0x09, 0xaa]).unwrap();
        let frame = descriptor.frame(false);
        assert_eq!(frame.layers, Layers { spatial: 2, temporal: 1 });
        assert_eq!(frame.picture_id.map(|id| (id.at, id.value)), Some((1, 0x102)));
        assert_eq!(frame.tl0_picture_index, Some((4, 9)));
        assert!(frame.starts_frame && !frame.ends_frame && !frame.starts_key_frame && frame.is_layer_sync);
        assert!(frame.needed_by.contains(Layers { spatial: 3, temporal: 1 }));
        assert!(!frame.needed_by.contains(Layers { spatial: 1, temporal: 7 }));
        let alone = descriptor.frame(true);
        assert!(!alone.needed_by.contains(Layers { spatial: 3, temporal: 1 }));
        assert!(alone.needed_by.contains(Layers { spatial: 2, temporal: 1 }));
    }

    #[test]
    fn reads_past_references_and_the_structure() {
        // I, P, L, F, E: flexible, no TL0PICIDX, two distances.
        let flexible = Descriptor::parse(&[0xf4, 0x05, 0x00, 0x03, 0x02, 0xaa]).unwrap();
        assert!(flexible.ends_frame && flexible.tl0_picture_index.is_none());
        assert_eq!(
            Descriptor::parse(&[0xf4, 0x05, 0x00, 0x03, 0x02]),
            None,
            "nothing behind the second distance"
        );
        // V: two layers with sizes, a group of two pictures with one and no reference.
        let key = [0x8a, 0x05, 0x38, 1, 64, 0, 180, 2, 128, 1, 104, 2, 0x04, 1, 0x40, 0xaa];
        assert!(Descriptor::parse(&key).unwrap().frame(false).starts_key_frame);
        for cut in 0..key.len() {
            assert_eq!(Descriptor::parse(&key[..cut]), None, "cut at {cut}");
        }
    }
}
