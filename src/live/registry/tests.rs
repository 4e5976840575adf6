use super::*;

const LIMITS: Limits = Limits { peers: 2, producers_per_peer: 3, consumers_per_peer: 2 };

fn peer(name: &str) -> PeerId {
    name.parse().unwrap()
}

fn join(registry: &mut Registry, name: &str) -> mpsc::Receiver<PeerEvent> {
    let (inbox, events) = mpsc::channel(8);
    registry.add_peer(peer(name), inbox).unwrap();
    events
}

fn producer(kind: MediaKind) -> Producer {
    let app_data = serde_json::json!({});
    Producer { id: ProducerId::random(), kind, paused: false, app_data, hls: HlsState::Off }
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
    let mut registry = Registry::new(LIMITS);
    join(&mut registry, "a");
    join(&mut registry, "b");
    let (send, receive) = (TransportId::random(), TransportId::random());
    assert_eq!(registry.add_transport(&peer("a"), Direction::Send, send), Ok(None));
    assert_eq!(registry.add_transport(&peer("b"), Direction::Receive, receive), Ok(None));
    let (audio, video) = (producer(MediaKind::Audio), producer(MediaKind::Video));
    let (audio_id, video_id) = (audio.id, video.id);
    assert_eq!(registry.add_producer(&peer("a"), send, audio, true), Ok(HlsState::Chosen));
    assert_eq!(registry.add_producer(&peer("a"), send, video, true), Ok(HlsState::Chosen));
    assert!(registry.set_fed(audio_id, TapId::random()));
    assert!(registry.set_fed(video_id, TapId::random()));
    let consumer = ConsumerId::random();
    assert_eq!(registry.add_consumer(&peer("b"), receive, consumer), Ok(()));
    Story { registry, send, receive, audio: audio_id, video: video_id, consumer }
}

#[test]
fn a_peer_that_leaves_takes_everything_along() {
    let Story { mut registry, send, video, .. } = story();
    assert!(registry.set_live(&peer("a")));
    let removed = registry.remove_peer(&peer("a")).unwrap();
    assert_eq!(removed, RemovedPeer { transports: vec![send], had_hls: true, was_live: true });
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
    assert_eq!(removed, RemovedPeer { transports: vec![receive], had_hls: false, was_live: false });
    assert_eq!(registry.consumer_owner(consumer), None);
}

#[test]
fn the_room_and_its_peers_hold_no_more_than_they_may() {
    let Story { mut registry, send, receive, .. } = story();
    let (inbox, _events) = mpsc::channel(1);
    assert_eq!(registry.add_peer(peer("a"), inbox.clone()), Err(Refusal::Full(2)));
    assert_eq!(registry.add_peer(peer("c"), inbox.clone()), Err(Refusal::Full(2)));
    assert_eq!(registry.add_producer(&peer("a"), send, producer(MediaKind::Video), true), Ok(HlsState::Off));
    assert_eq!(
        registry.add_producer(&peer("a"), send, producer(MediaKind::Video), true),
        Err(Refusal::Full(3))
    );
    assert_eq!(registry.add_consumer(&peer("b"), receive, ConsumerId::random()), Ok(()));
    assert_eq!(registry.add_consumer(&peer("b"), receive, ConsumerId::random()), Err(Refusal::Full(2)));
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
    let (previous, removed) =
        registry.add_transport(&peer("a"), Direction::Send, again).unwrap().expect("one was there");
    assert_eq!(previous, send);
    assert_eq!(removed.producers.iter().map(|producer| producer.id).collect::<Vec<_>>(), [audio, video]);
    assert!(removed.ends_hls && removed.was_live);
    assert_eq!(registry.transport(&peer("a"), Direction::Send), Some(again));
    assert!(!registry.owns_transport(&peer("a"), send));
    assert_eq!(registry.add_transport(&peer("a"), Direction::Receive, TransportId::random()), Ok(None));
    assert_eq!(registry.transport(&peer("a"), Direction::Send), Some(again));
}

#[test]
fn a_transport_that_ends_takes_its_consumers_along() {
    let Story { mut registry, receive, consumer, .. } = story();
    let (owner, removed) = registry.remove_transport(receive).unwrap();
    assert_eq!((owner, removed), (peer("b"), RemovedTransport::default()));
    assert_eq!(registry.consumer_owner(consumer), None);
    assert_eq!(registry.counts(), [2, 2, 0, 0]);
}

#[test]
fn nothing_is_added_to_a_transport_that_ended_meanwhile() {
    let Story { mut registry, send, receive, .. } = story();
    registry.remove_transport(send);
    registry.remove_peer(&peer("b"));
    assert_eq!(registry.add_producer(&peer("a"), send, producer(MediaKind::Audio), true), Err(Refusal::Gone));
    assert_eq!(registry.add_consumer(&peer("b"), receive, ConsumerId::random()), Err(Refusal::Gone));
    assert_eq!(
        registry.add_transport(&peer("b"), Direction::Receive, TransportId::random()),
        Err(Refusal::Gone)
    );
}

#[test]
fn hls_ends_with_the_last_source_that_feeds_it() {
    let Story { mut registry, send, audio, video, .. } = story();
    registry.add_producer(&peer("a"), send, producer(MediaKind::Video), true).unwrap();
    assert!(registry.set_live(&peer("a")));
    assert!(!registry.set_live(&peer("a")), "it is no news the second time");
    let (_, ends_hls, was_live) = registry.remove_producer(&peer("a"), audio).unwrap();
    assert_eq!((ends_hls, was_live), (false, false));
    let (_, ends_hls, was_live) = registry.remove_producer(&peer("a"), video).unwrap();
    assert_eq!((ends_hls, was_live), (true, true));
    assert!(!registry.set_live(&peer("a")), "a second camera is not in HLS");
    assert!(registry.live().is_empty());
}

#[test]
fn a_tap_that_could_not_be_made_leaves_the_place_to_the_next_producer() {
    let Story { mut registry, send, video, .. } = story();
    registry.set_unfed(video);
    let next = producer(MediaKind::Video);
    assert_eq!(registry.add_producer(&peer("a"), send, next, true), Ok(HlsState::Chosen));
}

#[test]
fn without_hls_no_producer_is_chosen() {
    let mut registry = Registry::new(LIMITS);
    join(&mut registry, "a");
    let send = TransportId::random();
    registry.add_transport(&peer("a"), Direction::Send, send).unwrap();
    let audio = producer(MediaKind::Audio);
    assert_eq!(registry.add_producer(&peer("a"), send, audio, false), Ok(HlsState::Off));
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
fn a_peer_sees_what_the_others_publish() {
    let Story { registry, audio, video, .. } = story();
    assert_eq!(registry.producers_of_others(&peer("b")), [(peer("a"), audio), (peer("a"), video)]);
    assert_eq!(registry.producers_of_others(&peer("a")), []);
    assert_eq!(registry.producer_of_kind(&peer("a"), MediaKind::Video), Some(video));
    assert_eq!(registry.producer_of_kind(&peer("b"), MediaKind::Video), None);
}

#[test]
fn foreign_things_are_not_ones_own() {
    let Story { mut registry, send, audio, consumer, .. } = story();
    assert!(!registry.owns_transport(&peer("b"), send));
    assert_eq!(registry.remove_producer(&peer("b"), audio), None);
    assert_eq!(registry.consumer_owner(consumer), Some(&peer("b")));
    assert_eq!(registry.remove_consumer(consumer), Some(peer("b")));
    assert_eq!(registry.remove_consumer(consumer), None);
}

#[test]
fn the_inbox_ends_when_the_peer_is_removed() {
    let mut registry = Registry::new(LIMITS);
    let mut events = join(&mut registry, "a");
    registry.inbox(&peer("a")).unwrap().try_send(PeerEvent::ConsumerClosed(ConsumerId::random())).unwrap();
    registry.remove_peer(&peer("a"));
    assert!(matches!(events.try_recv(), Ok(PeerEvent::ConsumerClosed(_))));
    assert_eq!(events.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
}

#[test]
fn what_was_never_connected_says_nothing_about_its_peer() {
    let Story { mut registry, send, receive, .. } = story();
    registry.set_connected(send);
    registry.set_connected(TransportId::random());
    assert!(registry.remove_transport(send).unwrap().1.was_connected);
    assert!(!registry.remove_transport(receive).unwrap().1.was_connected);
    assert!(registry.connected.is_empty());
}
