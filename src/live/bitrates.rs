//! How much a peer's transports may carry: what the peer wants of it, within what the settings allow.

use super::Config;
use super::error::SetBitrateError;
use super::room::{Room, not_yours};
use crate::ids::{Bitrate, PeerId, TransportId};
use crate::sfu::bandwidth::outgoing::{MAX_INITIAL, MINIMUM};

/// One bound of a transport's bit rate, in mediasoup's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// What the peer is asked to send at most.
    MaxIncoming,
    /// What its path is thought to take at most.
    MaxOutgoing,
    /// What its path is thought to take at least, whatever it reports.
    MinOutgoing,
}

/// What the settings say for all transports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bitrates {
    pub(super) initial_outgoing: Bitrate,
    max_incoming: Option<Bitrate>,
    max_outgoing: Option<Bitrate>,
}

impl From<&Config> for Bitrates {
    fn from(config: &Config) -> Self {
        let limit = |setting: u64| (setting > 0).then_some(Bitrate(setting));
        Self {
            initial_outgoing: Bitrate(config.initial_available_outgoing_bitrate),
            max_incoming: limit(config.max_incoming_bitrate),
            max_outgoing: limit(config.max_outgoing_bitrate),
        }
    }
}

impl Bitrates {
    /// What becomes of a peer's wish; without one, of none.
    fn granted(&self, bound: Bound, wanted: Option<Bitrate>) -> Option<Bitrate> {
        let at_most = |limit: Option<Bitrate>| limit.into_iter().chain(wanted).min();
        match bound {
            Bound::MaxIncoming => at_most(self.max_incoming),
            Bound::MaxOutgoing => at_most(self.max_outgoing),
            // As much as a path may be thought to take that nothing is known of.
            Bound::MinOutgoing => wanted.map(|wanted| wanted.min(MAX_INITIAL)),
        }
    }

    /// The bounds that hold for transports of peers that want nothing.
    pub(super) fn own(&self) -> impl Iterator<Item = Bound> {
        let (incoming, outgoing) = (self.max_incoming.is_some(), self.max_outgoing.is_some());
        [(incoming, Bound::MaxIncoming), (outgoing, Bound::MaxOutgoing)]
            .into_iter()
            .filter_map(|(is_set, bound)| is_set.then_some(bound))
    }
}

/// Checks the settings of bit rates.
pub(super) fn validate(config: &Config) -> Result<(), (&'static str, String)> {
    let initial = Bitrate(config.initial_available_outgoing_bitrate);
    if !(MINIMUM..=MAX_INITIAL).contains(&initial) {
        let reason = format!("not in the range {} to {}", MINIMUM.0, MAX_INITIAL.0);
        return Err(("live.initial_available_outgoing_bitrate", reason));
    }
    for (setting, value) in [
        ("live.max_incoming_bitrate", config.max_incoming_bitrate),
        ("live.max_outgoing_bitrate", config.max_outgoing_bitrate),
    ] {
        if (1..MINIMUM.0).contains(&value) {
            return Err((setting, format!("neither 0 nor at least {}", MINIMUM.0)));
        }
    }
    Ok(())
}

impl Room {
    /// Sets a bound of one of the peer's transports, as far as the settings allow it, or takes it away.
    ///
    /// # Errors
    /// Not the peer's transport, or bounds that make no sense.
    pub async fn set_bitrate(
        &self,
        peer: &PeerId,
        transport: TransportId,
        bound: Bound,
        wanted: Option<Bitrate>,
    ) -> Result<(), SetBitrateError> {
        if !self.registry().owns_transport(peer, transport) {
            return Err(not_yours("transport", transport).into());
        }
        let (router, granted) = (&self.inner.router, self.inner.bitrates.granted(bound, wanted));
        match bound {
            Bound::MaxIncoming => router.set_max_incoming_bitrate(transport, granted).await?,
            Bound::MaxOutgoing => router.set_max_outgoing_bitrate(transport, granted).await?,
            Bound::MinOutgoing => router.set_min_outgoing_bitrate(transport, granted).await?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_gets_what_it_wants_within_the_settings() {
        let config = Config { max_incoming_bitrate: 1_000_000, max_outgoing_bitrate: 0, ..Config::default() };
        let bitrates = Bitrates::from(&config);
        let granted =
            |bound, wanted: Option<u64>| bitrates.granted(bound, wanted.map(Bitrate)).map(|rate| rate.0);
        assert_eq!(granted(Bound::MaxIncoming, None), Some(1_000_000));
        assert_eq!(granted(Bound::MaxIncoming, Some(300_000)), Some(300_000));
        assert_eq!(granted(Bound::MaxIncoming, Some(5_000_000)), Some(1_000_000));
        assert_eq!(granted(Bound::MaxOutgoing, None), None);
        assert_eq!(granted(Bound::MaxOutgoing, Some(300_000)), Some(300_000));
        assert_eq!(granted(Bound::MinOutgoing, Some(u64::MAX)), Some(MAX_INITIAL.0));
        assert_eq!(bitrates.own().collect::<Vec<_>>(), [Bound::MaxIncoming]);
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let fine = Config::default();
        assert_eq!(validate(&fine), Ok(()));
        let wrong = [
            Config { initial_available_outgoing_bitrate: 0, ..fine.clone() },
            Config { initial_available_outgoing_bitrate: MAX_INITIAL.0 + 1, ..fine.clone() },
            Config { max_incoming_bitrate: 1, ..fine.clone() },
            Config { max_outgoing_bitrate: MINIMUM.0 - 1, ..fine },
        ];
        assert!(wrong.iter().all(|config| validate(config).is_err()));
    }
}
