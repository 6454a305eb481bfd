/** A link over one WebSocket. */

import type { Environment, WebSocketLike } from "./environment.js";
import {
  CONNECT_DEADLINE_MS,
  HEARTBEATS_MISSED,
  PROBE_DEADLINE_MS,
  type Link,
  type LinkEnding,
  type LinkHandlers,
} from "./link.js";
import { Silence } from "./silence.js";
import type { ClientFrame } from "./wire.js";

/** Close codes of the protocol. */
const GOING_AWAY = 1001;
const POLICY = 1008;
const TOO_BIG = 1009;
const TRY_AGAIN_LATER = 1013;
const CREDENTIAL_EXPIRED = 4401;
/** A slow reader was cut off: it may come back at once, and resumes. */
const SLOW_READER_PAUSE_MS = 100;

export class WebSocketLink implements Link {
  private readonly socket: WebSocketLike;
  private readonly silence: Silence;
  private isOver = false;

  constructor(
    environment: Environment,
    url: string,
    private readonly handlers: LinkHandlers,
  ) {
    this.socket = environment.openWebSocket(url);
    this.silence = new Silence(environment, CONNECT_DEADLINE_MS, () => {
      this.end({ kind: "lost", reason: "nothing was heard for too long" });
    });
    this.socket.onmessage = ({ data }) => {
      this.receive(data);
    };
    this.socket.onclose = ({ code }) => {
      this.end(endingOf(code));
    };
    // What went wrong is not told to pages; the close that follows ends the link.
    this.socket.onerror = null;
  }

  send(frame: ClientFrame): void {
    if (this.isOver) return;
    try {
      this.socket.send(JSON.stringify(frame));
    } catch {
      this.end({ kind: "lost", reason: "the socket takes nothing more" });
    }
  }

  setHeartbeat(seconds: number): void {
    this.silence.setLimit(HEARTBEATS_MISSED * seconds * 1000);
  }

  probe(): void {
    this.silence.expectWithin(PROBE_DEADLINE_MS);
    this.send({ type: "ping", nonce: "probe" });
  }

  close(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.silence.stop();
    this.socket.onmessage = null;
    this.socket.onclose = null;
    this.socket.close(1000);
  }

  private receive(data: unknown): void {
    if (this.isOver) return;
    this.silence.heard();
    if (typeof data === "string") this.handlers.onEvent(data);
  }

  private end(ending: LinkEnding): void {
    if (this.isOver) return;
    this.close();
    this.handlers.onEnd(ending);
  }
}

function endingOf(code: number): LinkEnding {
  switch (code) {
    case GOING_AWAY:
      return { kind: "told", afterMs: 0 };
    case TRY_AGAIN_LATER:
      return { kind: "told", afterMs: SLOW_READER_PAUSE_MS };
    case POLICY:
    case CREDENTIAL_EXPIRED:
      return { kind: "unauthenticated" };
    case TOO_BIG:
      return { kind: "too_large" };
    default:
      return { kind: "lost", reason: `the socket closed with code ${code}` };
  }
}
