/**
 * A tone that is loud at the beginning of each second, and hearing that: what the burned-in clock is for pictures.
 */

const BEEP_S = 0.1;
const SECOND_MS = 1000;
const SCHEDULE_MS = 100;
/** Between beeps the tone is faint instead of absent, so that no encoder takes it for silence. */
const FAINT = 0.02;
const LOUD = 0.8;

/** Runs on the audio thread: tells when it becomes loud after it was not for a while. */
const EAR = `registerProcessor('ear', class extends AudioWorkletProcessor {
  quiet = 0;
  process([[channel]]) {
    for (const [index, sample] of (channel ?? []).entries()) {
      if (Math.abs(sample) < 0.2) {
        this.quiet += 1;
      } else {
        if (this.quiet > sampleRate / 4) {
          this.port.postMessage(currentTime + index / sampleRate);
        }
        this.quiet = 0;
      }
    }
    return true;
  }
});`;

/** An audio track of the tone. */
export function beepTrack(): MediaStreamTrack {
  const context = new AudioContext();
  const oscillator = context.createOscillator();
  const gain = context.createGain();
  gain.gain.value = FAINT;
  const destination = context.createMediaStreamDestination();
  oscillator.connect(gain).connect(destination);
  oscillator.start();
  let scheduled = 0;
  setInterval(() => {
    const now = Date.now();
    const next = Math.ceil(now / SECOND_MS) * SECOND_MS;
    if (next !== scheduled) {
      scheduled = next;
      const at = context.currentTime + (next - now) / 1000;
      gain.gain.setValueAtTime(LOUD, at).setValueAtTime(FAINT, at + BEEP_S);
    }
  }, SCHEDULE_MS);
  const [track] = destination.stream.getAudioTracks();
  if (!track) {
    throw new Error('the oscillator gave no track');
  }
  return track;
}

/** Hears the beeps of one element. */
export class BeepReader {
  /** When each beep was heard, in milliseconds since 1970. */
  readonly heard: number[] = [];

  static async start(element: HTMLMediaElement): Promise<BeepReader> {
    const reader = new BeepReader();
    const context = new AudioContext();
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([EAR], { type: 'text/javascript' })));
    const stream = element.srcObject;
    const source =
      stream instanceof MediaStream
        ? context.createMediaStreamSource(stream)
        : context.createMediaElementSource(element);
    const ear = new AudioWorkletNode(context, 'ear');
    ear.port.onmessage = ({ data }: MessageEvent<number>) => {
      reader.heard.push(Date.now() - (context.currentTime - data) * 1000);
    };
    source.connect(ear).connect(context.destination);
    return reader;
  }
}
