//! Streams of which signalling tells no SSRC: packets name them by MID, RID and repaired RID, as browsers' simulcast does.

use std::time::Duration;

use mediasoup_types::rtp_parameters::MediaKind;
use serde_json::json;
use weir::media::ortc;

use crate::peer::{NAMES, RTX, VP8};
use crate::world::{Camera, World, film};

const MID: &str = "0";
const STREAMS: [(u32, &str); 2] = [(1000, "l"), (2000, "h")];

#[test]
fn retransmissions_find_their_stream_by_its_name() {
    let mut world = World::new(61);
    let (publisher, sending) = world.join();
    let names = ["mid", "rtp-stream-id", "repaired-rtp-stream-id"];
    let extension =
        |(name, id): (&str, u8)| json!({"uri": format!("urn:ietf:params:rtp-hdrext:sdes:{name}"), "id": id});
    let extensions: Vec<_> = names.into_iter().zip(NAMES).map(extension).collect();
    let parameters = ortc::parse_rtp_parameters(&json!({
        "mid": MID,
        "codecs": [
            {
                "mimeType": "video/VP8", "payloadType": VP8, "clockRate": 90000,
                "rtcpFeedback": [{"type": "nack"}, {"type": "nack", "parameter": "pli"}],
            },
            {"mimeType": "video/rtx", "payloadType": RTX, "clockRate": 90000, "parameters": {"apt": VP8}},
        ],
        "headerExtensions": extensions,
        "encodings": STREAMS.map(|(_, rid)| json!({"rid": rid})),
    }));
    let produced = world.core.produce(world.now, sending, MediaKind::Video, &parameters.unwrap(), false);
    world.peers[publisher].names = STREAMS.map(|(ssrc, rid)| (ssrc, [MID, rid])).into();
    let (viewer, viewing) = world.join();
    let (consumer, ssrc) = world.consume(viewer, viewing, &produced.unwrap());
    world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
    let mut cameras = STREAMS.map(|(ssrc, _)| Camera::new(publisher, ssrc, 4));
    let [low, high] = &mut cameras;
    film(&mut world, &mut [low, high], 30);
    world.network.loss = 0.05;
    for preferred in [1, 0, 1] {
        world.core.set_consumer_preferred_layers(world.now, consumer.id, preferred, None).unwrap();
        film(&mut world, &mut [low, high], 100);
    }
    world.network.loss = 0.0;
    film(&mut world, &mut [low, high], 30);
    world.run(Duration::from_secs(1));
    let inbox = &world.peers[viewer].inboxes[&ssrc];
    let (whole, all) = inbox.complete_frames();
    assert!(all > 300 && whole == all && !inbox.has_gaps(), "{whole} of {all}");
}
