/**
 * Programs and browsers in one room: ffmpeg publishes and Chromium sees it, Chromium publishes and GStreamer records it.
 */
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Broadcaster, freeUdpPort, Program, probe, TOKEN } from '../support/broadcaster';
import { expect, test } from '../support/fixtures';

const settings = { WEIR_BROADCASTERS_TOKEN: TOKEN, WEIR_BROADCASTERS_DESTINATIONS: '127.0.0.1' };
test.use({ network: { settings } });

const VP8 = { mimeType: 'video/vp8', payloadType: 101, clockRate: 90_000 };
const OPUS = { mimeType: 'audio/opus', payloadType: 100, clockRate: 48_000, channels: 2 };
/** Two seconds of video. */
const FRAMES = 60;
/** A few seconds of what Chromium begins with. */
const RECORDED_BYTES = 100_000;

test('ffmpeg publishes and Chromium sees and hears it', async ({ weir, audience }) => {
  const page = await audience.open();
  await page.evaluate((url) => window.harness.joinRoom(url, 'red'), weir.url);
  const broadcaster = await Broadcaster.start(weir.url, 'red', 'ffmpeg');
  // As mediasoup-demo's broadcasters/ffmpeg.sh: two transports, RTCP on ports of its own.
  const audio = await broadcaster.createTransport({ comedia: true, rtcpMux: false });
  const video = await broadcaster.createTransport({ comedia: true, rtcpMux: false });
  await broadcaster.produce(audio, 'audio', OPUS, 1111);
  await broadcaster.produce(video, 'video', VP8, 2222);
  const sources = '-re -f lavfi -i sine=frequency=440 -re -f lavfi -i testsrc=size=320x240:rate=30';
  const codecs =
    '-map 0 -c:a libopus -ac 2 -ar 48000 -map 1 -c:v libvpx -b:v 500k -deadline realtime -cpu-used 8 -g 30';
  const outputs = [
    `[select=a:f=rtp:ssrc=1111:payload_type=100]rtp://${audio.ip}:${audio.port}?rtcpport=${audio.rtcpPort}`,
    `[select=v:f=rtp:ssrc=2222:payload_type=101]rtp://${video.ip}:${video.port}?rtcpport=${video.rtcpPort}&pkt_size=1200`,
  ];
  const flags = `-nostdin -v error ${sources} ${codecs} -f tee`.split(' ');
  const ffmpeg = new Program('ffmpeg', [...flags, outputs.join('|')]);
  const received = (kind: string) =>
    page.evaluate(async (wanted) => {
      const all = await window.harness.member().received();
      return all.find((one) => one.kind === wanted && one.peerId === 'ffmpeg');
    }, kind);
  await expect.poll(async () => (await received('video'))?.framesDecoded ?? 0).toBeGreaterThan(FRAMES);
  expect(await received('video')).toMatchObject({ codec: 'video/VP8', frameWidth: 320, frameHeight: 240 });
  await expect.poll(async () => (await received('audio'))?.totalAudioEnergy ?? 0).toBeGreaterThan(0);
  await ffmpeg.interrupt();
});

test('Chromium publishes and GStreamer records it', async ({ weir, publisher }) => {
  const page = await publisher.open();
  await page.evaluate((url) => window.harness.joinRoom(url, 'red'), weir.url);
  const camera = { audio: true, video: { width: 640, height: 360 }, codec: 'video/VP8', keepResolution: true };
  await page.evaluate((options) => window.harness.member().publish(options), camera);
  const recorder = await Broadcaster.start(weir.url, 'red', 'gstreamer');
  const { peers } = await recorder.others();
  const producers = Object.fromEntries((peers[0]?.producers ?? []).map(({ kind, id }) => [kind, id]));

  const folder = await mkdtemp(join(tmpdir(), 'weir-recording-'));
  const file = join(folder, 'recording.webm');
  const tracks = [];
  for (const [kind, { payloadType, encoding, clockRate, parse }] of Object.entries(await payloadTypes(weir.url))) {
    const transport = await recorder.createTransport({ comedia: false, rtcpMux: true });
    const port = await freeUdpPort();
    await recorder.connect(transport, port);
    const caps = `application/x-rtp,media=${kind},clock-rate=${clockRate},encoding-name=${encoding},payload=${payloadType}`;
    const source = `udpsrc address=127.0.0.1 port=${port} caps="${caps}"`;
    const take = `rtpjitterbuffer ! rtp${encoding.toLowerCase()}depay ! ${parse}queue ! mux.`;
    tracks.push({ transport, producerId: producers[kind] ?? '', line: `${source} ! ${take}` });
  }
  const pipeline = `webmmux name=mux ! filesink location=${file} ${tracks.map(({ line }) => line).join(' ')}`;
  const gstreamer = new Program('gst-launch-1.0', ['-e', ...words(pipeline)]);
  await expect.poll(() => gstreamer.said).toContain('Setting pipeline to PLAYING');
  for (const { transport, producerId } of tracks) {
    await recorder.consume(transport, producerId);
  }
  const size = async () => (await stat(file)).size;
  await expect.poll(size, { message: gstreamer.said, timeout: 60_000 }).toBeGreaterThan(RECORDED_BYTES);
  await gstreamer.interrupt();

  const streams = await probe(file);
  const video = streams.find((stream) => stream['codec_type'] === 'video');
  const audio = streams.find((stream) => stream['codec_type'] === 'audio');
  expect(video).toMatchObject({ codec_name: 'vp8', width: 640, height: 360 });
  expect(Number(video?.['nb_read_frames'])).toBeGreaterThan(10);
  expect(audio).toMatchObject({ codec_name: 'opus' });
  expect(Number(audio?.['nb_read_frames'])).toBeGreaterThan(10);
  await rm(folder, { recursive: true });
});

/** What consumers of each kind are sent with, and what the muxer needs to know of it. */
async function payloadTypes(server: string) {
  const response = await fetch(`${server}/rooms/red`, { headers: { authorization: `Bearer ${TOKEN}` } });
  const { codecs } = (await response.json()) as {
    codecs: { mimeType: string; preferredPayloadType: number; clockRate: number }[];
  };
  const of = (mimeType: string, encoding: string, parse = '') => {
    const codec = codecs.find((one) => one.mimeType === mimeType);
    return { payloadType: codec?.preferredPayloadType, clockRate: codec?.clockRate, encoding, parse };
  };
  return { audio: of('audio/opus', 'OPUS', 'opusparse ! '), video: of('video/VP8', 'VP8') };
}

/** The words of a command line; quotes hold some together. */
function words(line: string): string[] {
  return (line.match(/(?:[^\s"]+|"[^"]*")+/g) ?? []).map((word) => word.replaceAll('"', ''));
}
