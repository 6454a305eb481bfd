import { describe, expect, it } from "vitest";
import { refusalOf } from "../../dev/service.js";
import { ApiError, ConnectionError, eventErrorOf } from "../../src/client/errors.js";
import { webSocketUrl } from "../../src/client/chat.js";
import type { TransportKind } from "../../src/client/reconnect.js";
import { bench, kinds, lastReply, PIECES, WHOLE, type Bench } from "../fakes/chat.js";
import { settled } from "../fakes/clock.js";
import type { FakeSocket } from "../fakes/network.js";

async function streaming(transport: TransportKind = "websocket", pieces = 3): Promise<Bench> {
  const made = bench({ transport });
  made.chat.start();
  await made.clock.advance(10);
  made.chat.send("What is the capital of France?");
  await made.clock.advance(25 + 20 * pieces);
  expect(lastReply(made.notices)?.end).toBeNull();
  return made;
}

function socketOf({ network }: Bench): FakeSocket {
  const [socket] = network.sockets;
  if (!socket) throw new Error("There is no socket.");
  return socket;
}

const TRANSPORTS: readonly TransportKind[] = ["websocket", "sse"];

describe.each(TRANSPORTS)("over %s", (transport) => {
  it("says hello and the model's state", async () => {
    const { chat, clock, notices } = bench({ transport });
    chat.start();
    chat.start();
    await clock.advance(10);
    expect(chat.status).toMatchObject({ phase: "connected", transport, replica: "orchestrator-0" });
    expect(kinds(notices, "hello")).toHaveLength(1);
    expect(kinds(notices, "model")).toMatchObject([{ model: { ready: true } }]);
    chat.stop();
    await clock.advance(100_000);
    expect(chat.status.phase).toBe("stopped");
    expect(clock.pending).toBe(0);
  });

  it("stops a reply, all of it kept", async () => {
    const made = await streaming(transport);
    made.chat.cancel(lastReply(made.notices)?.generationId ?? "");
    await made.clock.advance(50);
    expect(lastReply(made.notices)?.end?.finishReason).toBe("cancelled");
    expect([...made.service.conversations.values()][0]?.turns.at(-1)?.text).toBe(lastReply(made.notices)?.text);
  });

  it("has a reply written again", async () => {
    const made = await streaming(transport);
    made.chat.cancel(lastReply(made.notices)?.generationId ?? "");
    await made.clock.advance(50);
    made.chat.retry(lastReply(made.notices)?.conversationId ?? "");
    await made.clock.advance(1_000);
    expect(lastReply(made.notices)?.text).toBe(WHOLE);
  });

  it("tells what is refused", async () => {
    const made = await streaming(transport);
    const conversationId = lastReply(made.notices)?.conversationId ?? "";
    const id = made.chat.send("And of Japan?", { conversationId });
    await made.clock.advance(10);
    expect(kinds(made.notices, "refused")).toMatchObject([
      { clientMessageId: id, error: { code: "generation_running" } },
    ]);
    made.chat.send("And of Japan?", { conversationId: "conv_none", maxTokens: 5, temperature: 0.5 });
    await made.clock.advance(10);
    expect(kinds(made.notices, "refused").at(-1)).toMatchObject({ error: { code: "conversation_not_found" } });
    expect(made.chat.status.phase).toBe("connected");
  });

  it("follows what runs in a conversation from its beginning", async () => {
    const { service, clock, notices, chat } = bench({ transport });
    const said = service.say({ type: "message", client_message_id: "elsewhere-1", text: "Hi" });
    await clock.advance(60);
    chat.start();
    chat.follow(said.conversation_id);
    await clock.advance(2_000);
    expect(lastReply(notices)?.text).toBe(WHOLE);
    chat.follow(said.conversation_id);
    await clock.advance(2_000);
    expect(kinds(notices, "snapshot").at(-1)).toMatchObject({
      conversation: { conversation_id: said.conversation_id },
    });
  });

  it("shows the conversation as stored where a log is gone, once it has ended there", async () => {
    const made = await streaming(transport);
    for (const generation of made.service.generations.values()) generation.isExpired = true;
    for (const socket of made.network.sockets) socket.fail(1006);
    for (const stream of made.network.streams) stream.fail();
    await made.clock.advance(5_000);
    const snapshots = kinds(made.notices, "snapshot");
    expect(snapshots.length).toBeGreaterThan(0);
    expect(snapshots.at(-1)).toMatchObject({
      conversation: { active_generation_id: null, turns: [{}, { text: WHOLE }] },
    });
  });

  it.each([1008, 4401])("gets a new session where it has none any more (%i)", async (code) => {
    const made = await streaming(transport);
    made.network.isSignedIn = false;
    for (const socket of made.network.sockets) socket.fail(code);
    for (const stream of made.network.streams) stream.fail();
    await made.clock.advance(5_000);
    expect(made.network.isSignedIn).toBe(true);
    expect(lastReply(made.notices)?.text).toBe(WHOLE);
  });

  it("notices silence", async () => {
    const made = await streaming(transport);
    for (const socket of made.network.sockets) socket.isSilent = true;
    for (const stream of made.network.streams) stream.isSilent = true;
    await made.clock.advance(19_000);
    expect(lastReply(made.notices)?.end).toBeNull();
    await made.clock.advance(3_000);
    expect(lastReply(made.notices)?.text).toBe(WHOLE);
  });

  it("looks at once when the device wakes", async () => {
    const made = await streaming(transport);
    made.network.isDown = true;
    for (const socket of made.network.sockets) socket.fail(1006);
    for (const stream of made.network.streams) stream.fail();
    await made.clock.advance(20_000);
    made.network.isDown = false;
    made.network.wake();
    await made.clock.advance(20);
    expect(made.chat.status.phase).toBe("connected");
    await made.clock.advance(10);
    expect(lastReply(made.notices)?.text).toBe(WHOLE);
    made.network.wake();
    await made.clock.advance(10);
    expect(made.chat.status.phase).toBe("connected");
  });
});

describe("a WebSocket", () => {
  it("that dozed off with the device is given up soon after it wakes", async () => {
    const made = await streaming();
    socketOf(made).isSilent = true;
    made.network.wake();
    await made.clock.advance(3_500);
    expect(lastReply(made.notices)?.text).toBe(WHOLE);
  });

  it("that goes away is replaced at once, without a loss of patience", async () => {
    const made = await streaming();
    socketOf(made).inject('{"type":"going_away","reconnect_after_seconds":0.01}');
    expect(made.chat.status).toMatchObject({ phase: "waiting", retryInMs: 10 });
    await made.clock.advance(500);
    expect(lastReply(made.notices)?.text).toBe(WHOLE);
  });

  it.each([
    [1001, 0],
    [1013, 100],
  ])("closed with %i comes back after %i ms", async (code, delay) => {
    const made = await streaming();
    socketOf(made).fail(code);
    expect(made.chat.status.retryInMs).toBe(delay);
    await made.clock.advance(1_000);
    expect(lastReply(made.notices)?.text).toBe(WHOLE);
  });

  it("closed with 1009 takes the message with it", async () => {
    const made = bench();
    made.chat.start();
    await made.clock.advance(10);
    made.network.cuts = new Set([made.network.steps]);
    const socket = socketOf(made);
    socket.send = () => {
      socket.fail(1009);
    };
    made.chat.send("x");
    await made.clock.advance(2_000);
    expect(kinds(made.notices, "refused")).toMatchObject([{ error: { code: "too_large" } }]);
    expect(made.chat.status.phase).toBe("connected");
  });

  it("that cannot even be made, or takes nothing, is a loss", async () => {
    const made = await streaming();
    socketOf(made).send = () => {
      throw new DOMException("closed", "InvalidStateError");
    };
    made.chat.cancel(lastReply(made.notices)?.generationId ?? "");
    expect(made.chat.status.phase).toBe("waiting");
    const broken = bench();
    broken.network.environment().openWebSocket("x");
    const { chat, clock } = broken;
    Object.assign(Reflect.get(chat, "environment") as object, {
      openWebSocket: () => {
        throw new DOMException("no", "SecurityError");
      },
    });
    chat.start();
    await clock.advance(10_000);
    expect(chat.status).toMatchObject({ phase: "connected", transport: "sse" });
  });

  it("that never works gives way to SSE, and is tried again later", async () => {
    const made = bench();
    made.network.refusesWebSockets = true;
    made.chat.start();
    made.chat.send("What is the capital of France?");
    await made.clock.advance(10_000);
    expect(made.chat.status.transport).toBe("sse");
    expect(made.network.tried.websocket).toBe(5);
    expect(lastReply(made.notices)?.text).toBe(WHOLE);
    made.network.refusesWebSockets = false;
    await made.clock.advance(60_000);
    expect(made.chat.status).toMatchObject({ phase: "connected", transport: "websocket" });
  });

  it("is not tried again while a reply streams", async () => {
    const made = bench({ transport: "sse", script: () => ({ pieces: PIECES, pieceMs: 8_000 }) });
    made.chat.start();
    made.chat.send("slowly");
    made.service.heartbeatSeconds = 20;
    await made.clock.advance(70_000);
    expect(made.chat.status.transport).toBe("sse");
    await made.clock.advance(90_000);
    expect(made.chat.status.transport).toBe("websocket");
  });

  it("says what cannot be understood, and lives on", async () => {
    const made = await streaming();
    for (const data of ["nonsense", '{"type":"token"}', '{"type":"from_the_future"}']) socketOf(made).inject(data);
    expect(kinds(made.notices, "fault")).toHaveLength(2);
    await made.clock.advance(1_000);
    expect(lastReply(made.notices)?.text).toBe(WHOLE);
  });

  it("that never says hello is given up", async () => {
    const made = bench();
    const session = JSON.stringify(made.service.hello());
    made.network.overrides.set("GET /api/session", () => new Response(session));
    made.service.hello = () => ({ type: "heartbeat" });
    made.chat.start();
    await made.clock.advance(4_900);
    expect(made.chat.status.phase).toBe("connecting");
    await made.clock.advance(5_200);
    expect(made.chat.status.reason).toContain("too long");
  });

  it("has the address of its service", () => {
    expect(webSocketUrl("https://chat.example.org")).toBe("wss://chat.example.org/api/ws");
    expect(webSocketUrl("http://127.0.0.1:8080")).toBe("ws://127.0.0.1:8080/api/ws");
  });
});

describe("SSE", () => {
  it("goes elsewhere where the replica drains", async () => {
    const made = bench({ transport: "sse" });
    made.chat.start();
    await made.clock.advance(10);
    const error = { code: "draining", message: "Leaving.", hint: null, retry_after_seconds: 0.2, fallback: null };
    made.network.overrides.set("POST /api/chat", () => new Response(JSON.stringify({ error }), { status: 503 }));
    made.chat.send("Hi");
    await settled();
    expect(made.chat.status.retryInMs).toBe(200);
    made.network.overrides.clear();
    await made.clock.advance(2_000);
    expect(lastReply(made.notices)?.text).toBe(WHOLE);
  });

  it("takes an answer of the edge for a loss", async () => {
    const made = bench({ transport: "sse" });
    made.chat.start();
    await made.clock.advance(10);
    made.network.overrides.set("POST /api/chat", () => new Response("upstream error", { status: 503 }));
    made.chat.send("Hi");
    await settled();
    expect(made.chat.status).toMatchObject({ phase: "waiting", reason: "The service answered with HTTP 503." });
    made.network.overrides.clear();
    await made.clock.advance(2_000);
    expect(lastReply(made.notices)?.text).toBe(WHOLE);
  });

  it("tells where a cancel is refused, and asks for the model's state while it warms", async () => {
    const made = await streaming("sse");
    made.service.cancel = () => {
      throw refusalOf(404, "generation_not_found", "No.");
    };
    made.service.model = { ready: false, replicas: [] };
    made.chat.cancel(lastReply(made.notices)?.generationId ?? "");
    await made.clock.advance(20_000);
    expect(kinds(made.notices, "cancel_refused")).toHaveLength(1);
    const before = kinds(made.notices, "model").length;
    await made.clock.advance(10_000);
    expect(kinds(made.notices, "model").length).toBe(before + 5);
  });
});

describe("what a person does while there is no connection", () => {
  it("is done when there is one", async () => {
    const made = bench();
    made.network.isDown = true;
    made.chat.start();
    const id = made.chat.send("half a pair: \ud83d");
    made.chat.cancelMessage(id);
    await made.clock.advance(1_000);
    made.network.isDown = false;
    await made.clock.advance(5_000);
    expect(lastReply(made.notices)?.end?.finishReason).toBe("cancelled");
    expect([...made.service.conversations.values()][0]?.turns[0]?.text).toBe("half a pair: \ufffd");
  });

  it("is forgotten with its conversation", async () => {
    const made = await streaming();
    made.chat.forget(lastReply(made.notices)?.conversationId ?? "");
    await made.clock.advance(1_000);
    expect(lastReply(made.notices)?.end).toBeNull();
  });
});

describe("a lost reply", () => {
  it("in a conversation that is gone is told", async () => {
    const made = await streaming();
    made.service.conversations.clear();
    socketOf(made).inject(
      `{"type":"reconnected","conversation_id":"${lastReply(made.notices)?.conversationId ?? ""}","generation_id":null,"last_seq":0}`,
    );
    await made.clock.advance(100);
    expect(kinds(made.notices, "gone")).toHaveLength(1);
  });

  it("is asked for until the service can be reached, and not for ever", async () => {
    const made = await streaming();
    const id = lastReply(made.notices)?.conversationId ?? "";
    made.network.overrides.set(`GET /api/conversations/${id}`, () => new Response("<html>", { status: 200 }));
    socketOf(made).inject(`{"type":"reconnected","conversation_id":"${id}","generation_id":null,"last_seq":0}`);
    await made.clock.advance(700_000);
    expect(kinds(made.notices, "fault").at(-1)).toMatchObject({ error: { code: "connection" } });
  });
});

describe("plain requests", () => {
  it("list, show, rename and delete", async () => {
    const { chat, service } = bench();
    const id = service.seed("First", [{ text: "Hello" }]);
    expect((await chat.rest.conversations("cursor", 2)).conversations).toHaveLength(1);
    expect((await chat.rest.conversation(id)).turns[0]?.text).toBe("Hello");
    expect((await chat.rest.rename(id, "Second")).title).toBe("Second");
    await chat.rest.remove(id);
    await expect(chat.rest.conversation(id)).rejects.toMatchObject({ status: 404, code: "conversation_not_found" });
  });

  it("get a session once where there is none", async () => {
    const { chat, network } = bench();
    network.isSignedIn = false;
    await chat.rest.conversations();
    expect(network.requests).toEqual(["GET /api/conversations", "GET /api/session", "GET /api/conversations"]);
    await Promise.all([chat.renewSession(), chat.renewSession()]);
    expect(network.tried.session).toBe(2);
  });

  it("have a deadline", async () => {
    const { chat, clock, network } = bench();
    network.overrides.set("GET /api/status", () => new Promise<Response>(() => undefined));
    const asked = expect(chat.rest.status()).rejects.toBeInstanceOf(ConnectionError);
    await clock.advance(10_001);
    await asked;
  });

  it("say in words for people what went wrong", async () => {
    const { chat, network } = bench();
    const broken = new ReadableStream({
      start: (controller) => {
        controller.error(new TypeError("cut"));
      },
    });
    network.overrides.set("GET /api/status", () => new Response(broken));
    const error: unknown = await chat.rest.status().catch((reason: unknown) => reason);
    expect(eventErrorOf(error)).toMatchObject({ code: "connection", message: "The service's answer broke off." });
    expect(eventErrorOf("?").message).toBe("Something went wrong.");
    const detail = { code: "overloaded", message: "Later.", hint: null, retry_after_seconds: 1, fallback: null };
    expect(eventErrorOf(new ApiError(503, detail))).toBe(detail);
  });
});
