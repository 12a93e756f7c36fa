"""What `auto` measures is what decoding runs: choices where it scores these, logits elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.counted_passes import Kind, count_passes
from support.families import VOCABULARY
from support.joined_blocks import joining_target
from support.own_cache import use_own_cache
from support.recordings import recording_target

from orthrus import AutoBlock, Decoder, Drafter, Sampling, Stop, Verifier
from orthrus.drafting import pass_costs
from orthrus_cascade.drafter import Cascade
from orthrus_diffusion.auto_cycle import AutoCycleDiffusion
from orthrus_diffusion.drafter import Diffusion
from orthrus_diffusion.one_pass import OnePassDiffusion
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_drafters.suffix import Suffix
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.consensus import Consensus
from orthrus_verifiers.coupled import Coupled
from orthrus_verifiers.rejection import Rejection

MASK = VOCABULARY - 1
PROMPTS = [[1, 2, 3] * 3]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_own_cache(monkeypatch, tmp_path)


class Apart:
    """Count the passes that are measured apart from those that are decoded."""

    def __init__(self, target: TransformersTarget, patch: pytest.MonkeyPatch) -> None:
        self.measured, self.decoded, passes = Counter[Kind](), Counter[Kind](), count_passes(target)
        self._passes, measure = passes, pass_costs.measure

        def measured(*arguments: Any, **named: Any) -> Any:
            self._take(self.decoded)
            costs = measure(*arguments, **named)
            self._take(self.measured)
            return costs

        patch.setattr(pass_costs, "measure", measured)

    def _take(self, counter: Counter[Kind]) -> None:
        counter.update(self._passes)
        self._passes.clear()

    def kinds(self, decoder: Decoder) -> tuple[set[Kind], set[Kind]]:
        """Return the kinds of passes that are measured and decoded."""
        for counter in (self.measured, self.decoded, self._passes):
            counter.clear()
        decoder.generate(PROMPTS, batch=1)
        self._take(self.decoded)
        return set(self.measured), set(self.decoded)


def lookup(target: TransformersTarget) -> Drafter:
    return PromptLookup(2, 1, 4, auto=AutoBlock(target, 4))


def block(target: TransformersTarget, tree: int | None = None) -> Diffusion:
    return Diffusion(target, 4, MASK, "noisy", auto=True, tree=tree)


DRAFTERS: dict[str, Callable[[TransformersTarget], Drafter]] = {
    "prompt_lookup": lookup,
    "suffix": lambda target: Suffix(auto=AutoBlock(target, 4)),
    "block": block,
    "tree": lambda target: block(target, 6),
    "cascade": lambda target: Cascade([lookup(target), NoDrafter()], "passes"),
    "cycle": lambda target: AutoCycleDiffusion(target, block(target), OnePassDiffusion(target, 4, MASK, "noisy")),
}


@pytest.mark.parametrize(
    ("name", "verifier", "sampling", "kind"),
    [
        *((name, Consensus(), Sampling(), "choices") for name in DRAFTERS if name != "cycle"),
        ("cycle", Consensus(), Sampling(), "logits"),  # it may draft while it scores
        ("prompt_lookup", Rejection(), Sampling(), "logits"),
        ("block", Rejection(), Sampling(), "logits"),
        ("prompt_lookup", Coupled(), Sampling(temperature=0.8), "logits"),
        ("prompt_lookup", Coupled(), Sampling(presence_penalty=0.5), "logits"),
    ],
)
def test_what_is_measured_is_what_is_decoded(
    name: str, verifier: Verifier, sampling: Sampling, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = joining_target(recorded=False)
    with monkeypatch.context() as patch:
        patch.setattr(target, "scores_choices", True)
        patch.setattr(target.engine, "run", target.engine.run)
        passes = Apart(target, patch)
        decoder = Decoder.of(target, DRAFTERS[name](target), verifier, Stop(40), sampling=sampling)
        assert passes.kinds(decoder) == ({kind}, {kind})


def test_one_drafter_measures_anew_for_another_verifier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs of choices are told apart from those of logits, in its memory and in the file."""
    target = recording_target()
    passes, drafter = Apart(target, monkeypatch), lookup(target)
    for verifier, kind in ((Consensus(), "choices"), (Rejection(), "logits"), (Consensus(), None), (Rejection(), None)):
        measured, decoded = passes.kinds(Decoder.of(target, drafter, verifier, Stop(20)))
        assert measured == ({kind} if kind else set()), "measured once"
        assert len(decoded) == 1
    measured, _ = passes.kinds(Decoder.of(target, lookup(target), Rejection(), Stop(20)))
    assert measured == set()  # it is in the file
