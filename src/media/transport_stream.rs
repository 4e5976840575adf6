//! MPEG transport stream segments of access units (ISO/IEC 13818-1), for players that know nothing else.
//!
//! Each segment begins with its tables and can be read alone. Segments are made without knowledge of each other, and
//! still their packets are numbered as if they were one stream: tables by the segment's number, and each elementary
//! stream's packets are a multiple of sixteen. Pure: samples in, bytes out.

use bytes::{BufMut, Bytes};
use mpeg2ts::es::{StreamId, StreamType};
use mpeg2ts::pes::PesHeader;
use mpeg2ts::time::{ClockReference, Timestamp};
use mpeg2ts::ts::payload::{self, Pat, Pes, Pmt};
use mpeg2ts::ts::{
    AdaptationField, ContinuityCounter, EsInfo, Pid, ProgramAssociation, TransportScramblingControl,
    TsHeader, TsPacket, TsPacketWriter, TsPayload, VersionNumber, WriteTsPacket,
};

use crate::media::fmp4::{AudioConfig, TimedSample, VIDEO_TIMESCALE, VideoConfig};

const PROGRAM: u16 = 1;
const TABLE_PID: u16 = 0x1000;
const VIDEO_PID: u16 = 0x100;
const AUDIO_PID: u16 = 0x101;
/// Packets of one PID are numbered modulo this.
const COUNTER_MODULO: usize = 16;
/// How much later than on the timeline everything is, in ticks, so that the clock below is never negative.
const TIME_OFFSET: u64 = VIDEO_TIMESCALE as u64;
/// How much the program clock is behind what is decoded, in ticks: the time that a decoder has to buffer a picture.
const CLOCK_DELAY: u64 = VIDEO_TIMESCALE as u64 / 2;
/// How many AAC frames share the header of a PES packet: 171 ms at 48 kHz. The last packet holds up to twice as many.
const FRAMES_PER_PACKET: usize = 8;
/// The bytes of an ADTS header without a checksum (ISO/IEC 14496-3 section 1.A.2.2.1).
const ADTS_BYTES: usize = 7;
/// The bytes of a packet behind its own header.
const CAPACITY: usize = payload::Bytes::MAX_SIZE;
/// The bytes of an adaptation field with a clock, and of one with flags alone.
const CLOCK_FIELD: usize = 8;
const FLAGS_FIELD: usize = 2;
/// The bytes of a PES header without times, and of each time.
const PES_HEADER: usize = 9;
const PES_TIME: usize = 5;

const NAL_START: [u8; 4] = [0, 0, 0, 1];
/// An access unit delimiter before a picture of any type (ITU-T H.264 section 7.3.2.4).
const DELIMITER: [u8; 2] = [9, 0xF0];
const NAL_TYPE_SPS: u8 = 7;
const NAL_TYPE_DELIMITER: u8 = 9;

/// Why a segment can't be made.
#[derive(Debug, thiserror::Error)]
pub enum MuxError {
    /// What is to be muxed can't be read.
    #[error("the segment can't be read: {0}")]
    Source(#[from] mp4_atom::Error),
    /// A packet can't be written.
    #[error(transparent)]
    Packet(#[from] mpeg2ts::Error),
}

/// What a segment is made of: samples as [`crate::media::fmp4::samples`] gives them, with what their decoders need.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tracks<'a> {
    /// H.264 pictures in ticks of [`VIDEO_TIMESCALE`].
    pub video: Option<(&'a VideoConfig, &'a [TimedSample])>,
    /// AAC frames in ticks of their sample rate.
    pub audio: Option<(&'a AudioConfig, &'a [TimedSample])>,
}

/// At most so many bytes is a track of this many samples and bytes as a transport stream, padding included.
#[must_use]
pub const fn most_bytes(samples: usize, bytes: usize) -> usize {
    let pes = samples * (PES_HEADER + 2 * PES_TIME + CLOCK_FIELD + DELIMITER.len() + NAL_START.len());
    (bytes + pes) * TsPacket::SIZE / CAPACITY + samples * TsPacket::SIZE / 2
}

/// One PES packet.
struct Packet {
    pid: u16,
    stream: u8,
    /// When it is decoded and shown, in ticks of 90 kHz.
    decoded: u64,
    shown: u64,
    key: bool,
    data: Vec<u8>,
}

/// A segment with this media sequence number.
///
/// # Errors
/// Fails if a packet can't be written, which no samples cause.
pub fn segment(sequence: u64, tracks: &Tracks<'_>) -> Result<Bytes, MuxError> {
    let video = tracks.video.map(|(config, samples)| pictures(config, samples)).unwrap_or_default();
    let audio = tracks.audio.map(|(config, samples)| frames(config, samples)).unwrap_or_default();
    let clock = if tracks.video.is_some() { VIDEO_PID } else { AUDIO_PID };
    let bytes: usize = video.iter().chain(&audio).map(|packet| most_bytes(1, packet.data.len())).sum();
    let mut out = Writer::new(bytes, clock);
    out.tables(sequence, tracks)?;
    let (mut video, mut audio) = (video.into_iter().peekable(), audio.into_iter().peekable());
    loop {
        let video_first = match (video.peek(), audio.peek()) {
            (Some(video), Some(audio)) => video.decoded <= audio.decoded,
            (video, _) => video.is_some(),
        };
        let next = if video_first { &mut video } else { &mut audio };
        let Some(packet) = next.next() else { break };
        let last = next.peek().is_none();
        out.pes(&packet, last)?;
    }
    Ok(out.packets.into_stream().into())
}

/// Each picture as a PES packet.
fn pictures(config: &VideoConfig, samples: &[TimedSample]) -> Vec<Packet> {
    let times = decode_times(samples);
    let pictures = samples.iter().zip(times).enumerate().map(|(index, ((_, sample), (decoded, shown)))| {
        let data = annex_b(config, &sample.data, sample.sync || index == 0);
        Packet { pid: VIDEO_PID, stream: StreamId::VIDEO_MIN, decoded, shown, key: sample.sync, data }
    });
    pictures.collect()
}

/// When each sample is decoded and shown.
///
/// CMAF lets a sample be shown before it is decoded, which tells when it is decoded without a hole; here it is decoded
/// no later than it, or one behind it, is shown.
fn decode_times(samples: &[TimedSample]) -> Vec<(u64, u64)> {
    let mut times: Vec<(u64, u64)> = Vec::with_capacity(samples.len());
    let mut earliest = u64::MAX;
    for (decoded, sample) in samples.iter().rev() {
        let shown = decoded.saturating_add_signed(sample.composition.into());
        earliest = earliest.min(shown);
        times.push((earliest.min(*decoded), shown));
    }
    times.reverse();
    let mut least = 0;
    for (decoded, shown) in &mut times {
        *decoded = least.max(*decoded);
        *shown = (*decoded).max(*shown);
        least = *decoded + 1;
    }
    times
}

/// An access unit whose NAL units have lengths, as one whose NAL units have start codes (ITU-T H.264 annex B), behind a
/// delimiter and, if asked for, with parameter sets.
fn annex_b(config: &VideoConfig, unit: &[u8], with_parameter_sets: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(unit.len() + 128);
    let kind = |nal: &[u8]| nal.first().map(|first| first & 0x1F);
    let mut add = |nal: &[u8]| {
        out.extend_from_slice(&NAL_START);
        out.extend_from_slice(nal);
    };
    add(&DELIMITER);
    let has_its_own = nal_units(unit).any(|nal| kind(nal) == Some(NAL_TYPE_SPS));
    if with_parameter_sets && !has_its_own {
        config.parameter_sets().for_each(&mut add);
    }
    nal_units(unit).filter(|nal| kind(nal) != Some(NAL_TYPE_DELIMITER)).for_each(add);
    out
}

/// The NAL units of an access unit, up to one that is not whole.
fn nal_units(mut unit: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = unit.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (nal, rest) = rest.split_at_checked(length)?;
        unit = rest;
        Some(nal)
    })
}

/// AAC frames in groups, each a PES packet.
fn frames(config: &AudioConfig, samples: &[TimedSample]) -> Vec<Packet> {
    let mut packets: Vec<Packet> = Vec::with_capacity(samples.len() / FRAMES_PER_PACKET + 1);
    for group in samples.chunks(FRAMES_PER_PACKET) {
        let Some((first, _)) = group.first() else { continue };
        let mut data = Vec::new();
        for (_, sample) in group {
            data.put_slice(&adts_header(config, sample.data.len()));
            data.put_slice(&sample.data);
        }
        match packets.last_mut().filter(|_| group.len() < FRAMES_PER_PACKET) {
            Some(last) => last.data.extend(data),
            None => {
                let ticks = u128::from(*first) * u128::from(VIDEO_TIMESCALE);
                let ticks = ticks / u128::from(config.sample_rate().max(1));
                let shown = u64::try_from(ticks).unwrap_or(u64::MAX);
                let stream = StreamId::AUDIO_MIN;
                packets.push(Packet { pid: AUDIO_PID, stream, decoded: shown, shown, key: true, data });
            }
        }
    }
    packets
}

/// The header of a raw AAC-LC frame of so many bytes (ISO/IEC 14496-3 section 1.A.2.2.1).
fn adts_header(config: &AudioConfig, frame: usize) -> [u8; ADTS_BYTES] {
    const MPEG4_WITHOUT_CHECKSUM: u64 = 0xFFF1;
    const PROFILE_LC: u64 = 1;
    const BUFFER_FULLNESS_UNKNOWN: u64 = 0x7FF;
    let length = (frame + ADTS_BYTES).min(0x1FFF) as u64;
    let mut bits = MPEG4_WITHOUT_CHECKSUM;
    bits = bits << 2 | PROFILE_LC;
    bits = bits << 4 | u64::from(config.sample_rate_index());
    // A private bit, the channels, and four bits about originals and copies.
    bits = bits << 4 | u64::from(config.channels() & 7);
    bits <<= 4;
    bits = bits << 13 | length;
    bits = bits << 11 | BUFFER_FULLNESS_UNKNOWN;
    // One frame.
    bits <<= 2;
    let [_, header @ ..] = bits.to_be_bytes();
    header
}

/// Writes packets and numbers them.
struct Writer {
    packets: TsPacketWriter<Vec<u8>>,
    /// Whose packets hold the program's clock.
    clock: u16,
    /// How many packets each elementary stream has.
    video: usize,
    audio: usize,
}

impl Writer {
    fn new(bytes: usize, clock: u16) -> Self {
        let out = Vec::with_capacity(bytes + 2 * TsPacket::SIZE);
        Self { packets: TsPacketWriter::new(out), clock, video: 0, audio: 0 }
    }

    /// The program association and the program map.
    fn tables(&mut self, sequence: u64, tracks: &Tracks<'_>) -> Result<(), MuxError> {
        let number = usize::try_from(sequence % COUNTER_MODULO as u64).unwrap_or(0);
        let (program_map_pid, version_number) = (Pid::new(TABLE_PID)?, VersionNumber::new());
        let association = ProgramAssociation { program_num: PROGRAM, program_map_pid };
        let pat = Pat { transport_stream_id: 1, version_number, table: vec![association] };
        self.packet(0, number, None, TsPayload::Pat(pat))?;
        let video = tracks.video.map(|_| (StreamType::H264, VIDEO_PID));
        let audio = tracks.audio.map(|_| (StreamType::AdtsAac, AUDIO_PID));
        let info = |(stream_type, pid)| {
            Ok(EsInfo { stream_type, elementary_pid: Pid::new(pid)?, descriptors: Vec::new() })
        };
        let es_info: Result<Vec<EsInfo>, MuxError> = video.into_iter().chain(audio).map(info).collect();
        let pmt = Pmt {
            program_num: PROGRAM,
            pcr_pid: Some(Pid::new(self.clock)?),
            version_number,
            program_info: Vec::new(),
            es_info: es_info?,
        };
        self.packet(TABLE_PID, number, None, TsPayload::Pmt(pmt))
    }

    /// A PES packet, in as many packets as it takes; the `last` one of its stream in so many that the stream's number is
    /// a multiple of [`COUNTER_MODULO`].
    fn pes(&mut self, packet: &Packet, last: bool) -> Result<(), MuxError> {
        let decoded = (packet.decoded != packet.shown).then_some(packet.decoded);
        let header = PesHeader {
            stream_id: StreamId::new(packet.stream),
            priority: false,
            data_alignment_indicator: true,
            copyright: false,
            original_or_copy: false,
            pts: Some(timestamp(packet.shown)?),
            dts: decoded.map(timestamp).transpose()?,
            escr: None,
        };
        let field = self.field(packet)?;
        let field_bytes = if field.pcr.is_some() { CLOCK_FIELD } else { FLAGS_FIELD };
        let header_bytes = PES_HEADER + PES_TIME + if decoded.is_some() { PES_TIME } else { 0 };
        let room = CAPACITY - field_bytes - header_bytes;
        let least = 1 + packet.data.len().saturating_sub(room).div_ceil(CAPACITY);
        let so_far = if packet.pid == VIDEO_PID { self.video } else { self.audio };
        let missing = if last { (so_far + least).wrapping_neg() % COUNTER_MODULO } else { 0 };
        let count = (least + missing).min(packet.data.len()).max(least);
        // Video may be longer than the field can tell, and needs not tell it (ISO/IEC 13818-1 section 2.4.3.7).
        let length = header_bytes - 6 + packet.data.len();
        let length = if packet.pid == VIDEO_PID { 0 } else { u16::try_from(length).unwrap_or(0) };

        let mut rest = packet.data.as_slice();
        let (mut field, mut header) = (Some(field), Some(header));
        for index in 0..count {
            // Whatever follows has at least a byte each.
            let room = if index == 0 { room } else { CAPACITY };
            let spare = rest.len().saturating_sub(count - index - 1);
            let (piece, behind) = rest.split_at(room.min(spare));
            rest = behind;
            let data = payload::Bytes::new(piece)?;
            let payload = match header.take() {
                Some(header) => TsPayload::PesStart(Pes { header, pes_packet_len: length, data }),
                None => TsPayload::PesContinuation(data),
            };
            self.packet(packet.pid, so_far + index, field.take(), payload)?;
        }
        let counted = if packet.pid == VIDEO_PID { &mut self.video } else { &mut self.audio };
        *counted += count;
        Ok(())
    }

    /// What precedes a PES packet.
    fn field(&self, packet: &Packet) -> Result<AdaptationField, MuxError> {
        let clock = wrapped(packet.decoded.saturating_add(TIME_OFFSET - CLOCK_DELAY));
        let pcr = (packet.pid == self.clock).then(|| ClockReference::new(clock * 300)).transpose()?;
        Ok(AdaptationField {
            discontinuity_indicator: false,
            random_access_indicator: packet.key,
            es_priority_indicator: false,
            pcr,
            opcr: None,
            splice_countdown: None,
            transport_private_data: Vec::new(),
            extension: None,
        })
    }

    fn packet(
        &mut self,
        pid: u16,
        number: usize,
        adaptation_field: Option<AdaptationField>,
        payload: TsPayload,
    ) -> Result<(), MuxError> {
        let number = u8::try_from(number % COUNTER_MODULO).unwrap_or(0);
        let header = TsHeader {
            transport_error_indicator: false,
            transport_priority: false,
            pid: Pid::new(pid)?,
            transport_scrambling_control: TransportScramblingControl::NotScrambled,
            continuity_counter: ContinuityCounter::from_u8(number)?,
        };
        let packet = TsPacket { header, adaptation_field, payload: Some(payload) };
        Ok(self.packets.write_ts_packet(&packet)?)
    }
}

fn timestamp(ticks: u64) -> Result<Timestamp, MuxError> {
    Ok(Timestamp::new(wrapped(ticks.saturating_add(TIME_OFFSET)))?)
}

/// The 33 bits that there are.
const fn wrapped(ticks: u64) -> u64 {
    ticks & Timestamp::MAX
}

#[cfg(test)]
mod tests;
