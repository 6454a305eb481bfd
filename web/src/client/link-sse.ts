/**
 * A link over plain HTTP: every message and resume is a request whose answer is a stream of server-sent events.
 *
 * The same events arrive as over a WebSocket. What HTTP does not push is made here: `hello` from the session, and
 * `model_state` by asking for the status, which also shows whether the service still lives while nothing streams.
 */

import type { Environment } from "./environment.js";
import { ApiError, ConnectionError } from "./errors.js";
import { CONNECT_DEADLINE_MS, HEARTBEATS_MISSED, type Link, type LinkEnding, type LinkHandlers } from "./link.js";
import { parseEvent } from "./parse.js";
import { readAll, refusal, type RestClient } from "./rest.js";
import { Silence } from "./silence.js";
import { SseParser, type SseMessage } from "./sse.js";
import type { CancelFrame, ClientFrame, EventError, MessageFrame, ResumeFrame, RetryFrame } from "./wire.js";

const POLL_WARMING_MS = 2_000;
const POLL_READY_MS = 15_000;

type StreamFrame = MessageFrame | RetryFrame | ResumeFrame;

export class SseLink implements Link {
  private readonly abort = new AbortController();
  private readonly silences = new Set<Silence>();
  private stopPoll: (() => void) | null = null;
  private streamLimitMs = CONNECT_DEADLINE_MS;
  private isOver = false;

  constructor(
    private readonly environment: Environment,
    private readonly rest: RestClient,
    private readonly handlers: LinkHandlers,
  ) {
    void this.guarded(() => this.begin());
  }

  send(frame: ClientFrame): void {
    if (this.isOver || frame.type === "ping") return;
    if (frame.type === "cancel") void this.guarded(() => this.cancel(frame));
    else void this.guarded(() => this.stream(frame));
  }

  setHeartbeat(seconds: number): void {
    this.streamLimitMs = HEARTBEATS_MISSED * seconds * 1000;
  }

  probe(): void {
    if (this.isOver) return;
    this.stopPoll?.();
    void this.guarded(() => this.poll());
  }

  close(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.stopPoll?.();
    for (const silence of this.silences) silence.stop();
    this.abort.abort();
  }

  private async begin(): Promise<void> {
    const session = await this.rest.session();
    this.emit({ type: "hello", ...session });
    await this.poll();
  }

  private async poll(): Promise<void> {
    const { model } = await this.rest.status();
    if (this.isOver) return;
    this.emit({ type: "model_state", ...model });
    this.stopPoll = this.environment.startTimer(
      () => void this.guarded(() => this.poll()),
      model.ready ? POLL_READY_MS : POLL_WARMING_MS,
    );
  }

  private async cancel(frame: CancelFrame): Promise<void> {
    const response = await this.rest.open("POST", "/api/cancel", {
      accept: "application/json",
      signal: this.abort.signal,
      body: bodyOf(frame),
    });
    if (!response.ok) this.refused(frame, refusal(response.status, await readAll(response)));
  }

  private async stream(frame: StreamFrame): Promise<void> {
    const silence = new Silence(this.environment, this.streamLimitMs, () => {
      this.end({ kind: "lost", reason: "nothing was heard for too long" });
    });
    this.silences.add(silence);
    try {
      const response = await this.request(frame);
      silence.heard();
      if (!response.ok) this.refused(frame, refusal(response.status, await readAll(response)));
      else await this.read(response, silence);
    } finally {
      silence.stop();
      this.silences.delete(silence);
    }
  }

  private request(frame: StreamFrame): Promise<Response> {
    const options = { accept: "text/event-stream", signal: this.abort.signal };
    if (frame.type !== "resume") {
      const path = frame.type === "message" ? "/api/chat" : "/api/retry";
      return this.rest.open("POST", path, { ...options, body: bodyOf(frame) });
    }
    const query = new URLSearchParams();
    if (frame.generation_id !== undefined) {
      query.set("generation_id", frame.generation_id);
      query.set("last_seq", String(frame.last_seq ?? 0));
    }
    const path = `/api/conversations/${encodeURIComponent(frame.conversation_id)}/events?${query}`;
    return this.rest.open("GET", path, options);
  }

  private async read(response: Response, silence: Silence): Promise<void> {
    let isComplete = false;
    for await (const message of sseMessages(response, silence)) {
      if (this.isOver) return;
      isComplete ||= isLast(message);
      this.handlers.onEvent(message.data);
    }
    if (!isComplete) this.end({ kind: "lost", reason: "the stream broke off" });
  }

  private refused(frame: StreamFrame | CancelFrame, error: ApiError | ConnectionError): void {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) throw error;
    if (error.code === "draining") this.end({ kind: "told", afterMs: retryAfterMs(error.detail) });
    else this.emit({ type: "error", error: error.detail, ...namesOf(frame) });
  }

  private emit(event: object): void {
    if (!this.isOver) this.handlers.onEvent(JSON.stringify(event));
  }

  /** Where each of the link's tasks ends: what it fails with ends the link. */
  private async guarded(task: () => Promise<void>): Promise<void> {
    try {
      await task();
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) this.end({ kind: "unauthenticated" });
      else this.end({ kind: "lost", reason: error instanceof Error ? error.message : "unknown" });
    }
  }

  private end(ending: LinkEnding): void {
    if (this.isOver) return;
    this.close();
    this.handlers.onEnd(ending);
  }
}

function bodyOf(frame: ClientFrame): object {
  return Object.fromEntries(Object.entries(frame).filter(([key]) => key !== "type"));
}

function namesOf(frame: StreamFrame | CancelFrame): object {
  if (frame.type === "message" || frame.type === "retry") return { client_message_id: frame.client_message_id };
  return frame.generation_id === undefined ? {} : { generation_id: frame.generation_id };
}

function retryAfterMs(error: EventError): number {
  return (error.retry_after_seconds ?? 0) * 1000;
}

/** Whether a stream may end after this event without having broken off. */
function isLast({ event, data }: SseMessage): boolean {
  if (event === "reconnected") {
    const parsed = parseEvent(data);
    return parsed.kind === "event" && parsed.event.type === "reconnected" && parsed.event.generation_id === null;
  }
  return event === "ended" || event === "not_resumable" || event === "error" || event === "going_away";
}

async function* sseMessages(response: Response, silence: Silence): AsyncGenerator<SseMessage> {
  if (!response.body) return;
  const parser = new SseParser();
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      silence.heard();
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } catch (error) {
    throw new ConnectionError("The stream broke off.", { cause: error });
  } finally {
    reader.releaseLock();
  }
}
