//! SRTP and SRTCP (RFC 3711) with AEAD_AES_128_GCM (RFC 7714) in place and without allocation, because that is the
//! packet path; AES_CM_128_HMAC_SHA1_80, for the rare peer that offers nothing better, goes through `rtc-srtp`.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rtc_crypto::{BlockCipherAlgorithm, RTCCrypto, RTCCryptoProvider};
use rtc_srtp::context::Context;
use rtc_srtp::option::srtcp_replay_protection;
use rtc_srtp::protection_profile::ProtectionProfile;

use crate::media::rtp;

/// SSRCs whose state one session keeps for what it receives, separately for RTCP (and, with AES-CM, for RTP).
const MAX_SENDERS: usize = 256;

/// Bytes that protecting a packet adds at most, for RTP and RTCP.
pub const MAX_OVERHEAD: usize = 20;

const GCM_TAG_LEN: usize = 16;
const KEY_LEN: usize = 16;
const GCM_SALT_LEN: usize = 12;
/// The SRTCP trailer: the E flag and the 31-bit index.
const SRTCP_INDEX_LEN: usize = 4;
const RTCP_HEADER_LEN: usize = 8;
const ENCRYPTED_FLAG: u32 = 0x8000_0000;

const LABEL_RTP_KEY: u8 = 0;
const LABEL_RTP_SALT: u8 = 2;
const LABEL_RTCP_KEY: u8 = 3;
const LABEL_RTCP_SALT: u8 = 5;

/// A DTLS-SRTP protection profile (RFC 5764 section 4.1.2, RFC 7714 section 14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// AEAD_AES_128_GCM.
    AeadAes128Gcm,
    /// AES_CM_128_HMAC_SHA1_80.
    AesCm128HmacSha1_80,
}

impl Suite {
    const fn salt_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm => GCM_SALT_LEN,
            Self::AesCm128HmacSha1_80 => 14,
        }
    }

    /// Bytes of keying material that DTLS has to export for both directions.
    #[must_use]
    pub const fn keying_material_len(self) -> usize {
        2 * (KEY_LEN + self.salt_len())
    }
}

/// Why a packet could not be protected or was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SrtpError {
    /// The keys or the keying material are unusable.
    #[error("unusable SRTP keys")]
    Keys,
    /// Too short to be what it claims.
    #[error("truncated SRTP packet")]
    Truncated,
    /// Authentication failed.
    #[error("SRTP authentication failed")]
    Authentication,
    /// Seen before, or too old to tell.
    #[error("replayed SRTP packet")]
    Replay,
    /// The peer sends from more SSRCs than are remembered.
    #[error("too many SSRCs: the limit is {MAX_SENDERS}")]
    TooManySenders,
}

struct GcmKeys {
    rtp: LessSafeKey,
    rtp_salt: [u8; GCM_SALT_LEN],
    rtcp: LessSafeKey,
    rtcp_salt: [u8; GCM_SALT_LEN],
}

impl GcmKeys {
    fn derive(crypto: &dyn RTCCrypto, key: &[u8], salt: &[u8]) -> Result<Self, SrtpError> {
        let aead = |label| {
            let session_key = derive::<KEY_LEN>(crypto, key, salt, label)?;
            UnboundKey::new(&AES_128_GCM, &session_key).map(LessSafeKey::new).map_err(|_| SrtpError::Keys)
        };
        Ok(Self {
            rtp: aead(LABEL_RTP_KEY)?,
            rtp_salt: derive(crypto, key, salt, LABEL_RTP_SALT)?,
            rtcp: aead(LABEL_RTCP_KEY)?,
            rtcp_salt: derive(crypto, key, salt, LABEL_RTCP_SALT)?,
        })
    }

    /// RFC 7714 section 8.1: two zero bytes, SSRC, roll-over counter and sequence number, XORed with the salt.
    fn rtp_nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let mut iv = [0; GCM_SALT_LEN];
        iv[2..6].copy_from_slice(&ssrc.to_be_bytes());
        iv[6..12].copy_from_slice(&index.to_be_bytes()[2..8]);
        salted(iv, &self.rtp_salt)
    }

    /// RFC 7714 section 9.1: two zero bytes, SSRC, two zero bytes and the SRTCP index, XORed with the salt.
    fn rtcp_nonce(&self, ssrc: [u8; 4], index: u32) -> Nonce {
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

/// The AES-CM key derivation of RFC 3711 section 4.3.3 with a key derivation rate of zero.
fn derive<const N: usize>(
    crypto: &dyn RTCCrypto,
    key: &[u8],
    salt: &[u8],
    label: u8,
) -> Result<[u8; N], SrtpError> {
    let mut block = [0_u8; 16];
    block.iter_mut().zip(salt).for_each(|(byte, salt)| *byte = *salt);
    block[7] ^= label;
    crypto.block_encrypt(BlockCipherAlgorithm::Aes128, key, &mut block).map_err(|_| SrtpError::Keys)?;
    block.get(..N).and_then(|bytes| bytes.try_into().ok()).ok_or(SrtpError::Keys)
}

fn aes_cm(crypto: &dyn RTCCrypto, key: &[u8], salt: &[u8]) -> Result<Context, SrtpError> {
    // RTP is checked for replays by the transport's own windows; RTCP is not, and a context does nothing by default.
    let rtcp_window = srtcp_replay_protection(REPLAY_WINDOW as usize);
    Context::new(key, salt, ProtectionProfile::Aes128CmHmacSha1_80, None, Some(rtcp_window), crypto)
        .map_err(|_| SrtpError::Keys)
}

enum Outbound {
    Gcm(Box<GcmKeys>),
    AesCm(Box<Context>),
}

enum Inbound {
    Gcm(Box<GcmKeys>),
    AesCm(AesCmInbound),
}

/// AES-CM contexts by SSRC. One context for all would remember every SSRC that it was ever asked about, authentic or
/// not; so an SSRC gets its own, which is kept once a packet was authentic.
struct AesCmInbound {
    provider: Arc<dyn RTCCryptoProvider>,
    key: Vec<u8>,
    salt: Vec<u8>,
    contexts: HashMap<u32, Context>,
}

impl AesCmInbound {
    fn open<T>(
        &mut self,
        ssrc: u32,
        open: impl FnOnce(&mut Context) -> rtc_shared::error::Result<T>,
    ) -> Result<T, SrtpError> {
        if let Some(context) = self.contexts.get_mut(&ssrc) {
            return open(context).map_err(|_| SrtpError::Authentication);
        }
        if self.contexts.len() >= MAX_SENDERS {
            return Err(SrtpError::TooManySenders);
        }
        let mut context = aes_cm(self.provider.crypto(), &self.key, &self.salt)?;
        let opened = open(&mut context).map_err(|_| SrtpError::Authentication)?;
        self.contexts.insert(ssrc, context);
        Ok(opened)
    }
}

/// Splits exported keying material (RFC 5764 section 4.2) into weir's sending and receiving sessions.
///
/// # Errors
/// Fails if the material is too short for `suite`.
pub fn sessions(
    suite: Suite,
    provider: &Arc<dyn RTCCryptoProvider>,
    material: &[u8],
    is_dtls_client: bool,
) -> Result<(Sender, Receiver), SrtpError> {
    let crypto = provider.crypto();
    let (client_key, rest) = material.split_at_checked(KEY_LEN).ok_or(SrtpError::Keys)?;
    let (server_key, rest) = rest.split_at_checked(KEY_LEN).ok_or(SrtpError::Keys)?;
    let (client_salt, rest) = rest.split_at_checked(suite.salt_len()).ok_or(SrtpError::Keys)?;
    let server_salt = rest.get(..suite.salt_len()).ok_or(SrtpError::Keys)?;
    let (client, server) = ((client_key, client_salt), (server_key, server_salt));
    let ((key, salt), (remote_key, remote_salt)) =
        if is_dtls_client { (client, server) } else { (server, client) };
    let (outbound, inbound) = match suite {
        Suite::AeadAes128Gcm => (
            Outbound::Gcm(Box::new(GcmKeys::derive(crypto, key, salt)?)),
            Inbound::Gcm(Box::new(GcmKeys::derive(crypto, remote_key, remote_salt)?)),
        ),
        Suite::AesCm128HmacSha1_80 => (
            Outbound::AesCm(Box::new(aes_cm(crypto, key, salt)?)),
            Inbound::AesCm(AesCmInbound {
                provider: Arc::clone(provider),
                key: remote_key.to_vec(),
                salt: remote_salt.to_vec(),
                contexts: HashMap::new(),
            }),
        ),
    };
    Ok((Sender { keys: outbound, rtcp_index: 0 }, Receiver { keys: inbound, rtcp_windows: HashMap::new() }))
}

/// Protects what weir sends on one transport.
pub struct Sender {
    keys: Outbound,
    rtcp_index: u32,
}

impl Sender {
    /// Protects the RTP packet that begins at `start` in `buffer` and ends with it, appending the tag. `index` is
    /// the extended sequence number (roll-over counter and sequence number); it must never repeat for an SSRC.
    ///
    /// # Errors
    /// Fails if the packet is malformed.
    #[inline]
    pub fn protect_rtp(
        &mut self,
        buffer: &mut Vec<u8>,
        start: usize,
        header_len: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<(), SrtpError> {
        match &mut self.keys {
            Outbound::Gcm(keys) => {
                let packet = buffer.get_mut(start..).ok_or(SrtpError::Truncated)?;
                let (header, payload) =
                    packet.split_at_mut_checked(header_len).ok_or(SrtpError::Truncated)?;
                let nonce = keys.rtp_nonce(ssrc, index);
                let tag = keys
                    .rtp
                    .seal_in_place_separate_tag(nonce, Aad::from(&*header), payload)
                    .map_err(|_| SrtpError::Keys)?;
                buffer.extend_from_slice(tag.as_ref());
            }
            Outbound::AesCm(context) => {
                let packet = buffer.get(start..).ok_or(SrtpError::Truncated)?;
                let protected = context.encrypt_rtp(packet).map_err(|_| SrtpError::Keys)?;
                buffer.truncate(start);
                buffer.extend_from_slice(&protected);
            }
        }
        Ok(())
    }

    /// Protects a compound RTCP packet.
    ///
    /// # Errors
    /// Fails if the packet is malformed.
    pub fn protect_rtcp(&mut self, mut packet: Vec<u8>) -> Result<Vec<u8>, SrtpError> {
        match &mut self.keys {
            Outbound::Gcm(keys) => {
                self.rtcp_index = self.rtcp_index.wrapping_add(1) & !ENCRYPTED_FLAG;
                let (aad, ssrc) = rtcp_aad(&packet, self.rtcp_index | ENCRYPTED_FLAG)?;
                let nonce = keys.rtcp_nonce(ssrc, self.rtcp_index);
                let body = packet.get_mut(RTCP_HEADER_LEN..).ok_or(SrtpError::Truncated)?;
                let tag = keys
                    .rtcp
                    .seal_in_place_separate_tag(nonce, Aad::from(aad), body)
                    .map_err(|_| SrtpError::Keys)?;
                packet.extend_from_slice(tag.as_ref());
                packet.extend((self.rtcp_index | ENCRYPTED_FLAG).to_be_bytes());
                Ok(packet)
            }
            Outbound::AesCm(context) => {
                context.encrypt_rtcp(&packet).map(|out| out.to_vec()).map_err(|_| SrtpError::Keys)
            }
        }
    }
}

/// The associated data of SRTCP: the fixed header and the trailing index word (RFC 7714 section 9.2).
fn rtcp_aad(packet: &[u8], index_word: u32) -> Result<([u8; 12], [u8; 4]), SrtpError> {
    let header = packet.get(..RTCP_HEADER_LEN).ok_or(SrtpError::Truncated)?;
    let mut aad = [0; 12];
    aad[..RTCP_HEADER_LEN].copy_from_slice(header);
    aad[RTCP_HEADER_LEN..].copy_from_slice(&index_word.to_be_bytes());
    let mut ssrc = [0; 4];
    ssrc.copy_from_slice(&aad[4..8]);
    Ok((aad, ssrc))
}

/// Opens what one peer sends.
pub struct Receiver {
    keys: Inbound,
    /// By sender: each has an SRTCP index of its own (RFC 3711 section 3.2.3).
    rtcp_windows: HashMap<[u8; 4], ReplayWindow>,
}

impl Receiver {
    /// Authenticates and decrypts an RTP packet in place; the plain packet is the first returned bytes of it.
    /// The caller checks `index` against the SSRC's replay window.
    ///
    /// # Errors
    /// Fails if the packet is truncated or not authentic.
    pub fn unprotect_rtp(&mut self, packet: &mut [u8], ssrc: u32, index: u64) -> Result<usize, SrtpError> {
        match &mut self.keys {
            Inbound::Gcm(keys) => {
                let header_len = rtp::header_len(packet).map_err(|_| SrtpError::Truncated)?;
                let (header, body) = packet.split_at_mut_checked(header_len).ok_or(SrtpError::Truncated)?;
                let nonce = keys.rtp_nonce(ssrc, index);
                let plain = keys
                    .rtp
                    .open_in_place(nonce, Aad::from(&*header), body)
                    .map_err(|_| SrtpError::Authentication)?;
                Ok(header_len + plain.len())
            }
            Inbound::AesCm(context) => {
                let plain = context.open(ssrc, |context| context.decrypt_rtp(packet))?;
                packet.get_mut(..plain.len()).ok_or(SrtpError::Truncated)?.copy_from_slice(&plain);
                Ok(plain.len())
            }
        }
    }

    /// Authenticates and decrypts a compound RTCP packet in place; its plain length is returned.
    ///
    /// # Errors
    /// Fails if the packet is truncated, not authentic or a replay.
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        match &mut self.keys {
            Inbound::Gcm(keys) => {
                let body_end = packet.len().checked_sub(SRTCP_INDEX_LEN).ok_or(SrtpError::Truncated)?;
                if body_end < RTCP_HEADER_LEN + GCM_TAG_LEN {
                    return Err(SrtpError::Truncated);
                }
                let word = packet.get(body_end..).and_then(|word| word.try_into().ok());
                let word = word.map(u32::from_be_bytes).ok_or(SrtpError::Truncated)?;
                if word & ENCRYPTED_FLAG == 0 {
                    return Err(SrtpError::Authentication);
                }
                let index = word & !ENCRYPTED_FLAG;
                let (aad, ssrc) = rtcp_aad(packet, word)?;
                match self.rtcp_windows.get(&ssrc) {
                    Some(window) => window.check(u64::from(index))?,
                    None if self.rtcp_windows.len() >= MAX_SENDERS => return Err(SrtpError::TooManySenders),
                    None => {}
                }
                let nonce = keys.rtcp_nonce(ssrc, index);
                let body = packet.get_mut(RTCP_HEADER_LEN..body_end).ok_or(SrtpError::Truncated)?;
                let plain = keys
                    .rtcp
                    .open_in_place(nonce, Aad::from(aad), body)
                    .map_err(|_| SrtpError::Authentication)?;
                self.rtcp_windows.entry(ssrc).or_default().accept(u64::from(index));
                Ok(RTCP_HEADER_LEN + plain.len())
            }
            Inbound::AesCm(context) => {
                let ssrc = packet.get(4..RTCP_HEADER_LEN).and_then(|ssrc| ssrc.try_into().ok());
                let ssrc = ssrc.map(u32::from_be_bytes).ok_or(SrtpError::Truncated)?;
                let plain = context.open(ssrc, |context| context.decrypt_rtcp(packet))?;
                packet.get_mut(..plain.len()).ok_or(SrtpError::Truncated)?.copy_from_slice(&plain);
                Ok(plain.len())
            }
        }
    }
}

/// How far behind the newest packet an old one is still accepted, in packets.
pub const REPLAY_WINDOW: u64 = 1024;

/// The highest index of a stream and which of the last [`REPLAY_WINDOW`] were seen (RFC 3711 section 3.3.2).
#[derive(Debug, Clone, Default)]
pub struct ReplayWindow {
    highest: Option<u64>,
    seen: [u64; (REPLAY_WINDOW / 64) as usize],
}

impl ReplayWindow {
    /// The index that a sequence number most likely has: the one nearest to the highest seen.
    #[must_use]
    pub fn estimate(&self, sequence: u16) -> u64 {
        self.highest.map_or(u64::from(sequence), |highest| rtp::extend_sequence(highest, sequence))
    }

    /// Whether an index may be accepted.
    ///
    /// # Errors
    /// Fails if it was accepted before or lies behind the window.
    pub fn check(&self, index: u64) -> Result<(), SrtpError> {
        let Some(highest) = self.highest else { return Ok(()) };
        if index > highest {
            return Ok(());
        }
        if highest - index >= REPLAY_WINDOW || self.is_seen(index) {
            return Err(SrtpError::Replay);
        }
        Ok(())
    }

    /// Notes an authentic index.
    pub fn accept(&mut self, index: u64) {
        match self.highest {
            Some(highest) if index <= highest => {}
            Some(highest) if index - highest < REPLAY_WINDOW => {
                (highest + 1..=index).for_each(|skipped| self.mark(skipped, false));
                self.highest = Some(index);
            }
            _ => {
                self.seen = [0; (REPLAY_WINDOW / 64) as usize];
                self.highest = Some(index);
            }
        }
        self.mark(index, true);
    }

    fn is_seen(&self, index: u64) -> bool {
        let bit = index % REPLAY_WINDOW;
        self.seen.get((bit / 64) as usize).is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    fn mark(&mut self, index: u64, seen: bool) {
        let bit = index % REPLAY_WINDOW;
        if let Some(word) = self.seen.get_mut((bit / 64) as usize) {
            *word = *word & !(1 << (bit % 64)) | u64::from(seen) << (bit % 64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u16) -> Vec<u8> {
        let mut packet = vec![0x90, 96];
        packet.extend(sequence.to_be_bytes());
        packet.extend([0, 0, 0, 1, 0, 0, 0, 2, 0xBE, 0xDE, 0, 1, 0x10, 7, 0, 0]);
        packet.extend([42; 100]);
        packet
    }

    fn material(suite: Suite) -> Vec<u8> {
        (0..suite.keying_material_len()).map(|i| i as u8).collect()
    }

    #[test]
    fn gcm_is_what_an_independent_implementation_reads_and_writes() {
        let provider = rtc_crypto::default_provider().unwrap();
        let material = material(Suite::AeadAes128Gcm);
        let (mut sender, mut receiver) = sessions(Suite::AeadAes128Gcm, &provider, &material, true).unwrap();
        let context = |key: &[u8], salt: &[u8]| {
            Context::new(key, salt, ProtectionProfile::AeadAes128Gcm, None, None, provider.crypto()).unwrap()
        };
        let mut client = context(&material[..16], &material[32..44]);
        let mut server = context(&material[16..32], &material[44..56]);
        for sequence in [65_534_u16, 65_535, 0, 1] {
            let index = if sequence < 2 { 65_536 + u64::from(sequence) } else { u64::from(sequence) };
            let mut buffer = b"prefix".to_vec();
            buffer.extend(packet(sequence));
            sender.protect_rtp(&mut buffer, 6, 20, 2, index).unwrap();
            assert_eq!(client.decrypt_rtp(&buffer[6..]).unwrap(), packet(sequence));

            let mut theirs = server.encrypt_rtp(&packet(sequence)).unwrap().to_vec();
            let len = receiver.unprotect_rtp(&mut theirs, 2, index).unwrap();
            assert_eq!(theirs[..len], packet(sequence));
        }
        let report = [0x80, 201, 0, 1, 0, 0, 0, 9];
        let protected = sender.protect_rtcp(report.to_vec()).unwrap();
        assert_eq!(client.decrypt_rtcp(&protected).unwrap(), report[..]);
        let mut theirs = server.encrypt_rtcp(&report).unwrap().to_vec();
        let mut again = theirs.clone();
        assert_eq!(receiver.unprotect_rtcp(&mut theirs), Ok(8));
        assert_eq!(theirs[..8], report);
        assert_eq!(receiver.unprotect_rtcp(&mut again), Err(SrtpError::Replay));
    }

    #[test]
    fn aes_cm_passes_both_ways_and_a_changed_bit_is_refused() {
        let provider = rtc_crypto::default_provider().unwrap();
        for suite in [Suite::AesCm128HmacSha1_80, Suite::AeadAes128Gcm] {
            let material = material(suite);
            let (mut sender, _) = sessions(suite, &provider, &material, true).unwrap();
            let (_, mut receiver) = sessions(suite, &provider, &material, false).unwrap();
            let mut buffer = packet(5);
            sender.protect_rtp(&mut buffer, 0, 20, 2, 5).unwrap();
            let mut changed = buffer.clone();
            changed[30] ^= 1;
            assert_eq!(receiver.unprotect_rtp(&mut changed, 2, 5), Err(SrtpError::Authentication));
            let len = receiver.unprotect_rtp(&mut buffer, 2, 5).unwrap();
            assert_eq!(buffer[..len], packet(5));
            let mut short = vec![0x80; 13];
            assert!(receiver.unprotect_rtp(&mut short, 2, 5).is_err());
            assert!(receiver.unprotect_rtcp(&mut [0x80; 9]).is_err());
        }
    }

    #[test]
    fn every_sender_of_rtcp_has_an_index_of_its_own() {
        let provider = rtc_crypto::default_provider().unwrap();
        for (suite, profile) in [
            (Suite::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm),
            (Suite::AesCm128HmacSha1_80, ProtectionProfile::Aes128CmHmacSha1_80),
        ] {
            let material = material(suite);
            let (_, mut receiver) = sessions(suite, &provider, &material, true).unwrap();
            let salt = 2 * KEY_LEN + suite.salt_len();
            let (key, salt) = (&material[KEY_LEN..2 * KEY_LEN], &material[salt..]);
            let mut theirs = Context::new(key, salt, profile, None, None, provider.crypto()).unwrap();
            for sender in [1, 2, 1, 2] {
                let mut report = theirs.encrypt_rtcp(&[0x80, 201, 0, 1, 0, 0, 0, sender]).unwrap().to_vec();
                let mut again = report.clone();
                assert_eq!(receiver.unprotect_rtcp(&mut report), Ok(8), "{suite:?} {sender}");
                assert!(receiver.unprotect_rtcp(&mut again).is_err(), "{suite:?} {sender}");
            }
        }
    }

    #[test]
    fn senders_beyond_the_limit_and_forged_ones_are_not_remembered() {
        let provider = rtc_crypto::default_provider().unwrap();
        for suite in [Suite::AeadAes128Gcm, Suite::AesCm128HmacSha1_80] {
            let material = material(suite);
            let (mut sender, _) = sessions(suite, &provider, &material, true).unwrap();
            let (_, mut receiver) = sessions(suite, &provider, &material, false).unwrap();
            let report = |ssrc: u32| [&[0x80, 201, 0, 1], &ssrc.to_be_bytes()[..]].concat();
            for ssrc in 0..1000 {
                let mut forged = report(ssrc);
                forged.extend([0x80; 30]);
                assert_eq!(receiver.unprotect_rtcp(&mut forged), Err(SrtpError::Authentication));
            }
            for ssrc in 0..=MAX_SENDERS as u32 {
                let mut packet = sender.protect_rtcp(report(ssrc)).unwrap();
                let expected =
                    if (ssrc as usize) < MAX_SENDERS { Ok(8) } else { Err(SrtpError::TooManySenders) };
                assert_eq!(receiver.unprotect_rtcp(&mut packet), expected);
            }
        }
    }

    #[test]
    fn the_replay_window_takes_each_index_once() {
        let mut window = ReplayWindow::default();
        for index in [10, 12, 11, 3000, 2500] {
            window.check(index).unwrap();
            window.accept(index);
            assert_eq!(window.check(index), Err(SrtpError::Replay), "{index}");
        }
        assert_eq!(window.check(1976), Err(SrtpError::Replay), "behind the window");
        assert_eq!(window.check(1977), Ok(()));
        assert_eq!(window.estimate(2999), 2999);
    }
}
