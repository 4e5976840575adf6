//! WHIP: an offer becomes a peer with a producer for each of its sections.

use mediasoup_types::rtp_parameters::{MediaKind, RtcpParameters, RtpCapabilitiesFinalized, RtpParameters};
use serde_json::json;
use tracing::info;

use super::session::{Parts, Role, Session};
use super::{Place, Sessions, StartError, Started};
use crate::ids::PeerId;
use crate::live::error::JoinError;
use crate::live::keys::Grant;
use crate::live::registry::{Direction, PeerInfo, TransportRef};
use crate::live::room::Room;
use crate::media::ortc;
use crate::media::sdp::{self, Accepted, Local, Offer};

impl Sessions {
    /// Publishes a stream. The owner of its key takes the place of an earlier session that did so.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left of the attempt then.
    pub async fn publish(&self, stream: &PeerId, grant: Grant, offer: &str) -> Result<Started, StartError> {
        let offer = Offer::parse(offer)?;
        let room = self.inner.rooms.default_room();
        let wanted = wanted(&offer, room.rtp_capabilities())?;
        let place = self.inner.admit(&self.inner.publishers)?;
        let events = match room.join(stream.clone()) {
            Err(JoinError::NameTaken) if grant == Grant::Owner => {
                self.replace(stream).await?;
                room.join(stream.clone()).map_err(taken)?
            }
            joined => joined.map_err(taken)?,
        };
        let begun = self.begin_publishing(room, stream, &offer, wanted, place).await;
        let (session, started) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                room.leave(stream).await;
                return Err(error);
            }
        };
        info!(%stream, "published over WHIP");
        self.keep(session, events);
        Ok(started)
    }

    /// Ends the session that publishes this stream. One that is published in another way is not touched.
    async fn replace(&self, stream: &PeerId) -> Result<(), StartError> {
        let is_meant = |session: &&Session| session.is(Role::Publish, stream);
        let earlier = self.inner.by_id().values().find(is_meant).cloned();
        let earlier = earlier.ok_or(StartError::Taken)?;
        info!(%stream, "published anew by its owner");
        self.end(&earlier).await;
        Ok(())
    }

    async fn begin_publishing(
        &self,
        room: &Room,
        stream: &PeerId,
        offer: &Offer,
        wanted: Vec<(MediaKind, RtpParameters)>,
        place: Place,
    ) -> Result<(Session, Started), StartError> {
        let info = PeerInfo {
            display_name: Some(stream.to_string()),
            device: json!({ "flag": "broadcaster", "name": "WHIP" }),
        };
        room.introduce(stream, info)?;
        let made = room.create_transport(stream, Direction::Send, false, Default::default()).await?;
        let transport = made.info.id;
        room.connect_transport(stream, transport, offer.dtls.clone()).await?;
        for (kind, parameters) in &wanted {
            let on = TransportRef::Id(transport);
            room.produce(stream, on, *kind, parameters.clone(), json!({})).await?;
        }
        let accepted: Vec<_> = wanted.iter().map(|(_, parameters)| Accepted::Receive(parameters)).collect();
        let local = Local {
            ice: &made.info.ice_parameters,
            candidates: &made.info.ice_candidates,
            dtls: &made.info.dtls_parameters,
        };
        let answer = sdp::answer(offer, &accepted, local, rand::random());
        let session = Session::new(Parts {
            role: Role::Publish,
            stream: stream.clone(),
            room: room.clone(),
            peer: stream.clone(),
            transport,
            candidates: made.info.ice_candidates,
            remote: offer.ice.clone(),
            consumers: 0,
            _place: place,
        });
        let started = Started { id: session.id(), answer, tag: session.tag(), ice_servers: made.ice_servers };
        Ok((session, started))
    }
}

fn taken(error: JoinError) -> StartError {
    match error {
        JoinError::NameTaken => StartError::Taken,
        other => other.into(),
    }
}

/// What each section is published with. A section that can't be is never left out: the offer is refused as a whole
/// (RFC 9725 section 4.3).
fn wanted(
    offer: &Offer,
    router: &RtpCapabilitiesFinalized,
) -> Result<Vec<(MediaKind, RtpParameters)>, StartError> {
    super::play::check_kinds(offer)?;
    let publish = |section: &sdp::Section| {
        if !section.direction.sends() {
            return Err(StartError::Direction("sendonly"));
        }
        let parameters = ortc::publishing_parameters(section.kind, &section.capabilities, router)
            .map_err(|_| StartError::NoCodec(section.kind))?;
        let parameters = RtpParameters {
            mid: Some(section.mid.clone()),
            encodings: section.encodings.clone(),
            rtcp: RtcpParameters { cname: section.cname.clone(), reduced_size: true },
            msid: section.msid.clone(),
            ..parameters
        };
        Ok((section.kind, parameters))
    };
    offer.sections.iter().map(publish).collect()
}
