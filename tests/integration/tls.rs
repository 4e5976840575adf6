//! The web server over TLS: HTTP/2 and HTTP/1.1 on one port, certificates that change, and strangers who don't shake
//! hands.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, ClientConfig, DigitallySignedStruct, SignatureScheme};

use crate::support::PATIENCE;
use crate::support::server::Server;

/// Takes every certificate and remembers the last one, as somebody does who clicks the warning away.
#[derive(Debug)]
struct Trusting {
    provider: CryptoProvider,
    shown: Mutex<Vec<u8>>,
}

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = certificate.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A connection that offers `alpn`, and the certificate that it was shown.
async fn shake_hands(server: &Server, alpn: &[&str]) -> Result<(TlsStream<TcpStream>, Vec<u8>)> {
    let trusting =
        Arc::new(Trusting { provider: aws_lc_rs::default_provider(), shown: Mutex::new(Vec::new()) });
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&trusting) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(server.https).await?;
    let name = ServerName::try_from("localhost")?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let shown = trusting.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok((stream, shown))
}

async fn server_with_tls() -> Result<Server> {
    Server::start_with(|config| config.https.listen = vec![([127, 0, 0, 1], 0).into()]).await
}

/// The status and the body of one GET request over HTTP/2.
async fn get_http2(
    requests: &mut h2::client::SendRequest<bytes::Bytes>,
    path: &str,
) -> Result<(u16, Vec<u8>)> {
    let request = axum::http::Request::get(format!("https://localhost{path}")).body(())?;
    let (response, _) = requests.send_request(request, true)?;
    let response = response.await?;
    let status = response.status().as_u16();
    let mut stream = response.into_body();
    let mut body = Vec::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk?;
        stream.flow_control().release_capacity(chunk.len())?;
        body.extend_from_slice(&chunk);
    }
    Ok((status, body))
}

#[tokio::test]
async fn the_same_is_served_over_http2_and_over_http1() -> Result<()> {
    let server = server_with_tls().await?;

    let (stream, _) = shake_hands(&server, &["h2", "http/1.1"]).await?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut requests, connection) = h2::client::handshake(stream).await?;
    let connection = tokio::spawn(connection);
    let (status, body) = get_http2(&mut requests, "/health").await?;
    assert_eq!(status, 200);
    let health: serde_json::Value = serde_json::from_slice(&body)?;
    assert_eq!(health["status"], "ok");
    assert_eq!(get_http2(&mut requests, "/nothing").await?.0, 404);

    let (mut stream, _) = shake_hands(&server, &["http/1.1"]).await?;
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    assert!(answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(&body));

    // A server that goes says so (GOAWAY) instead of cutting the connection.
    server.shutdown().await;
    timeout(PATIENCE, connection).await???;
    Ok(())
}

#[tokio::test]
async fn who_does_not_shake_hands_is_counted_and_costs_nobody_else_anything() -> Result<()> {
    let server = server_with_tls().await?;
    let silent = TcpStream::connect(server.https).await?;
    let nonsense: [&[u8]; 3] =
        [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", &[0xFF; 600], b"\x16\x03\x01\xFF\xFF\x01\x00"];
    for begin in nonsense {
        let mut stream = TcpStream::connect(server.https).await?;
        stream.write_all(begin).await?;
        stream.shutdown().await?;
        let mut answer = Vec::new();
        // What comes back is an alert at most, and the end.
        drop(timeout(PATIENCE, stream.read_to_end(&mut answer)).await?);
        assert!(answer.len() < 16, "{answer:?}");
    }
    let (stream, _) = shake_hands(&server, &["h2"]).await?;
    let (mut requests, connection) = h2::client::handshake(stream).await?;
    let connection = tokio::spawn(connection);
    assert_eq!(get_http2(&mut requests, "/health").await?.0, 200);
    server.stats(|stats| stats.get("/http/failedHandshakes") == nonsense.len() as u64).await?;
    drop((silent, connection));
    Ok(())
}

/// Writes another certificate into the two files and gives what clients will be shown.
fn write_certificate(certificate: &Path, key: &Path) -> Result<Vec<u8>> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()])?;
    std::fs::write(certificate, cert.pem())?;
    std::fs::write(key, signing_key.serialize_pem())?;
    Ok(cert.der().to_vec())
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_and_a_broken_one_is_not() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (certificate, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    let first = write_certificate(&certificate, &key)?;
    let server = Server::start_with(|config| {
        config.https.listen = vec![([127, 0, 0, 1], 0).into()];
        config.https.certificate.clone_from(&certificate);
        config.https.key.clone_from(&key);
    })
    .await?;
    let shown = async || Ok::<_, anyhow::Error>(shake_hands(&server, &["h2"]).await?.1);
    let reload = server.certificate_reload().context("the certificate is from files")?;
    let old = shake_hands(&server, &["h2"]).await?;
    assert_eq!(old.1, first);

    let second = write_certificate(&certificate, &key)?;
    reload.notify_one();
    let changed = async {
        while shown().await? != second {
            tokio::task::yield_now().await;
        }
        Ok::<_, anyhow::Error>(())
    };
    timeout(PATIENCE, changed).await??;
    // Who was there before notices nothing.
    let (mut requests, connection) = h2::client::handshake(old.0).await?;
    let connection = tokio::spawn(connection);
    assert_eq!(get_http2(&mut requests, "/health").await?.0, 200);
    connection.abort();

    for broken in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&certificate, broken)?;
        reload.notify_one();
        assert_eq!(shown().await?, second);
    }
    std::fs::remove_file(&certificate)?;
    reload.notify_one();
    assert_eq!(shown().await?, second);
    // And the next good one is taken: nothing stopped looking.
    let third = write_certificate(&certificate, &key)?;
    reload.notify_one();
    let changed = async {
        loop {
            let seen = shown().await?;
            if seen == third {
                return Ok::<_, anyhow::Error>(());
            }
            anyhow::ensure!(seen == second, "a broken certificate was shown");
        }
    };
    timeout(PATIENCE, changed).await?
}

#[tokio::test]
async fn files_that_don_t_go_together_keep_the_server_from_starting() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let [certificate, key, other] =
        ["chain.pem", "key.pem", "other.pem"].map(|name| folder.path().join(name));
    write_certificate(&certificate, &other)?;
    write_certificate(&other, &key)?;
    let start = async |certificate: &Path, key: &Path| {
        let started = Server::start_with(|config| {
            config.https.listen = vec![([127, 0, 0, 1], 0).into()];
            config.https.certificate = certificate.to_owned();
            config.https.key = key.to_owned();
        });
        started.await.err().map_or_else(|| "it started".to_owned(), |error| format!("{error:#}"))
    };
    let error = start(&certificate, &key).await;
    assert!(error.contains("don't go together") && error.contains("chain.pem"), "{error}");
    let error = start(&folder.path().join("missing.pem"), &key).await;
    assert!(error.contains("missing.pem"), "{error}");
    Ok(())
}

#[tokio::test]
async fn an_address_in_use_is_an_error_that_names_it() -> Result<()> {
    let server = server_with_tls().await?;
    let second = Server::start_with(|config| config.https.listen = vec![server.https]).await;
    let error = format!("{:#}", second.err().context("it started")?);
    assert!(error.contains(&server.https.to_string()), "{error}");
    Ok(())
}
