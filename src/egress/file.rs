//! One file as it is served, with all that is made of it once for everybody who asks.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

/// The MIME type of playlists (RFC 8216 section 4).
pub const PLAYLIST_TYPE: &str = "application/vnd.apple.mpegurl";
/// The MIME type of DASH manifests (ISO/IEC 23009-1 annex C).
pub const MANIFEST_TYPE: &str = "application/dash+xml";

/// The MIME type of lists of thumbnails (WebVTT).
pub const CUES_TYPE: &str = "text/vtt";

/// The MIME type of thumbnails.
pub(super) const PICTURE_TYPE: &str = "image/jpeg";

/// One file of a peer's HLS, ready to be sent.
#[derive(Debug, Clone)]
pub struct HlsFile {
    /// The MIME type.
    pub content_type: &'static str,
    /// The `Cache-Control` header.
    pub cache_control: &'static str,
    /// The bytes.
    pub body: Bytes,
    made: Arc<Made>,
}

/// What the first one who needs it makes for all clones.
#[derive(Debug, Default)]
struct Made {
    tag: OnceLock<Bytes>,
    compressed: OnceLock<Option<Encoded>>,
}

/// A body and what tells it from others.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The bytes.
    pub body: Bytes,
    /// Its entity tag, in quotes (RFC 9110 section 8.8.3).
    pub tag: Bytes,
}

impl HlsFile {
    /// A file that nothing was made of yet.
    #[must_use]
    pub fn new(content_type: &'static str, cache_control: &'static str, body: Bytes) -> Self {
        Self { content_type, cache_control, body, made: Arc::default() }
    }

    /// The file as it is.
    #[must_use]
    pub fn plain(&self) -> Encoded {
        let tag = self.made.tag.get_or_init(|| tag(&self.body, "")).clone();
        Encoded { body: self.body.clone(), tag }
    }

    /// The file compressed with gzip (RFC 1952), if it is one that gets smaller by that.
    #[must_use]
    pub fn compressed(&self) -> Option<Encoded> {
        if !self.is_playlist() {
            return None;
        }
        let compress = || {
            let mut encoder = GzEncoder::new(Vec::with_capacity(self.body.len() / 2), Compression::default());
            encoder.write_all(&self.body).ok()?;
            let body = encoder.finish().ok().filter(|body| body.len() < self.body.len())?;
            Some(Encoded { tag: tag(&body, "-gzip"), body: body.into() })
        };
        self.made.compressed.get_or_init(compress).clone()
    }

    /// Whether this is text that changes, and not media.
    #[must_use]
    pub fn is_playlist(&self) -> bool {
        [PLAYLIST_TYPE, MANIFEST_TYPE, CUES_TYPE].contains(&self.content_type)
    }
}

fn tag(body: &[u8], suffix: &str) -> Bytes {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("\"{:016x}{suffix}\"", hasher.finish()).into()
}
