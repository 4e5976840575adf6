//! Scores are taken once a second, and those who are concerned are told what changed.

use std::time::Instant;

use super::{Worker, not_found};
use crate::ids::ConsumerId;
use crate::media::rtcp::ReportBlock;
use crate::sfu::api::{ConsumerScore, EncodingScore, Event, NotFound};
use crate::sfu::consumer::Consumer;
use crate::sfu::producer::Producer;
use crate::sfu::score::Score;

impl Worker {
    /// How well a consumer's stream arrives.
    ///
    /// # Errors
    /// Fails if there is no such consumer.
    pub fn consumer_score(&self, id: ConsumerId) -> Result<ConsumerScore, NotFound> {
        let consumer = self.consumer_keys.get(&id).and_then(|key| self.consumers.get(*key));
        let consumer = consumer.ok_or_else(|| not_found("consumer", &id))?;
        let producer = self.producers.get(consumer.producer).ok_or_else(|| not_found("consumer", &id))?;
        Ok(consumer_score(consumer, producer))
    }

    /// Takes the scores of a transport's producers, and tells of those that changed.
    pub(super) fn review_scores(&mut self, now: Instant, transport: usize) {
        let Some(transport) = self.transports.get(transport) else { return };
        for key in &transport.producers {
            let Some(producer) = self.producers.get_mut(*key) else { continue };
            if !producer.paused {
                producer.streams.iter_mut().for_each(|stream| stream.take_score(now));
            }
            let scores = producer.streams.iter().map(|stream| stream_score(stream.score.as_ref()));
            let changed = !producer.told_scores.iter().copied().eq(scores.clone());
            if changed {
                producer.told_scores = scores.collect();
                let event = Event::ProducerScore { producer: producer.id, scores: encoding_scores(producer) };
                self.events.push_back(event);
            }
            let producer = &*producer;
            for consumer in &producer.consumers {
                let consumer = self.consumers.get_mut(*consumer);
                // The streams of a pipe have their scores at its far end.
                let Some(consumer) = consumer.filter(|consumer| consumer.pinned.is_none()) else { continue };
                let news = (consumer.score.value(), current_score(consumer, producer));
                if consumer.told_score.replace(news) != Some(news) || changed {
                    let score = consumer_score(consumer, producer);
                    self.events.push_back(Event::ConsumerScore { consumer: consumer.id, score });
                }
            }
        }
    }

    /// A viewer reported on what it got.
    pub(super) fn handle_report(&mut self, transport: usize, report: &ReportBlock) {
        if let Some(consumer) = self.consumer_by_ssrc(transport, report.ssrc)
            && let Some(consumer) = self.consumers.get_mut(consumer)
        {
            let interval = consumer.sent.interval(report.total_lost);
            consumer.score.add(&interval);
        }
    }
}

fn stream_score(score: Option<&Score>) -> u8 {
    score.map_or(0, Score::value)
}

fn current_score(consumer: &Consumer, producer: &Producer) -> u8 {
    let stream = consumer.rewriter.current_stream().and_then(|stream| producer.streams.get(stream));
    stream.map_or(0, |stream| stream_score(stream.score.as_ref()))
}

fn consumer_score(consumer: &Consumer, producer: &Producer) -> ConsumerScore {
    ConsumerScore {
        score: consumer.score.value(),
        producer_score: current_score(consumer, producer),
        producer_scores: producer.streams.iter().map(|stream| stream_score(stream.score.as_ref())).collect(),
    }
}

fn encoding_scores(producer: &Producer) -> Vec<EncodingScore> {
    let streams = producer.streams.iter().enumerate();
    streams
        .filter_map(|(encoding_idx, stream)| {
            let score = stream.score.as_ref()?.value();
            Some(EncodingScore { encoding_idx, ssrc: stream.ssrc?, rid: stream.rid.clone(), score })
        })
        .collect()
}
