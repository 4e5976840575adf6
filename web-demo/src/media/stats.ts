/**
 * Figures read from WebRTC's `getStats`: pure arithmetic on two reports, no state but the last one.
 */
import { codecName } from './codecs';

/** What one direction of one peer is doing. */
export interface WebRtcMeasurement {
  width: number | undefined;
  height: number | undefined;
  framesPerSecond: number | undefined;
  /** Audio and video together, bit/s. */
  bitrate: number | undefined;
  codecs: string[];
  /** Round trip to the server. */
  roundTripMs: number | undefined;
  /** How long media waits in the receive buffer; receiving only. */
  bufferMs: number | undefined;
}

interface Counters {
  timestamp: number;
  bytes: number;
  bufferDelay: number;
  bufferCount: number;
}

/** The entries of a report that are read here. WebRTC's own types leave out several of them. */
interface StatsEntry {
  id: string;
  type: string;
  timestamp: number;
  kind?: string;
  codecId?: string;
  mimeType?: string;
  bytesSent?: number;
  bytesReceived?: number;
  frameWidth?: number;
  frameHeight?: number;
  framesPerSecond?: number;
  jitterBufferDelay?: number;
  jitterBufferEmittedCount?: number;
  nominated?: boolean;
  state?: string;
  currentRoundTripTime?: number;
}

/** Turns successive reports of one peer's tracks into figures. */
export class StatsReader {
  #last: Counters | undefined;

  /** `reports` are those of the peer's tracks; each holds the codecs and the connection of its track as well. */
  read(reports: RTCStatsReport[]): WebRtcMeasurement {
    const entries = new Map<string, StatsEntry>();
    for (const report of reports) {
      report.forEach((entry: StatsEntry) => {
        entries.set(entry.id, entry);
      });
    }
    const all = [...entries.values()];
    const streams = all.filter((entry) => entry.type === 'inbound-rtp' || entry.type === 'outbound-rtp');
    const [largest] = streams
      .filter((stream) => stream.kind === 'video' && stream.frameWidth !== undefined)
      .sort((a, b) => (b.frameWidth ?? 0) - (a.frameWidth ?? 0));
    const pair = all.find((entry) => entry.type === 'candidate-pair' && entry.nominated && entry.state === 'succeeded');
    const measured = this.#difference(streams);
    return {
      width: largest?.frameWidth,
      height: largest?.frameHeight,
      framesPerSecond: largest?.framesPerSecond,
      bitrate: measured?.bitrate,
      bufferMs: measured?.bufferMs,
      codecs: codecsOf(streams, entries),
      roundTripMs: pair?.currentRoundTripTime === undefined ? undefined : pair.currentRoundTripTime * 1_000,
    };
  }

  #difference(streams: StatsEntry[]): { bitrate: number; bufferMs: number | undefined } | undefined {
    const [first] = streams;
    if (!first) {
      this.#last = undefined;
      return undefined;
    }
    // Video decides what is seen when; its buffer is the one to report where there is a video.
    const buffered = streams.find((stream) => stream.kind === 'video') ?? first;
    const now: Counters = {
      timestamp: first.timestamp,
      bytes: streams.reduce((sum, stream) => sum + (stream.bytesReceived ?? stream.bytesSent ?? 0), 0),
      bufferDelay: buffered.jitterBufferDelay ?? 0,
      bufferCount: buffered.jitterBufferEmittedCount ?? 0,
    };
    const last = this.#last;
    this.#last = now;
    if (!last || now.timestamp <= last.timestamp || now.bytes < last.bytes) {
      return undefined;
    }
    const emitted = now.bufferCount - last.bufferCount;
    return {
      bitrate: (8_000 * (now.bytes - last.bytes)) / (now.timestamp - last.timestamp),
      bufferMs: emitted > 0 ? (1_000 * (now.bufferDelay - last.bufferDelay)) / emitted : undefined,
    };
  }
}

function codecsOf(streams: StatsEntry[], entries: Map<string, StatsEntry>): string[] {
  const byKind = [...streams].sort((a, b) => (b.kind ?? '').localeCompare(a.kind ?? ''));
  const names = byKind
    .map((stream) => (stream.codecId === undefined ? undefined : entries.get(stream.codecId)?.mimeType))
    .filter((mimeType) => mimeType !== undefined)
    .map(codecName);
  return [...new Set(names)];
}

/** Frames per second of a video element, counted between two calls. */
export class FrameCounter {
  #last: { at: number; frames: number } | undefined;

  read(video: HTMLVideoElement): number | undefined {
    const now = { at: performance.now(), frames: video.getVideoPlaybackQuality?.().totalVideoFrames ?? 0 };
    const last = this.#last;
    this.#last = now;
    if (!last || now.frames < last.frames || now.at <= last.at) {
      return undefined;
    }
    return (1_000 * (now.frames - last.frames)) / (now.at - last.at);
  }
}
