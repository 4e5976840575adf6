//! Reading one media section: its codecs, header extensions and streams.
//!
//! Codecs and header extensions are put into the words of ORTC and then checked as those of any other client.

use std::collections::{BTreeMap, BTreeSet};

use mediasoup_types::rtp_parameters::{
    MediaKind, RtpCapabilities, RtpEncodingParameters, RtpEncodingParametersRtx,
};
use rtc_sdp::description::media::MediaDescription;
use serde_json::{Map, Value, json};

use super::{Direction, MAX_MID_LEN, SdpError, Section};
use crate::media::ortc::{self, MAX_CODECS, MAX_ENCODINGS};

/// What a section says about one payload type.
#[derive(Debug, Default)]
struct Format<'a> {
    name: Option<&'a str>,
    parameters: Map<String, Value>,
    feedback: Vec<Value>,
}

/// Names that publishers give to the sizes of a picture, from the smallest to the largest.
const KNOWN_RIDS: [&[&str]; 5] = [
    &["q", "h", "f"],
    &["l", "m", "h"],
    &["low", "mid", "high"],
    &["low", "medium", "high"],
    &["r0", "r1", "r2", "r3"],
];

impl Section {
    pub(super) fn parse(media: &MediaDescription) -> Result<Self, SdpError> {
        let kind = match media.media_name.media.as_str() {
            "audio" => MediaKind::Audio,
            "video" => MediaKind::Video,
            _ => return Err(SdpError::Unsupported("only audio and video can be sent and received")),
        };
        if media.media_name.protos.last().is_none_or(|profile| profile != "SAVPF") {
            return Err(SdpError::Unsupported("the profile has to be UDP/TLS/RTP/SAVPF"));
        }
        if media.media_name.port.value == 0 && !media.has_attribute("bundle-only") {
            return Err(SdpError::Unsupported("a media section is switched off"));
        }
        if !media.has_attribute("rtcp-mux") && !media.has_attribute("rtcp-mux-only") {
            return Err(SdpError::Unsupported("RTCP has to be on the port of RTP (rtcp-mux)"));
        }
        let mid = value(media, "mid").ok_or(SdpError::Missing("a media section has no mid"))?;
        if mid.is_empty() || mid.len() > MAX_MID_LEN {
            return Err(SdpError::Missing("a mid has to be 1 to 16 bytes long"));
        }
        let ssrcs = |name: &'static str| {
            values(media, "ssrc").filter_map(move |line| line.split_once(' ')?.1.strip_prefix(name))
        };
        Ok(Self {
            kind,
            mid: mid.to_owned(),
            direction: direction(media),
            capabilities: capabilities(kind, media)?,
            encodings: encodings(media)?,
            cname: ssrcs("cname:").next().map(str::to_owned),
            msid: value(media, "msid").or_else(|| ssrcs("msid:").next()).map(str::to_owned),
        })
    }
}

fn values<'a>(media: &'a MediaDescription, key: &'static str) -> impl Iterator<Item = &'a str> {
    let found = media.attributes.iter().filter(move |attribute| attribute.key == key);
    found.filter_map(|attribute| attribute.value.as_deref())
}

fn value<'a>(media: &'a MediaDescription, key: &'static str) -> Option<&'a str> {
    values(media, key).next()
}

fn direction(media: &MediaDescription) -> Direction {
    let named = media.attributes.iter().find_map(|attribute| match attribute.key.as_str() {
        "sendrecv" => Some(Direction::SendRecv),
        "sendonly" => Some(Direction::SendOnly),
        "recvonly" => Some(Direction::RecvOnly),
        "inactive" => Some(Direction::Inactive),
        _ => None,
    });
    named.unwrap_or(Direction::SendRecv)
}

/// Codecs in the order of the `m` line, which is that of preference, and header extensions.
fn capabilities(kind: MediaKind, media: &MediaDescription) -> Result<RtpCapabilities, SdpError> {
    let formats = formats(media);
    let mut seen = BTreeSet::new();
    let listed = media.media_name.formats.iter().take(MAX_CODECS).filter_map(|text| text.parse::<u8>().ok());
    let codecs: Vec<Value> = listed
        .filter(|payload_type| seen.insert(*payload_type))
        .filter_map(|payload_type| codec(kind, payload_type, formats.get(&payload_type)?))
        .collect();
    let mut taken = BTreeSet::new();
    let extensions: Vec<Value> = values(media, "extmap")
        .filter_map(|line| {
            let (id, rest) = line.split_once(' ')?;
            let id: u8 = id.split('/').next()?.parse().ok().filter(|id| *id != 0)?;
            let uri = rest.split(' ').next()?;
            taken.insert(id).then(|| json!({ "kind": kind, "uri": uri, "preferredId": id }))
        })
        .take(ortc::MAX_HEADER_EXTENSIONS)
        .collect();
    let capabilities = json!({ "codecs": codecs, "headerExtensions": extensions });
    Ok(ortc::parse_rtp_capabilities(&capabilities)?)
}

fn formats(media: &MediaDescription) -> BTreeMap<u8, Format<'_>> {
    let mut formats: BTreeMap<u8, Format<'_>> = BTreeMap::new();
    let mut for_all = Vec::new();
    for attribute in &media.attributes {
        let Some((format, rest)) = attribute.value.as_deref().and_then(|value| value.split_once(' ')) else {
            continue;
        };
        let payload_type = format.parse::<u8>();
        match (attribute.key.as_str(), payload_type) {
            ("rtpmap", Ok(payload_type)) => formats.entry(payload_type).or_default().name = Some(rest),
            ("fmtp", Ok(payload_type)) => {
                let parameters = rest.split(';').filter_map(|pair| pair.trim().split_once('='));
                let parameters =
                    parameters.map(|(name, value)| (name.trim().to_owned(), parameter(name, value.trim())));
                formats.entry(payload_type).or_default().parameters.extend(parameters);
            }
            ("rtcp-fb", Ok(payload_type)) => {
                formats.entry(payload_type).or_default().feedback.push(feedback(rest));
            }
            ("rtcp-fb", Err(_)) if format == "*" => for_all.push(feedback(rest)),
            _ => {}
        }
    }
    for_all.truncate(ortc::MAX_RTCP_FEEDBACK);
    for format in formats.values_mut() {
        format.feedback.extend(for_all.iter().cloned());
        format.feedback.truncate(ortc::MAX_RTCP_FEEDBACK);
    }
    formats
}

/// Clients of ORTC expect whole numbers as numbers; six digits of a `profile-level-id` are a text all the same.
fn parameter(name: &str, value: &str) -> Value {
    let is_number = name.trim() != "profile-level-id" && (value == "0" || !value.starts_with('0'));
    let number = value.parse::<u32>().ok().filter(|_| is_number);
    number.map_or_else(|| Value::from(value), Value::from)
}

fn feedback(text: &str) -> Value {
    let (kind, parameter) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    json!({ "type": kind, "parameter": parameter })
}

/// A codec in the words of ORTC; none if it has no name or no clock rate, as those without a `rtpmap`.
fn codec(kind: MediaKind, payload_type: u8, format: &Format<'_>) -> Option<Value> {
    let mut parts = format.name?.trim().split('/');
    let (name, clock_rate) = (parts.next()?, parts.next()?.parse::<u32>().ok().filter(|rate| *rate > 0)?);
    let channels = parts.next().and_then(|text| text.parse::<u8>().ok()).filter(|count| *count > 0);
    let kind = match kind {
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
    };
    Some(json!({
        "mimeType": format!("{kind}/{name}"),
        "preferredPayloadType": payload_type,
        "clockRate": clock_rate,
        "channels": channels,
        "parameters": format.parameters,
        "rtcpFeedback": format.feedback,
    }))
}

/// The streams that the offerer sends, from the smallest to the largest.
fn encodings(media: &MediaDescription) -> Result<Vec<RtpEncodingParameters>, SdpError> {
    let simulcast = value(media, "simulcast").and_then(sent_streams);
    if let Some(rids) = simulcast {
        let by_rid = |rid: &str| RtpEncodingParameters { rid: Some(rid.to_owned()), ..Default::default() };
        return Ok(smallest_first(media, rids).into_iter().map(by_rid).collect());
    }
    let groups = |semantics: &'static str| {
        let named = values(media, "ssrc-group").filter_map(move |line| line.strip_prefix(semantics));
        named.map(|line| line.split_ascii_whitespace().filter_map(|text| text.parse::<u32>().ok()))
    };
    let repaired: BTreeMap<u32, u32> =
        groups("FID ").filter_map(|mut pair| Some((pair.next()?, pair.next()?))).collect();
    let encoding = |ssrc: u32| RtpEncodingParameters {
        ssrc: Some(ssrc),
        rtx: repaired.get(&ssrc).map(|ssrc| RtpEncodingParametersRtx { ssrc: *ssrc }),
        ..Default::default()
    };
    if let Some(streams) = groups("SIM ").next() {
        return Ok(streams.take(MAX_ENCODINGS).map(encoding).collect());
    }
    let mut ssrcs = values(media, "ssrc").filter_map(|line| line.split(' ').next()?.parse::<u32>().ok());
    let is_repair = |ssrc: &u32| repaired.values().any(|repair| repair == ssrc);
    let first = ssrcs.find(|ssrc| !is_repair(ssrc));
    Ok(vec![first.map_or_else(RtpEncodingParameters::default, encoding)])
}

/// The streams of `send 1;~2,3 recv 4`: of those that exclude each other the first, none if nothing is sent.
fn sent_streams(simulcast: &str) -> Option<Vec<&str>> {
    let mut words = simulcast.split_ascii_whitespace();
    words.find(|word| *word == "send")?;
    let streams = words.next()?.split(';').filter_map(|stream| stream.split(',').next());
    let mut rids: Vec<&str> = Vec::new();
    for rid in streams.map(|rid| rid.trim_start_matches('~')) {
        if !rid.is_empty() && !rids.contains(&rid) && rids.len() < MAX_ENCODINGS {
            rids.push(rid);
        }
    }
    (!rids.is_empty()).then_some(rids)
}

/// SDP does not say which stream is the largest. What can be known of it: restrictions (RFC 8851), names that are in use,
/// and that the one that comes first is preferred (RFC 8853 section 5.2).
fn smallest_first<'a>(media: &MediaDescription, mut rids: Vec<&'a str>) -> Vec<&'a str> {
    let pixels = |rid: &str| {
        let restrictions =
            values(media, "rid").find_map(|line| line.strip_prefix(rid)?.strip_prefix(" send "))?;
        let number = |name: &str| {
            let mut pairs = restrictions.split([';', ' ']).filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name)?.1.parse::<u64>().ok()
        };
        number("max-width")
            .or_else(|| number("max-height"))
            .or_else(|| number("max-fs"))
            .or_else(|| number("max-br"))
    };
    if let Some(mut sizes) = rids.iter().map(|rid| Some((pixels(rid)?, *rid))).collect::<Option<Vec<_>>>() {
        sizes.sort_by_key(|(size, _)| *size);
        return sizes.into_iter().map(|(_, rid)| rid).collect();
    }
    let place = |names: &[&str], rid: &str| names.iter().position(|name| name.eq_ignore_ascii_case(rid));
    let known = KNOWN_RIDS.iter().find(|names| rids.iter().all(|rid| place(names, rid).is_some()));
    match known {
        Some(names) => rids.sort_by_key(|rid| place(names, rid)),
        None => rids.reverse(),
    }
    rids
}
