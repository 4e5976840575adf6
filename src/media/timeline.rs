//! One clock for everything of a peer: RTP timestamps of its tracks become moments of one timeline.
//!
//! A track is anchored where its first packet arrived. From there its RTP timestamps count, gently corrected: towards
//! the packets that were delayed least, and for video towards the audio track once sender reports tell how the two
//! belong together. Pure: time comes in as values, and every moment is a [`MediaTime`].

use std::ops::Add;
use std::time::{Duration, SystemTime};

const NANOS_PER_SEC: u64 = 1_000_000_000;
/// How far a timestamp may be from its arrival before the track is anchored anew: the publisher's clock jumped.
const MAX_DEVIATION_NS: i64 = 1_500_000_000;
/// How far ahead of its arrival a timestamp may be: more than this is a jump, because nothing comes from the future.
const MAX_LEAD_NS: i64 = 400_000_000;
/// How long the least delay is searched for before it corrects the clock.
const DELAY_WINDOW_NS: u64 = 5 * NANOS_PER_SEC;
/// The share of elapsed time by which a correction may move the clock: one in twenty isn't seen.
const SLEW_DIVISOR: i64 = 20;
/// Audio is not corrected for less than this, because each correction is heard.
const AUDIO_DEADBAND_NS: i64 = 80_000_000;
/// Sender reports that want a bigger shift than this between audio and video are not believed.
const MAX_SYNC_SHIFT_NS: i64 = 3_000_000_000;

/// NTP counts from 1900 (RFC 5905 section 6).
const FROM_1900_TO_1970: Duration = Duration::from_secs(2_208_988_800);

/// A moment on a peer's timeline, in nanoseconds since its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MediaTime(u64);

impl MediaTime {
    /// A moment by its nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the timeline's beginning.
    #[must_use]
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// The moment in ticks of a clock of `rate` Hz, rounded down.
    #[must_use]
    pub fn ticks(self, rate: u32) -> u64 {
        let ticks = u128::from(self.0) * u128::from(rate) / u128::from(NANOS_PER_SEC);
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// The moment that `ticks` of a clock of `rate` Hz stand for.
    #[must_use]
    pub fn from_ticks(ticks: u64, rate: u32) -> Self {
        let nanos = u128::from(ticks) * u128::from(NANOS_PER_SEC) / u128::from(rate.max(1));
        Self(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment `duration` before, or the beginning.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration_nanos(duration)))
    }
}

impl Add<Duration> for MediaTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration_nanos(duration)))
    }
}

fn duration_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What a correction of a track's clock may disturb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Small steps at any time: video.
    Gentle,
    /// Rarely, and only for a real drift: audio.
    Rare,
}

/// Turns one track's RTP timestamps into moments.
#[derive(Debug)]
pub struct RtpClock {
    rate: u32,
    pace: Pace,
    anchor: Option<Anchor>,
    /// The publisher's clock: NTP nanoseconds at an extended RTP timestamp.
    report: Option<(i64, i64)>,
    /// The same, told before the first packet: the timestamp is not extended yet.
    early_report: Option<(i64, u32)>,
    /// Sender reports lead this clock: they replace the search for the least delay.
    synced: bool,
}

#[derive(Debug, Clone, Copy)]
struct Anchor {
    /// The last extended timestamp and its moment.
    last: (i64, MediaTime),
    /// Where the clock's line starts: extended timestamp and nanoseconds.
    origin: (i64, i64),
    /// The least deviation of arrival from timestamp in the running window, and when the window began.
    least: i64,
    window_start: u64,
    /// What is still to be corrected.
    pending: i64,
}

impl RtpClock {
    /// A clock for timestamps of `rate` Hz.
    #[must_use]
    pub const fn new(rate: u32, pace: Pace) -> Self {
        Self { rate, pace, anchor: None, report: None, early_report: None, synced: false }
    }

    /// The moment that a packet with timestamp `rtp` belongs to, seen at `arrival`. Packets have to come in the order
    /// of their sequence numbers; equal timestamps give equal moments.
    pub fn moment(&mut self, rtp: u32, arrival: MediaTime) -> MediaTime {
        let Some(mut anchor) = self.anchor else {
            let first = i64::from(rtp);
            self.report = self.early_report.take().map(|(ntp, at)| (ntp, extend(first, at)));
            self.anchor = Some(Anchor::at(first, arrival));
            return arrival;
        };
        let extended = extend(anchor.last.0, rtp);
        if extended == anchor.last.0 {
            return anchor.last.1;
        }
        let nominal = self.line(&anchor, extended);
        let deviation = signed(arrival.0).saturating_sub(nominal);
        if !(-MAX_LEAD_NS..=MAX_DEVIATION_NS).contains(&deviation) {
            // Never back in time: what was written stays written.
            let moment = arrival.max(anchor.last.1 + Duration::from_millis(1));
            self.anchor = Some(Anchor::at(extended, moment));
            self.report = None;
            self.synced = false;
            return moment;
        }
        if extended < anchor.last.0 {
            return MediaTime(nominal.max(0).unsigned_abs()); // a B-frame: no correction
        }
        self.search_least_delay(&mut anchor, deviation, arrival);
        let elapsed = nominal.saturating_sub(signed(anchor.last.1.0)).max(0);
        let limit = elapsed / SLEW_DIVISOR;
        let step = anchor.pending.clamp(-limit, limit);
        anchor.pending -= step;
        anchor.least = anchor.least.saturating_sub(step);
        anchor.origin.1 = anchor.origin.1.saturating_add(step);
        let moment = MediaTime(nominal.saturating_add(step).max(0).unsigned_abs());
        anchor.last = (extended, moment);
        self.anchor = Some(anchor);
        moment
    }

    /// Takes a sender report: `rtp` was sampled at `ntp` (RFC 3550 section 6.4.1).
    pub fn sender_report(&mut self, ntp: u64, rtp: u32) {
        match &self.anchor {
            Some(anchor) => self.report = Some((ntp_nanos(ntp), extend(anchor.last.0, rtp))),
            None => self.early_report = Some((ntp_nanos(ntp), rtp)),
        }
    }

    /// Moves this clock so that the publisher's own clock reads the same on both tracks, if both told it.
    pub fn follow(&mut self, reference: &Self) {
        let (Some(own), Some(other)) = (self.offset_to_publisher(), reference.offset_to_publisher()) else {
            return;
        };
        let shift = other.saturating_sub(own);
        if shift.abs() > MAX_SYNC_SHIFT_NS {
            return;
        }
        self.synced = true;
        if let Some(anchor) = &mut self.anchor {
            anchor.pending = shift;
        }
    }

    /// What the publisher's wall clock showed at this timeline's beginning, if sender reports told.
    #[must_use]
    pub fn publisher_epoch(&self) -> Option<SystemTime> {
        let since_1900 = self.offset_to_publisher()?.checked_neg()?;
        let since_1900 = Duration::from_nanos(u64::try_from(since_1900).ok()?);
        SystemTime::UNIX_EPOCH.checked_add(since_1900.checked_sub(FROM_1900_TO_1970)?)
    }

    /// Nanoseconds from the publisher's NTP time to this timeline.
    fn offset_to_publisher(&self) -> Option<i64> {
        let (ntp, extended) = self.report?;
        Some(self.line(self.anchor.as_ref()?, extended).saturating_sub(ntp))
    }

    fn line(&self, anchor: &Anchor, extended: i64) -> i64 {
        let ticks = i128::from(extended.saturating_sub(anchor.origin.0));
        let nanos = ticks * i128::from(NANOS_PER_SEC) / i128::from(self.rate.max(1));
        anchor.origin.1.saturating_add(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    fn search_least_delay(&self, anchor: &mut Anchor, deviation: i64, arrival: MediaTime) {
        anchor.least = anchor.least.min(deviation);
        if arrival.0.saturating_sub(anchor.window_start) < DELAY_WINDOW_NS {
            return;
        }
        let worth = match self.pace {
            Pace::Gentle => !self.synced,
            Pace::Rare => anchor.least.abs() > AUDIO_DEADBAND_NS,
        };
        if worth {
            anchor.pending = anchor.least;
        }
        anchor.least = i64::MAX;
        anchor.window_start = arrival.0;
    }
}

impl Anchor {
    const fn at(extended: i64, moment: MediaTime) -> Self {
        Self {
            last: (extended, moment),
            origin: (extended, signed(moment.0)),
            least: i64::MAX,
            window_start: moment.0,
            pending: 0,
        }
    }
}

const fn signed(nanos: u64) -> i64 {
    if nanos > i64::MAX.unsigned_abs() { i64::MAX } else { nanos.cast_signed() }
}

/// Widens an RTP timestamp to the value nearest to `reference`.
fn extend(reference: i64, rtp: u32) -> i64 {
    let low = (reference & 0xFFFF_FFFF) as u32;
    reference.saturating_add(i64::from(rtp.wrapping_sub(low).cast_signed()))
}

/// 32.32 fixed point seconds as nanoseconds (of 1900; only differences matter).
fn ntp_nanos(ntp: u64) -> i64 {
    let nanos = (u128::from(ntp) * u128::from(NANOS_PER_SEC)) >> 32;
    i64::try_from(nanos).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    const START: u64 = 10 * NANOS_PER_SEC;

    fn at_ms(ms: u64) -> MediaTime {
        MediaTime::from_nanos(START + ms * 1_000_000)
    }

    fn ms(moment: MediaTime) -> i64 {
        (signed(moment.nanos()) - signed(START)) / 1_000_000
    }

    #[test]
    fn timestamps_count_from_the_first_arrival_and_wrap() {
        let mut clock = RtpClock::new(90_000, Pace::Gentle);
        let first = u32::MAX - 1000;
        assert_eq!(clock.moment(first, at_ms(0)), at_ms(0));
        assert_eq!(ms(clock.moment(first.wrapping_add(3000), at_ms(60))), 33);
        assert_eq!(ms(clock.moment(first.wrapping_add(3000), at_ms(90))), 33, "one frame, one moment");
        assert_eq!(ms(clock.moment(first.wrapping_add(9000), at_ms(101))), 100);
    }

    #[test]
    fn a_jump_of_the_publishers_clock_anchors_anew_and_never_goes_back() {
        let mut clock = RtpClock::new(48_000, Pace::Rare);
        clock.moment(0, at_ms(0));
        assert_eq!(ms(clock.moment(48_000, at_ms(1000))), 1000);
        assert_eq!(ms(clock.moment(9_000_000, at_ms(1020))), 1020);
        assert_eq!(ms(clock.moment(9_000_960, at_ms(1040))), 1040);
        // The timestamps stood still while time went on.
        assert_eq!(ms(clock.moment(9_001_920, at_ms(61_000))), 61_000);
        assert_eq!(ms(clock.moment(5, at_ms(60_900))), 61_001);
    }

    #[test]
    fn a_late_first_packet_is_forgotten_gently() {
        let mut clock = RtpClock::new(90_000, Pace::Gentle);
        clock.moment(0, at_ms(100)); // delayed by 100 ms
        let mut last = at_ms(100);
        for frame in 1..600u64 {
            let moment = clock.moment((frame * 3000) as u32, at_ms(frame * 100 / 3));
            assert!(moment > last, "time goes forward");
            assert!(moment.since(last) < Duration::from_millis(36), "no visible jump");
            last = moment;
        }
        assert!((ms(last) - 599 * 100 / 3).abs() <= 1, "{}", ms(last));
    }

    #[test]
    fn a_report_before_the_first_packet_counts() {
        let mut clocks = [u32::MAX - 100, 5000].map(|offset| (offset, RtpClock::new(90_000, Pace::Gentle)));
        for (index, (offset, clock)) in clocks.iter_mut().enumerate() {
            clock.sender_report(3_900_000_000u64 << 32, offset.wrapping_add(3000));
            clock.moment(*offset, at_ms(40 * index as u64));
        }
        let [(_, reference), (offset, mut clock)] = clocks;
        clock.follow(&reference);
        let last = clock.moment(offset.wrapping_add(90_000), at_ms(1000));
        assert_eq!(ms(last), 1000, "40 ms are taken back");
    }

    #[test]
    fn video_follows_audio_by_sender_reports() {
        let mut audio = RtpClock::new(48_000, Pace::Rare);
        let mut video = RtpClock::new(90_000, Pace::Gentle);
        // Sampled at the same moment, but the video came 60 ms later.
        audio.moment(0, at_ms(0));
        video.moment(0, at_ms(60));
        let ntp = 3_900_000_000u64 << 32;
        audio.sender_report(ntp, 0);
        video.sender_report(ntp, 0);
        video.follow(&audio);
        let mut last = at_ms(0);
        for frame in 1..120u64 {
            last = video.moment((frame * 3000) as u32, at_ms(60 + frame * 100 / 3));
        }
        assert!((ms(last) - 119 * 100 / 3).abs() <= 1, "{}", ms(last));
    }

    #[test]
    fn sender_reports_tell_the_wall_clock_of_the_publisher() {
        let mut clock = RtpClock::new(90_000, Pace::Gentle);
        clock.moment(0, at_ms(0));
        assert_eq!(clock.publisher_epoch(), None);
        // 2023-11-14T22:13:20Z, and 9000 ticks are 100 ms.
        let ntp = (1_700_000_000u64 + 2_208_988_800) << 32;
        clock.sender_report(ntp, 9000);
        let begun = clock.publisher_epoch().unwrap() + Duration::from_nanos(START + 100_000_000);
        assert_eq!(begun, SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        clock.sender_report(1, 9000);
        assert_eq!(clock.publisher_epoch(), None, "nobody recorded anything in 1900");
    }

    /// An hour in which the sound card's clock runs 0.1 per mille fast, packets jitter by 40 ms, and 5 % of them are
    /// lost. Answers the worst distance between the moments of sound and picture sampled at the same time, in ms, in
    /// the last minute.
    fn drift_after_an_hour(reports: bool) -> i64 {
        let mut audio = RtpClock::new(48_000, Pace::Rare);
        let mut video = RtpClock::new(90_000, Pace::Gentle);
        let mut random = StdRng::seed_from_u64(1);
        let (mut heard, mut worst) = (at_ms(0), 0);
        for step in 0..180_000u64 {
            let sampled = step * 20;
            let (audio_rtp, video_rtp) = ((step * 960 + step * 960 / 10_000) as u32, (sampled * 90) as u32);
            let mut arrival = || at_ms(sampled + random.random_range(0..40));
            let (audio_arrival, video_arrival) = (arrival(), arrival());
            let lost = random.random_bool(0.05);
            if !lost {
                heard = audio.moment(audio_rtp, audio_arrival);
            }
            let seen = video.moment(video_rtp, video_arrival);
            if reports && step.is_multiple_of(250) {
                let ntp = (3_900_000_000u64 << 32) + ((sampled << 32) / 1000);
                audio.sender_report(ntp, audio_rtp);
                video.sender_report(ntp, video_rtp);
                video.follow(&audio);
            }
            if sampled > 59 * 60_000 && !lost {
                worst = worst.max((ms(seen) - ms(heard)).abs());
            }
        }
        worst
    }

    #[test]
    fn sound_and_picture_stay_together_for_an_hour() {
        let (with, without) = (drift_after_an_hour(true), drift_after_an_hour(false));
        assert!(with <= 5, "with sender reports: {with} ms");
        assert!(without <= 130, "by arrival alone, with the jitter in it: {without} ms");
    }

    #[test]
    fn nonsense_sender_reports_are_not_believed() {
        let mut audio = RtpClock::new(48_000, Pace::Rare);
        let mut video = RtpClock::new(90_000, Pace::Gentle);
        audio.moment(0, at_ms(0));
        video.moment(0, at_ms(0));
        audio.sender_report(3_900_000_000u64 << 32, 0);
        video.sender_report(3_900_000_100u64 << 32, 0);
        video.follow(&audio);
        assert_eq!(ms(video.moment(90_000, at_ms(1000))), 1000);
    }

    #[test]
    fn ticks_round_down() {
        assert_eq!(MediaTime::from_ticks(12_345, 48_000).ticks(48_000), 12_345);
        assert_eq!(MediaTime::from_nanos(999_999).ticks(1000), 0);
        assert_eq!(MediaTime::from_nanos(1_500_000_000).ticks(90_000), 135_000);
    }
}
