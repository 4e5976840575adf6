//! SDP of strangers: offers and ICE fragments.

use mediasoup_types::data_structures::{DtlsFingerprint, DtlsParameters, DtlsRole, IceParameters};
use mediasoup_types::rtp_parameters::RtpParameters;
use weir::media::ortc::{self, MAX_ENCODINGS};
use weir::media::sdp::{self, Accepted, Fragment, Local, MAX_SECTIONS, Offer};

/// A text as an offer and as a fragment: what is accepted is bounded, and its answer can be read again.
pub fn sdp(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(fragment) = Fragment::parse(text) {
        assert!(fragment.ice.password.len() >= 22);
    }
    let Ok(offer) = Offer::parse(text) else { return };
    assert!((1..=MAX_SECTIONS).contains(&offer.sections.len()));
    assert!(offer.sections.iter().all(|section| (1..=MAX_ENCODINGS).contains(&section.encodings.len())));
    let router = ortc::router_capabilities(&ortc::default_router_codecs()).expect("the router's own codecs");
    let published: Vec<Option<RtpParameters>> = offer
        .sections
        .iter()
        .map(|section| {
            let parameters =
                ortc::publishing_parameters(section.kind, &section.capabilities, &router).ok()?;
            let encodings = section.encodings.clone();
            Some(RtpParameters { mid: Some(section.mid.clone()), encodings, ..parameters })
        })
        .collect();
    let accepted: Vec<_> = published
        .iter()
        .map(|parameters| parameters.as_ref().map_or(Accepted::Nothing, Accepted::Receive))
        .collect();
    let local = Local {
        ice: &IceParameters {
            username_fragment: "abcd".into(),
            password: "p".repeat(32),
            ice_lite: Some(true),
        },
        candidates: &[],
        dtls: &DtlsParameters {
            role: DtlsRole::Auto,
            fingerprints: vec![DtlsFingerprint::Sha256 { value: [1; 32] }],
        },
    };
    let answer = sdp::answer(&offer, &accepted, local, 1);
    let read = Offer::parse(&answer).unwrap_or_else(|error| panic!("{error} in {answer}"));
    let names = |offer: &Offer| offer.sections.iter().map(|section| section.mid.clone()).collect::<Vec<_>>();
    assert_eq!(names(&read), names(&offer));
}
