//! What a publisher is told, so that it finds out how much its path takes: transport-wide feedback on every packet
//! where it was negotiated, else an estimate by REMB where that was; and a limit by REMB where one was asked for
//! (`maxIncomingBitrate`).

use std::time::{Duration, Instant};

use mediasoup_types::rtp_parameters::{RtcpFeedback, RtpHeaderExtensionUri as Uri, RtpParameters};

use crate::ids::Bitrate;
use crate::media::rtcp::remb;
use crate::media::rtp::RtpView;
use crate::sfu::bandwidth::arrivals::Arrivals;
use crate::sfu::bandwidth::arriving::Arriving;

/// How long arrivals wait for their feedback.
pub const FEEDBACK_INTERVAL: Duration = Duration::from_millis(100);
/// Time between two REMB messages that limit a publisher.
pub const LIMIT_INTERVAL: Duration = Duration::from_millis(1500);
/// How often a publisher is told that a limit is gone; REMB may be lost.
const UNLIMITED_MESSAGES: u8 = 4;

/// The direction from the peer to weir.
#[derive(Debug, Default)]
pub struct Incoming {
    feedback: Option<Feedback>,
    /// What is estimated here, for a publisher that gets no feedback.
    arriving: Option<Box<Arriving>>,
    /// What the application allows the peer to send.
    limit: Option<Bitrate>,
    /// Messages that still have to say that there is no limit any more.
    unlimited: u8,
    limit_due: Option<Instant>,
}

#[derive(Debug)]
struct Feedback {
    /// Id of the transport-wide sequence number's header extension.
    extension: u8,
    arrivals: Arrivals,
    /// A stream of the publisher: the message wants to name one.
    media: u32,
    due: Option<Instant>,
}

impl Incoming {
    /// Begins with what a producer's publisher understands. Transport-wide feedback takes the place of an estimate:
    /// senders go by the lower one of both.
    pub fn add_producer(&mut self, now: Instant, parameters: &RtpParameters) {
        let extension = |uri: Uri| {
            let known = parameters.header_extensions.iter().find(|extension| extension.uri == uri);
            known.and_then(|extension| u8::try_from(extension.id).ok())
        };
        let has_feedback =
            |kind: RtcpFeedback| parameters.codecs.iter().any(|codec| codec.rtcp_feedback().contains(&kind));
        let wide = extension(Uri::TransportWideCcDraft01).filter(|_| has_feedback(RtcpFeedback::TransportCc));
        let timed = extension(Uri::AbsSendTime).filter(|_| has_feedback(RtcpFeedback::GoogRemb));
        match (wide, timed) {
            _ if self.feedback.is_some() => {}
            (Some(extension), _) => {
                let arrivals = Arrivals::new(now);
                self.feedback = Some(Feedback { extension, arrivals, media: 0, due: None });
                let told = self.arriving.take().and_then(|arriving| arriving.estimate());
                if told.is_some() && self.limit.is_none() {
                    self.end_limit(now);
                }
            }
            (None, Some(extension)) if self.arriving.is_none() => {
                self.arriving = Some(Box::new(Arriving::new(now, extension)));
            }
            _ => {}
        }
    }

    /// Limits what the peer sends, or ends the limit.
    pub fn set_limit(&mut self, now: Instant, limit: Option<Bitrate>) {
        let had_limit = std::mem::replace(&mut self.limit, limit).is_some();
        self.unlimited = 0;
        self.limit_due = self.limit.map(|_| now);
        if had_limit && limit.is_none() {
            self.end_limit(now);
        }
    }

    fn end_limit(&mut self, now: Instant) {
        (self.unlimited, self.limit_due) = (UNLIMITED_MESSAGES, Some(now));
    }

    /// What the peer's path is thought to take, where that is estimated here.
    #[must_use]
    pub fn estimate(&self) -> Option<Bitrate> {
        self.arriving.as_ref().and_then(|arriving| arriving.estimate())
    }

    /// What the peer may send.
    #[must_use]
    pub fn limit(&self) -> Option<Bitrate> {
        self.limit
    }

    /// Notes a packet. True if its feedback is the next one, so that a timer has to be set.
    #[inline]
    pub(super) fn note_arrival(&mut self, now: Instant, view: &RtpView<'_>) -> bool {
        let Some(feedback) = &mut self.feedback else {
            return self.arriving.as_mut().is_some_and(|arriving| arriving.note(now, view));
        };
        let mut extensions = view.extensions();
        let value = extensions.find(|(id, _)| *id == feedback.extension).map(|(_, value)| value);
        let Some(sequence) = value.and_then(|value| value.try_into().ok()).map(u16::from_be_bytes) else {
            return false;
        };
        feedback.arrivals.note(now, sequence);
        feedback.media = view.ssrc();
        feedback.due.replace(feedback.due.unwrap_or(now + FEEDBACK_INTERVAL)).is_none()
    }

    /// When there is something to tell.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let feedback = self.feedback.as_ref().and_then(|feedback| feedback.due);
        let estimate = self.arriving.as_ref().and_then(|arriving| arriving.poll_timeout());
        [feedback, estimate, self.limit_due].into_iter().flatten().min()
    }

    /// Gives `send` each RTCP packet that is due; `media` are the streams that the peer sends.
    pub fn handle_timeout(
        &mut self,
        now: Instant,
        sender: u32,
        media: impl Iterator<Item = u32>,
        mut send: impl FnMut(Vec<u8>),
    ) {
        if let Some(feedback) = self.feedback.as_mut().filter(|feedback| is_due(feedback.due, now)) {
            feedback.due = None;
            feedback.arrivals.report(now, sender, feedback.media, &mut send);
        }
        let limit = self.limit;
        let mut told = self.arriving.as_mut().and_then(|arriving| arriving.handle_timeout(now, limit));
        if is_due(self.limit_due, now) {
            // Zero means no limit to libwebrtc's sender.
            let bounds = [self.estimate(), self.limit].into_iter().flatten();
            told = Some(bounds.min().unwrap_or(Bitrate(0)));
            self.unlimited = self.unlimited.saturating_sub(1);
            let goes_on = self.limit.is_some() || self.unlimited > 0;
            self.limit_due = goes_on.then_some(now + LIMIT_INTERVAL);
        }
        if let Some(bitrate) = told {
            let media: Vec<u32> = media.collect();
            let mut message = Vec::with_capacity(24 + 4 * media.len());
            remb::write(&mut message, sender, bitrate.0, &media);
            send(message);
        }
    }
}

fn is_due(due: Option<Instant>, now: Instant) -> bool {
    due.is_some_and(|due| due <= now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::rtcp::{Item, read};

    #[test]
    fn a_limit_is_repeated_and_its_end_is_told_four_times() {
        let start = Instant::now();
        let mut incoming = Incoming::default();
        let mut told = Vec::new();
        let mut run = |incoming: &mut Incoming, messages: usize| {
            for _ in 0..messages {
                let Some(due) = incoming.poll_timeout() else { break };
                incoming.handle_timeout(due, 1, [7].into_iter(), |message| {
                    read(&message, |item| told.push(format!("{item:?}"))).unwrap();
                });
            }
            std::mem::take(&mut told)
        };
        assert_eq!(incoming.poll_timeout(), None);
        incoming.set_limit(start, Some(Bitrate::kbps(500)));
        let limit = format!("{:?}", Item::EstimatedBitrate(500_000));
        assert_eq!(run(&mut incoming, 10), vec![limit; 10]);
        incoming.set_limit(start + Duration::from_secs(60), None);
        assert_eq!(run(&mut incoming, 10), vec![format!("{:?}", Item::EstimatedBitrate(0)); 4]);
    }
}
