/**
 * A simulcast publisher's streams as variants: hls.js goes from one to the other and never runs dry.
 */
import type { Page } from '@playwright/test';
import type { HlsReport } from '../harness/hls-viewer';
import { expect, test } from '../support/fixtures';
import { playable } from '../support/live';

const ENCODINGS = [
  { rid: 'r0', maxBitrate: 100_000, scaleResolutionDownBy: 4 },
  { rid: 'r1', maxBitrate: 300_000, scaleResolutionDownBy: 2 },
  { rid: 'r2', maxBitrate: 900_000 },
];
const STREAM = { audio: true, video: { width: 960, height: 540 }, codec: 'video/H264', keepResolution: true };
/** How long Chromium takes to send all streams, and hls.js to play through what it holds, in milliseconds. */
const PATIENCE_MS = 45_000;
/** What the narrow network carries, in bytes per second: the sound and no more than the second best picture. */
const NARROW = 80_000;
/** `HOLD-BACK`, and a segment. */
const HELD_BACK_S = 11;
/** What hls.js says of a segment that it stops loading because it goes to another variant. */
const ENDED_BY_SWITCH = 'aborted';

test('hls.js switches between three variants, by order and by what the network carries', async ({
  weir,
  publisher,
  audience,
}) => {
  const { page: publishing, peerId } = await publisher.join({ ...STREAM, encodings: ENCODINGS });
  const master = await playable(weir, peerId);
  await expect
    .poll(() => sending(publishing), { message: 'all streams are sent', timeout: PATIENCE_MS })
    .toBe(ENCODINGS.length);
  await expect
    .poll(async () => (await fetch(master).then((file) => file.text())).match(/RESOLUTION=/g)?.length)
    .toBe(ENCODINGS.length);
  // A stream that is younger than what players stay behind its end leaves them without a reserve.
  await expect.poll(() => listedSeconds(master), { timeout: PATIENCE_MS }).toBeGreaterThan(HELD_BACK_S);
  const page = await audience.open();
  // What is held back makes up for a network that becomes narrow in a moment.
  await page.evaluate((url) => window.harness.playHls(url, { lowLatencyMode: false }), master);
  await expect.poll(async () => (await hls(page)).startedAt, { timeout: PATIENCE_MS }).not.toBe(undefined);

  const { levels } = await hls(page);
  expect(levels.length).toBe(ENCODINGS.length);
  const best = levels.length - 1;
  for (const level of [0, best, 1]) {
    await page.evaluate((to) => window.harness.switchTo(to), level);
    const size = `${levels[level]?.width}x${levels[level]?.height}`;
    await expect.poll(async () => (await hls(page)).sizes.at(-1), { message: size, timeout: PATIENCE_MS }).toBe(size);
  }

  await page.evaluate((to) => window.harness.switchTo(to), best);
  await expect.poll(async () => (await hls(page)).level, { timeout: PATIENCE_MS }).toBe(best);
  const network = await page.context().newCDPSession(page);
  const narrow = { offline: false, latency: 0, downloadThroughput: NARROW, uploadThroughput: -1 };
  await network.send('Network.emulateNetworkConditions', narrow);
  await page.evaluate(() => window.harness.switchTo(-1));
  await expect.poll(async () => (await hls(page)).level, { timeout: PATIENCE_MS }).toBeLessThan(best);
  await network.send('Network.emulateNetworkConditions', { ...narrow, downloadThroughput: -1 });
  await expect.poll(async () => (await hls(page)).level, { timeout: PATIENCE_MS }).toBe(best);
  const report = await hls(page);
  expect(report).toMatchObject({ fatal: [], holes: [], stalls: 0, paused: false });
  expect(report.errors.filter((error) => error !== ENDED_BY_SWITCH)).toEqual([]);
  const templates = (await fetch(`${weir.url}/metrics`).then((file) => file.text())).match(/template="\w+"/g);
  expect([...new Set(templates)].sort(), 'nothing encodes pictures').toEqual(['template="h264"', 'template="opus"']);
});

/** How many streams of video bring packets. */
async function sending(page: Page): Promise<number> {
  const sent = await page.evaluate(() => window.harness.sent());
  return sent.filter(({ kind, bytesSent }) => kind === 'video' && bytesSent > 0).length;
}

/** How much the first variant lists. */
async function listedSeconds(master: string): Promise<number> {
  const text = async (url: string | URL) => (await fetch(url)).text();
  const variant = (await text(master)).split('\n').find((line) => line !== '' && !line.startsWith('#')) ?? '';
  const durations = (await text(new URL(variant, master))).matchAll(/#EXTINF:([\d.]+)/g);
  return [...durations].reduce((sum, [, seconds]) => sum + Number(seconds), 0);
}

async function hls(page: Page): Promise<HlsReport> {
  const report = await page.evaluate(() => window.harness.hls());
  if (!report) {
    throw new Error('nothing is being played');
  }
  return report;
}
