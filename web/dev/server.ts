/**
 * The fake service over real HTTP and WebSockets, with the switches that tests need: cut, refuse, drain, expire.
 *
 * It serves the built page too, under the policy that the real one sends, or joins another HTTP server (Vite's).
 */

import { createReadStream, existsSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";
import type { Duplex } from "node:stream";
import { WebSocketServer, type WebSocket } from "ws";
import type { AcceptedEvent, ClientFrame, ResumeFrame, ServerEvent } from "../src/client/wire.js";
import { FakeService, Refusal, refusalOf, ServerConnection, type Script } from "./service.js";

export const CONTENT_SECURITY_POLICY =
  "default-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:";

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
};

export interface FakeServerOptions {
  readonly script: (text: string) => Script;
  readonly pageDir?: string;
}

export class FakeServer {
  readonly service: FakeService;
  /** While set, WebSockets are refused before they open. */
  refusesWebSockets = false;
  /** While set, nothing is answered: every connection is closed at once. */
  isDown = false;
  private readonly http: Server;
  private readonly sockets = new WebSocketServer({ noServer: true });
  private readonly live = new Set<WebSocket>();
  private readonly streams = new Set<ServerResponse>();

  constructor(private readonly options: FakeServerOptions) {
    this.service = new FakeService(
      {
        now: () => Date.now() / 1000,
        later: (callback, ms) => {
          const timer = setTimeout(callback, ms).unref();
          return () => {
            clearTimeout(timer);
          };
        },
      },
      options.script,
    );
    this.http = createServer((request, response) => void this.handle(request, response));
    this.http.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      this.upgrade(request, socket, head);
    });
  }

  /** Start on a free loopback port; returns the address. */
  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.http.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.http.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.cut();
    this.http.closeAllConnections();
    await new Promise((resolve) => this.http.close(resolve));
  }

  /** Break every connection, as a killed process does. */
  cut(): void {
    for (const socket of this.live) socket.terminate();
    for (const response of this.streams) response.destroy();
  }

  /** Say something to everyone who is connected by WebSocket. */
  broadcast(event: ServerEvent): void {
    for (const socket of this.live) socket.send(JSON.stringify(event));
  }

  /** Join a server that is not ours. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    if (this.isDown || this.refusesWebSockets || !request.url?.startsWith("/api/ws")) {
      socket.destroy();
      return;
    }
    this.sockets.handleUpgrade(request, socket, head, (client) => {
      this.greet(client);
    });
  }

  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (this.isDown) {
      response.destroy();
      return;
    }
    try {
      const url = new URL(request.url ?? "/", "http://localhost");
      if (url.pathname.startsWith("/api/")) await this.api(request, response, url);
      else this.file(url.pathname, response);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      sendJson(response, error.status, { error: error.error });
    }
  }

  private greet(client: WebSocket): void {
    const connection = new ServerConnection(this.service, (event) => {
      client.send(JSON.stringify(event));
    });
    this.live.add(client);
    const beat = setInterval(() => {
      client.send(JSON.stringify({ type: "heartbeat" }));
    }, this.service.heartbeatSeconds * 1000).unref();
    client.on("message", (data: Buffer) => {
      connection.receive(JSON.parse(data.toString()) as ClientFrame);
    });
    client.on("close", () => {
      clearInterval(beat);
      connection.close();
      this.live.delete(client);
    });
    connection.greet();
  }

  private async api(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
    const { service } = this;
    const route = `${request.method ?? ""} ${url.pathname}`;
    const one = /^(GET|PATCH|DELETE) \/api\/conversations\/([^/]+)(\/events)?$/.exec(route);
    const id = decodeURIComponent(one?.[2] ?? "");
    if (route === "GET /api/session") sendJson(response, 200, withoutType(service.hello()));
    else if (route === "GET /api/status")
      sendJson(response, 200, { replica: service.replica, draining: false, model: service.model });
    else if (route === "GET /api/models") sendJson(response, 200, { models: service.models });
    else if (route === "GET /api/conversations") sendJson(response, 200, { conversations: service.list(), next: null });
    else if (one?.[3]) this.resume(response, resumeOf(id, url));
    else if (one?.[1] === "GET") sendJson(response, 200, service.conversation(id));
    else if (one?.[1] === "PATCH")
      sendJson(response, 200, service.rename(id, String((await bodyOf(request))["title"])));
    else if (one?.[1] === "DELETE") this.remove(id, response);
    else await this.post(request, response, route);
  }

  private async post(request: IncomingMessage, response: ServerResponse, route: string): Promise<void> {
    const body = await bodyOf(request);
    if (route === "POST /api/cancel") {
      const generation_id = String(body["generation_id"]);
      sendJson(response, 202, { generation_id, cancelled: this.service.cancel(generation_id) });
    } else if (route === "POST /api/chat") {
      this.answer(response, this.service.say({ type: "message", ...body } as never));
    } else if (route === "POST /api/retry") {
      this.answer(response, this.service.retry({ type: "retry", ...body } as never));
    } else {
      throw refusalOf(404, "not_found", "There is nothing here.");
    }
  }

  private remove(id: string, response: ServerResponse): void {
    this.service.remove(id);
    response.writeHead(204).end();
  }

  private answer(response: ServerResponse, accepted: AcceptedEvent): void {
    const send = this.stream(response);
    send(accepted);
    response.on("close", this.service.follow(accepted.generation_id, 0, send));
  }

  private resume(response: ServerResponse, frame: ResumeFrame): void {
    this.service.conversation(frame.conversation_id);
    const send = this.stream(response);
    const stop = this.service.resume(frame, send);
    if (stop) response.on("close", stop);
    else response.end();
  }

  private stream(response: ServerResponse): (event: ServerEvent) => void {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    this.streams.add(response);
    const beat = setInterval(() => {
      response.write('event: heartbeat\ndata: {"type":"heartbeat"}\n\n');
    }, this.service.heartbeatSeconds * 1000).unref();
    response.on("close", () => {
      clearInterval(beat);
      this.streams.delete(response);
    });
    return (event) => {
      response.write(sseOf(event));
      if (event.type === "ended") response.end();
    };
  }

  private file(path: string, response: ServerResponse): void {
    const { pageDir } = this.options;
    const file = pageDir === undefined ? null : join(pageDir, normalize(path === "/" ? "/index.html" : path));
    if (file === null || !existsSync(file)) throw refusalOf(404, "not_found", "There is nothing here.");
    response.writeHead(200, {
      "content-type": TYPES[extname(file)] ?? "application/octet-stream",
      "content-security-policy": CONTENT_SECURITY_POLICY,
    });
    createReadStream(file).pipe(response);
  }
}

/** One event as it stands in a stream. */
export function sseOf(event: ServerEvent): string {
  const id = "seq" in event ? `id: ${event.generation_id}:${event.seq}\n` : "";
  return `event: ${event.type}\n${id}data: ${JSON.stringify(event)}\n\n`;
}

export function resumeOf(conversation_id: string, url: URL): ResumeFrame {
  const generation_id = url.searchParams.get("generation_id");
  return {
    type: "resume",
    conversation_id,
    ...(generation_id === null ? {} : { generation_id, last_seq: Number(url.searchParams.get("last_seq")) }),
  };
}

export function withoutType(event: object): object {
  return Object.fromEntries(Object.entries(event).filter(([key]) => key !== "type"));
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

async function bodyOf(request: IncomingMessage): Promise<Record<string, unknown>> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return JSON.parse(Buffer.concat(parts).toString() || "{}") as Record<string, unknown>;
}
