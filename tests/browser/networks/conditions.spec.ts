/**
 * Freezes and glass to glass latency under loss and on a narrow link. These are figures, not tests: only that pictures
 * arrive at all is asserted.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from '@playwright/test';
import { launchBrowser } from '../support/chromium';
import { HarnessServer } from '../support/harness-server';
import { Weir } from '../support/weir';

const SERVER_IP = '10.77.0.1';
const VIEWER_CHROMIUM = fileURLToPath(new URL('in-viewer.sh', import.meta.url));
/** Time for the bandwidth estimates to settle, and how long is measured, in milliseconds. */
const SETTLE_MS = 10_000;
const MEASURE_MS = 30_000;
const PUBLISH = { audio: true, clock: true, video: { width: 1280, height: 720 } };
const SIMULCAST = [
  { rid: 'r0', maxBitrate: 150_000, scaleResolutionDownBy: 4 },
  { rid: 'r1', maxBitrate: 500_000, scaleResolutionDownBy: 2 },
  { rid: 'r2', maxBitrate: 1_800_000 },
];

const CONDITIONS = [
  { name: 'nothing lost', lossPercent: 0, viewerKbit: 0, encodings: undefined },
  { name: '5 % lost on each hop', lossPercent: 5, viewerKbit: 0, encodings: undefined },
  { name: '10 % lost on each hop', lossPercent: 10, viewerKbit: 0, encodings: undefined },
  { name: 'simulcast over 600 kbit/s', lossPercent: 0, viewerKbit: 600, encodings: SIMULCAST },
];

for (const { name, lossPercent, viewerKbit, encodings } of CONDITIONS) {
  test(name, async () => {
    const harness = await HarnessServer.start(SERVER_IP);
    const weir = await Weir.start({ httpIp: SERVER_IP, rtcIp: '0.0.0.0' });
    const trusted = `--unsafely-treat-insecure-origin-as-secure=${new URL(harness.url).origin}`;
    const publishing = await launchBrowser([trusted]);
    const watching = await launchBrowser([trusted], VIEWER_CHROMIUM);
    setLoss(lossPercent);
    setViewerRate(viewerKbit);
    try {
      const publisher = await publishing.newPage();
      const viewer = await watching.newPage();
      await Promise.all([publisher.goto(harness.url), viewer.goto(harness.url)]);
      const publish = { ...PUBLISH, ...(encodings && { encodings }) };
      await publisher.evaluate(([url, options]) => window.harness.join(url, options), [weir.url, publish] as const);
      await viewer.evaluate((url) => window.harness.join(url), weir.url);
      const video = async () =>
        (await viewer.evaluate(() => window.harness.received())).find((one) => one.kind === 'video');
      await expect.poll(async () => (await video())?.framesDecoded ?? 0, { timeout: 60_000 }).toBeGreaterThan(0);
      await viewer.evaluate(() => window.harness.readClocks());
      await viewer.waitForTimeout(SETTLE_MS);
      const before = await video();
      await viewer.evaluate(() => window.harness.takeLatencies());
      await viewer.waitForTimeout(MEASURE_MS);
      const after = await video();
      const latencies = (await viewer.evaluate(() => window.harness.takeLatencies())).sort((a, b) => a - b);
      const at = (share: number) => latencies[Math.floor(latencies.length * share)];
      const figures = {
        condition: name,
        framesPerSecond: ((after?.framesDecoded ?? 0) - (before?.framesDecoded ?? 0)) / (MEASURE_MS / 1000),
        width: after?.frameWidth,
        freezes: (after?.freezeCount ?? 0) - (before?.freezeCount ?? 0),
        frozenSeconds: (after?.totalFreezesDuration ?? 0) - (before?.totalFreezesDuration ?? 0),
        latencyMs: { p50: at(0.5), p95: at(0.95) },
      };
      process.stdout.write(`${JSON.stringify(figures)}\n`);
      expect(latencies.length).toBeGreaterThan(0);
    } finally {
      setLoss(0);
      setViewerRate(0);
      await publishing.close();
      await watching.close();
      await weir.stop();
      await harness.stop();
    }
  });
}

/** Datagrams are dropped where they arrive: on the way out the sender would see an error. */
function setLoss(percent: number): void {
  for (const namespace of ['weir-server', 'weir-viewer']) {
    const nft = (...words: string[]) => execFileSync('ip', ['netns', 'exec', namespace, 'nft', ...words]);
    nft('add', 'table', 'inet', 'weir_loss');
    nft('delete', 'table', 'inet', 'weir_loss');
    if (percent > 0) {
      nft('add', 'table', 'inet', 'weir_loss');
      nft('add', 'chain', 'inet', 'weir_loss', 'in', '{ type filter hook input priority 0 ; }');
      const rule = `meta l4proto udp numgen random mod 100 < ${percent} drop`;
      nft('add', 'rule', 'inet', 'weir_loss', 'in', ...rule.split(' '));
    }
  }
}

function setViewerRate(kbit: number): void {
  const tc = (...words: string[]) =>
    execFileSync('tc', ['-n', 'weir-server', 'qdisc', ...words, 'dev', 'weir-s', 'root'], { stdio: 'ignore' });
  if (kbit > 0) {
    const limits = ['rate', `${kbit}kbit`, 'burst', '4kb', 'latency', '200ms'];
    execFileSync('tc', ['-n', 'weir-server', 'qdisc', 'replace', 'dev', 'weir-s', 'root', 'tbf', ...limits]);
  } else {
    try {
      tc('del');
    } catch {
      // There was none.
    }
  }
}
