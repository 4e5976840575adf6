//! Silence for the segments that were made before the sound came. A player begins at one place of the timeline in all
//! renditions; where one of them has nothing there, it waits for what never comes (hls.js does).

use std::sync::Arc;

use crate::media::fmp4::{AAC_FRAME_SAMPLES, AudioConfig, Sample};
use crate::media::playlist::Position;
use crate::media::segmenter::Rendition;
use crate::media::timeline::MediaTime;

use super::kept::{Format, Track};
use super::protection::SegmentKey;
use super::{File, FileKind, Presentation, WriteError, protection};

const FRAME: u64 = AAC_FRAME_SAMPLES as u64;

impl Presentation {
    /// Gives all listed segments an audio track that is silent, up to `end`, where the sound begins.
    ///
    /// Segments before the key that the init segment tells of, if it does (`told`), stay without audio.
    ///
    /// # Errors
    /// Fails if a box can't be written; the segments from there on are then without audio.
    pub(super) fn backfill(
        &mut self,
        config: &Arc<AudioConfig>,
        init_uri: &str,
        told: Option<&Arc<SegmentKey>>,
        end: MediaTime,
    ) -> Result<(), WriteError> {
        let rate = config.sample_rate();
        // Frames count from the timeline's beginning, so that no two segments overlap or leave a hole.
        let frames_until = |moment: MediaTime| moment.ticks(rate).div_ceil(FRAME);
        let first = self.kept.len().saturating_sub(self.listed);
        let begins: Vec<MediaTime> = self.kept.iter().map(|kept| kept.begin().unwrap_or(end)).collect();
        let ends = begins.iter().copied().skip(1).chain([end]);
        let spans: Vec<(u64, u64)> =
            begins.iter().zip(ends).map(|(begin, end)| (frames_until(*begin), frames_until(end))).collect();
        for (kept, (begin, end)) in self.kept.iter_mut().zip(spans).skip(first) {
            let other_key = told.is_some() && kept.key.as_ref().map(Arc::as_ptr) != told.map(Arc::as_ptr);
            if end <= begin || other_key {
                continue;
            }
            let frame =
                Sample { data: config.silence(), duration: AAC_FRAME_SAMPLES, composition: 0, sync: true };
            let count = usize::try_from(end - begin).unwrap_or(usize::MAX).min(super::MAX_SILENT_FRAMES);
            let samples = vec![frame; count];
            self.fragments = self.fragments.wrapping_add(1);
            let base = begin.saturating_mul(FRAME);
            let key = kept.key.as_deref();
            let body = protection::chunk(key, Rendition::Audio, (true, self.fragments, base), &samples)?;
            let body = protection::file(key, kept.sequence, &body)?;
            let name = self.names.segment(Rendition::Audio, kept.sequence);
            let ticks = (count as u64).saturating_mul(FRAME);
            let since = |ticks: u64| MediaTime::from_ticks(ticks, rate).since(MediaTime::default());
            let track = Track {
                recorded: kept.epoch.checked_add(since(base)),
                rate,
                base,
                ticks,
                duration: since(ticks),
                bytes: body.len(),
                samples: count,
                independent: true,
                uri: Some(name.clone()),
                count: 1,
                ..Track::new(init_uri.to_owned(), Format::Audio(Arc::clone(config)))
            };
            kept.tracks.insert(Rendition::Audio, track);
            self.wholes_due.insert(kept.sequence);
            if let Some(line) = self.lines.get_mut(&Rendition::Audio) {
                line.position = Position { complete: Some((kept.sequence, 1)), open: None };
            }
            self.update.files.push(File { name, kind: FileKind::Media(Rendition::Audio), body });
        }
        Ok(())
    }
}
