/**
 * Goes back in a stream whose playlist reaches far enough (`hls.dvr_secs`), and to its live edge again.
 */
import { MAX_BEHIND_S } from '../media/live-edge';
import { find } from './dom';

/** Less than this, in seconds, is not worth a control: it is what every playlist lists. */
const MIN_WINDOW_S = 20;

/** What can be played, in the video element's seconds. */
export interface PlayableWindow {
  start: number;
  /** Where a live viewer is. */
  live: number;
}

/** The control below a video. Its slider counts seconds behind the live edge, as negative numbers. */
export class Rewind {
  readonly #video: HTMLVideoElement;
  readonly #element: HTMLElement;
  readonly #slider: HTMLInputElement;
  readonly #button: HTMLButtonElement;
  #window: PlayableWindow | undefined;
  #dragging = false;

  constructor(root: ParentNode, video: HTMLVideoElement) {
    this.#video = video;
    this.#element = find(root, '[data-part="rewind"]');
    this.#slider = find(this.#element, 'input', HTMLInputElement);
    this.#button = find(this.#element, 'button', HTMLButtonElement);
    this.#slider.addEventListener('input', () => {
      this.#dragging = true;
      this.#say(this.#slider.valueAsNumber);
    });
    this.#slider.addEventListener('change', () => {
      this.#dragging = false;
      this.#seek(this.#slider.valueAsNumber);
    });
    this.#button.addEventListener('click', () => this.#seek(0));
  }

  /** Shows where playback is; hides the control if there is nothing to go back to. */
  show(window: PlayableWindow | undefined): void {
    const length = window ? window.live - window.start : 0;
    this.#window = window;
    this.#element.hidden = length < MIN_WINDOW_S;
    if (!window || this.#element.hidden || this.#dragging) {
      return;
    }
    this.#slider.min = String(-Math.floor(length));
    const behind = Math.min(0, this.#video.currentTime - window.live);
    const shown = behind > -MAX_BEHIND_S ? 0 : Math.round(behind);
    this.#slider.value = String(shown);
    this.#say(shown);
  }

  #seek(behind: number): void {
    if (this.#window) {
      const { start, live } = this.#window;
      // Whoever is closer than that is taken back to the live edge anyway.
      this.#video.currentTime = behind > -MAX_BEHIND_S ? live : Math.max(start, live + behind);
      this.show(this.#window);
    }
  }

  #say(behind: number): void {
    const isLive = behind > -MAX_BEHIND_S;
    const text = isLive ? 'Live' : `−${clock(-behind)} · Go live`;
    this.#button.disabled = isLive;
    if (this.#button.textContent !== text) {
      this.#button.textContent = text;
      this.#slider.setAttribute('aria-valuetext', isLive ? 'live' : `${clock(-behind)} behind live`);
    }
  }
}

function clock(seconds: number): string {
  const two = (value: number) => String(value).padStart(2, '0');
  const minutes = Math.floor(seconds / 60);
  const rest = two(Math.floor(seconds % 60));
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${rest}`;
}
