//! What one peer's HLS costs: recorded RTP of a 720p30 H.264 publisher, with and without Opus, goes into many peers'
//! egress in real time. Prints processor time by kind of thread, threads and memory per peer.
//!
//! `cargo bench --bench egress -- [peers] [seconds]`

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that can't go on ends")]

mod process;

use std::num::{NonZeroU8, NonZeroU32};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use mediasoup_types::rtp_parameters::{MediaKind, MimeTypeAudio, MimeTypeVideo, RtpCodecParameters};
use process::Usage;
use tokio::sync::mpsc;
use weir::egress::{Config, Egress, Track};
use weir::ids::ProducerId;
use weir::media::segmenter::VideoId;
use weir::sfu::api::{TapOutput, TapPacket};

const TAP_CAPACITY: usize = 4096;
/// How much is recorded, and then played in a loop.
const RECORDED_SECS: u32 = 8;
/// How long a measurement waits until everything runs.
const WARM_UP: Duration = Duration::from_secs(5);

const VIDEO: &str = "videotestsrc num-buffers=240 pattern=smpte ! video/x-raw,width=1280,height=720,framerate=30/1 \
    ! videoconvert ! x264enc speed-preset=ultrafast tune=zerolatency bitrate=2500 key-int-max=60 \
    ! video/x-h264,profile=constrained-baseline \
    ! rtph264pay pt=102 mtu=1200 config-interval=-1 ssrc=1 timestamp-offset=0 seqnum-offset=0 \
    ! appsink name=sink sync=false";
const AUDIO: &str = "audiotestsrc num-buffers=400 samplesperbuffer=960 wave=pink-noise ! audio/x-raw,rate=48000,channels=2 \
    ! opusenc frame-size=20 bitrate=64000 ! rtpopuspay pt=111 ssrc=2 timestamp-offset=0 seqnum-offset=0 \
    ! appsink name=sink sync=false";

/// Packets with the time at which each is due.
struct Recording {
    kind: MediaKind,
    clock_rate: u32,
    packets: Vec<(Duration, Vec<u8>)>,
}

impl Recording {
    fn make(kind: MediaKind, clock_rate: u32, line: &str) -> Self {
        let pipeline = gst::parse::launch(line).unwrap().downcast::<gst::Pipeline>().unwrap();
        let sink = pipeline.by_name("sink").unwrap().downcast::<AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let mut packets = Vec::new();
        while let Ok(sample) = sink.pull_sample() {
            let packet = sample.buffer().unwrap().map_readable().unwrap().as_slice().to_vec();
            let timestamp = u32::from_be_bytes(packet[4..8].try_into().unwrap());
            packets.push((Duration::from_secs_f64(f64::from(timestamp) / f64::from(clock_rate)), packet));
        }
        pipeline.set_state(gst::State::Null).unwrap();
        let bits: usize = packets.iter().map(|(_, packet)| packet.len() * 8).sum();
        println!("{kind:?}: {} packets, {} kbit/s", packets.len(), bits / 1000 / RECORDED_SECS as usize);
        Self { kind, clock_rate, packets }
    }

    /// The packet of the `round`th time that the recording is played.
    fn packet(&self, round: u32, index: usize) -> Bytes {
        let mut packet = self.packets[index].1.clone();
        let sequence = (round as usize * self.packets.len() + index) as u16;
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        let timestamp = u32::from_be_bytes(packet[4..8].try_into().unwrap());
        let shifted = timestamp.wrapping_add(round * RECORDED_SECS * self.clock_rate);
        packet[4..8].copy_from_slice(&shifted.to_be_bytes());
        packet.into()
    }

    fn codec(&self) -> RtpCodecParameters {
        let clock_rate = NonZeroU32::new(self.clock_rate).unwrap();
        match self.kind {
            MediaKind::Video => RtpCodecParameters::Video {
                mime_type: MimeTypeVideo::H264,
                payload_type: 102,
                clock_rate,
                parameters: Default::default(),
                rtcp_feedback: Vec::new(),
            },
            MediaKind::Audio => RtpCodecParameters::Audio {
                mime_type: MimeTypeAudio::Opus,
                payload_type: 111,
                clock_rate,
                channels: NonZeroU8::new(2).unwrap(),
                parameters: Default::default(),
                rtcp_feedback: Vec::new(),
            },
        }
    }
}

/// Plays a recording to many taps, in real time, on a thread named `publisher`, until it is told to stop.
fn play(
    recording: Arc<Recording>,
    taps: Vec<mpsc::Sender<TapOutput>>,
    stop: Arc<AtomicBool>,
) -> JoinHandle<()> {
    let body = move || {
        let start = Instant::now();
        for round in 0.. {
            for index in 0..recording.packets.len() {
                let due =
                    start + Duration::from_secs((round * RECORDED_SECS).into()) + recording.packets[index].0;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let data = recording.packet(round, index);
                for tap in &taps {
                    let packet = TapPacket { data: data.clone(), arrival: Instant::now() };
                    tap.try_send(TapOutput::Packet(packet)).expect("a tap that is read");
                }
            }
        }
    };
    std::thread::Builder::new().name("publisher".to_owned()).spawn(body).unwrap()
}

async fn measure(name: &str, recordings: &[Arc<Recording>], peers: u32, seconds: u64) {
    let config = Config { max_peers: 10_000, ..Config::default() };
    let (egress, _events) = Egress::start(&config, std::path::Path::new(".")).unwrap();
    let before = Usage::read();
    let stop = Arc::new(AtomicBool::new(false));
    let mut publishers = Vec::new();
    for recording in recordings {
        let mut taps = Vec::new();
        for peer in 0..peers {
            let (tap, source) = mpsc::channel(TAP_CAPACITY);
            taps.push(tap);
            let track = Track {
                producer_id: ProducerId::random(),
                kind: recording.kind,
                video: VideoId::BEST,
                single_layer: true,
                codec: recording.codec(),
                paused: false,
                source,
                request_key_frame: Arc::new(|| ()),
                set_tap_paused: Arc::new(|_| Box::pin(std::future::ready(()))),
                start: None,
            };
            egress.add_track(&format!("peer{peer}").parse().unwrap(), track);
        }
        publishers.push(play(Arc::clone(recording), taps, Arc::clone(&stop)));
    }
    tokio::time::sleep(WARM_UP).await;
    let (start, begun) = (Usage::read(), Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (end, took) = (Usage::read(), begun.elapsed());
    let pipelines = egress.pipelines();
    let restarts: u64 = pipelines.iter().map(|pipeline| pipeline.restarts).sum();
    let units: u64 = pipelines.iter().map(|pipeline| pipeline.latencies).sum();
    let latency: Duration = pipelines.iter().map(|pipeline| pipeline.latency).sum();
    let share =
        |ticks: u64| ticks as f64 / process::TICKS_PER_SEC / took.as_secs_f64() / f64::from(peers) * 100.0;
    println!("{name}, {peers} peers: {:.2} % of a core per peer", share(end.busy - start.busy));
    for (thread, ticks) in end.by_thread.iter().filter(|(thread, _)| *thread != "publisher") {
        let spent = ticks - start.by_thread.get(thread).unwrap_or(&0);
        println!("  {thread:16} {:.2} %", share(spent));
    }
    let per_peer = |what: u64| what as f64 / f64::from(peers);
    println!("  {:.1} threads", per_peer(end.threads.saturating_sub(before.threads)));
    let megabytes = |kb: u64| per_peer(kb) / 1024.0;
    let (grown, held) =
        (end.resident_kb.saturating_sub(before.resident_kb), egress.stats().bytes as u64 / 1024);
    println!("  {:.2} MB, {:.2} MB of them segments and playlists", megabytes(grown), megabytes(held));
    println!("  {:.1} ms latency, {restarts} restarts", latency.as_secs_f64() * 1000.0 / units.max(1) as f64);
    stop.store(true, Ordering::Relaxed);
    publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
    egress.shutdown().await;
}

/// Each measurement runs in a process of its own, so that none finds what another one left.
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` adds `--bench`; `cargo test` builds this and must not run it.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let Some(what) = arguments.iter().find(|argument| ["video", "both"].contains(&argument.as_str())) else {
        for what in ["video", "both"] {
            let program = std::env::current_exe().unwrap();
            let status = std::process::Command::new(program).args(&arguments).arg(what).status().unwrap();
            assert!(status.success());
        }
        return;
    };
    let numbers: Vec<u64> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let peers = numbers.first().and_then(|peers| u32::try_from(*peers).ok()).unwrap_or(20);
    let seconds = numbers.get(1).copied().unwrap_or(20);
    gst::init().unwrap();
    let mut recordings = vec![Arc::new(Recording::make(MediaKind::Video, 90_000, VIDEO))];
    if what == "both" {
        recordings.push(Arc::new(Recording::make(MediaKind::Audio, 48_000, AUDIO)));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().unwrap();
    runtime.block_on(measure(what, &recordings, peers, seconds));
}
