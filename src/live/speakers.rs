//! Who speaks in a room: observed only where someone wants to know.

use std::collections::BTreeMap;
use std::time::Duration;

use mediasoup_types::rtp_parameters::MediaKind;
use tracing::debug;

use super::event::Event;
use super::room::Room;
use crate::ids::{PeerId, ProducerId, RtpObserverId};
use crate::sfu::api::AudioLevelVolume;
use crate::sfu::observers::{ObserveError, ObserverOptions};
use crate::worker::RequestError;

/// The most peers that are told to speak at a time.
const MAX_SPEAKING: usize = 8;
/// The volume from which on a peer is told to speak, in dBov.
const SPEAKING_THRESHOLD: i8 = -80;
/// How often it is told who speaks.
const SPEAKING_INTERVAL: Duration = Duration::from_millis(800);
/// How often it is decided who is the active speaker.
const ACTIVE_SPEAKER_INTERVAL: Duration = Duration::from_millis(300);

/// A room's two observers.
#[derive(Debug)]
pub(super) struct Listeners([RtpObserverId; 2]);

impl Room {
    /// Lets the room tell who speaks from now on: [`Event::SpeakingPeers`] and [`Event::ActiveSpeaker`].
    ///
    /// # Errors
    /// The worker is going down.
    pub async fn watch_speakers(&self) -> Result<(), RequestError<ObserveError>> {
        let (listeners, router) = (&self.inner.listeners, &self.inner.router);
        if listeners.get().is_some() {
            return Ok(());
        }
        let levels = ObserverOptions::AudioLevel {
            max_entries: MAX_SPEAKING,
            threshold: SPEAKING_THRESHOLD,
            interval: SPEAKING_INTERVAL,
        };
        let active = ObserverOptions::ActiveSpeaker { interval: ACTIVE_SPEAKER_INTERVAL };
        let made = [router.create_observer(levels).await?, router.create_observer(active).await?];
        // Someone else may have been faster; what observes nobody costs nothing until the room ends.
        listeners.get_or_init(|| Listeners(made));
        let published: Vec<ProducerId> = {
            let registry = self.registry();
            let audio = registry.producers().filter(|(_, producer)| producer.kind == MediaKind::Audio);
            audio.map(|(_, producer)| producer.id).collect()
        };
        for producer in published {
            self.listen_to(producer, MediaKind::Audio).await;
        }
        Ok(())
    }

    /// Has a new producer observed, if anyone wants to know who speaks.
    pub(super) async fn listen_to(&self, producer: ProducerId, kind: MediaKind) {
        let Some(Listeners(observers)) = self.inner.listeners.get() else { return };
        if kind != MediaKind::Audio {
            return;
        }
        for observer in observers {
            if let Err(error) = self.inner.router.observe(*observer, producer).await {
                debug!(%producer, %error, "not observed");
            }
        }
    }

    /// Tells who speaks: each peer once, with its loudest producer.
    pub(super) fn tell_volumes(&self, volumes: &[AudioLevelVolume]) {
        let mut loudest: BTreeMap<PeerId, i8> = BTreeMap::new();
        for entry in volumes {
            let Some(peer) = self.registry().owner(entry.producer) else { continue };
            let known = loudest.entry(peer).or_insert(entry.volume);
            *known = entry.volume.max(*known);
        }
        self.publish(Event::SpeakingPeers(loudest.into_iter().collect()));
    }
}
