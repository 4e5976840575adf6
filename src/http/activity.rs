//! What a client still has to take of its answers on one HTTP/2 connection.
//!
//! There a client may take nothing of one stream while it keeps the connection busy with others, so a time limit on the
//! socket sees nothing. Here each piece of an answer says when the connection last took some of it, and the connection
//! is cut for one that waits too long: it would hold memory for somebody who does not read.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::response::Response;
use bytes::Buf;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use slab::Slab;

/// One connection's answers.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests whose answer is not complete.
    open: usize,
    /// When the last request began or ended.
    changed: Instant,
    /// When the client last took some of each piece that is on its way.
    pieces: Slab<Instant>,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { open: 0, changed: Instant::now(), pieces: Slab::new() }) })
    }

    /// Counts a request as open until the result, or the answer that it was put into, is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Open {
        let mut state = self.state();
        state.open += 1;
        state.changed = Instant::now();
        Open { activity: Arc::clone(self) }
    }

    /// Whether there was nothing to do for `limit`.
    pub(super) fn is_idle(&self, limit: Duration) -> bool {
        let state = self.state();
        state.open == 0 && state.pieces.is_empty() && state.changed.elapsed() >= limit
    }

    /// Whether the client took nothing of some answer for `limit`.
    pub(super) fn is_stuck(&self, limit: Duration) -> bool {
        self.state().pieces.iter().any(|(_, taken)| taken.elapsed() >= limit)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being answered.
pub(super) struct Open {
    activity: Arc<Activity>,
}

impl Open {
    /// The answer, which keeps the request open.
    pub(super) fn answer(self, response: Response) -> hyper::Response<Answer> {
        response.map(|body| Answer { body, open: self })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.open = state.open.saturating_sub(1);
        state.changed = Instant::now();
    }
}

/// The body of an answer.
pub(super) struct Answer {
    body: Body,
    open: Open,
}

impl HttpBody for Answer {
    type Data = Piece;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        frame.map_ok(|frame| frame.map_data(|bytes| Piece::new(bytes, &self.open.activity)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A piece of an answer, shared with whatever holds the same bytes.
#[derive(Debug)]
pub(super) struct Piece {
    bytes: Bytes,
    activity: Arc<Activity>,
    key: usize,
}

impl Piece {
    fn new(bytes: Bytes, activity: &Arc<Activity>) -> Self {
        let key = activity.state().pieces.insert(Instant::now());
        Self { bytes, activity: Arc::clone(activity), key }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if let Some(taken) = self.activity.state().pieces.get_mut(self.key) {
            *taken = Instant::now();
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.pieces.try_remove(self.key);
        state.changed = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_connection_is_stuck_while_an_answer_is_not_taken_and_idle_when_all_is_done() {
        let (activity, at_once, never) = (Activity::new(), Duration::ZERO, Duration::from_secs(3600));
        assert!(activity.is_idle(at_once) && !activity.is_idle(never));
        let open = activity.begin();
        assert!(!activity.is_idle(at_once) && !activity.is_stuck(at_once), "there is nothing to take yet");
        let mut answer = open.answer(Response::new(Body::from("0123456789"))).into_body();
        let mut piece = answer.frame().await.unwrap().unwrap().into_data().unwrap();
        drop(answer);
        assert!(activity.is_stuck(at_once) && !activity.is_stuck(never) && !activity.is_idle(at_once));
        let before = activity.state().pieces.iter().next().map(|(_, taken)| *taken);
        piece.advance(4);
        assert_eq!(piece.chunk(), b"456789");
        assert!(activity.state().pieces.iter().next().map(|(_, taken)| *taken) > before);
        drop(piece);
        assert!(activity.is_idle(at_once) && !activity.is_stuck(at_once));
    }
}
