/**
 * The demo page as a person uses it: by what can be read and clicked.
 */
import { expect, type Locator, type Page } from '@playwright/test';

export class Demo {
  readonly page: Page;

  constructor(page: Page) {
    this.page = page;
  }

  /** On a phone one half is shown at a time. */
  async show(view: 'Watch' | 'Publish'): Promise<void> {
    const button = this.page.getByRole('navigation', { name: 'Views' }).getByRole('button', { name: view });
    if (await button.isVisible()) {
      await button.click();
    }
  }

  async publish(choices: { codec?: string; resolution?: string; simulcast?: boolean } = {}): Promise<void> {
    await this.show('Publish');
    await expect(this.page.getByRole('button', { name: 'Publish', exact: true }).last()).toBeEnabled();
    if (choices.codec) {
      await this.page.getByLabel('Codec').selectOption({ label: choices.codec });
    }
    if (choices.resolution) {
      await this.page.getByLabel('Resolution').selectOption({ label: choices.resolution });
    }
    if (choices.simulcast) {
      await this.page.getByRole('switch', { name: 'Simulcast' }).check({ force: true });
    }
    await this.page.locator('#publish-button').click();
    await expect(this.publishState).toContainText('Live', { timeout: 20_000 });
  }

  get publishState(): Locator {
    return this.page.locator('#publish-state');
  }

  get serverState(): Locator {
    return this.page.locator('#server-state');
  }

  get cards(): Locator {
    return this.page.getByRole('article');
  }

  /** The id of this page's own stream. */
  async ownPeerId(): Promise<string> {
    const url = await this.page.getByLabel('Your stream over HLS').inputValue();
    return /\/live\/(.+)\.m3u8$/.exec(url)?.[1] ?? '';
  }

  card(peerId: string): Card {
    return new Card(this.page.locator(`article[data-peer="${peerId}"]`));
  }
}

/** One peer's card. */
export class Card {
  readonly root: Locator;

  constructor(root: Locator) {
    this.root = root;
  }

  async watchOver(protocol: 'WebRTC' | 'HLS'): Promise<void> {
    const radio = this.root.getByRole('radio', { name: protocol });
    await expect(radio).toBeEnabled({ timeout: 30_000 });
    await radio.check({ force: true });
  }

  figure(name: string): Locator {
    return this.root.locator(`[data-figure="${name}"]`);
  }

  /** Waits until the video plays and every figure has a value. */
  async expectPlaying(protocol: RegExp): Promise<void> {
    await expect(this.root.locator('.cover')).toBeHidden({ timeout: 30_000 });
    const video = this.root.locator('video');
    const time = () => video.evaluate((element: HTMLVideoElement) => element.currentTime);
    const before = await time();
    await expect.poll(time).toBeGreaterThan(before + 1);
    await expect(this.figure('protocol')).toHaveText(protocol);
    await expect(this.figure('resolution')).toHaveText(/^\d+×\d+$/);
    await expect(this.figure('rate')).toHaveText(/^[1-9]\d* fps$/);
    await expect(this.figure('bitrate')).toHaveText(/^[\d.]+ [kM]bit\/s$/);
    await expect(this.figure('latency')).toHaveText(/^[\d.]+ m?s$/);
  }
}
