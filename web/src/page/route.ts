/** The address of a conversation inside the page: `#/c/<id>`, so that it can be linked to and survives a reload. */

export function routeTo(conversationId: string | null): string {
  return conversationId === null ? "#/" : `#/c/${encodeURIComponent(conversationId)}`;
}

/** Return the conversation that a location's hash names, or null. */
export function conversationIn(hash: string): string | null {
  const match = /^#\/c\/([^/]+)$/.exec(hash);
  try {
    return match ? decodeURIComponent(match[1] ?? "") : null;
  } catch {
    return null;
  }
}
