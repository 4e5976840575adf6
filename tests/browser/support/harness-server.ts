/**
 * Serves the harness page from memory, on an origin of its own, as a frontend elsewhere would be.
 */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const PAGE = '<!doctype html><meta charset="utf-8"><title>harness</title><body><script src="/harness.js"></script>';

export class HarnessServer {
  readonly url: string;
  readonly #server: Server;

  private constructor(server: Server, ip: string, port: number) {
    this.#server = server;
    this.url = `http://${ip}:${port}/`;
  }

  static async start(ip = '127.0.0.1'): Promise<HarnessServer> {
    const bundled = await build({
      entryPoints: [fileURLToPath(new URL('../harness/page.ts', import.meta.url))],
      bundle: true,
      format: 'iife',
      target: 'es2022',
      write: false,
      define: { 'process.env.NODE_ENV': '"production"' },
    });
    const script = bundled.outputFiles[0]?.contents;
    const server = createServer((request, response) => {
      response.setHeader('Access-Control-Allow-Origin', '*');
      if (request.url === '/harness.js') {
        response.setHeader('Content-Type', 'text/javascript').end(script);
      } else if (request.url === '/') {
        response.setHeader('Content-Type', 'text/html').end(PAGE);
      } else {
        response.writeHead(204).end();
      }
    }).listen(0, ip);
    await once(server, 'listening');
    const address = server.address();
    return new HarnessServer(server, ip, typeof address === 'object' && address ? address.port : 0);
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
