//! The video-rooms dialect on the wire: names of events, and the shapes of what goes with them. Nothing else.
//!
//! It is what clients of `mediasoup-sfu-webrtc-video-rooms` speak. `tests/wire/video_rooms` pins it.

use mediasoup_types::rtp_parameters::MediaKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{ConsumerId, PeerId, ProducerId, RoomId};

/// What clients send.
pub(in crate::signaling) mod incoming {
    pub(in crate::signaling) const CREATE_ROOM: &str = "createRoom";
    pub(in crate::signaling) const JOIN: &str = "join";
    pub(in crate::signaling) const GET_PRODUCERS: &str = "getProducers";
    pub(in crate::signaling) const GET_ROUTER_RTP_CAPABILITIES: &str = "getRouterRtpCapabilities";
    pub(in crate::signaling) const CREATE_WEBRTC_TRANSPORT: &str = "createWebRtcTransport";
    pub(in crate::signaling) const CONNECT_TRANSPORT: &str = "connectTransport";
    pub(in crate::signaling) const PRODUCE: &str = "produce";
    pub(in crate::signaling) const CONSUME: &str = "consume";
    pub(in crate::signaling) const RESUME: &str = "resume";
    pub(in crate::signaling) const GET_MY_ROOM_INFO: &str = "getMyRoomInfo";
    pub(in crate::signaling) const PRODUCER_CLOSED: &str = "producerClosed";
    pub(in crate::signaling) const EXIT_ROOM: &str = "exitRoom";
}

/// What the server sends.
pub(in crate::signaling) mod outgoing {
    pub(in crate::signaling) const NEW_PRODUCERS: &str = "newProducers";
    pub(in crate::signaling) const CONSUMER_CLOSED: &str = "consumerClosed";
}

/// Answers that are plain texts.
pub(in crate::signaling) mod answers {
    pub(in crate::signaling) const ALREADY_EXISTS: &str = "already exists";
    pub(in crate::signaling) const SUCCESS: &str = "success";
    pub(in crate::signaling) const EXITED: &str = "successfully exited room";
}

/// `createRoom`.
#[derive(Debug, Deserialize)]
pub(in crate::signaling) struct CreateRoom {
    pub(in crate::signaling) room_id: String,
}

/// `join`.
#[derive(Debug, Deserialize)]
pub(in crate::signaling) struct Join {
    pub(in crate::signaling) room_id: String,
    pub(in crate::signaling) name: Option<String>,
}

/// `connectTransport`.
#[derive(Debug, Deserialize)]
pub(in crate::signaling) struct ConnectTransport {
    pub(in crate::signaling) transport_id: String,
    #[serde(rename = "dtlsParameters")]
    pub(in crate::signaling) dtls_parameters: Value,
}

/// `produce`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct Produce {
    pub(in crate::signaling) producer_transport_id: String,
    pub(in crate::signaling) kind: MediaKind,
    pub(in crate::signaling) rtp_parameters: Value,
}

/// `consume`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct Consume {
    pub(in crate::signaling) consumer_transport_id: String,
    pub(in crate::signaling) producer_id: String,
    pub(in crate::signaling) rtp_capabilities: Value,
}

/// `producerClosed`.
#[derive(Debug, Deserialize)]
pub(in crate::signaling) struct ProducerClosed {
    pub(in crate::signaling) producer_id: String,
}

/// The answer to `produce`.
#[derive(Debug, Serialize)]
pub(in crate::signaling) struct Produced {
    pub(in crate::signaling) producer_id: ProducerId,
}

/// One entry of `newProducers`.
#[derive(Debug, Serialize)]
pub(in crate::signaling) struct NewProducer {
    pub(in crate::signaling) producer_id: ProducerId,
    pub(in crate::signaling) producer_socket_id: PeerId,
}

/// The answer to `join` and `getMyRoomInfo`: `peers` is JSON in a string, a list of pairs.
#[derive(Debug, Serialize)]
pub(in crate::signaling) struct RoomInfo {
    pub(in crate::signaling) id: RoomId,
    pub(in crate::signaling) peers: String,
}

/// The second half of such a pair.
#[derive(Debug, Serialize)]
pub(in crate::signaling) struct Peer {
    pub(in crate::signaling) id: PeerId,
    pub(in crate::signaling) name: Option<String>,
}

/// `consumerClosed`.
#[derive(Debug, Serialize)]
pub(in crate::signaling) struct ConsumerClosed {
    pub(in crate::signaling) consumer_id: ConsumerId,
}
