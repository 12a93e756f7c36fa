"""Try every drafter with every cache and attention: `python docs/tools/combinations.py --write` makes record and page.

A tiny model of random weights is written, and drafters of its sizes beside it; every combination is composed from a
config, as a user does it, and decodes the same prompts in float64 at batch 2. Its texts must be those of plain decoding
over the cache `dynamic`, and with a cache that rounds those of the same cache without a drafter; or it is refused, with
one sentence.
"""

from __future__ import annotations

import itertools
import json
import runpy
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orthrus
from orthrus import Decoder, OrthrusError
from orthrus.files import write_whole
from orthrus.rounding import RoundsStates

DOCS = Path(__file__).parents[1]
RECORD, PAGE = "evidence/combinations.json", "results/combinations.md"
VERIFY_DRAFTERS = runpy.run_path(str(DOCS / "tools" / "verify_drafters.py"))
VOCABULARY, LAYERS = 96, 6
PROMPTS: Sequence[Sequence[int]] = [[5, 6, 7, 5, 6], [9], [11, 12, 11, 12, 11, 12, 11], [3, 4]]
CACHES: Mapping[str, Mapping[str, Any]] = {
    "dynamic": {"name": "dynamic"},
    "static": {"name": "static", "slots": 16},
    "paged": {"name": "paged", "block": 4},
    "paged, prefixes": {"name": "paged", "block": 4, "prefixes": 8},
    "offloaded": {"name": "offloaded"},
    "quantized": {"name": "quantized", "group": 8},
    "quantized, fp8": {"name": "quantized", "codes": "fp8", "group": 8},
}
ATTENTIONS = ("eager", "flash", "flex", "sdpa", "split")
DRAFTERS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "prompt_lookup": {"length": 4},
    "suffix": {"length": 4},
    "transformers": {"length": 4},
    "replay": {"block": 4},
    "cascade": {"drafters": [{"name": "suffix"}, {"name": "prompt_lookup"}], "cost": "passes"},
    "diffusion": {"view": "copies", "block": 4},
    "suffix, trees": {"name": "suffix", "length": 6, "branches": 2, "min_share": 0.0},
    "diffusion, trees": {"name": "diffusion", "view": "copies", "block": 4, "tree": 8},
    "draft_model": {"source": "draft_model", "length": 3},
    "dflash": {"source": "dflash", "block": 4},
    "eagle3": {"source": "eagle3", "length": 3},
}
EVERY = list(itertools.product(DRAFTERS, CACHES, ATTENTIONS))
SAME = "same"
TEXT = """# Every drafter, cache and attention

Every drafter with every cache and attention, composed from a config, on a tiny model of random weights, in float64 on
the CPU. `python docs/tools/combinations.py --write` tries all {count}, and `make nightly` tries them again; `make
thorough` has a spread.

✓: the texts are those of plain decoding over `dynamic`; with a cache that rounds, of the same cache without a drafter.
A number: the decoder is not built, and the sentence below says why.

{table}

{sentences}
"""


class Combinations:
    """Decode with combinations over one model that is written into a folder."""

    def __init__(self, folder: Path) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM, set_seed

        self._folder = folder
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 1}
        config = LlamaConfig(vocab_size=VOCABULARY, num_hidden_layers=LAYERS, max_position_embeddings=256, **sizes)
        set_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder / "target")
        VERIFY_DRAFTERS["write_drafters"](folder / "target", folder, known=64, mask=VOCABULARY - 1, left_out=1)
        self._plain: dict[tuple[str, str], list[tuple[int, ...]]] = {}

    def outcome(self, drafter: str, cache: str, attention: str) -> str:
        """Return `same`, `other` where the texts differ, or the sentence with which the combination is refused."""
        try:
            decoder = self._decoder(drafter, cache, attention)
        except OrthrusError as error:
            return str(error)
        rounds = isinstance(decoder.target.cache, RoundsStates)  # type: ignore[attr-defined]
        where = (cache, attention) if rounds else ("dynamic", "eager")
        return SAME if self._texts(decoder) == self._expected(*where) else "other"

    def _decoder(self, drafter: str, cache: str, attention: str) -> Decoder:
        options = {**DRAFTERS[drafter]}
        if "source" in options:
            options["source"] = str(self._folder / options["source"])
        source = str(self._folder / "target")
        return orthrus.load(
            {
                "target": {"name": "transformers", "source": source, "dtype": "float64", "device": "cpu"},
                "attention": {"name": attention},
                "cache": {**CACHES[cache]},
                "drafter": {"name": drafter, **options},
                "verifier": {"name": "consensus"},
                "stop": {"max_new_tokens": 12},
            }
        )

    def _texts(self, decoder: Decoder) -> list[tuple[int, ...]]:
        return [result.token_ids for result in decoder.generate(PROMPTS, batch=2)]

    def _expected(self, cache: str, attention: str) -> list[tuple[int, ...]]:
        if (cache, attention) not in self._plain:
            self._plain[cache, attention] = self._texts(self._decoder("none", cache, attention))
        return self._plain[cache, attention]


def tried() -> Iterator[dict[str, str]]:
    """Yield the outcome of every combination."""
    with tempfile.TemporaryDirectory() as name:
        combinations = Combinations(Path(name))
        for drafter, cache, attention in EVERY:
            outcome = combinations.outcome(drafter, cache, attention)
            sys.stderr.write(f"{drafter}, {cache}, {attention}: {outcome}\n")
            yield {"drafter": drafter, "cache": cache, "attention": attention, "outcome": outcome}


def _shown(part: str) -> str:
    name, comma, more = part.partition(",")
    return f"`{name}`{comma}{more}"


def page(record: Sequence[Mapping[str, str]]) -> str:
    """Return the page."""
    outcomes = {(run["drafter"], run["cache"], run["attention"]): run["outcome"] for run in record}
    numbers: dict[str, int] = {}
    lines = [["drafter", "cache", *(f"`{name}`" for name in ATTENTIONS)], ["---"] * (2 + len(ATTENTIONS))]
    for drafter, cache in itertools.product(DRAFTERS, CACHES):
        cells = []
        for attention in ATTENTIONS:
            outcome = outcomes[drafter, cache, attention]
            cells.append("✓" if outcome == SAME else f"{numbers.setdefault(outcome, len(numbers) + 1)}")
        lines.append([_shown(drafter), _shown(cache), *cells])
    return TEXT.format(
        count=f"{len(EVERY)}",
        table="\n".join(f"| {' | '.join(line)} |" for line in lines),
        sentences="\n".join(f"{number}. {sentence}" for sentence, number in numbers.items()),
    )


if __name__ == "__main__":
    if "--write" in sys.argv:
        write_whole(DOCS / RECORD, json.dumps(list(tried()), indent=1) + "\n")
        write_whole(DOCS / PAGE, page(json.loads((DOCS / RECORD).read_text(encoding="utf-8"))))
    else:
        sys.stdout.write(page(list(tried())))
