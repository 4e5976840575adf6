/**
 * The main job: A publishes, B watches over WebRTC, C watches over HLS, with each kind of stream that A may send.
 */
import type { Page } from '@playwright/test';
import type { HlsReport } from '../harness/hls-viewer';
import type { PublishOptions, Received } from '../harness/media';
import { expect, type Stage, test } from '../support/fixtures';
import { HlsArchive } from '../support/hls-archive';
import { playable } from '../support/live';
import type { Weir } from '../support/weir';

/** How long C has to play without a stall, in seconds. */
const PLAY_S = 30;
/** How long playing that may take at most, with the start, in milliseconds. */
const PLAY_TIMEOUT_MS = 60_000;
const VIDEO = { width: 640, height: 360 };
/** As Chromium names RFC 7714's AEAD_AES_128_GCM. */
const GCM = 'SRTP_AEAD_AES_128_GCM';

/** The encodings that the streaming-backend frontend asks for. */
const THREE_ENCODINGS = [
  { rid: 'r0', maxBitrate: 100_000, scalabilityMode: 'S1T3' },
  { rid: 'r1', maxBitrate: 300_000, scalabilityMode: 'S1T3' },
  { rid: 'r2', maxBitrate: 900_000, scalabilityMode: 'S1T3' },
];

/** What has to come out: sound, pictures, and how many sizes of them. */
interface Kinds {
  video?: boolean;
  audio?: boolean;
  variants?: number;
}

/** One stream with its three sides. */
interface Show {
  publishing: Page;
  watching: Page;
  playing: Page;
  archive: HlsArchive;
}

test('H.264 and Opus', async ({ weir, publisher, audience }) => {
  const show = await start(weir, publisher, audience, { audio: true, video: VIDEO, codec: 'video/H264' });
  await watchOverWebRtc(show.watching, { video: 'video/H264', audio: true });
  await expectGcm(show);
  await finish(show, { video: true, audio: true });
});

test('VP8 and Opus', async ({ weir, publisher, audience }) => {
  const show = await start(weir, publisher, audience, { audio: true, video: VIDEO, codec: 'video/VP8' });
  await watchOverWebRtc(show.watching, { video: 'video/VP8', audio: true });
  await finish(show, { video: true, audio: true });
});

test('VP9 and Opus', async ({ weir, publisher, audience }) => {
  const show = await start(weir, publisher, audience, { audio: true, video: VIDEO, codec: 'video/VP9' });
  await watchOverWebRtc(show.watching, { video: 'video/VP9', audio: true });
  await finish(show, { video: true, audio: true });
});

test('AV1 and Opus, of which HLS has the sound', async ({ weir, publisher, audience }) => {
  const show = await start(weir, publisher, audience, { audio: true, video: VIDEO, codec: 'video/AV1' });
  await watchOverWebRtc(show.watching, { video: 'video/AV1', audio: true });
  await finish(show, { audio: true });
});

test('sound only, and beside it a picture only', async ({ weir, publisher, audience }) => {
  const sound = await start(weir, publisher, audience, { audio: true });
  await watchOverWebRtc(sound.watching, { audio: true });
  const picture = await start(weir, publisher, audience, { video: VIDEO, codec: 'video/H264' });
  await watchOverWebRtc(picture.watching, { video: 'video/H264' });
  await Promise.all([finish(sound, { audio: true }), finish(picture, { video: true })]);
});

test('the three encodings of the streaming-backend frontend', async ({ weir, publisher, audience }) => {
  const video = { width: 1280, height: 720 };
  const show = await start(weir, publisher, audience, { audio: true, video, encodings: THREE_ENCODINGS });
  await expect
    .poll(async () => new Set((await sent(show.publishing)).filter((one) => one.bytesSent > 0).map((one) => one.rid)))
    .toEqual(new Set([undefined, 'r0', 'r1', 'r2']));
  await watchOverWebRtc(show.watching, { video: 'video/H264', audio: true });
  await finish(show, { video: true, audio: true, variants: THREE_ENCODINGS.length });
});

test('a track replaced by a larger one while C plays on', async ({ weir, publisher, audience }) => {
  const options = { audio: true, video: VIDEO, codec: 'video/H264', keepResolution: true };
  const show = await start(weir, publisher, audience, options);
  await expect.poll(async () => (await hls(show.playing)).sizes.at(-1), { timeout: PLAY_TIMEOUT_MS }).toBe('640x360');
  await show.publishing.evaluate(() => window.harness.replaceVideo(1280, 720));
  await expect.poll(async () => (await hls(show.playing)).sizes.at(-1), { timeout: PLAY_TIMEOUT_MS }).toBe('1280x720');
  await expect.poll(async () => (await received(show.watching, 'video'))?.frameWidth).toBe(1280);
  await finish(show, { video: true, audio: true });
});

/** A publishes, B consumes, C opens the master playlist once the server says that it is playable. */
async function start(weir: Weir, publisher: Stage, audience: Stage, options: PublishOptions): Promise<Show> {
  const a = await publisher.join(options);
  const b = await audience.join();
  const master = await playable(weir, a.peerId);
  const archive = new HlsArchive(master);
  archive.follow();
  const playing = await audience.open();
  await playing.evaluate((url) => window.harness.playHls(url), master);
  return { publishing: a.page, watching: b.page, playing, archive };
}

/** B's frames grow and its sound has energy. */
async function watchOverWebRtc(page: Page, expected: { video?: string; audio?: boolean }): Promise<void> {
  if (expected.video) {
    await expect.poll(async () => (await received(page, 'video'))?.framesDecoded ?? 0).toBeGreaterThan(0);
    const before = await received(page, 'video');
    expect(before?.codec).toBe(expected.video);
    const more = (before?.framesDecoded ?? 0) + 30;
    await expect.poll(async () => (await received(page, 'video'))?.framesDecoded ?? 0).toBeGreaterThan(more);
  }
  if (expected.audio) {
    await expect.poll(async () => (await received(page, 'audio'))?.totalAudioEnergy ?? 0).toBeGreaterThan(0);
  }
}

/** C has played for long enough, nothing went wrong, and strangers accept all that was served. */
async function finish(show: Show, kinds: Kinds): Promise<void> {
  const { playing, archive } = show;
  const played = ({ startedAt, currentTime }: HlsReport) => (startedAt === undefined ? 0 : currentTime - startedAt);
  const over = async () => {
    const report = await hls(playing);
    return played(report) > PLAY_S || report.fatal.length > 0 || report.holes.length > 0;
  };
  await expect.poll(over, { timeout: PLAY_TIMEOUT_MS }).toBe(true);
  const report = await hls(playing);
  await archive.stop();
  expect(report).toMatchObject({ fatal: [], errors: [], holes: [] });
  expect(played(report)).toBeGreaterThan(PLAY_S);
  expect(report.framesDecoded > 0).toBe(kinds.video ?? false);
  expect(report.audioDecodedBytes > 0).toBe(kinds.audio ?? false);
  await expectArchive(archive, kinds);
}

async function expectArchive(archive: HlsArchive, kinds: Kinds): Promise<void> {
  expect(archive.complaints).toEqual([]);
  const renditions = [...archive.renditions.values()];
  const variants = archive.masters.at(-1)?.variants ?? [];
  expect(variants.length).toBe(kinds.variants ?? 1);
  expect(renditions.length).toBe((kinds.video ? variants.length : 0) + Number(kinds.audio ?? false));
  const [variant] = variants;
  expect(variant?.bandwidth).toBeGreaterThan(0);
  expect(variant?.codecs).toMatch(kinds.video ? /avc1\./ : /mp4a\./);
  if (kinds.video) {
    expect(variant?.resolution?.width).toBeGreaterThan(0);
    expect(variant?.frameRate).toBeGreaterThan(0);
  }
  for (const { playlists } of renditions) {
    // For hls-parser, the hint to a segment that nothing is there of yet is a segment too.
    const listed = playlists.at(-1)?.segments.filter(({ uri, parts }) => uri || parts.some((part) => !part.hint));
    expect(listed?.length).toBeGreaterThan(0);
    expect(listed?.every((segment) => segment.programDateTime)).toBe(true);
    expect(new Set(playlists.map((playlist) => playlist.targetDuration)).size).toBe(1);
  }
  const probes = await archive.probe();
  expect(probes.map((probe) => probe.complaints).filter((complaint) => complaint !== '')).toEqual([]);
  expect(probes.every((probe) => probe.frames > 0)).toBe(true);
  const codecs = [...(kinds.video ? ['h264'] : []), ...(kinds.audio ? ['aac'] : [])];
  expect([...new Set(probes.map((probe) => probe.codec))].sort()).toEqual(codecs.sort());
}

async function expectGcm(show: Show): Promise<void> {
  expect(new Set((await sent(show.publishing)).map((one) => one.srtpCipher))).toEqual(new Set([GCM]));
  const ciphers = (await show.watching.evaluate(() => window.harness.received())).map((one) => one.srtpCipher);
  expect(new Set(ciphers)).toEqual(new Set([GCM]));
}

function hls(page: Page): Promise<HlsReport> {
  return page.evaluate(() => {
    const report = window.harness.hls();
    if (!report) {
      throw new Error('nothing is being played');
    }
    return report;
  });
}

function sent(page: Page) {
  return page.evaluate(() => window.harness.sent());
}

async function received(page: Page, kind: 'audio' | 'video'): Promise<Received | undefined> {
  const all = await page.evaluate(() => window.harness.received());
  return all.find((one) => one.kind === kind);
}
