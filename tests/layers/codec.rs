//! Real encoders and decoders, driven one picture at a time.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSrc};
use weir::media::rtp::RtpView;

/// How long one picture may take; only a hanging element takes so long.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(20);
const FRAME_TIME: gst::ClockTime = gst::ClockTime::from_nseconds(33_333_333);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    /// Three temporal layers; a frame of the second and the first of the third in each period are layer syncs.
    Vp8,
    Vp9,
    H264,
}

/// What frames of a period of four, 0 2 1 2, are predicted from and change. Only those of the lowest layer change what
/// later periods are predicted from.
const VP8_LAYERS: &str = "<(GstVPXEncTsLayerFlags)no-ref-golden+no-ref-alt+no-upd-golden+no-upd-alt,\
    (GstVPXEncTsLayerFlags)no-ref-golden+no-ref-alt+no-upd-last+no-upd-golden+no-upd-alt+no-upd-entropy,\
    (GstVPXEncTsLayerFlags)no-ref-golden+no-ref-alt+no-upd-last+no-upd-alt+no-upd-entropy,\
    (GstVPXEncTsLayerFlags)no-ref-alt+no-upd-last+no-upd-golden+no-upd-alt+no-upd-entropy>";

/// Gives a VP8 encoder three temporal layers; most of its arrays have no text form.
fn set_temporal_layers(encoder: &gst::Element) {
    let numbers = |numbers: &[i32]| glib::ValueArray::new(numbers.iter().map(ToValue::to_value));
    encoder.set_property("temporal-scalability-number-layers", 3);
    encoder.set_property("temporal-scalability-periodicity", 4);
    encoder.set_property("temporal-scalability-layer-id", numbers(&[0, 2, 1, 2]));
    encoder.set_property("temporal-scalability-rate-decimator", numbers(&[4, 2, 1]));
    encoder.set_property("temporal-scalability-target-bitrate", numbers(&[80_000, 120_000, 160_000]));
    encoder
        .set_property("temporal-scalability-layer-sync-flags", gst::Array::new([false, true, true, false]));
    encoder.set_property_from_str("temporal-scalability-layer-flags", VP8_LAYERS);
}

impl Codec {
    pub(crate) fn mime_type(self) -> &'static str {
        match self {
            Self::Vp8 => "video/VP8",
            Self::Vp9 => "video/VP9",
            Self::H264 => "video/H264",
        }
    }

    fn encoder(self) -> String {
        // A fixed speed and one thread: the same packets every time.
        let vpx = "deadline=1 threads=1 lag-in-frames=0 keyframe-max-dist=100000 min-quantizer=20";
        match self {
            Self::Vp8 => format!("vp8enc name=encoder cpu-used=-16 {vpx} ! rtpvp8pay mtu=500 picture-id-mode=2"),
            Self::Vp9 => format!("vp9enc cpu-used=8 {vpx} ! rtpvp9pay mtu=500 picture-id-mode=2"),
            Self::H264 => "x264enc speed-preset=ultrafast tune=zerolatency threads=1 aud=false key-int-max=100000 qp-min=25 \
                           ! video/x-h264,profile=constrained-baseline ! rtph264pay mtu=500 config-interval=0"
                .to_owned(),
        }
    }

    fn decoder(self) -> &'static str {
        match self {
            Self::Vp8 => "caps=video/x-vp8 ! vp8dec threads=1",
            Self::Vp9 => "caps=video/x-vp9 ! vp9dec threads=1",
            Self::H264 => {
                "caps=video/x-h264,stream-format=byte-stream,alignment=au ! h264parse ! openh264dec"
            }
        }
    }

    /// The encoded frame in the payloads of its packets.
    pub(crate) fn assemble<'a>(self, payloads: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut frame = Vec::new();
        for payload in payloads {
            match self {
                Self::Vp8 => frame.extend(&payload[vp8_descriptor_len(payload)..]),
                Self::Vp9 => frame.extend(&payload[vp9_descriptor_len(payload)..]),
                Self::H264 => unpack_h264(payload, &mut frame),
            }
        }
        frame
    }

    /// Whether a packet is the first of its frame, where the payload tells.
    pub(crate) fn starts_frame(self, payload: &[u8]) -> bool {
        match self {
            Self::Vp8 => payload[0] & 0x17 == 0x10,
            Self::Vp9 => payload[0] & 0x08 != 0,
            Self::H264 => true,
        }
    }
}

fn vp8_descriptor_len(payload: &[u8]) -> usize {
    if payload[0] & 0x80 == 0 {
        return 1;
    }
    let (id, tl0) = (payload[1] & 0x80 != 0, payload[1] & 0x40 != 0);
    let id_len = if id { 1 + usize::from(payload[2] >> 7) } else { 0 };
    2 + id_len + usize::from(tl0) + usize::from(payload[1] & 0x30 != 0)
}

/// Without layers and references, which GStreamer does not write.
fn vp9_descriptor_len(payload: &[u8]) -> usize {
    assert_eq!(payload[0] & 0x20, 0, "no layers");
    let mut len = 1;
    if payload[0] & 0x80 != 0 {
        len += 1 + usize::from(payload[1] >> 7);
    }
    if payload[0] & 0x50 == 0x50 {
        while payload[len] & 1 != 0 {
            len += 1;
        }
        len += 1;
    }
    if payload[0] & 0x02 != 0 {
        let structure = payload[len];
        len += 1;
        if structure & 0x10 != 0 {
            len += 4 * (usize::from(structure >> 5) + 1);
        }
        if structure & 0x08 != 0 {
            let pictures = payload[len];
            len += 1;
            for _ in 0..pictures {
                len += 1 + usize::from(payload[len] >> 2 & 3);
            }
        }
    }
    len
}

fn unpack_h264(payload: &[u8], frame: &mut Vec<u8>) {
    const START_CODE: [u8; 4] = [0, 0, 0, 1];
    const SUPPLEMENTAL_INFORMATION: u8 = 6;
    const PARAMETER_SET: u8 = 7;
    match payload[0] & 0x1F {
        24 => {
            let mut rest = &payload[1..];
            while let Some((len, units)) = rest.split_first_chunk::<2>() {
                let (unit, after) = units.split_at(usize::from(u16::from_be_bytes(*len)));
                frame.extend(START_CODE.iter().chain(unit));
                rest = after;
            }
        }
        28 if payload[1] & 0x1F == SUPPLEMENTAL_INFORMATION => {}
        28 => {
            if payload[1] & 0x80 != 0 {
                frame.extend(START_CODE);
                frame.push(payload[0] & 0xE0 | payload[1] & 0x1F);
            }
            frame.extend(&payload[2..]);
        }
        // What no decoder needs: a viewer may join behind it.
        SUPPLEMENTAL_INFORMATION => {}
        unit => {
            if unit == PARAMETER_SET {
                frame.clear(); // the encoder and the payloader repeat it, and a viewer may join at either
            }
            frame.extend(START_CODE.iter().chain(payload));
        }
    }
}

struct Line {
    pipeline: gst::Pipeline,
    source: AppSrc,
    sink: AppSink,
}

impl Line {
    fn new(source: &str, elements: &str) -> Self {
        gst::init().unwrap();
        let text =
            format!("appsrc name=source format=time {source} {elements} ! appsink name=sink sync=false");
        let pipeline = gst::parse::launch(&text).unwrap().downcast::<gst::Pipeline>().unwrap();
        let source = pipeline.by_name("source").unwrap().downcast::<AppSrc>().unwrap();
        let sink = pipeline.by_name("sink").unwrap().downcast::<AppSink>().unwrap();
        pipeline.by_name("encoder").iter().for_each(set_temporal_layers);
        pipeline.set_state(gst::State::Playing).unwrap();
        Self { pipeline, source, sink }
    }

    fn push(&self, data: Vec<u8>, time: gst::ClockTime) {
        let mut buffer = gst::Buffer::from_mut_slice(data);
        buffer.get_mut().unwrap().set_pts(time);
        self.source.push_buffer(buffer).unwrap();
    }

    fn pull(&self) -> Option<(Vec<u8>, gst::ClockTime)> {
        let sample = self.sink.try_pull_sample(PATIENCE)?;
        let buffer = sample.buffer().unwrap();
        Some((buffer.map_readable().unwrap().as_slice().to_vec(), buffer.pts().unwrap()))
    }

    /// What the elements complained about.
    fn complaint(&self) -> Option<String> {
        let bus = self.pipeline.bus().unwrap();
        let message = bus.pop_filtered(&[gst::MessageType::Error, gst::MessageType::Warning])?;
        Some(format!("{message:?}"))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.pipeline.set_state(gst::State::Null).is_err() {
            eprintln!("a pipeline did not stop");
        }
    }
}

/// An encoder of pictures of one size.
pub(crate) struct Encoder {
    line: Line,
    size: (usize, usize),
}

impl Encoder {
    pub(crate) fn new(codec: Codec, size: (usize, usize)) -> Self {
        let (width, height) = size;
        let raw = format!("caps=video/x-raw,format=I420,width={width},height={height},framerate=30/1 !");
        Self { line: Line::new(&raw, &codec.encoder()), size }
    }

    /// The payloads of the packets of one picture.
    pub(crate) fn encode(&self, frame: u32, key: bool) -> Vec<Vec<u8>> {
        if key {
            let event = gst::Structure::builder("GstForceKeyUnit").field("all-headers", true).build();
            self.line.sink.send_event(gst::event::CustomUpstream::new(event));
        }
        self.line.push(picture(frame, self.size), FRAME_TIME * u64::from(frame));
        let mut payloads = Vec::new();
        loop {
            let (packet, _) = self.line.pull().unwrap_or_else(|| panic!("{:?}", self.line.complaint()));
            let view = RtpView::parse(&packet).unwrap();
            payloads.push(view.payload().to_vec());
            if view.marker() {
                return payloads;
            }
        }
    }
}

/// A test picture: everything moves, and no two are the same.
fn picture(frame: u32, (width, height): (usize, usize)) -> Vec<u8> {
    let frame = frame as usize;
    let luma = |at: usize| {
        let (x, y) = (at % width, at / width);
        (x * 3 + y * 2 + frame * 5 + (x / 8 * 31 + y / 8 * 17 + frame / 6) % 40) as u8
    };
    let chroma = |at: usize| (at + frame * 3) as u8;
    (0..width * height).map(luma).chain((0..width * height / 2).map(chroma)).collect()
}

/// A decoder that is asked for one picture per frame.
pub(crate) struct Decoder {
    line: Line,
}

impl Decoder {
    pub(crate) fn new(codec: Codec) -> Self {
        Self { line: Line::new("", codec.decoder().trim_start()) }
    }

    /// The fingerprint of the picture and its time, or what went wrong.
    pub(crate) fn decode(&self, frame: Vec<u8>, time: u64) -> Result<(u64, u64), String> {
        self.line.push(frame, gst::ClockTime::from_nseconds(time));
        let picture = self.line.pull();
        if let Some(complaint) = self.line.complaint() {
            return Err(complaint);
        }
        let (picture, time) = picture.ok_or("no picture")?;
        Ok((fingerprint(&picture), time.nseconds()))
    }
}

pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
