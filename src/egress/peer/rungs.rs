//! How a ladder's pipelines take part in their peer's HLS.

use std::time::Instant;

use super::Peer;
use crate::egress::ladder::{Change, Ladder, Member};
use crate::egress::pipeline::{Output, Picture};
use crate::egress::supervisor::Event;
use crate::media::segmenter::{Rendition, TrackState, VideoId, VideoUnit};
use crate::media::timeline::MediaTime;

/// The rendition that a ladder is made of.
const SOURCE: Rendition = Rendition::Video(VideoId::BEST);

/// The next event of the ladder, if there is one. Cancel safe.
pub(super) async fn next(ladder: Option<&mut Ladder>) -> (Member, Event) {
    match ladder {
        Some(ladder) => ladder.next().await,
        None => std::future::pending().await,
    }
}

impl Peer {
    /// The ladder that is made of this rendition.
    pub(super) fn ladder_of(&mut self, rendition: Rendition) -> Option<&mut Ladder> {
        self.ladder.as_mut().filter(|_| rendition == SOURCE)
    }

    /// The further renditions that are made of this one.
    pub(super) fn rungs_of(&mut self, rendition: Rendition) -> Vec<Rendition> {
        let ids = self.ladder_of(rendition).map(|ladder| ladder.renditions()).unwrap_or_default();
        ids.into_iter().map(Rendition::Video).filter(|rung| *rung != rendition).collect()
    }

    /// Replaces the ladder of a rendition whose track comes or goes.
    pub(super) fn set_ladder(&mut self, rendition: Rendition, ladder: Option<Ladder>) {
        if rendition != SOURCE {
            return;
        }
        for rung in self.rungs_of(rendition) {
            self.set_state(rung, TrackState::Absent);
        }
        self.ladder = ladder;
    }

    pub(super) fn rung_event(&mut self, member: Member, event: Event) {
        let now = Instant::now();
        match event {
            Event::Output(output) => self.rung_output(member, output, now),
            Event::Started { again } => {
                self.ladder.iter_mut().for_each(|ladder| ladder.started(member, now));
                match member {
                    Member::Rung(id) if again => self.restarted(Rendition::Video(id)),
                    // A decoder begins with a key frame.
                    Member::Decoder if again => {
                        self.feeds.get(&SOURCE).into_iter().for_each(|feed| feed.ask_publisher())
                    }
                    _ => {}
                }
            }
        }
    }

    fn rung_output(&mut self, member: Member, output: Output, instant: Instant) {
        let now = self.epoch.moment(instant);
        let Some(ladder) = &mut self.ladder else { return };
        match (output, member) {
            (Output::Video(unit), Member::Rung(id)) => {
                ladder.fruitful(member, unit.pts, instant);
                if ladder.take_overflow(member) {
                    self.segmenter.video_lost(id);
                }
                self.push_video(id, unit, now);
            }
            (Output::Picture(picture), Member::Decoder) => {
                ladder.fruitful(member, picture.pts, instant);
                self.picture(&picture, instant);
            }
            (Output::Failed(reason), _) => ladder.failed(member, &reason, instant),
            (Output::Video(_) | Output::Audio(_) | Output::Picture(_), _) => {
                ladder.failed(member, "it gives another kind of media than it takes", instant);
            }
        }
    }

    /// Has an access unit that is passed through encoded in other sizes as well.
    pub(super) fn encode(&mut self, id: VideoId, unit: &VideoUnit, now: Instant) {
        if self.ladder_of(Rendition::Video(id)).is_some() {
            let (width, height) = unit.config.size();
            self.resize((width.into(), height.into()), unit.pts);
            self.ladder.iter_mut().for_each(|ladder| ladder.unit(unit, now));
        }
    }

    /// Has a picture encoded.
    pub(super) fn picture(&mut self, picture: &Picture, now: Instant) {
        self.resize(picture.size, picture.pts);
        self.ladder.iter_mut().for_each(|ladder| ladder.picture(picture, now));
    }

    /// Takes note of the source's size.
    fn resize(&mut self, size: (u32, u32), at: MediaTime) {
        let Some(ladder) = &mut self.ladder else { return };
        for (id, change) in ladder.resize(size, at) {
            let rendition = Rendition::Video(id);
            match change {
                Change::Follows => self.segmenter.video_lost(id),
                Change::Encoded => {
                    if !self.had.insert(rendition) {
                        self.restarted(rendition);
                    }
                    self.segmenter.set_video(id, TrackState::Active);
                    self.presentation.set_gone(rendition, false);
                }
            }
        }
    }

    /// Hands a picture to the segmenter, and to the renditions that the source is too small for.
    pub(super) fn push_video(&mut self, id: VideoId, unit: VideoUnit, now: MediaTime) {
        let followers = self.ladder.as_ref().filter(|_| id == VideoId::BEST).map(Ladder::followers);
        for follower in followers.into_iter().flatten() {
            self.segmenter.push_video(*follower, unit.clone(), now);
        }
        self.segmenter.push_video(id, unit, now);
    }
}
