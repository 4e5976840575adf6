/**
 * Follows one peer's HLS as a player does, keeps everything it saw, and has strangers judge it: `hls-parser` in strict
 * mode and ffprobe.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import HLS from 'hls-parser';
import type { MasterPlaylist, MediaPlaylist } from 'hls-parser/types';

HLS.setOptions({ strictMode: true });
const run = promisify(execFile);

/** How often playlists are fetched, in milliseconds: as often as there is something new, at least. */
const POLL_MS = 1_000;
/** The slack of EXT-X-TARGETDURATION: RFC 8216 section 4.3.3.1 rounds EXTINF to the nearest second. */
const ROUNDING_S = 0.5;

/** The segments of one rendition that share an init segment. */
interface Run {
  name: string;
  init: Buffer;
  segments: Buffer[];
}

/** One rendition as it was seen. */
export interface Rendition {
  url: string;
  playlists: MediaPlaylist[];
  runs: Run[];
}

/** What ffprobe says of one run of segments. */
export interface Probe {
  codec: string;
  width: number | undefined;
  height: number | undefined;
  frames: number;
  complaints: string;
}

export class HlsArchive {
  readonly masters: MasterPlaylist[] = [];
  readonly renditions = new Map<string, Rendition>();
  /** Everything that was not as it should be. */
  readonly complaints: string[] = [];
  readonly #master: string;
  readonly #fetched = new Map<string, Buffer>();
  #following: Promise<void> | undefined;
  #stopped = false;

  constructor(master: string) {
    this.#master = master;
  }

  /** Begins to follow, in the background, until `stop`. */
  follow(): void {
    this.#following = this.#loop();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#following;
  }

  /** What ffprobe decodes of everything that was fetched, run by run. */
  async probe(): Promise<Probe[]> {
    const folder = await mkdtemp(join(tmpdir(), 'weir-hls-'));
    try {
      const probes: Probe[] = [];
      for (const rendition of this.renditions.values()) {
        for (const [index, part] of rendition.runs.entries()) {
          const file = join(folder, `${probes.length}-${index}.mp4`);
          await writeFile(file, Buffer.concat([part.init, ...part.segments]));
          probes.push(await probeFile(file));
        }
      }
      return probes;
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  async #loop(): Promise<void> {
    while (!this.#stopped) {
      await this.#round();
      await new Promise((wake) => setTimeout(wake, POLL_MS));
    }
  }

  async #round(): Promise<void> {
    const text = await this.#get(this.#master);
    const master = text && this.#parse(this.#master, text.toString());
    if (!master) {
      return;
    }
    if (!master.isMasterPlaylist) {
      this.complaints.push(`${this.#master} is no master playlist`);
      return;
    }
    this.masters.push(master as MasterPlaylist);
    for (const uri of renditionUris(master as MasterPlaylist)) {
      await this.#media(new URL(uri, this.#master).href);
    }
  }

  async #media(url: string): Promise<void> {
    const text = await this.#get(url);
    const playlist = text && this.#parse(url, text.toString());
    if (!playlist) {
      return;
    }
    if (playlist.isMasterPlaylist) {
      this.complaints.push(`${url} is no media playlist`);
      return;
    }
    const media = playlist as MediaPlaylist;
    const rendition = this.renditions.get(url) ?? { url, playlists: [], runs: [] };
    this.renditions.set(url, rendition);
    rendition.playlists.push(media);
    // What behind the last segment's parts is not complete has no name yet.
    for (const segment of media.segments.filter((segment) => segment.uri !== '')) {
      if (segment.duration > media.targetDuration + ROUNDING_S) {
        this.complaints.push(`${segment.uri}: EXTINF ${segment.duration} over TARGETDURATION ${media.targetDuration}`);
      }
      if (segment.map) {
        await this.#segment(rendition, new URL(segment.map.uri, url).href, new URL(segment.uri, url).href);
      } else {
        this.complaints.push(`${segment.uri} has no EXT-X-MAP`);
      }
    }
  }

  async #segment(rendition: Rendition, map: string, url: string): Promise<void> {
    if (this.#fetched.has(url)) {
      return;
    }
    const init = this.#fetched.get(map) ?? (await this.#get(map));
    const body = await this.#get(url);
    if (!init || !body) {
      return;
    }
    this.#fetched.set(map, init).set(url, body);
    const last = rendition.runs.at(-1);
    if (last?.name === map) {
      last.segments.push(body);
    } else {
      rendition.runs.push({ name: map, init, segments: [body] });
    }
  }

  /** Whatever a playlist names has to be there. */
  async #get(url: string): Promise<Buffer | undefined> {
    try {
      const response = await fetch(url);
      const body = Buffer.from(await response.arrayBuffer());
      if (response.status === 200) {
        return body;
      }
      this.complaints.push(`${url}: ${response.status}`);
    } catch (error) {
      this.complaints.push(`${url}: ${error}`);
    }
    return undefined;
  }

  #parse(url: string, text: string): HLS.types.MasterPlaylist | HLS.types.MediaPlaylist | undefined {
    try {
      return HLS.parse(text);
    } catch (error) {
      this.complaints.push(`${url}: ${error}\n${text}`);
      return undefined;
    }
  }
}

function renditionUris(master: MasterPlaylist): Set<string> {
  const uris = new Set<string>();
  for (const variant of master.variants) {
    uris.add(variant.uri);
    for (const audio of variant.audio) {
      if (audio.uri) {
        uris.add(audio.uri);
      }
    }
  }
  return uris;
}

async function probeFile(file: string): Promise<Probe> {
  const fields = 'stream=codec_name,width,height,nb_read_frames';
  const flags = ['-v', 'error', '-count_frames', '-show_entries', fields, '-of', 'json', file];
  const { stdout, stderr } = await run('ffprobe', flags);
  const [stream] = (JSON.parse(stdout) as { streams: Record<string, string | number>[] }).streams;
  return {
    codec: String(stream?.['codec_name']),
    width: stream?.['width'] as number | undefined,
    height: stream?.['height'] as number | undefined,
    frames: Number(stream?.['nb_read_frames'] ?? 0),
    complaints: stderr.trim(),
  };
}
