/**
 * A network between a client and the fake service, on a fake clock, that can be cut at any step.
 *
 * A step is one delivery in either direction: a frame or request to the service, or an event to the client. A step that
 * is cut is lost, and its connection with it. For SSE the text may also be cut inside of an event and split anywhere.
 */

import { sseOf, resumeOf, withoutType } from "../../dev/server.js";
import { Refusal, refusalOf, ServerConnection, type FakeService } from "../../dev/service.js";
import type { Environment, WebSocketLike } from "../../src/client/environment.js";
import type { ClientFrame, MessageFrame, RetryFrame, ServerEvent } from "../../src/client/wire.js";
import type { FakeClock } from "./clock.js";

export class FakeNetwork {
  /** The steps that are cut, counted from 0. */
  cuts = new Set<number>();
  steps = 0;
  refusesWebSockets = false;
  isDown = false;
  /** Split streamed text into pieces of so many bytes. */
  chunkBytes = Infinity;
  /** How many connections of each kind were tried. */
  readonly tried = { websocket: 0, session: 0 };
  readonly requests: string[] = [];
  readonly sockets = new Set<FakeSocket>();
  readonly streams = new Set<FakeStream>();
  /** Answers given instead of the service's, by "METHOD path". */
  readonly overrides = new Map<string, () => Response | Promise<Response>>();
  isSignedIn = true;
  private wakers = new Set<() => void>();

  constructor(
    readonly clock: FakeClock,
    readonly service: FakeService,
    private readonly random: () => number = () => 0.5,
  ) {}

  environment(): Environment {
    let ids = 0;
    return {
      now: this.clock.now,
      random: this.random,
      newId: () => `message-${String(++ids).padStart(4, "0")}`,
      startTimer: this.clock.startTimer,
      openWebSocket: () => {
        this.tried.websocket += 1;
        return new FakeSocket(this);
      },
      fetch: (url, init) => this.fetch(new URL(url, "http://chat"), init),
      onWake: (callback) => {
        this.wakers.add(callback);
        return () => this.wakers.delete(callback);
      },
    };
  }

  wake(): void {
    for (const waker of this.wakers) waker();
  }

  /** Take a step; false where it is the one that is cut. */
  step(): boolean {
    return !this.cuts.has(this.steps++);
  }

  private async fetch(url: URL, init: RequestInit): Promise<Response> {
    const route = `${init.method ?? "GET"} ${url.pathname}`;
    this.requests.push(route);
    await Promise.resolve();
    if (this.isDown || (isStep(route) && !this.step())) throw new TypeError("Failed to fetch");
    const override = this.overrides.get(route);
    if (override) return abortable(override(), init.signal);
    if (route === "GET /api/session") {
      this.tried.session += 1;
      this.isSignedIn = true;
      return json(200, withoutType(this.service.hello()));
    }
    try {
      if (!this.isSignedIn) throw refusalOf(401, "unauthenticated", "Who are you?");
      return this.answer(route, url, init);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return json(error.status, { error: error.error });
    }
  }

  private answer(route: string, url: URL, init: RequestInit): Response {
    const { service } = this;
    const body = typeof init.body === "string" ? (JSON.parse(init.body) as object) : {};
    if (route === "GET /api/status") return json(200, { replica: "r", draining: false, model: service.model });
    if (route === "GET /api/models") return json(200, { models: service.models });
    if (route === "GET /api/conversations") return json(200, { conversations: service.list(), next: null });
    if (route === "POST /api/cancel") return this.cancel((body as { generation_id: string }).generation_id);
    if (route === "POST /api/chat") return this.stream({ type: "message", ...body } as MessageFrame, init);
    if (route === "POST /api/retry") return this.stream({ type: "retry", ...body } as RetryFrame, init);
    const [, method, id, events] = /^(\w+) \/api\/conversations\/([^/]+)(\/events)?$/.exec(route) ?? [];
    if (id === undefined) throw refusalOf(404, "not_found", "There is nothing here.");
    if (events)
      return new FakeStream(this, init.signal ?? null).open((sink) => service.resume(resumeOf(id, url), sink));
    if (method === "PATCH") return json(200, service.rename(id, (body as { title: string }).title));
    if (method === "GET") return json(200, service.conversation(id));
    service.remove(id);
    return new Response(null, { status: 204 });
  }

  private cancel(generation_id: string): Response {
    return json(202, { generation_id, cancelled: this.service.cancel(generation_id) });
  }

  private stream(frame: MessageFrame | RetryFrame, init: RequestInit): Response {
    const accepted = frame.type === "message" ? this.service.say(frame) : this.service.retry(frame);
    return new FakeStream(this, init.signal ?? null).open((sink) => {
      sink(accepted);
      return this.service.follow(accepted.generation_id, 0, sink);
    });
  }
}

/** What carries the exchange itself; looking things up is not a step of it. */
function isStep(route: string): boolean {
  return route.startsWith("POST") || route.endsWith("/events");
}

function json(status: number, body: object): Response {
  return new Response(JSON.stringify(body), { status, headers: { "content-type": "application/json" } });
}

function abortable(answer: Response | Promise<Response>, signal?: AbortSignal | null): Promise<Response> {
  return new Promise((resolve, reject) => {
    signal?.addEventListener("abort", () => {
      reject(new DOMException("Aborted", "AbortError"));
    });
    Promise.resolve(answer).then(resolve, reject);
  });
}

export class FakeSocket implements WebSocketLike {
  onmessage: WebSocketLike["onmessage"] = null;
  onclose: WebSocketLike["onclose"] = null;
  onerror: WebSocketLike["onerror"] = null;
  /** A silent one neither says nor hears anything, and does not close. */
  isSilent = false;
  isClosed = false;
  readonly received: ClientFrame[] = [];
  private readonly peer: ServerConnection;

  constructor(private readonly network: FakeNetwork) {
    this.peer = new ServerConnection(network.service, (event) => {
      this.deliver(event);
    });
    network.sockets.add(this);
    network.clock.startTimer(() => {
      if (this.isClosed) return;
      if (network.refusesWebSockets || network.isDown) this.fail(1006);
      else if (!network.isSignedIn) this.fail(1008);
      else this.peer.greet();
    }, 1);
  }

  send(data: string): void {
    if (this.isClosed || this.isSilent) return;
    const frame = JSON.parse(data) as ClientFrame;
    this.received.push(frame);
    if (this.network.step()) this.peer.receive(frame);
    else this.fail(1006);
  }

  /** Say something that the service did not. */
  inject(data: string): void {
    this.onmessage?.({ data });
  }

  close(): void {
    this.isClosed = true;
    this.peer.close();
    this.network.sockets.delete(this);
  }

  /** Break it from the other side. */
  fail(code: number): void {
    if (this.isClosed) return;
    const { onclose } = this;
    this.close();
    onclose?.({ code, reason: "" });
  }

  private deliver(event: ServerEvent): void {
    if (this.isClosed || this.isSilent) return;
    if (this.network.step()) this.onmessage?.({ data: JSON.stringify(event) });
    else this.fail(1006);
  }
}

export class FakeStream {
  isSilent = false;
  private controller: ReadableStreamDefaultController<Uint8Array> | null = null;
  private stop: (() => void) | null = null;
  private isOver = false;

  constructor(
    private readonly network: FakeNetwork,
    signal: AbortSignal | null,
  ) {
    signal?.addEventListener("abort", () => {
      this.fail();
    });
  }

  open(subscribe: (sink: (event: ServerEvent) => void) => (() => void) | null): Response {
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.controller = controller;
      },
    });
    this.network.streams.add(this);
    this.stop = subscribe((event) => {
      this.deliver(event);
    });
    if (!this.stop) this.finish();
    return new Response(body, { status: 200, headers: { "content-type": "text/event-stream" } });
  }

  fail(): void {
    if (this.isOver) return;
    this.over();
    this.controller?.error(new TypeError("network error"));
  }

  private finish(): void {
    if (this.isOver) return;
    this.over();
    this.controller?.close();
  }

  private over(): void {
    this.isOver = true;
    this.stop?.();
    this.network.streams.delete(this);
  }

  private deliver(event: ServerEvent): void {
    if (this.isOver || this.isSilent) return;
    const bytes = new TextEncoder().encode(sseOf(event));
    const isCut = !this.network.step();
    // What is cut may have come half of its way.
    this.write(isCut ? bytes.slice(0, bytes.length >> 1) : bytes);
    if (isCut) this.fail();
    else if (event.type === "ended") this.finish();
  }

  private write(bytes: Uint8Array): void {
    const { chunkBytes } = this.network;
    for (let from = 0; from < bytes.length; from += chunkBytes) {
      this.controller?.enqueue(bytes.slice(from, Math.min(bytes.length, from + chunkBytes)));
    }
  }
}
