"""Traces of drafts that are trees: what is told of them, how they are counted, and how a page shows their branches."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.watching import plain

import orthrus
from orthrus import InputError
from orthrus.testing.profiles import fewer
from orthrus_trace.page import page
from orthrus_trace.statistics import along_text, positions
from orthrus_trace.trace_file import PARTS, Trace, TracedRequest, TracedStep, read_trace

TREES = {"name": "suffix", "branches": 3, "min_share": 0.0}
PARENTS = (-1, 0, -1, 0, 1, 2, 2, 6)


@fewer(50)
@given(
    prompts=st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=3),
    batch=st.integers(1, 3),
    temperature=st.sampled_from([0, 1.0]),
)
def test_a_trace_tells_which_tokens_of_a_tree_were_kept(
    tmp_path_factory: pytest.TempPathFactory, prompts: list[str], batch: int, temperature: float
) -> None:
    file = tmp_path_factory.mktemp("trace") / "t.jsonl"
    more: dict[str, Any] = {"drafter": TREES, "verifier": "coupled", "stop": {"max_new_tokens": 24}}
    more["sampling"] = {"temperature": temperature}
    results = orthrus.load("table-trace", trace={"file": str(file)}, **more).generate(prompts, batch=batch)
    expected = orthrus.load("table-trace", trace=None, **more).generate(prompts, batch=batch)
    assert [plain(result) for result in results] == [plain(result) for result in expected]
    trace = read_trace(file)
    for step in (step for request in trace.requests for step in request.cycles if step.parents):
        kept = [step.drafted[token] for token in step.kept]
        assert kept[: len(step.committed)] == list(step.committed[: step.accepted])
        assert sorted([*step.kept, *step.refused]) == list(range(len(step.drafted)))
        assert step.accepted <= step.longest <= len(step.drafted)
    page(trace, "x", 3)


def step_of(kept: tuple[int, ...]) -> TracedStep:
    texts = [f"<{token}>" for token in range(8)]
    committed = [*kept, 99]
    return TracedStep(False, range(8), len(kept), committed, [f"{token};" for token in committed], texts, PARENTS, kept)


def test_tokens_of_one_depth_count_as_one() -> None:
    steps = [step_of((2, 6)), step_of(()), TracedStep(False, [1, 2, 3, 4], 1, [1, 5], [], [])]
    counted = [(place.number, place.drafted, place.accepted) for place in positions(steps)]
    assert counted == [(1, 3, 2), (2, 3, 1), (3, 3, 0), (4, 1, 0)]  # the tree is 3 deep, the chain has 4
    assert along_text(steps) == [(1, 3, 3, 2), (4, 1, 3, 0), (5, 2, 4, 1)]


def shown(step: TracedStep) -> str:
    """Return what the page has of a step, refused drafts in brackets."""
    trace = Trace("t", "d", [TracedRequest("r", [step])], [dict.fromkeys(PARTS, 0.1)], [False], False)
    text = page(trace, "x", 1).partition('<div class="text">')[2].partition("</div>")[0]
    text = text.replace("<s>", "[").replace("</s>", "]")
    return re.sub("<[^>]*>", "", text).replace("&lt;", "<").replace("&gt;", ">")


@pytest.mark.parametrize(
    ("kept", "text"),
    [
        ((2, 6), "2;[<0>(<1><4>|<3>)]6;[<5>]99;[<7>]"),
        ((0, 1, 4), "0;[<2>(<5>|<6><7>)]1;[<3>]4;99;"),
        ((), "99;[<0>(<1><4>|<3>)|<2>(<5>|<6><7>)]"),
    ],
)
def test_branches_are_shown_where_they_leave_the_path(kept: tuple[int, ...], text: str) -> None:
    """Alternatives stand behind the token that was kept in their place, each with what would have followed."""
    assert shown(step_of(kept)) == text


def test_what_is_no_tree_is_refused_in_one_sentence(tmp_path: Path) -> None:
    row: dict[str, Any] = {"request": 0, "id": "r", "drafted": [1, 2, 3], "accepted": 2, "committed": [1, 3, 4]}
    row |= {"finish_reason": None, "texts": None, "drafted_texts": None, "parents": [-1, 0, 0], "kept": [0, 2]}
    seconds = dict.fromkeys([*PARTS[:-1], "whole"], 0.1)
    file = tmp_path / "t.jsonl"

    def read(**changed: Any) -> Trace:
        lines = [{"orthrus_trace": 1, "target": "t", "drafter": "d"}]
        lines.append({"prefill": False, "seconds": seconds, "rows": [{**row, **changed}]})
        file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return read_trace(file)

    assert list(read().requests[0].steps[0].refused) == [1]
    for wrong in (
        {"parents": [-1, 0]}, {"parents": [-1, 1, 0]}, {"parents": [-1, -2, 0]}, {"kept": [0, 1, 2]}, {"kept": [1, 2]},
        {"kept": [0, 9]}, {"accepted": 1},
    ):  # fmt: skip
        with pytest.raises(InputError, match="line 2, is of no step"):
            read(**wrong)
