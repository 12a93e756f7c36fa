"""Trees where they do not go are refused when a decoder is built, with both names and what works; bad ones are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from support.building import decode_with, table_target, transformers_target
from support.families import tiny_model

import orthrus
from orthrus import (
    AttentionCapabilities,
    BuildError,
    Chance,
    ConfigError,
    Context,
    Draft,
    DraftError,
    Sampling,
    Stop,
    Target,
    Verdict,
    Verifier,
)
from orthrus.errors import InterfaceError
from orthrus.testing.doubles.trees import ScriptedTrees
from orthrus.trees import check_trees
from orthrus.verification.recording_verifier import RecordingVerifier, of_token
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_drafters.options import SuffixOptions
from orthrus_drafters.suffix import Suffix
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.consensus import Consensus
from orthrus_verifiers.coupled import Coupled

TABLE = {
    "target": {"name": "table"},
    "attention": {"name": "eager"},
    "cache": {"name": "dynamic"},
    "drafter": {"name": "suffix", "branches": 2},
    "verifier": {"name": "coupled"},
    "stop": {"max_new_tokens": 4},
}
TEXTS = {0: tuple([1, 2, 3, 0] * 10)}


class ChainsOnly(Consensus):
    """A verifier of before there were trees."""

    verifies_trees = False


class NoTrees(SdpaAttention):
    capabilities = AttentionCapabilities(plain=True)


def refused(target: Target, verifier: Verifier) -> str:
    with pytest.raises(BuildError) as error:
        check_trees(target, Suffix(SuffixOptions(branches=2)), verifier)
    return str(error.value)


def test_a_config_whose_cache_moves_no_slots_is_refused() -> None:
    with pytest.raises(BuildError) as error:
        orthrus.load({**TABLE, "cache": {"name": "offloaded"}})
    assert str(error.value) == (
        "drafter 'suffix' drafts trees, and cache 'offloaded' cannot move the keys of an accepted branch;"
        " set cache.name=dynamic, static or paged, or let it draft chains"
    )
    assert orthrus.load(TABLE).generate(["aa"])[0].token_ids
    chains = {**TABLE, "cache": {"name": "offloaded"}, "drafter": {"name": "suffix"}}
    assert orthrus.load(chains).generate(["aa"])[0].token_ids


def test_parts_that_take_chains_only_are_refused() -> None:
    assert refused(table_target(), ChainsOnly()) == (
        "drafter 'suffix' drafts trees, and verifier 'ChainsOnly' verifies chains only; set verifier.name=coupled, or"
        " let it draft chains"
    )
    target = TransformersTarget(tiny_model("llama"), None, DynamicCache(), NoTrees(), engine="eager")
    assert refused(target, Consensus()) == (
        "drafter 'suffix' drafts trees, and attention 'NoTrees' has no tree masks; set attention.name=sdpa or eager, or"
        " let it draft chains"
    )
    assert "scores chains only" in refused(Silent(), Consensus())  # type: ignore[arg-type]
    check_trees(transformers_target("llama"), Suffix(SuffixOptions(branches=2)), Consensus())
    check_trees(target, Suffix(), ChainsOnly())  # whoever drafts chains asks for nothing


class Silent:
    """A target of before there were trees."""


@pytest.mark.parametrize(
    ("drafter", "sentence"),
    [
        ({"name": "suffix", "length": "auto", "branches": 2}, "makes trees, whose length is a number"),
        ({"name": "draft_model", "source": "x", "length": "auto", "branches": 2}, "makes trees, whose length"),
        ({"name": "diffusion", "tree": 1}, "tree"),
        ({"name": "diffusion", "tree": "most"}, "tree"),
    ],
)
def test_options_that_do_not_go_together(drafter: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        orthrus.load({**TABLE, "drafter": drafter})


class Crooked(ScriptedTrees):
    """Break one rule of trees."""

    def __init__(self, what: str) -> None:
        super().__init__(TEXTS, 4, sizes=(3,))
        self.what = what

    def propose(self, context: Context, chance: Chance) -> Draft:
        draft = super().propose(context, chance)
        assert draft.parents is not None
        parents = {
            "later": draft.parents + 1,
            "narrow": draft.parents[:, :1],
            "small": draft.parents.int(),
            "none": draft.parents - 2,
        }[self.what]
        return replace(draft, parents=parents)


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("later", "gave token 0 of row 0 the parent 0; it must be -1, the anchor, or an earlier token"),
        ("none", "gave token 0 of row 0 the parent -3; it must be"),
        ("narrow", r"returned parents of \[1, 1\], torch.int64, on cpu; wanted \[1, 3\]"),
        ("small", r"returned parents of \[1, 3\], torch.int32"),
    ],
)
def test_bad_trees_are_told(what: str, sentence: str) -> None:
    with pytest.raises(DraftError, match=f"drafter 'scripted trees' {sentence}"):
        decode_with(table_target(), Crooked(what), [[1, 2]], Stop(9))


class Claims(Consensus):
    """Say something else of a tree than what is so."""

    def __init__(self, last: int | None) -> None:
        self.last = last

    def verify(self, context: Context, draft: Draft, logits: torch.Tensor, chance: Chance) -> Verdict:
        verdict = super().verify(context, draft, logits, chance)
        if verdict.last is None:
            return verdict
        return replace(verdict, last=None if self.last is None else torch.full_like(verdict.last, self.last))


@pytest.mark.parametrize(
    ("last", "sentence"), [(None, "without `last`"), (2, "accepted -1 of the"), (9, "accepted -1")]
)
def test_bad_verdicts_are_told(last: int | None, sentence: str) -> None:
    drafter = ScriptedTrees(TEXTS, 4, sizes=(4,), right=0.0)
    with pytest.raises(InterfaceError, match=sentence):
        decode_with(table_target(), drafter, [[1, 2]], Stop(9), verifier=Claims(last))


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_certificates_see_the_accepted_path(temperature: float) -> None:
    target = table_target(2)
    watched = RecordingVerifier(Coupled())
    prompts: Sequence[Sequence[int]] = [[1, 2], [3]]
    plain = decode_with(target, Suffix(), prompts, Stop(40), 1, verifier=Coupled(), sampling=Sampling(temperature))
    drafter = Suffix(SuffixOptions(branches=3, min_share=0.0))
    results = decode_with(target, drafter, prompts, Stop(40), 1, verifier=watched, sampling=Sampling(temperature))
    assert [result.token_ids for result in results] == [result.token_ids for result in plain]
    for result, seen in zip(results, watched.seen(results), strict=True):
        assert any(result.measures.accepted_per_cycle)
        for index, token in enumerate(result.token_ids):
            assert of_token(seen, index, token).argmax == token and of_token(seen, index, token).gap == 0
