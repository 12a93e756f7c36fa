// A table of an answer's cycles, made when it is opened: who drafted how much, what stayed and what did not.

import { element, rejectedDraft } from "./elements.js";

const COLUMNS = ["Cycle", "Drafter", "Drafted", "Accepted", "Tokens"];

/** Return what opens to the table. cycles: all there are when it is opened. */
export function cycleTable(cycles) {
  const body = element("tbody");
  const head = element("tr", "", ...COLUMNS.map((name) => scoped(element("th", "", name))));
  const scrolled = element("div", "scrolled", element("table", "", element("thead", "", head), body));
  scrolled.tabIndex = 0;
  scrolled.setAttribute("role", "region");
  scrolled.setAttribute("aria-label", "Cycles");
  const details = element("details", "cycles", element("summary", "", "Cycles"), scrolled);
  details.addEventListener("toggle", () => {
    if (details.open) body.replaceChildren(...cycles.map(rowOf));
  });
  return details;
}

function scoped(header) {
  header.scope = "col";
  return header;
}

function rowOf(cycle, index) {
  const { accepted, rejected, own, drafter } = cycle;
  const tokens = element("td", "text", ...accepted.map((text) => element("span", "accepted", text)));
  if (own !== null) tokens.append(element("span", "own", own));
  if (rejected.length) tokens.append(" ", rejectedDraft(rejected));
  const numbers = drafter === null ? ["", ""] : [accepted.length + rejected.length, accepted.length];
  const cells = [index, drafter ?? "none", ...numbers].map((value) => element("td", "", String(value)));
  return element("tr", "", ...cells, tokens);
}
