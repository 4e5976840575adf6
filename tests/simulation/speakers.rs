//! Who is loud and who speaks, as observers tell it.

use std::time::Duration;

use mediasoup_types::rtp_parameters::MediaKind;
use serde_json::json;
use weir::ids::{ProducerId, RtpObserverId, TransportId};
use weir::media::ortc;
use weir::sfu::api::Event;
use weir::sfu::observers::{ObserveError, ObserverOptions};

use crate::peer::{AUDIO_LEVEL, OPUS};
use crate::world::World;

const LEVELS: ObserverOptions =
    ObserverOptions::AudioLevel { max_entries: 1, threshold: -60, interval: Duration::from_secs(1) };
const SPEAKER: ObserverOptions = ObserverOptions::ActiveSpeaker { interval: Duration::from_millis(300) };

/// Two who have microphones, and what observes them.
struct Scene {
    world: World,
    peers: [usize; 2],
    producers: [ProducerId; 2],
    levels: RtpObserverId,
    speaker: RtpObserverId,
    frames: u64,
}

fn produce(world: &mut World, transport: TransportId, ssrc: u32) -> ProducerId {
    let parameters = json!({
        "codecs": [{"mimeType": "audio/opus", "payloadType": OPUS, "clockRate": 48000, "channels": 2}],
        "headerExtensions": [{"uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "id": AUDIO_LEVEL}],
        "encodings": [{"ssrc": ssrc}],
        "rtcp": {"cname": "peer"},
    });
    let parameters = ortc::parse_rtp_parameters(&parameters).unwrap();
    world.core.produce(world.now, transport, MediaKind::Audio, &parameters, false).unwrap().id
}

impl Scene {
    fn new() -> Self {
        let mut world = World::new(7);
        let joined = [world.join(), world.join()];
        let producers =
            [(0, 1000), (1, 2000)].map(|(who, ssrc): (usize, u32)| produce(&mut world, joined[who].1, ssrc));
        let levels = world.core.create_observer(world.router, LEVELS).unwrap();
        let speaker = world.core.create_observer(world.router, SPEAKER).unwrap();
        for observer in [levels, speaker, levels] {
            for producer in producers {
                world.core.observe(world.now, observer, producer).unwrap();
            }
        }
        Self { world, peers: joined.map(|(peer, _)| peer), producers, levels, speaker, frames: 0 }
    }

    /// Lets both be heard at these levels for a while, and gives what was told of it.
    fn hear(&mut self, millis: u64, levels: [u8; 2]) -> Vec<Event> {
        self.world.events.clear();
        for _ in 0..millis / 20 {
            for (who, level) in levels.into_iter().enumerate() {
                self.world.peers[self.peers[who]].send_audio((who as u32 + 1) * 1000, self.frames, level);
            }
            self.frames += 1;
            self.world.run(Duration::from_millis(20));
        }
        self.world.events.clone()
    }

    fn speakers(&self, events: &[Event]) -> Vec<ProducerId> {
        let of = |event: &Event| match event {
            Event::DominantSpeaker { observer, producer, .. } if *observer == self.speaker => Some(*producer),
            _ => None,
        };
        events.iter().filter_map(of).collect()
    }
}

#[test]
fn who_speaks_becomes_the_dominant_speaker_and_a_click_changes_nothing() {
    let mut scene = Scene::new();
    let [anna, ben] = scene.producers;
    let quiet = scene.hear(2000, [100, 100]);
    assert_eq!(scene.speakers(&quiet), [anna], "someone dominates from the beginning");
    let click = scene.hear(60, [100, 15]);
    assert_eq!(scene.speakers(&click), []);
    let more = scene.hear(1000, [100, 100]);
    assert_eq!(scene.speakers(&more), []);
    let talk = scene.hear(2000, [100, 15]);
    assert_eq!(scene.speakers(&talk), [ben]);
    let pause = scene.hear(400, [100, 100]);
    assert_eq!(scene.speakers(&pause), [], "a pause for breath");
    let answer = scene.hear(3000, [15, 100]);
    assert_eq!(scene.speakers(&answer), [anna]);
    scene.world.core.close_producer(scene.world.now, anna).unwrap();
    scene.world.run(Duration::from_secs(1));
    let left = scene.hear(1000, [30, 100]);
    assert!(scene.speakers(&left).is_empty(), "told at once, when anna was gone");
}

#[test]
fn the_loudest_are_told_while_they_are_loud_and_silence_once() {
    let mut scene = Scene::new();
    let [anna, ben] = scene.producers;
    let told = |events: &[Event]| -> Vec<Option<(ProducerId, i8)>> {
        let of = |event: &Event| match event {
            Event::Volumes { volumes, .. } => {
                Some(volumes.first().map(|entry| (entry.producer, entry.volume)))
            }
            Event::Silence { .. } => Some(None),
            _ => None,
        };
        events.iter().filter_map(of).collect()
    };
    assert_eq!(told(&scene.hear(3000, [100, 100])), [], "it was silent before");
    let loud = told(&scene.hear(3000, [50, 40]));
    assert!(loud.len() >= 2 && loud.iter().all(|entry| entry.is_some_and(|(who, _)| who == ben)), "{loud:?}");
    assert_eq!(loud.last(), Some(&Some((ben, -40))));
    scene.world.core.set_producer_paused(scene.world.now, ben, true).unwrap();
    let other = told(&scene.hear(3000, [50, 40]));
    assert_eq!(other.last(), Some(&Some((anna, -50))), "one who is paused is not heard");
    let silence = told(&scene.hear(4000, [100, 100]));
    assert_eq!(silence.iter().filter(|entry| entry.is_none()).count(), 1, "{silence:?}");
}

#[test]
fn only_audio_of_the_same_router_is_observed() {
    let mut scene = Scene::new();
    let world = &mut scene.world;
    let (_, transport) = world.join();
    let video = world.produce(transport, &[3000]).id;
    assert_eq!(world.core.observe(world.now, scene.levels, video), Err(ObserveError::NotAudio));
    let (elsewhere, _) = world.core.create_router(&ortc::default_router_codecs()).unwrap();
    let stranger = world.core.create_observer(elsewhere, LEVELS).unwrap();
    let refused = world.core.observe(world.now, stranger, scene.producers[0]);
    assert!(matches!(refused, Err(ObserveError::NotFound(_))), "{refused:?}");
    world.core.close_router(world.now, elsewhere).unwrap();
    assert!(world.core.close_observer(stranger).is_err(), "it ended with its router");
    world.core.close_observer(scene.levels).unwrap();
    let events = scene.hear(2000, [30, 30]);
    assert!(!events.iter().any(|event| matches!(event, Event::Volumes { .. })), "{events:?}");
}
