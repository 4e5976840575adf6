//! Reads back what [`super::chunk`] writes: the samples of a segment, with their times.

use bytes::Bytes;
use mp4_atom::{Atom, Decode, DecodeAtom, FourCC, Header, Mdat, Moof};

use super::{SYNC_FLAGS, Sample};

/// A sample, and when it is decoded, in ticks of its track.
pub type TimedSample = (u64, Sample);

/// The samples of a segment that consists of fragments of one track, in decode order. They share the segment's bytes.
///
/// # Errors
/// Fails if the bytes are anything else.
pub fn samples(segment: &Bytes) -> Result<Vec<TimedSample>, mp4_atom::Error> {
    let mut found = Vec::new();
    let mut moof: Option<Moof> = None;
    let mut rest = segment.clone();
    while !rest.is_empty() {
        let mut unread = &rest[..];
        let header = Header::decode(&mut unread)?;
        let head = rest.len() - unread.len();
        let size = header.size.unwrap_or(unread.len());
        if size > unread.len() {
            return Err(mp4_atom::Error::OutOfBounds);
        }
        let body = rest.split_off(head);
        rest = body.slice(size..);
        let body = body.slice(..size);
        if header.kind == Moof::KIND {
            moof = Some(Moof::decode_atom(&header, &mut &body[..])?);
        } else if header.kind == Mdat::KIND {
            let moof = moof.take().ok_or(mp4_atom::Error::MissingBox(Moof::KIND))?;
            append(&moof, body, &mut found)?;
        }
    }
    Ok(found)
}

/// Adds a fragment's samples, whose data lies one behind the other.
fn append(moof: &Moof, mut data: Bytes, found: &mut Vec<TimedSample>) -> Result<(), mp4_atom::Error> {
    let missing = |kind: &[u8; 4]| mp4_atom::Error::MissingBox(FourCC::new(kind));
    for traf in &moof.traf {
        let mut decoded = traf.tfdt.as_ref().ok_or_else(|| missing(b"tfdt"))?.base_media_decode_time;
        for entry in traf.trun.iter().flat_map(|trun| trun.samples.iter()) {
            let size = entry.size.and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
            if size > data.len() {
                return Err(mp4_atom::Error::OutOfBounds);
            }
            let duration = entry.duration.unwrap_or(0);
            let sample = Sample {
                data: data.split_to(size),
                duration,
                composition: entry.cts.and_then(|cts| i32::try_from(cts).ok()).unwrap_or(0),
                sync: entry.flags == Some(SYNC_FLAGS),
            };
            found.push((decoded, sample));
            decoded = decoded.saturating_add(duration.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::fmp4::chunk;

    #[test]
    fn what_was_written_is_read_back() {
        let sample = |data: &'static [u8], composition, sync| Sample {
            data: Bytes::from_static(data),
            duration: 3000,
            composition,
            sync,
        };
        let (first, second) = (sample(b"first", 0, true), sample(b"next", -20, false));
        let third = sample(b"last", 6000, false);
        let parts = [
            chunk(true, 1, 1 << 40, &[first.clone(), second.clone()]).unwrap(),
            chunk(false, 2, (1 << 40) + 6000, std::slice::from_ref(&third)).unwrap(),
        ];
        let base = 1 << 40;
        let segment = Bytes::from(parts.concat());
        assert_eq!(samples(&segment).unwrap(), [(base, first), (base + 3000, second), (base + 6000, third)]);
        assert_eq!(samples(&Bytes::new()).unwrap(), []);
    }

    #[test]
    fn anything_else_is_refused() {
        let sample = Sample { data: Bytes::from_static(b"data"), duration: 1, composition: 0, sync: true };
        let segment = chunk(true, 1, 0, &[sample]).unwrap();
        for end in 1..segment.len() {
            // Without a whole box at its end.
            if ![24, segment.len() - 12].contains(&end) {
                assert!(samples(&segment.slice(..end)).is_err(), "{end}");
            }
        }
        assert!(samples(&segment.slice(segment.len() - 12..)).is_err(), "data of no fragment");
        for index in 0..segment.len() {
            let mut wrong = segment.to_vec();
            wrong[index] ^= 0xFF;
            drop(samples(&wrong.into()));
        }
    }
}
