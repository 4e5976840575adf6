//! How publishers and viewers find out what their paths take.

use std::collections::BTreeMap;
use std::time::Duration;

use weir::ids::Bitrate;
use weir::sfu::api::Event;

use crate::network::Link;
use crate::world::{Camera, World, film};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_publisher_learns_when_each_packet_arrived() {
    let mut world = World::new(20);
    let (publisher, sending) = world.join();
    world.produce(sending, &[1000]);
    world.network.loss = 0.1;
    world.network.delay = Duration::from_millis(25);
    world.network.jitter = Duration::from_millis(8);
    let mut camera = Camera::new(publisher, 1000, 9);
    film(&mut world, &mut [&mut camera], 900);
    let peer = &world.peers[publisher];
    assert!(peer.wide_sent.len() > 8000, "{}", peer.wide_sent.len());
    let told: BTreeMap<usize, Option<i64>> = peer.wide_reported.iter().copied().collect();
    let start = peer.wide_sent[0];
    let transit = |(index, ticks): (&usize, &Option<i64>)| {
        let sent = peer.wide_sent[*index].duration_since(start).as_micros() as i64;
        ticks.map(|ticks| ticks * 250 - sent)
    };
    let transits: Vec<i64> = told.iter().filter_map(transit).collect();
    let spread = transits.iter().max().unwrap() - transits.iter().min().unwrap();
    assert!((6_000..=8_250).contains(&spread), "the jitter of the network and nothing else: {spread} us");
    let share = transits.len() as f64 / told.len() as f64;
    assert!((0.88..0.92).contains(&share), "{share} of the packets arrived");
    // A tenth of the feedback is lost too; what it told is not repeated.
    assert!(told.len() as f64 > 0.85 * peer.wide_sent.len() as f64, "{} told", told.len());
}

#[test]
fn a_publisher_is_told_its_limit() {
    let mut world = World::new(21);
    let (publisher, sending) = world.join();
    world.produce(sending, &[1000]);
    world.core.set_max_incoming_bitrate(world.now, sending, Some(Bitrate::kbps(700))).unwrap();
    world.run(10 * SECOND);
    assert!((6..=8).contains(&world.peers[publisher].allowed.len()));
    assert!(world.peers[publisher].allowed.iter().all(|bitrate| (699_000..=700_000).contains(bitrate)));
    world.peers[publisher].allowed.clear();
    world.core.set_max_incoming_bitrate(world.now, sending, None).unwrap();
    world.run(10 * SECOND);
    assert_eq!(world.peers[publisher].allowed, [0; 4], "zero means no limit");
}

#[test]
fn a_narrow_path_is_noticed_and_its_viewer_told() {
    let mut world = World::new(22);
    let (publisher, sending) = world.join();
    let producer = world.produce(sending, &[1000]);
    let (viewer, viewing) = world.join();
    let (consumer, _) = world.consume(viewer, viewing, &producer);
    world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
    world.network.delay = Duration::from_millis(20);
    let address = world.peers[viewer].address;
    world.network.links.insert(address, Link::new(world.now, 1000, SECOND));
    // 500 kbit/s.
    let mut camera = Camera::new(publisher, 1000, 2);
    film(&mut world, &mut [&mut camera], 300);
    assert!(world.core.available_outgoing_bitrate(viewing).unwrap().unwrap() >= Bitrate::kbps(500));
    world.network.links.get_mut(&address).unwrap().set_capacity(world.now, 200);
    film(&mut world, &mut [&mut camera], 90);
    let available = world.core.available_outgoing_bitrate(viewing).unwrap().unwrap();
    assert!(available <= Bitrate::kbps(250), "{available}");
    assert!(world.network.links[&address].dropped > 0, "the producer has no smaller layer");
    let told = world.events.iter().rev().find_map(|event| match event {
        Event::AvailableOutgoingBitrate { transport, available, .. } if *transport == viewing => {
            Some(*available)
        }
        _ => None,
    });
    assert!(told.is_some_and(|told| told <= Bitrate::kbps(400)), "{told:?}");
    assert_eq!(world.core.available_outgoing_bitrate(sending).unwrap(), None, "nothing goes there");
}
