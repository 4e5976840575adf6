//! One DTLS association with a fresh certificate, and the SRTP contexts that come out of it (RFC 5764).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::BytesMut;
use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use rtc_srtp::config::{Config as SrtpConfig, LABEL_EXTRACTOR_DTLS_SRTP};
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;
use serde_json::{Value, json};

/// Which side of the handshake a client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// What Chromium offers, in its order.
pub(crate) const BROWSER_PROFILES: [SrtpProtectionProfile; 3] = [
    SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
    SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
    SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
];

/// Keys for both directions.
pub(crate) struct Srtp {
    pub(crate) outbound: Context,
    pub(crate) inbound: Context,
    pub(crate) profile: SrtpProtectionProfile,
}

/// A certificate, and the fingerprint that the other side is told.
#[derive(Clone)]
pub(crate) struct Identity {
    certificate: Certificate,
    pub(crate) fingerprint: String,
}

impl Identity {
    pub(crate) fn new() -> Result<Self> {
        let crypto = rtc_crypto::default_provider().map_err(|error| anyhow!("{error}"))?;
        let certificate = Certificate::generate_self_signed(vec!["client".to_owned()], crypto.crypto())?;
        let fingerprint = fingerprint(certificate.certificate.first().context("a certificate")?);
        Ok(Self { certificate, fingerprint })
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.fingerprint)
    }
}

/// One association.
pub(crate) struct Dtls {
    endpoint: Endpoint,
    config: Arc<HandshakeConfig>,
    role: Role,
    remote: SocketAddr,
    crypto: Arc<dyn RTCCryptoProvider>,
    fingerprint: String,
    received: Vec<BytesMut>,
}

/// What a datagram brought about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    None,
    Connected,
    Closed,
}

impl Dtls {
    pub(crate) fn new(
        role: Role,
        profiles: &[SrtpProtectionProfile],
        local: SocketAddr,
        remote: SocketAddr,
        crypto: Arc<dyn RTCCryptoProvider>,
    ) -> Result<Self> {
        Self::of(Identity::new()?, role, profiles, (local, remote), crypto)
    }

    /// With a certificate that was told before.
    pub(crate) fn of(
        Identity { certificate, fingerprint }: Identity,
        role: Role,
        profiles: &[SrtpProtectionProfile],
        (local, remote): (SocketAddr, SocketAddr),
        crypto: Arc<dyn RTCCryptoProvider>,
    ) -> Result<Self> {
        let config = ConfigBuilder::default()
            .with_crypto_provider(Arc::clone(&crypto))
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(profiles.to_vec())
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .with_insecure_skip_verify(true)
            .build(role == Role::Client, Some(remote))?;
        let config = Arc::new(config);
        let server = (role == Role::Server).then(|| Arc::clone(&config));
        let endpoint = Endpoint::new(local, TransportProtocol::UDP, server);
        Ok(Self { endpoint, config, role, remote, crypto, fingerprint, received: Vec::new() })
    }

    /// The client's `dtlsParameters`.
    pub(crate) fn parameters(&self) -> Value {
        let role = match self.role {
            Role::Client => "client",
            Role::Server => "server",
        };
        json!({"role": role, "fingerprints": [{"algorithm": "sha-256", "value": self.fingerprint}]})
    }

    /// Sends the first flight, if this side is the one to do so.
    pub(crate) fn start(&mut self, now: Instant) -> Result<()> {
        if self.role == Role::Client {
            self.endpoint.connect(now, self.remote, Arc::clone(&self.config), None)?;
        }
        Ok(())
    }

    pub(crate) fn handle(&mut self, now: Instant, datagram: &[u8]) -> Result<Progress> {
        let events = self.endpoint.read(now, self.remote, None, BytesMut::from(datagram))?;
        let mut progress = Progress::None;
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => progress = Progress::Connected,
                EndpointEvent::ApplicationData(data) => self.received.push(data),
                EndpointEvent::PeerClosed => progress = Progress::Closed,
                _ => {}
            }
        }
        Ok(progress)
    }

    /// What came through the association since the last call.
    pub(crate) fn take_received(&mut self) -> Vec<BytesMut> {
        std::mem::take(&mut self.received)
    }

    /// Sends something through the association.
    pub(crate) fn write(&mut self, now: Instant, data: &[u8]) -> Result<()> {
        Ok(self.endpoint.write(now, self.remote, data)?)
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.endpoint.poll_transmit().map(|transmit| transmit.message)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout(&self.remote)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<()> {
        if self.poll_timeout().is_some() {
            self.endpoint.handle_timeout(self.remote, now)?;
        }
        Ok(())
    }

    /// Queues a close_notify.
    pub(crate) fn close(&mut self, now: Instant) -> Result<()> {
        self.endpoint.close(now)?;
        Ok(())
    }

    /// The SRTP contexts of a completed handshake with the owner of the certificate `expected` (hexadecimal SHA-256).
    pub(crate) fn srtp(&self, expected: &str) -> Result<Srtp> {
        let state = self.endpoint.get_connection_state(self.remote).context("an association")?;
        let certificate = state.peer_certificates.first().context("the server's certificate")?;
        let seen = fingerprint(certificate);
        ensure!(seen.eq_ignore_ascii_case(expected), "certificate {seen}, signalled {expected}");
        let profile = state.srtp_protection_profile();
        let mut config = SrtpConfig { profile: srtp_profile(profile)?, ..SrtpConfig::default() };
        let length = config.keying_material_len();
        let material = state.export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], length)?;
        config.set_session_keys_from_keying_material(material.as_ref(), self.role == Role::Client)?;
        let keys = &config.keys;
        let context = |key: &[u8], salt: &[u8]| {
            Context::new(key, salt, config.profile, None, None, self.crypto.crypto())
                .map_err(|error| anyhow!("SRTP keys: {error}"))
        };
        Ok(Srtp {
            outbound: context(&keys.local_master_key, &keys.local_master_salt)?,
            inbound: context(&keys.remote_master_key, &keys.remote_master_salt)?,
            profile,
        })
    }
}

fn srtp_profile(profile: SrtpProtectionProfile) -> Result<ProtectionProfile> {
    Ok(match profile {
        SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm => ProtectionProfile::AeadAes256Gcm,
        other => bail!("unexpected SRTP profile {other:?}"),
    })
}

fn fingerprint(certificate: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    let pairs: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}
