//! The controlling side of ICE (RFC 8445), reduced to one candidate pair: checks with nomination, and their answers.

use anyhow::{Context, Result, ensure};
use rtc_crypto::RTCCryptoProvider;
use rtc_stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, TransactionId};
use rtc_stun::textattrs::TextAttribute;

/// One side's credentials.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) ufrag: String,
    pub(crate) password: String,
}

/// A connectivity check for the server, nominating the pair.
pub(crate) fn binding_request(
    local: &Credentials,
    remote: &Credentials,
    crypto: &dyn RTCCryptoProvider,
) -> Result<Vec<u8>> {
    let username = format!("{}:{}", remote.ufrag, local.ufrag);
    let mut message = Message::new();
    let setters: [Box<dyn Setter + '_>; 8] = [
        Box::new(TransactionId::new()),
        Box::new(BINDING_REQUEST),
        Box::new(TextAttribute::new(ATTR_USERNAME, username)),
        Box::new(Raw(ATTR_ICE_CONTROLLING.0, 0x1234_5678_9abc_def0_u64.to_be_bytes().to_vec())),
        Box::new(Raw(ATTR_PRIORITY.0, 0x6e7f_1eff_u32.to_be_bytes().to_vec())),
        Box::new(Raw(ATTR_USE_CANDIDATE.0, Vec::new())),
        Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
            remote.password.clone(),
            crypto.crypto(),
        )),
        Box::new(FINGERPRINT),
    ];
    message.build(&setters).context("build a binding request")?;
    Ok(message.raw)
}

/// Whether `datagram` is a success response that was made with `password`.
pub(crate) fn is_success(datagram: &[u8], password: &str, crypto: &dyn RTCCryptoProvider) -> Result<bool> {
    let mut message = Message::new();
    message.unmarshal_binary(datagram).context("parse a STUN message")?;
    if message.typ != BINDING_SUCCESS {
        return Ok(false);
    }
    FINGERPRINT.check(&message).context("FINGERPRINT of a response")?;
    MessageIntegrity::check(&mut message, password.as_bytes(), crypto.crypto())
        .context("MESSAGE-INTEGRITY of a response")?;
    ensure!(message.contains(rtc_stun::attributes::ATTR_XORMAPPED_ADDRESS), "no XOR-MAPPED-ADDRESS");
    Ok(true)
}

struct Raw(u16, Vec<u8>);

impl Setter for Raw {
    fn add_to(&self, message: &mut Message) -> rtc_shared::error::Result<()> {
        message.add(rtc_stun::attributes::AttrType(self.0), &self.1);
        Ok(())
    }
}
