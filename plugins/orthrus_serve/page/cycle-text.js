// An answer's text, token by token: accepted drafts, the model's own tokens, and drafts that were rejected.

import { element, rejectedDraft } from "./elements.js";

export class CycleText {
  constructor() {
    this.element = element("div", "text");
    this.element.lang = "";
    this.caret = element("span", "caret");
    this.caret.setAttribute("aria-hidden", "true");
    this.ghost = null; // what was rejected in the last cycle, where the text ends
    this.element.append(this.caret);
  }

  /** Add what a cycle committed, and what it did not. */
  add(cycle) {
    this.ghost?.classList.remove("latest");
    this.ghost = null;
    const added = cycle.accepted.filter(Boolean).map((text) => element("span", "accepted", text));
    const own = cycle.own ? [element("span", "own", cycle.own)] : [];
    if (cycle.rejected.length) {
      this.ghost = rejectedDraft(cycle.rejected, "latest");
      this.ghost.setAttribute("aria-hidden", "true"); // it is no part of the answer; the table of cycles has it
      added.push(this.ghost);
    }
    this.caret.before(...added, ...own);
  }

  /** The answer is whole, or nothing more comes of it. */
  end() {
    this.ghost?.classList.remove("latest");
    this.caret.remove();
  }
}
