//! Master keys, and the session keys that AES-GCM works with.

use std::fmt;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, LessSafeKey, Nonce, UnboundKey};
use rand::RngCore;
use rtc_crypto::{BlockCipherAlgorithm, RTCCrypto};

use super::SrtpError;

const GCM_SALT_LEN: usize = 12;

const LABEL_RTP_KEY: u8 = 0;
const LABEL_RTP_SALT: u8 = 2;
const LABEL_RTCP_KEY: u8 = 3;
const LABEL_RTCP_SALT: u8 = 5;

/// An SRTP crypto suite (RFC 4568 section 6.2, RFC 7714 section 14.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// AEAD_AES_128_GCM.
    AeadAes128Gcm,
    /// AEAD_AES_256_GCM.
    AeadAes256Gcm,
    /// AES_CM_128_HMAC_SHA1_80.
    AesCm128HmacSha1_80,
    /// AES_CM_128_HMAC_SHA1_32.
    AesCm128HmacSha1_32,
}

impl Suite {
    pub(super) const fn key_len(self) -> usize {
        match self {
            Self::AeadAes256Gcm => 32,
            Self::AeadAes128Gcm | Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 => 16,
        }
    }

    pub(super) const fn salt_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => GCM_SALT_LEN,
            Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 => 14,
        }
    }

    /// Bytes of a master key with its salt.
    #[must_use]
    pub const fn master_key_len(self) -> usize {
        self.key_len() + self.salt_len()
    }

    /// Bytes of keying material that DTLS has to export for both directions.
    #[must_use]
    pub const fn keying_material_len(self) -> usize {
        2 * self.master_key_len()
    }
}

/// A master key and its master salt, for one direction. Debug output does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    suite: Suite,
    bytes: Vec<u8>,
}

impl MasterKey {
    /// The key and the salt behind it, as signalling carries them.
    ///
    /// # Errors
    /// Fails if the length is not that of `suite`.
    pub fn new(suite: Suite, bytes: &[u8]) -> Result<Self, SrtpError> {
        if bytes.len() != suite.master_key_len() {
            return Err(SrtpError::Keys);
        }
        Ok(Self { suite, bytes: bytes.to_vec() })
    }

    /// A new key.
    #[must_use]
    pub fn random(suite: Suite) -> Self {
        let mut bytes = vec![0; suite.master_key_len()];
        rand::rng().fill_bytes(&mut bytes);
        Self { suite, bytes }
    }

    /// The suite that it is for.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Key and salt, to be signalled.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn key(&self) -> &[u8] {
        self.bytes.get(..self.suite.key_len()).unwrap_or_default()
    }

    pub(super) fn salt(&self) -> &[u8] {
        self.bytes.get(self.suite.key_len()..).unwrap_or_default()
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey").field("suite", &self.suite).finish_non_exhaustive()
    }
}

/// The session keys of one direction.
pub(super) struct GcmKeys {
    pub(super) rtp: LessSafeKey,
    rtp_salt: [u8; GCM_SALT_LEN],
    pub(super) rtcp: LessSafeKey,
    rtcp_salt: [u8; GCM_SALT_LEN],
}

impl GcmKeys {
    pub(super) fn derive(crypto: &dyn RTCCrypto, master: &MasterKey) -> Result<Self, SrtpError> {
        let algorithm = if master.suite == Suite::AeadAes256Gcm { &AES_256_GCM } else { &AES_128_GCM };
        let aead = |label| {
            let mut session_key = [0; 32];
            let session_key = session_key.get_mut(..master.suite.key_len()).ok_or(SrtpError::Keys)?;
            derive(crypto, master, label, session_key)?;
            UnboundKey::new(algorithm, session_key).map(LessSafeKey::new).map_err(|_| SrtpError::Keys)
        };
        let salt = |label| {
            let mut salt = [0; GCM_SALT_LEN];
            derive(crypto, master, label, &mut salt)?;
            Ok(salt)
        };
        Ok(Self {
            rtp: aead(LABEL_RTP_KEY)?,
            rtp_salt: salt(LABEL_RTP_SALT)?,
            rtcp: aead(LABEL_RTCP_KEY)?,
            rtcp_salt: salt(LABEL_RTCP_SALT)?,
        })
    }

    /// RFC 7714 section 8.1: two zero bytes, SSRC, roll-over counter and sequence number, XORed with the salt.
    pub(super) fn rtp_nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let mut iv = [0; GCM_SALT_LEN];
        iv[2..6].copy_from_slice(&ssrc.to_be_bytes());
        iv[6..12].copy_from_slice(&index.to_be_bytes()[2..8]);
        salted(iv, &self.rtp_salt)
    }

    /// RFC 7714 section 9.1: two zero bytes, SSRC, two zero bytes and the SRTCP index, XORed with the salt.
    pub(super) fn rtcp_nonce(&self, ssrc: [u8; 4], index: u32) -> Nonce {
        let mut iv = [0; GCM_SALT_LEN];
        iv[2..6].copy_from_slice(&ssrc);
        iv[8..12].copy_from_slice(&index.to_be_bytes());
        salted(iv, &self.rtcp_salt)
    }
}

fn salted(mut iv: [u8; GCM_SALT_LEN], salt: &[u8; GCM_SALT_LEN]) -> Nonce {
    iv.iter_mut().zip(salt).for_each(|(byte, salt)| *byte ^= salt);
    Nonce::assume_unique_for_key(iv)
}

/// The AES-CM key derivation of RFC 3711 section 4.3.3 with a key derivation rate of zero; for AES-256 that of RFC
/// 6188 section 3.
fn derive(crypto: &dyn RTCCrypto, master: &MasterKey, label: u8, out: &mut [u8]) -> Result<(), SrtpError> {
    let cipher = if master.suite == Suite::AeadAes256Gcm {
        BlockCipherAlgorithm::Aes256
    } else {
        BlockCipherAlgorithm::Aes128
    };
    for (counter, part) in (0_u8..).zip(out.chunks_mut(16)) {
        let mut block = [0_u8; 16];
        block.iter_mut().zip(master.salt()).for_each(|(byte, salt)| *byte = *salt);
        block[7] ^= label;
        block[15] = counter;
        crypto.block_encrypt(cipher, master.key(), &mut block).map_err(|_| SrtpError::Keys)?;
        part.iter_mut().zip(block).for_each(|(byte, block)| *byte = block);
    }
    Ok(())
}
