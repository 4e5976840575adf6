/**
 * Watches everyone over WebRTC: consumes each producer there is and each that comes, and forgets peers that leave.
 */
import type { types } from 'mediasoup-client';
import { explainMedia } from '../errors';
import { NoAnswerError } from '../signaling/client';
import { Link, type LinkState, type ReadyLink } from './link';

/** How many producers are asked for at the same time. */
const CONSUMED_AT_ONCE = 8;

/** A peer that publishes. */
export interface RemotePeer {
  id: string;
  /** The tracks of its consumers, played together so that they keep in step. */
  stream: MediaStream;
  consumers: Map<types.MediaKind, types.Consumer>;
  paused: Record<types.MediaKind, boolean>;
  /** Why something of this peer cannot be played, if so. */
  problem: string | undefined;
}

/** What the page is told. */
export interface ViewerHooks {
  state(state: LinkState): void;
  /** What this browser and the server can do together; told at each connection. */
  capabilities(device: types.Device): void;
  /** A peer is new or changed. */
  peer(peer: RemotePeer): void;
  gone(peerId: string): void;
  /** Whether a peer is this page's own publisher, which is not played back to its own room. */
  isOwn(peerId: string): boolean;
}

/** The watching side. */
export class Viewer {
  readonly #hooks: ViewerHooks;
  readonly #link: Link;
  readonly #peers = new Map<string, RemotePeer>();
  /** Producers already asked for: the list and the event may both name one. */
  readonly #asked = new Set<string>();
  #ready: ReadyLink | undefined;

  constructor(hooks: ViewerHooks) {
    this.#hooks = hooks;
    this.#link = new Link('recv', {
      listen: (signaling) => {
        signaling.on(
          'newProducer',
          ({ producerSocketId, producerId }) => void this.#consume(producerSocketId, producerId),
        );
        signaling.on('producerChange', ({ peerId, kind, paused }) => this.#setPaused(peerId, kind, paused));
        signaling.on('peerLeft', ({ peerId }) => this.#forget(peerId));
      },
      ready: (link) => this.#consumeAll(link),
      lost: () => this.#lost(),
      state: (state) => hooks.state(state),
    });
  }

  get transport(): types.Transport | undefined {
    return this.#ready?.transport;
  }

  open(): void {
    this.#link.open();
  }

  async #consumeAll(link: ReadyLink): Promise<void> {
    this.#ready = link;
    this.#hooks.capabilities(link.device);
    const { producers } = await link.signaling.producers();
    // Several at once share one round of negotiation; all at once would be more than a server lets one socket ask.
    for (let next = 0; next < producers.length; next += CONSUMED_AT_ONCE) {
      const some = producers.slice(next, next + CONSUMED_AT_ONCE);
      await Promise.all(some.map(({ peerId, producerId }) => this.#consume(peerId, producerId)));
    }
  }

  /** One producer's failure is its peer's: it is shown there and everything else plays on. */
  async #consume(peerId: string, producerId: string): Promise<void> {
    const link = this.#ready;
    if (!link || this.#asked.has(producerId) || this.#hooks.isOwn(peerId)) {
      return;
    }
    this.#asked.add(producerId);
    const peer = this.#peer(peerId);
    try {
      const answer = await link.signaling.consume(producerId, link.device.recvRtpCapabilities);
      const { id, kind, rtpParameters } = answer;
      // Before the next wait: a `producerChange` that comes during it is newer than this answer.
      peer.paused[kind] = answer.producerPaused ?? false;
      const consumer = await link.transport.consume({ id, producerId, kind, rtpParameters, streamId: peerId });
      if (this.#peers.get(peerId) !== peer) {
        consumer.close();
        return;
      }
      this.#add(peer, consumer);
      link.signaling.resumeConsumer(id);
    } catch (error) {
      if (this.#peers.get(peerId) !== peer) {
        return;
      }
      if (error instanceof NoAnswerError) {
        this.#asked.delete(producerId);
      }
      peer.problem = explainMedia(error);
      this.#hooks.peer(peer);
    }
  }

  #add(peer: RemotePeer, consumer: types.Consumer): void {
    const old = peer.consumers.get(consumer.kind);
    if (old) {
      peer.stream.removeTrack(old.track);
      old.close();
    }
    peer.consumers.set(consumer.kind, consumer);
    peer.stream.addTrack(consumer.track);
    this.#hooks.peer(peer);
  }

  #peer(id: string): RemotePeer {
    let peer = this.#peers.get(id);
    if (!peer) {
      const paused = { audio: false, video: false };
      peer = { id, stream: new MediaStream(), consumers: new Map(), paused, problem: undefined };
      this.#peers.set(id, peer);
    }
    return peer;
  }

  #setPaused(peerId: string, kind: types.MediaKind, paused: boolean): void {
    const peer = this.#peers.get(peerId);
    if (peer) {
      peer.paused[kind] = paused;
      this.#hooks.peer(peer);
    }
  }

  #forget(peerId: string): void {
    const peer = this.#peers.get(peerId);
    if (!peer) {
      return;
    }
    this.#peers.delete(peerId);
    for (const consumer of peer.consumers.values()) {
      this.#asked.delete(consumer.producerId);
      consumer.close();
    }
    this.#hooks.gone(peerId);
  }

  #lost(): void {
    this.#ready = undefined;
    for (const peerId of [...this.#peers.keys()]) {
      this.#forget(peerId);
    }
    this.#asked.clear();
  }
}
