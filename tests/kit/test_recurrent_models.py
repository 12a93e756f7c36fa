"""The kit accepts models with recurrent layers, as far as their scans round, and finds what is left in a state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.bug import Bug
from support.bugs_of_recurrent_targets import BUGS
from support.bugs_of_targets import over
from support.building import transformers_target
from support.families import RECURRENT
from support.recurrent_table import RecurrentTable
from support.thorough import nightly_but
from support.wide_scans import widen_scans
from torch import Tensor

from orthrus import Context, Draft
from orthrus.testing import Outcome, named_check
from orthrus.testing.checks import EVERY_CHECK, target_passes
from orthrus_transformers.recurrent.recurrent_states import RecurrentStates
from orthrus_transformers.recurrent.scored_pass import ScoredPass
from orthrus_transformers.target import TransformersTarget

DELTA_RULE = ["olmo_hybrid", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next"]
ROUNDING = 1e-12  # of the logits' spread, in float64
WIDTHS = ("long_drafts_are_scored", "rows_may_end_together")
STATES = ("states_are_taken_back", "states_go_back_to_a_mark", "keep_forgets_what_was_rejected")


def failures(target: TransformersTarget) -> list[str]:
    outcomes = [check.outcome(lambda cache: target) for check in EVERY_CHECK["target"]()]
    assert any(outcome.status == "passed" for outcome in outcomes)
    return [outcome.reason for outcome in outcomes if outcome.status not in ("passed", "did not apply")]


def outcome_of(name: str, target: Any) -> Outcome:
    return named_check("target", name).outcome(lambda cache: target)


@pytest.mark.parametrize("family", nightly_but([], RECURRENT))
def test_models_with_recurrent_layers_pass(family: str) -> None:
    assert failures(transformers_target(family)) == []


@pytest.mark.parametrize("family", nightly_but([], DELTA_RULE, thorough=["qwen3_next"]))
def test_nothing_but_the_librarys_scans_in_float32_rounds(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With scans in float64 passes have the model's own logits to 1e-12, with those in float32 not to 1e-6."""
    own = transformers_target(family)
    monkeypatch.setattr(target_passes, "tolerance", lambda target, dtype: 1e-6)
    assert outcome_of(WIDTHS[0], own).status == "failed"
    widen_scans(family, monkeypatch)
    monkeypatch.setattr(target_passes, "tolerance", lambda target, dtype: ROUNDING)
    widened = transformers_target(family)
    assert [outcome_of(name, widened).status for name in (*WIDTHS, *STATES)] == ["passed"] * len((*WIDTHS, *STATES))


def one_token_too_many(pending: ScoredPass, lengths: Tensor) -> Tensor:
    """Return that a row keeps a token more than was accepted, where there is one."""
    return (lengths - pending.starts + 1).clamp(max=pending.columns)


BUGS_OF_STATES = {
    "states_are_taken_back": (ScoredPass, "counts", one_token_too_many),
    "keep_forgets_what_was_rejected": (ScoredPass, "counts", one_token_too_many),
    "states_go_back_to_a_mark": (RecurrentStates, "mark", lambda states: None),
}


@pytest.mark.parametrize("name", nightly_but([], STATES, thorough=STATES[:1]))
def test_what_stays_in_a_state_is_found_whatever_scans_round(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = transformers_target("qwen3_next")
    assert outcome_of(name, target).status == "passed"
    monkeypatch.setattr(*BUGS_OF_STATES[name])
    assert outcome_of(name, target).status == "failed"


class Rounding(RecurrentTable):
    """A table with a logit that is off, by a share of its place's spread, where drafts are scored."""

    off = 0.0

    def score(self, context: Context, draft: Draft) -> Tensor:
        logits = super().score(context, draft)
        logits[..., 0] += self.off * (logits.amax(-1) - logits.amin(-1))
        return logits


@pytest.mark.parametrize(
    ("dtype", "passes", "fails"),
    [
        (None, 5e-6, 5e-5),
        (torch.float64, 5e-6, 5e-5),
        (torch.float32, 5e-4, 5e-3),
        (torch.bfloat16, 5e-2, 2e-1),
    ],
    ids=str,
)
def test_a_target_is_held_to_the_dtype_that_it_computes_states_in(
    dtype: torch.dtype | None, passes: float, fails: float
) -> None:
    for off, status in ((passes, "passed"), (fails, "failed")):
        make = over(type("Saying", (Rounding,), {"off": off, "state_dtype": dtype}))
        assert named_check("target", "states_are_taken_back").outcome(make).status == status


@pytest.mark.parametrize("bug", BUGS, ids=str)
def test_seeded_bugs_are_found_in_targets_that_compute_states_in_float32(
    bug: Bug, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RecurrentTable, "state_dtype", torch.float32, raising=False)
    assert named_check("target", bug.check).outcome(bug.make).status == "failed"
