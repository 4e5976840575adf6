//! Sound: what viewers may do without, and what is sent again to those who ask for it.

use std::time::Duration;

use mediasoup_types::rtp_parameters::{MediaKind, RtcpFeedback};
use serde_json::json;
use weir::media::ortc;
use weir::sfu::layers::ConsumeOptions;

use crate::peer::Inbox;
use crate::world::World;

const OPUS: u8 = 111;
const SSRC: u32 = 500;
const FRAME: Duration = Duration::from_millis(20);

/// A microphone into which somebody speaks half of the time, with DTX; it sends `frames` of 20 ms. The viewer, its
/// stream and whether it may ask for lost packets are returned.
fn listen(seed: u64, loss: f64, options: ConsumeOptions, frames: u64) -> (World, usize, u32, bool) {
    let mut world = World::new(seed);
    let (publisher, sending) = world.join();
    let parameters = ortc::parse_rtp_parameters(&json!({
        "codecs": [{
            "mimeType": "audio/opus", "payloadType": OPUS, "clockRate": 48000, "channels": 2,
            "rtcpFeedback": [{"type": "nack"}],
        }],
        "encodings": [{"ssrc": SSRC}],
    }));
    let produced = world.core.produce(world.now, sending, MediaKind::Audio, &parameters.unwrap(), false);
    let (viewer, viewing) = world.join();
    let capabilities = world.capabilities.clone();
    let consumer =
        world.core.consume(world.now, viewing, produced.unwrap().id, &capabilities, options).unwrap();
    let may_ask = consumer.rtp_parameters.codecs[0].rtcp_feedback().contains(&RtcpFeedback::Nack);
    let ssrc = consumer.rtp_parameters.encodings[0].ssrc.unwrap();
    world.network.loss = loss;
    for frame in 0..frames {
        let is_silent = frame / 50 % 2 == 1;
        let payload = if is_silent { vec![0xf8] } else { vec![0xf8; 100] };
        if !is_silent || frame.is_multiple_of(20) {
            let sequence = 65_400 + frame;
            world.peers[publisher].send_rtp(SSRC, OPUS, sequence, frame as u32 * 960, false, &payload);
        }
        world.run(FRAME);
    }
    world.network.loss = 0.0;
    world.run(Duration::from_secs(1));
    (world, viewer, ssrc, may_ask)
}

fn silent(inbox: &Inbox) -> usize {
    inbox.packets.values().filter(|packet| packet.payload.len() == 1).count()
}

#[test]
fn silence_is_left_out_for_those_who_ignore_it() {
    let (world, viewer, ssrc, _) = listen(40, 0.0, ConsumeOptions::default(), 200);
    assert_eq!(silent(&world.peers[viewer].inboxes[&ssrc]), 4);
    let ignoring = ConsumeOptions { ignore_dtx: true, ..ConsumeOptions::default() };
    let (world, viewer, ssrc, _) = listen(40, 0.0, ignoring, 200);
    let inbox = &world.peers[viewer].inboxes[&ssrc];
    assert_eq!((silent(inbox), inbox.packets.len()), (0, 100));
}

#[test]
fn lost_sound_is_sent_again_to_those_who_ask() {
    let missed = |options| {
        // What the publisher sends gets lost too; there is no RTX for sound, so that is gone for everybody.
        let (world, viewer, ssrc, may_ask) = listen(41, 0.1, options, 500);
        let missing =
            world.core.stats().rtp_received as usize - world.peers[viewer].inboxes[&ssrc].packets.len();
        (missing, may_ask, world.core.stats().rtp_retransmitted)
    };
    let (missing, may_ask, repaired) =
        missed(ConsumeOptions { enable_rtx: Some(true), ..ConsumeOptions::default() });
    assert!(missing <= 1 && may_ask && repaired > 10, "{missing} missing, {repaired} repaired");
    assert!(!missed(ConsumeOptions::default()).1, "others are not told that they may");
}
