//! One picture through a pipeline that lives for it alone.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSrc};

/// How long that may take.
const WITHIN: Duration = Duration::from_secs(3);

/// What comes out of these elements when this goes in. Blocks until it is there.
///
/// # Errors
/// The elements can't be built, or nothing comes out; the error tells what one of them says.
pub(super) fn through(elements: &str, caps: Option<&gst::Caps>, data: Bytes) -> anyhow::Result<gst::Sample> {
    let line = format!("appsrc name=source format=time ! {elements} ! appsink name=sink sync=false");
    let Ok(pipeline) = gst::parse::launch(&line)?.downcast::<gst::Pipeline>() else {
        bail!("one element is no pipeline");
    };
    let source = pipeline.by_name("source").and_then(|source| source.downcast::<AppSrc>().ok());
    let sink = pipeline.by_name("sink").and_then(|sink| sink.downcast::<AppSink>().ok());
    let (source, sink) = source.zip(sink).context("no source or no sink")?;
    source.set_caps(caps);
    pipeline.set_state(gst::State::Playing)?;
    let made = (|| {
        let mut buffer = gst::Buffer::from_slice(data);
        buffer.get_mut().context("a shared buffer")?.set_pts(gst::ClockTime::ZERO);
        source.push_buffer(buffer)?;
        source.end_of_stream()?;
        sink.try_pull_sample(gst::ClockTime::try_from(WITHIN)?).context("no picture")
    })();
    let failure = pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
    pipeline.set_state(gst::State::Null)?;
    match failure.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => made.with_context(|| error.error().to_string()),
        _ => made,
    }
}
