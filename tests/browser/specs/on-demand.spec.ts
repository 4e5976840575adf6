/**
 * A stream that is made only while somebody watches: stock hls.js opens it, leaves, and comes back later.
 */
import { expect, test } from '../support/fixtures';
import { playable } from '../support/live';
import { ServedPlaylists } from '../support/served-playlists';

/** The shortest that can be set. */
const IDLE_S = 10;
const PLAY_S = 3;
const REST_TIMEOUT_MS = 30_000;

test.use({ network: { settings: { WEIR_HLS_START: 'on-demand', WEIR_HLS_IDLE_SECS: `${IDLE_S}` } } });

test('a stream that nobody asked for plays when it is opened, and again after it rested', async ({
  weir,
  publisher,
  audience,
}) => {
  const { peerId } = await publisher.join({
    audio: true,
    video: { width: 640, height: 360 },
    codec: 'video/H264',
    keepResolution: true,
  });
  const master = await playable(weir, peerId);
  const asleep = async () => ((await weir.stats())['hls'] as { asleep: number }).asleep;
  const playlists = new ServedPlaylists();
  for (const visit of ['first', 'second']) {
    expect(await asleep(), `before the ${visit} visit`).toBe(1);
    const page = await audience.open();
    playlists.follow(page);
    await page.evaluate((url) => window.harness.playHls(url), master);
    const played = async () => {
      const { startedAt, currentTime = 0, errors = [] } = (await page.evaluate(() => window.harness.hls())) ?? {};
      return errors.length > 0 || (startedAt !== undefined && currentTime - startedAt > PLAY_S);
    };
    await expect.poll(played, { message: `${visit} visit`, timeout: 30_000 }).toBe(true);
    const found = await page.evaluate(() => window.harness.hls());
    expect(found, `${visit} visit`).toMatchObject({ errors: [], holes: [], sizes: ['640x360'] });
    expect(found?.audioDecodedBytes).toBeGreaterThan(0);
    expect(await asleep()).toBe(0);
    await playlists.read();
    await page.close();
    await expect.poll(asleep, { timeout: REST_TIMEOUT_MS }).toBe(1);
  }
  expect(playlists.complaints).toEqual([]);
});
