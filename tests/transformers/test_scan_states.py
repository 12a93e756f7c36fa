"""States of recurrent layers are moved on by the accepted tokens of each row, as taking these one by one moves them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import softplus

from orthrus_transformers.recurrent.recorded_scans import DeltaRuleScan, SelectiveScan, StateSpaceScan, selective_scan
from orthrus_transformers.recurrent.scored_pass import Inputs, Newest, Steps

LAYERS, ROWS, TOKENS, HEADS, KEYS, VALUES = 2, 3, 6, 4, 5, 3
COUNTS = st.lists(st.integers(0, TOKENS), min_size=ROWS, max_size=ROWS)
Step = Callable[[Tensor, int, int], Tensor]  # (state of a row, its layer and row joined, token) -> state


def drawn(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def live(counts: list[int]) -> Tensor:
    return torch.arange(TOKENS) < torch.tensor(counts)[:, None]


def one_by_one(state: Tensor, counts: list[int], step: Callable[[Tensor, int, int, int], Tensor]) -> Tensor:
    """Return states [G, B, ...] after counts [B] tokens; step: (state, layer, row, token)."""
    after = state.clone()
    for layer in range(LAYERS):
        for row, count in enumerate(counts):
            for token in range(count):
                after[layer, row] = step(after[layer, row], layer, row, token)
    return after


@given(st.integers(0, 2**16), COUNTS, st.booleans(), st.booleans())
def test_the_gated_delta_rule(seed: int, counts: list[int], by_channel: bool, normed: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    keys, values = (
        drawn(generator, LAYERS, ROWS, TOKENS, 2, KEYS),
        drawn(generator, LAYERS, ROWS, TOKENS, HEADS, VALUES),
    )
    decay = -drawn(generator, LAYERS, ROWS, TOKENS, HEADS, *([KEYS] if by_channel else [])).abs()
    beta = drawn(generator, LAYERS, ROWS, TOKENS, HEADS).sigmoid()
    state = drawn(generator, LAYERS, ROWS, HEADS, KEYS, VALUES)

    def step(before: Tensor, layer: int, row: int, token: int) -> Tensor:
        key = keys[layer, row, token].repeat_interleave(HEADS // 2, dim=0)  # [H, K]
        key = key * torch.rsqrt(key.square().sum(-1, keepdim=True) + 1e-6) if normed else key
        kept = before * decay[layer, row, token].exp().view(HEADS, -1, 1)
        wrong = values[layer, row, token] - torch.einsum("hk,hkv->hv", key, kept)
        return kept + torch.einsum("hk,hv->hkv", key, wrong * beta[layer, row, token][:, None])

    scans = [DeltaRuleScan(*(part[layer] for part in (keys, values, decay, beta)), normed) for layer in range(LAYERS)]
    after = scans[0].joined(scans[1:]).state_after(state, live(counts))
    torch.testing.assert_close(after, one_by_one(state, counts, step))


@given(st.integers(0, 2**16), COUNTS, st.sampled_from([(0.0, float("inf")), (0.5, 1.5)]))
def test_a_state_space_of_scalar_rates(seed: int, counts: list[int], limits: tuple[float, float]) -> None:
    generator = torch.Generator().manual_seed(seed)
    inputs, steps = drawn(generator, LAYERS, ROWS, TOKENS, HEADS, VALUES), drawn(generator, LAYERS, ROWS, TOKENS, HEADS)
    rates, writes = -drawn(generator, LAYERS, HEADS).exp(), drawn(generator, LAYERS, ROWS, TOKENS, 2, KEYS)
    bias, state = drawn(generator, LAYERS, HEADS), drawn(generator, LAYERS, ROWS, HEADS, VALUES, KEYS)

    def step(before: Tensor, layer: int, row: int, token: int) -> Tensor:
        size = softplus(steps[layer, row, token] + bias[layer]).clamp(*limits)  # [H]
        write = writes[layer, row, token].repeat_interleave(HEADS // 2, dim=0)  # [H, N]
        written = torch.einsum("hd,hn->hdn", inputs[layer, row, token] * size[:, None], write)
        return before * (rates[layer] * size).exp()[:, None, None] + written

    parts = [(inputs[i], steps[i], rates[i], writes[i], bias[i]) for i in range(LAYERS)]
    scans = [StateSpaceScan(*part, True, limits) for part in parts]
    after = scans[0].joined(scans[1:]).state_after(state, live(counts))
    torch.testing.assert_close(after, one_by_one(state, counts, step))


@given(st.integers(0, 2**16), COUNTS)
def test_a_selective_state_space_of_several_heads(seed: int, counts: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    heads, channels, size = 2, 3, 4
    inputs, steps = (drawn(generator, LAYERS, heads, ROWS, channels, TOKENS) for _ in range(2))
    rates, bias = -drawn(generator, LAYERS, heads, channels, size).exp(), drawn(generator, LAYERS, heads, channels)
    writes, reads = (drawn(generator, LAYERS, heads, ROWS, size, TOKENS) for _ in range(2))
    state = drawn(generator, LAYERS, ROWS, heads, channels, size)

    def step(before: Tensor, layer: int, row: int, token: int) -> Tensor:
        length = softplus(steps[layer, :, row, :, token] + bias[layer])[..., None]  # [h, D, 1]
        written = length * inputs[layer, :, row, :, token, None] * writes[layer, :, row, None, :, token]
        return before * (rates[layer] * length).exp() + written

    each = [(layer, head) for layer in range(LAYERS) for head in range(heads)]
    parts = [(inputs[pair], steps[pair], rates[pair], writes[pair], bias[pair]) for pair in each]
    scans = [SelectiveScan(*part, True) for part in parts]
    after = scans[0].joined(scans[1:]).state_after(state, live(counts))
    torch.testing.assert_close(after, one_by_one(state, counts, step))
    given_to = {"hidden_states": inputs[0, 0], "dt": steps[0, 0], "A": rates[0, 0], "B": writes[0, 0], "C": reads[0, 0]}
    options = {"delta_bias": bias[0, 0], "delta_softplus": True}
    whole = one_by_one(state, [TOKENS] * ROWS, step)[0, :, 0]
    torch.testing.assert_close(
        selective_scan({**given_to, **options}, state[0, :, 0])[1], whole, rtol=1e-5, atol=1e-5
    )  # it writes in float32, as the library does


@pytest.mark.parametrize("kind", ["inputs", "steps", "newest"])
def test_what_is_kept_of_every_token_is_chosen_by_row(kind: str) -> None:
    counts, kept = torch.tensor([0, 2, 3]), 2
    places = torch.arange(1.0, 1 + kept + 3).expand(LAYERS, ROWS, 1, -1)  # each input is its place
    before = places[..., :kept]
    if kind == "inputs":
        chosen = Inputs([*places]).after(before, counts)
        assert chosen[0, :, 0].tolist() == [[1, 2], [3, 4], [4, 5]]
    elif kind == "steps":
        steps = [[places[layer, ..., token + 1 : token + 1 + kept] for token in range(3)] for layer in range(LAYERS)]
        assert Steps(steps).after(before, counts)[1, :, 0].tolist() == [[1, 2], [3, 4], [4, 5]]
    else:
        newest = Newest([places[layer, ..., 1:3] for layer in range(LAYERS)]).after(before, counts.clamp(max=1))
        assert newest[1, :, 0].tolist() == [[1, 2], [2, 3], [2, 3]]
