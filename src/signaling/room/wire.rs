//! The room dialect on the wire: names of events, and the shapes of what goes with them. Nothing else.
//!
//! It is the dialect of the `streaming-backend` family of servers over mediasoup, with additions. `tests/wire/` pins
//! it.

use mediasoup_types::rtp_parameters::{MediaKind, RtpCapabilitiesFinalized};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{ConsumerId, PeerId, ProducerId, TransportId};

/// What clients send.
pub(in crate::signaling) mod incoming {
    pub(in crate::signaling) const GET_ROUTER_RTP_CAPABILITIES: &str = "getRouterRtpCapabilities";
    pub(in crate::signaling) const CREATE_WEBRTC_TRANSPORT: &str = "createWebRtcTransport";
    pub(in crate::signaling) const CONNECT_TRANSPORT: &str = "connectTransport";
    pub(in crate::signaling) const TRANSPORT_PRODUCE: &str = "transportProduce";
    pub(in crate::signaling) const TRANSPORT_CONSUME: &str = "transportConsume";
    pub(in crate::signaling) const RESUME_CONSUMER: &str = "resumeConsumer";
    pub(in crate::signaling) const GET_PRODUCERS: &str = "getProducers";
    pub(in crate::signaling) const PAUSE_PRODUCER: &str = "pauseProducer";
    pub(in crate::signaling) const RESUME_PRODUCER: &str = "resumeProducer";
    // Additions.
    pub(in crate::signaling) const CLOSE_PRODUCER: &str = "closeProducer";
    pub(in crate::signaling) const PAUSE_CONSUMER: &str = "pauseConsumer";
    pub(in crate::signaling) const CLOSE_CONSUMER: &str = "closeConsumer";
}

/// What the server sends.
pub(in crate::signaling) mod outgoing {
    pub(in crate::signaling) const CONNECTION_SUCCESS: &str = "connectionSuccess";
    pub(in crate::signaling) const NEW_PRODUCER: &str = "newProducer";
    pub(in crate::signaling) const PRODUCER_CHANGE: &str = "producerChange";
    pub(in crate::signaling) const PEER_LEFT: &str = "peerLeft";
    // Additions.
    pub(in crate::signaling) const PRODUCER_CLOSED: &str = "producerClosed";
    pub(in crate::signaling) const CONSUMER_CLOSED: &str = "consumerClosed";
    pub(in crate::signaling) const CONSUMER_PAUSED: &str = "consumerPaused";
    pub(in crate::signaling) const CONSUMER_RESUMED: &str = "consumerResumed";
    pub(in crate::signaling) const TRANSPORT_CLOSED: &str = "transportClosed";
}

/// `createWebRtcTransport`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct CreateWebRtcTransport {
    pub(in crate::signaling) is_consumer: bool,
}

/// `connectTransport`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct ConnectTransport {
    pub(in crate::signaling) transport_id: String,
    pub(in crate::signaling) dtls_parameters: Value,
}

/// `transportProduce`; `appData` is an addition.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct TransportProduce {
    pub(in crate::signaling) kind: MediaKind,
    pub(in crate::signaling) rtp_parameters: Value,
    #[serde(default)]
    pub(in crate::signaling) app_data: Value,
}

/// `transportConsume`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct TransportConsume {
    pub(in crate::signaling) rtp_capabilities: Value,
    pub(in crate::signaling) remote_producer_id: String,
}

/// `resumeConsumer`, `pauseConsumer` and `closeConsumer`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct ConsumerRef {
    pub(in crate::signaling) consumer_id: String,
}

/// `pauseProducer`, `resumeProducer` and `closeProducer`: one of the two is given; `producerId` is an addition.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct ProducerRef {
    pub(in crate::signaling) kind: Option<MediaKind>,
    pub(in crate::signaling) producer_id: Option<String>,
}

/// The answer to `getRouterRtpCapabilities`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct RouterRtpCapabilities<'a> {
    pub(in crate::signaling) rtp_capabilities: &'a RtpCapabilitiesFinalized,
}

/// The same for a client that gave an object as the argument, as those of the sample app do: they read the
/// capabilities from the answer itself.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct RouterRtpCapabilitiesTwice<'a> {
    pub(in crate::signaling) rtp_capabilities: &'a RtpCapabilitiesFinalized,
    #[serde(flatten)]
    pub(in crate::signaling) bare: &'a RtpCapabilitiesFinalized,
}

/// The answer to `transportProduce`.
#[derive(Debug, Serialize)]
pub(in crate::signaling) struct Produced {
    pub(in crate::signaling) id: ProducerId,
}

/// One entry of the answer to `getProducers`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct RemoteProducer {
    pub(in crate::signaling) peer_id: PeerId,
    pub(in crate::signaling) producer_id: ProducerId,
}

/// The answer to `getProducers`.
#[derive(Debug, Serialize)]
pub(in crate::signaling) struct Producers {
    pub(in crate::signaling) producers: Vec<RemoteProducer>,
}

/// What goes with an event from the server.
#[derive(Debug, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub(in crate::signaling) enum Payload {
    ConnectionSuccess { socket_id: PeerId },
    NewProducer { producer_id: ProducerId, producer_socket_id: PeerId },
    ProducerChange { kind: MediaKind, peer_id: PeerId, paused: bool },
    PeerLeft { peer_id: PeerId },
    ProducerClosed { producer_id: ProducerId, peer_id: PeerId },
    Consumer { consumer_id: ConsumerId },
    Transport { transport_id: TransportId },
}
