/**
 * Plays one HLS stream in a video element: hls.js wherever it runs, the browser's own player elsewhere.
 */
import type Hls from 'hls.js';
import type { ErrorData } from 'hls.js';
import { messageOf } from '../errors';
import { keepAtLiveEdge, LIVE_EDGE } from './live-edge';

/**
 * Loaded with the page, though not every viewer needs it: the server may be away when one does, and a browser that could
 * not load a module once may refuse to try again as long as the page is there.
 */
const hlsJs = import('hls.js');

/** Pauses before trying again after the network failed, in milliseconds; the last one repeats. */
const RETRY_DELAYS_MS = [500, 1_000, 2_000, 4_000];
/** How many media errors in a row are repaired before giving up. */
const MAX_MEDIA_REPAIRS = 3;
/** How many segments of each kind the bitrate is averaged over. */
const BITRATE_SEGMENTS = 4;
/** A latency beyond this, in seconds, means that the clocks differ, not that the stream is late. */
const MAX_PLAUSIBLE_LATENCY_S = 120;

/** How playback is doing; `undefined` text means well. */
export type HlsStatus = (problem: string | undefined) => void;

/** What was measured. */
export interface HlsMeasurement {
  codecs: string[];
  /** bit/s of the segments last loaded. */
  bitrate: number | undefined;
  latencyMs: number | undefined;
  /** How `latencyMs` was measured, in words. */
  latencyMethod: string;
}

interface LoadedSegment {
  bytes: number;
  seconds: number;
}

/** One stream being played. */
export class HlsPlayer {
  readonly #video: HTMLVideoElement;
  readonly #url: string;
  readonly #status: HlsStatus;
  readonly #segments = new Map<string, LoadedSegment[]>();
  #hls: Hls | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;
  #repairs = 0;
  readonly #stopped = new AbortController();

  constructor(video: HTMLVideoElement, url: string, status: HlsStatus) {
    this.#video = video;
    this.#url = url;
    this.#status = status;
    this.#start().catch((error: unknown) => {
      status(`The player could not be loaded, please reload the page: ${messageOf(error)}.`);
    });
  }

  destroy(): void {
    this.#stopped.abort();
    clearTimeout(this.#retry);
    this.#hls?.destroy();
    this.#hls = undefined;
    this.#video.removeAttribute('src');
    this.#video.load();
  }

  measure(): HlsMeasurement {
    return { codecs: this.#codecs(), bitrate: this.#bitrate(), ...this.#latency() };
  }

  /** What can be played, in the element's seconds, from the oldest segment to where a live viewer is. */
  playable(): { start: number; live: number } | undefined {
    const hls = this.#hls;
    if (!hls) {
      const { seekable } = this.#video;
      return seekable.length === 0 ? undefined : { start: seekable.start(0), live: seekable.end(seekable.length - 1) };
    }
    const start = hls.levels[hls.currentLevel]?.details?.fragments[0]?.start;
    const live = hls.liveSyncPosition;
    return start === undefined || live === null ? undefined : { start, live };
  }

  async #start(): Promise<void> {
    const { default: HlsJs } = await hlsJs;
    if (this.#stopped.signal.aborted) {
      return;
    }
    // Asked first: Chromium says "maybe" to HLS of its own even where it plays it worse than hls.js does.
    if (HlsJs.isSupported()) {
      this.#attach(HlsJs);
    } else if (this.#video.canPlayType('application/vnd.apple.mpegurl') !== '') {
      this.#video.src = this.#url;
      this.#video.onerror = () => this.#status('This stream cannot be played: the browser gave up on it.');
    } else {
      this.#status('This browser plays no HLS: it has neither Media Source Extensions nor a player of its own.');
    }
  }

  #attach(HlsJs: typeof Hls): void {
    const hls = new HlsJs(LIVE_EDGE);
    this.#hls = hls;
    keepAtLiveEdge(this.#video, hls, this.#stopped.signal);
    hls.on(HlsJs.Events.FRAG_BUFFERED, (_event, { frag, stats }) => {
      this.#failures = 0;
      this.#repairs = 0;
      this.#status(undefined);
      if (typeof frag.sn === 'number' && frag.duration > 0) {
        const list = this.#segments.get(frag.type) ?? [];
        list.push({ bytes: stats.total, seconds: frag.duration });
        this.#segments.set(frag.type, list.slice(-BITRATE_SEGMENTS));
      }
    });
    hls.on(HlsJs.Events.ERROR, (_event, data) => this.#failed(hls, data, HlsJs.ErrorTypes));
    hls.loadSource(this.#url);
    hls.attachMedia(this.#video);
  }

  #failed(hls: Hls, data: ErrorData, types: typeof Hls.ErrorTypes): void {
    if (!data.fatal) {
      return;
    }
    if (data.type === types.NETWORK_ERROR) {
      const gone = data.response?.code === 404;
      this.#status(
        gone ? 'The stream is not there (any more). Trying again.' : 'The stream cannot be loaded. Trying again.',
      );
      const delay = RETRY_DELAYS_MS[Math.min(this.#failures, RETRY_DELAYS_MS.length - 1)] ?? 0;
      this.#failures += 1;
      this.#retry = setTimeout(() => hls.loadSource(this.#url), delay);
    } else if (data.type === types.MEDIA_ERROR && this.#repairs < MAX_MEDIA_REPAIRS) {
      this.#repairs += 1;
      hls.recoverMediaError();
    } else {
      this.#status(`This stream cannot be played: ${data.details} (${messageOf(data.error)}).`);
    }
  }

  #codecs(): string[] {
    const hls = this.#hls;
    const level = hls?.levels[Math.max(0, hls.currentLevel)];
    return [level?.videoCodec, level?.audioCodec].filter((codec) => codec !== undefined).map(hlsCodecName);
  }

  #bitrate(): number | undefined {
    let total: number | undefined;
    for (const segments of this.#segments.values()) {
      const bytes = segments.reduce((sum, segment) => sum + segment.bytes, 0);
      const seconds = segments.reduce((sum, segment) => sum + segment.seconds, 0);
      total = (total ?? 0) + (8 * bytes) / seconds;
    }
    return total;
  }

  #latency(): { latencyMs: number | undefined; latencyMethod: string } {
    const playing = this.#hls?.playingDate?.getTime();
    if (playing !== undefined) {
      const latencyMs = Date.now() - playing;
      if (latencyMs >= 0 && latencyMs < MAX_PLAUSIBLE_LATENCY_S * 1_000) {
        return {
          latencyMs,
          latencyMethod: 'server to here, by program date-time',
        };
      }
    }
    const behind = this.#hls?.latency;
    const latencyMs = behind !== undefined && behind > 0 ? behind * 1_000 : undefined;
    return { latencyMs, latencyMethod: "behind the playlist's end, by hls.js" };
  }
}

function hlsCodecName(codec: string): string {
  if (codec.startsWith('avc1')) {
    return 'H.264';
  }
  if (codec.startsWith('mp4a')) {
    return 'AAC';
  }
  return codec;
}
