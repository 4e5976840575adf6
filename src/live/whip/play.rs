//! WHEP: an offer becomes a peer with a consumer of each kind that the stream has.

use mediasoup_types::rtp_parameters::{MediaKind, RtpParameters};
use tracing::info;
use uuid::Uuid;

use super::session::{Parts, Role, Session};
use super::{Place, Sessions, StartError, Started};
use crate::ids::{PeerId, TransportId};
use crate::live::error::ConsumeError;
use crate::live::registry::{Direction, TransportRef};
use crate::live::room::{RemoteProducer, Room};
use crate::media::sdp::{self, Accepted, Local, Offer, Section};
use crate::sfu::api;
use crate::sfu::layers::ConsumeOptions;
use crate::worker::RequestError;

impl Sessions {
    /// Plays what a peer publishes, in whichever room.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left of the attempt then.
    pub async fn play(&self, stream: &PeerId, offer: &str) -> Result<Started, StartError> {
        let offer = Offer::parse(offer)?;
        check_kinds(&offer)?;
        if !offer.sections.iter().all(|section| section.direction.receives()) {
            return Err(StartError::Direction("recvonly"));
        }
        let room = self.inner.rooms.room_of_peer(stream).ok_or(StartError::NotLive)?;
        let place = self.inner.admit(&self.inner.players)?;
        let peer: PeerId =
            format!("whep-{}", Uuid::new_v4().simple()).parse().map_err(|_| StartError::Busy)?;
        let published = room.producers_of_others(&peer);
        let published: Vec<_> = published.into_iter().filter(|producer| producer.peer == *stream).collect();
        if published.is_empty() {
            return Err(StartError::NotLive);
        }
        let events = room.join(peer.clone())?;
        let player = Player { room: &room, stream, peer: &peer, offer: &offer };
        match player.begin(&published, place).await {
            Ok((session, started)) => {
                self.keep(session, events);
                Ok(started)
            }
            Err(error) => {
                room.leave(&peer).await;
                Err(error)
            }
        }
    }
}

/// At most one section of each kind (RFC 9725 section 4.4.2).
pub(super) fn check_kinds(offer: &Offer) -> Result<(), StartError> {
    let count = |kind| offer.sections.iter().filter(|section| section.kind == kind).count();
    let is_one_each = count(MediaKind::Audio) <= 1 && count(MediaKind::Video) <= 1;
    if is_one_each { Ok(()) } else { Err(StartError::TooManySections) }
}

/// Someone who is about to play a stream.
struct Player<'a> {
    room: &'a Room,
    stream: &'a PeerId,
    peer: &'a PeerId,
    offer: &'a Offer,
}

impl Player<'_> {
    async fn begin(
        &self,
        published: &[RemoteProducer],
        place: Place,
    ) -> Result<(Session, Started), StartError> {
        let Self { room, peer, offer, .. } = self;
        let made = room.create_transport(peer, Direction::Receive, false, Default::default()).await?;
        let transport = made.info.id;
        room.connect_transport(peer, transport, offer.dtls.clone()).await?;
        let mut sent: Vec<Option<RtpParameters>> = Vec::with_capacity(offer.sections.len());
        for section in &offer.sections {
            let source = published.iter().find(|producer| producer.kind == section.kind);
            sent.push(match source {
                Some(source) => Some(self.consume(transport, section, source).await?),
                None => None,
            });
        }
        let consumers = sent.iter().flatten().count();
        if consumers == 0 {
            return Err(StartError::NothingToPlay);
        }
        let accepted: Vec<_> =
            sent.iter().map(|sent| sent.as_ref().map_or(Accepted::Nothing, Accepted::Send)).collect();
        let local = Local {
            ice: &made.info.ice_parameters,
            candidates: &made.info.ice_candidates,
            dtls: &made.info.dtls_parameters,
        };
        let answer = sdp::answer(offer, &accepted, local, rand::random());
        info!(stream = %self.stream, %peer, "played over WHEP");
        let session = Session::new(Parts {
            role: Role::Play,
            stream: self.stream.clone(),
            room: (*room).clone(),
            peer: (*peer).clone(),
            transport,
            candidates: made.info.ice_candidates,
            remote: offer.ice.clone(),
            consumers,
            _place: place,
        });
        let started = Started { id: session.id(), answer, tag: session.tag(), ice_servers: made.ice_servers };
        Ok((session, started))
    }

    /// Gives the player a producer in one of its sections.
    async fn consume(
        &self,
        transport: TransportId,
        section: &Section,
        source: &RemoteProducer,
    ) -> Result<RtpParameters, StartError> {
        let Self { room, peer, stream, .. } = self;
        let options = ConsumeOptions { offered_mid: Some(section.mid.clone()), ..ConsumeOptions::default() };
        let capabilities = section.capabilities.clone();
        let made = room.consume(peer, TransportRef::Id(transport), source.id, capabilities, options).await;
        let made = made.map_err(|error| match error {
            ConsumeError::Media(RequestError::Failed(api::ConsumeError::Capabilities(_))) => {
                StartError::NoCodec(section.kind)
            }
            // It ended a moment ago.
            ConsumeError::NotFound(_) => StartError::NotLive,
            other => other.into(),
        })?;
        let consumer = made.consumer;
        room.set_consumer_paused(peer, consumer.id, false).await?;
        let mut parameters = consumer.rtp_parameters;
        // The publisher's own words don't go to others: one stream is named after it, and holds all of its tracks.
        parameters.msid = Some(format!("{stream} {}", consumer.id));
        parameters.rtcp.cname = None;
        Ok(parameters)
    }
}
