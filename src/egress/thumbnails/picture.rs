//! One key frame to one picture, and pictures to JPEG.

use anyhow::{Context, ensure};
use bytes::Bytes;
use gstreamer as gst;

use crate::egress::still::through;
use crate::media::segmenter::VideoUnit;

/// From pictures to JPEG.
const JPEG: &str = "jpegenc quality=75";

/// The size of a picture of video of this size: at most `longer` pixels at its longer side, and never larger than the
/// video. Both sides are even, and the width is a multiple of eight if `aligned`, so that rows of pixels have no padding.
pub(super) fn scaled((width, height): (u16, u16), longer: u32, aligned: bool) -> (u32, u32) {
    let (width, height) = (u32::from(width.max(1)), u32::from(height.max(1)));
    let longest = width.max(height);
    let side = |side: u32, step: u32| (side * longer.min(longest) / longest / step * step).max(step);
    (side(width, if aligned { 8 } else { 2 }), side(height, 2))
}

/// A key frame as JPEG. Blocks until it is decoded.
pub(super) fn jpeg_of(unit: &VideoUnit, decoder: &str, (width, height): (u32, u32)) -> anyhow::Result<Bytes> {
    decoded(unit, decoder, &format!("width={width},height={height}"), JPEG)
}

/// A key frame's pixels as I420. Blocks until it is decoded.
pub(super) fn pixels_of(
    unit: &VideoUnit,
    decoder: &str,
    (width, height): (u32, u32),
) -> anyhow::Result<Bytes> {
    decoded(unit, decoder, &format!("format=I420,width={width},height={height}"), "identity")
}

/// Pixels (I420, rows without padding) as JPEG.
pub(super) fn jpeg(pixels: Bytes, (width, height): (u32, u32)) -> anyhow::Result<Bytes> {
    let caps = gst::Caps::builder("video/x-raw")
        .field("format", "I420")
        .field("width", i32::try_from(width)?)
        .field("height", i32::try_from(height)?)
        .field("framerate", gst::Fraction::new(0, 1))
        .build();
    bytes(JPEG, &caps, pixels)
}

fn decoded(unit: &VideoUnit, decoder: &str, wanted: &str, then: &str) -> anyhow::Result<Bytes> {
    ensure!(unit.key, "decoding can't start here");
    let line = format!(
        "h264parse ! {decoder} ! videoconvert ! videoscale ! video/x-raw,pixel-aspect-ratio=1/1,{wanted} ! {then}"
    );
    let caps = gst::Caps::builder("video/x-h264")
        .field("stream-format", "avc")
        .field("alignment", "au")
        .field("codec_data", gst::Buffer::from_slice(unit.config.record()))
        .build();
    bytes(&line, &caps, unit.data.clone())
}

/// What comes out of these elements.
fn bytes(elements: &str, caps: &gst::Caps, data: Bytes) -> anyhow::Result<Bytes> {
    let sample = through(elements, Some(caps), data)?;
    let made = sample.buffer().context("no buffer")?.map_readable()?;
    Ok(Bytes::copy_from_slice(&made))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_keep_their_shape_and_never_grow() {
        assert_eq!(scaled((1280, 720), 320, false), (320, 180));
        assert_eq!(scaled((720, 1280), 320, false), (180, 320));
        assert_eq!(scaled((720, 1280), 160, true), (88, 160));
        assert_eq!(scaled((160, 90), 320, false), (160, 90));
        assert_eq!(scaled((4000, 1), 320, false), (320, 2));
        assert_eq!(scaled((1, 4000), 160, true), (8, 160));
    }
}
