//! Plain transports with other programs at the other end: ffmpeg publishes, GStreamer decodes what weir forwards.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSinkCallbacks};
use serde_json::{Value, json};
use weir::ids::ProducerId;
use weir::media::ortc;
use weir::sfu::plain_transport::{PlainRemote, PlainTransportInfo, PlainTransportOptions};
use weir::sfu::srtp::{MasterKey, Suite};

use crate::support::core::Core;
use crate::support::transport::{Behaviour, Transport};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const VIDEO_SSRC: u32 = 1111;
const AUDIO_SSRC: u32 = 2222;
const SIZE: (i32, i32) = (320, 240);
/// How long a decoder may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A child process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.kill().is_ok() {
            let _ended = self.0.wait();
        }
    }
}

/// Starts ffmpeg with a test picture or tone as RTP.
fn ffmpeg(arguments: &str) -> Result<Running> {
    let child = Command::new("ffmpeg")
        .args("-hide_banner -loglevel error -nostdin -re -f lavfi".split_whitespace())
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("ffmpeg can't be started")?;
    Ok(Running(child))
}

fn vp8_parameters(ssrc: u32) -> Value {
    json!({
        "codecs": [{"mimeType": "video/VP8", "payloadType": 96, "clockRate": 90000,
                    "rtcpFeedback": [{"type": "nack"}, {"type": "nack", "parameter": "pli"}]}],
        "encodings": [{"ssrc": ssrc}],
    })
}

fn opus_parameters(ssrc: u32) -> Value {
    json!({
        "codecs": [{"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2}],
        "encodings": [{"ssrc": ssrc}],
    })
}

/// A GStreamer receiver: what arrives at its port is decoded and counted.
struct Decoder {
    pipeline: gst::Pipeline,
    port: u16,
    decoded: Arc<AtomicUsize>,
}

impl Decoder {
    /// `caps` are those of the packets; `elements` take them apart and decode.
    fn start(caps: &str, elements: &str) -> Result<Self> {
        gst::init()?;
        let line = format!(
            "udpsrc name=source address=127.0.0.1 port=0 caps=\"{caps}\" ! {elements} ! appsink name=sink sync=false"
        );
        let pipeline =
            gst::parse::launch(&line)?.downcast::<gst::Pipeline>().map_err(|_| anyhow!("{line}"))?;
        let decoded = Arc::new(AtomicUsize::new(0));
        let sink =
            pipeline.by_name("sink").context("sink")?.downcast::<AppSink>().map_err(|_| anyhow!("sink"))?;
        let counter = Arc::clone(&decoded);
        let count = move |sink: &AppSink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let size = sample.caps().and_then(|caps| {
                let structure = caps.structure(0)?;
                Some((structure.get::<i32>("width").ok()?, structure.get::<i32>("height").ok()?))
            });
            // Sound has no size.
            if size.is_none_or(|size| size == SIZE) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            Ok(gst::FlowSuccess::Ok)
        };
        sink.set_callbacks(AppSinkCallbacks::builder().new_sample(count).build());
        pipeline.set_state(gst::State::Playing)?;
        let port = pipeline.by_name("source").context("source")?.property::<i32>("port");
        Ok(Self { pipeline, port: u16::try_from(port)?, decoded })
    }

    fn vp8(payload_type: u8, extra: (&str, &str)) -> Result<Self> {
        let (protection, opener) = extra;
        let kind = if protection.is_empty() { "application/x-rtp" } else { "application/x-srtp" };
        let caps = format!(
            "{kind},media=video,clock-rate=90000,encoding-name=VP8,payload={payload_type}{protection}"
        );
        Self::start(&caps, &format!("{opener} rtpjitterbuffer ! rtpvp8depay ! vp8dec"))
    }

    fn opus(payload_type: u8) -> Result<Self> {
        let caps = format!(
            "application/x-rtp,media=audio,clock-rate=48000,encoding-name=OPUS,payload={payload_type}"
        );
        Self::start(&caps, "rtpjitterbuffer ! rtpopusdepay ! opusdec")
    }

    /// Waits until so much was decoded, and nothing complained.
    async fn decodes(&self, wanted: usize) -> Result<()> {
        let bus = self.pipeline.bus().context("a bus")?;
        let enough = async {
            while self.decoded.load(Ordering::Relaxed) < wanted {
                if let Some(message) = bus.pop_filtered(&[gst::MessageType::Error]) {
                    return Err(anyhow!("{message:?}"));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        };
        let waited = tokio::time::timeout(PATIENCE, enough).await;
        waited.with_context(|| format!("{} decoded", self.decoded.load(Ordering::Relaxed)))?
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        let _stopped = self.pipeline.set_state(gst::State::Null);
    }
}

async fn produce(
    core: &Core,
    transport: &PlainTransportInfo,
    kind: &str,
    parameters: &Value,
) -> Result<ProducerId> {
    let kind = serde_json::from_value(json!(kind))?;
    let parameters = ortc::parse_rtp_parameters(parameters)?;
    Ok(core.router.produce(transport.id, kind, parameters, false).await?.id)
}

/// The payload type that a router uses for a codec.
fn payload_type(core: &Core, mime_type: &str) -> Result<u8> {
    let capabilities = serde_json::to_value(core.router.rtp_capabilities())?;
    let codecs = capabilities["codecs"].as_array().context("codecs")?;
    let codec = codecs.iter().find(|codec| codec["mimeType"] == mime_type).context("the codec")?;
    Ok(u8::try_from(codec["preferredPayloadType"].as_u64().context("a payload type")?)?)
}

/// Sends a producer to a port, over a plain transport.
async fn send_to(core: &Core, producer: ProducerId, port: u16) -> Result<()> {
    let transport = core.router.create_plain_transport(PlainTransportOptions::default()).await?;
    let remote = PlainRemote { ip: Some(LOCALHOST), port: Some(port), ..PlainRemote::default() };
    core.router.connect_plain_transport(transport.id, remote).await?;
    let capabilities = ortc::parse_rtp_capabilities(&serde_json::to_value(core.router.rtp_capabilities())?)?;
    core.router.consume(transport.id, producer, capabilities, false).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_publishes_and_gstreamer_decodes() -> Result<()> {
    let core = Core::start().await?;
    // Video: RTCP apart, as ffmpeg does it by itself. Audio: multiplexed.
    let comedia = PlainTransportOptions { comedia: true, ..PlainTransportOptions::default() };
    let apart = PlainTransportOptions { rtcp_mux: false, ..comedia.clone() };
    let video_in = core.router.create_plain_transport(apart).await?;
    let audio_in = core.router.create_plain_transport(comedia).await?;
    let video = produce(&core, &video_in, "video", &vp8_parameters(VIDEO_SSRC)).await?;
    let audio = produce(&core, &audio_in, "audio", &opus_parameters(AUDIO_SSRC)).await?;

    let screen = Decoder::vp8(payload_type(&core, "video/VP8")?, ("", ""))?;
    let speaker = Decoder::opus(payload_type(&core, "audio/opus")?)?;
    send_to(&core, video, screen.port).await?;
    send_to(&core, audio, speaker.port).await?;

    let port = |info: &PlainTransportInfo| info.tuple.local_port();
    let rtcp_port = video_in.rtcp_tuple.as_ref().context("a port for RTCP")?.local_port();
    let _video = ffmpeg(&format!(
        "-i testsrc=size=320x240:rate=15 -c:v libvpx -deadline realtime -cpu-used 8 -b:v 300k -g 15 \
         -ssrc {VIDEO_SSRC} -payload_type 96 -f rtp rtp://127.0.0.1:{}?rtcpport={rtcp_port}&pkt_size=1200",
        port(&video_in)
    ))?;
    let _audio = ffmpeg(&format!(
        "-i sine=frequency=440:sample_rate=48000 -c:a libopus -ac 2 -b:a 64k -ssrc {AUDIO_SSRC} \
         -payload_type 111 -f rtp rtp://127.0.0.1:{0}?rtcpport={0}&pkt_size=1200",
        port(&audio_in)
    ))?;
    screen.decodes(45).await?;
    speaker.decodes(100).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_publishes_over_srtp() -> Result<()> {
    let core = Core::start().await?;
    let suite = Suite::AesCm128HmacSha1_80;
    let key = BASE64_STANDARD.encode(MasterKey::random(suite).bytes());
    let options =
        PlainTransportOptions { comedia: true, srtp: Some(suite), ..PlainTransportOptions::default() };
    let transport = core.router.create_plain_transport(options).await?;
    let theirs = json!({"cryptoSuite": "AES_CM_128_HMAC_SHA1_80", "keyBase64": key});
    let remote =
        PlainRemote { srtp_parameters: Some(serde_json::from_value(theirs)?), ..PlainRemote::default() };
    core.router.connect_plain_transport(transport.id, remote).await?;
    let audio = produce(&core, &transport, "audio", &opus_parameters(AUDIO_SSRC)).await?;
    let speaker = Decoder::opus(payload_type(&core, "audio/opus")?)?;
    send_to(&core, audio, speaker.port).await?;
    let _audio = ffmpeg(&format!(
        "-i sine=frequency=440:sample_rate=48000 -c:a libopus -ac 2 -b:a 64k -ssrc {AUDIO_SSRC} \
         -payload_type 111 -srtp_out_suite AES_CM_128_HMAC_SHA1_80 -srtp_out_params {key} \
         -f rtp srtp://127.0.0.1:{0}?rtcpport={0}&pkt_size=1200",
        transport.tuple.local_port()
    ))?;
    speaker.decodes(100).await
}

/// A browser with a real camera: GStreamer's VP8 packets on a WebRTC transport.
struct Camera {
    pipeline: gst::Pipeline,
    sending: tokio::task::JoinHandle<Result<()>>,
}

impl Camera {
    fn start(transport: Arc<Transport>, ssrc: u32) -> Result<Self> {
        gst::init()?;
        let line = format!(
            "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=15/1 \
             ! vp8enc deadline=1 cpu-used=16 keyframe-max-dist=15 target-bitrate=300000 \
             ! rtpvp8pay pt=96 ssrc={ssrc} mtu=1200 ! appsink name=sink sync=false"
        );
        let pipeline =
            gst::parse::launch(&line)?.downcast::<gst::Pipeline>().map_err(|_| anyhow!("{line}"))?;
        let sink =
            pipeline.by_name("sink").context("sink")?.downcast::<AppSink>().map_err(|_| anyhow!("sink"))?;
        let (packets, mut waiting) = tokio::sync::mpsc::channel::<Vec<u8>>(1024);
        let take = move |sink: &AppSink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let buffers = sample.buffer().into_iter().map(ToOwned::to_owned);
            let listed = sample.buffer_list().into_iter().flat_map(|list| list.iter_owned());
            for buffer in buffers.chain(listed) {
                let map = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
                packets.blocking_send(map.to_vec()).map_err(|_| gst::FlowError::Eos)?;
            }
            Ok(gst::FlowSuccess::Ok)
        };
        sink.set_callbacks(AppSinkCallbacks::builder().new_sample(take).build());
        pipeline.set_state(gst::State::Playing)?;
        let sending = tokio::spawn(async move {
            while let Some(packet) = waiting.recv().await {
                transport.send_rtp(packet).await?;
            }
            Ok(())
        });
        Ok(Self { pipeline, sending })
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.sending.abort();
        let _stopped = self.pipeline.set_state(gst::State::Null);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_publishes_and_gstreamer_decodes_with_and_without_srtp() -> Result<()> {
    let core = Core::start().await?;
    let publishing = core.open(Behaviour::default()).await?;
    let video = core.produce(&publishing, "video", &vp8_parameters(VIDEO_SSRC)).await?;
    let _camera = Camera::start(publishing, VIDEO_SSRC)?;
    let payload_type = payload_type(&core, "video/VP8")?;

    let clear = Decoder::vp8(payload_type, ("", ""))?;
    send_to(&core, video, clear.port).await?;
    clear.decodes(30).await?;

    for (suite, name, cipher) in [
        (Suite::AeadAes128Gcm, "AEAD_AES_128_GCM", "aes-128-gcm,srtp-auth=null"),
        (Suite::AeadAes256Gcm, "AEAD_AES_256_GCM", "aes-256-gcm,srtp-auth=null"),
        (Suite::AesCm128HmacSha1_80, "AES_CM_128_HMAC_SHA1_80", "aes-128-icm,srtp-auth=hmac-sha1-80"),
    ] {
        let options = PlainTransportOptions { srtp: Some(suite), ..PlainTransportOptions::default() };
        let transport = core.router.create_plain_transport(options).await?;
        let capabilities =
            ortc::parse_rtp_capabilities(&serde_json::to_value(core.router.rtp_capabilities())?)?;
        let consumer = core.router.consume(transport.id, video, capabilities, true).await?;
        let ssrc = consumer.rtp_parameters.encodings.first().and_then(|encoding| encoding.ssrc);
        let ours = transport.srtp_parameters.as_ref().context("keys")?;
        let key: String =
            BASE64_STANDARD.decode(&ours.key_base64)?.iter().map(|byte| format!("{byte:02X}")).collect();
        let rtcp_auth = cipher.replace("srtp-auth", "srtcp-auth");
        let protection = format!(
            ",ssrc=(uint){},srtp-key=(buffer){key},srtp-cipher={cipher},srtcp-cipher={rtcp_auth}",
            ssrc.context("an SSRC")?
        );
        // RTCP comes on the same port, and stops a pipeline that has no place for it.
        let opener = "srtpdec name=opener opener.rtcp_src ! fakesink sync=false async=false opener.rtp_src !";
        let decoder = Decoder::vp8(payload_type, (&protection, opener))?;
        let theirs = json!({"cryptoSuite": name,
                            "keyBase64": BASE64_STANDARD.encode(MasterKey::random(suite).bytes())});
        let remote = PlainRemote {
            ip: Some(LOCALHOST),
            port: Some(decoder.port),
            srtp_parameters: Some(serde_json::from_value(theirs)?),
            ..PlainRemote::default()
        };
        core.router.connect_plain_transport(transport.id, remote).await?;
        core.router.set_consumer_paused(consumer.id, false).await?;
        decoder.decodes(15).await.with_context(|| name)?;
    }
    ensure!(core.pool.stats().await.dropped_unknown == 0, "nothing came from elsewhere");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_taken_from_the_range_and_given_back() -> Result<()> {
    let core =
        Core::start_with(|config| config.plain_ports = "42500-42503".parse().expect("a range")).await?;
    let mut made = Vec::new();
    while let Ok(transport) = core.router.create_plain_transport(PlainTransportOptions::default()).await {
        ensure!((42_500..=42_503).contains(&transport.tuple.local_port()));
        made.push(transport);
    }
    // Somebody else on this machine may hold one of them.
    let free = made.len();
    ensure!((1..=4).contains(&free), "{free} ports");
    let two = PlainTransportOptions { rtcp_mux: false, ..PlainTransportOptions::default() };
    let last = made.pop().context("a transport")?;
    core.router.close_transport(last.id).await?;
    ensure!(core.router.create_plain_transport(two).await.is_err(), "one port is not enough for two");
    core.router.create_plain_transport(PlainTransportOptions::default()).await?;
    ensure!(core.pool.stats().await.transports == free);
    Ok(())
}
