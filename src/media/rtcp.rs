//! RTCP (RFC 3550 section 6, RFC 4585, RFC 5104): a compound packet read item by item, and the writers of what an
//! SFU sends. Unknown packet types are passed over, as the RFC asks.

pub mod remb;
pub mod transport_cc;

use transport_cc::TransportFeedback;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;

const GENERIC_NACK: u8 = 1;
const PICTURE_LOSS: u8 = 1;
const FULL_INTRA_REQUEST: u8 = 4;

/// Report blocks that one packet can carry (a five-bit count).
pub const MAX_REPORT_BLOCKS: usize = 31;

/// A reception report block (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportBlock {
    /// The stream that is reported on.
    pub ssrc: u32,
    /// Share of packets lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost since the start, 24 bits signed.
    pub total_lost: i32,
    /// Highest extended sequence number received.
    pub highest_sequence: u32,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
    /// Middle 32 bits of the last sender report's NTP time; zero if there was none.
    pub last_sender_report: u32,
    /// Time since that report, in 1/65536 s.
    pub delay_since_last: u32,
}

/// A sender report's sender information (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    /// Whose report it is.
    pub ssrc: u32,
    /// NTP time, 32.32 fixed point.
    pub ntp: u64,
    /// The same moment in RTP time.
    pub rtp: u32,
    /// Packets sent since the start.
    pub packets: u32,
    /// Payload bytes sent since the start.
    pub octets: u32,
}

/// One thing that a compound packet said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// A sender report's own part.
    SenderInfo(SenderInfo),
    /// A report block from a sender or receiver report.
    Report(ReportBlock),
    /// Packets of `ssrc` that are missing: `first`, and `first + 1 + i` for each bit i of `following`.
    Nack {
        /// The stream.
        ssrc: u32,
        /// First missing sequence number (PID).
        first: u16,
        /// Bit mask of following lost packets (BLP).
        following: u16,
    },
    /// A key frame of `ssrc` is wanted (picture loss indication or full intra request).
    KeyFrameRequest {
        /// The stream.
        ssrc: u32,
    },
    /// Which packets arrived, and when, by their transport-wide sequence numbers.
    TransportFeedback(TransportFeedback<'a>),
    /// The most that the receiver wants to get, in bits per second (REMB).
    EstimatedBitrate(u64),
    /// A stream has ended.
    Bye {
        /// The stream.
        ssrc: u32,
    },
}

/// Reads a compound packet, calling `each` for every item; what is malformed ends the reading.
///
/// # Errors
/// Fails where a packet's length does not fit; items before it have been reported.
pub fn read<'a>(mut compound: &'a [u8], mut each: impl FnMut(Item<'a>)) -> Result<(), Malformed> {
    if compound.len() < 4 {
        return Err(Malformed);
    }
    while !compound.is_empty() {
        let header: [u8; 4] = compound.get(..4).and_then(|b| b.try_into().ok()).ok_or(Malformed)?;
        let len = (usize::from(u16::from_be_bytes([header[2], header[3]])) + 1) * 4;
        if header[0] >> 6 != 2 {
            return Err(Malformed);
        }
        let packet = compound.get(..len).ok_or(Malformed)?;
        compound = compound.get(len..).unwrap_or(&[]);
        let mut body = packet.get(4..).unwrap_or(&[]);
        if header[0] & 0x20 != 0 {
            let padding = body.last().copied().map_or(0, usize::from);
            body = body.get(..body.len().saturating_sub(padding)).unwrap_or(&[]);
        }
        read_packet(header[1], header[0] & 0x1F, body, &mut each);
    }
    Ok(())
}

/// Bytes that are no RTCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed RTCP")]
pub struct Malformed;

fn read_packet<'a>(packet_type: u8, count: u8, body: &'a [u8], each: &mut impl FnMut(Item<'a>)) {
    let word = |index: usize| -> Option<u32> {
        body.get(index * 4..index * 4 + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes)
    };
    match (packet_type, count) {
        (SENDER_REPORT, _) => {
            let (Some(ssrc), Some(high), Some(low), Some(rtp), Some(packets), Some(octets)) =
                (word(0), word(1), word(2), word(3), word(4), word(5))
            else {
                return;
            };
            let ntp = u64::from(high) << 32 | u64::from(low);
            each(Item::SenderInfo(SenderInfo { ssrc, ntp, rtp, packets, octets }));
            read_reports(body.get(24..).unwrap_or(&[]), count, each);
        }
        (RECEIVER_REPORT, _) => read_reports(body.get(4..).unwrap_or(&[]), count, each),
        (BYE, _) => (0..usize::from(count)).map_while(word).for_each(|ssrc| each(Item::Bye { ssrc })),
        (TRANSPORT_FEEDBACK, GENERIC_NACK) => {
            let Some(ssrc) = word(1) else { return };
            for pair in body.get(8..).unwrap_or(&[]).chunks_exact(4) {
                if let [a, b, c, d] = *pair {
                    let (first, following) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                    each(Item::Nack { ssrc, first, following });
                }
            }
        }
        (TRANSPORT_FEEDBACK, transport_cc::FORMAT) => {
            if let Some(feedback) = TransportFeedback::parse(body) {
                each(Item::TransportFeedback(feedback));
            }
        }
        (PAYLOAD_FEEDBACK, remb::FORMAT) => {
            if let Some(bitrate) = remb::parse(body) {
                each(Item::EstimatedBitrate(bitrate));
            }
        }
        (PAYLOAD_FEEDBACK, PICTURE_LOSS) => {
            if let Some(ssrc) = word(1) {
                each(Item::KeyFrameRequest { ssrc });
            }
        }
        (PAYLOAD_FEEDBACK, FULL_INTRA_REQUEST) => {
            for entry in body.get(8..).unwrap_or(&[]).chunks_exact(8) {
                if let [a, b, c, d, ..] = *entry {
                    each(Item::KeyFrameRequest { ssrc: u32::from_be_bytes([a, b, c, d]) });
                }
            }
        }
        _ => {}
    }
}

fn read_reports<'a>(blocks: &'a [u8], count: u8, each: &mut impl FnMut(Item<'a>)) {
    for block in blocks.chunks_exact(24).take(usize::from(count)) {
        let word = |index: usize| {
            block.get(index * 4..index * 4 + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
        };
        let lost = word(1);
        each(Item::Report(ReportBlock {
            ssrc: word(0),
            fraction_lost: lost.to_be_bytes()[0],
            total_lost: (lost << 8).cast_signed() >> 8,
            highest_sequence: word(2),
            jitter: word(3),
            last_sender_report: word(4),
            delay_since_last: word(5),
        }));
    }
}

/// The sequence numbers that a NACK item names.
pub fn nacked(first: u16, following: u16) -> impl Iterator<Item = u16> {
    std::iter::once(first).chain(
        (0..16_u16).filter(move |bit| following >> bit & 1 == 1).map(move |bit| first.wrapping_add(bit + 1)),
    )
}

fn begin(out: &mut Vec<u8>, count: u8, packet_type: u8) -> usize {
    let start = out.len();
    out.extend([0x80 | count, packet_type, 0, 0]);
    start
}

/// Writes the length of the packet that began at `start`, in words less one.
fn finish(out: &mut [u8], start: usize) {
    let words = u16::try_from((out.len() - start) / 4 - 1).unwrap_or(u16::MAX);
    if let Some(field) = out.get_mut(start + 2..start + 4) {
        field.copy_from_slice(&words.to_be_bytes());
    }
}

fn write_reports(out: &mut Vec<u8>, reports: &[ReportBlock]) {
    for report in reports {
        let lost = (report.total_lost.clamp(-0x80_0000, 0x7F_FFFF).cast_unsigned()) & 0xFF_FFFF;
        for word in [
            report.ssrc,
            u32::from(report.fraction_lost) << 24 | lost,
            report.highest_sequence,
            report.jitter,
            report.last_sender_report,
            report.delay_since_last,
        ] {
            out.extend(word.to_be_bytes());
        }
    }
}

/// Appends a sender report without report blocks.
pub fn write_sender_report(out: &mut Vec<u8>, info: &SenderInfo) {
    let start = begin(out, 0, SENDER_REPORT);
    out.extend(info.ssrc.to_be_bytes());
    out.extend(info.ntp.to_be_bytes());
    for word in [info.rtp, info.packets, info.octets] {
        out.extend(word.to_be_bytes());
    }
    finish(out, start);
}

/// Appends receiver reports, as many packets as `reports` needs.
pub fn write_receiver_report(out: &mut Vec<u8>, sender: u32, reports: &[ReportBlock]) {
    for blocks in reports.chunks(MAX_REPORT_BLOCKS) {
        let count = u8::try_from(blocks.len()).unwrap_or(0);
        let start = begin(out, count, RECEIVER_REPORT);
        out.extend(sender.to_be_bytes());
        write_reports(out, blocks);
        finish(out, start);
    }
}

/// Appends a source description with the canonical name alone (RFC 3550 section 6.5).
pub fn write_cname(out: &mut Vec<u8>, ssrc: u32, cname: &str) {
    let name = cname.as_bytes();
    let len = u8::try_from(name.len()).unwrap_or(u8::MAX);
    let start = begin(out, 1, SOURCE_DESCRIPTION);
    out.extend(ssrc.to_be_bytes());
    out.extend([1, len]);
    out.extend(name.iter().take(usize::from(len)));
    out.push(0);
    while !(out.len() - start).is_multiple_of(4) {
        out.push(0);
    }
    finish(out, start);
}

/// Appends a generic NACK (RFC 4585 section 6.2.1) for `missing`, which has to be in ascending circular order.
pub fn write_nack(out: &mut Vec<u8>, sender: u32, ssrc: u32, missing: &[u16]) {
    let start = begin(out, GENERIC_NACK, TRANSPORT_FEEDBACK);
    out.extend(sender.to_be_bytes());
    out.extend(ssrc.to_be_bytes());
    let mut rest = missing.iter().copied().peekable();
    while let Some(first) = rest.next() {
        let mut following = 0_u16;
        while let Some(bit) =
            rest.peek().map(|next| next.wrapping_sub(first)).filter(|d| (1..=16).contains(d))
        {
            following |= 1 << (bit - 1);
            rest.next();
        }
        out.extend(first.to_be_bytes());
        out.extend(following.to_be_bytes());
    }
    finish(out, start);
}

/// Appends a picture loss indication (RFC 4585 section 6.3.1).
pub fn write_pli(out: &mut Vec<u8>, sender: u32, ssrc: u32) {
    let start = begin(out, PICTURE_LOSS, PAYLOAD_FEEDBACK);
    out.extend(sender.to_be_bytes());
    out.extend(ssrc.to_be_bytes());
    finish(out, start);
}

/// Appends a full intra request (RFC 5104 section 4.3.1); `command` counts the requests to that stream.
pub fn write_fir(out: &mut Vec<u8>, sender: u32, ssrc: u32, command: u8) {
    let start = begin(out, FULL_INTRA_REQUEST, PAYLOAD_FEEDBACK);
    out.extend(sender.to_be_bytes());
    out.extend(0_u32.to_be_bytes());
    out.extend(ssrc.to_be_bytes());
    out.extend([command, 0, 0, 0]);
    finish(out, start);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(bytes: &[u8]) -> Vec<Item<'_>> {
        let mut items = Vec::new();
        read(bytes, |item| items.push(item)).unwrap();
        items
    }

    #[test]
    fn reads_back_what_it_writes() {
        let info = SenderInfo { ssrc: 1, ntp: 0x0102_0304_0506_0708, rtp: 9, packets: 10, octets: 11 };
        let report = ReportBlock {
            ssrc: 5,
            fraction_lost: 7,
            total_lost: -3,
            highest_sequence: 70_000,
            jitter: 4,
            last_sender_report: 8,
            delay_since_last: 9,
        };
        let mut out = Vec::new();
        write_sender_report(&mut out, &info);
        write_cname(&mut out, 1, "weir");
        write_receiver_report(&mut out, 2, &[report]);
        write_pli(&mut out, 2, 33);
        write_fir(&mut out, 2, 34, 1);
        assert_eq!(
            items(&out),
            vec![
                Item::SenderInfo(info),
                Item::Report(report),
                Item::KeyFrameRequest { ssrc: 33 },
                Item::KeyFrameRequest { ssrc: 34 },
            ]
        );
    }

    #[test]
    fn a_nack_names_each_missing_packet_once() {
        let missing = [65_534, 65_535, 3, 40, 41];
        let mut out = Vec::new();
        write_nack(&mut out, 1, 2, &missing);
        let named: Vec<u16> = items(&out)
            .into_iter()
            .flat_map(|item| match item {
                Item::Nack { first, following, .. } => nacked(first, following).collect::<Vec<_>>(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(named, missing);
    }

    #[test]
    fn independent_parser_accepts_what_it_writes() {
        let mut out = Vec::new();
        write_receiver_report(&mut out, 7, &[ReportBlock::default(); 33]);
        write_cname(&mut out, 7, "weir");
        write_nack(&mut out, 7, 8, &[1, 2, 3]);
        let packets = rtc_rtcp::packet::unmarshal(&mut &out[..]).unwrap();
        assert_eq!(packets.len(), 4, "two reports, a description and a NACK");
    }

    #[test]
    fn cut_and_random_bytes_are_refused_quietly() {
        let mut out = Vec::new();
        write_sender_report(&mut out, &SenderInfo { ssrc: 1, ntp: 2, rtp: 3, packets: 4, octets: 5 });
        write_nack(&mut out, 1, 2, &[1, 9, 99]);
        for end in 0..out.len() {
            let _cut = read(&out[..end], |_| {});
        }
        assert_eq!(read(&[0; 16], |_| {}), Err(Malformed));
        let mut seed = 1_u32;
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..40)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (seed >> 24) as u8 | 0x80
                })
                .collect();
            let _outcome = read(&bytes, |_| {});
        }
    }
}
