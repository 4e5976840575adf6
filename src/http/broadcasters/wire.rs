//! What broadcasters send and get, as JSON. Nothing else.

use std::net::IpAddr;

use mediasoup_types::data_structures::{DtlsParameters, IceCandidate, IceParameters};
use mediasoup_types::rtp_parameters::{MediaKind, RtpParameters};
use mediasoup_types::sctp_parameters::{SctpParameters, SctpStreamParameters};
use mediasoup_types::srtp_parameters::{SrtpCryptoSuite, SrtpParameters};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::ids::{ConsumerId, DataConsumerId, PeerId, ProducerId, TransportId};
use crate::live::broadcasters::{Broadcaster, OtherPeer};
use crate::live::ice_servers::IceServer;
use crate::live::{Consumed, ConsumedData, CreatedTransport, RemoteProducer};
use crate::media::ortc::ProducerType;
use crate::sfu::data::DataProducerOptions;
use crate::sfu::plain_transport::{PlainRemote, PlainTransportInfo, PlainTransportOptions};

/// `POST /rooms/:room/broadcasters`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Create {
    pub(super) id: String,
    pub(super) display_name: String,
    pub(super) device: Device,
    /// Without them, it can't consume.
    pub(super) rtp_capabilities: Option<Value>,
}

/// What a broadcaster runs on.
#[derive(Debug, Deserialize)]
pub(super) struct Device {
    name: String,
    version: Option<String>,
}

impl Device {
    /// As the other peers are told it; the flag is how mediasoup-demo's page knows a broadcaster.
    pub(super) fn into_value(self) -> Value {
        let mut told = json!({ "flag": "broadcaster", "name": self.name });
        if let (Some(version), Some(told)) = (self.version, told.as_object_mut()) {
            told.insert("version".into(), version.into());
        }
        told
    }
}

/// `POST …/transports`.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum CreateTransport {
    Plain(CreatePlain),
    Webrtc {
        /// With them, the transport carries data channels. What is in them is not used.
        #[serde(rename = "sctpCapabilities")]
        sctp_capabilities: Option<Value>,
    },
}

/// The options of a plain transport, with mediasoup-demo's defaults.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreatePlain {
    #[serde(default)]
    rtcp_mux: bool,
    #[serde(default = "yes")]
    comedia: bool,
    #[serde(default)]
    enable_srtp: bool,
    srtp_crypto_suite: Option<SrtpCryptoSuite>,
}

fn yes() -> bool {
    true
}

impl From<CreatePlain> for PlainTransportOptions {
    fn from(wanted: CreatePlain) -> Self {
        let suite = wanted.srtp_crypto_suite.unwrap_or(SrtpCryptoSuite::AesCm128HmacSha180);
        Self {
            rtcp_mux: wanted.rtcp_mux,
            comedia: wanted.comedia,
            srtp: wanted.enable_srtp.then(|| suite.into()),
            listen_ip: None,
        }
    }
}

/// The answer to `POST …/transports` of type plain.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlainTransport {
    id: TransportId,
    ip: String,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtcp_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    srtp_parameters: Option<SrtpParameters>,
}

impl From<PlainTransportInfo> for PlainTransport {
    fn from(made: PlainTransportInfo) -> Self {
        Self {
            id: made.id,
            ip: made.tuple.local_address().to_owned(),
            port: made.tuple.local_port(),
            rtcp_port: made.rtcp_tuple.map(|tuple| tuple.local_port()),
            srtp_parameters: made.srtp_parameters,
        }
    }
}

/// The answer to `POST …/transports` of type webrtc.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WebRtcTransport {
    id: TransportId,
    ice_parameters: IceParameters,
    ice_candidates: Vec<IceCandidate>,
    dtls_parameters: DtlsParameters,
    #[serde(skip_serializing_if = "Option::is_none")]
    sctp_parameters: Option<SctpParameters>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ice_servers: Vec<IceServer>,
}

impl From<CreatedTransport> for WebRtcTransport {
    fn from(CreatedTransport { info, ice_servers }: CreatedTransport) -> Self {
        Self {
            id: info.id,
            ice_parameters: info.ice_parameters,
            ice_candidates: info.ice_candidates,
            dtls_parameters: info.dtls_parameters,
            sctp_parameters: info.sctp_parameters,
            ice_servers,
        }
    }
}

/// `POST …/connect`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Connect {
    pub(super) dtls_parameters: Value,
}

/// `POST …/plain-connect`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConnectPlain {
    ip: Option<IpAddr>,
    port: Option<u16>,
    rtcp_port: Option<u16>,
    srtp_parameters: Option<SrtpParameters>,
}

impl From<ConnectPlain> for PlainRemote {
    fn from(wanted: ConnectPlain) -> Self {
        Self {
            ip: wanted.ip,
            port: wanted.port,
            rtcp_port: wanted.rtcp_port,
            srtp_parameters: wanted.srtp_parameters,
        }
    }
}

/// `POST …/producers`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Produce {
    pub(super) kind: MediaKind,
    pub(super) rtp_parameters: Value,
}

/// The query of `POST …/consume`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Consume {
    pub(super) producer_id: String,
}

/// `POST …/produce/data`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProduceData {
    sctp_stream_parameters: StreamParameters,
    #[serde(default)]
    label: String,
    #[serde(default)]
    protocol: String,
    pub(super) app_data: Option<Map<String, Value>>,
}

/// The SCTP stream of a data producer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StreamParameters {
    stream_id: u16,
    ordered: Option<bool>,
    max_packet_life_time: Option<u16>,
    max_retransmits: Option<u16>,
}

impl From<ProduceData> for DataProducerOptions {
    fn from(wanted: ProduceData) -> Self {
        let stream = wanted.sctp_stream_parameters;
        let is_reliable = stream.max_packet_life_time.is_none() && stream.max_retransmits.is_none();
        let parameters = SctpStreamParameters {
            stream_id: stream.stream_id,
            ordered: stream.ordered.unwrap_or(is_reliable),
            max_packet_life_time: stream.max_packet_life_time,
            max_retransmits: stream.max_retransmits,
        };
        Self {
            sctp_stream_parameters: Some(parameters),
            label: wanted.label,
            protocol: wanted.protocol,
            paused: false,
        }
    }
}

/// `POST …/consume/data`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConsumeData {
    pub(super) data_producer_id: String,
}

/// The answer to `POST …/producers` and `…/produce/data`.
#[derive(Debug, Serialize)]
pub(super) struct Made {
    pub(super) id: String,
}

/// The answer to `POST …/consume`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Consumer {
    id: ConsumerId,
    producer_id: ProducerId,
    kind: MediaKind,
    rtp_parameters: RtpParameters,
    r#type: ProducerType,
}

impl From<Consumed> for Consumer {
    fn from(Consumed { consumer, .. }: Consumed) -> Self {
        Self {
            id: consumer.id,
            producer_id: consumer.producer_id,
            kind: consumer.kind,
            rtp_parameters: consumer.rtp_parameters,
            r#type: consumer.producer_type,
        }
    }
}

/// The answer to `POST …/consume/data`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DataConsumer {
    id: DataConsumerId,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_id: Option<u16>,
}

impl From<ConsumedData> for DataConsumer {
    fn from(ConsumedData { consumer, .. }: ConsumedData) -> Self {
        let stream_id = consumer.sctp_stream_parameters.map(|stream| stream.stream_id);
        Self { id: consumer.id, stream_id }
    }
}

/// The others in the room: the answer to `POST …/broadcasters` and `GET …/broadcasters/:id`.
#[derive(Debug, Serialize)]
pub(super) struct Others {
    peers: Vec<Peer>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Peer {
    id: PeerId,
    display_name: Option<String>,
    device: Value,
    producers: Vec<Producer>,
}

#[derive(Debug, Serialize)]
struct Producer {
    id: ProducerId,
    kind: MediaKind,
}

impl Others {
    /// Those that a broadcaster is in a room with.
    pub(super) fn of(broadcaster: &Broadcaster) -> Self {
        Self { peers: broadcaster.others().into_iter().map(Peer::from).collect() }
    }
}

impl From<OtherPeer> for Peer {
    fn from(OtherPeer { id, info, producers }: OtherPeer) -> Self {
        let producer = |RemoteProducer { id, kind, .. }| Producer { id, kind };
        Self {
            id,
            display_name: info.display_name,
            device: info.device,
            producers: producers.into_iter().map(producer).collect(),
        }
    }
}
