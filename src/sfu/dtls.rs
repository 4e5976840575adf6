//! DTLS of one transport over `rtc-dtls`: the role that signalling decided, the peer's certificate checked against
//! the signalled fingerprint, and the SRTP suite chosen before the handshake starts.
//!
//! As a server `rtc-dtls` takes the client's order of SRTP profiles, and browsers put the slow one first. The first
//! ClientHello is therefore held back until its `use_srtp` list is known, so that AEAD_AES_128_GCM wins whenever it
//! is offered.

mod client_hello;
mod flight;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::digest;
use bytes::BytesMut;
use mediasoup_types::data_structures::{DtlsFingerprint, DtlsRole};
use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use rtc_shared::error::Error;

use crate::sfu::srtp::Suite;
use client_hello::ClientHelloReader;
use flight::Flight;

/// Datagrams that are kept while the transport isn't connected or the ClientHello isn't complete.
const MAX_HELD_DATAGRAMS: usize = 8;
/// The largest DTLS datagram that is looked at, in bytes.
const MAX_DATAGRAM_LEN: usize = 2048;
/// The exporter label of DTLS-SRTP (RFC 5764 section 4.2).
const EXPORTER_LABEL: &str = "EXTRACTOR-dtls_srtp";

/// The association's one name inside `rtc-dtls`, whatever path the datagrams take.
fn association() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}

/// Weir's certificate and the handshake configurations made from it, shared by all transports of a worker.
pub struct Credentials {
    provider: Arc<dyn RTCCryptoProvider>,
    fingerprint: DtlsFingerprint,
    server_gcm: Arc<HandshakeConfig>,
    server_aes_cm: Arc<HandshakeConfig>,
    client: Arc<HandshakeConfig>,
}

impl Credentials {
    /// Makes a fresh self-signed certificate.
    ///
    /// # Errors
    /// Fails if the crypto library can't make one.
    pub fn generate() -> Result<Self, Error> {
        let provider = rtc_crypto::default_provider().map_err(|error| Error::Crypto(error.to_string()))?;
        let certificate = Certificate::generate_self_signed(vec!["weir".to_owned()], provider.crypto())?;
        let der = certificate.certificate.first().ok_or(Error::ErrNoCertificates)?;
        let mut value = [0; 32];
        value.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        let gcm = SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm;
        let aes_cm = SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80;
        let build = |is_client: bool, profiles: &[SrtpProtectionProfile]| {
            ConfigBuilder::default()
                .with_crypto_provider(provider.clone())
                .with_certificates(vec![certificate.clone()])
                .with_srtp_protection_profiles(profiles.to_vec())
                .with_client_auth(ClientAuthType::RequireAnyClientCert)
                .with_server_name("weir".to_owned())
                .with_extended_master_secret(ExtendedMasterSecretType::Require)
                // Certificates are self-signed: `Dtls` compares the fingerprint instead.
                .with_insecure_skip_verify(true)
                .build(is_client, None)
                .map(Arc::new)
        };
        Ok(Self {
            fingerprint: DtlsFingerprint::Sha256 { value },
            server_gcm: build(false, &[gcm])?,
            server_aes_cm: build(false, &[aes_cm])?,
            client: build(true, &[gcm, aes_cm])?,
            provider,
        })
    }

    /// The certificate's fingerprint, for signalling.
    #[must_use]
    pub fn fingerprint(&self) -> DtlsFingerprint {
        self.fingerprint
    }

    /// The crypto library in use.
    #[must_use]
    pub fn provider(&self) -> &Arc<dyn RTCCryptoProvider> {
        &self.provider
    }
}

/// What the DTLS association came to.
pub enum DtlsEvent {
    /// The handshake is done and the certificate is the signalled one.
    Connected {
        /// The negotiated SRTP suite.
        suite: Suite,
        /// The exported keys of both directions.
        keying_material: Vec<u8>,
        /// Whether weir was the DTLS client.
        is_client: bool,
    },
    /// The handshake failed.
    Failed(String),
    /// The peer closed the association.
    Closed,
}

enum State {
    /// `connect` has not been called: what arrives is held.
    New,
    /// Server, until the ClientHello is complete.
    AwaitingClientHello(ClientHelloReader),
    /// Client, until there is a path to send on.
    AwaitingPath,
    /// The handshake runs or is done.
    Running {
        endpoint: Box<Endpoint>,
        is_client: bool,
        /// What waits for the peer's answer.
        flight: Flight,
    },
    Ended,
}

fn running(endpoint: Endpoint, is_client: bool) -> State {
    State::Running { endpoint: Box::new(endpoint), is_client, flight: Flight::default() }
}

/// One transport's DTLS association.
pub struct Dtls {
    state: State,
    held: VecDeque<BytesMut>,
    fingerprints: Vec<DtlsFingerprint>,
    received: Vec<BytesMut>,
}

impl Default for Dtls {
    fn default() -> Self {
        Self { state: State::New, held: VecDeque::new(), fingerprints: Vec::new(), received: Vec::new() }
    }
}

impl Dtls {
    /// Whether `connect` has been called.
    #[must_use]
    pub fn is_connecting(&self) -> bool {
        !matches!(self.state, State::New)
    }

    /// Takes the peer's role and fingerprints. A peer that leaves the role open gets the client's part played by
    /// weir, as the controlled ICE agent plays it (mediasoup's rule for `auto`).
    pub fn connect(&mut self, remote_role: DtlsRole, fingerprints: Vec<DtlsFingerprint>) {
        self.fingerprints = fingerprints;
        self.state = match remote_role {
            DtlsRole::Client => State::AwaitingClientHello(ClientHelloReader::default()),
            DtlsRole::Server | DtlsRole::Auto => State::AwaitingPath,
        };
    }

    /// Goes on with what was held back, now that `connect` was called or a path was found.
    pub fn advance(&mut self, now: Instant, credentials: &Credentials) -> Option<DtlsEvent> {
        if matches!(self.state, State::AwaitingPath) {
            let mut endpoint = Endpoint::new(association(), TransportProtocol::UDP, None);
            if let Err(error) = endpoint.connect(now, association(), credentials.client.clone(), None) {
                return Some(self.fail(error.to_string()));
            }
            self.state = running(endpoint, true);
        }
        let held = std::mem::take(&mut self.held);
        held.into_iter()
            .fold(None, |event, datagram| event.or(self.handle_datagram(now, credentials, &datagram)))
    }

    /// Handles one datagram that is DTLS by its first byte (RFC 7983).
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        credentials: &Credentials,
        datagram: &[u8],
    ) -> Option<DtlsEvent> {
        if datagram.len() > MAX_DATAGRAM_LEN {
            return None;
        }
        match &mut self.state {
            State::New | State::AwaitingPath => {
                self.hold(datagram);
                None
            }
            State::AwaitingClientHello(reader) => {
                let offered = reader.read(datagram);
                self.hold(datagram);
                let offers_gcm = offered?.contains(&(SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm as u16));
                let config = if offers_gcm { &credentials.server_gcm } else { &credentials.server_aes_cm };
                let endpoint = Endpoint::new(association(), TransportProtocol::UDP, Some(config.clone()));
                self.state = running(endpoint, false);
                self.advance(now, credentials)
            }
            State::Running { endpoint, is_client, flight } => {
                let is_client = *is_client;
                flight.end();
                // The parser of a stranger's handshake is not ours: a panic in it ends this association alone.
                let read = catch_unwind(AssertUnwindSafe(|| {
                    endpoint.read(now, association(), None, BytesMut::from(datagram))
                }));
                match read {
                    Ok(Ok(events)) => events
                        .into_iter()
                        .fold(None, |first, event| first.or(self.translate(event, is_client))),
                    Ok(Err(Error::ErrAlertFatalOrClose)) => {
                        Some(self.fail("the peer sent a fatal alert".into()))
                    }
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "DTLS record refused");
                        None
                    }
                    Err(_) => Some(self.fail("the handshake could not be parsed".into())),
                }
            }
            State::Ended => None,
        }
    }

    fn hold(&mut self, datagram: &[u8]) {
        if self.held.len() < MAX_HELD_DATAGRAMS {
            self.held.push_back(BytesMut::from(datagram));
        }
    }

    fn translate(&mut self, event: EndpointEvent, is_client: bool) -> Option<DtlsEvent> {
        match event {
            EndpointEvent::HandshakeComplete => {
                if let State::Running { flight, .. } = &mut self.state {
                    flight.finish();
                }
                Some(match self.connected(is_client) {
                    Ok(event) => event,
                    Err(reason) => self.fail(reason),
                })
            }
            EndpointEvent::PeerClosed => {
                self.state = State::Ended;
                Some(DtlsEvent::Closed)
            }
            EndpointEvent::ApplicationData(data) => {
                self.received.push(data);
                None
            }
            _ => None,
        }
    }

    fn connected(&self, is_client: bool) -> Result<DtlsEvent, String> {
        let State::Running { endpoint, .. } = &self.state else { return Err("not running".into()) };
        let state = endpoint.get_connection_state(association()).ok_or("no association")?;
        let certificate = state.peer_certificates.first().ok_or("the peer sent no certificate")?;
        if !self.fingerprints.iter().any(|fingerprint| matches(fingerprint, certificate)) {
            return Err("the peer's certificate does not match the signalled fingerprint".into());
        }
        let suite = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => Suite::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => Suite::AesCm128HmacSha1_80,
            _ => return Err("no common SRTP protection profile".into()),
        };
        let keying_material = state
            .export_keying_material(EXPORTER_LABEL, &[], suite.keying_material_len())
            .map_err(|error| error.to_string())?;
        Ok(DtlsEvent::Connected { suite, keying_material: keying_material.into_bytes(), is_client })
    }

    fn fail(&mut self, reason: String) -> DtlsEvent {
        self.state = State::Ended;
        DtlsEvent::Failed(reason)
    }

    /// What the peer sent through the association since the last call: records of one datagram at most. A peer whose
    /// certificate was not the signalled one is not heard.
    pub fn take_received(&mut self) -> Vec<BytesMut> {
        let received = std::mem::take(&mut self.received);
        if matches!(self.state, State::Running { .. }) { received } else { Vec::new() }
    }

    /// Sends something through the association; before it is up, nothing.
    pub fn write(&mut self, now: Instant, data: &[u8]) {
        let State::Running { endpoint, .. } = &mut self.state else { return };
        if let Err(error) = endpoint.write(now, association(), data) {
            tracing::debug!(%error, "application data was not sent");
        }
    }

    /// The next record to send.
    pub fn poll_transmit(&mut self) -> Option<BytesMut> {
        let State::Running { endpoint, flight, .. } = &mut self.state else { return None };
        match endpoint.poll_transmit() {
            Some(transmit) => Some(flight.send(transmit.now, transmit.message)),
            None => flight.next(),
        }
    }

    /// When a flight has to be sent again unless an answer comes.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Running { endpoint, flight, .. } if !flight.is_done() => {
                endpoint.poll_timeout(&association()).or(flight.repeat_at())
            }
            _ => None,
        }
    }

    /// Sends a flight again that is due.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<DtlsEvent> {
        let State::Running { endpoint, flight, .. } = &mut self.state else { return None };
        match endpoint.poll_timeout(&association()) {
            Some(due) if due <= now => {
                flight.end();
                endpoint.handle_timeout(association(), now).err().map(|error| self.fail(error.to_string()))
            }
            Some(_) => None,
            None => (!flight.repeat(now)).then(|| self.fail("the peer does not answer".into())),
        }
    }

    /// Says goodbye; the alert is the next thing to transmit.
    pub fn close(&mut self, now: Instant) {
        if let State::Running { endpoint, .. } = &mut self.state {
            endpoint.stop(now, association());
        }
    }
}

/// Whether a certificate has this fingerprint. SHA-1 and SHA-224 are too weak to authenticate anyone.
fn matches(fingerprint: &DtlsFingerprint, certificate: &[u8]) -> bool {
    let (algorithm, expected): (_, &[u8]) = match fingerprint {
        DtlsFingerprint::Sha256 { value } => (&digest::SHA256, value),
        DtlsFingerprint::Sha384 { value } => (&digest::SHA384, value),
        DtlsFingerprint::Sha512 { value } => (&digest::SHA512, value),
        _ => return false,
    };
    digest::digest(algorithm, certificate).as_ref() == expected
}

/// Whether [`Dtls::connect`] could verify a peer by this fingerprint.
#[must_use]
pub fn is_verifiable(fingerprint: &DtlsFingerprint) -> bool {
    !matches!(fingerprint, DtlsFingerprint::Sha1 { .. } | DtlsFingerprint::Sha224 { .. })
}

#[cfg(test)]
mod tests;
