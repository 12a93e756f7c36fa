"""The heads: what they compute of a state, and how they are read. K: heads, h: the target's hidden size."""

from torch import Tensor, einsum
from torch.nn.functional import silu

from orthrus import Parts
from orthrus.drafter_models.checkpoint import check_shapes, read_tensors, stored_shapes
from orthrus.drafter_models.fit import dtype_of
from orthrus.drafter_models.source import fetch_drafter
from orthrus.optional import TappedTarget

BLOCKS = "blocks"  # the name of the only tensor


def blocked(states: Tensor, blocks: Tensor) -> Tensor:
    """Return what the target's head is asked [N, K, h], of states [N, h] and blocks [K, h, h]."""
    return states[:, None] + silu(einsum("nh,khg->nkg", states, blocks))


def load_blocks(source: str, parts: Parts, target: TappedTarget) -> Tensor:
    """Return the blocks of a directory or hub id; raise InputError if they are not those of the target's size."""
    directory = fetch_drafter(source, parts)
    shapes = stored_shapes(directory)
    heads = max(1, *shapes.get(BLOCKS, ())[:1], 1)  # one at least, or the shape is refused
    check_shapes(shapes, {BLOCKS: (heads, target.hidden_size, target.hidden_size)}, directory)
    return read_tensors(directory, {BLOCKS})[BLOCKS].to(target.device, dtype_of("auto", target))
