//! Which packets the stack gets to see. It is made for a browser, where there is one peer and its time is its own: it
//! keeps a record of every stream that is named, a list of all gaps between what arrived, and answers every chunk that
//! asks for it. What is refused here no stack sends, but a peer could make a worker busy with it.

use super::MAX_STREAMS;

/// The common header (RFC 9260 section 3.1).
const HEADER_LEN: usize = 12;
/// The length of a DATA chunk without data, as it is written.
const EMPTY_DATA_LEN: [u8; 2] = [0, 16];
const DATA: u8 = 0;
const SACK: u8 = 3;
const FORWARD_TSN: u8 = 192;

/// Chunks of one packet that are not DATA: of acknowledgements, resets and the like there is one of each at most.
const MAX_CONTROL_CHUNKS: usize = 4;
/// How far the numbers of chunks may be ahead of the last one before the first gap. What is beyond is as good as lost,
/// and comes again: four times what fits into the window if messages are long.
const MAX_AHEAD: u32 = 2048;

/// What has to be known of an association to tell which packets are acceptable.
#[derive(Debug, Default)]
pub(super) struct Filter {
    /// The last TSN that was acknowledged to the peer, once one was: one or two packets after the first.
    acknowledged: Option<u32>,
}

impl Filter {
    /// Whether the stack is to see a packet of the peer. What is malformed is the stack's to refuse.
    pub(super) fn accepts(&self, packet: &[u8]) -> bool {
        let mut control_chunks = 0;
        chunks(packet).all(|(kind, chunk)| {
            // A TSN comes first in both; what follows is one stream of DATA, or a list of them with their numbers.
            let mut streams = chunk.get(8..).unwrap_or_default().chunks_exact(4).map(stream);
            control_chunks += usize::from(kind != DATA);
            match kind {
                DATA => {
                    let is_near = number(chunk).is_none_or(|tsn| self.is_near(tsn));
                    is_near
                        && chunk.get(2..4) != Some(&EMPTY_DATA_LEN)
                        && streams.next().is_none_or(|stream| stream < MAX_STREAMS)
                }
                FORWARD_TSN => streams.all(|stream| stream < MAX_STREAMS),
                _ => true,
            }
        }) && control_chunks <= MAX_CONTROL_CHUNKS
    }

    /// Reads what a packet to the peer acknowledges.
    pub(super) fn note_sent(&mut self, packet: &[u8]) {
        let acknowledged =
            chunks(packet).find(|(kind, _)| *kind == SACK).and_then(|(_, chunk)| number(chunk));
        self.acknowledged = acknowledged.or(self.acknowledged);
    }

    fn is_near(&self, tsn: u32) -> bool {
        let ahead = self.acknowledged.map_or(0, |acknowledged| tsn.wrapping_sub(acknowledged));
        ahead <= MAX_AHEAD || ahead > u32::MAX / 2
    }
}

/// The chunks of a packet with their types. The last one may be cut short.
fn chunks(packet: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = packet.get(HEADER_LEN..).unwrap_or_default();
    std::iter::from_fn(move || {
        let [kind, _, high, low, ..] = *rest else { return None };
        let len = usize::from(u16::from_be_bytes([high, low])).max(4);
        let chunk = rest.get(..len).unwrap_or(rest);
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, chunk))
    })
}

/// The number that a chunk begins with.
fn number(chunk: &[u8]) -> Option<u32> {
    chunk.get(4..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
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

    fn data(tsn: u32, stream: u16) -> Vec<u8> {
        let mut chunk = vec![DATA, 3, 0, 17];
        chunk.extend(tsn.to_be_bytes());
        chunk.extend(stream.to_be_bytes());
        chunk.extend([0, 0, 0, 0, 0, 53, 7, 0, 0, 0]);
        chunk
    }

    fn accepts(chunks: &[&[u8]]) -> bool {
        Filter::default().accepts(&packet(chunks))
    }

    #[test]
    fn streams_beyond_the_agreed_ones_are_refused() {
        assert!(accepts(&[&data(1, 0), &data(2, MAX_STREAMS - 1)]));
        assert!(!accepts(&[&data(1, 0), &data(2, MAX_STREAMS)]), "also behind a padded chunk");
        let forward = |high| [FORWARD_TSN, 0, 0, 16, 0, 0, 0, 1, 0, 1, 0, 0, high, 0, 0, 0];
        assert!(accepts(&[&forward(3)]) && !accepts(&[&forward(4)]));
    }

    #[test]
    fn a_packet_full_of_anything_but_data_is_refused() {
        let forward: &[u8] = &[FORWARD_TSN, 0, 0, 8, 0, 0, 0, 1];
        let chunk = data(1, 1);
        assert!(accepts(&[forward, forward, forward, forward, &chunk]));
        assert!(!accepts(&[forward; 5]));
        assert!(accepts(&[&chunk[..]; 40]));
        let empty = [&[DATA, 3, 0, 16][..], &[0; 12]].concat();
        assert!(!accepts(&[&empty]), "DATA without data");
    }

    #[test]
    fn what_is_far_beyond_a_gap_is_refused_until_the_gap_is_filled() {
        let mut filter = Filter::default();
        let is_accepted = |filter: &Filter, tsn| filter.accepts(&packet(&[&data(tsn, 0)]));
        assert!(is_accepted(&filter, 77), "nothing is known yet");
        let sack = |tsn: u32| packet(&[&[SACK, 0, 0, 16], &tsn.to_be_bytes(), &[0; 8]]);
        filter.note_sent(&sack(u32::MAX));
        assert!(is_accepted(&filter, 2047) && !is_accepted(&filter, 2048));
        assert!(is_accepted(&filter, u32::MAX - 9), "a duplicate");
        filter.note_sent(&packet(&[&data(4, 4)]));
        filter.note_sent(&sack(9));
        assert!(is_accepted(&filter, 2048));
    }

    #[test]
    fn what_is_cut_short_is_left_to_the_stack() {
        let whole = packet(&[&data(1, 1), &[FORWARD_TSN, 0, 0, 0]]);
        assert!((0..whole.len()).all(|len| Filter::default().accepts(&whole[..len])));
    }
}
