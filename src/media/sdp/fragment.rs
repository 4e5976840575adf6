//! SDP fragments: ICE credentials and candidates by themselves (RFC 8840 section 9).

use mediasoup_types::data_structures::{IceCandidate, IceParameters};

use super::answer::candidate;
use super::{Credentials, MAX_BYTES, MAX_LINES, SdpError};

/// What a client tells of its ICE agent after the offer.
///
/// Its candidates are not kept: weir is ICE-lite, so it checks none and answers wherever a check comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// The credentials of the ICE session that it belongs to.
    pub ice: Credentials,
}

impl Fragment {
    /// Reads a fragment. Lines that have no business with ICE are left aside; some clients write `m` lines that are none.
    ///
    /// # Errors
    /// It is too long, holds something that is no line of SDP, or has no credentials.
    pub fn parse(text: &str) -> Result<Self, SdpError> {
        if text.len() > MAX_BYTES || text.lines().count() > MAX_LINES {
            return Err(SdpError::TooLong);
        }
        let (mut ufrag, mut password) = (None, None);
        for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
            let is_line = line.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
            let Some((_, value)) = line.split_once('=').filter(|(name, _)| is_line && name.len() == 1) else {
                return Err(SdpError::Syntax("a line is not of the form x=value".to_owned()));
            };
            ufrag = ufrag.or_else(|| value.strip_prefix("ice-ufrag:"));
            password = password.or_else(|| value.strip_prefix("ice-pwd:"));
        }
        Ok(Self { ice: Credentials::new(ufrag, password)? })
    }

    /// Writes what a client is told of an ICE agent that was restarted.
    #[must_use]
    pub fn write(ice: &IceParameters, candidates: &[IceCandidate]) -> String {
        let candidates: String =
            candidates.iter().map(|one| format!("a=candidate:{}\r\n", candidate(one))).collect();
        let IceParameters { username_fragment, password, .. } = ice;
        format!(
            "a=ice-lite\r\na=ice-ufrag:{username_fragment}\r\na=ice-pwd:{password}\r\n{candidates}\
             a=end-of-candidates\r\n"
        )
    }
}
