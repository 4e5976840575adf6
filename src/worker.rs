//! The threads that drive the media core: sockets, timers and the async handles that the control plane holds.
//!
//! One [`Worker`](crate::sfu::Worker) runs on one thread with its own sockets. A request from the control plane is a
//! closure that the thread runs between two datagrams, so the core needs no lock. Nothing is decided here.

mod handle;
mod listen;
mod pipes;
mod ports;
mod sockets;
mod tcp;
mod thread;
mod udp;
mod usage;

pub use handle::{
    Config, PacketDropped, PipeError, PipedDataProducer, PipedProducer, RequestError, RouterHandle,
    WorkerEvent, WorkerPool,
};
pub use listen::MAX_LISTEN;
pub use ports::{InvalidPortRange, PortRange};
pub use usage::ResourceUsage;
