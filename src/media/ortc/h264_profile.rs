//! H.264's `profile-level-id` (RFC 6184 section 8.1): which profiles are one, and which level an answer names.

use std::fmt;

/// A profile, as far as WebRTC tells them apart (RFC 6184 table 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    ConstrainedHigh,
    High,
    PredictiveHigh444,
}

/// A level in steps that can be compared: ten times the level's number, times ten; level 1b lies between 1 and 1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Level(u16);

impl Level {
    const ONE_B: Self = Self(105);
    const THREE_ONE: Self = Self(310);
}

/// `level_idc` values that exist (H.264 annex A.3).
const LEVELS: [u8; 16] = [10, 11, 12, 13, 20, 21, 22, 30, 31, 32, 40, 41, 42, 50, 51, 52];

/// The `constraint_set3_flag`, which makes level 1.1 into 1b in the older profiles.
const CONSTRAINT_SET3: u8 = 0x10;

/// `profile_idc`, the bits of `profile-iop` that matter, their values, and the profile that they mean.
const PROFILES: [(u8, u8, u8, Profile); 9] = [
    (0x42, 0x4f, 0x40, Profile::ConstrainedBaseline),
    (0x4d, 0x8f, 0x80, Profile::ConstrainedBaseline),
    (0x58, 0xcf, 0xc0, Profile::ConstrainedBaseline),
    (0x42, 0x4f, 0x00, Profile::Baseline),
    (0x58, 0xcf, 0x80, Profile::Baseline),
    (0x4d, 0xaf, 0x00, Profile::Main),
    (0x64, 0xff, 0x00, Profile::High),
    (0x64, 0xff, 0x0c, Profile::ConstrainedHigh),
    (0xf4, 0xff, 0x00, Profile::PredictiveHigh444),
];

/// A parsed `profile-level-id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProfileLevelId {
    profile: Profile,
    level: Level,
}

impl ProfileLevelId {
    /// What is assumed where the parameter is absent. RFC 6184 would say Baseline level 1; WebRTC endpoints mean
    /// Constrained Baseline level 3.1 (RFC 7742 section 6.2), and so does mediasoup.
    pub(super) const DEFAULT: Self = Self { profile: Profile::ConstrainedBaseline, level: Level::THREE_ONE };

    /// Reads six hexadecimal digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() != 6 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let [_, profile_idc, profile_iop, level_idc] = u32::from_str_radix(text, 16).ok()?.to_be_bytes();
        let level = match level_idc {
            11 if profile_iop & CONSTRAINT_SET3 != 0 => Level::ONE_B,
            known if LEVELS.contains(&known) => Level(u16::from(known) * 10),
            _ => return None,
        };
        let (.., profile) = PROFILES
            .iter()
            .find(|(idc, mask, value, _)| *idc == profile_idc && profile_iop & mask == *value)?;
        Some(Self { profile: *profile, level })
    }

    /// Whether both name the same profile, at whatever level.
    pub(super) fn same_profile(self, other: Self) -> bool {
        self.profile == other.profile
    }

    /// What is agreed on: the own level if both sides allow asymmetry, else the lower one (RFC 6184 section 8.2.2).
    pub(super) fn answer(self, other: Self, level_asymmetry_allowed: bool) -> Self {
        let level = if level_asymmetry_allowed { self.level } else { self.level.min(other.level) };
        Self { profile: self.profile, level }
    }
}

impl fmt::Display for ProfileLevelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (idc, iop) = match self.profile {
            Profile::ConstrainedBaseline => (0x42, 0xe0),
            Profile::Baseline => (0x42, 0x00),
            Profile::Main => (0x4d, 0x00),
            Profile::ConstrainedHigh => (0x64, 0x0c),
            Profile::High => (0x64, 0x00),
            Profile::PredictiveHigh444 => (0xf4, 0x00),
        };
        let (iop, level_idc) = match self.level {
            Level::ONE_B => (iop | CONSTRAINT_SET3, 11),
            Level(level) => (iop, level / 10),
        };
        write!(f, "{idc:02x}{iop:02x}{level_idc:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ProfileLevelId {
        ProfileLevelId::parse(text).unwrap_or_else(|| panic!("{text} is valid"))
    }

    #[test]
    fn round_trips_what_browsers_send() {
        for text in ["42e01f", "42001f", "4d001f", "640c1f", "64001f", "f4001f", "42f00b", "640032"] {
            assert_eq!(parse(text).to_string(), text);
        }
    }

    #[test]
    fn knows_the_aliases_of_constrained_baseline() {
        for text in ["42c01f", "4d801f", "58c01f", "42e028"] {
            assert!(parse(text).same_profile(ProfileLevelId::DEFAULT), "{text}");
        }
        for text in ["42001f", "4d001f", "64001f"] {
            assert!(!parse(text).same_profile(ProfileLevelId::DEFAULT), "{text}");
        }
    }

    #[test]
    fn answers_with_the_lower_level_unless_both_allow_asymmetry() {
        assert_eq!(parse("42e028").answer(parse("42e01f"), false).to_string(), "42e01f");
        assert_eq!(parse("42e028").answer(parse("42e01f"), true).to_string(), "42e028");
        assert_eq!(parse("42e00b").answer(parse("42f00b"), false).to_string(), "42f00b");
    }

    #[test]
    fn refuses_what_is_no_profile_level_id() {
        for text in ["", "42e0", "42e01f00", "42e01g", "42e0ff", "zz001f", "+2e01f", "42é1f"] {
            assert_eq!(ProfileLevelId::parse(text), None, "{text}");
        }
    }
}
