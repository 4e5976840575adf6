//! The ICE-lite side of one transport (RFC 8445 section 2.5): it answers connectivity checks, follows the pair that
//! the client nominates, and knows when consent ran out (RFC 7675). It never sends a check of its own.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::distr::Alphanumeric;
use rtc_crypto::RTCCrypto;
use rtc_stun::attributes::{
    ATTR_ERROR_CODE, ATTR_ICE_CONTROLLED, ATTR_MESSAGE_INTEGRITY, ATTR_USE_CANDIDATE, ATTR_USERNAME,
};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{
    CLASS_ERROR_RESPONSE, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, METHOD_BINDING, Message, MessageType, Setter,
};
use rtc_stun::xoraddr::XorMappedAddress;

use crate::sfu::Tuple;

/// Characters of a username fragment; it names the transport in every check, so it must not collide.
const UFRAG_LEN: usize = 16;
/// Characters of a password (RFC 8445 section 5.3 asks for at least 22).
const PASSWORD_LEN: usize = 32;
/// The longest STUN message that is looked at, in bytes.
const MAX_MESSAGE_LEN: usize = 1280;
/// Bytes of an HMAC-SHA1.
const INTEGRITY_LEN: usize = 20;
/// Address pairs that a transport remembers as valid.
pub const MAX_TUPLES: usize = 8;

/// The local username fragment that a STUN request is meant for.
///
/// Returns `None` for anything but a binding request with a user name.
#[must_use]
pub fn read_request(datagram: &[u8]) -> Option<(Message, String)> {
    if datagram.len() > MAX_MESSAGE_LEN {
        return None;
    }
    let mut message = Message::new();
    message.unmarshal_binary(datagram).ok()?;
    if message.typ != MessageType::new(METHOD_BINDING, CLASS_REQUEST) {
        return None;
    }
    let username = String::from_utf8(message.get(ATTR_USERNAME).ok()?).ok()?;
    let (local, _) = username.split_once(':')?;
    let local = local.to_owned();
    Some((message, local))
}

/// What a check was.
#[derive(Debug, PartialEq, Eq)]
pub enum Check {
    /// Not from the client that was told the password, or malformed: no answer.
    Refused,
    /// To be answered with these bytes.
    Answer(Vec<u8>),
}

/// The ICE-lite agent of one transport.
pub struct IceLite {
    ufrag: String,
    password: String,
    /// Valid paths, oldest first; the selected one is among them.
    tuples: Vec<Tuple>,
    selected: Option<Tuple>,
    consent_until: Option<Instant>,
    consent_timeout: Duration,
}

impl IceLite {
    /// A new agent. Clients make transports early and use some of them late or never (a publisher that watches
    /// nobody): consent counts from the first valid check on.
    #[must_use]
    pub fn new(consent_timeout: Duration) -> Self {
        let text = |len| rand::rng().sample_iter(Alphanumeric).take(len).map(char::from).collect();
        Self {
            ufrag: text(UFRAG_LEN),
            password: text(PASSWORD_LEN),
            tuples: Vec::new(),
            selected: None,
            consent_until: None,
            consent_timeout,
        }
    }

    /// The username fragment that clients address this agent with.
    #[must_use]
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// The password that authenticates checks and answers.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The path that media takes, once a check was valid.
    #[must_use]
    pub fn selected(&self) -> Option<Tuple> {
        self.selected
    }

    /// The valid paths.
    #[must_use]
    pub fn tuples(&self) -> &[Tuple] {
        &self.tuples
    }

    /// When the transport is to be given up unless another valid check comes; `None` before the first one.
    #[must_use]
    pub fn consent_until(&self) -> Option<Instant> {
        self.consent_until
    }

    /// Handles a binding request that named this agent's username fragment. The second value is a path that was
    /// forgotten to make room for a new one.
    pub fn handle_request(
        &mut self,
        now: Instant,
        crypto: &dyn RTCCrypto,
        from: Tuple,
        mut request: Message,
    ) -> (Check, Option<Tuple>) {
        let well_formed = request.get(ATTR_MESSAGE_INTEGRITY).is_ok_and(|value| value.len() == INTEGRITY_LEN);
        if !well_formed || MessageIntegrity::check(&mut request, self.password.as_bytes(), crypto).is_err() {
            return (Check::Refused, None);
        }
        if request.contains(ATTR_ICE_CONTROLLED) {
            // Both sides controlled: an ICE-lite agent never takes the other role (RFC 8445 section 7.3.1.1).
            return (self.answer(crypto, &request, CLASS_ERROR_RESPONSE, from.remote), None);
        }
        self.consent_until = Some(now + self.consent_timeout);
        let forgotten = self.remember(from);
        if self.selected.is_none() || request.contains(ATTR_USE_CANDIDATE) {
            self.selected = Some(from);
        }
        (self.answer(crypto, &request, CLASS_SUCCESS_RESPONSE, from.remote), forgotten)
    }

    fn remember(&mut self, tuple: Tuple) -> Option<Tuple> {
        if let Some(known) = self.tuples.iter_mut().find(|known| known.key() == tuple.key()) {
            *known = tuple;
            return None;
        }
        let oldest = self.tuples.iter().position(|known| Some(*known) != self.selected);
        let forgotten = match oldest {
            Some(index) if self.tuples.len() >= MAX_TUPLES => Some(self.tuples.remove(index)),
            _ => None,
        };
        self.tuples.push(tuple);
        forgotten
    }

    fn answer(
        &self,
        crypto: &dyn RTCCrypto,
        request: &Message,
        class: rtc_stun::message::MessageClass,
        to: SocketAddr,
    ) -> Check {
        let mut answer = Message::new();
        answer.transaction_id = request.transaction_id;
        answer.set_type(MessageType::new(METHOD_BINDING, class));
        answer.write_header();
        let body = if class == CLASS_ERROR_RESPONSE {
            answer.add(ATTR_ERROR_CODE, &[0, 0, 4, 87]); // 487 Role Conflict
            Ok(())
        } else {
            let address = XorMappedAddress { ip: to.ip().to_canonical(), port: to.port() };
            address.add_to(&mut answer)
        };
        let password = self.password.clone();
        let sealed = body
            .and_then(|()| {
                MessageIntegrity::new_short_term_integrity_with_provider(password, crypto).add_to(&mut answer)
            })
            .and_then(|()| FINGERPRINT.add_to(&mut answer));
        match sealed {
            Ok(()) => Check::Answer(answer.raw),
            Err(_) => Check::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rtc_crypto::RTCCryptoProvider;
    use rtc_stun::attributes::ATTR_ICE_CONTROLLING;
    use rtc_stun::message::{BINDING_REQUEST, Getter, TransactionId};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(25);

    fn provider() -> Arc<dyn RTCCryptoProvider> {
        rtc_crypto::default_provider().unwrap()
    }

    fn tuple(port: u16) -> Tuple {
        Tuple::shared(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    fn request(
        agent: &IceLite,
        password: &str,
        attribute: Option<rtc_stun::attributes::AttrType>,
    ) -> Vec<u8> {
        let provider = provider();
        let mut message = Message::new();
        message.build(&[Box::new(BINDING_REQUEST), Box::new(TransactionId::new())]).unwrap();
        message.add(ATTR_USERNAME, format!("{}:them", agent.ufrag()).as_bytes());
        message.add(attribute.unwrap_or(ATTR_ICE_CONTROLLING), &[0; 8]);
        MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), provider.crypto())
            .add_to(&mut message)
            .unwrap();
        FINGERPRINT.add_to(&mut message).unwrap();
        message.raw
    }

    fn handle(agent: &mut IceLite, now: Instant, from: Tuple, datagram: &[u8]) -> Check {
        let (message, ufrag) = read_request(datagram).unwrap();
        assert_eq!(ufrag, agent.ufrag());
        agent.handle_request(now, provider().crypto(), from, message).0
    }

    #[test]
    fn answers_a_valid_check_and_renews_consent() {
        let now = Instant::now();
        let mut agent = IceLite::new(TIMEOUT);
        let datagram = request(&agent, agent.password(), None);
        let later = now + Duration::from_secs(3);
        let Check::Answer(bytes) = handle(&mut agent, later, tuple(9), &datagram) else { panic!("refused") };
        assert_eq!(agent.selected(), Some(tuple(9)));
        assert_eq!(agent.consent_until(), Some(later + TIMEOUT));
        let mut answer = Message::new();
        answer.unmarshal_binary(&bytes).unwrap();
        let mut address = XorMappedAddress::default();
        address.get_from(&answer).unwrap();
        assert_eq!(address.port, 9);
        MessageIntegrity::check(&mut answer, agent.password().as_bytes(), provider().crypto()).unwrap();
    }

    #[test]
    fn a_wrong_password_gets_silence_and_changes_nothing() {
        let now = Instant::now();
        let mut agent = IceLite::new(TIMEOUT);
        let datagram = request(&agent, "not the password", None);
        assert_eq!(handle(&mut agent, now + TIMEOUT, tuple(9), &datagram), Check::Refused);
        assert_eq!((agent.selected(), agent.consent_until()), (None, None));
    }

    #[test]
    fn follows_the_nominated_path_and_bounds_what_it_remembers() {
        let now = Instant::now();
        let mut agent = IceLite::new(TIMEOUT);
        let password = agent.password().to_owned();
        for port in 1..40 {
            let datagram = request(&agent, &password, None);
            handle(&mut agent, now, tuple(port), &datagram);
        }
        assert_eq!(agent.selected(), Some(tuple(1)), "the first valid path until another is nominated");
        assert_eq!(agent.tuples().len(), MAX_TUPLES);
        assert!(agent.tuples().contains(&tuple(1)));
        let datagram = request(&agent, &password, Some(ATTR_USE_CANDIDATE));
        handle(&mut agent, now, tuple(77), &datagram);
        assert_eq!(agent.selected(), Some(tuple(77)));
    }

    #[test]
    fn a_controlled_client_is_told_of_the_conflict() {
        let now = Instant::now();
        let mut agent = IceLite::new(TIMEOUT);
        let datagram = request(&agent, agent.password(), Some(ATTR_ICE_CONTROLLED));
        let Check::Answer(bytes) = handle(&mut agent, now, tuple(9), &datagram) else { panic!("refused") };
        let mut answer = Message::new();
        answer.unmarshal_binary(&bytes).unwrap();
        assert_eq!(answer.get(ATTR_ERROR_CODE).unwrap(), [0, 0, 4, 87]);
        assert_eq!(agent.selected(), None);
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_survived() {
        let now = Instant::now();
        let mut agent = IceLite::new(TIMEOUT);
        let datagram = request(&agent, agent.password(), None);
        for at in 0..datagram.len() {
            assert!(read_request(&datagram[..at]).is_none());
            let mut changed = datagram.clone();
            changed[at] ^= 0x55;
            if let Some((message, _)) = read_request(&changed) {
                let _outcome = agent.handle_request(now, provider().crypto(), tuple(9), message);
            }
        }
    }
}
