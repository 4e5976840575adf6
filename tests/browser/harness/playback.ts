/**
 * How a video element does, whichever player feeds it.
 */

/** What happened so far. */
export interface Played {
  currentTime: number;
  /** Where playback began. */
  startedAt: number | undefined;
  paused: boolean;
  /** Where the element stopped although it had more to play, and what it had: `3.2 of 0-3.2,3.5-6`. */
  holes: string[];
  /** Every picture size seen, such as `640x360`, in order, without repeats in a row. */
  sizes: string[];
  framesDecoded: number;
  audioDecodedBytes: number;
}

/** With less than this in front of it the element waits for more, in seconds. */
const DRY_S = 0.3;

/** Watches one element. */
export class Playback {
  readonly #video: HTMLVideoElement;
  readonly #holes: string[] = [];
  readonly #sizes: string[] = [];
  #startedAt: number | undefined;

  constructor(video: HTMLVideoElement) {
    this.#video = video;
    video.addEventListener('playing', () => {
      this.#startedAt ??= video.currentTime;
    });
    video.addEventListener('waiting', () => {
      if (this.#startedAt === undefined || video.seeking) {
        return;
      }
      // Running dry is a matter of how fast this machine is; stopping in front of more media is a fault of the media.
      const ranges = this.#ranges();
      if (ranges.some(([from]) => from > video.currentTime)) {
        this.#holes.push(`${video.currentTime} of ${ranges.map((range) => range.join('-'))}`);
      }
    });
    video.addEventListener('resize', () => {
      const size = `${video.videoWidth}x${video.videoHeight}`;
      if (this.#sizes.at(-1) !== size) {
        this.#sizes.push(size);
      }
    });
  }

  report(): Played {
    const counted = this.#video as HTMLVideoElement & { webkitAudioDecodedByteCount?: number };
    return {
      currentTime: this.#video.currentTime,
      startedAt: this.#startedAt,
      paused: this.#video.paused,
      holes: this.#holes,
      sizes: this.#sizes,
      framesDecoded: this.#video.getVideoPlaybackQuality().totalVideoFrames,
      audioDecodedBytes: counted.webkitAudioDecodedByteCount ?? 0,
    };
  }

  /** Whether nothing is left to play. */
  isDry(): boolean {
    return !this.#ranges().some(([, end]) => end > this.#video.currentTime + DRY_S);
  }

  #ranges(): [number, number][] {
    const { buffered } = this.#video;
    return Array.from({ length: buffered.length }, (_, index) => [buffered.start(index), buffered.end(index)]);
  }
}
