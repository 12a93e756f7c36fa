// A conversation with one or two models, each with a dialogue of its own, as their answers may differ.

import { AnswerView } from "./answer-view.js";
import { element } from "./elements.js";
import { answer } from "./server.js";

export class Conversation {
  constructor(log) {
    this.log = log;
    this.dialogues = []; // of the first and of the second model
    this.stopping = null;
  }

  get running() {
    return this.stopping !== null;
  }

  /** Begin anew; what goes on is stopped. */
  clear() {
    this.stop();
    this.dialogues = [];
    this.log.replaceChildren();
  }

  /** Stop the answers under way. */
  stop() {
    this.stopping?.abort();
  }

  /** Let the models answer a text; return the views. asked: {models, settings (of each), system, key, turns}. */
  async ask(text, asked) {
    this.stopping = new AbortController();
    const views = asked.models.map((model) => new AnswerView(model));
    this.log.append(question(text), element("div", "answers", ...views.map((view) => view.element)));
    const dialogues = views.map((_, index) => this.dialogue(index));
    const answers = views.map((view, index) => () => this.answer(view, dialogues[index], text, asked));
    try {
      if (asked.turns) for (const begin of answers) await begin();
      else await Promise.all(answers.map((begin) => begin()));
    } finally {
      this.stopping = null;
    }
    return views;
  }

  /** Return the messages so far; a second model that comes later begins with those of the first one. */
  dialogue(index) {
    this.dialogues[index] ??= [...(this.dialogues[0] ?? [])];
    return this.dialogues[index];
  }

  async answer(view, dialogue, text, asked) {
    const { signal } = this.stopping;
    const question = { role: "user", content: text };
    view.begin();
    try {
      signal.throwIfAborted();
      const messages = [...asked.system, ...dialogue, question];
      for await (const chunk of answer(view.model, messages, asked.settings.get(view.model), asked.key, signal)) view.add(chunk);
      view.end();
    } catch (error) {
      if (error.name === "AbortError") view.end("cancelled");
      else view.fail(error.message);
      view.status = error.status;
    }
    if (view.content) dialogue.push(question, { role: "assistant", content: view.content });
  }
}

function question(text) {
  const said = element("div", "question", element("h3", "hidden", "You"), element("div", "text", text));
  return said;
}
