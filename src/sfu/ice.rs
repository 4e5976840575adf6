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
/// How long the selected path may go without a valid check before a check on another path replaces it. Browsers check
/// the one they use at least every five seconds (RFC 7675 section 5.1).
pub const STALE_PATH_AFTER: Duration = Duration::from_secs(8);

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

/// A username fragment and its password (RFC 8445 section 5.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Names the transport in every check.
    pub ufrag: String,
    /// Authenticates checks and answers.
    pub password: String,
}

impl Credentials {
    fn random() -> Self {
        let text = |len| rand::rng().sample_iter(Alphanumeric).take(len).map(char::from).collect();
        Self { ufrag: text(UFRAG_LEN), password: text(PASSWORD_LEN) }
    }
}

/// What a binding request changed besides consent.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the client is answered.
    pub check: Check,
    /// A path that was forgotten to make room for a new one.
    pub forgotten: Option<Tuple>,
    /// The username fragment that is no longer valid, because the client began to use the restarted one.
    pub retired: Option<String>,
}

/// The ICE-lite agent of one transport.
pub struct IceLite {
    credentials: Credentials,
    /// Whether a valid check came with [`Self::credentials`].
    is_proven: bool,
    /// The credentials before a restart, valid until the client uses the new ones.
    previous: Option<Credentials>,
    /// Valid paths, oldest first; the selected one is among them.
    tuples: Vec<Tuple>,
    selected: Option<Tuple>,
    /// When the selected path had its last valid check.
    selected_checked: Option<Instant>,
    consent_until: Option<Instant>,
    consent_timeout: Duration,
}

impl IceLite {
    /// A new agent. Clients make transports early and use some of them late or never (a publisher that watches
    /// nobody): consent counts from the first valid check on.
    #[must_use]
    pub fn new(consent_timeout: Duration) -> Self {
        Self {
            credentials: Credentials::random(),
            is_proven: false,
            previous: None,
            tuples: Vec::new(),
            selected: None,
            selected_checked: None,
            consent_until: None,
            consent_timeout,
        }
    }

    /// What clients address this agent with.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The username fragments that checks may name.
    pub fn ufrags(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.credentials).chain(&self.previous).map(|known| known.ufrag.as_str())
    }

    /// Makes new credentials (RFC 8445 section 9). The paths stay as they are, and the old credentials stay valid,
    /// until a check comes with the new ones. What became invalid at once, because no client ever used it, is
    /// returned.
    pub fn restart(&mut self) -> Option<String> {
        let old = std::mem::replace(&mut self.credentials, Credentials::random());
        if std::mem::take(&mut self.is_proven) {
            return self.previous.replace(old).map(|older| older.ufrag);
        }
        Some(old.ufrag)
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

    /// Handles a binding request that named one of this agent's username fragments, `ufrag`.
    pub fn handle_request(
        &mut self,
        now: Instant,
        crypto: &dyn RTCCrypto,
        from: Tuple,
        ufrag: &str,
        mut request: Message,
    ) -> Outcome {
        let is_current = self.credentials.ufrag == ufrag;
        let known = if is_current { Some(&self.credentials) } else { self.previous.as_ref() };
        let refused = Outcome { check: Check::Refused, forgotten: None, retired: None };
        let Some(password) = known.filter(|known| known.ufrag == ufrag).map(|known| known.password.clone())
        else {
            return refused;
        };
        let well_formed = request.get(ATTR_MESSAGE_INTEGRITY).is_ok_and(|value| value.len() == INTEGRITY_LEN);
        if !well_formed || MessageIntegrity::check(&mut request, password.as_bytes(), crypto).is_err() {
            return refused;
        }
        if request.contains(ATTR_ICE_CONTROLLED) {
            // Both sides controlled: an ICE-lite agent never takes the other role (RFC 8445 section 7.3.1.1).
            let check = answer(crypto, &request, CLASS_ERROR_RESPONSE, password, from.remote);
            return Outcome { check, ..refused };
        }
        self.consent_until = Some(now + self.consent_timeout);
        let forgotten = self.remember(from);
        let begins = is_current && !std::mem::replace(&mut self.is_proven, true);
        let retired = if begins { self.previous.take().map(|old| old.ufrag) } else { None };
        if begins || self.is_selected_stale(now) || request.contains(ATTR_USE_CANDIDATE) {
            self.selected = Some(from);
        }
        if self.selected.is_some_and(|selected| selected.key() == from.key()) {
            self.selected = Some(from);
            self.selected_checked = Some(now);
        }
        let check = answer(crypto, &request, CLASS_SUCCESS_RESPONSE, password, from.remote);
        Outcome { check, forgotten, retired }
    }

    /// A path does not exist any more (its TCP connection ended). If media took it, the newest other one is next.
    pub fn forget(&mut self, path: &Tuple) {
        self.tuples.retain(|known| known.key() != path.key());
        if self.selected.is_some_and(|selected| selected.key() == path.key()) {
            self.selected = self.tuples.last().copied();
            self.selected_checked = None;
        }
    }

    /// Clients check the path that they use every few seconds. One that says nothing any more, while another path is
    /// checked, is that of a network that the client left.
    fn is_selected_stale(&self, now: Instant) -> bool {
        self.selected_checked.is_none_or(|last| now.saturating_duration_since(last) >= STALE_PATH_AFTER)
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
}

fn answer(
    crypto: &dyn RTCCrypto,
    request: &Message,
    class: rtc_stun::message::MessageClass,
    password: String,
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
        message.add(ATTR_USERNAME, format!("{}:them", agent.credentials().ufrag).as_bytes());
        message.add(attribute.unwrap_or(ATTR_ICE_CONTROLLING), &[0; 8]);
        MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), provider.crypto())
            .add_to(&mut message)
            .unwrap();
        FINGERPRINT.add_to(&mut message).unwrap();
        message.raw
    }

    fn handle(agent: &mut IceLite, now: Instant, from: Tuple, datagram: &[u8]) -> Check {
        outcome(agent, now, from, datagram).check
    }

    fn outcome(agent: &mut IceLite, now: Instant, from: Tuple, datagram: &[u8]) -> Outcome {
        let (message, ufrag) = read_request(datagram).unwrap();
        agent.handle_request(now, provider().crypto(), from, &ufrag, message)
    }

    #[test]
    fn answers_a_valid_check_and_renews_consent() {
        let now = Instant::now();
        let mut agent = IceLite::new(TIMEOUT);
        let datagram = request(&agent, &agent.credentials().password, None);
        let later = now + Duration::from_secs(3);
        let Check::Answer(bytes) = handle(&mut agent, later, tuple(9), &datagram) else { panic!("refused") };
        assert_eq!(agent.selected(), Some(tuple(9)));
        assert_eq!(agent.consent_until(), Some(later + TIMEOUT));
        let mut answer = Message::new();
        answer.unmarshal_binary(&bytes).unwrap();
        let mut address = XorMappedAddress::default();
        address.get_from(&answer).unwrap();
        assert_eq!(address.port, 9);
        MessageIntegrity::check(&mut answer, agent.credentials().password.as_bytes(), provider().crypto())
            .unwrap();
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
        let password = agent.credentials().password.clone();
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
        let datagram = request(&agent, &agent.credentials().password, Some(ATTR_ICE_CONTROLLED));
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
        let datagram = request(&agent, &agent.credentials().password, None);
        for at in 0..datagram.len() {
            assert!(read_request(&datagram[..at]).is_none());
            let mut changed = datagram.clone();
            changed[at] ^= 0x55;
            if read_request(&changed).is_some() {
                outcome(&mut agent, now, tuple(9), &changed);
            }
        }
    }

    #[test]
    fn after_a_restart_both_credentials_work_until_the_new_ones_are_used() {
        let now = Instant::now();
        let mut agent = IceLite::new(TIMEOUT);
        let old = agent.credentials().clone();
        let old_check = request(&agent, &old.password, None);
        assert!(matches!(handle(&mut agent, now, tuple(1), &old_check), Check::Answer(_)));
        assert_eq!(agent.restart(), None, "the old credentials are in use");
        let unused = agent.credentials().ufrag.clone();
        assert_eq!(agent.restart(), Some(unused), "nobody used those");
        assert!(matches!(handle(&mut agent, now, tuple(1), &old_check), Check::Answer(_)));
        assert_eq!(agent.ufrags().count(), 2);

        let new_check = request(&agent, &agent.credentials().password, None);
        let began = outcome(&mut agent, now, tuple(2), &new_check);
        assert!(matches!(began.check, Check::Answer(_)));
        assert_eq!(began.retired, Some(old.ufrag));
        assert_eq!(agent.selected(), Some(tuple(2)), "the client's new path, before it nominates");
        assert_eq!(handle(&mut agent, now, tuple(1), &old_check), Check::Refused);
    }

    #[test]
    fn a_path_that_is_no_longer_checked_gives_way_to_one_that_is() {
        let now = Instant::now();
        let mut agent = IceLite::new(TIMEOUT);
        let check = request(&agent, &agent.credentials().password, None);
        handle(&mut agent, now, tuple(1), &check);
        handle(&mut agent, now + STALE_PATH_AFTER / 2, tuple(2), &check);
        assert_eq!(agent.selected(), Some(tuple(1)));
        handle(&mut agent, now + STALE_PATH_AFTER, tuple(2), &check);
        assert_eq!(agent.selected(), Some(tuple(2)));
        agent.forget(&tuple(2));
        assert_eq!(agent.selected(), Some(tuple(1)), "what is left");
        agent.forget(&tuple(1));
        assert_eq!(agent.selected(), None);
    }
}
