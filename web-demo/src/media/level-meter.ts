/**
 * How loud a microphone is at this moment. It listens only; nothing is played or sent.
 */

/** The quietest level shown, in dBFS; the loudest is 0. */
const FLOOR_DBFS = -60;

/** A meter on one audio track. */
export class LevelMeter {
  readonly #context = new AudioContext();
  readonly #source: MediaStreamAudioSourceNode;
  readonly #analyser: AnalyserNode;
  readonly #samples: Float32Array<ArrayBuffer>;
  #frame = 0;

  /** Calls `onLevel` once per displayed frame with 0 (quiet) to 1 (loudest). */
  constructor(track: MediaStreamTrack, onLevel: (level: number) => void) {
    this.#analyser = this.#context.createAnalyser();
    this.#analyser.fftSize = 1024;
    this.#samples = new Float32Array(this.#analyser.fftSize);
    this.#source = this.#context.createMediaStreamSource(new MediaStream([track]));
    this.#source.connect(this.#analyser);
    // Suspended until a click where a page may not start audio by itself; Publish and Preview are clicks.
    void this.#context.resume();
    const draw = () => {
      onLevel(this.#level());
      this.#frame = requestAnimationFrame(draw);
    };
    draw();
  }

  stop(): void {
    cancelAnimationFrame(this.#frame);
    this.#source.disconnect();
    void this.#context.close();
  }

  #level(): number {
    this.#analyser.getFloatTimeDomainData(this.#samples);
    let sum = 0;
    for (const sample of this.#samples) {
      sum += sample * sample;
    }
    const dbfs = 10 * Math.log10(sum / this.#samples.length + 1e-12);
    return Math.min(1, Math.max(0, 1 - dbfs / FLOOR_DBFS));
  }
}
