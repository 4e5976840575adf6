//! Writing an answer (RFC 9429 section 5.3.1): one transport, the same sections in the same order.
//!
//! What of the offer is repeated (names, format parameters) goes back to the one who wrote it; everything else is weir's.

use mediasoup_types::data_structures::{
    DtlsFingerprint, DtlsRole, IceCandidate, IceCandidateTcpType, Protocol,
};
use mediasoup_types::rtp_parameters::{
    MediaKind, RtpCodecParameters, RtpCodecParametersParametersValue as ParameterValue, RtpParameters,
};
use rtc_sdp::description::common::{Address, Attribute, ConnectionInformation};
use rtc_sdp::description::media::{MediaDescription, MediaName, RangedPort};
use rtc_sdp::description::session::SessionDescription;

use super::{Local, Offer, Section};

/// What is made of one section of an offer.
#[derive(Debug, Clone, Copy)]
pub enum Accepted<'a> {
    /// Weir receives it with these parameters.
    Receive(&'a RtpParameters),
    /// Weir sends it with these parameters.
    Send(&'a RtpParameters),
    /// There is nothing to send in it.
    Nothing,
}

/// The answer to `offer`: `accepted` says what is made of each of its sections, in their order. `session` tells it from
/// other answers.
#[must_use]
pub fn answer(offer: &Offer, accepted: &[Accepted<'_>], local: Local<'_>, session: u64) -> String {
    let mut description = SessionDescription::new_jsep_session_description(false);
    description.origin.session_id = session >> 1;
    description.origin.session_version = 1;
    let names: Vec<&str> = offer.sections.iter().map(|section| section.mid.as_str()).collect();
    description.attributes = vec![
        pair("group", format!("BUNDLE {}", names.join(" "))),
        flag("ice-lite"),
        flag("extmap-allow-mixed"),
        pair("msid-semantic", "WMS *"),
    ];
    for (index, (section, accepted)) in offer.sections.iter().zip(accepted).enumerate() {
        let mut media = section_answer(section, *accepted);
        media.attributes.extend(transport(offer, local, index == 0));
        description.media_descriptions.push(media);
    }
    description.marshal()
}

fn flag(key: &str) -> Attribute {
    Attribute::new(key.to_owned(), None)
}

fn pair(key: &str, value: impl Into<String>) -> Attribute {
    Attribute::new(key.to_owned(), Some(value.into()))
}

/// The transport's lines, which all sections share; the first one has the candidates.
fn transport(offer: &Offer, local: Local<'_>, with_candidates: bool) -> Vec<Attribute> {
    let setup = match offer.dtls.role {
        DtlsRole::Server => "active",
        DtlsRole::Client | DtlsRole::Auto => "passive",
    };
    let mut lines = vec![
        pair("ice-ufrag", local.ice.username_fragment.as_str()),
        pair("ice-pwd", local.ice.password.as_str()),
    ];
    lines.extend(local.dtls.fingerprints.iter().map(|fingerprint| pair("fingerprint", written(fingerprint))));
    lines.push(pair("setup", setup));
    if with_candidates {
        lines.extend(local.candidates.iter().map(|one| pair("candidate", candidate(one))));
        lines.push(flag("end-of-candidates"));
    }
    lines
}

fn written(fingerprint: &DtlsFingerprint) -> String {
    let algorithm = match fingerprint {
        DtlsFingerprint::Sha1 { .. } => "sha-1",
        DtlsFingerprint::Sha224 { .. } => "sha-224",
        DtlsFingerprint::Sha256 { .. } => "sha-256",
        DtlsFingerprint::Sha384 { .. } => "sha-384",
        DtlsFingerprint::Sha512 { .. } => "sha-512",
    };
    format!("{algorithm} {}", fingerprint.value_string())
}

/// A candidate as its attribute's value (RFC 8839 section 5.1, RFC 6544 section 4.5).
pub(super) fn candidate(one: &IceCandidate) -> String {
    let IceCandidate { foundation, priority, address, port, .. } = one;
    let protocol = match one.protocol {
        Protocol::Udp => "udp",
        Protocol::Tcp => "tcp",
    };
    let tcp_type = match one.tcp_type {
        Some(IceCandidateTcpType::Passive) => " tcptype passive",
        None => "",
    };
    format!("{foundation} 1 {protocol} {priority} {address} {port} typ host{tcp_type}")
}

fn section_answer(section: &Section, accepted: Accepted<'_>) -> MediaDescription {
    let (direction, parameters) = match accepted {
        Accepted::Receive(parameters) => ("recvonly", Some(parameters)),
        Accepted::Send(parameters) => ("sendonly", Some(parameters)),
        Accepted::Nothing => ("inactive", None),
    };
    let mut media = MediaDescription { media_name: name(section, parameters), ..MediaDescription::default() };
    media.connection_information = Some(ConnectionInformation {
        network_type: "IN".to_owned(),
        address_type: "IP4".to_owned(),
        address: Some(Address { address: "0.0.0.0".to_owned(), ttl: None, range: None }),
    });
    let lines = &mut media.attributes;
    lines.extend([pair("mid", section.mid.as_str()), flag(direction), flag("rtcp-mux"), flag("rtcp-rsize")]);
    let Some(parameters) = parameters else { return media };
    let extensions = parameters.header_extensions.iter();
    lines.extend(extensions.map(|one| pair("extmap", format!("{} {}", one.id, one.uri.as_str()))));
    parameters.codecs.iter().for_each(|codec| describe(lines, codec));
    match accepted {
        Accepted::Send(parameters) => describe_sender(lines, parameters),
        Accepted::Receive(parameters) => describe_simulcast(lines, parameters),
        Accepted::Nothing => {}
    }
    media
}

/// The `m` line. A section that nothing is made of keeps the formats of the offer: it has to name some.
fn name(section: &Section, parameters: Option<&RtpParameters>) -> MediaName {
    let offered = section.capabilities.codecs.iter().filter_map(|codec| codec.preferred_payload_type());
    let mut formats: Vec<String> = match parameters {
        Some(parameters) => parameters.codecs.iter().map(|codec| codec.payload_type().to_string()).collect(),
        None => offered.map(|payload_type| payload_type.to_string()).collect(),
    };
    if formats.is_empty() {
        formats.push("0".to_owned());
    }
    let kind = match section.kind {
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
    };
    MediaName {
        media: kind.to_owned(),
        port: RangedPort { value: 9, range: None },
        protos: ["UDP", "TLS", "RTP", "SAVPF"].map(str::to_owned).to_vec(),
        formats,
    }
}

fn describe(lines: &mut Vec<Attribute>, codec: &RtpCodecParameters) {
    let payload_type = codec.payload_type();
    let name = codec.mime_type().as_str();
    let name = name.split_once('/').map_or(name, |(_, subtype)| subtype);
    let channels = match codec {
        RtpCodecParameters::Audio { channels, .. } if channels.get() > 1 => format!("/{channels}"),
        _ => String::new(),
    };
    lines.push(pair("rtpmap", format!("{payload_type} {name}/{}{channels}", codec.clock_rate())));
    let parameters: Vec<String> = codec
        .parameters()
        .iter()
        .map(|(name, value)| match value {
            ParameterValue::String(text) => format!("{name}={text}"),
            ParameterValue::Number(number) => format!("{name}={number}"),
        })
        .collect();
    if !parameters.is_empty() {
        lines.push(pair("fmtp", format!("{payload_type} {}", parameters.join(";"))));
    }
    for feedback in codec.rtcp_feedback() {
        let (kind, parameter) = feedback.as_type_parameter();
        let text = format!("{payload_type} {kind} {parameter}");
        lines.push(pair("rtcp-fb", text.trim_end()));
    }
}

/// The streams that are sent: their SSRCs, for clients that go by these.
fn describe_sender(lines: &mut Vec<Attribute>, parameters: &RtpParameters) {
    let cname = parameters.rtcp.cname.as_deref().unwrap_or("weir");
    if let Some(msid) = &parameters.msid {
        lines.push(pair("msid", msid.as_str()));
    }
    for encoding in &parameters.encodings {
        let rtx = encoding.rtx.map(|rtx| rtx.ssrc);
        if let (Some(ssrc), Some(rtx)) = (encoding.ssrc, rtx) {
            lines.push(pair("ssrc-group", format!("FID {ssrc} {rtx}")));
        }
        let ssrcs = encoding.ssrc.into_iter().chain(rtx);
        lines.extend(ssrcs.map(|ssrc| pair("ssrc", format!("{ssrc} cname:{cname}"))));
    }
}

/// The simulcast streams that are taken, the best one first as in offers (RFC 8853 section 5.3).
fn describe_simulcast(lines: &mut Vec<Attribute>, parameters: &RtpParameters) {
    let rids: Vec<&str> = parameters.encodings.iter().rev().filter_map(|one| one.rid.as_deref()).collect();
    if rids.is_empty() {
        return;
    }
    lines.extend(rids.iter().map(|rid| pair("rid", format!("{rid} recv"))));
    lines.push(pair("simulcast", format!("recv {}", rids.join(";"))));
}
