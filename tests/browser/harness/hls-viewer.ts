/**
 * One HLS viewer: stock hls.js, with its defaults unless told otherwise, and a record of everything that went wrong.
 */
import Hls, { type HlsConfig } from 'hls.js';
import { keepAtLiveEdge, LIVE_EDGE } from '../../../web-demo/src/media/live-edge';
import { Playback, type Played } from './playback';

/** What happened so far. */
export interface HlsReport extends Played {
  /** hls.js errors, fatal or not, as `details`, in order. */
  errors: string[];
  fatal: string[];
  /** How often hls.js saw playback stand still, for want of media or not. */
  stalls: number;
  /** The variants of the master playlist. */
  levels: { width: number; height: number; codecs: string; bitrate: number; frameRate: number }[];
  /** Which of them is loaded. */
  level: number;
  /** How far behind the playlist's end it plays, and how far it means to be, in seconds. */
  latency: number;
  targetLatency: number | undefined;
}

export class HlsViewer {
  readonly #hls: Hls;
  readonly #playback: Playback;
  readonly #errors: string[] = [];
  readonly #fatal: string[] = [];
  #stalls = 0;

  /** `likeDemo` plays as the demo page does. */
  constructor(url: string, config: Partial<HlsConfig> = {}, likeDemo = false) {
    const video = document.createElement('video');
    video.autoplay = true;
    document.body.append(video);
    this.#playback = new Playback(video);
    this.#hls = new Hls({ ...(likeDemo && LIVE_EDGE), ...config });
    if (likeDemo) {
      keepAtLiveEdge(video, this.#hls);
    }
    this.#hls.on(Hls.Events.ERROR, (_event, data) => {
      if (data.details === Hls.ErrorDetails.BUFFER_STALLED_ERROR) {
        this.#stalls += 1;
        if (this.#playback.isDry()) {
          return;
        }
      }
      const text =
        `${data.details}${data.response ? ` ${data.response.code} ${data.url ?? data.frag?.url}` : ''} ${data.reason ?? ''}`.trim();
      this.#errors.push(text);
      if (data.fatal) {
        this.#fatal.push(text);
      }
    });
    this.#hls.loadSource(url);
    this.#hls.attachMedia(video);
  }

  /** Shows one variant from the next segment on; -1 leaves the choice to hls.js. */
  switchTo(level: number): void {
    this.#hls.nextLevel = level;
  }

  report(): HlsReport {
    return {
      ...this.#playback.report(),
      errors: this.#errors,
      fatal: this.#fatal,
      stalls: this.#stalls,
      levels: this.#hls.levels.map((level) => ({
        width: level.width,
        height: level.height,
        codecs: level.codecs ?? '',
        bitrate: level.bitrate,
        frameRate: level.frameRate,
      })),
      level: this.#hls.loadLevel,
      latency: this.#hls.latency,
      targetLatency: this.#hls.targetLatency ?? undefined,
    };
  }
}
