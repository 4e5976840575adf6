//! What `getStats` answers, against what the peers know to have happened.

use std::time::Duration;

use weir::media::rtcp::{self, ReportBlock};

use crate::world::{Camera, World, film};

#[test]
fn a_lossless_call_is_counted_packet_by_packet() {
    let mut world = World::new(51);
    let (publisher, sending) = world.join();
    let producer = world.produce(sending, &[1000]);
    let (viewer, viewing) = world.join();
    let (consumer, ssrc) = world.consume(viewer, viewing, &producer);
    world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
    world.network.delay = Duration::from_millis(25);
    let mut camera = Camera::new(publisher, 1000, 8);
    film(&mut world, &mut [&mut camera], 150);
    world.run(Duration::from_millis(100));

    let inbound = &world.core.producer_stats(world.now, producer.id).unwrap()[0];
    let packets = u64::from(camera.frames) * 8;
    assert_eq!((inbound.r#type, inbound.ssrc, inbound.packet_count), ("inbound-rtp", 1000, packets));
    assert_eq!((inbound.packets_lost, inbound.nack_count, inbound.packets_discarded), (0, 0, 0));
    // Half of a frame's packets have a payload of 1002 bytes, half of 1003, and 12 of a header.
    assert_eq!(inbound.byte_count, packets * 12 + u64::from(camera.frames) * 4 * (1002 + 1003));
    assert_eq!((inbound.mime_type.as_str(), inbound.rtx_ssrc, inbound.score), ("video/VP8", Some(1001), 10));
    let layers = inbound.bitrate_by_layer.as_ref().unwrap();
    assert_eq!(layers.keys().collect::<Vec<_>>(), ["0.0"]);

    // A second of 30 frames of 8 packets of a thousand bytes.
    let about =
        |bitrate: u64, what: &str| assert!((1_800_000..2_200_000).contains(&bitrate), "{what}: {bitrate}");
    about(layers["0.0"], "layer 0.0");
    let stats = world.core.consumer_stats(world.now, consumer.id).unwrap();
    let [outbound, source] = stats.as_slice() else { panic!("{stats:?}") };
    assert_eq!((outbound.r#type, outbound.ssrc, source), ("outbound-rtp", ssrc, inbound));
    assert_eq!(outbound.packet_count, world.peers[viewer].inboxes[&ssrc].packets.len() as u64);
    about(outbound.bitrate, "outbound");
    assert_eq!(outbound.round_trip_time, None, "nobody has reported yet");

    let sent = world.core.transport_stats(world.now, viewing).unwrap();
    let received = world.core.transport_stats(world.now, sending).unwrap();
    about(sent.rtp_send_bitrate, "sent");
    about(received.rtp_recv_bitrate, "received");
    assert_eq!((sent.rtp_bytes_sent, sent.rtx_bytes_sent), (outbound.byte_count, 0));
    assert!(received.rtp_bytes_received > inbound.byte_count, "it is protected on the wire");
    assert!(sent.bytes_sent > sent.rtp_bytes_sent, "reports were sent");
    assert_eq!((sent.ice_state, sent.dtls_state), (Some("connected"), Some("connected")));

    let heard = world.peers[viewer].sender_reports.len();
    world.run_until(Duration::from_secs(3), |world| world.peers[viewer].sender_reports.len() > heard);
    let report = world.peers[viewer].sender_reports.last().unwrap();
    let block = ReportBlock {
        ssrc,
        fraction_lost: 3,
        total_lost: 2,
        jitter: 7,
        last_sender_report: (report.ntp >> 16) as u32,
        ..ReportBlock::default()
    };
    let mut compound = Vec::new();
    rtcp::write_receiver_report(&mut compound, 1, &[block]);
    world.peers[viewer].send_rtcp(compound);
    world.run(Duration::from_millis(50));
    let outbound = &world.core.consumer_stats(world.now, consumer.id).unwrap()[0];
    assert_eq!((outbound.packets_lost, outbound.fraction_lost, outbound.jitter), (2, 3, 7));
    let round_trip = outbound.round_trip_time.unwrap();
    assert!((50.0..62.0).contains(&round_trip), "{round_trip} ms, of which the network takes 50");
}

#[test]
fn loss_and_its_repair_are_counted_on_both_sides() {
    let mut world = World::new(52);
    let (publisher, sending) = world.join();
    let producer = world.produce(sending, &[1000]);
    let (viewer, viewing) = world.join();
    let (consumer, ssrc) = world.consume(viewer, viewing, &producer);
    world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
    world.network.loss = 0.05;
    world.network.delay = Duration::from_millis(10);
    let mut camera = Camera::new(publisher, 1000, 8);
    film(&mut world, &mut [&mut camera], 300);
    world.network.loss = 0.0;
    film(&mut world, &mut [&mut camera], 30);
    let inbound = &world.core.producer_stats(world.now, producer.id).unwrap()[0];
    assert!((60..240).contains(&inbound.packets_lost), "of 2640: {}", inbound.packets_lost);
    assert!(inbound.packets_repaired as i64 >= i64::from(inbound.packets_lost) - 5, "{inbound:?}");
    assert!(inbound.nack_packet_count >= inbound.packets_repaired, "{inbound:?}");
    assert!(inbound.nack_packet_count >= inbound.nack_count, "{inbound:?}");
    let outbound = &world.core.consumer_stats(world.now, consumer.id).unwrap()[0];
    assert!(outbound.nack_count > 0 && outbound.packets_retransmitted > 0, "{outbound:?}");
    assert!(world.peers[viewer].inboxes[&ssrc].retransmitted as u64 <= outbound.packets_retransmitted);
    assert!(world.core.transport_stats(world.now, viewing).unwrap().rtx_bytes_sent > 0);
}

#[test]
fn what_is_not_there_has_no_figures() {
    let mut world = World::new(53);
    let (_, sending) = world.join();
    let producer = world.produce(sending, &[1000]);
    assert_eq!(world.core.producer_stats(world.now, producer.id).unwrap()[0].packet_count, 0);
    world.core.close_transport(world.now, sending).unwrap();
    assert!(world.core.transport_stats(world.now, sending).is_err());
    assert!(world.core.producer_stats(world.now, producer.id).is_err());
}

#[test]
fn a_dump_tells_who_consumes_whom() {
    let mut world = World::new(54);
    let ((publisher, sending), (viewer, viewing)) = (world.join(), world.join());
    let producer = world.produce(sending, &[1000, 2000]);
    let (consumer, ssrc) = world.consume(viewer, viewing, &producer);
    world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
    let mut cameras = [1000, 2000].map(|ssrc| Camera::new(publisher, ssrc, 2));
    let [small, large] = &mut cameras;
    film(&mut world, &mut [small, large], 60);
    assert_eq!(world.core.dump().router_ids, [world.router]);
    let router = world.core.router_dump(world.router).unwrap();
    assert_eq!(router.transport_ids, [sending, viewing]);
    assert_eq!(router.map_producer_id_consumer_ids[&producer.id], [consumer.id]);
    assert_eq!(router.map_consumer_id_producer_id[&consumer.id], producer.id);
    assert!(router.map_producer_id_observer_ids.is_empty() && router.rtp_observer_ids.is_empty());
    let transport = world.core.transport_dump(viewing).unwrap();
    assert_eq!(transport.map_ssrc_consumer_id[&ssrc], consumer.id);
    assert_eq!((transport.consumer_ids, transport.producer_ids), (vec![consumer.id], vec![]));
    let streams = world.core.producer_dump(producer.id).unwrap().rtp_streams;
    assert_eq!(streams.iter().map(|stream| stream.ssrc).collect::<Vec<_>>(), [1000, 2000]);
    let told = serde_json::to_value(world.core.consumer_dump(world.now, consumer.id).unwrap()).unwrap();
    assert_eq!((&told["type"], &told["producerPaused"]), (&"simulcast".into(), &false.into()));
    assert_eq!((&told["currentSpatialLayer"], &told["preferredSpatialLayer"]), (&1.into(), &1.into()));
    let whole = serde_json::to_string(&world.core.router_dump(world.router).unwrap()).unwrap();
    assert!(whole.contains(&format!("\"mapConsumerIdProducerId\":{{\"{}\":", consumer.id)), "{whole}");
    world.core.close_router(world.now, world.router).unwrap();
    assert!(world.core.router_dump(world.router).is_err() && world.core.dump().router_ids.is_empty());
}
