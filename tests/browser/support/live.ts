/**
 * Who is live over HLS.
 */
import { expect } from '@playwright/test';
import type { Weir } from './weir';

/** How long it may take until a peer's stream can be played, in milliseconds. */
const PLAYABLE_TIMEOUT_MS = 30_000;

/** Waits until the list of live streams names the peer; its master playlist has to answer from then on. */
export async function playable(weir: Weir, peerId: string): Promise<string> {
  await expect.poll(() => livePeers(weir), { timeout: PLAYABLE_TIMEOUT_MS }).toContain(peerId);
  return `${weir.httpsUrl || weir.url}/live/${peerId}.m3u8`;
}

/** The peers of the first event of `/api/live-streams`. */
async function livePeers(weir: Weir): Promise<string[]> {
  const stop = new AbortController();
  const response = await fetch(`${weir.url}/api/live-streams`, { signal: stop.signal });
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
    text += part.value;
    const data = /^event: ?init\n(?:.*\n)*?data: ?(.*)\n\n/m.exec(text)?.[1];
    if (data !== undefined) {
      stop.abort();
      return (JSON.parse(data) as { livePeers: { peerId: string }[] }).livePeers.map((peer) => peer.peerId);
    }
  }
  throw new Error(`no init event in ${text}`);
}
