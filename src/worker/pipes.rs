//! The near ends of pipes to other routers of this process: what happens to their producers is told to the far ends.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::ids::{ConsumerId, DataConsumerId, TransportId};
use crate::sfu::Worker;
use crate::sfu::api::Event;

/// How often pipes are looked at whose other end, or whose consumer, ended without an event.
const REVIEW_INTERVAL: Duration = Duration::from_secs(1);

/// The consumer at the near end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Carried {
    Media(ConsumerId),
    Data(DataConsumerId),
}

impl Carried {
    fn is_there(self, core: &Worker) -> bool {
        match self {
            Self::Media(consumer) => core.has_consumer(consumer),
            Self::Data(consumer) => core.has_data_consumer(consumer),
        }
    }
}

struct Pipe {
    transport: TransportId,
    /// Whether the producer is paused. Dropping it ends the far end.
    state: watch::Sender<bool>,
}

/// Pipes by their consumers.
#[derive(Default)]
pub(super) struct Pipes {
    open: HashMap<Carried, Pipe>,
    reviewed: Option<Instant>,
}

impl Pipes {
    /// Remembers the consumer of a pipe; what is returned tells whether its producer is paused, and when it ends.
    pub(super) fn add(
        &mut self,
        carried: Carried,
        transport: TransportId,
        paused: bool,
    ) -> watch::Receiver<bool> {
        let (state, changes) = watch::channel(paused);
        self.open.insert(carried, Pipe { transport, state });
        changes
    }

    /// Takes an event that is about a pipe. False if it is somebody else's.
    pub(super) fn take(&mut self, core: &mut Worker, now: Instant, event: &Event) -> bool {
        let (carried, paused) = match event {
            Event::ConsumerPaused(consumer) => (Carried::Media(*consumer), Some(true)),
            Event::ConsumerResumed(consumer) => (Carried::Media(*consumer), Some(false)),
            Event::ConsumerClosed(consumer) => (Carried::Media(*consumer), None),
            Event::DataConsumerPaused(consumer) => (Carried::Data(*consumer), Some(true)),
            Event::DataConsumerResumed(consumer) => (Carried::Data(*consumer), Some(false)),
            Event::DataConsumerClosed(consumer) => (Carried::Data(*consumer), None),
            _ => return false,
        };
        match (self.open.get(&carried), paused) {
            (None, _) => return false,
            (Some(pipe), Some(paused)) => drop(pipe.state.send_replace(paused)),
            (Some(_), None) => self.close(core, now, carried),
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
            |(carried, pipe): &(&Carried, &Pipe)| pipe.state.is_closed() || !carried.is_there(core);
        let ended: Vec<Carried> = self.open.iter().filter(has_ended).map(|(carried, _)| *carried).collect();
        ended.into_iter().for_each(|carried| self.close(core, now, carried));
    }

    fn close(&mut self, core: &mut Worker, now: Instant, carried: Carried) {
        let Some(pipe) = self.open.remove(&carried) else { return };
        if core.close_transport(now, pipe.transport).is_err() {
            tracing::debug!(?carried, "a pipe's transport ended before it");
        }
    }
}
