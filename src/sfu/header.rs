//! RTP headers as one consumer's client gets them: laid out once, then copied with what changes from packet to packet.

use mediasoup_types::rtp_parameters::{RtpHeaderExtensionUri as Uri, RtpParameters};

use crate::media::rtp::FIXED_HEADER_LEN;
use crate::sfu::cache::CachedPacket;
use crate::sfu::rewrite::Placed;

/// Bytes that a header can have: the fixed part, and every extension that weir writes.
pub const MAX_HEADER_LEN: usize = FIXED_HEADER_LEN + EXTENSION_HEADER_LEN + 24;
/// Profile and length of the extension block.
const EXTENSION_HEADER_LEN: usize = 4;
/// Characters of a MID that weir gives out.
const MAX_MID_LEN: usize = 6;
/// The first byte: version 2, without and with an extension block.
const PLAIN: u8 = 0x80;
const EXTENDED: u8 = 0x90;
/// Profile value of the one-byte extension form (RFC 8285 section 4.2).
const ONE_BYTE_PROFILE: [u8; 2] = [0xBE, 0xDE];

/// What the header extensions say of the moment of sending.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stamp {
    /// Absolute send time: 24 bits, 6.18 fixed point seconds.
    pub abs_send_time: u32,
    /// Transport-wide sequence number, for consumers that want one.
    pub wide_sequence: u16,
}

/// The header of one consumer's packets. The elements that all of them carry (MID, send time, transport-wide sequence
/// number) are in place; audio level and video orientation follow where a packet has them.
#[derive(Debug, Clone)]
pub struct HeaderTemplate {
    bytes: [u8; MAX_HEADER_LEN],
    /// Bytes in use, before the block is filled up to whole words.
    len: usize,
    /// Where values are written; zero where the client does not want them, which the fixed header then covers.
    abs_send_time: usize,
    wide_sequence: usize,
    /// Ids of what only some packets carry; zero where the client does not want it.
    audio_level: u8,
    video_orientation: u8,
}

impl HeaderTemplate {
    /// The header for a client that was told these parameters.
    #[must_use]
    pub fn new(parameters: &RtpParameters) -> Self {
        let id = |uri: Uri| {
            let extension = parameters.header_extensions.iter().find(|extension| extension.uri == uri);
            extension.and_then(|extension| u8::try_from(extension.id).ok()).filter(|id| *id < 15).unwrap_or(0)
        };
        let mut template = Self {
            bytes: [0; MAX_HEADER_LEN],
            len: FIXED_HEADER_LEN + EXTENSION_HEADER_LEN,
            abs_send_time: 0,
            wide_sequence: 0,
            audio_level: id(Uri::SsrcAudioLevel),
            video_orientation: id(Uri::VideoOrientation),
        };
        let mid = parameters.mid.as_deref().unwrap_or_default().as_bytes();
        template.put(id(Uri::Mid), mid.get(..MAX_MID_LEN).unwrap_or(mid));
        template.abs_send_time = template.put(id(Uri::AbsSendTime), &[0; 3]);
        template.wide_sequence = template.put(id(Uri::TransportWideCcDraft01), &[0; 2]);
        template
    }

    /// Appends an element; where its value is, or zero if it is not wanted or does not fit.
    fn put(&mut self, id: u8, value: &[u8]) -> usize {
        let at = self.len + 1;
        let Some(element) = self.bytes.get_mut(self.len..at + value.len()) else { return 0 };
        if id == 0 || value.is_empty() {
            return 0;
        }
        element[0] = id << 4 | (value.len() - 1) as u8;
        element[1..].copy_from_slice(value);
        self.len = at + value.len();
        at
    }

    /// Whether packets carry transport-wide sequence numbers.
    #[must_use]
    #[inline]
    pub fn has_wide_sequence(&self) -> bool {
        self.wide_sequence != 0
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
        let mut header = self.bytes;
        let mut len = self.len;
        if let Some(value) = header.get_mut(self.abs_send_time..self.abs_send_time + 3) {
            value.copy_from_slice(&stamp.abs_send_time.to_be_bytes()[1..]);
        }
        if let Some(value) = header.get_mut(self.wide_sequence..self.wide_sequence + 2) {
            value.copy_from_slice(&stamp.wide_sequence.to_be_bytes());
        }
        let (level, orientation) =
            packet.map_or((None, None), |packet| (packet.audio_level, packet.video_orientation));
        for (id, value) in [(self.audio_level, level), (self.video_orientation, orientation)] {
            if let Some((value, element)) = value.zip(header.get_mut(len..len + 2)).filter(|_| id != 0) {
                element.copy_from_slice(&[id << 4, value]);
                len += 2;
            }
        }
        let block = len.next_multiple_of(4) - FIXED_HEADER_LEN;
        let has_block = block > EXTENSION_HEADER_LEN;
        header[0] = if has_block { EXTENDED } else { PLAIN };
        header[1] = u8::from(placed.marker) << 7 | payload_type & 0x7F;
        header[2..4].copy_from_slice(&((placed.sequence & 0xFFFF) as u16).to_be_bytes());
        header[4..8].copy_from_slice(&placed.timestamp.to_be_bytes());
        header[8..12].copy_from_slice(&ssrc.to_be_bytes());
        header[12..14].copy_from_slice(&ONE_BYTE_PROFILE);
        header[14..16].copy_from_slice(&((block / 4 - 1) as u16).to_be_bytes());
        let len = FIXED_HEADER_LEN + if has_block { block } else { 0 };
        out.extend_from_slice(header.get(..len).unwrap_or(&header));
        len
    }
}
