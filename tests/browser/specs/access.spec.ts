/**
 * HLS for those who have a token: it is on the master playlist's URL only, and stock hls.js does the rest.
 */
import { execFileSync } from 'node:child_process';
import { expect, test } from '../support/fixtures';
import { weirBinary } from '../support/weir';

const SECRET = 'a secret of the tests';

test.use({ network: { settings: { WEIR_ACCESS_SECRETS: SECRET } } });

function token(...flags: string[]): string {
  const env = { ...process.env, WEIR_ACCESS_SECRETS: SECRET };
  return execFileSync(weirBinary(), ['token', ...flags], { env, encoding: 'utf8' }).trim();
}

test('a token on the master URL plays the stream, and nothing else does', async ({ weir, publisher, audience }) => {
  const { peerId } = await publisher.join({ video: { width: 640, height: 360 }, audio: true, codec: 'video/H264' });
  const master = `${weir.url}/live/${peerId}.m3u8`;
  const good = token('--peer', peerId, '--for', '1h');
  const status = async (url: string, headers: Record<string, string> = {}) => (await fetch(url, { headers })).status;
  // Before there is anything, a token is not refused: the stream is not found.
  await expect.poll(() => status(`${master}?token=${good}`), { timeout: 20_000 }).toBe(200);

  expect(await status(master)).toBe(401);
  expect(await status(`${master}?token=${good.slice(0, -2)}`)).toBe(401);
  expect(await status(`${master}?token=${token('--for', '0s')}`)).toBe(401);
  expect(await status(`${master}?token=${token('--peer', 'somebody-else')}`)).toBe(403);
  expect(await status(master, { authorization: `Bearer ${good}` })).toBe(200);

  const refused = await audience.open();
  await refused.evaluate((url) => window.harness.playHls(url), master);
  await expect.poll(() => refused.evaluate(() => window.harness.hls()?.fatal.join())).toContain('401');

  const player = await audience.open();
  const asked: string[] = [];
  player.on('request', (request) => asked.push(request.url()));
  await player.evaluate((url) => window.harness.playHls(url), `${master}?token=${good}`);
  const decoded = () => player.evaluate(() => window.harness.hls()?.framesDecoded ?? 0);
  await expect.poll(decoded, { timeout: 30_000 }).toBeGreaterThan(60);
  expect(await player.evaluate(() => window.harness.hls()?.errors)).toEqual([]);
  // What hls.js asked for without a word from anybody works for this token only.
  const media = asked.filter((url) => url.endsWith('.m4s'));
  expect(media.length).toBeGreaterThan(0);
  expect(await status(media[0] ?? '')).toBe(200);
  expect(await status((media[0] ?? '').replace(`~${good}/`, ''))).toBe(401);
  expect(weir.log).not.toContain(good);
  expect(weir.log).not.toContain(SECRET);
});
