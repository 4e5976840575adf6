//! What a peer can tell about itself, and ask of its transports and consumers besides making them.

use std::num::NonZeroU8;

use mediasoup_types::data_structures::IceParameters;

use super::error::{ControlError, IntroduceError, NotYours, PeerGone};
use super::event::Event;
use super::registry::PeerInfo;
use super::room::{Room, not_yours};
use super::{MAX_DEVICE_BYTES, MAX_DISPLAY_NAME_CHARS};
use crate::ids::{ConsumerId, PeerId, TransportId};
use crate::media::codec::Layers;

impl Room {
    /// Notes what a peer tells about itself. The others hear of it: the first time that the peer is there, later that
    /// it is called something else.
    ///
    /// # Errors
    /// The peer is gone, or says too much.
    pub fn introduce(&self, peer: &PeerId, info: PeerInfo) -> Result<(), IntroduceError> {
        if info.display_name.as_ref().is_some_and(|name| name.chars().count() > MAX_DISPLAY_NAME_CHARS) {
            return Err(IntroduceError::NameTooLong(MAX_DISPLAY_NAME_CHARS));
        }
        if info.device.to_string().len() > MAX_DEVICE_BYTES {
            return Err(IntroduceError::DeviceTooLong(MAX_DEVICE_BYTES));
        }
        let name = info.display_name.clone();
        let before = self.registry().set_info(peer, info.clone()).map_err(|_| PeerGone)?;
        match before {
            None => self.publish(Event::PeerJoined { peer: peer.clone(), info }),
            Some(before) if before.display_name == name => {}
            Some(before) => self.publish(Event::PeerRenamed {
                peer: peer.clone(),
                display_name: name,
                old_display_name: before.display_name,
            }),
        }
        Ok(())
    }

    /// What a peer told about itself, if it did.
    #[must_use]
    pub fn peer_info(&self, peer: &PeerId) -> Option<PeerInfo> {
        self.registry().info(peer).cloned()
    }

    /// Everyone who told about itself.
    #[must_use]
    pub fn introduced_peers(&self) -> Vec<(PeerId, PeerInfo)> {
        self.registry().infos()
    }

    /// Closes one of the peer's transports with everything on it.
    ///
    /// # Errors
    /// Not the peer's transport.
    pub async fn close_transport(&self, peer: &PeerId, transport: TransportId) -> Result<(), NotYours> {
        let removed = {
            let mut registry = self.registry();
            if !registry.owns_transport(peer, transport) {
                return Err(not_yours("transport", transport));
            }
            registry.remove_transport(transport)
        };
        if let Some((_, removed)) = removed {
            self.transport_removed(peer, removed);
            self.close_in_core(transport).await;
        }
        Ok(())
    }

    /// Pauses or resumes one of the peer's consumers.
    ///
    /// # Errors
    /// Not the peer's consumer.
    pub async fn set_consumer_paused(
        &self,
        peer: &PeerId,
        consumer: ConsumerId,
        paused: bool,
    ) -> Result<(), ControlError> {
        self.check_consumer(peer, consumer)?;
        Ok(self.inner.router.set_consumer_paused(consumer, paused).await?)
    }

    /// Closes one of the peer's consumers.
    ///
    /// # Errors
    /// Not the peer's consumer.
    pub async fn close_consumer(&self, peer: &PeerId, consumer: ConsumerId) -> Result<(), ControlError> {
        {
            let mut registry = self.registry();
            if registry.owner(consumer).as_ref() != Some(peer) {
                return Err(not_yours("consumer", consumer).into());
            }
            registry.remove_consumer(consumer);
        }
        Ok(self.inner.router.close_consumer(consumer).await?)
    }

    /// Whether the transport is this peer's.
    #[must_use]
    pub fn owns_transport(&self, peer: &PeerId, transport: TransportId) -> bool {
        self.registry().owns_transport(peer, transport)
    }

    /// Whether a transport's media path was up at some time. It is not when the transport is gone.
    #[must_use]
    pub fn was_connected(&self, transport: TransportId) -> bool {
        self.registry().was_connected(transport)
    }

    /// Gives one of the peer's transports new ICE credentials; the old ones hold until the client uses the new ones.
    ///
    /// # Errors
    /// Not the peer's transport.
    pub async fn restart_ice(
        &self,
        peer: &PeerId,
        transport: TransportId,
    ) -> Result<IceParameters, ControlError> {
        if !self.registry().owns_transport(peer, transport) {
            return Err(not_yours("transport", transport).into());
        }
        Ok(self.inner.router.restart_ice(transport).await?)
    }

    /// Asks the publisher of what one of the peer's consumers gets for a key frame.
    ///
    /// # Errors
    /// Not the peer's consumer.
    pub async fn request_consumer_key_frame(
        &self,
        peer: &PeerId,
        consumer: ConsumerId,
    ) -> Result<(), ControlError> {
        self.check_consumer(peer, consumer)?;
        Ok(self.inner.router.request_consumer_key_frame(consumer).await?)
    }

    /// Sets the layers that the peer wants of one of its consumers at most; without `temporal`, all temporal ones. What
    /// the producer has of them is the answer.
    ///
    /// # Errors
    /// Not the peer's consumer.
    pub async fn set_consumer_preferred_layers(
        &self,
        peer: &PeerId,
        consumer: ConsumerId,
        spatial: u8,
        temporal: Option<u8>,
    ) -> Result<Layers, ControlError> {
        self.check_consumer(peer, consumer)?;
        Ok(self.inner.router.set_consumer_preferred_layers(consumer, spatial, temporal).await?)
    }

    /// Sets how important one of the peer's consumers is compared with its others, from 1 to 255.
    ///
    /// # Errors
    /// Not the peer's consumer.
    pub async fn set_consumer_priority(
        &self,
        peer: &PeerId,
        consumer: ConsumerId,
        priority: NonZeroU8,
    ) -> Result<(), ControlError> {
        self.check_consumer(peer, consumer)?;
        Ok(self.inner.router.set_consumer_priority(consumer, priority).await?)
    }

    pub(super) fn check_consumer(&self, peer: &PeerId, consumer: ConsumerId) -> Result<(), NotYours> {
        let is_own = self.registry().owner(consumer).as_ref() == Some(peer);
        if is_own { Ok(()) } else { Err(not_yours("consumer", consumer)) }
    }
}
