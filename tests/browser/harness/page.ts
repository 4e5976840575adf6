/**
 * Runs in the browser: a stock `mediasoup-client` and a stock hls.js, driven step by step by the tests.
 *
 * The steps and their order are those of the streaming-backend frontend: connect, capabilities, device, send and receive transport,
 * produce audio, then video, ask who else produces, consume each, resume.
 */
import { ClockReader } from './clock';
import { HlsViewer } from './hls-viewer';
import { type ClientVersion, Participant, type PublishOptions } from './participant';

const participants: Participant[] = [];
const clocks: ClockReader[] = [];
let viewer: HlsViewer | undefined;

function participant(): Participant {
  const first = participants[0];
  if (!first) {
    throw new Error('join() was not called');
  }
  return first;
}

const harness = {
  /** Joins the room, publishing what the options say, and answers with the peer id. */
  async join(server: string, publish?: PublishOptions, client?: ClientVersion): Promise<string> {
    const joined = new Participant(server, client);
    participants.push(joined);
    return joined.join(publish);
  },
  received: () => participant().received(),
  sent: () => participant().sent(),
  /** From now on, the burned-in clocks of all videos on the page are read. */
  readClocks(): void {
    clocks.push(...[...document.querySelectorAll('video')].map((video) => new ClockReader(video)));
  },
  /** Glass to glass latencies since the last call, in milliseconds. */
  takeLatencies: () => clocks.flatMap((clock) => clock.latencies.splice(0)),
  seen: () => participant().seen,
  setPaused: (kind: 'audio' | 'video', paused: boolean) => participant().setPaused(kind, paused),
  replaceVideo: (width: number, height: number) => participant().replaceVideo(width, height),

  playHls(url: string): void {
    viewer = new HlsViewer(url);
  },
  hls: () => viewer?.report(),
};

export type Harness = typeof harness;

declare global {
  interface Window {
    harness: Harness;
  }
}

window.harness = harness;
