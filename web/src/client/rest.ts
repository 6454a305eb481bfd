/**
 * The plain requests of the service: session, status, conversations. Each has a deadline.
 *
 * A 401 gets a new session once, then the request is repeated.
 */

import { ApiError, ConnectionError } from "./errors.js";
import type { Environment } from "./environment.js";
import {
  conversationShape,
  eventErrorShape,
  modelListShape,
  pageShape,
  parseBody,
  sessionShape,
  statusShape,
  summaryShape,
} from "./parse.js";
import { record, ShapeError, type Shape } from "./shape.js";
import type {
  Conversation,
  ConversationPage,
  ConversationSummary,
  EventError,
  ModelList,
  ServiceStatus,
  Session,
} from "./wire.js";

export const DEFAULT_DEADLINE_MS = 10_000;

export interface RestSettings {
  /** Where the service is, without a slash at the end: "" for the page's own origin. */
  readonly baseUrl: string;
  /** Sent with each request, for example an API key. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly deadlineMs?: number;
}

interface Call<T> {
  readonly method: string;
  readonly path: string;
  readonly shape: Shape<T> | null;
  readonly body?: unknown;
  readonly isRepeat?: boolean;
}

const errorBodyShape = record<{ error: EventError }>({ error: eventErrorShape });

export class RestClient {
  constructor(
    private readonly environment: Environment,
    private readonly settings: RestSettings,
  ) {}

  /** Make sure that there is a principal, and say who. */
  session(): Promise<Session> {
    // A 401 here is final: there is no other way to get one.
    return this.call({ method: "GET", path: "/api/session", shape: sessionShape, isRepeat: true });
  }

  status(): Promise<ServiceStatus> {
    return this.call({ method: "GET", path: "/api/status", shape: statusShape });
  }

  /** What a message may name as its model. */
  models(): Promise<ModelList> {
    return this.call({ method: "GET", path: "/api/models", shape: modelListShape });
  }

  /** A page of the list, newest first; `before` is the `next` of the page before it. */
  conversations(before: string | null = null, limit = 50): Promise<ConversationPage> {
    const query = new URLSearchParams({ limit: String(limit), ...(before === null ? {} : { before }) });
    return this.call({ method: "GET", path: `/api/conversations?${query}`, shape: pageShape });
  }

  conversation(conversationId: string): Promise<Conversation> {
    return this.call({ method: "GET", path: pathOf(conversationId), shape: conversationShape });
  }

  rename(conversationId: string, title: string): Promise<ConversationSummary> {
    return this.call({ method: "PATCH", path: pathOf(conversationId), shape: summaryShape, body: { title } });
  }

  async remove(conversationId: string): Promise<void> {
    await this.call({ method: "DELETE", path: pathOf(conversationId), shape: null });
  }

  /** Start a request whose answer the caller reads. `signal` ends it. Throws ConnectionError where there is no answer. */
  async open(method: string, path: string, options: OpenOptions): Promise<Response> {
    const hasBody = options.body !== undefined;
    const headers = {
      ...this.settings.headers,
      accept: options.accept,
      ...(hasBody ? { "content-type": "application/json" } : {}),
    };
    try {
      return await this.environment.fetch(this.settings.baseUrl + path, {
        method,
        headers,
        credentials: "same-origin",
        cache: "no-store",
        signal: options.signal,
        ...(hasBody ? { body: JSON.stringify(options.body) } : {}),
      });
    } catch (error) {
      throw new ConnectionError("The service cannot be reached.", { cause: error });
    }
  }

  private async call<T>(call: Call<T>): Promise<T> {
    const { status, body } = await this.exchange(call);
    if (status === 401 && !call.isRepeat) {
      await this.session();
      return this.call({ ...call, isRepeat: true });
    }
    if (status < 200 || status > 299) throw refusal(status, body);
    if (call.shape === null) return undefined as T;
    try {
      return parseBody(call.shape, body);
    } catch (error) {
      if (!(error instanceof ShapeError)) throw error;
      throw new ConnectionError(`The service's answer cannot be understood: ${error.message}`, { cause: error });
    }
  }

  private async exchange<T>(call: Call<T>): Promise<{ status: number; body: string }> {
    const controller = new AbortController();
    const stop = this.environment.startTimer(() => {
      controller.abort();
    }, this.settings.deadlineMs ?? DEFAULT_DEADLINE_MS);
    try {
      const response = await this.open(call.method, call.path, {
        accept: "application/json",
        signal: controller.signal,
        ...(call.body === undefined ? {} : { body: call.body }),
      });
      return { status: response.status, body: await readAll(response) };
    } finally {
      stop();
    }
  }
}

export interface OpenOptions {
  readonly accept: string;
  readonly signal: AbortSignal;
  readonly body?: unknown;
}

function pathOf(conversationId: string): string {
  return `/api/conversations/${encodeURIComponent(conversationId)}`;
}

/** Read an answer to its end. Throws ConnectionError where it breaks off. */
export async function readAll(response: Response): Promise<string> {
  try {
    return await response.text();
  } catch (error) {
    throw new ConnectionError("The service's answer broke off.", { cause: error });
  }
}

/** The error that a refused request stands for: ApiError where the service said why. */
export function refusal(status: number, body: string): ApiError | ConnectionError {
  try {
    return new ApiError(status, parseBody(errorBodyShape, body).error);
  } catch {
    return new ConnectionError(`The service answered with HTTP ${status}.`);
  }
}
