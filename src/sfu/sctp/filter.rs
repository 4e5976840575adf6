//! Which packets the stack gets to see. It keeps a record of every stream that a peer names and looks through all of
//! them for some chunks, so a peer that names all 65 536, in packets full of such chunks, would cost everyone else time.

use super::MAX_STREAMS;

/// The common header (RFC 9260 section 3.1).
const HEADER_LEN: usize = 12;
const DATA: u8 = 0;
const RE_CONFIG: u8 = 130;
const FORWARD_TSN: u8 = 192;

/// Whether a packet names only streams that were agreed on, and has chunks that no stack sends twice in a packet at
/// most once. A malformed rest is the stack's to refuse.
pub(super) fn is_acceptable(packet: &[u8]) -> bool {
    let mut rest = packet.get(HEADER_LEN..).unwrap_or_default();
    let mut singles = 0;
    while let [kind, _, high, low, ..] = *rest {
        let len = usize::from(u16::from_be_bytes([high, low])).max(4);
        let chunk = rest.get(..len).unwrap_or(rest);
        // A TSN comes first in both; what follows is one stream of DATA, or a list of them with their numbers.
        let mut streams = chunk.get(8..).unwrap_or_default().chunks_exact(4).map(stream);
        let is_agreed = match kind {
            DATA => streams.next().is_none_or(|stream| stream < MAX_STREAMS),
            FORWARD_TSN => streams.all(|stream| stream < MAX_STREAMS),
            _ => true,
        };
        if !is_agreed {
            return false;
        }
        singles += u32::from(matches!(kind, RE_CONFIG | FORWARD_TSN));
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    singles <= 2
}

fn stream(bytes: &[u8]) -> u16 {
    bytes.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(chunks: &[&[u8]]) -> Vec<u8> {
        let mut packet = vec![0; HEADER_LEN];
        chunks.iter().for_each(|chunk| packet.extend(*chunk));
        packet
    }

    fn data(stream: u16) -> Vec<u8> {
        let mut chunk = vec![DATA, 3, 0, 17, 0, 0, 0, 1];
        chunk.extend(stream.to_be_bytes());
        chunk.extend([0, 0, 0, 0, 0, 53, 7, 0, 0, 0]);
        chunk
    }

    #[test]
    fn streams_beyond_the_agreed_ones_are_refused() {
        assert!(is_acceptable(&packet(&[&data(0), &data(MAX_STREAMS - 1)])));
        assert!(!is_acceptable(&packet(&[&data(0), &data(MAX_STREAMS)])), "also behind a padded chunk");
        let forward = |high| [FORWARD_TSN, 0, 0, 16, 0, 0, 0, 1, 0, 1, 0, 0, high, 0, 0, 0];
        assert!(is_acceptable(&packet(&[&forward(3)])) && !is_acceptable(&packet(&[&forward(4)])));
    }

    #[test]
    fn a_packet_full_of_forward_tsn_is_refused() {
        let forward: &[u8] = &[FORWARD_TSN, 0, 0, 8, 0, 0, 0, 1];
        let reset: &[u8] = &[RE_CONFIG, 0, 0, 4];
        assert!(is_acceptable(&packet(&[forward, reset])));
        assert!(!is_acceptable(&packet(&[forward; 3])));
    }

    #[test]
    fn what_is_cut_short_is_left_to_the_stack() {
        let whole = packet(&[&data(1), &[FORWARD_TSN, 0, 0, 0]]);
        assert!((0..whole.len()).all(|len| is_acceptable(&whole[..len])));
    }
}
