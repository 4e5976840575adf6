/**
 * The publishing half of the page: preview, choices, going live, and what is being sent.
 */
import type { types } from 'mediasoup-client';
import { captureBlocked, messageOf } from '../errors';
import { masterPlaylist } from '../live-list';
import { type Capture, openCapture, stopCapture } from '../media/capture';
import { codecName } from '../media/codecs';
import { LevelMeter } from '../media/level-meter';
import { Publisher, type PublishState } from '../media/publisher';
import { StatsReader } from '../media/stats';
import { copyText } from './copy';
import { byId, setNotice, setPill, setToggle } from './dom';
import { showFigures } from './figures';
import { PublishForm } from './publish-form';

/** How often figures are read, in milliseconds. */
const MEASURE_MS = 1_000;

/** The publishing half. */
export class PublishPanel {
  readonly #publisher = new Publisher((state) => this.#setState(state));
  readonly #form = new PublishForm(() => void this.#recapture());
  readonly #preview = byId('preview', HTMLVideoElement);
  readonly #notice = byId('publish-notice');
  readonly #publishButton = byId('publish-button', HTMLButtonElement);
  readonly #onOwnPeer: () => void;
  #state: PublishState = { phase: 'idle' };
  #capture: Capture | undefined;
  #meter: LevelMeter | undefined;
  #reader = new StatsReader();
  #busy = false;
  /** Counts openings, so that a slower earlier one does not replace a later one. */
  #opening = 0;

  /** `onOwnPeer` is called when this page's own peer id may have changed. */
  constructor(onOwnPeer: () => void) {
    this.#onOwnPeer = onOwnPeer;
    this.#listen();
    void this.#form.refreshDevices();
    setNotice(this.#notice, captureBlocked());
    setInterval(() => void this.#measure(), MEASURE_MS);
    this.#render();
  }

  /** Whether a peer is this page's own stream. */
  isOwn(peerId: string): boolean {
    return this.#publisher.isOwn(peerId);
  }

  setCapabilities(device: types.Device): void {
    this.#form.setCapabilities(device);
    this.#render();
  }

  #listen(): void {
    this.#form.element.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#publish();
    });
    byId('preview-button').addEventListener('click', () => void this.#open());
    byId('stop-button').addEventListener('click', () => this.#stop());
    byId('mute-button').addEventListener('click', () => this.#togglePause('audio'));
    byId('pause-button').addEventListener('click', () => this.#togglePause('video'));
    byId('share-copy').addEventListener('click', (event) => {
      void copyText(byId('share-url', HTMLInputElement).value, event.currentTarget as HTMLElement);
    });
  }

  async #publish(): Promise<void> {
    if (this.#capture || (await this.#open())) {
      const { audio, video } = this.#capture ?? {};
      this.#publisher.start({ audio, video }, this.#form.videoChoice);
    }
  }

  #stop(): void {
    this.#publisher.stop();
    this.#setCapture(undefined);
  }

  /** Opens what the form asks for; false, with the reason shown, when that failed. */
  async #open(): Promise<boolean> {
    const opening = ++this.#opening;
    this.#busy = true;
    this.#render();
    try {
      const capture = await openCapture(this.#form.captureRequest);
      if (opening !== this.#opening) {
        stopCapture(capture);
        return false;
      }
      setNotice(this.#notice, capture.warning);
      this.#setCapture(capture);
      void this.#form.refreshDevices();
      return true;
    } catch (error) {
      if (opening === this.#opening) {
        setNotice(this.#notice, messageOf(error).concat('.'));
      }
      return false;
    } finally {
      if (opening === this.#opening) {
        this.#busy = false;
        this.#render();
      }
    }
  }

  /** A choice changed: what is open is opened anew, and what is live goes on with the new tracks. */
  async #recapture(): Promise<void> {
    const before = this.#capture;
    if (!before || !(await this.#open()) || this.#state.phase === 'idle') {
      return;
    }
    const { audio, video } = this.#capture ?? {};
    const sameKinds = !audio === !before.audio && !video === !before.video;
    if (!sameKinds) {
      this.#publisher.start({ audio, video }, this.#form.videoChoice);
      return;
    }
    if (audio) {
      await this.#publisher.replaceTrack('audio', audio);
    }
    if (video) {
      await this.#publisher.replaceTrack('video', video);
    }
  }

  #setCapture(capture: Capture | undefined): void {
    const before = this.#capture;
    this.#capture = capture;
    if (before) {
      stopCapture(before);
    }
    this.#meter?.stop();
    this.#meter = capture?.audio && new LevelMeter(capture.audio, showLevel);
    showLevel(0);
    this.#preview.srcObject = capture?.video ? new MediaStream([capture.video]) : null;
    this.#preview.classList.toggle('mirrored', capture?.source === 'camera');
    // Unplugged, or ended with the browser's own "Stop sharing".
    for (const track of [capture?.video, capture?.audio]) {
      track?.addEventListener('ended', () => this.#ended(track));
    }
    this.#render();
  }

  #ended(track: MediaStreamTrack): void {
    if (track !== this.#capture?.video && track !== this.#capture?.audio) {
      return;
    }
    const what = this.#capture.source === 'screen' && track.kind === 'video' ? 'The screen share' : 'A device';
    this.#stop();
    setNotice(this.#notice, `${what} ended, so publishing stopped.`);
  }

  #togglePause(kind: types.MediaKind): void {
    this.#publisher.setPaused(kind, !this.#publisher.isPaused(kind));
    this.#render();
  }

  #setState(state: PublishState): void {
    this.#state = state;
    if (state.phase === 'ready') {
      this.#reader = new StatsReader();
      setNotice(this.#notice, this.#capture?.warning);
    } else if (state.phase === 'retrying') {
      setNotice(this.#notice, `${state.reason}. Publishing again as soon as it works.`);
    } else if (state.phase === 'failed') {
      setNotice(this.#notice, state.reason);
    } else if (state.phase === 'idle') {
      setNotice(this.#notice, undefined);
    }
    this.#render();
    this.#onOwnPeer();
  }

  #render(): void {
    const { phase } = this.#state;
    const active = phase !== 'idle' && phase !== 'failed';
    const live = phase === 'ready';
    this.#renderState();
    this.#form.setLocked(active);
    this.#publishButton.hidden = active;
    this.#publishButton.disabled =
      this.#busy || captureBlocked() !== undefined || this.#form.videoChoice.mimeType === '';
    byId('preview-button', HTMLButtonElement).disabled = this.#busy || captureBlocked() !== undefined;
    byId('stop-button').hidden = !active;
    this.#renderToggle('mute-button', 'audio', ['i-mic', 'Mute'], ['i-mic-off', 'Unmute']);
    this.#renderToggle('pause-button', 'video', ['i-camera', 'Pause video'], ['i-camera', 'Resume video']);
    byId('publish-figures').hidden = !live;
    byId('share').hidden = !live;
    byId('live-dot').hidden = !live;
    this.#renderCover(active);
    const { peerId } = this.#publisher;
    if (live && peerId !== undefined) {
      byId('share-url', HTMLInputElement).value = masterPlaylist(peerId);
    }
  }

  #renderCover(active: boolean): void {
    const paused = active && this.#publisher.isPaused('video');
    const text = paused ? 'Video paused' : this.#capture ? 'Sound only' : 'Your preview appears here';
    byId('preview-cover').hidden = this.#capture?.video !== undefined && !paused;
    byId('preview-cover-text').textContent = text;
    byId('preview-button').hidden = this.#capture !== undefined;
  }

  #renderState(): void {
    const pill = byId('publish-state');
    switch (this.#state.phase) {
      case 'idle':
        setPill(pill, 'idle', this.#capture ? 'Preview' : 'Not publishing');
        break;
      case 'connecting':
        setPill(pill, 'busy', 'Connecting…');
        break;
      case 'ready': {
        const codec = this.#publisher.isSending('video') ? codecName(this.#form.videoChoice.mimeType) : 'Opus';
        setPill(pill, 'live', `Live · ${codec}`);
        break;
      }
      case 'retrying':
        setPill(pill, 'bad', 'Reconnecting…');
        break;
      case 'failed':
        setPill(pill, 'bad', 'Failed');
        break;
    }
  }

  #renderToggle(id: string, kind: types.MediaKind, on: [string, string], off: [string, string]): void {
    const button = byId(id);
    const paused = this.#publisher.isPaused(kind);
    button.hidden = this.#state.phase !== 'ready' || !this.#publisher.isSending(kind);
    setToggle(button, paused, ...(paused ? off : on));
  }

  async #measure(): Promise<void> {
    const { transport } = this.#publisher;
    if (this.#state.phase !== 'ready' || !transport || transport.closed) {
      return;
    }
    const measured = this.#reader.read([await transport.getStats()]);
    showFigures(byId('publish-figures'), { ...measured, latencyMs: measured.roundTripMs });
  }
}

function showLevel(level: number): void {
  byId('meter-fill').style.setProperty('--level', level.toFixed(3));
  byId('meter').setAttribute('aria-valuenow', String(Math.round(level * 100)));
}
