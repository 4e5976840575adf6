//! A producer that sends: paces its sources, answers key frame requests and NACKs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::media::{Source, header_len};
use super::transport::Transport;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// 50 packets of Opus a second.
    Audio,
    /// 30 frames of H.264 a second, of so many packets each.
    Video { packets_per_frame: usize },
}

/// One stream of a producer.
#[derive(Debug, Clone)]
pub(crate) struct Encoding {
    pub(crate) media: Source,
    pub(crate) repair: Option<Source>,
}

/// The packets of a stream that can be sent again.
const MAX_HISTORY: usize = 512;

/// A running producer.
pub(crate) struct Publisher {
    /// The server's id of it.
    pub(crate) id: String,
    /// The SSRCs of its streams, in the order of the encodings.
    pub(crate) ssrcs: Vec<u32>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<Vec<Encoding>>>,
}

impl Publisher {
    /// Starts to send over a transport, beginning with a key frame.
    pub(crate) fn start(
        id: String,
        transport: Arc<Transport>,
        content: Content,
        encodings: Vec<Encoding>,
    ) -> Self {
        let ssrcs = encodings.iter().map(|encoding| encoding.media.ssrc).collect();
        let (stop, stopped) = oneshot::channel();
        let streams = encodings.into_iter().map(Stream::new).collect();
        let task = tokio::spawn(Pacer { transport, content, streams }.run(stopped));
        Self { id, ssrcs, stop: Some(stop), task }
    }

    /// Stops sending and gives how many packets each stream sent.
    pub(crate) async fn stop(mut self) -> Result<Vec<u32>> {
        drop(self.stop.take());
        let encodings = (&mut self.task).await??;
        Ok(encodings.iter().map(|encoding| encoding.media.sent()).collect())
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Stream {
    encoding: Encoding,
    history: VecDeque<Vec<u8>>,
    key_frames_answered: u64,
    nacks_answered: usize,
}

impl Stream {
    fn new(encoding: Encoding) -> Self {
        Self { encoding, history: VecDeque::new(), key_frames_answered: 0, nacks_answered: 0 }
    }

    /// Whether a key frame was asked for since the last call; however often, one is enough.
    fn key_frame_due(&mut self, transport: &Transport) -> bool {
        let asked = transport.seen.lock().key_frames_asked(self.encoding.media.ssrc);
        std::mem::replace(&mut self.key_frames_answered, asked) < asked
    }

    fn repairs_due(&mut self, transport: &Transport) -> Vec<Vec<u8>> {
        let Some(repair) = &mut self.encoding.repair else {
            return Vec::new();
        };
        let seen = transport.seen.lock();
        let nacks = seen.nacks.get(&self.encoding.media.ssrc).map_or(&[][..], Vec::as_slice);
        let fresh = nacks.get(self.nacks_answered..).unwrap_or_default();
        self.nacks_answered = nacks.len();
        let mut packets = Vec::new();
        for sequence in fresh {
            let original =
                self.history.iter().find(|packet| packet.get(2..4) == Some(&sequence.to_be_bytes()[..]));
            packets.extend(original.map(|packet| repair.retransmission(packet, header_len(packet))));
        }
        packets
    }
}

struct Pacer {
    transport: Arc<Transport>,
    content: Content,
    streams: Vec<Stream>,
}

impl Pacer {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) -> Result<Vec<Encoding>> {
        let period = match self.content {
            Content::Audio => Duration::from_millis(20),
            Content::Video { .. } => Duration::from_micros(33_333),
        };
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut first = true;
        let mut until_report = 0_u32;
        loop {
            tokio::select! {
                biased;
                // A dropped sender is the signal.
                _ = &mut stopped => break,
                _ = ticks.tick() => {}
            }
            self.tick(first).await.context("publish")?;
            if until_report == 0 {
                self.report().await?;
                until_report = 30;
            }
            until_report -= 1;
            first = false;
        }
        Ok(self.streams.into_iter().map(|stream| stream.encoding).collect())
    }

    async fn tick(&mut self, first: bool) -> Result<()> {
        for stream in &mut self.streams {
            for packet in stream.repairs_due(&self.transport) {
                self.transport.send_rtp(packet).await?;
            }
            let packets = match self.content {
                Content::Audio => vec![stream.encoding.media.audio_frame()],
                Content::Video { packets_per_frame } => {
                    let key = stream.key_frame_due(&self.transport) || first;
                    stream.encoding.media.video_frame(key, packets_per_frame)
                }
            };
            for packet in packets {
                if stream.history.len() == MAX_HISTORY {
                    stream.history.pop_front();
                }
                stream.history.push_back(packet.clone());
                self.transport.send_rtp(packet).await?;
            }
        }
        Ok(())
    }

    async fn report(&mut self) -> Result<()> {
        for stream in &self.streams {
            self.transport.send_rtcp(stream.encoding.media.sender_report()).await?;
        }
        Ok(())
    }
}
