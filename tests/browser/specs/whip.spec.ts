/**
 * WHIP and WHEP with clients that others wrote: what they publish is watched over WebRTC, HLS and WHEP.
 */
import type { Page } from '@playwright/test';
import type { WhipClient } from '../harness/whip';
import { expect, test } from '../support/fixtures';
import { playable } from '../support/live';

const KEY = 'a-key-that-nobody-guesses';
test.use({ network: { settings: { WEIR_STREAMS_KEYS: `concert:${KEY}` } } });

const CAMERA = { audio: true, video: { width: 640, height: 360 }, keepResolution: true };
/** Two seconds of video. */
const FRAMES = 60;

for (const client of ['whip-whep', 'eyevinn'] satisfies WhipClient[]) {
  test(`${client} publishes; mediasoup-client, hls.js and whip-whep play it`, async ({ weir, publisher, audience }) => {
    const { page: watching } = await audience.join();
    const publishing = await publisher.open();
    await publishing.evaluate(([url, name, camera, key]) => window.harness.whip.publishWhip(url, name, camera, key), [
      `${weir.url}/whip/concert`,
      client,
      CAMERA,
      KEY,
    ] as const);
    const playing = await audience.open();
    await playing.evaluate((url) => window.harness.whip.playWhep(url), `${weir.url}/whep/concert`);
    await expectPictureAndSound(playing);

    const received = (kind: string) =>
      watching.evaluate(async (wanted) => {
        const all = await window.harness.received();
        return all.find((one) => one.kind === wanted && one.peerId === 'concert');
      }, kind);
    await expect.poll(async () => (await received('video'))?.framesDecoded ?? 0).toBeGreaterThan(FRAMES);
    await expect.poll(async () => (await received('audio'))?.totalAudioEnergy ?? 0).toBeGreaterThan(0);
    expect(await received('video')).toMatchObject({ codec: 'video/H264', frameWidth: 640 });

    const hls = await audience.open();
    await hls.evaluate((url) => window.harness.playHls(url), await playable(weir, 'concert'));
    await expect
      .poll(() => hls.evaluate(() => window.harness.hls()?.framesDecoded ?? 0), { timeout: 30_000 })
      .toBeGreaterThan(FRAMES);

    await publishing.evaluate(() => window.harness.whip.stopSession());
    const seen = () =>
      watching.evaluate(() => window.harness.seen().map(({ event, message }) => ({ event, ...message })));
    await expect.poll(seen).toContainEqual({ event: 'peerLeft', peerId: 'concert' });
    await expect.poll(() => connections(playing)).not.toContain('connected');
  });
}

test.describe('with one candidate, which is all that whip-whep can put into a restarted description', () => {
  test.use({ network: { settings: { WEIR_STREAMS_KEYS: `concert:${KEY}`, WEIR_RTC_TCP: 'false' } } });

  test('an ICE restart by PATCH keeps what is published and played', async ({ weir, publisher, audience }) => {
    const publishing = await publisher.open();
    await publishing.evaluate(([url, camera, key]) => window.harness.whip.publishWhip(url, 'whip-whep', camera, key), [
      `${weir.url}/whip/concert`,
      CAMERA,
      KEY,
    ] as const);
    const playing = await audience.open();
    await playing.evaluate((url) => window.harness.whip.playWhep(url), `${weir.url}/whep/concert`);
    await expectPictureAndSound(playing);
    for (const page of [publishing, playing]) {
      const ice = async () => (await page.evaluate(() => window.harness.whip.iceOf()))[0];
      const before = await ice();
      await page.evaluate(() => window.harness.whip.restartIce());
      await expect.poll(async () => (await ice())?.remoteUfrag).not.toBe(before?.remoteUfrag);
      await expect.poll(async () => (await ice())?.ufrag).not.toBe(before?.ufrag);
      await expectPictureAndSound(playing);
      expect((await ice())?.state).toBe('connected');
    }
  });
});

test('simulcast over WHIP is a ladder of HLS variants', async ({ weir, publisher }) => {
  const encodings = [
    { rid: 'h', maxBitrate: 900_000 },
    { rid: 'm', maxBitrate: 300_000, scaleResolutionDownBy: 2 },
    { rid: 'l', maxBitrate: 100_000, scaleResolutionDownBy: 4 },
  ];
  const camera = { ...CAMERA, video: { width: 960, height: 540 }, encodings };
  const publishing = await publisher.open();
  await publishing.evaluate(([url, options, key]) => window.harness.whip.publishWhip(url, 'whip-whep', options, key), [
    `${weir.url}/whip/concert`,
    camera,
    KEY,
  ] as const);
  const master = await playable(weir, 'concert');
  const sizes = async () => {
    const text = await fetch(master).then((file) => file.text());
    return [...text.matchAll(/RESOLUTION=(\d+x\d+)/g)].map(([, size]) => size);
  };
  await expect.poll(sizes, { timeout: 45_000 }).toEqual(['960x540', '480x270', '240x134']);
});

async function expectPictureAndSound(page: Page): Promise<void> {
  const received = () => page.evaluate(() => window.harness.whip.receivedOverWhep());
  const frames = async () => (await received()).find((one) => one.kind === 'video')?.framesDecoded ?? 0;
  const energy = async () => (await received()).find((one) => one.kind === 'audio')?.totalAudioEnergy ?? 0;
  const before = await frames();
  await expect.poll(frames).toBeGreaterThan(before + FRAMES);
  await expect.poll(energy).toBeGreaterThan(0);
}

async function connections(page: Page): Promise<string[]> {
  return page.evaluate(() => window.harness.whip.iceOf().map(({ state }) => state));
}
