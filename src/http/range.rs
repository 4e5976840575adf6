//! Which bytes of a body a `Range` header asks for (RFC 9110 section 14).

use std::ops::Range;

/// What to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Everything: no range, one that is malformed, or several at once, which a server may ignore.
    Whole,
    /// These bytes.
    Part(Range<usize>),
    /// Bytes that are not there (status 416).
    Nothing,
}

/// Reads a `Range` header for a body of `length` bytes.
pub(super) fn wanted(header: &str, length: usize) -> Wanted {
    let Some((first, last)) = header.trim().strip_prefix("bytes=").and_then(|range| range.split_once('-'))
    else {
        return Wanted::Whole;
    };
    let number = |text: &str| -> Result<Option<usize>, ()> {
        match text.trim() {
            "" => Ok(None),
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(Some(digits.parse().unwrap_or(usize::MAX)))
            }
            _ => Err(()),
        }
    };
    let (Ok(first), Ok(last)) = (number(first), number(last)) else { return Wanted::Whole };
    let part = match (first, last) {
        (None, None) => return Wanted::Whole,
        (Some(first), Some(last)) if last < first => return Wanted::Whole,
        (Some(first), Some(last)) => first..last.saturating_add(1).min(length),
        (Some(first), None) => first..length,
        (None, Some(suffix)) => length.saturating_sub(suffix)..length,
    };
    if part.is_empty() { Wanted::Nothing } else { Wanted::Part(part) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_inclusive_and_cut_at_the_end() {
        assert_eq!(wanted("bytes=0-0", 10), Wanted::Part(0..1));
        assert_eq!(wanted("bytes=2-5", 10), Wanted::Part(2..6));
        assert_eq!(wanted("bytes=2-500", 10), Wanted::Part(2..10));
        assert_eq!(wanted("bytes=2-99999999999999999999999999", 10), Wanted::Part(2..10));
        assert_eq!(wanted("bytes=9-", 10), Wanted::Part(9..10));
        assert_eq!(wanted("bytes=-3", 10), Wanted::Part(7..10));
        assert_eq!(wanted("bytes=-30", 10), Wanted::Part(0..10));
    }

    #[test]
    fn what_is_not_there_is_nothing() {
        assert_eq!(wanted("bytes=10-", 10), Wanted::Nothing);
        assert_eq!(wanted("bytes=10-20", 10), Wanted::Nothing);
        assert_eq!(wanted("bytes=-0", 10), Wanted::Nothing);
        assert_eq!(wanted("bytes=0-0", 0), Wanted::Nothing);
    }

    #[test]
    fn what_can_not_be_read_is_ignored() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "items=0-1",
            "bytes=0-1,3-4",
            "bytes=+1-2",
            "bytes=é-",
        ] {
            assert_eq!(wanted(header, 10), Wanted::Whole, "{header:?}");
        }
    }
}
