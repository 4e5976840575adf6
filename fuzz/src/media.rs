//! Parsers of what media packets carry.

use std::sync::Arc;

use weir::media::codec::{
    DependencyDescriptor, DependencyExtension, DependencyStructure, Layers, MAX_SPATIAL_LAYERS,
    MAX_TEMPORAL_LAYERS, Renumbering,
};
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
        MimeType::Video(MimeTypeVideo::AV1),
        MimeType::Audio(MimeTypeAudio::Opus),
    ];
    for (mime, is_k_svc) in types.into_iter().flat_map(|mime| [(mime, false), (mime, true)]) {
        let frame = codec::frame(mime, data, is_k_svc);
        let by = Renumbering { picture_id: 0, tl0_picture_index: 0, frame_number: 0 };
        let mut copy = data.to_vec();
        frame.renumber(&mut copy, by);
        assert_eq!(copy, data, "nothing added to the picture numbers, yet the payload changed");
        frame
            .renumber(&mut copy, Renumbering { picture_id: u16::MAX, tl0_picture_index: 1, frame_number: 1 });
        let again = codec::frame(mime, &copy, is_k_svc);
        assert_eq!((again.layers, again.starts_key_frame), (frame.layers, frame.starts_key_frame));
    }
    if let Some(duration) = opus::duration(data) {
        // RFC 6716 section 3.2.5, rule R5.
        assert!(duration.as_millis() <= 120, "{duration:?}");
    }
}

/// Dependency descriptors of one stream, each read with the templates that came before. What a viewer gets of one says
/// the same of the frame.
pub fn dependency(data: &[u8]) {
    let mut input = Input(data);
    let mut known: Option<Arc<DependencyStructure>> = None;
    while !input.is_empty() {
        let len = usize::from(input.byte());
        let value = input.bytes(len);
        let before = known.clone();
        let Some(read) = DependencyDescriptor::parse(value, before.as_deref()) else { continue };
        let layers = read.frame.layers;
        assert!(layers.spatial < MAX_SPATIAL_LAYERS && layers.temporal < MAX_TEMPORAL_LAYERS);
        assert!(!read.frame.starts_key_frame || read.structure.is_some());
        known = read.structure.clone().map(Arc::new).or(known);
        let structure = known.clone().expect("it was read with one");
        let extension = DependencyExtension::new(value, &read, structure, u32::MAX);
        for viewer in [Layers::default(), Layers { spatial: 1, temporal: 1 }, Layers::ALL] {
            let written = extension.for_viewer(viewer, 0);
            let mut value = Vec::new();
            written.append(&mut value);
            assert_eq!(value.len(), written.len());
            let again = DependencyDescriptor::parse(&value, before.as_deref());
            let again = again.expect("what weir writes it can read");
            assert_eq!((again.frame, again.structure), (read.frame, read.structure.clone()));
        }
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
