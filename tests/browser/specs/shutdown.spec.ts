/**
 * The server is told to end while people publish and watch.
 */
import { expect, test } from '../support/fixtures';
import type { Weir } from '../support/weir';

const PUBLISH = { audio: true, video: { width: 640, height: 360 } };
/** The whole server is down this long after the signal, in milliseconds. */
const DOWN_MS = 5_000;
const ENDED = '#EXT-X-ENDLIST';

test('SIGTERM: sockets and event streams end, playlists end properly, and the process is gone in time', async ({
  weir,
  publisher,
  audience,
}) => {
  const { page, peerId } = await publisher.join(PUBLISH);
  const viewer = await audience.join();
  const playlists = ['video', 'audio'].map((kind) => `${weir.url}/live/${peerId}-${kind}.m3u8`);
  await expect.poll(() => playable(weir, peerId), { timeout: 30_000 }).toBe(true);
  const events = await fetch(`${weir.url}/api/live-streams`);

  const down = weir.endBy('SIGTERM');
  // Read to its end: an event stream that the server cuts off would throw.
  expect(await events.text()).toContain('event: init');
  await Promise.all(playlists.map(expectEnded));
  expect(await down).toMatchObject({ code: 0 });
  expect((await down).tookMs).toBeLessThan(DOWN_MS);
  for (const one of [page, viewer.page]) {
    const seen = await one.evaluate(() => window.harness.seen());
    expect(seen.map(({ event }) => event)).toContain('disconnect');
  }
});

test('a second signal ends it at once', async ({ weir, publisher }) => {
  const { peerId } = await publisher.join(PUBLISH);
  await expect.poll(() => playable(weir, peerId), { timeout: 30_000 }).toBe(true);
  // It goes on for a while after the first one, for the sake of those who play.
  const first = weir.endBy('SIGINT');
  await expect.poll(() => weir.log).toContain('shutting down');
  const second = weir.endBy('SIGINT');
  expect(await second).toMatchObject({ code: 130 });
  await first;
});

async function playable(weir: Weir, peerId: string): Promise<boolean> {
  return (await fetch(`${weir.url}/live/${peerId}.m3u8`)).ok;
}

/** A player that reloads now and then reads the end of the playlist, and every segment in it. */
async function expectEnded(playlist: string): Promise<void> {
  await expect.poll(async () => (await fetch(playlist)).text(), { intervals: [200] }).toContain(ENDED);
  const segments = (await (await fetch(playlist)).text()).split('\n').filter((line) => line.endsWith('.m4s'));
  expect(segments.length).toBeGreaterThan(0);
  for (const segment of segments) {
    expect((await fetch(new URL(segment, playlist))).status).toBe(200);
  }
}
