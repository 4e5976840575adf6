//! Pictures of what a peer showed, and the WebVTT file that tells players which one is of when.
//!
//! Its times count from the beginning of the media playlists of the same moment, as players' clocks do that begin then.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;

use super::kept::{Kept, Track};
use super::{File, FileKind, PART_NUMBERS, Presentation};
use crate::media::timeline::MediaTime;

/// How many tiles stand side by side in a sprite.
pub const SPRITE_COLUMNS: usize = 5;
/// How many rows of tiles a sprite has.
pub const SPRITE_ROWS: usize = 5;
/// How many tiles the window should have at most; more are needed for none that is a day long.
pub const MAX_TILES: usize = 1500;
/// No more sprites are kept, whatever the window: the oldest ones go.
const MAX_SPRITES: usize = MAX_TILES / (SPRITE_COLUMNS * SPRITE_ROWS) * 2;

/// A sprite as it is after it got a tile.
#[derive(Debug)]
pub struct Sprite {
    /// A JPEG of all tiles.
    pub body: Bytes,
    /// Width and height of a tile, in pixels.
    pub tile: (u32, u32),
    /// When the picture of each tile is shown, row by row.
    pub shown: Vec<MediaTime>,
}

/// A sprite as it is listed.
#[derive(Debug)]
pub(super) struct Listed {
    name: String,
    tile: (u32, u32),
    shown: Vec<MediaTime>,
}

impl Presentation {
    /// Takes a sprite, in the place of the newest one if it is that one with a further tile.
    pub fn add_sprite(&mut self, sprite: Sprite) {
        let Some(newest) = self.kept.back() else { return };
        let first = newest.sequence.saturating_mul(PART_NUMBERS);
        self.next_sprite = self.next_sprite.saturating_add(1).max(first);
        let name = self.names.sprite(self.next_sprite);
        // Who read of the one before may still ask for it, until the next one comes.
        self.update.gone.extend(self.old_sprite.take());
        let Sprite { body, tile, shown } = sprite;
        if let Some(before) = self.sprites.pop_back_if(|last| last.shown.first() == shown.first()) {
            self.old_sprite = Some(before.name);
        }
        self.sprites.push_back(Listed { name: name.clone(), tile, shown });
        self.update.files.push(File { name, kind: FileKind::Sprite, body });
        self.cues_changed = true;
    }

    /// Drops the sprites of which no segment is kept.
    pub(super) fn drop_sprites(&mut self) {
        let begin = self.kept.iter().find_map(Kept::begin).unwrap_or_default();
        while self.sprites.len() > 1 {
            let next = self.sprites.get(1).and_then(|next| next.shown.first());
            if self.sprites.len() <= MAX_SPRITES && next.is_some_and(|next| *next > begin) {
                return;
            }
            self.update.gone.extend(self.sprites.pop_front().map(|sprite| sprite.name));
        }
    }

    /// The WebVTT file; none as long as there is nothing that it could list.
    pub(super) fn cues(&self) -> Option<String> {
        let first = self.all_listed().find(|kept| kept.begin().is_some())?;
        let start = first.begin()?;
        let tracks = self.recent().flat_map(|kept| kept.tracks.values()).filter(|track| track.uri.is_some());
        let end = tracks.map(Track::end).max()?;
        let since = start.since(MediaTime::default());
        let recorded = humantime::format_rfc3339_millis(first.epoch.checked_add(since)?);
        let mut text = format!("WEBVTT\n\nNOTE 00:00:00.000 is {recorded}, where the playlist begins\n");
        let tiles = self.sprites.iter().flat_map(|sprite| {
            let shown = sprite.shown.iter().enumerate();
            shown.map(move |(index, shown)| (sprite, index, *shown))
        });
        let mut tiles = tiles.peekable();
        let mut written = false;
        while let Some((sprite, index, shown)) = tiles.next() {
            let until = tiles.peek().map_or(end, |(_, _, next)| *next);
            let (from, until) = (shown.since(start), until.since(start));
            if from >= until {
                continue;
            }
            let (width, height) = sprite.tile;
            let place = |number: usize, size: u32| u32::try_from(number).unwrap_or(0).saturating_mul(size);
            let (x, y) = (place(index % SPRITE_COLUMNS, width), place(index / SPRITE_COLUMNS, height));
            let (from, until, name) = (time(from), time(until), &sprite.name);
            write!(text, "\n{from} --> {until}\n{name}#xywh={x},{y},{width},{height}\n").ok()?;
            written = true;
        }
        written.then_some(text)
    }
}

/// A WebVTT timestamp.
fn time(time: Duration) -> String {
    let (seconds, millis) = (time.as_secs(), time.subsec_millis());
    format!("{:02}:{:02}:{:02}.{millis:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
