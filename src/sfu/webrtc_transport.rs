//! What makes a transport a WebRTC one: ICE-lite finds the path, DTLS makes the SRTP keys.

use std::net::SocketAddr;
use std::time::Instant;

use mediasoup_types::data_structures::{
    DtlsParameters, DtlsRole, IceCandidate, IceCandidateTcpType, IceCandidateType, IceParameters, Protocol,
};

use super::{Config, Tuple, Worker, not_found, post};
use crate::ids::{RouterId, TransportId};
use crate::sfu::api::{
    ConnectTransportError, CreateTransportError, Event, NotFound, TransportCloseReason, WebRtcTransportInfo,
    WebRtcTransportOptions,
};
use crate::sfu::dtls::{self, Dtls, DtlsEvent};
use crate::sfu::ice::{self, Check, IceLite};
use crate::sfu::sctp::{Carrier, Sctp};
use crate::sfu::transport::Kind;
use crate::sfu::{reports, srtp};

/// The parts that only a WebRTC transport has.
pub struct WebRtc {
    /// Its ICE agent.
    pub ice: IceLite,
    /// Its DTLS association.
    pub dtls: Dtls,
}

impl WebRtc {
    /// When something has to be done: the handshake goes on, or consent ends.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.ice.consent_until(), self.dtls.poll_timeout()].into_iter().flatten().min()
    }
}

impl Worker {
    /// Makes a WebRTC transport in a router.
    ///
    /// # Errors
    /// Fails if there is no such router or the worker is full.
    pub fn create_webrtc_transport(
        &mut self,
        router: RouterId,
        options: &WebRtcTransportOptions,
    ) -> Result<WebRtcTransportInfo, CreateTransportError> {
        let ice = IceLite::new(self.config.ice_consent_timeout);
        let ufrag = ice.credentials().ufrag.clone();
        let ice_parameters = ice_parameters(&ice);
        let (key, id) =
            self.add_transport(router, Kind::WebRtc(Box::new(WebRtc { ice, dtls: Dtls::default() })))?;
        self.ufrags.insert(ufrag, key);
        if let Some(transport) = self.transports.get_mut(key) {
            transport.bandwidth.initial = options.initial_available_outgoing_bitrate;
            transport.data.sctp = options.enable_sctp.then(|| Sctp::new(self.config.ntp_at.0, Carrier::Dtls));
        }
        Ok(WebRtcTransportInfo {
            id,
            ice_parameters,
            ice_candidates: candidates(&self.config),
            dtls_parameters: DtlsParameters {
                role: DtlsRole::Auto,
                fingerprints: vec![self.credentials.fingerprint()],
            },
            sctp_parameters: options.enable_sctp.then(Sctp::parameters),
        })
    }

    /// Tells a WebRTC transport the peer's DTLS role and fingerprints; the handshake follows.
    ///
    /// # Errors
    /// Fails if there is no such WebRTC transport, it is connected already, or no fingerprint can be verified.
    pub fn connect_transport(
        &mut self,
        now: Instant,
        id: TransportId,
        remote: DtlsParameters,
    ) -> Result<(), ConnectTransportError> {
        let key = self.transport_key(id)?;
        let webrtc = self.webrtc(key).ok_or_else(|| not_found("WebRTC transport", &id))?;
        if webrtc.dtls.is_connecting() {
            return Err(ConnectTransportError::AlreadyConnected);
        }
        if !remote.fingerprints.iter().any(dtls::is_verifiable) {
            return Err(ConnectTransportError::NoFingerprint);
        }
        webrtc.dtls.connect(remote.role, remote.fingerprints);
        self.advance_dtls(now, key);
        Ok(())
    }

    /// Gives a WebRTC transport new ICE credentials, which its client gets by signalling. Media goes on as before
    /// until the client checks a path with them.
    ///
    /// # Errors
    /// Fails if there is no such WebRTC transport.
    pub fn restart_ice(&mut self, id: TransportId) -> Result<IceParameters, NotFound> {
        let key = self.transport_key(id)?;
        let webrtc = self.webrtc(key).ok_or_else(|| not_found("WebRTC transport", &id))?;
        let retired = webrtc.ice.restart();
        let parameters = ice_parameters(&webrtc.ice);
        if let Some(retired) = retired {
            self.ufrags.remove(&retired);
        }
        self.ufrags.insert(parameters.username_fragment.clone(), key);
        Ok(parameters)
    }

    pub(super) fn webrtc(&mut self, key: usize) -> Option<&mut WebRtc> {
        match &mut self.transports.get_mut(key)?.kind {
            Kind::WebRtc(webrtc) => Some(webrtc),
            Kind::Plain(_) | Kind::Direct => None,
        }
    }

    pub(super) fn handle_stun(&mut self, now: Instant, from: Tuple, datagram: &[u8]) {
        let Some((request, ufrag)) = ice::read_request(datagram) else {
            self.stats.dropped_stun += 1;
            return;
        };
        let transport = self.ufrags.get(&ufrag).and_then(|key| Some((*key, self.transports.get_mut(*key)?)));
        let Some((key, transport)) = transport else {
            self.stats.dropped_stun += 1;
            return;
        };
        let Kind::WebRtc(webrtc) = &mut transport.kind else { return };
        let crypto = self.credentials.provider().crypto();
        let outcome = webrtc.ice.handle_request(now, crypto, from, &ufrag, request);
        let is_first = std::mem::replace(&mut transport.path, webrtc.ice.selected()).is_none();
        if let Some(retired) = outcome.retired {
            self.ufrags.remove(&retired);
        }
        if let Some(forgotten) = outcome.forgotten {
            self.paths.remove(&forgotten.key());
        }
        let Check::Answer(answer) = outcome.check else {
            self.stats.dropped_stun += 1;
            return;
        };
        post(&mut self.outbox, &mut self.stats, from, answer);
        if webrtc.ice.tuples().iter().any(|tuple| tuple.key() == from.key()) {
            self.paths.insert(from.key(), key);
        }
        if is_first && transport.path.is_some() {
            self.advance_dtls(now, key);
        }
    }

    pub(super) fn handle_dtls(&mut self, now: Instant, key: usize, datagram: &[u8]) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let Kind::WebRtc(webrtc) = &mut transport.kind else { return };
        if let Some(event) = webrtc.dtls.handle_datagram(now, &self.credentials, datagram) {
            // What DTLS still has to say (its last flight) goes out before the event is acted on.
            self.send_dtls(key);
            self.handle_dtls_event(now, key, event);
        }
        self.send_dtls(key);
        self.take_application_data(now, key);
        self.set_timer(key);
    }

    /// Whether a client's check was valid on this path and its transport still knows it.
    #[must_use]
    pub fn has_path(&self, path: &Tuple) -> bool {
        self.paths.contains_key(&path.key())
    }

    /// A path does not exist any more: its TCP connection ended. The transport goes on with another one that it
    /// knows, or waits for a check until consent runs out.
    pub fn handle_closed_path(&mut self, path: &Tuple) {
        let Some(key) = self.paths.remove(&path.key()) else { return };
        let Some(transport) = self.transports.get_mut(key) else { return };
        let Kind::WebRtc(webrtc) = &mut transport.kind else { return };
        webrtc.ice.forget(path);
        transport.path = webrtc.ice.selected();
    }

    /// Does what is due in ICE and DTLS. The transport may be gone after that.
    pub(super) fn handle_webrtc_timeout(&mut self, now: Instant, key: usize) {
        let Some(webrtc) = self.webrtc(key) else { return };
        if webrtc.ice.consent_until().is_some_and(|until| until <= now) {
            self.end_transport(now, key, TransportCloseReason::ConsentLost);
            return;
        }
        if let Some(event) = webrtc.dtls.handle_timeout(now) {
            self.handle_dtls_event(now, key, event);
        }
        self.send_dtls(key);
    }

    /// Lets DTLS go on after `connect` or a first valid check.
    fn advance_dtls(&mut self, now: Instant, key: usize) {
        let Some(transport) = self.transports.get_mut(key).filter(|transport| transport.path.is_some())
        else {
            return;
        };
        let Kind::WebRtc(webrtc) = &mut transport.kind else { return };
        if let Some(event) = webrtc.dtls.advance(now, &self.credentials) {
            self.handle_dtls_event(now, key, event);
        }
        self.send_dtls(key);
        self.set_timer(key);
    }

    fn handle_dtls_event(&mut self, now: Instant, key: usize, event: DtlsEvent) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        match event {
            DtlsEvent::Connected { suite, keying_material, is_client } => {
                let provider = self.credentials.provider();
                match srtp::sessions(suite, provider, &keying_material, is_client) {
                    Ok(sessions) => {
                        transport.srtp = Some(sessions);
                        transport.reports_due = Some(now + reports::INTERVAL);
                        let id = transport.id;
                        self.events.push_back(Event::TransportConnected(id));
                        self.start_consumers(now, key);
                        self.start_sctp(now, key);
                    }
                    Err(error) => {
                        tracing::warn!(transport = %transport.id, %error, "SRTP could not be set up");
                        self.end_transport(now, key, TransportCloseReason::DtlsFailed);
                    }
                }
            }
            DtlsEvent::Failed(reason) => {
                tracing::info!(transport = %transport.id, reason, "DTLS failed");
                self.end_transport(now, key, TransportCloseReason::DtlsFailed);
            }
            DtlsEvent::Closed => self.end_transport(now, key, TransportCloseReason::DtlsClosed),
        }
    }

    /// Hands to SCTP what came through DTLS.
    fn take_application_data(&mut self, now: Instant, key: usize) {
        let Some(webrtc) = self.webrtc(key) else { return };
        let packets = webrtc.dtls.take_received();
        self.handle_sctp(now, key, packets);
    }

    pub(super) fn send_dtls(&mut self, key: usize) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let (Some(path), Kind::WebRtc(webrtc)) = (transport.path, &mut transport.kind) else { return };
        while let Some(record) = webrtc.dtls.poll_transmit() {
            post(&mut self.outbox, &mut self.stats, path, record.to_vec());
        }
    }

    /// Says goodbye to the peer of a transport that ends, and forgets what its datagrams are known by.
    pub(super) fn leave_webrtc(&mut self, now: Instant, key: usize) {
        let Some(webrtc) = self.webrtc(key) else { return };
        webrtc.dtls.close(now);
        self.send_dtls(key);
        let Some(transport) = self.transports.get(key) else { return };
        let Kind::WebRtc(webrtc) = &transport.kind else { return };
        for ufrag in webrtc.ice.ufrags() {
            self.ufrags.remove(ufrag);
        }
        for tuple in webrtc.ice.tuples() {
            if self.paths.get(&tuple.key()) == Some(&key) {
                self.paths.remove(&tuple.key());
            }
        }
    }
}

fn ice_parameters(ice: &IceLite) -> IceParameters {
    IceParameters {
        username_fragment: ice.credentials().ufrag.clone(),
        password: ice.credentials().password.clone(),
        ice_lite: Some(true),
    }
}

/// The type preference of TCP host candidates (RFC 6544 section 4.2): what browsers give their own.
const TCP_PREFERENCE: u32 = 90;
/// The local preference's direction bits of a passive TCP candidate (RFC 6544 section 4.2).
const PASSIVE_PREFERENCE: u32 = 4 << 13;

/// Host candidates in the order of the announced addresses, UDP before TCP (priorities as in RFC 8445 section 5.1.2).
fn candidates(config: &Config) -> Vec<IceCandidate> {
    let component = 255;
    let candidate = |index: usize, address: &SocketAddr, protocol: Protocol| {
        let rank = u32::try_from(index).unwrap_or(u32::MAX);
        let (name, priority) = match protocol {
            Protocol::Udp => ("udp", (126 << 24) + (65_535_u32.saturating_sub(rank) << 8) + component),
            Protocol::Tcp => {
                let local_preference = PASSIVE_PREFERENCE + 8191_u32.saturating_sub(rank);
                ("tcp", (TCP_PREFERENCE << 24) + (local_preference << 8) + component)
            }
        };
        IceCandidate {
            foundation: format!("{name}{index}"),
            priority,
            address: address.ip().to_string(),
            protocol,
            port: address.port(),
            r#type: IceCandidateType::Host,
            tcp_type: (protocol == Protocol::Tcp).then_some(IceCandidateTcpType::Passive),
        }
    };
    let udp = config.announced_udp.iter().enumerate();
    let tcp = config.announced_tcp.iter().enumerate();
    udp.map(|(index, address)| candidate(index, address, Protocol::Udp))
        .chain(tcp.map(|(index, address)| candidate(index, address, Protocol::Tcp)))
        .collect()
}
