/** How a reply came about: what it was given, what it had to do without, and, on demand, which model wrote it and why. */

import type { JSX, TargetedEvent } from "preact";
import type { ReplyDetails, Route, Source } from "../../client/index.js";
import { degradedLabel, reasonLabel, routeLabel, shownSources } from "../labels.js";

export function DetailsView({ details }: { readonly details: ReplyDetails }): JSX.Element | null {
  const { route, degraded } = details;
  const sources = shownSources(details.sources);
  if (route === null && degraded.length === 0 && sources.length === 0) return null;
  return (
    <div class="details" data-testid="details">
      {degraded.map((what) => (
        <p key={what} class="degraded" data-testid="degraded">
          {degradedLabel(what)}
        </p>
      ))}
      {sources.length > 0 && <Sources sources={sources} />}
      {route && <RouteView route={route} />}
    </div>
  );
}

function Sources({ sources }: { readonly sources: readonly Source[] }): JSX.Element {
  return (
    <div class="sources" data-testid="sources">
      <span aria-hidden="true">From</span>
      <ul aria-label="Sources">
        {sources.map(({ source_id: id, title, url }) => (
          <li key={id}>
            {url === null ? (
              <span>{title}</span>
            ) : (
              <a href={url} target="_blank" rel="noopener noreferrer">
                {title}
                <span class="visually-hidden"> (opens in a new tab)</span>
              </a>
            )}
          </li>
        ))}
      </ul>
    </div>
  );
}

/** What opens at the end of a conversation would open behind its edge. */
function showWhole(event: TargetedEvent<HTMLDetailsElement>): void {
  event.currentTarget.scrollIntoView({ block: "nearest" });
}

function RouteView({ route }: { readonly route: Route }): JSX.Element {
  return (
    <details class="route" data-testid="route" onToggle={showWhole}>
      <summary>Written by {routeLabel(route)}</summary>
      <p>{reasonLabel(route)}</p>
    </details>
  );
}
