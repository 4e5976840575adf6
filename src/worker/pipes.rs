//! The near ends of pipes to other routers of this process: what happens to their producers is told to the far ends.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::ids::{ConsumerId, TransportId};
use crate::sfu::Worker;
use crate::sfu::api::Event;

/// How often pipes are looked at whose other end, or whose consumer, ended without an event.
const REVIEW_INTERVAL: Duration = Duration::from_secs(1);

struct Pipe {
    transport: TransportId,
    /// Whether the producer is paused. Dropping it ends the far end.
    state: watch::Sender<bool>,
}

/// Pipes by their consumers.
#[derive(Default)]
pub(super) struct Pipes {
    open: HashMap<ConsumerId, Pipe>,
    reviewed: Option<Instant>,
}

impl Pipes {
    /// Remembers the consumer of a pipe; what is returned tells whether its producer is paused, and when it ends.
    pub(super) fn add(
        &mut self,
        consumer: ConsumerId,
        transport: TransportId,
        paused: bool,
    ) -> watch::Receiver<bool> {
        let (state, changes) = watch::channel(paused);
        self.open.insert(consumer, Pipe { transport, state });
        changes
    }

    /// Takes an event that is about a pipe. False if it is somebody else's.
    pub(super) fn take(&mut self, core: &mut Worker, now: Instant, event: &Event) -> bool {
        let (consumer, paused) = match event {
            Event::ConsumerPaused(consumer) => (consumer, Some(true)),
            Event::ConsumerResumed(consumer) => (consumer, Some(false)),
            Event::ConsumerClosed(consumer) => (consumer, None),
            _ => return false,
        };
        match (self.open.get(consumer), paused) {
            (None, _) => return false,
            (Some(pipe), Some(paused)) => drop(pipe.state.send_replace(paused)),
            (Some(_), None) => self.close(core, now, *consumer),
        }
        true
    }

    /// Ends pipes whose far end is gone, and those whose consumer went with its transport.
    pub(super) fn review(&mut self, core: &mut Worker, now: Instant) {
        let is_due = |last: Instant| now.saturating_duration_since(last) >= REVIEW_INTERVAL;
        if self.open.is_empty() || !self.reviewed.is_none_or(is_due) {
            return;
        }
        self.reviewed = Some(now);
        let has_ended =
            |(id, pipe): &(&ConsumerId, &Pipe)| pipe.state.is_closed() || !core.has_consumer(**id);
        let ended: Vec<ConsumerId> = self.open.iter().filter(has_ended).map(|(id, _)| *id).collect();
        ended.into_iter().for_each(|id| self.close(core, now, id));
    }

    fn close(&mut self, core: &mut Worker, now: Instant, consumer: ConsumerId) {
        let Some(pipe) = self.open.remove(&consumer) else { return };
        if core.close_transport(now, pipe.transport).is_err() {
            tracing::debug!(%consumer, "a pipe's transport ended before it");
        }
    }
}
