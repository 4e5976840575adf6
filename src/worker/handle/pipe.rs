//! Pipe transports of a router, and producers that are piped to another router of this process.

use std::net::{IpAddr, Ipv4Addr};

use mediasoup_types::data_structures::TransportTuple;
use tokio::sync::watch;

use super::plain::with_ports;
use super::{RequestError, RouterHandle};
use crate::ids::{ProducerId, TransportId};
use crate::sfu::api::{
    ConsumeError, ConsumerInfo, CreateTransportError, NotFound, ProduceError, ProducerInfo,
};
use crate::sfu::pipe_transport::{PipeTransportInfo, PipeTransportOptions};
use crate::sfu::plain_transport::{ConnectPlainError, OwnPort, PlainRemote};
use crate::worker::thread::Turn;

/// A producer of one router as another router of this process has it.
#[derive(Debug, Clone)]
pub struct PipedProducer {
    /// The producer in the far router. Its id is its own, because both routers may be on one worker.
    pub producer: ProducerInfo,
    /// The pipe transport in the producer's own router. Closing it ends the pipe.
    pub transport: TransportId,
}

/// Why a producer could not be piped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PipeError {
    /// A router can't be piped to itself.
    #[error("the producer is in this router already")]
    SameRouter,
    /// One of the two transports could not be made.
    #[error(transparent)]
    Transport(#[from] RequestError<CreateTransportError>),
    /// The two transports could not be connected.
    #[error(transparent)]
    Connect(#[from] RequestError<ConnectPlainError>),
    /// The producer's streams could not be taken.
    #[error(transparent)]
    Consume(#[from] RequestError<ConsumeError>),
    /// The far router refused the producer.
    #[error(transparent)]
    Produce(#[from] RequestError<ProduceError>),
    /// One of the routers ended meanwhile.
    #[error(transparent)]
    NotFound(#[from] RequestError<NotFound>),
}

impl RouterHandle {
    /// Makes a pipe transport to a router of another process, on a UDP port of its own. It is connected with
    /// [`Self::connect_plain_transport`].
    ///
    /// # Errors
    /// See [`CreateTransportError`].
    pub async fn create_pipe_transport(
        &self,
        options: PipeTransportOptions,
    ) -> Result<PipeTransportInfo, RequestError<CreateTransportError>> {
        let router = self.id;
        let create = move |turn: &mut Turn<'_>| {
            with_ports(turn, options.listen_ip, 1, |turn, ports| {
                let port = *ports.first().ok_or(CreateTransportError::NoPort)?;
                turn.core.create_pipe_transport(router, &options, port)
            })
        };
        self.worker.call(create).await
    }

    /// Sends all streams of a producer through a pipe transport. The router at the other end produces with the
    /// parameters that are returned.
    ///
    /// # Errors
    /// See [`ConsumeError`].
    pub async fn consume_pipe(
        &self,
        transport: TransportId,
        producer: ProducerId,
        paused: bool,
    ) -> Result<ConsumerInfo, RequestError<ConsumeError>> {
        self.worker.call(move |turn| turn.core.consume_pipe(turn.now, transport, producer, paused)).await
    }

    /// Makes a producer of this router a producer of another router of this process too (mediasoup's `pipeToRouter`),
    /// on the same worker or another one. It is paused, resumed and closed with the one that it is made of.
    ///
    /// # Errors
    /// See [`PipeError`].
    pub async fn pipe_producer_to(
        &self,
        producer: ProducerId,
        far: &Self,
    ) -> Result<PipedProducer, PipeError> {
        if self.id == far.id {
            return Err(PipeError::SameRouter);
        }
        let near_end = self.create_pipe_end().await?;
        let piped = match far.create_pipe_end().await {
            Ok(far_end) => {
                let piped = self.pipe_over(producer, far, &near_end, &far_end).await;
                if piped.is_err() {
                    close(far, far_end.id).await;
                }
                piped
            }
            Err(error) => Err(error.into()),
        };
        if piped.is_err() {
            close(self, near_end.id).await;
        }
        piped
    }

    async fn pipe_over(
        &self,
        producer: ProducerId,
        far: &Self,
        near_end: &PipeTransportInfo,
        far_end: &PipeTransportInfo,
    ) -> Result<PipedProducer, PipeError> {
        self.connect_plain_transport(near_end.id, remote(&far_end.tuple)).await?;
        far.connect_plain_transport(far_end.id, remote(&near_end.tuple)).await?;
        let transport = near_end.id;
        let consume = move |turn: &mut Turn<'_>| {
            let consumer = turn.core.consume_pipe(turn.now, transport, producer, true)?;
            let changes = turn.readers.pipes.add(consumer.id, transport, consumer.producer_paused);
            Ok::<_, ConsumeError>((consumer, changes))
        };
        let (consumer, changes) = self.worker.call(consume).await?;
        let (kind, paused) = (consumer.kind, consumer.producer_paused);
        let made = far.produce(far_end.id, kind, consumer.rtp_parameters, paused).await?;
        tokio::spawn(follow(changes, paused, far.clone(), far_end.id, made.id));
        self.set_consumer_paused(consumer.id, false).await?;
        Ok(PipedProducer { producer: made, transport })
    }

    /// One end of a pipe inside this process: on loopback, where nobody else sends from.
    async fn create_pipe_end(&self) -> Result<PipeTransportInfo, RequestError<CreateTransportError>> {
        let router = self.id;
        let create = move |turn: &mut Turn<'_>| {
            let port: OwnPort = turn.sockets.open_loopback_port().ok_or(CreateTransportError::NoPort)?;
            let options = PipeTransportOptions { enable_rtx: true, ..PipeTransportOptions::default() };
            let made = turn.core.create_pipe_transport(router, &options, port);
            if made.is_err() {
                turn.sockets.close_port(port.id);
            }
            made
        };
        self.worker.call(create).await
    }
}

/// Does to the far producer what happens to the near one, until that ends.
async fn follow(
    mut changes: watch::Receiver<bool>,
    mut paused: bool,
    far: RouterHandle,
    transport: TransportId,
    producer: ProducerId,
) {
    loop {
        let wanted = *changes.borrow_and_update();
        if wanted != paused && far.set_producer_paused(producer, wanted).await.is_err() {
            break;
        }
        paused = wanted;
        if changes.changed().await.is_err() {
            break;
        }
    }
    close(&far, transport).await;
}

async fn close(router: &RouterHandle, transport: TransportId) {
    if let Err(error) = router.close_transport(transport).await {
        tracing::debug!(%error, "a pipe ended before it was closed");
    }
}

fn remote(tuple: &TransportTuple) -> PlainRemote {
    let ip = tuple.local_address().parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    PlainRemote { ip: Some(ip), port: Some(tuple.local_port()), ..PlainRemote::default() }
}
