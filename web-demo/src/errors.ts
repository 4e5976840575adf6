/**
 * Failures in words that someone can act on.
 */
import { NoAnswerError, RefusedError } from './signaling/client';

/** The name of mediasoup-client's error for what a browser cannot do; its class is not exported. */
const UNSUPPORTED = 'UnsupportedError';

/** This browser and the server have nothing in common that would do. */
export class UnsupportedError extends Error {
  override name = UNSUPPORTED;
}

/** Whether trying the same again is bound to fail again. */
export function isPermanent(error: unknown): boolean {
  return error instanceof RefusedError || (error instanceof Error && error.name === UNSUPPORTED);
}

/** Why this page may not use camera, microphone and screen at all, or `undefined` when it may. */
export function captureBlocked(): string | undefined {
  if (window.isSecureContext && navigator.mediaDevices) {
    return undefined;
  }
  if (!window.isSecureContext) {
    return (
      `Browsers give camera, microphone and screen only to pages opened over https:// or on localhost, and this page is ` +
      `${location.origin}. Watching works here. To publish from this device, put weir behind HTTPS; for a trial, Chromium can ` +
      `trust this one address under chrome://flags/#unsafely-treat-insecure-origin-as-secure.`
    );
  }
  return 'This browser offers no access to camera, microphone or screen.';
}

/** Says what went wrong when asking for `what` (a camera, a microphone, the screen). */
export function explainCapture(error: unknown, what: string): string {
  const name = error instanceof DOMException ? error.name : '';
  switch (name) {
    case 'NotAllowedError':
    case 'SecurityError':
      return `The browser was not allowed to use ${what}. Allow it in the address bar's site settings, then try again.`;
    case 'NotFoundError':
      return `There is no device for ${what}. Plug one in, or choose to publish without it.`;
    case 'NotReadableError':
      return `The system refused ${what}: another program may be using it.`;
    case 'OverconstrainedError':
      return `No device for ${what} fits the choice. Pick another device or resolution.`;
    case 'AbortError':
      return `Opening ${what} was interrupted. Try again.`;
    default:
      return `Opening ${what} failed: ${messageOf(error)}.`;
  }
}

/** Says what went wrong while setting up or using a media connection. */
export function explainMedia(error: unknown): string {
  if (error instanceof RefusedError) {
    return `The server refused: ${error.message}.`;
  }
  if (error instanceof NoAnswerError) {
    return `No answer from the server: ${error.message}.`;
  }
  if (error instanceof Error && error.name === UNSUPPORTED) {
    return `This browser cannot do it: ${error.message}.`;
  }
  return `${messageOf(error)}.`;
}

/** An error's message without its full stop. */
export function messageOf(error: unknown): string {
  const message = error instanceof Error && error.message !== '' ? error.message : String(error);
  return message.replace(/\.$/, '');
}
