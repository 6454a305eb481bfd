/** How the model and the connection are. */

import type { JSX } from "preact";
import type { EventError, ModelStatus } from "../../client/index.js";
import { etaOf, leadingReplica, modelLabel, replicaLabel } from "../labels.js";
import { Icon } from "./icons.js";

export function ModelState({ model }: { readonly model: ModelStatus | null }): JSX.Element {
  const isReady = model?.ready === true;
  const progress = model && !isReady ? (leadingReplica(model)?.progress ?? null) : null;
  const eta = etaOf(model);
  const details = model?.replicas.map((replica) => `${replica.name}: ${replicaLabel(replica)}`).join("\n");
  return (
    <div class="model-state" data-testid="model-state" data-ready={isReady} title={details}>
      <span class={isReady ? "lamp lamp-ready" : "lamp"} aria-hidden="true" />
      <span class="model-label">
        <span class="model-word">Model: </span>
        {modelLabel(model)}
        {eta !== null && <span class="model-eta">, {eta}</span>}
      </span>
      {progress !== null && <progress max={1} value={progress} aria-label="Progress of the model’s start" />}
    </div>
  );
}

export function ConnectionBanner({ label }: { readonly label: string }): JSX.Element {
  return (
    <p class="banner" data-testid="connection-banner">
      <span class="spinner" aria-hidden="true" />
      {label}
    </p>
  );
}

export interface FaultNoteProps {
  readonly fault: EventError;
  readonly onDismiss: () => void;
}

export function FaultNote({ fault, onDismiss }: FaultNoteProps): JSX.Element {
  return (
    <div class="fault" role="alert" data-testid="fault" data-code={fault.code}>
      <p>{[fault.message, fault.hint].filter(Boolean).join(" ")}</p>
      <button type="button" class="icon-button" aria-label="Dismiss" onClick={onDismiss}>
        <Icon name="close" />
      </button>
    </div>
  );
}
