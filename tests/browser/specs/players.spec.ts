/**
 * One stream of H.264 and Opus for everybody: players for browsers, at the live edge and behind it, and programs.
 */
import type { Page } from '@playwright/test';
import type { OtherPlayer } from '../harness/other-players';
import { expect, test } from '../support/fixtures';
import { playable } from '../support/live';
import { framesOfFfplay, framesOfGStreamer, framesOfMpv } from '../support/programs';
import { ServedPlaylists } from '../support/served-playlists';

const STREAM = { audio: true, video: { width: 640, height: 360 }, codec: 'video/H264', keepResolution: true };
/** How much each player has to play, in seconds. */
const PLAY_S = 8;
/** How long that may take at most, with the start, in milliseconds. */
const PLAY_TIMEOUT_MS = 60_000;

/** How far the manifest for low latency lets players stay behind, in seconds. */
const LATENCY_S = 1.5;

/** How much a DASH manifest has to list before players begin in the middle of it, in seconds. */
const START_S = 6;

type Start = (page: Page, url: string) => Promise<void>;

const hlsJs: (lowLatencyMode: boolean) => Start = (lowLatencyMode) => (page, url) =>
  page.evaluate(([from, config]) => window.harness.playHls(from, config), [url, { lowLatencyMode }] as const);
const other: (player: OtherPlayer) => Start = (player) => (page, url) =>
  page.evaluate(([name, from]) => window.harness.playWith(name, from), [player, url] as const);

const PLAYERS: { name: string; start: Start; parts: boolean }[] = [
  { name: 'hls.js', start: hlsJs(true), parts: true },
  { name: 'hls.js without low latency', start: hlsJs(false), parts: false },
  { name: 'shaka-player', start: other('shaka-player'), parts: true },
  { name: 'video.js', start: other('video.js'), parts: true },
];

test('players for browsers play it, and every playlist that they get is right', async ({
  weir,
  publisher,
  audience,
}) => {
  const { peerId } = await publisher.join(STREAM);
  const master = await playable(weir, peerId);
  const playlists = new ServedPlaylists();
  const pages = await Promise.all(
    PLAYERS.map(async ({ name, start, parts }) => {
      const page = await audience.open();
      await page.evaluate(() => performance.setResourceTimingBufferSize(10_000));
      playlists.follow(page);
      await start(page, master);
      return { name, page, parts };
    }),
  );
  for (const { name, page, parts } of pages) {
    await plays(page, name);
    expect(await loadsParts(page), `${name} loads parts`).toBe(parts);
  }
  await playlists.read();
  expect(playlists.complaints).toEqual([]);
  expect(playlists.count).toBeGreaterThan(PLAYERS.length);
});

test('players for DASH play it', async ({ weir, publisher, audience }) => {
  const { peerId } = await publisher.join(STREAM);
  const manifest = (await playable(weir, peerId)).replace(/\.m3u8$/, '.mpd');
  // A manifest lists whole segments only, and players stay three away from its end.
  await expect
    .poll(() => listedSeconds(manifest), { message: 'enough is listed', timeout: PLAY_TIMEOUT_MS })
    .toBeGreaterThan(START_S);
  const names: OtherPlayer[] = ['dash.js', 'shaka-player'];
  const pages = await Promise.all(
    names.map(async (name) => {
      const page = await audience.open();
      await other(name)(page, manifest);
      return { name, page };
    }),
  );
  for (const { name, page } of pages) {
    await plays(page, name);
    expect(await loadsParts(page), `${name} loads parts`).toBe(false);
  }
});

test('dash.js takes segments while they are made', async ({ weir, publisher, audience }) => {
  const { peerId } = await publisher.join(STREAM);
  const manifest = (await playable(weir, peerId)).replace(/\.m3u8$/, '-low-latency.mpd');
  const time = await fetch(new URL('time', manifest)).then((answer) => answer.text());
  expect(Date.parse(time), `the server's clock says ${time}`).not.toBeNaN();
  // In a stream that is younger than that the player stays less far behind.
  await expect.poll(() => listedSeconds(manifest), { message: 'enough is listed' }).toBeGreaterThan(2 * LATENCY_S);
  const page = await audience.open();
  await other('dash.js')(page, manifest);
  await plays(page, 'dash.js');
  const live = await page.evaluate(() => window.harness.other()?.live);
  expect(live).toMatchObject({ lowLatency: true, target: LATENCY_S });
  test.info().annotations.push({ type: 'latency', description: `${live?.latency} s` });
});

test('ffplay, mpv and GStreamer play it', async ({ weir, publisher }) => {
  const { peerId } = await publisher.join(STREAM);
  const master = await playable(weir, peerId);
  const all = {
    ffplay: await framesOfFfplay(master, PLAY_S),
    mpv: await framesOfMpv(master, PLAY_S),
    GStreamer: await framesOfGStreamer(master, PLAY_S),
  };
  for (const [name, { pictures, sounds, complaints }] of Object.entries(all)) {
    expect(complaints, name).toEqual([]);
    expect(pictures, name).toBeGreaterThan(0);
    expect(sounds, name).toBeGreaterThan(0);
  }
});

/** Waits until the page's player has played enough, without a complaint, and shown all of it. */
async function plays(page: Page, name: string): Promise<void> {
  const report = async () => {
    const found = await page.evaluate(() => window.harness.hls() ?? window.harness.other());
    if (!found) {
      throw new Error(`${name} did not start`);
    }
    return found;
  };
  const over = async () => {
    const { startedAt, currentTime, errors, holes } = await report();
    const played = startedAt === undefined ? 0 : currentTime - startedAt;
    return played > PLAY_S || errors.length > 0 || holes.length > 0;
  };
  await expect.poll(over, { message: name, timeout: PLAY_TIMEOUT_MS }).toBe(true);
  const found = await report();
  expect(found, name).toMatchObject({ errors: [], holes: [], paused: false, sizes: ['640x360'] });
  expect(found.framesDecoded, name).toBeGreaterThan(PLAY_S);
  expect(found.audioDecodedBytes, name).toBeGreaterThan(0);
}

/** How many seconds of video a manifest lists; 0 if there is none yet. */
async function listedSeconds(manifest: string): Promise<number> {
  const text = await fetch(manifest).then((file) => (file.ok ? file.text() : ''));
  return Number(/timeShiftBufferDepth="PT([\d.]+)S"/.exec(text)?.[1] ?? 0);
}

/** Whether the page loaded parts of segments. */
function loadsParts(page: Page): Promise<boolean> {
  return page.evaluate(() => performance.getEntriesByType('resource').some(({ name }) => /_p\d+\.m4s/.test(name)));
}
