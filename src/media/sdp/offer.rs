//! Reading an offer: what holds for the whole of it, and its transport.

use std::io::Cursor;

use mediasoup_types::data_structures::DtlsParameters;
use rtc_sdp::description::media::MediaDescription;
use rtc_sdp::description::session::SessionDescription;
use serde_json::json;

use super::{Credentials, MAX_BYTES, MAX_LINES, MAX_SECTIONS, Offer, SdpError, Section};
use crate::media::ortc;

/// Lengths of a username fragment and of a password, in characters (RFC 8839 section 5.4).
const UFRAG_LEN: std::ops::RangeInclusive<usize> = 4..=256;
const PASSWORD_LEN: std::ops::RangeInclusive<usize> = 22..=256;

impl Offer {
    /// Reads an offer whose media is all on one transport.
    ///
    /// # Errors
    /// No SDP, or nothing that WebRTC on one transport could be made of.
    pub fn parse(text: &str) -> Result<Self, SdpError> {
        if text.len() > MAX_BYTES || text.lines().count() > MAX_LINES {
            return Err(SdpError::TooLong);
        }
        if text.split('\n').any(|line| line.strip_suffix('\r').unwrap_or(line).contains(char::is_control)) {
            return Err(SdpError::Syntax("control characters".to_owned()));
        }
        let description = SessionDescription::unmarshal(&mut Cursor::new(text.as_bytes()))
            .map_err(|error| SdpError::Syntax(error.to_string()))?;
        let media = &description.media_descriptions;
        if media.len() > MAX_SECTIONS {
            return Err(SdpError::TooLong);
        }
        let first = media.first().ok_or(SdpError::Missing("there is no media section"))?;
        let (ice, dtls) = transport(&description, first)?;
        let sections = media.iter().map(Section::parse).collect::<Result<Vec<_>, _>>()?;
        if sections.len() > 1 && !are_bundled(&description, &sections) {
            return Err(SdpError::Unsupported("all media sections have to be in one BUNDLE group"));
        }
        Ok(Self { ice, dtls, sections })
    }
}

/// Whether one group holds all sections (RFC 9143 section 7.2), each under its own name.
fn are_bundled(description: &SessionDescription, sections: &[Section]) -> bool {
    let groups = description.attributes.iter().filter(|attribute| attribute.key == "group");
    let bundle = groups.filter_map(|group| group.value.as_deref()?.strip_prefix("BUNDLE")).next();
    let Some(bundle) = bundle else { return false };
    let names: Vec<&str> = bundle.split_ascii_whitespace().take(MAX_SECTIONS).collect();
    sections.iter().enumerate().all(|(index, section)| {
        let is_again = sections.iter().skip(index + 1).any(|other| other.mid == section.mid);
        names.contains(&section.mid.as_str()) && !is_again
    })
}

/// The transport of a bundle is that of its first section; what is not said there is said for the whole session.
fn transport(
    description: &SessionDescription,
    first: &MediaDescription,
) -> Result<(Credentials, DtlsParameters), SdpError> {
    let values = |key: &'static str| {
        let own = first.attributes.iter().filter(move |attribute| attribute.key == key);
        let common = description.attributes.iter().filter(move |attribute| attribute.key == key);
        own.chain(common).filter_map(|attribute| attribute.value.as_deref())
    };
    let ice = Credentials::new(values("ice-ufrag").next(), values("ice-pwd").next())?;
    // RFC 5763 section 5; who says nothing is ready for both.
    let role = match values("setup").next() {
        None | Some("actpass" | "active") => "client",
        Some("passive") => "server",
        Some(_) => return Err(SdpError::Unsupported("setup has to be actpass, active or passive")),
    };
    let fingerprints: Vec<_> = values("fingerprint")
        .filter_map(|value| value.split_once(' '))
        .map(|(algorithm, value)| json!({ "algorithm": algorithm, "value": value.trim() }))
        .collect();
    if fingerprints.is_empty() {
        return Err(SdpError::Missing("there is no fingerprint"));
    }
    let dtls = ortc::parse_dtls_parameters(&json!({ "role": role, "fingerprints": fingerprints }))?;
    Ok((ice, dtls))
}

impl Credentials {
    /// Checks a username fragment and its password.
    pub(super) fn new(ufrag: Option<&str>, password: Option<&str>) -> Result<Self, SdpError> {
        let is_ice = |text: &&str| {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_'))
        };
        let ufrag = ufrag.filter(|text| UFRAG_LEN.contains(&text.len())).filter(is_ice);
        let password = password.filter(|text| PASSWORD_LEN.contains(&text.len())).filter(is_ice);
        let (Some(ufrag), Some(password)) = (ufrag, password) else {
            return Err(SdpError::Missing("ice-ufrag and ice-pwd are missing or malformed"));
        };
        Ok(Self { ufrag: ufrag.to_owned(), password: password.to_owned() })
    }
}
