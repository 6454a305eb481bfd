/** The client library of pratique: a chat over WebSocket or SSE that survives its connections. */

export { backoffMs, DEFAULT_BACKOFF, type BackoffSettings } from "./backoff.js";
export { browserEnvironment } from "./browser.js";
export { ChatClient, type ChatClientSettings, type ChatNotice, type Listener, type SendOptions } from "./chat.js";
export type { ConnectionPhase, ConnectionStatus } from "./connection.js";
export type { Environment, WebSocketLike } from "./environment.js";
export { ApiError, ConnectionError, eventErrorOf, PratiqueClientError } from "./errors.js";
export type { Notice } from "./ledger.js";
export { parseEvent, type Parsed } from "./parse.js";
export { DEFAULT_ROUTE, type RouteSettings, type TransportKind } from "./reconnect.js";
export { newReply, stepReply, type Reply, type ReplyEnd, type ReplyStart } from "./reply.js";
export { RestClient, type RestSettings } from "./rest.js";
export * from "./wire.js";
