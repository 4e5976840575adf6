/**
 * One peer in the room, as the streaming-backend frontend is one.
 */
import { Device, type types } from 'mediasoup-client';
import { Device as DeviceOf318 } from 'mediasoup-client-3.18';
import { io, type Socket } from 'socket.io-client';
import { capture, keepResolution, type PublishOptions, type Received, receivedBy, type Sent, sentBy } from './media';

/** Which `mediasoup-client` a participant is made of. */
export type ClientVersion = 'newest' | '3.18';

/** An event from the server, and when it came (milliseconds since 1970). */
export interface Seen {
  event: string;
  at: number;
  message: Record<string, unknown>;
}

export class Participant {
  readonly seen: Seen[] = [];
  readonly #socket: Socket;
  readonly #consumers: { peerId: string; consumer: types.Consumer }[] = [];
  readonly #producers = new Map<string, types.Producer>();
  #device: Device | undefined;
  #send: types.Transport | undefined;
  #receive: types.Transport | undefined;

  readonly #newDevice: () => Device;

  constructor(server: string, client: ClientVersion = 'newest') {
    // The two versions' types don't know each other; what is used of them is the same.
    this.#newDevice = client === '3.18' ? () => new DeviceOf318() as unknown as Device : () => new Device();
    this.#socket = io(server, { autoConnect: false });
    this.#socket.onAny((event: string, message: Record<string, unknown>) => {
      this.seen.push({ event, at: Date.now(), message });
    });
    this.#socket.on('disconnect', (reason) => {
      this.seen.push({ event: 'disconnect', at: Date.now(), message: { reason } });
    });
    this.#socket.on('newProducer', ({ producerSocketId, producerId }) => {
      void this.#consume(producerSocketId, producerId);
    });
  }

  async join(publish: PublishOptions = {}): Promise<string> {
    const connected = new Promise<void>((resolve) => this.#socket.once('connect', resolve));
    this.#socket.connect();
    await connected;
    const { rtpCapabilities } = await this.#ask('getRouterRtpCapabilities', undefined);
    const device = this.#newDevice();
    await device.load({ routerRtpCapabilities: rtpCapabilities });
    this.#device = device;
    this.#send = this.#wire(
      device.createSendTransport(await this.#ask('createWebRtcTransport', { isConsumer: false })),
    );
    this.#receive = this.#wire(
      device.createRecvTransport(await this.#ask('createWebRtcTransport', { isConsumer: true })),
    );
    await this.publish(publish);
    const { producers } = await this.#askBare('getProducers');
    for (const { peerId, producerId } of producers) {
      void this.#consume(peerId, producerId);
    }
    return this.#socket.id ?? '';
  }

  setPaused(kind: 'audio' | 'video', paused: boolean): void {
    const producer = this.#producers.get(kind);
    if (paused) {
      producer?.pause();
    } else {
      producer?.resume();
    }
    this.#socket.emit(paused ? 'pauseProducer' : 'resumeProducer', { kind });
  }

  /** Sends silence instead of the microphone, and tells nobody. */
  setSilent(silent: boolean): void {
    const track = this.#producers.get('audio')?.track;
    if (track) {
      track.enabled = !silent;
    }
  }

  async replaceVideo(width: number, height: number): Promise<void> {
    const producer = this.#producers.get('video');
    // The fake device has one size at a time.
    producer?.track?.stop();
    const [track] = (await capture({ video: { width, height } })).getVideoTracks();
    await producer?.replaceTrack({ track: track ?? null });
  }

  async received(): Promise<Received[]> {
    return Promise.all(this.#consumers.map(({ peerId, consumer }) => receivedBy(peerId, consumer)));
  }

  async sent(): Promise<Sent[]> {
    return (await Promise.all([...this.#producers.values()].map(sentBy))).flat();
  }

  /** Publishes what the options say, besides what is published. */
  async publish(options: PublishOptions): Promise<void> {
    if (!options.audio && !options.video) {
      return;
    }
    const stream = await capture(options);
    const [audio] = stream.getAudioTracks();
    const [video] = stream.getVideoTracks();
    if (audio) {
      await this.#produce({ track: audio, ...(options.dtx && { codecOptions: { opusDtx: true } }) });
    }
    if (video) {
      const codec = this.#device?.sendRtpCapabilities.codecs?.find(
        (candidate) => candidate.mimeType.toLowerCase() === options.codec?.toLowerCase(),
      );
      if (options.codec && !codec) {
        throw new Error(`${options.codec} is not shared with the router`);
      }
      await this.#produce({
        track: video,
        ...(codec && { codec }),
        ...(options.encodings && { encodings: options.encodings }),
        ...(options.keepResolution && { onRtpSender: keepResolution }),
        codecOptions: { videoGoogleStartBitrate: 1000 },
      });
    }
  }

  async #produce(options: types.ProducerOptions): Promise<void> {
    const producer = await this.#send?.produce(options);
    if (producer) {
      this.#producers.set(producer.kind, producer);
    }
  }

  async #consume(peerId: string, remoteProducerId: string): Promise<void> {
    const rtpCapabilities = this.#device?.rtpCapabilities;
    const answer = await this.#ask('transportConsume', { rtpCapabilities, remoteProducerId });
    const { id, producerId, kind, rtpParameters } = answer;
    const consumer = await this.#receive?.consume({ id, producerId, kind, rtpParameters });
    if (!consumer) {
      throw new Error('there is no receive transport');
    }
    this.#consumers.push({ peerId, consumer });
    const element = document.createElement(kind === 'audio' ? 'audio' : 'video');
    element.autoplay = true;
    element.srcObject = new MediaStream([consumer.track]);
    document.body.append(element);
    this.#socket.emit('resumeConsumer', { consumerId: id });
  }

  #wire(transport: types.Transport): types.Transport {
    transport.on('connect', ({ dtlsParameters }, done, failed) => {
      this.#ask('connectTransport', { transportId: transport.id, dtlsParameters }).then(() => done(), failed);
    });
    transport.on('produce', ({ kind, rtpParameters }, done, failed) => {
      this.#ask('transportProduce', { kind, rtpParameters }).then(done, failed);
    });
    return transport;
  }

  // biome-ignore lint/suspicious/noExplicitAny: answers are the server's; mediasoup-client checks what it is given.
  async #ask(event: string, request: unknown): Promise<any> {
    return refuse(event, await new Promise((resolve) => this.#socket.emit(event, request, resolve)));
  }

  // biome-ignore lint/suspicious/noExplicitAny: as above.
  async #askBare(event: string): Promise<any> {
    return refuse(event, await new Promise((resolve) => this.#socket.emit(event, resolve)));
  }
}

function refuse(event: string, answer: unknown): unknown {
  if (typeof answer === 'object' && answer !== null && 'error' in answer) {
    throw new Error(`${event}: ${answer.error}`);
  }
  return answer;
}
