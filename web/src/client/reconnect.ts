/**
 * What to do when a connection is lost: when to try again, and over which transport.
 *
 * Rules: each loss in a row doubles the wait. After five losses of WebSockets in a row the next attempt uses SSE. On SSE
 * a WebSocket is tried again later, each time after a longer while; one loss then is enough to return to SSE. Where SSE
 * cannot even connect, WebSockets are not what is wrong: the two take turns. A connection that lived for a while ends
 * the row. Being told to leave is not a loss.
 */

import { backoffMs, DEFAULT_BACKOFF, type BackoffSettings } from "./backoff.js";

export type TransportKind = "websocket" | "sse";

/** How a connection ended. `told`: the server asked for it, and when to come back. */
export type Ending =
  | { readonly kind: "lost"; readonly livedMs: number }
  | { readonly kind: "told"; readonly afterMs: number; readonly livedMs: number };

export interface RouteState {
  readonly transport: TransportKind;
  /** Losses since a connection last lived for `stableMs`, over either transport: drives the back-off. */
  readonly losses: number;
  /** Losses of WebSockets in a row that are still forgiven before SSE is used. */
  readonly patience: number;
  /** How long SSE is used before a WebSocket is tried again. */
  readonly sseForMs: number;
}

export interface RouteSettings {
  readonly backoff: BackoffSettings;
  readonly lossesBeforeSse: number;
  /** A connection that lived so long after `hello` was a working one. */
  readonly stableMs: number;
  readonly firstSseMs: number;
  readonly maxSseMs: number;
}

export const DEFAULT_ROUTE: RouteSettings = {
  backoff: DEFAULT_BACKOFF,
  lossesBeforeSse: 5,
  stableMs: 5_000,
  firstSseMs: 60_000,
  maxSseMs: 600_000,
};

export interface NextAttempt {
  readonly state: RouteState;
  readonly delayMs: number;
}

export function initialRoute(
  settings: RouteSettings = DEFAULT_ROUTE,
  transport: TransportKind = "websocket",
): RouteState {
  return { transport, losses: 0, patience: settings.lossesBeforeSse, sseForMs: settings.firstSseMs };
}

/** Decide on the attempt that follows the end of a connection. */
export function afterEnding(
  state: RouteState,
  ending: Ending,
  random: () => number,
  settings: RouteSettings = DEFAULT_ROUTE,
): NextAttempt {
  const wasStable = ending.livedMs >= settings.stableMs;
  const before = wasStable ? 0 : state.losses;
  const counted = { ...state, losses: before + 1 };
  if (ending.kind === "told") {
    // The first time at once; being sent on again and again is backed off from like any loss.
    const pauseMs = before === 0 ? 0 : backoffMs(before, random, settings.backoff);
    return { state: counted, delayMs: Math.max(pauseMs, ending.afterMs) };
  }
  return {
    state: nextTransport(counted, wasStable, settings),
    delayMs: backoffMs(before + 1, random, settings.backoff),
  };
}

function nextTransport(state: RouteState, wasStable: boolean, settings: RouteSettings): RouteState {
  if (state.transport === "sse") {
    return wasStable ? state : { ...state, transport: "websocket", patience: 1 };
  }
  const patience = (wasStable ? settings.lossesBeforeSse : state.patience) - 1;
  return patience > 0 ? { ...state, patience } : { ...state, transport: "sse", patience: 1 };
}

/** SSE was used for a while: try a WebSocket again, with no patience, and wait longer the next time. */
export function tryWebSocketAgain(state: RouteState, settings: RouteSettings = DEFAULT_ROUTE): RouteState {
  return {
    ...state,
    transport: "websocket",
    patience: 1,
    sseForMs: Math.min(settings.maxSseMs, state.sseForMs * 2),
  };
}
