//! TLS for the web server: the certificate, from files that may change while the server runs or made for this machine,
//! and what is offered in the handshake.

mod files;
mod self_signed;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};

use files::Files;

/// The name of HTTP/2 in the handshake (RFC 9113 section 3.1).
pub(super) const ALPN_H2: &[u8] = b"h2";
/// The name of HTTP/1.1 in the handshake (RFC 7301 section 6).
const ALPN_HTTP11: &[u8] = b"http/1.1";
/// The most addresses to listen on.
const MAX_LISTEN: usize = 8;

/// Where the same is served over TLS, and whose certificate is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The TCP addresses; none if there is no TLS.
    pub listen: Vec<SocketAddr>,
    /// The certificate and those that lead to its root, as PEM. Empty for one that weir signs itself.
    pub certificate: PathBuf,
    /// The certificate's private key, as PEM.
    pub key: PathBuf,
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// The setting that makes no sense, and why.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        if self.listen.len() > MAX_LISTEN {
            return Err(("https.listen", format!("may hold {MAX_LISTEN} addresses")));
        }
        let half = self.certificate.as_os_str().is_empty() != self.key.as_os_str().is_empty();
        if half && !self.listen.is_empty() {
            return Err((
                "https.certificate",
                "certificate and key go together: one of them is missing".into(),
            ));
        }
        Ok(())
    }

    fn is_self_signed(&self) -> bool {
        self.certificate.as_os_str().is_empty()
    }
}

/// The certificate that clients are shown, which can change at any time.
pub struct Certificate {
    server_config: Arc<ServerConfig>,
    description: String,
    /// Asks for the files to be read again; none if there are none.
    reload: Option<Arc<Notify>>,
}

impl Certificate {
    /// Reads the certificate files and follows them from now on, or makes a certificate for `names` (host names and IP
    /// addresses) unless `data_dir` holds one. Has to be called inside a tokio runtime.
    ///
    /// # Errors
    /// Files that can't be read or don't belong together; the text names them.
    pub async fn load(config: &Config, data_dir: &Path, names: &[String]) -> anyhow::Result<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let (key, followed, description) = if config.is_self_signed() {
            let pem = self_signed::load_or_make(data_dir, names)?;
            let key = certified(&pem, &pem, &provider)?;
            let description = format!("self-signed certificate, SHA-256 {}", self_signed::fingerprint(&key));
            (key, None, description)
        } else {
            let files = Files::new(config, &provider);
            let (key, seen) = files.read().await.map_err(anyhow::Error::msg)?;
            (key, Some((files, seen)), format!("certificate {}", config.certificate.display()))
        };
        let current = Arc::new(Current { key: RwLock::new(Arc::new(key)) });
        let reload = followed.map(|(files, seen)| {
            let asked = Arc::new(Notify::new());
            tokio::spawn(files.follow(seen, Arc::clone(&current), Arc::clone(&asked)));
            asked
        });
        let server_config = Arc::new(server_config(provider, &current).context("TLS can't start")?);
        Ok(Self { server_config, description, reload })
    }

    /// Which certificate this is, for the operator.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Notified, it has the files read again at once: for an operator who says that they changed. None if the
    /// certificate is not from files.
    #[must_use]
    pub fn reload(&self) -> Option<Arc<Notify>> {
        self.reload.clone()
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.server_config))
    }
}

fn server_config(
    provider: Arc<CryptoProvider>,
    current: &Arc<Current>,
) -> Result<ServerConfig, rustls::Error> {
    let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(current) as _;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP11.to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(config)
}

/// The certificate of the next handshake.
#[derive(Debug)]
struct Current {
    key: RwLock<Arc<CertifiedKey>>,
}

impl Current {
    fn set(&self, key: CertifiedKey) {
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.key.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The chain and the key of two PEM texts, which have to belong together.
fn certified(chain: &[u8], key: &[u8], provider: &CryptoProvider) -> anyhow::Result<CertifiedKey> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .context("the certificate is no PEM")?;
    anyhow::ensure!(!chain.is_empty(), "there is no certificate in the certificate file");
    let key = PrivateKeyDer::from_pem_slice(key).context("the key is no PEM private key")?;
    CertifiedKey::from_der(chain, key, provider).context("certificate and key don't go together")
}
