"""On a CUDA device: drafts that see each other are those of torch on the CPU, captured or not, and add no sync."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.building import assert_lossless, decode_with, target_oracle
from support.families import tiny_model
from support.kernel_names import kernels_of
from support.successors import random_head
from support.tree_paths import assert_same_trees, paths_of
from support.views import random_view
from torch import Tensor

from orthrus import Result, RowState, Sampling, Stop
from orthrus.testing.profiles import fewer
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.static import StaticCache
from orthrus_diffusion.block import SuccessorBlock
from orthrus_diffusion.chain import greedy_chain
from orthrus_diffusion.drafter import Diffusion
from orthrus_diffusion.following_tree import best_first_following, chosen_by_kernels, conditional
from orthrus_diffusion.successor import SuccessorHead
from orthrus_diffusion.transitions import Successors, bounded
from orthrus_diffusion.tree import NEVER, likeliest_of
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.coupled import Coupled

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
if torch.cuda.is_available():
    from orthrus_diffusion.triton_following import ranked
DEVICE = torch.device("cuda", 0)
PROMPTS = [[5, 6, 7], [8], [9] * 30]


@given(st.integers(0, 2**32))
def test_the_likeliest_tree_is_that_of_torch(seed: int) -> None:
    choose, generator = random.Random(seed), torch.Generator().manual_seed(seed % 2**31)
    rows, depth, count = choose.randint(1, 3), choose.randint(1, 15), choose.choice([1, 3, 8, 16, 17])
    nodes = choose.choice([1, 2, 7, 32, 64, 200])
    logits = torch.randn(rows, depth, 40, generator=generator) * choose.choice([1, 3])
    if choose.random() < 0.2:
        logits[0, choose.randrange(depth)] = float("nan")
    values, tokens, normalizers = likeliest_of(logits, count)
    transitions = torch.randn(rows, depth, count, count, generator=generator)
    transitions[:, 0] = transitions[:, 0, :1]
    scores = conditional(values, normalizers, transitions)
    room = torch.tensor([choose.choice([0, 1, 5, 300]) for _ in range(rows)])
    wanted = best_first_following(tokens, scores, room, nodes)
    made = best_first_following(tokens.to(DEVICE), scores.to(DEVICE), room.to(DEVICE), nodes).cpu()
    assert_same_trees(made, wanted)


@dataclass(frozen=True, eq=False)
class Tables:
    """A target of tables alone."""

    table: Tensor
    matrix: Tensor
    lends: bool = True

    def embed(self, tokens: Tensor) -> Tensor:
        return self.table[tokens]

    def head_rows(self, tokens: Tensor) -> Tensor:
        return self.matrix[tokens]

    def tables(self) -> tuple[Tensor, Tensor] | None:
        return (self.table, self.matrix) if self.lends else None

    def to(self, device: torch.device, dtype: torch.dtype) -> Tables:
        return Tables(self.table.to(device, dtype), self.matrix.to(device, dtype), self.lends)


def moved(head: SuccessorHead, device: torch.device, dtype: torch.dtype) -> SuccessorHead:
    return SuccessorHead(*(weight.to(device, dtype) for weight in (head.token, head.state, head.out)))


@fewer(4)  # most of them compile kernels
@given(st.integers(0, 2**32), st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
def test_transitions_are_those_of_torch(seed: int, dtype: torch.dtype) -> None:
    choose, generator = random.Random(seed), torch.Generator().manual_seed(seed % 2**31)
    rows, depth, count = choose.choice([1, 3, 40]), choose.choice([1, 2, 15, 17]), choose.choice([1, 3, 8, 16, 17])
    size, rank = choose.choice([(5, 1), (32, 6), (100, 33), (576, 512)])
    table, matrix = (torch.randn(40, size, generator=generator).to(dtype) for _ in range(2))
    head = SuccessorHead.untrained(rank, table, size, seed % 2**31)
    head.out.copy_(torch.randn(size, rank, generator=generator) * choose.choice([0.05, 1.0]))
    wild = choose.random() < 0.2
    if wild:
        head.out[choose.randrange(size), choose.randrange(rank)] = choose.choice([float("nan"), float("inf")])
    states = torch.randn(rows, depth + 2, size, generator=generator).to(dtype)[:, 1:-1]  # not contiguous
    anchors = torch.randint(40, (rows,), generator=generator)
    candidates = torch.randint(40, (rows, depth, count), generator=generator)
    given_there = anchors.to(DEVICE), candidates.to(DEVICE), states.to(DEVICE)
    tables = Tables(table, matrix)
    kernels = Successors(moved(head, DEVICE, dtype), tables.to(DEVICE, dtype))  # type: ignore[arg-type]
    parts = kernels.parts(*given_there)
    assert parts is not None
    made = kernels.transitions(*given_there)
    assert torch.equal(made, bounded(parts.sum(0))) and bool(made.isfinite().all())
    if wild:
        return
    exact = Successors(moved(head, head.out.device, torch.float64), tables.to(head.out.device, torch.float64))  # type: ignore[arg-type]
    wanted = exact.transitions(anchors, candidates, states.double())
    in_torch = Successors(kernels.head, Tables(kernels.target.table, kernels.target.matrix, lends=False))  # type: ignore[arg-type,attr-defined]
    of_torch = (in_torch.transitions(*given_there).cpu().double() - wanted).abs().max()
    least = {torch.float32: 1e-4, torch.bfloat16: 1e-2, torch.float16: 2e-3}[dtype] * (1 + float(wanted.abs().max()))
    assert float((made.cpu().double() - wanted).abs().max()) <= max(least, 1.5 * float(of_torch))


@fewer(2)
@given(st.integers(0, 2**32))
def test_chains_and_trees_of_parts_are_those_of_torch(seed: int) -> None:
    choose, generator = random.Random(seed), torch.Generator().manual_seed(seed % 2**31)
    rows, depth, count = choose.randint(1, 3), choose.choice([1, 5, 15, 16, 17, 33]), choose.choice([1, 3, 8, 16, 17])
    parts = torch.randn(choose.choice([1, 3, 16]), rows, depth, count, count, generator=generator)
    parts[:, :, 0] = parts[:, :, 0, :1]
    logits = torch.randn(rows, depth, 40, generator=generator) * choose.choice([1, 3])
    if choose.random() < 0.2:
        parts, logits = parts.round(), logits.round()  # many are equal
    if choose.random() < 0.2:
        parts[-1, -1, -1] = choose.choice([float("nan"), float("inf"), -1e9])
    if choose.random() < 0.3:
        logits[0, choose.randrange(depth)] = choose.choice([float("nan"), -float("inf")])
    values, tokens, normalizers = (part.cpu() for part in likeliest_of(logits.to(DEVICE), count))
    transitions = bounded(parts.to(DEVICE).sum(0)).cpu()
    room = torch.tensor([choose.choice([0, 1, 5, 300]) for _ in range(rows)])
    there = [part.to(DEVICE) for part in (tokens, values, normalizers, parts, room)]
    walk = chosen_by_kernels(*there, 0).cpu()  # type: ignore[call-arg]
    wanted = greedy_chain(tokens, values, transitions)
    assert bool(((walk >= 0) & (walk < 40)).all())
    if not torch.equal(walk, wanted):  # sums of parts round in their own order: then two are nearly equal
        assert float(regret(walk, tokens, values, transitions).max()) < 1e-4
    scores = conditional(values, normalizers, transitions)
    nodes = choose.choice([1, 2, 7, 32, 64, 200])
    tree = chosen_by_kernels(*there, nodes).cpu()  # type: ignore[call-arg]
    made, order = ranked(there[1], there[2], there[3], there[4], NEVER)
    again = torch.empty_like(made).scatter_(3, order.long(), made)  # in the candidates' own order
    wanted = best_first_following(tokens, again.cpu(), room, nodes)
    assert torch.equal(tree[:, -1], wanted[:, -1])
    for row, length in enumerate(wanted[:, -1].tolist()):  # of paths that are as likely either may be in a tree
        mine, other = (likelihoods(each[row], length, tokens[row], again[row].cpu()) for each in (tree, wanted))
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(again.cpu(), bounded_scores(scores, room), rtol=1e-4, atol=1e-3)


def likelihoods(tree: Tensor, length: int, tokens: Tensor, scores: Tensor) -> Tensor:
    """Return the log-probabilities of a tree's paths, falling: tokens [D, k] and scores [D, k, k] of the candidates."""
    paths = paths_of(tree, length)[1:]
    assert len(set(paths)) == length
    sums = []
    for path in paths:
        at = [tokens[place].tolist().index(token) for place, token in enumerate(path)]
        sums.append(sum(float(scores[place, ([0, *at])[place], own]) for place, own in enumerate(at)))
    return torch.tensor(sums).sort(descending=True).values


def bounded_scores(scores: Tensor, room: Tensor) -> Tensor:
    """Return conditional log-probabilities [B, D, k, k] as a tree takes them: never, beyond a row's room."""
    beyond = torch.arange(scores.shape[1]) >= room[:, None]
    return scores.nan_to_num(NEVER, NEVER, NEVER).clamp(NEVER, 0).masked_fill(beyond[..., None, None], NEVER)


def regret(chain: Tensor, tokens: Tensor, values: Tensor, transitions: Tensor) -> Tensor:
    """Return the regret [B] of a chain [B, D]: by how much its worst step is behind the best one."""
    at = (tokens == chain[..., None]).int().argmax(-1)  # [B, D]
    before = torch.cat([torch.zeros_like(at[:, :1]), at[:, :-1]], dim=1)
    scores = (values[:, :, None] + transitions).gather(2, before[..., None, None].expand(-1, -1, 1, tokens.shape[2]))
    return (scores.amax(-1) - scores.gather(3, at[..., None, None])[..., 0])[:, :, 0].amax(1)


@pytest.mark.parametrize(("nodes", "most"), [(0, 5), (32, 6)])
def test_a_head_takes_few_kernels(nodes: int, most: int) -> None:
    """The likeliest tokens take two, states one, transitions one; then comes a walk, or a ranking and a tree."""
    table = torch.randn(500, 64, device=DEVICE, dtype=torch.bfloat16)
    head = SuccessorHead.untrained(48, table, 64, seed=0)
    block = SuccessorBlock(16, 3, False, True, nodes, successors=Successors(head, Tables(table, table)))  # type: ignore[arg-type]
    rows = RowState(*(torch.full((2,), number, device=DEVICE) for number in (9, 4, 90)))
    logits, states = torch.randn(2, 15, 500, device=DEVICE), torch.randn(2, 15, 64, device=DEVICE).bfloat16()
    kernels = kernels_of(lambda: block.result_of_states(rows, logits, states))
    assert 3 < len(kernels) <= most, kernels


def target_of(family: str, engine: str) -> TransformersTarget:
    model = tiny_model(family, dtype=torch.float32).cuda()
    target = TransformersTarget(model, None, StaticCache(slots=64), SdpaAttention(), engine=engine)
    random_view(target, "noisy", noise=0.05)
    return target


def decoded(target: TransformersTarget, nodes: int | None, temperature: float) -> list[Result]:
    drafter = Diffusion(target, 6, 3, "noisy", tree=nodes, successor=random_head(target, "noisy", 0.05))
    return decode_with(target, drafter, PROMPTS, Stop(20), 1, None, Coupled(), Sampling(temperature))


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("nodes", [None, 12])
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3_text"])
def test_captured_drafts_are_the_uncaptured_ones(family: str, nodes: int | None, temperature: float) -> None:
    eager, graphed = (decoded(target_of(family, engine), nodes, temperature) for engine in ("eager", "graphed"))
    if not temperature:
        oracle = target_oracle(target_of(family, "eager"))
        assert_lossless(graphed, [oracle(prompt, Stop(20)) for prompt in PROMPTS])
    for uncaptured, two in zip(eager, graphed, strict=True):
        assert uncaptured.token_ids == two.token_ids
        assert uncaptured.measures.accepted_per_cycle == two.measures.accepted_per_cycle


@pytest.mark.parametrize("nodes", [None, 12])
def test_drafts_by_kernels_are_those_of_torch(nodes: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32, where hardly any are as likely as others."""
    by_kernels = decoded(target_of("llama", "graphed"), nodes, 0.0)
    monkeypatch.setattr(Successors, "parts", lambda *given: None)
    in_torch = decoded(target_of("llama", "graphed"), nodes, 0.0)
    for mine, other in zip(by_kernels, in_torch, strict=True):
        assert mine.token_ids == other.token_ids
        assert mine.measures.accepted_per_cycle == other.measures.accepted_per_cycle
