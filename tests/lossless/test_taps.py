"""Taps: a drafter that reads hidden states gets those of every committed token, once, as a plain forward gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.bugs_of_taps import too_late
from support.building import assert_held, decode_with, target_oracle
from support.families import VOCABULARY, tiny_model

import orthrus.decode as decode_module
from orthrus import BuildError, Chance, Context, Draft, Stop, TappedStates
from orthrus.optional import ReadsLikeliest, ReadsTaps
from orthrus.reference.table import random_table
from orthrus_attention.eager import EagerAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.paged import PagedCache
from orthrus_caches.static import StaticCache
from orthrus_cascade.drafter import Cascade
from orthrus_drafters.none import NoDrafter
from orthrus_transformers.target import TransformersTarget

POINTS = (0, 2, 4, "final")  # of four layers


class TapRecorder:
    """A drafter that keeps the states it is handed, row by row, and drafts what a script says."""

    needs = frozenset({"hidden_states"})
    learns, moves_rows, name = False, True, "recorder"

    def __init__(self, taps: Sequence[Any] = POINTS, drafts: int = 3) -> None:
        self.taps = taps
        self._drafts = drafts
        self._rows: dict[int, list[torch.Tensor]] = {}
        self.texts: list[tuple[list[int], torch.Tensor]] = []  # committed tokens but the newest, and their states

    def read_taps(self, context: Context, tapped: TappedStates) -> None:
        rows = range(len(tapped.states)) if tapped.rows is None else tapped.rows.tolist()
        for index, row in enumerate(rows):
            start, count = int(tapped.starts[index]), int(tapped.counts[index])
            if not count:
                continue
            if start == 0:
                self._rows[row] = []
            assert len(self._rows[row]) == start, "every token comes once, in order"
            self._rows[row] += tapped.states[index, :count].clone()
            following = context.tokens[row, start + 1 : start + 1 + count]
            assert len(following) == count and int(context.lengths[row]) >= start + 1 + count

    def start(self, context: Context, rows: Sequence[int]) -> None:
        self._check(context)

    def move_rows(self, sources: Sequence[int]) -> None:
        self._rows = {row: self._rows[source] for row, source in enumerate(sources) if source in self._rows}

    def propose(self, context: Context, chance: Chance) -> Draft:
        self._check(context)
        width = min(self._drafts, context.max_room)
        shift = torch.arange(1, width + 1, device=context.device)
        tokens = (context.anchors[:, None] * 3 + shift + context.cycle) % context.vocabulary_size
        return Draft(tokens, context.room.clamp(max=width))

    def observe(self, step: Any) -> None:
        pass

    def _check(self, context: Context) -> None:
        for index, row in enumerate(context.rows):
            if row.live and row.request >= 0 and row.output:
                length = int(context.lengths[index]) - 1
                states = self._rows[index]
                assert len(states) == length, "of all committed tokens but the newest"
                self.texts.append((context.tokens[index, :length].tolist(), torch.stack(states)))


def expected_states(model: Any, text: list[int]) -> torch.Tensor:
    """Return what a plain forward gives at POINTS: [n, T h]."""
    after: list[torch.Tensor] = []
    handle = model.model.layers[-1].register_forward_hook(
        lambda module, args, output: after.append(output[0] if isinstance(output, tuple) else output)
    )
    states = model(torch.tensor([text], device=model.device), output_hidden_states=True).hidden_states
    handle.remove()
    return torch.cat([states[0], states[2], after[0], states[-1]], dim=-1)[0]


def check_texts(target: TransformersTarget, recorder: TapRecorder) -> None:
    longest = {tuple(text): states for text, states in recorder.texts}
    with_prefixes = [text for text in longest if not any(o[: len(text)] == text and o != text for o in longest)]
    assert with_prefixes
    with target.own_model() as model, torch.no_grad():
        for text in with_prefixes:
            torch.testing.assert_close(longest[text], expected_states(model, list(text)), rtol=1e-4, atol=1e-4)


def target_of(engine: str, cache: Any = None, **options: Any) -> tuple[TransformersTarget, Any]:
    model = tiny_model("llama", dtype=torch.float32, num_hidden_layers=4)
    cache = cache or StaticCache(slots=32)
    return TransformersTarget(model, None, cache, EagerAttention(), engine=engine, **options), model


prompts = st.lists(st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=20), min_size=1, max_size=5)


@pytest.mark.parametrize("engine", ["eager", "fused", pytest.param("compiled", marks=pytest.mark.nightly)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's imports
@settings(max_examples=6)
@given(data=st.data())
def test_every_committed_token_comes_once_with_the_states_of_a_plain_forward(engine: str, data: st.DataObject) -> None:
    target, _ = target_of(engine, prefill_chunk=data.draw(st.sampled_from([3, 8, 512])))
    recorder = TapRecorder(drafts=data.draw(st.integers(0, 4)))
    texts, batch = data.draw(prompts), data.draw(st.integers(1, 4))
    results = decode_with(target, recorder, texts, Stop(7), batch=batch)
    assert_held(results, target_oracle(target), texts, Stop(7))
    check_texts(target, recorder)


@settings(max_examples=8)
@given(data=st.data())
def test_sessions_deliver_them_between_the_chunks_of_others(data: st.DataObject) -> None:
    from orthrus import Decoder
    from orthrus_verifiers.consensus import Consensus

    target, _ = target_of("eager", data.draw(st.sampled_from([DynamicCache, PagedCache]))(), prefill_chunk=4)
    recorder = TapRecorder()
    decoder = Decoder.of(target, recorder, Consensus(), Stop(6))
    session = decoder.session(4, interleaves=True)
    texts = data.draw(prompts)
    waiting = list(texts)
    session.add(waiting.pop())
    for number, _ in enumerate(session):
        if waiting and number % 2:
            session.add(waiting.pop())
        if number == 5 and session.pending > 1 and data.draw(st.booleans()):
            session.cancel(next(id for id in map(str, range(9)) if id in session))
    while waiting:
        session.add(waiting.pop())
    list(session)
    check_texts(target, recorder)


def test_a_target_that_nobody_taps_has_no_hooks() -> None:
    target, model = target_of("eager")
    decode_with(target, TapRecorder(), [[1, 2]], Stop(3))
    assert any(layer._forward_pre_hooks for layer in model.model.layers)
    decode_with(target, NoDrafter(), [[1, 2]], Stop(3))
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("point", [5, -1, "first"])
def test_a_point_that_a_model_does_not_have_is_refused(point: Any) -> None:
    target, _ = target_of("eager")
    for tapped in (target, random_table(0)):
        with pytest.raises(BuildError, match=f"the tap {point!r} is none of this"):
            decode_with(tapped, TapRecorder([point]), [[1, 2]], Stop(3))


def test_a_target_without_states_is_refused() -> None:
    class Plain:
        def __init__(self) -> None:
            self._table = random_table(0)

        def __getattr__(self, name: str) -> Any:
            if name in ("tap", "embed", "head"):
                raise AttributeError(name)
            return getattr(self._table, name)

    with pytest.raises(BuildError, match="reads hidden states, and the target has none"):
        decode_with(Plain(), TapRecorder([0]), [[1, 2]], Stop(3))


def test_embeddings_and_head_are_the_models() -> None:
    target, model = target_of("fused")

    @settings(max_examples=20)
    @given(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=6))
    def holds(text: list[int]) -> None:
        tokens = torch.tensor([text])
        assert torch.equal(target.embed(tokens), model.model.embed_tokens.weight[tokens])
        with target.own_model() as lent:
            final = lent(tokens, output_hidden_states=True).hidden_states[-1]
        torch.testing.assert_close(target.head(final)[0], target.logits(text, len(text)))

    holds()


class EarlyRecorder(TapRecorder):
    """A recorder that drafts ahead, and looks there whether all states of committed tokens have come."""

    early = 0

    def ahead(self, context: Context, chance: Chance) -> None:
        for row, length in enumerate(context.lengths.tolist()):
            if context.rows[row].live:
                assert len(self._rows[row]) == length - 1, "an early draft reads the states of the cycle before"
                self.early += 1


def test_an_early_draft_finds_the_states_of_what_was_just_committed() -> None:
    recorder = EarlyRecorder(["final"])
    decode_with(random_table(1), recorder, [[1, 2, 3], [0], [2, 2]], Stop(9), batch=2)
    assert recorder.early > 9


def test_states_that_come_after_an_early_draft_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_module, "in_order", too_late)
    with pytest.raises(AssertionError, match="an early draft reads the states of the cycle before"):
        decode_with(random_table(1), EarlyRecorder(["final"]), [[1, 2, 3]], Stop(9))


def test_a_table_tells_what_a_layer_knows() -> None:
    target = random_table(3, order=2)
    recorder = TapRecorder((0, "final"))
    decode_with(target, recorder, [[1, 2, 3], [0]], Stop(8))
    text, states = max(recorder.texts, key=lambda pair: len(pair[0]))
    assert torch.equal(states[:, :2], target.embed(torch.tensor(text)))
    torch.testing.assert_close(target.head(states[:, 2:]), target.logits(text, len(text)))


def test_each_of_several_drafters_gets_the_states_of_its_own_points() -> None:
    target, _ = target_of("eager", prefill_chunk=3)
    first, second = TapRecorder(), TapRecorder(("final", 2), drafts=1)
    prompts = [[1, 2, 3, 4], [5], [6, 7, 8, 9, 6, 7, 8]]
    decode_with(target, Cascade([first, NoDrafter(), second], "passes"), prompts, Stop(9), batch=2)
    check_texts(target, first)
    texts = {tuple(text): states for text, states in first.texts}
    size = target.hidden_size
    assert second.texts
    for text, states in second.texts:
        if tuple(text) in texts:
            whole = texts[tuple(text)]
            assert torch.equal(states, torch.cat([whole[:, 3 * size :], whole[:, size : 2 * size]], dim=-1))


def test_each_of_several_drafters_gets_as_many_likeliest_tokens_as_it_wants() -> None:
    class Wanting(NoDrafter):
        def __init__(self, count: int) -> None:
            self.likeliest = count
            self.seen: list[torch.Tensor] = []

        def observe(self, step: Any) -> None:
            self.seen.append(step.likeliest.tokens)

    target = random_table(1)
    alone, one, three = Wanting(3), Wanting(1), Wanting(3)
    decode_with(target, alone, [[0, 1], [2]], Stop(6))
    decode_with(target, Cascade([one, NoDrafter(), three]), [[0, 1], [2]], Stop(6))
    assert [tokens.tolist() for tokens in three.seen] == [tokens.tolist() for tokens in alone.seen]
    assert [tokens.tolist() for tokens in one.seen] == [tokens[..., :1].tolist() for tokens in alone.seen]
    assert not isinstance(Cascade([NoDrafter(), NoDrafter()]), ReadsLikeliest | ReadsTaps)


@settings(max_examples=3)
@given(data=st.data())
def test_prefixes_that_are_not_passed_over_come_all_the_same(data: st.DataObject) -> None:
    most = data.draw(st.sampled_from([3, 64]))
    target, _ = target_of("eager", PagedCache(4, prefixes=most), prefill_chunk=data.draw(st.sampled_from([3, 512])))
    texts, batch = data.draw(prompts), data.draw(st.integers(1, 3))
    restored = 0
    for turn in range(3):
        recorder = TapRecorder(drafts=data.draw(st.integers(0, 4)))
        results = decode_with(target, recorder, texts, Stop(7), batch=batch)
        assert_held(results, target_oracle(target), texts, Stop(7))
        check_texts(target, recorder)
        restored += sum(result.restored_tokens for result in results)
        texts = [[*text, *result.token_ids][: 24 + turn] for text, result in zip(texts, results, strict=True)]
    assert restored > 0 or most == 3  # what others need may have gone


def test_prefixes_without_the_states_that_are_wanted_are_forgotten() -> None:
    target, _ = target_of("eager", PagedCache(4, prefixes=64))
    text = list(range(1, 18))
    restored = []
    for drafter in (TapRecorder(), TapRecorder(), NoDrafter(), NoDrafter(), TapRecorder(), TapRecorder((1, "final"))):
        [result] = decode_with(target, drafter, [text], Stop(5))
        assert_held([result], target_oracle(target), [text], Stop(5))
        restored.append(result.restored_tokens)
        if isinstance(drafter, TapRecorder) and drafter.taps == POINTS:
            check_texts(target, drafter)
    assert restored == [0, 16, 16, 16, 0, 0]
