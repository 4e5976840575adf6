//! Plain transports of a router.

use std::net::IpAddr;

use super::{RequestError, RouterHandle};
use crate::ids::TransportId;
use crate::sfu::api::CreateTransportError;
use crate::sfu::plain_transport::{
    ConnectPlainError, OwnPort, PlainRemote, PlainTransportInfo, PlainTransportOptions,
};
use crate::worker::thread::Turn;

impl RouterHandle {
    /// Makes a plain transport, on UDP ports of its own.
    ///
    /// # Errors
    /// See [`CreateTransportError`].
    pub async fn create_plain_transport(
        &self,
        options: PlainTransportOptions,
    ) -> Result<PlainTransportInfo, RequestError<CreateTransportError>> {
        let router = self.id;
        let create = move |turn: &mut Turn<'_>| {
            let wanted = if options.rtcp_mux { 1 } else { 2 };
            with_ports(turn, options.listen_ip, wanted, |turn, ports| {
                let rtp = *ports.first().ok_or(CreateTransportError::NoPort)?;
                turn.core.create_plain_transport(router, &options, rtp, ports.get(1).copied())
            })
        };
        self.worker.call(create).await
    }

    /// Tells a plain transport where its peer is and what it protects its packets with.
    ///
    /// # Errors
    /// See [`ConnectPlainError`].
    pub async fn connect_plain_transport(
        &self,
        transport: TransportId,
        remote: PlainRemote,
    ) -> Result<(), RequestError<ConnectPlainError>> {
        self.worker.call(move |turn| turn.core.connect_plain_transport(turn.now, transport, &remote)).await
    }
}

/// Opens ports for a transport, and closes them again if it can't be made.
pub(super) fn with_ports<T>(
    turn: &mut Turn<'_>,
    listen_ip: Option<IpAddr>,
    wanted: usize,
    make: impl FnOnce(&mut Turn<'_>, &[OwnPort]) -> Result<T, CreateTransportError>,
) -> Result<T, CreateTransportError> {
    // A port of a transport that was closed a moment ago is free for this one.
    turn.sockets.close_released(turn.core);
    let open = std::iter::repeat_with(|| turn.sockets.open_port(listen_ip)).take(wanted);
    let ports: Vec<OwnPort> = open.map_while(|port| port).collect();
    let made = if ports.len() == wanted { make(turn, &ports) } else { Err(CreateTransportError::NoPort) };
    if made.is_err() {
        ports.iter().for_each(|port| turn.sockets.close_port(port.id));
    }
    made
}
