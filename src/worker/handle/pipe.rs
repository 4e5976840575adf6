//! Pipe transports of a router, and producers and data producers that are piped to another router of this process.

use std::net::{IpAddr, Ipv4Addr};

use mediasoup_types::data_structures::TransportTuple;
use tokio::sync::watch;

use super::plain::with_ports;
use super::{RequestError, RouterHandle};
use crate::ids::{DataProducerId, ProducerId, TransportId};
use crate::sfu::api::{
    ConsumeError, ConsumerInfo, CreateTransportError, NotFound, ProduceError, ProducerInfo,
};
use crate::sfu::data::{
    ConsumeDataError, DataConsumerOptions, DataProducerInfo, DataProducerOptions, ProduceDataError,
};
use crate::sfu::pipe_transport::{PipeTransportInfo, PipeTransportOptions};
use crate::sfu::plain_transport::{ConnectPlainError, OwnPort, PlainRemote};
use crate::worker::pipes::Carried;
use crate::worker::thread::Turn;

/// A producer of one router as another router of this process has it.
#[derive(Debug, Clone)]
pub struct PipedProducer {
    /// The producer in the far router. Its id is its own, because both routers may be on one worker.
    pub producer: ProducerInfo,
    /// The pipe transport in the producer's own router. Closing it ends the pipe.
    pub transport: TransportId,
}

/// A data producer of one router as another router of this process has it.
#[derive(Debug, Clone)]
pub struct PipedDataProducer {
    /// The data producer in the far router, with an id of its own.
    pub producer: DataProducerInfo,
    /// The pipe transport in the data producer's own router. Closing it ends the pipe.
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
    /// The data producer's messages could not be taken.
    #[error(transparent)]
    ConsumeData(#[from] RequestError<ConsumeDataError>),
    /// The far router refused the data producer.
    #[error(transparent)]
    ProduceData(#[from] RequestError<ProduceDataError>),
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
        let ends = self.connect_pipe_to(far, false).await?;
        let piped = self.pipe_over(producer, far, &ends).await;
        if piped.is_err() {
            ends.close(self, far).await;
        }
        piped
    }

    /// Makes a data producer of this router a data producer of another router of this process too. It is paused, resumed
    /// and closed with the one that it is made of. Subchannels stay behind: messages come to all at the far end.
    ///
    /// # Errors
    /// See [`PipeError`].
    pub async fn pipe_data_producer_to(
        &self,
        producer: DataProducerId,
        far: &Self,
    ) -> Result<PipedDataProducer, PipeError> {
        let ends = self.connect_pipe_to(far, true).await?;
        let piped = self.pipe_data_over(producer, far, &ends).await;
        if piped.is_err() {
            ends.close(self, far).await;
        }
        piped
    }

    async fn connect_pipe_to(&self, far: &Self, enable_sctp: bool) -> Result<Ends, PipeError> {
        if self.id == far.id {
            return Err(PipeError::SameRouter);
        }
        let near_end = self.create_pipe_end(enable_sctp).await?;
        let far_end = match far.create_pipe_end(enable_sctp).await {
            Ok(far_end) => far_end,
            Err(error) => {
                close(self, near_end.id).await;
                return Err(error.into());
            }
        };
        let ends = Ends { near: near_end.id, far: far_end.id };
        let mut connected = self.connect_plain_transport(ends.near, remote(&far_end.tuple)).await;
        if connected.is_ok() {
            connected = far.connect_plain_transport(ends.far, remote(&near_end.tuple)).await;
        }
        if let Err(error) = connected {
            ends.close(self, far).await;
            return Err(error.into());
        }
        Ok(ends)
    }

    async fn pipe_over(
        &self,
        producer: ProducerId,
        far: &Self,
        ends: &Ends,
    ) -> Result<PipedProducer, PipeError> {
        let transport = ends.near;
        let consume = move |turn: &mut Turn<'_>| {
            let consumer = turn.core.consume_pipe(turn.now, transport, producer, true)?;
            let carried = Carried::Media(consumer.id);
            let changes = turn.readers.pipes.add(carried, transport, consumer.producer_paused);
            Ok::<_, ConsumeError>((consumer, changes))
        };
        let (consumer, changes) = self.worker.call(consume).await?;
        let (kind, paused) = (consumer.kind, consumer.producer_paused);
        let made = far.produce(ends.far, kind, consumer.rtp_parameters, paused).await?;
        tokio::spawn(follow(changes, paused, far.clone(), ends.far, Far::Media(made.id)));
        self.set_consumer_paused(consumer.id, false).await?;
        Ok(PipedProducer { producer: made, transport })
    }

    async fn pipe_data_over(
        &self,
        producer: DataProducerId,
        far: &Self,
        ends: &Ends,
    ) -> Result<PipedDataProducer, PipeError> {
        let transport = ends.near;
        let consume = move |turn: &mut Turn<'_>| {
            let options = DataConsumerOptions { paused: true, ..DataConsumerOptions::default() };
            let consumer = turn.core.consume_data(turn.now, transport, producer, options)?;
            let carried = Carried::Data(consumer.id);
            let changes = turn.readers.pipes.add(carried, transport, consumer.data_producer_paused);
            Ok::<_, ConsumeDataError>((consumer, changes))
        };
        let (consumer, changes) = self.worker.call(consume).await?;
        let paused = consumer.data_producer_paused;
        let options = DataProducerOptions {
            sctp_stream_parameters: consumer.sctp_stream_parameters,
            label: consumer.label,
            protocol: consumer.protocol,
            paused,
        };
        let made = far.produce_data(ends.far, options).await?;
        tokio::spawn(follow(changes, paused, far.clone(), ends.far, Far::Data(made.id)));
        self.set_data_consumer_paused(consumer.id, false).await?;
        Ok(PipedDataProducer { producer: made, transport })
    }

    /// One end of a pipe inside this process: on loopback, where nobody else sends from.
    async fn create_pipe_end(
        &self,
        enable_sctp: bool,
    ) -> Result<PipeTransportInfo, RequestError<CreateTransportError>> {
        let router = self.id;
        let create = move |turn: &mut Turn<'_>| {
            let port: OwnPort = turn.sockets.open_loopback_port().ok_or(CreateTransportError::NoPort)?;
            let options =
                PipeTransportOptions { enable_rtx: true, enable_sctp, ..PipeTransportOptions::default() };
            let made = turn.core.create_pipe_transport(router, &options, port);
            if made.is_err() {
                turn.sockets.close_port(port.id);
            }
            made
        };
        self.worker.call(create).await
    }
}

/// The transports of a pipe.
struct Ends {
    near: TransportId,
    far: TransportId,
}

impl Ends {
    async fn close(&self, near: &RouterHandle, far: &RouterHandle) {
        close(near, self.near).await;
        close(far, self.far).await;
    }
}

/// What a producer is at the far end.
#[derive(Clone, Copy)]
enum Far {
    Media(ProducerId),
    Data(DataProducerId),
}

impl Far {
    async fn set_paused(self, router: &RouterHandle, paused: bool) -> Result<(), RequestError<NotFound>> {
        match self {
            Self::Media(producer) => router.set_producer_paused(producer, paused).await,
            Self::Data(producer) => router.set_data_producer_paused(producer, paused).await,
        }
    }
}

/// Does to the far producer what happens to the near one, until that ends.
async fn follow(
    mut changes: watch::Receiver<bool>,
    mut paused: bool,
    router: RouterHandle,
    transport: TransportId,
    producer: Far,
) {
    loop {
        let wanted = *changes.borrow_and_update();
        if wanted != paused && producer.set_paused(&router, wanted).await.is_err() {
            break;
        }
        paused = wanted;
        if changes.changed().await.is_err() {
            break;
        }
    }
    close(&router, transport).await;
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
