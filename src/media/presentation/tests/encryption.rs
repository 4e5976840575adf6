//! What is encrypted, and what playlists tell of it.

use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

/// What openssl makes of a file of AES-128.
pub(super) fn decrypted(file: &[u8], secret: u8, iv: u64) -> Vec<u8> {
    let key: String = (0..BLOCK_BYTES).map(|_| format!("{secret:02x}")).collect();
    let mut openssl = Command::new("openssl")
        .args(["enc", "-d", "-aes-128-cbc", "-K", &key, "-iv", &format!("{iv:032x}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    openssl.stdin.take().unwrap().write_all(file).unwrap();
    let output = openssl.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl can't decrypt it");
    output.stdout
}

#[test]
fn each_file_of_aes_128_is_decrypted_on_its_own_and_with_what_the_playlist_tells() {
    let (mut clear, mut shown) = (Shown::new(), Shown::encrypted(Method::Aes128, 2));
    for shown in [&mut clear, &mut shown] {
        (0..3).for_each(|_| shown.push(3));
        shown.open();
        shown.parts();
    }
    for (segment, key) in [(0, 1), (1, 1), (2, 2)] {
        let line =
            |key: u64| format!("#EXT-X-KEY:METHOD=AES-128,URI=\"p-key-{key}.key\",IV=0x{segment:032x}");
        for kind in ["video", "audio"] {
            assert!(
                shown.has(&format!("p-{kind}.m3u8"), &line(segment / 2 * 2)),
                "{}",
                shown.full("p-video.m3u8")
            );
            let parts = (segment * 3..segment * 3 + 3).map(|part| format!("{kind}_p_p{part}.m4s"));
            for name in parts.chain([format!("{kind}_p_{segment:03}.m4s")]) {
                assert_ne!(shown.files[&name], clear.files[&name]);
                assert_eq!(
                    decrypted(&shown.files[&name], key * 16 + 1, segment),
                    clear.files[&name],
                    "{name}"
                );
            }
        }
    }
    assert_eq!(shown.files["p-key-0.key"], [17; 16][..]);
    assert_eq!(
        shown.files["video_p_init_0.mp4"], clear.files["video_p_init_0.mp4"],
        "init segments stay clear"
    );
    assert!(!shown.files.contains_key("p.mpd"));
    assert_eq!(count(shown.full("p-video.m3u8"), "#EXT-X-DISCONTINUITY"), 1, "its sequence");
}

#[test]
fn a_clear_init_segment_behind_a_key_is_said_to_be_clear() {
    let mut shown = Shown::encrypted(Method::Aes128, 0);
    shown.push(3);
    shown.look.discontinuity = true;
    shown.look.sizes = vec![(1280, 720)];
    shown.push(3);
    shown.open();
    shown.parts();
    let playlist = shown.full("p-video.m3u8");
    assert!(
        playlist
            .contains("#EXT-X-KEY:METHOD=NONE\n#EXT-X-MAP:URI=\"video_p_init_1.mp4\"\n#EXT-X-KEY:METHOD=AES")
    );
    let (head, _) = playlist.split_once("#EXT-X-MAP").unwrap();
    assert!(!head.contains("#EXT-X-KEY"), "nothing precedes the first one: {head}");
    assert!(
        shown.full("p-audio.m3u8").matches("METHOD=NONE").count() == 0,
        "and the sound's init segment stays"
    );
}

#[test]
fn a_key_goes_with_the_last_segment_that_needs_it() {
    let mut shown = Shown::encrypted(Method::Aes128, 2);
    (0..20).for_each(|_| shown.push(10));
    let keys = shown.files.keys().filter(|name| name.ends_with(".key")).cloned().collect::<Vec<_>>();
    // Segments 11 to 19 are there.
    assert_eq!(keys, ["p-key-10.key", "p-key-12.key", "p-key-14.key", "p-key-16.key", "p-key-18.key"]);
}

#[test]
fn a_new_key_of_cbcs_comes_with_init_segments_and_a_discontinuity_in_every_rendition() {
    let mut shown = Shown::encrypted(Method::Cbcs, 2);
    (0..5).for_each(|_| shown.push(3));
    shown.open();
    shown.parts();
    for kind in ["video", "audio"] {
        let playlist = shown.full(&format!("p-{kind}.m3u8"));
        for (segment, key) in [(0, 1), (2, 2), (4, 3)] {
            let told = format!(
                "#EXT-X-MAP:URI=\"{kind}_p_init_{segment}.mp4\"\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"p-key-{segment}.key\",\
                 IV=0x{},KEYFORMAT=\"identity\"\n",
                format!("{:02x}", key * 16 + 2).repeat(16)
            );
            assert!(playlist.contains(&told), "{playlist}");
            let init = &shown.files[&format!("{kind}_p_init_{segment}.mp4")];
            assert!(init.windows(16).any(|bytes| bytes == [key * 16; 16]), "the key's id");
        }
        assert_eq!((count(playlist, "#EXT-X-DISCONTINUITY"), count(playlist, "#EXT-X-KEY")), (2 + 1, 3));
        assert!(!playlist.contains("METHOD=NONE"));
        let parts = (0..3).map(|number| &shown.files[&format!("{kind}_p_p{number}.m4s")]);
        let joined: Vec<u8> = parts.flat_map(|body| body.to_vec()).collect();
        assert_eq!(joined, shown.files[&format!("{kind}_p_000.m4s")], "parts make their segment");
    }
    assert!(!shown.files.contains_key("p.mpd"));
}

#[test]
fn silence_before_late_sound_is_encrypted_with_each_segments_key() {
    let late = |method| {
        let mut shown = Shown::encrypted(method, 2);
        shown.look.audio = false;
        (0..4).for_each(|_| shown.push(10));
        (shown.look.audio, shown.look.discontinuity) = (true, true);
        shown.open();
        shown.parts();
        shown
    };
    let shown = late(Method::Aes128);
    for (segment, key) in [(0, 1), (1, 1), (2, 2), (3, 2)] {
        let body = decrypted(&shown.files[&format!("audio_p_{segment:03}.m4s")], key * 16 + 1, segment);
        assert!(body.windows(4).any(|kind| kind == b"moof"));
    }
    // An init segment of cbcs tells of one key: what others are for has no sound.
    let shown = late(Method::Cbcs);
    assert!(shown.files.keys().all(|name| !name.starts_with("audio_p_0")), "{:?}", shown.files.keys());
    assert!(shown.has("p-audio.m3u8", "#EXT-X-MEDIA-SEQUENCE:4"));
}
