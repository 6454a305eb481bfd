/** Draws what `markdown` read. Every piece of text becomes a text node; there is no way for it to become markup. */

import type { JSX } from "preact";
import { parseMarkdown, type Block, type Inline } from "../markdown.js";

export function MarkdownView({ text }: { readonly text: string }): JSX.Element {
  return (
    <>
      {parseMarkdown(text).map((block, index) => (
        <BlockView key={index} block={block} />
      ))}
    </>
  );
}

function BlockView({ block }: { readonly block: Block }): JSX.Element {
  switch (block.kind) {
    case "paragraph":
      return <p>{spans(block.inlines)}</p>;
    case "heading":
      return <p class="md-heading">{spans(block.inlines)}</p>;
    case "code":
      return <CodeView language={block.language} text={block.text} />;
    case "list":
      return <ListView block={block} />;
  }
}

function ListView({ block }: { readonly block: Extract<Block, { kind: "list" }> }): JSX.Element {
  const items = block.items.map((item, index) => <li key={index}>{spans(item)}</li>);
  return block.isOrdered ? <ol start={block.start}>{items}</ol> : <ul>{items}</ul>;
}

function CodeView({ language, text }: { readonly language: string; readonly text: string }): JSX.Element {
  const label = language === "" ? "Code" : `Code, ${language}`;
  return (
    <figure class="code">
      {language !== "" && <figcaption aria-hidden="true">{language}</figcaption>}
      {/* It scrolls sideways, and so must be reachable by keyboard. */}
      <pre tabIndex={0} role="region" aria-label={label}>
        <code>{text}</code>
      </pre>
    </figure>
  );
}

function spans(inlines: readonly Inline[]): JSX.Element[] {
  return inlines.map((inline, index) => <Span key={index} inline={inline} />);
}

function Span({ inline }: { readonly inline: Inline }): JSX.Element {
  switch (inline.kind) {
    case "text":
      return <>{inline.text}</>;
    case "code":
      return <code>{inline.text}</code>;
    case "strong":
      return <strong>{inline.text}</strong>;
    case "emphasis":
      return <em>{inline.text}</em>;
  }
}
