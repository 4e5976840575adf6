/**
 * Which peers can be watched over HLS, as the server tells by server-sent events.
 */

/** How long to wait before listening again after the server refused, in milliseconds. */
const RETRY_MS = 2_000;

/** The list, kept current until the page goes away. */
export class LiveList {
  readonly #onChange: (peerIds: ReadonlySet<string>) => void;
  #peers = new Set<string>();

  constructor(onChange: (peerIds: ReadonlySet<string>) => void) {
    this.#onChange = onChange;
  }

  open(): void {
    const source = new EventSource('/api/live-streams');
    source.addEventListener('init', (event) => {
      const { livePeers } = JSON.parse(event.data) as { livePeers: { peerId: string }[] };
      this.#set(livePeers.map((peer) => peer.peerId));
    });
    source.addEventListener('peerLive', (event) => {
      const { peerId } = JSON.parse(event.data) as { peerId: string };
      this.#set([...this.#peers, peerId]);
    });
    source.addEventListener('peerLeft', (event) => {
      const { peerId } = JSON.parse(event.data) as { peerId: string };
      this.#set([...this.#peers].filter((id) => id !== peerId));
    });
    source.addEventListener('error', () => {
      // A broken connection is tried again by the browser; a refusal, such as a proxy's 502, is not.
      if (source.readyState === EventSource.CLOSED) {
        setTimeout(() => this.open(), RETRY_MS);
      }
    });
  }

  #set(peerIds: string[]): void {
    this.#peers = new Set(peerIds);
    this.#onChange(this.#peers);
  }
}

/** Where a peer's master playlist is. */
export function masterPlaylist(peerId: string): string {
  return new URL(`/live/${encodeURIComponent(peerId)}.m3u8`, location.href).href;
}
