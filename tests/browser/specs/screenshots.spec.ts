/**
 * Makes the pictures of the documentation: `npm run screenshots` writes `docs/images/demo-*.png`.
 */
import { fileURLToPath } from 'node:url';
import type { Browser, BrowserContextOptions } from '@playwright/test';
import { Demo } from '../support/demo';
import { expect, test } from '../support/fixtures';
import type { Weir } from '../support/weir';

const FOLDER = fileURLToPath(new URL('../../../docs/images/', import.meta.url));
const DESK = { width: 1280, height: 860 };
const PHONE: BrowserContextOptions = {
  viewport: { width: 390, height: 844 },
  deviceScaleFactor: 2,
  hasTouch: true,
  isMobile: true,
};

test('pictures of the demo', async ({ weir, publishingBrowser, watchingBrowser }) => {
  const first = await open(weir, publishingBrowser, { viewport: DESK });
  await first.publish({ resolution: '1280 × 720' });
  const second = await open(weir, publishingBrowser, PHONE);
  await second.publish({ resolution: '640 × 360', codec: 'VP8' });
  const firstId = await first.ownPeerId();
  const secondId = await second.ownPeerId();

  const viewer = await open(weir, watchingBrowser, { viewport: DESK });
  await viewer.card(secondId).expectPlaying(/^WebRTC · VP8/);
  await viewer.card(firstId).watchOver('HLS');
  await viewer.card(firstId).expectPlaying(/^HLS/);
  await viewer.page.screenshot({ path: `${FOLDER}demo-watch.png` });

  await first.card(secondId).expectPlaying(/^WebRTC/);
  await first.page.screenshot({ path: `${FOLDER}demo-publish.png` });
  await first.page.emulateMedia({ colorScheme: 'dark' });
  await first.page.screenshot({ path: `${FOLDER}demo-dark.png` });

  await second.page.screenshot({ path: `${FOLDER}demo-phone-publish.png` });
  await second.show('Watch');
  await second.card(firstId).expectPlaying(/^WebRTC/);
  await second.page.screenshot({ path: `${FOLDER}demo-phone-watch.png` });
  for (const demo of [first, second, viewer]) {
    await demo.page.context().close();
  }
});

async function open(weir: Weir, browser: Browser, options: BrowserContextOptions): Promise<Demo> {
  const context = await browser.newContext({ colorScheme: 'light', ...options });
  const page = await context.newPage();
  await page.goto(weir.url);
  const demo = new Demo(page);
  await expect(demo.serverState).toHaveText('Connected');
  return demo;
}
