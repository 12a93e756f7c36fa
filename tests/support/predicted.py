"""Predictions on a simulated clock: a table whose passes, and lookups whose drafts, take what the test says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from orthrus import Chance, Context, Draft, hookimpl
from orthrus.config.compose import read_overrides
from orthrus.prediction.candidates import Block, plan_candidates
from orthrus.prediction.predictor import Predictor
from orthrus.registry.plugins import Plugins
from orthrus.testing import Letters, TableTarget
from orthrus_drafters.options import PromptLookupOptions, SuffixOptions
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_drafters.suffix import Suffix
from support.building import table_target

CONFIG = """
target: {name: clocked}
cache: {name: dynamic}
drafter: {name: none}
verifier: {name: consensus}
"""
DRAFTING = 0.25  # seconds of a draft


def scoring(rows: int, drafts: int, tree: bool = False) -> float:
    """Return the seconds of a pass, in line with its drafts at any number of rows, but not with its rows."""
    return 1 + 0.1 * rows**2 + (0.12 if tree else 0.05) * rows * drafts


def prefilling(prompts: int) -> float:
    return 2.0 + prompts


class ClockedTarget(TableTarget):
    """Turn a clock by what passes take."""

    time = 0.0

    def prefill(self, context: Context, rows: Sequence[int]) -> Tensor:
        self.time += prefilling(len(rows))
        return super().prefill(context, rows)

    def score(self, context: Context, draft: Draft) -> Tensor:
        self.time += scoring(len(context.rows), draft.tokens.shape[1], draft.parents is not None)
        return super().score(context, draft)

    def clock(self) -> float:
        return self.time


def clocked_target(seed: int) -> ClockedTarget:
    target = table_target(seed)
    target.__class__ = ClockedTarget
    assert isinstance(target, ClockedTarget)
    target.tokenizer = Letters("abcd")
    return target


class ClockedLookup(PromptLookup):
    """A lookup that takes its time; consistent: whether it says that its shorter drafts begin its longer ones."""

    learned = False  # whether it says that it learns

    def __init__(self, options: Any, target: ClockedTarget, consistent: bool) -> None:
        super().__init__(1, 1, options.length)
        self._target = target
        self.prefix_consistent = consistent
        self.longest = options.length
        self.learns = self.learned

    def propose(self, context: Context, chance: Chance) -> Draft:
        self._target.time += DRAFTING
        return super().propose(context, chance)


class ClockedTrees(Suffix):
    """Draft trees where it is of two minds, and chains where it has nothing to choose from; it takes its time."""

    def __init__(self, target: ClockedTarget) -> None:
        super().__init__(SuffixOptions(length=7, branches=3, min_share=0.0))
        self._target = target

    def propose(self, context: Context, chance: Chance) -> Draft:
        self._target.time += DRAFTING
        draft = super().propose(context, chance)
        if context.cycle % 3 == 0 and draft.tokens.shape[1]:  # its first token alone is a chain
            return Draft(draft.tokens[:, :1], draft.lengths.clamp(max=1))
        return draft


class PredictionPlugin:
    """Supply the target, the lookup twice, asked at every place and run at each block, and a drafter of trees."""

    def __init__(self, seed: int) -> None:
        self.target = clocked_target(seed)
        self.made: list[str] = []  # the drafters, as often as they were made

    @hookimpl
    def register_targets(self, register: Any) -> None:
        register("clocked", lambda options, parts: self.target)

    @hookimpl
    def register_drafters(self, register: Any) -> None:
        for name, consistent in (("asked", True), ("run", False)):
            register(name, self._maker(name, consistent), options=PromptLookupOptions)
        register("branching", lambda options, parts: ClockedTrees(parts.target))

    def _maker(self, name: str, consistent: bool) -> Any:
        def make(options: Any, parts: Any) -> ClockedLookup:
            self.made.append(name)
            return ClockedLookup(options, parts.target, consistent)

        return make


def make_predictor(
    folder: Path,
    plugin: PredictionPlugin,
    prompts: Sequence[Sequence[int]],
    batches: Sequence[int],
    blocks: Sequence[Block],
    *,
    drafters: str = "asked,run",
    new_tokens: int = 20,
) -> Predictor:
    """Return a predictor whose halves are the same prompts, so that nothing but the arithmetic can be off."""
    file = folder / "config.yaml"
    file.write_text(CONFIG, encoding="utf-8")
    session = Plugins.load([plugin])
    overrides = read_overrides([f"stop.max_new_tokens={new_tokens}"])
    candidates = plan_candidates(file, overrides, drafters, blocks, session)
    target = plugin.target
    return Predictor(candidates, target, session, prompts, prompts, batches, clock=target.clock)
