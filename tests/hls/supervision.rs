//! Pipelines that fail or hang: each is replaced alone, and viewers see one discontinuity.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weir::egress::{Config, EgressEvent, PipelineStats};

use crate::source::{Codec, Source};
use crate::viewer::Viewer;
use crate::{PATIENCE, Server, segments, serve, trap};

/// Access units that pass before a trap springs: a second and a half of video.
const AFTER: u32 = 45;

/// A folder of templates in which `file` has a trap in front of its sink.
fn with_trap(file: &str, built_in: &str, element: &str) -> impl FnOnce(&mut Config, &Path) {
    trap::register_once();
    let text = built_in.replace("! appsink", &format!("! {element} ! appsink"));
    let file = file.to_owned();
    move |config, folder| {
        std::fs::write(folder.join(file), text).expect("a writable folder");
        config.pipelines_dir = folder.to_owned();
    }
}

fn h264_with(element: &str) -> impl FnOnce(&mut Config, &Path) {
    with_trap("h264.txt", include_str!("../../gst-pipelines/h264.txt"), element)
}

fn opus_with(element: &str) -> impl FnOnce(&mut Config, &Path) {
    with_trap("opus.txt", include_str!("../../gst-pipelines/opus.txt"), element)
}

impl Server {
    fn publish_both(&self, peer: &str) -> Result<[Source; 2]> {
        Ok([self.publish(peer, Codec::H264, (320, 240))?, self.publish(peer, Codec::Opus, (0, 0))?])
    }

    fn pipeline(&self, peer: &str, template: &str) -> Result<PipelineStats> {
        let mut all = self.egress.pipelines().into_iter();
        all.find(|found| found.peer.as_str() == peer && found.template == template).context("no pipeline")
    }
}

/// A peer whose `template` springs a trap plays on behind one discontinuity, and everything else knows nothing of it.
async fn one_is_replaced(server: &Server, template: &str, hangs: u64) -> Result<()> {
    // The peer whose first buffer comes first springs the trap.
    let _first = server.publish_both("a")?;
    let mut viewer = Viewer::new(&server.egress, "a");
    viewer.until(PATIENCE, segments(1, 1)).await?;
    let _second = server.publish_both("b")?;
    let mut other = Viewer::new(&server.egress, "b");
    let again = async {
        while server.pipeline("a", template)?.restarts == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, again).await.context("no restart")??;
    let seen = viewer.video.all.len();
    viewer.until(PATIENCE, segments(seen + 4, seen + 4)).await?;
    other.until(PATIENCE, segments(3, 3)).await?;

    let replaced = server.pipeline("a", template)?;
    assert_eq!((replaced.restarts, replaced.hangs), (1, hangs), "{replaced:?}");
    for pipeline in server.egress.pipelines() {
        let trapped = pipeline.peer.as_str() == "a" && pipeline.template == template;
        ensure!(trapped || pipeline.restarts == 0, "{pipeline:?}");
        ensure!(pipeline.units_out > 0 && pipeline.latencies > 0, "{pipeline:?}");
    }
    let breaks = |viewer: &Viewer| viewer.video.all.values().filter(|listed| listed.discontinuity).count();
    assert_eq!((breaks(&viewer), breaks(&other)), (1, 0));
    for rendition in [&viewer.video, &viewer.audio, &other.video, &other.audio] {
        ensure!(viewer.probe(rendition).or_else(|_| other.probe(rendition))?.len() == 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_drops_everything_is_replaced() -> Result<()> {
    let server = serve(h264_with(&format!("trap key=drop mode=drop after={AFTER}")))?;
    one_is_replaced(&server, "h264", 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_with_an_element_that_somebody_stopped_is_replaced() -> Result<()> {
    let server = serve(opus_with(&format!("trap key=kill mode=kill after={AFTER}")))?;
    one_is_replaced(&server, "opus", 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_can_not_even_be_stopped_is_left_behind() -> Result<()> {
    let mut server = serve(h264_with(&format!("trap key=sleep mode=sleep after={AFTER}")))?;
    one_is_replaced(&server, "h264", 1).await?;
    assert_eq!(server.egress.stats().state_changes, 1, "the thread that waits for the sleeper");
    server.egress.end_peer(&"a".parse()?);
    while server.event().await? != EgressEvent::Gone("a".parse()?) {}
    tokio::time::timeout(Duration::from_secs(5), server.egress.shutdown()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_hangs_in_its_end_ends_its_peer_all_the_same() -> Result<()> {
    let mut server = serve(opus_with("trap key=end mode=sleep after=100"))?;
    let _sources = server.publish_both("a")?;
    let asleep = async {
        // 100 frames of AAC are 107 of Opus.
        let hangs = |sound: &PipelineStats| sound.units_out >= 100 && sound.frames_in >= 120;
        while !server.pipeline("a", "opus").is_ok_and(|sound| hangs(&sound)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asleep).await?;
    server.egress.end_peer(&"a".parse()?);
    while server.event().await? != EgressEvent::Gone("a".parse()?) {}
    assert_eq!(server.egress.stats().state_changes, 1, "the thread that waits for the sleeper");
    tokio::time::timeout(Duration::from_secs(5), server.egress.shutdown()).await?;
    Ok(())
}
