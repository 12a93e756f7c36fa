"""The view and the successor head that training begins with, and the view that it writes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from orthrus import BuildError, InputError
from orthrus.draft_states import DraftStatesTarget
from orthrus.optional import TrainableTarget
from orthrus_diffusion.successor import SuccessorHead, split_weights
from orthrus_diffusion.training.session import TrainingSession
from orthrus_diffusion.view_files.config import ViewConfig
from orthrus_diffusion.view_files.formats import attach, read_head, read_view, save_view
from orthrus_diffusion.view_files.shipped import view_directory

VIEW = "trained"


def attach_start(run: TrainingSession, target: TrainableTarget) -> SuccessorHead | None:
    """Attach the view that training begins with; return its successor head, None if it has none.

    Raises InputError or BuildError if `training.start` does not fit.
    """
    start = run.training.start
    if start is None:
        target.attach_view(VIEW)
        return _new_head(run, target)
    directory = view_directory(start)
    try:
        # training.mask_token_id takes the place of its own
        config = attach(target, VIEW, directory, allow_ordinary_mask=True)
        head = read_head(target, VIEW, directory)
    except (BuildError, InputError) as error:
        raise type(error)(f"training.start: {str(error).removeprefix('drafter.view: ')}") from error
    if run.fit.train == "successor":
        _refuse_another_block(run, config, start)
    rank = run.fit.successor_rank
    if head is None or rank == 0:
        return _new_head(run, target)
    if rank not in (None, head.rank):
        raise InputError(
            f"fit.successor_rank: is {rank}, and the head of '{start}' has {head.rank}; set fit.successor_rank=null"
        )
    return head


def _refuse_another_block(run: TrainingSession, config: ViewConfig, start: str) -> None:
    """Raise InputError if a view that is not trained would be written with another block or mask than it has."""
    for key, value, own in (
        ("block", run.training.block, config.block),
        ("mask_token_id", run.training.mask_token_id, config.mask_token_id),
    ):
        if value != own:
            raise InputError(
                f"training.{key}: is {value}, and the view '{start}', which fit.train=successor leaves as it is, has"
                f" {own}; set training.{key}={own}"
            )


def _new_head(run: TrainingSession, target: TrainableTarget) -> SuccessorHead | None:
    """Return an untrained head of the rank that is asked for."""
    rank = run.fit.successor_rank
    if not rank:
        if run.fit.train == "successor":
            raise InputError("fit.train: is successor, and there is no head to train; set fit.successor_rank=256, say")
        return None
    if not isinstance(target, DraftStatesTarget):
        raise BuildError(
            f"fit.successor_rank: target '{type(target).__name__}' gives drafts no hidden states; set it to 0"
        )
    like = next(iter(target.view_weights(VIEW).values()))
    return SuccessorHead.untrained(rank, like, target.hidden_size, run.training.seed)


def refuse_float16(target: TrainableTarget) -> None:
    """Raise InputError for a model in float16: small gradients are 0 in it."""
    if any(weight.dtype == torch.float16 for weight in target.view_weights(VIEW).values()):
        raise InputError(
            f"the model '{target.name}' is in float16, in which small gradients are lost; to train a view set"
            " target.dtype=bfloat16 or float32"
        )


def save_trained(
    run: TrainingSession, target: TrainableTarget, masters: Mapping[str, Tensor], head: SuccessorHead | None
) -> None:
    """Write the view, in the place of one that was there: as int8 of the masters, which are not rounded before.

    A view that was not trained is rounded from what it was read from.
    """
    options = run.training
    view: Mapping[str, Tensor] | None = None
    successor = {} if head is None else head.weights()
    if options.storage == "int8":
        view, successor = split_weights(masters)
        if not view:
            view = None if options.start is None else split_weights(read_view(view_directory(options.start)))[0]
    save_view(
        target,
        VIEW,
        run.out / "view",
        options.block,
        options.mask_token_id,
        storage=options.storage,
        weights=view,
        successor=successor or None,
        allow_ordinary_mask=options.allow_ordinary_mask,
        replace=True,
    )
