"""On a CUDA device: the kernels of trees, held against the same in torch on the CPU; what a cycle with one launches."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.tree_paths import assert_same_trees
from torch import Tensor

from orthrus import Draft, Verdict
from orthrus.accepted_path import AcceptedPath
from orthrus.kernels import available
from orthrus.paths import Paths
from orthrus.sampling import keep_agreed
from orthrus_attention.prepared_pass import Prepared
from orthrus_caches.block_store import BlockStore, PlacedBlocks
from orthrus_caches.buffers import SlotMoves, move
from orthrus_diffusion.tree import best_first

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
if torch.cuda.is_available():
    from orthrus_attention.triton_path_columns import path_columns
    from orthrus_diffusion.triton_candidates import PIECE, likeliest
DEVICE = torch.device("cuda", 0)
WIDTHS = (1, 2, 3, 7, 8, 31, 32, 62, 63)
seeds = st.integers(0, 2**32)


def a_tree(choose: random.Random, wild: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Return tokens, parents [B, n] and lengths [B]; wild: some parents are none."""
    rows, width = choose.randint(1, 5), choose.choice(WIDTHS)
    parents = [
        [
            choose.randrange(-5, 70) if wild and choose.random() < 0.1 else choose.randrange(-1, index)
            for index in range(width)
        ]
        for _ in range(rows)
    ]
    tokens = [[choose.randrange(3) for _ in range(width)] for _ in range(rows)]
    return torch.tensor(tokens), torch.tensor(parents), torch.tensor([choose.randint(0, width) for _ in range(rows)])


def kernels() -> object:
    found = available.tree_kernels(DEVICE)
    assert found is not None
    return found


@given(seeds)
def test_paths_are_those_of_torch(seed: int) -> None:
    _, parents, lengths = a_tree(random.Random(seed), wild=True)
    inside = torch.minimum(parents.clamp(min=-1), torch.arange(-1, parents.shape[1] - 1))
    wrong = ((inside != parents) & (torch.arange(parents.shape[1]) < lengths[:, None])).any(1)
    bounded, broken, seen, depths = kernels().look(parents.to(DEVICE), lengths.to(DEVICE))  # type: ignore[attr-defined]
    paths = Paths(inside)
    assert torch.equal(bounded.cpu(), inside)
    assert torch.equal(broken.cpu() != 0, wrong)
    assert torch.equal(seen.cpu(), paths.seen)
    assert torch.equal(depths.cpu(), paths.depths)


@given(seeds)
def test_what_is_kept_and_in_which_order_is_torchs(seed: int) -> None:
    choose = random.Random(seed)
    tokens, parents, lengths = a_tree(choose)
    choices = torch.tensor([[choose.randrange(3) for _ in range(tokens.shape[1] + 1)] for _ in tokens])
    draft = Draft(tokens, lengths, parents=parents)
    there = Draft(tokens.to(DEVICE), lengths.to(DEVICE), parents=parents.to(DEVICE))
    wanted, verdict = keep_agreed(choices, draft), keep_agreed(choices.to(DEVICE), there)
    assert wanted.last is not None and verdict.last is not None
    for mine, own in ((verdict.accepted, wanted.accepted), (verdict.next_tokens, wanted.next_tokens)):
        assert torch.equal(mine.cpu(), own)
    assert torch.equal(verdict.last.cpu(), wanted.last)
    off = torch.tensor([choose.choice([0, 0, 1]) for _ in tokens])  # a verdict that is wrong is told
    claimed = Verdict(wanted.accepted + off, wanted.next_tokens, wanted.last)
    path = AcceptedPath.of(draft, claimed)
    on_device = Verdict(*(part.to(DEVICE) for part in (claimed.accepted, claimed.next_tokens, wanted.last)))
    other = AcceptedPath.of(there, on_device)
    for name in ("order", "tokens", "accepted"):
        assert torch.equal(getattr(other, name).cpu(), getattr(path, name)), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@given(seeds)
def test_keys_move_as_in_torch(dtype: torch.dtype, seed: int) -> None:
    choose = random.Random(seed)
    rows, width, size = choose.randint(1, 3), choose.choice([1, 5, 32]), choose.choice([8, 64, 96])
    shapes = [(rows + 1, 3, 80, size)] * 4 + [(rows + 1, 2, 80, 16)]  # more rows than go on; a layer that differs
    buffers = [torch.randn(shape).to(dtype) for shape in shapes]
    there = [buffer.to(DEVICE) for buffer in buffers]
    first = torch.tensor([choose.randint(0, 80 - width) for _ in range(rows)])
    paths = [sorted(choose.sample(range(width), choose.randint(0, width))) for _ in range(rows)]
    order = torch.tensor([[*path, *range(len(path), width)] for path in paths])
    moves = SlotMoves()
    for _ in range(2):  # the addresses are known the second time
        move(buffers, first, order)
        moves.move(there, first.to(DEVICE), order.to(DEVICE))
    assert all(torch.equal(buffer.cpu(), wanted) for buffer, wanted in zip(there, buffers, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(seeds)
def test_keys_move_within_blocks_as_in_torch(dtype: torch.dtype, seed: int) -> None:
    choose, generator = random.Random(seed), torch.Generator().manual_seed(seed % 2**31)
    rows, width, slots = choose.randint(1, 3), choose.choice([1, 5, 32]), choose.choice([1, 4, 16])
    places = 80 // slots
    heads, sizes = choose.choice([1, 3]), (choose.choice([4, 20]), 64)  # of layers that differ
    first = torch.tensor([choose.randint(0, 80 - width) for _ in range(rows)])
    paths = [sorted(choose.sample(range(width), choose.randint(0, width))) for _ in range(rows)]
    order = torch.tensor([[*path, *range(len(path), width)] for path in paths])
    blocks = torch.randperm(rows * places, generator=generator).view(rows, places) + 2
    blocks[choose.randrange(rows), choose.randrange(places) :] = 0  # of a row that has ended
    stores = BlockStore(slots), BlockStore(slots)
    states = [torch.randn(1, heads, 1, size, generator=generator).to(dtype) for size in sizes]
    filled = [torch.randn(rows * places + 2, heads, slots, size, generator=generator).to(dtype) for size in sizes]
    moved = []
    for store, device in zip(stores, (torch.device("cpu"), DEVICE), strict=True):
        store.hold(rows * places + 2, rows * places + 2)
        one = torch.ones(1, 1, dtype=torch.int64, device=device)
        for layer, state in enumerate(states):
            store.update(PlacedBlocks(one, one, one * 0, slots), state.to(device), state.to(device), layer)
        for buffer, values in zip(store.buffers(), [*filled, *filled], strict=True):
            buffer[2:] = values[2:].to(device)
        placed = PlacedBlocks(blocks.to(device), one, one, slots)
        store.move(placed, first.to(device), order.to(device))
        moved.append([buffer[2:].cpu() for buffer in store.buffers()])
    assert all(torch.equal(mine, other) for mine, other in zip(*moved, strict=True))


@given(seeds)
def test_the_likeliest_tokens_are_those_of_torch_in_the_order_of_their_ids_where_equal(seed: int) -> None:
    choose, generator = random.Random(seed), torch.Generator().manual_seed(seed % 2**31)
    sizes = choose.randint(1, 3), choose.randint(1, 15), choose.choice([3, 20, 500, PIECE, 9001, 49_152])
    logits = torch.randn(sizes, generator=generator) * choose.choice([1, 3, 10])
    logits = logits.to(choose.choice([torch.float32, torch.bfloat16]))  # which has many equal ones
    if choose.random() < 0.3:
        logits[-1, -1, choose.randrange(2) :: 2] = choose.choice([float("nan"), -float("inf")])
    count = min(choose.choice([1, 2, 8, 32]), sizes[-1])
    values, tokens, normalizers = (part.cpu() for part in likeliest(logits.to(DEVICE), count))
    wide = logits.float()
    ordered = wide.nan_to_num(nan=-torch.inf, neginf=-torch.inf).sort(dim=-1, descending=True, stable=True)
    numbers = ordered.values[..., :count] > -torch.inf
    assert torch.equal(values, ordered.values[..., :count])
    assert torch.equal(tokens[numbers], ordered.indices[..., :count][numbers])
    torch.testing.assert_close(normalizers, wide.logsumexp(-1), equal_nan=True)


@given(seeds)
def test_the_likeliest_tree_is_that_of_torch(seed: int) -> None:
    choose, generator = random.Random(seed), torch.Generator().manual_seed(seed % 2**31)
    rows, depth, vocabulary, nodes = (
        choose.randint(1, 3),
        choose.randint(1, 15),
        choose.choice([3, 20, 500]),
        choose.choice([1, 2, 7, 32, 64, 200]),
    )
    logits = torch.randn(rows, depth, vocabulary, generator=generator) * choose.choice([1, 3, 10])
    if choose.random() < 0.2:
        logits[0, choose.randrange(depth)] = float("nan")
    room = torch.tensor([choose.choice([0, 1, 5, 300]) for _ in range(rows)])
    wanted, made = best_first(logits, room, nodes), best_first(logits.to(DEVICE), room.to(DEVICE), nodes).cpu()
    assert_same_trees(made, wanted)


@given(seeds)
def test_columns_on_paths_are_those_of_torch(seed: int) -> None:
    choose = random.Random(seed)
    _, parents, _ = a_tree(choose)
    paths, lengths = Paths(parents), torch.tensor([choose.randint(1, 900) for _ in parents])
    prepared = Prepared(lengths[:, None] + paths.depths, lengths, 0, False, paths.seen)
    columns = path_columns(*(part.to(DEVICE) for part in (paths.seen, prepared.positions, lengths))).cpu()
    on_path = torch.arange(paths.width) <= paths.depths[..., None]  # [B, n, n] by depth; beyond a path stands anything
    assert torch.equal(columns[on_path], prepared.columns[on_path])
