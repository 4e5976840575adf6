//! RTP that the process itself produces.

use std::time::Duration;

use weir::media::rtcp::{self, Item};
use weir::sfu::api::TapOutput;
use weir::sfu::direct_transport::Delivery;

use crate::peer::VP8;
use crate::world::World;

/// A frame of VP8 in one packet.
fn frame(number: u16, is_key: bool) -> Vec<u8> {
    let mut packet = vec![0x80, 0x80 | VP8];
    packet.extend(number.to_be_bytes());
    packet.extend((u32::from(number) * 3000).to_be_bytes());
    packet.extend(1000_u32.to_be_bytes());
    packet.extend([0x10, u8::from(!is_key)]);
    packet.extend([7; 500]);
    packet
}

#[test]
fn what_the_process_produces_is_seen_and_tapped_and_key_frames_are_asked_of_it() {
    let mut world = World::new(41);
    let direct = world.core.create_direct_transport(world.router).unwrap();
    let producer = world.produce(direct, &[1000]);
    world.core.tap(world.now, producer.id).unwrap();
    let (viewer, viewing) = world.join();
    let (consumer, ssrc) = world.consume(viewer, viewing, &producer);
    let mut asked = 0;
    let mut is_key = true;
    for number in 0..90 {
        if number == 30 {
            world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
        }
        world.core.send_rtp(world.now, direct, &mut frame(number, is_key)).unwrap();
        world.run(Duration::from_millis(33));
        is_key = false;
        while let Some(delivery) = world.core.poll_delivered() {
            let Delivery::Rtcp(to, compound) = delivery else { panic!("{delivery:?}") };
            assert_eq!(to, direct);
            let ask = |item| is_key |= item == Item::KeyFrameRequest { ssrc: 1000 };
            rtcp::read(&compound, ask).unwrap();
            asked += 1;
        }
    }
    assert_eq!(asked, 2, "once for the tap, once for the viewer");
    let inbox = &world.peers[viewer].inboxes[&ssrc];
    let (complete, frames) = inbox.complete_frames();
    assert!(complete == frames && frames >= 57, "{complete} of {frames}");
    let tapped = world.tapped.iter().filter(|output| matches!(output, TapOutput::Packet(_))).count();
    assert_eq!(tapped, 90);

    world.core.send_rtp(world.now, direct, &mut [0x80]).unwrap();
    assert!(world.core.send_rtp(world.now, viewing, &mut frame(90, false)).is_err(), "that one has a peer");
    world.core.close_transport(world.now, direct).unwrap();
    assert_eq!(world.core.poll_delivered(), Some(Delivery::TransportClosed(direct)));
    assert!(world.core.send_rtp(world.now, direct, &mut frame(91, false)).is_err());
}
