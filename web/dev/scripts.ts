/** How the development server answers: by the first word of a message, so that every state can be seen. */

import type { EventError, ModelStatus } from "../src/client/wire.js";
import type { Script } from "./service.js";

const LONG_ANSWER = `The capital of France is **Paris**. It lies on the Seine and has been the seat of government for most of the time since 508.

A few figures:

- About 2.1 million people live in the city itself
- About 13 million live in its metropolitan area
- It has 20 districts, the *arrondissements*

To print the name in Python, use \`print\`:

\`\`\`python
def capital(country: str) -> str:
    return {"France": "Paris", "Japan": "Tokyo"}[country]

print(capital("France"))
\`\`\`

1. Ask for another country
2. Read its answer
3. Compare the two`;

export function piecesOf(text: string): string[] {
  return text.match(/\s*\S+/g) ?? [text];
}

function error(code: string, message: string, hint: string): EventError {
  return { code, message, hint, retry_after_seconds: null, fallback: null };
}

const pieces = piecesOf(LONG_ANSWER);

const SCRIPTS: Readonly<Record<string, Script>> = {
  "/short": { pieces: ["Paris", "."], pieceMs: 20 },
  "/slow": { pieces, firstMs: 800, pieceMs: 400 },
  "/wait": { pieces, firstMs: 3_600_000 },
  "/cut": { pieces, turnsDropped: 4, wasTruncated: true, pieceMs: 30 },
  "/sources": {
    pieces,
    pieceMs: 20,
    details: {
      route: { pool: "small", model: "chatbot-en", policy: "length", reason: "short question, no code" },
      sources: [
        {
          source_id: "lamp/en",
          title: "潮見坂の灯台守 / The Lighthouse Keeper of Tideview Hill",
          url: "https://manga.example/lamp",
        },
        {
          source_id: "lamp/ja",
          title: "潮見坂の灯台守 / The Lighthouse Keeper of Tideview Hill",
          url: "https://manga.example/lamp",
        },
        { source_id: "leaflet", title: "Opening hours of the shop", url: null },
      ],
      notice: null,
      degraded: [],
    },
  },
  "/degraded": {
    pieces,
    pieceMs: 20,
    details: {
      route: { pool: "large", model: "", policy: "named", reason: "" },
      sources: [],
      notice: "Two of four passages and the oldest three turns were left out, to leave room for the answer.",
      degraded: ["retrieval", "reduced_context"],
    },
  },
  "/fallback": {
    pieces,
    failsAfter: 0,
    error: {
      ...error("model_unavailable", "No model server takes traffic.", "Try again later."),
      fallback: "I cannot answer at the moment. Please send it again in a minute, or call the shop.",
    },
  },
  "/continue": { pieces, continuedAfter: 12, pieceMs: 40 },
  "/fail": {
    pieces,
    failsAfter: 0,
    error: error(
      "model_unavailable",
      "No model server took the message in time.",
      "Wait until the model is ready, then retry.",
    ),
  },
  "/partial": {
    pieces,
    pieceMs: 20,
    failsAfter: 24,
    error: error(
      "interrupted",
      "The model server went away while it wrote.",
      "Retry to have the message answered again.",
    ),
  },
  "/refuse": {
    pieces,
    refusal: error("overloaded", "Too many replies are being written at the moment.", "Try again in a few seconds."),
  },
};

/** Answer by script; what names none gets the long answer. */
export function scriptFor(text: string): Script {
  const command = text.split(/\s/, 1)[0] ?? "";
  return SCRIPTS[command] ?? { pieces, firstMs: 300, pieceMs: 45 };
}

export const WARMING: ModelStatus = {
  ready: false,
  replicas: [
    { name: "inference-0", state: "process_alive", detail: "loading weights", progress: 0.4, eta_seconds: 12 },
    { name: "inference-1", state: "starting", detail: "importing the engine", progress: null, eta_seconds: null },
  ],
};
