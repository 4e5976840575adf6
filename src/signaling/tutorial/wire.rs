//! The tutorial's dialect on the wire: names of events, and the shapes of what goes with them. Nothing else.
//!
//! It is what the many copies of one video tutorial's conference speak. `tests/wire/tutorial` pins it.

use mediasoup_types::rtp_parameters::{MediaKind, RtpCapabilitiesFinalized};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{ConsumerId, PeerId, ProducerId};
use crate::signaling::objects::ConsumerOptions;

/// What clients send.
pub(in crate::signaling) mod incoming {
    pub(in crate::signaling) const JOIN_ROOM: &str = "joinRoom";
    pub(in crate::signaling) const CREATE_WEBRTC_TRANSPORT: &str = "createWebRtcTransport";
    pub(in crate::signaling) const TRANSPORT_CONNECT: &str = "transport-connect";
    pub(in crate::signaling) const TRANSPORT_PRODUCE: &str = "transport-produce";
    pub(in crate::signaling) const GET_PRODUCERS: &str = "getProducers";
    pub(in crate::signaling) const TRANSPORT_RECV_CONNECT: &str = "transport-recv-connect";
    pub(in crate::signaling) const CONSUME: &str = "consume";
    pub(in crate::signaling) const CONSUMER_RESUME: &str = "consumer-resume";
}

/// What the server sends.
pub(in crate::signaling) mod outgoing {
    pub(in crate::signaling) const CONNECTION_SUCCESS: &str = "connection-success";
    pub(in crate::signaling) const NEW_PRODUCER: &str = "new-producer";
    pub(in crate::signaling) const PRODUCER_CLOSED: &str = "producer-closed";
}

/// `joinRoom`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct JoinRoom {
    pub(in crate::signaling) room_name: String,
}

/// `createWebRtcTransport`.
#[derive(Debug, Deserialize)]
pub(in crate::signaling) struct CreateWebRtcTransport {
    pub(in crate::signaling) consumer: bool,
}

/// `transport-connect`: the transport to send on is meant.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct TransportConnect {
    pub(in crate::signaling) dtls_parameters: Value,
}

/// `transport-produce`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct TransportProduce {
    pub(in crate::signaling) kind: MediaKind,
    pub(in crate::signaling) rtp_parameters: Value,
    #[serde(default)]
    pub(in crate::signaling) app_data: Value,
}

/// `transport-recv-connect`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct TransportRecvConnect {
    pub(in crate::signaling) dtls_parameters: Value,
    pub(in crate::signaling) server_consumer_transport_id: String,
}

/// `consume`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct Consume {
    pub(in crate::signaling) rtp_capabilities: Value,
    pub(in crate::signaling) remote_producer_id: String,
    pub(in crate::signaling) server_consumer_transport_id: String,
}

/// `consumer-resume`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct ConsumerResume {
    pub(in crate::signaling) server_consumer_id: String,
}

/// `connection-success`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct ConnectionSuccess {
    pub(in crate::signaling) socket_id: PeerId,
}

/// The answer to `joinRoom`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct Joined<'a> {
    pub(in crate::signaling) rtp_capabilities: &'a RtpCapabilitiesFinalized,
}

/// The answer to `createWebRtcTransport` and `consume`, also when it is an error.
#[derive(Debug, Serialize)]
pub(in crate::signaling) struct Params<T> {
    pub(in crate::signaling) params: T,
}

/// The answer to `transport-produce`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct Produced {
    pub(in crate::signaling) id: ProducerId,
    pub(in crate::signaling) producers_exist: bool,
}

/// The parameters in the answer to `consume`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct Consumed {
    #[serde(flatten)]
    pub(in crate::signaling) options: ConsumerOptions,
    pub(in crate::signaling) server_consumer_id: ConsumerId,
}

/// `new-producer`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct NewProducer {
    pub(in crate::signaling) producer_id: ProducerId,
}

/// `producer-closed`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct ProducerClosed {
    pub(in crate::signaling) remote_producer_id: ProducerId,
}
