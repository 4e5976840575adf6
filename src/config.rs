//! All settings of the server, gathered once: file, then environment, then command line, each over the one before.
//!
//! Every module owns the settings of what it does; this module only collects them, checks them once and prints the
//! effective values. Nothing reads a setting anywhere else, and nothing reads one later.

mod cli;
mod env;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::{egress, http, live, signaling, worker};

pub use cli::{Cli, Command, Flags};
pub use env::{ENV_PREFIX, unknown_names};

/// The largest configuration file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The environment variable that names the configuration file where `--config` is not given.
pub const CONFIG_FILE_ENV: &str = "WEIR_CONFIG";

/// The settings of one server. The defaults are in `weir.example.toml` too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where files are kept.
    pub data_dir: PathBuf,
    /// STUN and TURN servers that clients are told of.
    pub ice_servers: Vec<live::ice_servers::IceServerConfig>,
    /// What is logged, as a `tracing` filter: `info`, or `info,weir::live=debug`.
    pub log: String,
    /// The web server.
    pub http: http::Config,
    /// The same over TLS.
    pub https: http::tls::Config,
    /// WebRTC media.
    pub rtc: worker::Config,
    /// Socket.IO.
    pub signaling: signaling::Config,
    /// How much one room and one peer may hold.
    pub live: live::Config,
    /// Programs that publish and receive without a browser.
    pub broadcasters: live::broadcasters::Config,
    /// Who may publish which stream.
    pub streams: live::keys::Config,
    /// WHIP and WHEP.
    pub whip: live::whip::Config,
    /// HLS.
    pub hls: egress::Config,
    /// Who may watch over HLS.
    pub access: live::access::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data"),
            ice_servers: Vec::new(),
            log: "info,engineioxide=warn,rtc_dtls=error,socketioxide=warn".to_owned(),
            http: http::Config::default(),
            https: http::tls::Config::default(),
            rtc: worker::Config::default(),
            signaling: signaling::Config::default(),
            live: live::Config::default(),
            broadcasters: live::broadcasters::Config::default(),
            streams: live::keys::Config::default(),
            whip: live::whip::Config::default(),
            hls: egress::Config::default(),
            access: live::access::Config::default(),
        }
    }
}

/// Why the settings can't be used. The text names the setting and where it came from.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("the configuration file {} can't be read: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The file is no TOML, or holds an unknown setting or a value of the wrong type.
    #[error("the configuration file {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What and where.
        reason: String,
    },
    /// An environment variable holds what its setting can't take.
    #[error("the environment variable {name}: {reason}")]
    Env {
        /// The variable.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A value makes no sense.
    #[error("{setting}: {reason}")]
    Value {
        /// The setting, as in `rtc.workers`.
        setting: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl Config {
    /// Gathers the settings. `env` looks an environment variable up.
    ///
    /// # Errors
    /// A file that can't be read, a setting that does not exist, or a value that does not fit.
    pub fn load(flags: &Flags, env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        // Empty is unset: that is what a compose file makes of a variable that nobody set.
        let env = |name: &str| env(name).filter(|text| !text.is_empty());
        let file = flags.config.clone().or_else(|| env(CONFIG_FILE_ENV).map(PathBuf::from));
        let mut values = file.as_deref().map_or_else(|| Ok(Table::new()), read_file)?;
        env::overlay(&mut values, &Self::default().to_table(), env)?;
        let mut config: Self =
            from_table(values).map_err(|reason| ConfigError::Value { setting: "configuration", reason })?;
        flags.apply(&mut config);
        config.validate()?;
        Ok(config)
    }

    /// The effective values as a TOML file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    fn to_table(&self) -> Table {
        Table::try_from(self).unwrap_or_default()
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let fail = |setting, reason: String| Err(ConfigError::Value { setting, reason });
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.log) {
            return fail("log", format!("{:?} is no log filter: {error}", self.log));
        }
        if self.data_dir.as_os_str().is_empty() {
            return fail("data_dir", "may not be empty".into());
        }
        live::ice_servers::validate(&self.ice_servers).or_else(|(setting, reason)| fail(setting, reason))?;
        validate_rtc(&self.rtc)?;
        validate_hls(&self.hls)?;
        self.http.validate().or_else(|(setting, reason)| fail(setting, reason))?;
        self.access.validate().or_else(|(setting, reason)| fail(setting, reason))?;
        self.https.validate().or_else(|(setting, reason)| fail(setting, reason))?;
        self.signaling.validate().or_else(|(setting, reason)| fail(setting, reason))?;
        self.broadcasters.validate().or_else(|(setting, reason)| fail(setting, reason))?;
        self.streams.validate().or_else(|(setting, reason)| fail(setting, reason))?;
        self.whip.validate().or_else(|(setting, reason)| fail(setting, reason))?;
        self.live.validate().or_else(|(setting, reason)| fail(setting, reason))
    }
}

/// The most worker threads.
const MAX_WORKERS: usize = 64;
/// The longest consent timeout, in seconds: a browser that says nothing for longer is gone for sure.
const MAX_CONSENT_TIMEOUT_SECS: u64 = 300;
/// The most announced addresses: each is an ICE candidate that every browser has to try.
const MAX_ANNOUNCED: usize = 16;

fn validate_rtc(rtc: &worker::Config) -> Result<(), ConfigError> {
    let fail = |setting, reason: String| Err(ConfigError::Value { setting, reason });
    if rtc.workers == 0 || rtc.workers > MAX_WORKERS {
        return fail("rtc.workers", format!("{} is not in the range 1 to {MAX_WORKERS}", rtc.workers));
    }
    if !(1..=worker::MAX_LISTEN).contains(&rtc.listen.len()) {
        return fail("rtc.listen", format!("has to hold 1 to {} addresses", worker::MAX_LISTEN));
    }
    for (index, listen) in rtc.listen.iter().enumerate() {
        let last_port = usize::from(listen.port()) + rtc.workers - 1;
        if last_port > usize::from(u16::MAX) {
            return fail("rtc.listen", format!("{} workers need the ports up to {last_port}", rtc.workers));
        }
        let overlaps = |other: &&SocketAddr| {
            listen.port() != 0
                && other.ip() == listen.ip()
                && usize::from(other.port().abs_diff(listen.port())) < rtc.workers
        };
        if let Some(other) = rtc.listen.iter().skip(index + 1).find(overlaps) {
            return fail("rtc.listen", format!("{listen} and {other} need the same port"));
        }
    }
    if !(1..=MAX_CONSENT_TIMEOUT_SECS).contains(&rtc.ice_consent_timeout_secs) {
        let given = rtc.ice_consent_timeout_secs;
        let reason = format!("{given} is not in the range 1 to {MAX_CONSENT_TIMEOUT_SECS}");
        return fail("rtc.ice_consent_timeout_secs", reason);
    }
    if rtc.announce.len() > MAX_ANNOUNCED {
        return fail("rtc.announce", format!("at most {MAX_ANNOUNCED} addresses can be announced"));
    }
    if let Some(bad) = rtc.announce.iter().find(|name| name.is_empty() || name.contains(char::is_whitespace))
    {
        return fail("rtc.announce", format!("{bad:?} is neither an IP address nor a host name"));
    }
    Ok(())
}

/// The most segments in a playlist or kept behind it: at 2 s each, more than half an hour.
const MAX_SEGMENTS: usize = 1000;
/// How far back players can go at most, in seconds: half a day.
const MAX_DVR_SECS: u64 = 12 * 3600;
/// The longest that an ended peer's files stay, in seconds.
const MAX_RETAIN_SECS: u64 = 3600;
/// The shortest time after which a stream that is made on demand may rest, in seconds: longer than any request waits.
const MIN_IDLE_SECS: u64 = 10;
/// Bit rates of transcoded video that a picture can be recognised at, in kbit/s.
const TRANSCODE_KBPS: std::ops::RangeInclusive<u32> = 100..=50_000;

/// Lengths of parts: shorter ones are not worth a request, longer ones no low latency, in milliseconds.
const PART_MS: std::ops::RangeInclusive<u64> = 64..=1000;

fn validate_hls(hls: &egress::Config) -> Result<(), ConfigError> {
    let fail = |setting, reason: String| Err(ConfigError::Value { setting, reason });
    if !PART_MS.contains(&hls.part_ms) {
        return fail("hls.part_ms", "not in the range 64 to 1000".into());
    }
    if !(1..=MAX_SEGMENTS).contains(&hls.window_segments) {
        return fail("hls.window_segments", format!("not in the range 1 to {MAX_SEGMENTS}"));
    }
    if hls.grace_segments > MAX_SEGMENTS {
        return fail("hls.grace_segments", format!("not in the range 0 to {MAX_SEGMENTS}"));
    }
    if hls.dvr_secs > MAX_DVR_SECS {
        return fail("hls.dvr_secs", format!("not in the range 0 to {MAX_DVR_SECS}"));
    }
    if hls.dvr_secs > 0 && hls.write_to_disk {
        let reason = "what hls.write_to_disk writes is the window without DVR: one of the two has to be off";
        return fail("hls.dvr_secs", reason.into());
    }
    if hls.start == egress::Start::OnDemand && (hls.dvr_secs > 0 || hls.write_to_disk) {
        let reason =
            "what hls.dvr_secs or hls.write_to_disk keep has to be made always: they don't go with on-demand";
        return fail("hls.start", reason.into());
    }
    if hls.idle_secs != 0 && !(MIN_IDLE_SECS..=MAX_RETAIN_SECS).contains(&hls.idle_secs) {
        return fail(
            "hls.idle_secs",
            format!("neither 0 nor in the range {MIN_IDLE_SECS} to {MAX_RETAIN_SECS}"),
        );
    }
    if hls.retain_secs > MAX_RETAIN_SECS {
        return fail("hls.retain_secs", format!("not in the range 0 to {MAX_RETAIN_SECS}"));
    }
    if hls.away_secs > MAX_RETAIN_SECS {
        return fail("hls.away_secs", format!("not in the range 0 to {MAX_RETAIN_SECS}"));
    }
    if !TRANSCODE_KBPS.contains(&hls.transcode_kbps) {
        return fail("hls.transcode_kbps", "not in the range 100 to 50000".into());
    }
    egress::check_ladder(&hls.ladder)
        .map_err(|reason| ConfigError::Value { setting: "hls.ladder", reason })?;
    Ok(())
}

fn read_file(path: &Path) -> Result<Table, ConfigError> {
    let unreadable = |reason: String| ConfigError::Read { path: path.to_owned(), reason };
    let size = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if size > MAX_FILE_BYTES {
        return Err(unreadable(format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    let wrong = |error: toml::de::Error| {
        let reason = format!("{}{}", place(&text, error.span()), error.message());
        ConfigError::File { path: path.to_owned(), reason }
    };
    // Read as settings first: those errors tell the line.
    toml::from_str::<Config>(&text).map_err(wrong)?;
    toml::from_str(&text).map_err(wrong)
}

/// Names a line and the setting in it. Its value is left out: it may be a secret.
fn place(text: &str, span: Option<std::ops::Range<usize>>) -> String {
    let Some(before) = span.and_then(|span| text.get(..span.start)) else { return String::new() };
    let number = before.matches('\n').count();
    let setting = text.lines().nth(number).and_then(|line| line.split_once('='));
    let setting = setting.map_or("", |(setting, _)| setting.trim());
    format!("line {}: {setting}: ", number + 1)
}

/// The settings that `table` holds, over the defaults. An error names the setting.
fn from_table(table: Table) -> Result<Config, String> {
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.into_inner().message().to_owned();
        if path == "." { reason } else { format!("{path}: {reason}") }
    })
}

#[cfg(test)]
mod tests;
