"""What tests of views share: a prompt that is committed, a block after it, and views of random weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from orthrus import Context, Sampling, Scheduler, Stop, Verdict
from orthrus_transformers.target import TransformersTarget


def committed(
    target: TransformersTarget,
    prompts: Sequence[Sequence[int]],
    room: int = 12,
    device: str = "cpu",
    sampling: Sampling | None = None,
) -> Context:
    """Return a context with the prompts prefilled and each row's anchor committed: the model's own next token."""
    context = Context(
        prompts,
        Stop(room + 1),
        vocabulary_size=target.vocabulary_size,
        max_length=target.max_length,
        device=device,
        sampling=sampling,
    )
    target.start(context)
    scheduler = Scheduler(context)
    logits = target.prefill(context, scheduler.refill())[:, 0]  # [B, V]
    nothing = torch.zeros(len(prompts), dtype=torch.int64, device=device)
    target.keep(scheduler.commit(context.empty_draft(), Verdict(nothing, logits.argmax(-1))))
    return context


def random_view(target: TransformersTarget, name: str, seed: int = 0, noise: float = 0.1) -> None:
    """Attach a view whose weights are the model's own with noise."""
    target.attach_view(name)
    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same numbers for any device
    for weight in target.view_weights(name).values():
        weight.add_(torch.randn(weight.shape, generator=generator, dtype=weight.dtype).to(weight.device), alpha=noise)


def block_positions(context: Context, width: int, used: Sequence[int] | None = None) -> Tensor:
    """Return the positions [B, width] of a block at each row's anchor, of which a row uses so many last columns."""
    spare = torch.tensor([[0]] if used is None else [[width - count] for count in used])
    return context.lengths[:, None] - 1 + (torch.arange(width) - spare).clamp(min=0)
