/** The real environment of a browser page. */

import type { Environment, WebSocketLike } from "./environment.js";

export function browserEnvironment(): Environment {
  return {
    now: () => performance.now(),
    random: () => Math.random(),
    newId,
    startTimer: (callback, ms) => {
      const timer = setTimeout(callback, ms);
      return () => {
        clearTimeout(timer);
      };
    },
    // The DOM's event types are wider than what is used of them.
    openWebSocket: (url) => new WebSocket(url) as unknown as WebSocketLike,
    fetch: (url, init) => fetch(url, init),
    onWake,
  };
}

// Not crypto.randomUUID: a page on http:// outside of localhost does not have it.
function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function onWake(callback: () => void): () => void {
  const whenVisible = (): void => {
    if (document.visibilityState === "visible") callback();
  };
  window.addEventListener("online", callback);
  document.addEventListener("visibilitychange", whenVisible);
  return () => {
    window.removeEventListener("online", callback);
    document.removeEventListener("visibilitychange", whenVisible);
  };
}
