//! What a forwarder has to know about the frame that a packet belongs to, in one form for all codecs.

use serde::Serialize;

/// The most spatial layers of a stream that are told apart; WebRTC's scalability modes have three at most.
pub const MAX_SPATIAL_LAYERS: u8 = 4;
/// The most temporal layers of a stream that are told apart (three bits in every descriptor).
pub const MAX_TEMPORAL_LAYERS: u8 = 8;

/// A choice of layers: this spatial layer and all temporal layers up to this one. Ordered by spatial layer first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Layers {
    /// The spatial layer; the index of the stream in simulcast. 0 is the smallest picture.
    #[serde(rename = "spatialLayer")]
    pub spatial: u8,
    /// The temporal layer. 0 is the lowest frame rate.
    #[serde(rename = "temporalLayer")]
    pub temporal: u8,
}

impl Layers {
    /// Everything that a stream can hold.
    pub const ALL: Self = Self { spatial: MAX_SPATIAL_LAYERS - 1, temporal: MAX_TEMPORAL_LAYERS - 1 };
    /// Not a viewer of the highest layers, who may have no use for lower ones (K-SVC), but all that any viewer needs.
    pub const OF_ALL_VIEWERS: Self = Self { spatial: u8::MAX, temporal: u8::MAX };
}

/// A set of decode targets: for each [`Layers`], whether a viewer of them is meant (AV1 RTP specification, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeTargets(u32);

impl DecodeTargets {
    /// No viewer.
    pub const NONE: Self = Self(0);
    /// Every viewer.
    pub const ALL: Self = Self(u32::MAX);

    /// The viewers of layers that `wanted` accepts.
    #[must_use]
    pub fn of(wanted: impl Fn(Layers) -> bool) -> Self {
        let each = (0..MAX_SPATIAL_LAYERS)
            .flat_map(|spatial| (0..MAX_TEMPORAL_LAYERS).map(move |temporal| Layers { spatial, temporal }));
        Self(each.filter(|layers| wanted(*layers)).fold(0, |bits, layers| bits | Self::bit(layers)))
    }

    /// Whether a viewer of `layers` is meant.
    #[must_use]
    #[inline]
    pub fn contains(self, layers: Layers) -> bool {
        self.0 & Self::bit(layers) != 0 || layers == Layers::OF_ALL_VIEWERS && self != Self::NONE
    }

    #[inline]
    fn bit(layers: Layers) -> u32 {
        let (spatial, temporal) =
            (layers.spatial.min(MAX_SPATIAL_LAYERS - 1), layers.temporal.min(MAX_TEMPORAL_LAYERS - 1));
        1 << (spatial * MAX_TEMPORAL_LAYERS + temporal)
    }
}

/// Where a VP8 or VP9 payload holds its picture id, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureId {
    /// Its first byte in the payload.
    pub at: u8,
    /// Its value: 7 or 15 bits.
    pub value: u16,
    /// Whether it has 15 bits.
    pub is_long: bool,
    /// Whether other pictures name this one by the distance of their picture ids (VP9). If not (VP8), a picture that
    /// is left out must leave no gap, because receivers wait for it.
    pub is_referenced: bool,
}

/// What is added to a packet's picture numbers when it is passed on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Renumbering {
    /// Added to the picture id, modulo its size.
    pub picture_id: u16,
    /// Added to TL0PICIDX, modulo 256.
    pub tl0_picture_index: u8,
    /// Added to the frame number of the dependency descriptor.
    pub frame_number: u16,
}

/// What a packet says about its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The layers that the frame is of.
    pub layers: Layers,
    /// Who needs the frame.
    pub needed_by: DecodeTargets,
    /// Who can begin with the frame after it, if it could be decoded and all that follows is passed on.
    pub switch_to: DecodeTargets,
    /// The frame is predicted from lower temporal layers only: who has those can begin with this layer here.
    pub is_layer_sync: bool,
    /// A decoder that gets this packet and all after it shows a picture.
    pub starts_key_frame: bool,
    /// The first packet of the frame.
    pub starts_frame: bool,
    /// The last packet of the frame; other spatial layers of the same picture may follow.
    pub ends_frame: bool,
    /// The picture id.
    pub picture_id: Option<PictureId>,
    /// Where TL0PICIDX is in the payload, and its value.
    pub tl0_picture_index: Option<(u8, u8)>,
    /// The frame number that the dependency descriptor gives it.
    pub number: Option<u16>,
}

impl Frame {
    /// A packet that says nothing, of a stream without layers: everybody needs it.
    pub const WHOLE: Self = Self {
        layers: Layers { spatial: 0, temporal: 0 },
        needed_by: DecodeTargets::ALL,
        switch_to: DecodeTargets::NONE,
        is_layer_sync: false,
        starts_key_frame: false,
        starts_frame: true,
        ends_frame: false,
        picture_id: None,
        tl0_picture_index: None,
        number: None,
    };

    /// Audio, which any packet can start.
    pub const AUDIO: Self = Self { starts_key_frame: true, ..Self::WHOLE };

    /// Writes the picture numbers into a copy of the payload that this was read from.
    pub fn renumber(&self, payload: &mut [u8], by: Renumbering) {
        if let Some(id) = self.picture_id {
            let value = id.value.wrapping_add(by.picture_id);
            let at = usize::from(id.at);
            if id.is_long {
                if let Some(bytes) = payload.get_mut(at..at + 2) {
                    bytes.copy_from_slice(&(value | 0x8000).to_be_bytes());
                }
            } else if let Some(byte) = payload.get_mut(at) {
                *byte = (value & 0x7F) as u8;
            }
        }
        if let Some((at, value)) = self.tl0_picture_index
            && let Some(byte) = payload.get_mut(usize::from(at))
        {
            *byte = value.wrapping_add(by.tl0_picture_index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decode_targets_are_told_apart() {
        let upper = DecodeTargets::of(|layers| layers.spatial >= 1 && layers.temporal >= 2);
        assert!(upper.contains(Layers { spatial: 1, temporal: 2 }) && upper.contains(Layers::ALL));
        assert!(!upper.contains(Layers { spatial: 0, temporal: 7 }));
        assert!(!upper.contains(Layers { spatial: 3, temporal: 1 }));
        assert!(DecodeTargets::ALL.contains(Layers { spatial: 9, temporal: 9 }), "clamped");
    }

    #[test]
    fn numbers_are_written_where_they_were_and_wrap() {
        let long = PictureId { at: 2, value: 0x7FFF, is_long: true, is_referenced: false };
        let frame = Frame { picture_id: Some(long), tl0_picture_index: Some((4, 250)), ..Frame::WHOLE };
        let mut payload = [0x90, 0xe0, 0xff, 0xff, 250, 0x20, 0x10];
        frame.renumber(&mut payload, Renumbering { picture_id: 3, tl0_picture_index: 10, frame_number: 0 });
        assert_eq!(payload, [0x90, 0xe0, 0x80, 0x02, 4, 0x20, 0x10]);
        let short = PictureId { at: 2, value: 0x7F, is_long: false, is_referenced: false };
        let frame = Frame { picture_id: Some(short), ..Frame::WHOLE };
        let mut payload = [0x90, 0x80, 0x7f, 0x00];
        frame.renumber(&mut payload, Renumbering { picture_id: 1, tl0_picture_index: 9, frame_number: 0 });
        assert_eq!(payload, [0x90, 0x80, 0x00, 0x00]);
        frame.renumber(
            &mut payload[..2],
            Renumbering { picture_id: 1, tl0_picture_index: 9, frame_number: 0 },
        );
    }
}
