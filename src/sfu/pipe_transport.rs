//! Pipe transports: from one router to another, in this process or in another one. All streams of a producer pass as
//! they are, so that viewers at the far end choose layers there. Below, a pipe is a plain transport, which can carry SCTP.

use std::net::IpAddr;
use std::time::Instant;

use mediasoup_types::data_structures::TransportTuple;
use mediasoup_types::rtp_parameters::RtpParameters;
use mediasoup_types::sctp_parameters::SctpParameters;
use mediasoup_types::srtp_parameters::SrtpParameters;
use smallvec::SmallVec;

use super::{Worker, not_found};
use crate::ids::{ConsumerId, ProducerId, RouterId, Ssrc, TransportId};
use crate::media::ortc::{self, MAX_ENCODINGS};
use crate::sfu::api::{ConsumeError, ConsumerInfo, CreateTransportError, NotFound};
use crate::sfu::consumer::Consumer;
use crate::sfu::lifecycle::MAX_CONSUMERS;
use crate::sfu::plain_transport::{OwnPort, Plain};
use crate::sfu::sctp::{Carrier, Sctp};
use crate::sfu::srtp::Suite;
use crate::sfu::transport::Kind;

/// What a pipe transport is to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PipeTransportOptions {
    /// Whether lost packets are asked for and sent again; both ends have to agree.
    pub enable_rtx: bool,
    /// Whether packets are protected, with AEAD_AES_256_GCM; both ends have to agree.
    pub enable_srtp: bool,
    /// Whether data producers can be piped. Their messages go over UDP as they are, like mediasoup's: SRTP does not
    /// protect them.
    pub enable_sctp: bool,
    /// The local address to listen on instead of the first listen address.
    pub listen_ip: Option<IpAddr>,
}

/// What the other end of a pipe transport has to be told.
#[derive(Debug, Clone)]
pub struct PipeTransportInfo {
    /// The transport.
    pub id: TransportId,
    /// Where RTP and RTCP go.
    pub tuple: TransportTuple,
    /// Whether there is RTX.
    pub rtx: bool,
    /// What weir protects its packets with.
    pub srtp_parameters: Option<SrtpParameters>,
    /// How data is carried, if it is.
    pub sctp_parameters: Option<SctpParameters>,
}

/// The consumers in the worker that make up one that a control plane knows: one, or one for each stream of a pipe.
pub(super) type Members = SmallVec<[usize; MAX_ENCODINGS]>;

impl Worker {
    /// Makes a pipe transport in a router, on a port that was opened for it. It is connected as a plain transport is
    /// ([`Self::connect_plain_transport`]).
    ///
    /// # Errors
    /// Fails if there is no such router or the worker is full; the port stays the caller's then.
    pub fn create_pipe_transport(
        &mut self,
        router: RouterId,
        options: &PipeTransportOptions,
        port: OwnPort,
    ) -> Result<PipeTransportInfo, CreateTransportError> {
        let suite = options.enable_srtp.then_some(Suite::AeadAes256Gcm);
        let plain = Plain::pipe(port, suite, options.enable_rtx);
        let (id, tuple, srtp_parameters) = self.add_plain(router, plain)?;
        let epoch = self.config.ntp_at.0;
        let key = self.transport_key(id)?;
        if let Some(transport) = self.transports.get_mut(key).filter(|_| options.enable_sctp) {
            transport.data.sctp = Some(Sctp::new(epoch, Carrier::Udp));
        }
        let sctp_parameters = options.enable_sctp.then(Sctp::parameters);
        Ok(PipeTransportInfo { id, tuple, rtx: options.enable_rtx, srtp_parameters, sctp_parameters })
    }

    /// Sends all streams of a producer through a pipe transport of its router. The parameters that are returned are
    /// what the router at the other end produces with.
    ///
    /// # Errors
    /// Fails if there is no such producer, no such pipe transport in its router, or the transport is full.
    pub fn consume_pipe(
        &mut self,
        now: Instant,
        transport_id: TransportId,
        producer_id: ProducerId,
        paused: bool,
    ) -> Result<ConsumerInfo, ConsumeError> {
        let transport_key = self.transport_key(transport_id)?;
        let producer_key = self.producer_key(producer_id)?;
        let transport = self.transports.get(transport_key);
        let enable_rtx = transport.and_then(|transport| match &transport.kind {
            Kind::Plain(plain) => plain.pipe_rtx(),
            _ => None,
        });
        let (Some(transport), Some(enable_rtx)) = (transport, enable_rtx) else {
            return Err(not_found("pipe transport", &transport_id).into());
        };
        let producer = self.producers.get(producer_key);
        let Some(producer) = producer.filter(|producer| producer.router == transport.router) else {
            return Err(not_found("producer", &producer_id).into());
        };
        let parameters = ortc::pipe_parameters(&producer.consumable, enable_rtx, || Ssrc(rand::random()));
        if transport.consumers.len() + parameters.encodings.len() > MAX_CONSUMERS {
            return Err(ConsumeError::Full(MAX_CONSUMERS));
        }
        let info = ConsumerInfo {
            id: ConsumerId::random(),
            producer_id,
            kind: producer.kind,
            rtp_parameters: parameters,
            producer_type: producer.producer_type,
            producer_paused: producer.paused,
        };
        let mut members = Members::new();
        for (stream, encoding) in info.rtp_parameters.encodings.iter().enumerate() {
            let alone = RtpParameters { encodings: vec![encoding.clone()], ..info.rtp_parameters.clone() };
            let consumer = Consumer::new(info.id, transport_key, producer_key, &alone, rand::random());
            let mut consumer = consumer.ok_or_else(|| ConsumeError::Capabilities("no codec".into()))?;
            consumer.pinned = Some(stream);
            consumer.paused = paused;
            members.push(self.consumers.insert(consumer));
        }
        if let Some(transport) = self.transports.get_mut(transport_key) {
            transport.consumers.extend(&members);
        }
        if let Some(producer) = self.producers.get_mut(producer_key) {
            producer.consumers.extend(&members);
        }
        self.consumer_keys.extend(members.first().map(|first| (info.id, *first)));
        members.iter().for_each(|key| self.pursue_layers(now, *key));
        self.pipe_consumers.insert(info.id, members);
        Ok(info)
    }

    /// Whether a consumer is there.
    #[must_use]
    pub fn has_consumer(&self, id: ConsumerId) -> bool {
        self.consumer_keys.contains_key(&id)
    }

    /// Everything that goes by a consumer's id.
    pub(super) fn members(&self, id: ConsumerId) -> Result<Members, NotFound> {
        if let Some(members) = self.pipe_consumers.get(&id) {
            return Ok(members.clone());
        }
        let key = self.consumer_keys.get(&id).ok_or_else(|| not_found("consumer", &id))?;
        Ok(Members::from_slice(&[*key]))
    }
}
