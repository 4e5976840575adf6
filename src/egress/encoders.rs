//! Which H.264 encoder transcodes: hardware where there is some that works, software otherwise.
//!
//! That an element is installed says little about the driver below it, so each candidate has to encode a few pictures
//! before it is believed, on a thread of its own that may hang.

use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;

/// What the setting says to try all encoders.
pub(super) const AUTO: &str = "auto";
/// How long an encoder may take for its first pictures; a driver that starts takes a good part of a second.
const PROBE_WITHIN: Duration = Duration::from_secs(3);
/// How many pictures it has to encode.
const PROBE_PICTURES: usize = 5;

/// One H.264 encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Encoder {
    /// The GStreamer element.
    pub(super) element: &'static str,
    /// Its part of a pipeline, from raw pictures to H.264 without pictures that depend on later ones. `KBPS` and `BPS`
    /// stand for the bit rate.
    text: &'static str,
}

/// The encoders, best first. Key frames are asked for when they are due; 300 is only the limit between two.
const ENCODERS: [Encoder; 6] = [
    Encoder {
        element: "nvh264enc",
        text: "nvh264enc preset=low-latency-hq rc-mode=cbr bitrate=KBPS gop-size=300 bframes=0 zerolatency=true",
    },
    Encoder {
        element: "vah264enc",
        text: "vah264enc rate-control=cbr bitrate=KBPS key-int-max=300 b-frames=0 target-usage=7",
    },
    Encoder {
        element: "vaapih264enc",
        text: "vaapih264enc rate-control=cbr bitrate=KBPS keyframe-period=300 max-bframes=0",
    },
    Encoder {
        element: "v4l2h264enc",
        text: "v4l2h264enc extra-controls=\"controls,video_bitrate=BPS,video_bitrate_mode=1,video_gop_size=300\" \
               ! video/x-h264,level=(string)4",
    },
    Encoder {
        element: "x264enc",
        text: "video/x-raw,format=I420 \
               ! x264enc speed-preset=ultrafast tune=zerolatency threads=1 bitrate=KBPS key-int-max=300 byte-stream=false \
               ! video/x-h264,profile=constrained-baseline",
    },
    Encoder {
        element: "openh264enc",
        text: "openh264enc complexity=low rate-control=bitrate bitrate=BPS gop-size=300 \
               ! video/x-h264,profile=constrained-baseline",
    },
];

/// Where software begins in [`ENCODERS`].
const FIRST_SOFTWARE: usize = 4;

/// The chosen encoders.
#[derive(Debug, Clone, Copy)]
pub(super) struct Encoders {
    /// The one that is used.
    pub(super) first: Encoder,
    /// The one that takes over in a pipeline whose first one fails: hardware has a limit of streams at a time.
    pub(super) fallback: Encoder,
}

impl Encoder {
    /// Its part of a pipeline.
    pub(super) fn text(&self, kbps: u32) -> String {
        self.text.replace("KBPS", &kbps.to_string()).replace("BPS", &kbps.saturating_mul(1000).to_string())
    }

    /// Encodes a few pictures.
    fn probe(self) -> anyhow::Result<()> {
        ensure!(gst::ElementFactory::find(self.element).is_some(), "not installed");
        let (done, result) = mpsc::sync_channel(1);
        let work = move || drop(done.send(encode(&self.text(500))));
        std::thread::Builder::new().name("probe encoder".to_owned()).spawn(work)?;
        result.recv_timeout(PROBE_WITHIN).context("it hangs")?
    }
}

fn encode(encoder: &str) -> anyhow::Result<()> {
    let line = format!(
        "videotestsrc num-buffers={PROBE_PICTURES} ! video/x-raw,width=320,height=240,framerate=30/1 ! videoconvert \
         ! {encoder} ! h264parse ! video/x-h264,stream-format=avc,alignment=au ! appsink name=sink sync=false"
    );
    let Ok(pipeline) = gst::parse::launch(&line)?.downcast::<gst::Pipeline>() else {
        bail!("one element is no pipeline");
    };
    let sink =
        pipeline.by_name("sink").and_then(|sink| sink.downcast::<AppSink>().ok()).context("no sink")?;
    pipeline.set_state(gst::State::Playing)?;
    let mut pictures = 0;
    while sink.try_pull_sample(gst::ClockTime::try_from(PROBE_WITHIN / 2)?).is_some() {
        pictures += 1;
    }
    let failure = pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
    pipeline.set_state(gst::State::Null)?;
    if let Some(gst::MessageView::Error(error)) = failure.as_ref().map(|message| message.view()) {
        bail!("{}", error.error());
    }
    ensure!(pictures == PROBE_PICTURES, "{pictures} of {PROBE_PICTURES} pictures came out");
    Ok(())
}

/// The encoders for a setting: an element's name, or [`AUTO`]. Blocks until they have proved themselves.
///
/// # Errors
/// The setting names no encoder that is known or works, or there is none at all.
pub(super) fn choose(setting: &str) -> anyhow::Result<Encoders> {
    let working = |encoder: &&Encoder| match encoder.probe() {
        Ok(()) => true,
        Err(reason) => {
            tracing::debug!(element = encoder.element, reason = format!("{reason:#}"), "encoder not used");
            false
        }
    };
    let (_, software) = ENCODERS.split_at(FIRST_SOFTWARE);
    let first = if setting == AUTO {
        ENCODERS
            .iter()
            .find(working)
            .context("no H.264 encoder works: install x264enc (gstreamer1.0-plugins-ugly)")?
    } else {
        let Some(named) = ENCODERS.iter().find(|encoder| encoder.element == setting) else {
            let known: Vec<&str> = ENCODERS.iter().map(|encoder| encoder.element).collect();
            bail!("hls.encoder is \"{setting}\", not {AUTO:?} or one of {known:?}");
        };
        named.probe().with_context(|| format!("hls.encoder: {setting} does not work"))?;
        named
    };
    let fallback =
        if software.contains(first) { first } else { software.iter().find(working).unwrap_or(first) };
    tracing::info!(encoder = first.element, fallback = fallback.element, "H.264 encoder");
    Ok(Encoders { first: *first, fallback: *fallback })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_that_works_is_chosen_and_names_are_checked() {
        gst::init().unwrap();
        let chosen = choose(AUTO).unwrap();
        assert!(ENCODERS.contains(&chosen.first));
        assert_eq!(choose("x264enc").unwrap().first.element, "x264enc");
        let why = |setting| format!("{:#}", choose(setting).unwrap_err());
        assert!(why("x265enc").contains("vah264enc"), "{}", why("x265enc"));
    }

    #[test]
    fn an_encoder_that_fails_is_found_out() {
        gst::init().unwrap();
        encode("identity error-after=2 ! x264enc").unwrap_err();
        encode("valve drop=true ! x264enc").unwrap_err();
        let missing = Encoder { element: "nosuchenc", text: "nosuchenc" };
        missing.probe().unwrap_err();
    }

    #[test]
    fn bit_rates_are_in_the_units_of_each_element() {
        let text = |element| ENCODERS.iter().find(|encoder| encoder.element == element).unwrap().text(2500);
        assert!(text("x264enc").contains("bitrate=2500 "));
        assert!(text("openh264enc").contains("bitrate=2500000 "));
        assert!(text("v4l2h264enc").contains("video_bitrate=2500000,"));
        assert!(ENCODERS[FIRST_SOFTWARE..].iter().all(|software| software.element.contains("264enc")));
        assert_eq!(ENCODERS[FIRST_SOFTWARE].element, "x264enc");
    }
}
