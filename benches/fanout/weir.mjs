// Measures weir's fan-out: one publisher, N subscribers, everything set up by weir's own Socket.IO signalling with the
// stock client, media by a load client that is neutral to the server (see README.md). Prints one JSON line.

import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const { io } = createRequire(join(root, 'web-demo/package.json'))('socket.io-client');

const env = process.env;
const settings = {
  subscribers: Number(env.N ?? 200),
  suite: env.SUITE ?? 'AEAD_AES_128_GCM',
  duration: Number(env.DUR ?? 8),
  warmup: Number(env.WARM ?? 3),
  packetsPerFrame: Number(env.PKTS ?? 9),
  framesPerSecond: Number(env.FPS ?? 30),
  serverCore: Number(env.SFU_CORE ?? 0),
  loadCore: env.LOAD_CORE ?? '1',
  binary: env.WEIR ?? join(env.CARGO_TARGET_DIR ?? join(root, 'target'), 'release/weir'),
  load: env.SFULOAD,
  http: env.HTTP ?? '127.0.0.1:4471',
  rtc: env.RTC ?? '127.0.0.1:44710',
};
const SRTP_NAMES = {
  AEAD_AES_128_GCM: 'SRTP_AEAD_AES_128_GCM',
  AES_CM_128_HMAC_SHA1_80: 'SRTP_AES128_CM_SHA1_80',
};
const READY_TIMEOUT_MS = 10_000;
const PAYLOAD_TYPE = 96;
const SSRC = 1111;

if (!settings.load) throw new Error('SFULOAD has to name the load client');
const scratch = mkdtempSync(join(tmpdir(), 'weir-fanout-'));
const cert = join(scratch, 'cert.pem');
const key = join(scratch, 'key.pem');
const ecdsa = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];
const request = ['req', '-x509', ...ecdsa, '-nodes', '-days', '2', '-subj', '/CN=load', '-keyout', key, '-out', cert];
execFileSync('openssl', request, { stdio: 'ignore' });
const printed = execFileSync('openssl', ['x509', '-in', cert, '-noout', '-fingerprint', '-sha256']);
const dtlsParameters = {
  role: 'client',
  fingerprints: [{ algorithm: 'sha-256', value: printed.toString().trim().split('=')[1] }],
};

const server = spawn(
  'taskset',
  ['-c', String(settings.serverCore), settings.binary, 'serve', '--http', settings.http, '--rtc', settings.rtc],
  {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...env, WEIR_DATA_DIR: scratch, WEIR_HLS_ENABLED: 'false', WEIR_LOG: env.WEIR_LOG ?? 'error' },
  },
);

try {
  await ready();
  console.log(JSON.stringify(await measure()));
} finally {
  server.kill('SIGTERM');
  rmSync(scratch, { recursive: true, force: true });
}
process.exit(0);

async function ready() {
  const deadline = Date.now() + READY_TIMEOUT_MS;
  while (Date.now() < deadline) {
    if (server.exitCode !== null) throw new Error(`weir ended with ${server.exitCode}`);
    const answer = await fetch(`http://${settings.http}/health`).catch(() => undefined);
    if (answer?.ok) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error('weir did not get ready');
}

async function measure() {
  const publisher = await connect();
  const sending = await transport(publisher, false);
  const { id: remoteProducerId } = await call(publisher, 'transportProduce', {
    kind: 'video',
    rtpParameters: {
      mid: '0',
      codecs: [{ mimeType: 'video/VP8', payloadType: PAYLOAD_TYPE, clockRate: 90000, parameters: {}, rtcpFeedback: [] }],
      headerExtensions: [],
      encodings: [{ ssrc: SSRC }],
      rtcp: { cname: 'load' },
    },
  });
  const memoryBefore = resident();
  const receiving = [];
  for (let index = 0; index < settings.subscribers; index += 1) {
    const subscriber = await connect();
    const { rtpCapabilities } = await call(subscriber, 'getRouterRtpCapabilities', null);
    receiving.push(await transport(subscriber, true));
    const consumer = await call(subscriber, 'transportConsume', { rtpCapabilities, remoteProducerId });
    await call(subscriber, 'resumeConsumer', { consumerId: consumer.id });
  }
  const result = await load([sending], receiving);
  const memory = Math.round(((result.rss_kb - memoryBefore) / settings.subscribers) * 10) / 10;
  return { ...result, rss_base_kb: memoryBefore, rss_per_sub_kb: memory };
}

async function connect() {
  const socket = io(`http://${settings.http}`, { transports: ['websocket'], forceNew: true, reconnection: false });
  await new Promise((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('connect_error', reject);
  });
  return socket;
}

async function call(socket, event, argument) {
  const answer = await socket.timeout(READY_TIMEOUT_MS).emitWithAck(event, argument);
  if (answer?.error) throw new Error(`${event}: ${answer.error}`);
  return answer;
}

/** Makes a transport and gives it as the load client wants it. */
async function transport(socket, isConsumer) {
  const made = await call(socket, 'createWebRtcTransport', { isConsumer });
  await call(socket, 'connectTransport', { transportId: made.id, dtlsParameters });
  const { usernameFragment: ufrag, password: pwd } = made.iceParameters;
  const { ip, port } = made.iceCandidates[0];
  return { kind: 'webrtc', remote: `${ip}:${port}`, ufrag, pwd };
}

async function load(publishers, subscribers) {
  const job = {
    label: `weir ${settings.suite}`,
    cert,
    key,
    srtp_profile: SRTP_NAMES[settings.suite],
    publishers,
    subscribers,
    pt: PAYLOAD_TYPE,
    ssrc: SSRC,
    duration: settings.duration,
    warmup: settings.warmup,
    pids: [server.pid],
    sfu_core: settings.serverCore,
    pkts_per_frame: settings.packetsPerFrame,
    fps: settings.framesPerSecond,
  };
  const client = spawn('taskset', ['-c', settings.loadCore, settings.load, '-'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  client.stdin.end(`${JSON.stringify(job)}\n`);
  let output = '';
  client.stdout.on('data', (chunk) => {
    output += chunk;
  });
  const code = await new Promise((resolve) => client.on('close', resolve));
  if (code !== 0) throw new Error(`the load client ended with ${code}`);
  return JSON.parse(output);
}

/** The server's resident memory in KiB. */
function resident() {
  return Number(readFileSync(`/proc/${server.pid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/)[1]);
}
