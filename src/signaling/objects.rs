//! What all dialects spell alike, because `mediasoup-client` reads it: the options of transports and consumers.

use mediasoup_types::data_structures::{
    DtlsParameters, IceCandidate, IceCandidateTcpType, IceCandidateType, IceParameters, Protocol,
};
use mediasoup_types::rtp_parameters::{MediaKind, RtpParameters};
use mediasoup_types::sctp_parameters::SctpParameters;
use serde::Serialize;
use serde_json::Value;

use crate::ids::{ConsumerId, ProducerId, TransportId};
use crate::live::ice_servers::IceServer;
use crate::live::{Consumed, CreatedTransport};
use crate::media::ortc::ProducerType;

/// The options of a transport.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TransportOptions {
    id: TransportId,
    ice_parameters: IceParameters,
    ice_candidates: Vec<Candidate>,
    dtls_parameters: DtlsParameters,
    #[serde(skip_serializing_if = "Option::is_none")]
    sctp_parameters: Option<SctpOptions>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ice_servers: Vec<IceServer>,
}

/// The parameters of an SCTP association: clients up to mediasoup-client 3.20 read `OS`, `MIS` and `maxMessageSize`, newer
/// ones the two sizes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SctpOptions {
    port: u16,
    #[serde(rename = "OS")]
    os: u16,
    #[serde(rename = "MIS")]
    mis: u16,
    max_message_size: u32,
    max_send_message_size: u32,
    max_receive_message_size: u32,
}

impl From<SctpParameters> for SctpOptions {
    fn from(made: SctpParameters) -> Self {
        Self {
            port: made.port,
            os: made.os,
            mis: made.mis,
            max_message_size: made.max_message_size,
            max_send_message_size: made.max_send_message_size,
            max_receive_message_size: made.max_receive_message_size,
        }
    }
}

/// An ICE candidate with its address under both names: old clients read `ip`, new ones `address`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    foundation: String,
    priority: u32,
    ip: String,
    address: String,
    protocol: Protocol,
    port: u16,
    r#type: IceCandidateType,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp_type: Option<IceCandidateTcpType>,
}

impl From<CreatedTransport> for TransportOptions {
    fn from(CreatedTransport { info: made, ice_servers }: CreatedTransport) -> Self {
        Self {
            id: made.id,
            ice_parameters: made.ice_parameters,
            ice_candidates: made.ice_candidates.into_iter().map(Into::into).collect(),
            dtls_parameters: made.dtls_parameters,
            sctp_parameters: made.sctp_parameters.map(Into::into),
            ice_servers,
        }
    }
}

impl From<IceCandidate> for Candidate {
    fn from(candidate: IceCandidate) -> Self {
        Self {
            foundation: candidate.foundation,
            priority: candidate.priority,
            ip: candidate.address.clone(),
            address: candidate.address,
            protocol: candidate.protocol,
            port: candidate.port,
            r#type: candidate.r#type,
            tcp_type: candidate.tcp_type,
        }
    }
}

/// The options of a consumer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConsumerOptions {
    id: ConsumerId,
    producer_id: ProducerId,
    kind: MediaKind,
    rtp_parameters: RtpParameters,
    r#type: ProducerType,
    producer_paused: bool,
    app_data: Value,
}

impl From<Consumed> for ConsumerOptions {
    fn from(made: Consumed) -> Self {
        Self {
            id: made.consumer.id,
            producer_id: made.consumer.producer_id,
            kind: made.consumer.kind,
            rtp_parameters: made.consumer.rtp_parameters,
            r#type: made.consumer.producer_type,
            producer_paused: made.consumer.producer_paused,
            app_data: made.app_data,
        }
    }
}
