//! The room dialect: which event asks for what, how it is answered, and how a room's events read.

pub(super) mod wire;

use mediasoup_types::data_structures::DtlsParameters;
use mediasoup_types::rtp_parameters::{MediaKind, RtpCapabilities, RtpParameters};
use serde_json::{Value, json};

use super::arguments::{self, id, read};
use super::client::{Client, Outgoing, to_value};
use super::objects::{ConsumerOptions, TransportOptions};
use super::refusal::Refusal;
use crate::ids::{ConsumerId, PeerId, ProducerId, TransportId};
use crate::live::{Direction, Event, PeerEvent, PeerInfo, ProducerRef, RemoteProducer, Room, TransportRef};
use wire::{Payload, incoming, outgoing};

/// What a client asks for, with everything in it checked as far as that goes without the room.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Request {
    GetRouterRtpCapabilities { bare_too: bool },
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
    /// Reads an event.
    fn read(event: &str, argument: Value) -> Result<Self, Refusal> {
        match event {
            incoming::GET_ROUTER_RTP_CAPABILITIES => {
                Ok(Self::GetRouterRtpCapabilities { bare_too: argument.is_object() })
            }
            incoming::GET_PRODUCERS => Ok(Self::GetProducers),
            incoming::CREATE_WEBRTC_TRANSPORT => {
                let wanted: wire::CreateWebRtcTransport = read(argument)?;
                let direction = if wanted.is_consumer { Direction::Receive } else { Direction::Send };
                Ok(Self::CreateTransport(direction))
            }
            incoming::CONNECT_TRANSPORT => {
                let wanted: wire::ConnectTransport = read(argument)?;
                let dtls = arguments::dtls_parameters(&wanted.dtls_parameters)?;
                Ok(Self::ConnectTransport { transport: id("transport", &wanted.transport_id)?, dtls })
            }
            incoming::TRANSPORT_PRODUCE => produce(read(argument)?),
            incoming::TRANSPORT_CONSUME => {
                let wanted: wire::TransportConsume = read(argument)?;
                let capabilities = arguments::rtp_capabilities(&wanted.rtp_capabilities)?;
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
            unknown => Err(Refusal::unknown(unknown)),
        }
    }
}

fn produce(wanted: wire::TransportProduce) -> Result<Request, Refusal> {
    let app_data = arguments::app_data(wanted.app_data)?;
    let parameters = arguments::rtp_parameters(&wanted.rtp_parameters)?;
    Ok(Request::Produce { kind: wanted.kind, parameters, app_data })
}

fn consumer(argument: Value) -> Result<ConsumerId, Refusal> {
    let wanted: wire::ConsumerRef = read(argument)?;
    id("consumer", &wanted.consumer_id)
}

fn own_producer(argument: Value) -> Result<ProducerRef, Refusal> {
    let wanted: wire::ProducerRef = read(argument)?;
    match (wanted.producer_id, wanted.kind) {
        (Some(producer), _) => Ok(ProducerRef::Id(id("producer", &producer)?)),
        (None, Some(kind)) => Ok(ProducerRef::Kind(kind)),
        (None, None) => Err(Refusal::bad(&"neither kind nor producerId is given")),
    }
}

/// Carries an event out.
pub(super) async fn handle(client: &mut Client, event: &str, argument: Value) -> Result<Value, Refusal> {
    let request = Request::read(event, argument)?;
    let room = client.room()?;
    if room.peer_info(&client.peer).is_none() {
        // From its first event on, the client is someone for those whose dialect has names.
        room.introduce(&client.peer, PeerInfo::default())?;
    }
    carry_out(request, &room, &client.peer).await
}

async fn carry_out(request: Request, room: &Room, peer: &PeerId) -> Result<Value, Refusal> {
    Ok(match request {
        Request::GetRouterRtpCapabilities { bare_too } => {
            let rtp_capabilities = room.rtp_capabilities();
            if bare_too {
                to_value(&wire::RouterRtpCapabilitiesTwice { rtp_capabilities, bare: rtp_capabilities })
            } else {
                to_value(&wire::RouterRtpCapabilities { rtp_capabilities })
            }
        }
        Request::CreateTransport(direction) => to_value(&TransportOptions::from(
            room.create_transport(peer, direction, true, Default::default()).await?,
        )),
        Request::ConnectTransport { transport, dtls } => {
            room.connect_transport(peer, transport, dtls).await?;
            json!({ "connected": true })
        }
        Request::Produce { kind, parameters, app_data } => {
            let id = room.produce(peer, TransportRef::Newest, kind, parameters, app_data).await?;
            to_value(&wire::Produced { id })
        }
        Request::Consume { producer, capabilities } => {
            let made =
                room.consume(peer, TransportRef::Newest, producer, capabilities, Default::default()).await?;
            to_value(&ConsumerOptions::from(made))
        }
        Request::GetProducers => {
            let entry =
                |known: RemoteProducer| wire::RemoteProducer { peer_id: known.peer, producer_id: known.id };
            let producers = room.producers_of_others(peer).into_iter().map(entry).collect();
            to_value(&wire::Producers { producers })
        }
        Request::SetConsumerPaused { consumer, paused } => {
            room.set_consumer_paused(peer, consumer, paused).await?;
            json!({ "paused": paused })
        }
        Request::CloseConsumer(consumer) => {
            room.close_consumer(peer, consumer).await?;
            json!({ "closed": true })
        }
        Request::SetProducerPaused { producer, paused } => {
            room.set_producer_paused(peer, producer, paused).await?;
            json!({ "paused": paused })
        }
        Request::CloseProducer(producer) => {
            room.close_producer(peer, producer).await?;
            json!({ "closed": true })
        }
    })
}

/// The first event on every socket.
pub(super) fn welcome(peer: &PeerId) -> Outgoing {
    Outgoing::new(outgoing::CONNECTION_SUCCESS, &Payload::ConnectionSuccess { socket_id: peer.clone() })
}

/// How a room's event reads for the client `to`; none if it is not told.
pub(super) fn room_event(to: &PeerId, event: &Event) -> Option<Outgoing> {
    let change = |peer: &PeerId, kind, paused| {
        (outgoing::PRODUCER_CHANGE, Payload::ProducerChange { kind, peer_id: peer.clone(), paused })
    };
    let (name, payload) = match event {
        // A publisher learns of its own producers by the answers that it gets.
        Event::NewProducer { peer, .. } | Event::ProducerClosed { peer, .. } if peer == to => return None,
        Event::NewProducer { peer, producer, .. } => (
            outgoing::NEW_PRODUCER,
            Payload::NewProducer { producer_id: *producer, producer_socket_id: peer.clone() },
        ),
        Event::ProducerClosed { peer, producer, .. } => (
            outgoing::PRODUCER_CLOSED,
            Payload::ProducerClosed { producer_id: *producer, peer_id: peer.clone() },
        ),
        Event::ProducerPaused { peer, kind, .. } => change(peer, *kind, true),
        Event::ProducerResumed { peer, kind, .. } => change(peer, *kind, false),
        Event::PeerLeft { peer, .. } => (outgoing::PEER_LEFT, Payload::PeerLeft { peer_id: peer.clone() }),
        // This dialect knows no names, no data channels and no speakers.
        Event::PeerJoined { .. }
        | Event::PeerRenamed { .. }
        | Event::NewDataProducer { .. }
        | Event::SpeakingPeers(_)
        | Event::ActiveSpeaker(_) => return None,
    };
    Some(Outgoing::new(name, &payload))
}

/// How an event about a client's own things reads; none if it is not told.
pub(super) fn own_event(event: &PeerEvent) -> Option<Outgoing> {
    let consumer = |name, consumer_id| Outgoing::new(name, &Payload::Consumer { consumer_id });
    Some(match *event {
        PeerEvent::ConsumerClosed { consumer: id, .. } => consumer(outgoing::CONSUMER_CLOSED, id),
        PeerEvent::ConsumerPaused(id) => consumer(outgoing::CONSUMER_PAUSED, id),
        PeerEvent::ConsumerResumed(id) => consumer(outgoing::CONSUMER_RESUMED, id),
        PeerEvent::TransportClosed(transport_id) => {
            Outgoing::new(outgoing::TRANSPORT_CLOSED, &Payload::Transport { transport_id })
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
