import { defineConfig } from 'vite';

// Where the API is while developing: a real `watershed up`, or `npm run mock`.
const target = process.env.WATERSHED_URL ?? 'http://127.0.0.1:8080';

export default defineConfig({
  build: {
    target: 'es2022',
    // The page's content security policy allows fonts and images as data, but files are cached better.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: {
    port: 5173,
    proxy: Object.fromEntries(
      ['/v1', '/metrics', '/healthz'].map((path) => [path, { target, ws: true, changeOrigin: false }]),
    ),
  },
});
