//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::Config;

/// A WebRTC SFU with HLS egress, in one binary.
#[derive(Debug, Parser)]
#[command(name = "weir", version, about)]
#[command(after_help = "Every setting of weir.example.toml is also an environment variable: \
                        `listen` of `[http]` is WEIR_HTTP_LISTEN.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings on the command line.
    #[command(flatten)]
    pub flags: Flags,
}

/// What the binary can do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the server (which is also what happens without a command)
    Serve,
    /// Print the effective settings as TOML and exit
    CheckConfig,
    /// Print a token that lets its bearer watch over HLS, signed with the first secret of `[access]`
    Token {
        /// The peer to watch; a `*` at the end stands for any rest
        #[arg(long, value_name = "ID", default_value = "*")]
        peer: String,
        /// How long a player may begin to watch, as in 90s, 2h or 7days
        #[arg(long = "for", value_name = "TIME", default_value = "2h", value_parser = humantime::parse_duration)]
        valid: Duration,
    },
}

/// Settings on the command line: they win over the environment and the file.
#[derive(Debug, Clone, Default, Args)]
pub struct Flags {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Serve HTTP and Socket.IO on this address
    #[arg(long, value_name = "ADDR", global = true)]
    pub http: Option<SocketAddr>,
    /// Serve the same with TLS and HTTP/2 on this address (can be repeated)
    #[arg(long, value_name = "ADDR", global = true, value_delimiter = ',')]
    pub https: Vec<SocketAddr>,
    /// Receive WebRTC media on this address, over UDP and TCP (can be repeated)
    #[arg(long, value_name = "ADDR", global = true, value_delimiter = ',')]
    pub rtc: Vec<SocketAddr>,
    /// Tell browsers to send media here instead of to this machine's own addresses (can be repeated)
    #[arg(long, value_name = "IP|HOST", global = true, value_delimiter = ',')]
    pub announce: Vec<String>,
    /// Keep files in this directory
    #[arg(long, value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,
}

impl Flags {
    /// Writes what was given over `config`.
    pub(super) fn apply(&self, config: &mut Config) {
        if let Some(listen) = self.http {
            config.http.listen = listen;
        }
        if !self.https.is_empty() {
            config.https.listen.clone_from(&self.https);
        }
        if !self.rtc.is_empty() {
            config.rtc.listen.clone_from(&self.rtc);
        }
        if !self.announce.is_empty() {
            config.rtc.announce.clone_from(&self.announce);
        }
        if let Some(data_dir) = &self.data_dir {
            config.data_dir.clone_from(data_dir);
        }
    }
}
