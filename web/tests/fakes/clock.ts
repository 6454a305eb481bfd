/** A clock that moves only when a test says so. */

interface Timer {
  readonly at: number;
  readonly order: number;
  readonly callback: () => void;
}

export class FakeClock {
  private time = 0;
  private orders = 0;
  private readonly timers = new Set<Timer>();

  readonly now = (): number => this.time;

  readonly startTimer = (callback: () => void, ms: number): (() => void) => {
    const timer = { at: this.time + Math.max(0, ms), order: this.orders++, callback };
    this.timers.add(timer);
    return () => this.timers.delete(timer);
  };

  get pending(): number {
    return this.timers.size;
  }

  /** Let so many milliseconds pass, with everything that becomes due in them. */
  async advance(ms: number): Promise<void> {
    const end = this.time + ms;
    await settled();
    for (let next = this.next(end); next; next = this.next(end)) {
      this.timers.delete(next);
      this.time = Math.max(this.time, next.at);
      next.callback();
      await settled();
    }
    this.time = end;
  }

  private next(end: number): Timer | undefined {
    const due = [...this.timers].filter(({ at }) => at <= end);
    return due.sort((a, b) => a.at - b.at || a.order - b.order)[0];
  }
}

/** Let everything that waits for no timer run to its end. */
export async function settled(): Promise<void> {
  for (let round = 0; round < 3; round += 1) await new Promise((resolve) => setImmediate(resolve));
}
