/**
 * A program without a browser as a peer of a room (docs/wire/broadcasters.md), and the processes that speak for it.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { promisify } from 'node:util';

export const TOKEN = 'open-sesame-and-let-me-in';

/** The answer to a request for a plain transport. */
export interface PlainTransport {
  id: string;
  ip: string;
  port: number;
  rtcpPort?: number;
}

export interface Consumer {
  id: string;
  kind: string;
  rtpParameters: { codecs: { mimeType: string; payloadType: number }[] };
}

/** What others in the room publish. */
export interface Others {
  peers: { id: string; producers: { id: string; kind: string }[] }[];
}

export class Broadcaster {
  readonly #base: string;

  private constructor(base: string) {
    this.#base = base;
  }

  static async start(server: string, room: string, id: string): Promise<Broadcaster> {
    const rtpCapabilities = await request('GET', `${server}/rooms/${room}`);
    const about = { id, displayName: id, device: { name: 'a program' }, rtpCapabilities };
    await request('POST', `${server}/rooms/${room}/broadcasters`, about);
    return new Broadcaster(`${server}/rooms/${room}/broadcasters/${id}`);
  }

  async createTransport(options: Record<string, unknown>): Promise<PlainTransport> {
    return (await request('POST', `${this.#base}/transports`, { type: 'plain', ...options })) as PlainTransport;
  }

  async connect({ id }: PlainTransport, port: number): Promise<void> {
    await request('POST', `${this.#base}/transports/${id}/plain-connect`, { ip: '127.0.0.1', port });
  }

  async produce({ id }: PlainTransport, kind: string, codec: object, ssrc: number): Promise<void> {
    const rtpParameters = { codecs: [codec], encodings: [{ ssrc }] };
    await request('POST', `${this.#base}/transports/${id}/producers`, { kind, rtpParameters });
  }

  async consume({ id }: PlainTransport, producerId: string): Promise<Consumer> {
    return (await request('POST', `${this.#base}/transports/${id}/consume?producerId=${producerId}`)) as Consumer;
  }

  /** Leaves the room. */
  async leave(): Promise<void> {
    await request('DELETE', this.#base);
  }

  async others(): Promise<Others> {
    return (await request('GET', this.#base)) as Others;
  }
}

async function request(method: string, url: string, body?: object): Promise<unknown> {
  const headers = { authorization: `Bearer ${TOKEN}` };
  const response = await fetch(url, { method, headers, ...(body && { body: JSON.stringify(body) }) });
  if (!response.ok) {
    throw new Error(`${method} ${url}: ${response.status} ${await response.text()}`);
  }
  return response.json();
}

/** A running program. What it says is kept for the error message. */
export class Program {
  readonly #process: ChildProcess;
  readonly #name: string;
  #said = '';

  constructor(name: string, args: string[]) {
    this.#name = name;
    this.#process = spawn(name, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        this.#said += chunk.toString();
      });
    }
  }

  get said(): string {
    return this.#said;
  }

  /** Ends it as Ctrl-C does, and waits until it has finished its work. */
  async interrupt(): Promise<void> {
    if (this.#process.exitCode !== null) {
      throw new Error(`${this.#name} ended by itself:\n${this.#said}`);
    }
    const ended = once(this.#process, 'exit');
    this.#process.kill('SIGINT');
    await ended;
  }
}

/** What ffprobe finds in a file, of each stream. */
export async function probe(path: string): Promise<Record<string, unknown>[]> {
  const flags = ['-v', 'error', '-count_frames', '-show_streams', '-of', 'json'];
  const { stdout } = await promisify(execFile)('ffprobe', [...flags, path]);
  return JSON.parse(stdout).streams;
}

/** A UDP port of the loopback interface that nobody has. */
export async function freeUdpPort(): Promise<number> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  return port;
}
