/**
 * Other clients than the newest one in Chromium.
 */
import type { Page } from '@playwright/test';
import { launchFirefox } from '../support/firefox';
import { expect, test, withStage } from '../support/fixtures';

const VIDEO = { width: 640, height: 360 };
const VP8 = { audio: true, video: VIDEO, codec: 'video/VP8' };
/** A second of video, so that what is counted is not only the first key frame. */
const FRAMES = 30;

test('mediasoup-client 3.18 publishes and watches', async ({ publisher, audience }) => {
  const old = await publisher.join(VP8, '3.18');
  const newest = await audience.join(VP8);
  await expectWatching(newest.page, old.peerId, 'video/VP8');
  await expectWatching(old.page, newest.peerId, 'video/VP8');
});

test.describe('Firefox', () => {
  // It has no candidates on the loopback interface.
  test.use({ network: { rtcIp: '0.0.0.0' } });

  test('publishes VP8 and watches Chromium, also over HLS', async ({ weir, harness, audience }) => {
    const firefox = await launchFirefox();
    try {
      await withStage(firefox, harness, weir, async (stage) => {
        const fox = await stage.join(VP8);
        const chromium = await audience.join(VP8);
        await expectWatching(chromium.page, fox.peerId, 'video/VP8');
        await expectWatching(fox.page, chromium.peerId, 'video/VP8');
        const master = `${weir.url}/live/${fox.peerId}.m3u8`;
        await expect.poll(async () => (await fetch(master)).status, { timeout: 30_000 }).toBe(200);
        const player = await audience.open();
        await player.evaluate((url) => window.harness.playHls(url), master);
        await expect
          .poll(async () => (await player.evaluate(() => window.harness.hls()))?.framesDecoded ?? 0)
          .toBeGreaterThan(FRAMES);
      });
    } finally {
      await firefox.close();
    }
  });
});

/** The page decodes what the peer sends: pictures and sound. */
async function expectWatching(page: Page, peerId: string, codec: string): Promise<void> {
  const received = async (kind: string) => {
    const all = await page.evaluate(() => window.harness.received());
    return all.find((one) => one.peerId === peerId && one.kind === kind);
  };
  await expect.poll(async () => (await received('video'))?.framesDecoded ?? 0).toBeGreaterThan(FRAMES);
  expect((await received('video'))?.codec).toBe(codec);
  await expect.poll(async () => (await received('audio'))?.totalAudioEnergy ?? 0).toBeGreaterThan(0);
}
