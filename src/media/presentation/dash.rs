//! The same segments as a DASH manifest (ISO/IEC 23009-1).
//!
//! What lies between two discontinuities is a period. A segment is listed once it is complete in all renditions, with the
//! times of its own samples, so that a manifest never says more than what is there.
//!
//! The manifest for low latency lists the segment that is being made as well, from its first part on: it is served while it
//! grows. How long it will be is not known and said to be [`EXPECTED`], which is more than most are: players look for
//! what follows where the last one was said to end, and would find the same one again if it became longer.

use std::time::Duration;

use dash_mpd_core::{
    AdaptationSet, AudioChannelConfiguration, Latency, MPD, Period, PlaybackRate, Representation, S,
    SegmentTemplate, SegmentTimeline, ServiceDescription, UTCTiming,
};

use super::Presentation;
use super::kept::{Format, Kept, Track};
use super::names::prefix;
use crate::media::playlist::part_hold_back;
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

/// How long the segment that is being made is said to be.
const EXPECTED: Duration = Duration::from_millis(2500);
/// How often players that want low latency ask what follows.
const LOW_LATENCY_UPDATE: Duration = Duration::from_millis(500);
/// How far behind the live edge they should stay: until they know of a segment, and it is there, up to a second passes.
const LATENCY: Duration = Duration::from_millis(1500);
/// How far behind they may fall, and how near they may come.
const LATENCIES: [Duration; 2] = [Duration::from_millis(1000), Duration::from_millis(4000)];
/// How slow and how fast they may play to stay there.
const RATES: [f64; 2] = [0.96, 1.04];
/// Where clocks are compared (ISO/IEC 23009-1 section 5.8.5.7); the address is relative to the manifest's.
const TIME_SOURCE: &str = "urn:mpeg:dash:utc:http-iso:2014";
/// What is served there: this moment, as ISO 8601 writes it.
pub const TIME: &str = "time";

impl Presentation {
    /// The manifest of all complete segments in the window; none as long as there is none.
    pub(super) fn manifest(&self) -> Option<String> {
        let listed: Vec<&Kept> = self.all_listed().filter(|kept| kept.is_complete()).collect();
        self.mpd(&listed, false).map(|manifest| manifest.to_string())
    }

    /// The manifest for low latency; none as long as no segment was begun in all renditions.
    pub(super) fn low_latency_manifest(&self) -> Option<String> {
        let begun = |kept: &&Kept| kept.is_complete() || kept.is_begun();
        let listed: Vec<&Kept> = self.recent().filter(begun).collect();
        let ms = |duration: Duration| Some(duration.as_millis() as f64);
        let [least, most] = LATENCIES;
        let latency = Latency { target: ms(LATENCY), min: ms(least), max: ms(most), ..Latency::default() };
        let [min, max] = RATES.map(Some);
        let manifest = MPD {
            minimumUpdatePeriod: (!self.ended).then_some(LOW_LATENCY_UPDATE),
            minBufferTime: Some(part_hold_back(self.part_target)),
            suggestedPresentationDelay: Some(LATENCY),
            ServiceDescription: vec![ServiceDescription {
                id: Some("0".to_owned()),
                Latency: vec![latency],
                PlaybackRate: vec![PlaybackRate { min, max }],
                ..ServiceDescription::default()
            }],
            UTCTiming: vec![UTCTiming {
                schemeIdUri: TIME_SOURCE.to_owned(),
                value: Some(TIME.to_owned()),
                ..UTCTiming::default()
            }],
            ..self.mpd(&listed, true)?
        };
        Some(manifest.to_string())
    }

    fn mpd(&self, listed: &[&Kept], low_latency: bool) -> Option<MPD> {
        let offered = self.offered();
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
                    let made = renditions.filter_map(|one| {
                        let segments = (segments, first.period);
                        self.representation(segments, *one, low_latency)
                    });
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
        Some(MPD {
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
        })
    }

    fn representation(
        &self,
        (segments, period): (&[&Kept], MediaTime),
        rendition: Rendition,
        low_latency: bool,
    ) -> Option<Representation> {
        let of_rendition =
            || segments.iter().filter_map(|kept| Some((kept.sequence, kept.tracks.get(&rendition)?)));
        let (sequence, first) = of_rendition().next()?;
        let mut timeline: Vec<S> = Vec::new();
        for (_, track) in of_rendition() {
            let ticks = expected_ticks(track);
            match timeline.last_mut() {
                Some(last) if last.d == ticks => *last.r.get_or_insert(0) += 1,
                _ => timeline.push(S { t: Some(track.base), d: ticks, ..S::default() }),
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
                availabilityTimeComplete: low_latency.then_some(false),
                availabilityTimeOffset: low_latency
                    .then(|| EXPECTED.saturating_sub(self.part_target).as_secs_f64()),
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

/// How long a segment is, or is expected to be.
fn expected_ticks(track: &Track) -> u64 {
    if track.uri.is_some() {
        return track.ticks;
    }
    (MediaTime::default() + EXPECTED).ticks(track.rate).max(track.ticks)
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
