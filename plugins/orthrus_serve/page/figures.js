// The figures of an answer, as its cycles come: tokens a cycle, speed, and who drafted how much.

export class Figures {
  constructor(now = () => performance.now()) {
    this.now = now;
    this.asked = now();
    this.first = null;
    this.last = null;
    this.tokens = 0;
    this.firstTokens = 0; // that came at once with the first
    this.cycles = 0; // behind the prompt's pass
    this.drafted = 0;
    this.accepted = 0;
    this.drafters = new Map(); // cycles in which each of them drafted
  }

  /** Count the cycles of one chunk. */
  add(cycles) {
    this.last = this.now();
    for (const cycle of cycles) this.count(cycle);
    if (this.first === null) {
      this.first = this.last;
      this.firstTokens = this.tokens;
    }
  }

  count(cycle) {
    const accepted = cycle.accepted.length;
    this.tokens += accepted + (cycle.own === null ? 0 : 1);
    this.accepted += accepted;
    this.drafted += accepted + cycle.rejected.length;
    this.cycles += this.first === null && this.tokens === 1 ? 0 : 1;
    if (cycle.drafter !== null) this.drafters.set(cycle.drafter, (this.drafters.get(cycle.drafter) ?? 0) + 1);
  }

  /** Tokens a cycle, without the prompt's own; null before there is a cycle. */
  get perCycle() {
    return this.cycles ? (this.tokens - 1) / this.cycles : null;
  }

  /** Tokens a second, from the first token on; null before there is a second piece. */
  get speed() {
    return this.last > this.first ? ((this.tokens - this.firstTokens) * 1000) / (this.last - this.first) : null;
  }

  /** Seconds from the question to the first token. */
  get firstSeconds() {
    return this.first === null ? null : (this.first - this.asked) / 1000;
  }

  /** The share of drafts that was accepted; null if nothing was drafted. */
  get acceptance() {
    return this.drafted ? this.accepted / this.drafted : null;
  }
}

/** Return a figure with so many decimals, or a dash for none. */
export function shown(value, decimals) {
  return value === null ? "–" : value.toFixed(decimals);
}
