/**
 * Viewers choose layers: simulcast and SVC, each its own.
 */
import type { Page } from '@playwright/test';
import type { PublishOptions } from '../harness/media';
import { expect, test } from '../support/fixtures';

const VIDEO = { width: 960, height: 540 };
/** Chromium ramps up from its first estimate, layer by layer. */
const RAMP_MS = 30_000;

const SOURCES: { name: string; publish: PublishOptions }[] = [
  {
    name: 'VP8 simulcast',
    publish: {
      video: VIDEO,
      codec: 'video/VP8',
      encodings: [
        { maxBitrate: 150_000, scaleResolutionDownBy: 4, scalabilityMode: 'L1T3' },
        { maxBitrate: 400_000, scaleResolutionDownBy: 2, scalabilityMode: 'L1T3' },
        { maxBitrate: 1_200_000, scalabilityMode: 'L1T3' },
      ],
    },
  },
  {
    name: 'VP9 SVC',
    publish: {
      video: VIDEO,
      codec: 'video/VP9',
      encodings: [{ maxBitrate: 1_500_000, scalabilityMode: 'L3T3_KEY' }],
    },
  },
];

for (const { name, publish } of SOURCES) {
  test(`${name}: each viewer gets the layers it prefers`, async ({ weir, publisher, audience }) => {
    const [anna, ben, carla] = await Promise.all([publisher.open(), audience.open(), audience.open()]);
    for (const page of [anna, ben, carla]) {
      await page.evaluate((url) => window.harness.joinRoom(url, 'red'), weir.url);
    }
    await anna.evaluate((options) => window.harness.member().publish(options), publish);
    await expectWidth(ben, 960);
    await expectWidth(carla, 960);
    await prefer(ben, 0, 2);
    await expectWidth(ben, 240);
    await prefer(ben, 1, 2);
    await expectWidth(ben, 480);
    await prefer(ben, 2, 2);
    await expectWidth(ben, 960);
    // How many pictures a second there are depends on the machine. Who prefers all temporal layers gets them all.
    await expect.poll(() => share(ben, carla), { timeout: RAMP_MS }).toBeGreaterThan(0.8);
    // The base layer of three temporal ones has a quarter of the pictures.
    await prefer(ben, 2, 0);
    await expect.poll(() => share(ben, carla), { timeout: RAMP_MS }).toBeLessThan(0.4);
    await expectWidth(carla, 960);
    const told = await ben.evaluate(() => window.harness.member().notified);
    expect(told.map(({ event }) => event)).toContain('consumerLayersChanged');
  });
}

test('AV1 SVC: each viewer gets the layers it prefers', async ({ weir, publisher, audience }) => {
  const [anna, ben, carla] = await Promise.all([publisher.open(), audience.open(), audience.open()]);
  for (const page of [anna, ben, carla]) {
    await page.evaluate((url) => window.harness.joinRoom(url, 'red'), weir.url);
  }
  const encodings = [{ maxBitrate: 1_500_000, scalabilityMode: 'L3T3_KEY' }];
  await anna.evaluate((options) => window.harness.member().publish(options), {
    video: VIDEO,
    codec: 'video/AV1',
    encodings,
    keepResolution: true,
  });
  for (const page of [ben, carla]) {
    await expectWidth(page, 960);
  }
  // How fast software encodes AV1 depends on the machine: what counts is that pictures go on after every change.
  for (const [layer, width] of [
    [0, 240],
    [1, 480],
    [2, 960],
  ] as const) {
    await prefer(ben, layer, 2);
    await expectWidth(ben, width);
    const decoded = (await video(ben))?.framesDecoded ?? 0;
    await expect
      .poll(async () => (await video(ben))?.framesDecoded, { timeout: RAMP_MS })
      .toBeGreaterThan(decoded + 10);
    expect((await video(carla))?.frameWidth).toBe(960);
  }
});

async function prefer(page: Page, spatialLayer: number, temporalLayer: number): Promise<void> {
  await page.evaluate(
    ([spatial, temporal]) => {
      const member = window.harness.member();
      const consumerId = member.videoConsumerId();
      return member.request('setConsumerPreferredLayers', {
        consumerId,
        spatialLayer: spatial,
        temporalLayer: temporal,
      });
    },
    [spatialLayer, temporalLayer] as const,
  );
}

async function expectWidth(page: Page, width: number): Promise<void> {
  await expect.poll(async () => (await video(page))?.frameWidth, { timeout: RAMP_MS }).toBe(width);
}

/** How many pictures one viewer decodes for each that another does, over two seconds. */
async function share(one: Page, other: Page): Promise<number> {
  const counts = async () => Promise.all([one, other].map(async (page) => (await video(page))?.framesDecoded ?? 0));
  const before = await counts();
  await new Promise((wake) => setTimeout(wake, 2_000));
  const [ones = 0, others = 0] = (await counts()).map((count, index) => count - (before[index] ?? 0));
  return ones / Math.max(others, 1);
}

async function video(page: Page) {
  const all = await page.evaluate(() => window.harness.member().received());
  return all.find((one) => one.kind === 'video');
}
