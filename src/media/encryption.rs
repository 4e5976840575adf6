//! Encryption of HLS segments: keys, and the two ways that players know (RFC 8216 section 4.3.2.4).
//!
//! AES-128 encrypts whole files; cbcs (ISO/IEC 23001-7 section 10.4) encrypts samples, which [`crate::media::fmp4`] knows
//! the places of. Keys come from outside: nothing here makes random numbers, and nothing prints a key.

use std::fmt;

use aws_lc_rs::cipher::{
    AES_128, DecryptionContext, EncryptingKey, EncryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The bytes of an AES block, of a key, and of what else is as long.
pub const BLOCK_BYTES: usize = 16;
/// Of how many blocks cbcs encrypts the first one in video, as `default_crypt_byte_block` and `default_skip_byte_block`
/// tell players (ISO/IEC 23001-7 section 10.4.2).
pub const PATTERN: (u8, u8) = (1, 9);
/// The same as a step from one encrypted block to the next.
const PATTERN_BLOCKS: usize = 10;

/// How segments are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Method {
    /// Not at all.
    #[default]
    #[serde(rename = "none")]
    None,
    /// Segments and parts as whole files: AES-128 in CBC mode with PKCS #7 padding.
    #[serde(rename = "aes-128")]
    Aes128,
    /// Samples inside their boxes: AES-128 in CBC mode, one block in ten of the video's slices, and the sound's frames
    /// whole. What HLS calls SAMPLE-AES.
    #[serde(rename = "cbcs")]
    Cbcs,
}

/// The cipher refused: what was to be encrypted must not be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cipher failed")]
pub struct CipherError;

impl From<Unspecified> for CipherError {
    fn from(Unspecified: Unspecified) -> Self {
        Self
    }
}

/// A key with what belongs to it. All of it has to be random.
#[derive(Clone, PartialEq, Eq)]
pub struct ContentKey {
    /// What names the key in init segments of cbcs.
    pub id: [u8; BLOCK_BYTES],
    /// The key itself.
    pub secret: [u8; BLOCK_BYTES],
    /// The initialization vector of all samples of cbcs.
    pub iv: [u8; BLOCK_BYTES],
}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentKey(***)")
    }
}

impl ContentKey {
    /// A whole file encrypted with this initialization vector (RFC 8216 section 4.3.2.4, AES-128).
    ///
    /// # Errors
    /// Fails if the cipher does.
    pub fn encrypt_file(&self, clear: &[u8], iv: [u8; BLOCK_BYTES]) -> Result<Bytes, CipherError> {
        let key = PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_128, &self.secret)?)?;
        let mut body = Vec::with_capacity(clear.len() + BLOCK_BYTES);
        body.extend_from_slice(clear);
        key.less_safe_encrypt(&mut body, EncryptionContext::Iv128(FixedLength::from(iv)))?;
        Ok(body.into())
    }

    /// What [`Self::encrypt_file`] encrypted.
    ///
    /// # Errors
    /// Fails if that was something else.
    pub fn decrypt_file(&self, encrypted: &[u8], iv: [u8; BLOCK_BYTES]) -> Result<Bytes, CipherError> {
        let key = PaddedBlockDecryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_128, &self.secret)?)?;
        let mut body = encrypted.to_vec();
        let clear = key.decrypt(&mut body, DecryptionContext::Iv128(FixedLength::from(iv)))?.len();
        body.truncate(clear);
        Ok(body.into())
    }

    /// What encrypts samples.
    ///
    /// # Errors
    /// Fails if the cipher does.
    pub fn sample_cipher(&self) -> Result<SampleCipher, CipherError> {
        let key = EncryptingKey::cbc(UnboundCipherKey::new(&AES_128, &self.secret)?)?;
        Ok(SampleCipher { key, iv: self.iv, chain: Vec::new() })
    }
}

/// Encrypts samples as cbcs does: each range begins with the same initialization vector, and what is left behind its last
/// whole block stays clear (ISO/IEC 23001-7 sections 9.5 and 9.6).
pub struct SampleCipher {
    key: EncryptingKey,
    iv: [u8; BLOCK_BYTES],
    /// The blocks of a range that are encrypted, one behind the other.
    chain: Vec<u8>,
}

impl SampleCipher {
    /// Encrypts every whole block of `range`.
    ///
    /// # Errors
    /// Fails if the cipher does.
    pub fn encrypt_whole(&mut self, range: &mut [u8]) -> Result<(), CipherError> {
        self.encrypt_every(1, range)
    }

    /// Encrypts the first one of every ten whole blocks of `range`.
    ///
    /// # Errors
    /// Fails if the cipher does.
    pub fn encrypt_pattern(&mut self, range: &mut [u8]) -> Result<(), CipherError> {
        self.encrypt_every(PATTERN_BLOCKS, range)
    }

    fn encrypt_every(&mut self, step: usize, range: &mut [u8]) -> Result<(), CipherError> {
        self.chain.clear();
        let blocks = range.chunks_exact(BLOCK_BYTES).step_by(step);
        blocks.for_each(|block| self.chain.extend_from_slice(block));
        if self.chain.is_empty() {
            return Ok(());
        }
        let iv = EncryptionContext::Iv128(FixedLength::from(self.iv));
        self.key.less_safe_encrypt(&mut self.chain, iv)?;
        let blocks = range.chunks_exact_mut(BLOCK_BYTES).step_by(step);
        for (block, encrypted) in blocks.zip(self.chain.chunks_exact(BLOCK_BYTES)) {
            block.copy_from_slice(encrypted);
        }
        Ok(())
    }
}

/// Makes a new key each time.
pub type KeySource = Box<dyn FnMut() -> ContentKey + Send>;

/// How a presentation is encrypted.
pub struct Encryption {
    /// The method.
    pub method: Method,
    /// How many segments share a key; 0 for all of them.
    pub segments_per_key: u64,
    /// Where keys come from.
    pub keys: KeySource,
}

impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Encryption");
        shown.field("method", &self.method).field("segments_per_key", &self.segments_per_key);
        shown.finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The key and the initialization vector of NIST SP 800-38A section F.2.1.
    pub(crate) const KEY: ContentKey = ContentKey {
        id: [7; BLOCK_BYTES],
        secret: [
            0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6, 0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c,
        ],
        iv: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    };
    /// The first two blocks of the same section.
    const CLEAR: [u8; 32] = [
        0x6b, 0xc1, 0xbe, 0xe2, 0x2e, 0x40, 0x9f, 0x96, 0xe9, 0x3d, 0x7e, 0x11, 0x73, 0x93, 0x17, 0x2a, 0xae,
        0x2d, 0x8a, 0x57, 0x1e, 0x03, 0xac, 0x9c, 0x9e, 0xb7, 0x6f, 0xac, 0x45, 0xaf, 0x8e, 0x51,
    ];
    const ENCRYPTED: [u8; 32] = [
        0x76, 0x49, 0xab, 0xac, 0x81, 0x19, 0xb2, 0x46, 0xce, 0xe9, 0x8e, 0x9b, 0x12, 0xe9, 0x19, 0x7d, 0x50,
        0x86, 0xcb, 0x9b, 0x50, 0x72, 0x19, 0xee, 0x95, 0xdb, 0x11, 0x3a, 0x91, 0x76, 0x78, 0xb2,
    ];

    #[test]
    fn files_are_encrypted_as_the_standard_says_and_padded() {
        let file = KEY.encrypt_file(&CLEAR, KEY.iv).unwrap();
        assert_eq!((file.len(), &file[..32]), (48, &ENCRYPTED[..]), "a whole block of padding");
        assert_eq!(KEY.encrypt_file(&CLEAR[..31], KEY.iv).unwrap().len(), 32);
        assert_eq!(KEY.decrypt_file(&file, KEY.iv).unwrap(), &CLEAR[..]);
        assert!(KEY.decrypt_file(&file[..47], KEY.iv).is_err());
        assert!(KEY.decrypt_file(b"", KEY.iv).is_err());
    }

    #[test]
    fn whole_samples_keep_what_is_no_whole_block() {
        let mut sample = [&CLEAR[..], b"tail"].concat();
        let mut cipher = KEY.sample_cipher().unwrap();
        cipher.encrypt_whole(&mut sample).unwrap();
        assert_eq!(sample, [&ENCRYPTED[..], b"tail"].concat());
        let mut short = b"short".to_vec();
        cipher.encrypt_whole(&mut short).unwrap();
        assert_eq!(short, b"short");
    }

    #[test]
    fn a_pattern_chains_the_first_of_every_ten_blocks() {
        let clear = [&CLEAR[..16], &[9; 9 * 16][..], &CLEAR[16..], b"tail"].concat();
        let mut cipher = KEY.sample_cipher().unwrap();
        for _ in 0..2 {
            let mut range = clear.clone();
            cipher.encrypt_pattern(&mut range).unwrap();
            assert_eq!(range, [&ENCRYPTED[..16], &[9; 9 * 16][..], &ENCRYPTED[16..], b"tail"].concat());
        }
    }

    #[test]
    fn a_key_is_never_shown() {
        let keys: KeySource = Box::new(|| KEY);
        let encryption = Encryption { method: Method::Cbcs, segments_per_key: 3, keys };
        let shown = format!("{KEY:?} {encryption:?}");
        assert!(!shown.contains("43") && !shown.contains("2b"), "{shown}");
    }
}
