import { defineConfig } from '@playwright/test';

/**
 * Two cores are enough: one test at a time, because what is measured is whether media keeps up. A failure is a
 * failure: nothing is tried twice.
 */
export default defineConfig({
  workers: 1,
  retries: 0,
  forbidOnly: Boolean(process.env['CI']),
  timeout: 120_000,
  expect: { timeout: 15_000 },
  outputDir: 'results',
  reporter: [['list']],
  projects: [
    { name: 'browser', testDir: 'specs', testIgnore: 'screenshots.spec.ts' },
    { name: 'latency', testDir: 'latency', timeout: 0 },
    { name: 'networks', testDir: 'networks', timeout: 300_000 },
    { name: 'screenshots', testDir: 'specs', testMatch: 'screenshots.spec.ts' },
  ],
});
