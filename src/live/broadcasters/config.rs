//! Who may use broadcasters, and for what.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::live::Secret;

/// The shortest token, in bytes: it has to stand up to guessing.
const MIN_TOKEN_BYTES: usize = 16;
/// How long a broadcaster may be silent at least and at most, in seconds.
const SILENCE_SECS: std::ops::RangeInclusive<u64> = 1..=24 * 3600;
/// The most networks that media may be sent to.
const MAX_DESTINATIONS: usize = 64;

/// Programs that publish and receive over HTTP requests and plain RTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What has to be shown with each request. Nobody can use broadcasters while it is empty.
    pub token: Secret,
    /// The most broadcasters in a room.
    pub max_per_room: usize,
    /// After how many seconds without a packet or a request a broadcaster is removed.
    pub silence_secs: u64,
    /// The networks that a broadcaster may have media sent to by naming an address. The address that comedia finds needs
    /// no permission.
    pub destinations: Vec<Network>,
}

impl Default for Config {
    fn default() -> Self {
        Self { token: Secret::default(), max_per_room: 16, silence_secs: 60, destinations: Vec::new() }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// The setting that makes no sense, and why; never the token.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        if !self.token.is_empty() && self.token.len() < MIN_TOKEN_BYTES {
            let reason =
                format!("shorter than {MIN_TOKEN_BYTES} bytes; `openssl rand -hex 24` makes a good one");
            return Err(("broadcasters.token", reason));
        }
        if self.max_per_room == 0 {
            return Err(("broadcasters.max_per_room", "0 would let nobody in".into()));
        }
        if !SILENCE_SECS.contains(&self.silence_secs) {
            let reason = format!("not in the range {} to {}", SILENCE_SECS.start(), SILENCE_SECS.end());
            return Err(("broadcasters.silence_secs", reason));
        }
        if self.destinations.len() > MAX_DESTINATIONS {
            return Err(("broadcasters.destinations", format!("more than {MAX_DESTINATIONS} networks")));
        }
        Ok(())
    }
}

/// An IP network, as in `192.168.0.0/16`, or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

/// Why a text is no [`Network`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither an IP address nor a network as in \"192.168.0.0/16\"")]
pub struct InvalidNetwork(String);

impl Network {
    /// Whether an address is in it. An IPv4 address in IPv6's clothes is the IPv4 address.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip.to_canonical())
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(Self).map_err(|_| InvalidNetwork(text.to_owned()))
    }
}

impl TryFrom<String> for Network {
    type Error = InvalidNetwork;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(toml: &str) -> Config {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn a_network_is_an_address_or_a_range_of_them() {
        let contains =
            |network: &str, ip: &str| network.parse::<Network>().unwrap().contains(ip.parse().unwrap());
        assert!(contains("127.0.0.1", "127.0.0.1") && !contains("127.0.0.1", "127.0.0.2"));
        assert!(contains("10.1.0.0/16", "10.1.255.3") && !contains("10.1.0.0/16", "10.2.0.1"));
        assert!(contains("2001:db8::/32", "2001:db8:1::1") && !contains("2001:db8::/32", "::1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.0.0.1"), "the same host under its other name");
        for text in ["", "localhost", "10.0.0.0/33", "1.2.3"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_without_telling_the_token() {
        assert!(Config::default().validate().is_ok());
        assert!(
            config("token = '0123456789abcdef'\ndestinations = ['::1', '10.0.0.0/8']").validate().is_ok()
        );
        for (toml, setting) in [
            ("token = 'hush'", "broadcasters.token"),
            ("max_per_room = 0", "broadcasters.max_per_room"),
            ("silence_secs = 0", "broadcasters.silence_secs"),
            ("silence_secs = 86401", "broadcasters.silence_secs"),
        ] {
            let (named, reason) = config(toml).validate().unwrap_err();
            assert_eq!(named, setting);
            assert!(!reason.contains("hush"), "{reason}");
        }
    }
}
