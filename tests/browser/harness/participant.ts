/**
 * One peer in the room, as the streaming-backend frontend is one.
 */
import { Device, type types } from 'mediasoup-client';
import { Device as DeviceOf318 } from 'mediasoup-client-3.18';
import { io, type Socket } from 'socket.io-client';
import { clockTrack, toneTrack } from './clock';

/** Which `mediasoup-client` a participant is made of. */
export type ClientVersion = 'newest' | '3.18';

/** What to publish from the browser's fake devices. */
export interface PublishOptions {
  audio?: boolean;
  video?: { width: number; height: number };
  /** Sends a burned-in clock and a tone instead of the fake devices. */
  clock?: boolean;
  /** MIME type of the video codec; without it mediasoup-client takes the router's first. */
  codec?: string;
  encodings?: types.RtpEncodingParameters[];
  /** Keeps the encoder at the size of the track, whatever it thinks of the machine. */
  keepResolution?: boolean;
}

/** An event from the server, and when it came (milliseconds since 1970). */
export interface Seen {
  event: string;
  at: number;
  message: Record<string, unknown>;
}

/** What is received from one remote producer. */
export interface Received {
  peerId: string;
  kind: string;
  codec: string | undefined;
  framesDecoded: number;
  frameWidth: number;
  frameHeight: number;
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
    await this.#publish(publish);
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

  async replaceVideo(width: number, height: number): Promise<void> {
    const producer = this.#producers.get('video');
    // The fake device has one size at a time.
    producer?.track?.stop();
    const [track] = (await capture({ video: { width, height } })).getVideoTracks();
    await producer?.replaceTrack({ track: track ?? null });
  }

  async received(): Promise<Received[]> {
    return Promise.all(
      this.#consumers.map(async ({ peerId, consumer }) => {
        const stats = await readStats(consumer.getStats());
        const inbound = stats.find((entry) => entry.type === 'inbound-rtp');
        return {
          peerId,
          kind: consumer.kind,
          codec: codecOf(stats, inbound),
          framesDecoded: inbound?.['framesDecoded'] ?? 0,
          frameWidth: inbound?.['frameWidth'] ?? 0,
          frameHeight: inbound?.['frameHeight'] ?? 0,
          totalAudioEnergy: inbound?.['totalAudioEnergy'] ?? 0,
          packetsReceived: inbound?.['packetsReceived'] ?? 0,
          packetsLost: inbound?.['packetsLost'] ?? 0,
          freezeCount: inbound?.['freezeCount'] ?? 0,
          totalFreezesDuration: inbound?.['totalFreezesDuration'] ?? 0,
          srtpCipher: stats.find((entry) => entry.type === 'transport')?.['srtpCipher'],
        };
      }),
    );
  }

  async sent(): Promise<Sent[]> {
    const reports = await Promise.all([...this.#producers.values()].map((producer) => readStats(producer.getStats())));
    return reports.flatMap((stats) =>
      stats
        .filter((entry) => entry.type === 'outbound-rtp')
        .map((outbound) => ({
          kind: outbound['kind'],
          rid: outbound['rid'],
          codec: codecOf(stats, outbound),
          bytesSent: outbound['bytesSent'] ?? 0,
          frameWidth: outbound['frameWidth'] ?? 0,
          frameHeight: outbound['frameHeight'] ?? 0,
          srtpCipher: stats.find((entry) => entry.type === 'transport')?.['srtpCipher'],
        })),
    );
  }

  async #publish(options: PublishOptions): Promise<void> {
    if (!options.audio && !options.video) {
      return;
    }
    const stream = await capture(options);
    const [audio] = stream.getAudioTracks();
    const [video] = stream.getVideoTracks();
    if (audio) {
      await this.#produce({ track: audio });
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

async function capture({ audio, video, clock }: PublishOptions): Promise<MediaStream> {
  if (clock) {
    return new MediaStream([
      ...(audio ? [toneTrack()] : []),
      ...(video ? [clockTrack(video.width, video.height)] : []),
    ]);
  }
  return navigator.mediaDevices.getUserMedia({
    audio: audio ?? false,
    video: video ? { width: { exact: video.width }, height: { exact: video.height } } : false,
  });
}

function keepResolution(sender: RTCRtpSender): void {
  const parameters = sender.getParameters();
  parameters.degradationPreference = 'maintain-resolution';
  void sender.setParameters(parameters);
}

async function readStats(report: Promise<RTCStatsReport>): Promise<Stats[]> {
  const entries: Stats[] = [];
  (await report).forEach((entry) => {
    entries.push(entry);
  });
  return entries;
}

function codecOf(stats: Stats[], stream: Stats | undefined): string | undefined {
  return stats.find((entry) => entry.id === stream?.['codecId'])?.['mimeType'];
}
