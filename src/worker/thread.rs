//! One worker's thread: datagrams in, requests in, time in; batches, events and tapped packets out.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use tokio::sync::mpsc;

use super::pipes::Pipes;
use super::sockets::Sockets;
use crate::ids::{DataConsumerId, TapId, TransportId};
use crate::sfu::Worker;
use crate::sfu::api::{Event, TapOutput};
use crate::sfu::direct_transport::Delivery;
use crate::sfu::sctp::DataMessage;

/// Requests that wait for a worker; one more waits in its caller.
pub(super) const MAX_REQUESTS: usize = 1024;
/// Events that wait for the control plane inside the worker, beyond the channel's own.
const MAX_WAITING_EVENTS: usize = 65_536;
/// Reads from the sockets before requests and timers get their turn.
const READS_PER_TURN: usize = 64;
/// Readiness events of one wake-up.
const MAX_READY: usize = 256;
/// How long the thread sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(1);

/// What the control plane asks of a worker.
pub(super) enum Request {
    /// Run this between two datagrams.
    Run(Box<dyn FnOnce(&mut Turn<'_>) + Send>),
    /// Say goodbye to every peer and end.
    Stop,
}

/// What a request can reach.
pub(super) struct Turn<'a> {
    pub(super) now: Instant,
    pub(super) core: &'a mut Worker,
    pub(super) sockets: &'a mut Sockets,
    pub(super) readers: &'a mut Readers,
}

/// Who reads inside the process, over bounded channels.
#[derive(Default)]
pub(super) struct Readers {
    pub(super) taps: HashMap<TapId, mpsc::Sender<TapOutput>>,
    pub(super) data: HashMap<DataConsumerId, mpsc::Sender<DataMessage>>,
    pub(super) rtcp: HashMap<TransportId, mpsc::Sender<Vec<u8>>>,
    pub(super) pipes: Pipes,
}

/// Everything that a worker's thread owns.
pub(super) struct WorkerThread {
    pub(super) core: Worker,
    pub(super) poll: Poll,
    pub(super) sockets: Sockets,
    pub(super) requests: Receiver<Request>,
    pub(super) events: mpsc::Sender<Event>,
}

impl WorkerThread {
    /// Runs until it is told to stop or nobody holds its handles any more.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(MAX_READY);
        let mut waiting: VecDeque<Event> = VecDeque::new();
        let mut readers = Readers::default();
        loop {
            let now = Instant::now();
            let until = self.core.poll_timeout().map_or(IDLE, |due| due.saturating_duration_since(now));
            let sleep = if self.sockets.is_readable() { Duration::ZERO } else { until.min(IDLE) };
            match self.poll.poll(&mut events, Some(sleep)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::error!(%error, "the worker can't wait for datagrams");
                    return;
                }
            }
            events.iter().for_each(|event| self.sockets.note(event));
            let stopping = self.handle_requests(&mut readers);
            self.read();
            let now = Instant::now();
            self.core.handle_timeout(now);
            if self.core.is_flush_due(now) {
                self.core.flush(now, &mut self.sockets);
                self.core.note_send_drop(self.sockets.take_dropped());
            }
            self.sockets.handle_timeout(now, &mut self.core);
            self.deliver(&mut readers);
            self.report(&mut waiting, &mut readers.pipes);
            if stopping {
                return;
            }
        }
    }

    /// Runs what was asked for. True if the worker is to stop.
    fn handle_requests(&mut self, readers: &mut Readers) -> bool {
        for _ in 0..MAX_REQUESTS {
            match self.requests.try_recv() {
                Ok(Request::Run(run)) => {
                    let (core, sockets) = (&mut self.core, &mut self.sockets);
                    run(&mut Turn { now: Instant::now(), core, sockets, readers });
                }
                Ok(Request::Stop) | Err(TryRecvError::Disconnected) => {
                    self.core.close(Instant::now());
                    return true;
                }
                Err(TryRecvError::Empty) => break,
            }
        }
        false
    }

    /// Reads until the sockets are empty or others have to get their turn.
    fn read(&mut self) {
        for _ in 0..READS_PER_TURN {
            if !self.sockets.is_readable() {
                return;
            }
            let now = Instant::now();
            self.sockets.receive(now, &mut self.core);
            if self.core.is_flush_due(now) {
                self.core.flush(now, &mut self.sockets);
            }
        }
    }

    fn deliver(&mut self, readers: &mut Readers) {
        let Readers { taps, data, rtcp, .. } = readers;
        while let Some((tap, output)) = self.core.poll_tapped() {
            let ends = matches!(output, TapOutput::Closed);
            let Some(reader) = taps.get(&tap) else { continue };
            match reader.try_send(output) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => self.core.note_tap_drop(),
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    taps.remove(&tap);
                    if self.core.close_tap(tap).is_err() {
                        tracing::debug!(%tap, "a tap ended twice");
                    }
                }
            }
            if ends {
                taps.remove(&tap); // the reader sees the end of its channel, even if the last output did not fit
            }
        }
        while let Some(delivery) = self.core.poll_delivered() {
            match delivery {
                Delivery::Message(consumer, message) => self.deliver_message(data, consumer, message),
                Delivery::DataConsumerClosed(consumer) => drop(data.remove(&consumer)),
                Delivery::Rtcp(transport, compound) => {
                    // RTCP is asked for again: what a reader has no room for, or does not want, is no loss.
                    if let Some(Err(error)) = rtcp.get(&transport).map(|reader| reader.try_send(compound)) {
                        tracing::trace!(%transport, %error, "RTCP dropped");
                    }
                }
                Delivery::TransportClosed(transport) => drop(rtcp.remove(&transport)),
            }
        }
    }

    fn deliver_message(
        &mut self,
        readers: &mut HashMap<DataConsumerId, mpsc::Sender<DataMessage>>,
        consumer: DataConsumerId,
        message: DataMessage,
    ) {
        match readers.get(&consumer).map(|reader| reader.try_send(message)) {
            None | Some(Ok(())) => {}
            Some(Err(mpsc::error::TrySendError::Full(_))) => self.core.note_data_drop(consumer),
            Some(Err(mpsc::error::TrySendError::Closed(_))) => {
                readers.remove(&consumer);
                if self.core.close_data_consumer(Instant::now(), consumer).is_err() {
                    tracing::debug!(%consumer, "a data consumer ended twice");
                }
            }
        }
    }

    fn report(&mut self, waiting: &mut VecDeque<Event>, pipes: &mut Pipes) {
        let now = Instant::now();
        pipes.review(&mut self.core, now);
        while let Some(event) = self.core.poll_event() {
            if pipes.take(&mut self.core, now, &event) {
                continue;
            }
            if waiting.len() < MAX_WAITING_EVENTS {
                waiting.push_back(event);
            } else {
                tracing::error!(?event, "the control plane does not take events: one is lost");
            }
        }
        while let Some(event) = waiting.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
                waiting.push_front(event);
                return;
            }
        }
    }
}
