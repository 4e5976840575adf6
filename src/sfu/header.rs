//! RTP headers as one consumer's client gets them: laid out once, then copied with what changes from packet to packet.

use mediasoup_types::rtp_parameters::{RtpHeaderExtensionUri as Uri, RtpParameters};

use crate::media::rtp::FIXED_HEADER_LEN;
use crate::sfu::cache::CachedPacket;
use crate::sfu::rewrite::Placed;

/// Bytes that a header can have before the dependency descriptor: the fixed part, and every other extension that weir
/// writes.
const MAX_LEN: usize = FIXED_HEADER_LEN + EXTENSION_HEADER_LEN + 34;
/// Profile and length of the extension block.
const EXTENSION_HEADER_LEN: usize = 4;
/// The longest MID: what the one-byte form has room for. Those that weir gives out are shorter, clients' own may not be.
const MAX_MID_LEN: usize = MAX_ONE_BYTE_VALUE;
/// Bytes of a value that the one-byte form has room for (RFC 8285 section 4.2).
const MAX_ONE_BYTE_VALUE: usize = 16;
/// The first byte: version 2, without and with an extension block.
const PLAIN: u8 = 0x80;
const EXTENDED: u8 = 0x90;

/// How the elements of an extension block are headed (RFC 8285 sections 4.2 and 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    OneByte,
    TwoByte,
}

impl Form {
    fn profile(self) -> [u8; 2] {
        match self {
            Self::OneByte => [0xBE, 0xDE],
            Self::TwoByte => [0x10, 0x00],
        }
    }

    /// The head of an element with a value of `len` bytes.
    #[inline]
    fn head(self, id: u8, len: usize) -> ([u8; 2], usize) {
        match self {
            Self::OneByte => ([id << 4 | len.wrapping_sub(1) as u8 & 0x0F, 0], 1),
            Self::TwoByte => ([id, len as u8], 2),
        }
    }
}

/// What the header extensions say of the moment of sending.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stamp {
    /// Absolute send time: 24 bits, 6.18 fixed point seconds.
    pub abs_send_time: u32,
    /// Transport-wide sequence number, for consumers that want one.
    pub wide_sequence: u16,
}

/// A header in one of the two forms. The elements that all packets carry (MID, send time, transport-wide sequence
/// number) are in place.
#[derive(Debug, Clone)]
struct Layout {
    form: Form,
    bytes: [u8; MAX_LEN],
    /// Bytes in use, before the block is filled up to whole words.
    len: usize,
    /// Where values are written; zero where the client does not want them, which the fixed header then covers.
    abs_send_time: usize,
    wide_sequence: usize,
}

impl Layout {
    fn new(form: Form, parameters: &RtpParameters) -> Self {
        let len = FIXED_HEADER_LEN + EXTENSION_HEADER_LEN;
        let mut layout = Self { form, bytes: [0; MAX_LEN], len, abs_send_time: 0, wide_sequence: 0 };
        let mid = parameters.mid.as_deref().unwrap_or_default().as_bytes();
        layout.put(extension_id(parameters, Uri::Mid), mid.get(..MAX_MID_LEN).unwrap_or(mid));
        layout.abs_send_time = layout.put(extension_id(parameters, Uri::AbsSendTime), &[0; 3]);
        layout.wide_sequence = layout.put(extension_id(parameters, Uri::TransportWideCcDraft01), &[0; 2]);
        layout
    }

    /// Appends an element; where its value is, or zero if it is not wanted or does not fit.
    #[inline]
    fn put(&mut self, id: u8, value: &[u8]) -> usize {
        let (head, head_len) = self.form.head(id, value.len());
        let at = self.len + head_len;
        let Some(element) = self.bytes.get_mut(self.len..at + value.len()) else { return 0 };
        if id == 0 || value.is_empty() {
            return 0;
        }
        let (to_head, to_value) = element.split_at_mut(head_len);
        to_head.copy_from_slice(head.get(..head_len).unwrap_or_default());
        to_value.copy_from_slice(value);
        self.len = at + value.len();
        at
    }
}

/// The id of a header extension, or zero if the client does not want it.
fn extension_id(parameters: &RtpParameters, uri: Uri) -> u8 {
    let extension = parameters.header_extensions.iter().find(|extension| extension.uri == uri);
    extension.and_then(|extension| u8::try_from(extension.id).ok()).filter(|id| *id < 15).unwrap_or(0)
}

/// The header of one consumer's packets. Audio level, video orientation and dependency descriptor follow what all of
/// them carry, where a packet has them. A key frame's dependency descriptor is too long for the one-byte form.
#[derive(Debug, Clone)]
pub struct HeaderTemplate {
    one_byte: Layout,
    two_byte: Layout,
    /// Ids of what only some packets carry; zero where the client does not want it.
    audio_level: u8,
    video_orientation: u8,
    dependency: u8,
}

impl HeaderTemplate {
    /// The header for a client that was told these parameters.
    #[must_use]
    pub fn new(parameters: &RtpParameters) -> Self {
        Self {
            one_byte: Layout::new(Form::OneByte, parameters),
            two_byte: Layout::new(Form::TwoByte, parameters),
            audio_level: extension_id(parameters, Uri::SsrcAudioLevel),
            video_orientation: extension_id(parameters, Uri::VideoOrientation),
            dependency: extension_id(parameters, Uri::DependencyDescriptor),
        }
    }

    /// Whether packets carry transport-wide sequence numbers.
    #[must_use]
    #[inline]
    pub fn has_wide_sequence(&self) -> bool {
        self.one_byte.wide_sequence != 0
    }

    /// Whether packets carry dependency descriptors.
    #[must_use]
    pub fn has_dependency(&self) -> bool {
        self.dependency != 0
    }

    /// Appends the header of a packet; its length is returned. `packet` is what it carries, if that is media.
    #[inline]
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        payload_type: u8,
        ssrc: u32,
        placed: &Placed,
        packet: Option<&CachedPacket>,
        stamp: Stamp,
    ) -> usize {
        let dependency = packet.filter(|_| self.dependency != 0 && !placed.is_filler);
        let dependency = dependency.and_then(|packet| packet.dependency.as_ref());
        let dependency =
            dependency.map(|known| known.for_viewer(placed.layers, placed.renumbering.frame_number));
        let is_long = dependency.is_some_and(|written| written.len() > MAX_ONE_BYTE_VALUE);
        let mut header = if is_long { self.two_byte.clone() } else { self.one_byte.clone() };
        if let Some(value) = header.bytes.get_mut(header.abs_send_time..header.abs_send_time + 3) {
            value.copy_from_slice(&stamp.abs_send_time.to_be_bytes()[1..]);
        }
        if let Some(value) = header.bytes.get_mut(header.wide_sequence..header.wide_sequence + 2) {
            value.copy_from_slice(&stamp.wide_sequence.to_be_bytes());
        }
        let (level, orientation) =
            packet.map_or((None, None), |packet| (packet.audio_level, packet.video_orientation));
        for (id, value) in [(self.audio_level, level), (self.video_orientation, orientation)] {
            if let Some(value) = value {
                header.put(id, &[value]);
            }
        }
        let head = dependency.map(|written| (written, header.form.head(self.dependency, written.len())));
        let len = header.len + head.map_or(0, |(written, (_, head_len))| head_len + written.len());
        let block = len.next_multiple_of(4) - FIXED_HEADER_LEN;
        let has_block = block > EXTENSION_HEADER_LEN;
        let Layout { form, mut bytes, len, .. } = header;
        bytes[0] = if has_block { EXTENDED } else { PLAIN };
        bytes[1] = u8::from(placed.marker) << 7 | payload_type & 0x7F;
        bytes[2..4].copy_from_slice(&((placed.sequence & 0xFFFF) as u16).to_be_bytes());
        bytes[4..8].copy_from_slice(&placed.timestamp.to_be_bytes());
        bytes[8..12].copy_from_slice(&ssrc.to_be_bytes());
        bytes[12..14].copy_from_slice(&form.profile());
        bytes[14..16].copy_from_slice(&((block / 4 - 1) as u16).to_be_bytes());
        let total = FIXED_HEADER_LEN + if has_block { block } else { 0 };
        let Some((written, (head, head_len))) = head else {
            out.extend_from_slice(bytes.get(..total).unwrap_or(&bytes));
            return total;
        };
        let start = out.len();
        out.extend_from_slice(bytes.get(..len).unwrap_or(&bytes));
        out.extend_from_slice(head.get(..head_len).unwrap_or(&head));
        written.append(out);
        out.resize(start + total, 0);
        total
    }
}
