//! What the media core and egress report by themselves, taken to whom it concerns.

use tracing::{debug, info};

use super::event::{Event, HlsEvent, PeerEvent};
use super::room::Room;
use crate::egress::EgressEvent;
use crate::ids::{PeerId, TransportId};
use crate::sfu::api::{self, TransportCloseReason};
use crate::worker::WorkerEvent;

impl Room {
    pub(super) async fn on_media_event(&self, event: WorkerEvent) {
        match event {
            api::Event::TransportConnected(transport) => {
                debug!(%transport, "transport connected");
                self.registry().set_connected(transport);
            }
            api::Event::TransportClosed(transport, reason) => {
                self.on_transport_closed(transport, reason).await
            }
            api::Event::AvailableOutgoingBitrate { transport, available, desired } => {
                let owner = self.registry().owner(transport);
                self.tell(owner, PeerEvent::DownlinkBitrate { transport, available, desired }).await;
            }
            api::Event::ConsumerClosed(consumer) => {
                let removed = self.registry().remove_consumer(consumer);
                if let Some((owner, producer)) = removed {
                    self.tell(Some(owner), PeerEvent::ConsumerClosed { consumer, producer }).await;
                }
            }
            api::Event::ConsumerPaused(consumer) => {
                let owner = self.registry().owner(consumer);
                self.tell(owner, PeerEvent::ConsumerPaused(consumer)).await;
            }
            api::Event::ConsumerResumed(consumer) => {
                let owner = self.registry().owner(consumer);
                self.tell(owner, PeerEvent::ConsumerResumed(consumer)).await;
            }
            api::Event::ConsumerLayersChanged { consumer, layers } => {
                let owner = self.registry().owner(consumer);
                self.tell(owner, PeerEvent::ConsumerLayersChanged { consumer, layers }).await;
            }
            api::Event::ConsumerScore { consumer, score } => {
                let owner = self.registry().owner(consumer);
                self.tell(owner, PeerEvent::ConsumerScore { consumer, score }).await;
            }
            api::Event::ProducerScore { producer, scores } => {
                let owner = self.registry().owner(producer);
                self.tell(owner, PeerEvent::ProducerScore { producer, scores }).await;
            }
            api::Event::Volumes { volumes, .. } => self.tell_volumes(&volumes),
            api::Event::Silence { .. } => self.tell_volumes(&[]),
            api::Event::DominantSpeaker { producer, .. } => {
                let speaker = self.registry().owner(producer);
                speaker.into_iter().for_each(|peer| self.publish(Event::ActiveSpeaker(peer)));
            }
            api::Event::DataConsumerClosed(consumer) => {
                let removed = self.registry().remove_data_consumer(consumer);
                if let Some((owner, producer)) = removed {
                    self.tell(Some(owner), PeerEvent::DataConsumerClosed { consumer, producer }).await;
                }
            }
            // Nobody is told: no dialect has words for it.
            api::Event::SctpStateChanged(..)
            | api::Event::DataConsumerPaused(_)
            | api::Event::DataConsumerResumed(_)
            | api::Event::DataConsumerBufferFull(_)
            | api::Event::DataConsumerBufferedAmountLow(..) => {}
        }
    }

    /// A browser that no longer answers is gone with everything it had. One that closed a transport, could not secure
    /// it, or never got it up, loses that transport only.
    async fn on_transport_closed(&self, transport: TransportId, reason: TransportCloseReason) {
        let removed = self.registry().remove_transport(transport);
        let Some((peer, removed)) = removed else { return };
        info!(%peer, %transport, ?reason, "transport closed");
        let vanished = reason == TransportCloseReason::ConsentLost && removed.was_connected;
        self.transport_removed(&peer, removed);
        if vanished {
            self.leave(&peer).await;
        } else {
            self.tell(Some(peer), PeerEvent::TransportClosed(transport)).await;
        }
    }

    pub(super) fn on_egress_event(&self, event: EgressEvent) {
        match event {
            EgressEvent::Playable(peer) => {
                let news = self.registry().set_live(&peer);
                if news {
                    self.publish_hls(HlsEvent::Live(peer));
                }
            }
            EgressEvent::Gone(peer) => debug!(%peer, "HLS gone"),
        }
    }

    /// Leaves word for a peer. One that has not read its last [`PEER_EVENT_BACKLOG`] events is removed.
    async fn tell(&self, peer: Option<PeerId>, event: PeerEvent) {
        let Some(peer) = peer else { return };
        let stuck = {
            let registry = self.registry();
            matches!(registry.inbox(&peer).map(|inbox| inbox.try_send(event)), Some(Err(_)))
        };
        if stuck {
            info!(%peer, "peer removed: it does not read its events");
            self.leave(&peer).await;
        }
    }
}
