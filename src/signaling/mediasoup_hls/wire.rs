//! The mediasoup-hls dialect on the wire: names of events, and the shapes of what goes with them. Nothing else.
//!
//! It is what clients of the `mediasoup-hls` meeting application speak. `tests/wire/mediasoup_hls` pins it.

use mediasoup_types::rtp_parameters::{MediaKind, RtpCapabilitiesFinalized};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{PeerId, ProducerId};
use crate::signaling::objects::ConsumerOptions;

/// What clients send.
pub(in crate::signaling) mod incoming {
    pub(in crate::signaling) const INITIALIZE: &str = "initialize";
    pub(in crate::signaling) const GET_RTP_CAPABILITIES: &str = "getRTPCapabilities";
    pub(in crate::signaling) const GET_ALL_USERS_IN_ROOM: &str = "getAllUsersInRoom";
    pub(in crate::signaling) const CREATE_TRANSPORT: &str = "createTransport";
    pub(in crate::signaling) const TRANSPORT_CONNECT: &str = "transportConnect";
    pub(in crate::signaling) const TRANSPORT_PRODUCE: &str = "transportProduce";
    pub(in crate::signaling) const TRANSPORT_CONSUME: &str = "transportConsume";
    pub(in crate::signaling) const CONSUME_NEW_USER: &str = "consumeNewUser";
    pub(in crate::signaling) const RESUME_CONSUME_TRANSPORT: &str = "resumeConsumeTransport";
    pub(in crate::signaling) const CLOSE_PRODUCER: &str = "closeProducer";
}

/// What the server sends.
pub(in crate::signaling) mod outgoing {
    pub(in crate::signaling) const RTP_CAPABILITIES: &str = "RTPCapabilities";
    pub(in crate::signaling) const NEW_USER_JOINED: &str = "newUserJoined";
    pub(in crate::signaling) const USER_LEFT: &str = "userLeft";
    pub(in crate::signaling) const NEW_PRODUCER: &str = "newProducer";
    pub(in crate::signaling) const PRODUCER_CLOSED: &str = "producerClosed";
}

/// `createTransport`.
#[derive(Debug, Deserialize)]
pub(in crate::signaling) struct CreateTransport {
    pub(in crate::signaling) consumer: bool,
}

/// `transportConnect`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct TransportConnect {
    pub(in crate::signaling) transport_id: String,
    pub(in crate::signaling) dtls_parameters: Value,
}

/// `transportProduce`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct TransportProduce {
    pub(in crate::signaling) transport_id: String,
    pub(in crate::signaling) kind: MediaKind,
    pub(in crate::signaling) rtp_parameters: Value,
    #[serde(default)]
    pub(in crate::signaling) app_data: Value,
}

/// `transportConsume`: everything that there is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct TransportConsume {
    pub(in crate::signaling) rtp_capabilities: Value,
}

/// `consumeNewUser`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct ConsumeNewUser {
    pub(in crate::signaling) rtp_capabilities: Value,
    pub(in crate::signaling) producer_id: String,
}

/// `resumeConsumeTransport`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct ResumeConsumeTransport {
    pub(in crate::signaling) consumer_id: String,
}

/// `closeProducer`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct CloseProducer {
    pub(in crate::signaling) producer_id: String,
}

/// `RTPCapabilities`.
#[derive(Debug, Serialize)]
pub(in crate::signaling) struct RtpCapabilities<'a> {
    pub(in crate::signaling) data: &'a RtpCapabilitiesFinalized,
}

/// A consumer in the answer to `transportConsume` and `consumeNewUser`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct Consumed {
    #[serde(flatten)]
    pub(in crate::signaling) options: ConsumerOptions,
    pub(in crate::signaling) user_id: PeerId,
}

/// One entry of the answer to `getAllUsersInRoom`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct User {
    pub(in crate::signaling) id: PeerId,
    pub(in crate::signaling) name: String,
    pub(in crate::signaling) img_src: Option<String>,
}

/// The answer to `transportProduce`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct Produced {
    pub(in crate::signaling) id: ProducerId,
    pub(in crate::signaling) user_id: PeerId,
    pub(in crate::signaling) kind: MediaKind,
}

/// `newProducer`, `producerClosed`, and the answer to `closeProducer`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct Producer {
    pub(in crate::signaling) user_id: PeerId,
    pub(in crate::signaling) producer_id: ProducerId,
    pub(in crate::signaling) kind: MediaKind,
}

/// `newUserJoined`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct NewUserJoined {
    pub(in crate::signaling) user_id: PeerId,
    pub(in crate::signaling) name: String,
    pub(in crate::signaling) img_src: Option<String>,
}

/// `userLeft`.
#[derive(Debug, Serialize)]
pub(in crate::signaling) struct UserLeft {
    pub(in crate::signaling) id: PeerId,
    pub(in crate::signaling) name: String,
}
