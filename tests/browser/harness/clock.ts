/**
 * A picture that shows when it was drawn, and reading that back: glass to glass latency without a camera.
 */

/** Bits of the clock, in milliseconds: it wraps after four and a half hours. */
const CLOCK_BITS = 24;
const CHECK_BITS = 8;
const COLUMNS = 8;
const ROWS = (CLOCK_BITS + CHECK_BITS) / COLUMNS;
const WRAP = 2 ** CLOCK_BITS;
/** Pixels of a cell in the small copy that the reader looks at. */
const CELL = 4;
const FRAMES_PER_SECOND = 30;

/** A video track of the clock over a picture that moves enough to keep an encoder busy. */
export function clockTrack(width: number, height: number): MediaStreamTrack {
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d', { alpha: false });
  if (!context) {
    throw new Error('this browser has no canvas');
  }
  let frame = 0;
  setInterval(() => {
    frame += 1;
    for (let x = 0; x < width; x += 40) {
      context.fillStyle = `hsl(${(x + frame * 3) % 360} 60% ${40 + ((x / 40 + frame) % 20)}%)`;
      context.fillRect(x, height / 2, 40, height / 2);
    }
    drawBits(context, width, height / 2, Date.now() % WRAP);
  }, 1000 / FRAMES_PER_SECOND);
  const [track] = canvas.captureStream(FRAMES_PER_SECOND).getVideoTracks();
  if (!track) {
    throw new Error('the canvas gave no track');
  }
  return track;
}

/** One picture as it was seen. */
export interface SeenFrame {
  /** When it was shown, in milliseconds since 1970. */
  at: number;
  /** Milliseconds from drawn to shown. */
  latency: number;
}

/** Reads the clock in every frame that a video element shows. */
export class ClockReader {
  /** Each frame that could be read. */
  readonly frames: SeenFrame[] = [];
  readonly #video: HTMLVideoElement;
  readonly #context: CanvasRenderingContext2D;

  constructor(video: HTMLVideoElement) {
    const canvas = document.createElement('canvas');
    canvas.width = COLUMNS * CELL;
    canvas.height = ROWS * CELL;
    const context = canvas.getContext('2d', { alpha: false, willReadFrequently: true });
    if (!context) {
      throw new Error('this browser has no canvas');
    }
    this.#context = context;
    this.#video = video;
    this.#watch();
  }

  #watch(): void {
    this.#video.requestVideoFrameCallback(() => {
      const drawn = this.#read();
      if (drawn !== undefined) {
        const at = Date.now();
        this.frames.push({ at, latency: (at - drawn + WRAP) % WRAP });
      }
      this.#watch();
    });
  }

  #read(): number | undefined {
    const { videoWidth, videoHeight } = this.#video;
    const [width, height] = [COLUMNS * CELL, ROWS * CELL];
    this.#context.drawImage(this.#video, 0, 0, videoWidth, videoHeight / 2, 0, 0, width, height);
    const { data } = this.#context.getImageData(0, 0, width, height);
    let [clock, check] = [0, 0];
    for (let bit = 0; bit < CLOCK_BITS + CHECK_BITS; bit += 1) {
      const x = (bit % COLUMNS) * CELL + CELL / 2;
      const y = Math.floor(bit / COLUMNS) * CELL + CELL / 2;
      const isSet = Number((data[(y * width + x) * 4] ?? 0) > 127);
      if (bit < CLOCK_BITS) {
        clock = clock * 2 + isSet;
      } else {
        check = check * 2 + isSet;
      }
    }
    return check === checksum(clock) ? clock : undefined;
  }
}

function drawBits(context: CanvasRenderingContext2D, width: number, height: number, clock: number): void {
  const bits = (clock * 2 ** CHECK_BITS + checksum(clock)).toString(2).padStart(CLOCK_BITS + CHECK_BITS, '0');
  [...bits].forEach((bit, index) => {
    context.fillStyle = bit === '1' ? '#fff' : '#000';
    const [x, y] = [(index % COLUMNS) * (width / COLUMNS), Math.floor(index / COLUMNS) * (height / ROWS)];
    context.fillRect(x, y, width / COLUMNS, height / ROWS);
  });
}

function checksum(clock: number): number {
  return ((clock ^ (clock >> 8) ^ (clock >> 16)) & 0xff) ^ 0x5a;
}
