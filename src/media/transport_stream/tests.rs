//! What is written, read by the other half of the crate that writes it.

use std::collections::BTreeMap;

use mpeg2ts::pes::{PesPacket, PesPacketReader, ReadPesPacket};
use mpeg2ts::ts::{ReadTsPacket, TsPacketReader};

use super::*;
use crate::media::fmp4::tests::{audio_config, video_config};
use crate::media::fmp4::{AAC_FRAME_SAMPLES, Sample};

/// An access unit of NAL units with lengths.
fn unit(nals: &[&[u8]]) -> Bytes {
    let with_length = |nal: &&[u8]| [&u32::try_from(nal.len()).unwrap().to_be_bytes(), *nal].concat();
    nals.iter().map(with_length).collect::<Vec<_>>().concat().into()
}

/// Pictures of this many bytes, each 3000 ticks behind the one before.
fn video(begin: u64, sizes: &[usize], compositions: &[i32]) -> Vec<TimedSample> {
    let samples = sizes.iter().enumerate().map(|(index, size)| {
        let sync = index == 0;
        let nal = [&[if sync { 0x65 } else { 0x41 }][..], &vec![0x55; *size]].concat();
        let composition = compositions.get(index).copied().unwrap_or(0);
        (begin + 3000 * index as u64, Sample { data: unit(&[&nal]), duration: 3000, composition, sync })
    });
    samples.collect()
}

fn audio(begin: u64, count: u64) -> Vec<TimedSample> {
    let frame =
        Sample { data: audio_config().silence(), duration: AAC_FRAME_SAMPLES, composition: 0, sync: true };
    (0..count).map(|index| (begin + index * u64::from(AAC_FRAME_SAMPLES), frame.clone())).collect()
}

fn muxed(sequence: u64, video: &[TimedSample], audio: &[TimedSample]) -> Bytes {
    let (pictures, sound) = (video_config(320, 240), audio_config());
    let video = (!video.is_empty()).then_some((&pictures, video));
    let audio = (!audio.is_empty()).then_some((&sound, audio));
    segment(sequence, &Tracks { video, audio }).unwrap()
}

fn packets(segment: &[u8]) -> Vec<TsPacket> {
    let mut reader = TsPacketReader::new(segment);
    std::iter::from_fn(|| reader.read_ts_packet().unwrap()).collect()
}

fn pes(segment: &[u8]) -> Vec<PesPacket<Vec<u8>>> {
    let mut reader = PesPacketReader::new(TsPacketReader::new(segment));
    std::iter::from_fn(|| reader.read_pes_packet().unwrap()).collect()
}

fn times(packet: &PesPacket<Vec<u8>>) -> (u64, Option<u64>) {
    let on_timeline = |time: Timestamp| time.as_u64() - TIME_OFFSET;
    (on_timeline(packet.header.pts.unwrap()), packet.header.dts.map(on_timeline))
}

#[test]
fn a_segment_begins_with_its_tables_and_holds_both_tracks() {
    let segment = muxed(0, &video(90_000, &[5000, 10, 400], &[]), &audio(48_000, 20));
    let packets = packets(&segment);
    assert_eq!(packets.len() * TsPacket::SIZE, segment.len());
    let [first, second, third, ..] = &packets[..] else { panic!("too few packets") };
    assert!(
        matches!(&first.payload, Some(TsPayload::Pat(pat)) if pat.table[0].program_map_pid.as_u16() == TABLE_PID)
    );
    let Some(TsPayload::Pmt(pmt)) = &second.payload else { panic!("a program map expected") };
    let streams: Vec<_> =
        pmt.es_info.iter().map(|info| (info.stream_type, info.elementary_pid.as_u16())).collect();
    assert_eq!(streams, [(StreamType::H264, VIDEO_PID), (StreamType::AdtsAac, AUDIO_PID)]);
    assert_eq!(pmt.pcr_pid.unwrap().as_u16(), VIDEO_PID);
    let field = third.adaptation_field.as_ref().unwrap();
    assert!(field.random_access_indicator);
    let clock = field.pcr.unwrap().as_u64() / 300;
    assert_eq!(clock, 90_000 + TIME_OFFSET - CLOCK_DELAY, "before what it is the clock of");

    let pes = pes(&segment);
    let video: Vec<_> = pes.iter().filter(|packet| packet.header.stream_id.is_video()).collect();
    assert_eq!(
        video.iter().map(|packet| times(packet)).collect::<Vec<_>>(),
        [(90_000, None), (93_000, None), (96_000, None)]
    );
    let config = video_config(320, 240);
    let mut key = [&NAL_START[..], &DELIMITER].concat();
    config.parameter_sets().for_each(|set| key.extend([&NAL_START, set].concat()));
    key.extend([&NAL_START[..], &[0x65], &[0x55; 5000]].concat());
    assert_eq!(video[0].data, key);
    assert_eq!(video[1].data, [&NAL_START[..], &DELIMITER, &NAL_START, &[0x41], &[0x55; 10]].concat());

    let sound: Vec<_> = pes.iter().filter(|packet| packet.header.stream_id.is_audio()).collect();
    let frame = 8 * 1024 * 90 / 48;
    assert_eq!(sound.iter().map(|packet| times(packet).0).collect::<Vec<_>>(), [90_000, 90_000 + frame]);
    // 48 kHz, stereo, 13 bytes (ISO/IEC 14496-3 table 1.A.6).
    let header = [0xFF, 0xF1, 0x4C, 0x80, 0x01, 0xBF, 0xFC];
    let frame = [&header[..], &audio_config().silence()].concat();
    assert_eq!(sound[0].data, frame.repeat(8));
    assert_eq!(sound[1].data, frame.repeat(12), "what would be a short packet is part of the one before");
}

#[test]
fn packets_are_numbered_through_all_segments() {
    let mut last: BTreeMap<u16, u8> = BTreeMap::new();
    let mut begin = 0;
    for sequence in 14..20 {
        let sizes: Vec<usize> = (0..30).map(|index| 100 + (index * 37 + sequence * 11) % 900).collect();
        let segment = muxed(sequence as u64, &video(begin, &sizes, &[]), &audio(begin * 48 / 90, 47));
        begin += 90_000;
        for packet in packets(&segment) {
            let number = packet.header.continuity_counter.as_u8();
            let before = last.insert(packet.header.pid.as_u16(), number);
            assert!(before.is_none_or(|before| (before + 1) % 16 == number), "{sequence} {packet:?}");
        }
    }
    assert_eq!(last.len(), 4);
}

#[test]
fn pictures_are_decoded_in_order_and_before_they_are_shown() {
    // As CMAF tells it: a picture shown before it is decoded, two B-frames, and three that are shown at one moment.
    for (compositions, order) in [
        (vec![-100, -100, 50], vec![(89_900, None), (92_900, None), (96_050, Some(96_000))]),
        (vec![3000, 6000, -1000], vec![(93_000, Some(90_000)), (99_000, Some(93_000)), (95_000, None)]),
        (vec![0, -3000, -6000], vec![(90_000, None), (90_001, None), (90_002, None)]),
    ] {
        let segment = muxed(0, &video(90_000, &[10, 10, 10], &compositions), &[]);
        let times: Vec<_> = pes(&segment).iter().map(times).collect();
        assert_eq!(times, order, "{compositions:?}");
    }
}

#[test]
fn sound_alone_has_the_clock_and_video_alone_is_enough() {
    let sound = packets(&muxed(3, &[], &audio(0, 94)));
    assert!(
        sound.iter().any(|packet| packet.adaptation_field.as_ref().is_some_and(|field| field.pcr.is_some()))
    );
    let Some(TsPayload::Pmt(pmt)) = &sound[1].payload else { panic!("a program map expected") };
    assert_eq!((pmt.es_info.len(), pmt.pcr_pid.unwrap().as_u16()), (1, AUDIO_PID));
    assert_eq!(pes(&muxed(3, &video(0, &[1], &[]), &[])).len(), 1);
    assert_eq!(packets(&muxed(3, &[], &[])).len(), 2, "nothing but tables");
}

#[test]
fn an_access_unit_that_has_them_gets_no_second_delimiter_and_parameter_sets() {
    let (config, unit) = (video_config(320, 240), unit(&[&[9, 0x10], &[0x67, 1], &[0x68, 2], &[0x65, 3]]));
    let expected =
        [&NAL_START[..], &DELIMITER, &NAL_START, &[0x67, 1], &NAL_START, &[0x68, 2], &NAL_START, &[0x65, 3]];
    assert_eq!(annex_b(&config, &unit, true), expected.concat());
    // What is not whole is left out.
    assert_eq!(annex_b(&config, &[0, 0, 0, 9, 0x41], false), [&NAL_START[..], &DELIMITER].concat());
    assert_eq!(annex_b(&config, &[0, 0], false), [&NAL_START[..], &DELIMITER].concat());
}

#[test]
fn times_wrap_around_after_33_bits() {
    let segment = muxed(0, &video(Timestamp::MAX - TIME_OFFSET - 2000, &[10, 10], &[]), &[]);
    let shown: Vec<_> = pes(&segment).iter().map(|packet| packet.header.pts.unwrap().as_u64()).collect();
    assert_eq!(shown, [Timestamp::MAX - 2000, 999]);
}

#[test]
fn a_segment_is_no_larger_than_said() {
    for size in [1, 20, 150, 184, 1000, 20_000] {
        let (pictures, sound) = (video(0, &vec![size; 60], &[]), audio(0, 94));
        let bytes = |samples: &[TimedSample]| samples.iter().map(|(_, sample)| sample.data.len()).sum();
        let most = most_bytes(60, bytes(&pictures)) + most_bytes(94 / FRAMES_PER_PACKET, bytes(&sound));
        let made = muxed(0, &pictures, &sound).len();
        assert!(made < most + 40 * TsPacket::SIZE, "{size}: {made} of {most}");
        assert!(size < 1000 || most < made + made / 5, "{size}: {made} of {most}");
    }
}
