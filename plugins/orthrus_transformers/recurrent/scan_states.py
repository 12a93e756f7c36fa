"""States of recurrent layers after some of the tokens of a scan, from the state before it, for many layers at once.

Tokens that are not `live` leave a state as it is, so that each row goes as far as its own draft was accepted. States
are computed in float32 or wider, as the scans do. G: layers, B: rows, n: tokens, H: heads, K and V: sizes of a head's
keys and values, D: channels, N: size of a channel's state.
"""

from __future__ import annotations

import torch
from torch import Tensor


def delta_rule_state(state: Tensor, keys: Tensor, values: Tensor, decay: Tensor, beta: Tensor, live: Tensor) -> Tensor:
    """Return the state [G, B, H, K, V] of the gated delta rule after the live tokens.

    keys [G, B, n, H, K], values [G, B, n, H, V], decay, as a logarithm, [G, B, n, H] or, of each channel,
    [G, B, n, H, K], beta [G, B, n, H], live [B, n]. Source: Yang et al., "Gated Delta Networks", arXiv 2412.06464; of
    each channel: Kimi Team, "Kimi Linear", arXiv 2510.26692.
    """
    keys, values, decay, beta = (part.to(state.dtype).transpose(2, 3) for part in (keys, values, decay, beta))
    mask = live[None, :, None]  # [1, B, 1, n]
    beta = beta * mask  # [G, B, H, n]
    if decay.dim() == keys.dim():
        return _by_channel(state, keys, values, decay * mask[..., None], beta)
    total = (decay * mask).cumsum(-1)  # [G, B, H, n]
    gaps = (total[..., :, None] - total[..., None, :]).tril(-1).exp()  # [..., n, n], of later and earlier tokens
    mixed = (keys @ keys.mT) * gaps * beta[..., None]
    decayed = keys * total.exp()[..., None]
    corrections = (values - decayed @ state) * beta[..., None]  # [..., n, V], but for what earlier tokens wrote
    written = torch.linalg.solve_triangular(mixed, corrections, upper=False, unitriangular=True)
    last = total[..., -1:]  # [G, B, H, 1]
    kept = keys * (last - total).exp()[..., None]
    after: Tensor = state * last.exp()[..., None] + kept.mT @ written
    return after


def _by_channel(state: Tensor, keys: Tensor, values: Tensor, decay: Tensor, beta: Tensor) -> Tensor:
    """Return the state after all tokens, one after the other: decays of channels have no matrix of gaps."""
    for place in range(keys.shape[3]):
        key = keys[..., place, None, :]  # [G, B, H, 1, K]
        state = state * decay[..., place, :, None].exp()
        correction = (values[..., place, None, :] - key @ state) * beta[..., place, None, None]
        state = state + key.mT * correction
    return state


def state_space_state(state: Tensor, inputs: Tensor, steps: Tensor, rates: Tensor, writes: Tensor) -> Tensor:
    """Return the state [G, B, H, D, N] of a state space of scalar rates, as Mamba-2's, after the tokens.

    inputs [G, B, n, H, D], steps [G, B, n, H], 0 of tokens that are not live, rates [G, 1, 1, H], writes
    [G, B, n, H, N]. Source: Dao and Gu, "Transformers are SSMs", arXiv 2405.21060.
    """
    total = (rates * steps).cumsum(2)  # [G, B, n, H]
    last = total[:, :, -1:]
    weighted = inputs * ((last - total).exp() * steps)[..., None]  # [G, B, n, H, D]
    written = weighted.permute(0, 1, 3, 4, 2) @ writes.transpose(2, 3)  # [G, B, H, D, N]
    return state * last[:, :, 0, :, None, None].exp() + written


def selective_state(state: Tensor, inputs: Tensor, steps: Tensor, rates: Tensor, writes: Tensor) -> Tensor:
    """Return the state [G, B, D, N] of a selective state space, as Mamba's, after the tokens.

    inputs [G, B, D, n], steps [G, B, D, n], 0 of tokens that are not live, rates [G, 1, D, N], writes [G, B, N, n].
    Source: Gu and Dao, "Mamba", arXiv 2312.00752.
    """
    for place in range(inputs.shape[-1]):
        step = steps[..., place, None]  # [G, B, D, 1]
        state = state * (rates * step).exp() + step * inputs[..., place, None] * writes[..., None, :, place]
    return state
