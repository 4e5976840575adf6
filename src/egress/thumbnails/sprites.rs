//! What a peer showed: a tile every few seconds, many of them in one picture, a sprite.
//!
//! A sprite is written anew, under a new name, with each tile that it gets, so that what has a name never changes. The
//! pixels of the newest one are kept for that.

use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::Thumbnails;
use super::picture::{jpeg, pixels_of, scaled};
use crate::media::presentation::{MAX_TILES, SPRITE_COLUMNS, SPRITE_ROWS, Sprite};
use crate::media::segmenter::VideoUnit;
use crate::media::timeline::MediaTime;

/// The longer side of a tile, in pixels.
const LONGER_SIDE: u32 = 160;
/// What black is in I420: brightness, and both colours.
const BLACK: [u8; 3] = [16, 128, 128];

/// The pixels of a sprite, as I420.
#[derive(Debug, PartialEq)]
struct Canvas {
    tile: (usize, usize),
    /// When the pictures of its tiles are shown.
    shown: Vec<MediaTime>,
    pixels: Vec<u8>,
}

/// A tile that was added.
#[derive(Debug)]
struct Tile {
    canvas: Canvas,
    /// The sprite with it.
    sprite: Sprite,
}

/// Makes one peer's sprites.
#[derive(Debug)]
pub(in crate::egress) struct Sprites {
    thumbnails: Thumbnails,
    interval: Duration,
    /// When the newest tile was taken.
    taken: Option<MediaTime>,
    canvas: Option<Canvas>,
    under_way: Option<oneshot::Receiver<Tile>>,
}

impl Sprites {
    /// Takes a tile every `interval`, or so seldom that `window` needs no more than [`MAX_TILES`].
    pub(in crate::egress) fn new(thumbnails: Thumbnails, interval: Duration, window: Duration) -> Self {
        let tiles = u32::try_from(MAX_TILES).unwrap_or(u32::MAX);
        let interval = interval.max(window / tiles);
        Self { thumbnails, interval, taken: None, canvas: None, under_way: None }
    }

    /// Takes a key frame for a tile, if it is time for one.
    pub(in crate::egress) fn show(&mut self, key_frame: &VideoUnit) {
        let early = self.taken.is_some_and(|taken| key_frame.pts < taken + self.interval);
        if early || self.under_way.is_some() {
            return;
        }
        self.taken = Some(key_frame.pts);
        let size = scaled(key_frame.config.size(), LONGER_SIDE, true);
        let (canvas, unit) = (self.canvas.take(), key_frame.clone());
        let (done, tile) = oneshot::channel();
        let job = move |decoder: &'static str| {
            let tile = Tile::made(&unit, decoder, size, canvas)?;
            drop(done.send(tile)); // to nobody if the peer left
            Ok(())
        };
        self.under_way = self.thumbnails.make(job).then_some(tile);
    }

    /// The sprite with the next tile; never comes if none is made. Cancel safe.
    pub(in crate::egress) async fn next(&mut self) -> Sprite {
        loop {
            let Some(tile) = &mut self.under_way else { std::future::pending().await };
            let made = tile.await;
            self.under_way = None;
            // Without one, its sprite remains as it is, and another one begins.
            if let Ok(Tile { canvas, sprite }) = made {
                self.canvas = Some(canvas);
                return sprite;
            }
        }
    }
}

impl Tile {
    fn made(
        unit: &VideoUnit,
        decoder: &str,
        size: (u32, u32),
        canvas: Option<Canvas>,
    ) -> anyhow::Result<Self> {
        let tile = (usize::try_from(size.0)?, usize::try_from(size.1)?);
        let fits = |canvas: &Canvas| canvas.tile == tile && canvas.shown.len() < SPRITE_COLUMNS * SPRITE_ROWS;
        let mut canvas = canvas.filter(fits).unwrap_or_else(|| Canvas::new(tile));
        canvas.add(unit.pts, &pixels_of(unit, decoder, size)?)?;
        let whole = (u32::try_from(tile.0 * SPRITE_COLUMNS)?, u32::try_from(tile.1 * SPRITE_ROWS)?);
        let body = jpeg(Bytes::copy_from_slice(&canvas.pixels), whole)?;
        let sprite = Sprite { body, tile: size, shown: canvas.shown.clone() };
        Ok(Self { canvas, sprite })
    }
}

impl Canvas {
    fn new(tile: (usize, usize)) -> Self {
        let area = tile.0 * tile.1 * SPRITE_COLUMNS * SPRITE_ROWS;
        let planes = BLACK.into_iter().zip([area, area / 4, area / 4]);
        Self { tile, shown: Vec::new(), pixels: planes.flat_map(|(value, size)| vec![value; size]).collect() }
    }

    /// Puts a picture into the next place.
    fn add(&mut self, shown: MediaTime, picture: &[u8]) -> anyhow::Result<()> {
        let (column, row) = (self.shown.len() % SPRITE_COLUMNS, self.shown.len() / SPRITE_COLUMNS);
        ensure!(picture.len() * SPRITE_COLUMNS * SPRITE_ROWS == self.pixels.len(), "rows are padded");
        let (mut canvas, mut picture) = (self.pixels.as_mut_slice(), picture);
        for shrink in [1, 2, 2] {
            let (width, height) = (self.tile.0 / shrink, self.tile.1 / shrink);
            let line = width * SPRITE_COLUMNS;
            let (plane, rest) =
                canvas.split_at_mut_checked(line * height * SPRITE_ROWS).context("too small")?;
            let (tile, behind) = picture.split_at_checked(width * height).context("too small")?;
            let lines = plane.chunks_exact_mut(line).skip(row * height);
            for (to, from) in lines.zip(tile.chunks_exact(width)) {
                to.iter_mut().skip(column * width).zip(from).for_each(|(to, from)| *to = *from);
            }
            (canvas, picture) = (rest, behind);
        }
        self.shown.push(shown);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_stand_beside_and_below_each_other() {
        let tile = (8, 4);
        let mut canvas = Canvas::new(tile);
        for value in 1..=7 {
            canvas.add(MediaTime::default(), &[value; 8 * 4 * 3 / 2]).unwrap();
        }
        let width = 8 * SPRITE_COLUMNS;
        let at = |column: usize, row: usize| canvas.pixels[row * width + column];
        assert_eq!([at(0, 0), at(7, 3), at(8, 0), at(39, 3)], [1, 1, 2, 5]);
        assert_eq!([at(0, 4), at(15, 7), at(16, 4), at(0, 8)], [6, 7, BLACK[0], BLACK[0]]);
        let colours = &canvas.pixels[width * 4 * SPRITE_ROWS..];
        assert_eq!([colours[0], colours[4], colours[20 * 2], colours[20 * 4]], [1, 2, 6, BLACK[1]]);
        canvas.add(MediaTime::default(), &[8; 8 * 5 * 3 / 2]).unwrap_err();
        assert_eq!(canvas.shown.len(), 7);
    }
}
