//! Who may watch over HLS: tokens that the operator's application makes, and weir checks without asking anybody.
//!
//! A token is `<base64url of "EXPIRY:SCOPE">.<base64url of HMAC-SHA256(secret, "EXPIRY:SCOPE")>`, without padding. EXPIRY
//! is in seconds since 1970; SCOPE is a peer's id, or the beginning of ids and a `*`. Nothing is looked up anywhere, so no
//! outage locks anybody out, and all servers that share a secret agree.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde::{Deserialize, Serialize};

use super::Secret;
use crate::ids::PeerId;

/// The shortest secret, in bytes: what can be guessed protects nothing.
const MIN_SECRET_BYTES: usize = 16;
/// The most secrets: one to sign with, and old ones that still count.
const MAX_SECRETS: usize = 4;
/// The longest grace, in seconds: a week.
const MAX_GRACE_SECS: u64 = 7 * 24 * 3600;
/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 512;
/// The most tokens that are remembered because somebody began to watch with them.
const MAX_BEGUN: usize = 100_000;

/// Whether viewers need tokens, and which ones count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What tokens are signed with; the first one signs, all are accepted. None lets everybody watch.
    pub secrets: Vec<Secret>,
    /// How long a player that began before its token expired may go on after that, in seconds.
    pub grace_secs: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { secrets: Vec::new(), grace_secs: 12 * 3600 }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// The setting that makes no sense, and why. The text holds no secret.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        if self.secrets.len() > MAX_SECRETS {
            return Err(("access.secrets", format!("may hold {MAX_SECRETS} secrets")));
        }
        if self.secrets.iter().any(|secret| secret.len() < MIN_SECRET_BYTES) {
            return Err((
                "access.secrets",
                format!("a secret has to be {MIN_SECRET_BYTES} bytes long at least"),
            ));
        }
        if self.grace_secs > MAX_GRACE_SECS {
            return Err(("access.grace_secs", format!("not in the range 0 to {MAX_GRACE_SECS}")));
        }
        Ok(())
    }
}

/// Why somebody may not watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is no token.
    #[error("a token is needed to watch")]
    Missing,
    /// It is no token, or signed with another secret.
    #[error("the token is not valid")]
    Invalid,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It is for other peers.
    #[error("the token is not for this stream")]
    OutOfScope,
}

/// What a token is shown for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To begin watching: the master playlist. A player that did so in time may do it again within the grace.
    Begin,
    /// To go on watching: everything that the master playlist leads to.
    GoOn,
}

/// The rule by which tokens are checked.
#[derive(Debug)]
pub struct Access {
    keys: Vec<hmac::Key>,
    grace: Duration,
    begun: Mutex<Begun>,
}

/// Tokens that somebody began to watch with in time, by their signatures, and when they expire.
#[derive(Debug, Default)]
struct Begun(HashMap<Vec<u8>, Duration>);

impl Begun {
    /// Remembers a token, unless there are [`MAX_BEGUN`] that still count.
    fn insert(&mut self, signature: &[u8], until: Duration, now: Duration, grace: Duration) {
        if self.0.len() >= MAX_BEGUN && !self.0.contains_key(signature) {
            self.0.retain(|_, until| now < until.saturating_add(grace));
        }
        if self.0.len() < MAX_BEGUN {
            self.0.insert(signature.to_vec(), until);
        }
    }
}

impl Access {
    /// The rule; none if everybody may watch.
    #[must_use]
    pub fn new(config: &Config) -> Option<Self> {
        let key = |secret: &Secret| hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes());
        let keys: Vec<_> = config.secrets.iter().map(key).collect();
        let grace = Duration::from_secs(config.grace_secs);
        (!keys.is_empty()).then(|| Self { keys, grace, begun: Mutex::default() })
    }

    /// A token that lets its bearer begin to watch `scope` until `until`.
    #[must_use]
    pub fn sign(&self, scope: &str, until: SystemTime) -> String {
        let until = until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = format!("{until}:{scope}");
        let signature = self.keys.first().map(|key| hmac::sign(key, claims.as_bytes()));
        let signature = signature.as_ref().map_or(&[][..], AsRef::as_ref);
        format!("{}.{}", BASE64URL.encode(&claims), BASE64URL.encode(signature))
    }

    /// Whether who shows `token` may have what belongs to `peer`; none if nobody has it, which any token is good for.
    ///
    /// # Errors
    /// Why not.
    pub fn check(
        &self,
        token: Option<&str>,
        peer: Option<&PeerId>,
        purpose: Purpose,
        now: SystemTime,
    ) -> Result<(), Denied> {
        let Signed { claims, signature } =
            self.verified(token.ok_or(Denied::Missing)?).ok_or(Denied::Invalid)?;
        let (until, scope) = claims.split_once(':').ok_or(Denied::Invalid)?;
        let until = Duration::from_secs(until.parse().map_err(|_| Denied::Invalid)?);
        let within = |peer: &PeerId| {
            let peer = peer.as_str();
            scope.strip_suffix('*').map_or(scope == peer, |beginning| peer.starts_with(beginning))
        };
        if !peer.is_none_or(within) {
            return Err(Denied::OutOfScope);
        }
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if now >= until.saturating_add(self.grace) {
            return Err(Denied::Expired);
        }
        if purpose == Purpose::GoOn {
            return Ok(());
        }
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if now < until {
            begun.insert(&signature, until, now, self.grace);
            return Ok(());
        }
        if begun.0.contains_key(&signature) { Ok(()) } else { Err(Denied::Expired) }
    }

    fn verified(&self, token: &str) -> Option<Signed> {
        let (claims, signature) =
            Some(token).filter(|token| token.len() <= MAX_TOKEN_BYTES)?.split_once('.')?;
        let (claims, signature) = (BASE64URL.decode(claims).ok()?, BASE64URL.decode(signature).ok()?);
        let signed = |key: &hmac::Key| hmac::verify(key, &claims, &signature).is_ok();
        if !self.keys.iter().any(signed) {
            return None;
        }
        Some(Signed { claims: String::from_utf8(claims).ok()?, signature })
    }
}

/// What a token says, and by what it is known.
struct Signed {
    claims: String,
    signature: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn access(secrets: &[&str]) -> Access {
        let config: Config = toml::from_str(&format!("secrets = {secrets:?}\ngrace_secs = 60")).unwrap();
        config.validate().unwrap();
        Access::new(&config).unwrap()
    }

    fn after(secs: u64) -> SystemTime {
        NOW + Duration::from_secs(secs)
    }

    fn peer(name: &str) -> PeerId {
        name.parse().unwrap()
    }

    #[test]
    fn a_token_opens_its_stream_until_it_expires_and_lets_players_go_on() {
        let access = access(&["0123456789abcdef"]);
        let token = access.sign("anna", after(100));
        let check =
            |name: &str, purpose, secs| access.check(Some(&token), Some(&peer(name)), purpose, after(secs));
        assert_eq!(check("anna", Purpose::Begin, 99), Ok(()));
        assert_eq!(check("anna", Purpose::Begin, 159), Ok(()), "the player that began comes back");
        assert_eq!(check("anna", Purpose::Begin, 160), Err(Denied::Expired));
        assert_eq!(check("anna", Purpose::GoOn, 159), Ok(()));
        assert_eq!(check("anna", Purpose::GoOn, 160), Err(Denied::Expired));
        for other in ["ann", "anna2", "Anna"] {
            assert_eq!(check(other, Purpose::Begin, 0), Err(Denied::OutOfScope), "{other}");
        }
        assert_eq!(
            access.check(Some(&token), None, Purpose::GoOn, NOW),
            Ok(()),
            "nobody's: not found is said elsewhere"
        );
        let unused = access.sign("an*", after(100));
        let late = access.check(Some(&unused), Some(&peer("anna")), Purpose::Begin, after(100));
        assert_eq!(late, Err(Denied::Expired), "it is too late to begin");
    }

    #[test]
    fn a_star_stands_for_the_rest_of_ids() {
        let access = access(&["0123456789abcdef"]);
        let opens = |scope: &str, name: &str| {
            access.check(Some(&access.sign(scope, after(9))), Some(&peer(name)), Purpose::Begin, NOW).is_ok()
        };
        assert!(opens("*", "anna") && opens("an*", "anna") && opens("anna*", "anna"));
        assert!(
            !opens("b*", "anna") && !opens("annab*", "anna") && !opens("*a", "anna") && !opens("", "anna")
        );
    }

    #[test]
    fn other_programs_can_make_tokens() {
        let access = access(&["0123456789abcdef"]);
        // claims=60:anna; printf %s "$claims" | basenc --base64url | tr -d =
        // printf %s "$claims" | openssl dgst -sha256 -hmac 0123456789abcdef -binary | basenc --base64url | tr -d =
        let made = "NjA6YW5uYQ.s_L2yV2HQSRwaR6pubNh0r1H8OjdfRQyUN5NbqbIEig";
        assert_eq!(access.sign("anna", after(60)), made);
        assert_eq!(access.check(Some(made), Some(&peer("anna")), Purpose::Begin, NOW), Ok(()));
    }

    #[test]
    fn what_was_not_signed_here_opens_nothing() {
        let (ours, theirs) = (access(&["0123456789abcdef"]), access(&["fedcba9876543210"]));
        let good = ours.sign("anna", after(9));
        let (claims, signature) = good.split_once('.').unwrap();
        let longer = format!("{}.{signature}", BASE64URL.encode("9999999:anna"));
        let long = "a".repeat(1000);
        let foreign = theirs.sign("anna", after(9));
        let unsigned = format!("{claims}.");
        for bad in ["", ".", "..", "é.é", claims, &unsigned, &longer, &long, &foreign] {
            let checked = ours.check(Some(bad), Some(&peer("anna")), Purpose::Begin, NOW);
            assert_eq!(checked, Err(Denied::Invalid), "{bad}");
        }
        assert_eq!(ours.check(None, Some(&peer("anna")), Purpose::Begin, NOW), Err(Denied::Missing));
        let odd = |claims: &str| {
            let signature = hmac::sign(&ours.keys[0], claims.as_bytes());
            let token = format!("{}.{}", BASE64URL.encode(claims), BASE64URL.encode(signature));
            ours.check(Some(&token), Some(&peer("anna")), Purpose::GoOn, NOW)
        };
        assert_eq!(odd("anna"), Err(Denied::Invalid));
        assert_eq!(odd("-1:anna"), Err(Denied::Invalid));
        assert_eq!(odd("18446744073709551615:anna"), Ok(()), "for ever");
    }

    #[test]
    fn a_secret_can_be_changed_without_locking_anybody_out() {
        let (old, both, new) = (
            access(&["the old secret ..."]),
            access(&["the new secret ...", "the old secret ..."]),
            access(&["the new secret ..."]),
        );
        let check =
            |rule: &Access, token: &str| rule.check(Some(token), Some(&peer("anna")), Purpose::Begin, NOW);
        assert_eq!(check(&both, &old.sign("*", after(9))), Ok(()));
        assert_eq!(check(&new, &both.sign("*", after(9))), Ok(()));
        assert_eq!(check(&new, &old.sign("*", after(9))), Err(Denied::Invalid));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_without_telling_the_secret() {
        for (text, reason) in [
            ("secrets = ['hush']", "16 bytes"),
            ("secrets = ['hush', 'hush', 'hush', 'hush', 'hush']", "may hold 4"),
            ("grace_secs = 99999999", "range"),
        ] {
            let config: Config = toml::from_str(text).unwrap();
            let (_, why) = config.validate().unwrap_err();
            assert!(why.contains(reason) && !why.contains("hush"), "{why}");
        }
        assert!(Access::new(&Config::default()).is_none(), "everybody may watch");
    }
}
