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
        ("verifier", None, BuildError, "Parts.make: unknown kind of part 'verifier'"),
        ("drafter", None, BuildError, "drafter: the options of a further drafter must be given, with a name"),
        ("drafter", {"name": "prompt_lokup"}, ConfigError, "did you mean 'prompt_lookup'"),
        ("drafter", {"name": "prompt_lookup", "lenght": 3}, ConfigError, "lenght"),
        ("drafter", {"name": "diffusion"}, BuildError, "drafter 'diffusion' needs views"),
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


def test_a_drafter_has_further_drafters_for_its_target() -> None:
    _, drafter = decoded(Plugin())
    further = drafter.parts.make("drafter", {"name": "second_model"})
    assert type(further) is SecondModel and further is not drafter
    assert further.parts.target is drafter.parts.target and further.own is not drafter.own
    deeper = further.parts.make("drafter", {"name": "prompt_lookup", "length": 3})
    assert deeper.name == "prompt_lookup"


def test_what_is_no_drafter_makes_none() -> None:
    made: list[Parts] = []

    class Asking:
        @hookimpl
        def register_targets(self, register: Register) -> None:
            register("asking", lambda options, parts: made.append(parts) or parts.make("target", {"name": "table"}))

    orthrus.load({**MODEL, "target": {"name": "asking"}, "drafter": {"name": "none"}}, plugins=[Asking()])
    with pytest.raises(BuildError, match="further drafters are made by drafters"):
        made[0].make("drafter", {"name": "none"})


def test_without_a_config_nothing_is_made() -> None:
    with pytest.raises(BuildError, match="no cache can be made here"):
        Parts().make("cache")
