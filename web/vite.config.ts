import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { defineConfig, type Plugin } from "vite";
import { scriptFor, WARMING } from "./dev/scripts.js";
import { FakeServer } from "./dev/server.js";
import { READY } from "./dev/service.js";

/** `npm run dev` talks to the fake service; its model takes a while to warm. */
function fakeService(): Plugin {
  return {
    name: "pratique-fake-service",
    apply: "serve",
    configureServer(server) {
      const fake = new FakeServer({ script: scriptFor });
      fake.service.setModel(WARMING);
      setTimeout(() => {
        fake.service.setModel(READY);
      }, 8_000).unref();
      server.middlewares.use((request, response, next) => {
        if (request.url?.startsWith("/api/")) void fake.handle(request, response);
        else next();
      });
      server.httpServer?.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
        if (request.url?.startsWith("/api/")) fake.upgrade(request, socket, head);
      });
    },
  };
}

export default defineConfig({
  plugins: [fakeService()],
  build: {
    outDir: "../src/pratique/orchestrator/page",
    emptyOutDir: true,
    // The page's policy allows files of its own origin only: nothing is put inline.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
  },
});
