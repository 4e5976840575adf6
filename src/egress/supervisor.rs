//! Keeps one track's pipeline running: a pipeline that fails, hangs or does not start is replaced, later each time.
//!
//! Nothing here waits for GStreamer: starting and stopping happen elsewhere ([`super::blocking`]), and a pipeline that
//! hangs is left behind.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::pipeline::{Output, Pipeline, Plan};
use super::watchdog::Watchdog;

/// The wait before a failed pipeline's first restart; each further one takes twice as long.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// The longest wait before a restart.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// A pipeline that ran for so long is healthy: its next failure waits for [`FIRST_BACKOFF`] again.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);
/// A pipeline that gives nothing for so long, although it could, hangs. With [`FIRST_BACKOFF`] it is replaced within a
/// second. One that needs longer because the machine is slow gets as long as the wait before its next restart.
const HUNG_AFTER: Duration = Duration::from_millis(700);
/// A pipeline that has not started by then is left behind.
const START_WITHIN: Duration = Duration::from_secs(3);

enum Engine {
    Running {
        pipeline: Box<Pipeline>,
        watchdog: Watchdog,
        since: Instant,
    },
    Starting {
        started: oneshot::Receiver<anyhow::Result<Pipeline>>,
        until: Instant,
    },
    /// It failed and is started again at `at`.
    Waiting {
        at: Instant,
    },
}

/// What a supervised pipeline brings.
#[derive(Debug)]
pub(super) enum Event {
    Output(Output),
    /// A pipeline runs from now on; `again` if it took another one's place.
    Started {
        again: bool,
    },
}

/// One track's pipelines, one after the other.
pub(super) struct Supervisor {
    plan: Plan,
    needs_key_frame: bool,
    engine: Engine,
    started_once: bool,
    backoff: Duration,
}

impl Supervisor {
    /// Begins to start a pipeline. `needs_key_frame` tells whether media has to begin with one.
    pub(super) fn new(plan: Plan, needs_key_frame: bool, now: Instant) -> Self {
        let waiting = Engine::Waiting { at: now };
        let mut supervisor =
            Self { plan, needs_key_frame, engine: waiting, started_once: false, backoff: FIRST_BACKOFF };
        supervisor.start(now);
        supervisor
    }

    /// The pipeline, if one runs.
    pub(super) fn pipeline(&self) -> Option<&Pipeline> {
        match &self.engine {
            Engine::Running { pipeline, .. } => Some(pipeline),
            _ => None,
        }
    }

    /// Whether a pipeline will run in a moment, so that media should wait for it.
    pub(super) fn is_starting(&self) -> bool {
        matches!(self.engine, Engine::Starting { .. })
    }

    /// What the running pipeline is watched by.
    pub(super) fn watchdog(&mut self) -> Option<&mut Watchdog> {
        match &mut self.engine {
            Engine::Running { watchdog, .. } => Some(watchdog),
            _ => None,
        }
    }

    /// The next thing that happens. Cancel safe.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            let result = match &mut self.engine {
                Engine::Running { pipeline, .. } => return Event::Output(pipeline.next().await),
                Engine::Waiting { at } => {
                    tokio::time::sleep_until((*at).into()).await;
                    self.start(Instant::now());
                    continue;
                }
                Engine::Starting { started, until } => {
                    tokio::time::timeout_at((*until).into(), started).await
                }
            };
            let now = Instant::now();
            match result {
                Ok(Ok(Ok(pipeline))) => {
                    let watchdog = Watchdog::new(self.needs_key_frame, now);
                    self.engine = Engine::Running { pipeline: Box::new(pipeline), watchdog, since: now };
                    let again = std::mem::replace(&mut self.started_once, true);
                    if again {
                        self.plan.meter.restarted();
                    }
                    return Event::Started { again };
                }
                Ok(Ok(Err(reason))) => self.failed(&format!("it does not start: {reason:#}"), now),
                Ok(Err(_)) => self.failed("it does not start: no thread", now),
                Err(_) => {
                    self.plan.meter.hung();
                    self.failed("it hangs in its start", now);
                }
            }
        }
    }

    /// An output that is there already, to save a round through the scheduler.
    pub(super) fn try_output(&mut self) -> Option<Output> {
        match &mut self.engine {
            Engine::Running { pipeline, .. } => pipeline.try_next(),
            _ => None,
        }
    }

    /// Notes that the pipeline is no good any more.
    pub(super) fn failed(&mut self, reason: &str, now: Instant) {
        let (peer, template) = (self.plan.meter.peer(), self.plan.template.name());
        tracing::warn!(%peer, template, reason, again_in = ?self.backoff, "pipeline failed, it will be replaced");
        self.engine = Engine::Waiting { at: now + self.backoff };
        self.plan.variables.fallback = true;
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
    }

    /// Regular upkeep: finds a pipeline that hangs.
    pub(super) fn tick(&mut self, now: Instant) {
        let Engine::Running { watchdog, since, .. } = &mut self.engine else { return };
        if now.saturating_duration_since(*since) >= HEALTHY_AFTER {
            self.backoff = FIRST_BACKOFF;
        }
        if watchdog.hangs(now, HUNG_AFTER.max(self.backoff)) {
            self.plan.meter.hung();
            self.failed("it hangs: media goes in and nothing comes out", now);
        }
    }

    /// Stops the pipeline; the answer comes when its threads have ended.
    pub(super) fn stop(self) -> Option<oneshot::Receiver<()>> {
        match self.engine {
            Engine::Running { pipeline, .. } => Some(pipeline.stop()),
            _ => None,
        }
    }

    fn start(&mut self, now: Instant) {
        if !self.plan.blocking.has_room() {
            tracing::warn!(peer = %self.plan.meter.peer(), "too many pipelines hang, no further one is started");
            self.engine = Engine::Waiting { at: now + MAX_BACKOFF };
            return;
        }
        let plan = self.plan.clone();
        let started = self.plan.blocking.run("start pipeline", move || Pipeline::start(&plan));
        self.engine = Engine::Starting { started, until: now + START_WITHIN };
    }
}
