use super::*;
use crate::ids::{DataConsumerId, DataProducerId};

const LIMITS: Limits = Limits {
    peers: 2,
    transports_per_peer: 2,
    producers_per_peer: 3,
    consumers_per_peer: 2,
    data_producers_per_peer: 1,
    data_consumers_per_peer: 1,
};

fn peer(name: &str) -> PeerId {
    name.parse().unwrap()
}

fn join(registry: &mut Registry, name: &str) -> mpsc::Receiver<PeerEvent> {
    let (inbox, events) = mpsc::channel(8);
    registry.add_peer(peer(name), inbox).unwrap();
    events
}

fn empty() -> Registry {
    Registry::new(RouterId::random(), LIMITS, true, Arc::default())
}

fn producer(transport: TransportId, kind: MediaKind) -> Producer {
    let app_data = serde_json::json!({});
    Producer {
        id: ProducerId::random(),
        transport,
        kind,
        paused: false,
        app_data,
        hls: HlsState::Off,
        number: 0,
    }
}

/// A room in which `a` publishes audio and video for HLS and `b` receives.
struct Story {
    registry: Registry,
    send: TransportId,
    receive: TransportId,
    audio: ProducerId,
    video: ProducerId,
    consumer: ConsumerId,
}

fn story() -> Story {
    let mut registry = empty();
    join(&mut registry, "a");
    join(&mut registry, "b");
    let (send, receive) = (TransportId::random(), TransportId::random());
    assert_eq!(registry.add_transport(&peer("a"), Direction::Send, send, true), Ok(vec![]));
    assert_eq!(registry.add_transport(&peer("b"), Direction::Receive, receive, true), Ok(vec![]));
    let (audio, video) = (producer(send, MediaKind::Audio), producer(send, MediaKind::Video));
    let (audio_id, video_id) = (audio.id, video.id);
    assert_eq!(registry.add_producer(&peer("a"), audio, true), Ok(HlsState::Chosen));
    assert_eq!(registry.add_producer(&peer("a"), video, true), Ok(HlsState::Chosen));
    assert!(registry.set_fed(audio_id));
    assert!(registry.set_fed(video_id));
    let consumer = ConsumerId::random();
    assert_eq!(registry.add_consumer(&peer("b"), receive, audio_id, consumer), Ok(()));
    Story { registry, send, receive, audio: audio_id, video: video_id, consumer }
}

#[test]
fn a_peer_that_leaves_takes_everything_along() {
    let Story { mut registry, send, video, .. } = story();
    assert!(registry.set_live(&peer("a")));
    let removed = registry.remove_peer(&peer("a")).unwrap();
    assert_eq!(
        removed,
        RemovedPeer { info: None, transports: vec![send], had_hls: true, was_live: true, ended_room: false }
    );
    assert!(!registry.has_producer(video));
    assert_eq!(registry.remove_transport(send), None);
    assert_eq!(registry.remove_peer(&peer("a")), None);
    registry.remove_peer(&peer("b")).unwrap();
    assert_eq!(registry.counts(), [0, 0, 0, 0]);
}

#[test]
fn a_peer_that_does_not_publish_leaves_without_ending_hls() {
    let Story { mut registry, receive, consumer, .. } = story();
    let removed = registry.remove_peer(&peer("b")).unwrap();
    assert_eq!(
        removed,
        RemovedPeer {
            info: None,
            transports: vec![receive],
            had_hls: false,
            was_live: false,
            ended_room: false
        }
    );
    assert_eq!(registry.owner(consumer), None);
}

#[test]
fn the_room_and_its_peers_hold_no_more_than_they_may() {
    let Story { mut registry, send, receive, audio, .. } = story();
    let (inbox, _events) = mpsc::channel(1);
    assert_eq!(registry.add_peer(peer("a"), inbox.clone()), Err(Refusal::Full(2)));
    assert_eq!(registry.add_peer(peer("c"), inbox.clone()), Err(Refusal::Full(2)));
    assert_eq!(registry.add_producer(&peer("a"), producer(send, MediaKind::Video), true), Ok(HlsState::Off));
    assert_eq!(
        registry.add_producer(&peer("a"), producer(send, MediaKind::Video), true),
        Err(Refusal::Full(3))
    );
    assert_eq!(registry.add_consumer(&peer("b"), receive, audio, ConsumerId::random()), Ok(()));
    assert_eq!(
        registry.add_consumer(&peer("b"), receive, audio, ConsumerId::random()),
        Err(Refusal::Full(2))
    );
    registry.remove_peer(&peer("b"));
    assert_eq!(registry.add_peer(peer("a"), inbox.clone()), Err(Refusal::NameTaken));
    assert_eq!(registry.add_peer(peer("b"), inbox), Ok(()));
}

#[test]
fn a_closed_room_lets_nobody_in() {
    let Story { mut registry, .. } = story();
    let mut present = registry.close();
    present.sort();
    assert_eq!(present, [peer("a"), peer("b")]);
    registry.remove_peer(&peer("a"));
    let (inbox, _events) = mpsc::channel(1);
    assert_eq!(registry.add_peer(peer("c"), inbox), Err(Refusal::Gone));
}

#[test]
fn a_new_transport_replaces_the_old_one_of_its_direction() {
    let Story { mut registry, send, audio, video, .. } = story();
    registry.set_live(&peer("a"));
    let again = TransportId::random();
    let replaced = registry.add_transport(&peer("a"), Direction::Send, again, true).unwrap();
    let [(previous, removed)] = replaced.as_slice() else { panic!("one was there: {replaced:?}") };
    assert_eq!(*previous, send);
    assert_eq!(removed.producers.iter().map(|producer| producer.id).collect::<Vec<_>>(), [audio, video]);
    assert!(removed.ends_hls && removed.was_live);
    let sends_on =
        |registry: &Registry| registry.transport(&peer("a"), TransportRef::Newest, Direction::Send);
    assert_eq!(sends_on(&registry), Some(again));
    assert!(!registry.owns_transport(&peer("a"), send));
    let other = TransportId::random();
    assert_eq!(registry.add_transport(&peer("a"), Direction::Receive, other, true), Ok(vec![]));
    assert_eq!(sends_on(&registry), Some(again));
}

#[test]
fn a_transport_that_ends_takes_its_consumers_along() {
    let Story { mut registry, receive, consumer, .. } = story();
    let (owner, removed) = registry.remove_transport(receive).unwrap();
    assert_eq!((owner, removed), (peer("b"), RemovedTransport::default()));
    assert_eq!(registry.owner(consumer), None);
    assert_eq!(registry.counts(), [2, 2, 0, 0]);
}

#[test]
fn nothing_is_added_to_a_transport_that_ended_meanwhile() {
    let Story { mut registry, send, receive, audio, .. } = story();
    registry.remove_transport(send);
    registry.remove_peer(&peer("b"));
    assert_eq!(registry.add_producer(&peer("a"), producer(send, MediaKind::Audio), true), Err(Refusal::Gone));
    assert_eq!(registry.add_consumer(&peer("b"), receive, audio, ConsumerId::random()), Err(Refusal::Gone));
    assert_eq!(
        registry.add_transport(&peer("b"), Direction::Receive, TransportId::random(), true),
        Err(Refusal::Gone)
    );
}

#[test]
fn hls_ends_with_the_last_source_that_feeds_it() {
    let Story { mut registry, send, audio, video, .. } = story();
    registry.add_producer(&peer("a"), producer(send, MediaKind::Video), true).unwrap();
    assert!(registry.set_live(&peer("a")));
    assert!(!registry.set_live(&peer("a")), "it is no news the second time");
    let (_, ends_hls, was_live) = registry.remove_producer(&peer("a"), audio).unwrap();
    assert_eq!((ends_hls, was_live), (false, false));
    let (_, ends_hls, was_live) = registry.remove_producer(&peer("a"), video).unwrap();
    assert_eq!((ends_hls, was_live), (true, true));
    assert!(!registry.set_live(&peer("a")), "a second camera is not in HLS");
    assert_eq!(registry.live().count(), 0);
}

#[test]
fn a_tap_that_could_not_be_made_leaves_the_place_to_the_next_producer() {
    let Story { mut registry, send, video, .. } = story();
    registry.set_unfed(video);
    let next = producer(send, MediaKind::Video);
    assert_eq!(registry.add_producer(&peer("a"), next, true), Ok(HlsState::Chosen));
}

#[test]
fn without_hls_no_producer_is_chosen() {
    let mut registry = empty();
    join(&mut registry, "a");
    let send = TransportId::random();
    registry.add_transport(&peer("a"), Direction::Send, send, true).unwrap();
    let audio = producer(send, MediaKind::Audio);
    assert_eq!(registry.add_producer(&peer("a"), audio, false), Ok(HlsState::Off));
    assert!(!registry.set_live(&peer("a")));
}

#[test]
fn only_a_change_counts_as_pausing() {
    let Story { mut registry, audio, .. } = story();
    assert!(!registry.set_paused(audio, false));
    assert!(registry.set_paused(audio, true));
    assert!(!registry.set_paused(audio, true));
    assert!(!registry.set_paused(ProducerId::random(), true));
}

#[test]
fn everyone_sees_what_is_published() {
    let Story { registry, audio, video, .. } = story();
    let published: Vec<_> = registry.producers().map(|(name, entry)| (name.clone(), entry.id)).collect();
    assert_eq!(published, [(peer("a"), audio), (peer("a"), video)]);
    assert_eq!(registry.producer_of_kind(&peer("a"), MediaKind::Video), Some(video));
    assert_eq!(registry.producer_of_kind(&peer("b"), MediaKind::Video), None);
}

#[test]
fn foreign_things_are_not_ones_own() {
    let Story { mut registry, send, audio, consumer, .. } = story();
    assert!(!registry.owns_transport(&peer("b"), send));
    assert_eq!(registry.remove_producer(&peer("b"), audio), None);
    assert_eq!(registry.owner(consumer), Some(peer("b")));
    assert_eq!(registry.remove_consumer(consumer), Some((peer("b"), audio)));
    assert_eq!(registry.remove_consumer(consumer), None);
}

#[test]
fn the_inbox_ends_when_the_peer_is_removed() {
    let mut registry = empty();
    let mut events = join(&mut registry, "a");
    let ended = PeerEvent::TransportClosed(TransportId::random());
    registry.inbox(&peer("a")).unwrap().try_send(ended.clone()).unwrap();
    registry.remove_peer(&peer("a"));
    assert_eq!(events.try_recv(), Ok(ended));
    assert_eq!(events.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
}

#[test]
fn what_was_never_connected_says_nothing_about_its_peer() {
    let Story { mut registry, send, receive, .. } = story();
    registry.set_connected(send);
    registry.set_connected(TransportId::random());
    assert!(registry.remove_transport(send).unwrap().1.was_connected);
    assert!(!registry.remove_transport(receive).unwrap().1.was_connected);
}

#[test]
fn a_transport_that_replaces_nothing_is_one_more_up_to_the_limit() {
    let Story { mut registry, send, .. } = story();
    let both = TransportId::random();
    assert_eq!(registry.add_transport(&peer("a"), Direction::Both, both, false), Ok(vec![]));
    let a = peer("a");
    for direction in [Direction::Send, Direction::Receive] {
        assert_eq!(registry.transport(&a, TransportRef::Newest, direction), Some(both));
    }
    assert_eq!(registry.transport(&a, TransportRef::Id(send), Direction::Send), Some(send));
    assert_eq!(registry.transport(&a, TransportRef::Id(send), Direction::Receive), None);
    let third = TransportId::random();
    assert_eq!(registry.add_transport(&a, Direction::Receive, third, false), Err(Refusal::Full(2)));
    assert_eq!(registry.add_transport(&a, Direction::Receive, third, true), Err(Refusal::Full(2)));
    assert_eq!(registry.owner(third), None);
}

#[test]
fn only_what_was_on_a_transport_ends_with_it() {
    let Story { mut registry, send, audio, video, .. } = story();
    let other = TransportId::random();
    registry.add_transport(&peer("a"), Direction::Both, other, false).unwrap();
    let kept = ConsumerId::random();
    registry.add_consumer(&peer("a"), other, audio, kept).unwrap();
    registry.add_producer(&peer("a"), producer(other, MediaKind::Audio), true).unwrap();
    let (_, removed) = registry.remove_transport(send).unwrap();
    assert_eq!(removed.producers.iter().map(|producer| producer.id).collect::<Vec<_>>(), [audio, video]);
    assert!(removed.ends_hls, "the second microphone never fed HLS");
    assert_eq!(registry.owner(kept), Some(peer("a")));
    assert_eq!(registry.counts(), [2, 1, 2, 0]);
}

#[test]
fn a_room_that_does_not_stay_ends_with_its_last_peer() {
    let index = Arc::<Index>::default();
    let mut registry = Registry::new(RouterId::random(), LIMITS, false, Arc::clone(&index));
    let (_a, _b) = (join(&mut registry, "a"), join(&mut registry, "b"));
    assert!(!registry.remove_peer(&peer("a")).unwrap().ended_room);
    assert!(registry.remove_peer(&peer("b")).unwrap().ended_room);
    let (inbox, _events) = mpsc::channel(1);
    assert_eq!(registry.add_peer(peer("c"), inbox), Err(Refusal::Gone));
}

#[test]
fn a_name_is_taken_in_all_rooms_and_a_thing_is_of_one_room() {
    let index = Arc::<Index>::default();
    let mut rooms = [(); 2].map(|()| Registry::new(RouterId::random(), LIMITS, true, Arc::clone(&index)));
    let [one, other] = &mut rooms;
    let _events = join(one, "a");
    let (inbox, _other_events) = mpsc::channel(1);
    assert_eq!(other.add_peer(peer("a"), inbox.clone()), Err(Refusal::NameTaken));
    let send = TransportId::random();
    one.add_transport(&peer("a"), Direction::Send, send, true).unwrap();
    assert!(one.owns_transport(&peer("a"), send));
    assert!(!other.owns_transport(&peer("a"), send));
    assert_eq!(other.remove_transport(send), None);
    one.remove_peer(&peer("a")).unwrap();
    assert_eq!(other.add_peer(peer("a"), inbox), Ok(()));
}

#[test]
fn what_a_peer_tells_about_itself_is_kept_until_it_tells_something_else() {
    let Story { mut registry, .. } = story();
    let named = |name: &str| PeerInfo { display_name: Some(name.into()), ..PeerInfo::default() };
    assert_eq!(registry.infos(), []);
    assert_eq!(registry.set_info(&peer("a"), named("Anna")), Ok(None));
    assert_eq!(registry.set_info(&peer("a"), named("Annie")), Ok(Some(named("Anna"))));
    assert_eq!(registry.infos(), [(peer("a"), named("Annie"))]);
    assert_eq!(registry.set_info(&peer("z"), named("Zoe")), Err(Refusal::Gone));
}

#[test]
fn data_channels_end_with_their_transport_and_are_as_many_as_they_may() {
    let Story { mut registry, send, receive, .. } = story();
    let producer = |transport| DataProducer {
        id: DataProducerId::random(),
        transport,
        app_data: serde_json::Value::Null,
    };
    let first = producer(send);
    let id = first.id;
    assert_eq!(registry.add_data_producer(&peer("a"), first), Ok(()));
    assert_eq!(registry.add_data_producer(&peer("a"), producer(send)), Err(Refusal::Full(1)));
    assert_eq!(registry.add_data_producer(&peer("b"), producer(send)), Err(Refusal::Gone));
    assert_eq!(registry.data_producers_of_others(&peer("b")), [id]);
    assert_eq!(registry.data_producers_of_others(&peer("a")), []);
    let consumer = DataConsumerId::random();
    let entry = |id| DataConsumer { id, transport: receive, producer: first_id(&registry) };
    let (one, more) = (entry(consumer), entry(DataConsumerId::random()));
    assert_eq!(registry.add_data_consumer(&peer("b"), one), Ok(()));
    assert_eq!(registry.add_data_consumer(&peer("b"), more), Err(Refusal::Full(1)));
    assert_eq!(registry.owner(consumer), Some(peer("b")));
    registry.remove_transport(receive);
    assert_eq!((registry.owner(consumer), registry.remove_data_consumer(consumer)), (None, None));
    registry.remove_peer(&peer("a"));
    assert_eq!(registry.owner(id), None);
}

fn first_id(registry: &Registry) -> DataProducerId {
    registry.data_producers_of_others(&peer("b"))[0]
}
