//! How a room's producers get into their peers' HLS and out of it again.
//!
//! A peer's HLS takes its first audio and its first video producer; further ones of the same kind are WebRTC only. Each
//! simulcast stream of H.264 is a rendition of its own, passed through.

use std::sync::Arc;

use futures_util::FutureExt;
use mediasoup_types::rtp_parameters::{MimeType, MimeTypeVideo};
use serde::Deserialize;
use tracing::{debug, warn};

use super::error::ProduceError;
use super::event::{Event, HlsEvent};
use super::registry::{HlsState, Producer, RemovedTransport};
use super::room::Room;
use crate::egress::{Start, Track};
use crate::ids::{PeerId, ProducerId};
use crate::media::segmenter::VideoId;

/// How many packets a tap holds for egress: four seconds of 10 Mbit/s video in packets of 1200 bytes.
pub(super) const TAP_CAPACITY: usize = 4096;

/// The member of a producer's `appData` that says when its peer's HLS shall be made, if it is the peer's first.
const HLS_START: &str = "hlsStart";

/// When a publisher wants its HLS made, if it says so.
pub(super) fn wanted_start(app_data: &serde_json::Value) -> Result<Option<Start>, ProduceError> {
    let told = app_data.get(HLS_START).filter(|told| !told.is_null());
    told.map(Start::deserialize).transpose().map_err(|_| ProduceError::HlsStart)
}

impl Room {
    /// Feeds a producer into its peer's HLS, which is made when `start` says, or else the settings. If that fails, the peer is watched over WebRTC all the same.
    pub(super) async fn start_hls(&self, peer: &PeerId, producer: ProducerId, start: Option<Start>) {
        let Some(egress) = &self.inner.egress else { return };
        let mut taps = match self.inner.router.tap(producer, TAP_CAPACITY).await {
            Ok(taps) => taps,
            Err(error) => {
                warn!(%peer, %producer, %error, "no HLS for this producer");
                self.registry().set_unfed(producer);
                return;
            }
        };
        if !self.registry().set_fed(producer) {
            return; // the taps end with their readers
        }
        let passed_through = MimeType::Video(MimeTypeVideo::H264);
        taps.reverse();
        if taps.first().is_some_and(|(best, _)| best.codec.mime_type() != passed_through) {
            // Each further rendition would have to be transcoded.
            taps.truncate(1);
        }
        let single_layer = taps.len() == 1;
        for (index, (tap, source)) in taps.into_iter().enumerate() {
            let Some(video) = VideoId::new(index) else { break };
            let (router, switching) = (self.inner.router.clone(), self.inner.router.clone());
            let tap_id = tap.id;
            let set_tap_paused = move |paused| {
                let router = switching.clone();
                async move {
                    if let Err(error) = router.set_tap_paused(tap_id, paused).await {
                        debug!(tap = %tap_id, %error, "a tap that is gone is not paused or resumed");
                    }
                }
                .boxed()
            };
            let track = Track {
                producer_id: producer,
                kind: tap.kind,
                video,
                single_layer,
                codec: tap.codec,
                paused: tap.producer_paused,
                source,
                request_key_frame: Arc::new(move || router.request_key_frame(producer)),
                set_tap_paused: Arc::new(set_tap_paused),
                start,
            };
            egress.add_track(peer, track);
        }
        // The producer may have ended between the two lines above; its end then found no track to take away.
        if !self.registry().has_producer(producer) {
            debug!(%peer, %producer, "the producer ended while its HLS began");
            egress.remove_track(peer, producer);
            if self.registry().inbox(peer).is_none() {
                egress.end_peer(peer);
            }
        }
    }

    /// Carries out what the end of a transport means for the room.
    pub(super) fn transport_removed(&self, peer: &PeerId, removed: RemovedTransport) {
        self.producers_removed(peer, &removed.producers, removed.ends_hls, removed.was_live);
    }

    /// Tells of producers that ended while their peer stays, and takes them out of its HLS.
    pub(super) fn producers_removed(
        &self,
        peer: &PeerId,
        producers: &[Producer],
        ends_hls: bool,
        was_live: bool,
    ) {
        for producer in producers {
            if let (HlsState::Fed, false, Some(egress)) = (producer.hls, ends_hls, &self.inner.egress) {
                egress.remove_track(peer, producer.id);
            }
            let (producer, kind) = (producer.id, producer.kind);
            self.publish(Event::ProducerClosed { peer: peer.clone(), producer, kind });
        }
        if ends_hls {
            self.end_hls(peer);
        }
        if was_live {
            self.publish_hls(HlsEvent::OffAir(peer.clone()));
        }
    }

    /// Ends a peer's playlists. Its taps end with their producers.
    pub(super) fn end_hls(&self, peer: &PeerId) {
        if let Some(egress) = &self.inner.egress {
            egress.end_peer(peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_publisher_says_when_its_hls_is_made_or_nothing() {
        let wanted = |app_data| wanted_start(&app_data);
        for nothing in [json!({}), json!(null), json!("on-demand"), json!({"hlsStart": null, "other": 1})] {
            assert_eq!(wanted(nothing), Ok(None));
        }
        assert_eq!(wanted(json!({"hlsStart": "on-demand"})), Ok(Some(Start::OnDemand)));
        assert_eq!(wanted(json!({"hlsStart": "always"})), Ok(Some(Start::Always)));
        for nonsense in [json!({"hlsStart": "later"}), json!({"hlsStart": 1}), json!({"hlsStart": {}})] {
            assert_eq!(wanted(nonsense), Err(ProduceError::HlsStart));
        }
    }
}
