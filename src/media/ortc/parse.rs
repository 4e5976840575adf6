//! Parameters and capabilities out of the JSON that clients really send.
//!
//! What mediasoup fills in is filled in here, and what a newer browser may add (header extensions, RTCP feedback,
//! codecs in capabilities) is skipped. What is there and wrong is refused with its path. No list, text or nesting
//! costs more than the named limits allow, and no input panics.

use std::fmt;
use std::num::{NonZeroU8, NonZeroU32};

use mediasoup_types::data_structures::{DtlsFingerprint, DtlsParameters, DtlsRole};
use mediasoup_types::rtp_parameters::{
    MediaKind, MimeType, ParseMimeTypeError, RtcpFeedback, RtcpParameters, RtpCapabilities,
    RtpCodecCapability, RtpCodecParameters, RtpCodecParametersParameters,
    RtpCodecParametersParametersValue as ParameterValue, RtpEncodingParameters, RtpEncodingParametersRtx,
    RtpHeaderExtension, RtpHeaderExtensionDirection as Direction, RtpHeaderExtensionParameters,
    RtpHeaderExtensionUri, RtpParameters,
};
use serde_json::Value;

use super::{
    MAX_CODEC_PARAMETERS, MAX_CODECS, MAX_ENCODINGS, MAX_FINGERPRINTS, MAX_HEADER_EXTENSIONS,
    MAX_RTCP_FEEDBACK, MAX_TEXT_LEN, OrtcError,
};

/// Reads a publisher's `rtpParameters`. Without encodings there is one, identified by the MID.
///
/// # Errors
/// [`OrtcError::Field`] with the path of what is missing or wrong.
pub fn parse_rtp_parameters(value: &Value) -> Result<RtpParameters, OrtcError> {
    let root = Node::root("rtpParameters", value);
    root.object()?;
    let mut encodings =
        root.list("encodings", MAX_ENCODINGS, |encoding| parse_encoding(encoding).map(Some))?;
    if encodings.is_empty() {
        encodings.push(RtpEncodingParameters::default());
    }
    Ok(RtpParameters {
        mid: root.optional("mid", |node| node.text())?,
        codecs: root
            .required("codecs")?
            .items(MAX_CODECS, |codec| parse_codec_parameters(codec).map(Some))?,
        header_extensions: root.list(
            "headerExtensions",
            MAX_HEADER_EXTENSIONS,
            parse_header_extension_parameters,
        )?,
        encodings,
        rtcp: root.optional("rtcp", parse_rtcp)?.unwrap_or_default(),
        msid: root.optional("msid", |node| node.text())?,
    })
}

/// Reads a client's `rtpCapabilities`, without the codecs and header extensions that weir doesn't know.
///
/// # Errors
/// [`OrtcError::Field`] with the path of what is missing or wrong.
pub fn parse_rtp_capabilities(value: &Value) -> Result<RtpCapabilities, OrtcError> {
    let root = Node::root("rtpCapabilities", value);
    root.object()?;
    Ok(RtpCapabilities {
        codecs: root.list("codecs", MAX_CODECS, parse_codec_capability)?,
        header_extensions: root.list("headerExtensions", MAX_HEADER_EXTENSIONS, parse_header_extension)?,
    })
}

/// Reads a client's `dtlsParameters`, without fingerprints of unknown algorithms. Without a role it is `auto`.
///
/// # Errors
/// [`OrtcError::Field`] with the path of what is missing or wrong.
pub fn parse_dtls_parameters(value: &Value) -> Result<DtlsParameters, OrtcError> {
    let root = Node::root("dtlsParameters", value);
    root.object()?;
    let role = root.optional("role", |role| match role.str()? {
        "auto" => Ok(DtlsRole::Auto),
        "client" => Ok(DtlsRole::Client),
        "server" => Ok(DtlsRole::Server),
        _ => Err(role.wrong("expected \"auto\", \"client\" or \"server\"")),
    })?;
    Ok(DtlsParameters {
        role: role.unwrap_or(DtlsRole::Auto),
        fingerprints: root.required("fingerprints")?.items(MAX_FINGERPRINTS, parse_fingerprint)?,
    })
}

/// A JSON value and the way to it, for error texts.
#[derive(Clone, Copy)]
struct Node<'a> {
    parent: Option<&'a Self>,
    key: Key<'a>,
    value: &'a Value,
}

#[derive(Clone, Copy)]
enum Key<'a> {
    Name(&'a str),
    Index(usize),
}

impl fmt::Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match (self.key, self.parent) {
            (Key::Name(name), None) => f.write_str(name),
            (Key::Name(name), Some(_)) => write!(f, ".{name}"),
            (Key::Index(index), _) => write!(f, "[{index}]"),
        }
    }
}

impl<'a> Node<'a> {
    fn root(name: &'a str, value: &'a Value) -> Self {
        Self { parent: None, key: Key::Name(name), value }
    }

    fn wrong(&self, problem: impl Into<String>) -> OrtcError {
        OrtcError::Field { path: self.to_string(), problem: problem.into() }
    }

    /// A member; `null` counts as absent.
    fn get<'b>(&'b self, name: &'b str) -> Option<Node<'b>> {
        let value = self.value.get(name).filter(|value| !value.is_null())?;
        Some(Node { parent: Some(self), key: Key::Name(name), value })
    }

    fn required<'b>(&'b self, name: &'b str) -> Result<Node<'b>, OrtcError> {
        self.get(name)
            .ok_or_else(|| OrtcError::Field { path: format!("{self}.{name}"), problem: "missing".into() })
    }

    fn optional<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&Node<'_>) -> Result<T, OrtcError>,
    ) -> Result<Option<T>, OrtcError> {
        self.get(name).map(|node| parse(&node)).transpose()
    }

    fn object(&self) -> Result<&'a serde_json::Map<String, Value>, OrtcError> {
        self.value.as_object().ok_or_else(|| self.wrong("expected an object"))
    }

    /// The items of this array that `parse` keeps.
    fn items<T>(
        &self,
        max: usize,
        parse: impl Fn(&Node<'_>) -> Result<Option<T>, OrtcError>,
    ) -> Result<Vec<T>, OrtcError> {
        let items = self.value.as_array().ok_or_else(|| self.wrong("expected an array"))?;
        if items.len() > max {
            return Err(self.wrong(format!("{} entries, at most {max} are allowed", items.len())));
        }
        let mut kept = Vec::with_capacity(items.len());
        for (index, value) in items.iter().enumerate() {
            kept.extend(parse(&Node { parent: Some(self), key: Key::Index(index), value })?);
        }
        Ok(kept)
    }

    /// The items of an array that may be absent.
    fn list<T>(
        &self,
        name: &str,
        max: usize,
        parse: impl Fn(&Node<'_>) -> Result<Option<T>, OrtcError>,
    ) -> Result<Vec<T>, OrtcError> {
        Ok(self.optional(name, |node| node.items(max, parse))?.unwrap_or_default())
    }

    fn str(&self) -> Result<&'a str, OrtcError> {
        let text = self.value.as_str().ok_or_else(|| self.wrong("expected a string"))?;
        if text.len() > MAX_TEXT_LEN {
            return Err(self.wrong(format!("longer than {MAX_TEXT_LEN} bytes")));
        }
        Ok(text)
    }

    fn text(&self) -> Result<String, OrtcError> {
        self.str().map(str::to_owned)
    }

    fn bool(&self) -> Result<bool, OrtcError> {
        self.value.as_bool().ok_or_else(|| self.wrong("expected true or false"))
    }

    /// A whole number; JavaScript makes no difference between 96 and 96.0.
    fn integer(&self, min: u64, max: u64) -> Result<u64, OrtcError> {
        whole(self.value)
            .filter(|number| (min..=max).contains(number))
            .ok_or_else(|| self.wrong(format!("expected an integer from {min} to {max}")))
    }

    fn u8(&self, min: u8, max: u8) -> Result<u8, OrtcError> {
        let number = self.integer(min.into(), max.into())?;
        u8::try_from(number).map_err(|_| self.wrong("out of range"))
    }

    fn u32(&self) -> Result<u32, OrtcError> {
        let number = self.integer(0, u32::MAX.into())?;
        u32::try_from(number).map_err(|_| self.wrong("out of range"))
    }
}

/// The largest float below which every whole number is exact.
const MAX_EXACT_FLOAT: f64 = 9_007_199_254_740_992.0;

fn whole(value: &Value) -> Option<u64> {
    if let Some(number) = value.as_u64() {
        return Some(number);
    }
    let number = value.as_f64().filter(|number| number.fract() == 0.0)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and inside u64")]
    (0.0..=MAX_EXACT_FLOAT).contains(&number).then_some(number as u64)
}

/// The MIME type, or `None` if it is well-formed but unknown.
fn parse_mime_type(node: &Node<'_>) -> Result<Option<MimeType>, OrtcError> {
    // The type is matched without regard to case, as the subtype is.
    match node.str()?.to_ascii_lowercase().parse() {
        Ok(mime_type) => Ok(Some(mime_type)),
        Err(ParseMimeTypeError::UnknownMimeType) => Ok(None),
        Err(ParseMimeTypeError::InvalidInput) => {
            Err(node.wrong("expected a MIME type as in \"audio/opus\" or \"video/H264\""))
        }
    }
}

fn parse_clock_rate(codec: &Node<'_>) -> Result<NonZeroU32, OrtcError> {
    let node = codec.required("clockRate")?;
    NonZeroU32::new(node.u32()?).ok_or_else(|| node.wrong("must not be 0"))
}

fn parse_channels(codec: &Node<'_>) -> Result<NonZeroU8, OrtcError> {
    let channels = codec.optional("channels", |node| node.u8(1, u8::MAX))?;
    Ok(channels.and_then(NonZeroU8::new).unwrap_or(NonZeroU8::MIN))
}

fn parse_codec_parameters(node: &Node<'_>) -> Result<RtpCodecParameters, OrtcError> {
    node.object()?;
    let mime_type_node = node.required("mimeType")?;
    let mime_type = parse_mime_type(&mime_type_node)?.ok_or_else(|| mime_type_node.wrong("unknown codec"))?;
    let payload_type = node.required("payloadType")?.u8(0, 127)?;
    let clock_rate = parse_clock_rate(node)?;
    let parameters = parse_format_parameters(node)?;
    let rtcp_feedback = node.list("rtcpFeedback", MAX_RTCP_FEEDBACK, parse_rtcp_feedback)?;
    Ok(match mime_type {
        MimeType::Audio(mime_type) => RtpCodecParameters::Audio {
            mime_type,
            payload_type,
            clock_rate,
            channels: parse_channels(node)?,
            parameters,
            rtcp_feedback,
        },
        MimeType::Video(mime_type) => {
            RtpCodecParameters::Video { mime_type, payload_type, clock_rate, parameters, rtcp_feedback }
        }
    })
}

fn parse_codec_capability(node: &Node<'_>) -> Result<Option<RtpCodecCapability>, OrtcError> {
    node.object()?;
    let Some(mime_type) = parse_mime_type(&node.required("mimeType")?)? else {
        return Ok(None);
    };
    let preferred_payload_type = node.optional("preferredPayloadType", |node| node.u8(0, 127))?;
    let clock_rate = parse_clock_rate(node)?;
    let parameters = parse_format_parameters(node)?;
    let rtcp_feedback = node.list("rtcpFeedback", MAX_RTCP_FEEDBACK, parse_rtcp_feedback)?;
    Ok(Some(match mime_type {
        MimeType::Audio(mime_type) => RtpCodecCapability::Audio {
            mime_type,
            preferred_payload_type,
            clock_rate,
            channels: parse_channels(node)?,
            parameters,
            rtcp_feedback,
        },
        MimeType::Video(mime_type) => RtpCodecCapability::Video {
            mime_type,
            preferred_payload_type,
            clock_rate,
            parameters,
            rtcp_feedback,
        },
    }))
}

fn parse_format_parameters(codec: &Node<'_>) -> Result<RtpCodecParametersParameters, OrtcError> {
    let Some(node) = codec.get("parameters") else {
        return Ok(RtpCodecParametersParameters::default());
    };
    let map = node.object()?;
    if map.len() > MAX_CODEC_PARAMETERS {
        return Err(node.wrong(format!("{} entries, at most {MAX_CODEC_PARAMETERS} are allowed", map.len())));
    }
    let mut parameters = RtpCodecParametersParameters::default();
    for (name, value) in map {
        if name.len() > MAX_TEXT_LEN {
            return Err(node.wrong(format!("a name is longer than {MAX_TEXT_LEN} bytes")));
        }
        let entry = Node { parent: Some(&node), key: Key::Name(name), value };
        parameters.insert(name.clone(), parse_format_parameter(&entry)?);
    }
    Ok(parameters)
}

fn parse_format_parameter(entry: &Node<'_>) -> Result<ParameterValue, OrtcError> {
    match entry.value {
        Value::Null => Ok(ParameterValue::String("".into())),
        Value::String(_) => entry.text().map(ParameterValue::from),
        // What is no small whole number (a fraction, a negative one) stays readable as text.
        Value::Number(number) => Ok(whole(entry.value)
            .and_then(|number| u32::try_from(number).ok())
            .map_or_else(|| ParameterValue::from(number.to_string()), ParameterValue::Number)),
        _ => Err(entry.wrong("expected a string or a number")),
    }
}

fn parse_rtcp_feedback(node: &Node<'_>) -> Result<Option<RtcpFeedback>, OrtcError> {
    node.object()?;
    let kind = node.required("type")?;
    let parameter = node.get("parameter");
    let parameter = parameter.as_ref().map(Node::str).transpose()?.unwrap_or_default();
    Ok(RtcpFeedback::from_type_parameter(kind.str()?, parameter)
        .ok()
        .filter(|feedback| *feedback != RtcpFeedback::Unsupported))
}

fn parse_header_extension_parameters(
    node: &Node<'_>,
) -> Result<Option<RtpHeaderExtensionParameters>, OrtcError> {
    node.object()?;
    let Ok(uri) = node.required("uri")?.str()?.parse::<RtpHeaderExtensionUri>() else {
        return Ok(None);
    };
    Ok(Some(RtpHeaderExtensionParameters {
        uri,
        id: node.required("id")?.u8(1, u8::MAX)?.into(),
        encrypt: node.optional("encrypt", |node| node.bool())?.unwrap_or(false),
    }))
}

fn parse_header_extension(node: &Node<'_>) -> Result<Option<RtpHeaderExtension>, OrtcError> {
    node.object()?;
    let Ok(uri) = node.required("uri")?.str()?.parse::<RtpHeaderExtensionUri>() else {
        return Ok(None);
    };
    let kind_node = node.required("kind")?;
    let kind = match kind_node.str()? {
        "audio" => MediaKind::Audio,
        "video" => MediaKind::Video,
        _ => return Err(kind_node.wrong("expected \"audio\" or \"video\"")),
    };
    let direction = node.optional("direction", |direction| match direction.str()? {
        "sendrecv" => Ok(Direction::SendRecv),
        "sendonly" => Ok(Direction::SendOnly),
        "recvonly" => Ok(Direction::RecvOnly),
        "inactive" => Ok(Direction::Inactive),
        _ => Err(direction.wrong("expected \"sendrecv\", \"sendonly\", \"recvonly\" or \"inactive\"")),
    })?;
    Ok(Some(RtpHeaderExtension {
        kind,
        uri,
        preferred_id: node.required("preferredId")?.u8(1, u8::MAX)?.into(),
        preferred_encrypt: node.optional("preferredEncrypt", |node| node.bool())?.unwrap_or(false),
        direction: direction.unwrap_or_default(),
    }))
}

/// The largest bitrate that is taken at its word: 2^53 bits per second, the largest whole number of JavaScript.
const MAX_BITRATE: u64 = 1 << 53;

fn parse_encoding(node: &Node<'_>) -> Result<RtpEncodingParameters, OrtcError> {
    node.object()?;
    let rtx = node.optional("rtx", |rtx| {
        rtx.object()?;
        Ok(RtpEncodingParametersRtx { ssrc: rtx.required("ssrc")?.u32()? })
    })?;
    // A mode that nobody knows means a stream without layers, as it does for mediasoup.
    let scalability_mode = node
        .optional("scalabilityMode", |mode| Ok(mode.str()?.parse().unwrap_or_default()))?
        .unwrap_or_default();
    Ok(RtpEncodingParameters {
        ssrc: node.optional("ssrc", |node| node.u32())?,
        rid: node.optional("rid", |node| node.text())?,
        codec_payload_type: node.optional("codecPayloadType", |node| node.u8(0, 127))?,
        rtx,
        dtx: node.optional("dtx", |node| node.bool())?,
        scalability_mode,
        max_bitrate: node.optional("maxBitrate", |node| node.integer(0, MAX_BITRATE))?,
    })
}

fn parse_rtcp(node: &Node<'_>) -> Result<RtcpParameters, OrtcError> {
    node.object()?;
    Ok(RtcpParameters {
        cname: node.optional("cname", |node| node.text())?,
        reduced_size: node.optional("reducedSize", |node| node.bool())?.unwrap_or(true),
    })
}

fn parse_fingerprint(node: &Node<'_>) -> Result<Option<DtlsFingerprint>, OrtcError> {
    node.object()?;
    let algorithm = node.required("algorithm")?.str()?.to_ascii_lowercase();
    let value = node.required("value")?;
    Ok(Some(match algorithm.as_str() {
        "sha-1" => DtlsFingerprint::Sha1 { value: parse_digest(&value)? },
        "sha-224" => DtlsFingerprint::Sha224 { value: parse_digest(&value)? },
        "sha-256" => DtlsFingerprint::Sha256 { value: parse_digest(&value)? },
        "sha-384" => DtlsFingerprint::Sha384 { value: parse_digest(&value)? },
        "sha-512" => DtlsFingerprint::Sha512 { value: parse_digest(&value)? },
        _ => return Ok(None),
    }))
}

/// Pairs of hexadecimal digits with colons between them (RFC 8122 section 5).
fn parse_digest<const LEN: usize>(node: &Node<'_>) -> Result<[u8; LEN], OrtcError> {
    let pair = |text: &str| match text.as_bytes() {
        [high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            u8::from_str_radix(text, 16).ok()
        }
        _ => None,
    };
    let bytes: Option<Vec<u8>> = node.str()?.split(':').map(pair).collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| node.wrong(format!("expected {LEN} pairs of hexadecimal digits separated by colons")))
}
