import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["tests/{client,page,dev}/**/*.test.{ts,tsx}"],
    restoreMocks: true,
    coverage: {
      provider: "v8",
      include: ["src/**"],
      exclude: ["src/page/main.tsx"],
      reporter: ["text-summary", "html"],
    },
  },
});
