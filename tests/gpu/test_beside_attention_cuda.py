"""On a CUDA device: attention for a scored draft and the blocks beside it at once has the bits that each has alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from orthrus import MaskDescription
from orthrus.one_pass import AcceptableBlocks, Attending
from orthrus_attention import beside_kv
from orthrus_attention.split_kv import SplitAttention

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICE = "cuda"
FEW, MANY, WIDE, ODD = (3, 3, 64), (8, 4, 128), (1, 8, 256), (2, 2, 80)  # heads of keys, groups, size of a head
TEXTS = [(5, 512), (470, 512), (500, 1024), (1000, 2048), (3000, 4096), (8170, 16_384)]  # tokens before, slots
CASES = [
    *((5, FEW, text, None) for text in TEXTS),
    *((7, MANY, TEXTS[index], None) for index in (1, 3, 5)),  # in the last, programs have eight warps
    (5, ODD, TEXTS[3], 300),
    (9, FEW, TEXTS[1], 300),
    (1, WIDE, TEXTS[2], None),
]


def attending(
    drafts: int, heads: tuple[int, int, int], text: tuple[int, int], window: int | None, dtype: torch.dtype
) -> tuple[Attending, Attending]:
    """Return what a draft of so many tokens, and the blocks beside it, attend with; the blocks may see more slots."""
    (few, groups, size), (before, slots) = heads, text
    generator = torch.Generator(DEVICE).manual_seed(before + size)
    blocks = AcceptableBlocks("noisy", 0, drafts, drafts + 2)
    device, count = torch.device(DEVICE), blocks.count
    end = before + count + blocks.columns
    bucket = slots if end <= slots else 2 * slots
    query = torch.randn(1, few * groups, count + blocks.columns, size, generator=generator, device=DEVICE).to(dtype)
    keys, values = torch.randn(2, 1, few, bucket, size, generator=generator, device=DEVICE).to(dtype)
    values[:, :, end:] = float("nan")  # what nobody wrote does not matter
    lengths = torch.tensor([before], device=DEVICE)
    own = before + torch.arange(count, device=DEVICE)[None]
    masks = (
        MaskDescription("causal", own, lengths, slots),
        MaskDescription("blocks", before + blocks.depths(device)[None], lengths, bucket, blocks.seen(device)[None]),
    )
    kinds = []
    for mask, columns in zip(masks, (slice(0, count), slice(count, None)), strict=True):
        prepared = SplitAttention().prepare(mask, window, dtype)
        seen = slice(0, mask.extent)
        kinds.append(Attending(query[:, :, columns], keys[:, :, seen], values[:, :, seen], prepared))
    return kinds[0], kinds[1]


def alone(kind: Attending) -> Tensor:
    return SplitAttention().attend(kind.query, kind.key, kind.value, kind.prepared, scale=0.1)


@pytest.mark.parametrize(("drafts", "heads", "text", "window"), CASES)
def test_each_kind_has_the_bits_that_it_has_alone(
    drafts: int, heads: tuple[int, int, int], text: tuple[int, int], window: int | None
) -> None:
    kinds = attending(drafts, heads, text, window, torch.bfloat16)
    together = SplitAttention().attend_beside(*kinds, scale=0.1)
    assert together is not None
    for given, kind in zip(together, kinds, strict=True):
        assert given.isfinite().all() and given.any()
        assert torch.equal(given, alone(kind))


def test_what_has_no_launch_in_common_is_left_to_each() -> None:
    of_32_bits = attending(5, FEW, TEXTS[0], None, torch.float32)
    assert SplitAttention().attend_beside(*of_32_bits, scale=0.1) is None
    many_heads = attending(7, (64, 1, 64), TEXTS[0], None, torch.bfloat16)  # so many need no parts of slots
    assert SplitAttention().attend_beside(*many_heads, scale=0.1) is None
    draft, blocks = attending(5, FEW, TEXTS[0], None, torch.bfloat16)
    copied = Attending(blocks.query, blocks.key.clone(), blocks.value, blocks.prepared)
    assert beside_kv.attend_at_once(draft, copied, 0.1) is None
    assert beside_kv.attend_at_once(blocks, draft, 0.1) is None
