/**
 * Every playlist that players were served, read by `hls-parser` in strict mode.
 */
import type { Page, Response } from '@playwright/test';
import HLS from 'hls-parser';

HLS.setOptions({ strictMode: true });

export class ServedPlaylists {
  readonly complaints: string[] = [];
  /** How many were read. */
  count = 0;
  readonly #reading: Promise<void>[] = [];

  /** Looks at what the page loads from now on. */
  follow(page: Page): void {
    page.on('response', (response) => {
      if (new URL(response.url()).pathname.endsWith('.m3u8')) {
        this.#reading.push(this.#read(response));
      }
    });
  }

  /** Waits until all that came was read. */
  async read(): Promise<void> {
    await Promise.all(this.#reading);
  }

  async #read(response: Response): Promise<void> {
    // A player that starts anew leaves requests behind, without a body.
    const text = response.status() === 200 ? await response.text().catch(() => undefined) : undefined;
    if (response.status() !== 200 && response.status() !== 304) {
      this.complaints.push(`${response.url()}: ${response.status()}`);
    }
    if (text === undefined) {
      return;
    }
    this.count += 1;
    try {
      HLS.parse(text);
    } catch (error) {
      this.complaints.push(`${response.url()}: ${error}\n${text}`);
    }
  }
}
