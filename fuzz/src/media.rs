//! Parsers of what media packets carry.

use weir::media::rtp::{self as packets, RtpView};
use weir::media::{codec, opus, rtcp as control};

use super::Input;

/// Extension elements of one packet cannot be more than its bytes.
const MAX_DATAGRAM: usize = 65_535;

/// An RTP packet: what a view shows lies within the packet.
pub fn rtp(data: &[u8]) {
    let header = packets::header_len(data);
    let first = packets::sequence_and_ssrc(data);
    let Ok(view) = RtpView::parse(data) else { return };
    let header = header.expect("a packet that parses has a header");
    assert!(header + view.payload().len() <= data.len());
    assert_eq!(first, Some((view.sequence(), view.ssrc())));
    let elements: usize = view.extensions().map(|(_, value)| value.len()).sum();
    assert!(elements <= header.min(MAX_DATAGRAM));
}

/// A payload, as every codec that can be told key frames from others.
pub fn codecs(data: &[u8]) {
    use mediasoup_types::rtp_parameters::{MimeType, MimeTypeAudio, MimeTypeVideo};
    let types = [
        MimeType::Video(MimeTypeVideo::Vp8),
        MimeType::Video(MimeTypeVideo::Vp9),
        MimeType::Video(MimeTypeVideo::H264),
        MimeType::Audio(MimeTypeAudio::Opus),
    ];
    for mime in types {
        let _key_frame = codec::is_key_frame(mime, data);
    }
    if let Some(duration) = opus::duration(data) {
        // RFC 6716 section 3.2.5, rule R5.
        assert!(duration.as_millis() <= 120, "{duration:?}");
    }
}

/// Compound RTCP, and the round trip of the NACKs in it.
pub fn rtcp(data: &[u8]) {
    let mut items = 0_usize;
    let _outcome = control::read(data, |item| {
        items += 1;
        if let control::Item::Nack { ssrc, first, following } = item {
            let missing: Vec<u16> = control::nacked(first, following).collect();
            let mut written = Vec::new();
            control::write_nack(&mut written, 1, ssrc, &missing);
            let mut again = Vec::new();
            control::read(&written, |item| {
                if let control::Item::Nack { first, following, .. } = item {
                    again.extend(control::nacked(first, following));
                }
            })
            .expect("what weir writes it can read");
            assert_eq!(missing, again);
        }
    });
    assert!(items <= data.len(), "{items} items in {} bytes", data.len());
    let mut input = Input(data);
    let missing: Vec<u16> =
        std::iter::from_fn(|| (!input.is_empty()).then(|| input.u16())).take(512).collect();
    let mut written = Vec::new();
    control::write_nack(&mut written, 1, 2, &missing);
    let mut read = Vec::new();
    control::read(&written, |item| {
        if let control::Item::Nack { first, following, .. } = item {
            read.extend(control::nacked(first, following));
        }
    })
    .expect("what weir writes it can read");
    assert!(missing.iter().all(|sequence| read.contains(sequence)), "a packet is not asked for");
}
