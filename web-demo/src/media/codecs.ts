/**
 * Which video codecs this browser and the server share, and how a video is encoded with each.
 */
import type { types } from 'mediasoup-client';
import type { Resolution } from './capture';

/** How a video is to be sent. */
export interface VideoChoice {
  /** Lower-case MIME type, such as `video/h264`. */
  mimeType: string;
  simulcast: boolean;
  resolution: Resolution;
}

/** Codecs in the order in which they are offered: H.264 first, because weir passes it through to HLS as it is. */
const PREFERENCE = ['video/h264', 'video/vp8', 'video/vp9', 'video/av1'];

const NAMES: Record<string, string> = {
  'video/h264': 'H.264',
  'video/vp8': 'VP8',
  'video/vp9': 'VP9',
  'video/av1': 'AV1',
  'audio/opus': 'Opus',
};

/** A codec's name as people write it. */
export function codecName(mimeType: string): string {
  return NAMES[mimeType.toLowerCase()] ?? mimeType.replace(/^\w+\//, '');
}

/** Video codecs that both sides can use, as lower-case MIME types, best first. */
export function sharedVideoCodecs(capabilities: types.RtpCapabilities): string[] {
  const shared = new Set((capabilities.codecs ?? []).map((codec) => codec.mimeType.toLowerCase()));
  return PREFERENCE.filter((mimeType) => shared.has(mimeType));
}

/** The capability that `produce` is given to pick a codec. */
export function findCodec(capabilities: types.RtpCapabilities, mimeType: string): types.RtpCodecCapability | undefined {
  return (capabilities.codecs ?? []).find((codec) => codec.mimeType.toLowerCase() === mimeType);
}

/** Whether a codec is sent in several sizes; VP9 and AV1 put their layers inside one stream instead. */
export function canSimulcast(mimeType: string): boolean {
  return mimeType === 'video/h264' || mimeType === 'video/vp8';
}

/** The encodings to produce with, smallest first. */
export function encodingsFor({ mimeType, simulcast, resolution }: VideoChoice): types.RtpEncodingParameters[] {
  const { bitrate } = resolution;
  if (!simulcast || !canSimulcast(mimeType)) {
    return [{ maxBitrate: bitrate }];
  }
  return [
    { scaleResolutionDownBy: 4, maxBitrate: Math.round(bitrate / 12), scalabilityMode: 'L1T3' },
    { scaleResolutionDownBy: 2, maxBitrate: Math.round(bitrate / 4), scalabilityMode: 'L1T3' },
    { scaleResolutionDownBy: 1, maxBitrate: bitrate, scalabilityMode: 'L1T3' },
  ];
}
