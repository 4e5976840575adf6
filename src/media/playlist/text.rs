//! A playlist's text in pieces.
//!
//! A playlist of hours has a part in the middle that stays the same while its end grows several times a second. The
//! pieces are put together only when somebody asks for the whole.

use bytes::{Bytes, BytesMut};

/// A text in three pieces, some of which may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    /// What comes before all segments.
    pub head: Bytes,
    /// Segments whose text other playlists share.
    pub middle: Bytes,
    /// What this playlist alone ends with.
    pub tail: Bytes,
}

impl Text {
    /// How long it is, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.middle.len() + self.tail.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it in one piece.
    #[must_use]
    pub fn join(&self) -> Bytes {
        if self.len() == self.tail.len() {
            return self.tail.clone();
        }
        let mut whole = BytesMut::with_capacity(self.len());
        [&self.head, &self.middle, &self.tail].into_iter().for_each(|piece| whole.extend_from_slice(piece));
        whole.freeze()
    }
}

impl<T: Into<Bytes>> From<T> for Text {
    fn from(text: T) -> Self {
        Self { tail: text.into(), ..Self::default() }
    }
}
