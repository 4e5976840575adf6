//! What viewers see of publishers, on good networks and bad ones.

use std::time::Duration;

use mediasoup_types::data_structures::DtlsRole;
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile as Profile;
use weir::media::rtp::RtpView;
use weir::sfu::Tuple;
use weir::sfu::api::{Event, TapOutput, TransportCloseReason};
use weir::sfu::srtp::Suite;

use crate::network::Link;
use crate::world::{CONSENT_TIMEOUT, Camera, GCM_LAST, TRANSPORT, World, film};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn gcm_wins_although_the_client_prefers_the_other() {
    let mut world = World::new(1);
    let (peer, transport) = world.join();
    assert_eq!(world.peers[peer].suite, Some(Suite::AeadAes128Gcm));
    assert!(world.events.contains(&Event::TransportConnected(transport)));
}

#[test]
fn aes_cm_serves_the_client_that_has_nothing_else_and_weir_can_be_the_dtls_client() {
    for (role, profiles, suite) in [
        (DtlsRole::Client, &GCM_LAST[..1], Suite::AesCm128HmacSha1_80),
        (DtlsRole::Server, &GCM_LAST[..1], Suite::AesCm128HmacSha1_80),
        (DtlsRole::Server, &[Profile::Srtp_Aead_Aes_128_Gcm][..], Suite::AeadAes128Gcm),
    ] {
        let mut world = World::new(2);
        let (peer, transport) = world.join_as(role, profiles);
        world.run_until(10 * SECOND, |world| world.peers[peer].is_connected());
        assert_eq!(world.peers[peer].suite, Some(suite));
        let producer = world.produce(transport, &[1000]);
        let (viewer, viewing) = world.join();
        let (consumer, ssrc) = world.consume(viewer, viewing, &producer);
        world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
        film(&mut world, &mut [&mut Camera::new(peer, 1000, 3)], 30);
        assert_eq!(world.peers[viewer].inboxes[&ssrc].complete_frames(), (30, 30));
    }
}

#[test]
fn a_wrong_fingerprint_never_connects() {
    let mut world = World::new(4);
    let (honest, honestly) = world.join_as(DtlsRole::Client, &GCM_LAST);
    // The impostor's transport is connected with the fingerprint of somebody else.
    let info = world.core.create_webrtc_transport(world.router, &TRANSPORT).unwrap();
    let id = info.id;
    let address = "10.0.1.1:9999".parse().unwrap();
    let impostor = crate::peer::Peer::new(world.now, address, info, DtlsRole::Client, &GCM_LAST);
    let parameters = world.peers[honest].dtls_parameters();
    world.core.connect_transport(world.now, id, parameters).unwrap();
    world.peers.push(impostor);
    world.run(5 * SECOND);
    assert!(world.events.contains(&Event::TransportClosed(id, TransportCloseReason::DtlsFailed)));
    assert!(world.events.contains(&Event::TransportConnected(honestly)), "the honest one is unharmed");
}

#[test]
fn a_resumed_consumer_costs_one_key_frame_and_loses_nothing() {
    let mut world = World::new(5);
    let (publisher, sending) = world.join();
    let producer = world.produce(sending, &[1000]);
    let (viewer, viewing) = world.join();
    let (consumer, ssrc) = world.consume(viewer, viewing, &producer);
    let mut camera = Camera::new(publisher, 1000, 9);
    film(&mut world, &mut [&mut camera], 60);
    assert!(world.peers[viewer].inboxes.is_empty(), "consumers start paused");
    assert_eq!(world.peers[publisher].key_frame_requests, 0);

    world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
    film(&mut world, &mut [&mut camera], 90);
    assert_eq!(world.peers[publisher].key_frame_requests, 1);
    let inbox = &world.peers[viewer].inboxes[&ssrc];
    assert!(!inbox.has_gaps());
    let (complete, frames) = inbox.complete_frames();
    assert_eq!(complete, frames);
    assert!(frames >= 88, "{frames}");
    let first = inbox.packets.values().next().unwrap();
    assert_eq!(first.payload[..2], [0x10, 0], "begins with the key frame");
    assert!(inbox.packets.values().all(|packet| [1002, 1003].contains(&packet.payload.len())));
    assert_eq!(world.largest_batch, 9, "a frame of nearly equal packets is one batch");
    assert_eq!(world.core.stats().rtp_forwarded, inbox.packets.len() as u64);
}

#[test]
fn viewers_of_a_network_that_loses_a_tenth_still_get_nearly_every_frame() {
    lose_a_tenth(World::new(6));
}

/// Loss lowers the estimate of what the path takes, and what is lost still has to be sent again.
#[test]
fn viewers_that_report_each_packet_lose_no_more_frames_than_others() {
    let mut world = World::new(62);
    world.viewers_report = true;
    lose_a_tenth(world);
}

/// The viewer asks once. That the copy is lost too, weir hears from the report on packets.
#[test]
fn what_was_sent_again_in_vain_is_sent_again_without_being_asked_for() {
    let mut world = World::new(63);
    world.viewers_report = true;
    world.network.delay = Duration::from_millis(25);
    let (publisher, sending) = world.join();
    let producer = world.produce(sending, &[1000]);
    let (viewer, viewing) = world.join();
    let (consumer, ssrc) = world.consume(viewer, viewing, &producer);
    world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
    world.peers[viewer].max_nacks = 1;
    let mut link = Link::new(world.now, 100_000, Duration::from_millis(300));
    link.loss = 0.1;
    world.network.links.insert(world.peers[viewer].address, link);
    let mut camera = Camera::new(publisher, 1000, 9);
    film(&mut world, &mut [&mut camera], 1800);
    let (complete, frames) = world.peers[viewer].inboxes[&ssrc].complete_frames();
    assert!(frames >= 1750, "{frames} frames seen");
    assert!(complete as f64 >= 0.999 * frames as f64, "{complete} of {frames} frames complete");
}

fn lose_a_tenth(mut world: World) {
    let (publisher, sending) = world.join();
    let producer = world.produce(sending, &[1000]);
    let (viewer, viewing) = world.join();
    let (consumer, ssrc) = world.consume(viewer, viewing, &producer);
    world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
    world.network.loss = 0.1;
    world.network.delay = Duration::from_millis(25);
    world.network.jitter = Duration::from_millis(4);
    let mut camera = Camera::new(publisher, 1000, 9);
    film(&mut world, &mut [&mut camera], 1800);
    world.network.loss = 0.0;
    film(&mut world, &mut [&mut camera], 60);
    let inbox = &world.peers[viewer].inboxes[&ssrc];
    let (complete, frames) = inbox.complete_frames();
    assert!(frames >= 1850, "{frames} frames seen");
    assert!(complete as f64 >= 0.999 * frames as f64, "{complete} of {frames} frames complete");
    assert!(inbox.retransmitted > 1000, "{}", inbox.retransmitted);
    let loss = world.peers[publisher].reports.iter().map(|report| report.fraction_lost).max();
    assert!(loss.is_some_and(|loss| loss > 10), "the publisher hears of loss: {loss:?}");
}

#[test]
fn outages_of_300_ms_are_repaired_without_a_key_frame() {
    let mut world = World::new(61);
    let (publisher, sending) = world.join();
    let producer = world.produce(sending, &[1000]);
    let (viewer, viewing) = world.join();
    let (consumer, ssrc) = world.consume(viewer, viewing, &producer);
    world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
    world.network.delay = Duration::from_millis(25);
    let mut camera = Camera::new(publisher, 1000, 9);
    film(&mut world, &mut [&mut camera], 60);
    let asked = world.peers[publisher].key_frame_requests;
    for _ in 0..5 {
        world.network.loss = 1.0;
        film(&mut world, &mut [&mut camera], 9);
        world.network.loss = 0.0;
        film(&mut world, &mut [&mut camera], 60);
    }
    assert_eq!(world.peers[publisher].key_frame_requests, asked);
    let inbox = &world.peers[viewer].inboxes[&ssrc];
    let (complete, frames) = inbox.complete_frames();
    assert!(frames >= 60 + 5 * 69 - 2, "{frames} frames seen");
    assert_eq!(complete, frames);
}

#[test]
fn simulcast_viewers_fall_back_to_the_layer_that_still_arrives_and_return() {
    let mut world = World::new(7);
    let (publisher, sending) = world.join();
    let producer = world.produce(sending, &[1000, 2000, 3000]);
    let (viewer, viewing) = world.join();
    let (consumer, ssrc) = world.consume(viewer, viewing, &producer);
    world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
    let mut low = Camera::new(publisher, 1000, 2);
    let mut middle = Camera::new(publisher, 2000, 4);
    let mut high = Camera::new(publisher, 3000, 8);
    film(&mut world, &mut [&mut low, &mut middle, &mut high], 90);
    let seen = |world: &World| world.peers[viewer].inboxes[&ssrc].packets.len();
    let with_high = seen(&world);
    film(&mut world, &mut [&mut low], 120);
    let with_low = seen(&world) - with_high;
    assert!((30..=240).contains(&with_low), "{with_low} packets of the low layer");
    film(&mut world, &mut [&mut low, &mut high], 90);
    let with_high_again = seen(&world) - with_low - with_high;
    assert!(with_high_again > 8 * 60, "{with_high_again} packets after the high layer came back");
    let inbox = &world.peers[viewer].inboxes[&ssrc];
    assert!(!inbox.has_gaps(), "switching leaves no gap");
    let mut last = None;
    for packet in inbox.packets.values() {
        assert!(last.is_none_or(|last: u32| packet.timestamp >= last), "time never goes back");
        last = Some(packet.timestamp);
    }
}

#[test]
fn a_vanished_publisher_is_noticed_by_consent_and_leaves_nothing_behind() {
    let mut world = World::new(8);
    let (viewer, viewing) = world.join();
    let before = world.core.stats();
    let (publisher, sending) = world.join();
    let producer = world.produce(sending, &[1000]);
    let (consumer, _) = world.consume(viewer, viewing, &producer);
    world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
    world.core.tap(world.now, producer.id).unwrap();
    film(&mut world, &mut [&mut Camera::new(publisher, 1000, 3)], 30);
    world.peers[publisher].alive = false;
    world.run(CONSENT_TIMEOUT + 2 * SECOND);
    assert!(world.events.contains(&Event::TransportClosed(sending, TransportCloseReason::ConsentLost)));
    assert!(world.events.contains(&Event::ConsumerClosed(consumer.id)));
    assert!(matches!(world.tapped.last(), Some(TapOutput::Closed)));
    let after = world.core.stats();
    assert_eq!(
        (after.transports, after.producers, after.consumers, after.taps),
        (before.transports, before.producers, before.consumers, before.taps)
    );
    assert!(world.peers[viewer].is_connected() && !world.peers[viewer].closed_by_server);
}

#[test]
fn a_paused_tap_costs_nothing_and_goes_on_with_a_key_frame() {
    let mut world = World::new(10);
    let (publisher, sending) = world.join();
    let producer = world.produce(sending, &[1000]);
    let taps = world.core.tap(world.now, producer.id).unwrap();
    let mut camera = Camera::new(publisher, 1000, 3);
    film(&mut world, &mut [&mut camera], 30);
    let set_paused = |world: &mut World, paused| {
        world.core.set_tap_paused(world.now, taps[0].id, paused).unwrap();
        std::mem::take(&mut world.tapped)
    };
    let before = set_paused(&mut world, true);
    assert!(before.iter().any(|output| matches!(output, TapOutput::Packet(_))));
    let asked = world.peers[publisher].asked.len();
    film(&mut world, &mut [&mut camera], 90);
    world.core.set_producer_paused(world.now, producer.id, true).unwrap();
    world.core.set_producer_paused(world.now, producer.id, false).unwrap();
    film(&mut world, &mut [&mut camera], 30);
    assert!(
        matches!(world.tapped[..], [TapOutput::Paused, TapOutput::Resumed]),
        "no packet, no report, but what becomes of the producer: {:?}",
        world.tapped
    );
    assert_eq!(world.peers[publisher].asked.len(), asked, "nobody needs a key frame");

    set_paused(&mut world, false);
    film(&mut world, &mut [&mut camera], 30);
    assert_eq!(world.peers[publisher].asked.len(), asked + 1);
    let packets = world.tapped.iter().filter_map(|output| match output {
        TapOutput::Packet(packet) => Some(RtpView::parse(&packet.data).unwrap()),
        _ => None,
    });
    let packets: Vec<_> = packets.collect();
    assert_eq!(packets[0].payload()[1], 0, "a key frame");
    assert!(packets.len() > 60);
    assert!(packets.windows(2).all(|pair| pair[1].sequence() == pair[0].sequence().wrapping_add(1)));
    let last = before.iter().rev().find_map(|output| match output {
        TapOutput::Packet(packet) => Some(RtpView::parse(&packet.data).unwrap().sequence()),
        _ => None,
    });
    assert_eq!(packets[0].sequence(), last.unwrap().wrapping_add(1), "the pause leaves no hole");
}

#[test]
fn a_paused_producer_is_silent_and_goes_on_with_a_key_frame() {
    let mut world = World::new(9);
    let (publisher, sending) = world.join();
    let producer = world.produce(sending, &[1000]);
    let (viewer, viewing) = world.join();
    let (consumer, ssrc) = world.consume(viewer, viewing, &producer);
    world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
    world.core.tap(world.now, producer.id).unwrap();
    let mut camera = Camera::new(publisher, 1000, 3);
    film(&mut world, &mut [&mut camera], 30);
    world.core.set_producer_paused(world.now, producer.id, true).unwrap();
    let seen = world.peers[viewer].inboxes[&ssrc].packets.len();
    film(&mut world, &mut [&mut camera], 30);
    assert_eq!(world.peers[viewer].inboxes[&ssrc].packets.len(), seen);
    world.core.set_producer_paused(world.now, producer.id, false).unwrap();
    film(&mut world, &mut [&mut camera], 30);
    let inbox = &world.peers[viewer].inboxes[&ssrc];
    assert!(!inbox.has_gaps() && inbox.packets.len() > seen + 60);
    assert_eq!(inbox.packets.values().nth(seen).map(|packet| packet.payload[1]), Some(0), "a key frame");
    assert!(world.events.contains(&Event::ConsumerPaused(consumer.id)));
    assert!(world.events.contains(&Event::ConsumerResumed(consumer.id)));
    let tapped: Vec<&str> = world
        .tapped
        .iter()
        .map(|output| match output {
            TapOutput::Packet(_) => "packet",
            TapOutput::Paused => "paused",
            TapOutput::Resumed => "resumed",
            _ => "other",
        })
        .collect();
    let paused = tapped.iter().position(|what| *what == "paused").unwrap();
    assert_eq!(tapped.get(paused + 1), Some(&"resumed"), "nothing is tapped while paused");
}

#[test]
fn a_changed_client_port_keeps_the_call() {
    let mut world = World::new(10);
    let (publisher, sending) = world.join();
    let producer = world.produce(sending, &[1000]);
    let (viewer, viewing) = world.join();
    let (consumer, ssrc) = world.consume(viewer, viewing, &producer);
    world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
    let mut camera = Camera::new(publisher, 1000, 3);
    film(&mut world, &mut [&mut camera], 30);
    world.peers[viewer].address.set_port(55_555);
    film(&mut world, &mut [&mut camera], 150);
    let inbox = &world.peers[viewer].inboxes[&ssrc];
    let newest = inbox.packets.values().next_back().unwrap().timestamp;
    assert!(newest >= (camera.frames - 2) * 3000, "the newest frame arrives at the new port");
}

#[test]
fn noise_costs_its_sender_only() {
    let mut world = World::new(11);
    let (publisher, sending) = world.join();
    let producer = world.produce(sending, &[1000]);
    let (viewer, viewing) = world.join();
    let (consumer, ssrc) = world.consume(viewer, viewing, &producer);
    world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
    let stranger = Tuple::shared("10.9.9.9:9".parse().unwrap());
    let known = Tuple::shared(world.peers[publisher].address);
    let mut wrong_password = world.peers[publisher].check("not the password at all");
    world.core.handle_datagram(world.now, stranger, &mut wrong_password);
    assert_eq!(world.core.stats().dropped_stun, 1);
    let mut seed = 7_u32;
    for length in 0..4000_usize {
        let mut noise: Vec<u8> = (0..length % 200)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .collect();
        let from = if length % 2 == 0 { stranger } else { known };
        world.core.handle_datagram(world.now, from, &mut noise);
    }
    let stats = world.core.stats();
    assert!(stats.dropped_unknown > 1000 && stats.dropped_srtp > 100 && stats.dropped_stun > 10, "{stats:?}");
    film(&mut world, &mut [&mut Camera::new(publisher, 1000, 3)], 30);
    world.peers[publisher].send_rtp(4242, 96, 70, 0, true, &[0x10, 0]);
    world.run(SECOND);
    assert_eq!(world.core.stats().dropped_unknown_ssrc, 1);
    let (complete, frames) = world.peers[viewer].inboxes[&ssrc].complete_frames();
    assert!(complete == frames && frames >= 28, "{complete} of {frames}");
}

#[test]
fn a_sender_report_tells_viewers_the_publishers_clock() {
    let mut world = World::new(12);
    let (publisher, sending) = world.join();
    let producer = world.produce(sending, &[1000]);
    let (viewer, viewing) = world.join();
    let (consumer, _) = world.consume(viewer, viewing, &producer);
    world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
    let mut camera = Camera::new(publisher, 1000, 2);
    film(&mut world, &mut [&mut camera], 10);
    let info =
        weir::media::rtcp::SenderInfo { ssrc: 1000, ntp: 77 << 32, rtp: 30_000, packets: 1, octets: 1 };
    let mut compound = Vec::new();
    weir::media::rtcp::write_sender_report(&mut compound, &info);
    world.peers[publisher].send_rtcp(compound);
    film(&mut world, &mut [&mut camera], 60);
    let told = world.peers[viewer].sender_reports.last().unwrap();
    let apart = (told.ntp - (77 << 32)) as f64 / 4_294_967_296.0;
    let ticks = f64::from(told.rtp.wrapping_sub(30_000)) / 90_000.0;
    assert!((0.5..3.0).contains(&apart) && (apart - ticks).abs() < 0.01, "{apart} s, {ticks} s");
    assert!(world.peers[publisher].reports.iter().any(|report| report.last_sender_report == 77 << 16));
}

#[test]
fn a_transport_that_is_not_used_yet_stays() {
    let mut world = World::new(13);
    let idle = world.core.create_webrtc_transport(world.router, &TRANSPORT).unwrap();
    let (peer, transport) = world.join();
    world.run(10 * CONSENT_TIMEOUT);
    assert_eq!(world.events, [Event::TransportConnected(transport)], "neither ends: one is used, one is not");
    assert!(world.core.close_transport(world.now, idle.id).is_ok() && world.peers[peer].is_connected());
}
