"""Drafts that see each other: walk and tree against plain definitions, heads that change nothing and that help."""

from __future__ import annotations

import heapq
import itertools
import random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.thorough import nightly_but
from torch import Tensor

from orthrus import PackedRows
from orthrus_diffusion.chain import greedy_chain, walked
from orthrus_diffusion.following_tree import best_first_following, conditional, likeliest_chain
from orthrus_diffusion.successor import SuccessorHead
from orthrus_diffusion.training.loss import BlockLoss, Following, Weights
from orthrus_diffusion.training.packing import Batch
from orthrus_diffusion.tree import likeliest_of

seeds = st.integers(0, 2**20)


@given(seeds)
def test_a_walk_takes_the_best_candidate_after_each(seed: int) -> None:
    choose, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    rows, places, count = choose.randint(1, 3), choose.randint(1, 17), choose.randint(1, 5)
    tokens = torch.randint(99, (rows, places, count), generator=generator)
    values = torch.randn(rows, places, count, generator=generator)
    transitions = torch.randn(rows, places, count, count, generator=generator)
    made = greedy_chain(tokens, values, transitions)
    for row in range(rows):
        before = 0
        for place in range(places):
            scores = [float(values[row, place, at] + transitions[row, place, before, at]) for at in range(count)]
            before = scores.index(max(scores))
            assert int(made[row, place]) == int(tokens[row, place, before])


@given(seeds)
def test_the_likeliest_chain_is_the_greedy_one_with_its_probabilities(seed: int) -> None:
    choose, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    rows, places, count = choose.randint(1, 3), choose.randint(1, 9), choose.randint(1, 12)
    logits = torch.randn(rows, places, 12, generator=generator, dtype=torch.float64) * 3
    transitions = torch.randn(rows, places, count, count, generator=generator, dtype=torch.float64) * 2
    chain, probabilities = likeliest_chain(logits, transitions)
    values, tokens, _ = likeliest_of(logits, count)
    assert chain.tolist() == greedy_chain(tokens, values, transitions).tolist()
    for row in range(rows):
        before = 0
        for place in range(places):
            corrected = logits[row, place].clone()
            corrected[tokens[row, place]] += transitions[row, place, before]
            token = int(chain[row, place])
            torch.testing.assert_close(probabilities[row, place], corrected.softmax(0)[token])
            before = tokens[row, place].tolist().index(token)


def paths_of(tree: Tensor, row: int) -> list[tuple[int, ...]]:
    """Return the paths of a row's tokens, in the order of the tree."""
    nodes, paths = tree.shape[1] // 2, dict[int, tuple[int, ...]]({-1: ()})
    for index in range(int(tree[row, -1])):
        paths[index] = (*paths[int(tree[row, nodes + index])], int(tree[row, index]))
    return [paths[index] for index in range(int(tree[row, -1]))]


def naive_tree(tokens: Tensor, scores: Tensor, room: int, nodes: int) -> list[tuple[int, ...]]:
    """Return the most probable paths, best first, by a heap: tokens [D, k], scores [D, k, k] of a row."""
    depth, count = tokens.shape
    heap = [(-float(scores[0, 0, at]), (at,)) for at in range(count)] if room else []
    heapq.heapify(heap)
    paths: list[tuple[int, ...]] = []
    while heap and len(paths) < min(nodes, room):
        cost, path = heapq.heappop(heap)
        paths.append(tuple(int(tokens[place, at]) for place, at in enumerate(path)))
        if len(path) < min(depth, room):
            for at in range(count):
                heapq.heappush(heap, (cost - float(scores[len(path), path[-1], at]), (*path, at)))
    return paths


def following(seed: int) -> tuple[Tensor, Tensor, list[int], int]:
    """Return random candidates, their conditional log-probabilities, rooms and a number of nodes."""
    choose, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    depth, count, nodes = choose.randint(1, 15), choose.choice([1, 3, 8]), choose.choice([1, 2, 7, 32, 64])
    logits = torch.randn(2, depth, 40, generator=generator, dtype=torch.float64) * choose.choice([1, 3])
    values, tokens, normalizers = likeliest_of(logits, count)
    transitions = torch.randn(2, depth, count, count, generator=generator, dtype=torch.float64) * 2
    transitions[:, 0] = transitions[:, 0, :1]
    rooms = [choose.randint(0, 70), choose.randint(0, 10)]
    return tokens, conditional(values, normalizers, transitions), rooms, nodes


@pytest.mark.parametrize("seed", nightly_but(range(8), range(100)))
def test_the_best_tree_is_a_heaps(seed: int) -> None:
    tokens, scores, rooms, nodes = following(seed)
    made = best_first_following(tokens, scores, torch.tensor(rooms), nodes)
    for row, room in enumerate(rooms):
        assert paths_of(made, row) == naive_tree(tokens[row], scores[row], room, nodes)


@given(seeds)
def test_conditional_probabilities_are_of_the_whole_vocabulary(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, 2, 12, generator=generator, dtype=torch.float64) * 3
    values, tokens, normalizers = likeliest_of(logits, 12 if seed % 2 else 5)
    count = tokens.shape[-1]
    transitions = torch.randn(1, 2, count, count, generator=generator, dtype=torch.float64)
    scores = conditional(values, normalizers, transitions)
    for place, before in itertools.product(range(2), range(count)):
        whole = logits[0, place].clone()
        whole[tokens[0, place]] += transitions[0, place, before]
        torch.testing.assert_close(scores[0, place, before], whole.log_softmax(0)[tokens[0, place]])


def test_walks_of_one_place_and_of_many() -> None:
    assert walked(torch.tensor([[[2, 0, 1]]])).tolist() == [[2]]
    turn: Any = torch.tensor([1, 2, 0]).expand(1, 9, 3)
    assert walked(turn).tolist() == [[1, 2, 0, 1, 2, 0, 1, 2, 0]]


def test_a_head_sees_what_goes_together_where_a_view_cannot() -> None:
    """After an anchor comes either 2, 3 or 4, 5: alone the likeliest of each place make 2, 5, which never comes."""
    generator = torch.Generator().manual_seed(0)
    matrix, table = torch.eye(8), torch.randn(8, 8, generator=generator)
    states = torch.full((1, 1, 3, 8), -4.0)  # of a view that has learnt how often each token comes where
    states[0, 0, 0, 2], states[0, 0, 0, 4] = 0.2, 0.0
    states[0, 0, 1, 3], states[0, 0, 1, 5] = 0.0, 0.2
    head = SuccessorHead.untrained(4, matrix, 8, seed=1)
    optimizer = torch.optim.Adam([weight.requires_grad_() for weight in head.weights().values()], lr=0.03)
    together = Following(head, lambda ids: table[ids])
    loss = BlockLoss(lambda hidden, more=0.0: (hidden + more) @ matrix.T, Weights(1, 0), False, together, False)
    for step in range(60):
        pair = [2, 3] if step % 2 else [4, 5]
        tokens = torch.tensor([[1, *pair]])
        teacher = 20 * matrix[torch.tensor([[*pair, 0]])]
        nothing = torch.zeros_like(tokens)
        batch = Batch(PackedRows(tokens, nothing), torch.tensor([[0]]), nothing + 3, torch.ones(1, 1), nothing.float())
        loss(teacher, states, batch, 1, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    values, tokens, normalizers = likeliest_of((states @ matrix.T)[:, 0, :2], 4)
    before = torch.cat([torch.ones(1, 1, 4, dtype=torch.int64), tokens[:, :1]], dim=1)
    corrections = head.corrections(table[before], states[:, 0, :2, None])
    transitions = (corrections @ matrix[tokens].mT).detach()
    assert greedy_chain(tokens, values, torch.zeros_like(transitions)).tolist() == [[2, 5]]
    assert greedy_chain(tokens, values, transitions).tolist() in ([[2, 3]], [[4, 5]])
    scores = conditional(values, normalizers, transitions)
    tree = best_first_following(tokens, scores, torch.tensor([9]), 4)
    assert {(2, 3), (4, 5)} < set(paths_of(tree, 0))
