"""Which drafters and blocks a prediction is of: names, files, blocks that mean lengths, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.program import CONFIGS, TABLE

from orthrus import ConfigError, InputError
from orthrus.config.compose import read_overrides
from orthrus.prediction.candidates import Block, Candidate, plan_candidates, read_blocks
from orthrus.registry.plugins import Plugins

RECIPES = CONFIGS / "recipes"


def planned(drafters: str | None, *blocks: Block, config: Path = TABLE, dotted: str = "") -> list[Candidate]:
    overrides = read_overrides(dotted.split())
    return list(plan_candidates(config, overrides, drafters, blocks, Plugins.load([])))


def options(candidate: Candidate) -> Any:
    assert candidate.config.drafter is not None
    return candidate.config.drafter.options


@given(st.lists(st.integers(2, 99), min_size=1, unique=True), st.booleans())
def test_blocks_are_read_in_their_order(sizes: list[int], auto: bool) -> None:
    text = ",".join([*map(str, sizes), *(["auto"] if auto else [])])
    assert read_blocks(text) == (*sizes, *(["auto"] if auto else []))


@pytest.mark.parametrize("text", ["", "0", "1", "4,", "four", "4,1", "-2", "4,4", "auto,x"])
def test_other_blocks_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^--blocks "):
        read_blocks(text)


def test_plain_decoding_comes_first_and_the_configs_own_drafter_follows() -> None:
    assert [(each.drafter, each.block) for each in planned(None)] == [("none", None), ("prompt_lookup", 11)]
    assert [each.drafter for each in planned("none,suffix")] == ["none", "suffix"]


def test_a_block_counts_the_anchor_and_a_length_does_not() -> None:
    _, lookup, replay = planned("prompt_lookup,replay", 8)
    assert (lookup.option, options(lookup).length) == ("length", 7)
    assert (replay.option, options(replay).block) == ("block", 8)


def test_auto_is_for_those_that_have_it() -> None:
    named = [(each.drafter, each.block) for each in planned("suffix,transformers", 4, "auto")]
    assert named == [("none", None), ("suffix", 4), ("suffix", "auto"), ("transformers", 4)]


def test_a_drafter_without_blocks_is_there_once() -> None:
    cascade = RECIPES / "smollm2-cascade.yaml"
    assert [(each.drafter, each.block) for each in planned(str(cascade), 4, 8)][1:] == [("smollm2-cascade", None)]


def test_a_name_keeps_the_configs_options_and_a_file_brings_its_own(tmp_path: Path) -> None:
    dotted = "drafter.max_ngram=5"
    assert options(planned("prompt_lookup", dotted=dotted)[1]).max_ngram == 5
    file = tmp_path / "mine.yaml"
    file.write_text("drafter: {name: prompt_lookup, min_ngram: 1}\n", encoding="utf-8")
    [_, mine] = planned(str(file), dotted=dotted)
    assert (mine.drafter, options(mine).max_ngram, options(mine).min_ngram) == ("mine", 3, 1)
    assert mine.config.target == planned(None)[0].config.target


REFUSED = {
    "unknown": ("prompt_lookup,sufix", "unknown drafter 'sufix'.*did you mean 'suffix'"),
    "no file": ("no/such.yaml", "--drafters: there is no config file 'no/such.yaml'"),
    "twice": ("suffix,suffix", "--drafters: two are called 'suffix'; labels must differ"),
    "no drafter": (str(CONFIGS / "parts" / "greedy.yaml"), "--drafters: '.*greedy.yaml' names no drafter"),
    "an option is missing": ("draft_model", "drafter.source: names the draft model, or target does"),
    "nothing": ("", "unknown drafter ''"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_drafters_are_refused(case: str) -> None:
    text, sentence = REFUSED[case]
    with pytest.raises((ConfigError, InputError), match=sentence):
        planned(text)


def test_a_block_that_a_drafter_cannot_have_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"drafter\.length: must be at most 1024, not 1999"):
        planned("suffix", 2000)
