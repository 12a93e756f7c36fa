// The view of one model's answer: its text, its figures, and its cycles.

import { CycleChart } from "./cycle-chart.js";
import { cycleTable } from "./cycle-table.js";
import { CycleText } from "./cycle-text.js";
import { element } from "./elements.js";
import { Figures, shown } from "./figures.js";

const REASONS = { length: "ended by the limit", cancelled: "stopped" };

export class AnswerView {
  constructor(model) {
    this.model = model;
    this.content = "";
    this.cycles = [];
    this.figures = new Figures();
    this.text = new CycleText();
    this.chart = new CycleChart();
    this.values = {};
    this.now = element("p", "now");
    this.now.setAttribute("aria-hidden", "true"); // it changes many times a second; the figures stay
    this.element = element(
      "article",
      "answer",
      element("h3", "", model),
      this.text.element,
      this.now,
      this.chart.element,
      this.list(),
      cycleTable(this.cycles),
    );
    this.element.setAttribute("aria-label", `Answer of ${model}`);
    this.element.setAttribute("aria-busy", "true");
  }

  /** The answer's turn has come. */
  begin() {
    this.figures = new Figures();
    this.element.classList.add("running");
  }

  /** Add a chunk of the stream. */
  add(chunk) {
    for (const choice of chunk.choices) {
      this.content += choice.delta.content ?? "";
      if (choice.drafts) this.addCycles(choice.drafts);
      if (choice.finish_reason) this.reason = choice.finish_reason;
    }
  }

  addCycles(cycles) {
    this.figures.add(cycles);
    for (const cycle of cycles) {
      this.cycles.push(cycle);
      this.text.add(cycle);
      this.chart.add(cycle);
    }
    const { drafter, accepted, rejected } = cycles.at(-1);
    const drafted = accepted.length + rejected.length;
    this.now.textContent = drafter === null ? "nothing drafted" : `${drafter} drafted ${drafted}, ${accepted.length} accepted`;
    this.show();
  }

  /** Nothing more comes; reason: of an answer that was left. */
  end(reason = this.reason) {
    this.text.end();
    this.show();
    const said = [...this.figures.drafters].map(([name, count]) => `${name} drafted in ${count}`);
    this.chart.describe(`${this.figures.cycles} cycles${said.length ? `: ${said.join(", ")}` : ""}`);
    this.now.textContent = [said.join(", "), REASONS[reason]].filter(Boolean).join("; ");
    this.now.removeAttribute("aria-hidden");
    this.element.classList.remove("running");
    this.element.setAttribute("aria-busy", "false");
  }

  /** Show why there is no answer, or no more of it. */
  fail(message) {
    this.end();
    const alert = element("p", "error", message);
    alert.setAttribute("role", "alert");
    this.now.after(alert);
  }

  list() {
    const names = { perCycle: "tokens a cycle", speed: "tokens a second", acceptance: "of drafts accepted", firstSeconds: "to the first token", tokens: "tokens" };
    const entries = Object.entries(names).map(([key, name]) => {
      this.values[key] = element("dd", "", "–");
      return element("div", "", element("dt", "", name), this.values[key]);
    });
    return element("dl", "figures", ...entries);
  }

  show() {
    const { perCycle, speed, acceptance, firstSeconds, tokens } = this.figures;
    this.values.perCycle.textContent = shown(perCycle, 2);
    this.values.speed.textContent = shown(speed, speed !== null && speed < 10 ? 1 : 0);
    this.values.acceptance.textContent = acceptance === null ? "–" : `${Math.round(100 * acceptance)} %`;
    this.values.firstSeconds.textContent = firstSeconds === null ? "–" : `${shown(firstSeconds, 2)} s`;
    this.values.tokens.textContent = String(tokens);
  }

  /** The answer in a sentence, for who cannot see it grow. */
  get summary() {
    const { perCycle, speed, tokens } = this.figures;
    const more = perCycle === null ? "" : `, ${shown(perCycle, 2)} a cycle, ${shown(speed, 0)} a second`;
    return `${this.model}: ${tokens} tokens${more}`;
  }
}
