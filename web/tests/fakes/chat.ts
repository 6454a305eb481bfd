/** A client, a service and a network between them, on one fake clock. */

import { FakeService, type Script } from "../../dev/service.js";
import { ChatClient, type ChatNotice } from "../../src/client/chat.js";
import type { TransportKind } from "../../src/client/reconnect.js";
import type { Reply } from "../../src/client/reply.js";
import { FakeClock } from "./clock.js";
import { FakeNetwork } from "./network.js";

export interface Bench {
  readonly clock: FakeClock;
  readonly service: FakeService;
  readonly network: FakeNetwork;
  readonly chat: ChatClient;
  readonly notices: ChatNotice[];
}

export const PIECES = [
  "The ",
  "capital ",
  "of ",
  "France ",
  "is ",
  "Paris",
  ", ",
  "日本",
  "の",
  "首都",
  "は",
  "東京",
  "。",
];
export const WHOLE = PIECES.join("");

export interface BenchOptions {
  readonly transport?: TransportKind;
  readonly script?: (text: string) => Script;
  readonly random?: () => number;
}

export function bench({ transport = "websocket", script, random }: BenchOptions = {}): Bench {
  const clock = new FakeClock();
  const service = new FakeService(
    { now: () => 1_700_000_000 + clock.now() / 1000, later: clock.startTimer },
    script ?? (() => ({ pieces: PIECES, firstMs: 20, pieceMs: 20, continuedAfter: 7 })),
  );
  const network = new FakeNetwork(clock, service, random);
  const chat = new ChatClient({
    environment: network.environment(),
    baseUrl: "http://chat",
    firstTransport: transport,
  });
  const notices: ChatNotice[] = [];
  chat.listen((notice) => {
    notices.push(notice);
  });
  return { clock, service, network, chat, notices };
}

export function kinds(notices: readonly ChatNotice[], kind: ChatNotice["kind"]): ChatNotice[] {
  return notices.filter((notice) => notice.kind === kind);
}

export function repliesIn(notices: readonly ChatNotice[]): Reply[] {
  return notices.flatMap((notice) => (notice.kind === "reply" ? [notice.reply] : []));
}

export function lastReply(notices: readonly ChatNotice[]): Reply | undefined {
  return repliesIn(notices).at(-1);
}
