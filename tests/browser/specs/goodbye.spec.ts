/**
 * A goes away, politely or not: everyone learns it and nothing of A stays behind.
 */
import { type BrowserServer, chromium, type Page } from '@playwright/test';
import { launchBrowserProcess } from '../support/chromium';
import { expect, test } from '../support/fixtures';
import type { Weir } from '../support/weir';

const PUBLISH = { audio: true, video: { width: 640, height: 360 } };
/** B has to be told of a closed page or a dead browser, whose sockets are closed, within this, in milliseconds. */
const CLOSED_MS = 1_000;
/** B has to be told of a browser that is silent within this, in milliseconds. */
const SILENT_MS = 30_000;
/** A peer's HLS files are gone this long after it left, with some slack, in milliseconds. */
const FILES_GONE_MS = 20_000;

test('A closes its page, and the browser of another is killed', async ({ weir, harness, publisher, audience }) => {
  const b = await audience.join();
  const before = await held(weir);
  const closing = await publisher.join(PUBLISH);
  const dying = await BrowserProcess.start(weir, harness.url);
  try {
    await expectPlayable(weir, closing.peerId);
    await expectPlayable(weir, dying.peerId);
    await expectTold(b.page, closing.peerId, CLOSED_MS, () => closing.page.close());
    await expectTold(b.page, dying.peerId, CLOSED_MS, () => dying.kill());
  } finally {
    await dying.kill();
  }
  await expectNothingLeft(weir, [closing.peerId, dying.peerId], before);
});

test("A's browser falls silent with its sockets open", async ({ weir, harness, audience }) => {
  const b = await audience.join();
  const before = await held(weir);
  const freezing = await BrowserProcess.start(weir, harness.url);
  try {
    await expectPlayable(weir, freezing.peerId);
    await expectTold(b.page, freezing.peerId, SILENT_MS, async () => freezing.freeze());
    await expectNothingLeft(weir, [freezing.peerId], before);
  } finally {
    await freezing.kill();
  }
});

/** A publisher in a browser that nobody else uses. */
class BrowserProcess {
  readonly peerId: string;
  readonly #server: BrowserServer;

  private constructor(server: BrowserServer, peerId: string) {
    this.#server = server;
    this.peerId = peerId;
  }

  static async start(weir: Weir, harness: string): Promise<BrowserProcess> {
    const server = await launchBrowserProcess();
    const browser = await chromium.connect(server.wsEndpoint());
    const page = await browser.newPage();
    await page.goto(harness);
    const peerId = await page.evaluate(([url, publish]) => window.harness.join(url, publish), [
      weir.url,
      PUBLISH,
    ] as const);
    return new BrowserProcess(server, peerId);
  }

  /** Stops all its processes where they are: nothing is sent any more, and nothing is closed. */
  freeze(): void {
    const { pid } = this.#server.process();
    if (pid === undefined) {
      throw new Error('the browser has no process');
    }
    process.kill(-pid, 'SIGSTOP');
  }

  async kill(): Promise<void> {
    await this.#server.kill();
  }
}

/** B is told that the peer left, in time. */
async function expectTold(page: Page, peerId: string, within: number, leave: () => Promise<void>): Promise<void> {
  const leftAt = Date.now();
  await leave();
  const seen = () => page.evaluate(() => window.harness.seen());
  const told = async () => (await seen()).find((one) => one.event === 'peerLeft' && one.message['peerId'] === peerId);
  await expect.poll(told, { timeout: within + 5_000, intervals: [100] }).toBeDefined();
  expect(((await told())?.at ?? Number.POSITIVE_INFINITY) - leftAt).toBeLessThan(within);
}

async function expectPlayable(weir: Weir, peerId: string): Promise<void> {
  await expect.poll(() => status(weir, `/live/${peerId}.m3u8`), { timeout: 30_000 }).toBe(200);
}

async function expectNothingLeft(weir: Weir, peerIds: string[], before: Record<string, number>): Promise<void> {
  for (const peerId of peerIds) {
    for (const name of [`${peerId}.m3u8`, `${peerId}-video.m3u8`, `${peerId}-audio.m3u8`]) {
      await expect.poll(() => status(weir, `/live/${name}`), { timeout: FILES_GONE_MS }).toBe(404);
    }
  }
  await expect.poll(() => held(weir)).toEqual(before);
}

async function status(weir: Weir, path: string): Promise<number> {
  return (await fetch(weir.url + path)).status;
}

/** How many of each thing the server holds now: the gauges among its counters. */
async function held(weir: Weir): Promise<Record<string, number>> {
  const gauges =
    /^(transports|producers|consumers|taps|peers|livePeers|sockets|pipelines|hlsPeers|files|bytes|eventStreams)$/;
  const found: Record<string, number> = {};
  const visit = (value: unknown, path: string[]) => {
    if (typeof value === 'object' && value !== null) {
      for (const [key, inner] of Object.entries(value)) {
        visit(inner, [...path, key]);
      }
    } else if (typeof value === 'number' && gauges.test(path.at(-1) ?? '')) {
      found[path.join('.')] = value;
    }
  };
  visit(await weir.stats(), []);
  return found;
}
