//! Publishers made of GStreamer: test pictures and tones as real RTP, handed over as taps do.

use std::num::{NonZeroU8, NonZeroU32};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSinkCallbacks};
use mediasoup_types::rtp_parameters::{MediaKind, MimeTypeAudio, MimeTypeVideo, RtpCodecParameters};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc;
use weir::egress::{KeyFrameRequester, TapSwitch, Track};
use weir::ids::ProducerId;
use weir::media::segmenter::VideoId;
use weir::sfu::api::{TapOutput, TapPacket};

pub(crate) const TAP_CAPACITY: usize = 1024;
const RTP_HEADER: usize = 12;
const RTP_TIMESTAMP: std::ops::Range<usize> = 4..8;
/// Pictures per second.
pub(crate) const FRAME_RATE: u32 = 30;

/// What a publisher sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    /// Parameter sets in packets of their own, pictures in two slices.
    H264,
    /// Parameter sets and the first slice in one packet (STAP-A).
    H264Aggregated,
    Vp8,
    Vp9,
    Opus,
}

impl Codec {
    pub(crate) fn encoder(self) -> &'static str {
        match self {
            // The only key frames are those asked for.
            Self::H264 => {
                "x264enc speed-preset=ultrafast tune=zerolatency bitrate=800 key-int-max=100000 threads=2 \
                 ! video/x-h264,profile=constrained-baseline ! rtph264pay pt=102 mtu=1200 config-interval=-1"
            }
            Self::H264Aggregated => {
                "x264enc speed-preset=ultrafast tune=zerolatency bitrate=800 key-int-max=100000 threads=1 \
                 ! video/x-h264,profile=constrained-baseline \
                 ! rtph264pay pt=102 mtu=1200 config-interval=-1 aggregate-mode=zero-latency"
            }
            Self::Vp8 => {
                "vp8enc deadline=1 cpu-used=16 target-bitrate=600000 keyframe-max-dist=100000 \
                 ! rtpvp8pay pt=96 mtu=1200 picture-id-mode=2"
            }
            Self::Vp9 => {
                "vp9enc deadline=1 cpu-used=16 target-bitrate=600000 keyframe-max-dist=100000 \
                 ! rtpvp9pay pt=98 mtu=1200 picture-id-mode=2"
            }
            Self::Opus => "opusenc frame-size=20 ! rtpopuspay pt=111",
        }
    }

    pub(crate) fn parameters(self) -> RtpCodecParameters {
        let rate = |rate| NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN);
        let video = |mime_type, payload_type| RtpCodecParameters::Video {
            mime_type,
            payload_type,
            clock_rate: rate(90_000),
            parameters: Default::default(),
            rtcp_feedback: Vec::new(),
        };
        match self {
            Self::H264 | Self::H264Aggregated => video(MimeTypeVideo::H264, 102),
            Self::Vp8 => video(MimeTypeVideo::Vp8, 96),
            Self::Vp9 => video(MimeTypeVideo::Vp9, 98),
            Self::Opus => RtpCodecParameters::Audio {
                mime_type: MimeTypeAudio::Opus,
                payload_type: 111,
                clock_rate: rate(48_000),
                channels: NonZeroU8::MIN.saturating_add(1),
                parameters: Default::default(),
                rtcp_feedback: Vec::new(),
            },
        }
    }
}

/// What goes wrong on the way.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Packets are not handed over while this is set.
    muted: AtomicBool,
    /// The reader wants none.
    tap_paused: AtomicBool,
    /// One packet in so many is lost; 0 for none.
    loss: AtomicU32,
    /// One packet in so many has a payload of nonsense; 0 for none.
    nonsense: AtomicU32,
    /// How much later the RTP timestamps are than the encoder made them, in ticks.
    shift: AtomicU32,
}

/// A running publisher of one track.
pub(crate) struct Source {
    pipeline: gst::Pipeline,
    tap: mpsc::Sender<TapOutput>,
    pub(crate) producer_id: ProducerId,
    faults: Arc<Faults>,
    pub(crate) key_frame_requests: Arc<AtomicU32>,
}

impl Source {
    /// Starts a publisher and makes the track that egress gets.
    pub(crate) fn start(codec: Codec, size: (u32, u32)) -> Result<(Self, Track)> {
        gst::init()?;
        let raw = match codec {
            Codec::Opus => "audiotestsrc is-live=true wave=sine freq=440 samplesperbuffer=960 \
                            ! audio/x-raw,rate=48000,channels=2"
                .to_owned(),
            _ => format!(
                "videotestsrc is-live=true pattern=ball ! capsfilter name=size caps=\"{}\"",
                caps(size)
            ),
        };
        let line = format!("{raw} ! {} ! appsink name=sink sync=false", codec.encoder());
        let pipeline =
            gst::parse::launch(&line)?.downcast::<gst::Pipeline>().map_err(|_| anyhow!("no pipeline"))?;
        let sink =
            pipeline.by_name("sink").and_then(|sink| sink.downcast::<AppSink>().ok()).context("no sink")?;
        let (tap, source) = mpsc::channel(TAP_CAPACITY);
        let faults = Arc::new(Faults::default());
        hand_over(&sink, tap.clone(), Arc::clone(&faults), false);
        pipeline.set_state(gst::State::Playing)?;
        let key_frame_requests = Arc::new(AtomicU32::new(0));
        let requests = Arc::clone(&key_frame_requests);
        let request: KeyFrameRequester = Arc::new(move || {
            requests.fetch_add(1, Ordering::Relaxed);
            let event = gst::Structure::builder("GstForceKeyUnit").field("all-headers", true).build();
            sink.send_event(gst::event::CustomUpstream::new(event));
        });
        let producer_id = ProducerId::random();
        let track = Track {
            producer_id,
            kind: if codec == Codec::Opus { MediaKind::Audio } else { MediaKind::Video },
            video: VideoId::BEST,
            single_layer: true,
            codec: codec.parameters(),
            paused: false,
            source,
            request_key_frame: Arc::clone(&request),
            set_tap_paused: tap_switch(&faults, request),
            start: None,
        };
        Ok((Self { pipeline, tap, producer_id, faults, key_frame_requests }, track))
    }

    /// Changes the picture's size in mid-stream.
    pub(crate) fn resize(&self, size: (u32, u32)) -> Result<()> {
        let filter = self.pipeline.by_name("size").context("no video")?;
        filter.set_property("caps", caps(size));
        Ok(())
    }

    /// Pauses or resumes as a producer does: the reader is told, and nothing comes meanwhile.
    pub(crate) async fn set_paused(&self, paused: bool) -> Result<()> {
        self.faults.muted.store(paused, Ordering::Relaxed);
        let told = if paused { TapOutput::Paused } else { TapOutput::Resumed };
        self.tap.send(told).await.map_err(|_| anyhow!("the tap is closed"))
    }

    /// Sends nothing without telling anyone.
    pub(crate) fn set_silent(&self, silent: bool) {
        self.faults.muted.store(silent, Ordering::Relaxed);
    }

    /// Loses one packet in `every`; 0 for none.
    pub(crate) fn lose(&self, every: u32) {
        self.faults.loss.store(every, Ordering::Relaxed);
    }

    /// The publisher's clock jumps: by `ticks` of the RTP clock, from now on.
    pub(crate) fn shift_clock(&self, ticks: u32) {
        self.faults.shift.fetch_add(ticks, Ordering::Relaxed);
    }

    /// Gives one packet in `every` a payload of nonsense; 0 for none.
    pub(crate) fn corrupt(&self, every: u32) {
        self.faults.nonsense.store(every, Ordering::Relaxed);
    }

    /// Whether the reader wants nothing.
    pub(crate) fn is_tap_paused(&self) -> bool {
        self.faults.tap_paused.load(Ordering::Relaxed)
    }

    /// Closes the producer.
    pub(crate) async fn close(&self) -> Result<()> {
        self.faults.muted.store(true, Ordering::Relaxed);
        self.tap.send(TapOutput::Closed).await.map_err(|_| anyhow!("the tap is closed"))
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if self.pipeline.set_state(gst::State::Null).is_err() {
            eprintln!("a test source did not stop");
        }
    }
}

/// Pauses as a media core does: a reader that goes on gets a key frame.
fn tap_switch(faults: &Arc<Faults>, request: KeyFrameRequester) -> TapSwitch {
    let faults = Arc::clone(faults);
    Arc::new(move |paused| {
        if faults.tap_paused.swap(paused, Ordering::Relaxed) && !paused {
            request();
        }
        Box::pin(std::future::ready(()))
    })
}

fn caps((width, height): (u32, u32)) -> gst::Caps {
    let side = |side: u32| i32::try_from(side).unwrap_or(i32::MAX);
    let rate = gst::Fraction::new(i32::try_from(FRAME_RATE).unwrap_or(30), 1);
    gst::Caps::builder("video/x-raw")
        .field("format", "I420")
        .field("width", side(width))
        .field("height", side(height))
        .field("framerate", rate)
        .build()
}

/// Hands what comes out of `sink` over to a tap; `reports` adds the sender reports of streams that share a clock.
pub(crate) fn hand_over(sink: &AppSink, tap: mpsc::Sender<TapOutput>, faults: Arc<Faults>, reports: bool) {
    let mut count = 0u32;
    let mut random = StdRng::seed_from_u64(1);
    let on_sample = move |sink: &AppSink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let buffer = sample.buffer().ok_or(gst::FlowError::Error)?;
        let map = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
        if let (true, Some(pts), Some(rtp)) = (
            reports && count.is_multiple_of(60),
            buffer.pts(),
            map.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes),
        ) {
            let ntp = u64::try_from((u128::from(pts.nseconds()) << 32) / 1_000_000_000).unwrap_or(0);
            // A report that finds no room is one that was lost.
            drop(tap.try_send(TapOutput::SenderReport { ntp, rtp }));
        }
        count = count.wrapping_add(1);
        let struck = |every: &AtomicU32| match every.load(Ordering::Relaxed) {
            0 => false,
            every => count.is_multiple_of(every),
        };
        let silent = faults.muted.load(Ordering::Relaxed) || faults.tap_paused.load(Ordering::Relaxed);
        if silent || struck(&faults.loss) {
            return Ok(gst::FlowSuccess::Ok);
        }
        let mut data = map.as_slice().to_vec();
        if struck(&faults.nonsense) {
            random.fill(data.get_mut(RTP_HEADER..).unwrap_or_default());
        }
        if let Some(timestamp) =
            data.get_mut(RTP_TIMESTAMP).and_then(|bytes| <&mut [u8; 4]>::try_from(bytes).ok())
        {
            let shifted = u32::from_be_bytes(*timestamp).wrapping_add(faults.shift.load(Ordering::Relaxed));
            *timestamp = shifted.to_be_bytes();
        }
        let packet = TapOutput::Packet(TapPacket { data: data.into(), arrival: Instant::now() });
        match tap.try_send(packet) {
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => Ok(gst::FlowSuccess::Ok),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(gst::FlowError::Eos),
        }
    };
    sink.set_callbacks(AppSinkCallbacks::builder().new_sample(on_sample).build());
}
