//! A text that is never printed.

use std::fmt;

use aws_lc_rs::constant_time;
use serde::{Deserialize, Serialize, Serializer};

/// What is printed instead.
const HIDDEN: &str = "(hidden)";

/// A text that is never printed; the default is that there is none.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How long it is, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether someone else knows it; how long the answer takes tells nothing but its length. Nobody knows an empty one.
    #[must_use]
    pub fn is(&self, claimed: &str) -> bool {
        let (own, claimed) = (self.0.as_bytes(), claimed.as_bytes());
        !own.is_empty() && constant_time::verify_slices_are_equal(own, claimed).is_ok()
    }

    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_empty() { "" } else { HIDDEN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_compared_and_never_shown() {
        let secret: Secret =
            toml::from_str::<toml::Table>("s = 'hush'").unwrap()["s"].clone().try_into().unwrap();
        assert!(secret.is("hush"));
        assert!(!secret.is("hus") && !secret.is("hush!") && !secret.is(""));
        assert!(!Secret::default().is(""), "what is not set opens nothing");
        let shown = format!("{secret:?} {}", serde_json::to_string(&secret).unwrap());
        assert!(!shown.contains("hush"), "{shown}");
    }
}
