//! One track on its way into segments: packets in order, on the peer's timeline, through a pipeline.
//!
//! Packets that come while a failed pipeline waits for its replacement are lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mediasoup_types::rtp_parameters::{
    MediaKind, MimeType, MimeTypeAudio, MimeTypeVideo, RtpCodecParameters,
};
use tokio::sync::oneshot;

use super::Track;
use super::blocking::Blocking;
use super::ladder::{Ladder, Step};
use super::meter::{Meter, Meters, OnTheWay};
use super::pipeline::{Output, Pipeline, Plan};
use super::slate::Slate;
use super::supervisor::{self, Supervisor};
use super::templates::{Template, Templates, Variables};
use super::thumbnails::Thumbnails;
use super::watchdog::Watchdog;
use crate::ids::PeerId;
use crate::media::codec;
use crate::media::opus;
use crate::media::reorder::Reorder;
use crate::media::rtp::RtpView;
use crate::media::segmenter::{KeyFrameRequest, Rendition};
use crate::media::timeline::{MediaTime, Pace, RtpClock};
use crate::sfu::api::{TapOutput, TapPacket};

/// How long a missing packet is waited for: a few round trips for its retransmission.
const PATIENCE: Duration = Duration::from_millis(150);
/// The most packets that wait for a missing one.
const REORDER_CAPACITY: usize = 1024;
/// Video packets that bring no picture for so long mean that the decoder needs a key frame.
const NO_PICTURE: Duration = Duration::from_millis(500);

/// A hole in the sound from which on the decoder is told: the shortest Opus frame.
const MIN_CONCEALED: Duration = Duration::from_micros(2500);
/// A longer hole in the sound is not concealed but silent; above the 400 ms between packets of Opus DTX.
const MAX_CONCEALED: Duration = Duration::from_millis(500);

/// What all feeds share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) templates: Arc<Templates>,
    pub(super) blocking: Blocking,
    pub(super) meters: Meters,
    /// What is shown of peers that are away, if not what they showed last.
    pub(super) slate: Option<Arc<Slate>>,
    /// What makes pictures of peers, if anything does.
    pub(super) thumbnails: Option<Thumbnails>,
    /// The bit rate of transcoded video, in kbit/s.
    pub(super) video_kbps: u32,
    /// What is made of publishers that send one quality only.
    pub(super) ladder: Arc<[Step]>,
}

/// The moments of a peer's timeline by the process's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Epoch(pub(super) Instant);

impl Epoch {
    pub(super) fn moment(self, instant: Instant) -> MediaTime {
        MediaTime::default() + instant.saturating_duration_since(self.0)
    }
}

/// What a feed brings to its peer.
#[derive(Debug)]
pub(super) enum Event {
    Output(Output),
    /// A pipeline runs from now on; `again` if it took another one's place.
    Started {
        again: bool,
    },
    Tap(TapOutput),
    /// Packets may have become due.
    Due,
}

/// Pictures that packets are missing of, see `Segmenter::video_damaged`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Damage {
    pub(super) from: MediaTime,
    pub(super) through: MediaTime,
}

/// What is remembered of a packet until the next one.
#[derive(Debug, Clone, Copy)]
struct Last {
    pts: MediaTime,
    marker: bool,
    /// When the sound in it ends.
    ends: Option<MediaTime>,
}

/// One track.
pub(super) struct Feed {
    pub(super) track: Track,
    pub(super) clock: RtpClock,
    epoch: Epoch,
    template: Template,
    /// Whether further renditions are made of it.
    has_ladder: bool,
    supervisor: Supervisor,
    meter: Arc<Meter>,
    reorder: Reorder<TapPacket>,
    on_the_way: OnTheWay,
    /// The last packet in order.
    last: Option<Last>,
    /// When packets without pictures began.
    fruitless_since: Option<Instant>,
}

impl Track {
    pub(super) fn rendition(&self) -> Rendition {
        match self.kind {
            MediaKind::Audio => Rendition::Audio,
            MediaKind::Video => Rendition::Video(self.video),
        }
    }

    /// Whether HLS can be made of its codec.
    pub(super) fn is_playable(&self) -> bool {
        template_of(self.codec.mime_type(), false).is_some()
    }
}

impl Feed {
    /// Begins to start a track's pipeline. `None` if its codec isn't one that HLS is made of.
    pub(super) fn start(peer: &PeerId, track: Track, epoch: Epoch, shared: &Shared) -> Option<Self> {
        let has_ladder = track.kind == MediaKind::Video && track.single_layer && !shared.ladder.is_empty();
        let (template, pace) = template_of(track.codec.mime_type(), has_ladder)?;
        let channels = match &track.codec {
            RtpCodecParameters::Audio { channels, .. } => channels.get(),
            RtpCodecParameters::Video { .. } => 1,
        };
        let clock_rate = track.codec.clock_rate().get();
        let needs_key_frame = track.kind == MediaKind::Video;
        let meter = shared.meters.add(Meter::new(peer.clone(), track.rendition(), template.name()));
        let plan = Plan {
            templates: Arc::clone(&shared.templates),
            template,
            variables: Variables {
                clock_rate,
                channels,
                video_kbps: shared.video_kbps,
                size: (0, 0), // as it comes
                fallback: false,
            },
            blocking: shared.blocking.for_track(),
            meter: Arc::clone(&meter),
        };
        Some(Self {
            track,
            clock: RtpClock::new(clock_rate, pace),
            epoch,
            template,
            has_ladder,
            supervisor: Supervisor::new(plan, needs_key_frame, Instant::now()),
            meter,
            reorder: Reorder::new(PATIENCE, REORDER_CAPACITY),
            on_the_way: OnTheWay::default(),
            last: None,
            fruitless_since: None,
        })
    }

    /// The ladder that is to be made of it, if any.
    pub(super) fn ladder(&self, peer: &PeerId, shared: &Shared) -> Option<Ladder> {
        self.has_ladder.then(|| Ladder::new(peer, !self.template.decodes_video(), shared))
    }

    /// The next event. Cancel safe.
    pub(super) async fn next(&mut self) -> Event {
        // A pipeline that runs in a moment gets everything: meanwhile packets wait in the tap.
        let starting = self.supervisor.is_starting();
        let due = self.reorder.deadline().filter(|_| !starting);
        let wait = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = self.supervisor.next() => match event {
                supervisor::Event::Output(output) => Event::Output(output),
                supervisor::Event::Started { again } => self.started(again),
            },
            tapped = self.track.source.recv(), if !starting => Event::Tap(tapped.unwrap_or(TapOutput::Closed)),
            () = wait => Event::Due,
        }
    }

    fn started(&mut self, again: bool) -> Event {
        self.on_the_way.clear();
        if again && self.track.kind == MediaKind::Video {
            self.ask_publisher();
        }
        Event::Started { again }
    }

    /// An output that is there already, to save a round through the scheduler.
    pub(super) fn try_output(&mut self) -> Option<Output> {
        self.supervisor.try_output()
    }

    /// Takes a packet from the tap.
    pub(super) fn packet(&mut self, packet: TapPacket, now: Instant) {
        let Ok(view) = RtpView::parse(&packet.data) else { return };
        self.reorder.push(view.sequence(), now, packet);
    }

    /// Feeds the packets whose turn it is into the pipeline, and tells which pictures are damaged by lost ones.
    pub(super) fn forward(&mut self, now: Instant) -> Option<Damage> {
        let mut damage: Option<Damage> = None;
        while let Some(ordered) = self.reorder.pop(now) {
            let TapPacket { data, arrival } = ordered.packet;
            let Ok(view) = RtpView::parse(&data) else { continue };
            let pts = self.clock.moment(view.timestamp(), self.epoch.moment(arrival));
            if ordered.lost_before > 0 {
                self.meter.packets_lost(ordered.lost_before);
                self.supervisor.watchdog().into_iter().for_each(Watchdog::lost);
            }
            if ordered.lost_before > 0 && self.track.kind == MediaKind::Video {
                let found = self.damage(pts, view.payload());
                let from = damage.map_or(found.from, |earlier| earlier.from);
                damage = Some(Damage { from, ..found });
            }
            let ends = self.fill_gap(pts, view.payload());
            self.last = Some(Last { pts, marker: view.marker(), ends });
            if self.track.kind == MediaKind::Video {
                self.fruitless_since.get_or_insert(now);
            }
            self.feed_pipeline(data, pts, arrival);
        }
        damage
    }

    fn feed_pipeline(&mut self, packet: Bytes, pts: MediaTime, arrival: Instant) {
        let Ok(view) = RtpView::parse(&packet) else { return };
        let starts_key_frame = codec::is_key_frame(self.track.codec.mime_type(), view.payload());
        let ends_frame = view.marker() || self.track.kind == MediaKind::Audio;
        let Some(watchdog) = self.supervisor.watchdog() else { return self.meter.dropped() };
        watchdog.fed(starts_key_frame, ends_frame);
        if ends_frame {
            self.meter.frame_in();
        }
        self.on_the_way.note(pts, arrival);
        if let Some(pipeline) = self.supervisor.pipeline() {
            pipeline.push(packet, pts);
        }
    }

    /// Tells the decoder of a hole before a packet of sound, so that it conceals what was lost and makes comfort noise
    /// where nothing was sent (DTX). Answers when the packet's sound ends.
    fn fill_gap(&self, pts: MediaTime, payload: &[u8]) -> Option<MediaTime> {
        if self.track.kind != MediaKind::Audio {
            return None;
        }
        let ended = self.last.and_then(|last| last.ends);
        if let (Some(ended), Some(pipeline)) = (ended, self.supervisor.pipeline()) {
            let hole = pts.since(ended);
            if (MIN_CONCEALED..=MAX_CONCEALED).contains(&hole) {
                pipeline.push_gap(ended, hole);
            }
        }
        opus::duration(payload).map(|duration| pts + duration)
    }

    /// Which pictures lack packets when some are missing right before one of `pts`.
    fn damage(&self, pts: MediaTime, payload: &[u8]) -> Damage {
        let from = match self.last {
            Some(Last { pts, marker: false, .. }) => pts, // the picture before had not ended
            _ => pts,
        };
        let before = pts.before(Duration::from_nanos(1));
        Damage { from, through: if begins_picture(self.template, payload) { before } else { pts } }
    }

    /// Passes a segmenter's request on to whoever makes the key frames.
    pub(super) fn request_key_frame(&self, request: KeyFrameRequest) {
        let decodes = self.template.decodes_video();
        if let (true, Some(pipeline)) = (decodes, self.supervisor.pipeline()) {
            pipeline.force_key_frame(match request {
                KeyFrameRequest::Due(at) => Some(at),
                KeyFrameRequest::Missing => None,
            });
        }
        if !decodes || request == KeyFrameRequest::Missing {
            (self.track.request_key_frame)();
        }
    }

    /// Whether damaged pictures reach the segmenter: a decoder hides them.
    pub(super) fn passes_damage(&self) -> bool {
        !self.template.decodes_video()
    }

    /// Asks the publisher for a key frame, whatever makes the segments' ones.
    pub(super) fn ask_publisher(&self) {
        (self.track.request_key_frame)();
    }

    /// Notes that an access unit of the moment `pts` came out.
    pub(super) fn fruitful(&mut self, pts: MediaTime, now: Instant) {
        self.fruitless_since = None;
        self.supervisor.watchdog().into_iter().for_each(Watchdog::answered);
        let arrival = self.on_the_way.take(pts);
        self.meter.unit_out(arrival.map(|arrival| now.saturating_duration_since(arrival)));
    }

    /// Notes that the pipeline failed.
    pub(super) fn failed(&mut self, reason: &str, now: Instant) {
        self.supervisor.failed(reason, now);
    }

    /// Regular upkeep: replaces a pipeline that hangs, asks for a key frame if packets bring no picture.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.fruitless_since.is_some_and(|since| now.saturating_duration_since(since) >= NO_PICTURE) {
            self.fruitless_since = None;
            self.ask_publisher();
        }
        self.supervisor.tick(now);
    }

    /// Whether access units were lost between the pipeline and its reader.
    pub(super) fn take_overflow(&self) -> bool {
        self.supervisor.pipeline().is_some_and(Pipeline::take_overflow)
    }

    /// Lets go of the track; its pipeline stops by itself.
    pub(super) fn into_track(self) -> Track {
        self.track
    }

    /// Stops the pipeline; the answer comes when its threads have ended.
    pub(super) fn stop(self) -> Option<oneshot::Receiver<()>> {
        self.supervisor.stop()
    }
}

fn template_of(mime_type: MimeType, has_ladder: bool) -> Option<(Template, Pace)> {
    match mime_type {
        MimeType::Video(MimeTypeVideo::Vp8) if has_ladder => Some((Template::Vp8Pictures, Pace::Gentle)),
        MimeType::Video(MimeTypeVideo::Vp9) if has_ladder => Some((Template::Vp9Pictures, Pace::Gentle)),
        MimeType::Video(MimeTypeVideo::H264) => Some((Template::H264, Pace::Gentle)),
        MimeType::Video(MimeTypeVideo::Vp8) => Some((Template::Vp8, Pace::Gentle)),
        MimeType::Video(MimeTypeVideo::Vp9) => Some((Template::Vp9, Pace::Gentle)),
        MimeType::Audio(MimeTypeAudio::Opus) => Some((Template::Opus, Pace::Rare)),
        _ => None,
    }
}

/// Whether a packet surely begins a picture: H.264 access units of a key frame begin with a delimiter, SEI or
/// parameter set, alone or in an aggregation packet (RFC 6184 section 5.4).
fn begins_picture(template: Template, payload: &[u8]) -> bool {
    const STAP_A: u8 = 24;
    const SEI: u8 = 6;
    const SPS: u8 = 7;
    const DELIMITER: u8 = 9;
    let nal_type = payload.first().map(|header| header & 0x1F);
    template == Template::H264 && matches!(nal_type, Some(STAP_A | SEI | SPS | DELIMITER))
}
