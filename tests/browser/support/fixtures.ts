/**
 * What every test starts from: a weir of its own, and browsers that live as long as the run.
 */
import { type Browser, test as base, type Page } from '@playwright/test';
import type { PublishOptions } from '../harness/media';
import type { ClientVersion } from '../harness/participant';
import { launchBrowser } from './chromium';
import { HarnessServer } from './harness-server';
import { type Network, Weir } from './weir';

/** Pages of one browser; they are closed with the test. */
export interface Stage {
  /** Opens the harness page and joins the room with it. */
  join(publish?: PublishOptions, client?: ClientVersion): Promise<{ page: Page; peerId: string }>;
  /** Opens the harness page only. */
  open(): Promise<Page>;
}

interface TestFixtures {
  /** Where the server listens. */
  network: Network;
  weir: Weir;
  /** The browser that publishes. */
  publisher: Stage;
  /** The browser that watches: a process of its own. */
  audience: Stage;
}

interface RunFixtures {
  harness: HarnessServer;
  publishingBrowser: Browser;
  watchingBrowser: Browser;
}

export const test = base.extend<TestFixtures, RunFixtures>({
  harness: [
    // biome-ignore lint/correctness/noEmptyPattern: Playwright reads the names from the pattern.
    async ({}, use) => {
      const server = await HarnessServer.start();
      await use(server);
      await server.stop();
    },
    { scope: 'worker' },
  ],
  publishingBrowser: [
    // biome-ignore lint/correctness/noEmptyPattern: as above.
    async ({}, use) => {
      const browser = await launchBrowser();
      await use(browser);
      await browser.close();
    },
    { scope: 'worker' },
  ],
  watchingBrowser: [
    // biome-ignore lint/correctness/noEmptyPattern: as above.
    async ({}, use) => {
      const browser = await launchBrowser();
      await use(browser);
      await browser.close();
    },
    { scope: 'worker' },
  ],
  network: [{}, { option: true }],
  weir: async ({ network }, use, info) => {
    const weir = await Weir.start(network);
    await use(weir);
    await weir.stop();
    if (info.status !== info.expectedStatus) {
      await info.attach('weir.log', { body: weir.log, contentType: 'text/plain' });
    }
  },
  publisher: async ({ publishingBrowser, harness, weir }, use) => {
    await withStage(publishingBrowser, harness, weir, use);
  },
  audience: async ({ watchingBrowser, harness, weir }, use) => {
    await withStage(watchingBrowser, harness, weir, use);
  },
});

export { expect } from '@playwright/test';

/** Joins with pages of a browser until `use` is done. */
export async function withStage(
  browser: Browser,
  harness: HarnessServer,
  weir: Weir,
  use: (stage: Stage) => Promise<void>,
): Promise<void> {
  const context = await browser.newContext();
  const open = async () => {
    const page = await context.newPage();
    await page.goto(harness.url);
    return page;
  };
  const join = async (publish?: PublishOptions, client?: ClientVersion) => {
    const page = await open();
    const peerId = await page.evaluate(([url, options, version]) => window.harness.join(url, options, version), [
      weir.url,
      publish,
      client,
    ] as const);
    return { page, peerId };
  };
  await use({ open, join });
  await context.close();
}
