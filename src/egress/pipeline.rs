//! One running GStreamer pipeline: RTP packets, access units or pictures go in, access units or pictures come out on a
//! bounded channel.
//!
//! Callbacks run on GStreamer's threads, where a panic would abort the process: they only copy and hand over. What
//! does not fit into the channel is dropped and reported.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSinkCallbacks, AppSrc};
use tokio::sync::{mpsc, oneshot};

use super::blocking::Blocking;
use super::meter::Meter;
use super::templates::{Gives, Template, Templates, Variables};
use crate::media::fmp4::{AudioConfig, VideoConfig};
use crate::media::segmenter::{AudioUnit, VideoUnit};
use crate::media::timeline::MediaTime;

/// Access units that wait to be taken from a pipeline; more are dropped.
const UNIT_CAPACITY: usize = 512;
/// The same for decoded pictures, which take megabytes each.
const PICTURE_CAPACITY: usize = 4;
/// How much later than the one before a buffer without a time stamp is assumed to be.
const ASSUMED_STEP: gst::ClockTime = gst::ClockTime::from_mseconds(20);

/// What a pipeline hands out.
#[derive(Debug)]
pub(super) enum Output {
    Video(VideoUnit),
    Audio(AudioUnit),
    Picture(Picture),
    /// The pipeline is dead.
    Failed(String),
}

/// A decoded picture.
#[derive(Debug, Clone)]
pub(super) struct Picture {
    pub(super) pts: MediaTime,
    /// Width and height in pixels.
    pub(super) size: (u32, u32),
    sample: gst::Sample,
}

/// What a pipeline is made from.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) templates: Arc<Templates>,
    pub(super) template: Template,
    pub(super) variables: Variables,
    pub(super) blocking: Blocking,
    pub(super) meter: Arc<Meter>,
}

/// A running pipeline; it stops when dropped, on another thread.
#[derive(Debug)]
pub(super) struct Pipeline {
    pipeline: gst::Pipeline,
    source: AppSrc,
    overflowed: Arc<AtomicBool>,
    /// From which moment on a key frame is wanted, in nanoseconds; each other value is another wish.
    key_frame_due: Arc<AtomicU64>,
    outputs: mpsc::Receiver<Output>,
    blocking: Blocking,
    stopped: bool,
}

impl Pipeline {
    /// Builds and starts a pipeline. It blocks as long as its elements like: not for threads that others wait for.
    pub(super) fn start(plan: &Plan) -> anyhow::Result<Self> {
        let (pipeline, source, sink) = plan.templates.build(plan.template, plan.variables)?;
        let (sender, outputs) = mpsc::channel(UNIT_CAPACITY);
        let overflowed = Arc::new(AtomicBool::new(false));
        report_errors(&pipeline, sender.clone());
        let gives = plan.template.gives();
        let mut reader = UnitReader { gives, caps: None, format: None, last_pts: None };
        let (flag, meter) = (Arc::clone(&overflowed), Arc::clone(&plan.meter));
        let on_sample = move |sink: &AppSink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let Some(unit) = reader.read(&sample) else { return Ok(gst::FlowSuccess::Ok) };
            let waiting = sender.max_capacity().saturating_sub(sender.capacity());
            if matches!(unit, Output::Picture(_)) && waiting >= PICTURE_CAPACITY {
                meter.dropped();
                return Ok(gst::FlowSuccess::Ok);
            }
            match sender.try_send(unit) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => {
                    flag.store(true, Ordering::Relaxed);
                    meter.dropped();
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return Err(gst::FlowError::Flushing),
            }
            Ok(gst::FlowSuccess::Ok)
        };
        sink.set_callbacks(AppSinkCallbacks::builder().new_sample(on_sample).build());
        let key_frame_due = Arc::new(AtomicU64::new(0));
        force_key_frames(&pipeline, &key_frame_due);
        let blocking = plan.blocking.clone();
        let started = Self { pipeline, source, overflowed, key_frame_due, outputs, blocking, stopped: false };
        started.pipeline.set_state(gst::State::Playing)?;
        Ok(started)
    }

    /// Feeds one RTP packet. Never waits: when the pipeline can't keep up, its queue drops what is oldest.
    pub(super) fn push(&self, packet: Bytes, pts: MediaTime) {
        let mut buffer = gst::Buffer::from_slice(packet);
        if let Some(buffer) = buffer.get_mut() {
            let time = gst::ClockTime::from_nseconds(pts.nanos());
            buffer.set_pts(time);
            buffer.set_dts(time);
        }
        if let Err(reason) = self.source.push_buffer(buffer) {
            tracing::trace!(%reason, "pipeline takes no packet");
        }
    }

    /// Feeds one access unit. Never waits, as with packets.
    pub(super) fn push_unit(&self, unit: &VideoUnit) {
        let mut buffer = gst::Buffer::from_slice(unit.data.clone());
        if let Some(buffer) = buffer.get_mut() {
            let time = gst::ClockTime::from_nseconds(unit.pts.nanos());
            buffer.set_pts(time);
            buffer.set_dts(time);
        }
        let (width, height) = unit.config.size();
        let caps = gst::Caps::builder("video/x-h264")
            .field("stream-format", "avc")
            .field("alignment", "au")
            .field("width", i32::from(width))
            .field("height", i32::from(height))
            .field("codec_data", gst::Buffer::from_slice(unit.config.record()))
            .build();
        self.push_sample(&gst::Sample::builder().buffer(&buffer).caps(&caps).build());
    }

    /// Feeds one decoded picture. It waits in the pipeline however many do: whoever pushes counts them.
    pub(super) fn push_picture(&self, picture: &Picture) {
        self.push_sample(&picture.sample);
    }

    fn push_sample(&self, sample: &gst::Sample) {
        if let Err(reason) = self.source.push_sample(sample) {
            tracing::trace!(%reason, "pipeline takes no sample");
        }
    }

    /// Tells the decoder that nothing comes from `at` on for `duration`.
    pub(super) fn push_gap(&self, at: MediaTime, duration: Duration) {
        let gap = gst::event::Gap::builder(gst::ClockTime::from_nseconds(at.nanos()))
            .duration(gst::ClockTime::try_from(duration).unwrap_or(gst::ClockTime::ZERO))
            .build();
        if !self.source.send_event(gap) {
            tracing::trace!("pipeline takes no gap");
        }
    }

    /// The next thing that comes out. Cancel safe.
    pub(super) async fn next(&mut self) -> Output {
        match self.outputs.recv().await {
            Some(output) => output,
            None => std::future::pending().await, // the callbacks hold the sender until the pipeline is dropped
        }
    }

    /// The next thing that came out already.
    pub(super) fn try_next(&mut self) -> Option<Output> {
        self.outputs.try_recv().ok()
    }

    /// Whether access units were dropped since the last call.
    pub(super) fn take_overflow(&self) -> bool {
        self.overflowed.swap(false, Ordering::Relaxed)
    }

    /// Tells the encoders to make the first picture at or after `at`, or the next one, a key frame.
    pub(super) fn force_key_frame(&self, at: Option<MediaTime>) {
        let next = self.key_frame_due.load(Ordering::Relaxed).wrapping_add(1);
        self.key_frame_due.store(at.map_or(next, MediaTime::nanos), Ordering::Relaxed);
    }
}

impl Pipeline {
    /// Stops the pipeline on a thread of its own; the answer comes when its threads have ended, if they ever do.
    pub(super) fn stop(mut self) -> oneshot::Receiver<()> {
        self.begin_stop()
    }

    fn begin_stop(&mut self) -> oneshot::Receiver<()> {
        self.stopped = true;
        self.outputs.close();
        let pipeline = self.pipeline.clone();
        self.blocking.run("stop pipeline", move || {
            if pipeline.set_state(gst::State::Null).is_err() {
                tracing::warn!("a pipeline did not stop cleanly");
            }
        })
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if !self.stopped {
            drop(self.begin_stop());
        }
    }
}

/// Asks every video encoder for a key frame right before the picture that shall be one. A request that names a time is
/// not enough: `x264enc` of GStreamer 1.22 shifts all times and never finds it.
fn force_key_frames(pipeline: &gst::Pipeline, due: &Arc<AtomicU64>) {
    let encodes = |element: &gst::Element| {
        element.factory().is_some_and(|factory| factory.has_type(gst::ElementFactoryType::VIDEO_ENCODER))
    };
    for encoder in pipeline.iterate_recurse().into_iter().filter_map(Result::ok).filter(encodes) {
        let (Some(input), Some(output)) = (encoder.static_pad("sink"), encoder.static_pad("src")) else {
            continue;
        };
        let (due, served) = (Arc::clone(due), AtomicU64::new(0));
        let before_picture = move |_: &gst::Pad, info: &mut gst::PadProbeInfo<'_>| {
            let due = due.load(Ordering::Relaxed);
            let pts = info.buffer().and_then(|picture| picture.pts());
            if pts.is_some_and(|pts| pts.nseconds() >= due) && served.swap(due, Ordering::Relaxed) != due {
                let request = gst::Structure::builder("GstForceKeyUnit")
                    .field("all-headers", true)
                    .field("count", 0u32)
                    .build();
                if !output.send_event(gst::event::CustomUpstream::new(request)) {
                    tracing::debug!("an encoder took no key frame request");
                }
            }
            gst::PadProbeReturn::Ok
        };
        if input.add_probe(gst::PadProbeType::BUFFER, before_picture).is_none() {
            tracing::warn!(encoder = %encoder.name(), "key frames can't be asked of this encoder");
        }
    }
}

/// Hands errors over from the bus, on the thread that they happen on.
fn report_errors(pipeline: &gst::Pipeline, sender: mpsc::Sender<Output>) {
    let Some(bus) = pipeline.bus() else { return };
    bus.set_sync_handler(move |_, message| {
        let reason = match message.view() {
            gst::MessageView::Error(error) => {
                let source = error.src().map(|source| source.name().to_string()).unwrap_or_default();
                format!("{source}: {} ({})", error.error(), error.debug().unwrap_or_default())
            }
            gst::MessageView::Eos(_) => "unexpected end of stream".to_owned(),
            _ => return gst::BusSyncReply::Drop,
        };
        if sender.try_send(Output::Failed(reason)).is_err() {
            tracing::debug!("a pipeline error found nobody");
        }
        gst::BusSyncReply::Drop
    });
}

/// The stream's codec configuration, from the caps.
#[derive(Debug, Clone)]
enum Format {
    Video(Arc<VideoConfig>),
    Audio(Arc<AudioConfig>),
    /// Decoded pictures of this size.
    Pictures((u32, u32)),
}

/// Makes access units of samples. Caps change in order with the buffers, so a new resolution meets its first picture.
struct UnitReader {
    gives: Gives,
    caps: Option<gst::Caps>,
    format: Option<Format>,
    last_pts: Option<gst::ClockTime>,
}

impl UnitReader {
    fn read(&mut self, sample: &gst::Sample) -> Option<Output> {
        let caps = sample.caps_owned()?;
        if self.caps.as_ref() != Some(&caps) {
            self.format = read_format(self.gives, &caps);
            if self.format.is_none() {
                tracing::warn!(%caps, "a pipeline's output can't be used");
            }
            self.caps = Some(caps);
        }
        let buffer = sample.buffer()?;
        let assumed = self.last_pts.map(|last| last + ASSUMED_STEP);
        // Some encoders shift all time stamps (x264enc by 1000 hours) and say so in the segment.
        let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
        let stamped = segment.to_running_time(buffer.pts().or_else(|| buffer.dts()));
        let pts = stamped.or(assumed)?;
        self.last_pts = Some(pts);
        let pts = MediaTime::from_nanos(pts.nseconds());
        let data = || Some(Bytes::copy_from_slice(buffer.map_readable().ok()?.as_slice()));
        match self.format.clone()? {
            Format::Pictures(size) => Some(Output::Picture(Picture { pts, size, sample: sample.clone() })),
            Format::Video(config) => {
                let data = data()?;
                let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
                Some(Output::Video(VideoUnit { pts, key, data, config }))
            }
            Format::Audio(config) => Some(Output::Audio(AudioUnit { pts, data: data()?, config })),
        }
    }
}

fn read_format(gives: Gives, caps: &gst::Caps) -> Option<Format> {
    let structure = caps.structure(0)?;
    let side = |name| structure.get::<i32>(name).ok().and_then(|side| u32::try_from(side).ok());
    if gives == Gives::Pictures {
        return Some(Format::Pictures((side("width")?, side("height")?)));
    }
    let codec_data = structure.get::<gst::Buffer>("codec_data").ok()?;
    let codec_data = codec_data.map_readable().ok()?;
    match gives {
        Gives::Pictures => None,
        Gives::Video => {
            let config = VideoConfig::new(&codec_data, side("width")?, side("height")?);
            config
                .inspect_err(|reason| tracing::warn!(%reason, "video"))
                .ok()
                .map(|c| Format::Video(Arc::new(c)))
        }
        Gives::Audio => {
            let config = AudioConfig::new(&codec_data);
            config
                .inspect_err(|reason| tracing::warn!(%reason, "audio"))
                .ok()
                .map(|c| Format::Audio(Arc::new(c)))
        }
    }
}
