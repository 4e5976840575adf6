/**
 * The system's Chromium, with devices that need no hardware and no permission.
 */
import { type Browser, type BrowserServer, chromium, type LaunchOptions } from '@playwright/test';

export function launchOptions(extra: string[] = []): LaunchOptions {
  const args = [
    '--allow-loopback-in-peer-connection',
    '--autoplay-policy=no-user-gesture-required',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-gpu',
    '--disable-sync',
    '--no-first-run',
    '--use-fake-device-for-media-stream',
    '--use-fake-ui-for-media-stream',
    ...extra,
  ];
  if (process.getuid?.() === 0) {
    args.push('--no-sandbox');
  }
  return { executablePath: process.env['CHROMIUM'] ?? '/usr/bin/chromium', headless: true, args };
}

export function launchBrowser(extra: string[] = [], executablePath?: string): Promise<Browser> {
  return chromium.launch({ ...launchOptions(extra), ...(executablePath && { executablePath }) });
}

/** A browser whose process can be killed. */
export function launchBrowserProcess(): Promise<BrowserServer> {
  return chromium.launchServer(launchOptions());
}
