"""Drafts in a stream: what was accepted, the target's own tokens and what was rejected, for who asks alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.serving import Served, chunks_of, decoder_of, letters_target, serving, texts_of

from orthrus.testing.profiles import fewer
from orthrus_cascade.drafter import Cascade
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_drafters.suffix import Suffix


def cycles_of(chunks: list[dict[str, Any]], index: int = 0) -> list[dict[str, Any]]:
    """Return the cycles of a choice."""
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    return [cycle for choice in choices for cycle in choice.get("drafts", ())]


BODIES = st.fixed_dictionaries(
    {"max_tokens": st.integers(1, 30), "n": st.sampled_from([1, 2])},
    optional={
        "stop": st.lists(st.text("abcdefgh ", min_size=1, max_size=2), max_size=2),
        "seed": st.integers(0, 9),
        "temperature": st.sampled_from([0.0, 1.0]),
        "logprobs": st.integers(1, 2),
    },
)


@fewer(4)
@given(body=BODIES)
def test_cycles_are_the_answer(served: Served, body: dict[str, Any]) -> None:
    asked = {"prompt": "abcabdabcabd", **body, "stream": True, "stream_options": {"include_usage": True}}
    asked |= {} if "seed" in body else {"temperature": 0.0}
    plain = chunks_of(served.post("/v1/completions", **asked))
    chunks = chunks_of(served.post("/v1/completions", **asked, return_drafts=True))
    texts = texts_of(chunks)
    assert texts == texts_of(plain) and cycles_of(plain) == []
    accepted = rejected = 0
    for index in range(body["n"]):
        cycles = cycles_of(chunks, index)
        assert "".join("".join(cycle["accepted"]) + (cycle["own"] or "") for cycle in cycles) == texts[index]
        assert cycles[0]["drafter"] is None and cycles[0]["own"] is not None
        assert all(
            (cycle["drafter"] == "prompt_lookup") == bool(cycle["accepted"] + cycle["rejected"]) for cycle in cycles
        )
        accepted += sum(len(cycle["accepted"]) for cycle in cycles)
        rejected += sum(len(cycle["rejected"]) for cycle in cycles)
    details = chunks[-1]["usage"]["completion_tokens_details"]
    assert details == {"accepted_prediction_tokens": accepted, "rejected_prediction_tokens": rejected}


def test_drafts_of_a_chat_and_of_a_cascade() -> None:
    drafter = Cascade([PromptLookup(2, 1, 4), Suffix()], "passes")
    with serving(decoder_of(letters_target(), drafter)) as served:
        asked = {"messages": [{"role": "user", "content": "abcabdabc"}], "max_tokens": 40, "stream": True}
        chunks = chunks_of(served.post("/v1/chat/completions", **asked, return_drafts=True))
    cycles = cycles_of(chunks)
    assert {cycle["drafter"] for cycle in cycles} <= {"prompt_lookup", "suffix", None} != {None}
    assert "".join("".join(cycle["accepted"]) + (cycle["own"] or "") for cycle in cycles) == texts_of(chunks)[0]


@pytest.mark.parametrize("value", [True, False])
def test_a_whole_answer_has_no_drafts(served: Served, value: bool) -> None:
    if not value:
        assert "drafts" not in served.completion(return_drafts=False)["choices"][0]
        return
    error = served.error("/v1/completions", 400, prompt="abc", return_drafts=True)
    assert (error["param"], error["message"]) == ("return_drafts", "'return_drafts' needs 'stream': true")
