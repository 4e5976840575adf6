//! The media core in simulated time over a seeded network that loses, delays and reorders: the same every time.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop where it stands")]

mod audio;
mod av1;
mod bandwidth;
mod data;
mod direct;
mod layers;
mod names;
mod network;
mod paths;
mod peer;
mod pipe;
mod plain;
mod plot;
mod remb;
mod sctp_peer;
mod speakers;
mod stats;
mod stories;
mod svc;
mod world;
