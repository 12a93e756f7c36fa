"""Which replica a conversation goes to: the same one every time, unless that is much busier than another."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orthrus import Prompt
from orthrus_ray.serving.prefix import by_preference, conversation_key, ranked

NAMES = st.text("abcdef0123456789", min_size=4, max_size=8)
LOADS = st.dictionaries(NAMES, st.integers(0, 40), min_size=1, max_size=8)
KEYS = st.text(max_size=8)
SLACKS = st.integers(0, 20)
SYSTEM = {"role": "system", "content": "You are brief."}


@given(KEYS, LOADS, SLACKS)
def test_every_replica_is_tried_once_and_a_much_busier_one_late(key: str, loads: dict[str, int], slack: int) -> None:
    order = by_preference(key, loads, slack)
    assert sorted(order) == sorted(loads)
    near = {name for name, load in loads.items() if load <= min(loads.values()) + slack}
    assert set(order[: len(near)]) == near
    assert [name for name in ranked(key, loads) if name in near] == order[: len(near)]
    busy = [loads[name] for name in order[len(near) :]]
    assert busy == sorted(busy)


@given(KEYS, LOADS, st.data())
def test_a_replica_that_goes_moves_only_its_own_conversations(
    key: str, loads: dict[str, int], data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(sorted(loads)))
    assert [name for name in ranked(key, loads) if name != gone] == ranked(key, [n for n in loads if n != gone])


def test_conversations_are_spread_over_replicas() -> None:
    replicas = [f"replica-{number}" for number in range(4)]
    firsts = [ranked(conversation_key(f"prompt {number}"), replicas)[0] for number in range(400)]
    assert all(70 < firsts.count(name) < 130 for name in replicas)


def turns(first: str, system: Mapping[str, str] | None = SYSTEM) -> list[Prompt]:
    """Return the prompts of three turns of a conversation."""
    dialogue: list[Mapping[str, str]] = [*([system] if system else []), {"role": "user", "content": first}]
    prompts: list[Prompt] = [tuple(dialogue)]
    for answer in ("yes", "no"):
        dialogue += [{"role": "assistant", "content": answer}, {"role": "user", "content": f"{answer}?"}]
        prompts.append(tuple(dialogue))
    return prompts


@pytest.mark.parametrize(
    "prompts",
    [
        turns("Is it?"),
        turns("Is it?", None),
        ["a long beginning " * 20, "a long beginning " * 20 + "and an end"],
        [list(range(50)), (*range(50), 7, 8)],
    ],
)
def test_turns_of_a_conversation_have_one_key(prompts: list[Prompt]) -> None:
    assert len({conversation_key(prompt) for prompt in prompts}) == 1


def test_conversations_have_keys_of_their_own() -> None:
    others: list[Prompt] = [
        turns("Is it?")[0],
        turns("Was it?")[0],
        turns("Is it?", None)[0],
        "Is it?",
        "Was it?",
        [1],
        [2],
    ]
    assert len({conversation_key(prompt) for prompt in others}) == len(others)
    assert not any("it" in conversation_key(prompt) for prompt in others)  # no prompt gets into logs
