"""Predictions on a simulated clock are exact: what is off elsewhere is the machine's noise and the other prompts."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.predicted import DRAFTING, ClockedLookup, PredictionPlugin, make_predictor, prefilling, scoring

from orthrus import Chance, Context, Draft, DraftError, InputError
from orthrus.prediction import costs, predictor, timing
from orthrus.prediction.acceptance import EVERY_PLACE, THIS_BLOCK
from orthrus.prediction.predictor import Predictor
from orthrus.testing.profiles import fewer

PROMPTS = [[0, 1, 0, 1], [2, 2], [3], [1, 0, 2, 1]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure once: a simulated clock says the same every time."""
    monkeypatch.setattr(predictor, "frozen", nullcontext)
    monkeypatch.setattr(costs, "WARM_UP", 0)
    monkeypatch.setattr(costs, "ROUNDS", 1)
    monkeypatch.setattr(timing, "REPEATS", 1)


def nothing(_: object) -> None: ...


def carried_out(work: Predictor) -> list[predictor.Prediction]:
    return work.measure(work.predict(nothing), 0, 1, nothing)


prompts_drawn = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=4, max_size=6)
blocks_drawn = st.lists(st.integers(2, 9), min_size=1, max_size=2, unique=True)
batches_drawn = st.sampled_from([(1,), (3,), (1, 4)])


@fewer(20)
@given(st.integers(0, 99), prompts_drawn, blocks_drawn, batches_drawn, st.integers(1, 14))
def test_what_is_predicted_is_what_comes_out(
    seed: int, prompts: list[list[int]], blocks: list[int], batches: tuple[int, ...], new_tokens: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = make_predictor(Path(folder), PredictionPlugin(seed), prompts, batches, blocks, new_tokens=new_tokens)
        for each in carried_out(work):
            assert each.measured is not None
            assert each.error == pytest.approx(0, abs=1e-9), each
            assert each.ratio_error == pytest.approx(0, abs=1e-9), each
            assert each.measured.tokens_per_cycle == pytest.approx(each.expected.tokens_per_cycle)
            assert each.measured.accepted_length == pytest.approx(each.expected.accepted_length)
            assert each.measured.identical == 1.0


def test_one_run_serves_for_all_blocks_of_a_drafter_that_is_consistent(tmp_path: Path) -> None:
    plugin = PredictionPlugin(seed=3)
    predictions = make_predictor(tmp_path, plugin, PROMPTS, (1,), (2, 4, 8)).predict(nothing)
    by_name = {name: [each for each in predictions if each.drafter == name] for name in ("none", "asked", "run")}
    assert [each.block for each in by_name["asked"]] == [each.block for each in by_name["run"]] == [2, 4, 8]
    assert {each.acceptance for each in by_name["none"] + by_name["asked"]} == {EVERY_PLACE}
    assert {each.acceptance for each in by_name["run"]} == {THIS_BLOCK}
    for asked, run in zip(by_name["asked"], by_name["run"], strict=True):
        mine, other = asdict(asked.expected), asdict(run.expected)
        assert mine.pop("ratio_range") == pytest.approx(other.pop("ratio_range"))
        assert mine == pytest.approx(other)


@fewer(50)
@given(st.integers(0, 99), prompts_drawn, batches_drawn, st.integers(1, 14))
def test_cycles_of_trees_are_priced_as_the_passes_that_they_are(
    seed: int, prompts: list[list[int]], batches: tuple[int, ...], new_tokens: int
) -> None:
    """A drafter of trees, and at times of chains, on a target whose passes over trees are dearer."""
    with tempfile.TemporaryDirectory() as folder:
        plugin = PredictionPlugin(seed)
        work = make_predictor(
            Path(folder), plugin, prompts, batches, (), drafters="branching,run", new_tokens=new_tokens
        )
        for each in carried_out(work):
            assert each.error == pytest.approx(0, abs=1e-9), each
        for cost in work.scored:
            assert cost.seconds == pytest.approx(scoring(cost.batch, cost.drafts, cost.tree))


def test_costs_of_trees_are_told_beside_those_of_chains(tmp_path: Path) -> None:
    plugin = PredictionPlugin(seed=3)
    work = make_predictor(tmp_path, plugin, PROMPTS, (1,), (), drafters="branching,run")
    work.predict(nothing)
    assert {each.drafts for each in work.scored if each.tree} >= {2, 3}
    assert {each.drafts for each in work.scored if not each.tree} >= {0, 1}
    chains = make_predictor(tmp_path, plugin, PROMPTS, (1,), (), drafters="run")
    chains.predict(nothing)
    assert not any(each.tree for each in chains.scored)  # nobody drafts any


def test_costs_are_told_one_by_one(tmp_path: Path) -> None:
    work = make_predictor(tmp_path, PredictionPlugin(seed=3), PROMPTS, (1, 4), (4,), drafters="asked")
    predictions = work.predict(nothing)
    assert {(each.batch, each.drafts) for each in work.scored} == {(rows, n) for rows in (1, 2, 4) for n in (0, 1, 3)}
    for each in work.scored:
        assert each.seconds == pytest.approx(scoring(each.batch, each.drafts))
    for prediction in predictions:
        drafting = DRAFTING if prediction.drafter == "asked" else 0
        assert prediction.expected.drafting_seconds == pytest.approx(drafting)
        assert prediction.expected.prefill_seconds == pytest.approx(prefilling(1))


def test_a_claim_of_consistency_that_is_wrong_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafts that are right only in a short block: asked at the largest alone, the drafter seems to be always wrong."""
    plugin = PredictionPlugin(seed=3)
    propose = ClockedLookup.propose

    def fickle(self: ClockedLookup, context: Context, chance: Chance) -> Draft:
        draft = propose(self, context, chance)
        return context.empty_draft() if self.longest > 2 else draft

    monkeypatch.setattr(ClockedLookup, "propose", fickle)
    done = carried_out(make_predictor(tmp_path, plugin, PROMPTS, (1,), (3, 8)))
    off = {(each.drafter, each.block): abs(each.error or 0) > 0.05 for each in done}
    assert off[("asked", 3)] and not off[("run", 3)]


def test_one_that_learns_is_made_anew_for_every_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClockedLookup, "learned", True)
    plugin = PredictionPlugin(seed=3)
    work = make_predictor(tmp_path, plugin, PROMPTS, (1,), (4,), drafters="asked")
    predictions = work.predict(nothing)
    made = len(plugin.made)
    work.measure(predictions, 1, 2, nothing)
    assert len(plugin.made) == made + 3


def test_a_drafter_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: ClockedLookup, context: Context, chance: Chance) -> Draft:
        raise DraftError("it has no idea")

    monkeypatch.setattr(ClockedLookup, "propose", broken)
    work = make_predictor(tmp_path, PredictionPlugin(seed=3), PROMPTS, (1,), (4,))
    with pytest.raises(InputError, match=r"^drafter 'asked' cannot run here: it has no idea$"):
        work.predict(nothing)
