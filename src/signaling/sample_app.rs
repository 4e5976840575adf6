//! The dialect of `mediasoup-sample-app`: no rooms, no ids of transports, and one stream to watch, the newest.

pub(super) mod wire;

use mediasoup_types::rtp_parameters::MediaKind;
use serde_json::{Value, json};

use super::arguments::{self, read};
use super::client::{Client, Outgoing, to_value};
use super::objects::{ConsumerOptions, TransportOptions};
use super::refusal::{Code, Refusal};
use crate::ids::{ConsumerId, PeerId, ProducerId};
use crate::live::{Direction, Event, PeerInfo, ProducerRef, Room, TransportRef};
use wire::{incoming, outgoing};

/// What is remembered of one client.
#[derive(Debug, Default)]
pub(super) struct State {
    /// What `resume` means.
    consumer: Option<ConsumerId>,
    /// What `closeProducer` means.
    producer: Option<ProducerId>,
}

impl State {
    /// Carries an event out.
    pub(super) async fn handle(
        &mut self,
        client: &mut Client,
        event: &str,
        argument: Value,
    ) -> Result<Value, Refusal> {
        let room = client.room()?;
        let peer = &client.peer;
        if room.peer_info(peer).is_none() {
            room.introduce(peer, PeerInfo::default())?;
        }
        match event {
            incoming::GET_ROUTER_RTP_CAPABILITIES => Ok(to_value(room.rtp_capabilities())),
            incoming::CREATE_PRODUCER_TRANSPORT | incoming::CREATE_CONSUMER_TRANSPORT => {
                let sends = event == incoming::CREATE_PRODUCER_TRANSPORT;
                let direction = if sends { Direction::Send } else { Direction::Receive };
                Ok(to_value(&TransportOptions::from(
                    room.create_transport(peer, direction, true, Default::default()).await?,
                )))
            }
            incoming::CONNECT_PRODUCER_TRANSPORT => connect(&room, peer, Direction::Send, argument).await,
            incoming::CONNECT_CONSUMER_TRANSPORT => connect(&room, peer, Direction::Receive, argument).await,
            incoming::PRODUCE => {
                let wanted: wire::Produce = read(argument)?;
                let parameters = arguments::rtp_parameters(&wanted.rtp_parameters)?;
                let on = TransportRef::Newest;
                let id = room.produce(peer, on, wanted.kind, parameters, json!({})).await?;
                self.producer = Some(id);
                Ok(to_value(&wire::Produced { id }))
            }
            incoming::CLOSE_PRODUCER => {
                let producer = self.producer.take().ok_or_else(|| nothing("no producer to close"))?;
                room.close_producer(peer, ProducerRef::Id(producer)).await?;
                Ok(Value::Null)
            }
            incoming::CONSUME => {
                let wanted: wire::Consume = read(argument)?;
                let capabilities = arguments::rtp_capabilities(&wanted.rtp_capabilities)?;
                let producer =
                    room.newest_producer(peer).ok_or_else(|| nothing("nobody publishes anything"))?;
                let made = room
                    .consume(peer, TransportRef::Newest, producer, capabilities, Default::default())
                    .await?;
                self.consumer = Some(made.consumer.id);
                if made.consumer.kind == MediaKind::Audio {
                    // Only video waits to be resumed.
                    room.set_consumer_paused(peer, made.consumer.id, false).await?;
                }
                Ok(to_value(&ConsumerOptions::from(made)))
            }
            incoming::RESUME => {
                let consumer = self.consumer.ok_or_else(|| nothing("no consumer to resume"))?;
                room.set_consumer_paused(peer, consumer, false).await?;
                Ok(Value::Null)
            }
            unknown => Err(Refusal::unknown(unknown)),
        }
    }
}

async fn connect(
    room: &Room,
    peer: &PeerId,
    direction: Direction,
    argument: Value,
) -> Result<Value, Refusal> {
    let wanted: wire::ConnectTransport = read(argument)?;
    let dtls = arguments::dtls_parameters(&wanted.dtls_parameters)?;
    let transport =
        room.newest_transport(peer, direction).ok_or_else(|| nothing("no transport to connect"))?;
    room.connect_transport(peer, transport, dtls).await?;
    Ok(Value::Null)
}

fn nothing(why: &'static str) -> Refusal {
    Refusal::new(Code::NotReady, &why)
}

/// How a room's event reads for the client `to`; none if it is not told.
pub(super) fn room_event(to: &PeerId, event: &Event) -> Option<Outgoing> {
    match event {
        Event::NewProducer { peer, producer, .. } if peer != to => {
            Some(Outgoing::new(outgoing::NEW_PRODUCER, &wire::Produced { id: *producer }))
        }
        _ => None,
    }
}
