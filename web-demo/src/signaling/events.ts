/**
 * What is said over Socket.IO, and nothing else: the events of both directions and the shapes of their answers.
 */
import type { types } from 'mediasoup-client';

/** The server's way to say no: what failed and why. */
export interface Refusal {
  error: string;
}

/** What an acknowledgement carries. */
export type Answer<T> = T | Refusal;

/** What the server tells without being asked. */
export interface ServerEvents {
  connectionSuccess(message: { socketId: string }): void;
  newProducer(message: { producerId: string; producerSocketId: string }): void;
  producerChange(message: { kind: types.MediaKind; peerId: string; paused: boolean }): void;
  peerLeft(message: { peerId: string }): void;
}

/** A consumer as the server made it; it starts paused. */
export interface ConsumerAnswer {
  id: string;
  producerId: string;
  kind: types.MediaKind;
  rtpParameters: types.RtpParameters;
  producerPaused?: boolean;
}

type Ack<T> = (answer: Answer<T>) => void;

/** What the page asks of the server. */
export interface ClientEvents {
  getRouterRtpCapabilities(nothing: null, ack: Ack<{ rtpCapabilities: types.RtpCapabilities }>): void;
  createWebRtcTransport(request: { isConsumer: boolean }, ack: Ack<types.TransportOptions>): void;
  connectTransport(
    request: { transportId: string; dtlsParameters: types.DtlsParameters },
    ack: Ack<{ connected: true }>,
  ): void;
  transportProduce(
    request: { kind: types.MediaKind; rtpParameters: types.RtpParameters },
    ack: Ack<{ id: string }>,
  ): void;
  transportConsume(
    request: { rtpCapabilities: types.RtpCapabilities; remoteProducerId: string },
    ack: Ack<ConsumerAnswer>,
  ): void;
  getProducers(ack: Ack<{ producers: { peerId: string; producerId: string }[] }>): void;
  resumeConsumer(request: { consumerId: string }): void;
  pauseProducer(request: { kind: types.MediaKind }): void;
  resumeProducer(request: { kind: types.MediaKind }): void;
}
