//! `GET /metrics`: what every HLS pipeline does and what there is of rooms and files, for Prometheus (OpenMetrics text).

use std::sync::atomic::AtomicU64;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::{AppState, error};
use crate::egress::{PipelineStats, Stats};
use crate::live::Counts;
use crate::media::segmenter::Rendition;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Reads one figure of a pipeline.
type Read = fn(&PipelineStats) -> u64;

/// Which pipeline a figure is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    peer: String,
    kind: &'static str,
    /// Of video: 0 is the best.
    rendition: usize,
    template: &'static str,
}

/// `GET /metrics`.
pub(super) async fn metrics(State(state): State<AppState>) -> Response {
    let (stats, pipelines) = state.routes.egress.as_ref().map_or_else(Default::default, |egress| {
        (egress.stats(), egress.pipelines()) //
    });
    match encode(&state.routes.rooms.counts(), &stats, &pipelines) {
        Ok(body) => ([(header::CONTENT_TYPE, CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")], body)
            .into_response(),
        Err(reason) => error(StatusCode::INTERNAL_SERVER_ERROR, &reason.to_string()),
    }
}

pub(super) fn encode(
    counts: &Counts,
    stats: &Stats,
    pipelines: &[PipelineStats],
) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("weir");
    let dvr_bytes = usize::try_from(stats.dvr_bytes).unwrap_or(usize::MAX);
    let gauges = [
        ("rooms", "Rooms", counts.rooms),
        ("peers", "Connected peers", counts.peers),
        ("producers", "What peers publish", counts.producers),
        ("consumers", "What peers receive", counts.consumers),
        ("live_peers", "Peers that can be played over HLS", counts.live_peers),
        ("hls_peers", "Peers whose media is made into HLS or whose last segments are kept", stats.hls_peers),
        (
            "hls_asleep",
            "Peers of those whose media is not made into HLS now, since nobody asks",
            stats.asleep,
        ),
        ("hls_files", "Playlists and segments in memory", stats.files),
        ("hls_file_bytes", "The bytes of playlists and segments in memory", stats.bytes),
        ("hls_dvr_files", "Segments on disk", stats.dvr_files),
        ("hls_dvr_bytes", "The bytes of segments on disk", dvr_bytes),
        ("pipeline_state_changes", "Threads that start or stop a pipeline", stats.state_changes),
    ];
    for (name, help, value) in gauges {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    }
    count(&mut registry, stats);
    let counters: [(&str, &str, Read); 7] = [
        ("frames_in", "Pictures and packets of sound that went in", |stats| stats.frames_in),
        ("units_out", "Access units that came out", |stats| stats.units_out),
        ("packets_lost", "Packets that never came", |stats| stats.packets_lost),
        ("dropped", "Packets that found no pipeline, access units that found no room", |stats| stats.dropped),
        ("restarts", "Pipelines that took a failed one's place", |stats| stats.restarts),
        ("hangs", "Pipelines that hung", |stats| stats.hangs),
        ("latencies", "Access units whose latency was measured", |stats| stats.latencies),
    ];
    let of_pipelines = registry.sub_registry_with_prefix("pipeline");
    for (name, help, read) in counters {
        let family = Family::<Labels, Counter>::default();
        for pipeline in pipelines {
            family.get_or_create(&labels(pipeline)).inc_by(read(pipeline));
        }
        of_pipelines.register(name, help, family);
    }
    let latency = Family::<Labels, Counter<f64, AtomicU64>>::default();
    for pipeline in pipelines {
        latency.get_or_create(&labels(pipeline)).inc_by(pipeline.latency.as_secs_f64());
    }
    let help = "From the arrival of access units' last packets to the access units, added up";
    of_pipelines.register_with_unit("latency", help, Unit::Seconds, latency);
    let mut body = String::new();
    text::encode(&mut body, &registry)?;
    Ok(body)
}

/// What happened to files since the start.
fn count(registry: &mut Registry, stats: &Stats) {
    let counters = [
        ("hls_disk_written", "HLS files written to disk", stats.disk_written),
        ("hls_disk_failed", "Attempts to write an HLS file to disk that failed", stats.disk_failed),
        (
            "hls_disk_late",
            "How often the disk was so slow that segments were gone before it took them",
            stats.disk_late,
        ),
        ("hls_thumbnails_made", "Thumbnails that were made", stats.thumbnails_made),
        (
            "hls_thumbnails_failed",
            "Thumbnails that were not made: a decoder failed or hung, or too many were wanted at once",
            stats.thumbnails_failed,
        ),
        (
            "hls_dvr_lost",
            "Segments that were not written for DVR in time",
            u64::try_from(stats.dvr_lost).unwrap_or(u64::MAX),
        ),
    ];
    for (name, help, value) in counters {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
}

fn labels(pipeline: &PipelineStats) -> Labels {
    let (kind, rendition) = match pipeline.rendition {
        Rendition::Audio => ("audio", 0),
        Rendition::Video(video) => ("video", video.index()),
    };
    Labels { peer: pipeline.peer.to_string(), kind, rendition, template: pipeline.template }
}
