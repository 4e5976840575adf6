//! Which file a request gets, and when.

use bytes::Bytes;

use super::*;
use crate::media::presentation::File;
use crate::media::segmenter::VideoId;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);
const PART: Duration = Duration::from_millis(192);

fn files() -> Arc<PeerFiles> {
    Arc::new(PeerFiles::new(PART, None, None))
}

fn file(name: &str, body: &str) -> File {
    let kind = FileKind::Media(Rendition::Video(VideoId::BEST));
    File { name: name.to_owned(), kind, body: body.to_owned().into() }
}

/// A segment with so many parts.
fn open(sequence: u64, parts: u64) -> OpenSegment {
    OpenSegment {
        name: format!("video_a_{sequence:03}.m4s"),
        rendition: Rendition::Video(VideoId::BEST),
        parts: (0..parts).map(|part| format!("part {part},").into()).collect(),
    }
}

/// A playlist that ends with so many parts of segment 10.
fn listing(parts: u64) -> Listing {
    Listing {
        name: "a-video.m3u8".to_owned(),
        full: format!("full {parts}").into(),
        delta: format!("delta {parts}").into(),
        plain: "plain".into(),
        position: Position { complete: Some((9, 10)), open: Some((10, parts)) },
        hint: Some(format!("video_a_p{parts}.m4s")),
        open: Some(open(10, parts)),
        ended: false,
    }
}

fn update(parts: u64) -> Update {
    let newest = file(&format!("video_a_p{}.m4s", parts - 1), "part");
    Update { files: vec![newest], listings: vec![listing(parts)], ..Update::default() }
}

/// A store with one peer whose playlist ends with so many parts of segment 10, and how long requests wait there.
fn store(parts: u64, patience: Duration) -> (Arc<Store>, Arc<PeerFiles>) {
    let waiting = Waiting { patience, ..Waiting::default() };
    let (store, files) = (Store { waiting: Arc::new(waiting), ..Store::default() }, files());
    files.apply(update(parts));
    store.insert(&"a".parse().unwrap(), &files);
    (Arc::new(store), files)
}

fn until(sequence: u64, part: u64) -> Directives {
    Directives { until: Some((sequence, Some(part))), skip: false }
}

/// Until so many requests wait.
async fn waiting(store: &Store, count: usize) {
    while store.waiting.count.load(Ordering::Relaxed) != count {
        tokio::task::yield_now().await;
    }
}

async fn body(store: &Store, name: &str, directives: Directives) -> Result<Bytes, FetchError> {
    store.fetch(name, directives).await.map(|found| match found {
        Fetched::InMemory(file) => file.body,
        Fetched::OnDisk(_) | Fetched::Growing(_) => panic!("{name} is not there as a whole"),
    })
}

#[test]
fn files_are_found_by_name_whatever_the_peer_is_called() {
    let store = Store::default();
    for peer in ["a", "a-video", "a_001", "video_b_init"] {
        let files = files();
        let names = [
            format!("{peer}.m3u8"),
            format!("{peer}-audio.m3u8"),
            format!("video_{peer}_001.m4s"),
            format!("audio_{peer}_init_0.mp4"),
            format!("video1_{peer}_p7.m4s"),
        ];
        let all = names.iter().map(|name| file(name, peer)).collect();
        files.apply(Update { files: all, ..Update::default() });
        store.insert(&peer.parse().unwrap(), &files);
        for name in names {
            assert_eq!(store.file(&name).unwrap().body, Bytes::from(peer), "{name}");
            assert_eq!(store.owner_of(&name).unwrap().as_str(), peer, "{name}");
        }
    }
    for name in ["", ".m3u8", "c.m3u8", "a.ts", "../a.m3u8", "video_a.m4s", "video__001.m4s", "é.m3u8"] {
        assert!(store.file(name).is_none(), "{name}");
    }
}

#[test]
fn a_peer_that_came_back_keeps_its_new_files() {
    let store = Store::default();
    let peer: PeerId = "a".parse().unwrap();
    let (old, new) = (files(), files());
    store.insert(&peer, &old);
    store.insert(&peer, &new);
    new.set_playable(true);
    store.remove(&peer, &old);
    assert_eq!(store.playable(), std::slice::from_ref(&peer));
    store.remove(&peer, &new);
    assert!(store.playable().is_empty());
}

#[tokio::test]
async fn what_is_there_is_answered_at_once() {
    let (store, _files) = store(3, LONG);
    let name = "a-video.m3u8";
    assert_eq!(body(&store, name, Directives::default()).await.unwrap(), "full 3");
    assert_eq!(body(&store, name, Directives { until: None, skip: true }).await.unwrap(), "delta 3");
    assert_eq!(body(&store, name, until(10, 2)).await.unwrap(), "full 3");
    assert_eq!(body(&store, name, until(2, 99)).await.unwrap(), "full 3", "stale");
    assert_eq!(body(&store, "video_a_p2.m4s", Directives::default()).await.unwrap(), "part");
    assert_eq!(body(&store, "video_a_p4.m4s", Directives::default()).await, Err(FetchError::NotFound));
    assert_eq!(body(&store, name, until(13, 0)).await, Err(FetchError::TooFar));
}

#[tokio::test]
async fn what_is_about_to_come_is_waited_for() {
    let (store, files) = store(3, LONG);
    let ask = |name: &'static str, directives| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { body(&store, name, directives).await })
    };
    let next = ask("a-video.m3u8", until(10, 3));
    let after_next = ask("a-video.m3u8", Directives { skip: true, ..until(10, 4) });
    let hinted = ask("video_a_p3.m4s", Directives::default());
    waiting(&store, 3).await;
    files.apply(update(4));
    assert_eq!(next.await.unwrap().unwrap(), "full 4");
    assert_eq!(hinted.await.unwrap().unwrap(), "part");
    waiting(&store, 1).await;
    files.apply(update(5));
    assert_eq!(after_next.await.unwrap().unwrap(), "delta 5");
    assert_eq!(store.waiting.count.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_playlist_is_not_given_out_before_a_segment_is_complete() {
    let (store, files) = store(3, LONG);
    let early = Position { complete: None, open: Some((0, 2)) };
    files.apply(Update { listings: vec![Listing { position: early, ..listing(2) }], ..Update::default() });
    let (first, ()) = tokio::join!(body(&store, "a-video.m3u8", Directives::default()), async {
        waiting(&store, 1).await;
        files.apply(update(4));
    });
    assert_eq!(first.unwrap(), "full 4");
}

#[tokio::test]
async fn what_does_not_come_ends_the_wait() {
    let (impatient, _files) = store(3, Duration::from_millis(1));
    assert_eq!(body(&impatient, "a-video.m3u8", until(10, 3)).await, Err(FetchError::Unavailable));
    let hinted = body(&impatient, "video_a_p3.m4s", Directives::default()).await;
    assert_eq!(hinted, Err(FetchError::Unavailable));

    let (store, files) = store(3, LONG);
    // The end of the playlist answers whoever waits for more of it.
    let ended = Listing { hint: None, ended: true, ..listing(3) };
    let end = Update { listings: vec![ended], ..Update::default() };
    let (waits, hinted, ()) = tokio::join!(
        body(&store, "a-video.m3u8", until(10, 3)),
        body(&store, "video_a_p3.m4s", Directives::default()),
        async { files.apply(end) },
    );
    assert_eq!((waits.unwrap(), hinted), ("full 3".into(), Err(FetchError::NotFound)));
    assert_eq!(body(&store, "a-video.m3u8", until(10, 3)).await.unwrap(), "full 3");

    files.apply(update(3));
    let (waits, ()) = tokio::join!(body(&store, "a-video.m3u8", until(10, 3)), async { files.clear() });
    assert_eq!(waits, Err(FetchError::NotFound));
}

#[tokio::test]
async fn no_more_than_so_many_wait() {
    let (store, _files) = store(3, LONG);
    store.waiting.count.store(MAX_WAITING, Ordering::Relaxed);
    assert_eq!(body(&store, "a-video.m3u8", until(10, 3)).await, Err(FetchError::Unavailable));
    assert_eq!(store.waiting.count.load(Ordering::Relaxed), MAX_WAITING);
    assert!(body(&store, "a-video.m3u8", until(10, 2)).await.is_ok());
}

#[test]
fn a_copy_elsewhere_is_plain_and_knows_what_did_not_change() {
    let (_, files) = store(3, LONG);
    let mut part = file("video_a_p3.m4s", "part");
    part.kind = FileKind::Part(Rendition::Video(VideoId::BEST));
    files.apply(Update { files: vec![part], ..update(4) });
    let before = files.snapshot();
    assert_eq!(before["a-video.m3u8"].body, "plain");
    assert!(!before.contains_key("video_a_p3.m4s"));
    files.apply(update(5));
    assert_eq!(files.snapshot()["a-video.m3u8"].body.as_ptr(), before["a-video.m3u8"].body.as_ptr());
}

/// A store with one peer whose stream is made on demand.
fn on_demand(patience: Duration) -> (Arc<Store>, Arc<PeerFiles>) {
    let waiting = Waiting { patience, ..Waiting::default() };
    let store = Store { waiting: Arc::new(waiting), ..Store::default() };
    let files = Arc::new(PeerFiles::new(PART, None, Some(Demand::new(Instant::now()))));
    store.insert(&"a".parse().unwrap(), &files);
    (Arc::new(store), files)
}

#[tokio::test]
async fn a_playlist_wakes_a_stream_and_whoever_asks_waits_for_it() {
    let (store, files) = on_demand(LONG);
    let media = "video_a_p2.m4s";
    assert_eq!(store.owner_of(media), None);
    assert_eq!(body(&store, media, Directives::default()).await, Err(FetchError::NotFound));
    assert_eq!(store.owner_of("a-audio.m3u8").unwrap().as_str(), "a", "access can be checked");
    assert!(files.is_asleep() && store.asleep() == 1);

    let ask = |name: &'static str| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { body(&store, name, Directives::default()).await })
    };
    let asked = ["a.m3u8", "a.m3u8", "a-video.m3u8", "a-audio.m3u8"].map(ask);
    waiting(&store, 4).await;
    assert!(!files.is_asleep());
    files.apply(update(3));
    assert!(asked.iter().all(|asked| !asked.is_finished()), "not all renditions are there");
    let master = File { name: "a.m3u8".to_owned(), kind: FileKind::Master, body: "master".into() };
    files.apply(Update { files: vec![master], ..Update::default() });
    let expected = [Ok("master"), Ok("master"), Ok("full 3"), Err(FetchError::NotFound)];
    for (asked, expected) in asked.into_iter().zip(expected) {
        assert_eq!(asked.await.unwrap(), expected.map(Bytes::from));
    }
    assert_eq!(body(&store, media, Directives::default()).await.unwrap(), "part");
    assert_eq!(store.owner_of("a-video-1.m3u8"), None, "what is there now is all there is");
}

#[tokio::test]
async fn a_stream_that_does_not_come_is_not_waited_for_forever() {
    let (store, files) = on_demand(Duration::from_millis(5));
    assert_eq!(body(&store, "a.m3u8", Directives::default()).await, Err(FetchError::Unavailable));
    assert_eq!(store.waiting.count.load(Ordering::Relaxed), 0);

    files.clear();
    assert_eq!(body(&store, "a.m3u8", Directives::default()).await, Err(FetchError::NotFound));
}

/// Segment 10 as somebody gets it who asks while it is made.
async fn growing(store: &Store) -> GrowingFile {
    match store.fetch("video_a_010.m4s", Directives::default()).await {
        Ok(Fetched::Growing(file)) => file,
        other => panic!("{other:?}"),
    }
}

/// Segment 10 is complete, and 11 has a part.
fn next_segment() -> Update {
    let whole: String = (0..4).map(|part| format!("part {part},")).collect();
    let next = Listing { open: Some(open(11, 1)), ..listing(4) };
    Update { files: vec![file("video_a_010.m4s", &whole)], listings: vec![next], ..Update::default() }
}

#[tokio::test]
async fn a_segment_that_is_made_is_sent_part_by_part() {
    let (store, files) = store(2, LONG);
    let (mut file, mut slow) = (growing(&store).await, growing(&store).await);
    assert_eq!((file.content_type, store.owner_of("video_a_010.m4s")), ("video/mp4", "a".parse().ok()));
    assert_eq!(file.next().await, Ok(Some("part 0,".into())));
    assert_eq!(file.next().await, Ok(Some("part 1,".into())));
    let next = tokio::spawn(async move { (file.next().await, file) });
    waiting(&store, 1).await;
    files.apply(update(3));
    let (piece, mut file) = next.await.unwrap();
    assert_eq!(piece, Ok(Some("part 2,".into())));
    assert_eq!(slow.next().await, Ok(Some("part 0,".into())));
    files.apply(next_segment());
    assert_eq!(file.next().await, Ok(Some("part 3,".into())));
    assert_eq!(file.next().await, Ok(None));
    assert_eq!(slow.next().await, Ok(Some("part 1,part 2,part 3,".into())));
    assert_eq!(slow.next().await, Ok(None));
    assert!(matches!(store.fetch("video_a_010.m4s", Directives::default()).await, Ok(Fetched::InMemory(_))));
}

#[tokio::test]
async fn who_reads_a_growing_segment_too_slowly_is_told_and_holds_nothing() {
    let (impatient, _files) = store(1, Duration::from_millis(10));
    let mut file = growing(&impatient).await;
    assert!(file.next().await.unwrap().is_some());
    assert_eq!(file.next().await, Err(FetchError::Unavailable), "nothing comes");

    let (store, files) = store(2, LONG);
    let mut slow = growing(&store).await;
    assert_eq!(slow.next().await, Ok(Some("part 0,".into())));
    files.apply(next_segment());
    files.apply(Update { gone: vec!["video_a_010.m4s".to_owned()], ..Update::default() });
    assert_eq!(slow.next().await, Err(FetchError::NotFound));
    let mut next = match store.fetch("video_a_011.m4s", Directives::default()).await {
        Ok(Fetched::Growing(file)) => file,
        other => panic!("{other:?}"),
    };
    assert!(next.next().await.unwrap().is_some());
    let waits = tokio::spawn(async move { next.next().await });
    waiting(&store, 1).await;
    files.clear();
    assert_eq!(waits.await.unwrap(), Err(FetchError::NotFound), "the peer is gone");
    waiting(&store, 0).await;
}
