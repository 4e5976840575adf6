//! The periodic reports of one transport (RFC 3550 section 6.4): what arrived from its producers, and what was sent
//! to its consumers.

use std::time::{Duration, Instant};

use super::Worker;
use crate::media::rtcp;

/// Time between two reports.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// The canonical name in weir's source descriptions; every stream of weir comes from one clock.
const CNAME: &str = "weir";
/// Bytes after which a compound packet is sent and a new one begun.
const MAX_COMPOUND_LEN: usize = 1100;

impl Worker {
    /// Sends a transport's reports if they are due.
    pub(super) fn send_reports(&mut self, now: Instant, key: usize) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        if transport.reports_due.is_none_or(|due| due > now) {
            return;
        }
        transport.reports_due = Some(now + INTERVAL);
        self.review_layers(now, key);
        self.review_scores(now, key);
        self.sample_rates(now, key);
        let Some(transport) = self.transports.get_mut(key) else { return };
        let feedback = transport.feedback_ssrc;
        let (producers, consumers) = (transport.producers.clone(), transport.consumers.clone());
        let mut blocks = Vec::new();
        for producer in producers {
            let Some(producer) = self.producers.get_mut(producer) else { continue };
            blocks.extend(producer.streams.iter_mut().filter_map(|stream| stream.report(now)));
        }
        let mut compound = Vec::new();
        if !blocks.is_empty() {
            rtcp::write_receiver_report(&mut compound, feedback, &blocks);
            rtcp::write_cname(&mut compound, feedback, CNAME);
        }
        let ntp = self.ntp(now);
        for consumer in consumers {
            let Some(consumer) = self.consumers.get_mut(consumer).filter(|consumer| !consumer.paused) else {
                continue;
            };
            let Some(producer) = self.producers.get(consumer.producer) else { continue };
            let stream = consumer.rewriter.current_stream().and_then(|stream| producer.streams.get(stream));
            let Some(info) = consumer.sender_info(now, ntp, stream.and_then(|stream| stream.clock)) else {
                continue;
            };
            rtcp::write_sender_report(&mut compound, &info);
            consumer.heard.sender_report = Some(((info.ntp >> 16) as u32, now));
            rtcp::write_cname(&mut compound, info.ssrc, CNAME);
            if compound.len() > MAX_COMPOUND_LEN {
                self.send_rtcp(key, std::mem::take(&mut compound));
            }
        }
        if !compound.is_empty() {
            self.send_rtcp(key, compound);
        }
    }
}
