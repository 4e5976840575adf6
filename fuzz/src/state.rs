//! Sequences of operations on what remembers packets, beside a model that is simple enough to be right.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weir::media::codec::Frame;
use weir::media::rtp::extend_sequence;
use weir::sfu::cache::{CachedPacket, PacketCache};
use weir::sfu::nack::{Gap, MAX_ATTEMPTS, MAX_MISSING, NackGenerator, RETRY_INTERVAL};

use super::Input;

/// Far enough from zero that a packet before the first one has a number.
const START: u64 = 1 << 16;

pub(super) fn packet(sequence: u64, arrival: Instant) -> CachedPacket {
    CachedPacket {
        sequence,
        timestamp: 0,
        marker: false,
        frame: Frame::WHOLE,
        behind: 0,
        audio_level: None,
        video_orientation: None,
        dependency: None,
        arrival,
        payload: Vec::new(),
    }
}

/// The retransmission cache gives back what was put in, or nothing; never something else.
pub fn cache(data: &[u8]) {
    let mut input = Input(data);
    let capacity = usize::from(input.byte() % 64) + 1;
    let mut cache = PacketCache::new(capacity);
    let mut model: BTreeMap<u64, (u64, Vec<u8>)> = BTreeMap::new();
    let (mut highest, now) = (START, Instant::now());
    while !input.is_empty() {
        let operation = input.byte();
        let sequence = extend_sequence(highest, input.u16());
        match operation % 4 {
            0 | 1 => {
                let payload = input.bytes(usize::from(operation / 4));
                cache.insert(packet(sequence, now), payload);
                model.insert(sequence % capacity as u64, (sequence, payload.to_vec()));
                highest = highest.max(sequence);
            }
            2 => {
                let expected = model.get(&(sequence % capacity as u64)).filter(|(kept, _)| *kept == sequence);
                let found = cache.get(sequence).map(|packet| &packet.payload);
                assert_eq!(found, expected.map(|(_, payload)| payload));
            }
            _ if operation == 255 => {
                cache.clear();
                model.clear();
            }
            _ => assert_eq!(cache.contains(sequence), cache.get_recent(now, sequence).is_some()),
        }
    }
}

/// What is missing is asked for, a bounded number of times, and never what has come.
pub fn nack(data: &[u8]) {
    let mut input = Input(data);
    let mut nack = NackGenerator::default();
    let (mut highest, mut now) = (START, Instant::now());
    let mut arrived = BTreeMap::from([(START, ())]);
    let mut asked: BTreeMap<u16, u8> = BTreeMap::new();
    assert_eq!(nack.receive(now, START), Gap::None);
    while !input.is_empty() {
        match input.byte() % 4 {
            0 => {
                now += Duration::from_millis(u64::from(input.byte()));
                let due = nack.due(now);
                assert!(due.len() <= MAX_MISSING);
                assert!(due.is_sorted_by(|a, b| extend_sequence(highest, *a) < extend_sequence(highest, *b)));
                for sequence in due {
                    assert!(
                        !arrived.contains_key(&extend_sequence(highest, sequence)),
                        "{sequence} has come"
                    );
                    let times = asked.entry(sequence).or_default();
                    *times += 1;
                    assert!(*times <= MAX_ATTEMPTS);
                }
                assert!(nack.due(now).is_empty(), "not twice at once");
                assert!(nack.next_due().is_none_or(|at| at > now && at <= now + RETRY_INTERVAL));
            }
            operation => {
                let step = u64::from(input.byte());
                let sequence = if operation == 1 { highest.saturating_sub(step) } else { highest + step };
                let gap = nack.receive(now, sequence.max(START));
                assert!(gap == Gap::None || sequence > highest + 1);
                arrived.insert(sequence.max(START), ());
                highest = highest.max(sequence);
                if highest - START > 30_000 {
                    return; // sixteen bits name each packet once
                }
            }
        }
    }
}
