/**
 * Camera, microphone and screen: what there is, and opening it. Failures come as sentences for the person in front.
 */
import { captureBlocked, explainCapture } from '../errors';

/** Heights that can be chosen, each with the bitrate that a single video stream of it gets, in bit/s. */
export const RESOLUTIONS = [
  { height: 360, width: 640, bitrate: 800_000 },
  { height: 540, width: 960, bitrate: 1_500_000 },
  { height: 720, width: 1280, bitrate: 2_500_000 },
  { height: 1080, width: 1920, bitrate: 4_500_000 },
] as const;

export type Resolution = (typeof RESOLUTIONS)[number];

/** The device choice "without this". */
export const NO_DEVICE = 'none';

/** What to open. An empty device id leaves the choice to the browser. */
export interface CaptureRequest {
  source: 'camera' | 'screen';
  cameraId: string;
  microphoneId: string;
  resolution: Resolution;
}

/** What was opened. */
export interface Capture {
  source: 'camera' | 'screen';
  video: MediaStreamTrack | undefined;
  audio: MediaStreamTrack | undefined;
  /** What was asked for and could not be opened, while the rest could. */
  warning: string | undefined;
}

/** The cameras and microphones of this device; labels are empty until the person allowed one of them. */
export async function listDevices(): Promise<{ cameras: MediaDeviceInfo[]; microphones: MediaDeviceInfo[] }> {
  if (captureBlocked() !== undefined) {
    return { cameras: [], microphones: [] };
  }
  const devices = await navigator.mediaDevices.enumerateDevices();
  return {
    cameras: devices.filter((device) => device.kind === 'videoinput' && device.deviceId !== ''),
    microphones: devices.filter((device) => device.kind === 'audioinput' && device.deviceId !== ''),
  };
}

/** Opens what was asked for. Throws an `Error` whose message can be shown. */
export async function openCapture(request: CaptureRequest): Promise<Capture> {
  const blocked = captureBlocked();
  if (blocked !== undefined) {
    throw new Error(blocked);
  }
  return request.source === 'screen' ? openScreen(request) : openCamera(request);
}

export function stopCapture(capture: Capture): void {
  capture.video?.stop();
  capture.audio?.stop();
}

async function openCamera(request: CaptureRequest): Promise<Capture> {
  const wantVideo = request.cameraId !== NO_DEVICE;
  const wantAudio = request.microphoneId !== NO_DEVICE;
  if (!wantVideo && !wantAudio) {
    throw new Error('Choose a camera, a microphone or both.');
  }
  // Asked one by one, so that a missing or busy device does not take the other one with it.
  const video = wantVideo ? await attempt(() => openVideo(request), 'the camera') : undefined;
  const audio = wantAudio ? await attempt(() => openMicrophone(request), 'the microphone') : undefined;
  const failures = [video, audio].filter((result) => typeof result === 'string');
  const capture: Capture = {
    source: 'camera',
    video: typeof video === 'object' ? video : undefined,
    audio: typeof audio === 'object' ? audio : undefined,
    warning: failures.length > 0 ? failures.join(' ') : undefined,
  };
  if (!capture.video && !capture.audio) {
    throw new Error(capture.warning);
  }
  return capture;
}

async function openScreen(request: CaptureRequest): Promise<Capture> {
  let stream: MediaStream;
  try {
    const { width, height } = request.resolution;
    stream = await navigator.mediaDevices.getDisplayMedia({
      video: { width: { max: width }, height: { max: height }, frameRate: { ideal: 30 } },
      audio: true,
    });
  } catch (error) {
    throw new Error(explainCapture(error, 'the screen'));
  }
  const [video] = stream.getVideoTracks();
  const [screenAudio] = stream.getAudioTracks();
  if (video) {
    video.contentHint = 'detail';
  }
  if (request.microphoneId === NO_DEVICE) {
    return { source: 'screen', video, audio: screenAudio, warning: undefined };
  }
  // One audio track is published: the microphone where one is wanted, else the screen's own sound.
  const microphone = await attempt(() => openMicrophone(request), 'the microphone');
  if (typeof microphone === 'string') {
    return { source: 'screen', video, audio: screenAudio, warning: microphone };
  }
  screenAudio?.stop();
  return { source: 'screen', video, audio: microphone, warning: undefined };
}

async function openVideo({ cameraId, resolution }: CaptureRequest): Promise<MediaStreamTrack | undefined> {
  const { width, height } = resolution;
  const video: MediaTrackConstraints = { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: 30 } };
  if (cameraId !== '') {
    video.deviceId = { exact: cameraId };
  }
  const stream = await navigator.mediaDevices.getUserMedia({ video });
  return stream.getVideoTracks()[0];
}

async function openMicrophone({ microphoneId }: CaptureRequest): Promise<MediaStreamTrack | undefined> {
  const audio: MediaTrackConstraints = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  if (microphoneId !== '') {
    audio.deviceId = { exact: microphoneId };
  }
  const stream = await navigator.mediaDevices.getUserMedia({ audio });
  return stream.getAudioTracks()[0];
}

/** The track, or the sentence that says why there is none. */
async function attempt(
  open: () => Promise<MediaStreamTrack | undefined>,
  what: string,
): Promise<MediaStreamTrack | string | undefined> {
  try {
    return await open();
  } catch (error) {
    return explainCapture(error, what);
  }
}
