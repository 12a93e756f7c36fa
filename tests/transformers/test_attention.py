"""Attention backends equal attention written out, copy no key, and respect windows, sinks and soft caps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import Phase, find, given, settings
from support import flash_kernels
from support.attention import SCALE, TOLERANCE, Case, attend, cases, error, keys_like_a_cache, rolled, with_garbage
from support.building import buffers_of, decode_with, transformers_target
from support.drafters import ScriptedDrafter
from support.thorough import thorough_but
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention.flex_attention import FlexKernelOptions

from orthrus import BuildError, MaskDescription, Stop
from orthrus.testing.profiles import fewer
from orthrus_attention import eager, flash, sdpa
from orthrus_attention.eager import EagerAttention
from orthrus_attention.flash import FlashAttention
from orthrus_attention.flash_packages import FOUR, THREE, TWO, PackageAttention
from orthrus_attention.flex import FlexAttention, kernel_options
from orthrus_attention.sdpa import SdpaAttention
from orthrus_attention.varlen import as_tokens
from orthrus_caches.dynamic import DynamicCache

BACKENDS: dict[str, Callable[[], Any]] = {
    "eager": EagerAttention,
    "sdpa": SdpaAttention,
    "flash": FlashAttention,
    "flash_attention_2": lambda: PackageAttention(TWO, flash_kernels.with_cache),
    "flash_attention_3": lambda: PackageAttention(THREE, flash_kernels.with_cache),
    "flash_attention_4": lambda: PackageAttention(FOUR, flash_kernels.with_lengths),
}
FLEX = settings(max_examples=25)  # it is compiled for every number of rows and heads


@pytest.fixture(autouse=True)
def _kernels_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flash, "varlen", flash_kernels.varlen)


@pytest.mark.parametrize("name", BACKENDS)
@fewer(3)
@given(case=cases((torch.float64, torch.float32)))
def test_backend_equals_attention_written_out(name: str, case: Case) -> None:
    assert error(BACKENDS[name](), case) < TOLERANCE[case.query.dtype]


@pytest.mark.parametrize("name", BACKENDS)
@fewer(3)
@given(case=cases())
def test_slots_after_a_rows_last_position_change_nothing(name: str, case: Case) -> None:
    clean, dirty = (attend(BACKENDS[name](), given) for given in (case, with_garbage(case)))
    read = case.read[:, None, :, None]
    torch.testing.assert_close(dirty.masked_fill(~read, 0), clean.masked_fill(~read, 0), rtol=0, atol=1e-12)


def narrow_case(seed: int) -> Case:
    torch.manual_seed(seed)
    lengths = torch.tensor([3, 600])
    positions = lengths[:, None] + torch.arange(16)
    query = torch.randn(2, 16, 6, 64).to(torch.float16).transpose(1, 2) / SCALE / 4  # scores spread by 2
    key, value = (keys_like_a_cache("static", (2, 2, 616, 64), torch.float16) for _ in range(2))
    return Case(query, key, value, MaskDescription("causal", positions, lengths, 616), None, torch.ones(2, 16) > 0)


def off_by(case: Case) -> float:
    wide = replace(case, query=case.query.double(), key=case.key.double(), value=case.value.double())
    wanted = attend(EagerAttention(), wide)
    return float((attend(EagerAttention(), case).double() - wanted).abs().max() / wanted.abs().max())


def test_scores_that_are_not_rounded_leave_two_roundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU multiplies narrow types into float32; a CPU rounds the scores, which is most of what it loses."""
    rounded = [off_by(narrow_case(seed)) for seed in range(4)]
    monkeypatch.setattr(eager, "product", lambda left, right: left.float() @ right.float())
    kept = [off_by(narrow_case(seed)) for seed in range(4)]
    assert max(kept) < 2 * 2**-11 < max(rounded) < TOLERANCE[torch.float16]


class Shifted:
    """Attention with a mistake of one slot: in the window, or in the line up to which a query sees."""

    def __init__(self, backend: Any, window: int, line: int) -> None:
        self._backend, self._window, self._line = backend, window, line

    def prepare(self, mask: MaskDescription, window: int | None, dtype: torch.dtype) -> Any:
        moved = replace(mask, positions=mask.positions + self._line, lengths=mask.lengths + self._line)
        return self._backend.prepare(moved, window if window is None else window + self._window, dtype)

    def attend(self, *args: Any, **more: Any) -> Tensor:
        out: Tensor = self._backend.attend(*args, **more)
        return out


@pytest.mark.thorough
@FLEX
@given(case=cases((torch.float32,)))
def test_flex_equals_attention_written_out(case: Case) -> None:
    assert error(FlexAttention(), with_garbage(case)) < TOLERANCE[torch.float32]


@pytest.mark.thorough
@pytest.mark.parametrize("window", [None, 5])
def test_flex_sees_a_whole_block(window: int | None) -> None:
    torch.manual_seed(1)
    lengths = torch.tensor([9, 3])
    positions = lengths[:, None] + torch.arange(4)
    query = torch.randn(2, 4, 4, 8)
    key, value = torch.randn(2, 2, 2, 13, 8)
    for kind in ("block", "causal"):
        case = Case(query, key, value, MaskDescription(kind, positions, lengths, 13), window, positions >= 0)
        assert error(FlexAttention(), case) < TOLERANCE[torch.float32]


@pytest.mark.thorough
def test_flex_takes_more_queries_than_one_block_and_skips_slots_before_the_window() -> None:
    torch.manual_seed(0)
    positions = rolled(torch.tensor([300, 170]), 60, 200)
    lengths = torch.zeros(2, dtype=torch.int64)
    query = torch.randn(2, 4, 200, 8)
    key, value = torch.randn(2, 2, 2, 300, 8)
    read = positions < torch.tensor([[300], [170]])
    for window in (None, 20):
        mask = MaskDescription("causal", positions, lengths, 300)
        case = Case(query, key, value, mask, window, read)
        assert error(FlexAttention(), case) < TOLERANCE[torch.float32]
        assert error(Shifted(FlexAttention(), 0, -1), case) > TOLERANCE[torch.float32]
    assert error(Shifted(FlexAttention(), 1, 0), case) > TOLERANCE[torch.float32]
    narrow = FlexAttention().prepare(MaskDescription("causal", positions[:, 190:], lengths, 300), 20, torch.float32)
    assert narrow.mask.kv_num_blocks[0, 0, 0] == 2  # of three: slots from 231 on


@pytest.mark.parametrize(
    ("queries", "groups", "size", "dtype", "wanted"),
    [
        (128, 1, 16, torch.bfloat16, None),
        (129, 1, 16, torch.bfloat16, {"FORCE_USE_FLEX_ATTENTION": True}),
        (43, 3, 16, torch.float32, {"FORCE_USE_FLEX_ATTENTION": True}),
        (128, 1, 128, torch.bfloat16, None),
        (1, 4, 128, torch.float32, None),
        (5, 1, 64, torch.float32, None),
        (5, 4, 96, torch.float32, {"num_warps": 4}),
        (16, 4, 128, torch.float32, {"num_warps": 8}),
        (127, 1, 256, torch.float32, {"num_warps": 16}),
        (128, 1, 256, torch.float32, None),
        (16, 3, 128, torch.float32, None),
        (0, 1, 128, torch.float32, None),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_flex_chooses_the_kernel_by_what_it_multiplies_at_once(
    device: str, queries: int, groups: int, size: int, dtype: torch.dtype, wanted: dict[str, Any] | None
) -> None:
    with FakeTensorMode():  # tensors of a GPU that need not be there
        query, key = (torch.empty(1, 2 * many, queries, size, dtype=dtype, device=device) for many in (groups, 1))
    assert kernel_options(query, key) == (wanted if device == "cuda" else None)


@pytest.mark.parametrize("option", ["FORCE_USE_FLEX_ATTENTION", "num_warps"])
def test_torch_still_reads_the_options_of_flex(option: str) -> None:
    assert option in FlexKernelOptions.__annotations__, "set BACKEND='TRITON' in the place of the first"


@pytest.mark.parametrize("name", thorough_but(BACKENDS, [*BACKENDS, "flex"]))
def test_a_backend_computes_the_scores_it_declares_and_refuses_others(name: str) -> None:
    backend = FlexAttention() if name == "flex" else BACKENDS[name]()
    lengths = torch.tensor([4, 7])
    mask = MaskDescription("causal", lengths[:, None] + torch.arange(2), lengths, 9)
    query, (key, value) = torch.randn(2, 4, 2, 8), torch.randn(2, 2, 2, 9, 8)
    case = Case(query, key, value, mask, None, torch.ones(2, 2, dtype=torch.bool))
    extras = {"softcap": 0.5, "sinks": torch.tensor([0.0, 1.0, 2.0, -1.0])}
    for extra, extra_value in extras.items():
        if getattr(backend.capabilities, extra):
            got = attend(backend, case, **{extra: extra_value})
            torch.testing.assert_close(got, attend(EagerAttention(), case, **{extra: extra_value}), rtol=0, atol=1e-5)
            assert (got - attend(backend, case)).abs().max() > 0.01
        else:
            with pytest.raises(BuildError, match=r"which this model needs; set attention.name=eager"):
                attend(backend, case, **{extra: extra_value})


@pytest.mark.parametrize(("window", "line"), [(1, 0), (-1, 0), (0, -1)])
@pytest.mark.parametrize("kind", thorough_but(["block"], ["causal", "block"]))
@pytest.mark.parametrize("name", BACKENDS)
def test_a_mistake_of_one_slot_is_noticed(name: str, kind: str, window: int, line: int) -> None:
    mistaken = Shifted(BACKENDS[name](), window, line)

    def noticed(case: Case) -> bool:
        return case.mask.kind == kind and case.window != 1 and int(case.mask.lengths.min()) > 1 and wrong(case)

    def wrong(case: Case) -> bool:
        return error(mistaken, case) > TOLERANCE[case.query.dtype]

    find(cases(), noticed, settings=settings(phases=[Phase.generate], max_examples=300))  # raises if there is none


def test_sdpa_sees_the_cache_itself_and_copies_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = DynamicCache()
    target = transformers_target("llama", cache)
    seen: list[tuple[int, int, int]] = []
    real = sdpa.scaled_dot_product_attention

    def watch(query: Tensor, key: Tensor, value: Tensor, *args: object, **more: object) -> Tensor:
        seen.append((key.data_ptr(), value.data_ptr(), key.shape[1]))
        return real(query, key, value, *args, **more)

    monkeypatch.setattr(sdpa, "scaled_dot_product_attention", watch)
    decode_with(target, ScriptedDrafter([[1] * 9, [2] * 9], 40, 0.0, [3]), [[1, 2, 3], [4]], Stop(8))
    buffers = {buffer.data_ptr() for held in buffers_of(cache) for buffer in held}
    assert seen and all({key, value} <= buffers for key, value, _ in seen)
    assert {heads for _, _, heads in seen} == {2}  # key heads, of 4 query heads: not repeated


def test_a_caches_rows_are_seen_as_tokens_and_anything_else_is_copied() -> None:
    buffer = torch.randn(3, 2, 20, 8)
    odd = torch.randn(3, 165)[:, :160].view(3, 2, 10, 8)  # rows that are no whole number of tokens apart
    backwards = torch.randn(3, 2, 8, 10).transpose(2, 3)
    for states, copied in ((buffer[:, :, :7], False), (buffer[1:2, :, :7], False), (odd, True), (backwards, True)):
        tokens, distance = as_tokens(states)
        assert (tokens.untyped_storage().data_ptr() != states.untyped_storage().data_ptr()) == copied
        for row in range(len(states)):
            begin = row * distance
            assert torch.equal(tokens[begin : begin + states.shape[2]].transpose(0, 1), states[row])
