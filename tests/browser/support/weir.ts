/**
 * A real weir on free ports, with a data folder of its own.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const REPOSITORY = fileURLToPath(new URL('../../..', import.meta.url));
/** How long weir may take until `/health` answers, in milliseconds. */
const START_TIMEOUT_MS = 20_000;
/** How long weir has to end after SIGTERM, in milliseconds. */
const STOP_TIMEOUT_MS = 5_000;
const POLL_MS = 50;
const LOOPBACK = '127.0.0.1';

/** The binary that is tested. */
export function weirBinary(): string {
  const target = process.env['CARGO_TARGET_DIR'] ?? join(REPOSITORY, 'target');
  const path = process.env['WEIR_BIN'] ?? join(target, 'debug/weir');
  if (!existsSync(path)) {
    throw new Error(`there is no ${path}: build weir first, or name another one with WEIR_BIN`);
  }
  return path;
}

/** Where a server listens; the loopback address where nothing is said. */
export interface Network {
  /** The address of HTTP and Socket.IO. */
  httpIp?: string;
  /** The address of media; `0.0.0.0` stands for all that this machine has. */
  rtcIp?: string;
  /** The address that browsers are told to send media to. */
  announce?: string;
  /** Whether the same is served over TLS, with a certificate that weir made. */
  tls?: boolean;
  /** Further settings, by their environment variables. */
  settings?: Record<string, string>;
}

/** One server; it may be killed and started again on the same ports. */
export class Weir {
  readonly url: string;
  /** The port of media, UDP and TCP. */
  readonly rtcPort: number;
  /** Where the same is with TLS; empty without. */
  readonly httpsUrl: string;
  readonly #network: Network;
  readonly #http: string;
  readonly #dataDir: string;
  #process: ChildProcess | undefined;
  #log = '';

  private constructor(network: Network, ports: { http: number; https: number; rtc: number }, dataDir: string) {
    this.#network = network;
    this.#http = `${network.httpIp ?? LOOPBACK}:${ports.http}`;
    this.rtcPort = ports.rtc;
    this.httpsUrl = network.tls ? `https://${LOOPBACK}:${ports.https}` : '';
    this.#dataDir = dataDir;
    this.url = `http://${this.#http}`;
  }

  static async start(network: Network = {}): Promise<Weir> {
    const dataDir = await mkdtemp(join(tmpdir(), 'weir-browser-'));
    const ports = { http: await freeTcpPort(), https: await freeTcpPort(), rtc: await freeRtcPort() };
    const weir = new Weir(network, ports, dataDir);
    await weir.run();
    return weir;
  }

  /** Everything it wrote so far. */
  get log(): string {
    return this.#log;
  }

  /** Starts the process and waits until it is ready. */
  async run(): Promise<void> {
    const { rtcIp = LOOPBACK, announce } = this.#network;
    const flags = ['serve', '--http', this.#http, '--rtc', `${rtcIp}:${this.rtcPort}`, '--data-dir', this.#dataDir];
    if (this.httpsUrl) {
      flags.push('--https', new URL(this.httpsUrl).host);
    }
    if (announce !== undefined) {
      flags.push('--announce', announce);
    }
    // WEIR_BIN is meant for this file: weir would take it for a misspelt setting.
    const { WEIR_BIN: _, ...env } = process.env;
    Object.assign(env, this.#network.settings);
    const child = spawn(weirBinary(), flags, { cwd: REPOSITORY, env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#process = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => {
        this.#log += chunk.toString();
      });
    }
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (!(await this.#isReady())) {
      if (child.exitCode !== null || Date.now() > deadline) {
        child.kill('SIGKILL');
        throw new Error(`weir did not become ready:\n${this.#log}`);
      }
      await new Promise((wake) => setTimeout(wake, POLL_MS));
    }
  }

  /** The server dies without a word. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** The server is told to end, and says goodbye. */
  async terminate(): Promise<void> {
    await this.#end('SIGTERM');
  }

  /** Sends a signal and lets the process act on it; tells how it ended, and how long that took in milliseconds. */
  async endBy(signal: NodeJS.Signals): Promise<{ code: number | null; tookMs: number }> {
    const child = this.#process;
    if (!child) {
      throw new Error('weir does not run');
    }
    const sentAt = Date.now();
    const ended = child.exitCode === null ? once(child, 'exit') : [child.exitCode];
    child.kill(signal);
    const [code] = await ended;
    return { code, tookMs: Date.now() - sentAt };
  }

  async stop(): Promise<void> {
    await this.terminate();
    await rm(this.#dataDir, { recursive: true, force: true });
  }

  /** All counters, as `/api/stats` gives them. */
  async stats(): Promise<Record<string, unknown>> {
    const response = await fetch(`${this.url}/api/stats`);
    return (await response.json()) as Record<string, unknown>;
  }

  async #isReady(): Promise<boolean> {
    try {
      return (await fetch(`${this.url}/health`)).ok;
    } catch {
      return false;
    }
  }

  async #end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) {
      return;
    }
    const ended = once(child, 'exit');
    child.kill(signal);
    const late = setTimeout(() => {
      this.#log += `\nweir did not end within ${STOP_TIMEOUT_MS} ms of ${signal}\n`;
      child.kill('SIGKILL');
    }, STOP_TIMEOUT_MS);
    await ended;
    clearTimeout(late);
  }
}

async function freeTcpPort(): Promise<number> {
  const server = createServer().listen(0, LOOPBACK);
  await once(server, 'listening');
  const port = portOf(server.address());
  server.close();
  await once(server, 'close');
  return port;
}

/** A port that is free in UDP and in TCP: media may come over both. */
async function freeRtcPort(): Promise<number> {
  const port = await freeTcpPort();
  const socket = createSocket('udp4').bind(port, LOOPBACK);
  const isFree = await once(socket, 'listening').then(
    () => true,
    () => false,
  );
  socket.close();
  return isFree ? port : freeRtcPort();
}

function portOf(address: ReturnType<Server['address']>): number {
  return typeof address === 'object' && address ? address.port : 0;
}
