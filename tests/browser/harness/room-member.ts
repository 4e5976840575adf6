/**
 * One peer that speaks the rooms dialect (docs/wire/rooms.md), with a stock `mediasoup-client`.
 */
import { Device, type types } from 'mediasoup-client';
import { io, type Socket } from 'socket.io-client';
import { capture, type PublishOptions, type Received, readStats, receivedBy } from './media';

/** How long an answer may take, in milliseconds. */
const ANSWER_TIMEOUT_MS = 10_000;

type Direction = 'send' | 'receive';

export class RoomMember {
  /** Notifications of the server, in order. */
  readonly notified: { event: string; message: Record<string, unknown> }[] = [];
  readonly #socket: Socket;
  readonly #transports = new Map<Direction, types.Transport>();
  readonly #consumers = new Map<string, { peerId: string; consumer: types.Consumer }>();
  #device: Device | undefined;

  private constructor(server: string, roomId: string) {
    this.#socket = io(`${server}/rooms`, { auth: { roomId }, autoConnect: false });
    this.#socket.onAny((event: string, message: Record<string, unknown>) => {
      this.notified.push({ event, message });
    });
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
    await member.request('join', { displayName: 'someone', rtpCapabilities: device.recvRtpCapabilities });
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
    const options = await this.request('createWebRtcTransport', { producing, consuming: !producing });
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
