"""A new engine is a file and a line of the table: by name and by `auto`, its text is the oracle's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, get_args, get_type_hints

import pytest
from support.building import assert_lossless, decode_with, family_oracle, transformers_target
from support.drafters import ScriptedDrafter
from support.families import VOCABULARY, tiny_model
from torch import Tensor

from orthrus import BuildError, Stop
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_transformers.engines import ENGINES, EngineEntry, choice
from orthrus_transformers.engines.eager import EagerEngine
from orthrus_transformers.engines.engine import Engine, EngineSetup, Obstacle
from orthrus_transformers.engines.forward_pass import ForwardPass
from orthrus_transformers.options import TransformersOptions
from orthrus_transformers.target import TransformersTarget

PROMPTS, LIMIT = [[5, 6, 7], [8]], Stop(12)


class CountingEngine(EagerEngine):
    """The engine that calls the model's modules, and counts its passes; for models of few layers."""

    passes: ClassVar[list[int]] = []

    @staticmethod
    def obstacle(setup: EngineSetup) -> Obstacle | None:
        """Return that a model has too many layers, where it has."""
        if setup.model.config.num_hidden_layers > 4:
            return Obstacle("counts up to 4 layers", "set engine=eager")
        return None

    def run(self, forward_pass: ForwardPass) -> Tensor:
        """Run the pass and count it."""
        self.passes.append(forward_pass.width)
        return super().run(forward_pass)


class Busy(CountingEngine):
    @staticmethod
    def obstacle(setup: EngineSetup) -> Obstacle | None:
        return Obstacle("is busy", "set engine=eager", notice="could count, were it not busy")


def added(engine: type[Engine]) -> Mapping[str, EngineEntry]:
    return {"counting": EngineEntry(f"{__name__}:{engine.__name__}", "counts its passes"), **ENGINES}


@pytest.mark.parametrize("name", ["counting", "auto"])
def test_an_engine_that_is_added_runs_the_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "ENGINES", added(CountingEngine))
    target = transformers_target(engine=name)
    answers = [family_oracle("llama")(prompt, LIMIT) for prompt in PROMPTS]
    drafter = ScriptedDrafter([answer.token_ids for answer in answers], VOCABULARY, 0.7, [0, 3])
    CountingEngine.passes.clear()
    assert_lossless(decode_with(target, drafter, PROMPTS, LIMIT, batch=2), answers)
    assert {1, 4} <= set(CountingEngine.passes)


def test_auto_goes_on_where_an_engine_has_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "ENGINES", added(Busy))
    heard: list[str] = []
    target = TransformersTarget(tiny_model("llama"), None, DynamicCache(), SdpaAttention(), notify=heard.append)
    assert not isinstance(target.engine, Busy)
    assert heard == ["target.engine: 'auto' could count, were it not busy"]
    with pytest.raises(BuildError, match=re.escape("target.engine: 'counting' is busy; set engine=eager")):
        transformers_target(engine="counting")


def test_without_an_engine_that_any_model_can_take_auto_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "ENGINES", {"counting": added(Busy)["counting"]})
    with pytest.raises(BuildError, match="no engine runs this model"):
        transformers_target()


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(BuildError, match="there is no engine 'eagre'; choose from auto, graphed, native, fused"):
        transformers_target(engine="eagre")


def test_the_options_choices_are_those_of_the_table() -> None:
    assert get_args(get_type_hints(TransformersOptions)["engine"]) == ("auto", *ENGINES)


def test_packed_is_refused_where_nothing_is_to_be_packed() -> None:
    with pytest.raises(BuildError, match="'packed' finds no linear layer that oneDNN multiplies by; set engine=eager"):
        transformers_target(engine="packed")  # in float64, which oneDNN has nothing for


def test_a_class_of_an_engine_may_be_given_itself() -> None:
    target = transformers_target(engine=CountingEngine)
    assert isinstance(target.engine, CountingEngine)
    with pytest.raises(BuildError, match=re.escape("target.engine: 'Busy' is busy; set engine=eager")):
        transformers_target(engine=Busy)
