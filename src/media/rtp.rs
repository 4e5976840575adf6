//! A view of an RTP packet (RFC 3550 section 5.1) and its header extensions (RFC 8285), parsed once and never copied.

/// The fixed part of an RTP header, in bytes.
pub const FIXED_HEADER_LEN: usize = 12;

/// Profile value of the one-byte extension form (RFC 8285 section 4.2).
const ONE_BYTE_PROFILE: u16 = 0xBEDE;
/// Profile value of the two-byte extension form, whose low four bits are free (RFC 8285 section 4.3).
const TWO_BYTE_PROFILE: u16 = 0x1000;

/// Where the parts of one RTP packet are, checked against its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpView<'a> {
    packet: &'a [u8],
    /// Bytes before the payload: fixed header, CSRCs and extension.
    header_len: usize,
    /// Payload bytes, without padding.
    payload_len: usize,
    /// Start and end of the extension's elements, and their form.
    extension: Option<(usize, usize, u16)>,
}

/// Why bytes are no RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtpError {
    /// Shorter than the header says.
    #[error("truncated RTP packet")]
    Truncated,
    /// The version is not 2.
    #[error("not RTP version 2")]
    Version,
    /// The padding count is zero or longer than the payload.
    #[error("impossible RTP padding")]
    Padding,
}

/// Bytes before the payload of a packet that may still be encrypted: SRTP authenticates them and encrypts the rest
/// (RFC 3711 section 3.1).
///
/// # Errors
/// Fails if `packet` is shorter than its own header.
pub fn header_len(packet: &[u8]) -> Result<usize, RtpError> {
    parse_header(packet).map(|(len, _)| len)
}

type Extension = Option<(usize, usize, u16)>;

fn parse_header(packet: &[u8]) -> Result<(usize, Extension), RtpError> {
    let first = *packet.first().ok_or(RtpError::Truncated)?;
    if first >> 6 != 2 {
        return Err(RtpError::Version);
    }
    let mut len = FIXED_HEADER_LEN + usize::from(first & 0x0F) * 4;
    let mut extension = None;
    if first & 0x10 != 0 {
        let profile = read_u16(packet, len).ok_or(RtpError::Truncated)?;
        let words = read_u16(packet, len + 2).ok_or(RtpError::Truncated)?;
        let start = len + 4;
        let end = start + usize::from(words) * 4;
        extension = Some((start, end, profile));
        len = end;
    }
    if packet.len() < len {
        return Err(RtpError::Truncated);
    }
    Ok((len, extension))
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).and_then(|pair| pair.try_into().ok()).map(u16::from_be_bytes)
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// Sequence number and SSRC of a packet that may still be encrypted.
#[must_use]
pub fn sequence_and_ssrc(packet: &[u8]) -> Option<(u16, u32)> {
    (packet.len() >= FIXED_HEADER_LEN).then(|| (read_u16(packet, 2).unwrap_or(0), read_u32(packet, 8)))
}

impl<'a> RtpView<'a> {
    /// Checks a decrypted packet.
    ///
    /// # Errors
    /// Fails if the header, the extension or the padding does not fit into `packet`.
    pub fn parse(packet: &'a [u8]) -> Result<Self, RtpError> {
        let (header_len, extension) = parse_header(packet)?;
        let mut payload_len = packet.len() - header_len;
        if packet.first().is_some_and(|first| first & 0x20 != 0) {
            let padding = packet.last().copied().map_or(0, usize::from);
            if padding == 0 || padding > payload_len {
                return Err(RtpError::Padding);
            }
            payload_len -= padding;
        }
        Ok(Self { packet, header_len, payload_len, extension })
    }

    /// Bytes of the whole packet.
    #[must_use]
    pub fn packet_len(&self) -> usize {
        self.packet.len()
    }

    /// The marker bit: for video, the last packet of a frame.
    #[must_use]
    pub fn marker(&self) -> bool {
        self.packet.get(1).is_some_and(|byte| byte & 0x80 != 0)
    }

    /// The payload type.
    #[must_use]
    pub fn payload_type(&self) -> u8 {
        self.packet.get(1).map_or(0, |byte| byte & 0x7F)
    }

    /// The sequence number.
    #[must_use]
    pub fn sequence(&self) -> u16 {
        read_u16(self.packet, 2).unwrap_or(0)
    }

    /// The RTP timestamp, in units of the codec's clock.
    #[must_use]
    pub fn timestamp(&self) -> u32 {
        read_u32(self.packet, 4)
    }

    /// The synchronization source.
    #[must_use]
    pub fn ssrc(&self) -> u32 {
        read_u32(self.packet, 8)
    }

    /// The payload, without padding.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.packet.get(self.header_len..self.header_len + self.payload_len).unwrap_or(&[])
    }

    /// The header extension elements, as id and value.
    #[must_use]
    pub fn extensions(&self) -> Extensions<'a> {
        let (bytes, two_byte) = match self.extension {
            Some((start, end, ONE_BYTE_PROFILE)) => (self.packet.get(start..end), false),
            Some((start, end, profile)) if profile & 0xFFF0 == TWO_BYTE_PROFILE => {
                (self.packet.get(start..end), true)
            }
            _ => (None, false),
        };
        Extensions { rest: bytes.unwrap_or(&[]), two_byte }
    }
}

/// The header extension elements of one packet.
#[derive(Debug, Clone)]
pub struct Extensions<'a> {
    rest: &'a [u8],
    two_byte: bool,
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&first, rest) = self.rest.split_first()?;
            if first == 0 {
                self.rest = rest; // one byte of padding between elements
                continue;
            }
            let (id, len, rest) = if self.two_byte {
                let (&len, rest) = rest.split_first()?;
                (first, usize::from(len), rest)
            } else {
                (first >> 4, usize::from(first & 0x0F) + 1, rest)
            };
            if !self.two_byte && id == 15 {
                return None; // RFC 8285 section 4.2: stop at id 15
            }
            let value = rest.get(..len)?;
            self.rest = rest.get(len..).unwrap_or(&[]);
            return Some((id, value));
        }
    }
}

/// Whether `a` comes after `b` in the circular space of sequence numbers (RFC 1982).
#[must_use]
pub fn is_newer(a: u16, b: u16) -> bool {
    a != b && a.wrapping_sub(b) < 0x8000
}

/// Widens a sequence number to the value nearest to `reference`, an extended one (RFC 3711 section 3.3.1).
#[must_use]
pub fn extend_sequence(reference: u64, sequence: u16) -> u64 {
    let low = (reference & 0xFFFF) as u16;
    let delta = i64::from(sequence.wrapping_sub(low).cast_signed());
    reference.checked_add_signed(delta).unwrap_or(u64::from(sequence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_one_byte_extensions_and_padding() {
        let mut packet = vec![0xB0, 0xE0, 0, 7, 0, 0, 0, 9, 0, 0, 0, 5];
        packet.extend([0xBE, 0xDE, 0, 2, 0x10, b'a', 0, 0x41, 1, 2, 0, 0]);
        packet.extend([1, 2, 3, 0, 2]);
        let view = RtpView::parse(&packet).unwrap();
        assert_eq!((view.sequence(), view.timestamp(), view.ssrc()), (7, 9, 5));
        assert_eq!((view.payload_type(), view.marker()), (96, true));
        assert_eq!(view.extensions().collect::<Vec<_>>(), vec![(1, &b"a"[..]), (4, &[1, 2][..])]);
        assert_eq!(view.payload(), [1, 2, 3]);
    }

    #[test]
    fn reads_two_byte_extensions() {
        let mut packet = vec![0x90, 96, 0, 7, 0, 0, 0, 9, 0, 0, 0, 5];
        packet.extend([0x10, 0x00, 0, 2, 20, 3, 1, 2, 3, 0, 21, 0]);
        let view = RtpView::parse(&packet).unwrap();
        assert_eq!(view.extensions().collect::<Vec<_>>(), vec![(20, &[1, 2, 3][..]), (21, &[][..])]);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert_eq!(RtpView::parse(&[]), Err(RtpError::Truncated));
        assert_eq!(RtpView::parse(&[0x40; 12]), Err(RtpError::Version));
        assert_eq!(RtpView::parse(&[0x80; 11]), Err(RtpError::Truncated));
        let mut padded = [0x80_u8; 13];
        padded[0] = 0xA0;
        padded[12] = 2;
        assert_eq!(RtpView::parse(&padded), Err(RtpError::Padding));
    }

    #[test]
    fn every_cut_of_a_packet_is_survived() {
        let mut packet = vec![0xB1, 0xE0, 0, 7, 0, 0, 0, 9, 0, 0, 0, 5, 9, 9, 9, 9];
        packet.extend([0xBE, 0xDE, 0, 1, 0x1F, 1, 2, 3, 4, 1]);
        for end in 0..packet.len() {
            if let Ok(view) = RtpView::parse(&packet[..end]) {
                assert!(view.payload().len() <= end);
                assert!(view.extensions().count() <= 4);
            }
        }
    }

    #[test]
    fn sequences_extend_around_the_wrap() {
        assert_eq!(extend_sequence(65_535, 0), 65_536);
        assert_eq!(extend_sequence(65_536, 65_535), 65_535);
        assert_eq!(extend_sequence(3, 65_535), 65_535, "nothing is below zero");
        assert!(is_newer(0, 65_535) && !is_newer(65_535, 0) && !is_newer(4, 4));
    }
}
