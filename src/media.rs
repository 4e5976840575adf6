//! Media formats as pure code: RTP and RTCP views, codec headers, ORTC rules, CMAF boxes and playlists.
//!
//! Nothing in here knows a socket, a clock, a file or a task: bytes and values in, bytes and values out.

pub mod codec;
pub mod encryption;
pub mod fmp4;
pub mod opus;
pub mod ortc;
pub mod playlist;
pub mod presentation;
pub mod reorder;
pub mod rtcp;
pub mod rtp;
pub mod sdp;
pub mod segmenter;
pub mod timeline;
pub mod transport_stream;
