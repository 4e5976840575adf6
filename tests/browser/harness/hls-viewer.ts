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
  /** Where the element stopped although it had more to play, and what it had: `3.2 of 0-3.2,3.5-6`. */
  holes: string[];
  /** Every picture size seen, such as `640x360`, in order, without repeats in a row. */
  sizes: string[];
  framesDecoded: number;
  audioDecodedBytes: number;
  /** The variants of the master playlist. */
  levels: { width: number; height: number; codecs: string; bitrate: number; frameRate: number }[];
  latency: number;
}

/** With less than this in front of it the element waits for more, in seconds. */
const DRY_S = 0.3;

export class HlsViewer {
  readonly #hls = new Hls();
  readonly #video = document.createElement('video');
  readonly #errors: string[] = [];
  readonly #fatal: string[] = [];
  readonly #sizes: string[] = [];
  #startedAt: number | undefined;
  readonly #holes: string[] = [];

  constructor(url: string) {
    this.#video.autoplay = true;
    document.body.append(this.#video);
    this.#video.addEventListener('playing', () => {
      this.#startedAt ??= this.#video.currentTime;
    });
    this.#video.addEventListener('waiting', () => {
      // Running dry is a matter of how fast this machine is; stopping in front of more media is a fault of the media.
      const ranges = this.#ranges();
      if (this.#startedAt !== undefined && ranges.some(([from]) => from > this.#video.currentTime)) {
        this.#holes.push(`${this.#video.currentTime} of ${ranges.map((range) => range.join('-'))}`);
      }
    });
    this.#video.addEventListener('resize', () => {
      const size = `${this.#video.videoWidth}x${this.#video.videoHeight}`;
      if (this.#sizes.at(-1) !== size) {
        this.#sizes.push(size);
      }
    });
    this.#hls.on(Hls.Events.ERROR, (_event, data) => {
      if (data.details === Hls.ErrorDetails.BUFFER_STALLED_ERROR && this.#isDry()) {
        return;
      }
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
      holes: this.#holes,
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
  #ranges(): [number, number][] {
    const { buffered } = this.#video;
    return Array.from({ length: buffered.length }, (_, index) => [buffered.start(index), buffered.end(index)]);
  }

  /** Whether nothing is left to play. */
  #isDry(): boolean {
    return !this.#ranges().some(([, end]) => end > this.#video.currentTime + DRY_S);
  }
}
