//! What of a sample is encrypted, and what players are told of it.

use mp4_atom::{Any, ReadFrom};

use super::*;
use crate::media::encryption::tests::KEY;
use crate::media::fmp4::tests::{audio_config, video_config};
use crate::media::fmp4::{audio_init, chunk, video_init};

/// A NAL unit with its length before it.
fn unit(header: u8, length: usize) -> Vec<u8> {
    let mut unit = u32::try_from(length).unwrap().to_be_bytes().to_vec();
    unit.push(header);
    unit.extend((1..length).map(|byte| (byte * 7) as u8));
    unit
}

fn sample(data: Vec<u8>) -> Sample {
    Sample { data: data.into(), duration: 3000, composition: 0, sync: true }
}

fn boxes(bytes: &[u8]) -> Vec<Any> {
    let mut cursor = std::io::Cursor::new(bytes);
    let read = std::iter::from_fn(|| Any::read_from(&mut cursor).ok());
    read.collect()
}

#[test]
fn slices_are_encrypted_behind_their_headers_and_nothing_else_is() {
    let sample = [unit(0x67, 20), unit(0x65, 32 + 100), unit(0x06, 40), unit(0x41, 32 + 15)].concat();
    assert_eq!(
        ranges_of(&sample),
        [
            Range { clear: 24 + 4 + 32, encrypted: 100 },
            Range { clear: 44 + 4 + 47, encrypted: 0 } // less than a block is no use
        ]
    );
}

#[test]
fn nonsense_in_a_sample_stays_clear_to_its_last_byte() {
    let lies = [&[0, 0, 0x10, 0, 0x65][..], &[1; 100]].concat();
    assert_eq!(ranges_of(&lies), [Range { clear: 36, encrypted: 69 }], "a unit ends with its sample");
    assert_eq!(ranges_of(&[0, 0]), [Range { clear: 2, encrypted: 0 }]);
    assert!(ranges_of(&[]).is_empty());
    let many = unit(0x41, 60).repeat(100);
    let ranges = ranges_of(&many);
    assert_eq!(ranges.len(), MAX_ENCRYPTED_RANGES + 1);
    assert_eq!(ranges.iter().map(|range| range.clear + range.encrypted).sum::<usize>(), many.len());
}

#[test]
fn a_fragment_tells_where_its_ranges_are_told() {
    let clear = [
        sample([unit(0x06, 70_000), unit(0x65, 500)].concat()),
        sample(unit(0x41, 300)),
        sample(unit(0x41, 20)),
    ];
    // This sequence number and this time are spelled "senc".
    let written = protected_chunk(true, 0x7365_6E63, 0x7365_6E63, &clear, (Coding::H264, &KEY)).unwrap();
    let found = boxes(&written);
    let [Any::Styp(_), Any::Moof(moof), Any::Mdat(mdat)] = &found[..] else { panic!("{found:?}") };
    let traf = &moof.traf[0];
    let told = [
        &[0, 0, 0, 3][..],
        // 65 535 bytes and the rest of them, and an encrypted range.
        &[0, 2, 0xFF, 0xFF, 0, 0, 0, 0, 0x11, 0x99, 0, 0, 0x01, 0xD4],
        &[0, 1, 0, 36, 0, 0, 0x01, 0x0C],
        &[0, 1, 0, 24, 0, 0, 0, 0],
    ]
    .concat();
    let senc = traf.senc.as_ref().unwrap();
    assert!(senc.use_subsamples);
    assert_eq!(senc.data, told);
    assert_eq!((traf.saiz[0].sample_count, &traf.saiz[0].sample_info_size[..]), (3, &[14, 8, 8][..]));
    let moof_at = written.windows(4).position(|kind| kind == b"moof").unwrap() - 4;
    let told_at = moof_at + usize::try_from(traf.saio[0].offsets[0]).unwrap();
    assert!(written[told_at..].starts_with(&told[4..]));
    let data_at = moof_at + usize::try_from(traf.trun[0].data_offset.unwrap()).unwrap();
    assert_eq!(&written[data_at..], mdat.data, "the data is where it is said to be");

    let plain: Vec<u8> = clear.iter().flat_map(|sample| sample.data.to_vec()).collect();
    assert_eq!(mdat.data.len(), plain.len());
    let (slice, second) = (70_004 + 36, 70_004 + 504 + 36);
    let changed: Vec<usize> =
        (0..plain.len()).filter(|at| plain[*at] != mdat.data[*at]).map(|at| at / 4 * 4).collect();
    let within = |begin: usize, blocks: usize| {
        move |at: &usize| {
            (0..blocks).any(|block| (begin + block * 160..begin + block * 160 + 16).contains(at))
        }
    };
    assert!(changed.iter().all(|at| within(slice, 3)(at) || within(second, 2)(at)), "{changed:?}");
    for block in [slice, slice + 160, slice + 320, second, second + 160] {
        assert_ne!(plain[block..block + 16], mdat.data[block..block + 16]);
    }
}

#[test]
fn sound_is_encrypted_whole_and_nothing_has_to_be_told() {
    let clear = [sample(vec![9; 100]), sample(vec![0x21, 0, 0, 0])];
    let written = protected_chunk(false, 1, 0, &clear, (Coding::Aac, &KEY)).unwrap();
    let found = boxes(&written);
    let [Any::Moof(moof), Any::Mdat(mdat)] = &found[..] else { panic!("{found:?}") };
    assert!(moof.traf[0].senc.is_none() && moof.traf[0].saiz.is_empty());
    assert!(mdat.data[..96].chunks(16).all(|block| block != [9; 16]));
    assert_eq!(mdat.data[96..], [9, 9, 9, 9, 0x21, 0, 0, 0]);
    assert_eq!(written.len(), chunk(false, 1, 0, &clear).unwrap().len());
}

#[test]
fn an_init_segment_names_scheme_key_and_pattern() {
    let inits = [
        (video_init(&video_config(320, 240)).unwrap(), Coding::H264, b"avc1", b"encv", 0x19),
        (audio_init(&audio_config()).unwrap(), Coding::Aac, b"mp4a", b"enca", 0),
    ];
    for (clear, coding, from, to, pattern) in inits {
        let written = protected_init(&clear, coding, &KEY).unwrap();
        let found = boxes(&written);
        assert!(
            matches!(&found[..], [Any::Ftyp(_), Any::Moov(_)]),
            "every box is as long as it says: {found:?}"
        );
        let at = |bytes: &[u8], kind: &[u8; 4]| bytes.windows(4).position(|found| found == kind);
        assert_eq!(at(&clear, from), at(&written, to), "the entry has another name");
        let tenc = at(&written, b"tenc").unwrap();
        let head = [1, 0, 0, 0, 0, pattern, 1, 0];
        assert_eq!(written[tenc + 4..tenc + 45], [&head[..], &KEY.id, &[16], &KEY.iv].concat());
        let frma = at(&written, b"frma").unwrap();
        assert_eq!(&written[frma + 4..frma + 8], from);
        let schm = at(&written, b"schm").unwrap();
        assert_eq!(&written[schm + 4..schm + 16], b"\0\0\0\0cbcs\0\x01\0\0");
    }
    for broken in [&b""[..], b"moov", b"\0\0\0\x08moov", b"\0\0\0\xFFmoov", b"\0\0\0\0moov"] {
        assert!(protected_init(broken, Coding::H264, &KEY).is_err());
    }
}
