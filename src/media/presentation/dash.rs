//! The same segments as a DASH manifest (ISO/IEC 23009-1).
//!
//! What lies between two discontinuities is a period. A segment is listed once it is complete in all renditions, with the
//! times of its own samples, so that a manifest never says more than what is there.

use std::time::Duration;

use dash_mpd_core::{
    AdaptationSet, AudioChannelConfiguration, MPD, Period, Representation, S, SegmentTemplate,
    SegmentTimeline,
};

use super::Presentation;
use super::kept::{Format, Kept, Track};
use super::names::prefix;
use crate::media::segmenter::{Rendition, TARGET, TARGET_DURATION_SECS};
use crate::media::timeline::MediaTime;

/// The profile for live streams of ISO media (ISO/IEC 23009-1 section 8.4).
const PROFILE: &str = "urn:mpeg:dash:profile:isoff-live:2011";
const NAMESPACE: &str = "urn:mpeg:dash:schema:mpd:2011";
/// How the number of channels is told (ISO/IEC 23003-3).
const CHANNELS: &str = "urn:mpeg:dash:23003:3:audio_channel_configuration:2011";
/// How far behind the end players should stay. Segments come when they are complete, so this is one that is being made,
/// one that is being fetched, and one to play meanwhile.
const DELAY: Duration = Duration::from_secs(3 * TARGET.as_secs());

impl Presentation {
    /// The manifest of all complete segments in the window; none as long as there is none.
    pub(super) fn manifest(&self) -> Option<String> {
        let offered = self.offered();
        let listed: Vec<&Kept> = self.all_listed().filter(|kept| kept.is_complete()).collect();
        let last = listed.last()?;
        let end = last.tracks.values().map(Track::end).max()?;
        let start = MediaTime::default();
        let periods = listed.chunk_by(|one, next| one.discontinuities == next.discontinuities);
        let periods: Vec<Period> = periods
            .filter_map(|segments| {
                let first = segments.first()?;
                let of_kind = |video: bool| {
                    let renditions =
                        offered.iter().filter(move |one| matches!(one, Rendition::Video(_)) == video);
                    let made = renditions.filter_map(|one| self.representation(segments, first.period, *one));
                    made.collect::<Vec<_>>()
                };
                let sets = [("video", of_kind(true)), ("audio", of_kind(false))].into_iter();
                let sets = sets.filter(|(_, representations)| !representations.is_empty());
                Some(Period {
                    id: Some(first.discontinuities.to_string()),
                    start: Some(first.period.since(start)),
                    adaptations: sets.map(|(kind, made)| adaptation_set(kind, made)).collect(),
                    ..Period::default()
                })
            })
            .collect();
        let depth: Duration = listed.iter().map(|kept| kept.duration()).sum();
        let manifest = MPD {
            xmlns: Some(NAMESPACE.to_owned()),
            profiles: Some(PROFILE.to_owned()),
            mpdtype: Some("dynamic".to_owned()),
            availabilityStartTime: Some(self.own_epoch.into()),
            publishTime: self.own_epoch.checked_add(end.since(start)).map(Into::into),
            // A presentation whose end is known is not asked for again.
            minimumUpdatePeriod: (!self.ended).then_some(TARGET),
            mediaPresentationDuration: self.ended.then(|| end.since(start)),
            minBufferTime: Some(TARGET),
            timeShiftBufferDepth: Some(depth),
            suggestedPresentationDelay: Some(DELAY),
            maxSegmentDuration: Some(Duration::from_secs(TARGET_DURATION_SECS)),
            periods,
            ..MPD::default()
        };
        Some(manifest.to_string())
    }

    fn representation(
        &self,
        segments: &[&Kept],
        period: MediaTime,
        rendition: Rendition,
    ) -> Option<Representation> {
        let of_rendition =
            || segments.iter().filter_map(|kept| Some((kept.sequence, kept.tracks.get(&rendition)?)));
        let (sequence, first) = of_rendition().next()?;
        let mut timeline: Vec<S> = Vec::new();
        for (_, track) in of_rendition() {
            match timeline.last_mut() {
                Some(last) if last.d == track.ticks => *last.r.get_or_insert(0) += 1,
                _ => timeline.push(S { t: Some(track.base), d: track.ticks, ..S::default() }),
            }
        }
        let rate = u64::from(first.rate);
        let mut made = Representation {
            id: Some(prefix(rendition)),
            bandwidth: Some(self.bit_rate(rendition, false).peak),
            codecs: Some(first.format.codec()),
            startWithSAP: of_rendition().all(|(_, track)| track.independent).then_some(1),
            SegmentTemplate: Some(SegmentTemplate {
                timescale: Some(rate),
                presentationTimeOffset: Some(period.ticks(first.rate)),
                initialization: Some(first.init_uri.clone()),
                media: Some(self.names.numbered(rendition)),
                startNumber: Some(sequence),
                SegmentTimeline: Some(SegmentTimeline { segments: timeline }),
                ..SegmentTemplate::default()
            }),
            ..Representation::default()
        };
        match &first.format {
            Format::Video(config) => {
                let (width, height) = config.size();
                (made.width, made.height) = (Some(width.into()), Some(height.into()));
            }
            Format::Audio(config) => {
                made.audioSamplingRate = Some(config.sample_rate().to_string());
                made.AudioChannelConfiguration = vec![AudioChannelConfiguration {
                    schemeIdUri: CHANNELS.to_owned(),
                    value: Some(config.channels().to_string()),
                    ..AudioChannelConfiguration::default()
                }];
            }
        }
        Some(made)
    }
}

fn adaptation_set(kind: &str, representations: Vec<Representation>) -> AdaptationSet {
    AdaptationSet {
        id: Some(if kind == "video" { "0" } else { "1" }.to_owned()),
        contentType: Some(kind.to_owned()),
        mimeType: Some(format!("{kind}/mp4")),
        segmentAlignment: Some(true),
        representations,
        ..AdaptationSet::default()
    }
}
