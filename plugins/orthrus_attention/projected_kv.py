"""Attention of a single query and the projection behind it, the parts of its keys folded by the projection's kernel."""

from __future__ import annotations

from torch import Tensor

from orthrus.kernels.launch import UNFUSED, early_launch
from orthrus.kernels.normed import Normed, room_for_norm
from orthrus_attention.parts_of_keys import FIRST_GROUP, part_count
from orthrus_attention.prepared_pass import Prepared
from orthrus_attention.steady_kv import is_steady, layout_of_pass, leave_parts

MOST_WIDTH = 1024  # numbers of a query's heads, which every program folds for itself
HEADS_AT_ONCE, OUTPUTS = 4, 16  # of a product; of a program
FEW_PARTS = 8  # whose numbers four warps hold


def fits(query: Tensor, key: Tensor, prepared: Prepared, weight: Tensor) -> bool:
    """Tell whether one query [1, H, 1, D] over keys [1, H_kv, C, D] goes with its projection by weight [E, H D].

    The parts of its keys must be of one group.
    """
    batch, heads, queries, size = query.shape
    if batch * queries != 1 or query.element_size() != 2 or not prepared.causal or prepared.seen is not None:
        return False
    slots, outputs = key.shape[2], weight.shape[0]
    small = heads * size <= MOST_WIDTH and outputs % OUTPUTS == 0
    steady = is_steady(batch, queries, slots, prepared.kind, query.element_size())
    return small and steady and not layout_of_pass(query, key, tree=False).grouped and part_count(slots) <= FIRST_GROUP


def attend_added(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    prepared: Prepared,
    scale: float,
    weight: Tensor,
    residual: Tensor,
    norm: Tensor,
) -> Normed:
    """Add attention's result times weight [E, H D], transposed, to the residual [1, 1, E] in place, where it `fits`.

    Return the residual made ready for a norm with weight `norm` [E]. Every bit is that of the two apart.
    """
    from orthrus_attention import triton_folded_linear

    left = leave_parts(query, key, value, prepared, scale)
    _, heads, _, size = query.shape
    room, parts = room_for_norm(residual, weight.shape[0]), FEW_PARTS if left.splits <= FEW_PARTS else FIRST_GROUP
    triton_folded_linear.folded_added[(weight.shape[0] // OUTPUTS,)](
        left.values,
        left.maxima,
        left.sums,
        prepared.positions,
        weight,
        residual,
        norm,
        room.gained,
        room.parts,
        left.splits,
        left.rows,
        room.stride,
        HEADS=heads,
        SIZE=size,
        PADDED=left.shape["PADDED"],
        N=weight.shape[0],
        PARTS=parts,
        AT_ONCE=HEADS_AT_ONCE,
        BLOCKS=-(-heads // HEADS_AT_ONCE),
        WINDOW=prepared.window,
        BN=OUTPUTS,
        num_warps=4 if parts <= FEW_PARTS else 8,
        **UNFUSED,
        **early_launch(),
    )
    return room
