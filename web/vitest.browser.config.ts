import { defineConfig } from "vitest/config";

/** The built page in Chromium, against the fake service. Needs a Chromium: CHROMIUM=… or /usr/bin/chromium. */
export default defineConfig({
  test: {
    include: ["tests/browser/**/*.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    fileParallelism: false,
  },
});
