"""Try every causal language model of the installed transformers, made tiny, and write the page of families.

python docs/tools/families.py [FAMILY ...]

Without families all are tried, about six minutes on one core; what is found lies in docs/evidence/families.json.
`--page` only writes the page of it.
"""

from __future__ import annotations

import copy
import json
import random
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from orthrus import BuildError, Chance, Context, Decoder, Draft, OrthrusError, Step, Stop
from orthrus_attention.eager import EagerAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_drafters.none import NoDrafter
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.consensus import Consensus

sys.path.insert(0, str(Path(__file__).parent))
from family_sizes import LARGEST, VOCABULARY, tiny_settings  # its neighbour, wherever it is run from

DOCS = Path(__file__).parents[1]
EVIDENCE = DOCS / "evidence" / "families.json"
PAGE = DOCS / "reference" / "families.md"
LENGTHS = (3, 15, 1, 15)  # of prompts, past the windows
NEW_TOKENS = 12
TIE = 1e-4  # of the logits' spread: what rounding in float32 may decide

Facts = dict[str, Any]


class HalfRight:
    """Drafts of a known text, every other token of them wrong on average, in lengths that differ by row and cycle."""

    needs: frozenset[str] = frozenset()
    learns = False
    moves_rows = True

    def __init__(self, texts: Sequence[Sequence[int]]) -> None:
        self._texts = texts
        self._random = random.Random(0)

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Take note of the context."""
        self._context = context

    def move_rows(self, sources: Sequence[int]) -> None:
        """Do nothing: rows are read from the context."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return a draft of up to 4 tokens a row."""
        drafts = [self._row(row) for row in context.rows]
        width = max(map(len, drafts))
        tokens = [draft + [0] * (width - len(draft)) for draft in drafts]
        shape = len(drafts), width
        return Draft(
            torch.tensor(tokens, dtype=torch.int64).view(shape), torch.tensor([len(draft) for draft in drafts])
        )

    def observe(self, step: Step) -> None:
        """Do nothing."""

    def _row(self, row: Any) -> list[int]:
        length = min(self._random.choice((0, 2, 4)), row.room)
        known = list(self._texts[row.request][len(row.output) :][:length]) if row.room else []
        return [token if self._random.random() < 0.5 else (token + 1) % VOCABULARY for token in known]


def tried(family: str) -> Facts:
    """Return what becomes of a family: it runs, it is refused, or it cannot be made tiny."""
    try:
        model = tiny(family)
    except Exception as error:  # whatever a family's own code raises is what is to be told
        return {"outcome": "not made", "why": short(error)}
    facts: Facts = {"class": type(model).__name__}
    try:
        target = TransformersTarget(model, None, DynamicCache(), EagerAttention(), prefill_chunk=6)
    except OrthrusError as error:
        return {**facts, "outcome": "refused", "why": str(error)}
    facts |= {"taken back by": taken_back_by(target), "view": view_of(target)}
    try:
        wrong = mistake(target)
    except Exception as error:  # which the self-check at load should have found
        wrong = short(error)
    return {**facts, "outcome": "runs"} if wrong is None else {**facts, "outcome": "wrong", "why": wrong}


def tiny(family: str) -> Any:
    """Return a tiny random model of a family; raise ValueError for one that its sizes do not make tiny."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    config_class = CONFIG_MAPPING[family]
    config = config_class(**tiny_settings(config_class, family))
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(copy.deepcopy(config), trust_remote_code=False)
        count = sum(weight.numel() for weight in empty.parameters())
    if count > LARGEST:
        raise ValueError(f"it has {count:,} parameters where its sizes are small")
    torch.manual_seed(0)
    return (
        AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
        .eval()
        .requires_grad_(False)
    )


def taken_back_by(target: TransformersTarget) -> str:
    """Return how rejected drafts are taken back."""
    with target.own_model() as model:
        slots = any(type(module).__name__ in ("Lfm2ShortConv", "Lfm2MoeShortConv") for module in model.modules())
    state = {"in one scan": "states that are moved on", "token by token": "states after each token"}
    recurrent = target.report().get("recurrent")
    return state[str(recurrent)] if recurrent else "inputs in slots" if slots else "keys in slots"


def view_of(target: TransformersTarget) -> str:
    """Return that a view can be attached, or why it cannot."""
    try:
        target.attach_view("view")
    except BuildError as error:
        return str(error)
    target.detach_view("view")
    return "yes"


def mistake(target: TransformersTarget) -> str | None:
    """Return what is wrong with texts that are decoded with drafts and without, in batches; None: nothing."""
    chooser = random.Random(0)
    prompts = [[chooser.randrange(1, VOCABULARY) for _ in range(length)] for length in LENGTHS]
    plain = decoded(target, NoDrafter(), prompts)
    drafted = decoded(target, HalfRight(plain), prompts)
    for name, texts in (("without drafts", plain), ("with drafts", drafted)):
        for prompt, text in zip(prompts, texts, strict=True):
            logits = target.logits([*prompt, *text[:-1]], len(text))
            best = logits.max(-1).values
            chosen = logits.gather(-1, torch.tensor(text)[:, None])[:, 0]
            if not bool((best - chosen <= TIE * logits.std()).all()):
                return f"a text {name} is not the model's own"
    return None


def decoded(target: TransformersTarget, drafter: Any, prompts: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Return the texts of prompts, three at a time."""
    decoder = Decoder.of(target, drafter, Consensus(), Stop(NEW_TOKENS), 0)
    return [tuple(result.token_ids) for result in decoder.generate(prompts, batch=3)]


def short(error: Exception) -> str:
    """Return an error's kind and the beginning of what it says, on one line."""
    text = re.sub(r"\s+", " ", str(error)).strip()
    return f"{type(error).__name__}: {text[:160]}{'…' if len(text) > 160 else ''}"


def names() -> list[str]:
    """Return the families of causal language models in the installed transformers."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def measure(families: Sequence[str]) -> None:
    """Try families and keep what is found; those of an earlier run of the same versions stay."""
    import transformers

    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    kept = json.loads(EVIDENCE.read_text()) if families and EVIDENCE.is_file() else {"families": {}}
    every = kept["families"]
    for family in families or names():
        every[family] = tried(family)
        print(family, every[family]["outcome"], every[family].get("why", ""), flush=True)
        content = {"transformers": version("transformers"), "torch": version("torch"), "families": every}
        EVIDENCE.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def page(content: Mapping[str, Any]) -> str:
    """Return the page."""
    families: Mapping[str, Facts] = content["families"]
    count = {name: sum(facts["outcome"] == name for facts in families.values()) for name in OUTCOMES}
    made = len(families) - count["not made"]
    states = [name for name, facts in families.items() if str(facts.get("taken back by", "")).startswith("states")]
    runs = [(name, facts) for name, facts in families.items() if facts["outcome"] == "runs"]
    views = sum(facts["view"] == "yes" for _, facts in runs)
    lines = [
        *HEAD,
        f"transformers {content['transformers']} with torch {content['torch']} has {len(families)} families of causal",
        f"language models. {count['not made']} were not made tiny, so nothing is said of them. Of the other {made}",
        f"**{count['runs']} run**, {count['refused']} are refused, {count['wrong']} are wrong.",
        f"{len(states)} of those that run have states that cannot be cropped. {views} can have a view.",
        "",
        "## Those that run",
        "",
        "| family | model | rejected drafts are taken back by | a view |",
        "|---|---|---|---|",
        *(
            f"| `{name}` | `{facts['class']}` | {facts['taken back by']} | {yes(facts['view'])} |"
            for name, facts in runs
        ),
        "",
        *section("Those that are refused", "refused", families),
        *section("Those that are wrong", "wrong", families),
        *section("Those that were not made tiny", "not made", families),
    ]
    return "\n".join(lines).rstrip() + "\n"


OUTCOMES = ("runs", "refused", "wrong", "not made")
HEAD = (
    "# Families of models",
    "",
    "This page is made by `python docs/tools/families.py`. It tries the causal language models of the installed",
    "transformers that can be made tiny, with random weights, on a CPU in float32, with the cache `dynamic` and the",
    "attention `eager`. A family runs if four prompts of unlike lengths, three at a time, have the model's own greedy",
    "text: without drafts, and with drafts of which half is wrong.",
    "",
)


def yes(view: str) -> str:
    """Return whether a view can be attached."""
    return "yes" if view == "yes" else "no"


def section(title: str, outcome: str, families: Mapping[str, Facts]) -> Iterator[str]:
    """Yield the lines of the families of one outcome; none if there is none."""
    rows = [(name, facts) for name, facts in families.items() if facts["outcome"] == outcome]
    if not rows:
        return
    yield from (f"## {title}", "", "| family | why |", "|---|---|")
    yield from (f"| `{name}` | {cell(facts['why'])} |" for name, facts in rows)
    yield ""


def cell(text: str) -> str:
    """Return text that a cell of a table can hold."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def main(arguments: Iterable[str]) -> None:
    """Try families, and write the page."""
    arguments = list(arguments)
    if "--page" not in arguments:
        measure(arguments)
    PAGE.write_text(page(json.loads(EVIDENCE.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
