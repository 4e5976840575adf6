/**
 * The demo page that weir serves, used by clicking.
 */
import type { Browser, BrowserContextOptions } from '@playwright/test';
import { Demo } from '../support/demo';
import { expect, test } from '../support/fixtures';
import type { Weir } from '../support/weir';

const DESK: BrowserContextOptions = { viewport: { width: 1280, height: 900 } };
const PHONE: BrowserContextOptions = {
  viewport: { width: 390, height: 844 },
  deviceScaleFactor: 2,
  hasTouch: true,
  isMobile: true,
};
/** What a finger can hit, in CSS pixels. */
const TOUCH_PX = 44;

for (const [name, options] of [
  ['desk', DESK],
  ['phone', PHONE],
] as const) {
  test(`publish and watch by clicking, ${name}`, async ({ weir, publishingBrowser, watchingBrowser }) => {
    const publisher = await open(weir, publishingBrowser, options);
    const viewer = await open(weir, watchingBrowser, options);
    await publisher.publish({ resolution: '640 × 360' });
    const peerId = await publisher.ownPeerId();
    const card = viewer.card(peerId);
    await card.expectPlaying(/^WebRTC · H\.264 · Opus$/);
    await expect(publisher.card(peerId).root).toHaveCount(0);

    await card.root.getByRole('button', { name: 'Tap to unmute' }).click();
    await expect(card.root.locator('video')).toHaveJSProperty('muted', false);

    await publisher.page.getByRole('button', { name: 'Pause video' }).click();
    await expect(card.root).toContainText('Video paused by the publisher');
    await publisher.page.getByRole('button', { name: 'Resume video' }).click();
    await expect(card.root.locator('.cover')).toBeHidden();
    await publisher.page.getByRole('button', { name: 'Mute', exact: true }).click();
    await expect(card.root).toContainText('Muted by the publisher');

    await card.watchOver('HLS');
    await card.expectPlaying(/^HLS · H\.264 · AAC$/);
    await expectReachable(viewer);

    await publisher.page.getByRole('button', { name: 'Stop' }).click();
    await expect(publisher.publishState).toHaveText('Not publishing');
    await expect(viewer.cards).toHaveCount(0);
    await publisher.page.context().close();
    await viewer.page.context().close();
  });
}

test('everything comes back by itself after the server was gone', async ({
  weir,
  publishingBrowser,
  watchingBrowser,
}) => {
  const publisher = await open(weir, publishingBrowser, DESK);
  const viewer = await open(weir, watchingBrowser, DESK);
  await publisher.publish({ resolution: '640 × 360' });
  for (const leave of [() => weir.kill(), () => weir.terminate()]) {
    const before = await publisher.ownPeerId();
    await viewer.card(before).expectPlaying(/^WebRTC/);
    // A server whose playlists are being read stays a while to end them; nobody may be kept by it.
    await expect(viewer.card(before).root.getByRole('radio', { name: 'HLS' })).toBeEnabled({ timeout: 30_000 });

    await leave();
    await expect(publisher.publishState).toHaveText('Reconnecting…');
    await expect(viewer.serverState).toHaveText('Reconnecting…');
    await expect(viewer.page.getByText('The server cannot be reached. Trying again.')).toBeVisible();

    await weir.run();
    await expect(publisher.publishState).toContainText('Live');
    await expect(viewer.serverState).toHaveText('Connected');
    const after = await publisher.ownPeerId();
    expect(after).not.toBe(before);
    await viewer.card(after).expectPlaying(/^WebRTC/);
    await expect(viewer.cards).toHaveCount(1);
  }
  await viewer.card(await publisher.ownPeerId()).watchOver('HLS');
  await viewer.card(await publisher.ownPeerId()).expectPlaying(/^HLS/);
  await publisher.page.context().close();
  await viewer.page.context().close();
});

test('refusals and missing devices are said in words', async ({ weir, publishingBrowser }) => {
  const demo = await open(weir, publishingBrowser, DESK);
  await demo.page.evaluate(() => {
    navigator.mediaDevices.getUserMedia = async () => {
      throw new DOMException('denied', 'NotAllowedError');
    };
  });
  await demo.page.locator('#publish-button').click();
  await expect(demo.page.locator('#publish-notice')).toContainText('was not allowed to use the camera');
  await expect(demo.page.locator('#publish-notice')).toContainText('was not allowed to use the microphone');
  await expect(demo.publishState).toHaveText('Not publishing');
  await demo.page.context().close();
});

test.describe('with DVR', () => {
  test.use({ network: { settings: { WEIR_HLS_DVR_SECS: '600', WEIR_HLS_WINDOW_SEGMENTS: '3' } } });

  test('viewers go back to the beginning and to the live edge again', async ({
    weir,
    publishingBrowser,
    watchingBrowser,
  }) => {
    const publisher = await open(weir, publishingBrowser, DESK);
    const viewer = await open(weir, watchingBrowser, PHONE);
    await publisher.publish({ resolution: '640 × 360' });
    const card = viewer.card(await publisher.ownPeerId());
    await card.watchOver('HLS');
    const slider = card.root.getByRole('slider', { name: 'Position in the stream' });
    await expect(slider).toBeVisible({ timeout: 60_000 });
    await expect(slider).toHaveAttribute('aria-valuetext', 'live');

    await slider.press('Home');
    const live = card.root.getByRole('button', { name: /^−0:[1-5]\d · Go live$/ });
    await card.expectPlaying(/^HLS · H\.264 · AAC$/);
    await expect(live).toBeEnabled();
    await expect(card.figure('latency')).toHaveText(/^[1-9]\d\.\d s$/);
    await expectReachable(viewer);

    await live.click();
    await card.expectPlaying(/^HLS · H\.264 · AAC$/);
    await expect(slider).toHaveAttribute('aria-valuetext', 'live');
    await expect(card.figure('latency')).toHaveText(/^(\d\.\d s|\d+ ms)$/);
    await publisher.page.context().close();
    await viewer.page.context().close();
  });
});

async function open(weir: Weir, browser: Browser, options: BrowserContextOptions): Promise<Demo> {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  await page.goto(weir.url);
  const demo = new Demo(page);
  await expect(demo.serverState).toHaveText('Connected');
  return demo;
}

/** Every visible button can be hit with a finger, has a name, and nothing sticks out sideways. */
async function expectReachable(demo: Demo): Promise<void> {
  for (const button of await demo.page.getByRole('button').all()) {
    if (await button.isVisible()) {
      expect((await button.boundingBox())?.height).toBeGreaterThanOrEqual(TOUCH_PX);
      await expect(button).toHaveAccessibleName(/\S/);
    }
  }
  const overhang = await demo.page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    return scrollWidth - clientWidth;
  });
  expect(overhang).toBeLessThanOrEqual(0);
}
