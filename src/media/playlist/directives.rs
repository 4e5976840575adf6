//! Delivery directives: what a player asks of a playlist beyond its name (RFC 8216bis section 6.2.5), and when that can
//! be answered.

use std::time::Duration;

/// A playlist this many segments ahead is not waited for (RFC 8216bis section 6.2.5.2).
const MAX_SEGMENTS_AHEAD: u64 = 2;
/// How much media in parts may be waited for at most: the Advance Part Limit (RFC 8216bis section 6.2.5.2).
const MAX_PARTS_AHEAD: Duration = Duration::from_secs(3);

/// What a request asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Directives {
    /// `_HLS_msn` and `_HLS_part`: not before this segment, or this part of it, is listed.
    pub until: Option<(u64, Option<u64>)>,
    /// `_HLS_skip`: a delta update, if there is one.
    pub skip: bool,
}

/// Why directives make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DirectiveError {
    /// A number is none.
    #[error("a delivery directive is no number")]
    NoNumber,
    /// `_HLS_part` says which part of the segment that `_HLS_msn` names.
    #[error("_HLS_part needs _HLS_msn")]
    PartWithoutSegment,
    /// `_HLS_skip` is neither YES nor v2.
    #[error("_HLS_skip is neither YES nor v2")]
    UnknownSkip,
}

impl Directives {
    /// Reads a URL's query. What isn't a delivery directive is somebody else's.
    ///
    /// # Errors
    /// The directives make no sense.
    pub fn parse(query: &str) -> Result<Self, DirectiveError> {
        let (mut sequence, mut part, mut skip) = (None, None, false);
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let number = || value.parse().map_err(|_| DirectiveError::NoNumber);
            match name {
                "_HLS_msn" => sequence = Some(number()?),
                "_HLS_part" => part = Some(number()?),
                "_HLS_skip" if matches!(value, "YES" | "v2") => skip = true,
                "_HLS_skip" => return Err(DirectiveError::UnknownSkip),
                _ => {}
            }
        }
        match (sequence, part) {
            (None, Some(_)) => Err(DirectiveError::PartWithoutSegment),
            (sequence, part) => Ok(Self { until: sequence.map(|sequence| (sequence, part)), skip }),
        }
    }
}

/// Where a playlist ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// The last complete segment and how many parts it has.
    pub complete: Option<(u64, u64)>,
    /// The segment behind it, if it has parts already, and how many.
    pub open: Option<(u64, u64)>,
}

/// What a request has to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Nothing: the playlist is as far.
    No,
    /// The next update, or a later one.
    Yes,
    /// It asks for more than may be waited for.
    TooFar,
}

impl Position {
    /// The last part: its segment, and its number in that.
    #[must_use]
    pub fn last_part(&self) -> Option<(u64, u64)> {
        let (sequence, parts) = self.open.or(self.complete)?;
        Some((sequence, parts.saturating_sub(1)))
    }

    /// Whether a request until a segment, or a part of it, has to wait for a playlist that ends here.
    #[must_use]
    pub fn wait(&self, (sequence, part): (u64, Option<u64>), part_target: Duration) -> Wait {
        let Some((newest, _)) = self.open.or(self.complete) else { return Wait::Yes };
        let listed = match (part, self.complete, self.open) {
            (None, Some((complete, _)), _) => sequence <= complete,
            (Some(part), _, Some((open, parts))) if sequence == open => part < parts,
            // A number beyond a complete segment's last part means the next segment's first one.
            (Some(part), Some((complete, parts)), open) if sequence == complete => {
                part < parts || open.is_some()
            }
            _ => sequence < newest,
        };
        if listed {
            return Wait::No;
        }
        let parts = self.open.filter(|(open, _)| *open == sequence).map_or(0, |(_, parts)| parts);
        let ahead = part.map_or(0, |part| part.saturating_sub(parts));
        if sequence > newest.saturating_add(MAX_SEGMENTS_AHEAD) || ahead > advance_part_limit(part_target) {
            return Wait::TooFar;
        }
        Wait::Yes
    }
}

fn advance_part_limit(part_target: Duration) -> u64 {
    let millis = part_target.as_millis().clamp(1, 1000);
    u64::try_from(MAX_PARTS_AHEAD.as_millis().div_ceil(millis)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: Duration = Duration::from_millis(192);

    #[test]
    fn directives_are_read_and_nonsense_is_refused() {
        assert_eq!(Directives::parse(""), Ok(Directives::default()));
        let until = Some((7, Some(2)));
        assert_eq!(
            Directives::parse("token=x&_HLS_msn=7&_HLS_part=2"),
            Ok(Directives { until, skip: false })
        );
        let until = Some((7, None));
        assert_eq!(Directives::parse("_HLS_msn=7&_HLS_skip=YES"), Ok(Directives { until, skip: true }));
        assert_eq!(Directives::parse("_HLS_skip=v2"), Ok(Directives { until: None, skip: true }));
        assert_eq!(Directives::parse("_HLS_part=2"), Err(DirectiveError::PartWithoutSegment));
        for nonsense in
            ["_HLS_msn=", "_HLS_msn=-1", "_HLS_msn=99999999999999999999", "_HLS_msn=1&_HLS_part=x"]
        {
            assert_eq!(Directives::parse(nonsense), Err(DirectiveError::NoNumber), "{nonsense}");
        }
        assert_eq!(Directives::parse("_HLS_skip=NO"), Err(DirectiveError::UnknownSkip));
        assert!(Directives::parse("_HLS_other=1&x").is_ok());
    }

    #[test]
    fn a_request_waits_for_what_comes_and_is_refused_what_is_far() {
        let position = Position { complete: Some((9, 10)), open: Some((10, 3)) };
        let wait = |sequence, part| position.wait((sequence, part), PART);
        assert_eq!(wait(9, None), Wait::No);
        assert_eq!(wait(0, None), Wait::No, "a stale request");
        assert_eq!(wait(10, None), Wait::Yes, "the segment is not complete");
        assert_eq!(wait(12, None), Wait::Yes);
        assert_eq!(wait(13, None), Wait::TooFar);
        assert_eq!(wait(10, Some(2)), Wait::No);
        assert_eq!(wait(10, Some(3)), Wait::Yes);
        assert_eq!(wait(10, Some(3 + 16)), Wait::Yes);
        assert_eq!(wait(10, Some(3 + 17)), Wait::TooFar, "3 s of parts of 192 ms are 16 parts");
        assert_eq!(wait(11, Some(0)), Wait::Yes);
        assert_eq!(wait(9, Some(9)), Wait::No);
        assert_eq!(wait(9, Some(10)), Wait::No, "that is part 0 of segment 10");
        assert_eq!(wait(8, Some(99)), Wait::No);

        let between = Position { complete: Some((9, 10)), open: None };
        assert_eq!(between.wait((9, Some(10)), PART), Wait::Yes);
        assert_eq!(between.wait((10, Some(0)), PART), Wait::Yes);
        assert_eq!(between.wait((9, None), PART), Wait::No);
        assert_eq!(between.last_part(), Some((9, 9)));
        assert_eq!(position.last_part(), Some((10, 2)));
    }
}
