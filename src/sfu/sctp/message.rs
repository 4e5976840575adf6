//! Messages of data channels, and how SCTP tells texts from bytes (RFC 8831 section 8).

use bytes::Bytes;

use super::MAX_MESSAGE_LEN;

const STRING: u32 = 51;
const BINARY: u32 = 53;
const EMPTY_STRING: u32 = 56;
const EMPTY_BINARY: u32 = 57;

/// A message of a data channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataMessage {
    /// Text. Whether it is UTF-8 is between its sender and its receivers.
    String(Bytes),
    /// Bytes.
    Binary(Bytes),
}

impl DataMessage {
    /// The message's bytes.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        match self {
            Self::String(payload) | Self::Binary(payload) => payload,
        }
    }

    /// Reads what came with a payload protocol identifier. DCEP (50) is none: what it would say is signalled.
    pub(super) fn from_sctp(ppid: u32, payload: Vec<u8>) -> Option<Self> {
        if payload.len() > MAX_MESSAGE_LEN {
            return None;
        }
        match ppid {
            STRING => Some(Self::String(payload.into())),
            BINARY => Some(Self::Binary(payload.into())),
            EMPTY_STRING => Some(Self::String(Bytes::new())),
            EMPTY_BINARY => Some(Self::Binary(Bytes::new())),
            _ => None,
        }
    }

    /// How long the payload of [`Self::to_sctp`] is.
    pub(super) fn sctp_len(&self) -> usize {
        self.payload().len().max(1)
    }

    /// The payload protocol identifier and the payload; SCTP has no empty messages, so one byte stands for them.
    pub(super) fn to_sctp(&self) -> (u32, Vec<u8>) {
        match self {
            Self::String(payload) if payload.is_empty() => (EMPTY_STRING, vec![0]),
            Self::Binary(payload) if payload.is_empty() => (EMPTY_BINARY, vec![0]),
            Self::String(payload) => (STRING, payload.to_vec()),
            Self::Binary(payload) => (BINARY, payload.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_way_through_sctp() {
        for message in [
            DataMessage::String(Bytes::from_static("grüße".as_bytes())),
            DataMessage::Binary(Bytes::from_static(&[0, 255])),
            DataMessage::String(Bytes::new()),
            DataMessage::Binary(Bytes::new()),
        ] {
            let (ppid, payload) = message.to_sctp();
            assert!(!payload.is_empty() && payload.len() == message.sctp_len());
            assert_eq!(DataMessage::from_sctp(ppid, payload), Some(message));
        }
    }

    #[test]
    fn dcep_and_what_is_too_long_are_no_messages() {
        assert_eq!(DataMessage::from_sctp(50, vec![3, 0, 0, 0]), None);
        assert_eq!(DataMessage::from_sctp(53, vec![0; MAX_MESSAGE_LEN + 1]), None);
        assert!(DataMessage::from_sctp(53, vec![0; MAX_MESSAGE_LEN]).is_some());
    }
}
