"""Certificates on tables whose rounding is known: what passes, what does not, by which rule, and ties."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from support.certified import COUPLED, Given, Lenient, RoundedTable, RunnerUp, certify, config_of, random_table
from support.thorough import thorough_but
from torch import Tensor

from orthrus import Context, Draft, InputError
from orthrus.cli.verify_table import COLUMNS, reasons
from orthrus.testing import TableTarget
from orthrus.verification.certificate import Certificate, Control, compared, more_often

NARROW, WIDE = torch.bfloat16, torch.float32
SAMPLINGS: dict[str, dict[str, Any]] = {"greedy": {}, "coupled": {"sampling": COUPLED}}


def table_in(dtype: torch.dtype, shake: float = 0.0, seed: int = 0) -> Callable[[Any], RoundedTable]:
    return lambda cache: RoundedTable(random_table(seed), cache, dtype, shake)


def checks(certificate: Certificate) -> set[str]:
    return {divergence.check for divergence in certificate.divergences}


DTYPES = list(itertools.product([NARROW, torch.float16, WIDE, torch.float64], ["greedy", "coupled"]))
WIDTHS = [(dtype, text) for dtype, text in DTYPES if dtype in (NARROW, WIDE)]
CROSSED = [(NARROW, "coupled"), (WIDE, "greedy")]


@pytest.mark.parametrize(("dtype", "text"), thorough_but(CROSSED, DTYPES), ids=str)
def test_an_honest_run_is_certified_in_every_dtype(dtype: torch.dtype, text: str) -> None:
    for result in certify(config_of(**SAMPLINGS[text]), Given(table_in(dtype)), batches=(1, 3)):
        assert result.passed and result.divergences == ()
        assert (result.certified, result.identical, result.tokens) == (4, 4, 96)
        assert result.narrow == (result.control is not None) == (dtype in (NARROW, torch.float16))


def test_the_bound_is_two_of_the_largest_rounding_of_a_logit_that_was_passed_over() -> None:
    exact = random_table()
    [result] = certify(config_of(), Given(table_in(NARROW)))
    rounding = (exact - exact.to(NARROW).double()).abs()
    assert 0 < result.bound == pytest.approx(2 * result.error)
    assert result.error <= float(rounding.max()) + 1e-7
    assert result.error >= float(rounding.amax(-1).min())
    assert result.error > 0 and result.roundoffs <= 3  # a rounding is at most one roundoff of the logit itself
    assert result.logit_error is not None and result.logit_error <= result.error


@pytest.mark.parametrize(("dtype", "text"), thorough_but(CROSSED, WIDTHS), ids=str)
@pytest.mark.parametrize("most", thorough_but([0.3], [1.0, 0.3]))
def test_a_lenient_verifier_fails(most: float, dtype: torch.dtype, text: str) -> None:
    plugin = Given(table_in(dtype), verifier=Lenient(most))
    for result in certify(config_of(verifier="given", **SAMPLINGS[text]), plugin, batches=(1, 4)):
        assert not result.passed
        assert checks(result) == {"own_logits"}
        assert all(divergence.gap > 0 and divergence.token != divergence.expected for divergence in result.divergences)


@pytest.mark.parametrize("text", thorough_but(["greedy"], SAMPLINGS))
def test_leniency_within_the_bound_fails_by_what_the_run_saw(text: str) -> None:
    """Where rounding is coarse, no look from outside could tell such a run from an honest one."""
    # In bfloat16 such logits are 100.0 or 100.5.
    sampling = SAMPLINGS[text]
    coarse = lambda cache: RoundedTable(0.05 * random_table(1) + 100.25, cache, NARROW)  # noqa: E731
    plugin = Given(coarse, verifier=Lenient(0.2 if sampling else 0.5))
    [result] = certify(config_of(verifier="given", **sampling), plugin)
    assert result.largest_gap <= result.bound  # rule (b) alone would have let it pass
    assert result.largest_gap > 0
    [honest] = certify(config_of(**sampling), Given(coarse))
    assert honest.passed
    assert not result.passed and checks(result) == {"own_logits"}


def test_a_verifier_that_is_strict_is_not_called_lenient() -> None:
    [result] = certify(config_of(verifier="given"), Given(table_in(NARROW), verifier=Lenient(0.0)))
    assert result.passed


class Stale(RoundedTable):
    """Roll what a pass gives after the fifth cycle, as a cache that kept a rejected key would."""

    def score(self, context: Context, draft: Draft) -> Tensor:
        logits = super().score(context, draft)
        return logits.roll(1, -1) if context.cycle >= 5 else logits


@pytest.mark.parametrize(("dtype", "text"), thorough_but(CROSSED, WIDTHS), ids=str)
def test_a_target_whose_passes_are_wrong_fails(dtype: torch.dtype, text: str) -> None:
    plugin = Given(lambda cache: Stale(random_table(), cache, dtype))
    [result] = certify(config_of(**SAMPLINGS[text]), plugin)
    assert not result.passed
    assert "own_logits" not in checks(result)  # the verifier was honest
    assert "teacher_forced" in checks(result)


class Faint(RoundedTable):
    """Give all logits of a pass a little too high: the same tokens, but not the same logits."""

    def score(self, context: Context, draft: Draft) -> Tensor:
        return super().score(context, draft) + 0.25


def test_wrong_logits_fail_although_every_token_is_right() -> None:
    [result] = certify(config_of(), Given(lambda cache: Faint(random_table(), cache, NARROW)))
    assert result.largest_gap <= result.bound and result.identical == result.prompts
    assert not result.passed and checks(result) == {"logit"}


class Garbage(RoundedTable):
    """Shake all that it says in its own dtype, passes and `logits`, so that the bound grows with the error."""

    size = 6.0

    def _shaken(self, logits: Tensor) -> Tensor:
        noise = torch.rand(logits.shape, generator=self._generator) - 0.5
        return logits + (self.size * noise).to(logits.dtype)

    def score(self, context: Context, draft: Draft) -> Tensor:
        return self._shaken(super().score(context, draft))

    def prefill(self, context: Context, rows: Sequence[int]) -> Tensor:
        return self._shaken(super().prefill(context, rows))

    def logits(self, token_ids: Sequence[int], last: int) -> Tensor:
        return self._shaken(super().logits(token_ids, last))


def test_a_target_that_errs_more_than_rounding_does_is_not_certified() -> None:
    [result] = certify(config_of(), Given(lambda cache: Garbage(random_table(), cache, NARROW)))
    assert result.divergences == () and result.certified == result.prompts  # the bound excuses every token
    assert result.roundoffs > result.ceiling == 64
    assert result.errs_too_much and not result.diverges_too_often and not result.passed
    [said] = reasons(result)
    assert said.startswith("it, batch 1: the target's own logits in bfloat16 are off by ")
    assert result.to_dict()["errs_too_much"] and not result.to_dict()["passed"]


@pytest.mark.parametrize(
    ("dtype", "roundoffs", "passed"),
    [
        ("bfloat16", 64.0, True),
        ("bfloat16", 64.1, False),
        ("float16", 65.0, False),
        ("float16", math.inf, False),
        ("bfloat16", math.nan, False),
        ("float32", 4096.0, True),
        ("float32", 8192.0, False),  # one roundoff of TF32
        ("float64", 0.0, True),
    ],
)
def test_the_ceiling_is_that_of_the_dtype(dtype: str, roundoffs: float, passed: bool) -> None:
    changed = dataclasses.replace(certificate(0, None), dtype=dtype, roundoffs=roundoffs)
    assert (changed.passed, changed.errs_too_much) == (passed, not passed)
    assert len(list(reasons(changed))) == (not passed)


def near_ties() -> Tensor:
    """Return a table in which the two best tokens of every place are less than a step of float32 apart."""
    table = random_table(size=4)
    best = table.topk(2).indices
    values = torch.tensor([3.0, 3.0 + 2.0**-22 * 0.6], dtype=torch.float64)
    return table.scatter(-1, best, values.expand(best.shape))


def test_near_ties_in_float32_are_decided_in_float64_and_counted() -> None:
    targets: list[RoundedTable] = []

    def made(cache: Any) -> RoundedTable:
        targets.append(RoundedTable(near_ties(), cache, WIDE, shake=2.0**-20))
        return targets[-1]

    [result] = certify(config_of(verifier="given"), Given(made, verifier=Lenient(0.0)))
    assert targets[0].widenings == [torch.float64]
    assert result.passed and result.ties > 0 and result.divergences == ()
    assert 0 < result.largest_gap <= result.bound < 1e-6
    assert result.identical < result.prompts and result.control is not None


def test_a_gap_that_is_no_tie_is_none_in_float64_either() -> None:
    """The same run, shaken by more than float32 rounds."""
    plugin = Given(table_in(WIDE, shake=0.5), verifier=Lenient(0.0))
    [result] = certify(config_of(verifier="given"), plugin)
    assert not result.passed and checks(result) == {"teacher_forced"}
    assert result.largest_gap > 1000 * result.bound


class Leaning(RoundedTable):
    """Say, one place at a time, that the second of two tied tokens is the highest or, by a step, is not."""

    lean = 0.0

    def logits(self, token_ids: Sequence[int], last: int) -> Tensor:
        logits = super().logits(token_ids, last)
        return logits if last > 1 else logits + self.lean * torch.arange(logits.shape[-1], 0, -1, dtype=logits.dtype)


def tied_table() -> Tensor:
    tied = random_table(size=4)
    return tied.scatter(-1, tied.topk(2).indices, 3.0)


def test_exact_ties_are_the_argmax_whichever_is_taken() -> None:
    """The oracle, too, which alone would take the first of them."""
    plugin = Given(lambda cache: RoundedTable(tied_table(), cache, WIDE), RunnerUp, Lenient(0.0))
    [result] = certify(config_of(verifier="given"), plugin, oracle=4)
    [plain] = certify(config_of(drafter="none", verifier="given"), plugin, oracle=4)
    assert result.passed and plain.passed and result.oracle_checked == 4
    assert (result.ties, result.largest_gap, result.identical) == (0, 0.0, 4)


def test_the_oracle_takes_no_token_that_is_less_than_the_highest() -> None:
    """Of the same answers, if token by token the target leans by a thousandth to the first of the tied ones."""

    def leaning(cache: Any) -> RoundedTable:
        target = Leaning(tied_table(), cache, WIDE)
        target.lean = 1e-3
        return target

    [result] = certify(config_of(verifier="given"), Given(leaning, RunnerUp, Lenient(0.0)), oracle=4)
    assert not result.passed and checks(result) == {"oracle"}


def test_a_narrow_target_without_a_wider_self_is_refused() -> None:
    plugin = Given(lambda cache: TableTarget(random_table().to(NARROW), cache))
    with pytest.raises(InputError, match="computes in bfloat16, where near-ties flip, and has no `widened`"):
        certify(config_of(), plugin)


def certificate(divergent: int, control: Control | None) -> Certificate:
    counts = {"prompts": 100, "tokens": 100, "identical": 100 - divergent, "ties": 0, "certified": 100}
    sizes = {"bound": 1.0, "error": 0.5, "roundoffs": 1.0, "logit_error": 0.0, "oracle_checked": 0}
    return Certificate("it", 1, "bfloat16", 0.0, **counts, **sizes, control=control, gaps=(), divergences=())  # type: ignore[arg-type]


@pytest.mark.parametrize(("divergent", "often"), [(0, False), (40, False), (45, False), (70, True), (100, True)])
def test_rates_are_held_against_the_controls(divergent: int, often: bool) -> None:
    result = certificate(divergent, Control(40, 100, 8))
    assert (result.diverges_too_often, result.passed) == (often, not often)
    assert result.divergence_rate == divergent / 100
    assert not certificate(divergent, None).diverges_too_often


@pytest.mark.parametrize("prompts", range(1, 9))
def test_a_rule_that_could_not_fail_is_not_decided(prompts: int) -> None:
    for control in range(prompts + 1):
        said = [compared(differing_answers, prompts, control, prompts) for differing_answers in range(prompts + 1)]
        assert (said[-1] == "fails") == ("not decided" not in said)  # every answer parts: fails, or nothing can
        assert set(said) in ({"not decided"}, {"holds", "fails"})
        if prompts < 5 or control == prompts:
            assert said[0] == "not decided"
    assert (compared(0, prompts, 0, prompts) == "holds") == (prompts >= 5)
    assert compared(100, 100, 100, 100) == "not decided" and compared(100, 100, 90, 100) == "fails"


@pytest.mark.parametrize(("prompts", "batch"), [(2, 2), (9, 8)])
def test_a_control_says_its_true_batch_and_a_run_what_it_decides(prompts: int, batch: int) -> None:
    texts = [(f"{index}", [index % 5, index // 5]) for index in range(prompts)]
    [result] = certify(config_of(), Given(table_in(NARROW)), prompts=texts)
    assert result.control == Control(0, prompts, batch)
    said = "holds" if prompts == 9 else "not decided"
    assert result.passed and result.rule_c == result.to_dict()["rule_c"] == COLUMNS["rule (c)"](result) == said
    assert result.to_dict()["control"]["batch"] == batch
    assert COLUMNS["control"](result) == f"0.0 % (batch {batch})"
    [wide] = certify(config_of(), Given(table_in(WIDE)), prompts=texts)
    assert wide.rule_c is None and COLUMNS["rule (c)"](wide) == COLUMNS["control"](wide) == ""


def test_chance_is_fishers() -> None:
    # A table of the literature: 3 of 4 against 1 of 4 has a one-sided probability of 17 / 70.
    assert more_often(3, 4, 1, 4) == pytest.approx(17 / 70)
    assert more_often(0, 9, 5, 9) == 1.0
    assert more_often(9, 9, 0, 9) == pytest.approx(1 / 48620)
