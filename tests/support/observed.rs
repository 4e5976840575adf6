//! What a client's transport has seen so far, shared between its task and the test that waits for something.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Result, anyhow};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_rtcp::sender_report::SenderReport;
use tokio::sync::watch;
use tokio::time::timeout;

use super::PATIENCE;
use super::reception::Reception;

/// Everything that was seen.
#[derive(Debug, Default)]
pub(crate) struct Observations {
    /// Successful ICE checks.
    pub(crate) stun_successes: u64,
    /// The negotiated SRTP profile, once DTLS is up.
    pub(crate) profile: Option<SrtpProtectionProfile>,
    /// The server said goodbye in DTLS.
    pub(crate) closed_by_server: bool,
    /// What went wrong for good.
    pub(crate) failure: Option<String>,
    /// SRTP or SRTCP that could not be decrypted or read.
    pub(crate) unreadable: u64,
    /// Streams by SSRC.
    pub(crate) streams: BTreeMap<u32, Reception>,
    /// RTX SSRCs and the media SSRCs that they repair.
    pub(crate) repairs: BTreeMap<u32, u32>,
    /// Key frame requests (PLI and FIR) by media SSRC.
    pub(crate) key_frame_requests: BTreeMap<u32, u64>,
    /// Sequence numbers that were asked for again, by media SSRC, in order.
    pub(crate) nacks: BTreeMap<u32, Vec<u16>>,
    /// The last sender report by SSRC.
    pub(crate) sender_reports: BTreeMap<u32, SenderReport>,
    /// Whether data channels can be used.
    pub(crate) has_data_channels: bool,
    /// Data channel messages by stream: whether each is text, and its bytes.
    pub(crate) messages: BTreeMap<u16, Vec<(bool, Vec<u8>)>>,
    /// The number of reception report blocks about an SSRC.
    pub(crate) reception_reports: BTreeMap<u32, u64>,
}

impl Observations {
    /// The stream of an SSRC; an empty one if nothing came.
    pub(crate) fn stream(&self, ssrc: u32) -> Reception {
        self.streams.get(&ssrc).cloned().unwrap_or_default()
    }

    /// The main figures in one line.
    fn summary(&self) -> String {
        let stream = |(ssrc, stream): (&u32, &Reception)| {
            format!("{ssrc}: {} packets, {} missing", stream.packets, stream.missing().len())
        };
        let streams: Vec<String> = self.streams.iter().map(stream).collect();
        format!(
            "{} ICE checks, DTLS {:?}, {} unreadable packets, streams [{}]",
            self.stun_successes,
            self.profile,
            self.unreadable,
            streams.join("; ")
        )
    }

    /// How many key frames were asked for.
    pub(crate) fn key_frames_asked(&self, ssrc: u32) -> u64 {
        self.key_frame_requests.get(&ssrc).copied().unwrap_or(0)
    }
}

/// Observations that can be waited for.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    observations: Arc<Mutex<Observations>>,
    version: Arc<watch::Sender<u64>>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self { observations: Arc::default(), version: Arc::new(watch::Sender::new(0)) }
    }

    /// A look at things as they are.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Observations> {
        self.observations.lock().expect("no holder of the lock panics")
    }

    /// Changes something and tells those who wait.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Observations)) {
        change(&mut self.lock());
        self.version.send_modify(|version| *version += 1);
    }

    /// Waits until `ready` finds what it looks for.
    ///
    /// # Errors
    /// The transport failed, or [`PATIENCE`] was exhausted; the text says `what` was waited for.
    pub(crate) async fn wait<T>(
        &self,
        what: &str,
        mut ready: impl FnMut(&Observations) -> Option<T>,
    ) -> Result<T> {
        let mut version = self.version.subscribe();
        let search = async {
            loop {
                {
                    let observations = self.lock();
                    if let Some(found) = ready(&observations) {
                        return Ok(found);
                    }
                    if let Some(failure) = &observations.failure {
                        return Err(anyhow!("waiting for {what}: {failure}"));
                    }
                }
                version.changed().await?;
            }
        };
        timeout(PATIENCE, search)
            .await
            .map_err(|_| anyhow!("{what} did not happen: {}", self.lock().summary()))?
    }
}
