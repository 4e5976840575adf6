/**
 * One peer that speaks the rooms dialect (docs/wire/rooms.md), with a stock `mediasoup-client`.
 */
import { Device, type types } from 'mediasoup-client';
import { io, type Socket } from 'socket.io-client';
import { capture, keepResolution, type PublishOptions, type Received, readStats, receivedBy } from './media';

/** How long an answer may take, in milliseconds. */
const ANSWER_TIMEOUT_MS = 10_000;

/** Bytes that may wait in a data channel of the browser before more is sent. */
const MAX_BUFFERED = 64 * 1024;
/** Messages that may be under way: the server keeps a limited number of bytes for a slow receiver, and drops the rest. */
const MAX_UNANSWERED = 1000;
const GREETING = 'hello';

type Direction = 'send' | 'receive';

export class RoomMember {
  /** Notifications of the server, in order. */
  readonly notified: { event: string; message: Record<string, unknown> }[] = [];
  readonly #socket: Socket;
  readonly #transports = new Map<Direction, types.Transport>();
  readonly #consumers = new Map<string, { peerId: string; consumer: types.Consumer }>();
  readonly #channels = new Map<string, types.DataProducer>();
  readonly #messages: string[] = [];
  #echo: string | undefined;
  #hasGreeting = false;
  #device: Device | undefined;

  private constructor(server: string, roomId: string) {
    this.#socket = io(`${server}/rooms`, { auth: { roomId }, autoConnect: false });
    this.#socket.onAny((event: string, message: Record<string, unknown>) => {
      this.notified.push({ event, message });
    });
    this.#socket.on('newDataConsumer', (offer, done) =>
      this.#consumeData(offer).then(
        () => done(),
        (error) => done({ error: String(error) }),
      ),
    );
    this.#socket.on('newConsumer', (offer, done) =>
      this.#consume(offer).then(
        () => done(),
        (error) => done({ error: String(error) }),
      ),
    );
  }

  static async join(server: string, roomId: string): Promise<RoomMember> {
    const member = new RoomMember(server, roomId);
    const connected = new Promise<void>((resolve) => member.#socket.once('connect', resolve));
    member.#socket.connect();
    await connected;
    const device = new Device();
    await device.load({ routerRtpCapabilities: await member.request('getRouterRtpCapabilities') });
    member.#device = device;
    await member.#createTransport('send');
    await member.#createTransport('receive');
    await member.request('join', {
      displayName: 'someone',
      rtpCapabilities: device.recvRtpCapabilities,
      enableSctp: true,
    });
    return member;
  }

  get id(): string {
    return this.#socket.id ?? '';
  }

  async publish(options: PublishOptions): Promise<void> {
    for (const track of (await capture(options)).getTracks()) {
      const isVideo = track.kind === 'video';
      const codec = this.#device?.sendRtpCapabilities.codecs?.find(
        ({ mimeType }) => isVideo && mimeType.toLowerCase() === options.codec?.toLowerCase(),
      );
      await this.#transport('send').produce({
        track,
        ...(codec && { codec }),
        ...(isVideo && options.encodings && { encodings: options.encodings }),
        ...(isVideo && options.keepResolution && { onRtpSender: keepResolution }),
        ...(isVideo && { codecOptions: { videoGoogleStartBitrate: 2500 } }),
      });
    }
  }

  received(): Promise<Received[]> {
    return Promise.all([...this.#consumers.values()].map(({ peerId, consumer }) => receivedBy(peerId, consumer)));
  }

  /** The id of the only video consumer. */
  videoConsumerId(): string {
    const found = [...this.#consumers.values()].find(({ consumer }) => consumer.kind === 'video');
    return found?.consumer.id ?? '';
  }

  /** Restarts ICE of one transport, as after a change of network. */
  async restartIce(direction: Direction): Promise<void> {
    const transport = this.#transport(direction);
    const iceParameters = await this.request('restartIce', { transportId: transport.id });
    await transport.restartIce({ iceParameters });
  }

  /** The path that a transport uses: protocol, and the client's own port. */
  async path(direction: Direction): Promise<{ protocol: string; port: number; ufrag: string }> {
    const stats = await this.#transport(direction).getStats();
    const transport = (await readStats(stats)).find(({ type }) => type === 'transport');
    const local = stats.get(stats.get(transport?.['selectedCandidatePairId'])?.localCandidateId) ?? {};
    return {
      protocol: String(local['protocol'] ?? ''),
      port: Number(local['port'] ?? 0),
      ufrag: String(local['usernameFragment'] ?? ''),
    };
  }

  /** Opens a data channel to the others. */
  async openChannel(label: string): Promise<void> {
    const channel = await this.#transport('send').produceData({ ordered: true, label });
    if (channel.readyState !== 'open') {
      await new Promise((resolve) => channel.once('open', () => resolve(undefined)));
    }
    this.#channels.set(label, channel);
  }

  /** What comes on the channels of others goes out on the own channel `label` again. */
  echoOn(label: string): void {
    this.#echo = label;
  }

  /** Sends `count` messages of different sizes on the own channel, as fast as they come back. */
  async sendMessages(label: string, count: number): Promise<void> {
    // What is sent before the others have their end of the channel is lost.
    while (!this.#hasGreeting) {
      await this.#send(label, GREETING);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    for (let index = 0; index < count; index += 1) {
      while (index - this.#messages.length >= MAX_UNANSWERED) {
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      await this.#send(label, messageOf(index));
    }
  }

  /** How many of `sendMessages` have come back, in order and whole; a wrong one ends the count. */
  echoed(): number {
    return this.#messages.findIndex((message, index) => message !== messageOf(index)) === -1
      ? this.#messages.length
      : -1;
  }

  async #send(label: string, message: string): Promise<void> {
    const channel = this.#channels.get(label);
    while (channel && channel.bufferedAmount > MAX_BUFFERED) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    channel?.send(message);
  }

  async #consumeData(offer: types.DataConsumerOptions): Promise<void> {
    const consumer = await this.#transport('receive').consumeData(offer);
    let sending = Promise.resolve();
    consumer.on('message', (message: string) => {
      if (this.#echo === undefined) {
        if (message === GREETING) {
          this.#hasGreeting = true;
        } else {
          this.#messages.push(message);
        }
      } else {
        const label = this.#echo;
        sending = sending.then(() => this.#send(label, message));
      }
    });
  }

  // biome-ignore lint/suspicious/noExplicitAny: answers are the server's; mediasoup-client checks what it is given.
  async request(event: string, data: unknown = null): Promise<any> {
    const answer = await this.#socket.timeout(ANSWER_TIMEOUT_MS).emitWithAck(event, data);
    if (answer?.error) {
      throw new Error(`${event}: ${answer.error}`);
    }
    return answer;
  }

  #transport(direction: Direction): types.Transport {
    const transport = this.#transports.get(direction);
    if (!transport) {
      throw new Error(`there is no transport to ${direction}`);
    }
    return transport;
  }

  async #createTransport(direction: Direction): Promise<void> {
    const producing = direction === 'send';
    const options = await this.request('createWebRtcTransport', { producing, consuming: !producing, enableSctp: true });
    const transport = producing
      ? this.#device?.createSendTransport(options)
      : this.#device?.createRecvTransport(options);
    if (!transport) {
      throw new Error('there is no device');
    }
    transport.on('connect', ({ dtlsParameters }, done, failed) => {
      this.request('connectWebRtcTransport', { transportId: transport.id, dtlsParameters }).then(done, failed);
    });
    transport.on('produce', ({ kind, rtpParameters, appData }, done, failed) => {
      this.request('produce', { transportId: transport.id, kind, rtpParameters, appData }).then(done, failed);
    });
    transport.on('producedata', ({ sctpStreamParameters, label, protocol, appData }, done, failed) => {
      const request = { transportId: transport.id, sctpStreamParameters, label, protocol, appData };
      this.request('produceData', request).then(done, failed);
    });
    this.#transports.set(direction, transport);
  }

  async #consume(offer: types.ConsumerOptions & { peerId: string }): Promise<void> {
    const consumer = await this.#transport('receive').consume(offer);
    this.#consumers.set(consumer.id, { peerId: offer.peerId, consumer });
    const element = document.createElement(consumer.kind === 'audio' ? 'audio' : 'video');
    element.autoplay = true;
    element.srcObject = new MediaStream([consumer.track]);
    document.body.append(element);
  }
}

/** A message that tells its place, of up to a thousand characters. */
function messageOf(index: number): string {
  return `${index}:`.padEnd((index * 37) % 1000, 'x');
}
