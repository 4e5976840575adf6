//! The last flight of handshake messages that was sent, repeated until the peer goes on (RFC 6347 section 4.2.4).
//!
//! `rtc-dtls` has a timer for that too, but forgets it as soon as anything of the handshake arrives, be it only a part
//! of the peer's next flight or a repetition of its last one: after one more loss both sides would wait for ever. The
//! datagrams are therefore kept here and sent again when there is no such timer. Their plaintext records get new
//! numbers (so do all others, or the numbers would collide), because a peer drops a record number that it has seen, and
//! would not learn that its answer to the flight was lost.

use std::time::{Duration, Instant};

use bytes::BytesMut;

/// How long to wait for the peer's next flight at first; it doubles with every repetition. RFC 6347 section 4.2.4.1
/// proposes a second and allows less where the round trip is known to be short, as it is between browsers and servers.
const FIRST_INTERVAL: Duration = Duration::from_millis(200);
/// The longest wait.
const MAX_INTERVAL: Duration = Duration::from_millis(3200);
/// How often a flight is repeated before the handshake has failed: after 17 s.
const MAX_REPEATS: u32 = 8;
/// Datagrams of one flight; weir's fit in far fewer.
const MAX_DATAGRAMS: usize = 16;
/// Bytes of a record's header (RFC 6347 section 4.1): type, version, epoch, number, length.
const RECORD_HEADER_LEN: usize = 13;

/// The flight that waits for an answer.
#[derive(Debug, Default)]
pub(super) struct Flight {
    datagrams: Vec<BytesMut>,
    /// How many of them have been sent in the current round.
    sent: usize,
    repeats: u32,
    repeat_at: Option<Instant>,
    /// Whether what is sent next begins a new flight.
    is_over: bool,
    is_done: bool,
    /// The number of the next plaintext record.
    next_record: u64,
}

impl Flight {
    /// Something came from the peer, or is made anew: what is sent next is a new flight.
    pub(super) fn end(&mut self) {
        self.is_over = true;
    }

    /// The handshake is over: nothing is repeated any more.
    pub(super) fn finish(&mut self) {
        *self = Self { is_done: true, next_record: self.next_record, ..Self::default() };
    }

    /// Whether the handshake is over.
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Takes a datagram that goes out for the first time, and gives it its record numbers.
    pub(super) fn send(&mut self, now: Instant, mut datagram: BytesMut) -> BytesMut {
        if !self.is_done {
            if std::mem::take(&mut self.is_over) {
                *self = Self { next_record: self.next_record, ..Self::default() };
            }
            if self.datagrams.len() < MAX_DATAGRAMS {
                self.datagrams.push(datagram.clone());
            }
            self.sent = self.datagrams.len();
            self.repeat_at = Some(now + FIRST_INTERVAL);
        }
        renumber(&mut datagram, &mut self.next_record);
        datagram
    }

    /// When the flight is due again.
    pub(super) fn repeat_at(&self) -> Option<Instant> {
        self.repeat_at
    }

    /// Starts another round if one is due. False if there were too many.
    pub(super) fn repeat(&mut self, now: Instant) -> bool {
        if self.repeat_at.is_none_or(|due| due > now) {
            return true;
        }
        self.repeats += 1;
        self.sent = 0;
        self.repeat_at = Some(now + MAX_INTERVAL.min(FIRST_INTERVAL * (1 << self.repeats.min(MAX_REPEATS))));
        self.repeats <= MAX_REPEATS
    }

    /// The next datagram of the current round.
    pub(super) fn next(&mut self) -> Option<BytesMut> {
        let mut datagram = self.datagrams.get(self.sent)?.clone();
        self.sent += 1;
        renumber(&mut datagram, &mut self.next_record);
        Some(datagram)
    }
}

/// Numbers the records that are not encrypted (epoch 0); the others' numbers are part of their encryption.
fn renumber(datagram: &mut [u8], next: &mut u64) {
    let mut rest = datagram;
    while let Some((header, body)) = rest.split_first_chunk_mut::<RECORD_HEADER_LEN>() {
        let [_, _, _, epoch_high, epoch_low, number @ .., len_high, len_low] = header;
        if (*epoch_high, *epoch_low) == (0, 0) {
            let [_, _, low @ ..] = next.to_be_bytes();
            *number = low;
            *next += 1;
        }
        let len = usize::from(u16::from_be_bytes([*len_high, *len_low]));
        rest = body.get_mut(len..).unwrap_or_default();
    }
}
