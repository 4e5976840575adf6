//! Transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1): for a
//! range of transport-wide sequence numbers, which packets arrived and when.

use super::{TRANSPORT_FEEDBACK, begin, finish};

/// FMT of the feedback message.
pub(super) const FORMAT: u8 = 15;
/// Packets that one message may speak of; what claims more is malformed. Senders report several times a second.
pub const MAX_STATUSES: u16 = 4096;
/// Unit of arrival times, in microseconds.
pub const TICK_US: i64 = 250;
/// Ticks in a unit of the reference time: 64 ms.
pub const TICKS_PER_REFERENCE: i64 = 256;
/// The reference time starts again after this many units.
pub const REFERENCE_WRAP: i64 = 1 << 24;

const FIXED_LEN: usize = 16;
const NOT_RECEIVED: u8 = 0;
const SMALL_DELTA: u8 = 1;
const LARGE_DELTA: u8 = 2;
/// The longest run that a run length chunk holds: 13 bits.
const MAX_RUN: usize = 0x1FFF;

/// A feedback message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportFeedback<'a> {
    /// First transport-wide sequence number.
    pub base: u16,
    /// Time that the arrivals count from, in units of 64 ms, modulo [`REFERENCE_WRAP`].
    pub reference: u32,
    /// Counts the messages of this receiver.
    pub count: u8,
    statuses: u16,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl<'a> TransportFeedback<'a> {
    /// Reads the body of a message, after the RTCP header. None if it contradicts itself.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let fixed: [u8; FIXED_LEN] = body.get(..FIXED_LEN)?.try_into().ok()?;
        let statuses = u16::from_be_bytes([fixed[10], fixed[11]]);
        if statuses == 0 || statuses > MAX_STATUSES {
            return None;
        }
        let rest = body.get(FIXED_LEN..)?;
        let mut covered = 0;
        let mut chunks_len = 0;
        while covered < usize::from(statuses) {
            let chunk = rest.get(chunks_len..chunks_len + 2)?.try_into().ok().map(u16::from_be_bytes)?;
            covered += Chunk(chunk).len();
            chunks_len += 2;
        }
        let (chunks, deltas) = rest.split_at_checked(chunks_len)?;
        Some(Self {
            base: u16::from_be_bytes([fixed[8], fixed[9]]),
            reference: u32::from_be_bytes([0, fixed[12], fixed[13], fixed[14]]),
            count: fixed[15],
            statuses,
            chunks,
            deltas,
        })
    }

    /// Every packet that the message speaks of: its sequence number, and when it arrived if it did, in ticks of
    /// 250 µs after the reference time. Ends early where the message is cut short.
    pub fn packets(&self) -> impl Iterator<Item = (u16, Option<i64>)> + use<'a> {
        let mut deltas = self.deltas;
        let mut time = 0_i64;
        let symbols = self.chunks.chunks_exact(2).flat_map(|chunk| {
            let chunk = Chunk(chunk.try_into().map_or(0, u16::from_be_bytes));
            (0..chunk.len()).map(move |index| chunk.symbol(index))
        });
        let base = self.base;
        symbols.take(usize::from(self.statuses)).enumerate().map_while(move |(index, symbol)| {
            let sequence = base.wrapping_add(index as u16);
            let delta = match symbol {
                NOT_RECEIVED => return Some((sequence, None)),
                SMALL_DELTA => {
                    let (delta, rest) = deltas.split_first()?;
                    deltas = rest;
                    i64::from(*delta)
                }
                LARGE_DELTA => {
                    let (delta, rest) = deltas.split_first_chunk::<2>()?;
                    deltas = rest;
                    i64::from(i16::from_be_bytes(*delta))
                }
                _ => return None,
            };
            time += delta;
            Some((sequence, Some(time)))
        })
    }
}

/// A packet status chunk: a run of one symbol, or a vector of 14 one-bit or 7 two-bit symbols.
#[derive(Clone, Copy)]
struct Chunk(u16);

impl Chunk {
    fn len(self) -> usize {
        match self.0 >> 14 {
            0 | 1 => usize::from(self.0) & MAX_RUN,
            2 => 14,
            _ => 7,
        }
    }

    fn symbol(self, index: usize) -> u8 {
        (match self.0 >> 14 {
            0 | 1 => self.0 >> 13 & 3,
            2 => self.0 >> 13_usize.saturating_sub(index) & 1,
            _ => self.0 >> 12_usize.saturating_sub(2 * index) & 3,
        }) as u8
    }
}

/// What a feedback message says besides its packets.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// The SSRC of who reports.
    pub sender: u32,
    /// An SSRC of who is reported on.
    pub media: u32,
    /// First transport-wide sequence number.
    pub base: u16,
    /// Time that the arrivals count from, in units of 64 ms.
    pub reference: i64,
    /// Counts the messages.
    pub count: u8,
}

/// Appends a message about the packets from `header.base` on; `arrivals` are ticks of 250 µs after the reference
/// time. What follows an arrival too far from the one before it (8 s) is left out; how many packets the message
/// speaks of is returned.
pub fn write(out: &mut Vec<u8>, header: &Header, arrivals: &[Option<i64>]) -> usize {
    let mut symbols = Vec::with_capacity(arrivals.len());
    let mut deltas = Vec::with_capacity(arrivals.len() * 2);
    let mut last = 0;
    for arrival in arrivals.iter().take(usize::from(MAX_STATUSES)) {
        let Some(arrival) = arrival else {
            symbols.push(NOT_RECEIVED);
            continue;
        };
        let delta = arrival - last;
        if let Ok(small) = u8::try_from(delta) {
            symbols.push(SMALL_DELTA);
            deltas.push(small);
        } else if let Ok(large) = i16::try_from(delta) {
            symbols.push(LARGE_DELTA);
            deltas.extend(large.to_be_bytes());
        } else {
            break;
        }
        last = *arrival;
    }
    let start = begin(out, FORMAT, TRANSPORT_FEEDBACK);
    out.extend(header.sender.to_be_bytes());
    out.extend(header.media.to_be_bytes());
    out.extend(header.base.to_be_bytes());
    out.extend((symbols.len() as u16).to_be_bytes());
    let [.., high, middle, low] = header.reference.rem_euclid(REFERENCE_WRAP).to_be_bytes();
    out.extend([high, middle, low, header.count]);
    write_chunks(out, &symbols);
    out.extend(deltas);
    let padding = (out.len() - start).next_multiple_of(4) - (out.len() - start);
    if padding > 0 {
        // The receiver must not read them as further deltas (RFC 3550 section 6.4.1 on the P bit).
        out.extend(std::iter::repeat_n(0, padding - 1));
        out.push(padding as u8);
        if let Some(first) = out.get_mut(start) {
            *first |= 0x20;
        }
    }
    finish(out, start);
    symbols.len()
}

fn write_chunks(out: &mut Vec<u8>, mut symbols: &[u8]) {
    while let Some(first) = symbols.first().copied() {
        let run = symbols.iter().take(MAX_RUN).take_while(|symbol| **symbol == first).count();
        let small = symbols.iter().take(14).take_while(|symbol| **symbol <= SMALL_DELTA).count();
        let (chunk, taken) = if run >= 14 || run >= 7 && small < 14 {
            (u16::from(first) << 13 | run as u16, run)
        } else if small == 14 || small == symbols.len() {
            (0x8000 | vector(symbols, 14, 1), 14)
        } else {
            (0xC000 | vector(symbols, 7, 2), 7)
        };
        out.extend(chunk.to_be_bytes());
        symbols = symbols.get(taken..).unwrap_or(&[]);
    }
}

/// The first `count` symbols of `bits` bits each, the first one in the highest place.
fn vector(symbols: &[u8], count: u32, bits: u32) -> u16 {
    let places = (0..count).rev().map(|place| place * bits);
    symbols.iter().zip(places).fold(0, |vector, (symbol, place)| vector | u16::from(*symbol) << place)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};

    use super::super::{Item, read};
    use super::*;

    fn header(base: u16) -> Header {
        Header { sender: 1, media: 2, base, reference: 5, count: 9 }
    }

    fn read_back(bytes: &[u8]) -> Vec<(u16, Option<i64>)> {
        let mut packets = Vec::new();
        read(bytes, |item| match item {
            Item::TransportFeedback(feedback) => {
                assert_eq!((feedback.reference, feedback.count), (5, 9));
                packets.extend(feedback.packets());
            }
            other => panic!("{other:?}"),
        })
        .unwrap();
        packets
    }

    #[test]
    fn reads_back_what_it_writes_and_so_does_an_independent_parser() {
        let mut random = rand::rngs::StdRng::seed_from_u64(1);
        for round in 0..500 {
            let loss = f64::from(round % 5) / 5.0;
            let mut time = 0_i64;
            let arrivals: Vec<Option<i64>> = (0..random.random_range(1..200))
                .map(|_| {
                    time += random.random_range(-20..if round % 2 == 0 { 60 } else { 600 });
                    (!random.random_bool(loss)).then_some(time)
                })
                .collect();
            let mut out = Vec::new();
            assert_eq!(write(&mut out, &header(65_500), &arrivals), arrivals.len());
            let expected = arrivals.iter().zip(0..).map(|(a, i): (_, u16)| (65_500_u16.wrapping_add(i), *a));
            assert_eq!(read_back(&out), expected.collect::<Vec<_>>());
            let theirs = rtc_rtcp::packet::unmarshal(&mut &out[..]).unwrap();
            assert_eq!(theirs.len(), 1);
            let theirs = theirs[0]
                .as_any()
                .downcast_ref::<rtc_rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc>()
                .unwrap();
            assert_eq!(theirs.packet_status_count as usize, arrivals.len());
            assert_eq!(theirs.recv_deltas.len(), arrivals.iter().flatten().count());
        }
    }

    #[test]
    fn a_jump_in_time_ends_the_message() {
        let mut out = Vec::new();
        assert_eq!(write(&mut out, &header(1), &[Some(3), None, Some(40_000), Some(40_001)]), 2);
        assert_eq!(read_back(&out), [(1, Some(3)), (2, None)]);
    }

    #[test]
    fn runs_are_short_on_the_wire() {
        let mut arrivals = vec![Some(0)];
        arrivals.extend([None; 3000]);
        arrivals.push(Some(1));
        let mut out = Vec::new();
        write(&mut out, &header(1), &arrivals);
        assert!(out.len() < 40, "{}", out.len());
        assert_eq!(read_back(&out).len(), 3002);
    }

    #[test]
    fn impossible_messages_are_refused() {
        let mut out = Vec::new();
        write(&mut out, &header(1), &[Some(1); 20]);
        for end in 4..out.len() {
            let mut cut = out[..end - end % 4].to_vec();
            cut[3] = (cut.len() / 4 - 1) as u8;
            let _ends = read(&cut, |item| {
                if let Item::TransportFeedback(feedback) = item {
                    assert!(feedback.packets().count() <= 20);
                }
            });
        }
        let claims_too_much = [&[0; 10][..], &[0xFF, 0xFF, 0, 0, 0, 0, 0x1F, 0xFF]].concat();
        assert!(TransportFeedback::parse(&claims_too_much).is_none());
        let says_nothing = [&[0; 10][..], &[0, 9, 0, 0, 0, 0], &[0; 40]].concat();
        assert!(TransportFeedback::parse(&says_nothing).is_none(), "runs of no length end");
    }
}
