//! Pipes between routers: all streams pass, loss is repaired on the way, and viewers choose layers at the far end.

use std::time::Duration;

use weir::ids::{RouterId, TransportId};
use weir::media::ortc;
use weir::sfu::api::{ConsumeError, ConsumerInfo, Event, ProducerInfo};
use weir::sfu::pipe_transport::PipeTransportOptions;
use weir::sfu::plain_transport::PlainRemote;

use crate::world::{Camera, World, film};

const SECOND: Duration = Duration::from_secs(1);

/// Two routers with a pipe between them.
pub(crate) struct Pipe {
    near: RouterId,
    pub(crate) far: RouterId,
    pub(crate) near_end: TransportId,
    pub(crate) far_end: TransportId,
}

impl Pipe {
    pub(crate) fn new(world: &mut World, options: &PipeTransportOptions) -> Self {
        let near = world.router;
        let (far, _) = world.core.create_router(&ortc::default_router_codecs()).unwrap();
        let ends = [near, far].map(|router| {
            let port = world.open_port();
            world.core.create_pipe_transport(router, options, port).unwrap()
        });
        for (own, other) in [(&ends[0], &ends[1]), (&ends[1], &ends[0])] {
            let remote = PlainRemote {
                ip: Some(other.tuple.local_address().parse().unwrap()),
                port: Some(other.tuple.local_port()),
                rtcp_port: None,
                srtp_parameters: other.srtp_parameters.clone(),
            };
            world.core.connect_plain_transport(world.now, own.id, &remote).unwrap();
        }
        Self { near, far, near_end: ends[0].id, far_end: ends[1].id }
    }

    /// Pipes a producer; the near consumer and the far producer are returned.
    pub(crate) fn carry(&self, world: &mut World, producer: &ProducerInfo) -> (ConsumerInfo, ProducerInfo) {
        let consumer = world.core.consume_pipe(world.now, self.near_end, producer.id, false).unwrap();
        let (kind, parameters) = (consumer.kind, &consumer.rtp_parameters);
        let far = world.core.produce(world.now, self.far_end, kind, parameters, false).unwrap();
        (consumer, far)
    }
}

#[test]
fn all_layers_pass_repaired_and_protected_and_are_chosen_at_the_far_end() {
    for (enable_rtx, enable_srtp, loss) in [(false, false, 0.0), (true, false, 0.05), (true, true, 0.05)] {
        let mut world = World::new(60);
        let options = PipeTransportOptions { enable_rtx, enable_srtp, ..PipeTransportOptions::default() };
        let pipe = Pipe::new(&mut world, &options);
        let (publisher, sending) = world.join();
        let producer = world.produce(sending, &[1000, 2000, 3000]);
        let (consumer, piped) = pipe.carry(&mut world, &producer);
        assert_eq!(consumer.rtp_parameters.encodings.len(), 3);
        assert_eq!(piped.producer_type, producer.producer_type);
        let has_rtx =
            |encoding: &mediasoup_types::rtp_parameters::RtpEncodingParameters| encoding.rtx.is_some();
        assert!(consumer.rtp_parameters.encodings.iter().all(|encoding| has_rtx(encoding) == enable_rtx));

        world.router = pipe.far;
        let (viewer, viewing) = world.join();
        let (viewed, ssrc) = world.consume(viewer, viewing, &piped);
        world.core.set_consumer_paused(world.now, viewed.id, false).unwrap();
        let mut cameras = [1000, 2000, 3000].map(|ssrc| Camera::new(publisher, ssrc, 3));
        let [small, middle, large] = &mut cameras;
        world.network.loss = loss;
        film(&mut world, &mut [small, middle, large], 90);
        let layers = |world: &World| {
            let of_viewer = |event: &Event| match event {
                Event::ConsumerLayersChanged { consumer, layers } if *consumer == viewed.id => *layers,
                _ => None,
            };
            world.events.iter().rev().find_map(of_viewer).map(|layers| layers.spatial)
        };
        assert_eq!(layers(&world), Some(2), "the largest by default");
        let near_asked = world.peers[publisher].key_frame_requests;
        world.core.set_consumer_preferred_layers(world.now, viewed.id, 0, None).unwrap();
        film(&mut world, &mut [small, middle, large], 90);
        assert_eq!(layers(&world), Some(0));
        assert!(
            world.peers[publisher].key_frame_requests > near_asked,
            "the request passes through the pipe"
        );
        world.network.loss = 0.0;
        film(&mut world, &mut [small, middle, large], 30);
        world.run(SECOND);
        let (complete, frames) = world.peers[viewer].inboxes[&ssrc].complete_frames();
        assert!(frames > 180 && complete * 100 >= frames * 99, "{complete} of {frames}");
        assert!(world.core.stats().dropped_srtp == 0);
    }
}

#[test]
fn the_streams_of_a_pipe_are_one_consumer_to_its_owner() {
    let mut world = World::new(61);
    let pipe = Pipe::new(&mut world, &PipeTransportOptions::default());
    let (publisher, sending) = world.join();
    let producer = world.produce(sending, &[1000, 2000]);
    let (consumer, piped) = pipe.carry(&mut world, &producer);
    let [mut small, mut large] = [1000, 2000].map(|ssrc| Camera::new(publisher, ssrc, 2));
    film(&mut world, &mut [&mut small, &mut large], 30);
    let forwarded = world.core.stats().rtp_forwarded;
    assert!(forwarded >= 2 * 2 * 29, "both streams: {forwarded}");
    world.core.set_consumer_paused(world.now, consumer.id, true).unwrap();
    film(&mut world, &mut [&mut small, &mut large], 30);
    assert_eq!(world.core.stats().rtp_forwarded, forwarded, "all of it pauses");
    world.core.set_consumer_paused(world.now, consumer.id, false).unwrap();
    film(&mut world, &mut [&mut small, &mut large], 30);
    assert!(world.core.stats().rtp_forwarded >= forwarded + 2 * 2 * 25);

    let before = world.events.len();
    world.core.set_producer_paused(world.now, producer.id, true).unwrap();
    world.core.set_producer_paused(world.now, producer.id, false).unwrap();
    world.core.close_producer(world.now, producer.id).unwrap();
    world.run(SECOND);
    let mut about_consumers = world.events.split_off(before);
    about_consumers.retain(|event| !matches!(event, Event::ProducerScore { .. }));
    assert_eq!(
        about_consumers,
        [
            Event::ConsumerPaused(consumer.id),
            Event::ConsumerResumed(consumer.id),
            Event::ConsumerClosed(consumer.id)
        ]
    );
    assert!(!world.core.has_consumer(consumer.id) && world.core.stats().consumers == 0);
    assert!(world.core.close_consumer(world.now, consumer.id).is_err());
    world.core.close_producer(world.now, piped.id).unwrap();
    world.core.close_router(world.now, pipe.near).unwrap();
    world.core.close_router(world.now, pipe.far).unwrap();
}

#[test]
fn only_a_pipe_of_the_producers_router_takes_it() {
    let mut world = World::new(62);
    let pipe = Pipe::new(&mut world, &PipeTransportOptions::default());
    let (_, sending) = world.join();
    let producer = world.produce(sending, &[1000]);
    for transport in [sending, pipe.far_end] {
        let refused = world.core.consume_pipe(world.now, transport, producer.id, false);
        assert!(matches!(refused, Err(ConsumeError::NotFound(_))), "{refused:?}");
    }
    let consumers =
        (0..).take_while(|_| world.core.consume_pipe(world.now, pipe.near_end, producer.id, false).is_ok());
    assert_eq!(consumers.count(), weir::sfu::lifecycle::MAX_CONSUMERS);
}
