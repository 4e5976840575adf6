//! SRTP and SRTCP (RFC 3711) with AES-GCM (RFC 7714) in place and without allocation, because that is the packet
//! path; AES_CM with HMAC-SHA1, for the rare peer that offers nothing better, goes through `rtc-srtp`.

mod keys;

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::aead::Aad;
use rtc_crypto::{RTCCrypto, RTCCryptoProvider};
use rtc_srtp::context::Context;
use rtc_srtp::option::srtcp_replay_protection;
use rtc_srtp::protection_profile::ProtectionProfile;

use crate::media::rtp;
use keys::GcmKeys;
pub use keys::{MasterKey, Suite};

/// SSRCs whose state one session keeps for what it receives, separately for RTCP (and, with AES-CM, for RTP).
const MAX_SENDERS: usize = 256;

/// Bytes that protecting a packet adds at most, for RTP and RTCP.
pub const MAX_OVERHEAD: usize = 20;

const GCM_TAG_LEN: usize = 16;
/// The SRTCP trailer: the E flag and the 31-bit index.
const SRTCP_INDEX_LEN: usize = 4;
const RTCP_HEADER_LEN: usize = 8;
const ENCRYPTED_FLAG: u32 = 0x8000_0000;

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

fn aes_cm(suite: Suite, crypto: &dyn RTCCrypto, master: &MasterKey) -> Result<Context, SrtpError> {
    let profile = match suite {
        Suite::AesCm128HmacSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
        _ => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    // RTP is checked for replays by the transport's own windows; RTCP is not, and a context does nothing by default.
    let rtcp_window = srtcp_replay_protection(REPLAY_WINDOW as usize);
    Context::new(master.key(), master.salt(), profile, None, Some(rtcp_window), crypto)
        .map_err(|_| SrtpError::Keys)
}

enum Outbound {
    Gcm(Box<GcmKeys>),
    AesCm(Box<Context>),
    Clear,
}

enum Inbound {
    Gcm(Box<GcmKeys>),
    AesCm(AesCmInbound),
    Clear,
}

/// AES-CM contexts by SSRC. One context for all would remember every SSRC that it was ever asked about, authentic or
/// not; so an SSRC gets its own, which is kept once a packet was authentic.
struct AesCmInbound {
    provider: Arc<dyn RTCCryptoProvider>,
    suite: Suite,
    master: MasterKey,
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
        let mut context = aes_cm(self.suite, self.provider.crypto(), &self.master)?;
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
    let split = |at: usize, len: usize| material.get(at..at + len).ok_or(SrtpError::Keys);
    let (key_len, salt_len) = (suite.key_len(), suite.salt_len());
    let master = |side: usize| {
        let key = split(side * key_len, key_len)?;
        MasterKey::new(suite, &[key, split(2 * key_len + side * salt_len, salt_len)?].concat())
    };
    let (client, server) = (master(0)?, master(1)?);
    let (local, remote) = if is_dtls_client { (client, server) } else { (server, client) };
    Ok((Sender::new(provider, &local)?, Receiver::new(provider, remote)?))
}

/// What stands for keys where media is not protected, as on a plain transport inside a data centre.
#[must_use]
pub fn clear() -> (Sender, Receiver) {
    let receiver = Receiver { keys: Inbound::Clear, rtcp_windows: HashMap::new() };
    (Sender { keys: Outbound::Clear, rtcp_index: 0 }, receiver)
}

/// Protects what weir sends on one transport.
pub struct Sender {
    keys: Outbound,
    rtcp_index: u32,
}

impl Sender {
    /// Protects with a master key.
    ///
    /// # Errors
    /// Fails if the crypto library refuses the key.
    pub fn new(provider: &Arc<dyn RTCCryptoProvider>, master: &MasterKey) -> Result<Self, SrtpError> {
        let keys = match master.suite() {
            Suite::AeadAes128Gcm | Suite::AeadAes256Gcm => {
                Outbound::Gcm(Box::new(GcmKeys::derive(provider.crypto(), master)?))
            }
            suite => Outbound::AesCm(Box::new(aes_cm(suite, provider.crypto(), master)?)),
        };
        Ok(Self { keys, rtcp_index: 0 })
    }

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
            Outbound::Clear => {}
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
            Outbound::Clear => Ok(packet),
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
    /// Opens what was protected with a master key.
    ///
    /// # Errors
    /// Fails if the crypto library refuses the key.
    pub fn new(provider: &Arc<dyn RTCCryptoProvider>, master: MasterKey) -> Result<Self, SrtpError> {
        let keys = match master.suite() {
            Suite::AeadAes128Gcm | Suite::AeadAes256Gcm => {
                Inbound::Gcm(Box::new(GcmKeys::derive(provider.crypto(), &master)?))
            }
            suite => Inbound::AesCm(AesCmInbound {
                provider: Arc::clone(provider),
                suite,
                master,
                contexts: HashMap::new(),
            }),
        };
        Ok(Self { keys, rtcp_windows: HashMap::new() })
    }

    /// Whether nothing is protected: then a repeated sequence number is a sender that started over, not an attack.
    #[must_use]
    #[inline]
    pub fn is_clear(&self) -> bool {
        matches!(self.keys, Inbound::Clear)
    }

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
            Inbound::Clear => Ok(packet.len()),
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
            Inbound::Clear => Ok(packet.len()),
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
mod tests;
