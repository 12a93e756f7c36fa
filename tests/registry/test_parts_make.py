"""`Parts.make`: a part builds further targets, caches and attentions through the catalog, for itself alone."""

from __future__ import annotations

from typing import Any

import pytest

import orthrus
from orthrus import BuildError, Chance, ConfigError, Context, Draft, Parts, Result, hookimpl
from orthrus.hookspecs import Register
from orthrus_drafters.none import NoDrafter

MODEL = {
    "target": {"name": "table", "seed": 3},
    "cache": {"name": "static", "slots": 16},
    "verifier": {"name": "coupled"},
}
PROMPTS = ["abc", "b"]


class SecondModel(NoDrafter):
    """Draft what a target of its own says: made from options, with a cache of its own, and asked without it."""

    name = "second_model"

    def __init__(self, parts: Parts, options: dict[str, Any] | None) -> None:
        self.own, self.parts = parts.make("target", options), parts

    def propose(self, context: Context, chance: Chance) -> Draft:
        import torch

        texts = [[*row.prompt, *row.output] for row in context.rows]
        tokens = [[int(self.own.logits(text, 1).argmax())] for text in texts]
        return Draft(torch.tensor(tokens), context.room.clamp(max=1))


class Plugin:
    def __init__(self, options: dict[str, Any] | None = None) -> None:
        self.options = options
        self.made: list[SecondModel] = []

    @hookimpl
    def register_drafters(self, register: Register) -> None:
        def make(options: object, parts: Parts) -> SecondModel:
            self.made.append(SecondModel(parts, self.options))
            return self.made[-1]

        register("second_model", make)


def decoded(plugin: Plugin, **changes: Any) -> tuple[list[Result], SecondModel]:
    decoder = orthrus.load({**MODEL, "drafter": {"name": "second_model"}, **changes}, plugins=[plugin])
    return decoder.generate(PROMPTS), plugin.made[0]


@pytest.mark.parametrize(
    ("options", "right"),
    [
        (None, True),  # as the decoder's own, whose drafts are all right
        ({"name": "table", "seed": 3}, True),
        ({"name": "table", "seed": 4}, False),
        ({"name": "table", "seed": 3, "cache": {"name": "dynamic"}}, True),
    ],
)
def test_a_drafter_has_a_target_of_its_own(options: dict[str, Any] | None, right: bool) -> None:
    wanted = orthrus.load({**MODEL, "drafter": {"name": "none"}}).generate(PROMPTS)
    results, drafter = decoded(Plugin(options))
    assert [result.token_ids for result in results] == [result.token_ids for result in wanted]
    accepted = [count for result in results for count in result.measures.accepted_per_cycle[:-1]]
    assert all(accepted) is right
    assert drafter.own is not drafter.parts.target


def test_caches_are_made_anew_each_time() -> None:
    _, drafter = decoded(Plugin())
    first, second = drafter.parts.make("cache"), drafter.parts.make("cache")
    assert first is not second and first is not drafter.parts.cache
    assert type(first) is type(drafter.parts.cache)
    assert type(drafter.parts.make("cache", {"name": "dynamic"})).__name__ == "DynamicCache"
    assert type(drafter.parts.make("attention", {"name": "sdpa"})).__name__ == "SdpaAttention"


@pytest.mark.parametrize(
    ("kind", "options", "error", "sentence"),
    [
        ("cash", None, BuildError, "Parts.make: unknown kind of part 'cash'"),
        ("drafter", None, BuildError, "drafter"),
        ("cache", {"name": "dinamic"}, ConfigError, "did you mean 'dynamic'"),
        ("target", {"name": "table", "sead": 3}, ConfigError, "sead"),
        ("attention", None, BuildError, "attention: the config names none, so its options must be given, with a name"),
    ],
)
def test_what_cannot_be_made_is_one_sentence(kind: str, options: Any, error: type[Exception], sentence: str) -> None:
    _, drafter = decoded(Plugin())
    with pytest.raises(error) as raised:
        drafter.parts.make(kind, options)
    assert sentence in str(raised.value)


def test_without_a_config_nothing_is_made() -> None:
    with pytest.raises(BuildError, match="no cache can be made here"):
        Parts().make("cache")
