//! What is shown of a publisher that is away: a still picture, encoded once for each size that it is needed in.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;

use super::encoders::{Encoder, Encoders};
use super::still::through;
use crate::media::fmp4::VideoConfig;
use crate::media::segmenter::VideoUnit;
use crate::media::timeline::MediaTime;

/// The largest file that is taken for a picture, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// The sizes that it is kept in; one more begins anew.
const MAX_SIZES: usize = 32;
/// What the encoder is told, in kbit/s: a single picture takes a small part of it.
const KBPS: u32 = 4000;
/// The size that it is tried in.
const TRIED: (u16, u16) = (640, 360);

/// The picture, encoded.
#[derive(Debug, Clone)]
pub(super) struct Encoded {
    data: Bytes,
    config: Arc<VideoConfig>,
}

impl Encoded {
    /// The picture, shown at this moment.
    pub(super) fn at(&self, pts: MediaTime) -> VideoUnit {
        VideoUnit { pts, key: true, data: self.data.clone(), config: Arc::clone(&self.config) }
    }
}

/// The picture.
#[derive(Debug)]
pub(super) struct Slate {
    file: Bytes,
    /// What decodes it.
    decoder: &'static str,
    encoders: Encoders,
    /// As it was encoded for each size.
    sizes: Mutex<BTreeMap<(u16, u16), Encoded>>,
}

impl Slate {
    /// Reads a PNG or JPEG, and tries it. Blocks until it is encoded.
    ///
    /// # Errors
    /// It can't be read, is neither of the two, too large, or can't be decoded and encoded.
    pub(super) fn load(path: &Path, encoders: Encoders) -> anyhow::Result<Self> {
        let length = std::fs::metadata(path)?.len();
        ensure!(length <= MAX_FILE, "{length} bytes are more than {MAX_FILE}");
        let file: Bytes = std::fs::read(path)?.into();
        let decoder = match &*file {
            [0x89, b'P', b'N', b'G', ..] => "pngdec",
            [0xff, 0xd8, ..] => "jpegdec",
            _ => bail!("neither PNG nor JPEG"),
        };
        let slate = Self { file, decoder, encoders, sizes: Mutex::default() };
        slate.encoded(TRIED)?;
        Ok(slate)
    }

    /// The picture in this size, with black where it has another shape. Blocks until it is encoded.
    ///
    /// # Errors
    /// No encoder takes it.
    pub(super) fn encoded(&self, size: (u16, u16)) -> anyhow::Result<Encoded> {
        if let Some(encoded) = self.sizes.lock().unwrap_or_else(PoisonError::into_inner).get(&size) {
            return Ok(encoded.clone());
        }
        let Encoders { first, fallback } = self.encoders;
        let encoded = self.encode(first, size).or_else(|_| self.encode(fallback, size))?;
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        if sizes.len() >= MAX_SIZES {
            sizes.clear();
        }
        sizes.insert(size, encoded.clone());
        Ok(encoded)
    }

    fn encode(&self, encoder: Encoder, (width, height): (u16, u16)) -> anyhow::Result<Encoded> {
        // Encoders want to be told of a frame rate.
        let elements = format!(
            "{} ! videoconvert ! videoscale add-borders=true \
             ! video/x-raw,width={width},height={height},pixel-aspect-ratio=1/1 ! imagefreeze num-buffers=1 \
             ! video/x-raw,framerate=30/1 ! videoconvert ! {} ! h264parse \
             ! video/x-h264,stream-format=avc,alignment=au",
            self.decoder,
            encoder.text(KBPS)
        );
        let sample = through(&elements, None, self.file.clone())?;
        let record =
            sample.caps().and_then(|caps| caps.structure(0)?.get::<gstreamer::Buffer>("codec_data").ok());
        let record = record.context("no parameter sets")?;
        let config = VideoConfig::new(&record.map_readable()?, width.into(), height.into())?;
        let data = Bytes::copy_from_slice(&sample.buffer().context("no buffer")?.map_readable()?);
        Ok(Encoded { data, config: Arc::new(config) })
    }
}
