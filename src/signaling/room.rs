//! The room dialect: which event asks for what, how it is answered, and how a room's events read.

pub(super) mod wire;

use mediasoup_types::data_structures::DtlsParameters;
use mediasoup_types::rtp_parameters::{MediaKind, RtpCapabilities, RtpParameters};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::ids::{ConsumerId, PeerId, ProducerId, TransportId};
use crate::live::{Direction, Event, PeerEvent, ProducerRef, RemoteProducer, Room, TransportRef};
use crate::media::ortc;
use wire::{Payload, incoming, outgoing};

/// The longest error text that a client is sent, in characters: such a text can quote what the client sent.
const MAX_ERROR_CHARS: usize = 300;
/// The largest `appData` of a producer, in bytes of JSON.
const MAX_APP_DATA_BYTES: usize = 4096;

/// An event for a client.
#[derive(Debug)]
pub(super) struct Outgoing<T> {
    pub(super) name: &'static str,
    pub(super) payload: T,
}

/// What a client asks for, with everything in it checked as far as that goes without the room.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Request {
    GetRouterRtpCapabilities,
    CreateTransport(Direction),
    ConnectTransport { transport: TransportId, dtls: DtlsParameters },
    Produce { kind: MediaKind, parameters: RtpParameters, app_data: Value },
    Consume { producer: ProducerId, capabilities: RtpCapabilities },
    GetProducers,
    SetConsumerPaused { consumer: ConsumerId, paused: bool },
    CloseConsumer(ConsumerId),
    SetProducerPaused { producer: ProducerRef, paused: bool },
    CloseProducer(ProducerRef),
}

impl Request {
    /// Reads an event. `text` is its JSON: an array of the name and the arguments, of which the first one counts.
    pub(super) fn parse(event: &str, text: &str) -> Result<Self, String> {
        let arguments: Vec<Value> =
            serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
        let argument = arguments.into_iter().nth(1).unwrap_or(Value::Null);
        Self::from_argument(event, argument)
    }

    fn from_argument(event: &str, argument: Value) -> Result<Self, String> {
        match event {
            incoming::GET_ROUTER_RTP_CAPABILITIES => Ok(Self::GetRouterRtpCapabilities),
            incoming::GET_PRODUCERS => Ok(Self::GetProducers),
            incoming::CREATE_WEBRTC_TRANSPORT => {
                let wanted: wire::CreateWebRtcTransport = read(argument)?;
                let direction = if wanted.is_consumer { Direction::Receive } else { Direction::Send };
                Ok(Self::CreateTransport(direction))
            }
            incoming::CONNECT_TRANSPORT => {
                let wanted: wire::ConnectTransport = read(argument)?;
                let dtls = ortc::parse_dtls_parameters(&wanted.dtls_parameters).map_err(text)?;
                Ok(Self::ConnectTransport { transport: id("transport", &wanted.transport_id)?, dtls })
            }
            incoming::TRANSPORT_PRODUCE => produce(read(argument)?),
            incoming::TRANSPORT_CONSUME => {
                let wanted: wire::TransportConsume = read(argument)?;
                let capabilities = ortc::parse_rtp_capabilities(&wanted.rtp_capabilities).map_err(text)?;
                Ok(Self::Consume { producer: id("producer", &wanted.remote_producer_id)?, capabilities })
            }
            incoming::RESUME_CONSUMER => {
                Ok(Self::SetConsumerPaused { consumer: consumer(argument)?, paused: false })
            }
            incoming::PAUSE_CONSUMER => {
                Ok(Self::SetConsumerPaused { consumer: consumer(argument)?, paused: true })
            }
            incoming::CLOSE_CONSUMER => Ok(Self::CloseConsumer(consumer(argument)?)),
            incoming::RESUME_PRODUCER => {
                Ok(Self::SetProducerPaused { producer: own_producer(argument)?, paused: false })
            }
            incoming::PAUSE_PRODUCER => {
                Ok(Self::SetProducerPaused { producer: own_producer(argument)?, paused: true })
            }
            incoming::CLOSE_PRODUCER => Ok(Self::CloseProducer(own_producer(argument)?)),
            unknown => Err(format!("unknown event {unknown:?}")),
        }
    }
}

fn produce(wanted: wire::TransportProduce) -> Result<Request, String> {
    let app_data = match wanted.app_data {
        Value::Null => json!({}),
        Value::Object(_) => wanted.app_data,
        _ => return Err("appData: not an object".into()),
    };
    if app_data.to_string().len() > MAX_APP_DATA_BYTES {
        return Err(format!("appData: larger than {MAX_APP_DATA_BYTES} bytes"));
    }
    let parameters = ortc::parse_rtp_parameters(&wanted.rtp_parameters).map_err(text)?;
    Ok(Request::Produce { kind: wanted.kind, parameters, app_data })
}

fn consumer(argument: Value) -> Result<ConsumerId, String> {
    let wanted: wire::ConsumerRef = read(argument)?;
    id("consumer", &wanted.consumer_id)
}

fn own_producer(argument: Value) -> Result<ProducerRef, String> {
    let wanted: wire::ProducerRef = read(argument)?;
    match (wanted.producer_id, wanted.kind) {
        (Some(producer), _) => Ok(ProducerRef::Id(id("producer", &producer)?)),
        (None, Some(kind)) => Ok(ProducerRef::Kind(kind)),
        (None, None) => Err("neither kind nor producerId is given".into()),
    }
}

fn read<T: DeserializeOwned>(argument: Value) -> Result<T, String> {
    if !argument.is_object() {
        return Err("the argument is not an object".into());
    }
    serde_json::from_value(argument).map_err(text)
}

/// An id that can't be one of ours gets the same answer as one that is not there.
fn id<T: std::str::FromStr>(what: &str, given: &str) -> Result<T, String> {
    given.parse().map_err(|_| format!("{what} {} not found", shorten(given)))
}

/// Carries a request out. The error is the text that the client gets.
pub(super) async fn handle(request: Request, room: &Room, peer: &PeerId) -> Result<Value, String> {
    match request {
        Request::GetRouterRtpCapabilities => {
            answer(&wire::RouterRtpCapabilities { rtp_capabilities: room.rtp_capabilities() })
        }
        Request::CreateTransport(direction) => {
            let made = room.create_transport(peer, direction, true).await.map_err(text)?;
            answer(&wire::WebRtcTransport {
                id: made.id,
                ice_parameters: made.ice_parameters,
                ice_candidates: made.ice_candidates.into_iter().map(Into::into).collect(),
                dtls_parameters: made.dtls_parameters,
            })
        }
        Request::ConnectTransport { transport, dtls } => {
            room.connect_transport(peer, transport, dtls).await.map_err(text)?;
            Ok(json!({ "connected": true }))
        }
        Request::Produce { kind, parameters, app_data } => {
            let id =
                room.produce(peer, TransportRef::Newest, kind, parameters, app_data).await.map_err(text)?;
            answer(&wire::Produced { id })
        }
        Request::Consume { producer, capabilities } => {
            let made =
                room.consume(peer, TransportRef::Newest, producer, capabilities).await.map_err(text)?;
            answer(&wire::Consumed {
                id: made.consumer.id,
                producer_id: made.consumer.producer_id,
                kind: made.consumer.kind,
                rtp_parameters: made.consumer.rtp_parameters,
                r#type: made.consumer.producer_type,
                producer_paused: made.consumer.producer_paused,
                app_data: made.app_data,
            })
        }
        Request::GetProducers => {
            let entry =
                |known: RemoteProducer| wire::RemoteProducer { peer_id: known.peer, producer_id: known.id };
            answer(&wire::Producers {
                producers: room.producers_of_others(peer).into_iter().map(entry).collect(),
            })
        }
        Request::SetConsumerPaused { consumer, paused } => {
            room.set_consumer_paused(peer, consumer, paused).await.map_err(text)?;
            Ok(json!({ "paused": paused }))
        }
        Request::CloseConsumer(consumer) => {
            room.close_consumer(peer, consumer).await.map_err(text)?;
            Ok(json!({ "closed": true }))
        }
        Request::SetProducerPaused { producer, paused } => {
            room.set_producer_paused(peer, producer, paused).await.map_err(text)?;
            Ok(json!({ "paused": paused }))
        }
        Request::CloseProducer(producer) => {
            room.close_producer(peer, producer).await.map_err(text)?;
            Ok(json!({ "closed": true }))
        }
    }
}

/// The first event on every socket.
pub(super) fn welcome(peer: &PeerId) -> Outgoing<Payload> {
    let payload = Payload::ConnectionSuccess { socket_id: peer.clone() };
    Outgoing { name: outgoing::CONNECTION_SUCCESS, payload }
}

/// How a room's event reads for the client `to`; none if it is not told.
pub(super) fn room_event(to: &PeerId, event: &Event) -> Option<Outgoing<Payload>> {
    let change = |peer: &PeerId, kind, paused| Outgoing {
        name: outgoing::PRODUCER_CHANGE,
        payload: Payload::ProducerChange { kind, peer_id: peer.clone(), paused },
    };
    Some(match event {
        // A publisher learns of its own producers by the answers that it gets.
        Event::NewProducer { peer, .. } | Event::ProducerClosed { peer, .. } if peer == to => return None,
        Event::NewProducer { peer, producer, .. } => Outgoing {
            name: outgoing::NEW_PRODUCER,
            payload: Payload::NewProducer { producer_id: *producer, producer_socket_id: peer.clone() },
        },
        Event::ProducerClosed { peer, producer, .. } => Outgoing {
            name: outgoing::PRODUCER_CLOSED,
            payload: Payload::ProducerClosed { producer_id: *producer, peer_id: peer.clone() },
        },
        Event::ProducerPaused { peer, kind, .. } => change(peer, *kind, true),
        Event::ProducerResumed { peer, kind, .. } => change(peer, *kind, false),
        Event::PeerLeft(peer) => {
            Outgoing { name: outgoing::PEER_LEFT, payload: Payload::PeerLeft { peer_id: peer.clone() } }
        }
        // This dialect knows no names.
        Event::PeerJoined { .. } | Event::PeerRenamed { .. } => return None,
    })
}

/// How an event about a client's own things reads.
pub(super) fn own_event(event: &PeerEvent) -> Outgoing<Payload> {
    let consumer = |name, consumer_id| Outgoing { name, payload: Payload::Consumer { consumer_id } };
    match *event {
        PeerEvent::ConsumerClosed(id) => consumer(outgoing::CONSUMER_CLOSED, id),
        PeerEvent::ConsumerPaused(id) => consumer(outgoing::CONSUMER_PAUSED, id),
        PeerEvent::ConsumerResumed(id) => consumer(outgoing::CONSUMER_RESUMED, id),
        PeerEvent::TransportClosed(transport_id) => {
            Outgoing { name: outgoing::TRANSPORT_CLOSED, payload: Payload::Transport { transport_id } }
        }
    }
}

/// `text` without what is too long to send back or to log.
pub(super) fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_ERROR_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn answer<T: Serialize>(value: &T) -> Result<Value, String> {
    serde_json::to_value(value).map_err(text)
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn text(error: impl ToString) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests;
