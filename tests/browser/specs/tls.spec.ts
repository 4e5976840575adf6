/**
 * The demo page over TLS and HTTP/2, as somebody uses it who clicks the warning of the self-signed certificate away.
 */
import { Demo } from '../support/demo';
import { expect, test } from '../support/fixtures';

test.use({ network: { tls: true } });

test('publish and watch over HTTP/2', async ({ weir, publishingBrowser }) => {
  const context = await publishingBrowser.newContext({ ignoreHTTPSErrors: true });
  const open = async () => {
    const page = await context.newPage();
    const sockets: string[] = [];
    page.on('websocket', (socket) => sockets.push(socket.url()));
    await page.goto(weir.httpsUrl);
    const demo = new Demo(page);
    await expect(demo.serverState).toHaveText('Connected');
    // WebSockets keep HTTP/1.1, on a connection of their own.
    await expect.poll(() => sockets.some((url) => url.startsWith('wss:'))).toBe(true);
    return demo;
  };
  const publisher = await open();
  await publisher.publish({ resolution: '640 × 360' });
  const viewer = await open();
  const card = viewer.card(await publisher.ownPeerId());
  await card.watchOver('HLS');
  await card.expectPlaying(/^HLS · H\.264 · AAC$/);
  const protocols = await viewer.page.evaluate(() => {
    const loaded = performance.getEntriesByType('resource') as PerformanceResourceTiming[];
    const media = loaded.filter(({ name }) => new URL(name).pathname.startsWith('/live/'));
    // What came from the browser's own cache, or was given up, came over nothing.
    return [...new Set(media.map(({ nextHopProtocol }) => nextHopProtocol))].filter((protocol) => protocol !== '');
  });
  expect(protocols).toEqual(['h2']);
  await context.close();
});
