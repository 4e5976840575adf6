//! What data channels carry from peer to peer, on good networks and bad ones.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use mediasoup_types::data_structures::SctpState;
use mediasoup_types::sctp_parameters::SctpStreamParameters;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rtc_sctp::PayloadProtocolIdentifier;
use weir::ids::TransportId;
use weir::sfu::api::{Event, WebRtcTransportOptions};
use weir::sfu::data::{
    Audience, ConsumeDataError, DataConsumerInfo, DataConsumerOptions, DataProducerInfo, DataProducerOptions,
};
use weir::sfu::direct_transport::{Delivery, SendDataError};
use weir::sfu::pipe_transport::PipeTransportOptions;
use weir::sfu::sctp::{DataMessage, MAX_MESSAGE_LEN, MAX_STREAM_BUFFER_LEN};

use crate::pipe::Pipe;
use crate::sctp_peer::{Received, SctpPeer};
use crate::world::{TRANSPORT, World};

const SECOND: Duration = Duration::from_secs(1);

impl World {
    /// A peer with data channels.
    fn join_with_data(&mut self) -> (usize, TransportId) {
        let (peer, transport) = self.join();
        self.peers[peer].sctp = Some(SctpPeer::connect(self.now));
        self.run_until(20 * SECOND, |world| world.sctp_of(peer).is_connected);
        (peer, transport)
    }

    fn sctp_of(&self, peer: usize) -> &SctpPeer {
        self.peers[peer].sctp.as_ref().unwrap()
    }

    fn sctp(&mut self, peer: usize) -> &mut SctpPeer {
        self.peers[peer].sctp.as_mut().unwrap()
    }

    fn produce_data(
        &mut self,
        (peer, transport): (usize, TransportId),
        parameters: SctpStreamParameters,
    ) -> DataProducerInfo {
        self.sctp(peer).open(&parameters);
        let options = DataProducerOptions {
            sctp_stream_parameters: Some(parameters),
            label: "chat".into(),
            protocol: "json".into(),
            paused: false,
        };
        self.core.produce_data(self.now, transport, options).unwrap()
    }

    fn consume_data(
        &mut self,
        (peer, transport): (usize, TransportId),
        producer: &DataProducerInfo,
    ) -> DataConsumerInfo {
        let options = DataConsumerOptions::default();
        let consumer = self.core.consume_data(self.now, transport, producer.id, options).unwrap();
        self.sctp(peer).open(&consumer.sctp_stream_parameters.unwrap());
        consumer
    }

    fn send(&mut self, peer: usize, stream: u16, message: &[u8]) {
        self.say(peer, stream, false, message);
    }

    fn say(&mut self, peer: usize, stream: u16, is_text: bool, message: &[u8]) {
        let now = self.now;
        self.sctp(peer).send(now, stream, is_text, message);
        self.peers[peer].handle_timeout(now);
    }

    /// Sends as fast as everyone gets it who reads.
    fn stream(&mut self, peer: usize, stream: u16, messages: impl Iterator<Item = Vec<u8>>) {
        for message in messages {
            self.send(peer, stream, &message);
            self.run(Duration::from_millis(5));
        }
    }

    fn received(&self, peer: usize, consumer: &DataConsumerInfo) -> &[Received] {
        let stream = consumer.sctp_stream_parameters.unwrap().stream_id;
        self.sctp_of(peer).received.get(&stream).map(Vec::as_slice).unwrap_or_default()
    }
}

fn ordered(stream_id: u16) -> SctpStreamParameters {
    SctpStreamParameters::new_ordered(stream_id)
}

/// A message that begins with its number; most are short, as messages are.
fn numbered(random: &mut StdRng, number: u32) -> Vec<u8> {
    let longest = if number.is_multiple_of(100) { 20_000 } else { 400 };
    let mut message = number.to_be_bytes().to_vec();
    message.resize(4 + random.random_range(0..longest), number as u8);
    message
}

fn numbers(received: &[Received]) -> Vec<u32> {
    received.iter().map(|(_, message)| u32::from_be_bytes(message[..4].try_into().unwrap())).collect()
}

#[test]
fn ten_thousand_messages_are_echoed_in_order_although_a_twentieth_of_all_datagrams_is_lost() {
    let mut world = World::new(21);
    let (anna, ben) = (world.join_with_data(), world.join_with_data());
    let there = world.produce_data(anna, ordered(3));
    let to_ben = world.consume_data(ben, &there);
    let back = world.produce_data(ben, ordered(500));
    let to_anna = world.consume_data(anna, &back);
    world.network.loss = 0.05;
    world.network.delay = Duration::from_millis(10);
    world.network.jitter = Duration::from_millis(4);
    let mut random = StdRng::seed_from_u64(21);
    let mut sent = Vec::new();
    let mut echoed = 0;
    let end = world.now + 600 * SECOND;
    while world.received(anna.0, &to_anna).len() < 10_000 {
        assert!(world.now < end, "{} of 10000 came back", world.received(anna.0, &to_anna).len());
        while sent.len() < 10_000 && sent.len() < world.received(anna.0, &to_anna).len() + 500 {
            let message = numbered(&mut random, sent.len() as u32);
            world.send(anna.0, 3, &message);
            sent.push((false, message));
        }
        world.run(Duration::from_millis(5));
        let new: Vec<_> = world.received(ben.0, &to_ben)[echoed..].to_vec();
        echoed += new.len();
        new.iter().for_each(|(_, message)| world.send(ben.0, 500, message));
    }
    assert_eq!(world.received(anna.0, &to_anna), sent);
    let stats = world.core.stats();
    assert_eq!((stats.messages_forwarded, stats.dropped_data), (20_000, 0));
    let stats = world.core.data_consumer_stats(to_ben.id).unwrap();
    assert_eq!(stats.bytes_sent, sent.iter().map(|(_, message)| message.len() as u64).sum::<u64>());
}

#[test]
fn texts_bytes_and_nothing_arrive_as_what_they_are() {
    let mut world = World::new(22);
    let (anna, ben) = (world.join_with_data(), world.join_with_data());
    let producer = world.produce_data(anna, ordered(0));
    assert_eq!(world.events.last(), Some(&Event::SctpStateChanged(ben.1, SctpState::Connected)));
    let consumer = world.consume_data(ben, &producer);
    assert_eq!((&*consumer.label, &*consumer.protocol), ("chat", "json"));
    let large: Vec<u8> = (0..200_000_u32).map(|byte| byte as u8).collect();
    let messages =
        [(true, b"text".to_vec()), (false, large), (true, vec![]), (false, vec![]), (false, vec![0])];
    for (is_text, message) in &messages {
        world.say(anna.0, 0, *is_text, message);
    }
    world.run(5 * SECOND);
    assert_eq!(world.received(ben.0, &consumer), messages);
}

#[test]
fn ten_thousand_messages_at_once_are_no_reason_to_drop_one() {
    let mut world = World::new(35);
    let (anna, ben) = (world.join_with_data(), world.join_with_data());
    let producer = world.produce_data(anna, ordered(0));
    let consumer = world.consume_data(ben, &producer);
    world.network.loss = 0.01;
    world.network.delay = Duration::from_millis(20);
    for number in 0..10_000_u32 {
        let now = world.now;
        world.sctp(anna.0).send(now, 0, false, &number.to_be_bytes());
    }
    world.run_until(300 * SECOND, |world| world.received(ben.0, &consumer).len() == 10_000);
    assert!(numbers(world.received(ben.0, &consumer)).into_iter().eq(0..10_000));
}

#[test]
fn unordered_messages_all_arrive_and_do_not_wait_for_each_other() {
    let mut world = World::new(23);
    let (anna, ben) = (world.join_with_data(), world.join_with_data());
    let producer = world.produce_data(anna, SctpStreamParameters { ordered: false, ..ordered(1) });
    let consumer = world.consume_data(ben, &producer);
    world.network.loss = 0.05;
    world.network.delay = Duration::from_millis(10);
    let mut random = StdRng::seed_from_u64(23);
    world.stream(anna.0, 1, (0..2000).map(|number| numbered(&mut random, number)));
    world.network.loss = 0.0;
    world.run(10 * SECOND);
    let mut arrived = numbers(world.received(ben.0, &consumer));
    assert!(!arrived.is_sorted(), "with this much loss, order takes waiting");
    arrived.sort_unstable();
    assert!(arrived.into_iter().eq(0..2000));
}

#[test]
fn messages_without_retransmissions_are_lost_and_hold_up_nobody() {
    for parameters in [
        SctpStreamParameters::new_unordered_with_retransmits(1, 0),
        SctpStreamParameters::new_unordered_with_life_time(1, 1),
    ] {
        let mut world = World::new(24);
        let (anna, ben) = (world.join_with_data(), world.join_with_data());
        let producer = world.produce_data(anna, parameters);
        let consumer = world.consume_data(ben, &producer);
        let expected = SctpStreamParameters { stream_id: 0, ..parameters };
        assert_eq!(consumer.sctp_stream_parameters, Some(expected));
        world.network.loss = 0.05;
        world.network.delay = Duration::from_millis(10);
        world.stream(anna.0, 1, (0..2000_u32).map(|number| number.to_be_bytes().to_vec()));
        let arrived = numbers(world.received(ben.0, &consumer)).len();
        assert!((1500..1990).contains(&arrived), "{arrived} of 2000 with {parameters:?}");
        world.network.loss = 0.0;
        world.send(anna.0, 1, &2000_u32.to_be_bytes());
        world.run(SECOND);
        assert_eq!(numbers(world.received(ben.0, &consumer)).last(), Some(&2000));
        assert_eq!(world.core.data_consumer_stats(consumer.id).unwrap().buffered_amount, 0);
    }
}

#[test]
fn a_slow_consumer_loses_whole_messages_and_costs_nobody_else_anything() {
    let mut world = World::new(25);
    let (anna, ben, carol) = (world.join_with_data(), world.join_with_data(), world.join_with_data());
    let producer = world.produce_data(anna, ordered(0));
    let slow = world.consume_data(ben, &producer);
    let fast = world.consume_data(carol, &producer);
    world.sctp(ben.0).reads = false;
    let message = |number: u32| [&number.to_be_bytes()[..], &[7; 9996]].concat();
    world.stream(anna.0, 0, (0..500).map(message));
    world.run(5 * SECOND);
    assert!(numbers(world.received(carol.0, &fast)).into_iter().eq(0..500));
    let stats = world.core.data_consumer_stats(slow.id).unwrap();
    assert_eq!(stats.messages_sent + stats.messages_dropped, 500);
    assert!(stats.messages_dropped > 100, "{stats:?}");
    assert!((1_900_000..MAX_STREAM_BUFFER_LEN).contains(&stats.buffered_amount), "{stats:?}");
    let count = |world: &World, wanted: &Event| world.events.iter().filter(|event| *event == wanted).count();
    let full = Event::DataConsumerBufferFull(slow.id);
    assert_eq!(count(&world, &full), 1, "said once, not for each message");

    world.sctp(ben.0).reads = true;
    world.run(30 * SECOND);
    let arrived = numbers(world.received(ben.0, &slow));
    assert!(arrived.iter().copied().eq(0..stats.messages_sent as u32), "what was taken arrives, in order");
    assert_eq!(count(&world, &Event::DataConsumerBufferedAmountLow(slow.id, 0)), 1);
    world.stream(anna.0, 0, (500..510).map(message));
    world.run(SECOND);
    assert!(numbers(world.received(ben.0, &slow)).ends_with(&[507, 508, 509]));
    assert_eq!((world.core.stats().dropped_data, count(&world, &full)), (stats.messages_dropped, 1));
}

#[test]
fn a_peer_that_acknowledges_nothing_holds_no_more_than_its_buffer() {
    let mut world = World::new(26);
    let (anna, ben) = (world.join_with_data(), world.join_with_data());
    let producer = world.produce_data(anna, ordered(0));
    let consumer = world.consume_data(ben, &producer);
    world.peers[ben.0].sctp = None;
    // Two million bytes would take all these, but nothing weighs nothing.
    for _ in 0..20_000 {
        world.say(anna.0, 0, true, b"");
        world.run(Duration::from_millis(1));
    }
    let stats = world.core.data_consumer_stats(consumer.id).unwrap();
    assert!((15_000..16_000).contains(&stats.messages_sent), "{stats:?}");
    world.run(600 * SECOND);
    assert!(world.events.contains(&Event::SctpStateChanged(ben.1, SctpState::Failed)));
    assert_eq!(world.core.data_consumer_stats(consumer.id).unwrap().buffered_amount, 0);
    assert!(world.peers[ben.0].is_connected(), "its media goes on");
}

#[test]
fn pauses_are_told_and_keep_messages_back() {
    let mut world = World::new(27);
    let (anna, ben) = (world.join_with_data(), world.join_with_data());
    let producer = world.produce_data(anna, ordered(0));
    let consumer = world.consume_data(ben, &producer);
    world.core.set_data_producer_paused(producer.id, true).unwrap();
    world.stream(anna.0, 0, [b"1".to_vec()].into_iter());
    world.core.set_data_producer_paused(producer.id, false).unwrap();
    world.core.set_data_consumer_paused(consumer.id, true).unwrap();
    world.stream(anna.0, 0, [b"2".to_vec()].into_iter());
    world.core.set_data_consumer_paused(consumer.id, false).unwrap();
    world.stream(anna.0, 0, [b"3".to_vec()].into_iter());
    assert_eq!(world.received(ben.0, &consumer), [(false, b"3".to_vec())]);
    assert!(world.events.contains(&Event::DataConsumerPaused(consumer.id)));
    assert!(world.events.ends_with(&[Event::DataConsumerResumed(consumer.id)]));
}

#[test]
fn messages_pass_a_pipe_in_order_although_a_twentieth_of_all_datagrams_is_lost() {
    let mut world = World::new(41);
    let pipe = Pipe::new(&mut world, &PipeTransportOptions { enable_sctp: true, ..Default::default() });
    let anna = world.join_with_data();
    let producer = world.produce_data(anna, ordered(3));
    let options = DataConsumerOptions::default();
    let near = world.core.consume_data(world.now, pipe.near_end, producer.id, options).unwrap();
    assert_eq!((&*near.label, &*near.protocol), ("chat", "json"));
    let options = DataProducerOptions {
        sctp_stream_parameters: near.sctp_stream_parameters,
        label: near.label,
        protocol: near.protocol,
        paused: false,
    };
    let far = world.core.produce_data(world.now, pipe.far_end, options).unwrap();
    world.router = pipe.far;
    let ben = world.join_with_data();
    let consumer = world.consume_data(ben, &far);
    world.network.loss = 0.05;
    let mut random = StdRng::seed_from_u64(41);
    world.stream(anna.0, 3, (0..1000).map(|number| numbered(&mut random, number)));
    world.network.loss = 0.0;
    world.run(5 * SECOND);
    assert!(numbers(world.received(ben.0, &consumer)).into_iter().eq(0..1000));

    let dropped = world.core.stats().dropped_unknown;
    let stranger = SocketAddr::from(([10, 0, 9, 9], 5000));
    let abort = [&[0x13, 0x88, 0x13, 0x88][..], &[0; 8], &[6, 0, 0, 4]].concat();
    for port in world.own_ports.clone() {
        world.network.send(world.now, stranger, port.address, abort.clone());
    }
    world.run(SECOND);
    assert_eq!(world.core.stats().dropped_unknown, dropped + 2);
    world.send(anna.0, 3, &1000_u32.to_be_bytes());
    world.run(SECOND);
    assert_eq!(world.received(ben.0, &consumer).len(), 1001, "a stranger ends nothing");

    let media_only = Pipe::new(&mut world, &PipeTransportOptions::default());
    let options = DataConsumerOptions::default();
    let refused = world.core.consume_data(world.now, media_only.near_end, far.id, options);
    assert_eq!(refused.unwrap_err(), ConsumeDataError::NoSctp);
}

#[test]
fn closing_in_the_middle_closes_both_ends_and_frees_the_stream() {
    let mut world = World::new(28);
    let (anna, ben) = (world.join_with_data(), world.join_with_data());
    let producer = world.produce_data(anna, ordered(7));
    let (first, second) = (world.consume_data(ben, &producer), world.consume_data(ben, &producer));
    world.send(anna.0, 7, &[1; 150_000]);
    world.run(Duration::from_millis(4));
    world.core.close_data_consumer(world.now, first.id).unwrap();
    world.run(2 * SECOND);
    assert_eq!(world.received(ben.0, &second).len(), 1);
    assert_eq!(world.sctp_of(ben.0).closed, [first.sctp_stream_parameters.unwrap().stream_id]);

    world.core.close_data_producer(world.now, producer.id).unwrap();
    world.run(2 * SECOND);
    assert!(world.events.ends_with(&[Event::DataConsumerClosed(second.id)]));
    assert_eq!(world.sctp_of(anna.0).closed, [7], "the sender's channel is closed too");
    assert_eq!(world.sctp_of(ben.0).closed.len(), 2);
    let stats = world.core.stats();
    assert_eq!((stats.data_producers, stats.data_consumers), (0, 0));

    let again = world.produce_data(anna, ordered(7));
    let consumer = world.consume_data(ben, &again);
    world.send(anna.0, 7, b"again");
    world.run(SECOND);
    assert_eq!(world.received(ben.0, &consumer), [(false, b"again".to_vec())]);
    // The peer closes its channel first, as mediasoup-client does, and signalling follows.
    let now = world.now;
    world.sctp(anna.0).close(now, 7);
    world.run(SECOND);
    assert_eq!(world.sctp_of(anna.0).closed, [7, 7], "its own direction is closed in answer");
    world.core.close_data_producer(world.now, again.id).unwrap();
    world.core.close_transport(world.now, ben.1).unwrap();
    assert_eq!(world.core.stats().data_consumers, 0);
}

#[test]
fn an_association_that_both_sides_begin_is_one() {
    let mut world = World::new(29);
    let (peer, transport) = world.join();
    world.peers[peer].sctp = Some(SctpPeer::connect(world.now));
    let anna = (peer, transport);
    let producer = world.produce_data(anna, ordered(0));
    world.run_until(20 * SECOND, |world| world.sctp_of(peer).is_connected);
    let ben = world.join_with_data();
    let consumer = world.consume_data(ben, &producer);
    world.send(peer, 0, b"hello");
    world.run(SECOND);
    assert_eq!(world.received(ben.0, &consumer), [(false, b"hello".to_vec())]);
}

#[test]
fn what_dcep_says_is_ignored_and_what_nobody_produces_is_dropped() {
    let mut world = World::new(30);
    let (anna, ben) = (world.join_with_data(), world.join_with_data());
    let producer = world.produce_data(anna, ordered(0));
    let consumer = world.consume_data(ben, &producer);
    let now = world.now;
    let open = [&[3, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0][..], b"chat"].concat();
    world.sctp(anna.0).send_as(now, 0, PayloadProtocolIdentifier::Dcep, &open);
    world.sctp(anna.0).open(&ordered(9));
    world.send(anna.0, 9, b"to nobody");
    world.send(anna.0, 0, b"hello");
    world.run(SECOND);
    assert_eq!(world.received(ben.0, &consumer), [(false, b"hello".to_vec())]);
    assert_eq!(world.core.stats().dropped_sctp, 2);
}

#[test]
fn impossible_channels_are_refused() {
    let mut world = World::new(31);
    let anna = world.join_with_data();
    let producer = world.produce_data(anna, ordered(5));
    let mut produce = |parameters, label: &str| {
        let (sctp_stream_parameters, label) = (Some(parameters), label.to_owned());
        let options =
            DataProducerOptions { sctp_stream_parameters, label, protocol: String::new(), paused: false };
        world.core.produce_data(world.now, anna.1, options).map(drop).map_err(|error| error.to_string())
    };
    let refusal = |why: &str| Err(format!("sctpStreamParameters: {why}"));
    assert_eq!(produce(ordered(5), ""), refusal("streamId 5 is in use on this transport"));
    assert_eq!(produce(ordered(1024), ""), refusal("streamId 1024 is not below 1024"));
    assert_eq!(
        produce(SctpStreamParameters { max_retransmits: Some(1), ..ordered(6) }, ""),
        refusal("maxPacketLifeTime and maxRetransmits need ordered to be false")
    );
    assert!(produce(ordered(6), &"x".repeat(1025)).is_err());
    assert_eq!(produce(ordered(6), &"x".repeat(1024)), Ok(()));

    let foreign = world.core.create_router(&[]).unwrap().0;
    let elsewhere = world.core.create_webrtc_transport(foreign, &TRANSPORT).unwrap().id;
    let options = DataConsumerOptions::default;
    assert!(world.core.consume_data(world.now, elsewhere, producer.id, options()).is_err(), "another router");
    let without =
        world.core.create_webrtc_transport(world.router, &WebRtcTransportOptions::default()).unwrap();
    assert_eq!(without.sctp_parameters, None);
    let refused = world.core.consume_data(world.now, without.id, producer.id, options());
    assert_eq!(refused.unwrap_err(), ConsumeDataError::NoSctp);
    for _ in 0..1022 {
        world.core.consume_data(world.now, anna.1, producer.id, options()).unwrap();
    }
    let refused = world.core.consume_data(world.now, anna.1, producer.id, options());
    assert_eq!(refused.unwrap_err(), ConsumeDataError::Full(1024), "two streams are the producers'");
}

#[test]
fn consumers_may_choose_another_reliability() {
    let mut world = World::new(32);
    let anna = world.join_with_data();
    let producer = world.produce_data(anna, ordered(5));
    let mut consume = |options| {
        let consumer = world.core.consume_data(world.now, anna.1, producer.id, options).unwrap();
        let SctpStreamParameters { ordered, max_packet_life_time, max_retransmits, .. } =
            consumer.sctp_stream_parameters.unwrap();
        (ordered, max_packet_life_time, max_retransmits)
    };
    let options = DataConsumerOptions::default;
    assert_eq!(consume(options()), (true, None, None));
    assert_eq!(consume(DataConsumerOptions { ordered: Some(false), ..options() }), (false, None, None));
    let limited = DataConsumerOptions { max_retransmits: Some(3), ..options() };
    assert_eq!(consume(limited), (false, None, Some(3)));
}

#[test]
fn garbage_ends_its_senders_association_at_most() {
    let mut world = World::new(33);
    let (anna, ben, mallory) = (world.join_with_data(), world.join_with_data(), world.join_with_data());
    let producer = world.produce_data(anna, ordered(0));
    let consumer = world.consume_data(ben, &producer);
    let hers = world.produce_data(mallory, ordered(0));
    let his = world.consume_data(ben, &hers);
    let mut random = StdRng::seed_from_u64(33);
    for round in 0..20_000 {
        let mut noise = vec![0; random.random_range(0..300)];
        random.fill(&mut noise[..]);
        let now = world.now;
        world.peers[mallory.0].send_application_data(now, &noise);
        world.peers[mallory.0].handle_timeout(now);
        if round % 200 == 0 {
            world.send(anna.0, 0, b"undisturbed");
            world.run(Duration::from_millis(10));
        }
    }
    world.run(SECOND);
    assert_eq!(world.received(ben.0, &consumer).len(), 100);
    assert!(world.core.stats().dropped_sctp > 15_000);
    world.send(mallory.0, 0, b"nor does noise harm its own association");
    world.run(SECOND);
    assert_eq!(world.received(ben.0, &his).len(), 1);
}

#[test]
fn the_process_itself_talks_to_peers_over_a_direct_transport() {
    let mut world = World::new(34);
    let ben = world.join_with_data();
    let direct = world.core.create_direct_transport(world.router).unwrap();
    let options = |sctp_stream_parameters| {
        let (label, protocol) = ("bot".to_owned(), String::new());
        DataProducerOptions { sctp_stream_parameters, label, protocol, paused: false }
    };
    assert!(
        world.core.produce_data(world.now, direct, options(Some(ordered(0)))).is_err(),
        "no streams there"
    );
    assert!(world.core.produce_data(world.now, ben.1, options(None)).is_err(), "streams there");
    let bot = world.core.produce_data(world.now, direct, options(None)).unwrap();
    let to_ben = world.consume_data(ben, &bot);
    let bens = world.produce_data(ben, ordered(700));
    let to_bot = world.core.consume_data(world.now, direct, bens.id, DataConsumerOptions::default()).unwrap();
    assert_eq!(to_bot.sctp_stream_parameters, None);

    let message = |text: &'static str| DataMessage::String(Bytes::from_static(text.as_bytes()));
    let everyone = Audience::default();
    world.core.send_data(world.now, bot.id, &message("hello"), &everyone).unwrap();
    let elsewhere = world.core.send_data(world.now, bens.id, &message("forged"), &everyone);
    assert_eq!(elsewhere, Err(SendDataError::NotDirect));
    let too_long = DataMessage::Binary(vec![0; MAX_MESSAGE_LEN + 1].into());
    let refused = world.core.send_data(world.now, bot.id, &too_long, &everyone);
    assert_eq!(refused, Err(SendDataError::TooLong(MAX_MESSAGE_LEN + 1)));
    world.say(ben.0, 700, true, b"hi");
    world.run(SECOND);
    assert_eq!(world.received(ben.0, &to_ben), [(true, b"hello".to_vec())]);
    assert_eq!(world.core.poll_delivered(), Some(Delivery::Message(to_bot.id, message("hi"))));

    let to_some = |world: &mut World, audience: &Audience| {
        world.core.send_data(world.now, bot.id, &message("some"), audience).unwrap();
        world.core.data_consumer_stats(to_ben.id).unwrap().messages_sent
    };
    let channel_4 = Audience { subchannels: vec![4, 5], required_subchannel: None };
    let channel_9 = Audience { subchannels: vec![4], required_subchannel: Some(9) };
    let sent = [to_some(&mut world, &channel_4), to_some(&mut world, &channel_9)];
    assert_eq!(sent, [1, 1], "ben listens to neither");
    world.core.set_data_consumer_subchannels(to_ben.id, vec![4]).unwrap();
    let sent = [to_some(&mut world, &channel_4), to_some(&mut world, &channel_9)];
    assert_eq!(sent, [2, 2], "ben does not listen to 9");

    world.core.close_transport(world.now, direct).unwrap();
    assert!(world.core.poll_event().is_some_and(|event| event == Event::DataConsumerClosed(to_ben.id)));
    assert_eq!(world.core.poll_delivered(), Some(Delivery::TransportClosed(direct)));
    assert_eq!(world.core.poll_delivered(), Some(Delivery::DataConsumerClosed(to_bot.id)));
}
