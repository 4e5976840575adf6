/**
 * MPEG-TS for old players, by the names that clients of other servers know: encrypted, and for those who have a token.
 */
import { execFileSync } from 'node:child_process';
import { expect, test } from '../support/fixtures';
import { playable } from '../support/live';
import { framesOfFfplay, framesOfGStreamer } from '../support/programs';
import { ServedPlaylists } from '../support/served-playlists';
import { weirBinary } from '../support/weir';

const SECRET = 'a secret of the tests';
/** How much each player plays, in seconds: longer than a segment. */
const PLAY_S = 5;
const PLAY_TIMEOUT_MS = 60_000;

test.use({
  network: {
    settings: { WEIR_ACCESS_SECRETS: SECRET, WEIR_HLS_ENCRYPTION: 'aes-128', WEIR_HLS_KEY_ROTATION_SEGMENTS: '2' },
  },
});

function token(peerId: string): string {
  const env = { ...process.env, WEIR_ACCESS_SECRETS: SECRET };
  return execFileSync(weirBinary(), ['token', '--peer', peerId, '--for', '1h'], { env, encoding: 'utf8' }).trim();
}

test('stock players play MPEG-TS by the names of other servers', async ({ weir, publisher, audience }) => {
  const video = { width: 640, height: 360 };
  const { peerId } = await publisher.join({ audio: true, video, codec: 'video/H264', keepResolution: true });
  await playable(weir, peerId);
  const good = token(peerId);
  const [folder, stream, flat] = [
    `live/${peerId}/index.m3u8`,
    `livestream/${peerId}/stream.m3u8`,
    `live/${peerId}-ts.m3u8`,
  ].map((path) => `${weir.url}/${path}`) as [string, string, string];
  for (const entry of [folder, stream, flat]) {
    const status = async (query: string) => (await fetch(`${entry}${query}`)).status;
    expect(await status('')).toBe(401);
    expect(await status(`?token=${token('somebody-else')}`)).toBe(403);
    const answer = await fetch(`${entry}?token=${good}`);
    expect(answer.status, entry).toBe(200);
    expect(answer.headers.get('content-type')).toBe('application/vnd.apple.mpegurl');
    expect(answer.headers.get('access-control-allow-origin')).toBe('*');
    expect(await answer.text()).toContain(`~${good}/`);
  }

  const playlists = new ServedPlaylists();
  const players = await Promise.all(
    [folder, stream].map(async (entry) => {
      const page = await audience.open();
      playlists.follow(page);
      const asked: string[] = [];
      page.on('request', (request) => asked.push(request.url()));
      await page.evaluate((url) => window.harness.playHls(url), `${entry}?token=${good}`);
      return { entry, page, asked };
    }),
  );
  const programs = {
    ffplay: framesOfFfplay(`${flat}?token=${good}`, PLAY_S),
    GStreamer: framesOfGStreamer(`${flat}?token=${good}`, PLAY_S),
  };
  for (const { entry, page, asked } of players) {
    const report = () => page.evaluate(() => window.harness.hls());
    const over = async () => {
      const found = await report();
      const played = found?.startedAt === undefined ? 0 : found.currentTime - found.startedAt;
      return played > PLAY_S || (found?.errors.length ?? 0) > 0;
    };
    await expect.poll(over, { message: entry, timeout: PLAY_TIMEOUT_MS }).toBe(true);
    const found = await report();
    expect(found, entry).toMatchObject({ errors: [], holes: [], paused: false, sizes: ['640x360'] });
    expect(found?.framesDecoded, entry).toBeGreaterThan(PLAY_S);
    expect(found?.audioDecodedBytes, entry).toBeGreaterThan(0);
    const segments = asked.filter((url) => url.endsWith('.ts'));
    expect(segments.length, entry).toBeGreaterThan(0);
    expect(asked.filter((url) => /\.(m4s|mp4)/.test(url))).toEqual([]);
    const segment = await fetch(segments.at(-1) ?? '');
    expect(segment.headers.get('content-type')).toBe('video/mp2t');
    expect(segment.headers.get('cache-control')).toBe('public, max-age=60');
    expect((await fetch((segments.at(-1) ?? '').replace(`~${good}/`, ''))).status).toBe(401);
  }
  for (const [name, program] of Object.entries(programs)) {
    const { pictures, sounds, complaints } = await program;
    expect(complaints, name).toEqual([]);
    expect(pictures, name).toBeGreaterThan(0);
    expect(sounds, name).toBeGreaterThan(0);
  }
  await playlists.read();
  expect(playlists.complaints).toEqual([]);
  expect(playlists.count).toBeGreaterThan(players.length);
  expect((await fetch(`${weir.url}/livestream/${peerId}/segment_99999.ts?token=${good}`)).status).toBe(404);
  expect((await fetch(`${weir.url}/livestream/${peerId}/stream.mp4?token=${good}`)).status).toBe(404);
});
