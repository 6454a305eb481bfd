/**
 * Everything from outside that the library uses: time, chance, sockets, requests, and the moments when a device wakes.
 *
 * `browserEnvironment` (browser.ts) is the real one; tests give their own.
 */

/** The part of a WebSocket that is used; the browser's own and Node's both fit. */
export interface WebSocketLike {
  onmessage: ((event: { readonly data: unknown }) => void) | null;
  onclose: ((event: { readonly code: number; readonly reason: string }) => void) | null;
  onerror: (() => void) | null;
  send(data: string): void;
  close(code?: number): void;
}

export interface Environment {
  /** Milliseconds of a clock that never runs backwards. */
  readonly now: () => number;
  /** In [0, 1). */
  readonly random: () => number;
  /** A new unguessable id of 8 to 64 characters from A-Z a-z 0-9 _ -. */
  readonly newId: () => string;
  /** Call back once after so many milliseconds; the returned function stops that. */
  readonly startTimer: (callback: () => void, ms: number) => () => void;
  readonly openWebSocket: (url: string) => WebSocketLike;
  readonly fetch: (url: string, init: RequestInit) => Promise<Response>;
  /** Call back whenever the network or the person comes back; the returned function ends that. */
  readonly onWake: (callback: () => void) => () => void;
}
