"""Compare what `quantized` holds with drafts and without them: `python docs/tools/held_codes.py --prompts FILE ...`.

SmolLM2 decodes the same prompts with `prompt_lookup` at batch 8, without a drafter at batch 8, and without at batch 1,
on the CPU. Of each text all keys and values of the first two runs are compared up to where the texts part: as they
came, and as they are held. A dtype and codes that are in the record already are not run again, and with `--seconds`
none are begun after so many. --write puts the table into docs/explanation/caches.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orthrus import Chance, Context, Draft, Parts, Plugins, Register, Verdict, hookimpl, read_prompts
from orthrus.build import build, build_target
from orthrus.config.compose import ConfigSource
from orthrus.config.schema import Config, load_config
from orthrus.files import write_whole
from orthrus.machine import versions
from orthrus.terminal import echo
from orthrus.values import Result
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.options import QuantizedOptions
from orthrus_caches.quantized import QuantizedCache

DOCS = Path(__file__).parents[1]
RECIPE = DOCS.parent / "configs" / "recipes" / "smollm2-prompt-lookup.yaml"
RECORD, PAGE = DOCS / "evidence" / "held-codes.json", DOCS / "explanation" / "caches.md"
MARK, END = "<!-- held codes -->\n", "<!-- end of held codes -->\n"
BATCH, TOKENS, GROUP = 8, 24, 32
PAIRS = (("float32", "int8"), ("float32", "fp8"), ("float64", "int8"), ("float64", "fp8"))
COLUMNS = {
    "dtype": lambda run: run["dtype"],
    "codes": lambda run: f"`{run['codes']}`",
    "texts that are those without drafts": lambda run: f"{run['same']} of {run['prompts']}",
    "without drafts, those of batch 1": lambda run: f"{run['same_alone']} of {run['prompts']}",
    "numbers compared": lambda run: f"{run['numbers']:,}",
    "held otherwise": lambda run: f"{run['otherwise']:,}",
    "in groups that came equal": lambda run: f"{run['otherwise_though_equal']:,}",
    "came apart where that begins, at most": lambda run: _share(run["apart_at_first"]),
    "logits apart, median": lambda run: f"{run['logits_apart']:.2g}",
}


class WatchedCache(QuantizedCache):
    """The cache, and beside it what came [B, H, C, D] of each layer, and what the last pass was given of it."""

    def __init__(self, group: int, codes: str) -> None:
        super().__init__(group, codes)
        self.came = DynamicCache()
        self.given: dict[int, tuple[Tensor, Tensor]] = {}  # by layer: keys and values [R, H, extent, D]

    def start(self, rows: int, device: torch.device) -> None:
        """Forget both."""
        super().start(rows, device)
        self.came.start(rows, device)

    def move_rows(self, sources: Sequence[int]) -> None:
        """Move the rows of both."""
        super().move_rows(sources)
        self.came.move_rows(sources)

    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        """Place the slots of both."""
        self.came.place(slots, extent, rows)
        return super().place(slots, extent, rows)

    def place_adjacent(self, slots: Tensor, extent: int, first: int) -> int:
        """Place the slots of both."""
        self.came.place_adjacent(slots, extent, first)
        return super().place_adjacent(slots, extent, first)

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Write both; keep what the pass is given."""
        self.came.update(keys, values, layer)
        self.given[layer] = super().update(keys, values, layer)
        return self.given[layer]

    def keep(self, lengths: Tensor) -> None:
        """Commit the slots of both."""
        super().keep(lengths)
        self.came.keep(lengths)


class WatchedCaches:
    """The plugin that has the cache under a name of its own."""

    @hookimpl
    def register_caches(self, register: Register) -> None:
        """Register it."""
        register("watched", _make, QuantizedOptions)


def _make(options: QuantizedOptions, parts: Parts) -> WatchedCache:
    return WatchedCache(options.group, options.codes)


@dataclass
class Text:
    """A text's states as they came and as they are held, [2 layers, H, slots, D], and logits [V] by position."""

    came: Tensor | None = None
    held: Tensor | None = None
    logits: dict[int, Tensor] = field(default_factory=dict)


class Watching:
    """A verifier that keeps of each request what the cache has and the logits, as of its last pass."""

    def __init__(self, verifier: Any, cache: WatchedCache, texts: dict[int, Text]) -> None:
        self._verifier, self._cache, self._texts = verifier, cache, texts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._verifier, name)

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        """Return the verdict, and keep what it is of."""
        verdict: Verdict = self._verifier.verify(context, draft, logits, chance)
        scored = len(self._cache.given[0][0]) == len(context.rows)  # the pass over a prompt is of some rows alone
        for index, row in enumerate(context.rows):
            if row.request >= 0 and row.finish_reason is None:
                text, first = self._texts.setdefault(row.request, Text()), int(context.lengths[index])
                count = int(verdict.accepted[index]) + 1
                text.logits |= {first + step: logits[index, step].clone() for step in range(count)}
                if row.output and scored:
                    came = list(zip(*self._cache.came.buffers, strict=True))
                    text.came = _row(came, index, first + count - 1)
                    text.held = _row([*self._cache.given.values()], index, first + count - 1)
        return verdict


def _row(layers: Sequence[tuple[Tensor, Tensor]], row: int, slots: int) -> Tensor:
    return torch.stack([states[row, :, :slots] for layer in layers for states in layer])


def config_of(plugins: Plugins, dtype: str, codes: str, drafts: bool) -> Config:
    """Return the config of a run."""
    overrides = {
        "cache": {"name": "watched", "codes": codes, "group": GROUP},
        "attention": {"name": "eager"},
        "target": {"dtype": dtype, "device": "cpu"},
        "stop": {"max_new_tokens": TOKENS},
        **({} if drafts else {"drafter": {"name": "none"}}),
    }
    return load_config(RECIPE, [ConfigSource("held_codes", overrides)], plugins)


def compared(plugins: Plugins, prompts: Sequence[Any], dtype: str, codes: str) -> dict[str, Any]:
    """Return the figures of a dtype and codes."""
    target = build_target(config_of(plugins, dtype, codes, drafts=True), plugins)

    def run(drafts: bool, batch: int) -> tuple[Sequence[Result], dict[int, Text]]:
        decoder = build(config_of(plugins, dtype, codes, drafts), plugins, {"target": target})
        texts: dict[int, Text] = {}
        watching = Watching(decoder.verifier, target.cache, texts)  # type: ignore[attr-defined]  # of this library
        echo(f"{dtype}, {codes}: {'with' if drafts else 'without'} drafts, batch {batch}", err=True)
        return replace(decoder, verifier=watching, watchers=None).generate(prompts, batch=batch), texts

    drafted, plain = run(True, BATCH), run(False, BATCH)
    alone, _ = run(False, 1)
    return {
        "dtype": dtype,
        "codes": codes,
        "prompts": len(prompts),
        "same": sum(a.token_ids == b.token_ids for a, b in zip(drafted[0], plain[0], strict=True)),
        "same_alone": sum(a.token_ids == b.token_ids for a, b in zip(alone, plain[0], strict=True)),
        **figures(drafted, plain),
    }


def figures(
    drafted: tuple[Sequence[Result], Mapping[int, Text]], plain: tuple[Sequence[Result], Mapping[int, Text]]
) -> dict[str, Any]:
    """Return what two runs hold otherwise, up to where their texts part, and how far their logits are apart."""
    numbers = otherwise = though_equal = 0
    apart: list[float] = []
    logits: list[float] = []
    parted: list[list[float]] = []
    for index, (result, other) in enumerate(zip(drafted[0], plain[0], strict=True)):
        text, without = drafted[1][index], plain[1][index]
        length = len(result.prompt_token_ids) + common(result.token_ids, other.token_ids)
        shared = sorted(place for place in text.logits.keys() & without.logits.keys() if place <= length)
        logits += [float((text.logits[place] - without.logits[place]).abs().max()) for place in shared]
        if result.token_ids != other.token_ids:
            at = length - len(result.prompt_token_ids)
            token, instead = result.token_ids[at], other.token_ids[at]
            parted.append(
                [abs(float(run.logits[length][token] - run.logits[length][instead])) for run in (text, without)]
            )
        differing = difference(text, without, length)
        numbers += differing.numbers
        otherwise += differing.otherwise
        though_equal += differing.though_equal
        apart += [] if differing.apart is None else [differing.apart]
    return {
        "numbers": numbers,
        "otherwise": otherwise,
        "otherwise_though_equal": though_equal,
        "texts_held_otherwise": len(apart),
        "apart_at_first": max(apart, default=None),
        "logits_apart": statistics.median(logits),
        "logits_apart_at_most": max(logits),
        "gaps_where_texts_part": parted,
    }


@dataclass(frozen=True)
class Difference:
    """How many numbers were compared, are held otherwise, and are so in groups whose states came equal.

    apart: how far states came apart, in parts of the largest of their group, in the first group of a text that is held
    otherwise; None: there is none.
    """

    numbers: int
    otherwise: int
    though_equal: int
    apart: float | None


def difference(text: Text, other: Text, length: int) -> Difference:
    """Compare the first `length` tokens of two runs of a text, as many as both hold."""
    assert text.came is not None and text.held is not None and other.came is not None and other.held is not None
    slots = min(length, text.came.shape[2], other.came.shape[2])
    came, came_other, held, held_other = (
        states[:, :, :slots].unflatten(-1, (-1, GROUP)) for states in (text.came, other.came, text.held, other.held)
    )  # [2 layers, H, slots, G, group]
    otherwise = held != held_other
    equal = (came == came_other).all(-1, keepdim=True)
    by_token = otherwise.any(-1).permute(2, 0, 1, 3).nonzero()  # token by token, layer by layer
    apart = None
    if len(by_token):
        slot, layer, head, group = by_token[0].tolist()
        first, second = came[layer, head, slot, group], came_other[layer, head, slot, group]
        apart = float((first - second).abs().max() / first.abs().max())
    return Difference(held.numel(), int(otherwise.sum()), int((otherwise & equal).sum()), apart)


def common(tokens: Sequence[int], others: Sequence[int]) -> int:
    """Return how many tokens two texts begin with alike."""
    pairs = enumerate(zip(tokens, others, strict=False))
    return next((index for index, (token, other) in pairs if token != other), min(len(tokens), len(others)))


def table(record: Mapping[str, Any]) -> list[str]:
    """Return the lines of the table."""
    lines = [[*COLUMNS], ["---"] * len(COLUMNS), *([cell(run) for cell in COLUMNS.values()] for run in record["runs"])]
    return [f"| {' | '.join(line)} |" for line in lines]


def _share(apart: float | None) -> str:
    return "" if apart is None else f"{apart:.1e} of the largest"


def said(record: Mapping[str, Any]) -> str:
    """Return the sentence above the table."""
    machine = record["machine"]
    return (
        f"{machine['device']}, torch {machine['torch']}, threads {machine['threads']}, SmolLM2-135M-Instruct.Q4_1.gguf,"
        f" {record['runs'][0]['prompts']} prompts ({', '.join(record['files'])}), at most {TOKENS} new tokens,"
        f" attention `eager`, `prompt_lookup` at batch {BATCH} (`{record['command']}`):"
    )


def page(text: str) -> str:
    """Return the page with the table as it is today."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    before, _, rest = text.partition(MARK)
    lines = [said(record), "", *table(record)]
    return before + MARK + "\n".join(lines) + "\n\n" + END + rest.partition(END)[2]


def carry_on(files: Sequence[Path], limit: int, seconds: float) -> None:
    """Compare the pairs that are not in the record, until so many seconds are over, and write each into the record."""
    torch.set_float32_matmul_precision("highest")
    prompts = [each.prompt for file in files for each in read_prompts(file, limit)]
    plugins, began = Plugins.load([WatchedCaches()]), time.monotonic()
    runs = json.loads(RECORD.read_text(encoding="utf-8"))["runs"] if RECORD.exists() else []
    words = " ".join(["python docs/tools/held_codes.py", *(f"--prompts {file.name}" for file in files)])
    for dtype, codes in PAIRS:
        if any((run["dtype"], run["codes"]) == (dtype, codes) for run in runs):
            continue
        if time.monotonic() - began > seconds:
            break
        runs.append(compared(plugins, prompts, dtype, codes))
        record = {
            "command": f"{words} --limit {limit}",
            "files": [file.name for file in files],
            "machine": versions(torch.device("cpu")),
            "runs": runs,
        }
        write_whole(RECORD, json.dumps(record, indent=1) + "\n")


def main() -> None:
    """Compare, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=Path, action="append", default=[])
    parser.add_argument("--limit", type=int, default=10, help="prompts of each file")
    parser.add_argument("--seconds", type=float, default=86_400, help="begin nothing after so many")
    parser.add_argument("--write", action="store_true", help="write the page alone")
    given = parser.parse_args()
    if not given.write:
        if not given.prompts:
            parser.error("--prompts is missing")
        carry_on(given.prompts, given.limit, given.seconds)
    write_whole(PAGE, page(PAGE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
