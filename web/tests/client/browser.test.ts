// @vitest-environment jsdom
import { expect, it, vi } from "vitest";
import { browserEnvironment } from "../../src/client/index.js";

it("gives the library the real browser", async () => {
  const environment = browserEnvironment();
  expect(environment.newId()).toMatch(/^[0-9a-f]{32}$/);
  expect(environment.newId()).not.toBe(environment.newId());
  expect(environment.random()).toBeLessThan(1);
  const before = environment.now();
  const stopped = vi.fn();
  environment.startTimer(stopped, 1)();
  await new Promise<void>((resolve) => {
    environment.startTimer(resolve, 5);
  });
  expect(stopped).not.toHaveBeenCalled();
  expect(environment.now()).toBeGreaterThan(before);
  const woken = vi.fn();
  const stop = environment.onWake(woken);
  window.dispatchEvent(new Event("online"));
  document.dispatchEvent(new Event("visibilitychange"));
  expect(woken).toHaveBeenCalledTimes(document.visibilityState === "visible" ? 2 : 1);
  stop();
  window.dispatchEvent(new Event("online"));
  expect(woken.mock.calls.length).toBeLessThan(3);
  const socket = environment.openWebSocket("ws://127.0.0.1:9/");
  socket.close();
  const asked = vi.spyOn(globalThis, "fetch").mockResolvedValue(new Response("ok"));
  await environment.fetch("/x", { method: "GET" });
  expect(asked).toHaveBeenCalledWith("/x", { method: "GET" });
});
