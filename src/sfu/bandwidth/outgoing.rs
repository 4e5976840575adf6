//! The direction from weir to a viewer: what was sent and what became of it, the estimate that follows from that, and
//! the probes that the estimate needs.

use std::time::{Duration, Instant};

use mediasoup_types::rtp_parameters::{RtcpFeedback, RtpHeaderExtensionUri as Uri, RtpParameters};

use crate::ids::Bitrate;
use crate::media::rtcp::transport_cc::{REFERENCE_WRAP, TICK_US, TICKS_PER_REFERENCE, TransportFeedback};
use crate::sfu::api::SetBitrateError;
use crate::sfu::bandwidth::allocate::Steadiness;
use crate::sfu::bandwidth::copies::{Copies, Copy};
use crate::sfu::bandwidth::estimator::Estimator;
use crate::sfu::bandwidth::pacer::{Held, Pace, Pacer};
use crate::sfu::bandwidth::probe::Prober;
use crate::sfu::bandwidth::sent::{MAX_PACKETS, MAX_UNREPORTED, Sent, SentPackets};
use crate::sfu::bandwidth::trend::Acknowledged;

/// What a path is thought to take before anything is known (mediasoup's default).
pub const INITIAL: Bitrate = Bitrate::kbps(600);
/// More than that is not believed without having seen it.
pub const MAX_INITIAL: Bitrate = Bitrate::kbps(20_000);
/// No estimate is below this.
pub const MINIMUM: Bitrate = Bitrate::kbps(30);
/// The estimate is bound to what is wanted by this factor, so that no feedback, true or not, takes it anywhere else.
const MAX_OVER_DESIRED: f64 = 1.35;
/// Bytes that a datagram has beside its contents: IPv4 and UDP headers.
const DATAGRAM_OVERHEAD: usize = 28;
/// A peer that has reported before and is silent for this long is on a path that takes less.
const STARVED_AFTER: Duration = Duration::from_secs(2);
/// A viewer that has agreed to report and has not done so until then is taken for one that has not agreed.
const MUTE_AFTER: Duration = Duration::from_secs(3);
/// Time over which the volume of retransmissions is measured, and their share of the estimate that is always granted.
const RESEND_WINDOW: Duration = Duration::from_millis(250);
const RESEND_SHARE: f64 = 0.05;
/// Packets that a queue holds up for less, at the least over [`QUEUE_WINDOW`], are not lost because it is full, but at
/// random.
const SHORT_QUEUE: Duration = Duration::from_millis(40);
/// Reports come late by up to the time between two frames; over that long one comes at once.
const QUEUE_WINDOW: Duration = Duration::from_millis(250);
/// The share of packets from which on a path counts as one that loses some.
const NOTABLE_LOSS: f64 = 0.02;
/// The share of what is sent that is sent again over a path that loses packets at random.
const RANDOM_LOSS_SHARE: f64 = 0.5;
/// Held back beyond that, the path takes far less than the layers that are sent.
const MAX_BACKLOG: Duration = Duration::from_millis(150);
/// A queue that holds packets up for so long is let run empty before any more video is put into it.
const LONG_QUEUE: Duration = Duration::from_millis(700);
/// How often the bandwidth is handed out at least.
const REVIEW_INTERVAL: Duration = Duration::from_millis(500);
/// Time between two announcements of the estimate that say nothing surprising.
const ANNOUNCEMENT_INTERVAL: Duration = Duration::from_secs(1);
/// Changes that are announced at once.
const SURPRISES: (f64, f64) = (0.75, 1.5);

/// How a viewer reports on its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reporting {
    /// Every packet, by transport-wide sequence numbers: the estimate is made here.
    TransportCc,
    /// The estimate itself.
    Remb,
}

/// What was sent lately, in bytes.
#[derive(Debug)]
struct Volume {
    since: Instant,
    sent: usize,
    resent: usize,
    /// What was not sent again, in the time before this.
    others: usize,
}

impl Volume {
    #[inline]
    fn roll(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since) >= RESEND_WINDOW {
            let others = self.sent.saturating_sub(self.resent);
            *self = Self { since: now, sent: 0, resent: 0, others };
        }
    }
}

/// How long a queue held packets up, at the least.
#[derive(Debug)]
struct Queue {
    since: Instant,
    /// In the window that is open, and in the one before.
    current: Duration,
    previous: Duration,
}

impl Queue {
    fn note(&mut self, now: Instant, held: Duration) {
        if now.saturating_duration_since(self.since) >= QUEUE_WINDOW {
            *self = Self { since: now, current: held, previous: self.current };
        } else {
            self.current = self.current.min(held);
        }
    }

    fn least(&self) -> Duration {
        self.current.min(self.previous)
    }
}

/// When packets are sent, as [`Outgoing`] keeps it.
#[derive(Debug, Clone, Copy)]
pub struct SendTime(i64);

/// What one viewer's path takes.
#[derive(Debug)]
pub struct Outgoing {
    reporting: Option<Reporting>,
    epoch: Instant,
    sent: SentPackets,
    estimator: Estimator,
    prober: Prober,
    /// What the viewer told by REMB.
    told: Option<Bitrate>,
    /// The last reference time, as it was told and unwrapped.
    reference: (u32, i64),
    initial: Bitrate,
    min: Bitrate,
    max: Option<Bitrate>,
    desired: Bitrate,
    /// When the first packet was sent, and whether no feedback ever came since.
    first_sent: Option<Instant>,
    is_mute: bool,
    /// When the last feedback came, and whether anything was sent since then.
    last_feedback: Option<Instant>,
    unreported: bool,
    /// The shortest time from a packet to the report on it, which is when there was no queue.
    least_delay: Option<Duration>,
    queue: Queue,
    /// Whether a long queue is being waited for.
    is_draining: bool,
    announced: Option<(Bitrate, Instant)>,
    /// When the bandwidth was last handed out.
    reviewed: Option<Instant>,
    volume: Volume,
    pacer: Pacer,
    copies: Copies,
    /// Keeps what is handed out from wavering.
    pub steadiness: Steadiness,
}

impl Outgoing {
    /// A path that nothing is known of, and that is thought to take `initial` until it is.
    #[must_use]
    pub fn new(now: Instant, initial: Bitrate) -> Self {
        let initial = initial.clamp(MINIMUM, MAX_INITIAL);
        Self {
            reporting: None,
            epoch: now,
            sent: SentPackets::default(),
            estimator: Estimator::new(initial, MINIMUM, initial),
            prober: Prober::default(),
            told: None,
            reference: (0, 0),
            initial,
            min: MINIMUM,
            max: None,
            desired: Bitrate::default(),
            first_sent: None,
            is_mute: false,
            last_feedback: None,
            unreported: false,
            least_delay: None,
            queue: Queue { since: now, current: Duration::ZERO, previous: Duration::ZERO },
            is_draining: false,
            announced: None,
            reviewed: None,
            volume: Volume { since: now, sent: 0, resent: 0, others: 0 },
            pacer: Pacer::new(now),
            copies: Copies::default(),
            steadiness: Steadiness::default(),
        }
    }

    /// Takes reports of the kind that a consumer's client has agreed to; the first kind stays.
    pub fn add_consumer(&mut self, parameters: &RtpParameters) {
        let extension = |uri: Uri| parameters.header_extensions.iter().any(|known| known.uri == uri);
        let feedback =
            |kind: RtcpFeedback| parameters.codecs.iter().any(|codec| codec.rtcp_feedback().contains(&kind));
        let reporting = if extension(Uri::TransportWideCcDraft01) && feedback(RtcpFeedback::TransportCc) {
            Some(Reporting::TransportCc)
        } else if extension(Uri::AbsSendTime) && feedback(RtcpFeedback::GoogRemb) {
            Some(Reporting::Remb)
        } else {
            None
        };
        self.reporting = self.reporting.or(reporting);
    }

    /// Bounds the estimate from below, or only by [`MINIMUM`].
    ///
    /// # Errors
    /// Fails if that is too low or above the maximum.
    pub fn set_min(&mut self, min: Option<Bitrate>) -> Result<(), SetBitrateError> {
        let min = min.unwrap_or(MINIMUM);
        check_bounds(min, self.max)?;
        self.min = min;
        self.apply_bounds();
        Ok(())
    }

    /// Bounds the estimate from above, or not.
    ///
    /// # Errors
    /// Fails if that is below the minimum.
    pub fn set_max(&mut self, max: Option<Bitrate>) -> Result<(), SetBitrateError> {
        check_bounds(self.min, max)?;
        self.max = max;
        self.apply_bounds();
        Ok(())
    }

    /// The bounds that were set.
    #[must_use]
    pub fn bounds(&self) -> (Option<Bitrate>, Option<Bitrate>) {
        ((self.min != MINIMUM).then_some(self.min), self.max)
    }

    /// Says what all consumers together would take at their best, and whether that is more than they get.
    pub fn set_desired(&mut self, now: Instant, desired: Bitrate, more_is_wanted: bool) {
        self.desired = desired;
        self.reviewed = Some(now);
        self.apply_bounds();
        let bound = self.bound();
        self.prober.set_wanted(now, more_is_wanted && self.estimator.estimate() < bound);
    }

    fn bound(&self) -> Bitrate {
        let desired = self.desired.mul_f64(MAX_OVER_DESIRED).max(self.initial);
        self.max.map_or(desired, |max| desired.min(max)).max(self.min)
    }

    fn apply_bounds(&mut self) {
        let bound = self.bound();
        self.estimator.set_range(self.min, bound);
    }

    /// Whether what producers send has to be looked at again, although the viewer reported nothing.
    #[must_use]
    pub fn is_review_due(&self, now: Instant) -> bool {
        self.reporting.is_some()
            && self.reviewed.is_none_or(|last| now.saturating_duration_since(last) >= REVIEW_INTERVAL)
    }

    /// What the path takes, if its viewer tells anything of it.
    #[must_use]
    pub fn available(&self) -> Option<Bitrate> {
        match self.reporting? {
            Reporting::TransportCc if self.is_mute => None,
            Reporting::TransportCc => Some(self.estimator.estimate()),
            Reporting::Remb => Some(
                self.told.unwrap_or(self.initial).min(self.max.unwrap_or(Bitrate(u64::MAX))).max(self.min),
            ),
        }
    }

    /// Whether the viewer has not told anything yet.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.last_feedback.is_none() && self.told.is_none()
    }

    /// Whether the viewer reports on packets.
    #[must_use]
    #[inline]
    pub fn hears_of_packets(&self) -> bool {
        self.reporting == Some(Reporting::TransportCc)
    }

    /// Whether the viewer's own estimate is taken, which counts audio in.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.reporting == Some(Reporting::Remb)
    }

    /// The estimate and the wish, if they are worth telling now.
    pub fn announce(&mut self, now: Instant) -> Option<(Bitrate, Bitrate)> {
        let available = self.available()?;
        let is_news = self.announced.is_none_or(|(last, at)| {
            let change = available.0 as f64 / last.0.max(1) as f64;
            let waited = now.saturating_duration_since(at) >= ANNOUNCEMENT_INTERVAL;
            available != last && (waited || change < SURPRISES.0 || change > SURPRISES.1)
        });
        is_news.then(|| {
            self.announced = Some((available, now));
            (available, self.desired)
        })
    }

    fn micros(&self, now: Instant) -> i64 {
        now.saturating_duration_since(self.epoch).as_micros() as i64
    }

    /// The transport-wide sequence number of the next packet.
    #[must_use]
    #[inline]
    pub fn next_sequence(&self) -> u16 {
        self.sent.next_sequence()
    }

    /// Gets ready for packets that are sent now: the time that [`Self::note_packet`] wants is returned.
    #[must_use]
    #[inline]
    pub fn begin_burst(&mut self, now: Instant) -> SendTime {
        self.unreported = true;
        self.first_sent.get_or_insert(now);
        self.volume.roll(now);
        SendTime(self.micros(now))
    }

    /// Notes that the packet with the next sequence number was sent as a datagram of `len` bytes.
    #[inline]
    pub fn note_packet(&mut self, SendTime(at): SendTime, len: usize) {
        let len = u16::try_from(len + DATAGRAM_OVERHEAD).unwrap_or(u16::MAX);
        self.volume.sent += usize::from(len);
        if self.is_mute {
            self.sent.skip();
            return;
        }
        let probe = self.prober.current();
        let limit = if self.last_feedback.is_some() { MAX_PACKETS } else { MAX_UNREPORTED };
        self.sent.push(Sent { at, len, probe }, limit);
        if probe != 0 {
            self.prober.note_sent(at, u32::from(len));
        }
    }

    /// Both of that, for a single packet.
    pub fn note_sent(&mut self, now: Instant, len: usize) {
        let at = self.begin_burst(now);
        self.note_packet(at, len);
    }

    fn pace(&self) -> Pace {
        Pace { estimate: self.estimator.estimate(), is_at_limit: self.estimator.is_at_limit() }
    }

    /// Whether so many bytes of video may be sent now, all of them; else each packet is asked for alone. A path that
    /// nothing is known of takes everything.
    #[inline]
    pub fn may_send(&mut self, now: Instant, bytes: usize) -> bool {
        let is_known = self.last_feedback.is_some() && !self.is_mute;
        if !is_known && !self.pacer.is_holding() {
            return true;
        }
        let pace = self.pace();
        self.pacer.pass(now, pace, bytes)
    }

    /// Sends a packet later: [`Self::release`] says when.
    pub fn hold(&mut self, held: Held) {
        self.pacer.hold(held);
    }

    /// The next packet that was held back and may be sent now.
    pub fn release(&mut self, now: Instant) -> Option<Held> {
        let pace = self.pace();
        self.pacer.release(now, pace)
    }

    /// The sequence numbers of a consumer's packets that are held back, ascending.
    pub fn held_of(&self, consumer: (usize, u32)) -> impl Iterator<Item = u64> + '_ {
        self.pacer.held_of(consumer)
    }

    /// Gives up what was held back: there is no way to the peer any more.
    pub fn forget_held(&mut self) {
        self.pacer.forget();
    }

    /// Whether packets are held back.
    #[must_use]
    #[inline]
    pub fn is_holding(&self) -> bool {
        self.pacer.is_holding()
    }

    /// Whether so much is held back that what is sent has to change at once.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.pacer.is_holding() && self.pacer.backlog(self.pace()) > MAX_BACKLOG
    }

    /// Whether a packet may be sent again: together with everything else it fits into the estimate, or so little was
    /// sent again that it does not matter. Else copies would keep a queue full whose losses they repair. Without a queue
    /// there is none to keep full: random loss lowers the estimate below what is sent in any case, and nothing of that
    /// could be shown if what is missing was not sent again.
    pub fn has_room_to_resend(&mut self, now: Instant, len: usize) -> bool {
        let Some(available) = self.available().filter(|_| !self.is_unknown()) else { return true };
        let budget = available.bytes_in(RESEND_WINDOW);
        self.volume.roll(now);
        let resent = self.volume.resent + len;
        let is_lossy = self.estimator.loss().is_none_or(|loss| loss >= NOTABLE_LOSS);
        let is_random = is_lossy && self.queue.least() < SHORT_QUEUE;
        let granted = if is_random {
            self.volume.others as f64 * RANDOM_LOSS_SHARE
        } else {
            budget as f64 * RESEND_SHARE
        };
        resent + self.volume.others <= budget || resent as f64 <= granted
    }

    /// Notes that the packet with the next sequence number was sent again.
    pub fn note_resent(&mut self, now: Instant, len: usize, copy: Copy) {
        self.copies.note(self.next_sequence(), copy);
        self.note_sent(now, len);
        self.volume.resent += len + DATAGRAM_OVERHEAD;
        self.pacer.note_urgent(len);
    }

    /// Takes a viewer's report on packets.
    pub fn handle_feedback(&mut self, now: Instant, feedback: &TransportFeedback<'_>) {
        if self.reporting != Some(Reporting::TransportCc) {
            return;
        }
        let base = self.unwrap_reference(feedback.reference) * TICKS_PER_REFERENCE;
        let (mut newest_sent, mut last) = (None, None);
        for (sequence, ticks) in feedback.packets() {
            last = Some(sequence);
            let Some(ticks) = ticks else {
                if self.sent.lose(sequence) {
                    self.estimator.lose();
                    self.copies.lose(sequence);
                }
                continue;
            };
            let Some(Sent { at: sent, len, probe }) = self.sent.arrive(sequence) else { continue };
            let (arrival, len) = ((base + ticks) * TICK_US, u32::from(len));
            newest_sent = Some(sent);
            self.estimator.acknowledge(&Acknowledged { sent, arrival, len }, probe != 0);
            if probe != 0 {
                self.prober.note_arrival(probe, sent, arrival, len);
            }
        }
        if let Some(last) = last {
            self.sent.forget_before(last);
        }
        let round_trip =
            newest_sent.map(|sent| Duration::from_micros((self.micros(now) - sent).max(0) as u64));
        self.judge_queue(now, round_trip);
        let before = self.estimator.estimate();
        let is_burst = self.prober.is_recent(now) || self.steadiness.is_settling(now);
        self.estimator.update(now, round_trip, is_burst);
        if self.estimator.estimate() < before {
            self.prober.back_off(now);
        }
        (self.last_feedback, self.unreported, self.is_mute) = (Some(now), false, false);
        self.finish_probe(now);
    }

    /// What was sent again and did not arrive either, by the reports since the last call.
    pub fn take_lost_copies(&mut self) -> Vec<Copy> {
        self.copies.take_lost()
    }

    /// Notes the time from a packet to its report. A long queue is gone when a packet passed quickly, or when all that
    /// was sent has been reported.
    fn judge_queue(&mut self, now: Instant, delay: Option<Duration>) {
        let Some(delay) = delay else { return };
        let least = self.least_delay.map_or(delay, |least| least.min(delay));
        self.least_delay = Some(least);
        let queue = delay.saturating_sub(least);
        self.queue.note(now, queue);
        let is_empty = queue < LONG_QUEUE / 2 || self.sent.is_settled();
        self.is_draining = !is_empty && (self.is_draining || queue > LONG_QUEUE);
    }

    /// The time from a packet to the report on it as it was lately where the report did not have to wait, once known.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.least_delay.map(|least| least + self.queue.least())
    }

    /// Whether video should wait for a long queue to run empty.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// Takes a viewer's own estimate.
    pub fn handle_estimate(&mut self, bitrate: Bitrate) {
        self.told = Some(bitrate);
    }

    fn finish_probe(&mut self, now: Instant) {
        if let Some(outcome) = self.prober.finish(now) {
            self.estimator.probed(now, outcome);
        }
    }

    fn unwrap_reference(&mut self, reference: u32) -> i64 {
        let (last, unwrapped) = self.reference;
        let ahead = (i64::from(reference) - i64::from(last)).rem_euclid(REFERENCE_WRAP);
        let ahead = if ahead >= REFERENCE_WRAP / 2 { ahead - REFERENCE_WRAP } else { ahead };
        self.reference = (reference, unwrapped.saturating_add(ahead));
        self.reference.1
    }

    /// When a probe goes on or may begin.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.prober.poll_timeout().filter(|_| self.reporting == Some(Reporting::TransportCc))
    }

    /// Bytes of padding that are due now for a probe, if the transport `can_pad`.
    pub fn handle_timeout(&mut self, now: Instant, can_pad: bool) -> usize {
        let silent = |last: Instant| now.saturating_duration_since(last) >= STARVED_AFTER;
        if self.unreported && self.last_feedback.is_some_and(silent) {
            self.estimator.starve(now);
            self.is_draining = false;
            self.last_feedback = Some(now);
        }
        let is_late = |first: Instant| now.saturating_duration_since(first) >= MUTE_AFTER;
        self.is_mute = self.last_feedback.is_none() && self.first_sent.is_some_and(is_late);
        self.finish_probe(now);
        if can_pad && !self.is_mute && !self.is_draining && !self.estimator.is_overused() {
            self.prober.begin(now, self.estimator.estimate(), self.bound());
        } else {
            self.prober.back_off(now);
        }
        self.prober.due(now)
    }

    /// The estimator, for statistics.
    #[must_use]
    pub fn estimator(&self) -> &Estimator {
        &self.estimator
    }
}

fn check_bounds(min: Bitrate, max: Option<Bitrate>) -> Result<(), SetBitrateError> {
    let lowest = max.map_or(min, |max| max.min(min));
    if lowest < MINIMUM {
        return Err(SetBitrateError::TooLow(lowest));
    }
    match max {
        Some(max) if max < min => Err(SetBitrateError::Crossed { min, max }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
