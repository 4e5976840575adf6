//! What a peer's video shows while it is away: the slate, if there is one, and else what was shown last.

use tokio::sync::oneshot;

use super::{Ending, Peer};
use crate::egress::slate::Encoded;
use crate::media::segmenter::VideoId;
use crate::media::timeline::MediaTime;

/// The slate in the sizes of a peer's renditions.
type Slates = Vec<(VideoId, Encoded)>;

/// Whether a peer is away, and what was made of that.
#[derive(Debug, Default)]
pub(super) struct Away {
    since_told: bool,
    slates: Option<oneshot::Receiver<Slates>>,
}

impl Away {
    /// What is to be shown, once it is encoded; never, if nothing is. Cancel safe.
    pub(super) async fn next(&mut self) -> Slates {
        loop {
            let Some(slates) = &mut self.slates else { std::future::pending().await };
            let made = slates.await;
            self.slates = None;
            if let Ok(made) = made {
                return made;
            }
        }
    }
}

impl Peer {
    /// Notes whether the peer is away, and has the slate made when it goes.
    pub(super) fn follow_away(&mut self) {
        let away = matches!(*self.setup.ending.borrow(), Ending::Away(_));
        if std::mem::replace(&mut self.away.since_told, away) == away {
            return;
        }
        self.away.slates = None;
        let Some(slate) = self.setup.shared.slate.clone().filter(|_| away) else { return };
        let sizes = self.presentation.video_sizes();
        let peer = self.setup.peer.clone();
        let encode = move || {
            let encoded = sizes.into_iter().filter_map(|(video, size)| {
                let encoded = slate.encoded(size);
                let told = encoded.inspect_err(|reason| tracing::warn!(%peer, %reason, ?size, "no slate"));
                Some((video, told.ok()?))
            });
            encoded.collect()
        };
        self.away.slates = Some(self.setup.shared.blocking.run("slate", encode));
    }

    /// Shows the slate, unless the peer is back.
    pub(super) fn show_slates(&mut self, slates: Slates, now: MediaTime) {
        if !matches!(*self.setup.ending.borrow(), Ending::Away(_)) {
            return;
        }
        for (video, slate) in slates {
            self.segmenter.video_restarted(video);
            self.segmenter.push_video(video, slate.at(now), now);
        }
    }
}
