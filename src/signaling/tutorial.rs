//! The dialect of the most copied mediasoup tutorial: rooms by name, and one transport more for each consumer.

pub(super) mod wire;

use serde_json::Value;

use super::arguments::{self, id, read};
use super::client::{Client, Outgoing, to_value};
use super::objects::{ConsumerOptions, TransportOptions};
use super::refusal::{Code, Refusal};
use crate::ids::PeerId;
use crate::live::{Direction, Event, PeerEvent, PeerInfo, TransportRef};
use wire::{Params, incoming, outgoing};

/// The first event on a socket.
pub(super) fn welcome(peer: &PeerId) -> Outgoing {
    Outgoing::new(outgoing::CONNECTION_SUCCESS, &wire::ConnectionSuccess { socket_id: peer.clone() })
}

/// How a refusal reads where the answer to `event` is expected.
pub(super) fn refused(event: &str, refusal: &Refusal) -> Value {
    match event {
        incoming::CREATE_WEBRTC_TRANSPORT | incoming::CONSUME => {
            to_value(&Params { params: refusal.to_value() })
        }
        _ => refusal.to_value(),
    }
}

/// Carries an event out.
pub(super) async fn handle(client: &mut Client, event: &str, argument: Value) -> Result<Value, Refusal> {
    if event == incoming::JOIN_ROOM {
        let wanted: wire::JoinRoom = read(argument)?;
        let id = wanted.room_name.parse().map_err(|error| Refusal::bad(&error))?;
        client.enter(&id).await?;
        let room = client.room()?;
        room.introduce(&client.peer, PeerInfo::default())?;
        return Ok(to_value(&wire::Joined { rtp_capabilities: room.rtp_capabilities() }));
    }
    let room = client.room()?;
    let peer = &client.peer;
    match event {
        incoming::CREATE_WEBRTC_TRANSPORT => {
            let wanted: wire::CreateWebRtcTransport = read(argument)?;
            let (direction, replaces) =
                if wanted.consumer { (Direction::Receive, false) } else { (Direction::Send, true) };
            let made = room.create_transport(peer, direction, replaces, Default::default()).await?;
            Ok(to_value(&Params { params: TransportOptions::from(made) }))
        }
        incoming::TRANSPORT_CONNECT => {
            let wanted: wire::TransportConnect = read(argument)?;
            let dtls = arguments::dtls_parameters(&wanted.dtls_parameters)?;
            let transport = room.newest_transport(peer, Direction::Send);
            let transport =
                transport.ok_or_else(|| Refusal::new(Code::NotReady, &"no transport to send on"))?;
            room.connect_transport(peer, transport, dtls).await?;
            Ok(Value::Null)
        }
        incoming::TRANSPORT_RECV_CONNECT => {
            let wanted: wire::TransportRecvConnect = read(argument)?;
            let dtls = arguments::dtls_parameters(&wanted.dtls_parameters)?;
            let transport = id("transport", &wanted.server_consumer_transport_id)?;
            room.connect_transport(peer, transport, dtls).await?;
            Ok(Value::Null)
        }
        incoming::TRANSPORT_PRODUCE => {
            let wanted: wire::TransportProduce = read(argument)?;
            let parameters = arguments::rtp_parameters(&wanted.rtp_parameters)?;
            let app_data = arguments::app_data(wanted.app_data)?;
            let id = room.produce(peer, TransportRef::Newest, wanted.kind, parameters, app_data).await?;
            let producers_exist = !room.producers_of_others(peer).is_empty();
            Ok(to_value(&wire::Produced { id, producers_exist }))
        }
        incoming::GET_PRODUCERS => {
            let ids: Vec<_> = room.producers_of_others(peer).into_iter().map(|known| known.id).collect();
            Ok(to_value(&ids))
        }
        incoming::CONSUME => {
            let wanted: wire::Consume = read(argument)?;
            let on = TransportRef::Id(id("transport", &wanted.server_consumer_transport_id)?);
            let producer = id("producer", &wanted.remote_producer_id)?;
            let capabilities = arguments::rtp_capabilities(&wanted.rtp_capabilities)?;
            let made = room.consume(peer, on, producer, capabilities, Default::default()).await?;
            let server_consumer_id = made.consumer.id;
            let params = wire::Consumed { options: ConsumerOptions::from(made), server_consumer_id };
            Ok(to_value(&Params { params }))
        }
        incoming::CONSUMER_RESUME => {
            let wanted: wire::ConsumerResume = read(argument)?;
            room.set_consumer_paused(peer, id("consumer", &wanted.server_consumer_id)?, false).await?;
            Ok(Value::Null)
        }
        unknown => Err(Refusal::unknown(unknown)),
    }
}

/// How a room's event reads for the client `to`; none if it is not told.
pub(super) fn room_event(to: &PeerId, event: &Event) -> Option<Outgoing> {
    match event {
        Event::NewProducer { peer, producer, .. } if peer != to => {
            Some(Outgoing::new(outgoing::NEW_PRODUCER, &wire::NewProducer { producer_id: *producer }))
        }
        _ => None,
    }
}

/// How an event about a client's own things reads; none if it is not told.
pub(super) fn own_event(event: &PeerEvent) -> Option<Outgoing> {
    match *event {
        PeerEvent::ConsumerClosed { producer, .. } => {
            let closed = wire::ProducerClosed { remote_producer_id: producer };
            Some(Outgoing::new(outgoing::PRODUCER_CLOSED, &closed))
        }
        _ => None,
    }
}
