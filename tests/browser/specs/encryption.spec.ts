/**
 * Encrypted HLS in stock players: who may watch gets the keys, and nobody else sees anything.
 */
import { execFileSync } from 'node:child_process';
import type { Page } from '@playwright/test';
import { expect, test } from '../support/fixtures';
import { ServedPlaylists } from '../support/served-playlists';
import { weirBinary } from '../support/weir';

const SECRET = 'a secret of the tests';
const STREAM = { audio: true, video: { width: 640, height: 360 }, codec: 'video/H264', keepResolution: true } as const;
/** How much each player plays, in seconds: longer than the two segments that share a key. */
const PLAY_S = 8;
const PLAY_TIMEOUT_MS = 60_000;

const SETTINGS = { WEIR_ACCESS_SECRETS: SECRET, WEIR_HLS_ENCRYPTION: 'aes-128', WEIR_HLS_KEY_ROTATION_SEGMENTS: '2' };

function token(peerId: string): string {
  const env = { ...process.env, WEIR_ACCESS_SECRETS: SECRET };
  return execFileSync(weirBinary(), ['token', '--peer', peerId, '--for', '1h'], { env, encoding: 'utf8' }).trim();
}

/** The URLs of keys that a page asks for from now on. */
function keysAsked(page: Page): string[] {
  const asked: string[] = [];
  page.on('request', (request) => {
    if (request.url().endsWith('.key')) {
      asked.push(request.url());
    }
  });
  return asked;
}

async function plays(page: Page, name: string): Promise<void> {
  const report = () => page.evaluate(() => window.harness.hls());
  const over = async () => {
    const found = await report();
    const played = found?.startedAt === undefined ? 0 : found.currentTime - found.startedAt;
    return played > PLAY_S || (found?.errors.length ?? 0) > 0;
  };
  await expect.poll(over, { message: name, timeout: PLAY_TIMEOUT_MS }).toBe(true);
  const found = await report();
  expect(found, name).toMatchObject({ errors: [], holes: [], paused: false, sizes: ['640x360'] });
  expect(found?.framesDecoded, name).toBeGreaterThan(PLAY_S);
  expect(found?.audioDecodedBytes, name).toBeGreaterThan(0);
}

test.use({ network: { settings: SETTINGS } });

test('hls.js plays AES-128 with a token, and stops cleanly without the key', async ({ weir, publisher, audience }) => {
  const { peerId } = await publisher.join(STREAM);
  const good = token(peerId);
  const master = `${weir.url}/live/${peerId}.m3u8?token=${good}`;
  const status = async (url: string, headers: Record<string, string> = {}) => (await fetch(url, { headers })).status;
  await expect.poll(() => status(master), { timeout: 20_000 }).toBe(200);

  const playlists = new ServedPlaylists();
  const players: { name: string; page: Page; keys: string[] }[] = [];
  for (const lowLatencyMode of [true, false]) {
    const page = await audience.open();
    playlists.follow(page);
    players.push({ name: `low latency: ${lowLatencyMode}`, page, keys: keysAsked(page) });
    await page.evaluate(([url, config]) => window.harness.playHls(url, config), [master, { lowLatencyMode }] as const);
  }
  const keyless = await audience.open();
  const inVain = keysAsked(keyless);
  await keyless.route('**/*.key', (route) => route.fulfill({ status: 403 }));
  await keyless.evaluate((url) => window.harness.playHls(url), master);

  for (const { name, page, keys } of players) {
    await plays(page, name);
    expect(new Set(keys).size, name).toBeGreaterThan(1);
    expect(
      keys.every((url) => url.includes(`/live/~${good}/`)),
      name,
    ).toBe(true);
  }
  await playlists.read();
  expect(playlists.complaints).toEqual([]);

  await expect.poll(() => keyless.evaluate(() => window.harness.hls()?.fatal.join())).toContain('keyLoadError 403');
  expect(await keyless.evaluate(() => window.harness.hls()?.framesDecoded)).toBe(0);
  expect(inVain.length, 'it does not ask again and again').toBeLessThan(10);

  const key = players[0]?.keys.at(-1) ?? '';
  const bare = key.replace(`~${good}/`, '');
  const answer = await fetch(key);
  expect(answer.headers.get('cache-control')).toBe('no-store');
  expect((await answer.arrayBuffer()).byteLength).toBe(16);
  expect(await status(bare)).toBe(401);
  expect(await status(bare, { authorization: `Bearer ${good}` })).toBe(200);
  expect(await status(bare, { authorization: `Bearer ${token('somebody-else')}` })).toBe(403);
  expect(await status(key.replace(/\d+\.key/, '99999.key'))).toBe(404);
  expect(await status(`${weir.url}/live/~${good}/${peerId}.mpd`)).toBe(404);
});
