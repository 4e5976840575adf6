//! Which layers a viewer should get: the choice of its client and the allocator's limit, against what arrives.
//!
//! The rules are mediasoup's: the preferred spatial layer if it arrives, else the best one below it, else the
//! smallest one above it. Everything here is decided from values; [`crate::sfu::rewrite`] carries it out.

use smallvec::SmallVec;

use crate::media::codec::{Layers, MAX_SPATIAL_LAYERS, MAX_TEMPORAL_LAYERS};
use crate::sfu::rewrite::Target;

/// What a producer sends at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Whether the spatial layers are streams of their own (simulcast) or inside one stream.
    pub is_simulcast: bool,
    /// Whether the spatial layers inside the stream stand alone between key frames (K-SVC, S modes): a viewer gets its own
    /// only.
    pub is_k_svc: bool,
    /// How many spatial layers there are.
    pub spatial_layers: u8,
    /// How many temporal layers there are.
    pub temporal_layers: u8,
    /// The spatial layers that are arriving, one bit for each.
    pub arriving: u8,
}

impl Offer {
    /// Whether a spatial layer is arriving.
    #[must_use]
    pub fn arrives(&self, spatial: u8) -> bool {
        spatial < MAX_SPATIAL_LAYERS && self.arriving & 1 << spatial != 0
    }

    /// Whether anything arrives on one of the producer's streams.
    #[must_use]
    pub fn arrives_on(&self, stream: usize) -> bool {
        if self.is_simulcast {
            u8::try_from(stream).is_ok_and(|stream| self.arrives(stream))
        } else {
            self.arriving != 0
        }
    }

    /// The highest layers there are.
    #[must_use]
    pub fn highest(&self) -> Layers {
        Layers {
            spatial: self.spatial_layers.saturating_sub(1),
            temporal: self.temporal_layers.saturating_sub(1),
        }
    }

    fn clamp(&self, layers: Layers) -> Layers {
        let highest = self.highest();
        Layers {
            spatial: layers.spatial.min(highest.spatial),
            temporal: layers.temporal.min(highest.temporal),
        }
    }

    /// What the rewriter has to pass on for a viewer of these layers. The highest ones stand for all that may come,
    /// but for layers that stand alone: there is no viewer of a layer above the highest.
    #[must_use]
    pub fn target(&self, layers: Layers) -> Target {
        let highest = self.highest();
        let temporal =
            if layers.temporal >= highest.temporal { Layers::ALL.temporal } else { layers.temporal };
        if self.is_simulcast {
            let inside = Layers { spatial: Layers::ALL.spatial, temporal };
            return Target { stream: usize::from(layers.spatial), layers: inside };
        }
        let is_open = !self.is_k_svc && layers.spatial >= highest.spatial;
        let spatial = if is_open { Layers::ALL.spatial } else { layers.spatial.min(highest.spatial) };
        Target { stream: 0, layers: Layers { spatial, temporal } }
    }

    /// The layers that a viewer gets with a rewriter's target: the inverse of [`Self::target`].
    #[must_use]
    pub fn layers(&self, target: Target) -> Layers {
        let spatial = if self.is_simulcast { target.stream as u8 } else { target.layers.spatial };
        self.clamp(Layers { spatial, temporal: target.layers.temporal })
    }
}

/// How a consumer is made, in mediasoup's words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumeOptions {
    /// Whether it starts paused.
    pub paused: bool,
    /// The layers that the client wants at most; all, unless it says so.
    pub preferred_layers: Option<Layers>,
    /// Whether lost packets are sent again: for video unless it is refused, for audio if it is asked for.
    pub enable_rtx: Option<bool>,
    /// Whether Opus packets that only say that nobody speaks (DTX) are left out.
    pub ignore_dtx: bool,
    /// The MID of the client's own media section, for a client that named its numbers first (in an SDP offer): payload
    /// types and header extension ids are then those of its capabilities. Without it, they are the router's.
    pub offered_mid: Option<String>,
}

/// A consumer that starts paused or not.
impl From<bool> for ConsumeOptions {
    fn from(paused: bool) -> Self {
        Self { paused, ..Self::default() }
    }
}

impl ConsumeOptions {
    /// What that means for the choice of layers. Packets without sound are a layer above the others.
    #[must_use]
    pub fn choice(&self) -> Choice {
        let without_dtx = Layers { temporal: 0, ..Layers::ALL };
        let all = if self.ignore_dtx { without_dtx } else { Layers::ALL };
        Choice { preferred: self.preferred_layers.unwrap_or(all), ..Choice::default() }
    }
}

/// What a transport's bandwidth leaves to a consumer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Allocation {
    /// Nobody limits it.
    #[default]
    Unlimited,
    /// These layers, or lower ones if the client prefers that.
    UpTo(Layers),
    /// Not even the lowest layers fit: nothing is sent.
    Nothing,
}

/// What a consumer should get.
#[derive(Debug, Clone, Copy)]
pub struct Choice {
    /// What the client prefers; all it can get unless it says something else.
    pub preferred: Layers,
    /// What the bandwidth allocator leaves to it.
    pub allocation: Allocation,
}

impl Default for Choice {
    fn default() -> Self {
        Self { preferred: Layers::ALL, allocation: Allocation::Unlimited }
    }
}

impl Choice {
    /// What the client prefers of what there is.
    #[must_use]
    pub fn preferred(&self, offer: &Offer) -> Layers {
        offer.clamp(self.preferred)
    }

    /// The layers that the consumer should get now, or none: nothing arrives or nothing fits.
    #[must_use]
    pub fn target(&self, offer: &Offer) -> Option<Layers> {
        let preferred = self.preferred(offer);
        let wanted = match self.allocation {
            Allocation::Unlimited => preferred,
            Allocation::UpTo(limit) => preferred.min(offer.clamp(limit)),
            Allocation::Nothing => return None,
        };
        let below = (0..=wanted.spatial).rev().find(|spatial| offer.arrives(*spatial));
        let spatial = below
            .or_else(|| (wanted.spatial + 1..offer.spatial_layers).find(|spatial| offer.arrives(*spatial)))?;
        let temporal = match spatial.cmp(&wanted.spatial) {
            std::cmp::Ordering::Equal => wanted.temporal,
            std::cmp::Ordering::Less => offer.highest().temporal,
            std::cmp::Ordering::Greater => 0,
        };
        Some(Layers { spatial, temporal })
    }
}

/// One step of a ladder: layers and the bits per second that they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerBitrate {
    /// The layers.
    pub layers: Layers,
    /// Bits per second that a viewer of them gets: for simulcast this stream alone, for SVC the lower layers too.
    pub bitrate: u64,
}

/// The steps that a consumer can be on, from the cheapest layers to the best.
pub type Ladder = SmallVec<[LayerBitrate; MAX_SPATIAL_LAYERS as usize * MAX_TEMPORAL_LAYERS as usize]>;

#[cfg(test)]
mod tests {
    use super::*;

    const SIMULCAST: Offer =
        Offer { is_simulcast: true, is_k_svc: false, spatial_layers: 3, temporal_layers: 3, arriving: 0b111 };

    fn layers(spatial: u8, temporal: u8) -> Layers {
        Layers { spatial, temporal }
    }

    fn prefer(spatial: u8, temporal: u8) -> Choice {
        Choice { preferred: layers(spatial, temporal), ..Choice::default() }
    }

    #[test]
    fn the_preferred_layers_or_the_best_below_or_the_least_above() {
        assert_eq!(Choice::default().target(&SIMULCAST), Some(layers(2, 2)));
        assert_eq!(prefer(1, 1).target(&SIMULCAST), Some(layers(1, 1)));
        let without_middle = Offer { arriving: 0b101, ..SIMULCAST };
        assert_eq!(prefer(1, 1).target(&without_middle), Some(layers(0, 2)));
        let only_top = Offer { arriving: 0b100, ..SIMULCAST };
        assert_eq!(prefer(1, 1).target(&only_top), Some(layers(2, 0)));
        assert_eq!(prefer(1, 1).target(&Offer { arriving: 0, ..SIMULCAST }), None);
    }

    #[test]
    fn the_allocation_is_a_limit_below_the_preference() {
        let limited = |choice: Choice, limit| {
            Choice { allocation: Allocation::UpTo(limit), ..choice }.target(&SIMULCAST)
        };
        assert_eq!(limited(Choice::default(), layers(1, 0)), Some(layers(1, 0)));
        assert_eq!(limited(prefer(0, 1), layers(1, 0)), Some(layers(0, 1)));
        let nothing = Choice { allocation: Allocation::Nothing, ..Choice::default() };
        assert_eq!(nothing.target(&SIMULCAST), None);
    }

    #[test]
    fn the_highest_layers_stand_for_all_of_a_stream() {
        let target = SIMULCAST.target(layers(1, 2));
        assert_eq!(target, Target { stream: 1, layers: Layers::ALL });
        assert_eq!(SIMULCAST.layers(target), layers(1, 2));
        assert_eq!(SIMULCAST.target(layers(0, 1)).layers, layers(3, 1));
        let svc = Offer { is_simulcast: false, ..SIMULCAST };
        assert_eq!(svc.target(layers(1, 0)), Target { stream: 0, layers: layers(1, 0) });
        assert_eq!(svc.target(layers(2, 2)).layers, Layers::ALL);
        assert_eq!(svc.layers(svc.target(layers(2, 1))), layers(2, 1));
        let k_svc = Offer { is_k_svc: true, ..svc };
        assert_eq!(k_svc.target(layers(2, 2)).layers, layers(2, Layers::ALL.temporal));
        assert_eq!(k_svc.target(Layers::ALL).layers, layers(2, Layers::ALL.temporal));
    }
}
