/**
 * Server-sent events from text that arrives in pieces of any size. Pure: bytes and sockets are the caller's.
 *
 * Only what the protocol uses is read: `event`, `data`, `id`; comments and other fields are skipped.
 */

export interface SseMessage {
  readonly event: string;
  readonly data: string;
  readonly id: string | null;
}

export class SseParser {
  private rest = "";
  private event = "";
  private data: string[] = [];
  private id: string | null = null;

  /** Take the next piece; return the events that it completes. What the stream's end cuts off is never returned. */
  push(piece: string): SseMessage[] {
    const found: SseMessage[] = [];
    this.rest += piece;
    // A CR at the very end may be half of a CRLF: it waits for what follows.
    for (let match = takeLine(this.rest); match; match = takeLine(this.rest)) {
      this.rest = match.rest;
      const message = this.line(match.line);
      if (message) found.push(message);
    }
    return found;
  }

  private line(line: string): SseMessage | null {
    if (line === "") return this.dispatch();
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.event = value;
    else if (field === "data") this.data.push(value);
    else if (field === "id") this.id = value;
    return null;
  }

  private dispatch(): SseMessage | null {
    const message =
      this.data.length > 0 ? { event: this.event || "message", data: this.data.join("\n"), id: this.id } : null;
    this.event = "";
    this.data = [];
    return message;
  }
}

function takeLine(text: string): { line: string; rest: string } | null {
  const match = /\r\n|\n|\r(?=[^])/.exec(text);
  if (!match) return null;
  return { line: text.slice(0, match.index), rest: text.slice(match.index + match[0].length) };
}
