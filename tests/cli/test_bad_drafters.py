"""Drafters that break their contract: said in one sentence with the drafter's name, whatever else was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.parts import drafter
from support.program import TABLE, InProcess
from support.site import Site

from orthrus import DraftError, load

RULES = {
    "outside the vocabulary": (
        "return Draft(torch.full((1, 2), 9), torch.tensor([2]))",
        "drafter 'odd' proposed token 9 at place 0 of row 0; the vocabulary has 9 tokens",
    ),
    "below the vocabulary": (
        "return Draft(torch.tensor([[0, -1]]), torch.tensor([2]))",
        "drafter 'odd' proposed token -1 at place 1 of row 0; the vocabulary has 9 tokens",
    ),
    "beyond the room": (
        "n = context.max_room + 1\nreturn Draft(torch.zeros(1, n, dtype=torch.int64), torch.tensor([n]))",
        "drafter 'odd' proposed 4 tokens",
    ),
    "a negative length": (
        "return Draft(torch.zeros(1, 2, dtype=torch.int64), torch.tensor([-1]))",
        "drafter 'odd' proposed -1 tokens for row 0, which has room for 3",
    ),
    "too few rows": (
        "return Draft(torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))",
        "drafter 'odd' returned tokens [0, 2] and lengths [0] for 1 rows; wanted [1, n] and [1]",
    ),
    "too few dimensions": (
        "return Draft(torch.zeros(2, dtype=torch.int64), torch.tensor([2]))",
        "drafter 'odd' returned tokens [2] and lengths [1] for 1 rows; wanted [1, n] and [1]",
    ),
    "wrong lengths": (
        "return Draft(torch.zeros(1, 2, dtype=torch.int64), torch.tensor(2))",
        "drafter 'odd' returned tokens [1, 2] and lengths [] for 1 rows; wanted [1, n] and [1]",
    ),
    "wrong dtype": (
        "return Draft(torch.zeros(1, 2), torch.tensor([2]))",
        "drafter 'odd' returned torch.float32 tokens and torch.int64 lengths; both must be int64",
    ),
    "wrong dtype of lengths": (
        "return Draft(torch.zeros(1, 2, dtype=torch.int64), torch.tensor([2.0]))",
        "drafter 'odd' returned torch.int64 tokens and torch.float32 lengths; both must be int64",
    ),
    "another device": (
        "return Draft(torch.zeros(1, 2, dtype=torch.int64, device='meta'), torch.tensor([2]))",
        "drafter 'odd' returned tensors on meta; the rows are on cpu",
    ),
    "a tree": (
        "return Draft(torch.zeros(1, 2, dtype=torch.int64), torch.tensor([2]), parents=torch.tensor([[-1, -1]]))",
        "drafter 'odd' proposed a tree of tokens, and does not say so beforehand",
    ),
    "probabilities of another shape": (
        "return Draft(torch.tensor([[0, 1]]), torch.tensor([2]), torch.full((1, 9), 1 / 9))",
        "drafter 'odd' returned probabilities [1, 9] for its tokens; wanted [1, 2, 9]",
    ),
    "probabilities elsewhere": (
        "return Draft(torch.tensor([[0, 1]]), torch.tensor([2]), torch.full((1, 2, 9), 1 / 9, device='meta'))",
        "drafter 'odd' returned probabilities on meta; the rows are on cpu",
    ),
    "probabilities that do not sum to one": (
        "return Draft(torch.tensor([[0, 1]]), torch.tensor([2]), torch.full((1, 2, 9), 0.5))",
        "drafter 'odd' gave probabilities that sum to 4.5, not 1, at place 0 of row 0",
    ),
    "probabilities that are no numbers": (
        "return Draft(torch.tensor([[0, 1]]), torch.tensor([2]), torch.full((1, 2, 9), float('nan')))",
        "drafter 'odd' gave probabilities that sum to nan, not 1, at place 0 of row 0",
    ),
    "a negative probability": (
        "q = torch.eye(9)[[0, 1]][None]\nq[0, 1, 7] -= 0.5\nq[0, 1, 8] += 0.5\n"
        "return Draft(torch.tensor([[0, 1]]), torch.tensor([2]), q)",
        "drafter 'odd' gave token 7 a probability of -0.5 at place 1 of row 0",
    ),
    "a token that it cannot have drawn": (
        "return Draft(torch.tensor([[0, 1]]), torch.tensor([2]), torch.eye(9)[[0, 0]][None])",
        "drafter 'odd' proposed token 1 at place 1 of row 0, which cannot be drawn: it gave it a probability of 0",
    ),
    "a written context": (
        "context.tokens[0, 0] = 1\nreturn context.empty_draft()",
        "drafter 'odd' changed context.tokens in cycle 1, or in observing the one before; it may only read it",
    ),
    "a replaced context": (
        "context.room = context.room - 1\nreturn context.empty_draft()",
        "drafter 'odd' changed context.room in cycle 1",
    ),
    "nothing": ("return None", "drafter 'odd' returned a NoneType, not a Draft"),
    "a list": ("return [[1, 2]]", "drafter 'odd' returned a list, not a Draft"),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_rule_is_one_sentence(
    rule: str, site: Site, orthrus: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, sentence = RULES[rule]
    site.install("odd_drafter", drafter(body))
    monkeypatch.chdir(tmp_path)
    arguments = ["run", "--config", TABLE, "--prompt", "abc", "drafter.name=odd", "stop.max_new_tokens=4", "--json"]
    assert orthrus(*arguments).error().startswith(sentence)
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


@pytest.mark.parametrize("rule", RULES)
def test_the_library_raises_a_draft_error(rule: str, site: Site) -> None:
    site.install("odd_drafter", drafter(RULES[rule][0]))
    with pytest.raises(DraftError):
        load(TABLE, drafter="odd", stop={"max_new_tokens": 4}).generate(["abc"])


def test_a_rule_broken_in_a_later_cycle_and_row_is_found(site: Site) -> None:
    body = """
    lengths = torch.ones(len(context.rows), dtype=torch.int64)
    tokens = torch.zeros(len(context.rows), 1, dtype=torch.int64)
    tokens[1] = 9 if self.cycle == 2 else 0
    return Draft(tokens, torch.minimum(lengths, context.room))
    """
    site.install("odd_drafter", drafter(body))
    decoder = load(TABLE, drafter="odd", stop={"max_new_tokens": 20})
    with pytest.raises(DraftError, match="proposed token 9 at place 0 of row 1"):
        decoder.generate(["abc", "bcd"], batch=2)


def test_what_was_streamed_before_a_broken_rule_is_kept(site: Site, orthrus: InProcess) -> None:
    body = "return Draft(torch.full((1, 1), 9 if self.cycle == 3 else 0), torch.tensor([1]))"
    site.install("odd_drafter", drafter(body))
    done = orthrus("run", "--config", TABLE, "--prompt", "abc", "drafter.name=odd")
    assert done.code == 2
    text = load(TABLE).generate(["abc"])[0].text
    assert len(done.out) >= 5
    assert done.out.endswith("\n")
    assert text.startswith(done.out[:-1])
    assert done.err == (
        "orthrus: error: drafter 'odd' proposed token 9 at place 0 of row 0; the vocabulary has 9 tokens\n"
    )


def test_a_drafter_that_raises_is_named_by_its_place(site: Site, orthrus: InProcess) -> None:
    site.install("odd_drafter", drafter("raise ZeroDivisionError('no\\nidea')"))
    arguments = ["run", "--config", TABLE, "--prompt", "abc", "--json", "drafter.name=odd"]
    error = orthrus(*arguments).error()
    assert error.startswith("ZeroDivisionError: no idea (in propose, ")
    assert error.endswith("odd_drafter.py, line 16; --debug shows the traceback)")
    done = orthrus(*arguments, "--debug")
    assert done.code == 2
    assert "Traceback (most recent call last)" in done.err
    assert "raise ZeroDivisionError" in done.err


def test_a_drafter_that_cannot_be_made_is_named(site: Site, orthrus: InProcess) -> None:
    code = drafter("pass").replace("lambda options, parts: Odd()", "lambda options, parts: 1 / 0")
    site.install("odd_drafter", code)
    assert orthrus("run", "--config", TABLE, "--prompt", "abc", "drafter.name=odd").error() == (
        "drafter 'odd' of plugin 'odd_drafter' could not be made: ZeroDivisionError: division by zero"
    )


def test_a_drafter_that_needs_more_than_the_target_has(site: Site, orthrus: InProcess) -> None:
    site.install(
        "odd_drafter", drafter("pass").replace("needs = frozenset()", "needs = frozenset({'views', 'logits'})")
    )
    assert orthrus("run", "--config", TABLE, "--prompt", "abc", "drafter.name=odd").error() == (
        "drafter 'odd' needs views, which target 'table' does not offer"
    )
