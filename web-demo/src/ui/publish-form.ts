/**
 * What to publish and how: the choices of the form, and nothing of what becomes of them.
 */
import type { types } from 'mediasoup-client';
import { type CaptureRequest, listDevices, NO_DEVICE, RESOLUTIONS, type Resolution } from '../media/capture';
import { canSimulcast, codecName, sharedVideoCodecs, type VideoChoice } from '../media/codecs';
import { byId, find } from './dom';

const DEFAULT_HEIGHT = 720;

/** The form's choices. */
export class PublishForm {
  readonly element = byId('publish-form', HTMLFormElement);
  readonly #camera = byId('camera', HTMLSelectElement);
  readonly #microphone = byId('microphone', HTMLSelectElement);
  readonly #codec = byId('codec', HTMLSelectElement);
  readonly #resolution = byId('resolution', HTMLSelectElement);
  readonly #simulcast = byId('simulcast', HTMLInputElement);
  #locked = false;

  /** `onCapture` is called when a choice asks for other devices, source or size. */
  constructor(onCapture: () => void) {
    fill(
      this.#resolution,
      RESOLUTIONS.map(({ width, height }) => ({ value: String(height), text: `${width} × ${height}` })),
    );
    this.#resolution.value = String(DEFAULT_HEIGHT);
    this.#codec.addEventListener('change', () => this.#render());
    for (const choice of [this.#camera, this.#microphone, this.#resolution, byId('source-choice')]) {
      choice.addEventListener('change', () => {
        this.#render();
        onCapture();
      });
    }
    navigator.mediaDevices?.addEventListener('devicechange', () => void this.refreshDevices());
  }

  get captureRequest(): CaptureRequest {
    const source = find(this.element, 'input[name="source"]:checked', HTMLInputElement).value;
    return {
      source: source === 'screen' ? 'screen' : 'camera',
      cameraId: this.#camera.value,
      microphoneId: this.#microphone.value,
      resolution: this.#chosenResolution,
    };
  }

  get videoChoice(): VideoChoice {
    return {
      mimeType: this.#codec.value,
      simulcast: this.#simulcast.checked && canSimulcast(this.#codec.value),
      resolution: this.#chosenResolution,
    };
  }

  /** Lists the devices there are now; labels appear once the person allowed one. */
  async refreshDevices(): Promise<void> {
    const { cameras, microphones } = await listDevices();
    fillDevices(this.#camera, cameras, 'Camera', 'No camera');
    fillDevices(this.#microphone, microphones, 'Microphone', 'No microphone');
  }

  /** Offers the codecs that this browser and the server share. */
  setCapabilities(device: types.Device): void {
    const before = this.#codec.value;
    const shared = sharedVideoCodecs(device.sendRtpCapabilities);
    fill(
      this.#codec,
      shared.map((mimeType) => ({ value: mimeType, text: codecName(mimeType) })),
    );
    if (shared.includes(before)) {
      this.#codec.value = before;
    }
    this.#render();
  }

  /** Codec and simulcast are settled when publishing starts; devices and size may change while live. */
  setLocked(locked: boolean): void {
    this.#locked = locked;
    this.#render();
  }

  get #chosenResolution(): Resolution {
    const height = Number(this.#resolution.value);
    return RESOLUTIONS.find((resolution) => resolution.height === height) ?? RESOLUTIONS[2];
  }

  #render(): void {
    const simulcast = canSimulcast(this.#codec.value);
    this.#codec.disabled = this.#locked || this.#codec.value === '';
    this.#simulcast.disabled = !simulcast;
    byId('simulcast-field').hidden = this.#locked;
    byId('simulcast-hint').textContent =
      simulcast || this.#codec.value === ''
        ? 'Sends three sizes, so that each viewer can get what fits.'
        : `${codecName(this.#codec.value)} is sent in one size.`;
    byId('camera-field').hidden = this.captureRequest.source === 'screen';
  }
}

function fillDevices(select: HTMLSelectElement, devices: MediaDeviceInfo[], name: string, none: string): void {
  const before = select.value;
  const options = devices.map((device, index) => ({
    value: device.deviceId,
    text: device.label === '' ? `${name} ${index + 1}` : device.label,
  }));
  // Before permission there are no ids to choose from: the browser's own choice stands for the first device.
  const known = options.length > 0 ? options : [{ value: '', text: `Default ${name.toLowerCase()}` }];
  fill(select, [...known, { value: NO_DEVICE, text: none }]);
  if ([...select.options].some((option) => option.value === before)) {
    select.value = before;
  }
}

function fill(select: HTMLSelectElement, options: { value: string; text: string }[]): void {
  select.replaceChildren(...options.map(({ value, text }) => new Option(text, value)));
}
