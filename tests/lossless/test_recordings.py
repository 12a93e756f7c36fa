"""The engine `graphed` where there is no GPU: what is recorded, what is replayed, and when no more."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.building import assert_lossless, decode_with, target_oracle
from support.drafters import ScriptedDrafter
from support.families import VOCABULARY
from support.recordings import recording_target
from support.thorough import thorough_but

from orthrus import InputError, Stop
from orthrus_caches import buffers, static
from orthrus_drafters.none import NoDrafter
from orthrus_transformers.engines.forward_pass import ForwardPass
from orthrus_transformers.engines.graph_recorder import packed, unpacked


@pytest.mark.parametrize("batch", thorough_but([2], [1, 2]))
@pytest.mark.parametrize("length", thorough_but([1, 4, 9], [1, 3, 4, 5, 9]))
def test_a_prefill_is_never_taken_for_a_cycle(length: int, batch: int) -> None:
    target = recording_target(chunk=4)
    prompts = [[(7 * i + 3) % VOCABULARY for i in range(length + extra)] for extra in (0, 2)]
    answers = [target_oracle(target)(prompt, Stop(12)) for prompt in prompts]
    for _ in range(2):  # nothing recorded yet, and a cycle's pass recorded
        assert_lossless(decode_with(target, NoDrafter(), prompts, Stop(12), batch=batch), answers)
    assert target.report()["graphs"] > 0
    drafter = ScriptedDrafter([answer.token_ids for answer in answers], VOCABULARY, 0.7, [0, 3])
    assert_lossless(decode_with(target, drafter, prompts, Stop(12), batch=batch), answers)


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_no_recording_outlives_a_growth_that_failed(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is it tried again without padding: the keys of rows that go on are lost."""
    target = recording_target(chunk=512)
    wanted = target_oracle(target)([1, 2], Stop(10))
    assert_lossless(decode_with(target, NoDrafter(), [[1, 2]], Stop(10)), [wanted])
    calls = 0

    def short_of_memory(buffer: torch.Tensor, capacity: int) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:  # the keys of both layers have grown, and the values of one
            raise error
        return buffers.grown(buffer, capacity)

    monkeypatch.setattr(static, "grown", short_of_memory)
    before: Any = target.cache
    generation = before.generation
    with pytest.raises((MemoryError, InputError)):
        decode_with(target, NoDrafter(), [[1] * 40], Stop(10))
    assert before.generation > generation
    assert before.bytes_in_use() == 0
    assert_lossless(decode_with(target, NoDrafter(), [[1, 2]], Stop(10)), [wanted])


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("width", [0, 3])
@pytest.mark.parametrize("told", [False, True])
def test_what_is_packed_comes_out_again(batch: int, width: int, told: bool) -> None:
    lengths, anchors = torch.arange(batch) + 7, torch.arange(batch)[:, None] + 20
    drafted = torch.arange(batch * width).view(batch, width) if width else None
    positions = lengths[:, None] + torch.arange(1 + width) if told else None
    forward_pass = ForwardPass(anchors, lengths, 16, 1 + width, drafted=drafted, positions=positions)
    inputs = packed(forward_pass)
    got = unpacked(forward_pass, inputs)
    assert (got.lengths.tolist(), got.joined().tolist()) == (lengths.tolist(), forward_pass.joined().tolist())
    assert (got.positions is None) is not told
    assert positions is None or torch.equal(got.positions, positions)  # type: ignore[arg-type]
    assert all(part.is_contiguous() for part in (got.lengths, *got.parts))
    assert torch.equal(got.placed(), forward_pass.placed())
    address = inputs.data_ptr()
    assert packed(forward_pass, inputs).data_ptr() == address
