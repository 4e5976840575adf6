/**
 * What every participant does with media, whatever it speaks to the server.
 */
import type { types } from 'mediasoup-client';
import { beepTrack } from './beeps';
import { clockTrack } from './clock';

/** What to publish from the browser's fake devices. */
export interface PublishOptions {
  audio?: boolean;
  video?: { width: number; height: number };
  /** Sends a burned-in clock and beeps instead of the fake devices. */
  clock?: boolean;
  /** MIME type of the video codec; without it mediasoup-client takes the router's first. */
  codec?: string;
  encodings?: types.RtpEncodingParameters[];
  /** Sends hardly any packets while there is no sound. */
  dtx?: boolean;
  /** Keeps the encoder at the size of the track, whatever it thinks of the machine. */
  keepResolution?: boolean;
}

/** What is received from one remote producer. */
export interface Received {
  peerId: string;
  kind: string;
  codec: string | undefined;
  framesDecoded: number;
  frameWidth: number;
  frameHeight: number;
  framesPerSecond: number;
  totalAudioEnergy: number;
  packetsReceived: number;
  packetsLost: number;
  freezeCount: number;
  totalFreezesDuration: number;
  srtpCipher: string | undefined;
}

/** What is sent of one RTP stream. */
export interface Sent {
  kind: string;
  rid: string | undefined;
  codec: string | undefined;
  bytesSent: number;
  frameWidth: number;
  frameHeight: number;
  srtpCipher: string | undefined;
}

// biome-ignore lint/suspicious/noExplicitAny: WebRTC's own types leave most of these fields out.
type Stats = Record<string, any> & { id: string; type: string };

/** What a consumer has received so far. */
export async function receivedBy(peerId: string, consumer: types.Consumer): Promise<Received> {
  const stats = await readStats(consumer.getStats());
  const inbound = stats.find((entry) => entry.type === 'inbound-rtp');
  return {
    peerId,
    kind: consumer.kind,
    codec: codecOf(stats, inbound),
    framesDecoded: inbound?.['framesDecoded'] ?? 0,
    frameWidth: inbound?.['frameWidth'] ?? 0,
    frameHeight: inbound?.['frameHeight'] ?? 0,
    framesPerSecond: inbound?.['framesPerSecond'] ?? 0,
    totalAudioEnergy: inbound?.['totalAudioEnergy'] ?? 0,
    packetsReceived: inbound?.['packetsReceived'] ?? 0,
    packetsLost: inbound?.['packetsLost'] ?? 0,
    freezeCount: inbound?.['freezeCount'] ?? 0,
    totalFreezesDuration: inbound?.['totalFreezesDuration'] ?? 0,
    srtpCipher: stats.find((entry) => entry.type === 'transport')?.['srtpCipher'],
  };
}

/** What a producer has sent so far, of each of its streams. */
export async function sentBy(producer: types.Producer): Promise<Sent[]> {
  const stats = await readStats(producer.getStats());
  return stats
    .filter((entry) => entry.type === 'outbound-rtp')
    .map((outbound) => ({
      kind: outbound['kind'],
      rid: outbound['rid'],
      codec: codecOf(stats, outbound),
      bytesSent: outbound['bytesSent'] ?? 0,
      frameWidth: outbound['frameWidth'] ?? 0,
      frameHeight: outbound['frameHeight'] ?? 0,
      srtpCipher: stats.find((entry) => entry.type === 'transport')?.['srtpCipher'],
    }));
}

export async function capture({ audio, video, clock }: PublishOptions): Promise<MediaStream> {
  if (clock) {
    return new MediaStream([
      ...(audio ? [beepTrack()] : []),
      ...(video ? [clockTrack(video.width, video.height)] : []),
    ]);
  }
  return navigator.mediaDevices.getUserMedia({
    audio: audio ?? false,
    video: video ? { width: { exact: video.width }, height: { exact: video.height } } : false,
  });
}

export function keepResolution(sender: RTCRtpSender): void {
  const parameters = sender.getParameters();
  parameters.degradationPreference = 'maintain-resolution';
  void sender.setParameters(parameters);
}

/** The entries of a report as a list. */
export async function readStats(report: RTCStatsReport | Promise<RTCStatsReport>): Promise<Stats[]> {
  const entries: Stats[] = [];
  (await report).forEach((entry) => {
    entries.push(entry);
  });
  return entries;
}

function codecOf(stats: Stats[], stream: Stats | undefined): string | undefined {
  return stats.find((entry) => entry.id === stream?.['codecId'])?.['mimeType'];
}
