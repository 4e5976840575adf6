/**
 * One peer at the server: a signalling connection, a loaded device and one transport. It comes back by itself, as a
 * new peer, after a server restart or a broken media path; what to send or receive is its owner's matter.
 */
import { Device, type types } from 'mediasoup-client';
import { explainMedia, isPermanent } from '../errors';
import { SignalingClient } from '../signaling/client';

/** Pauses between attempts to set a link up again, in milliseconds; the last one repeats. */
const RETRY_DELAYS_MS = [500, 1_000, 2_000, 4_000];

/** A link that is ready for media. */
export interface ReadyLink {
  peerId: string;
  signaling: SignalingClient;
  device: Device;
  transport: types.Transport;
}

/** How a link is doing. */
export type LinkState =
  | { phase: 'connecting' }
  | { phase: 'ready' }
  /** Trying again by itself; `reason` says why. */
  | { phase: 'retrying'; reason: string }
  /** Given up: the same attempt would fail again. */
  | { phase: 'failed'; reason: string };

/** What a link's owner provides. */
export interface LinkHooks {
  /** Called before the first connection, to listen for the server's events. */
  listen(signaling: SignalingClient): void;
  /** Called each time the link is ready; a failure in it counts as the link's. */
  ready(link: ReadyLink): Promise<void>;
  /** Called when what was ready is gone: producers and consumers are closed. */
  lost(): void;
  state(state: LinkState): void;
}

/** A peer's connection in one direction. */
export class Link {
  readonly #direction: 'send' | 'recv';
  readonly #hooks: LinkHooks;
  readonly #signaling: SignalingClient;
  #transport: types.Transport | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;
  /** Counts attempts, so that answers to an earlier one are recognised and dropped. */
  #attempt = 0;
  #closed = false;

  constructor(direction: 'send' | 'recv', hooks: LinkHooks) {
    this.#direction = direction;
    this.#hooks = hooks;
    this.#signaling = new SignalingClient({
      connected: () => void this.#establish(),
      disconnected: () => this.#disconnected(),
    });
    hooks.listen(this.#signaling);
  }

  open(): void {
    this.#hooks.state({ phase: 'connecting' });
    this.#signaling.connect();
  }

  close(): void {
    this.#closed = true;
    this.#drop();
    this.#signaling.close();
  }

  async #establish(): Promise<void> {
    this.#drop();
    const attempt = this.#attempt;
    try {
      const { rtpCapabilities } = await this.#signaling.routerRtpCapabilities();
      const device = await Device.factory();
      await device.load({ routerRtpCapabilities: rtpCapabilities });
      const options = await this.#signaling.createTransport(this.#direction);
      if (attempt !== this.#attempt) {
        return;
      }
      const transport =
        this.#direction === 'send' ? device.createSendTransport(options) : device.createRecvTransport(options);
      this.#transport = transport;
      this.#wire(transport, attempt);
      await this.#hooks.ready({ peerId: this.#signaling.id ?? '', signaling: this.#signaling, device, transport });
      if (attempt === this.#attempt) {
        this.#failures = 0;
        this.#hooks.state({ phase: 'ready' });
      }
    } catch (error) {
      if (attempt === this.#attempt) {
        this.#failed(error);
      }
    }
  }

  #wire(transport: types.Transport, attempt: number): void {
    const signaling = this.#signaling;
    transport.on('connect', ({ dtlsParameters }, done, failed) => {
      signaling.connectTransport(transport.id, dtlsParameters).then(() => done(), failed);
    });
    transport.on('produce', ({ kind, rtpParameters }, done, failed) => {
      signaling.produce(kind, rtpParameters).then(done, failed);
    });
    transport.on('connectionstatechange', (state) => {
      if (state === 'failed' && attempt === this.#attempt) {
        this.#again('No media gets through to the server: its UDP port may be blocked on the way');
      }
    });
  }

  #disconnected(): void {
    this.#drop();
    if (!this.#closed) {
      // The signalling connection tries again by itself.
      clearTimeout(this.#retry);
      this.#hooks.state({ phase: 'retrying', reason: 'The server cannot be reached' });
    }
  }

  #failed(error: unknown): void {
    if (isPermanent(error)) {
      this.#drop();
      this.#hooks.state({ phase: 'failed', reason: explainMedia(error) });
    } else {
      this.#again(explainMedia(error).replace(/\.$/, ''));
    }
  }

  #again(reason: string): void {
    this.#drop();
    this.#hooks.state({ phase: 'retrying', reason });
    const delay = RETRY_DELAYS_MS[Math.min(this.#failures, RETRY_DELAYS_MS.length - 1)] ?? 0;
    this.#failures += 1;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#signaling.reconnect(), delay);
  }

  #drop(): void {
    this.#attempt += 1;
    clearTimeout(this.#retry);
    if (this.#transport) {
      this.#transport.close();
      this.#transport = undefined;
      this.#hooks.lost();
    }
  }
}
