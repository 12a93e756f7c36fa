"""The loss against a computation written out draft by draft, and its gradient against torch's own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from orthrus import PackedRows
from orthrus_diffusion.training.loss import BlockLoss, Weights
from orthrus_diffusion.training.packing import Batch

ROWS, LENGTH, BLOCKS, SIZE, HIDDEN, VOCABULARY = 2, 12, 3, 4, 5, 7


def batch_of(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    ends = torch.where(torch.arange(LENGTH) < 7, 7, LENGTH).repeat(ROWS, 1)
    anchors = torch.randint(LENGTH - 1, (ROWS, BLOCKS), generator=generator).sort(1).values
    used = (torch.rand(ROWS, BLOCKS, generator=generator) < 0.8).float()
    nothing = torch.zeros(ROWS, LENGTH, dtype=torch.int64)
    return Batch(PackedRows(nothing, nothing), anchors, ends, used, torch.zeros(ROWS, LENGTH))


def written_out(teacher: Tensor, drafted: Tensor, batch: Batch, head: Tensor, weights: Weights) -> tuple[Tensor, ...]:
    """Return the loss, and how many blocks are right up to each draft, and reach it."""
    total = drafted.new_zeros(())
    right, counted = torch.zeros(SIZE - 1), torch.zeros(SIZE - 1)
    for row in range(ROWS):
        for block in range(BLOCKS):
            anchor, good = int(batch.anchors[row, block]), True
            for index in range(SIZE - 1):
                if not batch.used[row, block] or anchor + index + 1 >= int(batch.ends[row, anchor]):
                    continue
                wanted = (head @ teacher[row, anchor + index] / weights.temperature).log_softmax(0)
                given_ = (head @ drafted[row, block, index]).log_softmax(0)
                weight = weights.decay**index * (1.0 if good else 1 - weights.frontier)
                total = total + weight * (wanted.exp() * (wanted - given_)).sum()
                good = good and bool(wanted.argmax() == given_.argmax())
                right[index] += good
                counted[index] += 1
    return total, right, counted


@given(
    st.integers(0, 1000),
    st.sampled_from([1.0, 0.8]),
    st.sampled_from([0.0, 0.7, 1.0]),
    st.sampled_from([1, 2]),
    st.sampled_from([0.1, 2.0]),
    st.sampled_from([1.0, 0.5]),
)
def test_the_loss_and_its_gradient(
    seed: int, decay: float, frontier: float, rows: int, apart: float, temperature: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    head = torch.randn(VOCABULARY, HIDDEN, generator=generator, dtype=torch.float64)
    teacher = torch.randn(ROWS, LENGTH, HIDDEN, generator=generator, dtype=torch.float64)
    batch, weights = batch_of(seed), Weights(decay, frontier, temperature)
    columns = (batch.anchors[..., None] + torch.arange(SIZE)).clamp(max=LENGTH - 1)
    near = teacher[torch.arange(ROWS)[:, None, None], columns]  # so that some drafts are right
    noise = torch.randn(near.shape, generator=generator, dtype=torch.float64)
    drafted = (near + apart * noise).requires_grad_()
    wanted, right, counted = written_out(teacher, drafted, batch, head, weights)
    [gradient] = torch.autograd.grad(wanted / 10, drafted, allow_unused=True) if wanted.requires_grad else [None]
    gradient_found, losses_found = BlockLoss(lambda hidden: hidden @ head.T, weights, compiled=False)(
        teacher, drafted, batch, rows, 10.0
    )
    loss_found = losses_found.view
    assert loss_found is not None and gradient_found is not None and losses_found.successor is None
    # The loss computes in float32, as the logits of half precision want it.
    torch.testing.assert_close(loss_found.loss.double(), wanted.detach() / 10, rtol=1e-4, atol=1e-5)
    expected = torch.zeros_like(drafted) if gradient is None else gradient
    torch.testing.assert_close(gradient_found, expected, rtol=1e-3, atol=1e-5)
    assert loss_found.right.tolist() == right.tolist()
    assert loss_found.counted.tolist() == counted.tolist()


def test_the_teacher_is_projected_once_a_position() -> None:
    seen: list[int] = []

    def project(hidden: Tensor) -> Tensor:
        seen.append(hidden.shape[:-1].numel())
        return hidden @ torch.ones(HIDDEN, VOCABULARY)

    drafted = torch.randn(ROWS, BLOCKS, SIZE, HIDDEN, requires_grad=True)
    loss = BlockLoss(project, Weights(1.0, 0.0), compiled=False)
    loss(torch.randn(ROWS, LENGTH, HIDDEN), drafted, batch_of(0), 1, 1.0)
    assert seen == [LENGTH, BLOCKS * (SIZE - 1)] * ROWS


@pytest.mark.parametrize("frontier", [0.0, 1.0])
def test_a_perfect_view_has_no_loss(frontier: float) -> None:
    batch = batch_of(1)
    teacher = torch.randn(ROWS, LENGTH, HIDDEN)
    columns = (batch.anchors[..., None] + torch.arange(SIZE)).clamp(max=LENGTH - 1)
    drafted = teacher[torch.arange(ROWS)[:, None, None], columns].clone().requires_grad_()
    head = torch.randn(VOCABULARY, HIDDEN)
    _, losses_found = BlockLoss(lambda hidden: hidden @ head.T, Weights(1.0, frontier), compiled=False)(
        teacher, drafted, batch, 2, 1.0
    )
    loss_found = losses_found.view
    assert loss_found is not None
    assert abs(float(loss_found.loss)) < 1e-5
    assert loss_found.right.tolist() == loss_found.counted.tolist()
