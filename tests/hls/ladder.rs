//! A ladder with encoders: publishers of one quality, decoded once and encoded for each rung.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use weir::egress::{Config, PipelineStats};

use crate::source::Codec;
use crate::viewer::{Rendition, Viewer};
use crate::{PATIENCE, Server, segments, serve, trap};

fn steps(texts: &[&str]) -> impl FnOnce(&mut Config) {
    let steps = texts.iter().map(|text| text.parse().expect("a step")).collect();
    |config| config.ladder = steps
}

/// What pipelines of video there are: template and rendition.
fn pipelines(server: &Server) -> Vec<(&'static str, usize)> {
    let number = |pipeline: &PipelineStats| match pipeline.rendition {
        weir::media::segmenter::Rendition::Video(id) => Some((pipeline.template, id.index())),
        weir::media::segmenter::Rendition::Audio => None,
    };
    let mut found: Vec<_> = server.egress.pipelines().iter().filter_map(number).collect();
    found.sort_unstable();
    found
}

fn second(count: usize) -> impl Fn(&Viewer) -> bool {
    move |viewer| viewer.second.all.len() >= count
}

/// The sizes that a rendition had, one after the other; each segment of it could be decoded.
fn sizes(viewer: &Viewer, rendition: &Rendition) -> Result<Vec<(u64, u64)>> {
    let probed = viewer.probe(rendition)?;
    ensure!(probed.iter().all(|probed| probed.codec == "h264"), "{probed:?}");
    Ok(probed.iter().map(|probed| probed.size).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn vp8_is_decoded_once_and_encoded_for_each_rung() -> Result<()> {
    let server = serve(|config, _| steps(&["360p", "180p:250"])(config))?;
    let _video = server.publish("p", Codec::Vp8, (640, 360))?;
    let _audio = server.publish("p", Codec::Opus, (0, 0))?;
    let mut viewer = Viewer::new(&server.egress, "p");
    viewer.until(PATIENCE, segments(4, 4)).await?;
    viewer.until(PATIENCE, second(4)).await?;

    assert_eq!(pipelines(&server), [("rung", 0), ("rung", 1), ("vp8-pictures", 0)]);
    assert_eq!(viewer.master.matches("#EXT-X-STREAM-INF").count(), 2, "{}", viewer.master);
    for size in ["640x360", "320x180"] {
        ensure!(viewer.master.contains(&format!("RESOLUTION={size}")), "{}", viewer.master);
    }
    assert_eq!(sizes(&viewer, &viewer.video)?, [(640, 360)]);
    assert_eq!(sizes(&viewer, &viewer.second)?, [(320, 180)]);
    ensure!(viewer.video.newest.independent && viewer.second.newest.independent);
    let both =
        || viewer.video.all.iter().filter_map(|(number, best)| Some((best, viewer.second.all.get(number)?)));
    ensure!(both().count() >= 3, "{:?} {:?}", viewer.video.all, viewer.second.all);
    for (best, below) in both() {
        assert!((best.seconds - below.seconds).abs() < 0.001, "{best:?} {below:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn h264_is_passed_through_above_its_rungs_through_a_change_of_size() -> Result<()> {
    let server = serve(|config, _| steps(&["360p", "180p:250"])(config))?;
    let video = server.publish("p", Codec::H264, (640, 360))?;
    let _audio = server.publish("p", Codec::Opus, (0, 0))?;
    let mut viewer = Viewer::new(&server.egress, "p");
    // The rung of 360 lines would be the source once more, so the next one has the third place.
    let third = |count: usize| move |viewer: &Viewer| viewer.third.all.len() >= count;
    viewer.until(PATIENCE, third(3)).await?;
    assert_eq!(pipelines(&server), [("h264", 0), ("h264-pictures", 0), ("rung", 2)]);
    assert!(viewer.second.all.is_empty(), "{}", viewer.master);
    assert_eq!(viewer.master.matches("#EXT-X-STREAM-INF").count(), 2, "{}", viewer.master);
    ensure!(viewer.video.newest.independent && viewer.third.newest.independent);

    // As small as the rung: it follows the source.
    video.resize((320, 180))?;
    let followed = |viewer: &Viewer| {
        let last = viewer.third.all.values().last();
        last.is_some_and(|last| Some(&last.init) != viewer.third.all.values().next().map(|first| &first.init))
    };
    viewer.until(PATIENCE, followed).await?;
    assert_eq!(pipelines(&server), [("h264", 0), ("h264-pictures", 0)]);
    // Larger than ever: both rungs are there.
    video.resize((800, 450))?;
    viewer.until(PATIENCE, second(2)).await?;
    assert_eq!(pipelines(&server), [("h264", 0), ("h264-pictures", 0), ("rung", 1), ("rung", 2)]);
    assert_eq!(sizes(&viewer, &viewer.video)?, [(640, 360), (320, 180), (800, 450)]);
    for size in ["800x450", "640x360", "320x180"] {
        ensure!(viewer.master.contains(&format!("RESOLUTION={size}")), "{}", viewer.master);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_that_somebody_stopped_breaks_its_rung_alone() -> Result<()> {
    trap::register_once();
    let server = serve(|config, folder| {
        steps(&["360p", "180p:250"])(config);
        let built_in = include_str!("../../gst-pipelines/rung.txt");
        let trapped = built_in.replace("! h264parse", "! trap key=rung mode=kill after=45 ! h264parse");
        std::fs::write(folder.join("rung.txt"), trapped).expect("a writable folder");
        config.pipelines_dir = folder.to_owned();
    })?;
    let _video = server.publish("p", Codec::Vp8, (640, 360))?;
    let _audio = server.publish("p", Codec::Opus, (0, 0))?;
    let mut viewer = Viewer::new(&server.egress, "p");
    let restarts = || server.egress.pipelines().iter().map(|pipeline| pipeline.restarts).sum::<u64>();
    let again = async {
        while restarts() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.context("no restart")?;
    viewer.until(PATIENCE, segments(1, 1)).await?;
    let seen = viewer.video.all.len();
    viewer.until(PATIENCE, segments(seen + 3, seen + 3)).await?;
    viewer.until(PATIENCE, second(seen + 3)).await?;

    let all = server.egress.pipelines();
    let broken: Vec<_> = all.iter().filter(|pipeline| pipeline.restarts > 0).collect();
    let [broken] = &broken[..] else { bail!("{all:?}") };
    assert_eq!((broken.template, broken.restarts, broken.hangs), ("rung", 1, 1));
    let breaks = viewer.video.all.values().filter(|listed| listed.discontinuity).count();
    assert_eq!(breaks, 1, "{:?}", viewer.video.all);
    assert_eq!(sizes(&viewer, &viewer.video)?, [(640, 360)]);
    assert_eq!(sizes(&viewer, &viewer.second)?, [(320, 180)]);
    Ok(())
}
