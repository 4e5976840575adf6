//! The estimate of a path with a known capacity: frames and probes go through a queue, the viewer reports on them.

use std::collections::VecDeque;

use mediasoup_types::rtp_parameters::{RtpHeaderExtensionParameters, RtpParameters};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::*;
use crate::media::ortc;
use crate::media::rtcp::{self, Item};
use crate::sfu::bandwidth::arrivals::Arrivals;

const STEP: Duration = Duration::from_millis(1);
const FRAME: Duration = Duration::from_micros(33_333);
const PACKET: usize = 1100;

fn parameters(extension: Uri, feedback: &str) -> RtpParameters {
    let mut parameters = ortc::parse_rtp_parameters(&json!({
        "codecs": [{"mimeType": "video/VP8", "payloadType": 96, "clockRate": 90000,
            "rtcpFeedback": [{"type": feedback}]}],
        "encodings": [{"ssrc": 1}],
        "rtcp": {"cname": "a"},
    }))
    .unwrap();
    parameters.header_extensions =
        vec![RtpHeaderExtensionParameters { uri: extension, id: 5, encrypt: false }];
    parameters
}

/// A viewer behind a bottleneck.
struct Path {
    now: Instant,
    random: StdRng,
    outgoing: Outgoing,
    capacity: Bitrate,
    /// The longest wait in the queue.
    limit: Duration,
    delay: Duration,
    loss: f64,
    free_at: Instant,
    /// Packets on their way: arrival and sequence number.
    flying: VecDeque<(Instant, u16)>,
    arrivals: Arrivals,
    next_report: Instant,
    reports: VecDeque<(Instant, Vec<u8>)>,
    next_frame: Instant,
    /// What is sent of media; a key frame of four times the size comes now and then.
    media: Bitrate,
    frames: u32,
    longest_queue: Duration,
    padding: usize,
}

impl Path {
    fn new(seed: u64, kbps: u64) -> Self {
        let now = Instant::now();
        let mut outgoing = Outgoing::new(now, INITIAL);
        outgoing.add_consumer(&parameters(Uri::TransportWideCcDraft01, "transport-cc"));
        Self {
            now,
            random: StdRng::seed_from_u64(seed),
            outgoing,
            capacity: Bitrate::kbps(kbps),
            limit: Duration::from_millis(300),
            delay: Duration::from_millis(25),
            loss: 0.0,
            free_at: now,
            flying: VecDeque::new(),
            arrivals: Arrivals::new(now),
            next_report: now + Duration::from_millis(100),
            reports: VecDeque::new(),
            next_frame: now,
            media: Bitrate::default(),
            frames: 0,
            longest_queue: Duration::ZERO,
            padding: 0,
        }
    }

    fn estimate(&self) -> u64 {
        self.outgoing.available().unwrap().0 / 1000
    }

    fn send(&mut self, len: usize) {
        let sequence = self.outgoing.next_sequence();
        self.outgoing.note_sent(self.now, len);
        let wait = self.free_at.saturating_duration_since(self.now);
        if wait > self.limit || self.random.random_bool(self.loss) {
            return;
        }
        self.longest_queue = self.longest_queue.max(wait);
        let time = (len + DATAGRAM_OVERHEAD) as f64 * 8.0 / self.capacity.0 as f64;
        self.free_at = self.now + wait + Duration::from_secs_f64(time);
        let jitter = Duration::from_micros(self.random.random_range(0..1000));
        self.flying.push_back((self.free_at + self.delay + jitter, sequence));
    }

    fn step(&mut self) {
        self.now += STEP;
        if self.next_frame <= self.now {
            self.next_frame += FRAME;
            let is_key = self.frames.is_multiple_of(300);
            self.frames += 1;
            let mut left = self.media.bytes_in(FRAME) * if is_key { 4 } else { 1 };
            while left > 0 {
                self.send(left.min(PACKET));
                left = left.saturating_sub(PACKET);
            }
        }
        let mut padding = self.outgoing.handle_timeout(self.now, self.media.0 > 0);
        while padding > 0 {
            self.padding += 300;
            self.send(300);
            padding = padding.saturating_sub(300);
        }
        while let Some((_, sequence)) = self.flying.pop_front_if(|(at, _)| *at <= self.now) {
            self.arrivals.note(self.now, sequence);
        }
        if self.next_report <= self.now {
            self.next_report += Duration::from_millis(100);
            let at = self.now + self.delay;
            self.arrivals.report(self.now, 1, 2, |message| self.reports.push_back((at, message)));
        }
        while let Some((_, message)) = self.reports.pop_front_if(|(at, _)| *at <= self.now) {
            rtcp::read(&message, |item| {
                let Item::TransportFeedback(feedback) = item else { panic!("{item:?}") };
                self.outgoing.handle_feedback(self.now, &feedback);
            })
            .unwrap();
        }
    }

    /// Lets time pass; the lowest and the highest estimate in kbit/s.
    fn run(&mut self, seconds: u64) -> (u64, u64) {
        let mut range = (u64::MAX, 0);
        for _ in 0..seconds * 1000 {
            self.step();
            range = (range.0.min(self.estimate()), range.1.max(self.estimate()));
        }
        range
    }

    /// Wants more than it sends.
    fn want(&mut self, kbps: u64) {
        self.outgoing.set_desired(self.now, Bitrate::kbps(kbps), true);
    }
}

#[test]
fn probes_find_what_the_path_takes_although_little_is_sent() {
    for capacity in [250, 800, 2000, 5000] {
        let mut path = Path::new(capacity, capacity);
        path.media = Bitrate::kbps(150);
        path.want(4000);
        path.run(10);
        let (low, high) = path.run(60);
        let expected = capacity.min(5400);
        assert!(
            low * 10 >= expected * 6 && high * 100 <= expected * 115,
            "{capacity}: {low} to {high} kbit/s"
        );
        assert!(path.longest_queue < Duration::from_millis(300), "{capacity}: {:?}", path.longest_queue);
        assert!(path.padding * 8 < 70 * 60_000, "{} bytes of padding", path.padding);
    }
}

#[test]
fn a_path_that_gets_narrow_is_noticed_in_time_and_found_again() {
    let mut path = Path::new(1, 3000);
    path.media = Bitrate::kbps(2000);
    path.want(2500);
    path.run(20);
    assert!(path.estimate() > 2000, "{}", path.estimate());
    path.capacity = Bitrate::kbps(300);
    let mut down = 0;
    while path.estimate() > 330 {
        path.step();
        down += 1;
        assert!(down < 3000, "{} kbit/s after 3 s", path.estimate());
    }
    path.media = Bitrate::kbps(150);
    path.run(10);
    path.longest_queue = Duration::ZERO;
    let (low, high) = path.run(60);
    assert!(low > 150 && high < 345, "{low} to {high}");
    assert!(path.longest_queue < Duration::from_millis(300), "{:?}", path.longest_queue);
    path.capacity = Bitrate::kbps(3000);
    let mut up = 0;
    while path.estimate() < 2500 {
        path.step();
        up += 1;
        assert!(up < 15_000, "{} kbit/s after 15 s", path.estimate());
    }
}

#[test]
fn a_stream_that_fits_keeps_its_estimate() {
    let mut path = Path::new(2, 800);
    path.media = Bitrate::kbps(600);
    path.want(2500);
    path.run(10);
    let (low, high) = path.run(300);
    assert!(low >= 570 && high <= 840, "{low} to {high} kbit/s");
}

#[test]
fn random_loss_leaves_what_arrives_in_spite_of_it() {
    for percent in [2_u32, 5, 10, 20] {
        let mut path = Path::new(u64::from(percent), 5000);
        path.loss = f64::from(percent) / 100.0;
        path.media = Bitrate::kbps(1000);
        path.want(2000);
        path.run(10);
        let (low, _) = path.run(60);
        let arrives = u64::from(1000 * (100 - percent) / 100);
        assert!(low * 100 >= arrives * 80, "{percent} %: {low} kbit/s");
    }
}

#[test]
fn a_viewer_that_falls_silent_is_sent_less() {
    let mut path = Path::new(3, 2000);
    path.media = Bitrate::kbps(500);
    path.want(1500);
    path.run(10);
    let before = path.estimate();
    path.capacity = Bitrate(100);
    path.run(10);
    assert!(path.estimate() < before / 8, "{} of {before} kbit/s", path.estimate());
}

#[test]
fn lies_take_the_estimate_no_further_than_the_wish() {
    let mut random = StdRng::seed_from_u64(5);
    let mut path = Path::new(4, 2000);
    path.media = Bitrate::kbps(400);
    path.want(1000);
    for _ in 0..20_000 {
        path.step();
        let mut body: Vec<u8> = (0..random.random_range(0..200)).map(|_| random.random()).collect();
        if random.random_bool(0.5) {
            // About packets that were sent, but at times that nobody measured.
            let arrivals: Vec<Option<i64>> =
                (0..100).map(|_| random.random_bool(0.9).then(|| random.random_range(0..200))).collect();
            let base = path.outgoing.next_sequence().wrapping_sub(100);
            let header = rtcp::transport_cc::Header {
                sender: 1,
                media: 2,
                base,
                reference: random.random_range(0..1 << 24),
                count: 0,
            };
            body.clear();
            rtcp::transport_cc::write(&mut body, &header, &arrivals);
        } else {
            let words = body.len() / 4;
            body.truncate(words * 4);
            body.splice(0..0, [0x8F, 205, 0, words as u8]);
        }
        let _malformed = rtcp::read(&body, |item| {
            if let Item::TransportFeedback(feedback) = item {
                path.outgoing.handle_feedback(path.now, &feedback);
            }
        });
        assert!((30..=1350).contains(&path.estimate()), "{}", path.estimate());
    }
    path.outgoing.handle_estimate(Bitrate(u64::MAX));
    assert!(path.estimate() <= 1350, "REMB says nothing where transport-cc was agreed on");
}

#[test]
fn the_estimate_of_an_old_viewer_is_taken_within_the_bounds() {
    let now = Instant::now();
    let mut outgoing = Outgoing::new(now, INITIAL);
    assert_eq!(outgoing.available(), None, "nobody reports");
    outgoing.add_consumer(&parameters(Uri::AbsSendTime, "goog-remb"));
    assert_eq!(outgoing.available(), Some(INITIAL));
    outgoing.handle_estimate(Bitrate::kbps(450));
    assert_eq!(outgoing.announce(now), Some((Bitrate::kbps(450), Bitrate(0))));
    outgoing.handle_estimate(Bitrate::kbps(460));
    assert_eq!(outgoing.announce(now), None, "hardly news");
    assert!(outgoing.announce(now + ANNOUNCEMENT_INTERVAL).is_some());
    outgoing.handle_estimate(Bitrate(u64::MAX));
    outgoing.set_max(Some(Bitrate::kbps(900))).unwrap();
    assert_eq!(outgoing.available(), Some(Bitrate::kbps(900)));
    outgoing.handle_estimate(Bitrate(0));
    outgoing.set_min(Some(Bitrate::kbps(200))).unwrap();
    assert_eq!(outgoing.available(), Some(Bitrate::kbps(200)));
}

#[test]
fn bounds_that_make_no_sense_are_refused_and_change_nothing() {
    let now = Instant::now();
    let mut outgoing = Outgoing::new(now, Bitrate(1));
    outgoing.add_consumer(&parameters(Uri::TransportWideCcDraft01, "transport-cc"));
    assert_eq!(outgoing.available(), Some(MINIMUM), "the least there is");
    let kbps = Bitrate::kbps;
    outgoing.set_max(Some(kbps(500))).unwrap();
    let crossed = SetBitrateError::Crossed { min: kbps(501), max: kbps(500) };
    assert_eq!(outgoing.set_min(Some(kbps(501))), Err(crossed));
    assert_eq!(outgoing.set_min(Some(kbps(29))), Err(SetBitrateError::TooLow(kbps(29))));
    assert_eq!(outgoing.set_max(Some(Bitrate(0))), Err(SetBitrateError::TooLow(Bitrate(0))));
    assert_eq!(outgoing.bounds(), (None, Some(kbps(500))));
    outgoing.set_min(Some(kbps(500))).unwrap();
    assert_eq!(outgoing.available(), Some(kbps(500)));
    assert!(outgoing.set_max(Some(kbps(499))).is_err());
    outgoing.set_max(None).unwrap();
    assert_eq!(outgoing.bounds(), (Some(kbps(500)), None));
}
