/**
 * One Socket.IO connection with typed requests: every answer is awaited for a limited time, and a refusal is an error
 * like any other. It knows no media.
 */
import type { types } from 'mediasoup-client';
import { io, type Socket } from 'socket.io-client';
import type { Answer, ClientEvents, ConsumerAnswer, Refusal, ServerEvents } from './events';

/** How long an answer may take, in milliseconds. */
const ANSWER_TIMEOUT_MS = 10_000;
/** The first and the longest pause between two attempts to connect, in milliseconds. */
const RECONNECT_DELAY_MS = { min: 300, max: 3_000 };

/** The server answered with `{error}`: asking again would get the same answer. */
export class RefusedError extends Error {
  override name = 'RefusedError';
}

/** No answer came in time, or the connection went away while waiting. */
export class NoAnswerError extends Error {
  override name = 'NoAnswerError';
}

/** What the owner of a connection wants to know. */
export interface SignalingHooks {
  connected(): void;
  /** Not (or no longer) connected; another attempt follows by itself. */
  disconnected(): void;
}

/** A connection that comes back by itself until it is closed. */
export class SignalingClient {
  readonly #socket: Socket<ServerEvents, ClientEvents>;
  #closed = false;

  constructor(hooks: SignalingHooks) {
    this.#socket = io({
      forceNew: true,
      autoConnect: false,
      reconnectionDelay: RECONNECT_DELAY_MS.min,
      reconnectionDelayMax: RECONNECT_DELAY_MS.max,
    });
    this.#socket.on('connect', () => hooks.connected());
    this.#socket.on('connect_error', () => {
      hooks.disconnected();
      this.#comeBack(RECONNECT_DELAY_MS.max);
    });
    this.#socket.on('disconnect', () => {
      hooks.disconnected();
      this.#comeBack(RECONNECT_DELAY_MS.min);
    });
  }

  /** Socket.IO tries no more by itself after the server said goodbye or refused, as it does while it restarts or is full. */
  #comeBack(delayMs: number): void {
    if (!this.#socket.active) {
      setTimeout(() => this.connect(), delayMs);
    }
  }

  /** This connection's id, which is the peer's id for everybody else. */
  get id(): string | undefined {
    return this.#socket.id;
  }

  connect(): void {
    if (!this.#closed) {
      this.#socket.connect();
    }
  }

  /** Says goodbye, so that the server drops everything of this peer, and connects again as a new peer. */
  reconnect(): void {
    this.#socket.disconnect();
    this.connect();
  }

  close(): void {
    this.#closed = true;
    this.#socket.disconnect();
  }

  on<E extends keyof ServerEvents>(event: E, listener: ServerEvents[E]): void {
    // Socket.IO's own type cannot follow the generic event name here.
    (this.#socket as unknown as Socket).on(event as string, listener);
  }

  routerRtpCapabilities(): Promise<{ rtpCapabilities: types.RtpCapabilities }> {
    return this.#answer((socket) => socket.emitWithAck('getRouterRtpCapabilities', null));
  }

  createTransport(direction: 'send' | 'recv'): Promise<types.TransportOptions> {
    const request = { isConsumer: direction === 'recv' };
    return this.#answer((socket) => socket.emitWithAck('createWebRtcTransport', request));
  }

  connectTransport(transportId: string, dtlsParameters: types.DtlsParameters): Promise<{ connected: true }> {
    return this.#answer((socket) => socket.emitWithAck('connectTransport', { transportId, dtlsParameters }));
  }

  produce(kind: types.MediaKind, rtpParameters: types.RtpParameters): Promise<{ id: string }> {
    return this.#answer((socket) => socket.emitWithAck('transportProduce', { kind, rtpParameters }));
  }

  consume(remoteProducerId: string, rtpCapabilities: types.RtpCapabilities): Promise<ConsumerAnswer> {
    return this.#answer((socket) => socket.emitWithAck('transportConsume', { rtpCapabilities, remoteProducerId }));
  }

  producers(): Promise<{ producers: { peerId: string; producerId: string }[] }> {
    return this.#answer((socket) => socket.emitWithAck('getProducers'));
  }

  resumeConsumer(consumerId: string): void {
    this.#tell((socket) => socket.emit('resumeConsumer', { consumerId }));
  }

  setProducerPaused(kind: types.MediaKind, paused: boolean): void {
    this.#tell((socket) => socket.emit(paused ? 'pauseProducer' : 'resumeProducer', { kind }));
  }

  /** Socket.IO would keep what is sent while offline and send it to the next server, which knows none of its ids. */
  #tell(send: (socket: Socket<ServerEvents, ClientEvents>) => void): void {
    if (this.#socket.connected) {
      send(this.#socket);
    }
  }

  async #answer<T extends object>(ask: (socket: TimedSocket) => Promise<Answer<T>>): Promise<T> {
    if (!this.#socket.connected) {
      throw new NoAnswerError('not connected to the server');
    }
    let answer: Answer<T>;
    try {
      answer = await ask(this.#socket.timeout(ANSWER_TIMEOUT_MS));
    } catch {
      throw new NoAnswerError('the server did not answer in time');
    }
    if (isRefusal(answer)) {
      throw new RefusedError(answer.error);
    }
    return answer;
  }
}

type TimedSocket = ReturnType<Socket<ServerEvents, ClientEvents>['timeout']>;

function isRefusal(answer: object): answer is Refusal {
  return 'error' in answer && typeof answer.error === 'string';
}
