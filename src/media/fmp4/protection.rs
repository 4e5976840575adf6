//! Common encryption by the scheme `cbcs` (ISO/IEC 23001-7): the boxes that tell players of it, and which bytes of a sample
//! are encrypted.

use bytes::Bytes;
use mp4_atom::{Encode, Moof, Saio, Saiz, Senc, Traf};

use super::{Sample, fragment, with_data};
use crate::media::encryption::{BLOCK_BYTES, CipherError, ContentKey, PATTERN};

/// What a slice keeps clear, in bytes: its NAL unit's header and slice header, in what Apple's stream encryption format
/// takes for both (MPEG-2 Stream Encryption Format for HTTP Live Streaming, section 2.3.1). Browsers' slice headers are a
/// quarter of it.
const CLEAR_LEAD: usize = 32;
/// The most ranges of one sample that are encrypted: their sizes, with those of the clear ones, have to fit the 255 bytes
/// that `saiz` can tell of. A picture of more slices has the further ones clear.
const MAX_ENCRYPTED_RANGES: usize = 32;
/// What the ranges' sizes begin behind: the header of `senc` and the number of samples.
const SENC_HEAD: usize = 16;
/// The boxes around a sample entry, from the outside.
const AROUND_ENTRY: [[u8; 4]; 6] = [*b"moov", *b"trak", *b"mdia", *b"minf", *b"stbl", *b"stsd"];
/// What `stsd` begins with: version, flags and the number of entries.
const STSD_HEAD: usize = 8;

/// Why something can't be written encrypted.
#[derive(Debug, thiserror::Error)]
pub enum ProtectionError {
    /// A box can't be written.
    #[error(transparent)]
    Box(#[from] mp4_atom::Error),
    /// The cipher failed.
    #[error(transparent)]
    Cipher(#[from] CipherError),
}

/// What samples hold, which decides what of them is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// NAL units of H.264: one block in ten of each slice.
    H264,
    /// AAC frames: all of it.
    Aac,
}

/// The init segment of a track whose samples are encrypted with `key`, made of the `clear` one: the sample entry becomes
/// `encv` or `enca` and gets a `sinf` (ISO/IEC 14496-12 section 8.12).
///
/// # Errors
/// Fails if `clear` is no init segment.
pub fn protected_init(clear: &[u8], coding: Coding, key: &ContentKey) -> Result<Bytes, mp4_atom::Error> {
    let mut sizes_at = Vec::with_capacity(AROUND_ENTRY.len() + 1);
    let mut inside = 0..clear.len();
    for kind in AROUND_ENTRY {
        let found = find(clear, inside, kind).ok_or(mp4_atom::Error::OutOfBounds)?;
        sizes_at.push(found.start);
        inside = found.start + 8..found.end;
    }
    let (from, to) = match coding {
        Coding::H264 => (*b"avc1", *b"encv"),
        Coding::Aac => (*b"mp4a", *b"enca"),
    };
    let entries = inside.start.saturating_add(STSD_HEAD)..inside.end;
    let entry = find(clear, entries, from).ok_or(mp4_atom::Error::OutOfBounds)?;
    sizes_at.push(entry.start);
    let sinf = sinf(from, coding, key);
    let mut out = clear.to_vec();
    out.splice(entry.end..entry.end, sinf.iter().copied());
    let kind_at = entry.start + 4;
    out.splice(kind_at..kind_at + 4, to);
    for at in sizes_at {
        let size = size_at(clear, at).ok_or(mp4_atom::Error::OutOfBounds)?;
        let size = u32::try_from(size + sinf.len()).map_err(|_| mp4_atom::Error::InvalidSize)?;
        out.splice(at..at + 4, size.to_be_bytes());
    }
    Ok(out.into())
}

/// Where the first box of a kind is among those in a range.
fn find(bytes: &[u8], mut within: std::ops::Range<usize>, kind: [u8; 4]) -> Option<std::ops::Range<usize>> {
    while within.start < within.end {
        let end = within.start.checked_add(size_at(bytes, within.start)?)?;
        if end > within.end {
            return None;
        }
        if bytes.get(within.start + 4..within.start + 8)? == kind {
            return Some(within.start..end);
        }
        within.start = end;
    }
    None
}

/// The size that a box at `at` has; at least that of its header.
fn size_at(bytes: &[u8], at: usize) -> Option<usize> {
    let size = u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?);
    usize::try_from(size).ok().filter(|size| *size >= 8)
}

/// The `sinf` box of a sample entry that was an `original` one.
fn sinf(original: [u8; 4], coding: Coding, key: &ContentKey) -> Vec<u8> {
    let (encrypted, skipped) = match coding {
        Coding::H264 => PATTERN,
        // No pattern: all whole blocks.
        Coding::Aac => (0, 0),
    };
    let mut tenc = vec![1, 0, 0, 0, 0, encrypted << 4 | skipped];
    // Samples are encrypted, and have no initialization vectors of their own.
    tenc.extend([1, 0]);
    tenc.extend(key.id);
    tenc.push(BLOCK_BYTES as u8);
    tenc.extend(key.iv);
    let schm = [&[0; 4][..], b"cbcs", &[0, 1, 0, 0]].concat();
    let schi = boxed(*b"tenc", &tenc);
    boxed(*b"sinf", &[boxed(*b"frma", &original), boxed(*b"schm", &schm), boxed(*b"schi", &schi)].concat())
}

/// A small box.
fn boxed(kind: [u8; 4], content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len() + 8).unwrap_or(u32::MAX);
    [&size.to_be_bytes()[..], &kind, content].concat()
}

/// What [`super::chunk`] writes, with the samples encrypted.
///
/// # Errors
/// Fails if the cipher does, or if a box can't hold the samples.
pub fn protected_chunk(
    first: bool,
    sequence: u32,
    base: u64,
    samples: &[Sample],
    (coding, key): (Coding, &ContentKey),
) -> Result<Bytes, ProtectionError> {
    let mut cipher = key.sample_cipher()?;
    let mut encrypted = Vec::with_capacity(samples.len());
    let mut ranges = Vec::with_capacity(samples.len());
    for sample in samples {
        let mut data = sample.data.to_vec();
        match coding {
            Coding::Aac => cipher.encrypt_whole(&mut data)?,
            Coding::H264 => {
                let of_sample = ranges_of(&data);
                let mut rest = &mut data[..];
                for Range { clear, encrypted } in &of_sample {
                    let (range, behind) = rest
                        .get_mut(*clear..)
                        .and_then(|rest| rest.split_at_mut_checked(*encrypted))
                        .ok_or(mp4_atom::Error::OutOfBounds)?;
                    cipher.encrypt_pattern(range)?;
                    rest = behind;
                }
                ranges.push(of_sample);
            }
        }
        encrypted.push(Sample { data: data.into(), ..sample.clone() });
    }
    let mut moof = fragment(sequence, base, &encrypted);
    if coding == Coding::H264 {
        tell_ranges(&mut moof, &ranges)?;
    }
    Ok(with_data(first, moof, &encrypted)?)
}

/// Some clear bytes and some behind them of which blocks are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    clear: usize,
    encrypted: usize,
}

/// What of a sample is encrypted: the slices' data. Whatever else there is, decoders and players have to read.
fn ranges_of(sample: &[u8]) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    let (mut clear, mut rest) = (0, sample);
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (unit, next) = behind.split_at(length.min(behind.len()));
        // nal_unit_type 1 and 5 (ITU-T H.264 table 7-1).
        let slice = unit.first().is_some_and(|header| matches!(header & 0x1F, 1 | 5));
        let data = unit.len().saturating_sub(CLEAR_LEAD);
        if slice && data >= BLOCK_BYTES && ranges.len() < MAX_ENCRYPTED_RANGES {
            ranges.push(Range { clear: clear + 4 + CLEAR_LEAD, encrypted: data });
            clear = 0;
        } else {
            clear += 4 + unit.len();
        }
        rest = next;
    }
    if clear + rest.len() > 0 {
        ranges.push(Range { clear: clear + rest.len(), encrypted: 0 });
    }
    ranges
}

/// Puts the ranges of all samples into the fragment (ISO/IEC 23001-7 sections 7.1 and 7.2), and where they are: players
/// know one or the other.
fn tell_ranges(moof: &mut Moof, ranges: &[Vec<Range>]) -> Result<(), mp4_atom::Error> {
    let too_large = |_| mp4_atom::Error::InvalidSize;
    let count = u32::try_from(ranges.len()).map_err(too_large)?;
    let mut senc = count.to_be_bytes().to_vec();
    let mut sizes = Vec::with_capacity(ranges.len());
    for of_sample in ranges {
        let begins = senc.len();
        senc.extend([0; 2]);
        let mut told = 0_u16;
        for Range { clear, encrypted } in of_sample {
            // A clear range is told in sixteen bits, and a longer one as several.
            let mut clear = *clear;
            while u16::try_from(clear).is_err() {
                senc.extend([0xFF, 0xFF, 0, 0, 0, 0]);
                clear -= usize::from(u16::MAX);
                told = told.saturating_add(1);
            }
            senc.extend(u16::try_from(clear).map_err(too_large)?.to_be_bytes());
            senc.extend(u32::try_from(*encrypted).map_err(too_large)?.to_be_bytes());
            told = told.saturating_add(1);
        }
        senc.splice(begins..begins + 2, told.to_be_bytes());
        sizes.push(u8::try_from(senc.len() - begins).map_err(too_large)?);
    }
    let Some(traf) = moof.traf.first_mut() else { return Ok(()) };
    // `senc` is written right behind `tfdt`.
    let before = Traf { tfhd: traf.tfhd.clone(), tfdt: traf.tfdt.clone(), ..Traf::default() };
    traf.senc = Some(Senc { use_subsamples: true, data: senc, ..Senc::default() });
    traf.saiz = vec![Saiz { sample_count: count, sample_info_size: sizes, ..Saiz::default() }];
    let mut written = Vec::new();
    Moof { mfhd: moof.mfhd.clone(), traf: vec![before] }.encode(&mut written)?;
    let offset = u64::try_from(written.len() + SENC_HEAD).map_err(too_large)?;
    if let Some(traf) = moof.traf.first_mut() {
        traf.saio = vec![Saio { offsets: vec![offset], ..Saio::default() }];
    }
    Ok(())
}

#[cfg(test)]
mod tests;
