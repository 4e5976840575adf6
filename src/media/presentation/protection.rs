//! Which key encrypts which segment, and how long keys stay.
//!
//! All renditions of a segment share a key. A key's file goes with the last segment that needs it, listed or not, and is
//! never among what is copied elsewhere. With AES-128 a new key is a new tag in the playlists; with cbcs it has a new id, so
//! it comes with new init segments and, as those always do, with a discontinuity.

use std::sync::Arc;

use bytes::Bytes;

use super::names::Names;
use super::{File, FileKind, WriteError};
use crate::media::encryption::{CipherError, ContentKey, Encryption, Method};
use crate::media::fmp4::{self, Coding, Sample};
use crate::media::playlist::ListedKey;
use crate::media::segmenter::Rendition;

/// A key that segments are encrypted with.
#[derive(Debug)]
pub(super) struct SegmentKey {
    pub(super) uri: String,
    pub(super) method: Method,
    pub(super) content: ContentKey,
    /// The first segment that is encrypted with it.
    since: u64,
}

impl SegmentKey {
    /// The key as a playlist tells of it for a segment.
    ///
    /// Files of AES-128 have the media sequence number as their initialization vector, as if none were told; a segment's
    /// parts have the segment's. It is told because players that count by themselves do so from where they began.
    pub(super) fn listed(&self, sequence: u64) -> ListedKey {
        let iv = match self.method {
            Method::Aes128 => file_iv(sequence),
            Method::Cbcs | Method::None => self.content.iv,
        };
        ListedKey { method: self.method, uri: self.uri.clone(), iv }
    }

    pub(super) fn is_for_files(&self) -> bool {
        self.method == Method::Aes128
    }
}

/// The initialization vector of a segment and of its parts (RFC 8216 section 5.2).
fn file_iv(sequence: u64) -> [u8; 16] {
    u128::from(sequence).to_be_bytes()
}

/// What the samples of a rendition are.
pub(super) const fn coding(rendition: Rendition) -> Coding {
    match rendition {
        Rendition::Video(_) => Coding::H264,
        Rendition::Audio => Coding::Aac,
    }
}

/// A fragment as [`fmp4::chunk`] writes it, with its samples encrypted if the key is one for samples.
pub(super) fn chunk(
    key: Option<&SegmentKey>,
    rendition: Rendition,
    (first, number, base): (bool, u32, u64),
    samples: &[Sample],
) -> Result<Bytes, WriteError> {
    match key.filter(|key| !key.is_for_files()) {
        Some(key) => {
            let key = (coding(rendition), &key.content);
            Ok(fmp4::protected_chunk(first, number, base, samples, key)?)
        }
        None => Ok(fmp4::chunk(first, number, base, samples)?),
    }
}

/// A file as it is published: encrypted if the key is one for files.
pub(super) fn file(key: Option<&SegmentKey>, sequence: u64, body: &Bytes) -> Result<Bytes, WriteError> {
    match key.filter(|key| key.is_for_files()) {
        Some(key) => Ok(key.content.encrypt_file(body, file_iv(sequence))?),
        None => Ok(body.clone()),
    }
}

/// The same as it was before it was encrypted.
pub(super) fn clear_file(
    key: Option<&SegmentKey>,
    sequence: u64,
    body: &Bytes,
) -> Result<Bytes, CipherError> {
    match key.filter(|key| key.is_for_files()) {
        Some(key) => key.content.decrypt_file(body, file_iv(sequence)),
        None => Ok(body.clone()),
    }
}

/// The current key, and the rule by which it changes.
#[derive(Debug, Default)]
pub(super) struct Protection {
    rule: Option<Encryption>,
    current: Option<Arc<SegmentKey>>,
}

impl Protection {
    pub(super) fn new(rule: Encryption) -> Self {
        Self { rule: Some(rule).filter(|rule| rule.method != Method::None), current: None }
    }

    /// Whether anything is encrypted.
    pub(super) const fn is_on(&self) -> bool {
        self.rule.is_some()
    }

    /// The key of a segment that begins, if it is encrypted, and the file of a new one.
    pub(super) fn key_of(&mut self, sequence: u64, names: &Names) -> (Option<Arc<SegmentKey>>, Option<File>) {
        let Some(rule) = &mut self.rule else { return (None, None) };
        let is_over = |key: &Arc<SegmentKey>| {
            rule.segments_per_key > 0 && sequence.saturating_sub(key.since) >= rule.segments_per_key
        };
        if let Some(current) = self.current.as_ref().filter(|key| !is_over(key)) {
            return (Some(Arc::clone(current)), None);
        }
        let key = SegmentKey {
            uri: names.key(sequence),
            method: rule.method,
            content: (rule.keys)(),
            since: sequence,
        };
        let body = Bytes::copy_from_slice(&key.content.secret);
        let file = File { name: key.uri.clone(), kind: FileKind::Key, body };
        let key = Arc::new(key);
        self.current = Some(Arc::clone(&key));
        (Some(key), Some(file))
    }
}
