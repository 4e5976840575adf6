//! The VP8 payload descriptor (RFC 7741 section 4.2) and the one bit behind it that tells key frames.

use super::{DecodeTargets, Frame, Layers, PictureId};

/// What the descriptor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// S and PID: the first packet of the first partition.
    starts_frame: bool,
    /// P of the payload header, if this packet begins with that.
    is_key: bool,
    picture_id: Option<PictureId>,
    tl0_picture_index: Option<(u8, u8)>,
    /// TID and Y.
    temporal: Option<(u8, bool)>,
}

impl Descriptor {
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        const EXTENDED: u8 = 0x80;
        const START_OF_PARTITION: u8 = 0x10;
        const PARTITION: u8 = 0x07;
        const PICTURE_ID: u8 = 0x80;
        const TL0_PICTURE_INDEX: u8 = 0x40;
        const TEMPORAL_LAYER: u8 = 0x20;
        const KEY_INDEX: u8 = 0x10;
        const LONG: u8 = 0x80;
        const LAYER_SYNC: u8 = 0x20;
        const INTER_FRAME: u8 = 0x01;

        let first = *payload.first()?;
        let mut at = 1;
        let (mut picture_id, mut tl0_picture_index, mut temporal) = (None, None, None);
        if first & EXTENDED != 0 {
            let flags = *payload.get(at)?;
            at += 1;
            if flags & PICTURE_ID != 0 {
                let (value, is_long) = match *payload.get(at)? {
                    high if high & LONG != 0 => {
                        (u16::from_be_bytes([high & !LONG, *payload.get(at + 1)?]), true)
                    }
                    short => (u16::from(short), false),
                };
                picture_id = Some(PictureId { at: at as u8, value, is_long, is_referenced: false });
                at += if is_long { 2 } else { 1 };
            }
            if flags & TL0_PICTURE_INDEX != 0 {
                tl0_picture_index = Some((at as u8, *payload.get(at)?));
                at += 1;
            }
            if flags & (TEMPORAL_LAYER | KEY_INDEX) != 0 {
                let byte = *payload.get(at)?;
                temporal = (flags & TEMPORAL_LAYER != 0).then_some((byte >> 6, byte & LAYER_SYNC != 0));
                at += 1;
            }
        }
        // A descriptor without anything behind it is no packet of a frame.
        let data = *payload.get(at)?;
        let starts_frame = first & START_OF_PARTITION != 0 && first & PARTITION == 0;
        let is_key = starts_frame && data & INTER_FRAME == 0;
        Some(Self { starts_frame, is_key, picture_id, tl0_picture_index, temporal })
    }
}

impl From<Descriptor> for Frame {
    fn from(descriptor: Descriptor) -> Self {
        let (temporal, is_layer_sync) = descriptor.temporal.unwrap_or_default();
        Self {
            layers: Layers { spatial: 0, temporal },
            needed_by: DecodeTargets::of(|layers| layers.temporal >= temporal),
            is_layer_sync,
            starts_key_frame: descriptor.is_key,
            starts_frame: descriptor.starts_frame,
            picture_id: descriptor.picture_id,
            tl0_picture_index: descriptor.tl0_picture_index,
            ..Self::WHOLE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_chromium_sends() {
        // X and S; I, L and T; picture id 0x1234, TL0PICIDX 7, TID 2 with Y, key index 3; an inter frame.
        let frame = Frame::from(Descriptor::parse(&[0x90, 0xf0, 0x92, 0x34, 0x07, 0xa3, 0x11]).unwrap());
        assert_eq!(frame.layers, Layers { spatial: 0, temporal: 2 });
        assert!(frame.is_layer_sync && frame.starts_frame && !frame.starts_key_frame);
        let id = PictureId { at: 2, value: 0x1234, is_long: true, is_referenced: false };
        assert_eq!((frame.picture_id, frame.tl0_picture_index), (Some(id), Some((4, 7))));
        assert!(!frame.needed_by.contains(Layers { spatial: 3, temporal: 1 }));
        assert!(frame.needed_by.contains(Layers { spatial: 0, temporal: 2 }));
    }

    #[test]
    fn reads_short_forms() {
        let plain = Frame::from(Descriptor::parse(&[0x10, 0x00]).unwrap());
        assert!(plain.starts_key_frame && plain.picture_id.is_none() && plain.layers.temporal == 0);
        let short = Descriptor::parse(&[0x80, 0x80, 0x7f, 0x11]).unwrap();
        assert_eq!(short.picture_id.map(|id| (id.value, id.is_long)), Some((0x7f, false)));
        assert!(!short.starts_frame, "the second packet of a frame");
        let key_index_only = Descriptor::parse(&[0x90, 0x10, 0xff, 0x00]).unwrap();
        assert_eq!(key_index_only.temporal, None);
        for cut in 0..6 {
            assert_eq!(Descriptor::parse(&[0x90, 0xf0, 0x92, 0x34, 0x07, 0xa3][..cut]), None);
        }
    }
}
