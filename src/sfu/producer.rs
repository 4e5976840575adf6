//! A producer: the streams that one peer sends for one source, what is known of each, and what has to be asked of
//! the peer.

use std::time::{Duration, Instant};

use mediasoup_types::rtp_parameters::{MediaKind, RtcpFeedback, RtpCodecParameters, RtpParameters};
use mediasoup_types::scalability_modes::ScalabilityMode;

use smallvec::SmallVec;

use crate::ids::{ProducerId, RouterId};
use crate::media::codec::{Frame, Layers, MAX_SPATIAL_LAYERS, MAX_TEMPORAL_LAYERS};
use crate::media::ortc::{ProducerType, RtpMapping};
use crate::media::rtcp::ReportBlock;
use crate::media::rtp::{FIXED_HEADER_LEN, RtpView};
use crate::sfu::cache::{AUDIO_PACKETS, CachedPacket, PacketCache, VIDEO_PACKETS};
use crate::sfu::frames::{FrameReader, Reading};
use crate::sfu::key_frames::KeyFrameRequests;
use crate::sfu::layers::{Ladder, LayerBitrate, Offer};
use crate::sfu::nack::{Gap, NackGenerator};
use crate::sfu::observers::Levels;
use crate::sfu::rates::LayerRates;
use crate::sfu::reception::Reception;
use crate::sfu::rewrite::ClockSample;
use crate::sfu::score::Score;
use crate::sfu::stats;

/// A stream that was silent for this long is not forwarded from any more: the next best layer is.
pub const STREAM_IDLE_AFTER: Duration = Duration::from_secs(1);
/// Bytes of padding that a packet gets at most.
pub const MAX_PADDING: usize = 16;
/// One stream (simulcast layer) of a producer.
pub struct ProducerStream {
    /// The SSRC, once signalled or seen.
    pub ssrc: Option<u32>,
    /// The SSRC of its retransmissions, once signalled or seen.
    pub rtx_ssrc: Option<u32>,
    /// The RID that names it, if it has one.
    pub rid: Option<String>,
    /// Its packets.
    pub cache: PacketCache,
    /// Its key frame requests.
    pub key_frames: KeyFrameRequests,
    /// The publisher's clock.
    pub clock: Option<ClockSample>,
    /// Bits per second of its layers.
    pub rates: LayerRates,
    /// What was counted of it.
    pub counted: stats::Received,
    /// The last report on it.
    pub last_report: Option<ReportBlock>,
    /// How well it arrives; none before it ever did.
    pub score: Option<Score>,
    frames: FrameReader,
    nack: Option<NackGenerator>,
    reception: Reception,
    /// The newest packet of each spatial layer.
    last_packets: [Option<Instant>; MAX_SPATIAL_LAYERS as usize],
}

impl ProducerStream {
    /// Whether media arrives at the moment.
    #[must_use]
    pub fn is_active(&self, now: Instant) -> bool {
        self.arriving(now) != 0
    }

    /// The spatial layers that arrive at the moment, one bit for each.
    fn arriving(&self, now: Instant) -> u8 {
        let recent = |last: &Option<Instant>| {
            last.is_some_and(|last| now.saturating_duration_since(last) < STREAM_IDLE_AFTER)
        };
        let bits = self.last_packets.iter().enumerate().filter(|(_, last)| recent(last));
        bits.fold(0, |bits, (layer, _)| bits | 1 << layer)
    }

    /// Sequence numbers to ask the publisher for.
    pub fn due_nacks(&mut self, now: Instant) -> Vec<u16> {
        let due = self.nack.as_mut().map(|nack| nack.due(now)).unwrap_or_default();
        self.counted.nacks += u64::from(!due.is_empty());
        self.counted.nacked += due.len() as u64;
        due
    }

    /// Takes the score of the time since the last call: nothing arriving is 0, and a return begins at 10 again.
    pub fn take_score(&mut self, now: Instant) {
        let interval = self.reception.interval();
        if self.reception.highest().is_none() {
            return;
        }
        let is_active = self.is_active(now);
        let score = self.score.get_or_insert_default();
        match (is_active, score.value()) {
            (false, _) => score.reset(0),
            (true, 0) => score.reset(Score::BEST),
            (true, _) => score.add(&interval),
        }
    }

    /// A report block on this stream, once something has arrived.
    pub fn report(&mut self, now: Instant) -> Option<ReportBlock> {
        self.last_report = self.reception.report(self.ssrc?, self.clock, now);
        self.last_report
    }

    /// Takes a packet that was read into the cache; `layer_count` grows with what is seen.
    fn take(
        &mut self,
        now: Instant,
        packet: CachedPacket,
        reading: Reading,
        payload: &[u8],
        layer_count: &mut (u8, u8),
    ) {
        let Reading { frame, dependency, .. } = reading;
        let Layers { spatial, temporal } = frame.layers;
        if let Some(last) = self.last_packets.get_mut(usize::from(spatial))
            && !payload.is_empty()
        {
            *last = Some(now);
            layer_count.0 = layer_count.0.max(spatial + 1);
            layer_count.1 = layer_count.1.max((temporal + 1).min(MAX_TEMPORAL_LAYERS));
        }
        self.rates.add(now, frame.layers, payload.len() + FIXED_HEADER_LEN);
        if frame.starts_key_frame {
            self.key_frames.key_frame();
        }
        self.cache.insert(CachedPacket { frame, dependency, ..packet }, payload);
    }

    /// Retransmissions that came, and those of them that were missing.
    #[must_use]
    pub fn repairs(&self) -> (u64, u64) {
        self.reception.repairs()
    }
}

/// What the arrival of a packet means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// Not known before.
    New {
        /// What is to be forwarded: the packets' places in the stream's cache. Usually that is the packet alone; one
        /// that nobody can read yet waits, and comes with the one that explains it.
        sequences: SmallVec<[u64; 1]>,
        /// Whether to ask the publisher for packets or a key frame now.
        gap: Gap,
    },
    /// Known already.
    Duplicate,
}

/// Payload and header fields of a packet that came on a stream, directly or inside RTX.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Sequence number in the stream.
    pub sequence: u16,
    /// The packet that carried it.
    pub view: RtpView<'a>,
    /// The payload, without RTX's own header.
    pub payload: &'a [u8],
    /// Whether it came as a retransmission.
    pub is_retransmission: bool,
}

/// A packet that waits to be forwarded.
#[derive(Debug, Clone, Copy)]
pub struct Pending {
    /// Its stream.
    pub stream: usize,
    /// Its extended sequence number there.
    pub sequence: u64,
    /// The payload length that it is padded to, so that it goes in one batch with its neighbours.
    pub padded_len: usize,
}

/// A packet that waits, and where its stream's cache has it.
#[derive(Debug, Clone, Copy)]
pub struct Gathered<'a> {
    /// Its stream.
    pub stream: usize,
    /// The packet.
    pub packet: &'a CachedPacket,
    /// As in [`Pending`].
    pub padded_len: usize,
}

/// Header extension ids that the publisher uses (zero: not used).
#[derive(Debug, Clone, Copy, Default)]
pub struct ExtensionIds {
    /// MID (RFC 8843).
    pub mid: u8,
    /// RTP stream id (RFC 8852).
    pub rid: u8,
    /// Repaired RTP stream id (RFC 8852).
    pub repaired_rid: u8,
    /// Audio level (RFC 6464).
    pub audio_level: u8,
    /// Video orientation.
    pub video_orientation: u8,
    /// Dependency descriptor (AV1 RTP specification).
    pub dependency_descriptor: u8,
}

/// A producer.
pub struct Producer {
    /// Its id.
    pub id: ProducerId,
    /// The router that it is in.
    pub router: RouterId,
    /// The transport that it comes on (key in the worker).
    pub transport: usize,
    /// Audio or video.
    pub kind: MediaKind,
    /// Simple, simulcast or SVC.
    pub producer_type: ProducerType,
    /// The MID that its packets carry, if any.
    pub mid: Option<String>,
    /// The codec that it sends.
    pub codec: RtpCodecParameters,
    /// The payload type that repairs the codec's, if any.
    pub rtx_payload_type: Option<u8>,
    /// What its router's consumers are made from.
    pub consumable: RtpParameters,
    /// Ids of the publisher's header extensions.
    pub extensions: ExtensionIds,
    /// Whether it is paused.
    pub paused: bool,
    /// Its streams, from the smallest to the largest.
    pub streams: Vec<ProducerStream>,
    /// Its consumers (keys in the worker).
    pub consumers: Vec<usize>,
    /// Its taps (keys in the worker).
    pub taps: Vec<usize>,
    /// What observers know of its audio levels; none while nobody observes it.
    pub levels: Option<Box<Levels>>,
    /// Packets that wait to be forwarded.
    pub pending: Vec<Pending>,
    /// The scores that were told last.
    pub told_scores: SmallVec<[u8; MAX_SPATIAL_LAYERS as usize]>,
    /// For each stream, the largest that arrives up to and with that one; taps get these.
    best_streams: SmallVec<[usize; MAX_SPATIAL_LAYERS as usize]>,
    /// Whether spatial layers are predicted from each other at key frames only, or not even there (S modes).
    pub is_k_svc: bool,
    /// How many layers were declared or seen, in each stream.
    layer_count: (u8, u8),
    epoch: Instant,
}

impl Producer {
    /// A producer with these parameters; `mapping` is theirs.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "the parts that ORTC works out, each used once")]
    pub fn new(
        now: Instant,
        id: ProducerId,
        router: RouterId,
        transport: usize,
        kind: MediaKind,
        parameters: &RtpParameters,
        mapping: &RtpMapping,
        consumable: RtpParameters,
        codec: RtpCodecParameters,
        producer_type: ProducerType,
        paused: bool,
    ) -> Self {
        let wants_nack = codec.rtcp_feedback().contains(&RtcpFeedback::Nack);
        let capacity = if kind == MediaKind::Video { VIDEO_PACKETS } else { AUDIO_PACKETS };
        let modes = || mapping.encodings.iter().map(|encoding| &encoding.scalability_mode);
        let spatial = modes().map(|mode| mode.spatial_layers().get()).max().unwrap_or(1);
        let temporal = modes().map(|mode| mode.temporal_layers().get()).max().unwrap_or(1);
        let streams = mapping.encodings.iter().map(|encoding| ProducerStream {
            ssrc: encoding.ssrc.map(|ssrc| ssrc.0),
            rtx_ssrc: encoding.rtx_ssrc.map(|ssrc| ssrc.0),
            rid: encoding.rid.clone(),
            cache: PacketCache::new(capacity),
            key_frames: KeyFrameRequests::default(),
            clock: None,
            rates: LayerRates::default(),
            counted: stats::Received::default(),
            last_report: None,
            score: None,
            frames: FrameReader::new(stands_alone(&encoding.scalability_mode)),
            nack: wants_nack.then(NackGenerator::default),
            reception: Reception::default(),
            last_packets: Default::default(),
        });
        let rtx_payload_type =
            parameters.codecs.iter().find(|codec| codec.is_rtx()).map(RtpCodecParameters::payload_type);
        Self {
            id,
            router,
            transport,
            kind,
            producer_type,
            mid: parameters.mid.clone(),
            codec,
            rtx_payload_type,
            consumable,
            extensions: extension_ids(parameters),
            paused,
            streams: streams.collect(),
            consumers: Vec::new(),
            taps: Vec::new(),
            levels: None,
            pending: Vec::new(),
            told_scores: SmallVec::new(),
            best_streams: SmallVec::from_elem(0, mapping.encodings.len()),
            is_k_svc: modes().any(stands_alone),
            layer_count: (spatial.min(MAX_SPATIAL_LAYERS), temporal.min(MAX_TEMPORAL_LAYERS)),
            epoch: now,
        }
    }

    /// Takes a packet of one stream into its cache.
    pub fn receive(&mut self, now: Instant, stream: usize, arrival: &Arrival<'_>) -> Received {
        let (mime, extensions) = (self.codec.mime_type(), self.extensions);
        let clock_rate = u64::from(self.codec.clock_rate().get());
        let since_epoch = now.saturating_duration_since(self.epoch);
        let Some(stream) = self.streams.get_mut(stream) else { return Received::Duplicate };
        let (sequence, restarted) = stream.reception.extend(arrival.sequence);
        if restarted {
            stream.cache.clear();
            stream.frames.clear();
            stream.nack.iter_mut().for_each(NackGenerator::clear);
        }
        let is_known = stream.cache.contains(sequence) || stream.frames.has_unread(sequence);
        if arrival.is_retransmission {
            stream.reception.note_retransmitted(!is_known);
        }
        if is_known {
            stream.counted.discarded += u64::from(!arrival.is_retransmission);
            stream.counted.rtx_discarded += u64::from(arrival.is_retransmission);
            return Received::Duplicate;
        }
        stream.counted.packets += 1;
        stream.counted.bytes += (arrival.payload.len() + FIXED_HEADER_LEN) as u64;
        let extension = |id: u8| {
            let value = arrival.view.extensions().find(|(known, _)| *known == id && id != 0);
            value.map(|(_, value)| value)
        };
        let timestamp = arrival.view.timestamp();
        let before = stream.cache.get(sequence.saturating_sub(1));
        let begins_frame = before.is_some_and(|before| before.timestamp != timestamp);
        if !arrival.is_retransmission {
            // What came only because it was asked for was lost: the publisher's estimate of its link needs to know.
            stream.reception.note_received();
            let ticks = since_epoch.as_nanos() * u128::from(clock_rate) / 1_000_000_000;
            stream.reception.note_arrival(ticks as i64, timestamp);
        }
        let gap = stream.nack.as_mut().map_or(Gap::None, |nack| nack.receive(now, sequence));
        let first_byte = |id: u8| extension(id).and_then(|value| value.first().copied());
        let packet = CachedPacket {
            sequence,
            timestamp,
            marker: arrival.view.marker(),
            frame: Frame::WHOLE,
            behind: stream.reception.highest().map_or(0, |highest| highest.saturating_sub(sequence)),
            audio_level: first_byte(extensions.audio_level),
            video_orientation: first_byte(extensions.video_orientation),
            dependency: None,
            arrival: now,
            payload: Vec::new(),
        };
        let dependency = extension(extensions.dependency_descriptor);
        let reading = stream.frames.read(mime, sequence, arrival.payload, dependency, begins_frame);
        let mut sequences = SmallVec::new();
        match reading {
            None => {
                let packet = CachedPacket { payload: arrival.payload.to_vec(), ..packet };
                stream.frames.keep_unread(packet, dependency.unwrap_or_default());
            }
            Some(reading) => {
                let explains_others = reading.brings_templates;
                sequences.push(sequence);
                stream.take(now, packet, reading, arrival.payload, &mut self.layer_count);
                let explained = if explains_others { stream.frames.read_again() } else { Vec::new() };
                for (mut packet, reading) in explained {
                    let payload = std::mem::take(&mut packet.payload);
                    sequences.push(packet.sequence);
                    stream.take(now, packet, reading, &payload, &mut self.layer_count);
                }
            }
        }
        Received::New { sequences, gap }
    }

    /// Lets a packet wait to be forwarded.
    pub fn add_pending(&mut self, stream: usize, sequence: u64) {
        let mut pending = Pending { stream, sequence, padded_len: 0 };
        pending.padded_len = self.cached(&pending).map_or(0, |packet| packet.payload.len());
        self.pending.push(pending);
    }

    /// The packets that wait, in the order of their arrival.
    pub fn gathered(&self) -> impl Iterator<Item = Gathered<'_>> {
        let found = |pending: &Pending| {
            let Pending { stream, padded_len, .. } = *pending;
            self.cached(pending).map(|packet| Gathered { stream, packet, padded_len })
        };
        self.pending.iter().filter_map(found)
    }

    fn cached(&self, pending: &Pending) -> Option<&CachedPacket> {
        self.streams.get(pending.stream)?.cache.get(pending.sequence)
    }

    /// Makes neighbours of nearly one length equally long by RTP padding (RFC 3550 section 5.1). Encoders cut a frame
    /// into packets that differ by a byte or two, and the kernel takes only equal ones in one send.
    pub fn level_pending(&mut self) {
        for stream in 0..self.streams.len() {
            let mut run: SmallVec<[usize; 64]> = SmallVec::new();
            let (mut shortest, mut longest) = (usize::MAX, 0);
            for index in 0..=self.pending.len() {
                let next = self.pending.get(index);
                if next.is_some_and(|pending| pending.stream != stream) {
                    continue;
                }
                let len = next.map(|pending| self.cached(pending).map_or(0, |packet| packet.payload.len()));
                let fits = len
                    .is_some_and(|len| run.is_empty() || longest.max(len) - shortest.min(len) <= MAX_PADDING);
                if !fits {
                    for padded in run.drain(..) {
                        if let Some(pending) = self.pending.get_mut(padded) {
                            pending.padded_len = longest;
                        }
                    }
                    (shortest, longest) = (usize::MAX, 0);
                }
                if let Some(len) = len {
                    (shortest, longest) = (shortest.min(len), longest.max(len));
                    run.push(index);
                }
            }
        }
    }

    /// What someone gets who wants everything of a stream.
    #[must_use]
    pub fn all_layers(&self) -> Layers {
        let highest = self.layer_count.0.saturating_sub(1);
        Layers { spatial: if self.is_k_svc { highest } else { Layers::ALL.spatial }, ..Layers::ALL }
    }

    /// What viewers can choose from at the moment.
    #[must_use]
    pub fn offer(&self, now: Instant) -> Offer {
        let is_simulcast = self.streams.len() > 1;
        let arriving = if is_simulcast {
            let active = self.streams.iter().enumerate().filter(|(_, stream)| stream.is_active(now));
            active.fold(0, |bits, (index, _)| bits | 1 << index)
        } else {
            self.streams.first().map_or(0, |stream| stream.arriving(now))
        };
        let spatial_layers = if is_simulcast { self.streams.len() as u8 } else { self.layer_count.0 };
        Offer {
            is_simulcast,
            is_k_svc: self.is_k_svc,
            spatial_layers,
            temporal_layers: self.layer_count.1,
            arriving,
        }
    }

    /// The layers that arrive, from the cheapest to the best, and what each takes: measured over the last second (not
    /// less than 100 ms), headers of 12 bytes included, without lower transports and retransmissions.
    #[must_use]
    pub fn ladder(&self, now: Instant) -> Ladder {
        let offer = self.offer(now);
        let mut ladder = Ladder::new();
        for spatial in (0..offer.spatial_layers).filter(|spatial| offer.arrives(*spatial)) {
            let stream = self.streams.get(if offer.is_simulcast { usize::from(spatial) } else { 0 });
            let Some(stream) = stream else { continue };
            let is_part = |of: Layers| match (offer.is_simulcast, self.is_k_svc) {
                (true, _) => true,
                (false, true) => of.spatial == spatial,
                (false, false) => of.spatial <= spatial,
            };
            let is_own = |of: Layers| offer.is_simulcast || of.spatial == spatial;
            for temporal in 0..offer.temporal_layers {
                // What was not measured yet would look as if it cost nothing.
                if stream.rates.bitrate(now, |of| is_own(of) && of.temporal == temporal) == 0 {
                    continue;
                }
                let bitrate = stream.rates.bitrate(now, |of| is_part(of) && of.temporal <= temporal);
                ladder.push(LayerBitrate { layers: Layers { spatial, temporal }, bitrate });
            }
        }
        ladder
    }

    /// Chooses the streams that taps get. True if one of them changed.
    pub fn choose_streams(&mut self, now: Instant) -> bool {
        let mut best = None;
        let mut changed = false;
        for (index, (stream, chosen)) in self.streams.iter().zip(&mut self.best_streams).enumerate() {
            best = if stream.is_active(now) { Some(index) } else { best };
            let choice = best.unwrap_or(*chosen);
            changed |= std::mem::replace(chosen, choice) != choice;
        }
        changed
    }

    /// The stream that a tap gets which wants none above `highest`.
    pub fn tapped_stream(&self, highest: usize) -> usize {
        self.best_streams.get(highest).or(self.best_streams.last()).copied().unwrap_or(0)
    }

    /// When [`Self::streams`]' NACKs or key frame requests are due next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = |stream: &ProducerStream| {
            let nack = stream.nack.as_ref().and_then(NackGenerator::next_due);
            [nack, stream.key_frames.poll_timeout()].into_iter().flatten().min()
        };
        self.streams.iter().filter_map(due).min()
    }
}

/// Whether a mode's spatial layers can be watched without the lower ones, once they have begun.
fn stands_alone(mode: &ScalabilityMode) -> bool {
    mode.ksvc() || mode.as_str().starts_with('S') && mode.spatial_layers().get() > 1
}

fn extension_ids(parameters: &RtpParameters) -> ExtensionIds {
    use mediasoup_types::rtp_parameters::RtpHeaderExtensionUri as Uri;
    let id = |uri: Uri| {
        let extension = parameters.header_extensions.iter().find(|extension| extension.uri == uri);
        extension.and_then(|extension| u8::try_from(extension.id).ok()).unwrap_or(0)
    };
    ExtensionIds {
        mid: id(Uri::Mid),
        rid: id(Uri::RtpStreamId),
        repaired_rid: id(Uri::RepairRtpStreamId),
        audio_level: id(Uri::SsrcAudioLevel),
        video_orientation: id(Uri::VideoOrientation),
        dependency_descriptor: id(Uri::DependencyDescriptor),
    }
}
