/**
 * Writes measured values into the elements that show them.
 */
import { find } from './dom';

/** What is not known is left out and shown as a dash. */
export interface Figures {
  width?: number | undefined;
  height?: number | undefined;
  framesPerSecond?: number | undefined;
  bitrate?: number | undefined;
  latencyMs?: number | undefined;
}

const UNKNOWN = '–';

export function showFigures(root: ParentNode, figures: Figures): void {
  const { width, height, framesPerSecond, bitrate, latencyMs } = figures;
  set(root, 'resolution', width && height ? `${width}×${height}` : UNKNOWN);
  set(root, 'rate', framesPerSecond === undefined ? UNKNOWN : `${Math.round(framesPerSecond)} fps`);
  set(root, 'bitrate', bitrate === undefined ? UNKNOWN : formatBitrate(bitrate));
  set(root, 'latency', latencyMs === undefined ? UNKNOWN : formatDuration(latencyMs));
}

export function set(root: ParentNode, figure: string, text: string): void {
  const element = find(root, `[data-figure="${figure}"]`);
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

export function formatBitrate(bitsPerSecond: number): string {
  if (bitsPerSecond >= 1_000_000) {
    return `${(bitsPerSecond / 1_000_000).toFixed(1)} Mbit/s`;
  }
  return `${Math.round(bitsPerSecond / 1_000)} kbit/s`;
}

export function formatDuration(milliseconds: number): string {
  if (milliseconds >= 1_000) {
    return `${(milliseconds / 1_000).toFixed(1)} s`;
  }
  return `${Math.round(milliseconds)} ms`;
}
