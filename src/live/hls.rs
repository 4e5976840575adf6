//! How a room's producers get into their peers' HLS and out of it again.
//!
//! A peer's HLS takes its first audio and its first video producer; further ones of the same kind are WebRTC only. Each
//! simulcast stream of H.264 is a rendition of its own, passed through.

use std::sync::Arc;

use mediasoup_types::rtp_parameters::{MimeType, MimeTypeVideo};
use tracing::{debug, warn};

use super::event::{Event, HlsEvent};
use super::registry::{HlsState, Producer, RemovedTransport};
use super::room::Room;
use crate::egress::Track;
use crate::ids::{PeerId, ProducerId};
use crate::media::segmenter::VideoId;

/// How many packets a tap holds for egress: four seconds of 10 Mbit/s video in packets of 1200 bytes.
pub(super) const TAP_CAPACITY: usize = 4096;

impl Room {
    /// Feeds a producer into its peer's HLS. If that fails, the peer is watched over WebRTC all the same.
    pub(super) async fn start_hls(&self, peer: &PeerId, producer: ProducerId) {
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
            let router = self.inner.router.clone();
            let track = Track {
                producer_id: producer,
                kind: tap.kind,
                video,
                single_layer,
                codec: tap.codec,
                paused: tap.producer_paused,
                source,
                request_key_frame: Arc::new(move || router.request_key_frame(producer)),
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
