/**
 * Players besides hls.js, of HLS and DASH, as their packages come: what each one says went wrong, and how its element does.
 */
import { MediaPlayer } from 'dashjs';
import shaka from 'shaka-player/dist/shaka-player.compiled-es2021.js';
import videojs from 'video.js';
import { Playback, type Played } from './playback';

/** What happened so far. */
export interface PlayerReport extends Played {
  errors: string[];
  /** How dash.js stays close to the live edge. */
  live?: Live | undefined;
}

interface Live {
  /** Whether it takes segments while they grow. */
  lowLatency: boolean;
  /** How far behind it wants to be, and is, in seconds. */
  target: number;
  latency: number;
}

export type OtherPlayer = 'shaka-player' | 'video.js' | 'dash.js';

/** Plays `url` and answers with what tells how that goes. */
export async function playWith(player: OtherPlayer, url: string): Promise<() => PlayerReport> {
  const video = document.createElement('video');
  video.autoplay = true;
  document.body.append(video);
  const playback = new Playback(video);
  const errors: string[] = [];
  let live: (() => Live) | undefined;
  if (player === 'shaka-player') {
    await playWithShaka(video, url, errors);
  } else if (player === 'dash.js') {
    live = playWithDashJs(video, url, errors);
  } else {
    playWithVideoJs(video, url, errors);
  }
  return () => ({ ...playback.report(), errors, live: live?.() });
}

async function playWithShaka(video: HTMLVideoElement, url: string, errors: string[]): Promise<void> {
  shaka.polyfill.installAll();
  const player = new shaka.Player();
  // In the first seconds of a stream it looks for captions in the segment that is being made, which has no URI yet, and
  // throws.
  player.configure('manifest.hls.disableClosedCaptionsDetection', true);
  player.addEventListener('error', (event) => {
    const { code, data } = (event as Event & { detail: shaka.util.Error }).detail;
    errors.push(`${code} ${data}`);
  });
  await player.attach(video);
  await player.load(url);
}

function playWithVideoJs(video: HTMLVideoElement, url: string, errors: string[]): void {
  const player = videojs(video, { html5: { vhs: { overrideNative: true } } });
  player.on('error', () => {
    const error = player.error();
    errors.push(`${error?.code} ${error?.message}`);
  });
  player.src({ src: url, type: 'application/vnd.apple.mpegurl' });
}

function playWithDashJs(video: HTMLVideoElement, url: string, errors: string[]): () => Live {
  const player = MediaPlayer().create();
  player.on(MediaPlayer.events.ERROR, ({ error }) => {
    errors.push(typeof error === 'string' ? error : `${error.code} ${error.message}`);
  });
  player.initialize(video, url, true);
  return () => ({
    lowLatency: player.getLowLatencyModeEnabled(),
    target: player.getTargetLiveDelay(),
    latency: player.getCurrentLiveLatency(),
  });
}
