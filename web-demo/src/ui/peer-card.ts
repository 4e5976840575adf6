/**
 * One peer in the grid: its video over WebRTC or HLS, what was measured, and the controls that belong to it.
 */
import { masterPlaylist } from '../live-list';
import { HlsPlayer } from '../media/hls-player';
import { FrameCounter, StatsReader } from '../media/stats';
import type { RemotePeer } from '../media/viewer';
import { copyText } from './copy';
import { find, setToggle } from './dom';
import { set, showFigures } from './figures';
import { Rewind } from './rewind';

type Protocol = 'webrtc' | 'hls';

/** The card of one peer. */
export class PeerCard {
  readonly element: HTMLElement;
  readonly #id: string;
  readonly #video: HTMLVideoElement;
  readonly #cover: HTMLElement;
  readonly #coverText: HTMLElement;
  readonly #radios: Record<Protocol, HTMLInputElement>;
  readonly #rewind: Rewind;
  #protocol: Protocol = 'webrtc';
  #chosen: Protocol | undefined;
  #peer: RemotePeer | undefined;
  #hlsLive = false;
  #hls: HlsPlayer | undefined;
  #hlsProblem: string | undefined;
  #playRefused = false;
  #reader = new StatsReader();
  #frames = new FrameCounter();

  constructor(id: string) {
    this.#id = id;
    const template = find(document, '#card-template', HTMLTemplateElement);
    const fragment = template.content.cloneNode(true) as DocumentFragment;
    this.element = find(fragment, '.card');
    this.element.dataset['peer'] = id;
    this.#video = find(this.element, 'video', HTMLVideoElement);
    this.#cover = find(this.element, '.cover');
    this.#coverText = find(this.element, '[data-part="cover-text"]');
    this.#radios = {
      webrtc: find(this.element, 'input[value="webrtc"]', HTMLInputElement),
      hls: find(this.element, 'input[value="hls"]', HTMLInputElement),
    };
    this.#rewind = new Rewind(this.element, this.#video);
    this.#label();
    this.#listen();
    this.#render();
  }

  /** The peer's WebRTC side is new or changed; `undefined` when there is none. */
  setPeer(peer: RemotePeer | undefined): void {
    this.#peer = peer;
    this.#choose();
  }

  /** Whether the peer can be watched over HLS now. */
  setHlsLive(live: boolean): void {
    this.#hlsLive = live;
    this.#choose();
  }

  /** Whether anything of the peer can be watched. */
  get watchable(): boolean {
    return this.#peer !== undefined || this.#hlsLive;
  }

  remove(): void {
    this.#hls?.destroy();
    this.#hls = undefined;
    this.#video.srcObject = null;
    this.element.remove();
  }

  /** Reads the figures and shows them; called about once a second. */
  async measure(): Promise<void> {
    if (this.#protocol === 'webrtc') {
      await this.#measureWebRtc();
    } else {
      this.#measureHls();
    }
    this.#rewind.show(this.#hls?.playable());
    this.#render();
  }

  /** Plays what was chosen where that is possible, else what there is. */
  #choose(): void {
    const possible: Record<Protocol, boolean> = { webrtc: this.#peer !== undefined, hls: this.#hlsLive };
    const wanted = this.#chosen ?? 'webrtc';
    const other = wanted === 'webrtc' ? 'hls' : 'webrtc';
    const protocol = possible[wanted] || !possible[other] ? wanted : other;
    this.#radios.webrtc.disabled = !possible.webrtc;
    this.#radios.hls.disabled = !possible.hls;
    this.#radios[protocol].checked = true;
    if (protocol !== this.#protocol) {
      this.#protocol = protocol;
      this.#reader = new StatsReader();
      this.#frames = new FrameCounter();
      showFigures(this.element, {});
    }
    this.#play();
    this.#render();
  }

  #play(): void {
    if (this.#protocol === 'hls') {
      if (!this.#hls && this.#hlsLive) {
        this.#video.srcObject = null;
        this.#hlsProblem = undefined;
        this.#hls = new HlsPlayer(this.#video, masterPlaylist(this.#id), (problem) => {
          this.#hlsProblem = problem;
          this.#render();
        });
      }
    } else {
      this.#hls?.destroy();
      this.#hls = undefined;
      const stream = this.#peer?.stream ?? null;
      if (this.#video.srcObject !== stream) {
        this.#video.srcObject = stream;
      }
    }
    this.#start();
  }

  #start(): void {
    this.#video.play().then(
      () => {
        this.#playRefused = false;
        this.#render();
      },
      (error: unknown) => {
        // Anything else, such as an interrupted load, is followed by another start.
        this.#playRefused = error instanceof DOMException && error.name === 'NotAllowedError';
        this.#render();
      },
    );
  }

  #label(): void {
    const short = this.#id.slice(0, 6);
    const name = find(this.element, '[data-part="name"]');
    name.textContent = short;
    name.title = this.#id;
    const avatar = find(this.element, '[data-part="avatar"]');
    let hash = 0;
    for (const character of this.#id) {
      hash = (hash * 31 + (character.codePointAt(0) ?? 0)) % 360;
    }
    avatar.style.setProperty('--hue', String(hash));
    this.element.setAttribute('aria-label', `Peer ${short}`);
    this.#video.setAttribute('aria-label', `Video of peer ${short}`);
    for (const radio of Object.values(this.#radios)) {
      radio.name = `protocol-${this.#id}`;
    }
  }

  #listen(): void {
    for (const [protocol, radio] of Object.entries(this.#radios) as [Protocol, HTMLInputElement][]) {
      radio.addEventListener('change', () => {
        this.#chosen = protocol;
        this.#choose();
      });
    }
    const toggleSound = () => {
      this.#video.muted = !this.#video.muted;
      this.#start();
      this.#render();
    };
    find(this.element, '[data-part="sound"]').addEventListener('click', toggleSound);
    find(this.element, '[data-part="unmute"]').addEventListener('click', toggleSound);
    find(this.element, '[data-part="copy"]').addEventListener('click', (event) => {
      void copyText(masterPlaylist(this.#id), event.currentTarget as HTMLElement);
    });
    const fullscreen = find(this.element, '[data-part="fullscreen"]');
    fullscreen.addEventListener('click', () => enterFullscreen(this.#video));
    for (const event of ['playing', 'waiting', 'loadeddata', 'resize', 'emptied']) {
      this.#video.addEventListener(event, () => this.#render());
    }
  }

  #render(): void {
    const cover = this.#coverReason();
    this.#cover.hidden = cover === undefined;
    if (this.#coverText.textContent !== (cover ?? '')) {
      this.#coverText.textContent = cover ?? '';
    }
    const hasSound = this.#protocol === 'hls' || (this.#peer?.consumers.has('audio') ?? false);
    const silenced = this.#peer?.paused.audio ?? false;
    find(this.element, '[data-part="silenced"]').hidden = !silenced;
    const { muted } = this.#video;
    const offer = hasSound && muted && !silenced;
    find(this.element, '[data-part="unmute"]').hidden = !offer;
    const sound = find(this.element, '[data-part="sound"]');
    sound.hidden = offer || !hasSound;
    setToggle(sound, !muted, muted ? 'i-sound-off' : 'i-sound', muted ? 'Unmute' : 'Mute');
    find(this.element, '[data-part="copy"]').hidden = !this.#hlsLive;
    this.#radios.hls.title = this.#hlsLive ? '' : 'HLS is ready a few seconds after the first picture.';
  }

  /** What to say instead of a picture, if there is none to see. */
  #coverReason(): string | undefined {
    if (this.#playRefused) {
      return 'The browser waits for a tap before it plays. Tap Unmute.';
    }
    if (this.#protocol === 'hls') {
      if (this.#hlsProblem !== undefined) {
        return this.#hlsProblem;
      }
    } else if (this.#peer?.problem !== undefined) {
      return this.#peer.problem;
    } else if (this.#peer && !this.#peer.consumers.has('video')) {
      return 'Sound only';
    }
    if (this.#peer?.paused.video) {
      return 'Video paused by the publisher';
    }
    if (this.#video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) {
      return this.#protocol === 'hls' ? 'Loading the first segments…' : 'Waiting for the first picture…';
    }
    return this.#protocol === 'hls' && this.#video.videoWidth === 0 ? 'Sound only' : undefined;
  }

  async #measureWebRtc(): Promise<void> {
    const consumers = [...(this.#peer?.consumers.values() ?? [])].filter((consumer) => !consumer.closed);
    const reports = await Promise.all(consumers.map((consumer) => consumer.getStats()));
    const measured = this.#reader.read(reports);
    const { roundTripMs, bufferMs } = measured;
    const latencyMs = roundTripMs === undefined || bufferMs === undefined ? undefined : roundTripMs / 2 + bufferMs;
    showFigures(this.element, { ...measured, latencyMs });
    set(this.element, 'protocol', ['WebRTC', ...measured.codecs].join(' · '));
    set(this.element, 'method', 'Latency: server to here, ½ RTT + receive buffer.');
  }

  #measureHls(): void {
    const measured = this.#hls?.measure();
    showFigures(this.element, {
      width: this.#video.videoWidth,
      height: this.#video.videoHeight,
      framesPerSecond: this.#frames.read(this.#video),
      bitrate: measured?.bitrate,
      latencyMs: measured?.latencyMs,
    });
    set(this.element, 'protocol', ['HLS', ...(measured?.codecs ?? [])].join(' · '));
    set(this.element, 'method', measured ? `Latency: ${measured.latencyMethod}.` : '');
  }
}

/** iPhones know full screen only for videos, under a name of their own. */
function enterFullscreen(video: HTMLVideoElement & { webkitEnterFullscreen?: () => void }): void {
  if (video.requestFullscreen) {
    void video.requestFullscreen();
  } else {
    video.webkitEnterFullscreen?.();
  }
}
