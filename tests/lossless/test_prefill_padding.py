"""Prefills that are padded, recorded and replayed give what they gave as they were."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.building import assert_lossless, buffers_of, decode_with, family_oracle, target_oracle
from support.drafters import ScriptedDrafter
from support.families import VOCABULARY
from support.recordings import PlainRecorder, recording_target
from support.thorough import thorough_but
from torch import Tensor

from orthrus import Stop
from orthrus.testing.profiles import fewer
from orthrus_drafters.none import NoDrafter
from orthrus_transformers.engines.cuda_graphs import GraphedEngine
from orthrus_transformers.engines.eager import EagerEngine
from orthrus_transformers.engines.forward_pass import ForwardPass
from orthrus_transformers.engines.graph_limits import GraphLimits
from orthrus_transformers.engines.graph_recorder import Recording, Run, UncapturableError, packed, unpacked
from orthrus_transformers.engines.prefill_padding import NARROWEST, padded, rounded, with_few_shapes
from orthrus_transformers.target import TransformersTarget


def prompt(length: int) -> list[int]:
    return [(7 * i + 3) % VOCABULARY for i in range(length)]


def recorded_prefills(target: TransformersTarget) -> list[tuple[int, int]]:
    """Return rows and columns of the recordings that are told slots."""
    assert isinstance(target.engine, GraphedEngine)
    return [(shape.rows, shape.columns) for shape in target.engine.recordings if shape.prefill]


@given(width=st.integers(1, 5000))
def test_few_widths_and_at_most_half_as_many_columns_again(width: int) -> None:
    padded_width = rounded(width)
    assert padded_width >= width
    assert padded_width <= max(NARROWEST, 1.5 * width)
    assert rounded(padded_width) == padded_width


def test_there_are_two_widths_for_a_doubling() -> None:
    assert sorted({rounded(width) for width in range(1, 513)}) == [32, 48, 64, 96, 128, 192, 256, 384, 512]


@fewer(30)
@given(data=st.data())
def test_answers_are_the_oracles_however_often_a_shape_comes(data: st.DataObject) -> None:
    target = recording_target()
    lengths = data.draw(st.lists(st.integers(1, 70), min_size=2, max_size=8))
    batch = data.draw(st.integers(1, 4))
    prompts, stop = [prompt(length) for length in lengths], Stop(data.draw(st.integers(1, 12)))
    answers = [family_oracle()(prompt_tokens, stop) for prompt_tokens in prompts]
    drafter = ScriptedDrafter([answer.token_ids for answer in answers], VOCABULARY, 0.6, [0, 3])
    for _ in range(4):  # the first ones may make room for more rows, which lets recordings go
        assert_lossless(decode_with(target, drafter, prompts, stop, batch=batch), answers)
    assert recorded_prefills(target)


PADDED = ["gemma2", "gpt2", "gpt_oss", "lfm2", "mistral", "opt", "phi3"]


@pytest.mark.parametrize("family", thorough_but(["lfm2"], PADDED))
def test_whatever_a_layer_looks_at_padding_is_not_seen(family: str) -> None:
    """Windows, sinks, learned positions, and tokens that are convolved with those before them."""
    target, stop = recording_target(slots=64, family=family), Stop(8)
    prompts = [prompt(length) for length in (9, 2, 33, 12, 5)]
    answers = [target_oracle(target)(prompt_tokens, stop) for prompt_tokens in prompts]
    for batch in (1, 2, 2, 5, 5):  # recorded prefills go when the number of rows changes
        assert_lossless(decode_with(target, NoDrafter(), prompts, stop, batch=batch), answers)
    assert recorded_prefills(target)


@fewer(8)
@given(data=st.data())
def test_padding_changes_neither_logits_nor_what_is_kept(data: st.DataObject) -> None:
    target = recording_target()
    engine, cache = target.engine.eager, target.cache
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    rows, width = len(lengths), max(lengths)
    order = data.draw(st.permutations(range(4)))[:rows]
    cache.start(4, target.device)
    slots = (torch.arange(width) + torch.tensor(lengths)[:, None]) % width  # the last token in the last column
    tokens = torch.tensor([[(5 * row + slot) % VOCABULARY for slot in line] for row, line in enumerate(slots.tolist())])
    forward_pass = ForwardPass(
        tokens, torch.zeros(rows, dtype=torch.int64), width, 1, slots=slots, rows=torch.tensor(order)
    )
    wanted = engine.run(forward_pass)
    kept = [
        [keys[row, :, :length].clone() for row, length in zip(order, lengths, strict=True)]
        for keys in buffers_of(cache)[0]
    ]
    more = padded(forward_pass, rows + data.draw(st.integers(0, 3)), width + data.draw(st.integers(0, 9)))
    for buffer in chain(*buffers_of(cache)):
        buffer.fill_(7)  # or what was not written would be there all the same
    torch.testing.assert_close(engine.run(more)[:rows], wanted, rtol=0, atol=1e-5)
    for keys, before in zip(buffers_of(cache)[0], kept, strict=True):
        for row, length, part in zip(order, lengths, before, strict=True):
            torch.testing.assert_close(keys[row, :, :length], part, rtol=0, atol=1e-5)


def test_a_prefill_is_recorded_when_its_shape_comes_again() -> None:
    target = recording_target(slots=64)
    for count, length in enumerate([5, 30, 31, 40]):  # 32 columns, thrice, and 48
        decode_with(target, NoDrafter(), [prompt(length)], Stop(3))
        assert recorded_prefills(target) == ([] if count == 0 else [(1, 32)])
    decode_with(target, NoDrafter(), [prompt(33)], Stop(3))
    assert recorded_prefills(target) == [(1, 32), (1, 48)]


def test_refills_of_as_many_rows_or_fewer_share_a_recording() -> None:
    target = recording_target()
    prompts, stop = [prompt(length) for length in (9, 2, 4, 6, 3, 8)], Stop(4)
    answers = [target_oracle(target)(prompt_tokens, stop) for prompt_tokens in prompts]
    for _ in range(2):
        assert_lossless(decode_with(target, NoDrafter(), prompts, stop, batch=3), answers)
    assert recorded_prefills(target) == [(3, 32)]  # all rows are as many as they are


@pytest.mark.parametrize(("rows", "recorded"), [(1, 1), (2, 2), (3, 4), (5, 8)])
def test_some_of_the_rows_are_padded_to_a_power_of_two(rows: int, recorded: int) -> None:
    forward_pass = ForwardPass(
        torch.zeros(rows, 3, dtype=torch.int64), torch.zeros(rows), 3, 1, torch.zeros(rows, 3), torch.arange(rows)
    )
    more = with_few_shapes(forward_pass, 4096)
    assert more is not None
    assert (len(more.lengths), more.width) == (recorded, 32)


def test_of_a_prompt_in_chunks_only_the_first_is_recorded() -> None:
    target = recording_target(chunk=4)
    wanted = [target_oracle(target)(prompt(9), Stop(3))]
    for _ in range(3):
        assert_lossless(decode_with(target, NoDrafter(), [prompt(9)], Stop(3)), wanted)
    assert recorded_prefills(target) == [(1, 32)]


def test_wide_prefills_run_as_they_are() -> None:
    nothing = torch.zeros(2, 40, dtype=torch.int64)
    forward_pass = ForwardPass(nothing, nothing[:, 0], 40, 1, slots=nothing)
    assert with_few_shapes(forward_pass, 2 * 48 - 1) is None
    assert with_few_shapes(forward_pass, 2 * 48) is not None


@pytest.mark.parametrize(("slots", "fits"), [(47, False), (48, True), (None, True)])
def test_padding_takes_no_more_slots_than_the_cache_may_have(slots: int | None, fits: bool) -> None:
    nothing = torch.zeros(1, 40, dtype=torch.int64)
    forward_pass = ForwardPass(nothing, nothing[:, 0], 40, 1, slots=nothing)
    assert (with_few_shapes(forward_pass, 4096, slots) is not None) is fits


@pytest.mark.filterwarnings("ignore:this model's prefills cannot be captured")
@pytest.mark.parametrize("size", [0, 4 << 30])  # of a recording: the second is not kept
def test_a_prefill_has_one_shape_however_often_it_comes(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16 a row's logits may depend on how many rows and columns the pass has, and so its text would."""
    shapes: list[tuple[int, int]] = []

    def run(self: EagerEngine, forward_pass: ForwardPass) -> Tensor:
        if forward_pass.slots is not None:
            shapes.append((len(forward_pass.lengths), forward_pass.width))
        return own(self, forward_pass)

    own = EagerEngine.run
    target = recording_target()
    monkeypatch.setattr(EagerEngine, "run", run)
    monkeypatch.setattr(PlainRecorder, "size", size)
    for batch in (1, 1, 1, 3, 1):
        decode_with(target, NoDrafter(), [prompt(5)] * batch, Stop(2), batch=batch)
    assert len(shapes) >= 5
    assert {width for _, width in shapes} == {32}


def test_batches_that_take_turns_keep_their_recordings() -> None:
    """Buffers for more rows serve fewer, so that nothing moves; where they have to grow, all recordings go."""
    target = recording_target()
    for _ in range(3):
        for batch in (1, 2):
            decode_with(target, NoDrafter(), [prompt(5)] * batch, Stop(2), batch=batch)
    assert recorded_prefills(target) == [(1, 32), (2, 32)]
    decode_with(target, NoDrafter(), [prompt(5)] * 3, Stop(2), batch=3)
    assert not recorded_prefills(target)


def test_prompts_near_the_end_of_the_context() -> None:
    """66 tokens are padded to 96, of a model with 70 positions: what lies beyond is scratch."""
    target = recording_target(positions=70)
    for length in (66, 69, 66, 69, 66):
        answer = decode_with(target, NoDrafter(), [prompt(length)], Stop(20))
        assert_lossless(answer, [target_oracle(target)(prompt(length), Stop(20))])
    assert recorded_prefills(target) == [(1, 96)]


def test_a_prefill_that_takes_most_of_the_memory_of_graphs_is_not_kept() -> None:
    recorder = PlainRecorder()
    target = recording_target(recorder=recorder)
    decode_with(target, NoDrafter(), [prompt(5)], Stop(3))
    recorder.size = GraphLimits().megabytes << 19
    decode_with(target, NoDrafter(), [prompt(5)], Stop(3))
    assert recorded_prefills(target) == [(1, 32)]
    decode_with(target, NoDrafter(), [prompt(40)], Stop(3))
    recorder.size += 1
    with pytest.warns(UserWarning, match=r"prefills cannot .*one takes 1024 MiB, over half of target.graph_megabytes"):
        decode_with(target, NoDrafter(), [prompt(40)], Stop(3))
    assert target.report()["prefills"] == "as they come"
    assert target.report()["captured"]


@pytest.mark.parametrize("memory", [False, True])
def test_a_prefill_that_cannot_be_recorded_leaves_cycles_alone(memory: bool) -> None:
    class NoPrefills(PlainRecorder):
        def record(self, run: Run, forward_pass: ForwardPass) -> Recording:
            if forward_pass.slots is None:
                return super().record(run, forward_pass)
            if memory:
                raise torch.OutOfMemoryError("operation not permitted, for want of memory")
            raise UncapturableError(RuntimeError("operation not permitted"))

    target = recording_target(recorder=NoPrefills())
    wanted = [target_oracle(target)(prompt(5), Stop(6))]
    with pytest.warns(UserWarning, match="model's prefills cannot be captured as CUDA graphs .operation not permitted"):
        for _ in range(3):  # told once
            assert_lossless(decode_with(target, NoDrafter(), [prompt(5)], Stop(6)), wanted)
    assert not recorded_prefills(target)
    assert (target.report()["captured"], target.report()["prefills"]) == (True, "as they come")
    assert target.report()["graphs"] > 0


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("some", [False, True])
def test_what_is_packed_of_a_prefill_comes_out_again(batch: int, some: bool) -> None:
    slots = torch.arange(4).roll(1).expand(batch, 4)
    rows = torch.arange(batch) + 2 if some else None
    forward_pass = ForwardPass(
        torch.arange(4 * batch).view(batch, 4), torch.zeros(batch, dtype=torch.int64), 4, 1, slots=slots, rows=rows
    )
    got = unpacked(forward_pass, packed(forward_pass))
    assert torch.equal(got.joined(), forward_pass.joined())
    assert torch.equal(got.placed(), forward_pass.placed())
    assert (got.rows is None) is not some
    assert got.rows is None or got.rows.tolist() == (torch.arange(batch) + 2).tolist()
