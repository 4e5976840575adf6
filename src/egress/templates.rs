//! Pipeline templates: text with `${placeholders}`, built in and overridable by a folder.

use std::path::Path;

use anyhow::{Context, bail};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSrc};

use super::encoders::{Encoder, Encoders};

/// What a template turns into H.264 or AAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Template {
    H264,
    Vp8,
    Vp9,
    Opus,
    /// Access units of H.264, decoded.
    H264Pictures,
    /// VP8, decoded.
    Vp8Pictures,
    /// VP9, decoded.
    Vp9Pictures,
    /// Pictures, encoded in another size.
    Rung,
}

/// What comes out of a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gives {
    /// Access units of H.264.
    Video,
    /// AAC frames.
    Audio,
    /// Decoded pictures.
    Pictures,
}

impl Template {
    const ALL: [Self; 4] = [Self::H264, Self::Vp8, Self::Vp9, Self::Opus];
    /// Those that only a ladder needs.
    const OF_LADDER: [Self; 4] = [Self::H264Pictures, Self::Vp8Pictures, Self::Vp9Pictures, Self::Rung];

    /// The name of its file without the ending.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::Vp8 => "vp8",
            Self::Vp9 => "vp9",
            Self::Opus => "opus",
            Self::H264Pictures => "h264-pictures",
            Self::Vp8Pictures => "vp8-pictures",
            Self::Vp9Pictures => "vp9-pictures",
            Self::Rung => "rung",
        }
    }

    fn file_name(self) -> String {
        format!("{}.txt", self.name())
    }

    const fn built_in(self) -> &'static str {
        match self {
            Self::H264 => include_str!("../../gst-pipelines/h264.txt"),
            Self::Vp8 => include_str!("../../gst-pipelines/vp8.txt"),
            Self::Vp9 => include_str!("../../gst-pipelines/vp9.txt"),
            Self::Opus => include_str!("../../gst-pipelines/opus.txt"),
            Self::H264Pictures => include_str!("../../gst-pipelines/h264-pictures.txt"),
            Self::Vp8Pictures => include_str!("../../gst-pipelines/vp8-pictures.txt"),
            Self::Vp9Pictures => include_str!("../../gst-pipelines/vp9-pictures.txt"),
            Self::Rung => include_str!("../../gst-pipelines/rung.txt"),
        }
    }

    /// Whether the publisher's pictures are decoded and encoded again, so that segments' key frames are made here and not
    /// asked for, and damage is hidden.
    pub(super) const fn decodes_video(self) -> bool {
        matches!(self, Self::Vp8 | Self::Vp9 | Self::Vp8Pictures | Self::Vp9Pictures)
    }

    /// What comes out.
    pub(super) const fn gives(self) -> Gives {
        match self {
            Self::H264 | Self::Vp8 | Self::Vp9 | Self::Rung => Gives::Video,
            Self::Opus => Gives::Audio,
            Self::H264Pictures | Self::Vp8Pictures | Self::Vp9Pictures => Gives::Pictures,
        }
    }

    /// The most bytes that wait in front of it, or 0 where whoever feeds it counts.
    const fn queue_bytes(self) -> u32 {
        match self {
            Self::Rung => 0,
            _ => QUEUE_BYTES,
        }
    }
}

/// The most bytes of packets that wait in front of a pipeline; older ones give way.
const QUEUE_BYTES: u32 = 8 << 20;
/// AAC encoders, best first. `voaacenc` costs two thirds of the other's time and a ninth of its memory.
const AAC_ENCODERS: [(&str, &str); 2] =
    [("voaacenc", "voaacenc bitrate=128000"), ("avenc_aac", "avenc_aac bitrate=128000")];
/// H.264 decoders, best first. One thread each: a publisher's ladder is to take the time of its own core only.
const H264_DECODERS: [(&str, &str); 2] =
    [("avdec_h264", "avdec_h264 max-threads=1"), ("openh264dec", "openh264dec")];

/// What differs between two pipelines of one template.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variables {
    pub(super) clock_rate: u32,
    pub(super) channels: u8,
    /// The bit rate of transcoded video, in kbit/s.
    pub(super) video_kbps: u32,
    /// The size of a rung's pictures.
    pub(super) size: (u32, u32),
    /// Whether the encoder that was chosen first failed in this place.
    pub(super) fallback: bool,
}

/// All templates, as they are used.
#[derive(Debug, Clone)]
pub(super) struct Templates {
    texts: Vec<(Template, String)>,
    aac_encoder: &'static str,
    h264_encoders: Encoders,
    /// None without a ladder.
    h264_decoder: Option<&'static str>,
}

impl Templates {
    /// Reads the templates and checks that each can be built. Errors name the file and what is missing. `ladder` tells
    /// whether there will be one.
    pub(super) fn load(folder: Option<&Path>, h264_encoders: Encoders, ladder: bool) -> anyhow::Result<Self> {
        let installed = |element: &str| gst::ElementFactory::find(element).is_some();
        let Some((_, aac_encoder)) = AAC_ENCODERS.into_iter().find(|(element, _)| installed(element)) else {
            bail!(
                "no AAC encoder: install voaacenc (gstreamer1.0-plugins-bad) or avenc_aac (gstreamer1.0-libav)"
            );
        };
        let h264_decoder = H264_DECODERS.into_iter().find(|(element, _)| installed(element));
        if ladder && h264_decoder.is_none() {
            bail!(
                "no H.264 decoder for hls.ladder: install avdec_h264 (gstreamer1.0-libav) or openh264dec \
                 (gstreamer1.0-plugins-bad)"
            );
        }
        let needed = || Template::ALL.into_iter().chain(Template::OF_LADDER.into_iter().filter(|_| ladder));
        let mut texts = Vec::new();
        for template in needed() {
            texts.push((template, read(template, folder)?));
        }
        let h264_decoder = h264_decoder.map(|(_, text)| text);
        let templates = Self { texts, aac_encoder, h264_encoders, h264_decoder };
        for template in needed() {
            let clock_rate = if template == Template::Opus { 48_000 } else { 90_000 };
            let sample =
                Variables { clock_rate, channels: 2, video_kbps: 2000, size: (640, 360), fallback: false };
            templates
                .build(template, sample)
                .with_context(|| format!("pipeline {}", template.file_name()))?;
        }
        Ok(templates)
    }

    /// Builds a pipeline with its two ends.
    pub(super) fn build(
        &self,
        template: Template,
        variables: Variables,
    ) -> anyhow::Result<(gst::Pipeline, AppSrc, AppSink)> {
        let line = self.line(template, variables)?;
        let Ok(pipeline) = gst::parse::launch(&line)?.downcast::<gst::Pipeline>() else {
            bail!("one element is no pipeline");
        };
        let source = pipeline.by_name("source").and_then(|element| element.downcast::<AppSrc>().ok());
        let sink = pipeline.by_name("sink").and_then(|element| element.downcast::<AppSink>().ok());
        let (Some(source), Some(sink)) = (source, sink) else {
            bail!("an appsrc named \"source\" and an appsink named \"sink\" are needed");
        };
        // Whatever a template says: packets are pushed by threads that must not wait, and a pipeline that takes none
        // must not fill the memory.
        source.set_block(false);
        source.set_max_bytes(u64::from(template.queue_bytes()));
        source.set_property_from_str("leaky-type", "downstream");
        Ok((pipeline, source, sink))
    }

    fn h264_encoder(&self, variables: Variables) -> Encoder {
        if variables.fallback { self.h264_encoders.fallback } else { self.h264_encoders.first }
    }

    fn line(&self, template: Template, variables: Variables) -> anyhow::Result<String> {
        let text = self.texts.iter().find(|(known, _)| *known == template).map_or("", |(_, text)| text);
        let mut line = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            line.push_str(before);
            let Some((name, after)) = after.split_once('}') else { bail!("unclosed placeholder") };
            match name {
                "clock_rate" => line.push_str(&variables.clock_rate.to_string()),
                "channels" => line.push_str(&variables.channels.to_string()),
                "video_kbps" => line.push_str(&variables.video_kbps.to_string()),
                "width" => line.push_str(&variables.size.0.to_string()),
                "height" => line.push_str(&variables.size.1.to_string()),
                "queue_bytes" => line.push_str(&template.queue_bytes().to_string()),
                "h264_decoder" => line.push_str(self.h264_decoder.unwrap_or_default()),
                "h264_encoder" => line.push_str(&self.h264_encoder(variables).text(variables.video_kbps)),
                "aac_encoder" => line.push_str(self.aac_encoder),
                unknown => bail!("unknown placeholder ${{{unknown}}}"),
            }
            rest = after;
        }
        line.push_str(rest);
        Ok(line)
    }
}

/// The template's text without its comments.
fn read(template: Template, folder: Option<&Path>) -> anyhow::Result<String> {
    let own = folder.map(|folder| folder.join(template.file_name())).filter(|path| path.exists());
    let text = match own {
        Some(path) => {
            std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?
        }
        None => template.built_in().to_owned(),
    };
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::encoders;

    #[test]
    fn every_built_in_template_can_be_built() {
        gst::init().unwrap();
        Templates::load(None, encoders::choose("x264enc").unwrap(), true).unwrap();
    }

    #[test]
    fn a_folder_overrides_one_template_and_mistakes_are_named() {
        gst::init().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("h264.txt");
        std::fs::write(&path, "# mine\nappsrc name=source ! identity ! appsink name=sink").unwrap();
        let chosen = encoders::choose("x264enc").unwrap();
        let templates = Templates::load(Some(folder.path()), chosen, false).unwrap();
        let sample = Variables {
            clock_rate: 90_000,
            channels: 2,
            video_kbps: 2000,
            size: (640, 360),
            fallback: false,
        };
        assert!(templates.line(Template::H264, sample).unwrap().contains("identity"));
        assert!(templates.line(Template::Vp8, sample).unwrap().contains("clock-rate=(int)90000"));

        let fallback = Variables { fallback: true, ..sample };
        let other = Encoders { fallback: encoders::choose("openh264enc").unwrap().first, ..chosen };
        let both = Templates::load(None, other, false).unwrap();
        assert!(both.line(Template::Vp8, sample).unwrap().contains("x264enc"));
        assert!(both.line(Template::Vp8, fallback).unwrap().contains("openh264enc"));

        let load = |text: &str| {
            std::fs::write(&path, text).unwrap();
            format!("{:#}", Templates::load(Some(folder.path()), chosen, false).unwrap_err())
        };
        assert!(load("appsrc name=source ! nosuchelement ! appsink name=sink").contains("nosuchelement"));
        assert!(
            load("appsrc name=source ! appsink name=sink max-buffers=${nonsense}").contains("${nonsense}")
        );
        assert!(load("appsrc name=source ! fakesink").contains("appsink"));
        assert!(load("appsrc ! fakesink").starts_with("pipeline h264.txt"));
    }
}
