"""The drafters `dflash` and `eagle3` in the decode loop: the target's text, and drafts that the references accept."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.building import assert_held, decode_with, target_oracle
from support.published import DATA, edit, published
from support.thorough import thorough_but

import orthrus
from orthrus import BuildError, InputError, Sampling, Stop
from orthrus_verifiers.consensus import Consensus
from orthrus_verifiers.coupled import Coupled

FIXTURES = {
    "dflash": ("tiny-dflash-qwen3", "drafters"),
    "eagle3": ("tiny-eagle3-llama", "heads"),
}
CHECKPOINTS = [
    ("dflash", "drafter-full"),
    ("dflash", "drafter-sliding"),
    ("dflash", "drafter-sliding-noncausal"),
    ("dflash", "drafter-options"),
    ("dflash", "drafter-full-speculators"),
    ("eagle3", "head-reduced"),
    ("eagle3", "head-full"),
    ("eagle3", "head-narrow"),
]


@cache
def decoder_of(kind: str, checkpoint: str) -> orthrus.Decoder:
    """Return a decoder of a recorded target and drafter, composed as a user does."""
    folder = FIXTURES[kind][0]
    with TemporaryDirectory() as directory:
        source = published(folder).checkpoint(checkpoint, Path(directory))
        return orthrus.load(config(kind, source))


def config(kind: str, source: Path, **options: Any) -> dict[str, Any]:
    return {
        "target": {"name": "transformers", "source": str(DATA / FIXTURES[kind][0] / "target"), "dtype": "float32"},
        "cache": {"name": "dynamic"},
        "attention": {"name": "eager"},
        "drafter": {"name": kind, "source": str(source), **options},
        "stop": {"max_new_tokens": 48},
    }


class Watching(Consensus):
    """A verifier that keeps each row's drafts by the position of the anchor."""

    def __init__(self) -> None:
        self.drafts: dict[tuple[int, int], list[int]] = {}

    def verify(self, context: Any, draft: Any, *rest: Any) -> Any:
        for index, row in enumerate(context.rows):
            if row.output and row.live:
                length = int(draft.lengths[index])
                self.drafts[row.request, row.length - 1] = draft.tokens[index, :length].tolist()
        return super().verify(context, draft, *rest)


EVERY_RUN = [("dflash", "drafter-full"), ("eagle3", "head-reduced")]


@pytest.mark.parametrize(("kind", "checkpoint"), thorough_but(EVERY_RUN, CHECKPOINTS))
def test_drafts_and_accepted_counts_are_the_references(kind: str, checkpoint: str) -> None:
    folder, section = FIXTURES[kind]
    recorded = published(folder).expected[section]
    recorded = recorded[recorded[checkpoint].get("same_as", checkpoint)]["runs"]
    prompts = [prompt["prompt"] for prompt in published(folder).expected["prompts"]]
    decoder, watching = decoder_of(kind, checkpoint), Watching()
    results = replace(decoder, verifier=watching).generate(prompts, batch=3)  # ragged, and a row is refilled
    compared = 0
    for number, (result, run) in enumerate(zip(results, recorded, strict=True)):
        text = published(folder).text(number)[len(prompts[number]) :]
        assert list(result.token_ids) == text[: len(result.token_ids)]
        plain = run.get("plain", {})
        for cycle in plain.get("cycles", ()):
            own = watching.drafts.get((number, cycle["anchor_position"]))
            if own is not None:
                assert own == cycle["draft_ids"][: len(own)]
                compared += len(own)
        advances = [count + 1 for count in result.measures.accepted_per_cycle]
        expected = plain.get("advance_per_cycle") or [count + 1 for count in plain.get("accepted_per_cycle", ())]
        assert advances[: len(expected) - 1] == expected[: len(advances)][:-1]
    assert compared > 20


@pytest.mark.parametrize(("kind", "checkpoint"), [("dflash", "drafter-sliding"), ("eagle3", "head-reduced")])
@settings(max_examples=4)
@given(data=st.data())
def test_the_text_is_the_targets(kind: str, checkpoint: str, data: st.DataObject) -> None:
    decoder = decoder_of(kind, checkpoint)
    tokens = st.lists(st.integers(0, 90), min_size=1, max_size=12)
    prompts, batch = data.draw(st.lists(tokens, min_size=1, max_size=5)), data.draw(st.integers(1, 4))
    stop = Stop(data.draw(st.integers(1, 12)), token_ids=frozenset({7, 31}))
    results = decode_with(decoder.target, decoder.drafter, prompts, stop, batch=batch)
    assert_held(results, target_oracle(decoder.target), prompts, stop)


PAIR = [("dflash", "drafter-full"), ("eagle3", "head-reduced")]


@pytest.mark.parametrize(("kind", "checkpoint"), thorough_but(PAIR[1:], PAIR))
@settings(max_examples=3)
@given(data=st.data())
def test_requests_that_come_and_go_get_the_targets_text(kind: str, checkpoint: str, data: st.DataObject) -> None:
    decoder = decoder_of(kind, checkpoint)
    tokens = st.lists(st.integers(0, 90), min_size=1, max_size=12)
    waiting = data.draw(st.lists(tokens, min_size=2, max_size=6))
    asked, answers = dict(enumerate(waiting)), {}
    session = decoder.session(4, interleaves=True)
    session.add(waiting.pop(0), id="0", stop={"max_new_tokens": 9})
    for number, event in enumerate(session):
        if waiting and number % 3 == 0:
            session.add(waiting.pop(0), id=str(len(asked) - len(waiting) - 1), stop={"max_new_tokens": 9})
        if event.result is not None:
            answers[int(event.id)] = event.result
    oracle = target_oracle(decoder.target)
    for number, result in answers.items():
        assert_held([result], oracle, [asked[number]], Stop(9))


@pytest.mark.parametrize("kind", ["dflash", "eagle3"])
def test_a_store_grows_for_the_rows_that_there_are(kind: str) -> None:
    decoder = decoder_of(kind, {"dflash": "drafter-full", "eagle3": "head-full"}[kind])
    store = decoder.drafter.rows.store  # type: ignore[attr-defined]
    decode_with(decoder.target, decoder.drafter, [[1]] * 16, Stop(2))
    assert (store.rows, store.slots) == (16, 256)
    store.hold(1, 512)
    assert (store.rows, store.slots) == (1, 512)


@pytest.mark.parametrize(("kind", "checkpoint"), thorough_but(PAIR[:1], PAIR))
@settings(max_examples=3)
@given(seed=st.integers(0, 99), batch=st.integers(1, 3))
def test_drawn_text_is_that_of_plain_sampling(kind: str, checkpoint: str, seed: int, batch: int) -> None:
    from orthrus_drafters.none import NoDrafter

    decoder = decoder_of(kind, checkpoint)
    prompts = [[1, 2, 3], [40], [5, 6]]
    arguments: dict[str, Any] = {"seed": seed, "verifier": Coupled(), "sampling": Sampling(temperature=0.9, top_k=9)}
    drafted = decode_with(decoder.target, decoder.drafter, prompts, Stop(8), batch=batch, **arguments)
    plain = decode_with(decoder.target, NoDrafter(), prompts, Stop(8), **arguments)
    assert [result.token_ids for result in drafted] == [result.token_ids for result in plain]


@pytest.mark.parametrize("kind", ["dflash", "eagle3"])
def test_a_drafter_for_another_target_is_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    folder = FIXTURES[kind][0]
    name = {"dflash": "drafter-full", "eagle3": "head-full"}[kind]
    source = edit(published(folder).checkpoint(name, tmp_path), vocab_size=500)
    with pytest.raises((BuildError, InputError), match="vocabulary"):
        orthrus.load(config(kind, source))
    with pytest.raises(InputError, match=r"drafter\.source: there is no file or directory"):
        orthrus.load(config(kind, tmp_path / "nowhere"))
    with pytest.raises(BuildError, match="reads hidden states, which target 'Plain"):
        orthrus.load(config(kind, source), target=Plain())


class Plain:
    """A target that tells nothing of its states."""

    capabilities = frozenset({"logits"})
    vocabulary_size, max_length, stop_token_ids = 96, None, frozenset[int]()
    device, tokenizer = torch.device("cpu"), None

    def start(self, context: Any) -> None: ...
    def prefill(self, context: Any, rows: Any) -> Any: ...
    def score(self, context: Any, draft: Any) -> Any: ...
    def keep(self, step: Any) -> None: ...
    def logits(self, token_ids: Any, last: int) -> Any: ...
