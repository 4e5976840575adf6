//! Receiver Estimated Maximum Bitrate (draft-alvestrand-rmcat-remb-03 section 2.2): a receiver's limit for the sum of
//! what one sender sends it.

use super::{PAYLOAD_FEEDBACK, begin, finish};

/// FMT of the message: application layer feedback.
pub(super) const FORMAT: u8 = 15;
const NAME: [u8; 4] = *b"REMB";
/// Largest mantissa: 18 bits.
const MAX_MANTISSA: u64 = 0x3_FFFF;
/// SSRCs that one message can name.
const MAX_SSRCS: usize = 255;

/// The bitrate of a message's body after the RTCP header, in bits per second.
pub(super) fn parse(body: &[u8]) -> Option<u64> {
    let fixed: [u8; 16] = body.get(..16)?.try_into().ok()?;
    if fixed.get(8..12) != Some(&NAME[..]) {
        return None;
    }
    let exponent = u32::from(fixed[13] >> 2);
    let mantissa = u64::from(u32::from_be_bytes([0, fixed[13] & 3, fixed[14], fixed[15]]));
    Some(if mantissa.leading_zeros() < exponent { u64::MAX } else { mantissa << exponent })
}

/// Appends a message that limits the sum of `ssrcs` to `bitrate` bits per second, rounded down to what its 18
/// significant bits hold.
pub fn write(out: &mut Vec<u8>, sender: u32, bitrate: u64, ssrcs: &[u32]) {
    let exponent = (64 - bitrate.leading_zeros()).saturating_sub(MAX_MANTISSA.count_ones());
    let [.., high, middle, low] = (bitrate >> exponent).to_be_bytes();
    let ssrcs = ssrcs.get(..MAX_SSRCS).unwrap_or(ssrcs);
    let start = begin(out, FORMAT, PAYLOAD_FEEDBACK);
    out.extend(sender.to_be_bytes());
    out.extend(0_u32.to_be_bytes());
    out.extend(NAME);
    out.extend([ssrcs.len() as u8, (exponent as u8) << 2 | high, middle, low]);
    ssrcs.iter().for_each(|ssrc| out.extend(ssrc.to_be_bytes()));
    finish(out, start);
}

#[cfg(test)]
mod tests {
    use rtc_rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;

    use super::super::{Item, read};
    use super::*;

    #[test]
    fn reads_back_what_it_writes_and_so_does_an_independent_parser() {
        for bitrate in [1, 262_143, 262_144, 600_000, 12_345_678, 1 << 40] {
            let mut out = Vec::new();
            write(&mut out, 1, bitrate, &[7, 8]);
            let mut told = None;
            read(&out, |item| told = Some(item)).unwrap();
            let Some(Item::EstimatedBitrate(read)) = told else { panic!("{told:?}") };
            assert!(read <= bitrate && read >= bitrate - bitrate / 100_000, "{read} for {bitrate}");
            let theirs = rtc_rtcp::packet::unmarshal(&mut &out[..]).unwrap();
            let theirs = theirs[0].as_any().downcast_ref::<ReceiverEstimatedMaximumBitrate>().unwrap();
            assert!(
                (f64::from(theirs.bitrate) - read as f64).abs() <= 1e-5 * read as f64,
                "{read} {theirs:?}"
            );
            assert_eq!(theirs.ssrcs, [7, 8]);
        }
    }

    #[test]
    fn absurd_numbers_are_the_largest_one() {
        let mut body = [0xFF; 16];
        body[8..12].copy_from_slice(&NAME);
        assert_eq!(parse(&body), Some(u64::MAX));
        assert_eq!(parse(&body[..15]), None);
        assert_eq!(parse(&[0; 16]), None, "another application's message");
    }
}
