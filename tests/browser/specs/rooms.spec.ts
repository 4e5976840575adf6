/**
 * The rooms dialect with a stock mediasoup-client: rooms, ICE restart, ICE over TCP.
 */
import { connect, createServer } from 'node:net';
import type { Page } from '@playwright/test';
import { expect, test } from '../support/fixtures';

const PUBLISH = { audio: true, video: { width: 640, height: 360 }, codec: 'video/VP8' };
/** A second of video. */
const FRAMES = 30;
const MESSAGES = 10_000;

test('members of a room see each other and nobody else', async ({ weir, publisher, audience }) => {
  const [anna, ben, outsider] = await Promise.all([publisher.open(), audience.open(), audience.open()]);
  await joinRoom(anna, weir.url, 'red');
  await joinRoom(ben, weir.url, 'red');
  await joinRoom(outsider, weir.url, 'blue');
  await anna.evaluate((options) => window.harness.member().publish(options), PUBLISH);
  await expectMoreFrames(ben);
  expect(await outsider.evaluate(() => window.harness.member().received())).toEqual([]);
});

test('an ICE restart at either end keeps the call', async ({ weir, publisher, audience }) => {
  const [anna, ben] = await Promise.all([publisher.open(), audience.open()]);
  await joinRoom(anna, weir.url, 'red');
  await joinRoom(ben, weir.url, 'red');
  await anna.evaluate((options) => window.harness.member().publish(options), PUBLISH);
  await expectMoreFrames(ben);
  for (const [page, direction] of [
    [anna, 'send'],
    [ben, 'receive'],
  ] as const) {
    const path = () => page.evaluate((which) => window.harness.member().path(which), direction);
    const before = await path();
    await page.evaluate((which) => window.harness.member().restartIce(which), direction);
    await expect.poll(async () => (await path()).ufrag).not.toBe(before.ufrag);
    // A restart gathers new candidates, so media comes from another port as well.
    await expect.poll(async () => (await path()).port).not.toBe(before.port);
    await expectMoreFrames(ben);
  }
  const transports = (await weir.stats())['worker'] as { transports: number };
  expect(transports.transports).toBe(4);
});

test('ten thousand messages go to another member and come back', async ({ weir, publisher, audience }) => {
  const [anna, ben] = await Promise.all([publisher.open(), audience.open()]);
  await joinRoom(anna, weir.url, 'red');
  await joinRoom(ben, weir.url, 'red');
  await ben.evaluate(() => window.harness.member().openChannel('pong'));
  await ben.evaluate(() => window.harness.member().echoOn('pong'));
  await anna.evaluate(() => window.harness.member().openChannel('ping'));
  await anna.evaluate((count) => window.harness.member().sendMessages('ping', count), MESSAGES);
  await expect.poll(() => anna.evaluate(() => window.harness.member().echoed()), { timeout: 60_000 }).toBe(MESSAGES);
});

test.describe('where no UDP gets through', () => {
  // Nothing listens on this address but the forwarder of the test, which takes TCP only.
  test.use({ network: { announce: '127.0.0.2' } });

  test('media goes over TCP', async ({ weir, publisher, audience }) => {
    const forwarder = createServer((client) => {
      const server = connect(weir.rtcPort, '127.0.0.1');
      client.pipe(server).pipe(client);
      client.on('error', () => server.destroy());
      server.on('error', () => client.destroy());
    }).listen(weir.rtcPort, '127.0.0.2');
    const [anna, ben] = await Promise.all([publisher.open(), audience.open()]);
    await joinRoom(anna, weir.url, 'red');
    await joinRoom(ben, weir.url, 'red');
    await anna.evaluate((options) => window.harness.member().publish(options), PUBLISH);
    await expectMoreFrames(ben);
    expect((await anna.evaluate(() => window.harness.member().path('send'))).protocol).toBe('tcp');
    expect((await ben.evaluate(() => window.harness.member().path('receive'))).protocol).toBe('tcp');
    forwarder.close();
  });
});

async function joinRoom(page: Page, url: string, room: string): Promise<string> {
  return page.evaluate(([server, roomId]) => window.harness.joinRoom(server, roomId), [url, room] as const);
}

/** The page goes on decoding video from now on. */
async function expectMoreFrames(page: Page): Promise<void> {
  const frames = async () => {
    const all = await page.evaluate(() => window.harness.member().received());
    return all.find((one) => one.kind === 'video')?.framesDecoded ?? 0;
  };
  const before = await frames();
  await expect.poll(frames).toBeGreaterThan(before + FRAMES);
}
