// The settings of the page, as its fields have them.

const field = (id) => document.getElementById(id);

const decodings = new Map(); // of each model, what the server says of it

/** Return the fields of a request to a model that differ from its config's, but for those that it cannot take. */
export function requestSettings(model) {
  const { greedy, seeded } = decodings.get(model) ?? {};
  const named = { max_tokens: "max-tokens" };
  if (!greedy) named.temperature = "temperature";
  if (!greedy && seeded) named.seed = "seed";
  const given = Object.entries(named).map(([name, id]) => [name, field(id).value]);
  return Object.fromEntries(given.filter(([, value]) => value !== "").map(([name, value]) => [name, Number(value)]));
}

export const key = () => field("key").value.trim();
export const takesTurns = () => field("turns").checked;

/** Return the dialogue's first message, if there is one. */
export function systemMessages() {
  const content = field("system").value.trim();
  return content ? [{ role: "system", content }] : [];
}

/** Open the settings at the key. */
export function askForKey() {
  field("settings").open = true;
  field("key").focus();
}

/** Let the log show rejected drafts as chosen, now and whenever that changes. */
export function followRejected(log) {
  const show = () => (log.dataset.rejected = field("rejected").value);
  field("rejected").addEventListener("change", show);
  show();
}

/** Offer the models; the second may be none. */
export function offerModels(models) {
  const options = (before) => [...before, ...models.map((model) => new Option(labelOf(model), model.id))];
  field("first-model").replaceChildren(...options([]));
  field("second-model").replaceChildren(...options([new Option("none", "")]));
  for (const model of models) decodings.set(model.id, model.decoding ?? {});
  const several = models.length > 1;
  field("second-label").hidden = field("turns-label").hidden = !several;
  if (several) field("second-model").value = models[1].id;
  const [greedy, seeded] = [models.every((model) => model.decoding?.greedy), models.some((model) => model.decoding?.seeded)];
  disable("temperature", greedy, "0: the verifier is greedy");
  disable("seed", greedy || !seeded, greedy ? "no need: greedy" : "not by this verifier");
}

function labelOf(model) {
  const drafter = model.decoding?.drafter;
  return drafter ? `${model.id} (${drafter})` : model.id;
}

function disable(id, disabled, why) {
  field(id).disabled = disabled;
  field(id).placeholder = disabled ? why : "as configured";
}

/** Return the names of the models that are to answer. */
export function chosenModels() {
  const [first, second] = [field("first-model").value, field("second-model").value];
  return [first, second].filter(Boolean);
}
