//! Weir: a WebRTC SFU with HLS egress, in one binary.
//!
//! The module list is the architecture, from the top row to the bottom one: imports point down only, and modules on
//! one row do not know each other (`tests/architecture.rs` holds the table). `ARCHITECTURE.md` is the map.

pub mod app;
pub mod config;
pub mod egress;
pub mod http;
pub mod ids;
pub mod live;
pub mod media;
pub mod sfu;
pub mod signaling;
pub mod worker;
