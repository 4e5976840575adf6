//! How much sound an Opus packet holds.

use std::time::Duration;

/// The longest packet that is allowed (RFC 6716 section 3.2.5).
const MAX_DURATION: Duration = Duration::from_millis(120);

/// The duration of an Opus packet, from its first bytes (RFC 6716 section 3.1). `None` if it is malformed.
#[must_use]
pub fn duration(packet: &[u8]) -> Option<Duration> {
    let toc = *packet.first()?;
    let frame_micros = match toc >> 3 {
        config @ 0..=11 => [10_000, 20_000, 40_000, 60_000].get(usize::from(config & 3)).copied()?,
        config @ 12..=15 => [10_000, 20_000].get(usize::from(config & 1)).copied()?,
        config => [2500, 5000, 10_000, 20_000].get(usize::from(config & 3)).copied()?,
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u64::from(packet.get(1)? & 0x3F),
    };
    let duration = Duration::from_micros(frame_micros * frames);
    (!duration.is_zero() && duration <= MAX_DURATION).then_some(duration)
}

#[cfg(test)]
#[allow(clippy::unusual_byte_groupings, reason = "grouped as the fields of the byte are")]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_the_table() {
        let ms = |packet: &[u8]| duration(packet).map(|duration| duration.as_micros() as f64 / 1000.0);
        assert_eq!(ms(&[0b00001_0_00]), Some(20.0), "SILK, one frame");
        assert_eq!(ms(&[0b00011_0_01]), Some(120.0), "SILK, two frames of 60 ms");
        assert_eq!(ms(&[0b01101_0_00]), Some(20.0), "hybrid");
        assert_eq!(ms(&[0b10000_1_00]), Some(2.5), "CELT");
        assert_eq!(ms(&[0b11111_1_11, 0b1000_0011]), Some(60.0), "CELT, three frames");
        assert_eq!(ms(&[0b11111_1_11, 63]), None, "longer than allowed");
        assert_eq!(ms(&[0b11111_1_11, 0]), None, "no frames");
        assert_eq!(ms(&[0b11111_1_11]), None, "cut");
        assert_eq!(ms(&[]), None);
    }
}
