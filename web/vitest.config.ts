import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["tests/{client,page,dev}/**/*.test.{ts,tsx}"],
    restoreMocks: true,
    coverage: {
      provider: "v8",
      include: ["src/**"],
      exclude: ["src/page/main.tsx"],
      reporter: ["text-summary"],
      thresholds: {
        lines: 95,
        functions: 95,
        statements: 95,
        branches: 87,
        // Decisions: every branch of them.
        "src/client/{backoff,reconnect,reply,shape,sse}.ts": { 100: true },
        "src/page/labels.ts": { 100: true },
      },
    },
  },
});
