/**
 * How far behind the camera viewers are, over HLS with TLS and HTTP/2 and beside it over WebRTC, and whether sound and
 * picture stay together. These are figures, not tests: only that there are any is asserted.
 *
 * `LATENCY_SECS` says how long is measured (60). hls.js plays as the demo page lets it; `LATENCY_HLS=stock` leaves it alone.
 */
import type { Browser, Page } from '@playwright/test';
import type { SeenFrame } from '../harness/clock';
import { expect, test } from '../support/fixtures';
import { playable } from '../support/live';

const MEASURE_S = Number(process.env['LATENCY_SECS'] ?? 60);
const LIKE_DEMO = process.env['LATENCY_HLS'] !== 'stock';
/** Time for the players to find their place, in milliseconds. */
const SETTLE_MS = 20_000;
const TAKE_MS = 5_000;
const PUBLISH = {
  audio: true,
  clock: true,
  video: { width: 640, height: 360 },
  codec: 'video/H264',
  keepResolution: true,
};
const BEEP_EVERY_MS = 1000;

/** What one viewer saw and heard. */
interface Seen {
  frames: SeenFrame[];
  /** How much later sounds were heard than pictures of the same moment were seen, in milliseconds. */
  soundBehind: number[];
}

test.use({ network: { tls: true } });

test('glass to glass', async ({ weir, harness, publisher, audience, watchingBrowser }) => {
  const { peerId } = await publisher.join(PUBLISH);
  const { page: webRtc } = await audience.join();
  const master = await playable(weir, peerId);
  const hls = await openInsecure(watchingBrowser, harness.url);
  await hls.evaluate(([url, likeDemo]) => window.harness.playHls(url, {}, likeDemo), [master, LIKE_DEMO] as const);
  const playing = () => hls.evaluate(() => window.harness.hls()?.startedAt);
  await expect.poll(playing, { timeout: 60_000 }).toBeGreaterThanOrEqual(0);
  const viewers = { WebRTC: webRtc, HLS: hls };
  const seen: Record<string, Seen> = {};
  for (const [name, page] of Object.entries(viewers)) {
    await page.evaluate(() => window.harness.readClocks());
    await page.evaluate(() => window.harness.hearBeeps());
    seen[name] = { frames: [], soundBehind: [] };
  }
  await hls.waitForTimeout(SETTLE_MS);
  for (const page of Object.values(viewers)) {
    await page.evaluate(() => window.harness.takeSeenAndHeard());
  }
  const before = await problems(hls, webRtc);
  const course: { seen: number; behindPlaylist: number }[] = [];
  for (const end = Date.now() + MEASURE_S * 1000; Date.now() < end; ) {
    await hls.waitForTimeout(TAKE_MS);
    for (const [name, page] of Object.entries(viewers)) {
      const { frames, beeps } = await page.evaluate(() => window.harness.takeSeenAndHeard());
      seen[name]?.frames.push(...frames);
      seen[name]?.soundBehind.push(...beeps.flatMap((at) => soundBehind(at, frames)));
      if (page === hls) {
        const latency = (await hls.evaluate(() => window.harness.hls()?.latency)) ?? Number.NaN;
        const median = quantile(
          frames.map((frame) => frame.latency),
          0.5,
        );
        course.push({ seen: median, behindPlaylist: Math.round(latency * 1000) });
      }
    }
  }
  const after = await problems(hls, webRtc);
  const { targetLatency, errors } = (await hls.evaluate(() => window.harness.hls())) ?? {};
  report('WebRTC', seen['WebRTC'], { freezes: after.freezes - before.freezes });
  report('HLS', seen['HLS'], { stalls: after.stalls - before.stalls, errors, targetLatency, course });
  expect(seen['HLS']?.frames.length).toBeGreaterThan(0);
  expect(seen['WebRTC']?.frames.length).toBeGreaterThan(0);
});

/** A page that does not mind weir's own certificate. */
async function openInsecure(browser: Browser, url: string): Promise<Page> {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const page = await context.newPage();
  await page.goto(url);
  return page;
}

async function problems(hls: Page, webRtc: Page): Promise<{ stalls: number; freezes: number }> {
  const played = await hls.evaluate(() => window.harness.hls());
  const received = await webRtc.evaluate(() => window.harness.received());
  return {
    stalls: played?.stalls ?? 0,
    freezes: received.reduce((sum, { freezeCount }) => sum + freezeCount, 0),
  };
}

/** The sound's distance to the picture that was seen when it was heard; beeps begin with the seconds. */
function soundBehind(at: number, frames: SeenFrame[]): number[] {
  const shown = frames.filter((frame) => frame.at <= at).at(-1);
  if (!shown) {
    return [];
  }
  const behind = (at - shown.latency) % BEEP_EVERY_MS;
  return [behind > BEEP_EVERY_MS / 2 ? behind - BEEP_EVERY_MS : behind];
}

function report(viewer: string, seen: Seen | undefined, more: Record<string, unknown>): void {
  const { frames = [], soundBehind: sound = [] } = seen ?? {};
  const latencies = frames.map(({ latency }) => latency);
  const third = Math.ceil(sound.length / 3);
  const figures = {
    viewer,
    seconds: MEASURE_S,
    framesPerSecond: frames.length / MEASURE_S,
    latencyMs: { p50: quantile(latencies, 0.5), p95: quantile(latencies, 0.95), max: quantile(latencies, 1) },
    soundBehindMs: { p50: quantile(sound, 0.5), p5: quantile(sound, 0.05), p95: quantile(sound, 0.95) },
    soundDriftMs: quantile(sound.slice(-third), 0.5) - quantile(sound.slice(0, third), 0.5),
    ...more,
  };
  process.stdout.write(`${JSON.stringify(figures)}\n`);
}

function quantile(values: number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN);
}
