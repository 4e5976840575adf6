/**
 * One HLS viewer: stock hls.js with its defaults, and a record of everything that went wrong.
 */
import Hls from 'hls.js';

/** What happened so far. */
export interface HlsReport {
  currentTime: number;
  /** Where playback began. */
  startedAt: number | undefined;
  paused: boolean;
  /** hls.js errors, fatal or not, as `details`, in order. */
  errors: string[];
  fatal: string[];
  /** Times that the element ran dry after it had begun to play. */
  waits: number;
  /** Every picture size seen, such as `640x360`, in order, without repeats in a row. */
  sizes: string[];
  framesDecoded: number;
  audioDecodedBytes: number;
  /** The variants of the master playlist. */
  levels: { width: number; height: number; codecs: string; bitrate: number; frameRate: number }[];
  latency: number;
}

export class HlsViewer {
  readonly #hls = new Hls();
  readonly #video = document.createElement('video');
  readonly #errors: string[] = [];
  readonly #fatal: string[] = [];
  readonly #sizes: string[] = [];
  #startedAt: number | undefined;
  #waits = 0;

  constructor(url: string) {
    this.#video.autoplay = true;
    document.body.append(this.#video);
    this.#video.addEventListener('playing', () => {
      this.#startedAt ??= this.#video.currentTime;
    });
    this.#video.addEventListener('waiting', () => {
      if (this.#startedAt !== undefined) {
        this.#waits += 1;
      }
    });
    this.#video.addEventListener('resize', () => {
      const size = `${this.#video.videoWidth}x${this.#video.videoHeight}`;
      if (this.#sizes.at(-1) !== size) {
        this.#sizes.push(size);
      }
    });
    this.#hls.on(Hls.Events.ERROR, (_event, data) => {
      const text =
        `${data.details}${data.response ? ` ${data.response.code} ${data.url ?? data.frag?.url}` : ''} ${data.reason ?? ''}`.trim();
      this.#errors.push(text);
      if (data.fatal) {
        this.#fatal.push(text);
      }
    });
    this.#hls.loadSource(url);
    this.#hls.attachMedia(this.#video);
  }

  report(): HlsReport {
    const counted = this.#video as HTMLVideoElement & { webkitAudioDecodedByteCount?: number };
    return {
      currentTime: this.#video.currentTime,
      startedAt: this.#startedAt,
      paused: this.#video.paused,
      errors: this.#errors,
      fatal: this.#fatal,
      waits: this.#waits,
      sizes: this.#sizes,
      framesDecoded: this.#video.getVideoPlaybackQuality().totalVideoFrames,
      audioDecodedBytes: counted.webkitAudioDecodedByteCount ?? 0,
      levels: this.#hls.levels.map((level) => ({
        width: level.width,
        height: level.height,
        codecs: level.codecs ?? '',
        bitrate: level.bitrate,
        frameRate: level.frameRate,
      })),
      latency: this.#hls.latency,
    };
  }
}
