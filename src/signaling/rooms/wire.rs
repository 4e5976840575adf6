//! The rooms dialect on the wire: names of events, and the shapes of what goes with them. Nothing else.
//!
//! Its requests and notifications are those of mediasoup-demo's signalling, as Socket.IO events. `tests/wire/rooms` pins
//! it.

use std::num::NonZeroU8;

use mediasoup_types::rtp_parameters::MediaKind;
use mediasoup_types::sctp_parameters::SctpStreamParameters;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{Bitrate, ConsumerId, DataConsumerId, DataProducerId, PeerId, ProducerId, TransportId};
use crate::live::{self, Bound};
use crate::media::codec::Layers;
use crate::sfu::api::{ConsumerScore, EncodingScore};
use crate::sfu::layers::ConsumeOptions;
use crate::signaling::objects::ConsumerOptions;

/// What clients ask for.
pub(in crate::signaling) mod incoming {
    pub(in crate::signaling) const GET_ROUTER_RTP_CAPABILITIES: &str = "getRouterRtpCapabilities";
    pub(in crate::signaling) const JOIN: &str = "join";
    pub(in crate::signaling) const CREATE_WEBRTC_TRANSPORT: &str = "createWebRtcTransport";
    pub(in crate::signaling) const CONNECT_WEBRTC_TRANSPORT: &str = "connectWebRtcTransport";
    pub(in crate::signaling) const RESTART_ICE: &str = "restartIce";
    pub(in crate::signaling) const SET_MAX_INCOMING_BITRATE: &str = "setMaxIncomingBitrate";
    pub(in crate::signaling) const SET_MAX_OUTGOING_BITRATE: &str = "setMaxOutgoingBitrate";
    pub(in crate::signaling) const SET_MIN_OUTGOING_BITRATE: &str = "setMinOutgoingBitrate";
    pub(in crate::signaling) const APPLY_NETWORK_THROTTLE: &str = "applyNetworkThrottle";
    pub(in crate::signaling) const RESET_NETWORK_THROTTLE: &str = "resetNetworkThrottle";
    pub(in crate::signaling) const PRODUCE: &str = "produce";
    pub(in crate::signaling) const CLOSE_PRODUCER: &str = "closeProducer";
    pub(in crate::signaling) const PAUSE_PRODUCER: &str = "pauseProducer";
    pub(in crate::signaling) const RESUME_PRODUCER: &str = "resumeProducer";
    pub(in crate::signaling) const PAUSE_CONSUMER: &str = "pauseConsumer";
    pub(in crate::signaling) const RESUME_CONSUMER: &str = "resumeConsumer";
    pub(in crate::signaling) const CLOSE_CONSUMER: &str = "closeConsumer";
    pub(in crate::signaling) const SET_CONSUMER_PREFERRED_LAYERS: &str = "setConsumerPreferredLayers";
    pub(in crate::signaling) const SET_CONSUMER_PRIORITY: &str = "setConsumerPriority";
    pub(in crate::signaling) const REQUEST_CONSUMER_KEY_FRAME: &str = "requestConsumerKeyFrame";
    pub(in crate::signaling) const PRODUCE_DATA: &str = "produceData";
    pub(in crate::signaling) const GET_DATA_PRODUCER_STATS: &str = "getDataProducerStats";
    pub(in crate::signaling) const GET_DATA_CONSUMER_STATS: &str = "getDataConsumerStats";
    pub(in crate::signaling) const GET_TRANSPORT_STATS: &str = "getTransportStats";
    pub(in crate::signaling) const GET_PRODUCER_STATS: &str = "getProducerStats";
    pub(in crate::signaling) const GET_CONSUMER_STATS: &str = "getConsumerStats";
    pub(in crate::signaling) const CHANGE_DISPLAY_NAME: &str = "changeDisplayName";
}

/// What the server sends.
pub(in crate::signaling) mod outgoing {
    pub(in crate::signaling) const NEW_CONSUMER: &str = "newConsumer";
    pub(in crate::signaling) const NEW_DATA_CONSUMER: &str = "newDataConsumer";
    pub(in crate::signaling) const DATA_CONSUMER_CLOSED: &str = "dataConsumerClosed";
    pub(in crate::signaling) const NEW_PEER: &str = "newPeer";
    pub(in crate::signaling) const PEER_CLOSED: &str = "peerClosed";
    pub(in crate::signaling) const PEER_DISPLAY_NAME_CHANGED: &str = "peerDisplayNameChanged";
    pub(in crate::signaling) const CONSUMER_CLOSED: &str = "consumerClosed";
    pub(in crate::signaling) const CONSUMER_PAUSED: &str = "consumerPaused";
    pub(in crate::signaling) const CONSUMER_RESUMED: &str = "consumerResumed";
    pub(in crate::signaling) const CONSUMER_LAYERS_CHANGED: &str = "consumerLayersChanged";
    pub(in crate::signaling) const CONSUMER_SCORE: &str = "consumerScore";
    pub(in crate::signaling) const PRODUCER_SCORE: &str = "producerScore";
    pub(in crate::signaling) const DOWNLINK_BWE: &str = "downlinkBwe";
    pub(in crate::signaling) const ACTIVE_SPEAKER: &str = "activeSpeaker";
    pub(in crate::signaling) const SPEAKING_PEERS: &str = "speakingPeers";
    pub(in crate::signaling) const TRANSPORT_CLOSED: &str = "transportClosed";
}

/// What a client says when it connects to the namespace.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct Auth {
    pub(in crate::signaling) room_id: Option<String>,
}

/// `join`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct Join {
    pub(in crate::signaling) display_name: Option<String>,
    #[serde(default)]
    pub(in crate::signaling) device: Value,
    /// Without them, the client is offered no consumers.
    pub(in crate::signaling) rtp_capabilities: Option<Value>,
    /// Without them, the client is offered no data consumers. What is in them is not used.
    pub(in crate::signaling) sctp_capabilities: Option<Value>,
    #[serde(default)]
    pub(in crate::signaling) enable_sctp: bool,
    #[serde(default)]
    pub(in crate::signaling) consumer_options: WantedConsumers,
}

/// How a client wants all of its consumers.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::signaling) struct WantedConsumers {
    preferred_layers: Option<PreferredLayers>,
    enable_rtx: Option<bool>,
    ignore_dtx: bool,
}

/// The layers that a client wants at most; without a temporal one, all of those.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PreferredLayers {
    spatial_layer: u8,
    temporal_layer: Option<u8>,
}

impl From<WantedConsumers> for ConsumeOptions {
    fn from(wanted: WantedConsumers) -> Self {
        let layers = |layers: PreferredLayers| Layers {
            spatial: layers.spatial_layer,
            temporal: layers.temporal_layer.unwrap_or(Layers::ALL.temporal),
        };
        Self {
            paused: true,
            preferred_layers: wanted.preferred_layers.map(layers),
            enable_rtx: wanted.enable_rtx,
            ignore_dtx: wanted.ignore_dtx,
            offered_mid: None,
        }
    }
}

/// `createWebRtcTransport`; what is not said is taken to be wanted.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct CreateWebRtcTransport {
    pub(in crate::signaling) producing: Option<bool>,
    pub(in crate::signaling) consuming: Option<bool>,
    /// With them, the transport carries data channels. What is in them is not used.
    pub(in crate::signaling) sctp_capabilities: Option<Value>,
    #[serde(default)]
    pub(in crate::signaling) enable_sctp: bool,
    /// In bit/s, like the others.
    pub(in crate::signaling) initial_available_outgoing_bitrate: Option<u64>,
    max_incoming_bitrate: Option<u64>,
    max_outgoing_bitrate: Option<u64>,
    min_outgoing_bitrate: Option<u64>,
}

impl CreateWebRtcTransport {
    /// The bounds that the client gives; 0 is none.
    pub(in crate::signaling) fn bounds(&self) -> impl Iterator<Item = (Bound, Bitrate)> {
        let given = [
            (Bound::MaxIncoming, self.max_incoming_bitrate),
            (Bound::MaxOutgoing, self.max_outgoing_bitrate),
            (Bound::MinOutgoing, self.min_outgoing_bitrate),
        ];
        given.into_iter().filter_map(|(bound, wanted)| Some((bound, bitrate(wanted)?)))
    }
}

/// `setMaxIncomingBitrate`, `setMaxOutgoingBitrate` and `setMinOutgoingBitrate`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct SetBitrate {
    pub(in crate::signaling) transport_id: String,
    bitrate: Option<u64>,
}

impl SetBitrate {
    /// The bound; none takes it away.
    pub(in crate::signaling) fn bitrate(&self) -> Option<Bitrate> {
        bitrate(self.bitrate)
    }
}

/// As in mediasoup, 0 is no bound.
fn bitrate(given: Option<u64>) -> Option<Bitrate> {
    given.filter(|bits| *bits > 0).map(Bitrate)
}

/// `connectWebRtcTransport`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct ConnectWebRtcTransport {
    pub(in crate::signaling) transport_id: String,
    pub(in crate::signaling) dtls_parameters: Value,
}

/// `restartIce` and `getTransportStats`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct TransportRef {
    pub(in crate::signaling) transport_id: String,
}

/// `produce`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct Produce {
    pub(in crate::signaling) transport_id: String,
    pub(in crate::signaling) kind: MediaKind,
    pub(in crate::signaling) rtp_parameters: Value,
    #[serde(default)]
    pub(in crate::signaling) app_data: Value,
}

/// `produceData`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct ProduceData {
    pub(in crate::signaling) transport_id: String,
    pub(in crate::signaling) sctp_stream_parameters: StreamParameters,
    #[serde(default)]
    pub(in crate::signaling) label: String,
    #[serde(default)]
    pub(in crate::signaling) protocol: String,
    #[serde(default)]
    pub(in crate::signaling) app_data: Value,
}

/// The SCTP stream of a data producer, as its client opened it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct StreamParameters {
    pub(in crate::signaling) stream_id: u16,
    pub(in crate::signaling) ordered: Option<bool>,
    pub(in crate::signaling) max_packet_life_time: Option<u16>,
    pub(in crate::signaling) max_retransmits: Option<u16>,
}

/// `getDataProducerStats`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct DataProducerRef {
    pub(in crate::signaling) data_producer_id: String,
}

/// `getDataConsumerStats`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct DataConsumerRef {
    pub(in crate::signaling) data_consumer_id: String,
}

/// `closeProducer`, `pauseProducer`, `resumeProducer` and `getProducerStats`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct ProducerRef {
    pub(in crate::signaling) producer_id: String,
}

/// `closeConsumer`, `pauseConsumer`, `resumeConsumer`, `requestConsumerKeyFrame` and `getConsumerStats`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct ConsumerRef {
    pub(in crate::signaling) consumer_id: String,
}

/// `setConsumerPreferredLayers`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct SetConsumerPreferredLayers {
    pub(in crate::signaling) consumer_id: String,
    pub(in crate::signaling) spatial_layer: u8,
    pub(in crate::signaling) temporal_layer: Option<u8>,
}

/// `setConsumerPriority`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct SetConsumerPriority {
    pub(in crate::signaling) consumer_id: String,
    pub(in crate::signaling) priority: NonZeroU8,
}

/// `changeDisplayName`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct ChangeDisplayName {
    pub(in crate::signaling) display_name: String,
}

/// The answer to `join`.
#[derive(Debug, Serialize)]
pub(in crate::signaling) struct Joined {
    pub(in crate::signaling) peers: Vec<Peer>,
}

/// Another peer: in the answer to `join`, and in `newPeer`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct Peer {
    id: PeerId,
    display_name: Option<String>,
    device: Value,
}

impl Peer {
    pub(in crate::signaling) fn new(id: PeerId, info: live::PeerInfo) -> Self {
        Self { id, display_name: info.display_name, device: info.device }
    }
}

/// The answer to `produce`.
#[derive(Debug, Serialize)]
pub(in crate::signaling) struct Produced {
    pub(in crate::signaling) id: ProducerId,
}

/// `newConsumer`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct NewConsumer {
    pub(in crate::signaling) peer_id: PeerId,
    #[serde(flatten)]
    pub(in crate::signaling) options: ConsumerOptions,
}

/// The answer to `produceData`.
#[derive(Debug, Serialize)]
pub(in crate::signaling) struct ProducedData {
    pub(in crate::signaling) id: DataProducerId,
}

/// `newDataConsumer`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct NewDataConsumer {
    pub(in crate::signaling) peer_id: PeerId,
    pub(in crate::signaling) id: DataConsumerId,
    pub(in crate::signaling) data_producer_id: DataProducerId,
    pub(in crate::signaling) sctp_stream_parameters: Option<SctpStreamParameters>,
    pub(in crate::signaling) label: String,
    pub(in crate::signaling) protocol: String,
    pub(in crate::signaling) app_data: Value,
}

/// The answer to `getDataProducerStats` and `getDataConsumerStats`, in a list.
#[derive(Debug, Serialize)]
pub(in crate::signaling) struct DataStats<T> {
    pub(in crate::signaling) r#type: &'static str,
    #[serde(flatten)]
    pub(in crate::signaling) figures: T,
}

/// What goes with the other events from the server.
#[derive(Debug, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub(in crate::signaling) enum Payload {
    Peer { peer_id: PeerId },
    DisplayName { peer_id: PeerId, display_name: Option<String>, old_display_name: Option<String> },
    Consumer { consumer_id: ConsumerId },
    DataConsumer { data_consumer_id: DataConsumerId },
    Transport { transport_id: TransportId },
    Layers { consumer_id: ConsumerId, spatial_layer: Option<u8>, temporal_layer: Option<u8> },
    ConsumerScore { consumer_id: ConsumerId, score: ConsumerScore },
    ProducerScore { producer_id: ProducerId, score: Vec<EncodingScore> },
    DownlinkBwe { transport_id: TransportId, available_bitrate: u64, desired_bitrate: u64 },
    SpeakingPeers { peer_volumes: Vec<PeerVolume> },
}

/// One entry of `speakingPeers`: the volume is in dBov, from -127 to 0.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signaling) struct PeerVolume {
    pub(in crate::signaling) peer_id: PeerId,
    pub(in crate::signaling) volume: i8,
}
