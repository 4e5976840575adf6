/**
 * HLS players that are programs, without a screen or a loudspeaker.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

/** Two pictures or sounds that follow each other are at most so far apart, in seconds. */
const MAX_STEP_S = 0.25;
/** The longest that a program may take to start, besides what it plays, in milliseconds. */
const START_MS = 40_000;

const LOOK_MS = 250;
/** ffmpeg appends the init segment again after each reload, and there is no renderer in a machine without a screen. */
const HARMLESS = /Found duplicated MOOV Atom|hardware accelerated renderer/;

/** What a program made of a stream. */
export interface Shown {
  pictures: number;
  sounds: number;
  complaints: string[];
}

/** Lets ffplay play until it has shown `seconds` of pictures. */
export async function framesOfFfplay(url: string, seconds: number): Promise<Shown> {
  const env = { ...process.env, SDL_VIDEODRIVER: 'dummy', SDL_AUDIODRIVER: 'dummy' };
  const flags = ['-loglevel', 'repeat+level+info', '-nostats', '-vf', 'showinfo', '-af', 'ashowinfo', url];
  const ffplay = spawn('ffplay', flags, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const times = (filter: string) => (lines: string[]) =>
    lines.filter((line) => line.includes(`[Parsed_${filter}_`)).flatMap((line) => timeIn(/ pts_time:([\d.]+)/, line));
  const { shown, lines } = await watch(ffplay, seconds, times('showinfo'), times('ashowinfo'));
  const complaints = lines.filter((line) => /\[(warning|error|fatal|panic)\]/.test(line) && !HARMLESS.test(line));
  return { ...shown, complaints: [...shown.complaints, ...complaints] };
}

/** Lets mpv play until it has shown `seconds` of pictures. */
export async function framesOfMpv(url: string, seconds: number): Promise<Shown> {
  const filters = ['--vf=lavfi=[showinfo]', '--af=lavfi=[ashowinfo]'];
  const flags = ['--no-config', '--vo=null', '--ao=null', '--msg-level=ffmpeg=v', ...filters, url];
  const mpv = spawn('mpv', flags, { stdio: ['ignore', 'pipe', 'pipe'] });
  const times = (filter: string) => (lines: string[]) =>
    lines.filter((line) => line.includes(`${filter}_`)).flatMap((line) => timeIn(/ pts_time:([\d.]+)/, line));
  const { shown, lines } = await watch(mpv, seconds, times('_showinfo'), times('_ashowinfo'));
  const complaints = lines.filter((line) => /warning|error|fatal/i.test(line) && !HARMLESS.test(line));
  return { ...shown, complaints: [...shown.complaints, ...complaints] };
}

/** Lets GStreamer play until it has shown `seconds` of pictures. */
export async function framesOfGStreamer(url: string, seconds: number): Promise<Shown> {
  const sink = (name: string) => ['!', 'fakesink', `name=${name}`, 'silent=false', 'sync=true'];
  const source = ['uridecodebin3', `uri=${url}`, 'name=source'];
  const branches = [
    'source.',
    '!',
    'video/x-raw',
    ...sink('pictures'),
    'source.',
    '!',
    'audio/x-raw',
    ...sink('sounds'),
  ];
  const gstreamer = spawn('gst-launch-1.0', ['-v', ...source, ...branches], { stdio: ['ignore', 'pipe', 'pipe'] });
  const times = (name: string) => (lines: string[]) =>
    lines
      .filter((line) => line.includes(`FakeSink:${name}: last-message = chain`))
      .flatMap((line) => timeIn(/ pts: ([\d:.]+)/, line));
  const { shown, lines } = await watch(gstreamer, seconds, times('pictures'), times('sounds'));
  const complaints = lines.filter((line) => /ERROR|WARN|CRITICAL/.test(line));
  return { ...shown, complaints: [...shown.complaints, ...complaints] };
}

type Times = (lines: string[]) => number[];

/** Reads what a program says until it has shown enough pictures and any sound, or ends, or time is over. */
async function watch(
  program: ChildProcess,
  seconds: number,
  pictures: Times,
  sounds: Times,
): Promise<{ shown: Shown; lines: string[] }> {
  const ended = once(program, 'exit');
  const late = setTimeout(() => program.kill('SIGKILL'), START_MS + seconds * 1000);
  const lines: string[] = [];
  for (const stream of [program.stdout, program.stderr]) {
    let rest = '';
    stream?.on('data', (chunk: Buffer) => {
      const found = (rest + chunk.toString()).split('\n');
      rest = found.pop() ?? '';
      lines.push(...found);
    });
  }
  const look = setInterval(() => {
    const times = pictures(lines);
    if ((times.at(-1) ?? 0) - (times[0] ?? 0) > seconds && sounds(lines).length > 0) {
      program.kill('SIGKILL');
    }
  }, LOOK_MS);
  await ended;
  clearTimeout(late);
  clearInterval(look);
  return { shown: judge(pictures(lines), sounds(lines)), lines };
}

function judge(pictures: number[], sounds: number[]): Shown {
  const complaints = [pictures, sounds].flatMap((times) =>
    times.flatMap((time, index) => {
      const step = time - (times[index - 1] ?? time);
      return Math.abs(step) > MAX_STEP_S ? [`${step} s between frames at ${time}`] : [];
    }),
  );
  return { pictures: pictures.length, sounds: sounds.length, complaints };
}

/** A time such as `12.5` or `0:00:12.5`, in seconds. */
function timeIn(pattern: RegExp, line: string): number[] {
  const found = pattern.exec(line)?.[1];
  return found === undefined ? [] : [found.split(':').reduce((total, part) => total * 60 + Number(part), 0)];
}
