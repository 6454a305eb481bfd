/**
 * Keeps one link to the service alive: opens it, notices its end, waits, opens the next one.
 *
 * It decides nothing itself: when and how to try again is `reconnect`, what to send and what it means is the caller's.
 */

import type { Environment } from "./environment.js";
import type { Link, LinkEnding, LinkHandlers } from "./link.js";
import { parseEvent, type Parsed } from "./parse.js";
import {
  afterEnding,
  DEFAULT_ROUTE,
  initialRoute,
  tryWebSocketAgain,
  type Ending,
  type RouteSettings,
  type RouteState,
  type TransportKind,
} from "./reconnect.js";
import type { ClientFrame, HelloEvent } from "./wire.js";

export type ConnectionPhase = "stopped" | "connecting" | "connected" | "waiting";

export interface ConnectionStatus {
  readonly phase: ConnectionPhase;
  readonly transport: TransportKind;
  /** Endings in a row, until a connection has lived for a while. */
  readonly losses: number;
  /** How long until the next attempt, where one is waited for. */
  readonly retryInMs: number | null;
  readonly replica: string | null;
  /** Why the last link ended, for people who look for the cause. */
  readonly reason: string | null;
}

export interface ConnectionHandlers {
  /** A link is up: the time to send what is outstanding. */
  readonly onUp: (hello: HelloEvent) => void;
  readonly onEvent: (parsed: Parsed) => void;
  readonly onStatus: (status: ConnectionStatus) => void;
  /** What was sent is larger than the service takes. */
  readonly onTooLarge: () => void;
  /** Whether a reply is in flight; while one is, the transport is not changed without need. */
  readonly isBusy: () => boolean;
}

export interface ConnectionParts {
  readonly environment: Environment;
  readonly openLink: (transport: TransportKind, handlers: LinkHandlers) => Link;
  /** Get a session, so that the next link has a principal. */
  readonly renewSession: () => Promise<unknown>;
  readonly route?: RouteSettings;
  readonly firstTransport?: TransportKind;
}

const BUSY_RECHECK_MS = 5_000;

export class Connection {
  private readonly environment: Environment;
  private readonly settings: RouteSettings;
  private route: RouteState;
  private phase: ConnectionPhase = "stopped";
  private link: Link | null = null;
  private connectedAt: number | null = null;
  private replica: string | null = null;
  private reason: string | null = null;
  private retryInMs: number | null = null;
  private needsSession = true;
  /** Counts openings, so that a session that comes late for an earlier one is ignored. */
  private opening = 0;
  private stopTimer: (() => void) | null = null;
  private stopWake: (() => void) | null = null;

  constructor(
    private readonly parts: ConnectionParts,
    private readonly handlers: ConnectionHandlers,
  ) {
    this.environment = parts.environment;
    this.settings = parts.route ?? DEFAULT_ROUTE;
    this.route = initialRoute(this.settings, parts.firstTransport);
  }

  get status(): ConnectionStatus {
    const { phase, retryInMs, replica, reason } = this;
    return { phase, transport: this.route.transport, losses: this.route.losses, retryInMs, replica, reason };
  }

  start(): void {
    if (this.phase !== "stopped") return;
    this.stopWake = this.environment.onWake(() => {
      this.wake();
    });
    this.open();
  }

  stop(): void {
    this.stopWake?.();
    this.stopWake = null;
    this.drop();
    this.enter("stopped");
  }

  /** Send now, if there is a link; otherwise the caller has it sent by `onUp`. */
  send(frames: readonly ClientFrame[]): void {
    if (this.phase !== "connected") return;
    for (const frame of frames) this.link?.send(frame);
  }

  /** Give the link up as lost: it lives, but what it says cannot be gone on with. */
  giveUp(reason: string): void {
    if (this.phase !== "connected") return;
    this.drop();
    this.ended({ kind: "lost", reason });
  }

  /** The device or the network came back: do not wait, and do not trust. */
  private wake(): void {
    if (this.phase === "waiting") this.open();
    else if (this.phase === "connected") this.link?.probe();
  }

  private open(): void {
    this.drop();
    this.enter("connecting");
    const mine = ++this.opening;
    // Over SSE the session is the link's first request anyway.
    if (!this.needsSession || this.route.transport === "sse") {
      this.openLink();
      return;
    }
    this.parts.renewSession().then(
      () => {
        if (mine === this.opening && this.phase === "connecting") this.openLink();
      },
      (error: unknown) => {
        const reason = error instanceof Error ? error.message : "no session";
        if (mine === this.opening && this.phase === "connecting") this.ended({ kind: "lost", reason });
      },
    );
  }

  private openLink(): void {
    try {
      this.link = this.parts.openLink(this.route.transport, {
        onEvent: (data) => {
          this.receive(parseEvent(data));
        },
        onEnd: (ending) => {
          this.link = null;
          this.ended(ending);
        },
      });
    } catch (error) {
      this.ended({ kind: "lost", reason: error instanceof Error ? error.message : "the link cannot be opened" });
    }
  }

  private receive(parsed: Parsed): void {
    const event = parsed.kind === "event" ? parsed.event : null;
    if (event?.type === "hello") this.greeted(event);
    this.handlers.onEvent(parsed);
    if (event?.type !== "going_away" || !this.link) return;
    this.drop();
    this.ended({ kind: "told", afterMs: event.reconnect_after_seconds * 1000 });
  }

  private greeted(hello: HelloEvent): void {
    this.connectedAt = this.environment.now();
    this.needsSession = false;
    this.replica = hello.replica;
    this.link?.setHeartbeat(hello.heartbeat_seconds);
    this.enter("connected");
    if (this.route.transport === "sse") this.planWebSocket(this.route.sseForMs);
    this.handlers.onUp(hello);
  }

  private planWebSocket(afterMs: number): void {
    this.stopTimer = this.environment.startTimer(() => {
      if (this.handlers.isBusy()) {
        this.planWebSocket(BUSY_RECHECK_MS);
        return;
      }
      this.route = tryWebSocketAgain(this.route, this.settings);
      this.open();
    }, afterMs);
  }

  private ended(ending: LinkEnding): void {
    const livedMs = this.connectedAt === null ? 0 : this.environment.now() - this.connectedAt;
    // A page is not told why a socket never opened. A missing session is one reason, and cheap to rule out.
    this.needsSession ||= ending.kind === "unauthenticated" || this.connectedAt === null;
    this.drop();
    if (ending.kind === "too_large") this.handlers.onTooLarge();
    this.reason = ending.kind === "lost" ? ending.reason : ending.kind;
    const next = afterEnding(this.route, routeEnding(ending, livedMs), this.environment.random, this.settings);
    this.route = next.state;
    this.retryInMs = next.delayMs;
    this.stopTimer = this.environment.startTimer(() => {
      this.open();
    }, next.delayMs);
    this.enter("waiting");
  }

  private drop(): void {
    this.stopTimer?.();
    this.stopTimer = null;
    this.link?.close();
    this.link = null;
    this.connectedAt = null;
    this.replica = null;
    this.retryInMs = null;
  }

  private enter(phase: ConnectionPhase): void {
    this.phase = phase;
    this.handlers.onStatus(this.status);
  }
}

function routeEnding(ending: LinkEnding, livedMs: number): Ending {
  return ending.kind === "told" ? { kind: "told", afterMs: ending.afterMs, livedMs } : { kind: "lost", livedMs };
}
