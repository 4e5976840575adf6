//! A strict player: it reads a peer's playlists again and again, fetches all that they list, and fails on anything
//! that a player could stumble over.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use mp4_atom::{Any, ReadFrom};
use serde_json::Value;
use weir::egress::Egress;

/// One segment as a playlist lists it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listed {
    pub(crate) uri: String,
    pub(crate) init: String,
    pub(crate) seconds: f64,
    pub(crate) discontinuity: bool,
    pub(crate) key: Option<Key>,
    pub(crate) date: String,
    /// Discontinuities up to and with this segment's.
    pub(crate) discontinuity_sequence: u64,
}

/// A key as a playlist tells of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) iv: String,
}

impl Key {
    fn parse(value: &str) -> Option<Self> {
        let [method, uri, iv] = ["METHOD", "URI", "IV"].map(|name| attribute(value, name).to_owned());
        (method != "NONE").then_some(Self { method, uri, iv })
    }
}

/// A media playlist as it was read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Playlist {
    pub(crate) target: f64,
    pub(crate) independent: bool,
    pub(crate) ended: bool,
    /// How long parts may be, in seconds.
    part_target: f64,
    /// Parts of all segments: name and length in seconds, in order.
    pub(crate) parts: Vec<(String, f64)>,
    /// The part that is said to come next.
    pub(crate) hint: Option<String>,
    /// By media sequence number.
    pub(crate) segments: BTreeMap<u64, Listed>,
}

impl Playlist {
    fn parse(text: &str) -> Result<Self> {
        let mut playlist = Self::default();
        let (mut number, mut discontinuities, mut discontinuity) = (0, 0, false);
        let (mut init, mut date, mut seconds, mut key) = (String::new(), String::new(), None, None);
        ensure!(text.starts_with("#EXTM3U\n"), "no playlist: {text}");
        for line in text.lines() {
            ensure!(line == line.trim() && !line.is_empty(), "untidy line {line:?}");
            let (tag, value) = line.split_once(':').unwrap_or((line, ""));
            match tag {
                "#EXT-X-TARGETDURATION" => playlist.target = value.parse()?,
                "#EXT-X-MEDIA-SEQUENCE" => number = value.parse()?,
                "#EXT-X-DISCONTINUITY-SEQUENCE" => discontinuities = value.parse()?,
                "#EXT-X-INDEPENDENT-SEGMENTS" => playlist.independent = true,
                "#EXT-X-ENDLIST" => playlist.ended = true,
                "#EXT-X-DISCONTINUITY" => discontinuity = true,
                "#EXT-X-MAP" => {
                    ensure!(
                        playlist.segments.is_empty() || discontinuity,
                        "a new map without a discontinuity: {text}"
                    );
                    let for_files = key.as_ref().is_some_and(|key: &Key| key.method == "AES-128");
                    ensure!(!for_files, "an init segment that is not encrypted behind a key: {text}");
                    init = value.trim_start_matches("URI=\"").trim_end_matches('"').to_owned();
                }
                "#EXT-X-KEY" => key = Key::parse(value),
                "#EXT-X-PROGRAM-DATE-TIME" => date = value.to_owned(),
                "#EXTINF" => seconds = Some(value.trim_end_matches(',').parse::<f64>()?),
                "#EXT-X-PART-INF" => playlist.part_target = attribute(value, "PART-TARGET").parse()?,
                "#EXT-X-PART" => playlist.part(value)?,
                "#EXT-X-PRELOAD-HINT" => playlist.hint = Some(attribute(value, "URI").to_owned()),
                "#EXTM3U" | "#EXT-X-VERSION" | "#EXT-X-SERVER-CONTROL" | "#EXT-X-RENDITION-REPORT" => {}
                _ if !line.starts_with('#') => {
                    discontinuities += u64::from(discontinuity);
                    let listed = Listed {
                        uri: line.to_owned(),
                        init: init.clone(),
                        seconds: seconds.take().context("a segment without EXTINF")?,
                        discontinuity: std::mem::take(&mut discontinuity),
                        key: key.clone(),
                        date: std::mem::take(&mut date),
                        discontinuity_sequence: discontinuities,
                    };
                    ensure!(listed.seconds <= playlist.target, "{} is longer than the target", listed.uri);
                    ensure!(!listed.init.is_empty() && !listed.date.is_empty(), "{listed:?}");
                    playlist.segments.insert(number, listed);
                    number += 1;
                }
                _ => bail!("unknown line {line}"),
            }
        }
        Ok(playlist)
    }

    fn part(&mut self, value: &str) -> Result<()> {
        let seconds: f64 = attribute(value, "DURATION").parse()?;
        ensure!(seconds <= self.part_target, "a part is longer than the target: {value}");
        self.parts.push((attribute(value, "URI").to_owned(), seconds));
        Ok(())
    }
}

/// The value of an attribute of a tag.
fn attribute<'a>(tag: &'a str, name: &str) -> &'a str {
    let pairs = tag.split(',').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.trim_matches('"')).next().unwrap_or_default()
}

/// Everything that was ever listed for one rendition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rendition {
    pub(crate) newest: Playlist,
    pub(crate) all: BTreeMap<u64, Listed>,
}

impl Rendition {
    fn read(&mut self, playlist: Playlist) -> Result<()> {
        for (number, listed) in &playlist.segments {
            if let Some(before) = self.all.insert(*number, listed.clone()) {
                ensure!(before == *listed, "segment {number} changed from {before:?} to {listed:?}");
            }
        }
        self.newest = playlist;
        Ok(())
    }
}

/// The player's memory.
pub(crate) struct Viewer {
    egress: Egress,
    peer: String,
    pub(crate) master: String,
    pub(crate) video: Rendition,
    /// The video rendition below the best one.
    pub(crate) second: Rendition,
    /// The one below that.
    pub(crate) third: Rendition,
    pub(crate) audio: Rendition,
    /// Init segments and segments; those that are encrypted as files are not encrypted here.
    pub(crate) files: BTreeMap<String, Bytes>,
    pub(crate) keys: BTreeMap<String, String>,
}

impl Viewer {
    pub(crate) fn new(egress: &Egress, peer: &str) -> Self {
        Self {
            egress: egress.clone(),
            peer: peer.to_owned(),
            master: String::new(),
            video: Rendition::default(),
            second: Rendition::default(),
            third: Rendition::default(),
            audio: Rendition::default(),
            files: BTreeMap::new(),
            keys: BTreeMap::new(),
        }
    }

    fn text(&self, name: &str) -> Result<String> {
        let file = self.egress.file(name).with_context(|| format!("{name} is missing"))?;
        ensure!(file.content_type == "application/vnd.apple.mpegurl");
        Ok(String::from_utf8(file.body.to_vec())?)
    }

    /// Reads everything once.
    pub(crate) fn read(&mut self) -> Result<()> {
        self.master = self.text(&format!("{}.m3u8", self.peer))?;
        let name = |rendition| format!("{}-{rendition}.m3u8", self.peer);
        let renditions = [
            (name("video"), &mut self.video),
            (name("video-1"), &mut self.second),
            (name("video-2"), &mut self.third),
            (name("audio"), &mut self.audio),
        ];
        for (name, rendition) in renditions {
            let Some(file) = self.egress.file(&name) else {
                ensure!(!self.master.contains(&name), "the master lists {name}, which is missing");
                continue;
            };
            let playlist = Playlist::parse(std::str::from_utf8(&file.body)?).with_context(|| name.clone())?;
            for (uri, _) in &playlist.parts {
                ensure!(self.egress.file(uri).is_some(), "{uri} is listed but missing");
            }
            for listed in playlist.segments.values() {
                for uri in [&listed.uri, &listed.init] {
                    let file =
                        self.egress.file(uri).with_context(|| format!("{uri} is listed but missing"))?;
                    if listed.key.is_none() {
                        self.files.insert(uri.clone(), file.body);
                    } else if !self.files.contains_key(uri) {
                        let body = Self::decrypted(
                            &mut self.keys,
                            &self.egress,
                            &file.body,
                            listed.key.as_ref().filter(|_| *uri == listed.uri),
                        )?;
                        self.files.insert(uri.clone(), body);
                    }
                }
            }
            rendition.read(playlist)?;
        }
        self.in_step()
    }

    /// A file with its encryption taken off, if that is one of the whole file.
    fn decrypted(
        keys: &mut BTreeMap<String, String>,
        egress: &Egress,
        file: &Bytes,
        key: Option<&Key>,
    ) -> Result<Bytes> {
        let Some(key) = key else { return Ok(file.clone()) };
        let secret = egress.file(&key.uri).with_context(|| format!("{} is told but missing", key.uri))?;
        ensure!((secret.body.len(), secret.cache_control) == (16, "no-store"));
        let secret: String = secret.body.iter().map(|byte| format!("{byte:02x}")).collect();
        keys.insert(key.uri.clone(), secret.clone());
        if key.method != "AES-128" {
            return Ok(file.clone());
        }
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("encrypted");
        std::fs::write(&path, file)?;
        let mut command = Command::new("openssl");
        command.args([
            "enc",
            "-d",
            "-aes-128-cbc",
            "-K",
            &secret,
            "-iv",
            key.iv.trim_start_matches("0x"),
            "-in",
        ]);
        let output = command.arg(&path).output().context("openssl can't be run")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout.into())
    }

    /// What is in both playlists agrees.
    fn in_step(&self) -> Result<()> {
        let others = self.audio.all.iter().chain(&self.second.all).chain(&self.third.all);
        for (number, audio) in others {
            let Some(video) = self.video.all.get(number) else { continue };
            ensure!(
                video.discontinuity == audio.discontinuity
                    && video.discontinuity_sequence == audio.discontinuity_sequence,
                "segment {number}: {video:?} but {audio:?}"
            );
            ensure!(
                (video.seconds - audio.seconds).abs() < 0.045,
                "segment {number}: {video:?} but {audio:?}"
            );
        }
        Ok(())
    }

    /// Reads until `enough`, or fails after `patience`.
    pub(crate) async fn until(&mut self, patience: Duration, enough: impl Fn(&Self) -> bool) -> Result<()> {
        let reads = async {
            loop {
                if self.egress.file(&format!("{}.m3u8", self.peer)).is_some() {
                    self.read()?;
                    if enough(self) {
                        return Ok(());
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        match tokio::time::timeout(patience, reads).await {
            Ok(done) => done,
            Err(_) => bail!("{} in vain; {:#?} {:#?}", self.peer, self.video.newest, self.audio.newest),
        }
    }

    /// One file of a rendition's segments behind one of its init segments, as a player appends them.
    fn joined(&self, rendition: &Rendition, init: &str) -> Vec<u8> {
        let segments = rendition.all.values().filter(|listed| listed.init == init).map(|listed| &listed.uri);
        let parts = std::iter::once(init).chain(segments.map(String::as_str));
        parts.filter_map(|name| self.files.get(name)).flat_map(|body| body.to_vec()).collect()
    }

    /// How often the sound stops for less than `longest`, and for how many moments of 10 ms it is there.
    pub(crate) fn short_silences(&self, longest: Duration) -> Result<(usize, usize)> {
        let init = &self.audio.all.values().next().context("no sound")?.init;
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("sound.mp4");
        std::fs::write(&path, self.joined(&self.audio, init))?;
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-i"]).arg(&path).args(["-f", "f32le", "-ac", "1", "-ar", "48000", "-"]);
        let sound = command.output().context("ffmpeg can't be run")?.stdout;
        let samples = sound.chunks_exact(4).filter_map(|bytes| bytes.try_into().ok().map(f32::from_le_bytes));
        let samples: Vec<f32> = samples.map(f32::abs).collect();
        let is_quiet = |moment: &[f32]| moment.iter().all(|sample| *sample < 0.3);
        let quiet: Vec<bool> = samples.chunks_exact(480).map(is_quiet).collect();
        let runs = quiet.chunk_by(|one, next| one == next);
        let is_short = |run: &&[bool]| run[0] && run.len() < longest.as_millis() as usize / 10;
        Ok((runs.filter(is_short).count(), quiet.iter().filter(|quiet| !**quiet).count()))
    }

    /// What ffprobe finds in a rendition, for each of its init segments in order.
    pub(crate) fn probe(&self, rendition: &Rendition) -> Result<Vec<Probed>> {
        let mut inits: Vec<&str> = rendition.all.values().map(|listed| listed.init.as_str()).collect();
        inits.dedup();
        let key_of = |init: &str| {
            let listed = rendition.all.values().find(|listed| listed.init == init);
            let key = listed.and_then(|listed| listed.key.as_ref()).filter(|key| key.method == "SAMPLE-AES");
            key.and_then(|key| self.keys.get(&key.uri))
        };
        inits.into_iter().map(|init| probe(&self.joined(rendition, init), key_of(init))).collect()
    }
}

/// What ffprobe found in a file.
#[derive(Debug)]
pub(crate) struct Probed {
    pub(crate) codec: String,
    pub(crate) size: (u64, u64),
    pub(crate) start: f64,
    pub(crate) end: f64,
    /// Decoded pictures, or decoded blocks of samples.
    pub(crate) frames: usize,
}

/// Decodes all of a file and checks that its time goes on without a hole.
fn probe(file: &[u8], key: Option<&String>) -> Result<Probed> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("joined.mp4");
    std::fs::write(&path, file)?;
    let options = ["-show_streams", "-show_packets", "-count_frames"];
    // What ffprobe can seek in, it reads ahead in, and takes one fragment's encryption for another's (5.1).
    let found = match key {
        Some(key) => {
            let input = std::fs::File::open(&path)?;
            let decrypting = [&options[..], &["-decryption_key", key]].concat();
            run_ffprobe(Path::new("-"), &decrypting, input.into())?
        }
        None => ffprobe(&path, &options)?,
    };
    let stream = &found["streams"][0];
    let packets = found["packets"].as_array().context("no packets")?;
    let times = packets.iter().map(|packet| packet["dts"].as_i64().context("a packet without time"));
    let times: Vec<i64> = times.collect::<Result<_>>()?;
    ensure!(times.is_sorted_by(|a, b| a < b), "time goes back: {times:?}");
    let (start, end) = continuous(file)?;
    let rate =
        stream["time_base"].as_str().and_then(|base| base.strip_prefix("1/")).context("no time base")?;
    let rate: f64 = rate.parse()?;
    let side = |name| stream[name].as_u64().unwrap_or(0);
    Ok(Probed {
        codec: stream["codec_name"].as_str().unwrap_or_default().to_owned(),
        size: (side("width"), side("height")),
        start: start as f64 / rate,
        end: end as f64 / rate,
        frames: stream["nb_read_frames"].as_str().unwrap_or("0").parse()?,
    })
}

/// How many samples a segment holds.
pub(crate) fn pictures(segment: &[u8]) -> usize {
    let mut cursor = std::io::Cursor::new(segment);
    let boxes = std::iter::from_fn(|| Any::read_from(&mut cursor).ok());
    let fragments = boxes.filter_map(|found| if let Any::Moof(moof) = found { Some(moof) } else { None });
    fragments.flat_map(|moof| moof.traf).flat_map(|traf| traf.trun).map(|trun| trun.samples.len()).sum()
}

/// Where a file's fragments begin and end, in ticks; each has to begin where the one before it ended.
fn continuous(file: &[u8]) -> Result<(u64, u64)> {
    let mut cursor = std::io::Cursor::new(file);
    let mut times: Option<(u64, u64)> = None;
    while usize::try_from(cursor.position())? < file.len() {
        let Any::Moof(moof) = Any::read_from(&mut cursor)? else { continue };
        let traf = moof.traf.first().context("no track in a fragment")?;
        let begins = traf.tfdt.as_ref().context("no time in a fragment")?.base_media_decode_time;
        let samples = traf.trun.iter().flat_map(|trun| trun.samples.iter());
        let lasts: u64 = samples.map(|sample| u64::from(sample.duration.unwrap_or(0))).sum();
        let (start, end) = times.unwrap_or((begins, begins));
        ensure!(begins == end, "a fragment begins at {begins}, the one before it ended at {end}");
        times = Some((start, begins + lasts));
    }
    times.context("no fragments")
}

/// ffprobe's guess at a hole: a picture a thousand times as long as the average. Pictures that are repeated at the same
/// moment bring the average down to nothing; whether there is a hole, [`continuous`] knows.
const GUESSED_HOLE: &str = "DTS discontinuity in stream";

/// Runs ffprobe, which must find nothing to complain about.
pub(crate) fn ffprobe(path: &Path, options: &[&str]) -> Result<Value> {
    run_ffprobe(path, options, Stdio::null())
}

fn run_ffprobe(path: &Path, options: &[&str], input: Stdio) -> Result<Value> {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "warning", "-of", "json"]).args(options).arg(path).stdin(input);
    let output = command.output().context("ffprobe can't be run")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<&str> =
        said.lines().filter(|line| !line.is_empty() && !line.contains(GUESSED_HOLE)).collect();
    ensure!(output.status.success() && complaints.is_empty(), "ffprobe: {complaints:?}");
    Ok(serde_json::from_slice(&output.stdout)?)
}
