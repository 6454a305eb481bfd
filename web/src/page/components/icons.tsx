/** Small drawings that take the colour of the text around them. All are decoration: the control names itself. */

import type { JSX } from "preact";

const PATHS = {
  add: "M12 5v14M5 12h14",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6L6 18",
  rename: "M4 20h4L19 9l-4-4L4 16v4z",
  remove: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  send: "M5 12h13M12 5l7 7-7 7",
  stop: "M7 7h10v10H7z",
  retry: "M19 12a7 7 0 1 1-2-5l2 2M19 4v5h-5",
  down: "M12 5v14M5 12l7 7 7-7",
  keys: "M3 7h18v10H3zM7 14h10M7 10.5h.01M11 10.5h.01M15 10.5h.01",
} as const;

export function Icon({ name }: { readonly name: keyof typeof PATHS }): JSX.Element {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
