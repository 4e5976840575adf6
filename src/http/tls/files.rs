//! A certificate in files that somebody renews: read again when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use tokio::sync::Notify;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::sign::CertifiedKey;
use tracing::{info, warn};

use super::{Config, Current, certified};

/// How often the files are looked at. Reading them finds every kind of change: other files under the same names, other
/// targets of the links that certbot makes, mounts that are replaced.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What was in the files, without keeping a second copy of the key.
type Seen = Vec<u8>;

/// The two files.
pub(super) struct Files {
    certificate: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
}

impl Files {
    pub(super) fn new(config: &Config, provider: &Arc<CryptoProvider>) -> Self {
        let (certificate, key) = (config.certificate.clone(), config.key.clone());
        Self { certificate, key, provider: Arc::clone(provider) }
    }

    /// What the files hold; the error names them.
    pub(super) async fn read(&self) -> Result<(CertifiedKey, Seen), String> {
        let (chain, key) = (read(&self.certificate).await?, read(&self.key).await?);
        let certified = certified(&chain, &key, &self.provider).map_err(|error| {
            format!("{} and {}: {error:#}", self.certificate.display(), self.key.display())
        })?;
        let mut seen = digest::Context::new(&digest::SHA256);
        seen.update(&chain);
        seen.update(&key);
        Ok((certified, seen.finish().as_ref().to_vec()))
    }

    /// Keeps `current` as the files are, until nobody can ask any more.
    pub(super) async fn follow(self, mut seen: Seen, current: Arc<Current>, asked: Arc<Notify>) {
        let mut complained = None;
        loop {
            let was_asked = tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => false,
                () = asked.notified() => true,
            };
            match self.read().await {
                Ok((_, now)) if now == seen && !was_asked => complained = None,
                Ok((key, now)) => {
                    current.set(key);
                    (seen, complained) = (now, None);
                    info!(certificate = %self.certificate.display(), "the certificate was read again");
                }
                // Once for each kind of failure: files are looked at for ever.
                Err(why) if was_asked || complained.as_ref() != Some(&why) => {
                    warn!("the certificate stays as it was: {why}");
                    complained = Some(why);
                }
                Err(_) => {}
            }
        }
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("{} can't be read: {error}", path.display());
    let size = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
    if size > MAX_FILE_BYTES {
        return Err(format!("{} is larger than {MAX_FILE_BYTES} bytes", path.display()));
    }
    tokio::fs::read(path).await.map_err(unreadable)
}
