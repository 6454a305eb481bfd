/** How long to wait before the next attempt: doubling from 100 ms to 5 s, jittered over the upper half. */

export interface BackoffSettings {
  readonly firstMs: number;
  readonly maxMs: number;
}

export const DEFAULT_BACKOFF: BackoffSettings = { firstMs: 100, maxMs: 5_000 };

/**
 * Return the milliseconds to wait after `losses` losses in a row (1 after the first).
 *
 * `random` gives numbers in [0, 1).
 */
export function backoffMs(losses: number, random: () => number, settings: BackoffSettings = DEFAULT_BACKOFF): number {
  const full = Math.min(settings.maxMs, settings.firstMs * 2 ** Math.min(Math.max(0, losses - 1), 30));
  return full / 2 + (full / 2) * random();
}
