/**
 * Keeps a live stream as close to its end as its player means to be: what was lost to a slow start or a hiccup is won
 * back by playing a little faster. hls.js can do so itself, but stops with a second in front of it, which is more than
 * a low-latency stream is behind.
 */

/** Pitch is kept, and hardly anybody hears this. */
const FASTER = 1.08;
/** How much further behind than wanted playback begins to hurry, and ends to, in seconds. */
const HURRY_BEYOND_S = 0.15;
const HURRY_UNTIL_S = 0.03;
/** Nothing is hurried with less than this in front, in seconds: a part of 200 ms, and time to load the next one. */
const MIN_AHEAD_S = 0.3;
/** Who is further behind than this, in seconds, went back on purpose. */
export const MAX_BEHIND_S = 10;

/** What hls.js is told: after a stall it stays a little further behind; its default of a second would double the latency. */
export const LIVE_EDGE = { liveSyncOnStallIncrease: 0.25 };

/** What hls.js tells about its place, in seconds. */
export interface Place {
  readonly latency: number;
  readonly targetLatency: number | null;
}

/** Follows the element until `signal` is aborted. */
export function keepAtLiveEdge(video: HTMLVideoElement, place: Place, signal?: AbortSignal): void {
  const follow = () => {
    if (place.targetLatency === null) {
      return;
    }
    const behind = place.latency - place.targetLatency;
    const hurries = video.playbackRate === FASTER;
    const late = behind > (hurries ? HURRY_UNTIL_S : HURRY_BEYOND_S) && behind < MAX_BEHIND_S;
    const rate = late && ahead(video) > MIN_AHEAD_S ? FASTER : 1;
    if (hurries !== (rate === FASTER)) {
      video.playbackRate = rate;
    }
  };
  video.addEventListener('timeupdate', follow, { ...(signal && { signal }) });
  signal?.addEventListener('abort', () => {
    video.playbackRate = 1;
  });
}

/** How much can be played without loading more, in seconds. */
function ahead({ buffered, currentTime }: HTMLVideoElement): number {
  for (let index = 0; index < buffered.length; index += 1) {
    if (buffered.start(index) <= currentTime && currentTime <= buffered.end(index)) {
      return buffered.end(index) - currentTime;
    }
  }
  return 0;
}
