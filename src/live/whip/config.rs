//! The settings of WHIP and WHEP.

use serde::{Deserialize, Serialize};

/// Who publishes over WHIP and plays over WHEP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The most publishers at a time.
    pub max_publishers: usize,
    /// The most players at a time.
    pub max_players: usize,
    /// How long a client may take until its media path is up, in seconds: then it is gone, or was never serious.
    pub connect_secs: u64,
}

/// The range of [`Config::connect_secs`].
const CONNECT_SECS: std::ops::RangeInclusive<u64> = 1..=300;

impl Default for Config {
    fn default() -> Self {
        Self { max_publishers: 200, max_players: 2000, connect_secs: 30 }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// The setting that makes no sense, and why.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        for (setting, value) in
            [("whip.max_publishers", self.max_publishers), ("whip.max_players", self.max_players)]
        {
            if value == 0 {
                return Err((setting, "0 would let nobody in".into()));
            }
        }
        if !CONNECT_SECS.contains(&self.connect_secs) {
            let (least, most) = (CONNECT_SECS.start(), CONNECT_SECS.end());
            return Err(("whip.connect_secs", format!("not in the range {least} to {most}")));
        }
        Ok(())
    }
}
