/** One connection to the service over some transport: opened, used, ended once. What follows its end is not its business. */

import type { ClientFrame } from "./wire.js";

/** Why a link ended. */
export type LinkEnding =
  /** Broken, silent, or never there. */
  | { readonly kind: "lost"; readonly reason: string }
  /** The server asked to come back, this one or another. */
  | { readonly kind: "told"; readonly afterMs: number }
  /** There is no session. */
  | { readonly kind: "unauthenticated" }
  /** Something that was sent is larger than the service takes. */
  | { readonly kind: "too_large" };

export interface LinkHandlers {
  /** The JSON of one event, unread. The first is `hello`. */
  readonly onEvent: (data: string) => void;
  /** Called once, and nothing after it; not called where the link was closed from this side. */
  readonly onEnd: (ending: LinkEnding) => void;
}

export interface Link {
  /** Send a frame. Allowed from `hello` on. A frame that cannot be sent ends the link. */
  send(frame: ClientFrame): void;
  /** What `hello` said: silence for twice as long is a loss. */
  setHeartbeat(seconds: number): void;
  /** Find out soon whether the link still lives: the device may have slept. */
  probe(): void;
  /** End it from this side; no handler is called any more. */
  close(): void;
}

export type OpenLink = (handlers: LinkHandlers) => Link;

/** No `hello` within this: lost. Also the bound on silence until `hello` has named the heartbeat. */
export const CONNECT_DEADLINE_MS = 5_000;
export const PROBE_DEADLINE_MS = 3_000;
export const HEARTBEATS_MISSED = 2;
