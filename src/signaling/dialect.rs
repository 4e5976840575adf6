//! Which dialect a socket speaks: decided by its namespace, its path or its first telling event, and never changed.
//! `docs/wire/README.md` has the table.

use serde_json::Value;

use super::client::Client;
use super::refusal::Refusal;
use super::{mediasoup_hls, room, rooms, sample_app, tutorial, video_rooms};
use crate::live::{Event, PeerEvent};

/// A dialect, with what it has to remember of one client.
pub(super) enum Dialect {
    Room,
    Rooms(Box<rooms::State>),
    VideoRooms,
    SampleApp(sample_app::State),
    Tutorial,
    MediasoupHls,
}

impl Dialect {
    /// The dialect that the first telling event on the default namespace shows; none if the event tells nothing.
    pub(super) fn shown_by(event: &str, argument: &Value) -> Option<Self> {
        match event {
            // The room dialect and the sample app begin with it. It is answered so that both can read it.
            room::wire::incoming::GET_ROUTER_RTP_CAPABILITIES => None,
            video_rooms::wire::incoming::CREATE_ROOM => Some(Self::VideoRooms),
            video_rooms::wire::incoming::JOIN if argument.get("room_id").is_some() => Some(Self::VideoRooms),
            sample_app::wire::incoming::CREATE_PRODUCER_TRANSPORT
            | sample_app::wire::incoming::CREATE_CONSUMER_TRANSPORT => {
                Some(Self::SampleApp(sample_app::State::default()))
            }
            tutorial::wire::incoming::JOIN_ROOM => Some(Self::Tutorial),
            mediasoup_hls::wire::incoming::INITIALIZE
            | mediasoup_hls::wire::incoming::GET_RTP_CAPABILITIES
            | mediasoup_hls::wire::incoming::CREATE_TRANSPORT => Some(Self::MediasoupHls),
            _ => Some(Self::Room),
        }
    }

    /// Whether its clients are in the default room from the beginning, because they know of no rooms.
    pub(super) fn begins_in_default_room(&self) -> bool {
        matches!(self, Self::Room | Self::SampleApp(_) | Self::MediasoupHls)
    }

    /// Carries an event of the client out; the answer is its acknowledgement.
    pub(super) async fn handle(
        &mut self,
        client: &mut Client,
        event: &str,
        argument: Value,
    ) -> Result<Value, Refusal> {
        match self {
            Self::Room => room::handle(client, event, argument).await,
            Self::Rooms(state) => state.handle(client, event, argument).await,
            Self::VideoRooms => video_rooms::handle(client, event, argument).await,
            Self::SampleApp(state) => state.handle(client, event, argument).await,
            Self::Tutorial => tutorial::handle(client, event, argument).await,
            Self::MediasoupHls => mediasoup_hls::handle(client, event, argument).await,
        }
    }

    /// How a refusal reads where the answer to `event` is expected.
    pub(super) fn refused(&self, event: &str, refusal: &Refusal) -> Value {
        match self {
            Self::Tutorial => tutorial::refused(event, refusal),
            _ => refusal.to_value(),
        }
    }

    /// Tells the client what happened in its room.
    pub(super) fn room_event(&mut self, client: &mut Client, event: &Event) {
        let told = match self {
            Self::Room => room::room_event(&client.peer, event),
            Self::Rooms(state) => state.room_event(&client.peer, event),
            Self::VideoRooms => video_rooms::room_event(&client.peer, event),
            Self::SampleApp(_) => sample_app::room_event(&client.peer, event),
            Self::Tutorial => tutorial::room_event(&client.peer, event),
            Self::MediasoupHls => mediasoup_hls::room_event(&client.peer, event),
        };
        told.into_iter().for_each(|event| client.emit(event));
    }

    /// Tells the client what happened to its own things.
    pub(super) fn own_event(&mut self, client: &mut Client, event: &PeerEvent) {
        let told = match self {
            Self::Room => room::own_event(event),
            Self::Rooms(state) => Some(state.own_event(event)),
            Self::VideoRooms => video_rooms::own_event(event),
            Self::Tutorial => tutorial::own_event(event),
            Self::SampleApp(_) | Self::MediasoupHls => None,
        };
        told.into_iter().for_each(|event| client.emit(event));
    }

    /// Does what an event or a happening left to be done.
    pub(super) async fn settle(&mut self, client: &mut Client) {
        if let Self::Rooms(state) = self {
            state.offer_consumers(client).await;
        }
    }
}
