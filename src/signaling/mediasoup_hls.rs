//! The dialect of the `mediasoup-hls` meeting application: one meeting, which is the default room, and consumers of
//! everything at once.
//!
//! Its users come from accounts that weir does not have: a user's id is the socket's, and its name too, unless the peer
//! told one in another dialect.

pub(super) mod wire;

use serde_json::{Value, json};
use tracing::debug;

use super::arguments::{self, id, read};
use super::client::{Client, Outgoing, to_value};
use super::objects::{ConsumerOptions, TransportOptions};
use super::refusal::{Code, Refusal};
use crate::ids::{PeerId, ProducerId};
use crate::live::{Consumed, Direction, Event, PeerInfo, ProducerRef, Room, TransportRef};
use wire::{incoming, outgoing};

/// Carries an event out.
pub(super) async fn handle(client: &mut Client, event: &str, argument: Value) -> Result<Value, Refusal> {
    let room = client.room()?;
    let peer = client.peer.clone();
    if room.peer_info(&peer).is_none() {
        room.introduce(&peer, PeerInfo::default())?;
    }
    match event {
        incoming::INITIALIZE => Ok(json!(true)),
        incoming::GET_RTP_CAPABILITIES => {
            let capabilities = wire::RtpCapabilities { data: room.rtp_capabilities() };
            client.emit(Outgoing::new(outgoing::RTP_CAPABILITIES, &capabilities));
            Ok(Value::Null)
        }
        incoming::GET_ALL_USERS_IN_ROOM => {
            let user = |(id, info)| wire::User { name: name(&id, Some(&info)), id, img_src: None };
            Ok(to_value(&room.introduced_peers().into_iter().map(user).collect::<Vec<_>>()))
        }
        incoming::CREATE_TRANSPORT => {
            let wanted: wire::CreateTransport = read(argument)?;
            let direction = if wanted.consumer { Direction::Receive } else { Direction::Send };
            Ok(to_value(&TransportOptions::from(
                room.create_transport(&peer, direction, true, Default::default()).await?,
            )))
        }
        incoming::TRANSPORT_CONNECT => {
            let wanted: wire::TransportConnect = read(argument)?;
            let dtls = arguments::dtls_parameters(&wanted.dtls_parameters)?;
            room.connect_transport(&peer, id("transport", &wanted.transport_id)?, dtls).await?;
            Ok(json!(true))
        }
        incoming::TRANSPORT_PRODUCE => {
            let wanted: wire::TransportProduce = read(argument)?;
            let on = TransportRef::Id(id("transport", &wanted.transport_id)?);
            let parameters = arguments::rtp_parameters(&wanted.rtp_parameters)?;
            let app_data = arguments::app_data(wanted.app_data)?;
            let id = room.produce(&peer, on, wanted.kind, parameters, app_data).await?;
            Ok(to_value(&wire::Produced { id, user_id: peer, kind: wanted.kind }))
        }
        incoming::TRANSPORT_CONSUME => {
            let wanted: wire::TransportConsume = read(argument)?;
            consume_all(&room, &peer, &wanted.rtp_capabilities).await
        }
        incoming::CONSUME_NEW_USER => {
            let wanted: wire::ConsumeNewUser = read(argument)?;
            let producer = id("producer", &wanted.producer_id)?;
            let capabilities = arguments::rtp_capabilities(&wanted.rtp_capabilities)?;
            let made =
                room.consume(&peer, TransportRef::Newest, producer, capabilities, Default::default()).await?;
            Ok(to_value(&consumed(made)))
        }
        incoming::RESUME_CONSUME_TRANSPORT => {
            let wanted: wire::ResumeConsumeTransport = read(argument)?;
            room.set_consumer_paused(&peer, id("consumer", &wanted.consumer_id)?, false).await?;
            Ok(json!(true))
        }
        incoming::CLOSE_PRODUCER => {
            let wanted: wire::CloseProducer = read(argument)?;
            let producer_id: ProducerId = id("producer", &wanted.producer_id)?;
            let kind = room.close_producer(&peer, ProducerRef::Id(producer_id)).await?;
            Ok(to_value(&wire::Producer { user_id: peer, producer_id, kind }))
        }
        unknown => Err(Refusal::unknown(unknown)),
    }
}

/// Consumers of everything that the client can receive.
async fn consume_all(room: &Room, peer: &PeerId, capabilities: &Value) -> Result<Value, Refusal> {
    let capabilities = arguments::rtp_capabilities(capabilities)?;
    if room.newest_transport(peer, Direction::Receive).is_none() {
        return Err(Refusal::new(Code::NotReady, &"no transport to receive on"));
    }
    let mut consumers = Vec::new();
    for producer in room.producers_of_others(peer) {
        match room
            .consume(peer, TransportRef::Newest, producer.id, capabilities.clone(), Default::default())
            .await
        {
            Ok(made) => consumers.push(consumed(made)),
            Err(error) => debug!(%peer, producer = %producer.id, %error, "left out"),
        }
    }
    Ok(to_value(&consumers))
}

fn consumed(made: Consumed) -> wire::Consumed {
    wire::Consumed { user_id: made.publisher.clone(), options: ConsumerOptions::from(made) }
}

fn name(peer: &PeerId, info: Option<&PeerInfo>) -> String {
    info.and_then(|info| info.display_name.clone()).unwrap_or_else(|| peer.to_string())
}

/// How a room's event reads for the client `to`; none if it is not told.
pub(super) fn room_event(to: &PeerId, event: &Event) -> Option<Outgoing> {
    let producer = |name, peer: &PeerId, producer_id, kind| {
        Some(Outgoing::new(name, &wire::Producer { user_id: peer.clone(), producer_id, kind }))
    };
    match event {
        Event::PeerJoined { peer, info } if peer != to => {
            let name = name(peer, Some(info));
            let joined = wire::NewUserJoined { user_id: peer.clone(), name, img_src: None };
            Some(Outgoing::new(outgoing::NEW_USER_JOINED, &joined))
        }
        Event::PeerLeft { peer, info: Some(info) } => {
            let left = wire::UserLeft { id: peer.clone(), name: name(peer, Some(info)) };
            Some(Outgoing::new(outgoing::USER_LEFT, &left))
        }
        Event::NewProducer { peer, producer: id, kind } if peer != to => {
            producer(outgoing::NEW_PRODUCER, peer, *id, *kind)
        }
        Event::ProducerClosed { peer, producer: id, kind } if peer != to => {
            producer(outgoing::PRODUCER_CLOSED, peer, *id, *kind)
        }
        _ => None,
    }
}
