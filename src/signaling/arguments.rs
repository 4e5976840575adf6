//! What comes with an event, read and checked as far as that goes without the room: the same for all dialects.

use mediasoup_types::data_structures::DtlsParameters;
use mediasoup_types::rtp_parameters::{RtpCapabilities, RtpParameters};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::refusal::{Code, Refusal, shorten};
use crate::live;
use crate::media::ortc;

/// The first argument of an event. `text` is its JSON: an array of the name and the arguments, of which the first one
/// counts.
pub(super) fn first(text: &str) -> Result<Value, Refusal> {
    let arguments: Vec<Value> =
        serde_json::from_str(text).map_err(|error| Refusal::bad(&format!("no JSON: {error}")))?;
    Ok(arguments.into_iter().nth(1).unwrap_or(Value::Null))
}

/// Reads an object.
pub(super) fn read<T: DeserializeOwned>(argument: Value) -> Result<T, Refusal> {
    if !argument.is_object() {
        return Err(Refusal::bad(&"the argument is not an object"));
    }
    serde_json::from_value(argument).map_err(|error| Refusal::bad(&error))
}

/// An id that can't be one of ours gets the same answer as one that is not there.
pub(super) fn id<T: std::str::FromStr>(what: &str, given: &str) -> Result<T, Refusal> {
    given.parse().map_err(|_| Refusal::new(Code::NotFound, &format!("{what} {} not found", shorten(given))))
}

/// `dtlsParameters`.
pub(super) fn dtls_parameters(given: &Value) -> Result<DtlsParameters, Refusal> {
    ortc::parse_dtls_parameters(given).map_err(|error| Refusal::bad(&error))
}

/// `rtpParameters`.
pub(super) fn rtp_parameters(given: &Value) -> Result<RtpParameters, Refusal> {
    ortc::parse_rtp_parameters(given).map_err(|error| Refusal::bad(&error))
}

/// `rtpCapabilities`.
pub(super) fn rtp_capabilities(given: &Value) -> Result<RtpCapabilities, Refusal> {
    ortc::parse_rtp_capabilities(given).map_err(|error| Refusal::bad(&error))
}

/// `appData`: an object of bounded size, or nothing.
pub(super) fn app_data(given: Value) -> Result<Value, Refusal> {
    let app_data = match given {
        Value::Null => json!({}),
        Value::Object(_) => given,
        _ => return Err(Refusal::bad(&"appData: not an object")),
    };
    live::check_app_data(&app_data)?;
    Ok(app_data)
}
