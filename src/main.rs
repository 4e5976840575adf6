//! The `weir` binary: reads the settings, runs the server until a signal comes, and takes it down.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;
use weir::app::App;
use weir::config::{self, Cli, Command, Config};
use weir::live::access::Access;

/// Whatever is set: below this level the SCTP stack logs every packet, and in it what people write to each other.
const SCTP_LOG: &str = "dcsctp=error";
/// The exit code after a second signal: what a shell reports for a process that Ctrl-C killed.
const EXIT_INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let config = Config::load(&cli.flags, |name| std::env::var(name).ok())?;
    match cli.command.unwrap_or(Command::Serve) {
        Command::CheckConfig => {
            std::io::stdout().write_all(config.to_toml().as_bytes()).context("printing the settings")
        }
        Command::Token { peer, valid } => {
            let access =
                Access::new(&config.access).context("there is no secret: set `secrets` in [access]")?;
            let until = SystemTime::now().checked_add(valid).context("that is too long")?;
            let line = format!("{}\n", access.sign(&peer, until));
            std::io::stdout().write_all(line.as_bytes()).context("printing the token")
        }
        Command::Serve => serve(config),
    }
}

#[tokio::main]
async fn serve(config: Config) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&config.log)?.add_directive(SCTP_LOG.parse()?))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    for name in config::unknown_names(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())) {
        warn!("the environment variable {name} is no setting of weir");
    }
    let mut signals = Signals::new()?;
    let app = App::start(config).await?;
    let mut stdout = std::io::stdout();
    // A closed stdout is no reason not to serve.
    drop(stdout.write_all(app.greeting().as_bytes()).and_then(|()| stdout.flush()));
    if let Some(reload) = app.certificate_reload() {
        tokio::spawn(reload_on_hangup(signal(SignalKind::hangup())?, reload));
    }
    signals.next().await;
    info!("shutting down; a second signal ends it at once");
    tokio::spawn(async move {
        signals.next().await;
        std::process::exit(EXIT_INTERRUPTED);
    });
    app.shutdown().await;
    info!("down");
    Ok(())
}

/// Has the certificate read again whenever SIGHUP comes. Without certificate files SIGHUP ends the server as it ends
/// every program whose terminal is closed.
async fn reload_on_hangup(mut hangup: Signal, reload: Arc<Notify>) {
    while hangup.recv().await.is_some() {
        reload.notify_one();
    }
}

/// The signals that end the server.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals can't be received");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
