/** Notices that nothing was heard for too long. Hearing something costs no timer: the one that runs looks back. */

import type { Environment } from "./environment.js";

export class Silence {
  private heardAt: number;
  private stopTimer: (() => void) | null = null;

  constructor(
    private readonly environment: Environment,
    private limitMs: number,
    private readonly onSilent: () => void,
  ) {
    this.heardAt = environment.now();
    this.arm(limitMs);
  }

  heard(): void {
    this.heardAt = this.environment.now();
  }

  /** From now on so much silence is too much. */
  setLimit(limitMs: number): void {
    this.limitMs = limitMs;
    this.arm(limitMs);
  }

  /** Something must be heard within so many milliseconds from now, this once. */
  expectWithin(ms: number): void {
    const askedAt = this.environment.now();
    this.arm(ms, () => this.heardAt > askedAt);
  }

  stop(): void {
    this.stopTimer?.();
    this.stopTimer = null;
  }

  private arm(ms: number, isFine = () => this.remaining() > 0): void {
    this.stop();
    this.stopTimer = this.environment.startTimer(() => {
      this.stopTimer = null;
      if (isFine()) this.arm(Math.max(this.remaining(), 1));
      else this.onSilent();
    }, ms);
  }

  private remaining(): number {
    return this.heardAt + this.limitMs - this.environment.now();
  }
}
