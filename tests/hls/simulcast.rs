//! A ladder without an encoder: each simulcast stream of an H.264 publisher is a variant.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use mediasoup_types::rtp_parameters::MediaKind;
use tokio::sync::mpsc;
use weir::egress::Track;
use weir::ids::ProducerId;
use weir::media::segmenter::VideoId;

use crate::source::{Codec, Faults, TAP_CAPACITY, hand_over};
use crate::viewer::Viewer;
use crate::{PATIENCE, segments, serve};

const SIZES: [(u32, u32); 3] = [(640, 360), (320, 180), (160, 90)];

/// One camera, three encoders. Key frames come from all three or from none.
struct Simulcast {
    pipeline: gst::Pipeline,
}

impl Simulcast {
    fn start() -> Result<(Self, Vec<Track>)> {
        gst::init()?;
        let mut line =
            "videotestsrc is-live=true pattern=ball ! video/x-raw,framerate=30/1 ! tee name=camera"
                .to_owned();
        for (index, (width, height)) in SIZES.iter().enumerate() {
            line += &format!(
                " camera. ! queue ! videoscale ! video/x-raw,width={width},height={height} ! {} ! appsink name=sink{index} \
                 sync=false",
                Codec::H264.encoder()
            );
        }
        let pipeline =
            gst::parse::launch(&line)?.downcast::<gst::Pipeline>().map_err(|_| anyhow!("no pipeline"))?;
        let sink = |index| {
            let sink = pipeline.by_name(&format!("sink{index}"));
            sink.and_then(|sink| sink.downcast::<AppSink>().ok()).context("no sink")
        };
        let sinks: Vec<AppSink> = (0..SIZES.len()).map(sink).collect::<Result<_>>()?;
        let wanted = Arc::new(AtomicBool::new(false));
        let producer_id = ProducerId::random();
        let mut tracks = Vec::new();
        for (index, sink) in sinks.iter().enumerate() {
            let (tap, source) = mpsc::channel(TAP_CAPACITY);
            hand_over(sink, tap, Arc::new(Faults::default()), true);
            let wanted = Arc::clone(&wanted);
            tracks.push(Track {
                producer_id,
                kind: MediaKind::Video,
                video: VideoId::new(index).context("too many")?,
                single_layer: false,
                codec: Codec::H264.parameters(),
                paused: false,
                source,
                request_key_frame: Arc::new(move || wanted.store(true, Ordering::Relaxed)),
                set_tap_paused: Arc::new(|_| Box::pin(std::future::ready(()))),
                start: None,
            });
        }
        force_key_frames(&pipeline, wanted)?;
        pipeline.set_state(gst::State::Playing)?;
        Ok((Self { pipeline }, tracks))
    }
}

/// Lets all encoders make a key frame of the same picture: the camera's next one.
fn force_key_frames(pipeline: &gst::Pipeline, wanted: Arc<AtomicBool>) -> Result<()> {
    let due = Arc::new(AtomicU64::new(u64::MAX));
    let camera = pipeline.by_name("camera").and_then(|tee| tee.static_pad("sink")).context("no tee")?;
    let next = Arc::clone(&due);
    let choose = camera.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let (Some(pts), true) =
            (info.buffer().and_then(|buffer| buffer.pts()), wanted.swap(false, Ordering::Relaxed))
        {
            next.store(pts.nseconds(), Ordering::Relaxed);
        }
        gst::PadProbeReturn::Ok
    });
    choose.context("no probe")?;
    let is_encoder =
        |element: &gst::Element| element.factory().is_some_and(|factory| factory.name() == "x264enc");
    for encoder in pipeline.iterate_elements().into_iter().filter_map(Result::ok).filter(is_encoder) {
        let (input, output) = (encoder.static_pad("sink"), encoder.static_pad("src").context("no output")?);
        let (due, served) = (Arc::clone(&due), AtomicU64::new(u64::MAX));
        let force = input.context("no input")?.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let due = due.load(Ordering::Relaxed);
            let is_due =
                info.buffer().and_then(|buffer| buffer.pts()).is_some_and(|pts| pts.nseconds() >= due);
            if is_due && served.swap(due, Ordering::Relaxed) != due {
                let event = gst::Structure::builder("GstForceKeyUnit").field("all-headers", true).build();
                output.send_event(gst::event::CustomUpstream::new(event));
            }
            gst::PadProbeReturn::Ok
        });
        force.context("no probe")?;
    }
    Ok(())
}

impl Drop for Simulcast {
    fn drop(&mut self) {
        if self.pipeline.set_state(gst::State::Null).is_err() {
            eprintln!("a test source did not stop");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_streams_are_three_variants_in_step_and_nothing_is_encoded() -> Result<()> {
    let server = serve(|_, _| ())?;
    let (_camera, tracks) = Simulcast::start()?;
    tracks.into_iter().for_each(|track| server.egress.add_track(&"p".parse().expect("a name"), track));
    let _sound = server.publish("p", Codec::Opus, (0, 0))?;
    let mut viewer = Viewer::new(&server.egress, "p");
    viewer.until(PATIENCE, segments(5, 5)).await?;
    let all =
        |viewer: &Viewer| [&viewer.second, &viewer.third].iter().all(|rendition| rendition.all.len() >= 5);
    viewer.until(Duration::from_secs(10), all).await?;

    for (width, height) in SIZES {
        ensure!(viewer.master.contains(&format!("RESOLUTION={width}x{height}")), "{}", viewer.master);
    }
    assert_eq!(viewer.master.matches("#EXT-X-STREAM-INF").count(), SIZES.len());
    let mut pictures = Vec::new();
    for (rendition, (width, height)) in [&viewer.video, &viewer.second, &viewer.third].into_iter().zip(SIZES)
    {
        let probed = viewer.probe(rendition)?;
        let [probed] = &probed[..] else { anyhow::bail!("{probed:?}") };
        assert_eq!(probed.size, (width.into(), height.into()));
        ensure!(rendition.newest.independent, "a segment of {width}x{height} begins without a key frame");
        // What counts as one picture in one rendition does so in the others.
        let count = rendition.all.values().take(5).filter_map(|listed| viewer.files.get(&listed.uri));
        pictures.push(count.map(|file| crate::viewer::pictures(file)).sum::<usize>());
    }
    ensure!(pictures.iter().all(|count| count.abs_diff(pictures[0]) <= 2), "{pictures:?}");
    let templates: Vec<&str> = server.egress.pipelines().iter().map(|pipeline| pipeline.template).collect();
    assert_eq!(templates, ["h264", "h264", "h264", "opus"], "nothing that encodes video");
    Ok(())
}
