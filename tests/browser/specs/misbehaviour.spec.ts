/**
 * What publishers do to a stream, and hls.js plays on: a player that reads the master playlist once, as all do.
 */
import type { Page } from '@playwright/test';
import type { HlsReport } from '../harness/hls-viewer';
import { Broadcaster, Program, TOKEN } from '../support/broadcaster';
import { expect, type Stage, test } from '../support/fixtures';
import { playable } from '../support/live';
import type { Weir } from '../support/weir';

const SMALL = { width: 320, height: 180 };
const CAMERA = { audio: true, dtx: true, video: SMALL, codec: 'video/H264', keepResolution: true };
/** How long something may take that needs real media, in milliseconds. */
const PATIENCE_MS = 45_000;

test('sizes that go up and down, silence and pauses', async ({ weir, publisher, audience }) => {
  const { page, peerId } = await publisher.join(CAMERA);
  const viewer = await Viewer.open(audience, await playable(weir, peerId));
  await viewer.playsOn(2);
  await page.evaluate(() => window.harness.replaceVideo(1280, 720));
  await viewer.shows('1280x720');
  await page.evaluate(() => window.harness.setSilent(true));
  await viewer.playsOn(4);
  await page.evaluate(() => window.harness.replaceVideo(320, 180));
  await viewer.shows('320x180');
  await page.evaluate(() => window.harness.setSilent(false));
  await page.evaluate(() => window.harness.setPaused('video', true));
  await viewer.playsOn(5);
  await page.evaluate(() => window.harness.setPaused('video', false));
  await viewer.playsOn(3);
  expect((await viewer.report()).sizes).toEqual(['320x180', '1280x720', '320x180']);
});

test('sound that comes late', async ({ weir, publisher, audience }) => {
  const { page, peerId } = await publisher.join({ video: SMALL, codec: 'video/H264', keepResolution: true });
  const master = await playable(weir, peerId);
  const early = await Viewer.open(audience, master);
  await early.playsOn(5);
  await page.evaluate(() => window.harness.publish({ audio: true }));
  // At once: there is no whole segment of sound yet.
  const polling = { timeout: PATIENCE_MS, intervals: [50] };
  await expect.poll(async () => (await fetch(master)).text(), polling).toContain('mp4a');
  const late = await Viewer.open(audience, master);
  await late.playsOn(5);
  await early.playsOn(1);
  expect((await late.report()).audioDecodedBytes).toBeGreaterThan(0);
});

test.describe('an encoder of its own', () => {
  test.use({ network: { settings: { WEIR_BROADCASTERS_TOKEN: TOKEN } } });

  test('B-frames and pictures of many slices, by ffmpeg', async ({ weir, audience }) => {
    const encoder = await Encoder.start(weir, '320x180', 30, 'bframes=2:b-adapt=0:keyint=60');
    const viewer = await Viewer.open(audience, await playable(weir, encoder.peerId));
    await viewer.playsOn(6);
    await encoder.stop();
  });

  test('who comes long after a key frame', async ({ weir, audience }) => {
    // One every 10 s, whatever is asked for.
    const encoder = await Encoder.start(weir, '320x180', 15, 'keyint=150');
    const master = await playable(weir, encoder.peerId);
    const early = await Viewer.open(audience, master);
    // Each one comes later inside the group of pictures, or into the next one.
    for (let more = 0; more < 3; more += 1) {
      await early.playsOn(2);
      const late = await Viewer.open(audience, master);
      await late.playsOn(1);
    }
    await encoder.stop();
  });
});

test.describe('a stream that outlives its publisher', () => {
  test.use({ network: { settings: { WEIR_BROADCASTERS_TOKEN: TOKEN, WEIR_HLS_AWAY_SECS: '120' } } });

  test('the same peer comes back with another picture', async ({ weir, audience }) => {
    const first = await Encoder.start(weir, '320x180', 30, 'keyint=60');
    const viewer = await Viewer.open(audience, await playable(weir, first.peerId));
    await viewer.playsOn(1);
    await first.stop();
    await first.leave();
    await viewer.playsOn(4);
    const second = await Encoder.start(weir, '640x360', 30, 'keyint=60');
    await viewer.shows('640x360');
    await viewer.playsOn(2);
    await playable(weir, second.peerId);
    await second.stop();
  });
});

const H264 = { 'packetization-mode': 1, 'profile-level-id': '42e01f' };

/** A program that publishes test pictures as `encoder`, and never answers a request for a key frame. */
class Encoder {
  readonly peerId = 'encoder';
  readonly #broadcaster: Broadcaster;
  readonly #ffmpeg: Program;

  private constructor(broadcaster: Broadcaster, ffmpeg: Program) {
    this.#broadcaster = broadcaster;
    this.#ffmpeg = ffmpeg;
  }

  /** `x264` is what the encoder is told beside the usual. */
  static async start(weir: Weir, size: string, rate: number, x264: string): Promise<Encoder> {
    const broadcaster = await Broadcaster.start(weir.url, 'studio', 'encoder');
    const transport = await broadcaster.createTransport({ comedia: true, rtcpMux: false });
    const codec = { mimeType: 'video/H264', payloadType: 101, clockRate: 90_000, parameters: H264 };
    await broadcaster.produce(transport, 'video', codec, 2222);
    const source = `-re -f lavfi -i testsrc=size=${size}:rate=${rate}`;
    const usual = '-pix_fmt yuv420p -c:v libx264 -preset ultrafast -profile:v main -b:v 800k';
    // Slices that fit into packets, each one a packet of its own, as the parameter sets are.
    const encoder = `${usual} -x264-params slice-max-size=1000:scenecut=0:${x264}`;
    const rtp = '-f rtp -rtpflags h264_mode0 -ssrc 2222 -payload_type 101';
    const to = `rtp://${transport.ip}:${transport.port}?rtcpport=${transport.rtcpPort}&pkt_size=1200`;
    const flags = `-nostdin -v error ${source} ${encoder} ${rtp}`.split(' ');
    return new Encoder(broadcaster, new Program('ffmpeg', [...flags, to]));
  }

  /** Sends nothing any more. */
  async stop(): Promise<void> {
    await this.#ffmpeg.interrupt();
  }

  /** Leaves the room. */
  async leave(): Promise<void> {
    await this.#broadcaster.leave();
  }
}

/** One who watches with hls.js. */
class Viewer {
  readonly #page: Page;

  private constructor(page: Page) {
    this.#page = page;
  }

  static async open(audience: Stage, master: string): Promise<Viewer> {
    const page = await audience.open();
    await page.evaluate((url) => window.harness.playHls(url), master);
    const viewer = new Viewer(page);
    await viewer.#until('the start', ({ startedAt }) => startedAt !== undefined);
    return viewer;
  }

  async report(): Promise<HlsReport> {
    const report = await this.#page.evaluate(() => window.harness.hls());
    if (!report) {
      throw new Error('nothing is being played');
    }
    return report;
  }

  /** Plays so many seconds more, and nothing goes wrong. */
  async playsOn(seconds: number): Promise<void> {
    const { currentTime: from, framesDecoded: before } = await this.report();
    await this.#until(`${seconds} s more`, ({ currentTime }) => currentTime > from + seconds);
    expect((await this.report()).framesDecoded).toBeGreaterThan(before);
  }

  /** Plays until the picture has a size. */
  async shows(size: string): Promise<void> {
    await this.#until(size, ({ sizes }) => sizes.at(-1) === size);
  }

  /** What hls.js gets over by itself is no failure here: that nothing else was wrong is for `players.spec.ts`. */
  async #until(what: string, reached: (report: HlsReport) => boolean): Promise<void> {
    const over = async () => {
      const report = await this.report();
      return reached(report) || report.fatal.length > 0;
    };
    await expect.poll(over, { message: what, timeout: PATIENCE_MS }).toBe(true);
    expect(await this.report(), what).toMatchObject({ fatal: [], paused: false });
  }
}
