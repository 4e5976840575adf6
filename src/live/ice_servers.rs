//! STUN and TURN servers that clients are told of, and credentials for them that are valid for a while.
//!
//! Time-limited credentials follow the scheme that coturn calls its REST API (draft-uberti-behave-turn-rest-00): the
//! username tells when it expires, and the password is an HMAC of it under a secret that weir and the TURN server share.

use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::secret::Secret;

/// The most ICE servers: browsers warn from five on, and each costs every client time.
const MAX_SERVERS: usize = 8;
/// The most URLs of one server.
const MAX_URLS: usize = 8;
/// How long credentials may be valid, in seconds.
const TTL_SECS: std::ops::RangeInclusive<u64> = 60..=7 * 24 * 3600;

/// One STUN or TURN server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IceServerConfig {
    /// Where it is, as in `turn:turn.example.org:3478?transport=udp` (RFC 7064, RFC 7065).
    pub urls: Vec<String>,
    /// The user of a fixed credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// A fixed credential. Every client gets to know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Secret>,
    /// The secret that time-limited credentials are made with (coturn's `static-auth-secret`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// How long time-limited credentials are valid, in seconds. A client needs them to be as long as its call.
    #[serde(default = "default_ttl_secs")]
    pub ttl_secs: u64,
}

fn default_ttl_secs() -> u64 {
    24 * 3600
}

/// One server as a client is told of it (`RTCIceServer`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IceServer {
    /// Where it is.
    pub urls: Vec<String>,
    /// The user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// Checks the servers.
///
/// # Errors
/// What makes no sense. The text holds no secret.
pub fn validate(servers: &[IceServerConfig]) -> Result<(), (&'static str, String)> {
    let checked = if servers.len() > MAX_SERVERS {
        Err(format!("at most {MAX_SERVERS} servers can be told"))
    } else {
        servers.iter().try_for_each(IceServerConfig::validate)
    };
    checked.map_err(|reason| ("ice_servers", reason))
}

impl IceServerConfig {
    fn validate(&self) -> Result<(), String> {
        if !(1..=MAX_URLS).contains(&self.urls.len()) {
            return Err(format!("urls has to hold 1 to {MAX_URLS} URLs"));
        }
        let is_turn = |url: &String| url.starts_with("turn:") || url.starts_with("turns:");
        let is_stun = |url: &String| url.starts_with("stun:") || url.starts_with("stuns:");
        if let Some(url) = self.urls.iter().find(|url| !is_turn(url) && !is_stun(url)) {
            return Err(format!("{url:?} is no stun:, stuns:, turn: or turns: URL"));
        }
        let first = self.urls.first().map_or("", String::as_str);
        match (&self.secret, &self.credential, &self.username) {
            (Some(_), Some(_), _) => {
                return Err(format!("{first}: secret and credential exclude each other"));
            }
            (None, Some(_), None) => return Err(format!("{first}: credential needs username")),
            (None, None, Some(_)) => return Err(format!("{first}: username needs credential")),
            (None, None, None) if self.urls.iter().any(is_turn) => {
                return Err(format!("{first}: TURN needs secret, or username and credential"));
            }
            _ => {}
        }
        if !TTL_SECS.contains(&self.ttl_secs) {
            let (least, most) = (TTL_SECS.start(), TTL_SECS.end());
            return Err(format!("{first}: ttl_secs is not in the range {least} to {most}"));
        }
        Ok(())
    }

    /// What a client that is known as `user` is told at `now`.
    fn told(&self, now: SystemTime, user: &str) -> IceServer {
        let urls = self.urls.clone();
        let Some(secret) = &self.secret else {
            let credential = self.credential.as_ref().map(|text| text.reveal().to_owned());
            return IceServer { urls, username: self.username.clone(), credential };
        };
        let expiry = now + Duration::from_secs(self.ttl_secs);
        let expiry = expiry.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let username = format!("{expiry}:{}", self.username.as_deref().unwrap_or(user));
        let credential = password(secret.reveal(), &username);
        IceServer { urls, username: Some(username), credential: Some(credential) }
    }
}

/// What a client that is known as `user` is told at `now`.
#[must_use]
pub fn told(servers: &[IceServerConfig], now: SystemTime, user: &str) -> Vec<IceServer> {
    servers.iter().map(|server| server.told(now, user)).collect()
}

/// base64(HMAC-SHA1(secret, username)).
fn password(secret: &str, username: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    BASE64.encode(hmac::sign(&key, username.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(toml: &str) -> IceServerConfig {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn the_password_is_the_hmac_of_rfc_2202() {
        // Test case 2 of RFC 2202 section 3.
        assert_eq!(password("Jefe", "what do ya want for nothing?"), "7/zfauXrL6LSdBbV8YTfnCWafHk=");
        assert_eq!(BASE64.decode(password("Jefe", "x")).unwrap().len(), 20);
    }

    #[test]
    fn time_limited_credentials_tell_when_they_expire() {
        let server = server("urls = ['turn:t.example:3478']\nsecret = 'north'\nttl_secs = 600");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_433_895_918 - 600);
        let [told] = told(&[server], now, "my_user").try_into().unwrap();
        assert_eq!(told.username.as_deref(), Some("1433895918:my_user"));
        // printf '1433895918:my_user' | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(told.credential.as_deref(), Some("oVnMAIQ4UvN88+h+wcdkDcIf5uU="));
        let wire = serde_json::to_value(&told).unwrap();
        assert_eq!(wire["urls"], serde_json::json!(["turn:t.example:3478"]));
    }

    #[test]
    fn fixed_credentials_and_none_are_told_as_they_are() {
        let servers = [
            server("urls = ['turns:t.example']\nusername = 'u'\ncredential = 'c'"),
            server("urls = ['stun:s.example']"),
        ];
        let told = serde_json::to_value(told(&servers, SystemTime::now(), "x")).unwrap();
        let expected = serde_json::json!([
            {"urls": ["turns:t.example"], "username": "u", "credential": "c"},
            {"urls": ["stun:s.example"]},
        ]);
        assert_eq!(told, expected);
    }

    #[test]
    fn what_makes_no_sense_is_refused_without_telling_the_secret() {
        for (toml, reason) in [
            ("urls = []", "1 to 8 URLs"),
            ("urls = ['http://t']", "no stun:"),
            ("urls = ['turn:t']", "needs secret"),
            ("urls = ['turn:t']\nusername = 'u'", "needs credential"),
            ("urls = ['turn:t']\ncredential = 'hush'", "needs username"),
            ("urls = ['turn:t']\nusername = 'u'\ncredential = 'hush'\nsecret = 'hush'", "exclude"),
            ("urls = ['turn:t']\nsecret = 'hush'\nttl_secs = 5", "ttl_secs"),
        ] {
            let (setting, text) = validate(&[server(toml)]).unwrap_err();
            assert_eq!(setting, "ice_servers");
            assert!(text.contains(reason) && !text.contains("hush"), "{text} instead of {reason}");
        }
        let fine = server("urls = ['turn:t']\nsecret = 'hush'");
        assert!(validate(std::slice::from_ref(&fine)).is_ok());
        assert!(validate(&vec![fine.clone(); MAX_SERVERS + 1]).is_err());
        assert!(!format!("{fine:?} {}", toml::to_string(&fine).unwrap()).contains("hush"));
    }
}
