//! Where key frames begin in H.264 (RFC 6184).

/// What an H.264 packet begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum H264Start {
    /// Nothing that a decoder could begin with.
    None,
    /// A slice of an IDR picture.
    Idr,
    /// A sequence parameter set, with which well-behaved senders begin every key frame.
    ParameterSets,
}

/// RFC 6184 section 5: what the packet's NAL units begin, alone, aggregated (STAP-A) or as the first fragment (FU-A).
pub(super) fn start(payload: &[u8]) -> H264Start {
    find(payload).unwrap_or(H264Start::None)
}

fn find(payload: &[u8]) -> Option<H264Start> {
    const NAL_TYPE: u8 = 0x1f;
    const STAP_A: u8 = 24;
    const FU_A: u8 = 28;
    const FU_START: u8 = 0x80;

    let of_unit = |header: u8| {
        const IDR: u8 = 5;
        const SPS: u8 = 7;
        match header & NAL_TYPE {
            IDR => H264Start::Idr,
            SPS => H264Start::ParameterSets,
            _ => H264Start::None,
        }
    };
    let (header, mut rest) = payload.split_first()?;
    match header & NAL_TYPE {
        STAP_A => {
            let mut best = H264Start::None;
            while let Some((size, units)) = rest.split_first_chunk::<2>() {
                let Some(unit) = units.get(..usize::from(u16::from_be_bytes(*size))) else { break };
                best = best.max(unit.first().map_or(H264Start::None, |header| of_unit(*header)));
                rest = units.get(unit.len()..)?;
            }
            Some(best)
        }
        FU_A => {
            let fragment = *rest.first()?;
            Some(if fragment & FU_START != 0 { of_unit(fragment) } else { H264Start::None })
        }
        _ => Some(of_unit(*header)),
    }
}
