/**
 * How long the first one waits who opens a stream that is made on demand. These are figures, not tests.
 *
 * `WAKE_ROUNDS` says how often that is measured (10).
 */
import { expect, test } from '../support/fixtures';
import { playable } from '../support/live';

const ROUNDS = Number(process.env['WAKE_ROUNDS'] ?? 10);
const IDLE_S = 10;
const STREAM = { audio: true, video: { width: 1280, height: 720 }, codec: 'video/H264', keepResolution: true };

test.use({ network: { settings: { WEIR_HLS_START: 'on-demand', WEIR_HLS_IDLE_SECS: `${IDLE_S}` } } });

test('from the first request to the first part', async ({ weir, publisher, audience }) => {
  const { peerId } = await publisher.join(STREAM);
  const master = await playable(weir, peerId);
  const asleep = async () => ((await weir.stats())['hls'] as { asleep: number }).asleep;
  const atRest = () => expect.poll(asleep, { timeout: 60_000 }).toBe(1);
  const file = async (name: string) => (await fetch(new URL(name, master))).text();
  const took = new Map<string, number[]>();
  const note = (what: string, value: number) => took.set(what, [...(took.get(what) ?? []), Math.round(value)]);
  for (let round = 0; round < ROUNDS; round += 1) {
    await atRest();
    const since = performance.now();
    await file(master);
    note('master playlist, with a part of each rendition there', performance.now() - since);
    await file(`${peerId}-video.m3u8`);
    note('media playlist', performance.now() - since);
  }
  for (let round = 0; round < ROUNDS; round += 1) {
    const page = await audience.open();
    await atRest();
    const shown = await page.evaluate(async (url) => {
      const begin = performance.now();
      window.harness.playHls(url);
      const video = document.querySelector('video') as HTMLVideoElement;
      await new Promise((seen) => video.requestVideoFrameCallback(seen));
      return performance.now() - begin;
    }, master);
    note('first picture in hls.js', shown);
    await page.waitForTimeout(5000);
    note('stalls of hls.js in 5 s', (await page.evaluate(() => window.harness.hls()?.stalls)) ?? 0);
    await page.close();
  }
  for (const [what, all] of took) {
    all.sort((a, b) => a - b);
    process.stdout.write(`${JSON.stringify({ what, median: all[Math.floor(all.length / 2)], all })}\n`);
    expect(all.length).toBe(ROUNDS);
  }
});
