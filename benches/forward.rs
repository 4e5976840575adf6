//! What the media core itself costs: one publisher, many viewers, no socket. Prints forwarded packets per second of
//! CPU time (written, encrypted, batched) and memory per viewer, for several audiences.

#![allow(clippy::unwrap_used, reason = "a benchmark that can't go on should stop where it stands")]
#![allow(dead_code, reason = "the simulation tests use more of what they share")]

#[path = "../tests/simulation/network.rs"]
mod network;
#[path = "../tests/simulation/peer.rs"]
mod peer;
#[path = "../tests/simulation/sctp_peer.rs"]
mod sctp_peer;
#[path = "../tests/simulation/world.rs"]
mod world;

use std::time::{Duration, Instant};

use weir::sfu::{Transmit, Tuple};
use world::World;

/// Packets of a frame and frames of a run, as in a 2.6 Mbit/s video of 30 frames a second.
const PACKETS_PER_FRAME: u64 = 9;
const FRAMES: u64 = 300;
const RUNS: usize = 5;

/// Counts what it is given.
#[derive(Default)]
struct Sink {
    datagrams: u64,
    batches: u64,
}

impl Transmit for Sink {
    fn transmit(&mut self, _to: Tuple, contents: &[u8], segment_size: usize) {
        self.datagrams += contents.len().div_ceil(segment_size) as u64;
        self.batches += 1;
    }
}

/// Resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn run(viewers: usize) {
    let mut world = World::new(1);
    let (publisher, sending) = world.join();
    let producer = world.produce(sending, &[1000]);
    let before = resident();
    for _ in 0..viewers {
        let (viewer, transport) = world.join();
        let (consumer, _) = world.consume(viewer, transport, &producer);
        world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
    }
    let both_ends = resident().saturating_sub(before) as f64 / viewers as f64;
    let from = Tuple::shared(world.peers[publisher].address);
    let mut sequence = 0;
    let mut rates = Vec::new();
    let mut sink = Sink::default();
    for _ in 0..RUNS {
        let mut busy = Duration::ZERO;
        let forwarded = world.core.stats().rtp_forwarded;
        for _ in 0..FRAMES / RUNS as u64 {
            for packet in 0..PACKETS_PER_FRAME {
                let payload = [if packet == 0 { 0x10 } else { 0 }, u8::from(sequence > 0)];
                let payload: Vec<u8> = payload.into_iter().chain([7; 1178]).collect();
                let marker = packet + 1 == PACKETS_PER_FRAME;
                world.peers[publisher].send_rtp(1000, peer::VP8, sequence, sequence as u32, marker, &payload);
                sequence += 1;
            }
            while let Some(mut datagram) = world.peers[publisher].outbox.pop_front() {
                let start = Instant::now();
                world.core.handle_datagram(world.now, from, &mut datagram);
                busy += start.elapsed();
            }
            let start = Instant::now();
            world.core.flush(world.now, &mut sink);
            busy += start.elapsed();
        }
        rates.push((world.core.stats().rtp_forwarded - forwarded) as f64 / busy.as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    let segments = sink.datagrams as f64 / sink.batches.max(1) as f64;
    println!(
        "{viewers:>5} viewers: {:>9.0} packets per second (median of {RUNS}), {segments:.1} packets per batch, \
         {both_ends:.0} KiB for both ends of a viewer",
        rates[RUNS / 2]
    );
}

fn main() {
    for viewers in [50, 100, 200, 400, 1000] {
        run(viewers);
    }
}
