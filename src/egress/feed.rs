//! One track on its way into segments: packets in order, on the peer's timeline, through a pipeline.
//!
//! A pipeline that fails is started again after a while; packets that come meanwhile are lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mediasoup_types::rtp_parameters::{
    MediaKind, MimeType, MimeTypeAudio, MimeTypeVideo, RtpCodecParameters,
};
use tokio::sync::mpsc;

use super::pipeline::{Output, Pipeline};
use super::templates::{Template, Templates, Variables};
use super::{KeyFrameRequester, Track};
use crate::ids::ProducerId;
use crate::media::opus;
use crate::media::reorder::Reorder;
use crate::media::rtp::RtpView;
use crate::media::segmenter::KeyFrameRequest;
use crate::media::timeline::{MediaTime, Pace, RtpClock};
use crate::sfu::api::{TapOutput, TapPacket};

/// How long a missing packet is waited for: a few round trips for its retransmission.
const PATIENCE: Duration = Duration::from_millis(150);
/// The most packets that wait for a missing one.
const REORDER_CAPACITY: usize = 1024;
/// The wait before a failed pipeline's first restart; each further one takes twice as long.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
/// The longest wait before a restart.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// A pipeline that ran for so long is healthy: its next failure waits for [`FIRST_BACKOFF`] again.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);
/// Video packets that bring no picture for so long mean that the decoder needs a key frame.
const NO_PICTURE: Duration = Duration::from_millis(500);

/// A hole in the sound from which on the decoder is told: the shortest Opus frame.
const MIN_CONCEALED: Duration = Duration::from_micros(2500);
/// A longer hole in the sound is not concealed but silent; above the 400 ms between packets of Opus DTX.
const MAX_CONCEALED: Duration = Duration::from_millis(500);

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

enum Engine {
    Running {
        pipeline: Box<Pipeline>,
        since: Instant,
    },
    /// It failed and is started again at `at`.
    Waiting {
        at: Instant,
    },
}

/// One track.
pub(super) struct Feed {
    pub(super) producer_id: ProducerId,
    pub(super) kind: MediaKind,
    pub(super) clock: RtpClock,
    epoch: Epoch,
    template: Template,
    variables: Variables,
    templates: Arc<Templates>,
    source: mpsc::Receiver<TapOutput>,
    request_key_frame: KeyFrameRequester,
    reorder: Reorder<TapPacket>,
    engine: Engine,
    backoff: Duration,
    /// The last packet in order.
    last: Option<Last>,
    /// When packets without pictures began.
    fruitless_since: Option<Instant>,
}

impl Feed {
    /// Starts a track's pipeline. `None` if its codec isn't one that HLS is made of.
    pub(super) async fn start(
        track: Track,
        epoch: Epoch,
        templates: &Arc<Templates>,
        video_kbps: u32,
    ) -> Option<Self> {
        let (template, pace) = template_of(&track.codec)?;
        let channels = match &track.codec {
            RtpCodecParameters::Audio { channels, .. } => channels.get(),
            RtpCodecParameters::Video { .. } => 1,
        };
        let clock_rate = track.codec.clock_rate().get();
        let variables = Variables { clock_rate, channels, video_kbps };
        let mut feed = Self {
            producer_id: track.producer_id,
            kind: track.kind,
            clock: RtpClock::new(clock_rate, pace),
            epoch,
            template,
            variables,
            templates: Arc::clone(templates),
            source: track.source,
            request_key_frame: track.request_key_frame,
            reorder: Reorder::new(PATIENCE, REORDER_CAPACITY),
            engine: Engine::Waiting { at: Instant::now() },
            backoff: FIRST_BACKOFF,
            last: None,
            fruitless_since: None,
        };
        feed.start_pipeline().await;
        Some(feed)
    }

    /// The next event. Cancel safe.
    pub(super) async fn next(&mut self) -> Event {
        let due = self.reorder.deadline();
        let wait = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        let output = async {
            match &mut self.engine {
                Engine::Running { pipeline, .. } => pipeline.next().await,
                Engine::Waiting { .. } => std::future::pending().await,
            }
        };
        tokio::select! {
            output = output => Event::Output(output),
            tapped = self.source.recv() => Event::Tap(tapped.unwrap_or(TapOutput::Closed)),
            () = wait => Event::Due,
        }
    }

    /// An output that is there already, to save a round through the scheduler.
    pub(super) fn try_output(&mut self) -> Option<Output> {
        match &mut self.engine {
            Engine::Running { pipeline, .. } => pipeline.try_next(),
            Engine::Waiting { .. } => None,
        }
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
            if ordered.lost_before > 0 && self.kind == MediaKind::Video {
                let found = self.damage(pts, view.payload());
                let from = damage.map_or(found.from, |earlier| earlier.from);
                damage = Some(Damage { from, ..found });
            }
            let ends = self.fill_gap(pts, view.payload());
            self.last = Some(Last { pts, marker: view.marker(), ends });
            if self.kind == MediaKind::Video {
                self.fruitless_since.get_or_insert(now);
            }
            if let Engine::Running { pipeline, .. } = &self.engine {
                pipeline.push(data, pts);
            }
        }
        damage
    }

    /// Tells the decoder of a hole before a packet of sound, so that it conceals what was lost and makes comfort noise
    /// where nothing was sent (DTX). Answers when the packet's sound ends.
    fn fill_gap(&self, pts: MediaTime, payload: &[u8]) -> Option<MediaTime> {
        if self.kind != MediaKind::Audio {
            return None;
        }
        let ended = self.last.and_then(|last| last.ends);
        if let (Some(ended), Engine::Running { pipeline, .. }) = (ended, &self.engine) {
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
        let encodes = self.template.encodes_video();
        if let (true, Engine::Running { pipeline, .. }) = (encodes, &self.engine) {
            pipeline.force_key_frame(match request {
                KeyFrameRequest::Due(at) => Some(at),
                KeyFrameRequest::Missing => None,
            });
        }
        if !encodes || request == KeyFrameRequest::Missing {
            (self.request_key_frame)();
        }
    }

    /// Whether damaged pictures reach the segmenter: a decoder hides them.
    pub(super) fn passes_damage(&self) -> bool {
        !self.template.encodes_video()
    }

    /// Asks the publisher for a key frame, whatever makes the segments' ones.
    pub(super) fn ask_publisher(&self) {
        (self.request_key_frame)();
    }

    /// Notes that a picture came out.
    pub(super) fn fruitful(&mut self) {
        self.fruitless_since = None;
    }

    /// Notes that the pipeline failed.
    pub(super) fn failed(&mut self, now: Instant) {
        if let Engine::Running { since, .. } = &self.engine
            && now.saturating_duration_since(*since) >= HEALTHY_AFTER
        {
            self.backoff = FIRST_BACKOFF;
        }
        self.engine = Engine::Waiting { at: now + self.backoff };
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
    }

    /// Regular upkeep: restarts a failed pipeline (then it answers true), asks for a key frame if packets bring no
    /// picture.
    pub(super) async fn tick(&mut self, now: Instant) -> bool {
        if self.fruitless_since.is_some_and(|since| now.saturating_duration_since(since) >= NO_PICTURE) {
            self.fruitless_since = None;
            self.ask_publisher();
        }
        match self.engine {
            Engine::Waiting { at } if at <= now => self.start_pipeline().await,
            _ => false,
        }
    }

    /// Whether access units were lost between the pipeline and its reader.
    pub(super) fn take_overflow(&self) -> bool {
        matches!(&self.engine, Engine::Running { pipeline, .. } if pipeline.take_overflow())
    }

    /// Stops the pipeline and waits for its threads.
    pub(super) async fn stop(self) {
        if let Engine::Running { pipeline, .. } = self.engine {
            pipeline.stop().await;
        }
    }

    /// Starts the pipeline, or waits for another try; says whether it runs.
    async fn start_pipeline(&mut self) -> bool {
        let (templates, template) = (Arc::clone(&self.templates), self.template);
        let (kind, variables) = (self.kind, self.variables);
        let start = move || Pipeline::start(&templates, template, kind, variables);
        let reason = match tokio::task::spawn_blocking(start).await {
            Ok(Ok(pipeline)) => {
                self.engine = Engine::Running { pipeline: Box::new(pipeline), since: Instant::now() };
                return true;
            }
            Ok(Err(reason)) => format!("{reason:#}"),
            Err(reason) => reason.to_string(),
        };
        tracing::warn!(producer = %self.producer_id, reason, "pipeline not started");
        self.failed(Instant::now());
        false
    }
}

fn template_of(codec: &RtpCodecParameters) -> Option<(Template, Pace)> {
    match codec.mime_type() {
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
