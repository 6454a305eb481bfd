/**
 * What the library throws.
 *
 * PratiqueClientError
 * ├── ApiError          the service answered, and refused: `code` says why
 * └── ConnectionError   no answer, or one that cannot be understood: trying again may help
 */

import type { EventError } from "./wire.js";

export class PratiqueClientError extends Error {}

export class ApiError extends PratiqueClientError {
  override readonly name = "ApiError";

  constructor(
    readonly status: number,
    readonly detail: EventError,
  ) {
    super(detail.message);
  }

  get code(): string {
    return this.detail.code;
  }
}

export class ConnectionError extends PratiqueClientError {
  override readonly name = "ConnectionError";
}

/** Put any failure in the words that people are shown. */
export function eventErrorOf(error: unknown): EventError {
  if (error instanceof ApiError) return error.detail;
  const message = error instanceof Error ? error.message : "Something went wrong.";
  return {
    code: "connection",
    message,
    hint: "Check the connection, then try again.",
    retry_after_seconds: null,
    fallback: null,
  };
}
