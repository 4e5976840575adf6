import { defineConfig } from 'vite';

/** Where `npm run dev` finds a running weir; the built page is served by weir itself and needs none of this. */
const weir = process.env['WEIR_URL'] ?? 'http://127.0.0.1:4000';

export default defineConfig({
  base: './',
  build: {
    target: 'es2022',
    // hls.js is one chunk of its own that only HLS viewers load.
    chunkSizeWarningLimit: 700,
  },
  server: {
    proxy: {
      '/api': weir,
      '/live': weir,
      '/socket.io': { target: weir, ws: true },
    },
  },
});
