/**
 * The system's Firefox as it is, driven over WebDriver BiDi, with devices that need no hardware and no permission.
 */
import { type Browser, firefox } from '@playwright/test';

export function launchFirefox(): Promise<Browser> {
  return firefox.launch({
    channel: 'moz-firefox',
    executablePath: process.env['FIREFOX'] ?? '/usr/bin/firefox-esr',
    headless: true,
    firefoxUserPrefs: {
      'media.autoplay.default': 0,
      'media.navigator.permission.disabled': true,
      'media.navigator.streams.fake': true,
      'media.peerconnection.ice.loopback': true,
    },
  });
}
