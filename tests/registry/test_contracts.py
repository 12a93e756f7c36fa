"""What parts declare of themselves: wrong in one sentence that names the part and the rule, wherever it is built."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
import torch
from support.building import table_target

import orthrus
from orthrus import AttentionCapabilities, BuildError, hookimpl
from orthrus.registry.contracts import declared_wrongly
from orthrus.testing import ConformanceError, named_check
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_drafters.none import NoDrafter
from orthrus_verifiers.consensus import Consensus

TABLE = "configs/recipes/table-prompt-lookup.yaml"
A_SET = "wanted a set of names: frozenset"
CAN = AttentionCapabilities

WRONG: dict[str, list[tuple[str, Any, str]]] = {
    "drafter": [
        ("needs", "views", f"'views', {A_SET}({{'views'}})"),
        ("needs", None, f"None, {A_SET}({{'views'}})"),
        ("needs", ["views"], f"['views'], {A_SET}({{'views'}})"),
        ("needs", frozenset({1}), f"frozenset({{1}}), {A_SET}({{'views'}})"),
        ("needs", {"veiws"}, "unknown name 'veiws' (did you mean 'views'?); known: embeddings, hidden_states, logits"),
        ("learns", None, "None, wanted True or False"),
        ("name", 3, "3, wanted a text"),
    ],
    "verifier": [
        ("greedy", "yes", "'yes', wanted True or False"),
        ("coupled", 1, "1, wanted True or False"),
    ],
    "target": [
        ("capabilities", "logits", f"'logits', {A_SET}({{'logits'}})"),
        ("capabilities", {"logit"}, "unknown name 'logit' (did you mean 'logits'?)"),
        ("vocabulary_size", "4", "'4', wanted an integer of 1 or more"),
        ("max_length", 0, "0, wanted an integer of 1 or more or None"),
        ("stop_token_ids", [2], "[2], wanted a set of token ids: frozenset({2})"),
        ("stop_token_ids", None, "None, wanted a set of token ids: frozenset({2})"),
    ],
    "attention": [
        ("capabilities", "causal", "'causal', wanted an AttentionCapabilities"),
        ("capabilities", CAN(kinds="block"), f"'block', {A_SET}({{'block'}})"),  # type: ignore[arg-type]
        ("capabilities", CAN(kinds=frozenset({"casual"})), "unknown name 'casual' (did you mean 'causal'?)"),
        ("capabilities", CAN(dtypes=frozenset({torch.float32})), f"frozenset({{torch.float32}}), {A_SET}({{'bfloat16'"),  # type: ignore[arg-type]
        ("capabilities", CAN(devices="cuda"), f"'cuda', {A_SET}({{'cuda'}})"),  # type: ignore[arg-type]
        ("capabilities", CAN(head_sizes=64), "64, wanted a set of numbers: frozenset({64, 128})"),  # type: ignore[arg-type]
        ("capabilities", CAN(graphs=None), "None, wanted True or False"),  # type: ignore[arg-type]
    ],
}
CASES = [(kind, *case) for kind, cases in WRONG.items() for case in cases]


def honest(kind: str) -> Any:
    """Return a part of its own class, whose attributes a test may set."""
    makers = {
        "drafter": NoDrafter,
        "verifier": Consensus,
        "target": lambda: table_target(1),
        "attention": SdpaAttention,
    }
    part: Any = makers[kind]()
    part.__class__ = type("Odd", (type(part),), {})
    return part


class Supplies:
    """Be a plugin that registers one part as `odd`."""

    def __init__(self, kind: str, part: object) -> None:
        self._kind, self._part = kind, part

    @hookimpl
    def register_drafters(self, register: Any) -> None:
        self._supply("drafter", register)

    @hookimpl
    def register_verifiers(self, register: Any) -> None:
        self._supply("verifier", register)

    @hookimpl
    def register_targets(self, register: Any) -> None:
        self._supply("target", register)

    @hookimpl
    def register_attention_backends(self, register: Any) -> None:
        self._supply("attention", register)

    def _supply(self, kind: str, register: Any) -> None:
        if kind == self._kind:
            register("odd", lambda options, parts: self._part)


@pytest.mark.parametrize(("kind", "attribute", "value", "sentence"), CASES)
def test_a_wrong_declaration_is_refused_with_the_parts_name(
    kind: str, attribute: str, value: object, sentence: str
) -> None:
    part = honest(kind)
    setattr(type(part), attribute, value)
    part.__dict__.pop(attribute, None)
    with pytest.raises(BuildError) as caught:
        orthrus.load(TABLE, plugins=[Supplies(kind, part)], **{kind: {"name": "odd"}})
    [line] = str(caught.value).splitlines()
    assert line.startswith(f"{kind} 'odd' of plugin 'Supplies' declares `{attribute}")
    assert sentence in line


@pytest.mark.parametrize(("kind", "attribute", "value", "sentence"), CASES[::3])
def test_the_kit_says_the_same(kind: str, attribute: str, value: object, sentence: str) -> None:
    part = honest(kind)
    setattr(type(part), attribute, value)
    part.__dict__.pop(attribute, None)
    with pytest.raises(ConformanceError) as caught:
        named_check(kind, "declares_itself")(lambda *given: part)
    assert f"  value: {sentence}" in str(caught.value)
    assert f"  place: the attribute `{attribute}" in str(caught.value)


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_declared_rightly_passes(kind: str) -> None:
    assert list(declared_wrongly(kind, honest(kind))) == []


def test_a_target_and_a_drafter_may_agree_on_names_of_their_own() -> None:
    target, drafter = honest("target"), honest("drafter")
    type(target).capabilities = frozenset({"medusa_heads"})
    type(target).vocabulary_size = numpy.int64(4)
    type(drafter).needs = frozenset({"medusa_heads"})
    for part, kind in ((target, "target"), (drafter, "drafter")):
        part.__dict__.pop("capabilities", None)
        part.__dict__.pop("vocabulary_size", None)
        assert list(declared_wrongly(kind, part)) == []
        [(_, sentence)] = declared_wrongly(kind, part, closed=True)  # the kit's
        assert sentence.startswith("unknown name 'medusa_heads'")


def test_an_object_is_held_to_the_same() -> None:
    drafter = honest("drafter")
    drafter.needs = "views"
    with pytest.raises(BuildError, match="the object given as drafter declares `needs` wrongly: 'views', wanted a set"):
        orthrus.load(TABLE, drafter=drafter)


def test_a_member_that_is_called_must_be_a_method() -> None:
    class Counted(DynamicCache):
        bytes_in_use = 3  # type: ignore[assignment]

    class CountingPlugin:
        @hookimpl
        def register_caches(self, register: Any) -> None:
            register("counted", lambda options, parts: Counted())

    with pytest.raises(BuildError, match="is no KVCache: its `bytes_in_use` is no method"):
        orthrus.load(TABLE, plugins=[CountingPlugin()], cache="counted")
