//! The rooms dialect, for new applications: mediasoup-demo's requests and notifications, in a room that the client names
//! when it connects.
//!
//! The server offers each client a consumer of everything that the others publish. An offer is a request to the client,
//! which sets its end up and acknowledges; then the consumer is resumed, and the publisher is asked for one key frame.

mod data;
pub(super) mod wire;

use std::collections::{HashMap, VecDeque};

use mediasoup_types::rtp_parameters::RtpCapabilities;
use serde_json::{Value, json};
use tracing::debug;

use super::arguments::{self, id, read};
use super::client::{Client, Offer, Outgoing, to_value};
use super::objects::{ConsumerOptions, TransportOptions};
use super::refusal::{Code, Refusal};
use crate::ids::{Bitrate, ConsumerId, PeerId, ProducerId, RoomId, TransportId};
use crate::live::{Bound, Direction, Event, PeerEvent, PeerInfo, ProducerRef, Room, TransportRef};
use crate::sfu::api::WebRtcTransportOptions;
use crate::sfu::layers::ConsumeOptions;
use data::DataState;
use wire::{Payload, incoming, outgoing};

/// What mediasoup-demo's operators are told, who can slow its machine's network down.
const NO_THROTTLE: &str = "weir leaves the machine's network alone: bound a transport with setMaxIncomingBitrate and \
    setMaxOutgoingBitrate, or use tc";

/// What is remembered of one client.
pub(super) struct State {
    room_id: RoomId,
    joined: bool,
    /// What it can receive; without that, it is offered nothing.
    capabilities: Option<RtpCapabilities>,
    /// How it wants its consumers.
    consumer_options: ConsumeOptions,
    /// What others publish and it has not been offered yet: at most as much as the room holds.
    wanted: VecDeque<ProducerId>,
    /// What it has been offered, and on which transport.
    offered: HashMap<ProducerId, TransportId>,
    data: DataState,
}

impl State {
    /// A client that has connected to this room.
    pub(super) fn new(room_id: RoomId) -> Self {
        Self {
            room_id,
            joined: false,
            capabilities: None,
            consumer_options: ConsumeOptions::default(),
            wanted: VecDeque::new(),
            offered: HashMap::new(),
            data: DataState::default(),
        }
    }

    /// Carries an event out.
    pub(super) async fn handle(
        &mut self,
        client: &mut Client,
        event: &str,
        argument: Value,
    ) -> Result<Value, Refusal> {
        if client.room().is_err() {
            client.enter(&self.room_id).await?;
        }
        let room = client.room()?;
        let peer = &client.peer;
        match event {
            incoming::GET_ROUTER_RTP_CAPABILITIES => Ok(to_value(room.rtp_capabilities())),
            incoming::JOIN => self.join(&room, peer, read(argument)?).await,
            incoming::CREATE_WEBRTC_TRANSPORT => self.create_transport(&room, peer, argument).await,
            incoming::CONNECT_WEBRTC_TRANSPORT => {
                let wanted: wire::ConnectWebRtcTransport = read(argument)?;
                let transport = id("transport", &wanted.transport_id)?;
                let dtls = arguments::dtls_parameters(&wanted.dtls_parameters)?;
                room.connect_transport(peer, transport, dtls).await?;
                done()
            }
            incoming::RESTART_ICE => {
                let wanted: wire::TransportRef = read(argument)?;
                Ok(to_value(&room.restart_ice(peer, id("transport", &wanted.transport_id)?).await?))
            }
            incoming::SET_MAX_INCOMING_BITRATE
            | incoming::SET_MAX_OUTGOING_BITRATE
            | incoming::SET_MIN_OUTGOING_BITRATE => {
                let wanted: wire::SetBitrate = read(argument)?;
                let bound = match event {
                    incoming::SET_MAX_INCOMING_BITRATE => Bound::MaxIncoming,
                    incoming::SET_MAX_OUTGOING_BITRATE => Bound::MaxOutgoing,
                    _ => Bound::MinOutgoing,
                };
                let transport = id("transport", &wanted.transport_id)?;
                room.set_bitrate(peer, transport, bound, wanted.bitrate()).await?;
                done()
            }
            incoming::APPLY_NETWORK_THROTTLE | incoming::RESET_NETWORK_THROTTLE => {
                Err(Refusal::new(Code::Forbidden, &NO_THROTTLE))
            }
            incoming::PRODUCE => self.produce(&room, peer, read(argument)?).await,
            incoming::PRODUCE_DATA => {
                self.check_joined()?;
                data::produce(&room, peer, argument).await
            }
            incoming::CLOSE_PRODUCER => {
                room.close_producer(peer, own_producer(argument)?).await?;
                done()
            }
            incoming::PAUSE_PRODUCER | incoming::RESUME_PRODUCER => {
                let paused = event == incoming::PAUSE_PRODUCER;
                room.set_producer_paused(peer, own_producer(argument)?, paused).await?;
                done()
            }
            incoming::CHANGE_DISPLAY_NAME => {
                self.check_joined()?;
                let wanted: wire::ChangeDisplayName = read(argument)?;
                let known = room.peer_info(peer).unwrap_or_default();
                room.introduce(peer, PeerInfo { display_name: Some(wanted.display_name), ..known })?;
                done()
            }
            _ => consumer_request(&room, peer, event, argument).await,
        }
    }

    async fn join(&mut self, room: &Room, peer: &PeerId, wanted: wire::Join) -> Result<Value, Refusal> {
        if self.joined {
            return Err(Refusal::new(Code::Already, &"joined already"));
        }
        if !(wanted.device.is_object() || wanted.device.is_null()) {
            return Err(Refusal::bad(&"device: not an object"));
        }
        let capabilities = wanted.rtp_capabilities.as_ref().map(arguments::rtp_capabilities).transpose()?;
        let others = room.introduced_peers();
        room.introduce(peer, PeerInfo { display_name: wanted.display_name, device: wanted.device })?;
        if let Err(error) = room.watch_speakers().await {
            debug!(%peer, %error, "nobody learns who speaks");
        }
        self.joined = true;
        self.capabilities = capabilities;
        self.consumer_options = wanted.consumer_options.into();
        self.data.wants_offers = wanted.enable_sctp || wanted.sctp_capabilities.is_some();
        self.want_all(room, peer);
        let others = others.into_iter().filter(|(other, _)| other != peer);
        Ok(to_value(&wire::Joined {
            peers: others.map(|(peer, info)| wire::Peer::new(peer, info)).collect(),
        }))
    }

    async fn create_transport(
        &mut self,
        room: &Room,
        peer: &PeerId,
        argument: Value,
    ) -> Result<Value, Refusal> {
        let wanted: wire::CreateWebRtcTransport = read(argument)?;
        let direction = match (wanted.producing.unwrap_or(true), wanted.consuming.unwrap_or(true)) {
            (true, true) => Direction::Both,
            (true, false) => Direction::Send,
            (false, true) => Direction::Receive,
            (false, false) => return Err(Refusal::bad(&"neither producing nor consuming")),
        };
        let enable_sctp = wanted.enable_sctp || wanted.sctp_capabilities.is_some();
        let options = WebRtcTransportOptions {
            enable_sctp,
            initial_available_outgoing_bitrate: wanted.initial_available_outgoing_bitrate.map(Bitrate),
        };
        let made = room.create_transport(peer, direction, false, options).await?;
        for (bound, bitrate) in wanted.bounds() {
            if let Err(error) = room.set_bitrate(peer, made.info.id, bound, Some(bitrate)).await {
                room.close_transport(peer, made.info.id).await?;
                return Err(error.into());
            }
        }
        self.want_all(room, peer);
        Ok(to_value(&TransportOptions::from(made)))
    }

    async fn produce(&mut self, room: &Room, peer: &PeerId, wanted: wire::Produce) -> Result<Value, Refusal> {
        self.check_joined()?;
        let on = TransportRef::Id(id("transport", &wanted.transport_id)?);
        let parameters = arguments::rtp_parameters(&wanted.rtp_parameters)?;
        let app_data = arguments::app_data(wanted.app_data)?;
        let id = room.produce(peer, on, wanted.kind, parameters, app_data).await?;
        Ok(to_value(&wire::Produced { id }))
    }

    fn check_joined(&self) -> Result<(), Refusal> {
        if self.joined { Ok(()) } else { Err(Refusal::new(Code::NotReady, &"not joined yet")) }
    }

    /// Everything that is published and was not offered has to be offered.
    fn want_all(&mut self, room: &Room, peer: &PeerId) {
        let published = room.producers_of_others(peer).into_iter().map(|producer| producer.id);
        self.wanted = published.filter(|producer| !self.offered.contains_key(producer)).collect();
        self.data.want_all(room, peer);
    }

    /// Offers the client what it has not been offered, once it can take it.
    pub(super) async fn offer_consumers(&mut self, client: &mut Client) {
        let Ok(room) = client.room() else { return };
        self.data.offer(client, &room).await;
        let Some(capabilities) = &self.capabilities else { return };
        while let Some(producer) = self.wanted.pop_front() {
            let Some(transport) = room.newest_transport(&client.peer, Direction::Receive) else {
                self.wanted.clear(); // all is wanted again when there is one
                return;
            };
            let on = TransportRef::Id(transport);
            let options = self.consumer_options.clone();
            match room.consume(&client.peer, on, producer, capabilities.clone(), options).await {
                Ok(made) => {
                    let consumer = made.consumer.id;
                    self.offered.insert(producer, transport);
                    let peer_id = made.publisher.clone();
                    let payload = wire::NewConsumer { peer_id, options: ConsumerOptions::from(made) };
                    let offer = Outgoing::new(outgoing::NEW_CONSUMER, &payload);
                    client.emit(Outgoing { offers: Some(Offer::Consumer(consumer)), ..offer });
                }
                Err(error) => debug!(peer = %client.peer, %producer, %error, "not offered"),
            }
        }
    }

    /// How a room's event reads for the client `to`; none if it is not told.
    pub(super) fn room_event(&mut self, to: &PeerId, event: &Event) -> Option<Outgoing> {
        if !self.joined {
            return None;
        }
        let (name, payload) = match event {
            Event::PeerJoined { peer, .. }
            | Event::PeerRenamed { peer, .. }
            | Event::PeerLeft { peer, .. }
            | Event::NewProducer { peer, .. }
                if peer == to =>
            {
                return None;
            }
            Event::PeerJoined { peer, info } => {
                let peer = wire::Peer::new(peer.clone(), info.clone());
                return Some(Outgoing::new(outgoing::NEW_PEER, &peer));
            }
            Event::PeerRenamed { peer, display_name, old_display_name } => (
                outgoing::PEER_DISPLAY_NAME_CHANGED,
                Payload::DisplayName {
                    peer_id: peer.clone(),
                    display_name: display_name.clone(),
                    old_display_name: old_display_name.clone(),
                },
            ),
            Event::PeerLeft { peer, info: Some(_) } => {
                (outgoing::PEER_CLOSED, Payload::Peer { peer_id: peer.clone() })
            }
            Event::ActiveSpeaker(peer) => (outgoing::ACTIVE_SPEAKER, Payload::Peer { peer_id: peer.clone() }),
            Event::SpeakingPeers(volumes) => {
                let entry = |(peer_id, volume): &(PeerId, i8)| wire::PeerVolume {
                    peer_id: peer_id.clone(),
                    volume: *volume,
                };
                let peer_volumes = volumes.iter().map(entry).collect();
                (outgoing::SPEAKING_PEERS, Payload::SpeakingPeers { peer_volumes })
            }
            Event::NewProducer { producer, .. } => {
                if !self.offered.contains_key(producer) && !self.wanted.contains(producer) {
                    self.wanted.push_back(*producer);
                }
                return None;
            }
            Event::NewDataProducer { peer, producer } => {
                if peer != to {
                    self.data.want(*producer);
                }
                return None;
            }
            Event::ProducerClosed { producer, .. } => {
                self.offered.remove(producer);
                return None;
            }
            // The consumers' own events tell of pauses; one who was never introduced was never there.
            Event::ProducerPaused { .. }
            | Event::ProducerResumed { .. }
            | Event::PeerLeft { info: None, .. } => {
                return None;
            }
        };
        Some(Outgoing::new(name, &payload))
    }

    /// How an event about a client's own things reads.
    pub(super) fn own_event(&mut self, event: &PeerEvent) -> Outgoing {
        let consumer = |name, consumer_id| (name, Payload::Consumer { consumer_id });
        let (name, payload) = match event.clone() {
            PeerEvent::ConsumerClosed { consumer: id, producer } => {
                self.offered.remove(&producer);
                consumer(outgoing::CONSUMER_CLOSED, id)
            }
            PeerEvent::DataConsumerClosed { consumer: id, producer } => {
                self.data.forget(producer);
                (outgoing::DATA_CONSUMER_CLOSED, Payload::DataConsumer { data_consumer_id: id })
            }
            PeerEvent::ConsumerPaused(id) => consumer(outgoing::CONSUMER_PAUSED, id),
            PeerEvent::ConsumerResumed(id) => consumer(outgoing::CONSUMER_RESUMED, id),
            PeerEvent::ConsumerLayersChanged { consumer, layers } => {
                let (spatial_layer, temporal_layer) =
                    layers.map(|layers| (layers.spatial, layers.temporal)).unzip();
                let payload = Payload::Layers { consumer_id: consumer, spatial_layer, temporal_layer };
                (outgoing::CONSUMER_LAYERS_CHANGED, payload)
            }
            PeerEvent::ConsumerScore { consumer, score } => {
                (outgoing::CONSUMER_SCORE, Payload::ConsumerScore { consumer_id: consumer, score })
            }
            PeerEvent::ProducerScore { producer, scores } => {
                (outgoing::PRODUCER_SCORE, Payload::ProducerScore { producer_id: producer, score: scores })
            }
            PeerEvent::DownlinkBitrate { transport, available, desired } => {
                let payload = Payload::DownlinkBwe {
                    transport_id: transport,
                    available_bitrate: available.0,
                    desired_bitrate: desired.0,
                };
                (outgoing::DOWNLINK_BWE, payload)
            }
            PeerEvent::TransportClosed(transport_id) => {
                self.offered.retain(|_, transport| *transport != transport_id);
                self.data.forget_transport(transport_id);
                (outgoing::TRANSPORT_CLOSED, Payload::Transport { transport_id })
            }
        };
        Outgoing::new(name, &payload)
    }
}

/// Carries out what is about one of the client's consumers.
async fn consumer_request(
    room: &Room,
    peer: &PeerId,
    event: &str,
    argument: Value,
) -> Result<Value, Refusal> {
    match event {
        incoming::PAUSE_CONSUMER | incoming::RESUME_CONSUMER => {
            let paused = event == incoming::PAUSE_CONSUMER;
            room.set_consumer_paused(peer, consumer(argument)?, paused).await?;
            done()
        }
        incoming::CLOSE_CONSUMER => {
            room.close_consumer(peer, consumer(argument)?).await?;
            done()
        }
        incoming::REQUEST_CONSUMER_KEY_FRAME => {
            room.request_consumer_key_frame(peer, consumer(argument)?).await?;
            done()
        }
        incoming::SET_CONSUMER_PREFERRED_LAYERS => {
            let wanted: wire::SetConsumerPreferredLayers = read(argument)?;
            let consumer = id("consumer", &wanted.consumer_id)?;
            let (spatial, temporal) = (wanted.spatial_layer, wanted.temporal_layer);
            room.set_consumer_preferred_layers(peer, consumer, spatial, temporal).await?;
            done()
        }
        incoming::SET_CONSUMER_PRIORITY => {
            let wanted: wire::SetConsumerPriority = read(argument)?;
            let consumer = id("consumer", &wanted.consumer_id)?;
            room.set_consumer_priority(peer, consumer, wanted.priority).await?;
            done()
        }
        _ => stats_request(room, peer, event, argument).await,
    }
}

/// Answers with the figures of one of the client's things.
async fn stats_request(room: &Room, peer: &PeerId, event: &str, argument: Value) -> Result<Value, Refusal> {
    match event {
        incoming::GET_TRANSPORT_STATS => {
            let wanted: wire::TransportRef = read(argument)?;
            Ok(to_value(&[room.transport_stats(peer, id("transport", &wanted.transport_id)?).await?]))
        }
        incoming::GET_PRODUCER_STATS => {
            let wanted: wire::ProducerRef = read(argument)?;
            Ok(to_value(&room.producer_stats(peer, id("producer", &wanted.producer_id)?).await?))
        }
        incoming::GET_CONSUMER_STATS => Ok(to_value(&room.consumer_stats(peer, consumer(argument)?).await?)),
        _ => data::stats(room, peer, event, argument).await,
    }
}

fn own_producer(argument: Value) -> Result<ProducerRef, Refusal> {
    let wanted: wire::ProducerRef = read(argument)?;
    Ok(ProducerRef::Id(id("producer", &wanted.producer_id)?))
}

fn consumer(argument: Value) -> Result<ConsumerId, Refusal> {
    let wanted: wire::ConsumerRef = read(argument)?;
    id("consumer", &wanted.consumer_id)
}

/// The answer to what has no answer but that it is done.
fn done() -> Result<Value, Refusal> {
    Ok(json!({}))
}
