//! Who may publish which stream: the key that a publisher shows.
//!
//! The keys of the settings are one such rule. One that asks a database of streams fits the same trait, and so does every
//! protocol whose publishers show a key.

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use serde::{Deserialize, Serialize};

use super::Secret;
use crate::ids::PeerId;

/// The shortest key, in bytes: it has to stand up to guessing.
const MIN_KEY_BYTES: usize = 16;
/// The most keys in the settings.
const MAX_KEYS: usize = 1000;
/// The name that stands for every stream.
const EVERY_STREAM: &str = "*";

/// The keys of publishers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `NAME:KEY` lets whoever shows KEY publish the stream NAME, and `*:KEY` every stream. Without any, everybody may
    /// publish.
    pub keys: Vec<Secret>,
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// The setting that makes no sense, and why; never a key.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        let fail = |reason: String| Err(("streams.keys", reason));
        if self.keys.len() > MAX_KEYS {
            return fail(format!("may hold {MAX_KEYS} keys"));
        }
        for entry in &self.keys {
            let Some((name, key)) = entry.reveal().split_once(':') else {
                return fail("an entry has to be of the form NAME:KEY".to_owned());
            };
            if name != EVERY_STREAM && name.parse::<PeerId>().is_err() {
                return fail(
                    "a stream's name is 1 to 64 ASCII letters, digits, '-' or '_', or '*'".to_owned(),
                );
            }
            if key.len() < MIN_KEY_BYTES {
                return fail(format!("a key has to be {MIN_KEY_BYTES} bytes long at least"));
            }
        }
        Ok(())
    }
}

/// Why somebody may not publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyDenied {
    /// There is no key.
    #[error("a key is needed to publish")]
    Missing,
    /// The key is not one of this stream.
    #[error("the key is not one of this stream")]
    Wrong,
}

/// Why somebody may publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// Everybody may.
    Open,
    /// The key was right, so it is the owner of the stream.
    Owner,
}

/// The rule by which keys are checked.
pub trait KeyRule: Send + Sync {
    /// Whether the one who shows `key` may publish `stream`.
    fn check<'a>(
        &'a self,
        stream: &'a PeerId,
        key: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Grant, KeyDenied>>;
}

/// The keys of the settings.
#[derive(Debug)]
pub struct ConfiguredKeys {
    /// A stream's name, or none for every stream, and a key.
    entries: Vec<(Option<PeerId>, Secret)>,
}

impl ConfiguredKeys {
    /// The rule that the settings are.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let entry = |entry: &Secret| {
            let (name, key) = entry.reveal().split_once(':')?;
            let name = if name == EVERY_STREAM { None } else { Some(name.parse().ok()?) };
            Some((name, Secret::from(key.to_owned())))
        };
        Self { entries: config.keys.iter().filter_map(entry).collect() }
    }

    /// Whether everybody may publish.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.entries.is_empty()
    }

    fn grant(&self, stream: &PeerId, key: Option<&str>) -> Result<Grant, KeyDenied> {
        if self.is_open() {
            return Ok(Grant::Open);
        }
        let key = key.ok_or(KeyDenied::Missing)?;
        let mut of_stream =
            self.entries.iter().filter(|(name, _)| name.as_ref().is_none_or(|name| name == stream));
        if of_stream.any(|(_, known)| known.is(key)) { Ok(Grant::Owner) } else { Err(KeyDenied::Wrong) }
    }
}

impl KeyRule for ConfiguredKeys {
    fn check<'a>(
        &'a self,
        stream: &'a PeerId,
        key: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Grant, KeyDenied>> {
        ready(self.grant(stream, key)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(keys: &[&str]) -> Config {
        toml::from_str(&format!("keys = {keys:?}")).unwrap()
    }

    #[test]
    fn a_key_opens_its_stream_and_that_of_all_opens_every_stream() {
        let rule = ConfiguredKeys::new(&config(&["red:0123456789abcdef", "*:the-key-of-them-all"]));
        let grant = |stream: &str, key| rule.grant(&stream.parse().unwrap(), key);
        assert_eq!(grant("red", Some("0123456789abcdef")), Ok(Grant::Owner));
        assert_eq!(grant("blue", Some("0123456789abcdef")), Err(KeyDenied::Wrong));
        assert_eq!(grant("blue", Some("the-key-of-them-all")), Ok(Grant::Owner));
        assert_eq!(grant("red", Some("")), Err(KeyDenied::Wrong));
        assert_eq!(grant("red", None), Err(KeyDenied::Missing));
        let open = ConfiguredKeys::new(&Config::default());
        assert!(open.is_open());
        assert_eq!(open.grant(&"red".parse().unwrap(), None), Ok(Grant::Open));
    }

    #[test]
    fn keys_that_make_no_sense_are_refused_without_telling_them() {
        assert!(config(&["red:0123456789abcdef", "*:0123456789abcdef"]).validate().is_ok());
        for keys in
            [&["hush"][..], &["red:hush"], &["r/d:hush-hush-hush-hush"], &["x:hush-hush-hush-hush"; 1001]]
        {
            let (setting, reason) = config(keys).validate().unwrap_err();
            assert_eq!(setting, "streams.keys");
            assert!(!reason.contains("hush"), "{reason}");
        }
    }
}
