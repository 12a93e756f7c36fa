"""Hard anchors against the weights that they are drawn by, and what may be drawn at all."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.thorough import nightly_but
from torch import Tensor

from orthrus_diffusion.training.hard_anchors import with_hard_anchors
from orthrus_diffusion.training.packing import Batch, Packer
from orthrus_diffusion.training.shards import Text

LENGTH, VOCABULARY = 24, 11


def batch_of(anchors: int, seed: int, rows: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    texts = [
        Text(torch.randint(VOCABULARY, (length,), generator=generator, dtype=torch.int32), answer)
        for length, answer in [(10, 4), (7, 0), (5, 3), (12, 9), (3, 1), (20, 2)]
    ]
    return next(iter(Packer(texts, LENGTH, anchors, rows, seed).steps(0)))


def hidden_of(batch: Batch, sure: Tensor) -> Tensor:
    """Return logits that give the token of each column the probability `sure` [R, L], and all others the same."""
    probabilities = ((1 - sure) / (VOCABULARY - 1))[..., None].repeat(1, 1, VOCABULARY)
    probabilities.scatter_(2, batch.rows.token_ids[..., None], sure[..., None])
    return probabilities.roll(-1, 1).log()  # what is before a column decides its token


@given(st.integers(0, 200), st.integers(1, 30), st.sampled_from([0.5, 1.0]), st.integers(1, 3))
def test_anchors_lie_in_answers_and_differ(seed: int, anchors: int, share: float, rows: int) -> None:
    batch = batch_of(anchors, seed)
    logits = torch.randn(3, LENGTH, VOCABULARY, generator=torch.Generator().manual_seed(seed))
    chosen = with_hard_anchors(batch, logits, lambda hidden: hidden, share, rows)
    for row in range(3):
        allowed = (batch.noise[row] > -torch.inf).nonzero()[:, 0].tolist()
        used = [int(anchor) for anchor, use in zip(chosen.anchors[row], chosen.used[row], strict=True) if use]
        assert len(used) == len(set(used)) == min(anchors, len(allowed)) and set(used) <= set(allowed)
        assert used == chosen.anchors[row, : len(used)].tolist() == sorted(used)
        assert set(chosen.anchors[row, len(used) :].tolist()) <= {used[-1]}
    assert torch.equal(chosen.used.sum(1), batch.used.sum(1))


DRAWS = [(0.9, 800), (0.0, 3000), (0.9, 3000), (1.0, 3000)]


@pytest.mark.parametrize(("share", "draws"), nightly_but(DRAWS[:1], DRAWS, thorough=DRAWS[2:3]))
def test_each_column_is_as_likely_as_it_is_hard(share: float, draws: int) -> None:
    counts, wanted = torch.zeros(LENGTH), torch.zeros(LENGTH)
    for seed in range(draws):
        batch = batch_of(1, seed, rows=1)
        sure = torch.rand(1, LENGTH, generator=torch.Generator().manual_seed(seed))
        sure = torch.where(torch.arange(LENGTH) % 2 == 0, sure, 0.9)
        chosen = with_hard_anchors(batch, hidden_of(batch, sure), lambda hidden: hidden, share, 1)
        counts[chosen.anchors[0, 0]] += 1
        first = batch.rows.starts[0] == torch.arange(LENGTH)
        weights = (1 - share * sure[0].masked_fill(first, 0)) * (batch.noise[0] > -torch.inf)
        wanted += weights / weights.sum()
    assert float((counts - wanted).abs().max()) < 5 * float(wanted.max()) ** 0.5
