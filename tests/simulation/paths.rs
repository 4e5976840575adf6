//! Clients whose network changes under a call.

use std::time::Duration;

use weir::sfu::api::Event;

use crate::world::{CONSENT_TIMEOUT, Camera, World, film};

#[test]
fn an_ice_restart_loses_nothing_and_moves_the_call_to_another_network() {
    let mut world = World::new(40);
    let (publisher, sending) = world.join();
    let producer = world.produce(sending, &[1000]);
    let (viewer, viewing) = world.join();
    let (consumer, ssrc) = world.consume(viewer, viewing, &producer);
    world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
    let mut camera = Camera::new(publisher, 1000, 3);
    film(&mut world, &mut [&mut camera], 30);

    let restarted = world.core.restart_ice(viewing).unwrap();
    film(&mut world, &mut [&mut camera], 120);
    let before_check = world.peers[viewer].inboxes[&ssrc].complete_frames();
    assert!(before_check.0 >= 149, "the old path goes on: {before_check:?}");

    world.peers[viewer].address = "10.0.7.7:7777".parse().unwrap();
    let now = world.now;
    world.peers[viewer].restart_ice(now, restarted);
    film(&mut world, &mut [&mut camera], 60);
    let inbox = &world.peers[viewer].inboxes[&ssrc];
    assert!(!inbox.has_gaps(), "what was lost on the way is sent again");
    let newest = inbox.packets.values().next_back().unwrap().timestamp;
    assert!(newest >= (camera.frames - 2) * 3000, "the newest frame arrives on the new network");

    world.run(3 * CONSENT_TIMEOUT);
    assert!(!world.events.iter().any(|event| matches!(event, Event::TransportClosed(..))));
}

#[test]
fn a_client_that_restarts_in_vain_keeps_its_old_credentials() {
    let mut world = World::new(41);
    let (_, transport) = world.join();
    for _ in 0..100 {
        world.core.restart_ice(transport).unwrap();
    }
    world.run(3 * CONSENT_TIMEOUT);
    assert!(!world.events.iter().any(|event| matches!(event, Event::TransportClosed(..))));
    world.core.close_transport(world.now, transport).unwrap();
    assert!(world.core.restart_ice(transport).is_err());
    world.run(Duration::from_secs(1));
}
