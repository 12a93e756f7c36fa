// A chart of an answer's cycles, a bar each: the model's own token, accepted drafts on it, rejected ones above.

import { element } from "./elements.js";

const MOST_BARS = 240;
const LEAST_TALL = 8; // tokens that a bar of full height stands for, at least

export class CycleChart {
  constructor() {
    this.element = element("div", "chart");
    this.element.setAttribute("role", "img");
    this.element.setAttribute("aria-label", "Cycles: none yet");
    this.element.style.setProperty("--tallest", LEAST_TALL);
    this.drafters = [];
    this.tallest = LEAST_TALL;
  }

  /** Add a cycle's bar; its foot has a colour for each drafter, if there are several. */
  add(cycle) {
    const [accepted, rejected] = [cycle.accepted.length, cycle.rejected.length];
    const bar = element("span", "bar", element("i", "up"), element("i", "on"), element("i", "self"));
    bar.style.setProperty("--kept", accepted);
    bar.style.setProperty("--refused", rejected);
    bar.dataset.drafter = this.numberOf(cycle.drafter);
    this.tallest = Math.max(this.tallest, accepted + rejected + 1);
    this.element.style.setProperty("--tallest", this.tallest);
    this.element.append(bar);
    if (this.element.childElementCount > MOST_BARS) this.element.firstElementChild.remove();
  }

  numberOf(drafter) {
    if (drafter === null) return "";
    if (!this.drafters.includes(drafter)) this.drafters.push(drafter);
    return String(this.drafters.indexOf(drafter) % 4);
  }

  /** Say in words what the chart shows. */
  describe(text) {
    this.element.setAttribute("aria-label", text);
  }
}
