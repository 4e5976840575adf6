/**
 * Everybody who is live: one card per peer, whichever of WebRTC and HLS knows it.
 */

import type { types } from 'mediasoup-client';
import { LiveList } from '../live-list';
import type { LinkState } from '../media/link';
import { Viewer } from '../media/viewer';
import { byId, setNotice, setPill } from './dom';
import { PeerCard } from './peer-card';

/** How often figures are read, in milliseconds. */
const MEASURE_MS = 1_000;

/** What the panel needs from the rest of the page. */
export interface WatchHooks {
  /** Whether a peer is this page's own stream, which is not shown among the others. */
  isOwn(peerId: string): boolean;
  capabilities(device: types.Device): void;
}

/** The watching half of the page. */
export class WatchPanel {
  readonly #hooks: WatchHooks;
  readonly #cards = new Map<string, PeerCard>();
  readonly #grid = byId('watch-grid');
  readonly #viewer: Viewer;
  readonly #live = new LiveList((peerIds) => this.#setLive(peerIds));
  #connected = false;
  #livePeers: ReadonlySet<string> = new Set();

  constructor(hooks: WatchHooks) {
    this.#hooks = hooks;
    this.#viewer = new Viewer({
      state: (state) => {
        showState(state);
        this.#connected = state.phase === 'ready';
        this.#renderCount();
      },
      capabilities: (device) => hooks.capabilities(device),
      peer: (peer) => this.#card(peer.id).setPeer(peer),
      gone: (peerId) => this.#gone(peerId),
      isOwn: (peerId) => hooks.isOwn(peerId),
    });
  }

  open(): void {
    this.#viewer.open();
    this.#live.open();
    setInterval(() => this.#measure(), MEASURE_MS);
    this.#renderCount();
  }

  /** The page's own stream began or ended under some id. */
  ownPeerChanged(): void {
    this.#setLive(this.#livePeers);
  }

  #setLive(peerIds: ReadonlySet<string>): void {
    this.#livePeers = peerIds;
    for (const peerId of peerIds) {
      if (!this.#hooks.isOwn(peerId)) {
        this.#card(peerId).setHlsLive(true);
      }
    }
    for (const [peerId, card] of this.#cards) {
      if (!peerIds.has(peerId)) {
        card.setHlsLive(false);
      }
      this.#dropIfOver(peerId, card);
    }
  }

  #gone(peerId: string): void {
    const card = this.#cards.get(peerId);
    if (card) {
      card.setPeer(undefined);
      this.#dropIfOver(peerId, card);
    }
  }

  #dropIfOver(peerId: string, card: PeerCard): void {
    if (!card.watchable || this.#hooks.isOwn(peerId)) {
      card.remove();
      this.#cards.delete(peerId);
      this.#renderCount();
    }
  }

  #card(peerId: string): PeerCard {
    let card = this.#cards.get(peerId);
    if (!card) {
      card = new PeerCard(peerId);
      card.setHlsLive(this.#livePeers.has(peerId));
      this.#cards.set(peerId, card);
      this.#grid.append(card.element);
      this.#renderCount();
    }
    return card;
  }

  #renderCount(): void {
    const count = this.#cards.size;
    // Nobody is known to be there only when the server says so.
    byId('watch-empty').hidden = count > 0 || !this.#connected;
    byId('watch-count').textContent = count === 0 ? '' : `${count} ${count === 1 ? 'stream' : 'streams'}`;
  }

  #measure(): void {
    for (const card of this.#cards.values()) {
      void card.measure();
    }
  }
}

function showState(state: LinkState): void {
  const pill = byId('server-state');
  const notice = byId('watch-notice');
  switch (state.phase) {
    case 'connecting':
      setPill(pill, 'busy', 'Connecting…');
      break;
    case 'ready':
      setPill(pill, 'good', 'Connected');
      setNotice(notice, undefined);
      break;
    case 'retrying':
      setPill(pill, 'bad', 'Reconnecting…');
      setNotice(notice, `${state.reason}. Trying again.`);
      break;
    case 'failed':
      setPill(pill, 'bad', 'Not connected');
      setNotice(notice, `${state.reason} Streams over HLS may still play.`);
      break;
  }
}
