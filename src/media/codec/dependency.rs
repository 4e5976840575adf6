//! The dependency descriptor, the RTP header extension that says the same of every codec: which layer a frame is of
//! and which decode targets need it (AV1 RTP specification, appendix A).
//!
//! Frames are described by templates that a key frame brings along; a [`Structure`] remembers them for the packets
//! that follow. It has a fixed size, and reading allocates nothing. What viewers get of a descriptor is an
//! [`Extension`].

mod extension;

use super::{DecodeTargets, Frame, Layers, MAX_SPATIAL_LAYERS, MAX_TEMPORAL_LAYERS};

pub use extension::{Extension, Written};

/// Templates that a structure can have: their ids have six bits.
const MAX_TEMPLATES: usize = 64;
/// Decode targets that a structure can have: their number has five bits.
const MAX_DECODE_TARGETS: usize = 32;
/// Bits of the number that names a template.
const TEMPLATE_ID_BITS: u32 = 6;
/// Bytes of a descriptor that says nothing but which template its frame follows.
const MANDATORY_LEN: usize = 3;
/// Bits before what a longer one says: the mandatory fields, and which other fields there are.
const FLAGS_END: usize = MANDATORY_LEN * 8 + 5;

/// What a frame is to a decode target (section A.8.1.1: DTI).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Indication(u8);

impl Indication {
    const NOT_PRESENT: u8 = 0;
    const SWITCH: u8 = 2;
}

/// One template: a layer and the indications of its frames, two bits for each decode target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Template {
    layers: Layers,
    indications: u64,
    /// Whether its frames are predicted from no others.
    is_intra: bool,
}

impl Template {
    fn indication(&self, target: u8) -> Indication {
        Indication((self.indications >> (2 * u32::from(target)) & 3) as u8)
    }
}

/// The templates of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Structure {
    id_offset: u8,
    decode_targets: u8,
    templates: [Template; MAX_TEMPLATES],
    template_count: usize,
    /// The decode target of each choice of layers: the best one within it.
    target_of: OfLayers<Option<u8>>,
    /// The decode targets, one bit for each, that someone has all frames of who gets those of that one.
    active_for: OfLayers<u32>,
}

/// Something for each choice of layers.
type OfLayers<T> = [[T; MAX_TEMPORAL_LAYERS as usize]; MAX_SPATIAL_LAYERS as usize];

/// What one packet's extension says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// What it says about the frame.
    pub frame: Frame,
    /// The templates that it brings, which hold from this frame on.
    pub structure: Option<Structure>,
    /// The decode targets that are produced from here on, one bit for each, if it says so.
    pub active: Option<u32>,
    /// Where it says that, or would, in bits.
    pub active_at: usize,
}

impl Descriptor {
    /// Reads the extension's value with the templates that the stream has. `None` if it is malformed or names a
    /// template that is not known.
    #[must_use]
    pub fn parse(value: &[u8], known: Option<&Structure>) -> Option<Self> {
        let mut bits = Bits { bytes: value, at: 0 };
        let (starts_frame, ends_frame) = (bits.flag()?, bits.flag()?);
        let template_id = bits.take(TEMPLATE_ID_BITS)? as u8;
        let number = bits.take(16)? as u16;
        let (mut structure, mut custom_indications, mut custom_distances) = (None, false, false);
        let (mut active, mut active_at) = (None, FLAGS_END);
        if value.len() > MANDATORY_LEN {
            let (has_structure, has_active_targets) = (bits.flag()?, bits.flag()?);
            custom_indications = bits.flag()?;
            // Custom frame distances and chains come last; nobody reads them here.
            custom_distances = bits.flag()?;
            let _custom_chains = bits.flag()?;
            if has_structure {
                structure = Some(Structure::parse(&mut bits)?);
            }
            active_at = bits.at;
            if has_active_targets {
                active = Some(bits.take(u32::from(structure.as_ref().or(known)?.decode_targets))?);
            }
        }
        let templates = structure.as_ref().or(known)?;
        let mut template = *templates.template(template_id)?;
        if custom_indications {
            template.indications = bits.indications(templates.decode_targets)?;
        }
        template.is_intra &= !custom_distances;
        let mut frame = templates.frame(&template);
        (frame.starts_frame, frame.ends_frame) = (starts_frame, ends_frame);
        frame.starts_key_frame = structure.is_some() && starts_frame && template.layers.spatial == 0;
        frame.number = Some(number);
        Some(Self { frame, structure, active, active_at })
    }
}

impl Structure {
    fn parse(bits: &mut Bits<'_>) -> Option<Self> {
        let id_offset = bits.take(TEMPLATE_ID_BITS)? as u8;
        let decode_targets = bits.take(5)? as u8 + 1;
        let mut structure = Self {
            id_offset,
            decode_targets,
            templates: [Template::default(); MAX_TEMPLATES],
            template_count: 0,
            target_of: OfLayers::default(),
            active_for: OfLayers::default(),
        };
        structure.read_layers(bits)?;
        for template in structure.templates.iter_mut().take(structure.template_count) {
            template.indications = bits.indications(decode_targets)?;
        }
        for template in structure.templates.iter_mut().take(structure.template_count) {
            template.is_intra = !bits.distances()?;
        }
        skip_chains(bits, structure.template_count, decode_targets)?;
        let has_resolutions = bits.flag()?;
        if has_resolutions {
            let templates = structure.templates.iter().take(structure.template_count);
            let spatial_layers = templates.map(|template| template.layers.spatial).max().unwrap_or(0) + 1;
            (0..spatial_layers).try_for_each(|_| bits.take(32).map(|_| ()))?;
        }
        structure.find_targets();
        Some(structure)
    }

    fn read_layers(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        let mut layers = Layers::default();
        loop {
            if layers.spatial >= MAX_SPATIAL_LAYERS || layers.temporal >= MAX_TEMPORAL_LAYERS {
                return None;
            }
            self.templates.get_mut(self.template_count)?.layers = layers;
            self.template_count += 1;
            match bits.take(2)? {
                0 => {}
                1 => layers.temporal += 1,
                2 => layers = Layers { spatial: layers.spatial + 1, temporal: 0 },
                _ => return Some(()),
            }
        }
    }

    /// A decode target is of the highest layers among the frames that it needs (section A.8.2.1).
    fn find_targets(&mut self) {
        let mut layers_of = [Layers::default(); MAX_DECODE_TARGETS];
        // The templates of each decode target, one bit for each.
        let mut needs = [0_u64; MAX_DECODE_TARGETS];
        for (target, (layers, needs)) in (0..self.decode_targets).zip(layers_of.iter_mut().zip(&mut needs)) {
            for (index, template) in self.templates.iter().take(self.template_count).enumerate() {
                if template.indication(target).0 != Indication::NOT_PRESENT {
                    layers.spatial = layers.spatial.max(template.layers.spatial);
                    layers.temporal = layers.temporal.max(template.layers.temporal);
                    *needs |= 1 << index;
                }
            }
        }
        for (spatial, row) in (0..).zip(&mut self.target_of) {
            for (temporal, best) in (0..).zip(row) {
                let targets = (0..self.decode_targets).zip(&layers_of);
                let within =
                    targets.filter(|(_, layers)| layers.spatial <= spatial && layers.temporal <= temporal);
                *best = within.max_by_key(|(_, layers)| **layers).map(|(target, _)| target);
            }
        }
        let active_for = |best: Option<u8>| {
            let gets = best.and_then(|best| needs.get(usize::from(best))).copied().unwrap_or(0);
            let active = (0..self.decode_targets).zip(&needs).filter(|(_, needs)| *needs & !gets == 0);
            active.fold(0, |bits, (target, _)| bits | 1 << target)
        };
        self.active_for = self.target_of.map(|row| row.map(active_for));
    }

    /// The decode targets that are there for a viewer of these layers, one bit for each.
    fn active_for(&self, viewer: Layers) -> u32 {
        let row = self.active_for.get(usize::from(viewer.spatial));
        row.and_then(|row| row.get(usize::from(viewer.temporal))).copied().unwrap_or(0)
    }

    fn template(&self, id: u8) -> Option<&Template> {
        let index = id.wrapping_sub(self.id_offset) % (1 << TEMPLATE_ID_BITS);
        self.templates.get(..self.template_count)?.get(usize::from(index))
    }

    fn frame(&self, template: &Template) -> Frame {
        let indication = |layers: Layers| {
            let target = self.target_of.get(usize::from(layers.spatial));
            let target = target.and_then(|row| row.get(usize::from(layers.temporal)).copied().flatten());
            target.map_or(Indication::NOT_PRESENT, |target| template.indication(target).0)
        };
        Frame {
            layers: template.layers,
            // Layers that have nothing in common (S modes) begin together, at the lowest one's templates and sequence
            // header: as in K-SVC, a viewer gets the lower layers' key frames before its own.
            needed_by: DecodeTargets::of(|layers| {
                indication(layers) != Indication::NOT_PRESENT
                    || template.is_intra && layers.spatial >= template.layers.spatial
            }),
            switch_to: DecodeTargets::of(|layers| indication(layers) == Indication::SWITCH),
            ..Frame::WHOLE
        }
    }
}

fn skip_chains(bits: &mut Bits<'_>, templates: usize, decode_targets: u8) -> Option<()> {
    let chains = bits.non_symmetric(u32::from(decode_targets) + 1)?;
    if chains == 0 {
        return Some(());
    }
    (0..decode_targets).try_for_each(|_| bits.non_symmetric(chains).map(|_| ()))?;
    (0..templates).try_for_each(|_| (0..chains).try_for_each(|_| bits.take(4).map(|_| ())))
}

/// Reads bits, the highest of a byte first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    fn take(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0, |value, _| Some(value << 1 | u32::from(self.flag()?)))
    }

    fn indications(&mut self, decode_targets: u8) -> Option<u64> {
        (0..decode_targets).try_fold(0, |all, target| Some(all | u64::from(self.take(2)?) << (2 * target)))
    }

    /// Skips a template's frame distances. False if there are none.
    fn distances(&mut self) -> Option<bool> {
        let mut are_some = false;
        while self.flag()? {
            self.take(4)?;
            are_some = true;
        }
        Some(are_some)
    }

    /// A number below `limit` (AV1 specification section 4.10.7: ns).
    fn non_symmetric(&mut self, limit: u32) -> Option<u32> {
        let width = u32::BITS - limit.leading_zeros();
        let shorter = (1_u32 << width).checked_sub(limit)?;
        let value = self.take(width.checked_sub(1)?)?;
        if value < shorter {
            return Some(value);
        }
        Some((value << 1) - shorter + self.take(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes bits, to say in tests what a browser would send.
    #[derive(Default)]
    pub(super) struct Writer(Vec<bool>);

    impl Writer {
        pub(super) fn put(&mut self, value: u32, count: u32) -> &mut Self {
            self.0.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
            self
        }

        pub(super) fn bytes(&self) -> Vec<u8> {
            let byte = |bits: &[bool]| {
                bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | u8::from(*bit) << (7 - at))
            };
            self.0.chunks(8).map(byte).collect()
        }
    }

    pub(super) fn mandatory(writer: &mut Writer, template: u32) {
        writer.put(0b11, 2).put(template, 6).put(0x1234, 16);
    }

    /// L1T3 as in the specification's example: templates T0 (key), T0, T1, T2, T2 and three decode targets.
    pub(super) fn l1t3_key() -> Vec<u8> {
        let mut writer = Writer::default();
        mandatory(&mut writer, 60);
        writer.put(0b10000, 5).put(60, 6).put(2, 5);
        for next in [0, 1, 1, 0, 3] {
            writer.put(next, 2);
        }
        // Indications of targets T0, T1, T2: S S S, S S S, - D R, - - D, - - D.
        for indications in [0b10_10_10, 0b10_10_10, 0b00_01_11, 0b00_00_01, 0b00_00_01] {
            writer.put(indications, 6);
        }
        // Frame distances, each minus one in four bits behind a set bit; a clear one ends a template's.
        for distances in [&[][..], &[4], &[2], &[1], &[1, 3]] {
            for distance in distances {
                writer.put(1, 1).put(distance - 1, 4);
            }
            writer.put(0, 1);
        }
        // One chain (of 0 to 3: two bits), which protects all targets (0 of 1: no bits), and its distances.
        writer.put(1, 2);
        for distance in [0, 4, 2, 1, 3] {
            writer.put(distance, 4);
        }
        writer.put(1, 1).put(1279, 16).put(719, 16);
        writer.bytes()
    }

    #[test]
    fn a_key_frame_brings_the_templates_of_the_frames_after_it() {
        let key = Descriptor::parse(&l1t3_key(), None).unwrap();
        assert!(key.frame.starts_key_frame && key.frame.starts_frame && key.frame.ends_frame);
        assert_eq!(key.frame.needed_by, DecodeTargets::ALL);
        let structure = key.structure.unwrap();
        let parse = |template| {
            let mut writer = Writer::default();
            mandatory(&mut writer, template);
            Descriptor::parse(&writer.bytes(), Some(&structure)).map(|descriptor| descriptor.frame)
        };
        let t = |temporal| Layers { spatial: 0, temporal };
        let base = parse(61).unwrap();
        assert!(base.switch_to.contains(t(2)) && !base.starts_key_frame);
        let middle = parse(62).unwrap();
        assert_eq!(middle.layers, t(1));
        assert!(!middle.needed_by.contains(t(0)) && middle.needed_by.contains(t(1)));
        assert!(!middle.switch_to.contains(t(2)), "required is not switch");
        let top = parse(0).unwrap();
        assert_eq!(top.layers, t(2), "template ids wrap at 64");
        assert!(!top.needed_by.contains(t(1)) && top.needed_by.contains(Layers::ALL));
        assert_eq!(parse(1), None, "five templates");
    }

    #[test]
    fn custom_indications_replace_the_templates() {
        let structure = Descriptor::parse(&l1t3_key(), None).unwrap().structure.unwrap();
        let mut writer = Writer::default();
        mandatory(&mut writer, 62);
        // Custom indications for all three targets: - S S; and custom distances, which nobody reads.
        writer.put(0b00110, 5).put(0b00_10_10, 6).put(0, 2);
        let frame = Descriptor::parse(&writer.bytes(), Some(&structure)).unwrap().frame;
        assert!(frame.switch_to.contains(Layers { spatial: 0, temporal: 1 }));
        assert!(!frame.needed_by.contains(Layers { spatial: 0, temporal: 0 }));
    }

    #[test]
    fn nothing_is_read_without_templates_or_beyond_the_end() {
        assert_eq!(Descriptor::parse(&[0xC1, 0, 1], None), None, "no templates known");
        let key = l1t3_key();
        for cut in 0..key.len() {
            assert_eq!(Descriptor::parse(&key[..cut], None), None, "cut at {cut}");
        }
        for byte in 0..key.len() {
            for value in 0..=u8::MAX {
                let mut broken = key.clone();
                broken[byte] = value;
                if let Some(descriptor) = Descriptor::parse(&broken, None) {
                    assert!(descriptor.structure.is_some());
                }
            }
        }
    }
}
