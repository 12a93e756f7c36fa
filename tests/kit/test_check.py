"""How a check reports: the rule, the value, the place, a reproduction; what is expected, and what does not apply."""

from __future__ import annotations

import itertools
import re
import runpy
import textwrap
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from support.bug import Bug
from support.bugs import EVERY_BUG
from support.bugs_of_drafters import Cycling, NoLimit, Stale
from support.bugs_of_taps import Tapping
from support.bugs_of_verifiers import NothingAccepted
from support.program import ROOT
from support.thorough import nightly_but

from orthrus import BuildError, Chance, Context, Draft, InputError, Target
from orthrus.testing import (
    Check,
    ConformanceError,
    History,
    NotApplicableError,
    Scene,
    drafter_checks,
    factory_of,
    named_check,
    verifier_checks,
)
from orthrus.testing.check import BrokenRuleError, check
from orthrus.testing.checks import EVERY_CHECK
from orthrus.testing.doubles.drafters import Drawing, some_q
from orthrus.testing.pytest_summary import summary_line

EVERY_NAME = [(kind, one.name) for kind, checks in EVERY_CHECK.items() for one in checks()]
IMPORTABLE = [bug for bug in EVERY_BUG if not bug.what.startswith("the loop")]
# Seconds each, twice, for whole distributions are visited.
SLOW = {
    "draws the token after a rejection from p: no residual",
    "is 10 % too lenient",
    "accepts what is likely enough",
    "adds an epsilon, lest it divide by zero",
    "accepts nothing above temperature 0",
}
REPRODUCED = [bug for bug in IMPORTABLE[::3] if bug.what not in SLOW]


@check("cache", [History(), History(seed=1), History(seed=2)])
def seeds_below_two(make: object, history: History) -> None:
    """A seed is
    below two.

    This is not the rule.
    """
    if history.seed > 1:
        raise BrokenRuleError(f"seed {history.seed}", "here")


def text_of(one: Check, factory: object) -> str:
    with pytest.raises(ConformanceError) as caught:
        one(factory)  # type: ignore[arg-type]
    return str(caught.value)


@check("cache", [History(), History(seed=1), History(seed=2)])
def odd_seeds_only(make: object, history: History) -> None:
    """A seed is odd."""
    if history.seed % 2 == 0:
        raise NotApplicableError(f"{history.seed} is even")


def test_a_case_that_does_not_apply_is_skipped_alone() -> None:
    assert odd_seeds_only.outcome(dict).status == "passed"
    assert odd_seeds_only.outcome(dict, History()).status == "did not apply"
    assert odd_seeds_only.outcome(dict, History(), History(seed=4)).reason == "0 is even"


def test_a_failure_names_rule_value_and_place() -> None:
    assert text_of(seeds_below_two, dict).splitlines()[:4] == [
        "cache check 'seeds_below_two' failed",
        "  rule:  A seed is below two.",
        "  value: seed 2",
        "  place: here",
    ]


def test_a_failure_is_an_assertion() -> None:
    assert issubclass(ConformanceError, AssertionError)


def test_what_a_part_raises_is_told_with_its_place() -> None:
    class Odd:
        def __init__(self, target: object) -> None:
            raise ZeroDivisionError("no idea")

    text = text_of(named_check("drafter", "greedy_text"), Odd)
    assert "value: it raised ZeroDivisionError: no idea" in text
    assert re.search(r"place: __init__, test_check.py, line \d+", text)


FORMS: dict[str, tuple[Any, str]] = {
    "nothing": (None, "it returned a NoneType"),
    "lists": (Draft([[0]], [1]), "tokens are a list, wanted a tensor"),  # type: ignore[arg-type]  # what a plugin may do wrong
    "tokens of one dimension": (
        Draft(torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.int64)),
        "tokens are [1], wanted [2, 1]",
    ),
    "a number": (Draft(torch.tensor(0), torch.tensor([0, 0])), "tokens are [], wanted [2]"),
    "int32": (Draft(torch.zeros(2, 1).int(), torch.zeros(2).long()), "tokens are torch.int32, wanted torch.int64"),
    "too few probabilities": (
        Draft(torch.zeros(2, 1).long(), torch.zeros(2).long(), torch.ones(2, 1, 3)),
        "probabilities are [2, 1, 3], wanted [2, 1, 4]",
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_what_is_no_draft_is_said_by_every_check_in_plain_words(name: str) -> None:
    draft, value = FORMS[name]

    class Odd(Stale):
        def propose(self, context: Context, chance: Chance) -> Draft:
            return draft

    assert f"value: {value}\n" in text_of(named_check("drafter", "draft_has_its_form"), Odd)
    for other in ("drawn_tokens_have_mass", "draws_what_it_reports", "rows_are_independent", "inputs_are_left_alone"):
        text = text_of(named_check("drafter", other), Odd)
        assert "value: drafter 'Odd' returned " in text and "place: the loop, which checks every draft\n" in text


def reproduced(text: str, make: Callable[..., Any]) -> str:
    """Execute what a failure says shows it again, and return what that raises; make: for code that cannot import it."""
    code = textwrap.dedent(text.partition("to see it again:\n")[2])
    with pytest.raises(ConformanceError) as caught:
        exec(code, {"make": make})
    return str(caught.value)


def told(text: str) -> list[str]:
    """Return what a failure says, but for where the factory comes from."""
    said, _, again = text.partition("to see it again:\n")
    return [*said.splitlines(), again.splitlines()[-1]]


@pytest.mark.parametrize("bug", nightly_but(REPRODUCED[::3], IMPORTABLE[::3], thorough=REPRODUCED), ids=str)
def test_the_reproduction_shows_the_same_failure(bug: Bug) -> None:
    text = text_of(named_check(bug.kind, bug.check), bug.make)
    assert told(reproduced(text, bug.make)) == told(text)


class Maker:
    @classmethod
    def of(cls, target: object) -> Stale:
        return Stale(target=target)

    def __call__(self, target: object) -> Stale:
        return Stale(target=target)


@pytest.mark.parametrize("make", [Stale, Maker.of], ids=["a class", "a method of a class"])
def test_what_has_a_name_is_imported(make: Callable[..., Any]) -> None:
    text = text_of(named_check("drafter", "history_leaves_no_trace"), make)
    assert told(reproduced(text, NoLimit)) == told(text)


@pytest.mark.parametrize(
    ("make", "which"),
    [
        (lambda target: Stale(target=target), r"<lambda>, of test_check.py, line \d+"),
        (Maker(), "an object of Maker"),
        (eval("lambda target: Stale(target=target)"), "<lambda>, of the module test_check"),
    ],
    ids=["a lambda", "an object", "without a source"],
)
def test_of_what_has_no_name_a_comment_says_which_it_was(make: Callable[..., Any], which: str) -> None:
    text = text_of(named_check("drafter", "history_leaves_no_trace"), make)
    assert re.search(f"    # make is {which}\n", text)
    assert told(reproduced(text, make)) == told(text)


def test_a_registered_part_is_printed_by_its_name() -> None:
    named = factory_of("dynamic", "cache")
    assert named.reproduction == ["from orthrus.testing import factory_of", 'make = factory_of("dynamic", "cache")']


def test_one_case_can_be_tried_alone() -> None:
    one = named_check("drafter", "draft_fits_the_room")
    one(NoLimit, Scene(prompts=((0, 1),), max_new_tokens=0))  # it is never asked
    with pytest.raises(ConformanceError):
        one(NoLimit, Scene(prompts=((0, 1),), max_new_tokens=2))


def test_an_expected_failure_is_one() -> None:
    [one] = [one for one in verifier_checks(expect={"accepts_all_it_may": "it is stubborn"}) if one.expected]
    found = one.outcome(NothingAccepted)
    assert (found.status, found.reason) == ("expected to fail", "it is stubborn")
    with pytest.raises(pytest.xfail.Exception, match="it is stubborn"):
        one(NothingAccepted)


def test_an_expected_failure_that_passes_fails() -> None:
    [one] = [one for one in drafter_checks(expect={"greedy_text": "never seen"}) if one.expected]
    assert "passes, but is expected to fail (never seen)" in text_of(one, Stale)


@pytest.mark.parametrize("checks", EVERY_CHECK.values())
def test_an_unknown_name_is_an_error_that_says_which_exist(checks: object) -> None:
    names = [one.name for one in checks()]  # type: ignore[operator]
    with pytest.raises(InputError, match=r"unknown .* check 'greedy_texts'.*known: ") as caught:
        checks(expect={"greedy_texts": "why"})  # type: ignore[operator]
    assert all(name in str(caught.value) for name in names)


@pytest.mark.parametrize("why", [None, "", "  ", 3, ["it is stubborn"]])
def test_a_reason_that_says_nothing_is_refused(why: object) -> None:
    with pytest.raises(InputError, match=r"verifier check 'greedy_text' is expected to fail for no reason: .*, wanted"):
        verifier_checks(expect={"greedy_text": why})  # type: ignore[dict-item]


@pytest.mark.parametrize("expect", [{"greedy_text"}, ["greedy_text"], "greedy_text"])
def test_expectations_without_reasons_are_refused(expect: object) -> None:
    with pytest.raises(InputError, match="expect must be a mapping of names of checks to reasons, not a"):
        verifier_checks(expect=expect)  # type: ignore[arg-type]


def test_named_checks_that_do_not_exist() -> None:
    with pytest.raises(InputError, match=r"unknown kind of part 'draughter' \(did you mean 'drafter'"):
        named_check("draughter", "greedy_text")
    with pytest.raises(InputError, match=r"unknown drafter check 'greedy_test' \(did you mean 'greedy_text'"):
        named_check("drafter", "greedy_test")


class Needy(Stale):
    needs = frozenset({"training"})


def test_what_does_not_apply_is_skipped_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    one = named_check("drafter", "greedy_text")
    with pytest.raises(pytest.skip.Exception, match="needs training, which no target of the kit offers"):
        one(Needy)
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    with pytest.raises(NotApplicableError, match="'greedy_text' did not apply: the drafter needs training"):
        one(Needy)


class Costly(Cycling):
    passes: ClassVar[float] = 0.25

    def after(self, context: Context, draft: Draft) -> Draft:
        return replace(draft, passes=self.passes)


class Unknown(Costly):
    passes = float("nan")


@pytest.mark.parametrize(("make", "status"), [(Costly, "passed"), (Unknown, "failed")])
def test_passes_may_be_a_share_of_one_and_must_be_a_number(make: type[Costly], status: str) -> None:
    assert named_check("drafter", "draft_has_its_form").outcome(make).status == status


class Still(Tapping):
    moves_rows = False


@pytest.mark.parametrize(
    ("name", "make", "why"),
    [
        ("taps_are_copied", Cycling, "the drafter reads no hidden states"),
        ("taps_move_with_their_rows", Still, "the drafter's rows do not move"),
    ],
)
def test_checks_of_taps_say_why_they_do_not_apply(name: str, make: type[Cycling] | type[Tapping], why: str) -> None:
    outcome = named_check("drafter", name).outcome(make)
    assert (outcome.status, outcome.reason) == ("did not apply", why)


def test_a_part_that_cannot_be_made_here_does_not_fail() -> None:
    def make() -> object:
        raise BuildError("it needs another machine")

    assert {(one.outcome(make).status, one.outcome(make).reason) for one in EVERY_CHECK["cache"]()} == {
        ("did not apply", "it needs another machine")
    }


@pytest.mark.parametrize(("kind", "name"), EVERY_NAME)
def test_every_check_has_a_rule_of_one_sentence_and_small_cases_first(kind: str, name: str) -> None:
    one = named_check(kind, name)
    assert str(one) == one.name == name
    assert one.rule.endswith(".") and one.rule.count(". ") == 0
    assert one.cases and len(repr(one.cases[0])) <= max(120, len(repr(one.cases[-1])))


def test_every_check_finds_a_bug() -> None:
    assert {(bug.kind, bug.check) for bug in EVERY_BUG} ^ set(EVERY_NAME) == set()


def test_the_summary_counts_and_says_why() -> None:
    found = [("passed", ""), ("failed", "text"), ("did not apply", "it learns"), ("did not apply", "it learns")]
    assert summary_line(found) == "2 checks ran: 1 passed, 1 failed; 2 did not apply: it learns (2)"  # type: ignore[arg-type]
    assert summary_line([("passed", "")]) == "1 check ran: 1 passed"


def test_the_page_lists_every_check_with_its_rule() -> None:
    program = runpy.run_path(str(ROOT / "docs" / "tools" / "check_tables.py"))
    text = program["PAGE"].read_text(encoding="utf-8")
    assert program["page"](text) == text
    assert all(f"| `{name}` | {named_check(kind, name).rule} |" in text for kind, name in EVERY_NAME)
    assert program["page"](text.replace("`greedy_text`", "`greedy_test`")) == text  # it would be made anew


def moody(learns: bool) -> Callable[[Target], Drawing]:
    """Return a factory of drafters, each of which draws from something else: no path of choices comes twice."""
    seeds = itertools.count()

    def make(target: Target) -> Drawing:
        drafter = Drawing(some_q(next(seeds), target.vocabulary_size), 2)
        drafter.learns = learns
        return drafter

    return make


def test_what_is_not_a_matter_of_chance_is_noticed_unless_it_is_learnt() -> None:
    one = named_check("drafter", "exact_distribution")
    assert "the same choices led to draws from" in one.outcome(moody(learns=False)).reason
    assert one.outcome(moody(learns=True)).status == "did not apply"
