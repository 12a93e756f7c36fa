// The server that the page came from: its models, and answers as they come.

import { eventsOf } from "./events.js";

/** An error that the server told, or that kept it from being reached. */
export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Return the models: {id, decoding: {drafter, greedy, seeded}} each. */
export async function listModels(key) {
  const response = await ask("v1/models", { headers: headersWith(key) });
  return (await response.json()).data;
}

/** Yield the chunks of an answer to a dialogue, with its drafts. settings: fields of the request. */
export async function* answer(model, messages, settings, key, signal) {
  const body = {
    model,
    messages,
    ...settings,
    stream: true,
    stream_options: { include_usage: true },
    return_drafts: true,
    return_metrics: true,
  };
  const headers = { ...headersWith(key), "Content-Type": "application/json" };
  const response = await ask("v1/chat/completions", { method: "POST", headers, body: JSON.stringify(body), signal });
  for await (const chunk of eventsOf(response.body)) {
    if (chunk.error) throw new ServerError(chunk.error.message, 500);
    yield chunk;
  }
}

function headersWith(key) {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { ...options, cache: "no-store", credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server cannot be reached.", 0);
  }
  if (!response.ok) throw new ServerError(await messageOf(response), response.status);
  return response;
}

async function messageOf(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `The server answers with status ${response.status}.`;
  }
}
