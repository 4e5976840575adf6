//! A viewer's stream made of three streams that lose, reorder and start over, while the viewer changes its mind.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weir::media::codec::{DecodeTargets, Frame, Layers};
use weir::sfu::cache::CachedPacket;
use weir::sfu::rewrite::{FIRST_SEQUENCE, Rewriter, Target};

use super::Input;

const STREAMS: usize = 3;
/// The stream whose spatial layers have nothing in common (S modes).
const ALONE: usize = 2;
const CLOCK_RATE: u32 = 90_000;

#[derive(Clone, Copy)]
struct Source {
    highest: u64,
    timestamp: u32,
}

/// Every outgoing number names one packet, numbers and timestamps of new packets only grow, and a NACK finds the packet
/// that its number was given to.
pub fn rewrite(data: &[u8]) {
    let mut input = Input(data);
    let mut rewriter = Rewriter::new(CLOCK_RATE, input.u16());
    let mut sources = [Source { highest: FIRST_SEQUENCE + 1000, timestamp: 5 }; STREAMS];
    let mut target = Target { stream: 0, layers: Layers::ALL };
    let mut given: BTreeMap<u64, (usize, u64)> = BTreeMap::new();
    let mut newest: Option<(u64, u32)> = None;
    let mut now = Instant::now();
    while !input.is_empty() {
        now += Duration::from_millis(u64::from(input.byte() & 15));
        let operation = input.byte();
        match operation & 7 {
            0 => {
                let choice = input.byte();
                target.stream = usize::from(choice) % STREAMS;
                target.layers = Layers { spatial: choice >> 6, temporal: choice >> 4 & 3 };
            }
            1 if operation > 200 => rewriter.lose_sync(),
            2 => {
                let asked = input.u16();
                if let Some(origin) = rewriter.origin(asked) {
                    let named = given.iter().rev().find(|(out, _)| (**out & 0xFFFF) as u16 == asked);
                    if let Some((_, packet)) = named {
                        assert_eq!((origin.stream, origin.sequence), *packet);
                    }
                }
            }
            kind => {
                let stream = usize::from(operation >> 3) % STREAMS;
                let Some(source) = sources.get_mut(stream) else { continue };
                let step = u64::from(input.byte());
                let is_late = kind == 3;
                let sequence = if is_late {
                    source.highest.saturating_sub(step)
                } else {
                    source.highest + 1 + step / 64
                };
                if !is_late {
                    source.highest = sequence;
                    source.timestamp = source.timestamp.wrapping_add(3000);
                }
                let behind = source.highest - sequence;
                let packet = packet(sequence, source.timestamp, input.byte(), now, behind, stream == ALONE);
                let before = rewriter.current_stream();
                let Some(placed) = rewriter.place(target, stream, &packet, |_| None) else { continue };
                assert!(
                    before == Some(stream)
                        || !is_late
                        || packet.frame.starts_key_frame
                        || given.values().any(|(known, _)| *known == stream)
                );
                if let Some(other) = given.insert(placed.sequence, (stream, sequence)) {
                    assert_eq!(other, (stream, sequence), "one number for two packets");
                }
                if newest.is_none_or(|(highest, _)| placed.sequence > highest) && !is_late {
                    if let Some((_, last)) = newest {
                        let ahead = placed.timestamp.wrapping_sub(last).cast_signed();
                        assert!(ahead > 0, "time went back by {ahead} at {}", placed.sequence);
                    }
                    newest = Some((placed.sequence, placed.timestamp));
                }
                if given.len() > 2000 {
                    given.pop_first();
                }
            }
        }
    }
}

/// One packet is one frame here; `bits` say of which layers, and whether it is a key frame.
fn packet(
    sequence: u64,
    timestamp: u32,
    bits: u8,
    arrival: Instant,
    behind: u64,
    stands_alone: bool,
) -> CachedPacket {
    let is_key = bits & 7 == 0;
    let temporal = if is_key { 0 } else { bits >> 3 & 3 };
    let spatial = if stands_alone { bits >> 6 } else { 0 };
    let is_for = |layers: Layers| layers.temporal >= temporal && (!stands_alone || layers.spatial == spatial);
    let frame = Frame {
        layers: Layers { spatial, temporal },
        needed_by: DecodeTargets::of(is_for),
        is_layer_sync: bits & 0x20 != 0,
        starts_key_frame: is_key,
        ends_frame: true,
        ..Frame::WHOLE
    };
    CachedPacket {
        sequence,
        timestamp,
        marker: true,
        frame,
        behind,
        audio_level: None,
        video_orientation: None,
        dependency: None,
        arrival,
        payload: vec![0; 4],
    }
}
