/**
 * Publishing over WHIP and playing over WHEP, with clients that others wrote.
 */
import { WHIPClient as EyevinnClient } from '@eyevinn/whip-web-client';
import { WHEPClient } from 'whip-whep/whep.js';
import { WHIPClient } from 'whip-whep/whip.js';
import { capture, keepResolution, type PublishOptions, readStats } from './media';

/** Which client publishes. */
export type WhipClient = 'whip-whep' | 'eyevinn';

/** What is received of one kind. */
export interface WhepReceived {
  kind: string;
  framesDecoded: number;
  frameWidth: number;
  totalAudioEnergy: number;
}

/** What a publisher or player can be told, whichever client it is. */
interface Session {
  pc: RTCPeerConnection;
  restart?(): Promise<void>;
  stop(): Promise<void>;
}

const sessions: Session[] = [];

/** Publishes from the browser's fake devices, until it is stopped. */
export async function publishWhip(
  url: string,
  client: WhipClient,
  options: PublishOptions,
  key?: string,
): Promise<void> {
  const stream = await capture(options);
  if (client === 'eyevinn') {
    let pc = new RTCPeerConnection();
    const peerConnectionFactory = (configuration: RTCConfiguration) => {
      pc = new RTCPeerConnection({ ...configuration, iceServers: [] });
      return pc;
    };
    const opts = { noTrickleIce: true, timeout: 200, ...(key && { authkey: key }) };
    const eyevinn = new EyevinnClient({ endpoint: url, opts, peerConnectionFactory });
    await eyevinn.ingest(stream);
    await eyevinn.getResourceUrl();
    sessions.push({ pc, stop: () => eyevinn.destroy() });
    return;
  }
  const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  for (const track of stream.getTracks()) {
    const sendEncodings = track.kind === 'video' && options.encodings ? { sendEncodings: options.encodings } : {};
    const { sender } = pc.addTransceiver(track, { direction: 'sendonly', streams: [stream], ...sendEncodings });
    if (options.keepResolution && track.kind === 'video') {
      keepResolution(sender);
    }
  }
  const whip = new WHIPClient();
  await whip.publish(pc, url, key);
  sessions.push({ pc, restart: async () => whip.restart(), stop: () => whip.stop() });
}

/** Plays, until it is stopped. */
export async function playWhep(url: string, token?: string): Promise<void> {
  const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  const video = document.createElement('video');
  video.autoplay = true;
  video.srcObject = new MediaStream();
  document.body.append(video);
  pc.ontrack = ({ track }) => (video.srcObject as MediaStream).addTrack(track);
  pc.addTransceiver('audio', { direction: 'recvonly' });
  pc.addTransceiver('video', { direction: 'recvonly' });
  const whep = new WHEPClient();
  await whep.view(pc, url, token);
  sessions.push({ pc, restart: async () => whep.restart(), stop: () => whep.stop() });
}

/** What this page receives of each kind. */
export async function receivedOverWhep(): Promise<WhepReceived[]> {
  const reports = await Promise.all(sessions.map(({ pc }) => readStats(pc.getStats())));
  const inbound = reports.flat().filter(({ type }) => type === 'inbound-rtp');
  return inbound.map((entry) => ({
    kind: entry['kind'],
    framesDecoded: entry['framesDecoded'] ?? 0,
    frameWidth: entry['frameWidth'] ?? 0,
    totalAudioEnergy: entry['totalAudioEnergy'] ?? 0,
  }));
}

/** What this page's ICE agents use: how far they are, and their own username fragments. */
export function iceOf(): { state: string; ufrag: string | undefined; remoteUfrag: string | undefined }[] {
  const ufrag = (sdp: string | undefined) => sdp?.match(/a=ice-ufrag:(\S+)/)?.[1];
  return sessions.map(({ pc }) => ({
    state: pc.connectionState,
    ufrag: ufrag(pc.currentLocalDescription?.sdp),
    remoteUfrag: ufrag(pc.currentRemoteDescription?.sdp),
  }));
}

/** Restarts ICE of what was begun last. */
export async function restartIce(): Promise<void> {
  await sessions.at(-1)?.restart?.();
}

/** Ends what was begun last, as its client does. */
export async function stopSession(): Promise<void> {
  await sessions.pop()?.stop();
}
