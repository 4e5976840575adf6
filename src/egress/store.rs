//! The files of all peers, in memory.
//!
//! A change of a peer's files is applied as one, so that a playlist never lists what isn't there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Notify;

use super::{HlsFile, PLAYLIST_TYPE};
use crate::ids::PeerId;
use crate::media::presentation::{FileKind, Update};

/// One peer's files.
#[derive(Debug, Default)]
pub(super) struct PeerFiles {
    files: RwLock<HashMap<String, HlsFile>>,
    playable: AtomicBool,
    /// The number of the next segment, for a peer that comes back.
    next_sequence: AtomicU64,
    /// Something changed: for the copy on disk.
    pub(super) changed: Notify,
}

impl PeerFiles {
    pub(super) fn apply(&self, update: Update) {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        for file in update.files {
            let (content_type, cache_control) = headers(file.kind);
            files.insert(file.name, HlsFile::new(content_type, cache_control, file.body));
        }
        for name in update.gone {
            files.remove(&name);
        }
        drop(files);
        self.changed.notify_one();
    }

    pub(super) fn clear(&self) {
        self.set_playable(false);
        self.files.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.changed.notify_one();
    }

    pub(super) fn get(&self, name: &str) -> Option<HlsFile> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(super) fn snapshot(&self) -> HashMap<String, HlsFile> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// How many files there are, and how many bytes they hold.
    pub(super) fn size(&self) -> (usize, usize) {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        (files.len(), files.values().map(|file| file.body.len()).sum())
    }

    pub(super) fn playable(&self) -> bool {
        self.playable.load(Ordering::Relaxed)
    }

    pub(super) fn set_playable(&self, playable: bool) {
        self.playable.store(playable, Ordering::Relaxed);
    }

    pub(super) fn next_sequence(&self) -> u64 {
        self.next_sequence.load(Ordering::Relaxed)
    }

    pub(super) fn set_next_sequence(&self, sequence: u64) {
        self.next_sequence.store(sequence, Ordering::Relaxed);
    }
}

const fn headers(kind: FileKind) -> (&'static str, &'static str) {
    match kind {
        FileKind::Playlist => (PLAYLIST_TYPE, "public, max-age=1"),
        FileKind::Video => ("video/mp4", "public, max-age=3600, immutable"),
        FileKind::Audio => ("audio/mp4", "public, max-age=3600, immutable"),
    }
}

/// All peers' files.
#[derive(Debug, Default)]
pub(super) struct Store {
    peers: RwLock<HashMap<PeerId, Arc<PeerFiles>>>,
}

impl Store {
    pub(super) fn insert(&self, peer: &PeerId, files: &Arc<PeerFiles>) {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        peers.insert(peer.clone(), Arc::clone(files));
    }

    /// Removes a peer's files, unless the peer came back with others.
    pub(super) fn remove(&self, peer: &PeerId, files: &Arc<PeerFiles>) {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        if peers.get(peer).is_some_and(|current| Arc::ptr_eq(current, files)) {
            peers.remove(peer);
        }
    }

    pub(super) fn file(&self, name: &str) -> Option<HlsFile> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        owners(name)
            .filter_map(|owner| owner.parse::<PeerId>().ok())
            .find_map(|owner| peers.get(&owner)?.get(name))
    }

    /// How many files all peers have, and how many bytes they hold.
    pub(super) fn size(&self) -> (usize, usize) {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        let add = |all: (usize, usize), one: (usize, usize)| (all.0 + one.0, all.1 + one.1);
        peers.values().map(|files| files.size()).fold((0, 0), add)
    }

    pub(super) fn playable(&self) -> Vec<PeerId> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.iter().filter(|(_, files)| files.playable()).map(|(peer, _)| peer.clone()).collect()
    }
}

/// The peers that a file of this name may belong to: ids may hold the very marks that names are made of.
fn owners(name: &str) -> impl Iterator<Item = &str> {
    let playlist = name.strip_suffix(".m3u8");
    let rendition =
        playlist.and_then(|stem| stem.strip_suffix("-video").or_else(|| stem.strip_suffix("-audio")));
    let media = name.strip_prefix("video_").or_else(|| name.strip_prefix("audio_"));
    let numbered =
        |suffix| media.and_then(|rest: &str| rest.strip_suffix(suffix)).and_then(|s| s.rsplit_once('_'));
    let segment = numbered(".m4s").map(|(peer, _)| peer);
    let init = numbered(".mp4").and_then(|(peer, _)| peer.strip_suffix("_init"));
    [playlist, rendition, segment, init].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::presentation::File;

    #[test]
    fn files_are_found_by_name_whatever_the_peer_is_called() {
        let store = Store::default();
        for peer in ["a", "a-video", "a_001", "video_b_init"] {
            let files = Arc::new(PeerFiles::default());
            let names = [
                format!("{peer}.m3u8"),
                format!("{peer}-audio.m3u8"),
                format!("video_{peer}_001.m4s"),
                format!("audio_{peer}_init_0.mp4"),
            ];
            let file = |name: &String| File {
                name: name.clone(),
                kind: FileKind::Video,
                body: peer.to_owned().into(),
            };
            files.apply(Update { files: names.iter().map(file).collect(), gone: Vec::new() });
            store.insert(&peer.parse().unwrap(), &files);
            for name in names {
                assert_eq!(store.file(&name).unwrap().body, Bytes::from(peer), "{name}");
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
        let (old, new) = (Arc::new(PeerFiles::default()), Arc::new(PeerFiles::default()));
        store.insert(&peer, &old);
        store.insert(&peer, &new);
        new.set_playable(true);
        store.remove(&peer, &old);
        assert_eq!(store.playable(), std::slice::from_ref(&peer));
        store.remove(&peer, &new);
        assert!(store.playable().is_empty());
    }
}
