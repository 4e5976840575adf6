//! SCTP chunks inside an association that is up, as only the peer of a transport can send them.

use std::time::{Duration, Instant};

use mediasoup_types::data_structures::SctpState;
use mediasoup_types::sctp_parameters::SctpStreamParameters;
use weir::sfu::sctp::{Carrier, DataMessage, MAX_MESSAGE_LEN, MAX_SEND_BUFFER_LEN, Output, Sctp};

use super::Input;

/// Packets that one packet or one second can cause.
const MAX_PACKETS: usize = 256;
const DATA: u8 = 0;
const SACK: u8 = 3;
const FORWARD_TSN: u8 = 192;

/// Two associations with each other; what the peer says to the first one is then made up.
struct Pair {
    now: Instant,
    weir: Sctp,
    peer: Sctp,
    /// What weir's packets have to begin with: ports, verification tag, and the checksum that DTLS makes superfluous.
    header: Vec<u8>,
    /// The first sequence numbers of both.
    weir_tsn: u32,
    peer_tsn: u32,
}

impl Pair {
    fn connect() -> Self {
        let now = Instant::now();
        let (weir, peer) = (Sctp::new(now, Carrier::Dtls), Sctp::new(now, Carrier::Dtls));
        let mut pair = Self { now, weir, peer, header: Vec::new(), weir_tsn: 0, peer_tsn: 0 };
        pair.peer.connect(now);
        while pair.weir.state() != SctpState::Connected || pair.peer.state() != SctpState::Connected {
            for packet in packets(&mut pair.peer) {
                pair.peer_tsn = initial_tsn(&packet, 1).unwrap_or(pair.peer_tsn);
                pair.header = [&packet[..8], &[0; 4]].concat();
                pair.weir.handle_packet(now, &packet);
            }
            for packet in packets(&mut pair.weir) {
                pair.weir_tsn = initial_tsn(&packet, 2).unwrap_or(pair.weir_tsn);
                pair.peer.handle_packet(now, &packet);
            }
        }
        pair
    }

    /// A chunk with a length that is right, and numbers that are near those in use.
    fn chunk(&self, input: &mut Input<'_>) -> Vec<u8> {
        let (kind, flags) = (input.byte(), input.byte());
        let mut value = input.datagram().to_vec();
        let base = match kind {
            DATA | FORWARD_TSN => self.peer_tsn,
            SACK => self.weir_tsn,
            _ => 0,
        };
        if let Some(number) = value.first_chunk_mut() {
            *number = base.wrapping_add(u32::from_be_bytes(*number)).to_be_bytes();
        }
        let len = value.len() as u16 + 4;
        value.resize(value.len().next_multiple_of(4), 0);
        [&[kind, flags][..], &len.to_be_bytes(), &value].concat()
    }
}

fn packets(sctp: &mut Sctp) -> Vec<Vec<u8>> {
    let outputs = std::iter::from_fn(|| sctp.poll_output());
    outputs
        .filter_map(|output| if let Output::Packet(packet) = output { Some(packet) } else { None })
        .collect()
}

/// The initial TSN of an INIT (1) or INIT ACK (2).
fn initial_tsn(packet: &[u8], kind: u8) -> Option<u32> {
    let tsn = packet.get(28..32).filter(|_| packet[12] == kind)?;
    Some(u32::from_be_bytes(tsn.try_into().ok()?))
}

/// No chunk makes the stack panic, hold more than it may, or answer without end.
pub fn sctp(data: &[u8]) {
    let mut input = Input(data);
    let mut pair = Pair::connect();
    let stream = SctpStreamParameters::new_ordered(0);
    while !input.is_empty() {
        match input.byte() % 8 {
            0 => pair.weir.handle_packet(pair.now, input.datagram()),
            1 => {
                pair.now += Duration::from_millis(u64::from(input.u16()));
                pair.weir.handle_timeout(pair.now);
            }
            2 => {
                let message = DataMessage::Binary(vec![7; usize::from(input.u16()) * 4].into());
                let _may_be_full = pair.weir.send(pair.now, &stream, &message);
            }
            3 => pair.weir.reset_stream(pair.now, input.u16()),
            chunks => {
                let chunks: Vec<u8> = (3..chunks).flat_map(|_| pair.chunk(&mut input)).collect();
                pair.weir.handle_packet(pair.now, &[&pair.header[..], &chunks].concat());
            }
        }
        while let Some((_, message)) = pair.weir.poll_message() {
            assert!(message.is_none_or(|message| message.payload().len() <= MAX_MESSAGE_LEN));
        }
        assert!(packets(&mut pair.weir).len() < MAX_PACKETS);
        assert!(pair.weir.buffered_amount(0) <= MAX_SEND_BUFFER_LEN);
        assert!(!pair.weir.has_panicked(), "the stack panicked");
    }
}
