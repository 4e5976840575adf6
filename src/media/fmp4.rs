//! CMAF boxes: what an init segment and a media segment of one track look like as bytes (ISO/IEC 14496-12,
//! ISO/IEC 23000-19).
//!
//! One track per file and one fragment per part of a segment. Nothing here decides where a segment begins or ends.

mod fragments;
mod protection;

use bytes::{BufMut, Bytes, BytesMut};
use mp4_atom::{
    Atom, Audio, Avc1, Avcc, Codec, Dinf, Dref, Encode, FixedPoint, FourCC, Ftyp, Hdlr, Mdhd, Mdia, Mfhd,
    Minf, Moof, Moov, Mp4a, Mvex, Mvhd, Smhd, Stbl, Stco, Stsd, Styp, Tfdt, Tfhd, Tkhd, Traf, Trak, Trex,
    Trun, TrunEntry, TrunSamples, Url, Visual, Vmhd, esds,
};

pub use fragments::{TimedSample, samples};
pub use protection::{Coding, ProtectionError, protected_chunk, protected_init};

/// Ticks per second of every video track: the RTP clock of all video codecs.
pub const VIDEO_TIMESCALE: u32 = 90_000;
/// Samples that one AAC-LC frame holds (ISO/IEC 14496-3).
pub const AAC_FRAME_SAMPLES: u32 = 1024;

/// The track id inside each file.
const TRACK_ID: u32 = 1;
/// Sample flags of a sync sample: it depends on no other (ISO/IEC 14496-12 section 8.8.3.1).
const SYNC_FLAGS: u32 = 0x0200_0000;
/// Sample flags of a sample that needs others before it.
const NON_SYNC_FLAGS: u32 = 0x0101_0000;
/// `objectTypeIndication` of MPEG-4 audio (ISO/IEC 14496-1).
const OBJECT_TYPE_MPEG4_AUDIO: u8 = 0x40;
/// `streamType` of audio (ISO/IEC 14496-1).
const STREAM_TYPE_AUDIO: u8 = 5;
/// Sampling rates by `samplingFrequencyIndex` (ISO/IEC 14496-3 table 1.18).
const AAC_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000, 7350];

/// Why a codec configuration can't be written.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The `avcC` record is malformed.
    #[error("malformed H.264 decoder configuration: {0}")]
    Avcc(#[from] mp4_atom::Error),
    /// Neither side of the picture may be zero or above 65535.
    #[error("impossible picture size {0}x{1}")]
    Size(u32, u32),
    /// The AAC configuration is too short, or of a kind that isn't plain AAC-LC.
    #[error("unsupported AAC configuration {0:02x?}")]
    Aac(Vec<u8>),
}

/// What a decoder has to know about an H.264 stream before its first picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoConfig {
    avcc: Avcc,
    width: u16,
    height: u16,
}

impl VideoConfig {
    /// Reads an `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 section 5.3.3.1), with the picture's size.
    ///
    /// # Errors
    /// Fails if the record is malformed, holds no parameter sets, or the size is impossible.
    pub fn new(mut record: &[u8], width: u32, height: u32) -> Result<Self, ConfigError> {
        let avcc = Avcc::decode_body(&mut record)?;
        if avcc.sequence_parameter_sets.is_empty() || avcc.picture_parameter_sets.is_empty() {
            return Err(mp4_atom::Error::OutOfBounds.into());
        }
        match (u16::try_from(width), u16::try_from(height)) {
            (Ok(width @ 1..), Ok(height @ 1..)) => Ok(Self { avcc, width, height }),
            _ => Err(ConfigError::Size(width, height)),
        }
    }

    /// The picture's width and height in pixels.
    #[must_use]
    pub const fn size(&self) -> (u16, u16) {
        (self.width, self.height)
    }

    /// The record that [`Self::new`] reads.
    #[must_use]
    pub fn record(&self) -> Vec<u8> {
        let mut record = Vec::new();
        // Nothing that was read from a record is too long for one.
        if self.avcc.encode_body(&mut record).is_err() {
            record.clear();
        }
        record
    }

    /// The codec as RFC 6381 writes it, for example `avc1.42e01f`.
    #[must_use]
    pub fn codec(&self) -> String {
        let Avcc { avc_profile_indication, profile_compatibility, avc_level_indication, .. } = &self.avcc;
        format!("avc1.{avc_profile_indication:02x}{profile_compatibility:02x}{avc_level_indication:02x}")
    }

    /// The parameter sets, in the order in which decoders want them.
    pub fn parameter_sets(&self) -> impl Iterator<Item = &[u8]> {
        let sets = self.avcc.sequence_parameter_sets.iter().chain(&self.avcc.picture_parameter_sets);
        sets.map(Vec::as_slice)
    }

    /// `level_idc`: ten times the level, for example 31.
    #[must_use]
    pub const fn level(&self) -> u8 {
        self.avcc.avc_level_indication
    }
}

/// What a decoder has to know about an AAC stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioConfig {
    specific: Vec<u8>,
    sample_rate: u32,
    channels: u8,
}

impl AudioConfig {
    /// Reads an `AudioSpecificConfig` (ISO/IEC 14496-3 section 1.6.2.1) of mono or stereo AAC-LC.
    ///
    /// # Errors
    /// Fails on anything else.
    pub fn new(specific: &[u8]) -> Result<Self, ConfigError> {
        let unsupported = || ConfigError::Aac(specific.iter().take(16).copied().collect());
        let &[first, second, ..] = specific else { return Err(unsupported()) };
        let object_type = first >> 3;
        let rate_index = (first & 0x07) << 1 | second >> 7;
        let channels = second >> 3 & 0x0F;
        let rate = AAC_RATES.get(usize::from(rate_index)).copied();
        match (object_type, rate, channels) {
            (2, Some(sample_rate), 1 | 2) => Ok(Self { specific: specific.to_vec(), sample_rate, channels }),
            _ => Err(unsupported()),
        }
    }

    /// Samples per second; also the track's timescale.
    #[must_use]
    pub const fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    /// The sample rate as `samplingFrequencyIndex` (ISO/IEC 14496-3 table 1.18).
    #[must_use]
    pub fn sample_rate_index(&self) -> u8 {
        let index = AAC_RATES.iter().position(|rate| *rate == self.sample_rate);
        index.and_then(|index| u8::try_from(index).ok()).unwrap_or(0)
    }

    /// 1 or 2.
    #[must_use]
    pub const fn channels(&self) -> u8 {
        self.channels
    }

    /// The codec as RFC 6381 writes it.
    #[must_use]
    pub const fn codec(&self) -> &'static str {
        "mp4a.40.2"
    }

    /// One frame of silence: a long window without a single scale factor band (ISO/IEC 14496-3 section 4.4.2).
    #[must_use]
    pub const fn silence(&self) -> Bytes {
        Bytes::from_static(match self.channels {
            // single_channel_element: id 0, tag 0, gain 0, ics_info with max_sfb 0, no tools, then the end mark.
            1 => &[0x00, 0x00, 0x00, 0x07],
            // channel_pair_element: id 1, tag 0, common_window 1, ics_info with max_sfb 0, no ms_mask, twice gain 0
            // and no tools, then the end mark.
            _ => &[0x21, 0x00, 0x00, 0x00, 0x00, 0x1C],
        })
    }
}

/// One access unit of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The coded bytes: NAL units with four-byte lengths, or a raw AAC frame.
    pub data: Bytes,
    /// How long until the next sample is decoded, in ticks.
    pub duration: u32,
    /// How much later than it is decoded the sample is shown, in ticks; negative where decoding is irregular.
    pub composition: i32,
    /// Whether decoding can start here.
    pub sync: bool,
}

/// The init segment of a video track.
///
/// # Errors
/// Fails if a box can't be written, which a config that was accepted doesn't cause.
pub fn video_init(config: &VideoConfig) -> Result<Bytes, mp4_atom::Error> {
    let visual =
        Visual { data_reference_index: 1, width: config.width, height: config.height, ..Visual::default() };
    let entry = Avc1 { visual, avcc: config.avcc.clone(), ..Avc1::default() };
    let tkhd = Tkhd { width: config.width.into(), height: config.height.into(), ..track_header() };
    let media = Media {
        handler: b"vide",
        timescale: VIDEO_TIMESCALE,
        entry: entry.into(),
        video: Some(Vmhd::default()),
        audio: None,
    };
    init(tkhd, media)
}

/// The init segment of an audio track.
///
/// # Errors
/// Fails if a box can't be written, which a config that was accepted doesn't cause.
pub fn audio_init(config: &AudioConfig) -> Result<Bytes, mp4_atom::Error> {
    let entry = Mp4a {
        audio: Audio {
            data_reference_index: 1,
            channel_count: config.channels.into(),
            sample_size: 16,
            sample_rate: FixedPoint::from(u16::try_from(config.sample_rate).unwrap_or(0)),
        },
        esds: esds_of(config),
        btrt: None,
        taic: None,
    };
    let tkhd = Tkhd { volume: 1.into(), ..track_header() };
    let media = Media {
        handler: b"soun",
        timescale: config.sample_rate,
        entry: entry.into(),
        video: None,
        audio: Some(Smhd::default()),
    };
    init(tkhd, media)
}

fn esds_of(config: &AudioConfig) -> mp4_atom::Esds {
    let dec_specific =
        esds::DecoderSpecific { raw: config.specific.clone(), ..esds::DecoderSpecific::default() };
    mp4_atom::Esds {
        es_desc: esds::EsDescriptor {
            es_id: 1,
            dec_config: esds::DecoderConfig {
                object_type_indication: OBJECT_TYPE_MPEG4_AUDIO,
                stream_type: STREAM_TYPE_AUDIO,
                dec_specific: Some(dec_specific),
                ..esds::DecoderConfig::default()
            },
            ..esds::EsDescriptor::default()
        },
    }
}

struct Media {
    handler: &'static [u8; 4],
    timescale: u32,
    entry: Codec,
    video: Option<Vmhd>,
    audio: Option<Smhd>,
}

fn track_header() -> Tkhd {
    Tkhd { track_id: TRACK_ID, enabled: true, in_movie: true, ..Tkhd::default() }
}

fn init(tkhd: Tkhd, media: Media) -> Result<Bytes, mp4_atom::Error> {
    let ftyp = Ftyp {
        major_brand: FourCC::new(b"iso6"),
        minor_version: 0,
        compatible_brands: vec![FourCC::new(b"iso6"), FourCC::new(b"cmfc"), FourCC::new(b"mp41")],
    };
    let stbl =
        Stbl { stsd: Stsd { codecs: vec![media.entry] }, stco: Some(Stco::default()), ..Stbl::default() };
    let minf = Minf {
        vmhd: media.video,
        smhd: media.audio,
        dinf: Dinf { dref: Dref { entries: vec![Url::default().into()] } },
        stbl,
        ..Minf::default()
    };
    let mdia = Mdia {
        mdhd: Mdhd { timescale: media.timescale, language: "und".to_owned(), ..Mdhd::default() },
        hdlr: Hdlr { handler: FourCC::new(media.handler), name: "weir".to_owned() },
        minf,
    };
    let trex = Trex { track_id: TRACK_ID, default_sample_description_index: 1, ..Trex::default() };
    let moov = Moov {
        mvhd: Mvhd {
            timescale: media.timescale,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: TRACK_ID + 1,
            ..Mvhd::default()
        },
        trak: vec![Trak { tkhd, mdia, ..Trak::default() }],
        mvex: Some(Mvex { trex: vec![trex], ..Mvex::default() }),
        ..Moov::default()
    };
    let mut out = Vec::new();
    ftyp.encode(&mut out)?;
    moov.encode(&mut out)?;
    Ok(out.into())
}

/// A part of a media segment: one `moof` and its `mdat`, behind a `styp` if it is the `first` one of its segment.
/// `sequence` counts parts from 1, `base` is the first sample's decode time in the track's ticks.
///
/// # Errors
/// Fails if the samples are more than a 32-bit box can hold.
pub fn chunk(first: bool, sequence: u32, base: u64, samples: &[Sample]) -> Result<Bytes, mp4_atom::Error> {
    with_data(first, fragment(sequence, base, samples), samples)
}

/// A fragment in front of its samples' data.
fn with_data(first: bool, mut moof: Moof, samples: &[Sample]) -> Result<Bytes, mp4_atom::Error> {
    let payload: usize = samples.iter().map(|sample| sample.data.len()).sum();
    let mdat_len = u32::try_from(payload + 8).map_err(|_| mp4_atom::Error::InvalidSize)?;
    let mut head = Vec::new();
    moof.encode(&mut head)?;
    // The data starts behind the fragment, whose length does not depend on the offset's value.
    let offset = i32::try_from(head.len() + 8).map_err(|_| mp4_atom::Error::InvalidSize)?;
    for trun in moof.traf.iter_mut().flat_map(|traf| &mut traf.trun) {
        trun.data_offset = Some(offset);
    }
    head.clear();
    if first {
        Styp {
            major_brand: FourCC::new(b"msdh"),
            minor_version: 0,
            compatible_brands: vec![FourCC::new(b"msdh"), FourCC::new(b"cmfs")],
        }
        .encode(&mut head)?;
    }
    moof.encode(&mut head)?;
    let mut out = BytesMut::with_capacity(head.len() + payload + 8);
    out.extend_from_slice(&head);
    out.put_u32(mdat_len);
    out.extend_from_slice(b"mdat");
    for sample in samples {
        out.extend_from_slice(&sample.data);
    }
    Ok(out.freeze())
}

fn fragment(sequence: u32, base: u64, samples: &[Sample]) -> Moof {
    let shifted = samples.iter().any(|sample| sample.composition != 0);
    let entries = samples.iter().map(|sample| TrunEntry {
        duration: Some(sample.duration),
        size: Some(u32::try_from(sample.data.len()).unwrap_or(u32::MAX)),
        flags: Some(if sample.sync { SYNC_FLAGS } else { NON_SYNC_FLAGS }),
        cts: shifted.then_some(i64::from(sample.composition)),
    });
    let trun = Trun { data_offset: Some(0), samples: TrunSamples::Explicit(entries.collect()) };
    let tfhd = Tfhd { track_id: TRACK_ID, default_base_is_moof: true, ..Tfhd::default() };
    let tfdt = Some(Tfdt { base_media_decode_time: base });
    Moof {
        mfhd: Mfhd { sequence_number: sequence },
        traf: vec![Traf { tfhd, tfdt, trun: vec![trun], ..Traf::default() }],
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use mp4_atom::{Any, ReadFrom};

    use super::*;

    /// The configuration that x264 writes for 320x240 constrained baseline, level 1.3.
    pub(crate) fn video_config(width: u32, height: u32) -> VideoConfig {
        let sps = [0x67, 0x42, 0xC0, 0x0D, 0xD9, 0x01, 0x41, 0xFB, 0x01, 0x10];
        let mut record = vec![1, 0x42, 0xC0, 0x0D, 0xFF, 0xE1, 0, u8::try_from(sps.len()).unwrap()];
        record.extend(sps);
        record.extend([1, 0, 4, 0x68, 0xCB, 0x83, 0xCB]);
        VideoConfig::new(&record, width, height).unwrap()
    }

    pub(crate) fn audio_config() -> AudioConfig {
        AudioConfig::new(&[0x11, 0x90]).unwrap()
    }

    fn boxes(bytes: &[u8]) -> Vec<Any> {
        let mut cursor = std::io::Cursor::new(bytes);
        let mut found = Vec::new();
        while usize::try_from(cursor.position()).unwrap() < bytes.len() {
            found.push(Any::read_from(&mut cursor).unwrap());
        }
        found
    }

    #[test]
    fn an_init_segment_reads_back() {
        let bytes = video_init(&video_config(320, 240)).unwrap();
        let [Any::Ftyp(_), Any::Moov(moov)] = &boxes(&bytes)[..] else { panic!("ftyp and moov expected") };
        let track = &moov.trak[0];
        assert_eq!(track.mdia.mdhd.timescale, VIDEO_TIMESCALE);
        assert!(matches!(&track.mdia.minf.stbl.stsd.codecs[..], [Codec::Avc1(entry)]
            if entry.visual.width == 320 && entry.avcc.length_size == 4));

        let bytes = audio_init(&audio_config()).unwrap();
        let [Any::Ftyp(_), Any::Moov(moov)] = &boxes(&bytes)[..] else { panic!("ftyp and moov expected") };
        assert!(matches!(&moov.trak[0].mdia.minf.stbl.stsd.codecs[..], [Codec::Mp4a(entry)]
            if entry.audio.sample_rate.integer() == 48_000 && entry.audio.channel_count == 2));
    }

    #[test]
    fn a_media_segment_points_at_its_data() {
        let sample = |data: &'static [u8], sync| Sample {
            data: Bytes::from_static(data),
            duration: 3000,
            composition: 0,
            sync,
        };
        let bytes = chunk(true, 7, 180_000, &[sample(b"first", true), sample(b"next", false)]).unwrap();
        let parts = boxes(&bytes);
        let [Any::Styp(_), Any::Moof(moof), Any::Mdat(mdat)] = &parts[..] else { panic!("{parts:?}") };
        assert_eq!(mdat.data, b"firstnext");
        assert_eq!(moof.mfhd.sequence_number, 7);
        let traf = &moof.traf[0];
        assert_eq!(traf.tfdt.as_ref().unwrap().base_media_decode_time, 180_000);
        let moof_at = bytes.windows(4).position(|kind| kind == b"moof").unwrap() - 4;
        let offset = usize::try_from(traf.trun[0].data_offset.unwrap()).unwrap();
        assert!(bytes[moof_at + offset..].starts_with(b"first"));
        let flags: Vec<_> = traf.trun[0].samples.iter().map(|entry| entry.flags).collect();
        assert_eq!(flags, [Some(SYNC_FLAGS), Some(NON_SYNC_FLAGS)]);
    }

    #[test]
    fn codecs_are_named_from_the_configuration() {
        assert_eq!(video_config(320, 240).codec(), "avc1.42c00d");
        assert_eq!(audio_config().codec(), "mp4a.40.2");
        assert_eq!((audio_config().sample_rate(), audio_config().channels()), (48_000, 2));
    }

    #[test]
    fn nonsense_configurations_are_refused() {
        assert!(VideoConfig::new(&[], 320, 240).is_err());
        assert!(VideoConfig::new(&[1, 0x42, 0xC0, 0x0D, 0xFF, 0xE1, 0xFF, 0xFF], 320, 240).is_err());
        assert!(VideoConfig::new(&[1, 0x42, 0xC0, 0x0D, 0xFF, 0xE0, 0], 320, 240).is_err());
        let good = [1, 0x42, 0xC0, 0x0D, 0xFF, 0xE1, 0, 1, 0x67, 1, 0, 1, 0x68];
        assert!(VideoConfig::new(&good, 320, 240).is_ok());
        assert!(VideoConfig::new(&good, 0, 240).is_err());
        assert!(VideoConfig::new(&good, 70_000, 240).is_err());
        assert!(AudioConfig::new(&[0x11]).is_err());
        assert!(AudioConfig::new(&[0x2B, 0x92]).is_err(), "HE-AAC");
    }
}
