/**
 * The little markdown that models write → blocks to show. Pure; nothing of it is ever markup.
 *
 * Paragraphs, headings, lists, fenced code; inside of text: code, strong, emphasis. Everything else stays as written,
 * links too: a page that shows a model's words must not make them clickable. A fence without an end is code up to the
 * end, since a reply that is still being written looks so.
 */

export type Inline =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "code"; readonly text: string }
  | { readonly kind: "strong"; readonly text: string }
  | { readonly kind: "emphasis"; readonly text: string };

export type Block =
  | { readonly kind: "paragraph"; readonly inlines: readonly Inline[] }
  | { readonly kind: "heading"; readonly inlines: readonly Inline[] }
  | { readonly kind: "code"; readonly language: string; readonly text: string }
  | {
      readonly kind: "list";
      readonly isOrdered: boolean;
      readonly start: number;
      readonly items: readonly (readonly Inline[])[];
    };

interface Reader {
  readonly lines: readonly string[];
  at: number;
}

const FENCE_MARK = /^ {0,3}(`{3,}|~{3,})/;
const HEADING = /^ {0,3}#{1,6}\s+(.*)$/;
const BULLET = /^\s*[-*+•]\s+(.*)$/;
const NUMBER = /^\s*(\d{1,9})[.)]\s+(.*)$/;

/** Read a reply's text into blocks. */
export function parseMarkdown(text: string): Block[] {
  const reader: Reader = { lines: text.split(/\r?\n/), at: 0 };
  const blocks: Block[] = [];
  while (reader.at < reader.lines.length) {
    const block = readBlock(reader);
    if (block) blocks.push(block);
  }
  return blocks;
}

function readBlock(reader: Reader): Block | null {
  const line = lineAt(reader);
  if (line.trim() === "") {
    reader.at += 1;
    return null;
  }
  const fence = fenceOf(line);
  if (fence) return readCode(reader, fence.mark, fence.language);
  const heading = HEADING.exec(line);
  if (heading) {
    reader.at += 1;
    return { kind: "heading", inlines: parseInline(withoutClosing(heading[1] ?? "")) };
  }
  if (BULLET.test(line)) return readList(reader, false);
  if (NUMBER.test(line)) return readList(reader, true);
  return readParagraph(reader);
}

/** Read the line that opens a code block. In two steps: one pattern for all of it would take long runs for ever. */
function fenceOf(line: string): { readonly mark: string; readonly language: string } | null {
  const opening = FENCE_MARK.exec(line);
  if (!opening) return null;
  const info = line.slice(opening[0].length).trimStart();
  if (info.includes("`")) return null;
  return { mark: opening[1] ?? "", language: info.trimEnd() };
}

/** Leave out the number signs that may close a heading. Not a pattern: long runs of spaces would take it for ever. */
function withoutClosing(heading: string): string {
  const line = heading.trimEnd();
  let end = line.length;
  while (line[end - 1] === "#") end -= 1;
  return line.slice(0, end).trimEnd();
}

function readCode(reader: Reader, fence: string, language: string): Block {
  reader.at += 1;
  const found: string[] = [];
  for (; reader.at < reader.lines.length; reader.at += 1) {
    const line = lineAt(reader);
    if (line.trim().startsWith(fence) && line.trim().length < fence.length + 2) {
      reader.at += 1;
      break;
    }
    found.push(line);
  }
  return { kind: "code", language, text: found.join("\n") };
}

function readList(reader: Reader, isOrdered: boolean): Block {
  const mark = isOrdered ? NUMBER : BULLET;
  const start = isOrdered ? Number.parseInt(lineAt(reader), 10) : 1;
  const items: string[] = [];
  for (; reader.at < reader.lines.length; reader.at += 1) {
    const line = lineAt(reader);
    const item = mark.exec(line);
    if (item) items.push(item.at(-1) ?? "");
    else if (continuesItem(line)) items.push(`${items.pop() ?? ""}\n${line.trim()}`);
    else if (line.trim() !== "" || !mark.test(lineAt(reader, 1))) break;
  }
  return { kind: "list", isOrdered, start, items: items.map(parseInline) };
}

function lineAt({ lines, at }: Reader, ahead = 0): string {
  return lines[at + ahead] ?? "";
}

function continuesItem(line: string): boolean {
  return /^\s{2,}\S/.test(line) && fenceOf(line) === null;
}

function readParagraph(reader: Reader): Block {
  const found: string[] = [];
  for (; reader.at < reader.lines.length; reader.at += 1) {
    const line = lineAt(reader);
    if (line.trim() === "" || (found.length > 0 && startsBlock(line))) break;
    found.push(line);
  }
  return { kind: "paragraph", inlines: parseInline(found.join("\n")) };
}

function startsBlock(line: string): boolean {
  // A number in the middle of a sentence that was wrapped is no list: only 1 begins one there.
  return fenceOf(line) !== null || HEADING.test(line) || BULLET.test(line) || /^\s*1[.)]\s+/.test(line);
}

const INLINE =
  /(?<!`)(`+)(?!`)([^]*?[^`])\1(?!`)|\*\*(?=\S)([^*]*[^*\s])\*\*|(?<![\w*])\*(?=[^\s*])([^*\n]*[^*\s])\*(?![\w*])/g;

function parseInline(text: string): Inline[] {
  const found: Inline[] = [];
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    if (match.index > end) found.push({ kind: "text", text: text.slice(end, match.index) });
    found.push(spanOf(match));
    end = match.index + match[0].length;
  }
  if (end < text.length) found.push({ kind: "text", text: text.slice(end) });
  return found;
}

function spanOf([, , code, strong, emphasis]: RegExpMatchArray): Inline {
  if (code !== undefined) return { kind: "code", text: code };
  if (strong !== undefined) return { kind: "strong", text: strong };
  return { kind: "emphasis", text: emphasis ?? "" };
}
