//! What is written, what makes room, and what a disk may do wrong.

use super::*;

const LONG: Duration = Duration::from_secs(60);

fn archive(folder: &Path, limit: u64) -> Arc<Archive> {
    Archive::start(folder.to_owned(), limit, &Handle::current())
}

fn file(body: &str) -> HlsFile {
    HlsFile::new("video/mp4", "public", body.to_owned().into())
}

/// The next notes of a shelf.
async fn notes(shelf: &Shelf) -> Vec<Note> {
    let wait = async {
        loop {
            let notes = shelf.take_notes();
            if !notes.is_empty() {
                return notes;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap()
}

/// Until everything that was asked for before is done.
async fn idle(archive: &Arc<Archive>) {
    let last = archive.shelf();
    last.store("last", &file(""));
    notes(&last).await;
    last.remove("last");
}

fn stored(name: &str) -> Note {
    Note::Stored(name.to_owned())
}

fn lost(name: &str) -> Note {
    Note::Lost(name.to_owned())
}

fn on_disk(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![folder.to_owned()] };
    entries.flat_map(|entry| on_disk(&entry.unwrap().path())).collect()
}

#[tokio::test]
async fn what_is_stored_is_read_in_pieces_and_goes_with_its_peer() {
    let folder = tempfile::tempdir().unwrap();
    let archive = archive(folder.path(), 1_000_000);
    let shelf = archive.shelf();
    let long = "0123456789".repeat(60_000);
    let whole = file(&long);
    shelf.store("a", &whole);
    assert_eq!(notes(&shelf).await, [stored("a")]);
    let found = shelf.get("a").unwrap();
    assert_eq!((found.length, &found.tag), (600_000, &whole.plain().tag));
    assert_eq!(found.read(15..18).await.unwrap(), "567");
    let first = found.read(5..600_000).await.unwrap();
    assert!(first.len() < 300_000 && first.starts_with(b"56789"), "{}", first.len());
    assert!(found.read(599_999..600_001).await.is_err(), "beyond the end");
    assert_eq!(archive.amount(), Amount { files: 1, bytes: 600_000, lost: 0 });
    shelf.end();
    assert!(!shelf.has("a"));
    idle(&archive).await;
    assert_eq!(archive.amount(), Amount::default());
    idle(&archive).await;
    assert!(!folder.path().join("0").exists());
}

#[tokio::test]
async fn the_oldest_of_all_peers_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let archive = archive(folder.path(), 25);
    let (one, other) = (archive.shelf(), archive.shelf());
    for (shelf, name) in [(&one, "a"), (&other, "b")] {
        shelf.store(name, &file("0123456789"));
        assert_eq!(notes(shelf).await, [stored(name)]);
    }
    other.store("c", &file("0123456789"));
    assert_eq!(notes(&other).await, [stored("c")]);
    assert_eq!(notes(&one).await, [lost("a")]);
    assert_eq!(archive.amount().bytes, 20);
    assert!(one.has("a"), "until the peer lists it no more");
    one.remove("a");
    idle(&archive).await;
    assert_eq!(on_disk(folder.path()).iter().filter(|path| path.ends_with("a")).count(), 0);
    // More than the limit alone is given up at once.
    one.store("d", &file(&"x".repeat(30)));
    assert_eq!(notes(&one).await, [stored("d"), lost("d")]);
}

#[tokio::test]
async fn what_left_memory_before_it_was_written_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let archive = archive(folder.path(), 1000);
    let shelf = archive.shelf();
    shelf.store("a", &file("a"));
    shelf.remove("a");
    assert!(shelf.state().waiting.is_empty(), "nothing is held for a slow disk");
    idle(&archive).await;
    assert!(!shelf.has("a") && shelf.take_notes().is_empty());
}

#[tokio::test]
async fn a_disk_that_fails_says_so_by_storing_nothing_and_may_recover() {
    let folder = tempfile::tempdir().unwrap();
    // What has to be a folder is a file: that stops root, too.
    let path = folder.path().join("dvr");
    std::fs::write(&path, "in the way").unwrap();
    let archive = archive(&path, 1000);
    let shelf = archive.shelf();
    shelf.store("a", &file("a"));
    while !shelf.state().waiting.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    std::fs::remove_file(&path).unwrap();
    shelf.store("b", &file("b"));
    let mut told = notes(&shelf).await;
    told.retain(|note| *note != stored("a")); // written, if the file was gone by then
    assert_eq!(told, [stored("b")]);
    // What somebody removed is not there any more.
    let found = shelf.get("b").unwrap();
    std::fs::remove_dir_all(&path).unwrap();
    for _ in 0..2 {
        assert_eq!(found.read(0..1).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(shelf.take_notes(), [lost("b")], "once");
}

#[tokio::test]
async fn an_earlier_run_leaves_nothing_and_strangers_files_stay() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["0", "17", "mine"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        std::fs::write(folder.path().join(name).join("a"), "a").unwrap();
    }
    archive(folder.path(), 1000);
    assert_eq!(on_disk(folder.path()), [folder.path().join("mine/a")]);
}
