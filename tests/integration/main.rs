//! Stories told by simulated clients to a whole server, or to its media core, on loopback.

#[path = "../support/mod.rs"]
mod support;

mod aliases;
mod broadcasters;
mod client;
mod crowd;
mod data;
mod hostile;
mod media;
mod networks;
mod pipe;
mod plain;
mod room;
mod rooms;
mod tls;
mod whip;
mod wire;
