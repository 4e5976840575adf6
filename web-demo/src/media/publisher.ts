/**
 * Sends one capture to the server and keeps it there: after a restart the same tracks are produced again. A publisher
 * has a connection of its own, so that stopping is a goodbye that removes everything of it at the server.
 */
import type { types } from 'mediasoup-client';
import { UnsupportedError } from '../errors';
import { codecName, encodingsFor, findCodec, sharedVideoCodecs, type VideoChoice } from './codecs';
import { Link, type LinkState, type ReadyLink } from './link';

/** How publishing is doing. */
export type PublishState = LinkState | { phase: 'idle' };

/** The tracks to send. */
export interface Tracks {
  audio: MediaStreamTrack | undefined;
  video: MediaStreamTrack | undefined;
}

/** One person's stream on its way to the server. */
export class Publisher {
  readonly #onState: (state: PublishState) => void;
  readonly #paused: Record<types.MediaKind, boolean> = { audio: false, video: false };
  readonly #producers = new Map<types.MediaKind, types.Producer>();
  #tracks: Tracks = { audio: undefined, video: undefined };
  #choice: VideoChoice | undefined;
  #link: Link | undefined;
  #ready: ReadyLink | undefined;
  /** Every id this page has published under, so that what is still around of an earlier one is recognised. */
  readonly #peerIds = new Set<string>();

  constructor(onState: (state: PublishState) => void) {
    this.#onState = onState;
  }

  /** The id that others know this stream by, while it is live. */
  get peerId(): string | undefined {
    return this.#ready?.peerId;
  }

  /** Whether this page publishes, or has published, under an id. */
  isOwn(peerId: string): boolean {
    return this.#peerIds.has(peerId);
  }

  get transport(): types.Transport | undefined {
    return this.#ready?.transport;
  }

  /** Starts to send. The first attempt failing for good, like any later one, is told through the state. */
  start(tracks: Tracks, choice: VideoChoice): void {
    this.#link?.close();
    this.#tracks = { ...tracks };
    this.#choice = choice;
    this.#paused.audio = false;
    this.#paused.video = false;
    this.#link = new Link('send', {
      listen: () => {},
      ready: (link) => this.#produce(link),
      lost: () => {
        this.#producers.clear();
        this.#ready = undefined;
      },
      state: (state) => this.#onState(state),
    });
    this.#link.open();
  }

  stop(): void {
    this.#link?.close();
    this.#link = undefined;
    this.#onState({ phase: 'idle' });
  }

  isPaused(kind: types.MediaKind): boolean {
    return this.#paused[kind];
  }

  /** Pauses or resumes one kind, here and at the server, which tells the viewers. */
  setPaused(kind: types.MediaKind, paused: boolean): void {
    this.#paused[kind] = paused;
    const producer = this.#producers.get(kind);
    if (producer) {
      this.#applyPause(producer);
    }
  }

  /** Sends another track of the same kind from now on; viewers see no interruption. */
  async replaceTrack(kind: types.MediaKind, track: MediaStreamTrack): Promise<void> {
    this.#tracks[kind] = track;
    await this.#producers.get(kind)?.replaceTrack({ track });
  }

  /** Whether this kind is being sent. */
  isSending(kind: types.MediaKind): boolean {
    return this.#producers.has(kind);
  }

  async #produce(link: ReadyLink): Promise<void> {
    this.#ready = link;
    this.#peerIds.add(link.peerId);
    const { audio, video } = this.#tracks;
    if (audio) {
      await this.#produceOne(link, { track: audio });
    }
    if (video && this.#choice) {
      const choice = this.#choice;
      const codec = findCodec(link.device.sendRtpCapabilities, choice.mimeType);
      if (!codec) {
        const shared = sharedVideoCodecs(link.device.sendRtpCapabilities).map(codecName).join(', ') || 'none';
        throw new UnsupportedError(`${codecName(choice.mimeType)} is not shared with the server (shared: ${shared})`);
      }
      await this.#produceOne(link, {
        track: video,
        codec,
        encodings: encodingsFor(choice),
        codecOptions: { videoGoogleStartBitrate: 1000 },
      });
    }
  }

  async #produceOne(link: ReadyLink, options: types.ProducerOptions & { track: MediaStreamTrack }): Promise<void> {
    // The tracks outlive their producers: they are produced again after a restart, and shown in the preview.
    const producer = await link.transport.produce({ ...options, stopTracks: false });
    this.#producers.set(producer.kind, producer);
    if (this.#paused[producer.kind]) {
      this.#applyPause(producer);
    }
  }

  #applyPause(producer: types.Producer): void {
    const paused = this.#paused[producer.kind];
    if (paused) {
      producer.pause();
    } else {
      producer.resume();
    }
    this.#ready?.signaling.setProducerPaused(producer.kind, paused);
  }
}
