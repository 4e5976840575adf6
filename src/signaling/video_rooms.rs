//! The dialect of `mediasoup-sfu-webrtc-video-rooms`: rooms that clients name, one transport for each way, and consumers
//! that run from the start.

pub(super) mod wire;

use serde_json::{Value, json};

use super::arguments::{self, id, read};
use super::client::{Client, Outgoing, to_value};
use super::objects::{ConsumerOptions, TransportOptions};
use super::refusal::Refusal;
use crate::ids::{PeerId, RoomId};
use crate::live::{Direction, Event, PeerEvent, PeerInfo, ProducerRef, Room, TransportRef};
use wire::{answers, incoming, outgoing};

/// Carries an event out.
pub(super) async fn handle(client: &mut Client, event: &str, argument: Value) -> Result<Value, Refusal> {
    match event {
        incoming::CREATE_ROOM => return create_room(client, &read(argument)?),
        incoming::JOIN => return join(client, read(argument)?).await,
        incoming::EXIT_ROOM => {
            client.room()?;
            client.leave().await;
            return Ok(json!(answers::EXITED));
        }
        _ => {}
    }
    let room = client.room()?;
    let peer = &client.peer;
    match event {
        incoming::GET_ROUTER_RTP_CAPABILITIES => Ok(to_value(room.rtp_capabilities())),
        incoming::GET_MY_ROOM_INFO => Ok(to_value(&room_info(&room))),
        incoming::GET_PRODUCERS => {
            let entry = |known: crate::live::RemoteProducer| wire::NewProducer {
                producer_id: known.id,
                producer_socket_id: known.peer,
            };
            let known: Vec<_> = room.producers_of_others(peer).into_iter().map(entry).collect();
            client.emit(Outgoing::new(outgoing::NEW_PRODUCERS, &known));
            Ok(Value::Null)
        }
        incoming::CREATE_WEBRTC_TRANSPORT => {
            // What it is for shows when it is used.
            Ok(to_value(&TransportOptions::from(
                room.create_transport(peer, Direction::Both, false, Default::default()).await?,
            )))
        }
        incoming::CONNECT_TRANSPORT => {
            let wanted: wire::ConnectTransport = read(argument)?;
            let dtls = arguments::dtls_parameters(&wanted.dtls_parameters)?;
            room.connect_transport(peer, id("transport", &wanted.transport_id)?, dtls).await?;
            Ok(json!(answers::SUCCESS))
        }
        incoming::PRODUCE => {
            let wanted: wire::Produce = read(argument)?;
            let on = TransportRef::Id(id("transport", &wanted.producer_transport_id)?);
            let parameters = arguments::rtp_parameters(&wanted.rtp_parameters)?;
            let producer_id = room.produce(peer, on, wanted.kind, parameters, json!({})).await?;
            Ok(to_value(&wire::Produced { producer_id }))
        }
        incoming::CONSUME => {
            let wanted: wire::Consume = read(argument)?;
            let on = TransportRef::Id(id("transport", &wanted.consumer_transport_id)?);
            let producer = id("producer", &wanted.producer_id)?;
            let capabilities = arguments::rtp_capabilities(&wanted.rtp_capabilities)?;
            let made = room.consume(peer, on, producer, capabilities, Default::default()).await?;
            room.set_consumer_paused(peer, made.consumer.id, false).await?;
            Ok(to_value(&ConsumerOptions::from(made)))
        }
        // Its consumers run from the start.
        incoming::RESUME => Ok(Value::Null),
        incoming::PRODUCER_CLOSED => {
            let wanted: wire::ProducerClosed = read(argument)?;
            let producer = ProducerRef::Id(id("producer", &wanted.producer_id)?);
            room.close_producer(peer, producer).await?;
            Ok(Value::Null)
        }
        unknown => Err(Refusal::unknown(unknown)),
    }
}

/// Rooms are made when the first one joins; this one is only looked up.
fn create_room(client: &Client, wanted: &wire::CreateRoom) -> Result<Value, Refusal> {
    let room = room_id(&wanted.room_id)?;
    let exists = client.rooms.get(&room).is_some();
    Ok(if exists { json!(answers::ALREADY_EXISTS) } else { to_value(&room) })
}

async fn join(client: &mut Client, wanted: wire::Join) -> Result<Value, Refusal> {
    client.enter(&room_id(&wanted.room_id)?).await?;
    let room = client.room()?;
    let info = PeerInfo { display_name: wanted.name, ..PeerInfo::default() };
    if let Err(error) = room.introduce(&client.peer, info) {
        client.leave().await;
        return Err(error.into());
    }
    Ok(to_value(&room_info(&room)))
}

/// How a room's event reads for the client `to`; none if it is not told.
pub(super) fn room_event(to: &PeerId, event: &Event) -> Option<Outgoing> {
    match event {
        Event::NewProducer { peer, producer, .. } if peer != to => {
            let new = wire::NewProducer { producer_id: *producer, producer_socket_id: peer.clone() };
            Some(Outgoing::new(outgoing::NEW_PRODUCERS, &[new]))
        }
        _ => None,
    }
}

/// How an event about a client's own things reads; none if it is not told.
pub(super) fn own_event(event: &PeerEvent) -> Option<Outgoing> {
    match *event {
        PeerEvent::ConsumerClosed { consumer: consumer_id, .. } => {
            Some(Outgoing::new(outgoing::CONSUMER_CLOSED, &wire::ConsumerClosed { consumer_id }))
        }
        _ => None,
    }
}

fn room_id(given: &str) -> Result<RoomId, Refusal> {
    given.parse().map_err(|error| Refusal::bad(&error))
}

fn room_info(room: &Room) -> wire::RoomInfo {
    let pair = |(id, info): (PeerId, PeerInfo)| (id.clone(), wire::Peer { id, name: info.display_name });
    let peers: Vec<_> = room.introduced_peers().into_iter().map(pair).collect();
    wire::RoomInfo { id: room.id().clone(), peers: to_value(&peers).to_string() }
}
