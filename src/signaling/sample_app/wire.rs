//! The sample app's dialect on the wire: names of events, and the shapes of what goes with them. Nothing else.
//!
//! It is what clients of `mediasoup-sample-app` speak. `tests/wire/sample_app` pins it.

use mediasoup_types::rtp_parameters::MediaKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::ProducerId;

/// What clients send.
pub(in crate::signaling) mod incoming {
    pub(in crate::signaling) const GET_ROUTER_RTP_CAPABILITIES: &str = "getRouterRtpCapabilities";
    pub(in crate::signaling) const CREATE_PRODUCER_TRANSPORT: &str = "createProducerTransport";
    pub(in crate::signaling) const CREATE_CONSUMER_TRANSPORT: &str = "createConsumerTransport";
    pub(in crate::signaling) const CONNECT_PRODUCER_TRANSPORT: &str = "connectProducerTransport";
    pub(in crate::signaling) const CONNECT_CONSUMER_TRANSPORT: &str = "connectConsumerTransport";
    pub(in crate::signaling) const PRODUCE: &str = "produce";
    pub(in crate::signaling) const CLOSE_PRODUCER: &str = "closeProducer";
    pub(in crate::signaling) const CONSUME: &str = "consume";
    pub(in crate::signaling) const RESUME: &str = "resume";
}

/// What the server sends.
pub(in crate::signaling) mod outgoing {
    pub(in crate::signaling) const NEW_PRODUCER: &str = "newProducer";
}

/// `connectProducerTransport` and `connectConsumerTransport`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct ConnectTransport {
    pub(in crate::signaling) dtls_parameters: Value,
}

/// `produce`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct Produce {
    pub(in crate::signaling) kind: MediaKind,
    pub(in crate::signaling) rtp_parameters: Value,
}

/// `consume`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct Consume {
    pub(in crate::signaling) rtp_capabilities: Value,
}

/// The answer to `produce`, and what goes with `newProducer`.
#[derive(Debug, Serialize)]
pub(in crate::signaling) struct Produced {
    pub(in crate::signaling) id: ProducerId,
}
