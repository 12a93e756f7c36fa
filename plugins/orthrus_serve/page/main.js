// The page: a chat that shows drafts as they are accepted.

import { Conversation } from "./conversation.js";
import { listModels } from "./server.js";
import { askForKey, chosenModels, followRejected, key, offerModels, requestSettings, systemMessages, takesTurns } from "./settings.js";

const [log, form, prompt, send, said] = ["log", "composer", "prompt", "send", "status"].map((id) => document.getElementById(id));
const welcome = document.getElementById("welcome");
const conversation = new Conversation(log);
const NEAR = 80; // pixels from the end, within which the log follows what comes

let follows = true;
log.addEventListener("scroll", () => (follows = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR));
new MutationObserver(() => follows && log.scrollTo(0, log.scrollHeight)).observe(log, { childList: true, subtree: true });

async function loadModels() {
  try {
    offerModels(await listModels(key()));
    said.textContent = "";
    return true;
  } catch (error) {
    said.textContent = error.message;
    if (error.status === 401) askForKey();
    return false;
  }
}

async function submit() {
  const text = prompt.value.trim();
  if (!text || conversation.running) return;
  if (!chosenModels().length && !(await loadModels())) return;
  welcome.remove();
  prompt.value = "";
  follows = true;
  show("Answering …", true);
  const views = await conversation.ask(text, {
    models: chosenModels(),
    settings: new Map(chosenModels().map((model) => [model, requestSettings(model)])),
    system: systemMessages(),
    key: key(),
    turns: takesTurns(),
  });
  show(views[0].element.isConnected ? summaryOf(views) : "", false); // else the chat was begun anew
  if (views.every((view) => !view.content) && !prompt.value) prompt.value = text; // nothing came of it: it can be sent again
  if (views.some((view) => view.status === 401)) askForKey();
}

function show(text, running) {
  said.textContent = text;
  send.textContent = running ? "Stop" : "Send";
  document.body.classList.toggle("running", running);
}

/** Say what the answers came to, and of two that both came to their end whether they are the same. */
function summaryOf(views) {
  const lines = views.filter((view) => view.content).map((view) => view.summary);
  if (lines.length === 2 && views.every((view) => view.reason)) lines.push(views[0].content === views[1].content ? "Both texts are the same" : "The texts differ");
  return lines.length ? `${lines.join(". ")}.` : "No answer.";
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (conversation.running) conversation.stop();
  else submit();
});

prompt.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
});

document.addEventListener("keydown", (event) => event.key === "Escape" && conversation.stop());
document.getElementById("clear").addEventListener("click", () => {
  conversation.clear();
  log.append(welcome);
  said.textContent = "";
  prompt.focus();
});
document.getElementById("key").addEventListener("change", loadModels);

followRejected(log);
loadModels();
