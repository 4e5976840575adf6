/**
 * Runs in the browser: a stock `mediasoup-client` and a stock hls.js, driven step by step by the tests.
 *
 * The steps and their order are those of the streaming-backend frontend: connect, capabilities, device, send and receive transport,
 * produce audio, then video, ask who else produces, consume each, resume.
 */
import type { HlsConfig } from 'hls.js';
import { BeepReader } from './beeps';
import { ClockReader } from './clock';
import { HlsViewer } from './hls-viewer';
import type { PublishOptions } from './media';
import { type OtherPlayer, type PlayerReport, playWith } from './other-players';
import { type ClientVersion, Participant } from './participant';
import { RoomMember } from './room-member';
import * as whip from './whip';

const participants: Participant[] = [];
const clocks: ClockReader[] = [];
let beeps: BeepReader | undefined;
let viewer: HlsViewer | undefined;
let other: (() => PlayerReport) | undefined;

function participant(): Participant {
  const first = participants[0];
  if (!first) {
    throw new Error('join() was not called');
  }
  return first;
}

let member: RoomMember | undefined;

function roomMember(): RoomMember {
  if (!member) {
    throw new Error('joinRoom() was not called');
  }
  return member;
}

const harness = {
  /** Joins a room in the rooms dialect and answers with the peer id. */
  async joinRoom(server: string, roomId: string): Promise<string> {
    member = await RoomMember.join(server, roomId);
    return member.id;
  },
  /** The peer that joined so. */
  member: roomMember,

  /** Joins the room, publishing what the options say, and answers with the peer id. */
  async join(server: string, publish?: PublishOptions, client?: ClientVersion): Promise<string> {
    const joined = new Participant(server, client);
    participants.push(joined);
    return joined.join(publish);
  },
  received: () => participant().received(),
  sent: () => participant().sent(),
  /** From now on, the burned-in clocks of all videos on the page are read. */
  readClocks(): void {
    clocks.push(...[...document.querySelectorAll('video')].map((video) => new ClockReader(video)));
  },
  /** Glass to glass latencies since the last call, in milliseconds. */
  takeLatencies: () => clocks.flatMap((clock) => clock.frames.splice(0).map(({ latency }) => latency)),
  /** From now on, the beeps of the page's only sound are heard. */
  async hearBeeps(): Promise<void> {
    const elements = [...document.querySelectorAll<HTMLMediaElement>('video, audio')];
    const sounding = elements.filter(
      ({ srcObject }) => !(srcObject instanceof MediaStream) || srcObject.getAudioTracks().length > 0,
    );
    const [element] = sounding;
    if (element) {
      beeps = await BeepReader.start(element);
    }
  },
  /** Frames seen and beeps heard since the last call. */
  takeSeenAndHeard: () => ({
    frames: clocks.flatMap((clock) => clock.frames.splice(0)),
    beeps: beeps?.heard.splice(0) ?? [],
  }),
  seen: () => participant().seen,
  setPaused: (kind: 'audio' | 'video', paused: boolean) => participant().setPaused(kind, paused),
  publish: (options: PublishOptions) => participant().publish(options),
  setSilent: (silent: boolean) => participant().setSilent(silent),
  replaceVideo: (width: number, height: number) => participant().replaceVideo(width, height),

  /** Plays with hls.js. */
  playHls(url: string, config?: Partial<HlsConfig>, likeDemo?: boolean): void {
    viewer = new HlsViewer(url, config, likeDemo);
  },
  hls: () => viewer?.report(),
  /** Lets hls.js show one variant from the next segment on; -1 leaves the choice to it. */
  switchTo: (level: number) => viewer?.switchTo(level),
  /** WHIP and WHEP. */
  whip,
  /** Plays with another player. */
  async playWith(player: OtherPlayer, url: string): Promise<void> {
    other = await playWith(player, url);
  },
  other: () => other?.(),
};

export type Harness = typeof harness;

declare global {
  interface Window {
    harness: Harness;
  }
}

window.harness = harness;
